//! Parquet files in a store: their footers, and parts of them.

use std::ops::Range;

use bytes::{Buf, Bytes};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use deltalake::parquet::file::reader::{ChunkReader, Length};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// What is fetched of a file's end at first, in the hope that its footer is no longer.
pub const TAIL: usize = 128 << 10;

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
    let mut tail = (TAIL as u64).min(size);
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

/// Stretches of a file under the file's own offsets, which a reader takes for all of it.
#[derive(Clone)]
pub struct Stretches(Vec<(u64, Bytes)>);

impl Stretches {
    /// `bytes` from the offset `start` on.
    pub fn one(start: u64, bytes: Bytes) -> Stretches {
        Stretches(vec![(start, bytes)])
    }

    /// Fetches `ranges` of the file at `path`.
    pub async fn fetch(store: &dyn ObjectStore, path: &Path, ranges: &[Range<u64>]) -> object_store::Result<Stretches> {
        let bytes = store.get_ranges(path, ranges).await?;
        let mut stretches: Vec<_> = ranges.iter().map(|range| range.start).zip(bytes).collect();
        stretches.sort_unstable_by_key(|(start, _)| *start);
        Ok(Stretches(stretches))
    }

    /// What was fetched from `offset` on.
    fn from(&self, offset: u64) -> Result<Bytes, ParquetError> {
        let after = self.0.partition_point(|(start, _)| *start <= offset);
        let stretch = after.checked_sub(1).map(|last| &self.0[last]);
        let from = stretch.and_then(|(start, bytes)| {
            let at = usize::try_from(offset - start).ok().filter(|at| *at <= bytes.len())?;
            Some(bytes.slice(at..))
        });
        from.ok_or_else(|| ParquetError::EOF(format!("offset {offset} was not fetched")))
    }
}

impl Length for Stretches {
    fn len(&self) -> u64 {
        self.0.last().map_or(0, |(start, bytes)| start + bytes.len() as u64)
    }
}

impl ChunkReader for Stretches {
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
