//! One column's values: what an empty field means in it, and the Arrow array that it grows into.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    Float32Builder, Float64Builder, GenericByteBuilder, Int8Builder, Int16Builder, Int32Builder, Int64Builder,
    PrimitiveBuilder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{ByteArrayType, DataType};
use arrow::error::ArrowError;

use super::{Refusal, bytes, number, time};
use crate::dms::records::Operation;
use crate::schema::{Column, DatetimeAs, SqlType};

/// The text of one field, and where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    pub text: &'a [u8],
    pub quoted: bool,
    pub operation: Operation,
    /// CsvNullValue, if it is set.
    pub null_value: Option<&'a [u8]>,
}

/// The values of one column in the batch that is being read.
pub(crate) struct ColumnValues {
    sql_type: SqlType,
    nullable: bool,
    family: Family,
    store: Store,
    /// Spaces at the end of a value are no part of it.
    padded: bool,
    /// Numbers are only those that are written as numbers are.
    guessed: bool,
    zero_dates: u64,
}

/// What a type makes of an empty field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Text and bytes can be empty.
    Text,
    /// Dates and times cannot, but a zero date is written so where the target has none.
    Moment,
    Number,
}

/// The least and the greatest value of a MySQL integer, which may fill only a part of its Arrow type.
pub(crate) type Range = RangeInclusive<i64>;

enum Store {
    Int8(Int8Builder),
    Int16(Int16Builder, Range),
    Int32(Int32Builder, Range),
    Int64(Int64Builder, Range),
    Year(Int16Builder),
    Unsigned(Decimal128Builder),
    Decimal(Decimal128Builder, u8, u8),
    LongDecimal(StringBuilder, u8, u8),
    Float(Float32Builder),
    Double(Float64Builder),
    Bit(BooleanBuilder),
    Bits(Int64Builder, u8),
    AllBits(BinaryBuilder),
    Date(Date32Builder),
    Datetime(TimestampMicrosecondBuilder, Option<Arc<str>>),
    Time(StringBuilder, u8),
    Text(StringBuilder),
    Binary(BinaryBuilder, u32),
    Bytes(BinaryBuilder),
}

/// Does the same to the builder of whatever store it is.
macro_rules! with_builder {
    ($store:expr, $builder:ident => $action:expr) => {
        match $store {
            Store::Int8($builder) => $action,
            Store::Int16($builder, _) | Store::Year($builder) => $action,
            Store::Int32($builder, _) => $action,
            Store::Int64($builder, _) => $action,
            Store::Bits($builder, _) => $action,
            Store::Unsigned($builder) | Store::Decimal($builder, _, _) => $action,
            Store::Float($builder) => $action,
            Store::Double($builder) => $action,
            Store::Bit($builder) => $action,
            Store::Date($builder) => $action,
            Store::Datetime($builder, _) => $action,
            Store::LongDecimal($builder, _, _) | Store::Time($builder, _) | Store::Text($builder) => $action,
            Store::AllBits($builder) | Store::Binary($builder, _) | Store::Bytes($builder) => $action,
        }
    };
}

impl ColumnValues {
    pub fn new(column: &Column, datetime: DatetimeAs) -> Self {
        let sql_type = column.sql_type.clone();
        let (family, store) = (family(&sql_type), store(&sql_type, datetime));
        Self { sql_type, nullable: column.nullable, family, store, padded: false, guessed: false, zero_dates: 0 }
    }

    pub fn sql_type(&self) -> &SqlType {
        &self.sql_type
    }

    pub fn is_nullable(&self) -> bool {
        self.nullable
    }

    pub fn is_padded(&self) -> bool {
        self.padded
    }

    /// Takes values without the spaces at their end, as MySQL gives those of a `CHAR`.
    pub fn padded(self) -> Self {
        Self { padded: true, ..self }
    }

    /// Takes no text for a number that a number would not be written as: the type is a guess, and `007` proves it wrong.
    pub fn guessed(self) -> Self {
        Self { guessed: true, ..self }
    }

    /// Appends one value.
    ///
    /// An empty field is NULL where that can be. A column that is NOT NULL cannot hold one, so there it is the empty
    /// text, or the zero date that DMS could not write; but a number is refused. A delete may carry its key alone.
    #[inline]
    pub fn push(&mut self, field: Field<'_>, scratch: &mut Vec<u8>) -> Result<(), Refusal> {
        let text_not_null = self.family == Family::Text && !self.nullable;
        // a text that is NOT NULL and reads like CsvNullValue is itself: somebody may be called so
        if field.null_value == Some(field.text) && !(text_not_null && self.sql_type == SqlType::Text) {
            return self.missing(field.operation);
        }
        if !field.text.is_empty() {
            let text = if self.padded { without_spaces(field.text) } else { field.text };
            let is_float = matches!(self.store, Store::Float(_) | Store::Double(_));
            if self.guessed && self.family == Family::Number && !is_float && !number::is_plain(text) {
                return Err(Refusal::Guess);
            }
            return self.store.push(text, scratch, &mut self.zero_dates);
        }
        let told_from_null = field.quoted || field.null_value.is_some();
        if text_not_null || self.family == Family::Text && told_from_null {
            self.store.push(&[], scratch, &mut self.zero_dates)
        } else {
            self.missing(field.operation)
        }
    }

