//! A file without some of its rows, row group by row group: a group that loses none is copied as it is encoded, with its
//! Bloom filters, the others are decoded and encoded again, in the encodings they had, and with filters if they had any.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use deltalake::kernel::Add;
use deltalake::parquet::arrow::ArrowSchemaConverter;
use deltalake::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use deltalake::parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use deltalake::parquet::basic::Encoding;
use deltalake::parquet::bloom_filter::Sbbf;
use deltalake::parquet::column::writer::ColumnCloseResult;
use deltalake::parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};
use deltalake::parquet::file::writer::SerializedFileWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use roaring::RoaringTreemap;
use tokio::io::AsyncWriteExt;

use super::bloom;
use super::write::{self, Layout};
use crate::error::{At, Error, Result};
use crate::lake::scan;
use crate::lake::table::Table;
use crate::lake::vectors;
use crate::storage::parquet::{Stretch, footer, span};

/// Rows decoded and encoded at a time.
const BATCH: usize = 8192;

/// Writes `file` of `table` without the rows `dead`: nothing if none is left. Gives `None` for a file of other columns
/// than a new one would have.
pub async fn without(table: &Table, layout: &Layout, file: usize, dead: &RoaringTreemap) -> Result<Option<Vec<Add>>> {
    let view = &table.files[file];
    let store = table.log.object_store(None);
    let path = view.object_store_path();
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
    let size = u64::try_from(view.size()).unwrap_or_default();
    let footer = Arc::new(footer(reader, store.as_ref(), &path, size).await.at(|| &path)?);
    let schema = layout.file_schema();
    if !same_columns(&footer, &schema)? {
        return Ok(None);
    }
    let mut groups = groups(&footer, dead);
    groups.retain(|group| group.dead.len() < group.rows.len() as u64);
    if groups.is_empty() {
        return Ok(Some(vec![]));
    }
    let copied = groups.iter().filter(|group| group.dead.is_empty()).count();
    tracing::debug!("{path}: copying {copied} of {} row groups", groups.len());
    let folder = path.as_ref().rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let new = write::new_path(&folder);
    let at = Path::parse(&new).map_err(|e| Error::definite(format!("{new}: {e}")))?;
    let mut out = write::upload(Arc::clone(&store), at);
    let mut regrouping = Regrouping::new(Arc::clone(&footer), schema, table.log.object_store(None), path)?;
    for group in groups {
        let bytes = regrouping.fetch(group.number).await?;
        let filters = if group.dead.is_empty() { regrouping.filters(group.number).await? } else { vec![] };
        regrouping = tokio::task::spawn_blocking(move || regrouping.append(&group, bytes, filters)).await??;
        out.put(regrouping.written()).await?;
    }
    let written = regrouping.writer.finish()?;
    let size = regrouping.writer.bytes_written();
    out.put(regrouping.written()).await?;
    out.shutdown().await?;
    let values = view.partition_values_map();
    Ok(Some(vec![layout.added(new, values, size, &written)?]))
}

/// The rows that are dead in a file, those of its vector among them.
pub async fn dead(table: &Table, file: usize, located: &RoaringTreemap) -> Result<RoaringTreemap> {
    Ok(located | vectors::read(table, &[file]).await?.remove(&file).unwrap_or_default())
}

/// A row group, its rows as numbers of the file, and which of them are dead, as numbers of the group.
struct Group {
    number: usize,
    rows: Range<usize>,
    dead: RoaringTreemap,
}

fn groups(footer: &ParquetMetaData, dead: &RoaringTreemap) -> Vec<Group> {
    let mut next = 0;
    let groups = footer.row_groups().iter().enumerate().map(|(number, group)| {
        let rows = next..next + usize::try_from(group.num_rows()).unwrap_or_default();
        next = rows.end;
        let first = rows.start as u64;
        let dead = dead.iter().skip_while(|row| *row < first).take_while(|row| *row < rows.end as u64);
        Group { number, dead: dead.map(|row| row - first).collect(), rows }
    });
    groups.collect()
}

/// True if the file's columns are just those that a new file would have, so that encoded chunks fit.
fn same_columns(footer: &ParquetMetaData, schema: &SchemaRef) -> Result<bool> {
    let new = ArrowSchemaConverter::new().convert(schema)?;
    let old = footer.file_metadata().schema_descr();
    Ok(old.num_columns() == new.num_columns() && old.columns().iter().zip(new.columns()).all(|(old, new)| old == new))
}

struct Regrouping {
    footer: Arc<ParquetMetaData>,
    reading: ArrowReaderMetadata,
    schema: SchemaRef,
    writer: SerializedFileWriter<Vec<u8>>,
    encoders: ArrowRowGroupWriterFactory,
    store: Arc<dyn ObjectStore>,
    path: Path,
}

