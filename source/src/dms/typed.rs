//! Rows of files that hold values with names and types, as Parquet files do.

mod converted;
mod told;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, UInt64Array, new_null_array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;

pub use told::{columns, united};

use self::converted::{Mismatch, converted};
use super::former;
use super::layout::{Layout, OP, Places};
use super::names::FileKind;
use super::records::{OldKeys, Operation, RecordError, Rows};
use super::settings::{S3Settings, WrittenChanges};
use super::shape::Shape;
use super::values::{ColumnValues, shown};
use crate::schema::{Column, DatetimeAs, SqlType, arrow_schema};

/// Makes rows of a table of the record batches of one file.
pub struct TypedReader {
    kind: FileKind,
    shape: Arc<Shape>,
    key: Vec<usize>,
    datetime: DatetimeAs,
    places: Places,
    /// The operation of records that tell none.
    untold: Operation,
    reads_commit_times: bool,
    schema: SchemaRef,
    records: u64,
}

impl TypedReader {
    /// For a file with the columns of `file`; `key` are the numbers of the key's columns.
    ///
    /// # Errors
    /// If a column of the file is not known or has a type that MySQL does not have, if one of the table is missing that
    /// cannot be NULL, or if changes do not say what they are.
    pub fn new(
        file: &Schema,
        settings: &S3Settings,
        kind: FileKind,
        shape: Arc<Shape>,
        key: &[usize],
        datetime: DatetimeAs,
    ) -> Result<Self, RecordError> {
        let names: Vec<_> = file.fields().iter().map(|field| field.name().clone()).collect();
        let (layout, has_operation) = Layout::told_by(&names, kind, settings);
        let untold = match (kind, settings.changes) {
            (FileKind::Load, _) | (_, WrittenChanges::Inserts) => Operation::Insert,
            (FileKind::Changes, WrittenChanges::InsertsAndUpdates) => Operation::Update,
            (FileKind::Changes, WrittenChanges::All) if has_operation => Operation::Insert,
            (FileKind::Changes, WrittenChanges::All) => {
                return Err(RecordError::Columns(format!(
                    "{OP} is expected as its first column, and without it inserts, updates and deletes are the same; do \
                     the S3 settings say what the task had? the file has {}",
                    names.join(", ")
                )));
            }
        };
        let of_table = &names[layout.leading(has_operation)..];
        let places = Places::by_name(&layout, &shape, has_operation, of_table, key)
            .map_err(|reason| RecordError::Columns(reason + &told::unknown(file, &layout, has_operation, &shape)))?;
        for field in places.columns.iter().flatten() {
            told::sql_type(file.field(*field)).map_err(RecordError::Columns)?;
        }
        let schema = arrow_schema(&shape.schema.columns, datetime);
        let (key, reads_commit_times, records) = (key.to_vec(), false, 0);
        Ok(Self { kind, shape, key, datetime, places, untold, reads_commit_times, schema, records })
    }

    /// Reads the column that TimestampColumnName adds too.
    pub fn with_commit_times(self) -> Self {
        Self { reads_commit_times: true, ..self }
    }

