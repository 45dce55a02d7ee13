//! The one scan of a snapshot's data files, which every part that reads rows shares.
//!
//! Rows that a deletion vector marks, or that the caller leaves out, are skipped as a Parquet row selection, so that
//! push-down and parallelism stay (E-4). On request each row carries its address: the number of its file as a
//! partition value, and its number in the file as a virtual column. A column that a file lacks is NULL.

use std::collections::HashMap;
use std::sync::Arc;

use buoyant_kernel::expressions::{Scalar, StructData};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::config::TableParquetOptions;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use datafusion_datasource::file::FileSource;
use datafusion_datasource::source::DataSourceExec;
use datafusion_datasource::{PartitionedFile, TableSchema};
use datafusion_datasource_parquet::{CachedParquetFileReaderFactory, ParquetFileReaderFactory, ParquetRowSelection};
use deltalake::kernel::LogicalFileView;
use deltalake::parquet::arrow::RowNumber;
use deltalake::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use object_store::ObjectMeta;
use object_store::path::Path;
use roaring::RoaringTreemap;

use super::many_files::{MANY, ManyFiles};
use super::pruning::that_may_match;
use super::reader::Accounted;
use super::stats::has_sound_bounds;
use super::table::{Table, physical_rows};
use super::vectors;
use crate::error::{Error, Result};

/// The column of file numbers ([`Table::files`]), 32 bits. No column of a table can have its name: MySQL does not let one
/// end with a space (*Schema Object Names*).
pub const FILE: &str = "file ";
/// The column of row numbers within a file, 64 bits, counted over all physical rows.
pub const ROW: &str = "row ";

/// Row numbers by file number.
pub type Rows = HashMap<usize, RoaringTreemap>;

/// What to read of a table.
#[derive(Clone)]
pub struct Scan {
    table: Table,
    files: Vec<usize>,
    which: Which,
    addresses: bool,
    /// The rows to look at, by file.
    within: Option<Arc<HashMap<usize, RowSelection>>>,
}

/// Which rows of its files a scan reads.
#[derive(Clone)]
enum Which {
    /// Those that are alive, but for some.
    Live { vectors: Arc<vectors::Known>, but: Arc<Rows> },
    /// These.
    Only(Arc<Rows>),
}

impl Scan {
    /// The live rows of `files`. Vectors are read when the scan is planned, for the files that it has by then.
    pub fn new(table: &Table, files: Vec<usize>) -> Scan {
        Scan::without(table, files, Rows::new())
    }

    /// All live rows.
    pub fn all(table: &Table) -> Scan {
        Scan::new(table, (0..table.files.len()).collect())
    }

    /// The live rows of `files` but for `rows`.
    pub fn without(table: &Table, files: Vec<usize>, rows: Rows) -> Scan {
        Scan::of(table, files, Which::Live { vectors: Arc::default(), but: Arc::new(rows) })
    }

    /// Just these `rows`.
    pub fn only(table: &Table, rows: Rows) -> Scan {
        Scan::of(table, rows.keys().copied().collect(), Which::Only(Arc::new(rows)))
    }

    fn of(table: &Table, files: Vec<usize>, which: Which) -> Scan {
        Scan { table: table.clone(), files, which, addresses: false, within: None }
    }

    /// The numbers of the files that it reads.
    pub fn files(&self) -> &[usize] {
        &self.files
    }

    /// The same rows, each with its address in the columns [`FILE`] and [`ROW`].
    pub fn with_addresses(mut self) -> Scan {
        self.addresses = true;
        self
    }

    /// The same rows but for those of files in which no row can match `filters`.
    pub fn matching(mut self, filters: &[Expr], session: &dyn Session) -> DataFusionResult<Scan> {
        self.files = that_may_match(&self.table, &self.files, filters, session)?;
        Ok(self)
    }

