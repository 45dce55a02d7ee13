//! The records of one file of a table, as typed rows with their operations.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;

use super::cut::{Cutter, Fields, Span, Stop};
use super::layout::{self, Layout};
use super::names::FileKind;
use super::settings::S3Settings;
use super::transactions::TableFilter;
use super::values::{ColumnValues, Field, Refusal, shown};
use crate::name::TableName;
use crate::schema::{Column, DatetimeAs, SqlType, arrow_schema};

/// What happened to a row at the source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// `I`, and every row of a full load.
    Insert,
    /// `U`; the row is as it was afterwards.
    Update,
    /// `D`; the row is as it was before.
    Delete,
}

/// Rows that follow one another in a file.
#[derive(Clone, PartialEq, Debug)]
pub struct Rows {
    /// The source columns in the table's order.
    pub columns: RecordBatch,
    /// One operation for each row.
    pub operations: Vec<Operation>,
    /// The number of the first row's record in its file, from 1; a header is not a record.
    pub first_record: u64,
    /// The number of each row's record, where those of other tables stand [between](RecordReader::of_all_tables).
    pub records: Option<Vec<u64>>,
    /// For each column how many values were zero dates and became NULL: `0000-00-00` with or without a time, a date whose month or day
    /// is zero, and an empty field of a `DATE`, `DATETIME` or `TIMESTAMP` that is NOT NULL.
    pub zero_dates: Vec<u64>,
    /// The commit time of each row in UTC, if it was [asked for](RecordReader::with_commit_times) and the files have it.
    pub commit_times: Option<ArrayRef>,
    /// The updates that gave their row another key, where before images tell.
    pub old_keys: Option<OldKeys>,
    /// For each column the rows whose update says nothing of it (CsvNoSupValue); empty if there are none at all.
    pub unchanged: Vec<Option<BooleanBuffer>>,
    /// `$AR_H_CHANGE_SEQ` of each row, where the task adds it.
    pub sequences: Option<StringArray>,
}

impl Rows {
    /// The number of a row's record in its file.
    pub fn record(&self, row: usize) -> u64 {
        let between = self.records.as_ref().and_then(|records| records.get(row)).copied();
        between.unwrap_or(self.first_record + row as u64)
    }
}

/// The keys that rows had before an update changed them.
#[derive(Clone, PartialEq, Debug)]
pub struct OldKeys {
    /// The numbers of these rows among the rows, ascending.
    pub rows: Vec<usize>,
    /// Their former keys: the key's columns in the key's order, one row for each.
    pub keys: RecordBatch,
}

/// Why a file cannot be read on. The file itself is named by whoever opened it.
#[derive(Debug)]
pub enum RecordError {
    /// A record is no row of the table.
    Bad {
        /// The record's number, from 1.
        record: u64,
        /// The column, if it is one column's fault.
        column: Option<String>,
        /// The value, shortened and without control characters.
        value: Option<String>,
        /// What is wrong.
        reason: String,
    },
    /// The file is not whole: it was cut, or it is still being written. Every file of DMS ends with a row delimiter.
    Cut {
        /// The number of the record that is not whole, from 1; 0 is the header.
        record: u64,
        /// What is missing.
        reason: String,
    },
    /// Reading failed.
    Io(std::io::Error),
    /// The header does not fit the table.
    Header(String),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad { record, column, value, reason } => {
                write!(f, "record {record}: ")?;
                match (column, value) {
                    (Some(column), Some(value)) => write!(f, "column {column}: \"{value}\" {reason}"),
                    (Some(column), None) => write!(f, "column {column} {reason}"),
                    (None, Some(value)) => write!(f, "\"{value}\" {reason}"),
                    (None, None) => f.write_str(reason),
                }
            }
            Self::Cut { record: 0, reason } => write!(f, "header: {reason}"),
            Self::Cut { record, reason } => write!(f, "record {record}: {reason}"),
            Self::Io(error) => write!(f, "the file cannot be read: {error}"),
            Self::Header(reason) => write!(f, "header: {reason}"),
        }
    }
}

