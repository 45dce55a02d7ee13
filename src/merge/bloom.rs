//! Bloom filters of key columns: which columns get them, and what they say.
//!
//! A filter holds the hashes of the values of one column in one row group, each in its physical form. It may take a
//! value for another one, and never misses one that is there; it knows nothing of NULLs.

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit,
    TimestampMicrosecondType,
};
use deltalake::parquet::basic::Type as PhysicalType;
use deltalake::parquet::bloom_filter::Sbbf;
use deltalake::parquet::file::properties::WriterPropertiesBuilder;
use deltalake::parquet::schema::types::{ColumnDescriptor, ColumnPath};

/// How often a filter takes a value for one that is there, at most. Sizes are powers of two: for a full row group of
/// different values this is one byte a value, and a tenth of it would be two.
const FALSE_POSITIVES: f64 = 0.03;

/// False for bytes, whose filters are not written: DuckDB (1.5.5) asks them for the text by which it shows bytes, and finds
/// no row.
pub fn is_understood(data_type: &DataType) -> bool {
    *data_type != DataType::Binary
}

/// The columns of `key` that get filters in a file that has the columns of `schema`: texts, which usually come in no order,
/// such as UUIDs. Numbers and times mostly grow, so that the bounds of files tell them apart, and their columns are hardly
/// larger than a filter.
pub fn columns(schema: &Schema, key: &[String]) -> Vec<ColumnPath> {
    let is_text = |name: &&String| schema.field_with_name(name).is_ok_and(|field| *field.data_type() == DataType::Utf8);
    key.iter().filter(is_text).map(|name| ColumnPath::from(name.as_str())).collect()
}

/// `properties` of a file in which `column` has filters.
pub fn with_filters(properties: WriterPropertiesBuilder, column: ColumnPath) -> WriterPropertiesBuilder {
    properties.set_column_bloom_filter_fpp(column, FALSE_POSITIVES)
}

