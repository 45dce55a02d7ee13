//! New data files: how a table's rows lie in them, and the writer that fills them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::partition;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::scalar::ScalarValue;
use deltalake::kernel::Add;
use deltalake::logstore::LogStoreRef;
use deltalake::parquet::basic::Compression;
use deltalake::parquet::file::metadata::ParquetMetaData;
use deltalake::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use deltalake::parquet::file::writer::SerializedRowGroupWriter;
use deltalake::parquet::schema::types::ColumnPath;
use futures::TryStreamExt;

use super::bloom;
use super::data_file::{DataFile, RowGroup};
use super::sort;
use super::upserts::Upserts;
use crate::allocator;
use crate::dms::metadata::MetadataColumn;
use crate::engine::Engine;
use crate::error::{At, Error, Result};
use crate::lake::TableType;
use crate::lake::create::statistics_columns;
use crate::lake::layers;
use crate::lake::stats;
use crate::lake::table::Table;

/// A file is closed when it has about this many bytes.
const FILE_BYTES: usize = 128 << 20;
/// Files below this are small: they are written again together rather than each by itself.
const SMALL: u64 = 32 << 20;

/// A test may make it nothing, to see what becomes of large files without writing any; release builds have no such door.
pub fn small() -> u64 {
    #[cfg(debug_assertions)]
    if let Some(bytes) = std::env::var("LAKEMERGE_TEST_SMALL").ok().and_then(|text| text.parse().ok()) {
        return bytes;
    }
    SMALL
}

/// Rows of a row group: small enough that a point look-up or a copied row group is cheap.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Bytes of a row group's rows before they are encoded, about: who rewrites one holds as much of it in memory.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// The same where memory is scarce: what is encoded of a group stands beside the file that it is appended to.
pub fn row_group_bytes() -> usize {
    allocator::fewer(ROW_GROUP_BYTES)
}

/// A dictionary of more bytes is given up for the rest of its row group: a column of so many values gains nothing by it.
pub const DICTIONARY_BYTES: usize = 256 << 10;
/// What a dictionary takes from the beginning on, before it has a value.
const DICTIONARY_MEMORY: usize = 74 << 10;
/// Bytes of a page of a key's column, a few thousand keys: who looks for one key unpacks a whole page of them. Pages of all
/// columns as small would make the index of pages several times as large, which every run reads.
const KEY_PAGE_BYTES: usize = 32 << 10;

/// How a table's rows lie in its files.
#[derive(Clone)]
pub struct Layout {
    pub log: LogStoreRef,
    /// All columns, in table order.
    pub schema: SchemaRef,
    pub key: Vec<String>,
    pub partition_by: Vec<String>,
    pub table_type: TableType,
    /// How many of the columns are the source's; those behind them lakemerge adds.
    pub source_columns: usize,
    /// Those of the source's columns that tell of the change and not of the row, because the task adds them.
    pub of_change: Arc<[usize]>,
    /// Where row groups that are being written account for their memory.
    pub memory: Arc<dyn MemoryPool>,
    /// How many threads encode them.
    pub threads: usize,
}

/// Rows in memory of at least this many bytes are worth a file of their own.
const SHARE_BYTES: usize = 32 << 20;

/// Writes `rows` into files of their own, at most as many at once as there are threads; half as many where memory is scarce.
pub async fn append(layout: &Layout, rows: Upserts) -> Result<Vec<Add>> {
    let shares = (rows.bytes() / SHARE_BYTES).clamp(1, allocator::fewer(layout.threads));
    let share = rows.count().div_ceil(shares).max(1);
    let writes = (0..rows.count()).step_by(share).map(|start| {
        let (layout, rows) = (layout.clone(), rows.clone());
        SpawnedTask::spawn(async move {
            let mut writer = Writer::among_others(&layout);
            for batch in rows.chunks_of(&layout, start..rows.count().min(start + share)) {
                writer.write(&batch?).await?;
            }
            writer.close().await
        })
    });
    let writes = futures::future::join_all(writes.map(SpawnedTask::join));
    // each share has its rows until it is written, and nothing else may keep them
    drop(rows);
    let mut added = vec![];
    for written in writes.await {
        added.extend(written??);
    }
    // each file is a layer already, but they follow one another
    layers::mark(&mut added);
    Ok(added)
}

