//! Rows of files that hold values with names and types, as Parquet files do.

mod converted;
mod retyped;
mod told;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, UInt64Array, new_null_array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;

pub use retyped::{may_become, retyped, stays};
pub use told::{columns, united};

use self::converted::{Mismatch, converted};
use super::former;
use super::layout::{Layout, OP, Places};
use super::names::FileKind;
use super::records::{BadRecord, OldKeys, Operation, RecordError, Rows};
use super::settings::{S3Settings, WrittenChanges};
use super::shape::Shape;
use super::values::{ColumnValues, Refusal, shown};
use crate::schema::{Column, DatetimeAs, SqlType, arrow_schema};

/// Makes rows of a table of the record batches of one file.
pub struct TypedReader {
    /// What was taken in and is still to be read, with the number of its first record.
    batches: VecDeque<(u64, RecordBatch)>,
    /// Where bad records go, if they do not end the reading.
    bad: Option<Vec<BadRecord>>,
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
        let (batches, bad) = (VecDeque::new(), None);
        Ok(Self { batches, bad, kind, shape, key, datetime, places, untold, reads_commit_times, schema, records })
    }

    /// Reads the column that TimestampColumnName adds too.
    pub fn with_commit_times(self) -> Self {
        Self { reads_commit_times: true, ..self }
    }

    /// Sets records that are no rows apart instead of ending with the first of them.
    pub fn setting_bad_apart(self) -> Self {
        Self { bad: Some(Vec::new()), ..self }
    }

    /// The records that were set apart since this was asked last, in JSON since a file in Parquet has no text of them.
    pub fn take_bad(&mut self) -> Vec<BadRecord> {
        self.bad.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many records have been taken in so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Takes in a batch, which follows those before it in the file.
    pub fn take(&mut self, batch: RecordBatch) {
        let first_record = self.records + 1;
        self.records += batch.num_rows() as u64;
        self.batches.push_back((first_record, batch));
    }

    /// The next rows of what was taken in, which are fewer where a record is set apart; `None` if there are no more.
    ///
    /// # Errors
    /// At a value that is none of its column, unless such records are set apart.
    pub fn rows(&mut self) -> Result<Option<Rows>, RecordError> {
        while let Some((first_record, batch)) = self.batches.pop_front() {
            if batch.num_rows() == 0 {
                continue;
            }
            match self.read(&batch, first_record) {
                Ok(rows) => return Ok(Some(rows)),
                Err(error) => self.set_apart(error, &batch, first_record)?,
            }
        }
        Ok(None)
    }

    /// Keeps the record of the error, if that is wanted, and reads on before and behind it.
    fn set_apart(&mut self, error: RecordError, batch: &RecordBatch, first_record: u64) -> Result<(), RecordError> {
        match (error, &mut self.bad) {
            (RecordError::Bad { record, column, value, reason }, Some(bad)) => {
                let row = usize::try_from(record - first_record).unwrap_or_default();
                let raw = json(&batch.slice(row, 1)).map_err(wrong)?;
                bad.push(BadRecord { record, column, value, reason, raw });
                self.batches.push_front((record + 1, batch.slice(row + 1, batch.num_rows() - row - 1)));
                self.batches.push_front((first_record, batch.slice(0, row)));
                Ok(())
            }
            (error, _) => Err(error),
        }
    }

    fn read(&self, batch: &RecordBatch, first_record: u64) -> Result<Rows, RecordError> {
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
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options).map_err(wrong)?;
        let commit_times = self.commit_times(batch, &operations, first_record)?;
        let sequences = self.places.sequence.map(|field| texts(batch.column(field))).transpose().map_err(wrong)?;
        let sequences = sequences.map(|texts| texts.iter().map(|text| text.filter(|text| !text.is_empty())).collect());
        let old_keys = self.old_keys(batch, &columns, &operations, first_record, &mut zero_dates)?;
        Ok(Rows {
            columns,
            operations,
            first_record,
            records: None,
            zero_dates,
            commit_times,
            old_keys,
            unchanged: Vec::new(),
            sequences,
            lacking: self.shape.lacking(&self.places.columns),
        })
    }

    /// In a full load a record without an operation is one that was loaded before the setting was.
    fn operations(&self, batch: &RecordBatch, first_record: u64) -> Result<Vec<Operation>, RecordError> {
        let count = batch.num_rows();
        let marks = match &self.places.indicator {
            Some((field, marker)) => Some((texts(batch.column(*field)).map_err(wrong)?, marker)),
            None => None,
        };
        let is_marked = |row: usize| {
            marks
                .as_ref()
                .is_some_and(|(marks, marker)| marks.is_valid(row) && marks.value(row).as_bytes() == &marker[..])
        };
        if !self.places.has_operation {
            let deletes = |row: usize| self.untold == Operation::Update && is_marked(row);
            return Ok((0..count).map(|row| if deletes(row) { Operation::Delete } else { self.untold }).collect());
        }
        let letters = texts(batch.column(0)).map_err(wrong)?;
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

    /// The keys that updates changed: where a before image holds anything, those of the key are the whole old key. Zero
    /// dates in them are counted.
    fn old_keys(
        &self,
        batch: &RecordBatch,
        columns: &RecordBatch,
        operations: &[Operation],
        first_record: u64,
        zero_dates: &mut [u64],
    ) -> Result<Option<OldKeys>, RecordError> {
        let before = &self.places.before;
        let is_told = |row: &usize| before.iter().any(|(field, _)| batch.column(*field).is_valid(*row));
        let updated = (0..operations.len()).filter(|row| operations[*row] == Operation::Update);
        let rows: Vec<usize> = updated.filter(is_told).collect();
        if rows.is_empty() {
            return Ok(None);
        }
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

    /// `values` as those of a column, and the zero dates among them, which a key may not have; `record` numbers the record
    /// of a row.
    fn values(
        &self,
        column: usize,
        values: &ArrayRef,
        operations: &[Operation],
        record: impl Fn(usize) -> u64,
    ) -> Result<(ArrayRef, u64), RecordError> {
        let (into, in_key) = (self.shape.values(column, self.datetime), self.key.contains(&column));
        let column = &self.shape.schema.columns[column];
        // a delete may carry its key alone, and carries that
        let of_key = in_key.then(|| vec![Operation::Update; operations.len()]);
        let read = converted(into, self.datetime, values, of_key.as_deref().unwrap_or(operations));
        let (read, zeros) = read.map_err(|mismatch| refused(mismatch, column, values, &record))?;
        if in_key && zeros > 0 {
            let is_zero = |row: &usize| read.is_null(*row) && (values.is_valid(*row) || !column.nullable);
            let row = (0..read.len()).find(is_zero).unwrap_or_default();
            let (value, reason) = (None, Refusal::ZeroKey.reason(&column.sql_type));
            return Err(refused(Mismatch::Value { row, value, reason }, column, values, record));
        }
        Ok((read, zeros))
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

/// The error for an array that is not of a type that it should be of.
fn wrong(error: ArrowError) -> RecordError {
    RecordError::Columns(error.to_string())
}

/// One record, with all its columns.
fn json(record: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(record)?;
    writer.finish()?;
    let mut raw = writer.into_inner();
    raw.truncate(raw.trim_ascii_end().len());
    Ok(raw)
}

fn texts(values: &ArrayRef) -> Result<StringArray, ArrowError> {
    Ok(cast(values, &DataType::Utf8)?.as_string::<i32>().clone())
}

#[cfg(test)]
mod tests;