impl std::error::Error for RecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl RecordError {
    pub(crate) fn bad(record: u64, reason: String) -> Self {
        Self::Bad { record, column: None, value: None, reason }
    }

    /// `name` gives the name of a field, counted from 0.
    pub(crate) fn stopped(record: u64, stop: Stop, name: impl FnOnce(usize) -> Option<String>) -> Self {
        match stop {
            Stop::AfterQuote(_) if record == 0 => Self::Header(format!("a name {}", Stop::AFTER_QUOTE)),
            Stop::AfterQuote(field) => {
                Self::Bad { record, column: name(field), value: None, reason: Stop::AFTER_QUOTE.to_owned() }
            }
            Stop::TooLong if record == 0 => Self::Header(Stop::TOO_LONG.to_owned()),
            Stop::TooLong => Self::bad(record, Stop::TOO_LONG.to_owned()),
            Stop::Cut(reason) => Self::Cut { record, reason: reason.to_owned() },
            Stop::Io(error) => Self::Io(error),
        }
    }
}

/// A batch ends once it has this many bytes of its file: values of one column must fit 31 bits.
const BATCH_BYTES: usize = 64 << 20;

/// No batch has more rows, since a short field may stand for a longer value.
const BATCH_ROWS: usize = 1 << 20;

/// Reads one file, from its beginning to its end.
///
/// NULL, the empty text and a missing value are told apart as far as the file does (DMS S3 target, CsvNullValue): a
/// field equal to CsvNullValue is NULL; an empty field is NULL where the column allows it, else the empty text or, in a
/// column of dates and times, NULL for a zero date; empty numbers that are NOT NULL are refused except in deletes.
pub struct RecordReader<R: Read> {
    cutter: Cutter<R>,
    fields: Fields,
    /// For doubled quotes, and for the bytes of binary values.
    scratch: (Vec<u8>, Vec<u8>),
    layout: Layout,
    kind: FileKind,
    null_value: Option<Vec<u8>>,
    /// For each source field the place of its column.
    order: Vec<usize>,
    columns: Arc<[Column]>,
    values: Vec<ColumnValues>,
    /// Field and values of the commit times.
    commit_times: Option<(usize, ColumnValues)>,
    /// For a file of all tables' changes.
    filter: Option<TableFilter>,
    schema: SchemaRef,
    header: Header,
    records: u64,
    failed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    None,
    Unread,
    Read,
}

impl<R: Read> RecordReader<R> {
    /// Reads `input`, the unpacked contents of a file, as rows of `columns`.
    pub fn new(input: R, settings: &S3Settings, kind: FileKind, columns: Arc<[Column]>, datetime: DatetimeAs) -> Self {
        Self {
            cutter: Cutter::new(input, settings),
            fields: Fields::default(),
            scratch: Default::default(),
            layout: Layout::of(settings, kind),
            kind,
            null_value: settings.csv_null_value.clone().map(String::into_bytes),
            order: (0..columns.len()).collect(),
            values: columns.iter().map(|column| ColumnValues::new(column, datetime)).collect(),
            schema: arrow_schema(&columns, datetime),
            columns,
            commit_times: None,
            filter: None,
            header: if settings.add_column_name { Header::Unread } else { Header::None },
            records: 0,
            failed: false,
        }
    }

    /// Reads the column that TimestampColumnName adds too.
    pub fn with_commit_times(mut self) -> Self {
        let field = usize::from(self.layout.has_operation);
        self.commit_times = self.layout.leading_name(field).map(|name| {
            let column = Column { name: name.to_owned(), sql_type: SqlType::Timestamp(6), nullable: true };
            (field, ColumnValues::new(&column, DatetimeAs::Timestamp))
        });
        self
    }

    /// Reads a file of all tables' changes, and of these the records of `table`.
    pub fn of_all_tables(mut self, table: &TableName) -> Self {
        self.filter = Some(TableFilter::new(table.clone()));
        self
    }

    /// The tables whose records were passed over so far.
    pub fn other_tables(&self) -> impl Iterator<Item = &TableName> {
        self.filter.iter().flat_map(TableFilter::others)
    }

