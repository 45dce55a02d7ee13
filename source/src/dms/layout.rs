//! Where in a record its fields stand: `[Op], [timestamp], columns ...` (DMS S3 target, "Indicating source DB operations
//! in migrated S3 data"), and behind them what the task adds.

use super::names::FileKind;
use super::settings::{S3Settings, WrittenChanges};
use super::shape::{Meaning, RecordField, Shape};
use crate::schema::SqlType;

/// What the header calls the operation.
pub(crate) const OP: &str = "Op";

/// The fields before the table's columns.
pub(crate) struct Layout {
    operation: OperationField,
    timestamp: Option<String>,
}

/// Whether records begin with an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OperationField {
    Always,
    Never,
    /// The documentation of CdcInsertsAndUpdates without IncludeOpForFullLoad says both.
    Untold,
}

impl Layout {
    pub fn of(settings: &S3Settings, kind: FileKind) -> Self {
        let operation = match (kind, settings.changes) {
            _ if settings.include_op_for_full_load => OperationField::Always,
            (FileKind::Changes, WrittenChanges::All) => OperationField::Always,
            (FileKind::Changes, WrittenChanges::InsertsAndUpdates) => OperationField::Untold,
            (FileKind::Changes, WrittenChanges::Inserts) | (FileKind::Load, _) => OperationField::Never,
        };
        Self { operation, timestamp: settings.timestamp_column_name.clone() }
    }

    /// The layout of a file that itself `names` its columns, and whether an operation stands before them. DMS 3.4.6 and
    /// older wrote none in Parquet files of a full load, and what is set today may not have been set then.
    pub fn told_by(names: &[String], kind: FileKind, settings: &S3Settings) -> (Self, bool) {
        let may_have_operation = Self::of(settings, kind).operation != OperationField::Never;
        let has_operation = may_have_operation && names.first().is_some_and(|name| name.eq_ignore_ascii_case(OP));
        let timestamp = names.get(usize::from(has_operation)).filter(|name| {
            settings.timestamp_column_name.as_ref().is_some_and(|wanted| wanted.eq_ignore_ascii_case(name))
        });
        let operation = if has_operation { OperationField::Always } else { OperationField::Never };
        (Self { operation, timestamp: timestamp.cloned() }, has_operation)
    }

    /// The same layout, in a file of all tables' changes: whatever is set, its records begin with an operation (DMS S3
    /// target, "Capturing data changes (CDC) including transaction order on the S3 target").
    pub fn with_operation(self) -> Self {
        Self { operation: OperationField::Always, ..self }
    }

    /// How many fields stand before those of the table, if the operation does.
    pub fn leading(&self, has_operation: bool) -> usize {
        usize::from(has_operation) + usize::from(self.timestamp.is_some())
    }

    /// The fields before those of the table in a file of the full load.
    pub fn of_load(&self) -> usize {
        self.leading(self.operation == OperationField::Always)
    }

    /// Whether every record is known to begin with an operation, or with none.
    pub fn is_told(&self) -> bool {
        self.operation != OperationField::Untold
    }

    /// The part of a header that names the table's columns, and whether an operation stands before it.
    pub fn columns_of<'a>(&self, header: &'a [String]) -> Result<(bool, &'a [String]), String> {
        let has_operation = match self.operation {
            OperationField::Untold => header.first().is_some_and(|name| name.eq_ignore_ascii_case(OP)),
            told => told == OperationField::Always,
        };
        let leading = has_operation.then_some(OP).into_iter().chain(self.timestamp.as_deref());
        for (place, expected) in leading.enumerate() {
            match header.get(place) {
                Some(name) if name.eq_ignore_ascii_case(expected) => {}
                other => {
                    return Err(format!(
                        "{expected} is expected as column {} and {} stands there; do IncludeOpForFullLoad and \
                         TimestampColumnName say what the task had? the header has {}",
                        place + 1,
                        other.map_or("nothing", String::as_str),
                        header.join(", ")
                    ));
                }
            }
        }
        Ok((has_operation, &header[self.leading(has_operation)..]))
    }

    /// Where the fields of a record with `width` fields stand, of which the `first` is this text.
    ///
    /// # Errors
    /// If no record can have so many fields, or its first one may be an operation or a value.
    pub fn places(&self, shape: &Shape, width: usize, first: &[u8]) -> Result<Places, Misfit> {
        let with = |has_operation: bool| {
            let source_fields = shape.source_fields_of(width.checked_sub(self.leading(has_operation))?)?;
            Some(Places::by_number(self, shape, has_operation, source_fields))
        };
        let is_operation = matches!(first, b"I" | b"U" | b"D");
        let fitting = match self.operation {
            OperationField::Always => with(true),
            OperationField::Never => with(false),
            OperationField::Untold => match (with(true).filter(|_| is_operation), with(false)) {
                (Some(_), Some(_)) if self.timestamp.is_none() && is_text(shape) => return Err(Misfit::Ambiguous),
                (found, other) => found.or(other),
            },
        };
        fitting.ok_or(Misfit::Width)
    }

    /// As [`Self::places`], of a record that has all fields.
    pub fn all_places(&self, shape: &Shape) -> Places {
        let has_operation = self.operation != OperationField::Never;
        Places::by_number(self, shape, has_operation, *shape.known_widths.end())
    }
}

