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
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use uuid::Uuid;

use super::write::{Layout, ROW_GROUP_ROWS, row_group_bytes};
use crate::allocator;
use crate::error::{Error, Result};

/// Parts of one file on their way to the store, of 10 MB each: as many as threads encode, within bounds. The fewest hide the
/// store's answers where one file is at work; where memory is scarce there are half as many.
const FEWEST_PARTS: usize = 4;
const MOST_PARTS: usize = 8;

/// A file of which some row groups may be written. One that is not finished, or not committed, is nothing: vacuum takes it.
pub struct DataFile {
    path: String,
    writer: SerializedFileWriter<Vec<u8>>,
    encoders: Arc<ArrowRowGroupWriterFactory>,
    threads: usize,
    /// Where it goes, until it is finished.
    out: Option<BufWriter>,
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
        let parts = layout.threads.clamp(allocator::fewer(FEWEST_PARTS), MOST_PARTS);
        let out = BufWriter::new(layout.log.object_store(None), at).with_max_concurrency(parts);
        Ok(DataFile { path, writer, encoders, threads: layout.threads, out: Some(out) })
    }

    /// What encodes columns of the file.
    pub fn encoders(&self) -> &Arc<ArrowRowGroupWriterFactory> {
        &self.encoders
    }

    /// Begins a row group that will have rows like those of `first`; it is appended once it is encoded.
    pub fn row_group(&self, first: &RecordBatch) -> Result<RowGroup> {
        RowGroup::start(&self.encoders, first, self.threads)
    }

    /// Appends a row group of about so many `bytes`, which `fill` fills with column chunks.
    pub async fn append(
        &mut self,
        bytes: u64,
        fill: impl FnOnce(&mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<(), ParquetError>,
    ) -> Result<()> {
        // with a bit for what is not told, since a buffer that is too short doubles
        let bytes = usize::try_from(bytes).unwrap_or_default();
        self.writer.inner_mut().reserve(bytes + bytes / 16);
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
        if let Some(mut out) = self.out.take() {
            out.shutdown().await.map_err(ended)?;
        }
        layout.added(std::mem::take(&mut self.path), partition_values, size, &footer)
    }

    /// Hands over what was written since this was done last.
    async fn send(&mut self) -> Result<()> {
        let bytes = Bytes::from(std::mem::take(self.writer.inner_mut()));
        match &mut self.out {
            Some(out) => Ok(out.put(bytes).await?),
            None => Ok(()),
        }
    }
}

/// A store may have ended an upload though its answer was lost; asked again, it knows of none.
fn ended(error: std::io::Error) -> Error {
    let store = error.get_ref().and_then(|cause| cause.downcast_ref::<object_store::Error>());
    match store {
        Some(object_store::Error::NotFound { .. }) => {
            Error::transient(format!("the answer to the end of an upload was lost: {error}"))
        }
        _ => Error::from(error),
    }
}

/// The parts of one that is not finished are no object that vacuum would see, and are paid for.
impl Drop for DataFile {
    fn drop(&mut self) {
        if let (Some(mut out), Ok(runtime)) = (self.out.take(), Handle::try_current()) {
            runtime.spawn(async move {
                let _ = out.abort().await;
            });
        }
    }
}

/// A row group that is being encoded.
pub struct RowGroup {
    lanes: Vec<Lane>,
    rows: usize,
    /// What the rows take before they are encoded, about.
    bytes: usize,
}

/// A thread's part of the columns.
struct Lane {
    batches: mpsc::Sender<RecordBatch>,
    /// What its encoders take.
    memory: Arc<AtomicUsize>,
    chunks: JoinHandle<Result<Vec<(usize, ArrowColumnChunk)>>>,
}

/// Batches that wait for the encoders of a lane, which are not equally fast; half as many where memory is scarce.
const BATCHES_AHEAD: usize = 2;

/// Bytes of rows that a lane is given at a time: wide rows would wait in great numbers otherwise.
const BYTES_AT_ONCE: usize = 4 << 20;

/// What it costs to encode a value, in bytes of text that cost as much.
const VALUE_COST: usize = 8;