    /// The next rows, at most `max_rows` of them and fewer if they are large; `None` at the end of the file.
    ///
    /// # Errors
    /// At the first record that is no row. Rows of the same call are lost with it, and the reader cannot go on.
    pub fn next(&mut self, max_rows: usize) -> Result<Option<Rows>, RecordError> {
        if self.failed {
            return Err(RecordError::bad(self.records, "reading ended at an earlier error".to_owned()));
        }
        let rows = self.read(max_rows.clamp(1, BATCH_ROWS));
        self.failed = rows.is_err();
        rows
    }

    /// How many records have been read so far, the header not counted.
    pub fn records(&self) -> u64 {
        self.records
    }

    fn read(&mut self, max_rows: usize) -> Result<Option<Rows>, RecordError> {
        if self.header == Header::Unread {
            self.header = Header::Read;
            self.read_header()?;
        }
        let (mut operations, mut records, mut bytes) = (Vec::new(), Vec::new(), 0);
        while operations.len() < max_rows && bytes < BATCH_BYTES {
            let Some(length) = self.cut(self.records + 1)? else { break };
            self.records += 1;
            if self.filter.is_some() {
                if !self.is_of_table()? {
                    continue;
                }
                records.push(self.records);
            }
            bytes += length;
            operations.push(self.row()?);
        }
        if operations.is_empty() {
            return Ok(None);
        }
        let first_record = records.first().copied().unwrap_or(self.records + 1 - operations.len() as u64);
        let rows = self.batch(operations, first_record)?;
        Ok(Some(Rows { records: self.filter.is_some().then_some(records), ..rows }))
    }

    /// Whether the record at hand is one of the table, in a file of all tables' changes.
    fn is_of_table(&mut self) -> Result<bool, RecordError> {
        let Some(filter) = &mut self.filter else { return Ok(true) };
        let of_table = filter.take(&self.cutter, &mut self.fields);
        let of_table = of_table.map_err(|reason| RecordError::bad(self.records, reason))?;
        if of_table && self.layout.leading() == 2 {
            TableFilter::complete(&self.cutter, &mut self.fields, 2 + self.columns.len());
        }
        Ok(of_table)
    }

    fn cut(&mut self, record: u64) -> Result<Option<usize>, RecordError> {
        self.cutter.next(&mut self.fields).map_err(|stop| RecordError::stopped(record, stop, |field| self.name(field)))
    }

    fn read_header(&mut self) -> Result<(), RecordError> {
        if self.cut(0)?.is_some() {
            let header = self.cutter.header(&self.fields).map_err(RecordError::Header)?;
            let names = self.layout.columns_of(&header).map_err(RecordError::Header)?;
            self.order = layout::order(names, &self.columns).map_err(RecordError::Header)?;
        }
        Ok(())
    }

    /// Takes the record at hand in.
    fn row(&mut self) -> Result<Operation, RecordError> {
        let leading = self.layout.leading();
        let expected = leading + self.columns.len();
        if self.fields.count != expected {
            return Err(self.wrong_count(expected));
        }
        let operation = if self.layout.has_operation { self.operation()? } else { Operation::Insert };
        if let Some((field, values)) = &mut self.commit_times {
            let field = *field;
            let span = self.fields.spans[field];
            let text = self.cutter.text(span, &mut self.scratch.0);
            let null_value = self.null_value.as_deref();
            let pushed = values.push(Field { text, quoted: span.quoted(), operation, null_value }, &mut self.scratch.1);
            if let Err(refusal) = pushed {
                let (value, reason) = (Some(shown(text)), values.reason(refusal));
                return Err(RecordError::Bad { record: self.records, column: self.name(field), value, reason });
            }
        }
        for (field, place) in self.order.iter().enumerate() {
            let span = self.fields.spans[leading + field];
            let text = self.cutter.text(span, &mut self.scratch.0);
            let null_value = self.null_value.as_deref();
            let values = &mut self.values[*place];
            let pushed = values.push(Field { text, quoted: span.quoted(), operation, null_value }, &mut self.scratch.1);
            if let Err(refusal) = pushed {
                return Err(RecordError::Bad {
                    record: self.records,
                    column: Some(self.columns[*place].name.clone()),
                    value: (refusal != Refusal::Missing).then(|| shown(text)),
                    reason: values.reason(refusal),
                });
            }
        }
        Ok(operation)
    }

