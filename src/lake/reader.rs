//! Readers of data files that tell the memory pool what they hold, so that sorts and joins beside them spill in time.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_datasource::PartitionedFile;
use datafusion_datasource_parquet::ParquetFileReaderFactory;
use deltalake::parquet::arrow::arrow_reader::ArrowReaderOptions;
use deltalake::parquet::arrow::async_reader::AsyncFileReader;
use deltalake::parquet::errors::{ParquetError, Result as ParquetResult};
use deltalake::parquet::file::metadata::ParquetMetaData;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::error::Error;

/// Gives the readers of `readers`, each with an account in `pool`.
#[derive(Debug)]
pub struct Accounted {
    pub readers: Arc<dyn ParquetFileReaderFactory>,
    pub pool: Arc<dyn MemoryPool>,
}

impl ParquetFileReaderFactory for Accounted {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        tail: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let path = file.object_meta.location.to_string();
        let reader = self.readers.create_reader(partition, file, tail, metrics)?;
        let most = match self.pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes as u64,
            _ => u64::MAX,
        };
        let reserved = MemoryConsumer::new("data file").register(&self.pool);
        Ok(Box::new(Reader { path, reader, most, reserved, last: 0 }))
    }
}

struct Reader {
    path: String,
    reader: Box<dyn AsyncFileReader + Send>,
    most: u64,
    reserved: MemoryReservation,
    /// The bytes of the last fetch.
    last: u64,
}

impl Reader {
    /// Accounts for a fetch. A row group is fetched in two: what a filter asks for, then the rest; those of the row group
    /// before are gone by then. The account may overdraw the pool: the bytes are needed now, and others can spill.
    fn account(&mut self, bytes: u64) -> ParquetResult<()> {
        if bytes > self.most {
            let error = Error::definite(format!(
                "{}: {} MB of one row group are read at once, which does not fit in run.memory_limit; raise it",
                self.path,
                bytes / 1_000_000
            ));
            return Err(ParquetError::External(Box::new(error)));
        }
        self.reserved.resize(usize::try_from(self.last + bytes).unwrap_or(usize::MAX));
        self.last = bytes;
        Ok(())
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        match self.account(range.end - range.start) {
            Ok(()) => self.reader.get_bytes(range),
            Err(error) => Box::pin(futures::future::ready(Err(error))),
        }
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        match self.account(ranges.iter().map(|range| range.end - range.start).sum()) {
            Ok(()) => self.reader.get_byte_ranges(ranges),
            Err(error) => Box::pin(futures::future::ready(Err(error))),
        }
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let path = self.path.clone();
        let metadata = AssertUnwindSafe(self.reader.get_metadata(options)).catch_unwind();
        // the reader takes lengths of the footer for those of a file that was cut since
        Box::pin(metadata.map(move |metadata| match metadata {
            Ok(metadata) => metadata,
            Err(_) => Err(ParquetError::General(format!("{path}: the file is damaged or not whole"))),
        }))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion_datasource_parquet::DefaultParquetFileReaderFactory;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};

    use super::*;

    #[tokio::test]
    async fn a_reader_accounts_for_its_last_two_fetches() {
        let (store, pool): (Arc<dyn ObjectStore>, Arc<dyn MemoryPool>) =
            (Arc::new(InMemory::new()), Arc::new(GreedyMemoryPool::new(1000)));
        let path = Path::from("file");
        store.put(&path, PutPayload::from(vec![7; 5000])).await.unwrap();
        let readers = Arc::new(DefaultParquetFileReaderFactory::new(Arc::clone(&store)));
        let readers = Accounted { readers, pool: Arc::clone(&pool) };
        let object: ObjectMeta = store.head(&path).await.unwrap();
        let file = PartitionedFile::new_from_meta(object);
        let mut reader = readers.create_reader(0, file, None, &ExecutionPlanMetricsSet::new()).unwrap();
        for (ranges, held) in [([0..100, 100..300], 300), ([300..500, 900..1000], 600), ([0..800, 900..1000], 1200)] {
            reader.get_byte_ranges(ranges.to_vec()).await.unwrap();
            assert_eq!(pool.reserved(), held);
        }
        let error = reader.get_bytes(0..1001).await.unwrap_err().to_string();
        assert!(error.contains("run.memory_limit"), "{error}");
        drop(reader);
        assert_eq!(pool.reserved(), 0);
    }
}
