//! A data file that is being written: row groups go to the store as they end, and the columns of the one that is being
//! filled are encoded on several threads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use deltalake::kernel::Add;
use deltalake::parquet::arrow::ArrowSchemaConverter;
use deltalake::parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::properties::WriterProperties;
use deltalake::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use uuid::Uuid;

use super::write::Layout;
use crate::error::{Error, Result};

/// Parts of one file on their way to the store: with two files at work, enough to hide its answers.
const PARTS_AT_ONCE: usize = 3;

/// A file of which some row groups may be written. One that is not finished, or not committed, is nothing: vacuum takes it.
pub struct DataFile {
    path: String,
    writer: SerializedFileWriter<Vec<u8>>,
    encoders: Arc<ArrowRowGroupWriterFactory>,
    out: BufWriter,
}

impl DataFile {
    /// Begins a file in `folder`, which ends with a slash or is empty.
    pub fn create(layout: &Layout, folder: &str, properties: WriterProperties) -> Result<DataFile> {
        let path = format!("{folder}part-{}.snappy.parquet", Uuid::new_v4());
        let at = Path::parse(&path).map_err(|e| Error::definite(format!("{path}: {e}")))?;
        let schema = layout.file_schema();
        // the Arrow schema is not kept in the footer, where older readers might find something that they refuse
        let columns = ArrowSchemaConverter::new().convert(&schema)?.root_schema_ptr();
        let writer = SerializedFileWriter::new(vec![], columns, Arc::new(properties))?;
        let encoders = Arc::new(ArrowRowGroupWriterFactory::new(&writer, schema));
        let out = BufWriter::new(layout.log.object_store(None), at).with_max_concurrency(PARTS_AT_ONCE);
        Ok(DataFile { path, writer, encoders, out })
    }

    /// What encodes columns of the file.
    pub fn encoders(&self) -> &Arc<ArrowRowGroupWriterFactory> {
        &self.encoders
    }

    /// Appends a row group of about so many `bytes`, which `fill` fills with column chunks.
    pub async fn append(
        &mut self,
        bytes: u64,
        fill: impl FnOnce(&mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<(), ParquetError>,
    ) -> Result<()> {
        self.writer.inner_mut().reserve(usize::try_from(bytes).unwrap_or_default());
        let mut group = self.writer.next_row_group()?;
        fill(&mut group)?;
        group.close()?;
        self.send().await
    }

    /// How many bytes the row groups have that were appended.
    pub fn bytes(&self) -> usize {
        self.writer.bytes_written()
    }

    /// Ends the file and gives the action that adds it.
    pub async fn finish(mut self, layout: &Layout, partition_values: HashMap<String, Option<String>>) -> Result<Add> {
        let footer = self.writer.finish()?;
        let size = self.writer.bytes_written();
        self.send().await?;
        self.out.shutdown().await?;
        layout.added(self.path, partition_values, size, &footer)
    }

    /// Hands over what was written since this was done last.
    async fn send(&mut self) -> Result<()> {
        Ok(self.out.put(Bytes::from(std::mem::take(self.writer.inner_mut()))).await?)
    }
}

/// A row group that is being encoded.
pub struct RowGroup {
    lanes: Vec<Lane>,
    rows: usize,
    bytes: usize,
}

/// A thread's part of the columns.
struct Lane {
    batches: mpsc::Sender<RecordBatch>,
    /// What its encoders take.
    memory: Arc<AtomicUsize>,
    chunks: JoinHandle<Result<Vec<(usize, ArrowColumnChunk)>>>,
}

/// Batches that wait for the encoders of a lane, which are not equally fast.
const BATCHES_AHEAD: usize = 2;

/// What it costs to encode a value, in bytes of text that cost as much.
const VALUE_COST: usize = 8;

impl RowGroup {
    /// Begins a row group that will have rows like those of `first`, on so many `threads`.
    pub fn start(encoders: &ArrowRowGroupWriterFactory, first: &RecordBatch, threads: usize) -> Result<RowGroup> {
        let costs = first.columns().iter().map(|column| first.num_rows() * VALUE_COST + column.get_array_memory_size());
        let mut columns: Vec<_> = encoders.create_column_writers(0)?.into_iter().zip(costs).enumerate().collect();
        columns.sort_by_key(|(_, (_, cost))| std::cmp::Reverse(*cost));
        let mut shares: Vec<(usize, Vec<_>)> =
            (0..threads.clamp(1, columns.len().max(1))).map(|_| (0, vec![])).collect();
        for (number, (encoder, cost)) in columns {
            if let Some((sum, share)) = shares.iter_mut().min_by_key(|(sum, _)| *sum) {
                *sum += cost;
                share.push((number, encoder));
            }
        }
        let lanes = shares.into_iter().map(|(_, columns)| Lane::start(first.schema(), columns)).collect();
        Ok(RowGroup { lanes, rows: 0, bytes: 0 })
    }

    /// Appends `rows`.
    pub async fn push(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows();
        for column in rows.columns() {
            self.bytes += column.to_data().get_slice_memory_size()?;
        }
        for number in 0..self.lanes.len() {
            if self.lanes[number].batches.send(rows.clone()).await.is_err() {
                // the lane has its own error to tell
                let lane = self.lanes.swap_remove(number);
                lane.chunks.await??;
                return Err(Error::definite("a column's encoder went away"));
            }
        }
        Ok(())
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many bytes the rows have, not encoded.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many bytes the encoders take.
    pub fn memory(&self) -> usize {
        self.lanes.iter().map(|lane| lane.memory.load(Ordering::Relaxed)).sum()
    }

    /// The column chunks, in the order of the columns.
    pub async fn finish(self) -> Result<Vec<ArrowColumnChunk>> {
        let (batches, lanes): (Vec<_>, Vec<_>) = self.lanes.into_iter().map(|lane| (lane.batches, lane.chunks)).unzip();
        drop(batches);
        let mut chunks = vec![];
        for lane in futures::future::join_all(lanes).await {
            chunks.extend(lane??);
        }
        chunks.sort_by_key(|(number, _)| *number);
        Ok(chunks.into_iter().map(|(_, chunk)| chunk).collect())
    }
}

impl Lane {
    /// Encodes the columns of these numbers; all of them are flat.
    fn start(schema: SchemaRef, mut columns: Vec<(usize, ArrowColumnWriter)>) -> Lane {
        let (batches, mut incoming) = mpsc::channel::<RecordBatch>(BATCHES_AHEAD);
        let memory = Arc::new(AtomicUsize::new(0));
        let takes = Arc::clone(&memory);
        // a thread, since tasks that wake each other stay on the worker they are on
        let chunks = spawn_blocking(move || {
            while let Some(rows) = incoming.blocking_recv() {
                for (number, encoder) in &mut columns {
                    for leaf in compute_leaves(schema.field(*number), rows.column(*number))? {
                        encoder.write(&leaf)?;
                    }
                }
                takes.store(columns.iter().map(|(_, encoder)| encoder.memory_size()).sum(), Ordering::Relaxed);
            }
            columns.into_iter().map(|(number, encoder)| Ok((number, encoder.close()?))).collect()
        });
        Lane { batches, memory, chunks }
    }
}
