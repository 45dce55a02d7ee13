//! What the records of a table look like, and the table in the lake that they make: its columns as the configuration
//! gives them, as the task's transformation rules leave them.

use std::ops::RangeInclusive;

use super::settings::S3Settings;
use super::transformations::{Added, BeforeFilter, TableRules};
use super::values::ColumnValues;
use crate::schema::{Column, DatetimeAs, SqlType, TableSchema, position_of};

/// A table's records, and its columns in the lake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The columns of the table in the lake, and the source's primary key where all of it arrives.
    pub schema: TableSchema,
    /// The key that a rule of the task defines (`define-primary-key`).
    pub defined_key: Option<Vec<String>>,
    /// How many of the source's columns a record may have: fewer than all where columns were added behind the others
    /// while the table was already being copied.
    pub known_widths: RangeInclusive<usize>,
    /// For each column its name in the source.
    source_names: Vec<String>,
    /// What follows the operation and the time of commit, if there is no header.
    fields: Vec<RecordField>,
    /// How many of the fields are columns of the source.
    source_fields: usize,
    /// The columns whose values are filled up with spaces.
    padded: Vec<usize>,
    /// The columns whose values the source computes.
    generated: Vec<usize>,
    /// The columns that the task adds to tell of the change and not of the row.
    of_change: Vec<usize>,
    /// The columns that older records lack.
    added: Vec<usize>,
    /// True if types are a guess that values may prove wrong.
    guessed: bool,
}

/// A field of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RecordField {
    /// What a header calls it.
    pub name: String,
    /// What else a header may call it: whether before images take their names from the source is not documented.
    other_name: String,
    pub meaning: Meaning,
}

/// What a field holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    /// The value of a column.
    Column(usize),
    /// The value that a column had before the update.
    Before(usize),
    /// `$AR_H_CHANGE_SEQ`, and the column for it if the table has one.
    ChangeSequence(Option<usize>),
    /// `operation_indicator(...)`: the text that marks a delete, and the column for it if the table has one.
    Indicator(String, Option<usize>),
    /// Nothing that is kept.
    Helper,
}

/// What is known of a table before its rules are applied.
pub struct Described<'a> {
    /// Its columns.
    pub schema: &'a TableSchema,
    /// Whose columns they are.
    pub of: Of,
    /// The configured key, for tables without a primary key.
    pub key: &'a [String],
    /// The generated columns.
    pub generated: &'a [String],
    /// The `CHAR` columns, if that is known.
    pub chars: Option<&'a [String]>,
    /// The LOB columns, if that is known.
    pub lobs: Option<&'a [String]>,
    /// Those of the added columns that tell of the change, and that the table is to have all the same.
    pub wanted: &'a [String],
}

/// Whose columns a schema describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    /// The source's: the rules are still to be applied to their names and types.
    Source,
    /// The lake's: names and types are already those that the rules give.
    Lake,
}

impl Shape {
    /// A table whose records are its columns.
    pub fn of(schema: TableSchema) -> Self {
        let names: Vec<_> = schema.columns.iter().map(|column| column.name.clone()).collect();
        let field = |(i, name): (usize, &String)| RecordField::new(name, Meaning::Column(i));
        Self {
            defined_key: None,
            known_widths: names.len()..=names.len(),
            fields: names.iter().enumerate().map(field).collect(),
            source_fields: names.len(),
            source_names: names,
            padded: Vec::new(),
            generated: Vec::new(),
            of_change: Vec::new(),
            added: Vec::new(),
            guessed: false,
            schema,
        }
    }

    /// The table that `rules` make of what is `described`.
    ///
    /// # Errors
    /// If the rules contradict the columns, or records without a header would not tell their fields; as the end of a
    /// sentence.
    pub fn new(rules: &TableRules, described: &Described<'_>, settings: &S3Settings) -> Result<Self, String> {
        let mut shape = Self::of(TableSchema { columns: Vec::new(), primary_key: Vec::new() });
        shape.take_source_columns(rules, described)?;
        shape.source_fields = shape.fields.len();
        shape.known_widths = shape.source_fields..=shape.source_fields;
        if rules.adds_in_unknown_order() && !settings.names_columns() {
            return Err("the rules that add columns stand in another order than their rule-ids, so without \
                        AddColumnName it cannot be told which of the added fields is which; put them in one order"
                .to_owned());
        }
        shape.add_columns(rules, described);
        shape.find_keys(rules, described)?;
        shape.add_before_images(rules, described, settings)?;
        if settings.add_trailing_padding_character {
            shape.padded = shape.padded_columns(described)?;
        }
        Ok(shape)
    }

