//! Rows of files that hold values with types, as Parquet files do.
//!
//! The pairs of types in which DMS writes MySQL's types ("Using Amazon S3 as a target", data types for Parquet) are
//! converted whole; every other value goes the way of its text, so that nothing is taken that the column cannot hold.

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::{CastOptions, cast, cast_with_options, take};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;

use super::former;
use super::layout::{Layout, Places};
use super::names::FileKind;
use super::records::{OldKeys, Operation, RecordError, Rows};
use super::settings::S3Settings;
use super::shape::Shape;
use super::values::{ColumnValues, Field, Refusal, shown};
use crate::schema::{Column, DatetimeAs, SqlType, TableSchema, arrow_schema};

/// Makes rows of a table of the record batches of one file.
pub struct TypedReader {
    kind: FileKind,
    shape: Arc<Shape>,
    key: Vec<usize>,
    datetime: DatetimeAs,
    places: Places,
    schema: SchemaRef,
    records: u64,
}

impl TypedReader {
    /// For a file with the columns of `file`; `key` are the numbers of the key's columns.
    ///
    /// # Errors
    /// If a column of the file is not known, or one of the table is missing that cannot be NULL.
    pub fn new(
        file: &Schema,
        settings: &S3Settings,
        kind: FileKind,
        shape: Arc<Shape>,
        key: &[usize],
        datetime: DatetimeAs,
    ) -> Result<Self, RecordError> {
        let names: Vec<_> = file.fields().iter().map(|field| field.name().clone()).collect();
        let (layout, has_operation) = Layout::told_by(&names, settings);
        let of_table = &names[layout.leading(has_operation)..];
        let places = Places::by_name(&layout, &shape, has_operation, of_table, key).map_err(RecordError::Header)?;
        let schema = arrow_schema(&shape.schema.columns, datetime);
        Ok(Self { kind, shape, key: key.to_vec(), datetime, places, schema, records: 0 })
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
        for (column, field) in self.shape.schema.columns.iter().zip(&self.places.columns) {
            let (values, zeros) = match field {
                Some(field) => self.typed(column, batch.column(*field), &operations, first_record)?,
                None => (new_null_array(&column.sql_type.arrow(self.datetime), batch.num_rows()), 0),
            };
            arrays.push(values);
            zero_dates.push(zeros);
        }
        let wrong = |error: ArrowError| RecordError::bad(first_record, error.to_string());
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options).map_err(wrong)?;
        let commit_times = match self.places.timestamp {
            Some(field) => {
                let column = Column { name: String::new(), sql_type: SqlType::Timestamp(6), nullable: true };
                let times = typed(&column, DatetimeAs::Timestamp, batch.column(field), &operations);
                Some(times.map_err(|mismatch| self.refused(mismatch, Some(field), first_record))?.0)
            }
            None => None,
        };
        let sequences = self.places.sequence.map(|field| texts(batch.column(field))).transpose().map_err(wrong)?;
        let old_keys = self.old_keys(batch, &columns, &operations, first_record)?;
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

    /// A record without an operation is a row of the full load, also where load and changes are read as one.
    fn operations(&self, batch: &RecordBatch, first_record: u64) -> Result<Vec<Operation>, RecordError> {
        let count = batch.num_rows();
        if !self.places.has_operation {
            return Ok(vec![Operation::Insert; count]);
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
            (_, None | Some("I" | "")) => Ok(Operation::Insert),
            (FileKind::Changes, Some("U")) if is_marked(row) => Ok(Operation::Delete),
            (FileKind::Changes, Some("U")) => Ok(Operation::Update),
            (FileKind::Changes, Some("D")) => Ok(Operation::Delete),
            (kind, Some(other)) => Err(RecordError::Bad {
                record: first_record + row as u64,
                column: self.places.name(0),
                value: Some(shown(other.as_bytes())),
                reason: match kind {
                    FileKind::Load => "is an unknown operation; a full load has I alone".to_owned(),
                    FileKind::Changes => "is an unknown operation; I, U and D are known".to_owned(),
                },
            }),
        };
        (0..count).map(operation).collect()
    }