/// True for a column whose values repeat: all its pages use the dictionary, and the dictionary is small.
fn has_good_dictionary(column: &ColumnChunkMetaData) -> bool {
    let Some(at) = column.dictionary_page_offset() else { return false };
    let bytes = column.data_page_offset() - at;
    let everywhere = column.page_encoding_stats_mask().is_none_or(|mask| mask.is_only(Encoding::RLE_DICTIONARY));
    everywhere && usize::try_from(bytes).is_ok_and(|bytes| bytes < write::DICTIONARY_BYTES)
}

impl Regrouping {
    fn new(
        footer: Arc<ParquetMetaData>,
        schema: SchemaRef,
        store: Arc<dyn ObjectStore>,
        path: Path,
    ) -> Result<Regrouping> {
        let reading = ArrowReaderMetadata::try_new(Arc::clone(&footer), ArrowReaderOptions::new())?;
        let descriptor = ArrowSchemaConverter::new().convert(&schema)?;
        let mut properties = write::properties();
        for column in footer.row_group(0).columns() {
            properties =
                properties.set_column_dictionary_enabled(column.column_path().clone(), has_good_dictionary(column));
            if column.bloom_filter_offset().is_some() {
                properties = bloom::with_filters(properties, column.column_path().clone());
            }
        }
        let writer = SerializedFileWriter::new(vec![], descriptor.root_schema_ptr(), Arc::new(properties.build()))?;
        let encoders = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&schema));
        Ok(Regrouping { footer, reading, schema, writer, encoders, store, path })
    }

    /// What was written since the last call.
    fn written(&mut self) -> Bytes {
        let buffer = self.writer.inner_mut();
        let next = Vec::with_capacity(buffer.len());
        Bytes::from(std::mem::replace(buffer, next))
    }

    /// The bytes of a row group.
    async fn fetch(&self, group: usize) -> Result<Stretch> {
        let span = span(self.footer.row_group(group));
        let bytes = self.store.get_range(&self.path, span.clone()).await?;
        Ok(Stretch { start: span.start, bytes })
    }

    /// The Bloom filters of a row group, by column; those of unknown length are given up.
    async fn filters(&self, group: usize) -> Result<Vec<Option<Sbbf>>> {
        let mut filters = vec![];
        for column in self.footer.row_group(group).columns() {
            let place = column.bloom_filter_offset().zip(column.bloom_filter_length());
            let place = place.and_then(|(at, length)| Some((u64::try_from(at).ok()?, u64::try_from(length).ok()?)));
            filters.push(match place {
                Some((at, length)) => {
                    let bytes = self.store.get_range(&self.path, at..at + length).await?;
                    Some(Sbbf::from_bytes(&bytes)?)
                }
                None => None,
            });
        }
        Ok(filters)
    }

    fn append(mut self, group: &Group, bytes: Stretch, filters: Vec<Option<Sbbf>>) -> Result<Regrouping> {
        if group.dead.is_empty() {
            self.copy(group.number, &bytes, filters)?;
        } else {
            self.encode(group, bytes)?;
        }
        Ok(self)
    }

    fn copy(&mut self, group: usize, bytes: &Stretch, filters: Vec<Option<Sbbf>>) -> Result<()> {
        let metadata = self.footer.row_group(group);
        let mut to = self.writer.next_row_group()?;
        for ((i, column), bloom_filter) in metadata.columns().iter().enumerate().zip(filters) {
            let close = ColumnCloseResult {
                bytes_written: u64::try_from(column.compressed_size()).unwrap_or_default(),
                rows_written: u64::try_from(metadata.num_rows()).unwrap_or_default(),
                metadata: column.clone(),
                bloom_filter,
                column_index: self.footer.column_index().map(|index| index[group][i].clone()),
                offset_index: self.footer.offset_index().map(|index| index[group][i].clone()),
            };
            to.append_column(bytes, close)?;
        }
        to.close()?;
        Ok(())
    }

    fn encode(&mut self, group: &Group, bytes: Stretch) -> Result<()> {
        let rows = group.rows.len() as u64;
        let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, self.reading.clone())
            .with_batch_size(BATCH)
            .with_row_groups(vec![group.number])
            .with_row_selection(scan::all_but(&group.dead, rows))
            .build()?;
        let mut columns = self.encoders.create_column_writers(group.number)?;
        for batch in batches {
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), batch?.columns().to_vec())?;
            let leaves = self.schema.fields().iter().zip(batch.columns());
            for ((field, values), column) in leaves.zip(&mut columns) {
                for leaf in compute_leaves(field, values)? {
                    column.write(&leaf)?;
                }
            }
        }
        let mut to = self.writer.next_row_group()?;
        for column in columns {
            column.close()?.append_to_row_group(&mut to)?;
        }
        to.close()?;
        Ok(())
    }
}