    fn take_source_columns(&mut self, rules: &TableRules, described: &Described<'_>) -> Result<(), String> {
        let added = |name: &str| rules.added().any(|column| column.name.eq_ignore_ascii_case(name));
        for column in &described.schema.columns {
            let mut arriving = column.clone();
            if described.of == Of::Source {
                let in_schema = |name: &str| described.schema.columns.iter().any(|column| column.name == name);
                if rules.removes(&column.name) {
                    continue;
                }
                arriving.name = rules.column(&column.name, in_schema);
                arriving.sql_type = rules.sql_type(&column.name).unwrap_or(arriving.sql_type);
            }
            if added(&arriving.name) {
                continue;
            }
            if let Some(twin) =
                self.schema.columns.iter().position(|known| known.name.eq_ignore_ascii_case(&arriving.name))
            {
                return Err(format!(
                    "the table mappings give the columns {} and {} the same name {}",
                    self.source_names[twin], column.name, arriving.name
                ));
            }
            self.fields.push(RecordField::new(&arriving.name, Meaning::Column(self.schema.columns.len())));
            if described.generated.contains(&column.name) {
                self.generated.push(self.schema.columns.len());
            }
            self.source_names.push(column.name.clone());
            self.schema.columns.push(arriving);
        }
        match self.schema.columns.is_empty() {
            true => Err("the table mappings leave it no column".to_owned()),
            false => Ok(()),
        }
    }

    fn add_columns(&mut self, rules: &TableRules, described: &Described<'_>) {
        for added in rules.added() {
            let wanted = described.wanted.iter().any(|name| name.eq_ignore_ascii_case(&added.name));
            let column = (added.meaning == Added::Value || wanted).then_some(self.schema.columns.len());
            if let Some(column) = column {
                if added.meaning != Added::Value {
                    self.of_change.push(column);
                }
                // the configured schema may have it already, and its type is then the more exact one
                let known = described.schema.columns.iter().find(|known| known.name.eq_ignore_ascii_case(&added.name));
                let sql_type = known.map_or_else(|| added.sql_type.clone(), |known| known.sql_type.clone());
                self.source_names.push(added.name.clone());
                self.schema.columns.push(Column { name: added.name.clone(), sql_type, nullable: true });
            }
            let meaning = match (&added.meaning, column) {
                (Added::ChangeSequence, column) => Meaning::ChangeSequence(column),
                (Added::Indicator(marker), column) => Meaning::Indicator(marker.clone(), column),
                (_, Some(column)) => Meaning::Column(column),
                (_, None) => Meaning::Helper,
            };
            self.fields.push(RecordField::new(&added.name, meaning));
        }
    }

    fn find_keys(&mut self, rules: &TableRules, described: &Described<'_>) -> Result<(), String> {
        let name = |column: usize| self.schema.columns[column].name.clone();
        let arriving = |key: &String| self.source_names.iter().position(|name| name == key).map(name);
        let primary_key: Option<Vec<_>> = described.schema.primary_key.iter().map(arriving).collect();
        if let Some(names) = rules.defined_key() {
            let find = |key: &String| {
                self.position_of(key).map(name).ok_or_else(|| {
                    format!("define-primary-key of the table mappings names {key}, which is no column of the table")
                })
            };
            self.defined_key = Some(names.iter().map(find).collect::<Result<_, _>>()?);
        }
        self.schema.primary_key = primary_key.unwrap_or_default();
        Ok(())
    }

    fn add_before_images(
        &mut self,
        rules: &TableRules,
        described: &Described<'_>,
        settings: &S3Settings,
    ) -> Result<(), String> {
        let Some(before) = rules.before_images() else { return Ok(()) };
        if before.filter == BeforeFilter::NonLob && described.lobs.is_none() && !settings.names_columns() {
            return Err(
                "the before images of the table mappings leave out LOBs (non-lob), and which columns are LOBs is \
                        known from CREATE TABLE statements alone: give them, or let DMS write a header (AddColumnName)"
                    .to_owned(),
            );
        }
        let lobs = described.lobs.unwrap_or_default();
        let primary = match self.schema.primary_key.is_empty() {
            true => described.key,
            false => &self.schema.primary_key,
        };
        let primary: Vec<_> = primary.iter().filter_map(|name| self.position_of(name)).collect();
        for column in 0..self.source_fields {
            let has_image = match before.filter {
                BeforeFilter::PrimaryKey => primary.contains(&column),
                BeforeFilter::NonLob => !lobs.contains(&self.source_names[column]),
                BeforeFilter::All => true,
            };
            if has_image {
                let name = |of: &str| format!("{}{of}{}", before.prefix, before.suffix);
                self.fields.push(RecordField {
                    name: name(&self.schema.columns[column].name),
                    other_name: name(&self.source_names[column]),
                    meaning: Meaning::Before(column),
                });
            }
        }
        Ok(())
    }

    fn padded_columns(&self, described: &Described<'_>) -> Result<Vec<usize>, String> {
        let chars = described.chars.ok_or(
            "the endpoint sets AddTrailingPaddingCharacter, and which columns are CHAR is known from CREATE TABLE \
             statements alone: give them as schema",
        )?;
        let padded = |column: &usize| {
            chars.contains(&self.source_names[*column]) && self.schema.columns[*column].sql_type == SqlType::Text
        };
        Ok((0..self.source_fields).filter(padded).collect())
    }

    /// The columns that come from the source; those that the task adds follow them.
    pub fn source_columns(&self) -> &[Column] {
        &self.schema.columns[..self.source_fields]
    }

