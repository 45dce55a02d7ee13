//! Which rows of a data file may hold a key: row groups by their bounds and their Bloom filters, pages by their bounds.
//!
//! DataFusion knows but the smallest and the largest of the keys, which rules nothing out where they are spread over
//! the table; here each key is looked for by itself.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, DynComparator, RecordBatch, make_comparator};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_datasource::PartitionedFile;
use datafusion_datasource_parquet::ParquetFileReaderFactory;
use deltalake::parquet::arrow::ParquetRecordBatchStreamBuilder;
use deltalake::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use deltalake::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector};
use deltalake::parquet::arrow::async_reader::AsyncFileReader;
use deltalake::parquet::bloom_filter::Sbbf;
use deltalake::parquet::file::metadata::PageIndexPolicy;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use super::bloom;
use crate::engine::Engine;
use crate::error::{At, Error, Result};
use crate::lake::scan;
use crate::lake::table::Table;
use crate::storage::parquet::TAIL;

/// Files, and row groups of each, that are looked into at once.
const FILES: usize = 16;
const GROUPS: usize = 8;

/// Where keys may lie.
#[derive(Default)]
pub struct Within {
    pub files: Vec<usize>,
    /// The rows to look at, by file; all rows of a file that is missing here.
    pub rows: HashMap<usize, RowSelection>,
}

/// Keys that are looked for in the files of a table.
pub struct Search<'a> {
    table: &'a Table,
    readers: Arc<dyn ParquetFileReaderFactory>,
    /// The columns of the key. The rows are sorted by them.
    columns: Vec<(&'a str, ArrayRef)>,
    /// So many of them, with which the key begins, are equal in all keys that a file may hold.
    leading: usize,
    /// The numbers of all keys.
    keys: Vec<usize>,
    /// In how many files' bounds a key lies on average.
    overlap: f64,
}

impl<'a> Search<'a> {
    /// A search for the rows of `keys`, sorted by the columns `key`, of which so many `leading` ones tell the partition.
    pub fn new(
        engine: &Engine,
        table: &'a Table,
        key: &'a [String],
        leading: usize,
        keys: &RecordBatch,
        overlap: f64,
    ) -> Result<Search<'a>> {
        let column = |name: &'a String| {
            let values = keys.column_by_name(name).cloned();
            Ok((name.as_str(), values.ok_or_else(|| Error::definite(format!("key column {name} was lost")))?))
        };
        let columns = key.iter().map(column).collect::<Result<Vec<_>>>()?;
        let readers = scan::readers(table, engine.footers());
        Ok(Search { table, readers, columns, leading, keys: (0..keys.num_rows()).collect(), overlap })
    }

    /// Where in `files` the keys may lie, each of which may hold the keys of a range.
    pub async fn within(&self, files: Vec<(usize, Range<usize>)>) -> Result<Within> {
        let Some((first, values)) = self.columns.get(self.leading).filter(|(_, values)| values.null_count() == 0)
        else {
            let files = files.into_iter().map(|(file, _)| file).collect();
            return Ok(Within { files, rows: HashMap::new() });
        };
        let in_files = futures::stream::iter(files)
            .map(|(file, keys)| async move {
                Ok::<_, Error>((file, self.in_file(file, &self.keys[keys], first, values).await?))
            })
            .buffered(FILES)
            .try_collect::<Vec<_>>()
            .await?;
        let mut within = Within::default();
        for (file, rows) in in_files {
            if rows.as_ref().is_none_or(RowSelection::selects_any) {
                within.files.push(file);
                within.rows.extend(rows.map(|rows| (file, rows)));
            }
        }
        Ok(within)
    }

    /// The rows of a file that may hold one of `keys`, which are sorted by their column `first`, or `None` for all rows.
    async fn in_file(
        &self,
        file: usize,
        keys: &[usize],
        first: &str,
        values: &ArrayRef,
    ) -> Result<Option<RowSelection>> {
        let object = scan::object(self.table, &self.table.files[file])?;
        // the types as Parquet has them: what a hash is of does not depend on what another writer reads them as
        let options =
            ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional).with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load_async(&mut self.open(&object)?, options).await;
        let opened = Opened { metadata: metadata.at(|| object.location.to_string())?, object };
        let Some(column) = opened.column(first, values.data_type()) else { return Ok(None) };
        let metadata = opened.metadata.metadata();
        let field = Field::new(first, values.data_type().clone(), true);
        let converter =
            StatisticsConverter::from_column_index(column, &field, metadata.file_metadata().schema_descr())?;
        let groups = metadata.row_groups();
        let bounds = Bounds::new(values, converter.row_group_mins(groups)?, converter.row_group_maxes(groups)?)?;
        let (opened, converter, bounds) = (&opened, &converter, &bounds);
        let selectors = futures::stream::iter(0..groups.len())
            .map(|group| self.in_group(opened, converter, group, bounds.within(keys, group), values))
            .buffered(GROUPS)
            .try_concat()
            .await?;
        let looked_at: usize = selectors.iter().filter(|rows| !rows.skip).map(|rows| rows.row_count).sum();
        let rows = metadata.file_metadata().num_rows();
        tracing::debug!("{}: {looked_at} of {rows} rows may hold a key", opened.object.location);
        Ok(selectors.iter().any(|rows| rows.skip).then(|| RowSelection::from(selectors)))
    }

    /// The rows of a row group that may hold one of `keys`, which are those in its bounds.
    async fn in_group(
        &self,
        opened: &Opened,
        converter: &StatisticsConverter<'_>,
        group: usize,
        keys: &[usize],
        values: &ArrayRef,
    ) -> Result<Vec<RowSelector>> {
        let metadata = opened.metadata.metadata();
        let rows = usize::try_from(metadata.row_group(group).num_rows()).unwrap_or_default();
        if keys.is_empty() || rows == 0 {
            return Ok(vec![RowSelector::skip(rows)]);
        }
        let index = metadata.column_index().zip(metadata.offset_index()).filter(|(_, places)| {
            let column = converter.parquet_column_index();
            column.is_some_and(|column| !places[group][column].page_locations().is_empty())
        });
        let Some((bounds, places)) = index else {
            let found = self.by_filters(opened, group, keys, 1).await;
            let all = if found.is_empty() { RowSelector::skip(rows) } else { RowSelector::select(rows) };
            return Ok(vec![all]);
        };
        let mins = converter.data_page_mins(bounds, places, [&group])?;
        let found = self.by_filters(opened, group, keys, mins.len()).await;
        let bounds = Bounds::new(values, mins, converter.data_page_maxes(bounds, places, [&group])?)?;
        let counts = converter.data_page_row_counts(places, metadata.row_groups(), [&group])?;
        let counts =
            counts.ok_or_else(|| Error::definite(format!("{}: pages without rows", opened.object.location)))?;
        let page = |(page, rows): (usize, &u64)| {
            let rows = usize::try_from(*rows).unwrap_or_default();
            let is_empty = bounds.within(&found, page).is_empty();
            if is_empty { RowSelector::skip(rows) } else { RowSelector::select(rows) }
        };
        Ok(counts.values().iter().enumerate().map(page).collect())
    }

    /// Those of `keys` that no Bloom filter excludes. A filter is read where it is likely to spare pages: if keys lie in
    /// the bounds of several files, and if fewer of them are to be expected in the row group than it has pages.
    async fn by_filters(&self, opened: &Opened, group: usize, keys: &[usize], pages: usize) -> Vec<usize> {
        let mut keys = keys.to_vec();
        if self.overlap < 2.0 || keys.len() as f64 / self.overlap > pages as f64 {
            return keys;
        }
        let descriptor = opened.metadata.metadata().file_metadata().schema_descr();
        for (name, values) in &self.columns {
            let Some(column) = opened.column(name, values.data_type()) else { continue };
            if let Some(filter) = self.filter(opened, group, column).await {
                let of = descriptor.column(column);
                keys.retain(|&key| bloom::may_hold(&filter, &of, values, key));
            }
        }
        keys
    }

    /// The filter of a column in a row group, if there is one that can be read.
    async fn filter(&self, opened: &Opened, group: usize, column: usize) -> Option<Sbbf> {
        opened.metadata.metadata().row_group(group).column(column).bloom_filter_offset()?;
        let reader = self.open(&opened.object).ok()?;
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, opened.metadata.clone());
        builder.get_row_group_column_bloom_filter(group, column).await.unwrap_or_else(|error| {
            tracing::debug!("{}: a Bloom filter cannot be read and excludes nothing: {error}", opened.object.location);
            None
        })
    }

    fn open(&self, object: &ObjectMeta) -> Result<Box<dyn AsyncFileReader>> {
        let file = PartitionedFile::new_from_meta(object.clone());
        Ok(self.readers.create_reader(0, file, Some(TAIL), &ExecutionPlanMetricsSet::new())?)
    }
}