    /// The keys that updates changed: where a before image of the key holds anything, it is the whole old key.
    fn old_keys(
        &self,
        batch: &RecordBatch,
        columns: &RecordBatch,
        operations: &[Operation],
        first_record: u64,
    ) -> Result<Option<OldKeys>, RecordError> {
        let before: Vec<_> = self.places.before.iter().filter(|(_, column)| self.key.contains(column)).collect();
        let is_told = |row: &usize| before.iter().any(|(field, _)| batch.column(*field).is_valid(*row));
        let updated = (0..operations.len()).filter(|row| operations[*row] == Operation::Update);
        let rows: Vec<usize> = updated.filter(is_told).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let wrong = |error: ArrowError| RecordError::bad(first_record, error.to_string());
        let places: arrow::array::UInt64Array = rows.iter().map(|row| Some(*row as u64)).collect();
        let updates = vec![Operation::Update; rows.len()];
        let mut old = Vec::new();
        for column in &self.key {
            let field = before.iter().find(|(_, of)| of == column).map(|(field, _)| *field);
            old.push(match field {
                Some(field) => {
                    let values = take(batch.column(field), &places, None).map_err(wrong)?;
                    Some(self.typed(&self.shape.schema.columns[*column], &values, &updates, first_record)?.0)
                }
                None => None,
            });
        }
        former::changed(&self.key, rows, old, columns).map_err(wrong)
    }

    fn typed(
        &self,
        column: &Column,
        values: &ArrayRef,
        operations: &[Operation],
        first_record: u64,
    ) -> Result<(ArrayRef, u64), RecordError> {
        typed(column, self.datetime, values, operations).map_err(|mismatch| match mismatch {
            Mismatch::Value { row, value, reason } => {
                RecordError::Bad { record: first_record + row as u64, column: Some(column.name.clone()), value, reason }
            }
            Mismatch::Type(error) => RecordError::Header(format!(
                "column {} is {} in the file and {} in the table: {error}",
                column.name,
                values.data_type(),
                column.sql_type
            )),
        })
    }

    fn refused(&self, mismatch: Mismatch, field: Option<usize>, first_record: u64) -> RecordError {
        match mismatch {
            Mismatch::Value { row, value, reason } => RecordError::Bad {
                record: first_record + row as u64,
                column: field.and_then(|field| self.places.name(field)),
                value,
                reason,
            },
            Mismatch::Type(error) => RecordError::Header(error.to_string()),
        }
    }
}

fn texts(values: &ArrayRef) -> Result<StringArray, ArrowError> {
    Ok(cast(values, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// The columns of a table that files of these columns are of, behind what DMS puts before them.
///
/// # Errors
/// A column of a type that MySQL does not have, as the end of a sentence.
pub fn inferred(file: &Schema, settings: &S3Settings) -> Result<TableSchema, String> {
    let names: Vec<_> = file.fields().iter().map(|field| field.name().clone()).collect();
    let (layout, has_operation) = Layout::told_by(&names, settings);
    let column = |field: &Arc<arrow::datatypes::Field>| match sql_type(field.data_type()) {
        Some(sql_type) => Ok(Column { name: field.name().clone(), sql_type, nullable: true }),
        None => {
            Err(format!("column {} has the type {}, which no column of MySQL has", field.name(), field.data_type()))
        }
    };
    let columns = file.fields().iter().skip(layout.leading(has_operation)).map(column);
    Ok(TableSchema { columns: columns.collect::<Result<_, _>>()?, primary_key: Vec::new() })
}

/// Why values cannot be values of their column.
#[derive(Debug)]
enum Mismatch {
    /// This row's value cannot.
    Value { row: usize, value: Option<String>, reason: String },
    /// No value of the type can be read.
    Type(ArrowError),
}

impl From<ArrowError> for Mismatch {
    fn from(error: ArrowError) -> Self {
        Self::Type(error)
    }
}

/// `values` as values of `column`, and how many zero dates are among them: a NULL where the column is a date or a time
/// and NOT NULL.
fn typed(
    column: &Column,
    datetime: DatetimeAs,
    values: &ArrayRef,
    operations: &[Operation],
) -> Result<(ArrayRef, u64), Mismatch> {
    let target = column.sql_type.arrow(datetime);
    if (column.nullable || values.null_count() == 0)
        && let Some(Ok(converted)) = whole(&column.sql_type, &target, values)
    {
        return Ok((converted, 0));
    }
    one_by_one(column, datetime, values, operations)
}

/// The type that a column without any other definition has, by that of its values.
fn sql_type(data_type: &DataType) -> Option<SqlType> {
    Some(match data_type {
        DataType::Int8 => SqlType::TinyInt { unsigned: false },
        DataType::Int16 => SqlType::SmallInt { unsigned: false },
        DataType::Int32 => SqlType::Int { unsigned: false },
        DataType::Int64 => SqlType::BigInt { unsigned: false },
        DataType::UInt8 => SqlType::TinyInt { unsigned: true },
        DataType::UInt16 => SqlType::SmallInt { unsigned: true },
        DataType::UInt32 => SqlType::Int { unsigned: true },
        DataType::UInt64 => SqlType::BigInt { unsigned: true },
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            SqlType::Decimal { precision: *precision, scale: u8::try_from(*scale).ok()? }
        }
        DataType::Float32 => SqlType::Float,
        DataType::Float64 => SqlType::Double,
        DataType::Boolean => SqlType::Bit(1),
        DataType::Date32 | DataType::Date64 => SqlType::Date,
        DataType::Timestamp(..) => SqlType::DateTime(6),
        DataType::Time32(_) | DataType::Time64(_) => SqlType::Time(6),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => SqlType::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            SqlType::Bytes
        }
        _ => return None,
    })
}

/// All values at once, where no value can be another one afterwards; `None` where that is not sure.
fn whole(sql_type: &SqlType, target: &DataType, values: &ArrayRef) -> Option<Result<ArrayRef, ArrowError>> {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Decimal128, FixedSizeBinary, Float32, Float64, LargeBinary, LargeUtf8,
        Timestamp, Utf8, Utf8View,
    };
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    match (values.data_type(), target) {
        // a part of their Arrow type, or of a form of their own
        _ if matches!(sql_type, SqlType::MediumInt { .. } | SqlType::Time(_) | SqlType::Binary(_) | SqlType::Year) => {
            None
        }
        (from, to) if from.is_integer() && to.is_integer() => Some(cast_with_options(values, to, &strict)),
        (from, to @ Decimal128(..)) if from.is_integer() => Some(cast_with_options(values, to, &strict)),
        (Boolean, to) if to.is_integer() => Some(cast(values, to)),
        (Decimal128(_, had), to @ Decimal128(_, has)) if has >= had => Some(cast_with_options(values, to, &strict)),
        (Float32 | Float64, to @ (Float32 | Float64)) => Some(cast(values, to)),
        (Boolean, Boolean) | (Date32, Date32) => Some(Ok(Arc::clone(values))),
        (Utf8 | LargeUtf8 | Utf8View, Utf8) if *sql_type == SqlType::Text => Some(cast(values, target)),
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary) if *sql_type == SqlType::Bytes => {
            Some(cast(values, target))
        }
        (Timestamp(..), Timestamp(_, zone)) => {
            Some(in_micros(values).map(|micros| Arc::new(micros.with_timezone_opt(zone.clone())) as ArrayRef))
        }
        _ => None,
    }
}