    /// Of the same rows those that `rows` selects, and all of files that are missing there.
    pub fn within(mut self, rows: HashMap<usize, RowSelection>) -> Scan {
        self.within = Some(Arc::new(rows));
        self
    }

    /// The rows to leave out, by file.
    async fn left_out(&self) -> Result<Rows> {
        match &self.which {
            Which::Live { vectors, but } => {
                let mut dead = vectors.read(&self.table, &self.files).await?;
                for (file, rows) in but.iter() {
                    *dead.entry(*file).or_default() |= rows;
                }
                Ok(dead)
            }
            Which::Only(rows) => {
                let others = |&file: &usize| {
                    let mut others = RoaringTreemap::new();
                    others.insert_range(0..physical_rows(&self.table.files[file])?);
                    if let Some(rows) = rows.get(&file) {
                        others -= rows;
                    }
                    Ok((file, others))
                };
                self.files.iter().map(others).collect()
            }
        }
    }

    /// The columns that the scan has: the table's in table order, then the address.
    pub fn schema(&self) -> SchemaRef {
        let mut fields: Vec<_> = self.table.schema.fields().iter().cloned().collect();
        if self.addresses {
            fields.push(Arc::new(Field::new(FILE, DataType::Int32, true)));
            fields.push(Arc::new(Field::new(ROW, DataType::Int64, true)));
        }
        Arc::new(Schema::new(fields))
    }