    /// Whether an empty field may be a value.
    pub fn may_be_empty(&self) -> bool {
        self.family == Family::Text
    }

    /// Appends a NULL that is known to be one, if the column can have it.
    pub fn push_missing(&mut self, operation: Operation) -> Result<(), Refusal> {
        self.missing(operation)
    }

    fn missing(&mut self, operation: Operation) -> Result<(), Refusal> {
        if !self.nullable && operation != Operation::Delete {
            match self.family {
                Family::Number | Family::Text => return Err(Refusal::Missing),
                Family::Moment => self.zero_dates += 1,
            }
        }
        self.push_nothing();
        Ok(())
    }

    /// Appends NULL for a value that the record does not have.
    pub fn push_nothing(&mut self) {
        with_builder!(&mut self.store, builder => builder.append_null());
    }

    /// How many values there are so far.
    pub fn len(&self) -> usize {
        with_builder!(&self.store, builder => builder.len())
    }

    /// How many zero dates there are among them.
    pub fn zero_dates(&self) -> u64 {
        self.zero_dates
    }

    /// The reason in words.
    pub fn reason(&self, refusal: Refusal) -> String {
        refusal.reason(&self.sql_type)
    }

    /// The values so far, and the zero dates among them; the column is empty afterwards, with room for as many again.
    pub fn finish(&mut self) -> Result<(ArrayRef, u64), ArrowError> {
        let zero_dates = std::mem::take(&mut self.zero_dates);
        let mut array: ArrayRef = match &mut self.store {
            Store::Unsigned(builder) => Arc::new(builder.renew().finish().with_precision_and_scale(20, 0)?),
            Store::Decimal(builder, precision, scale) => {
                let scale =
                    i8::try_from(*scale).map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?;
                Arc::new(builder.renew().finish().with_precision_and_scale(*precision, scale)?)
            }
            Store::Datetime(builder, zone) => Arc::new(builder.renew().finish().with_timezone_opt(zone.clone())),
            store => with_builder!(store, builder => Arc::new(builder.renew().finish())),
        };
        // it is held until all changes of a batch are there, and grew by twice what it was
        Array::shrink_to_fit(&mut array);
        Ok((array, zero_dates))
    }
}

/// What takes values in and need not grow from nothing in each batch, which costs more than the values do.
trait Renew: Sized {
    /// A builder with room for as many values as are in this one.
    fn like(&self) -> Self;

    /// Takes all values out.
    fn renew(&mut self) -> Self {
        let next = self.like();
        std::mem::replace(self, next)
    }
}

impl<T: ArrowPrimitiveType> Renew for PrimitiveBuilder<T> {
    fn like(&self) -> Self {
        Self::with_capacity(self.len())
    }
}

impl<T: ByteArrayType> Renew for GenericByteBuilder<T> {
    fn like(&self) -> Self {
        // texts of the next rows are a bit longer, or a bit shorter
        let bytes = self.values_slice().len();
        Self::with_capacity(self.len(), bytes + bytes / 8)
    }
}

impl Renew for BooleanBuilder {
    fn like(&self) -> Self {
        Self::with_capacity(self.len())
    }
}

fn without_spaces(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    &text[..end]
}

fn family(sql_type: &SqlType) -> Family {
    match sql_type {
        SqlType::Text | SqlType::Binary(_) | SqlType::Bytes => Family::Text,
        SqlType::Date | SqlType::DateTime(_) | SqlType::Timestamp(_) | SqlType::Time(_) | SqlType::Year => {
            Family::Moment
        }
        _ => Family::Number,
    }
}

