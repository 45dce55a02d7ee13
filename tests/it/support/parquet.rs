//! Parquet files as AWS DMS writes them: the type that its documentation gives each type of MySQL ("Using Amazon S3 as a
//! target", data types for Parquet), no schema of Arrow's, and little row groups.

use super::dms::Settings;
use super::table::{Row, Table};
use datafusion::arrow::array::{ArrayRef, BinaryArray, BooleanArray, Float64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::arrow::arrow_writer::ArrowWriterOptions;
use deltalake::parquet::basic::{Compression, GzipLevel};
use deltalake::parquet::file::properties::WriterProperties;
use std::sync::Arc;

/// Rows in one row group, of which DMS writes about 10,000.
const ROW_GROUP: usize = 1000;

/// Rows with their operations, if they have any.
pub fn file(settings: &Settings, table: &Table, rows: &[(Option<&str>, &Row)]) -> Vec<u8> {
    let has_op = rows.first().is_some_and(|(op, _)| op.is_some());
    let mut columns: Vec<(String, ArrayRef)> = vec![];
    if has_op {
        let ops: StringArray = rows.iter().map(|(op, _)| *op).collect();
        columns.push(("Op".to_owned(), Arc::new(ops)));
    }
    if let Some(name) = &settings.timestamp_column {
        let times: StringArray = (1..).zip(rows).map(|(record, _)| settings.commit_time(record)).collect();
        columns.push((name.clone(), Arc::new(times)));
    }
    for (at, (name, kind)) in table.columns.iter().enumerate() {
        let values: Vec<_> = rows.iter().map(|(_, row)| row[at].as_deref()).collect();
        let millis = settings.more.iter().any(|(name, value)| name == "ParquetTimestampInMillisecond" && value == true);
        columns.push((name.clone(), array(kind, &values, millis)));
    }
    bytes(columns, settings.gzip)
}

/// A file with these columns.
pub fn bytes(columns: Vec<(String, ArrayRef)>, gzip: bool) -> Vec<u8> {
    let fields = columns.iter().map(|(name, values)| Field::new(name, values.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let compression = if gzip { Compression::GZIP(GzipLevel::default()) } else { Compression::UNCOMPRESSED };
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_compression(compression)
        .set_created_by("AWS".to_owned())
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(vec![], Arc::clone(&schema), options).expect("a writer");
    let arrays = columns.into_iter().map(|(_, values)| values).collect();
    let batch = RecordBatch::try_new(schema, arrays).expect("a batch");
    writer.write(&batch).expect("the rows can be written");
    writer.into_inner().expect("the file can be closed")
}

/// Values of a MySQL type, in their text form, as DMS has them in a Parquet file.
pub fn array(kind: &str, values: &[Option<&str>], millis: bool) -> ArrayRef {
    let name = kind.split([' ', '(']).next().expect("a type");
    let unsigned = kind.contains("unsigned");
    let integer = |signed, of_unsigned| if unsigned { of_unsigned } else { signed };
    let unit = if millis { TimeUnit::Millisecond } else { TimeUnit::Microsecond };
    let target = match name {
        "tinyint" => integer(DataType::Int8, DataType::UInt8),
        "smallint" => integer(DataType::Int16, DataType::UInt16),
        "year" => DataType::Int16,
        "mediumint" | "int" => integer(DataType::Int32, DataType::UInt32),
        "bigint" => integer(DataType::Int64, DataType::UInt64),
        "decimal" => decimal(kind),
        "date" => DataType::Date32,
        "datetime" | "timestamp" => DataType::Timestamp(unit, Some("UTC".into())),
        "float" => {
            let float = |text: &str| f64::from(text.parse::<f32>().expect("a number"));
            return Arc::new(values.iter().map(|value| value.map(float)).collect::<Float64Array>());
        }
        "double" => {
            let double = |text: &str| text.parse::<f64>().expect("a number");
            return Arc::new(values.iter().map(|value| value.map(double)).collect::<Float64Array>());
        }
        "bit" if kind.starts_with("bit(1)") => {
            return Arc::new(values.iter().map(|value| value.map(|text| text == "1")).collect::<BooleanArray>());
        }
        "bit" => return Arc::new(values.iter().map(|value| value.map(bits)).collect::<BinaryArray>()),
        "binary" | "varbinary" | "blob" | "tinyblob" | "mediumblob" | "longblob" => {
            return Arc::new(values.iter().map(|value| value.map(hex)).collect::<BinaryArray>());
        }
        _ => DataType::Utf8,
    };
    let is_zero = |text: &str| kind.starts_with(['d', 't']) && text.starts_with("0000-00-00");
    let texts: StringArray = values.iter().map(|value| value.filter(|text| !is_zero(text))).collect();
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&texts, &target, &strict).unwrap_or_else(|e| panic!("{kind}: {e}"))
}

fn decimal(kind: &str) -> DataType {
    let inner = kind.split(['(', ')']).nth(1).expect("precision and scale");
    let (precision, scale) = inner.split_once(',').expect("a comma");
    let (precision, scale) = (precision.parse().expect("a number"), scale.parse().expect("a number"));
    if precision > 38 { DataType::Decimal256(precision, scale) } else { DataType::Decimal128(precision, scale) }
}

/// `0x1f` and more, in as few bytes as it takes.
fn bits(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("0x").expect("bits begin with 0x");
    hex(&format!("{digits:0>width$}", width = digits.len().next_multiple_of(2)))
}

fn hex(digits: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}