    /// How many records have been read so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The rows of `batch`, which follows those before it in the file; none if it is empty.
    ///
    /// # Errors
    /// At a value that is none of its column.
    pub fn rows(&mut self, batch: &RecordBatch) -> Result<Option<Rows>, RecordError> {
        let first_record = self.records + 1;
        self.records += batch.num_rows() as u64;
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        let operations = self.operations(batch, first_record)?;
        let (mut arrays, mut zero_dates) = (Vec::new(), Vec::new());
        for (column, field) in self.places.columns.iter().enumerate() {
            let (values, zeros) = match field {
                Some(field) => {
                    self.values(column, batch.column(*field), &operations, |row| first_record + row as u64)?
                }
                None => {
                    let sql_type = &self.shape.schema.columns[column].sql_type;
                    (new_null_array(&sql_type.arrow(self.datetime), batch.num_rows()), 0)
                }
            };
            arrays.push(values);
            zero_dates.push(zeros);
        }
        let wrong = |error: ArrowError| RecordError::bad(first_record, error.to_string());
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options).map_err(wrong)?;
        let commit_times = self.commit_times(batch, &operations, first_record)?;
        let sequences = self.places.sequence.map(|field| texts(batch.column(field))).transpose().map_err(wrong)?;
        let old_keys = self.old_keys(batch, &columns, &operations, first_record, &mut zero_dates)?;
        Ok(Some(Rows {
            columns,
            operations,
            first_record,
            records: None,
            zero_dates,
            commit_times,
            old_keys,
            unchanged: Vec::new(),
            sequences,
        }))
    }

    /// In a full load a record without an operation is one that was loaded before the setting was.
    fn operations(&self, batch: &RecordBatch, first_record: u64) -> Result<Vec<Operation>, RecordError> {
        let count = batch.num_rows();
        if !self.places.has_operation {
            return Ok(vec![self.untold; count]);
        }
        let wrong = |error: ArrowError| RecordError::bad(first_record, error.to_string());
        let letters = texts(batch.column(0)).map_err(wrong)?;
        let marks = match &self.places.indicator {
            Some((field, marker)) => Some((texts(batch.column(*field)).map_err(wrong)?, marker)),
            None => None,
        };
        let is_marked = |row: usize| {
            marks
                .as_ref()
                .is_some_and(|(marks, marker)| marks.is_valid(row) && marks.value(row).as_bytes() == &marker[..])
        };
        let operation = |row: usize| match (self.kind, letters.is_valid(row).then(|| letters.value(row))) {
            (_, Some("I")) | (FileKind::Load, None | Some("")) => Ok(Operation::Insert),
            (FileKind::Changes, Some("U")) if is_marked(row) => Ok(Operation::Delete),
            (FileKind::Changes, Some("U")) => Ok(Operation::Update),
            (FileKind::Changes, Some("D")) => Ok(Operation::Delete),
            (kind, other) => Err(RecordError::Bad {
                record: first_record + row as u64,
                column: self.places.name(0),
                value: Some(other.map_or("NULL".to_owned(), |other| shown(other.as_bytes()))),
                reason: match kind {
                    FileKind::Load => "is an unknown operation; a full load has I alone".to_owned(),
                    FileKind::Changes => "is an unknown operation; I, U and D are known".to_owned(),
                },
            }),
        };
        (0..count).map(operation).collect()
    }

    /// When each change was committed, which DMS writes as a text in every format.
    fn commit_times(
        &self,
        batch: &RecordBatch,
        operations: &[Operation],
        first_record: u64,
    ) -> Result<Option<ArrayRef>, RecordError> {
        let Some(field) = self.places.timestamp.filter(|_| self.reads_commit_times) else { return Ok(None) };
        let name = self.places.name(field).unwrap_or_default();
        let column = Column { name, sql_type: SqlType::Timestamp(6), nullable: true };
        let into = ColumnValues::new(&column, DatetimeAs::Timestamp);
        let times = converted(into, DatetimeAs::Timestamp, batch.column(field), operations);
        let place = |row: usize| first_record + row as u64;
        Ok(Some(times.map_err(|mismatch| refused(mismatch, &column, batch.column(field), place))?.0))
    }

    /// The keys that updates changed: where a before image of the key holds anything, it is the whole old key. Zero dates
    /// in them are counted.
    fn old_keys(
        &self,
        batch: &RecordBatch,
        columns: &RecordBatch,
        operations: &[Operation],
        first_record: u64,
        zero_dates: &mut [u64],
    ) -> Result<Option<OldKeys>, RecordError> {
        let before: Vec<_> = self.places.before.iter().filter(|(_, column)| self.key.contains(column)).collect();
        let is_told = |row: &usize| before.iter().any(|(field, _)| batch.column(*field).is_valid(*row));
        let updated = (0..operations.len()).filter(|row| operations[*row] == Operation::Update);
        let rows: Vec<usize> = updated.filter(is_told).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let wrong = |error: ArrowError| RecordError::bad(first_record, error.to_string());
        let places: UInt64Array = rows.iter().map(|row| Some(*row as u64)).collect();
        let updates = vec![Operation::Update; rows.len()];
        let mut old = Vec::new();
        for column in &self.key {
            let field = before.iter().find(|(_, of)| of == column).map(|(field, _)| *field);
            old.push(match field {
                Some(field) => {
                    let values = take(batch.column(field), &places, None).map_err(wrong)?;
                    let record = |row: usize| first_record + rows[row] as u64;
                    let (values, zeros) = self.values(*column, &values, &updates, record)?;
                    zero_dates[*column] += zeros;
                    Some(values)
                }
                None => None,
            });
        }
        former::changed(&self.key, rows, old, columns).map_err(wrong)
    }

    /// `values` as those of a column, and the zero dates among them; `record` numbers the record of a row.
    fn values(
        &self,
        column: usize,
        values: &ArrayRef,
        operations: &[Operation],
        record: impl Fn(usize) -> u64,
    ) -> Result<(ArrayRef, u64), RecordError> {
        let into = self.shape.values(column, self.datetime);
        let column = &self.shape.schema.columns[column];
        converted(into, self.datetime, values, operations).map_err(|mismatch| refused(mismatch, column, values, record))
    }
}

fn refused(mismatch: Mismatch, column: &Column, values: &ArrayRef, record: impl Fn(usize) -> u64) -> RecordError {
    match mismatch {
        Mismatch::Value { row, value, reason } => {
            RecordError::Bad { record: record(row), column: Some(column.name.clone()), value, reason }
        }
        Mismatch::Type(error) => RecordError::Columns(format!(
            "column {} is {} in the file and {} in the table: {error}",
            column.name,
            values.data_type(),
            column.sql_type
        )),
    }
}

fn texts(values: &ArrayRef) -> Result<StringArray, ArrowError> {
    Ok(cast(values, &DataType::Utf8)?.as_string::<i32>().clone())
}

#[cfg(test)]
mod tests;
