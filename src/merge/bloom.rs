//! Bloom filters of key columns: which columns get them.
//!
//! A filter holds the hashes of the values of one column in one row group, each in its physical form. It may take a
//! value for another one, and never misses one that is there; it knows nothing of NULLs.

use datafusion::arrow::datatypes::{DataType, Schema};
use deltalake::parquet::file::properties::WriterPropertiesBuilder;
use deltalake::parquet::schema::types::ColumnPath;

/// How often a filter takes a value for one that is there, at most. Sizes are powers of two: for a full row group of
/// different values this is one byte a value, and a tenth of it would be two.
const FALSE_POSITIVES: f64 = 0.03;

/// True for the keys that usually come in no order, such as UUIDs. Numbers and times mostly grow, so that the bounds of
/// files tell them apart, and their columns are hardly larger than a filter.
fn has_no_order(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Binary)
}

/// The columns of `key` that get filters in a file that has the columns of `schema`.
pub fn columns(schema: &Schema, key: &[String]) -> Vec<ColumnPath> {
    let has_no_order = |name: &&String| schema.field_with_name(name).is_ok_and(|field| has_no_order(field.data_type()));
    key.iter().filter(has_no_order).map(|name| ColumnPath::from(name.as_str())).collect()
}

/// `properties` of a file in which `column` has filters.
pub fn with_filters(properties: WriterPropertiesBuilder, column: ColumnPath) -> WriterPropertiesBuilder {
    properties.set_column_bloom_filter_fpp(column, FALSE_POSITIVES)
}