/// A file and its footer.
struct Opened {
    object: ObjectMeta,
    metadata: ArrowReaderMetadata,
}

impl Opened {
    /// The number of a column in the file, if it keeps values of a type there as a new file would, but for the length
    /// of decimals.
    fn column(&self, name: &str, data_type: &DataType) -> Option<usize> {
        let field = self.metadata.schema().field_with_name(name).ok()?;
        let is_same = match (field.data_type(), data_type) {
            (DataType::Decimal128(_, scale), DataType::Decimal128(_, wanted)) => scale == wanted,
            (DataType::Timestamp(unit, _), DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                *unit == TimeUnit::Microsecond
            }
            (found, wanted) => found == wanted,
        };
        let columns = self.metadata.metadata().file_metadata().schema_descr().columns();
        columns.iter().position(|column| column.path().parts() == [name]).filter(|_| is_same)
    }
}

/// The smallest and largest values of row groups or pages, beside which keys are held.
struct Bounds {
    least: ArrayRef,
    most: ArrayRef,
    key_to_least: DynComparator,
    key_to_most: DynComparator,
}

impl Bounds {
    fn new(keys: &ArrayRef, least: ArrayRef, most: ArrayRef) -> Result<Bounds> {
        let key_to_least = make_comparator(keys, &least, SortOptions::default())?;
        let key_to_most = make_comparator(keys, &most, SortOptions::default())?;
        Ok(Bounds { least, most, key_to_least, key_to_most })
    }

    /// Those of `keys`, numbers in the order of their values, that lie in the bounds of a place; an unknown bound
    /// excludes none.
    fn within<'k>(&self, keys: &'k [usize], place: usize) -> &'k [usize] {
        let keys = match self.least.is_null(place) {
            true => keys,
            false => &keys[keys.partition_point(|&key| (self.key_to_least)(key, place).is_lt())..],
        };
        match self.most.is_null(place) {
            true => keys,
            false => &keys[..keys.partition_point(|&key| (self.key_to_most)(key, place).is_le())],
        }
    }
}