impl Layout {
    /// True if a row that the source deletes stays, marked.
    pub fn keeps_deleted(&self) -> bool {
        let deleted = MetadataColumn::Deleted.name();
        self.schema.fields().get(self.source_columns).is_some_and(|field| field.name() == deleted)
    }

    /// True if a column has its value from the last change, also where that says nothing else of the row.
    pub fn tells_of_change(&self, column: usize) -> bool {
        column >= self.source_columns || self.of_change.contains(&column)
    }

    /// Rows of `values` with the columns of `origins` that tell of the change.
    pub fn with_metadata_of(&self, values: &RecordBatch, origins: &RecordBatch) -> Result<RecordBatch> {
        let of = |column: usize| if self.tells_of_change(column) { origins } else { values };
        let columns = (0..self.schema.fields().len()).map(|column| Arc::clone(of(column).column(column)));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns.collect())?)
    }

    pub fn key_numbers(&self) -> impl Iterator<Item = usize> + '_ {
        self.numbers(&self.key)
    }

    pub fn key_fields(&self) -> Vec<FieldRef> {
        self.key_numbers().map(|i| Arc::clone(&self.schema.fields()[i])).collect()
    }

    pub fn key_columns(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.key_numbers().map(|i| Arc::clone(batch.column(i))).collect()
    }

    pub fn partition_numbers(&self) -> impl Iterator<Item = usize> + '_ {
        self.numbers(&self.partition_by)
    }

    /// The numbers of the columns that rows are sorted by: the partition's, then the key's.
    pub fn sort_columns(&self) -> impl Iterator<Item = usize> + '_ {
        let key = self.key.iter().filter(|name| !self.partition_by.contains(name));
        self.partition_by.iter().chain(key).filter_map(|name| self.schema.index_of(name).ok())
    }

    /// How many sorts run beside each other: rows that come by key are sorted once more to come by partition.
    pub fn sorts_at_once(&self) -> usize {
        if self.partition_by.is_empty() { 1 } else { 2 }
    }

    /// The columns that lie in files: all but the partition's.
    pub fn file_schema(&self) -> SchemaRef {
        let fields: Vec<_> = self.file_columns().map(|i| Arc::clone(&self.schema.fields()[i])).collect();
        Arc::new(Schema::new(fields))
    }

    fn file_columns(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.schema.fields().len()).filter(|&i| !self.partition_by.contains(self.schema.field(i).name()))
    }

    /// The action that adds a new file.
    pub fn added(
        &self,
        path: String,
        partition_values: HashMap<String, Option<String>>,
        size: usize,
        footer: &ParquetMetaData,
    ) -> Result<Add> {
        let columns = statistics_columns(&self.schema, &self.partition_by, &self.key);
        Ok(Add {
            path,
            partition_values,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            modification_time: chrono::Utc::now().timestamp_millis(),
            data_change: true,
            stats: Some(stats::of_file(footer, &self.file_schema(), &columns)?),
            ..Add::default()
        })
    }

    fn numbers<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = usize> + 'a {
        names.iter().filter_map(|name| self.schema.index_of(name).ok())
    }
}

/// Writes rows that come by partition into files of bounded size. A file that is not committed is nothing: vacuum
/// takes it.
pub struct Writer<'a> {
    layout: &'a Layout,
    /// The columns that lie in the files: all but the partition's.
    columns: Vec<usize>,
    file_schema: SchemaRef,
    /// The columns that get Bloom filters.
    filters: Vec<ColumnPath>,
    open: Option<OpenFile>,
    written: Vec<Add>,
}

struct OpenFile {
    partition: Vec<ScalarValue>,
    file: DataFile,
    /// The row group that is being filled, if there is one.
    group: Option<RowGroup>,
    reserved: MemoryReservation,
}