/// True unless `filter` excludes the value of a row. `column` is of the type of `values`; decimals may be of any length.
pub fn may_hold(filter: &Sbbf, column: &ColumnDescriptor, values: &dyn Array, row: usize) -> bool {
    use PhysicalType::{BYTE_ARRAY, FIXED_LEN_BYTE_ARRAY, INT32, INT64};
    if values.is_null(row) {
        return true;
    }
    match (values.data_type(), column.physical_type()) {
        (DataType::Int8, INT32) => filter.check(&i32::from(values.as_primitive::<Int8Type>().value(row))),
        (DataType::Int16, INT32) => filter.check(&i32::from(values.as_primitive::<Int16Type>().value(row))),
        (DataType::Int32, INT32) => filter.check(&values.as_primitive::<Int32Type>().value(row)),
        (DataType::Date32, INT32) => filter.check(&values.as_primitive::<Date32Type>().value(row)),
        (DataType::Int64, INT64) => filter.check(&values.as_primitive::<Int64Type>().value(row)),
        (DataType::Timestamp(TimeUnit::Microsecond, _), INT64) => {
            filter.check(&values.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        (DataType::Utf8, BYTE_ARRAY) => filter.check(values.as_string::<i32>().value(row)),
        (DataType::Binary, BYTE_ARRAY) => filter.check(values.as_binary::<i32>().value(row)),
        (DataType::Decimal128(..), physical) => {
            let unscaled = values.as_primitive::<Decimal128Type>().value(row);
            match physical {
                INT32 => i32::try_from(unscaled).is_ok_and(|value| filter.check(&value)),
                INT64 => i64::try_from(unscaled).is_ok_and(|value| filter.check(&value)),
                FIXED_LEN_BYTE_ARRAY => {
                    big_endian(unscaled, column.type_length()).is_none_or(|value| filter.check(&value[..]))
                }
                _ => true,
            }
        }
        _ => true,
    }
}

/// The two's complement of a decimal's digits in `length` bytes; `None` if there is no such form of it.
fn big_endian(unscaled: i128, length: i32) -> Option<Vec<u8>> {
    let length = usize::try_from(length).ok()?;
    let bytes = unscaled.to_be_bytes();
    let first = bytes.len().checked_sub(length)?;
    // what is cut off must say no more than the sign
    let sign = if unscaled < 0 { 0xFF } else { 0 };
    bytes[..first].iter().all(|byte| *byte == sign).then(|| bytes[first..].to_vec())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use datafusion::arrow::array::{
        ArrayRef, BinaryArray, Date32Array, Decimal128Array, Int8Array, Int16Array, Int32Array, Int64Array,
        RecordBatch, StringArray, TimestampMicrosecondArray,
    };
    use deltalake::parquet::arrow::ArrowWriter;
    use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use deltalake::parquet::file::properties::WriterProperties;

    use super::*;

    /// The filter of `values` as the Parquet writer makes it, and the column that it is of.
    fn filter(values: &ArrayRef) -> (Sbbf, Arc<ColumnDescriptor>) {
        let rows = RecordBatch::try_from_iter([("k", Arc::clone(values))]).unwrap();
        let properties = with_filters(WriterProperties::builder(), ColumnPath::from("k")).build();
        let mut file = vec![];
        let mut writer = ArrowWriter::try_new(&mut file, rows.schema(), Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        let file = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
        let filter = file.get_row_group_column_bloom_filter(0, 0).unwrap().unwrap();
        (filter, file.parquet_schema().column(0))
    }

    /// `there` are found, and of `absent` most are not.
    fn check(there: ArrayRef, absent: ArrayRef) {
        let (filter, column) = filter(&there);
        let found =
            |values: &ArrayRef| (0..values.len()).filter(|&row| may_hold(&filter, &column, values, row)).count();
        assert_eq!(found(&there), there.len(), "{column:?}");
        assert!(found(&absent) < absent.len() / 4, "{column:?}: {} of {}", found(&absent), absent.len());
    }

    const NUMBERS: std::ops::Range<i64> = -1000..1000;

    fn numbers<A: Array + 'static>(make: impl Fn(Vec<Option<i64>>) -> A) {
        let there = NUMBERS.map(|n| (n != 7).then_some(n * 3)).collect();
        check(Arc::new(make(there)), Arc::new(make(NUMBERS.map(|n| Some(n * 3 + 1)).collect())));
    }

    fn narrowed<T: TryFrom<i64>>(numbers: Vec<Option<i64>>) -> Vec<Option<T>> {
        numbers.into_iter().map(|n| n.and_then(|n| T::try_from(n).ok())).collect()
    }

    #[test]
    fn whole_numbers_dates_and_times_are_found() {
        check(
            Arc::new(Int8Array::from_iter_values((i8::MIN..=i8::MAX).filter(|n| n % 2 == 0))),
            Arc::new(Int8Array::from_iter_values((i8::MIN..=i8::MAX).filter(|n| n % 2 != 0))),
        );
        numbers(|values| Int16Array::from(narrowed(values)));
        numbers(|values| Int32Array::from(narrowed(values)));
        numbers(|values| Date32Array::from(narrowed(values)));
        numbers(Int64Array::from);
        numbers(TimestampMicrosecondArray::from);
        numbers(|values| TimestampMicrosecondArray::from(values).with_timezone("UTC"));
        check(
            Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX, 0, -1])),
            Arc::new(Int64Array::from_iter_values(1..1000)),
        );
    }

    #[test]
    fn decimals_of_every_physical_type_are_found() {
        for precision in 5..=38 {
            numbers(|values| {
                let unscaled = values.into_iter().map(|n| n.map(i128::from)).collect::<Vec<_>>();
                Decimal128Array::from(unscaled).with_precision_and_scale(precision, 2).unwrap()
            });
        }
        let largest = 10_i128.pow(38) - 1;
        let extremes = Decimal128Array::from(vec![largest, -largest, 0, -1]).with_precision_and_scale(38, 0).unwrap();
        let others = Decimal128Array::from_iter_values(1..1000).with_precision_and_scale(38, 0).unwrap();
        check(Arc::new(extremes), Arc::new(others));
    }

    #[test]
    fn a_decimal_is_found_in_a_file_of_fewer_digits() {
        for (precision, digits) in [(9, 18), (18, 20), (20, 38)] {
            let of = |precision: u8| {
                let values = Decimal128Array::from_iter_values((-500..500).map(|n| n * 7));
                Arc::new(values.with_precision_and_scale(precision, 2).unwrap()) as ArrayRef
            };
            let (filter, column) = filter(&of(precision));
            let wanted = of(digits);
            assert!((0..wanted.len()).all(|row| may_hold(&filter, &column, &wanted, row)), "{precision}, {digits}");
        }
    }

    #[test]
    fn texts_and_bytes_are_found() {
        let texts = |end: &str| (0..1000).map(|n| format!("{n} {end}")).collect::<Vec<_>>();
        let mut there = texts("日本語 🦀");
        there.push(String::new());
        check(Arc::new(StringArray::from(there.clone())), Arc::new(StringArray::from(texts("others"))));
        let bytes = |texts: Vec<String>| BinaryArray::from_iter_values(texts.iter().map(String::as_bytes));
        check(Arc::new(bytes(there)), Arc::new(bytes(texts("others"))));
    }

    #[test]
    fn a_null_is_never_excluded() {
        let (filter, column) = filter(&(Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef));
        assert!(may_hold(&filter, &column, &StringArray::from(vec![None::<&str>]), 0));
    }

    #[test]
    fn a_decimal_has_the_bytes_of_its_length() {
        assert_eq!(big_endian(-2, 3), Some(vec![0xFF, 0xFF, 0xFE]));
        assert_eq!(big_endian(70_000, 3), Some(vec![1, 0x11, 0x70]));
        assert_eq!(big_endian(70_000, 2), None);
        assert_eq!(big_endian(0, 17), None);
    }
}