    /// In a full load an empty operation is that of a row which was loaded before the setting was.
    fn operation(&mut self) -> Result<Operation, RecordError> {
        let Some(span) = self.fields.spans.first().copied() else { return Ok(Operation::Insert) };
        let text = self.cutter.text(span, &mut self.scratch.0);
        match (self.kind, text) {
            (_, b"I") => Ok(Operation::Insert),
            (FileKind::Changes, b"U") => Ok(Operation::Update),
            (FileKind::Changes, b"D") => Ok(Operation::Delete),
            (FileKind::Load, text) if text.is_empty() || self.null_value.as_deref() == Some(text) => {
                Ok(Operation::Insert)
            }
            (kind, text) => {
                let value = Some(shown(text));
                let known = if kind == FileKind::Load { "a full load has I alone" } else { "I, U and D are known" };
                let reason = format!("is an unknown operation; {known}");
                Err(RecordError::Bad { record: self.records, column: self.name(0), value, reason })
            }
        }
    }

    fn wrong_count(&self, expected: usize) -> RecordError {
        let (record, count) = (self.records, self.fields.count);
        // the commonest of mistakes in a job's first run
        let hint = match (self.kind, self.layout.has_operation) {
            (FileKind::Load, true) if count + 1 == expected => {
                "; does the endpoint set IncludeOpForFullLoad? Without it a LOAD file has no Op"
            }
            (FileKind::Load, false) if count == expected + 1 => {
                "; if the endpoint sets IncludeOpForFullLoad, a LOAD file begins with an Op, and s3_settings must say so"
            }
            _ => "",
        };
        if count > expected {
            return RecordError::bad(record, format!("it has {count} fields and {expected} are expected{hint}"));
        }
        let reason = format!("is missing: the record has {count} of {expected} fields{hint}");
        RecordError::Bad { record, column: self.name(count), value: None, reason }
    }

    /// The name of a field, counted from 0.
    fn name(&self, field: usize) -> Option<String> {
        if let Some(name) = self.layout.leading_name(field) {
            return Some(name.to_owned());
        }
        let place = *self.order.get(field - self.layout.leading())?;
        Some(self.columns.get(place)?.name.clone())
    }

    fn batch(&mut self, operations: Vec<Operation>, first_record: u64) -> Result<Rows, RecordError> {
        let (mut arrays, mut zero_dates) =
            (Vec::with_capacity(self.values.len()), Vec::with_capacity(self.values.len()));
        let inner = |error: arrow::error::ArrowError| RecordError::bad(first_record, error.to_string());
        for values in &mut self.values {
            let (array, zeros) = values.finish().map_err(inner)?;
            arrays.push(array);
            zero_dates.push(zeros);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(operations.len()));
        let columns = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(inner)?;
        let commit_times = match &mut self.commit_times {
            Some((_, values)) => Some(values.finish().map_err(inner)?.0),
            None => None,
        };
        Ok(Rows {
            columns,
            operations,
            first_record,
            records: None,
            zero_dates,
            commit_times,
            old_keys: None,
            unchanged: Vec::new(),
            sequences: None,
        })
    }
}

impl<R: Read> Cutter<R> {
    /// The names that the record at hand holds.
    pub(crate) fn header(&self, fields: &Fields) -> Result<Vec<String>, String> {
        let mut scratch = Vec::new();
        let mut name = |span: &Span| {
            let name = self.text(*span, &mut scratch);
            str::from_utf8(name).map(str::to_owned).map_err(|_| format!("the name \"{}\" is not UTF-8", shown(name)))
        };
        fields.spans.iter().map(&mut name).collect()
    }
}

#[cfg(test)]
mod tests;
