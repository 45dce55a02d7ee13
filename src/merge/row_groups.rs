//! A file without some of its rows, piece by piece: a row group that loses none is copied as it is encoded, with its
//! Bloom filters; the rows of the others are taken out, several pieces at once.

use std::sync::Arc;

use bytes::Bytes;
use deltalake::kernel::Add;
use deltalake::parquet::arrow::ArrowSchemaConverter;
use deltalake::parquet::arrow::arrow_writer::ArrowRowGroupWriterFactory;
use deltalake::parquet::bloom_filter::Sbbf;
use deltalake::parquet::column::writer::ColumnCloseResult;
use deltalake::parquet::file::metadata::ParquetMetaData;
use deltalake::parquet::file::writer::SerializedFileWriter;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use roaring::RoaringTreemap;
use tokio::io::AsyncWriteExt;

use super::pieces::{Chunk, Chunks, Piece, Source};
use super::write::{self, Layout};
use crate::engine::Engine;
use crate::error::{At, Error, Result};
use crate::lake::table::Table;
use crate::lake::vectors;
use crate::storage::parquet::Stretches;

/// Writes `file` of `table` without the rows `dead`: nothing if none is left. Gives `None` for a file of other columns
/// than a new one would have.
pub async fn without(
    engine: &Engine,
    table: &Table,
    layout: &Layout,
    file: usize,
    dead: &RoaringTreemap,
) -> Result<Option<Vec<Add>>> {
    let view = &table.files[file];
    let store = table.log.object_store(None);
    let path = view.object_store_path();
    let size = u64::try_from(view.size()).unwrap_or_default();
    let source = Source::open(Arc::clone(&store), path.clone(), size, layout.file_schema()).await.at(|| &path)?;
    let Some(source) = source else { return Ok(None) };
    let pieces = source.pieces(dead);
    if pieces.is_empty() {
        return Ok(Some(vec![]));
    }
    let copied = pieces.iter().filter(|piece| matches!(piece, Piece::Copy { .. })).count();
    tracing::debug!("{path}: copying {copied} of {} pieces", pieces.len());
    let folder = path.as_ref().rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let new = write::new_path(&folder);
    let at = Path::parse(&new).map_err(|e| Error::definite(format!("{new}: {e}")))?;
    let mut out = write::upload(store, at);
    let columns = ArrowSchemaConverter::new().convert(&layout.file_schema())?.root_schema_ptr();
    let mut writer = SerializedFileWriter::new(vec![], columns, Arc::new(source.properties()))?;
    let encoders = Arc::new(ArrowRowGroupWriterFactory::new(&writer, layout.file_schema()));
    let chunks = pieces.into_iter().map(|piece| source.chunks(engine, Arc::clone(&encoders), piece));
    let mut chunks = futures::stream::iter(chunks).buffered(engine.threads());
    while let Some((chunks, _room)) = chunks.try_next().await.at(|| &path)? {
        match chunks {
            Chunks::Copied { group, bytes, filters } => copy(&mut writer, &source.footer, group, &bytes, filters)?,
            Chunks::Cut(columns) => {
                let bytes: u64 = columns.iter().map(Chunk::size).sum();
                writer.inner_mut().reserve(usize::try_from(bytes).unwrap_or_default());
                let mut to = writer.next_row_group()?;
                for column in columns {
                    column.append_to(&mut to)?;
                }
                to.close()?;
            }
        }
        out.put(written(&mut writer)).await?;
    }
    let footer = writer.finish()?;
    let size = writer.bytes_written();
    out.put(written(&mut writer)).await?;
    out.shutdown().await?;
    Ok(Some(vec![layout.added(new, view.partition_values_map(), size, &footer)?]))
}

/// The rows that are dead in a file, those of its vector among them.
pub async fn dead(table: &Table, file: usize, located: &RoaringTreemap) -> Result<RoaringTreemap> {
    Ok(located | vectors::read(table, &[file]).await?.remove(&file).unwrap_or_default())
}

/// What was written since this was asked last.
fn written(writer: &mut SerializedFileWriter<Vec<u8>>) -> Bytes {
    Bytes::from(std::mem::take(writer.inner_mut()))
}

/// Appends a row group of the file of `footer`.
fn copy(
    writer: &mut SerializedFileWriter<Vec<u8>>,
    footer: &ParquetMetaData,
    group: usize,
    bytes: &Stretches,
    filters: Vec<Option<Sbbf>>,
) -> Result<()> {
    let metadata = footer.row_group(group);
    let mut to = writer.next_row_group()?;
    for ((i, column), bloom_filter) in metadata.columns().iter().enumerate().zip(filters) {
        let close = ColumnCloseResult {
            bytes_written: u64::try_from(column.compressed_size()).unwrap_or_default(),
            rows_written: u64::try_from(metadata.num_rows()).unwrap_or_default(),
            metadata: column.clone(),
            bloom_filter,
            column_index: footer.column_index().map(|index| index[group][i].clone()),
            offset_index: footer.offset_index().map(|index| index[group][i].clone()),
        };
        to.append_column(bytes, close)?;
    }
    to.close()?;
    Ok(())
}
