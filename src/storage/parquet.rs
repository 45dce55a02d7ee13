//! Parquet files in a store: their footers, and parts of them.

use std::ops::Range;

use bytes::{Buf, Bytes};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use deltalake::parquet::file::reader::{ChunkReader, Length};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// What is fetched of a file's end at first, in the hope that its footer is no longer.
const TAIL: u64 = 64 << 10;

/// What `reader` reads of the footer of a file of so many bytes.
pub async fn footer(
    mut reader: ParquetMetaDataReader,
    store: &dyn ObjectStore,
    path: &Path,
    size: u64,
) -> Result<ParquetMetaData, ParquetError> {
    if size == 0 {
        return Err(ParquetError::EOF("it has no bytes".to_string()));
    }
    let mut tail = TAIL.min(size);
    loop {
        let bytes = store.get_range(path, size - tail..size).await?;
        match reader.try_parse_sized(&bytes, size) {
            Ok(()) => return reader.finish(),
            Err(ParquetError::NeedMoreData(needed)) if needed as u64 > tail && tail < size => {
                tail = (needed as u64).min(size);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Where in its file a row group lies.
pub fn span(group: &RowGroupMetaData) -> Range<u64> {
    let columns = group.columns().iter().map(|column| column.byte_range());
    let (start, end) = columns.fold((u64::MAX, 0), |(start, end), (offset, length)| {
        (start.min(offset), end.max(offset.saturating_add(length)))
    });
    start.min(end)..end
}

/// A stretch of a file under the file's own offsets.
#[derive(Clone)]
pub struct Stretch {
    pub start: u64,
    pub bytes: Bytes,
}

impl Stretch {
    fn from(&self, offset: u64) -> Result<Bytes, ParquetError> {
        let at = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let at = at.filter(|at| *at <= self.bytes.len());
        at.map(|at| self.bytes.slice(at..)).ok_or_else(|| ParquetError::EOF(format!("offset {offset} was not fetched")))
    }
}

impl Length for Stretch {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Stretch {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} were not fetched")));
        }
        Ok(bytes.slice(..length))
    }
}
