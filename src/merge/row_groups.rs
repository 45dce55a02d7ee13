//! A file without some of its rows, piece by piece: a row group that loses none is copied as it is encoded, with its
//! Bloom filters; the rows of the others are taken out, several pieces at once.

use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use deltalake::kernel::Add;
use deltalake::parquet::bloom_filter::Sbbf;
use deltalake::parquet::column::writer::ColumnCloseResult;
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::metadata::ParquetMetaData;
use deltalake::parquet::file::writer::SerializedRowGroupWriter;
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringTreemap;

use super::cutting::Chunk;
use super::data_file::DataFile;
use super::pieces::{Chunks, Piece, Source};
use super::write::Layout;
use crate::engine::Engine;
use crate::error::{At, Error, Result};
use crate::lake::table::Table;
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
    let mut new = DataFile::create(layout, &folder, source.properties(&layout.key))?;
    let encoders = Arc::clone(new.encoders());
    let (source, threads) = (Arc::new(source), engine.threads());
    // the next file begins when the last piece of this one does
    let (last, mut taken) = (pieces.len() - 1, Some(engine.file().await?));
    // in their order: a later piece, which is written later, must not have the memory that an earlier one waits for
    let with_room = futures::stream::iter(pieces).enumerate().then(|(number, piece)| {
        let (source, engine) = (Arc::clone(&source), engine.clone());
        let taken = taken.take_if(|_| number == last);
        async move {
            let room = source.room(&engine, &piece).await?;
            drop(taken);
            Ok::<_, Error>((room, piece))
        }
    });
    let chunks = with_room.map_ok(|(room, piece)| {
        let (source, engine, encoders) = (Arc::clone(&source), engine.clone(), Arc::clone(&encoders));
        // a task, so that a piece is fetched while another one is on its way out
        let chunks = SpawnedTask::spawn(async move { source.chunks(&engine, encoders, piece).await });
        async move { Ok((chunks.join().await??, room)) }
    });
    let mut chunks = std::pin::pin!(chunks.try_buffered(threads + 1));
    while let Some((chunks, _room)) = chunks.try_next().await.at(|| &path)? {
        match chunks {
            Chunks::Copied { group, bytes, filters } => {
                let size = source.footer.row_group(group).compressed_size();
                let size = u64::try_from(size).unwrap_or_default();
                new.append(size, |to| copy(to, &source.footer, group, &bytes, filters)).await?;
            }
            Chunks::Cut(columns) => {
                let bytes = columns.iter().map(Chunk::size).sum();
                new.append(bytes, |to| columns.into_iter().try_for_each(|column| column.append_to(to))).await?;
            }
        }
    }
    Ok(Some(vec![new.finish(layout, view.partition_values_map()).await?]))
}

/// Appends the column chunks of a row group of the file of `footer`.
fn copy(
    to: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    footer: &ParquetMetaData,
    group: usize,
    bytes: &Stretches,
    filters: Vec<Option<Sbbf>>,
) -> Result<(), ParquetError> {
    let metadata = footer.row_group(group);
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
    Ok(())
}
