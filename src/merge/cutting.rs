//! Some rows of a row group, taken out of it: column by column, each page by page or, where that is not possible, encoded
//! again in the encodings that it had, with its Bloom filter if it had one.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use deltalake::parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use deltalake::parquet::bloom_filter::Sbbf;
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use deltalake::parquet::file::writer::SerializedRowGroupWriter;
use futures::future::try_join_all;
use parking_lot::Mutex;

use super::bloom;
use super::pages::{self, Codec, Living};
use super::pieces::Rows;
use crate::engine::Engine;
use crate::error::Result;
use crate::storage::parquet::Stretches;

/// Rows decoded and encoded at a time.
const BATCH: usize = 8192;

/// A column chunk of a piece.
pub enum Chunk {
    OfPages(pages::Chunk),
    Encoded(ArrowColumnChunk),
}

impl Chunk {
    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        match self {
            Chunk::OfPages(chunk) => chunk.size(),
            Chunk::Encoded(chunk) => chunk.close().bytes_written,
        }
    }

    pub fn append_to(self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<(), ParquetError> {
        match self {
            Chunk::OfPages(chunk) => chunk.append_to(group),
            Chunk::Encoded(chunk) => chunk.append_to_row_group(group),
        }
    }
}

/// Some rows of a row group, and what of it was fetched.
pub struct Cutting {
    pub reading: ArrowReaderMetadata,
    pub schema: SchemaRef,
    pub encoders: Arc<ArrowRowGroupWriterFactory>,
    pub rows: Rows,
    pub bytes: Stretches,
    /// Bloom filters by column, where they may be taken as they are.
    pub filters: Vec<Option<Sbbf>>,
    pub codecs: Arc<Mutex<Vec<Codec>>>,
}

impl Cutting {
    /// The living rows as the column chunks of a row group, several of them at once; those are missing that cannot be cut
    /// page by page.
    pub async fn chunks(self: &Arc<Self>, engine: &Engine) -> Result<Vec<Option<Chunk>>> {
        let living = Arc::new(self.rows.living());
        let cuts = (0..self.group().num_columns()).map(|number| {
            let (cutting, living) = (Arc::clone(self), Arc::clone(&living));
            on_a_core(engine, async move { cutting.cut(number, &living) })
        });
        try_join_all(cuts).await
    }

    fn group(&self) -> &RowGroupMetaData {
        self.reading.metadata().row_group(self.rows.group)
    }

    /// A column chunk page by page, if that is possible.
    fn cut(&self, number: usize, living: &Living) -> Result<Option<Chunk>> {
        let (footer, group) = (self.reading.metadata(), self.group());
        let metadata = group.column(number);
        let filter = self.filters.get(number).cloned().flatten();
        if filter.is_none() && self.wants_filter(number, metadata) {
            return Ok(None);
        }
        let column = pages::Column {
            metadata,
            places: footer.offset_index().and_then(|index| index.get(self.rows.group)?.get(number)),
            index: footer.column_index().and_then(|index| index.get(self.rows.group)?.get(number)),
            rows: usize::try_from(group.num_rows()).unwrap_or_default(),
        };
        let mut codec = self.codecs.lock().pop().unwrap_or_else(Codec::new);
        let chunk = column.cut(&self.bytes, living, filter, &mut codec)?;
        self.codecs.lock().push(codec);
        Ok(chunk.map(Chunk::OfPages))
    }

    /// True for a column that had a Bloom filter, and is to have one again.
    fn wants_filter(&self, number: usize, column: &ColumnChunkMetaData) -> bool {
        column.bloom_filter_offset().is_some() && bloom::is_understood(self.schema.field(number).data_type())
    }

    /// Fills in the chunks that are missing: their values are decoded and encoded again. `bytes` hold the pages and the
    /// dictionaries.
    pub async fn encode_the_rest(
        self: Arc<Self>,
        engine: &Engine,
        bytes: Stretches,
        chunks: Vec<Option<Chunk>>,
    ) -> Result<Vec<Chunk>> {
        on_a_core(engine, async move { self.encoded(bytes, chunks).await }).await
    }

    async fn encoded(&self, bytes: Stretches, mut chunks: Vec<Option<Chunk>>) -> Result<Vec<Chunk>> {
        let missing: Vec<_> = (0..chunks.len()).filter(|&number| chunks[number].is_none()).collect();
        let columns = ProjectionMask::leaves(self.reading.parquet_schema(), missing.iter().copied());
        let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, self.reading.clone())
            .with_batch_size(BATCH)
            .with_projection(columns)
            .with_row_groups(vec![self.rows.group])
            .with_row_selection(self.rows.selection())
            .build()?;
        let schema = Arc::new(self.schema.project(&missing)?);
        let writers = self.encoders.create_column_writers(0)?.into_iter().enumerate();
        let mut writers: Vec<_> = writers.filter(|(number, _)| missing.contains(number)).collect();
        for batch in batches {
            let batch = RecordBatch::try_new(Arc::clone(&schema), batch?.columns().to_vec())?;
            for ((field, values), (_, writer)) in schema.fields().iter().zip(batch.columns()).zip(&mut writers) {
                for leaf in compute_leaves(field, values)? {
                    writer.write(&leaf)?;
                }
            }
            tokio::task::yield_now().await;
        }
        for (number, writer) in writers {
            chunks[number] = Some(Chunk::Encoded(writer.close()?));
        }
        Ok(chunks.into_iter().flatten().collect())
    }
}

/// Runs `work` as a task of its own, once a core is free for it.
async fn on_a_core<T: Send + 'static>(
    engine: &Engine,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let engine = engine.clone();
    let work = async move {
        let _core = engine.core().await?;
        work.await
    };
    SpawnedTask::spawn(work).join().await?
}