    /// A plan of at most `partitions` streams; within one file rows come in file order. It can be executed once (E-10).
    ///
    /// `columns` are numbers in [`Scan::schema`]. `runtime` is where the plan will run.
    pub async fn plan(
        &self,
        columns: Option<&Vec<usize>>,
        limit: Option<usize>,
        partitions: usize,
        runtime: &RuntimeEnv,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = &self.table;
        let (partition_fields, file_fields): (Vec<_>, Vec<_>) =
            table.schema.fields().iter().cloned().partition(|f| table.is_partition_column(f.name()));
        let mut constants = partition_fields.clone();
        constants.push(Arc::new(Field::new(FILE, DataType::Int32, true)));
        let file_schema = Arc::new(Schema::new(file_fields));
        let mut builder = TableSchema::builder(Arc::clone(&file_schema)).with_table_partition_cols(constants);
        if self.addresses {
            let row = Field::new(ROW, DataType::Int64, true).with_extension_type(RowNumber);
            builder = builder.with_virtual_columns(vec![Arc::new(row)]);
        }
        let layout = builder.build();
        let left_out = self.left_out().await?;
        let mut groups = vec![vec![]; partitions.clamp(1, self.files.len().max(1))];
        let count = groups.len();
        // neighbours in key order share a group, so that one stream's files follow each other
        let per_group = self.files.len().div_ceil(count).max(1);
        for (i, &file) in self.files.iter().enumerate() {
            groups[i / per_group].push(self.partitioned(file, left_out.get(&file), &partition_fields, &file_schema)?);
        }
        let own = self.schema();
        let wanted: Vec<usize> = columns.cloned().unwrap_or_else(|| (0..own.fields().len()).collect());
        let projection = wanted
            .iter()
            .map(|&i| layout.table_schema().index_of(own.field(i).name()).map_err(Error::from))
            .collect::<Result<Vec<_>>>()?;
        let readers = readers(table, runtime.cache_manager.get_file_metadata_cache());
        let readers = Accounted { readers, pool: Arc::clone(&runtime.memory_pool) };
        let source = ParquetSource::new(layout)
            .with_table_parquet_options(parquet_options())
            .with_parquet_file_reader_factory(Arc::new(readers))
            // what they say is in the rows to look at
            .with_bloom_filter_on_read(self.within.is_none());
        let source: Arc<dyn FileSource> = match self.files.len() {
            ..=MANY => Arc::new(source),
            _ => Arc::new(ManyFiles::new(source)),
        };
        let config = FileScanConfigBuilder::new(store_url(table)?, source)
            .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
            .with_limit(limit)
            .with_projection_indices(Some(projection))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn partitioned(
        &self,
        number: usize,
        left_out: Option<&RoaringTreemap>,
        partition_fields: &[Arc<Field>],
        file_schema: &Schema,
    ) -> Result<PartitionedFile> {
        let file = &self.table.files[number];
        let mut partitioned = PartitionedFile::new_from_meta(object(&self.table, file)?);
        let values = file.partition_values_map();
        for field in partition_fields {
            let text = values.get(field.name()).cloned().flatten();
            partitioned.partition_values.push(partition_value(text.as_deref(), field.data_type())?);
        }
        let file_number = i32::try_from(number).map_err(|_| Error::definite("a table of more than 2^31 files"))?;
        partitioned.partition_values.push(ScalarValue::Int32(Some(file_number)));
        let alive = left_out.map(|rows| Ok::<_, Error>(all_but(rows, physical_rows(file)?))).transpose()?;
        let within = self.within.as_ref().and_then(|within| within.get(&number));
        let selection = match (alive, within) {
            (Some(alive), Some(within)) => Some(alive.intersection(within)),
            (alive, within) => alive.or_else(|| within.cloned()),
        };
        if let Some(selection) = selection {
            partitioned = partitioned.with_extension(ParquetRowSelection::new(selection));
        }
        Ok(partitioned.with_statistics(Arc::new(statistics(file, file_schema))))
    }
}

/// Time stamps of 96 bits, which Spark writes, are read in microseconds: in nanoseconds, as they are kept, those before 1677
/// and after 2262 do not fit into 64 bits.
fn parquet_options() -> TableParquetOptions {
    let mut options = TableParquetOptions::default();
    options.global.coerce_int96 = Some("us".into());
    options.global.coerce_int96_tz = Some("UTC".into());
    options
}

/// Readers of a table's data files that read no footer which is in `footers`.
pub fn readers(table: &Table, footers: Arc<FileMetadataCache>) -> Arc<dyn ParquetFileReaderFactory> {
    Arc::new(CachedParquetFileReaderFactory::new(table.log.root_object_store(None), footers))
}

/// What rules a whole file out without opening it. Never exact: DataFusion would put an exact bound in a row's place
/// (T-A1).
fn statistics(file: &LogicalFileView, schema: &Schema) -> Statistics {
    let bounds = Bounds::of(file);
    let mut statistics = Statistics::new_unknown(schema);
    for (column, field) in statistics.column_statistics.iter_mut().zip(schema.fields()) {
        if let Some((least, most)) = bounds.column(field) {
            column.min_value = Precision::Inexact(least);
            column.max_value = Precision::Inexact(most);
        }
    }
    statistics
}

/// The smallest and largest values that the log says of one file.
pub struct Bounds {
    least: Option<StructData>,
    most: Option<StructData>,
}

impl Bounds {
    pub fn of(file: &LogicalFileView) -> Bounds {
        let columns = |bounds| match bounds {
            Some(Scalar::Struct(columns)) => Some(columns),
            _ => None,
        };
        Bounds { least: columns(file.min_values()), most: columns(file.max_values()) }
    }