/// The moments, or readings of a clock, in microseconds; DMS writes both as if in UTC.
fn in_micros(values: &ArrayRef) -> Result<TimestampMicrosecondArray, ArrowError> {
    let zone = match values.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let micros = cast(values, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    Ok(micros.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt(None::<Arc<str>>))
}

fn one_by_one(
    column: &Column,
    datetime: DatetimeAs,
    values: &ArrayRef,
    operations: &[Operation],
) -> Result<(ArrayRef, u64), Mismatch> {
    let values = match values.data_type() {
        DataType::Timestamp(..) => Arc::new(in_micros(values)?) as ArrayRef,
        // a BIT(1) and a BOOL are numbers to MySQL
        DataType::Boolean => cast(values, &DataType::Int8)?,
        _ => Arc::clone(values),
    };
    let format = FormatOptions::new().with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.6f"));
    let texts = ArrayFormatter::try_new(values.as_ref(), &format)?;
    let mut typed = ColumnValues::new(column, datetime);
    let mut scratch = Vec::new();
    for (row, operation) in operations.iter().enumerate() {
        let pushed = if values.is_null(row) {
            typed.push_missing(*operation).map_err(|refusal| (None, refusal))
        } else {
            let text = texts.value(row).try_to_string()?;
            let field = Field { text: text.as_bytes(), quoted: true, operation: *operation, null_value: None };
            typed.push(field, &mut scratch).map_err(|refusal| (Some(shown(text.as_bytes())), refusal))
        };
        pushed.map_err(|(value, refusal): (_, Refusal)| Mismatch::Value {
            row,
            value: value.filter(|_| refusal != Refusal::Missing),
            reason: typed.reason(refusal),
        })?;
    }
    Ok(typed.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, StringArray, Time64MicrosecondArray,
        TimestampMillisecondArray, UInt64Array,
    };

    fn check(sql_type: &str, nullable: bool, values: impl Array + 'static, expected: &[&str]) {
        let column = Column { name: "c".into(), sql_type: sql_type.parse().unwrap(), nullable };
        let operations = vec![Operation::Insert; values.len()];
        let values: ArrayRef = Arc::new(values);
        let (array, _) = typed(&column, DatetimeAs::default(), &values, &operations).unwrap();
        assert_eq!(*array.data_type(), column.sql_type.arrow(DatetimeAs::default()), "{sql_type}");
        let options = FormatOptions::new().with_null("NULL");
        let texts = ArrayFormatter::try_new(array.as_ref(), &options).unwrap();
        let texts: Vec<_> = (0..array.len()).map(|row| texts.value(row).to_string()).collect();
        assert_eq!(texts, expected, "{sql_type}");
    }

    fn refused(sql_type: &str, nullable: bool, values: impl Array + 'static, expected: &str) {
        let column = Column { name: "c".into(), sql_type: sql_type.parse().unwrap(), nullable };
        let operations = vec![Operation::Insert; values.len()];
        let values: ArrayRef = Arc::new(values);
        match typed(&column, DatetimeAs::default(), &values, &operations) {
            Err(Mismatch::Value { row, value, reason }) => {
                assert_eq!(format!("{row}: {} {reason}", value.unwrap_or_default()), expected);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers_keep_their_value() {
        check(
            "BIGINT UNSIGNED",
            true,
            UInt64Array::from(vec![Some(u64::MAX), None]),
            &["18446744073709551615", "NULL"],
        );
        check("SMALLINT", true, Int32Array::from(vec![-32768]), &["-32768"]);
        check("MEDIUMINT", true, Int32Array::from(vec![8_388_607]), &["8388607"]);
        check("YEAR", true, Int32Array::from(vec![2024]), &["2024"]);
        let prices = || Decimal128Array::from(vec![Some(1250)]).with_precision_and_scale(10, 2).unwrap();
        check("DECIMAL(12,4)", true, prices(), &["12.5000"]);
        check("DECIMAL(10,1)", true, prices(), &["12.5"]);
        check("FLOAT", true, Float64Array::from(vec![f64::from(32.38f32)]), &["32.38"]);
        check("TINYINT(1)", true, BooleanArray::from(vec![true, false]), &["1", "0"]);
        check("BIT(1)", true, BooleanArray::from(vec![true, false]), &["true", "false"]);
        check("BIT(1)", true, Int32Array::from(vec![1, 0]), &["true", "false"]);
    }

    #[test]
    fn a_value_that_does_not_fit_is_named() {
        refused("TINYINT", true, Int32Array::from(vec![1, 128]), "1: 128 does not fit TINYINT");
        refused("MEDIUMINT", true, Int32Array::from(vec![8_388_608]), "0: 8388608 does not fit MEDIUMINT");
        refused("INT", false, Int32Array::from(vec![Some(1), None]), "1:  has no value and is INT NOT NULL");
        let price = Decimal128Array::from(vec![1255]).with_precision_and_scale(10, 2).unwrap();
        refused("DECIMAL(10,1)", true, price, "0: 12.55 has digits after its point that do not fit DECIMAL(10,1)");
        refused("DATE", true, StringArray::from(vec!["2024-02-30"]), "0: 2024-02-30 is not a DATE that exists");
    }

    #[test]
    fn times_are_those_of_the_file() {
        let time = || TimestampMillisecondArray::from(vec![1_718_188_097_806]).with_timezone("UTC");
        check("DATETIME(3)", true, time(), &["2024-06-12T10:28:17.806"]);
        let column = Column { name: "c".into(), sql_type: SqlType::Timestamp(0), nullable: true };
        let values: ArrayRef = Arc::new(time());
        let (moments, _) = typed(&column, DatetimeAs::default(), &values, &[Operation::Insert]).unwrap();
        let expected = TimestampMicrosecondArray::from(vec![1_718_188_097_806_000]).with_timezone("UTC");
        assert_eq!(moments.as_primitive::<TimestampMicrosecondType>(), &expected);
        check("TIME(6)", true, Time64MicrosecondArray::from(vec![3_723_000_001]), &["01:02:03.000001"]);
        check("DATE", true, arrow::array::Date32Array::from(vec![19_886]), &["2024-06-12"]);
    }

    #[test]
    fn text_and_bytes_are_told_from_null() {
        check("VARCHAR(9)", true, StringArray::from(vec![Some(""), None, Some("é")]), &["", "NULL", "é"]);
        check("VARBINARY(9)", true, BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None]), &["00ff", "NULL"]);
        check("BINARY(4)", true, BinaryArray::from(vec![&b"\xab\xcd"[..]]), &["abcd0000"]);
        check("INT", true, StringArray::from(vec!["-7"]), &["-7"]);
    }

    #[test]
    fn a_null_in_a_date_that_is_not_null_is_a_zero_date() {
        let column = Column { name: "c".into(), sql_type: SqlType::Date, nullable: false };
        let values: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![Some(0), None, None]));
        let operations = [Operation::Insert, Operation::Update, Operation::Delete];
        let (_, zero_dates) = typed(&column, DatetimeAs::default(), &values, &operations).unwrap();
        assert_eq!(zero_dates, 1);
    }
}