/// The store whose array has the type that [`SqlType::arrow`] says. It begins with no memory: a table may have thousands of
/// columns, and its files may be read in many pieces at once.
fn store(sql_type: &SqlType, datetime: DatetimeAs) -> Store {
    match (sql_type, sql_type.arrow(datetime)) {
        (SqlType::Year, _) => Store::Year(Int16Builder::with_capacity(0)),
        (SqlType::Bit(count), DataType::Int64) => Store::Bits(Int64Builder::with_capacity(0), *count),
        (SqlType::Bit(_), DataType::Binary) => Store::AllBits(BinaryBuilder::with_capacity(0, 0)),
        (SqlType::Binary(length), _) => Store::Binary(BinaryBuilder::with_capacity(0, 0), *length),
        (SqlType::Time(digits), _) => Store::Time(StringBuilder::with_capacity(0, 0), *digits),
        (SqlType::Decimal { precision, scale }, DataType::Utf8) => {
            Store::LongDecimal(StringBuilder::with_capacity(0, 0), *precision, *scale)
        }
        (SqlType::Decimal { precision, scale }, _) => {
            Store::Decimal(Decimal128Builder::with_capacity(0), *precision, *scale)
        }
        (_, DataType::Decimal128(..)) => Store::Unsigned(Decimal128Builder::with_capacity(0)),
        (_, DataType::Int8) => Store::Int8(Int8Builder::with_capacity(0)),
        (_, DataType::Int16) => Store::Int16(Int16Builder::with_capacity(0), range(sql_type)),
        (_, DataType::Int32) => Store::Int32(Int32Builder::with_capacity(0), range(sql_type)),
        (_, DataType::Int64) => Store::Int64(Int64Builder::with_capacity(0), range(sql_type)),
        (_, DataType::Float32) => Store::Float(Float32Builder::with_capacity(0)),
        (_, DataType::Float64) => Store::Double(Float64Builder::with_capacity(0)),
        (_, DataType::Boolean) => Store::Bit(BooleanBuilder::with_capacity(0)),
        (_, DataType::Date32) => Store::Date(Date32Builder::with_capacity(0)),
        (_, DataType::Timestamp(_, zone)) => Store::Datetime(TimestampMicrosecondBuilder::with_capacity(0), zone),
        (_, DataType::Binary) => Store::Bytes(BinaryBuilder::with_capacity(0, 0)),
        _ => Store::Text(StringBuilder::with_capacity(0, 0)),
    }
}

/// What an integer type of MySQL holds; any 64 bits for other types.
pub(crate) fn range(sql_type: &SqlType) -> Range {
    let (bits, unsigned) = match *sql_type {
        SqlType::TinyInt { unsigned } => (8, unsigned),
        SqlType::SmallInt { unsigned } => (16, unsigned),
        SqlType::MediumInt { unsigned } => (24, unsigned),
        SqlType::Int { unsigned } => (32, unsigned),
        _ => return i64::MIN..=i64::MAX,
    };
    if unsigned { 0..=(1 << bits) - 1 } else { -(1 << (bits - 1))..=(1 << (bits - 1)) - 1 }
}

impl Store {
    #[inline]
    fn push(&mut self, text: &[u8], scratch: &mut Vec<u8>, zero_dates: &mut u64) -> Result<(), Refusal> {
        match self {
            Self::Int8(builder) => builder.append_value(narrow(number::integer(text)?)?),
            Self::Int16(builder, range) => builder.append_value(narrow(within(range, number::integer(text)?)?)?),
            Self::Int32(builder, range) => builder.append_value(narrow(within(range, number::integer(text)?)?)?),
            Self::Int64(builder, range) => builder.append_value(within(range, number::integer(text)?)?),
            Self::Year(builder) => builder.append_value(time::year(text)?),
            Self::Unsigned(builder) => builder.append_value(number::unsigned(text)?.into()),
            Self::Decimal(builder, precision, scale) => {
                builder.append_value(number::decimal(text, *precision, *scale)?);
            }
            Self::LongDecimal(builder, precision, scale) => {
                builder.append_value(number::long_decimal(text, *precision, *scale, scratch)?);
            }
            Self::Float(builder) => builder.append_value(number::float32(text)?),
            Self::Double(builder) => builder.append_value(number::float64(text)?),
            Self::Bit(builder) => builder.append_value(bytes::boolean(text)?),
            Self::Bits(builder, count) => builder.append_value(narrow(bytes::bits(text, *count)?)?),
            Self::AllBits(builder) => builder.append_value(bytes::bits(text, 64)?.to_be_bytes()),
            Self::Date(builder) => {
                let date = time::date(text)?;
                *zero_dates += u64::from(date.is_none());
                builder.append_option(date);
            }
            Self::Datetime(builder, _) => {
                let datetime = time::datetime(text)?;
                *zero_dates += u64::from(datetime.is_none());
                builder.append_option(datetime);
            }
            Self::Time(builder, digits) => builder.append_value(time::time(text, *digits, scratch)?),
            Self::Text(builder) => builder.append_value(str::from_utf8(text).map_err(|_| Refusal::Utf8)?),
            Self::Binary(builder, length) => {
                scratch.clear();
                bytes::padded(text, *length, scratch)?;
                builder.append_value(&*scratch);
            }
            Self::Bytes(builder) => {
                scratch.clear();
                bytes::hex(text, scratch)?;
                builder.append_value(&*scratch);
            }
        }
        Ok(())
    }
}

fn within(range: &Range, value: i64) -> Result<i64, Refusal> {
    if range.contains(&value) { Ok(value) } else { Err(Refusal::Range) }
}

fn narrow<W, N: TryFrom<W>>(value: W) -> Result<N, Refusal> {
    N::try_from(value).map_err(|_| Refusal::Range)
}