    /// The bounds of a column, or wider ones; `None` where the log does not say or is not to be trusted.
    pub fn column(&self, field: &Field) -> Option<(ScalarValue, ScalarValue)> {
        if !has_sound_bounds(field.data_type()) {
            return None;
        }
        Some((bound(self.least.as_ref()?, field)?, bound(self.most.as_ref()?, field)?))
    }
}

fn bound(columns: &StructData, field: &Field) -> Option<ScalarValue> {
    let at = columns.fields().iter().position(|f| f.name() == field.name())?;
    Some(match (&columns.values()[at], field.data_type()) {
        (Scalar::Byte(v), DataType::Int8) => ScalarValue::Int8(Some(*v)),
        (Scalar::Short(v), DataType::Int16) => ScalarValue::Int16(Some(*v)),
        (Scalar::Integer(v), DataType::Int32) => ScalarValue::Int32(Some(*v)),
        (Scalar::Long(v), DataType::Int64) => ScalarValue::Int64(Some(*v)),
        (Scalar::Float(v), DataType::Float32) => ScalarValue::Float32(Some(*v)),
        (Scalar::Double(v), DataType::Float64) => ScalarValue::Float64(Some(*v)),
        (Scalar::String(v), DataType::Utf8) => ScalarValue::Utf8(Some(v.clone())),
        (Scalar::Date(v), DataType::Date32) => ScalarValue::Date32(Some(*v)),
        (Scalar::Timestamp(v) | Scalar::TimestampNtz(v), DataType::Timestamp(_, zone)) => {
            ScalarValue::TimestampMicrosecond(Some(*v), zone.clone())
        }
        (Scalar::Decimal(v), DataType::Decimal128(precision, scale)) => {
            ScalarValue::Decimal128(Some(v.bits()), *precision, *scale)
        }
        _ => return None,
    })
}

/// A partition value as the log keeps it: an empty text is NULL (Delta protocol, *Partition Value Serialization*).
pub fn partition_value(text: Option<&str>, data_type: &DataType) -> Result<ScalarValue> {
    match text {
        None | Some("") => Ok(ScalarValue::try_new_null(data_type)?),
        Some(text) => Ok(ScalarValue::try_from_string(text.to_string(), data_type)?),
    }
}

/// A selection of all `rows` but `dead`.
pub fn all_but(dead: &RoaringTreemap, rows: u64) -> RowSelection {
    let length = |from: u64, to: u64| usize::try_from(to - from).unwrap_or(usize::MAX);
    let (mut selectors, mut next) = (vec![], 0);
    for row in dead {
        match selectors.last_mut() {
            Some(RowSelector { row_count, skip: true }) if row == next => *row_count += 1,
            _ => {
                if row > next {
                    selectors.push(RowSelector::select(length(next, row)));
                }
                selectors.push(RowSelector::skip(1));
            }
        }
        next = row + 1;
    }
    if rows > next {
        selectors.push(RowSelector::select(length(next, rows)));
    }
    RowSelection::from(selectors)
}

/// The store that DataFusion knows the table's files under.
fn store_url(table: &Table) -> Result<ObjectStoreUrl> {
    let root = table.log.root_url();
    let text = match root.host_str() {
        Some(host) => format!("{}://{host}", root.scheme()),
        None => format!("{}://", root.scheme()),
    };
    Ok(ObjectStoreUrl::parse(text)?)
}

/// A data file as it lies in the root of its store.
pub fn object(table: &Table, file: &LogicalFileView) -> Result<ObjectMeta> {
    Ok(ObjectMeta {
        location: full_path(table, file)?,
        last_modified: file.modification_datetime()?,
        size: u64::try_from(file.size()).unwrap_or_default(),
        e_tag: None,
        version: None,
    })
}

/// A file's path from the root of its store.
fn full_path(table: &Table, file: &LogicalFileView) -> Result<Path> {
    if file.path().contains("://") {
        return Err(Error::definite(format!(
            "{}: a data file outside of its table (a shallow clone) is not read",
            file.path()
        )));
    }
    let root = Path::from_url_path(table.log.root_url().path()).map_err(Error::definite)?;
    let path = format!("{root}/{}", file.object_store_path());
    Path::parse(&path).map_err(|e| Error::definite(format!("{path}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_skips_just_the_dead_rows() {
        let selection = all_but(&RoaringTreemap::from_iter([0, 1, 5]), 7);
        let kept: Vec<_> = selection.iter().map(|s| (s.skip, s.row_count)).collect();
        assert_eq!(kept, [(true, 2), (false, 3), (true, 1), (false, 1)]);
    }
}