/// Whether the first column can hold a letter.
fn is_text(shape: &Shape) -> bool {
    shape.schema.columns.first().is_some_and(|column| matches!(column.sql_type, SqlType::Text | SqlType::Bytes))
}

/// Why a record's fields cannot be told.
pub(crate) enum Misfit {
    /// There are too many or too few.
    Width,
    /// The first of them may be an operation or a value.
    Ambiguous,
}

/// Where in a record each field stands.
pub(crate) struct Places {
    pub has_operation: bool,
    /// How many fields there are.
    pub width: usize,
    pub timestamp: Option<usize>,
    /// For each column its field.
    pub columns: Vec<Option<usize>>,
    /// The fields with former values, and their columns.
    pub before: Vec<(usize, usize)>,
    pub sequence: Option<usize>,
    /// The field that marks a delete, and the text that does.
    pub indicator: Option<(usize, Vec<u8>)>,
    names: Vec<String>,
}

impl Places {
    fn by_number(layout: &Layout, shape: &Shape, has_operation: bool, source_fields: usize) -> Self {
        let mut places = Self::leading(layout, shape, has_operation);
        for field in shape.fields_of(source_fields) {
            places.add(field, field.name.clone());
        }
        places
    }

    /// Where the fields stand that a header or the file itself `names`, which come after an operation or not.
    ///
    /// # Errors
    /// If a name is not known or stands twice, or a column is missing that cannot be NULL.
    pub fn by_name(
        layout: &Layout,
        shape: &Shape,
        has_operation: bool,
        names: &[String],
        key: &[usize],
    ) -> Result<Self, String> {
        let mut places = Self::leading(layout, shape, has_operation);
        let mut wrong = Vec::new();
        let mut seen: Vec<&RecordField> = Vec::new();
        for name in names {
            match shape.named(name) {
                None => wrong.push(format!("{name:?}{UNKNOWN}")),
                Some(field) if seen.contains(&field) => wrong.push(format!("{name:?} stands there twice")),
                Some(field) => {
                    seen.push(field);
                    places.add(field, name.clone());
                }
            }
        }
        let is_new = wrong.iter().any(|reason| reason.ends_with(UNKNOWN));
        let columns = &shape.schema.columns;
        let needed = |column: usize| !shape.may_lack(column) || key.contains(&column);
        let missing = (0..columns.len()).filter(|&column| places.columns[column].is_none() && needed(column));
        wrong.extend(missing.map(|column| format!("{:?} is missing", columns[column].name)));
        if wrong.is_empty() {
            return Ok(places);
        }
        let of_table: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
        let remedy = match names.first() {
            Some(first) if is_new && first == OP => {
                "; if the endpoint sets IncludeOpForFullLoad, s3_settings must say so"
            }
            _ if is_new => REMEDY,
            _ => "",
        };
        let (wrong, names) = (wrong.join(", "), names.join(", "));
        Err(format!("{wrong}; the file has {names}; the table has {}{remedy}", of_table.join(", ")))
    }

    fn leading(layout: &Layout, shape: &Shape, has_operation: bool) -> Self {
        let operation = has_operation.then(|| OP.to_owned());
        Self {
            has_operation,
            width: layout.leading(has_operation),
            timestamp: layout.timestamp.as_ref().map(|_| usize::from(has_operation)),
            columns: vec![None; shape.schema.columns.len()],
            before: Vec::new(),
            sequence: None,
            indicator: None,
            names: operation.into_iter().chain(layout.timestamp.clone()).collect(),
        }
    }

    fn add(&mut self, field: &RecordField, name: String) {
        let place = self.width;
        self.width += 1;
        self.names.push(name);
        if let Some(column) = field.meaning.column() {
            self.columns[column] = Some(place);
        }
        match &field.meaning {
            Meaning::Before(column) => self.before.push((place, *column)),
            Meaning::ChangeSequence(_) => self.sequence = Some(place),
            Meaning::Indicator(marker, _) => self.indicator = Some((place, marker.clone().into_bytes())),
            Meaning::Column(_) | Meaning::Helper => {}
        }
    }

    /// The name of a field, counted from 0.
    pub fn name(&self, field: usize) -> Option<String> {
        self.names.get(field).cloned()
    }
}

const UNKNOWN: &str = " is no column of the table";

/// What to do about a field that is not known.
pub(crate) const REMEDY: &str = "; if the source has a new column, add it to the table's CREATE TABLE in the configured \
                                 schema (with schema = \"infer\" --reload finds it); if the task adds one, \
                                 table_mappings must say so, and if TimestampColumnName does, s3_settings";
/// What to do about records of before a column was added, where no table tells that they are.
pub(crate) const REMEDY_FOR_FEWER: &str = "; if the column was added since then, merge the files of before with the \
                                           CREATE TABLE of then (run --until the last stamp of before) and go on \
                                           with this one";
