//! Values of one type as values of a column.
//!
//! The pairs of types in which DMS writes MySQL's types ("Using Amazon S3 as a target", data types for Parquet) are
//! converted whole; every other value goes the way of its text, so that nothing is taken that the column cannot hold.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, cast, cast_with_options, max, min};
use arrow::datatypes::{DataType, Date32Type, Float32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::dms::records::Operation;
use crate::dms::values::{ColumnValues, Field, Refusal, range, shown};
use crate::schema::{DatetimeAs, SqlType};

/// The days from 1970-01-01 to those that MySQL writes with four digits of a year.
const DAYS: RangeInclusive<i32> = -719_528..=2_932_896;
/// The same in microseconds.
const MICROS: RangeInclusive<i64> = *DAYS.start() as i64 * DAY..=(*DAYS.end() as i64 + 1) * DAY - 1;
const DAY: i64 = 86_400_000_000;

/// Why values cannot be values of their column.
#[derive(Debug)]
pub enum Mismatch {
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

/// `values` as values of the column `into`, and how many zero dates are among them: a NULL where the column is a date or
/// a time and NOT NULL.
pub fn converted(
    into: ColumnValues,
    datetime: DatetimeAs,
    values: &ArrayRef,
    operations: &[Operation],
) -> Result<(ArrayRef, u64), Mismatch> {
    if let Some(row) = rounded(values, &into.sql_type().arrow(datetime))? {
        let value = Texts::of(values, into.sql_type())?.shown()?.value(row).try_to_string()?;
        let reason = format!("is no {} that is exactly the same", into.sql_type());
        return Err(Mismatch::Value { row, value: Some(value), reason });
    }
    // a delete may carry its key alone
    let may_be_null = |row: usize| values.is_valid(row) || operations[row] == Operation::Delete;
    let nulls_are_right = into.is_nullable() || values.null_count() == 0 || (0..values.len()).all(may_be_null);
    match whole(&into, datetime, values).filter(|_| nulls_are_right) {
        Some(converted) => Ok((converted, 0)),
        None => one_by_one(into, values, operations),
    }
}

/// The first of integers that a floating-point number does not hold.
fn rounded(values: &ArrayRef, to: &DataType) -> Result<Option<usize>, ArrowError> {
    if !values.data_type().is_integer() || !to.is_floating() {
        return Ok(None);
    }
    let back = cast(&cast(values, to)?, values.data_type())?;
    let same = not_distinct(values, &back)?;
    Ok((0..values.len()).find(|row| !same.value(*row)))
}

/// All values at once, where no value can be another one afterwards; `None` where that is not sure.
fn whole(into: &ColumnValues, datetime: DatetimeAs, values: &ArrayRef) -> Option<ArrayRef> {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Decimal128, FixedSizeBinary, Float32, Float64, LargeBinary, LargeUtf8,
        Timestamp, Utf8, Utf8View,
    };
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let exact = |to: &DataType| cast_with_options(values, to, &strict).ok();
    let sql_type = into.sql_type();
    match (values.data_type(), &sql_type.arrow(datetime)) {
        // of a form of their own
        _ if matches!(sql_type, SqlType::Time(_) | SqlType::Binary(_) | SqlType::Year | SqlType::Bit(2..)) => None,
        (from, to) if (from.is_integer() || *from == Boolean) && to.is_integer() => exact(to).filter(|converted| {
            let wide = cast(converted, &DataType::Int64);
            wide.is_ok_and(|wide| are_in(wide.as_primitive::<Int64Type>(), range(sql_type)))
        }),
        (from, Decimal128(..)) if from.is_signed_integer() && *sql_type == (SqlType::BigInt { unsigned: true }) => None,
        (from, to @ Decimal128(..)) if from.is_integer() => exact(to),
        (Decimal128(_, had), to @ Decimal128(_, has)) if has >= had => exact(to),
        (Float32 | Float64, to @ Float32) => {
            exact(to).filter(|floats| floats.as_primitive::<Float32Type>().iter().flatten().all(f32::is_finite))
        }
        (Float32 | Float64, to @ Float64) => {
            exact(to).filter(|floats| floats.as_primitive::<Float64Type>().iter().flatten().all(f64::is_finite))
        }
        (Boolean, Boolean) => Some(Arc::clone(values)),
        (Date32, Date32) => are_in(values.as_primitive::<Date32Type>(), DAYS).then(|| Arc::clone(values)),
        (Utf8 | LargeUtf8 | Utf8View, to @ Utf8) if *sql_type == SqlType::Text && !into.is_padded() => exact(to),
        (Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | FixedSizeBinary(_), to @ Binary)
            if *sql_type == SqlType::Bytes =>
        {
            exact(to)
        }
        // DMS writes moments and readings of a clock alike, as if in UTC
        (Timestamp(unit, zone), Timestamp(_, to_zone)) if *unit != TimeUnit::Nanosecond => {
            let micros = exact(&Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            let micros = micros.as_primitive::<TimestampMicrosecondType>();
            are_in(micros, MICROS).then(|| Arc::new(micros.clone().with_timezone_opt(to_zone.clone())) as ArrayRef)
        }
        _ => None,
    }
}

fn are_in<T: ArrowPrimitiveType<Native: Ord>>(values: &PrimitiveArray<T>, range: RangeInclusive<T::Native>) -> bool {
    min(values).is_none_or(|least| range.contains(&least)) && max(values).is_none_or(|most| range.contains(&most))
}

fn one_by_one(
    mut into: ColumnValues,
    values: &ArrayRef,
    operations: &[Operation],
) -> Result<(ArrayRef, u64), Mismatch> {
    let texts = Texts::of(values, into.sql_type())?;
    let shown_by_arrow = texts.shown()?;
    let mut scratch = Vec::new();
    for (row, operation) in operations.iter().enumerate() {
        let pushed = if values.is_null(row) {
            into.push_missing(*operation).map_err(|refusal| (None, refusal))
        } else {
            let text =
                texts.value(&shown_by_arrow, row).map_err(|reason| Mismatch::Value { row, value: None, reason })?;
            let field = Field { text: &text, quoted: true, operation: *operation, null_value: None };
            into.push(field, &mut scratch).map_err(|refusal| (Some(shown(&text)), refusal))
        };
        pushed.map_err(|(value, refusal): (_, Refusal)| Mismatch::Value {
            row,
            value: value.filter(|_| refusal != Refusal::Missing),
            reason: into.reason(refusal),
        })?;
    }
    Ok(into.finish()?)
}

/// Values in the texts that CSV files have for them.
struct Texts {
    values: ArrayRef,
    format: FormatOptions<'static>,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As Arrow shows them; bytes are hexadecimal digits then.
    Shown,
    /// Bytes that are a text.
    Bytes,
    /// Numbers that are bits: hexadecimal digits.
    Bits,
}

impl Texts {
    fn of(values: &ArrayRef, sql_type: &SqlType) -> Result<Self, ArrowError> {
        use DataType::{Binary, BinaryView, Boolean, FixedSizeBinary, Int8, LargeBinary, LargeUtf8, Utf8, Utf8View};
        let (values, form) = match (values.data_type(), sql_type) {
            (DataType::Timestamp(unit, _), _) => (cast(values, &DataType::Timestamp(*unit, None))?, Form::Shown),
            // a BIT(1) and a BOOL are numbers to MySQL
            (Boolean, _) => (cast(values, &Int8)?, Form::Shown),
            (from, SqlType::Bit(_)) if from.is_numeric() => (Arc::clone(values), Form::Bits),
            (_, SqlType::Bit(_)) => (Arc::clone(values), Form::Shown),
            (Utf8 | LargeUtf8 | Utf8View, SqlType::Bytes | SqlType::Binary(_)) => (cast(values, &Binary)?, Form::Shown),
            (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), SqlType::Bytes | SqlType::Binary(_)) => {
                (Arc::clone(values), Form::Shown)
            }
            (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), _) => (cast(values, &Binary)?, Form::Bytes),
            _ => (Arc::clone(values), Form::Shown),
        };
        let fraction = match values.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, _) => "%Y-%m-%d %H:%M:%S%.9f",
            _ => "%Y-%m-%d %H:%M:%S%.6f",
        };
        Ok(Self { values, format: FormatOptions::new().with_timestamp_format(Some(fraction)), form })
    }

    fn shown(&self) -> Result<ArrayFormatter<'_>, ArrowError> {
        ArrayFormatter::try_new(self.values.as_ref(), &self.format)
    }

    /// # Errors
    /// In words, as the end of a sentence that begins with the value.
    fn value(&self, shown: &ArrayFormatter<'_>, row: usize) -> Result<Vec<u8>, String> {
        if self.form == Form::Bytes {
            return Ok(self.values.as_binary::<i32>().value(row).to_vec());
        }
        let shown = shown.value(row).try_to_string().map_err(|error| format!("cannot be read: {error}"))?;
        let bits = || Some(format!("{:x}", shown.parse::<u64>().ok().filter(|_| self.form == Form::Bits)?));
        Ok(bits().unwrap_or(shown).into_bytes())
    }
}