impl OpenFile {
    /// Writes `rows`; a row group for which there is no more memory ends early.
    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut rest = rows.clone();
        while rest.num_rows() > 0 {
            let group = match &mut self.group {
                Some(group) => group,
                None => self.group.insert(self.file.row_group(&rest)?),
            };
            let count = group.push(&rest).await?;
            rest = rest.slice(count, rest.num_rows() - count);
            if group.is_full() || self.reserved.try_resize(group.memory()).is_err() {
                self.end_group().await?;
            }
        }
        Ok(())
    }

    async fn end_group(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let chunks = group.finish().await?;
        let bytes = chunks.iter().map(|chunk| chunk.close().bytes_written).sum();
        let fill = |to: &mut SerializedRowGroupWriter<'_, _>| {
            chunks.into_iter().try_for_each(|chunk| chunk.append_to_row_group(to))
        };
        self.file.append(bytes, fill).await?;
        self.reserved.free();
        Ok(())
    }
}

impl<'a> Writer<'a> {
    pub fn new(layout: &'a Layout) -> Writer<'a> {
        let columns = layout.file_columns().collect();
        let file_schema = layout.file_schema();
        Writer { columns, file_schema, layout, filters: vec![], open: None, written: vec![] }
    }

    /// A writer of files whose keys lie among those of other files, so that bounds do not tell them apart.
    pub fn among_others(layout: &'a Layout) -> Writer<'a> {
        let writer = Writer::new(layout);
        Writer { filters: bloom::columns(&writer.file_schema, &layout.key), ..writer }
    }

    /// A writer of files that stand in the place of some of `table`'s.
    pub fn instead_of(files: &[usize], table: &Table, layout: &'a Layout) -> Writer<'a> {
        if files.len() == table.files.len() { Writer::new(layout) } else { Writer::among_others(layout) }
    }

    /// Appends `batch`, whose columns are the table's.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        for rows in self.partitions(batch)? {
            let slice = batch.slice(rows.start, rows.len());
            let partition = self.partition_of(&slice)?;
            if self.open.as_ref().is_some_and(|file| file.partition != partition) {
                self.finish_file().await?;
            }
            if self.open.is_none() {
                self.open = Some(self.start(partition)?);
            }
            let columns = self.columns.iter().map(|&i| Arc::clone(slice.column(i))).collect();
            let slice = RecordBatch::try_new(Arc::clone(&self.file_schema), columns)?;
            if let Some(open) = &mut self.open {
                open.write(&slice).await?;
                if open.file.bytes() >= FILE_BYTES {
                    self.finish_file().await?;
                }
            }
        }
        Ok(())
    }

    /// Writes `rows`, whose columns are the table's, by partition and key.
    pub async fn write_sorted(&mut self, engine: &Engine, rows: SendableRecordBatchStream) -> Result<()> {
        let by: Vec<_> = self.layout.sort_columns().collect();
        self.write_all(sort::sorted(engine, self.layout, &by, rows).await?).await
    }

    /// Writes `rows`, whose columns are the table's and which come by partition.
    pub async fn write_all(&mut self, mut rows: SendableRecordBatchStream) -> Result<()> {
        while let Some(batch) = rows.try_next().await? {
            self.write(&batch).await?;
        }
        Ok(())
    }

    /// Ends the file being written, if there is one.
    async fn finish_file(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.end_group().await?;
        let names = &self.layout.partition_by;
        let values = names.iter().zip(&open.partition).map(|(name, value)| Ok((name.clone(), partition_text(value)?)));
        let values = values.collect::<Result<HashMap<_, _>>>()?;
        self.written.push(open.file.finish(self.layout, values).await?);
        Ok(())
    }

    /// Ends the last file and gives the actions that add all of them.
    pub async fn close(mut self) -> Result<Vec<Add>> {
        self.finish_file().await?;
        layers::mark(&mut self.written);
        Ok(self.written)
    }

    fn start(&self, partition: Vec<ScalarValue>) -> Result<OpenFile> {
        let names = self.layout.partition_by.iter().zip(&partition);
        let folders = names.map(|(name, value)| folder(name, value)).collect::<Result<String>>()?;
        let properties = properties(&self.layout.key).set_dictionary_enabled(self.has_room_for_dictionaries());
        let properties = self.filters.iter().cloned().fold(properties, bloom::with_filters).build();
        let file = DataFile::create(self.layout, &folders, properties)?;
        let reserved = MemoryConsumer::new("row group").register(&self.layout.memory);
        Ok(OpenFile { partition, file, group: None, reserved })
    }

    /// Whether the dictionaries of all columns have room beside what is encoded.
    fn has_room_for_dictionaries(&self) -> bool {
        match self.layout.memory.memory_limit() {
            MemoryLimit::Finite(bytes) => self.columns.len() * DICTIONARY_MEMORY <= bytes / 3,
            _ => true,
        }
    }

    fn partitions(&self, batch: &RecordBatch) -> Result<Vec<Range<usize>>> {
        if batch.num_rows() == 0 {
            return Ok(vec![]);
        }
        let columns: Vec<_> = self.layout.partition_numbers().map(|i| Arc::clone(batch.column(i))).collect();
        if columns.is_empty() {
            return Ok(std::iter::once(0..batch.num_rows()).collect());
        }
        Ok(partition(&columns)?.ranges())
    }

    fn partition_of(&self, rows: &RecordBatch) -> Result<Vec<ScalarValue>> {
        let numbers = self.layout.partition_numbers();
        Ok(numbers.map(|i| ScalarValue::try_from_array(rows.column(i), 0)).collect::<Result<Vec<_>, _>>()?)
    }
}

/// How files of a table with this `key` are written.
pub fn properties(key: &[String]) -> WriterPropertiesBuilder {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_statistics_truncate_length(Some(stats::TRUNCATED_AT))
        .set_created_by(concat!("lakemerge ", env!("CARGO_PKG_VERSION")).to_string());
    let in_key = key.iter().map(|name| ColumnPath::from(name.as_str()));
    // no value of a column that is a key by itself comes twice
    let repeats = key.len() > 1;
    in_key.fold(properties, |properties, column| {
        properties
            .set_column_dictionary_enabled(column.clone(), repeats)
            .set_column_data_page_size_limit(column, KEY_PAGE_BYTES)
    })
}

/// A partition value as the log keeps it (Delta protocol, *Partition Value Serialization*).
fn partition_text(value: &ScalarValue) -> Result<Option<String>> {
    if value.is_null() {
        return Ok(None);
    }
    let text = match value.cast_to(&DataType::Utf8)? {
        ScalarValue::Utf8(Some(text)) if text.is_empty() => {
            return Err(Error::definite(
                "a partition column holds an empty text, which Delta keeps as NULL; partition by another column",
            ));
        }
        ScalarValue::Utf8(Some(text)) => text,
        other => {
            return Err(Error::definite(format!("a partition value of type {} has no text form", other.data_type())));
        }
    };
    Ok(Some(match value {
        // a time stamp without zone; one that has a zone says so, or readers would take it for one of theirs
        ScalarValue::TimestampMicrosecond(_, None) => text.replacen('T', " ", 1),
        _ => text,
    }))
}

/// The folder of a partition, in Hive's form: some readers take the value from there. Whatever a URL would write
/// otherwise is `%XX` in the value, which the log then encodes once more; in the name just what a path cannot hold.
fn folder(name: &str, value: &ScalarValue) -> Result<String> {
    let value = match partition_text(value).at(|| format!("column {name}"))? {
        Some(text) => escaped(&text, |c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
        None => "__HIVE_DEFAULT_PARTITION__".to_string(),
    };
    let name = escaped(name, |c| !c.is_ascii_control() && !"\"#%'*/:=?\\{[]^".contains(c));
    Ok(format!("{name}={value}/"))
}

fn escaped(text: &str, is_plain: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            escaped.push(c);
        } else {
            let mut buffer = [0; 4];
            escaped.extend(c.encode_utf8(&mut buffer).bytes().map(|byte| format!("%{byte:02X}")));
        }
    }
    escaped
}