    /// The place of a column, by its name in the lake or else in the source.
    pub fn position_of(&self, name: &str) -> Option<usize> {
        let of_source = || {
            let exact = self.source_names.iter().position(|known| known == name);
            let mut alike = (0..self.source_names.len()).filter(|&i| self.source_names[i].eq_ignore_ascii_case(name));
            exact.or_else(|| alike.next().filter(|_| alike.next().is_none()))
        };
        self.schema.position_of(name).or_else(of_source)
    }

    /// The columns that the task adds to tell of the change and not of the row.
    pub fn of_change(&self) -> &[usize] {
        &self.of_change
    }

    /// True if a column has its value from the change, also where that says nothing else of the row; those that are not the
    /// source's all have.
    pub fn tells_of_change(&self, column: usize) -> bool {
        column >= self.schema.columns.len() || self.of_change.contains(&column)
    }

    /// What takes the values of a column.
    pub(crate) fn values(&self, column: usize, datetime: DatetimeAs) -> ColumnValues {
        let values = ColumnValues::new(&self.schema.columns[column], datetime);
        let values = if self.guessed { values.guessed() } else { values };
        if self.padded.contains(&column) { values.padded() } else { values }
    }

    /// Whether a record without a field for a column means NULL. A generated column that DMS leaves out has a value.
    pub(crate) fn may_lack(&self, column: usize) -> bool {
        let may_be_null = self.schema.columns[column].nullable || self.added.contains(&column);
        may_be_null && !self.generated.contains(&column)
    }

    /// The columns of the source for which `fields`, one for each column, has none, but for those that older records lack.
    pub(crate) fn lacking(&self, fields: &[Option<usize>]) -> Vec<usize> {
        (0..self.source_fields).filter(|column| fields[*column].is_none() && !self.added.contains(column)).collect()
    }

    /// The same with types that were inferred from values.
    pub fn guessed(self) -> Self {
        Self { guessed: true, ..self }
    }

    /// The same for a table to which columns were added since its load: older records may still come, and mean NULL there,
    /// as in the rows that are there, also if the source fills in a default.
    pub fn with_added(mut self, names: &[String]) -> Self {
        self.added = names.iter().filter_map(|name| position_of(&self.schema.columns, name)).collect();
        let columns = self.source_columns();
        let is_added = |column: &&Column| names.contains(&column.name);
        let at_the_end = columns.iter().rev().take_while(is_added).count();
        // of columns that stand before others nothing tells which ones a shorter record lacks
        let may_lack = if columns.iter().filter(is_added).count() == at_the_end { at_the_end } else { 0 };
        self.known_widths = columns.len() - may_lack..=columns.len();
        self
    }

    /// How many fields records have beside the source's columns.
    pub fn others(&self) -> usize {
        self.fields.len() - self.source_fields
    }

    /// How many of them are before images of the columns `names`.
    pub fn before_images_of(&self, names: &[String]) -> usize {
        let is_of = |field: &&RecordField| match field.meaning {
            Meaning::Before(column) => names.contains(&self.schema.columns[column].name),
            _ => false,
        };
        self.fields[self.source_fields..].iter().filter(is_of).count()
    }

    /// Whether records hold the values that a column had before an update.
    pub(crate) fn has_before_image(&self, column: usize) -> bool {
        self.fields.iter().any(|field| field.meaning == Meaning::Before(column))
    }

    /// The fields of a record with so many columns of the source: of those that it lacks it has no before images either.
    pub(crate) fn fields_of(&self, source_fields: usize) -> impl Iterator<Item = &RecordField> {
        let (source, others) = self.fields.split_at(self.source_fields);
        let others = others.iter().filter(move |field| match field.meaning {
            // fields and columns of the source are the same ones in the same order
            Meaning::Before(column) => column < source_fields,
            _ => true,
        });
        source.iter().take(source_fields).chain(others)
    }

    /// How many of the source's columns records of `width` fields have, if there are such records.
    pub(crate) fn source_fields_of(&self, width: usize) -> Option<usize> {
        self.known_widths.clone().rev().find(|&source_fields| self.fields_of(source_fields).count() == width)
    }

    /// What a header's `name` names.
    pub(crate) fn named(&self, name: &str) -> Option<&RecordField> {
        if let Some(column) = position_of(&self.schema.columns, name) {
            return self.fields.iter().find(|field| field.meaning.column() == Some(column));
        }
        let by = |matches: fn(&str, &str) -> bool| {
            self.fields.iter().find(|field| matches(&field.name, name) || matches(&field.other_name, name))
        };
        by(|a, b| a == b).or_else(|| by(str::eq_ignore_ascii_case))
    }
}

impl RecordField {
    fn new(name: &str, meaning: Meaning) -> Self {
        Self { name: name.to_owned(), other_name: name.to_owned(), meaning }
    }
}

impl Meaning {
    /// The column whose value the field holds.
    pub fn column(&self) -> Option<usize> {
        match self {
            Self::Column(column) => Some(*column),
            Self::ChangeSequence(column) | Self::Indicator(_, column) => *column,
            Self::Before(_) | Self::Helper => None,
        }
    }
}

#[cfg(test)]
mod tests;