impl RowGroup {
    fn start(encoders: &ArrowRowGroupWriterFactory, first: &RecordBatch, threads: usize) -> Result<RowGroup> {
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

    /// Appends those of `rows` that fit, from the first on, and says how many; at least one while it is not full.
    pub async fn push(&mut self, rows: &RecordBatch) -> Result<usize> {
        let values = rows.columns().iter().map(|column| column.to_data().get_slice_memory_size());
        let row = values.sum::<Result<usize, _>>()?.div_ceil(rows.num_rows().max(1)).max(1);
        let room = (row_group_bytes().saturating_sub(self.bytes) / row).max(1);
        let count = rows.num_rows().min(room).min(ROW_GROUP_ROWS - self.rows);
        let at_once = (BYTES_AT_ONCE / row).max(1);
        for start in (0..count).step_by(at_once) {
            self.send(&rows.slice(start, at_once.min(count - start))).await?;
        }
        self.rows += count;
        self.bytes += count * row;
        Ok(count)
    }

    pub fn is_full(&self) -> bool {
        self.rows >= ROW_GROUP_ROWS || self.bytes >= row_group_bytes()
    }

    async fn send(&mut self, rows: &RecordBatch) -> Result<()> {
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
    fn start(schema: SchemaRef, columns: Vec<(usize, ArrowColumnWriter)>) -> Lane {
        let (batches, mut incoming) = mpsc::channel::<RecordBatch>(allocator::fewer(BATCHES_AHEAD));
        let memory = Arc::new(AtomicUsize::new(0));
        let mut encoders = Encoders { schema, columns, memory: Arc::clone(&memory) };
        let chunks = tokio::spawn(async move {
            while let Some(rows) = incoming.recv().await {
                // on threads of their own, since lanes that wake each other would stay on one worker
                encoders = spawn_blocking(move || encoders.write(&rows)).await??;
            }
            spawn_blocking(move || encoders.close()).await?
        });
        Lane { batches, memory, chunks }
    }
}

/// What encodes the columns of a lane.
struct Encoders {
    schema: SchemaRef,
    columns: Vec<(usize, ArrowColumnWriter)>,
    memory: Arc<AtomicUsize>,
}

impl Encoders {
    fn write(mut self, rows: &RecordBatch) -> Result<Encoders> {
        for (number, encoder) in &mut self.columns {
            for leaf in compute_leaves(self.schema.field(*number), rows.column(*number))? {
                encoder.write(&leaf)?;
            }
        }
        let memory = self.columns.iter().map(|(_, encoder)| encoder.memory_size()).sum();
        self.memory.store(memory, Ordering::Relaxed);
        Ok(self)
    }

    fn close(self) -> Result<Vec<(usize, ArrowColumnChunk)>> {
        self.columns.into_iter().map(|(number, encoder)| Ok((number, encoder.close()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn rows(from: i64, to: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter((from..to).map(|n| (n % 7 != 0).then_some(n))));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((from..to).map(|n| format!("a text of {n}"))));
        let halves: ArrayRef = Arc::new(Float64Array::from_iter_values((from..to).map(|n| n as f64 / 2.0)));
        let columns = [("n", numbers, true), ("t", texts, true), ("h", halves, true)];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    /// A file of one row group, encoded on so many threads.
    async fn encoded(batches: &[RecordBatch], threads: usize) -> Vec<u8> {
        let schema = batches[0].schema();
        let columns = ArrowSchemaConverter::new().convert(&schema).unwrap().root_schema_ptr();
        let mut writer = SerializedFileWriter::new(vec![], columns, Arc::default()).unwrap();
        let encoders = ArrowRowGroupWriterFactory::new(&writer, schema);
        let mut group = RowGroup::start(&encoders, &batches[0], threads).unwrap();
        for batch in batches {
            assert_eq!(group.push(batch).await.unwrap(), batch.num_rows());
        }
        let chunks = group.finish().await.unwrap();
        let mut to = writer.next_row_group().unwrap();
        chunks.into_iter().for_each(|chunk| chunk.append_to_row_group(&mut to).unwrap());
        to.close().unwrap();
        writer.into_inner().unwrap()
    }

    #[tokio::test]
    async fn a_row_group_is_the_same_on_however_many_threads() {
        let batches: Vec<_> = (0..20).map(|i| rows(i * 100, i * 100 + 100)).collect();
        let alone = encoded(&batches, 1).await;
        for threads in [0, 2, 3, 8] {
            assert!(encoded(&batches, threads).await == alone, "{threads} threads");
        }
        let read = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(alone)).unwrap();
        let read = read.with_batch_size(2000).build().unwrap().next().unwrap().unwrap();
        assert_eq!(read.columns(), rows(0, 2000).columns());
    }

    #[tokio::test]
    async fn a_row_group_is_full_by_its_rows_or_by_their_bytes() {
        let texts = |bytes, count| -> RecordBatch {
            let texts: ArrayRef = Arc::new(StringArray::from_iter_values(vec!["x".repeat(bytes); count]));
            RecordBatch::try_from_iter_with_nullable([("t", texts, true)]).unwrap()
        };
        let (narrow, wide, wider) = (texts(1, 50_000), texts(1 << 20, 20), texts(row_group_bytes() + 1, 2));
        for (batch, taken) in [(narrow, vec![50_000, 50_000, 31_072]), (wide, vec![20, 11, 1]), (wider, vec![1])] {
            let columns = ArrowSchemaConverter::new().convert(&batch.schema()).unwrap().root_schema_ptr();
            let writer = SerializedFileWriter::new(vec![], columns, Arc::default()).unwrap();
            let encoders = ArrowRowGroupWriterFactory::new(&writer, batch.schema());
            let mut group = RowGroup::start(&encoders, &batch, 2).unwrap();
            for expected in taken {
                assert!(!group.is_full());
                assert_eq!(group.push(&batch).await.unwrap(), expected);
            }
            assert!(group.is_full());
        }
    }

    #[tokio::test]
    async fn what_an_encoder_says_is_told() {
        let schema = rows(0, 1).schema();
        let columns = ArrowSchemaConverter::new().convert(&schema).unwrap().root_schema_ptr();
        let writer = SerializedFileWriter::new(vec![], columns, Arc::default()).unwrap();
        let encoders = ArrowRowGroupWriterFactory::new(&writer, schema);
        let mut group = RowGroup::start(&encoders, &rows(0, 1), 2).unwrap();
        // columns in another order than the encoders have
        let wrong = rows(0, 10).project(&[1, 2, 0]).unwrap();
        assert!(group.push(&wrong).await.is_err() || group.finish().await.is_err());
    }
}
