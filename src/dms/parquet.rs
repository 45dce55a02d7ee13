//! Rows of Parquet files: of a small file all bytes are held, of a larger one its footer and then one row group after the
//! other as it streams in, so that it is fetched and digested once.

use std::io::{self, Read};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use deltalake::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use futures::{StreamExt, TryStreamExt};
use lakemerge_source::dms::names::{FileKind, FileName};
use lakemerge_source::dms::records::{BadRecord, RecordError, Rows};
use lakemerge_source::dms::settings::S3Settings;
use lakemerge_source::dms::transformations::TableRules;
use lakemerge_source::dms::typed::{self, TypedReader};
use lakemerge_source::schema::TableSchema;
use object_store::ObjectStore;
use tokio::runtime::Handle;

use super::content::Content;
use super::listing::RawFile;
use super::reading::{Reading, at};
use crate::error::{At, Error, Result};
use crate::storage::parquet::{Stretches, footer, span};

/// Up to this size a file is fetched by one request.
const SMALL: u64 = 8 << 20;
/// A row group is held as it lies in the file, and may be so many times as large as a record, which is held several times.
const LARGEST: u64 = 32;
/// Footers fetched at once.
const FETCHES: usize = 32;

/// Reads the rows of one file.
pub struct ParquetRows {
    bytes: Source,
    size: u64,
    /// Bytes that a row group may have.
    largest: u64,
    /// Bytes that the values of one step should have at most.
    step: i64,
    file: ArrowReaderMetadata,
    /// The row groups that are still to come.
    groups: Range<usize>,
    batches: Option<ParquetRecordBatchReader>,
    rows: TypedReader,
}

/// Where the bytes of row groups come from.
enum Source {
    Whole(Bytes),
    /// Bytes before `at` have passed.
    Passing {
        content: Content,
        at: u64,
    },
}

impl ParquetRows {
    /// Reads `content`, which is that of `file`. To be called where blocking is allowed, as is [`ParquetRows::next`].
    ///
    /// # Errors
    /// If it is no Parquet file, or its columns are not those of the table.
    pub fn new(
        reading: &Reading,
        file: &RawFile,
        kind: FileKind,
        content: Content,
    ) -> Result<ParquetRows, RecordError> {
        let bytes = Source::new(content, file.size).map_err(RecordError::Io)?;
        ParquetRows::of(bytes, reading, file, kind)
    }

    fn of(bytes: Source, reading: &Reading, file: &RawFile, kind: FileKind) -> Result<ParquetRows, RecordError> {
        let told = bytes.told(&reading.store, file)?;
        let (settings, shape) = (&reading.settings, Arc::clone(&reading.shape));
        let rows = TypedReader::new(told.schema(), settings, kind, shape, &reading.key, reading.datetime)?;
        let rows = if reading.apart.is_some() { rows.setting_bad_apart() } else { rows };
        let rows = if reading.reads_commit_times(kind) { rows.with_commit_times() } else { rows };
        let groups = 0..told.metadata().num_row_groups();
        let largest = u64::try_from(reading.longest).unwrap_or(u64::MAX).saturating_mul(LARGEST);
        let step = i64::try_from(reading.step).unwrap_or(i64::MAX);
        Ok(ParquetRows { bytes, size: file.size, largest, step, file: told, groups, batches: None, rows })
    }

    /// How many records have been read so far.
    pub fn records(&self) -> u64 {
        self.rows.records()
    }

    /// The records that were set apart since this was asked last.
    pub fn take_bad(&mut self) -> Vec<BadRecord> {
        self.rows.take_bad()
    }

    /// The next rows, at most `max_rows` of them; `None` at the end of the file.
    ///
    /// # Errors
    /// At a value that is none of its column, unless such records are set apart, and where the file is damaged.
    pub fn next(&mut self, max_rows: usize) -> Result<Option<Rows>, RecordError> {
        loop {
            if let Some(rows) = self.rows.rows()? {
                return Ok(Some(rows));
            }
            let Some(batches) = &mut self.batches else {
                let Some(group) = self.groups.next() else {
                    self.end()?;
                    return Ok(None);
                };
                self.batches = Some(self.group(group, max_rows)?);
                continue;
            };
            match guarded(|| Ok(batches.next().transpose()?)).map_err(|error| self.damaged(&error))? {
                Some(batch) => self.rows.take(batch),
                None => self.batches = None,
            }
        }
    }

    fn group(&mut self, group: usize, max_rows: usize) -> Result<ParquetRecordBatchReader, RecordError> {
        let metadata = Arc::clone(self.file.metadata());
        let metadata = metadata.row_group(group);
        let span = guarded(|| Ok(span(metadata))).map_err(|error| self.damaged(&error))?;
        let bytes = span.end - span.start;
        if bytes > self.largest {
            return Err(RecordError::Columns(format!(
                "row group {} has {} MiB, which are held at once, and run.memory_limit leaves no room for them; raise it, or \
                 let the task write smaller ones (RowGroupLength)",
                group + 1,
                bytes >> 20
            )));
        }
        if span.end > self.size {
            let beyond = ParquetError::EOF(format!("row group {} ends beyond the file's end", group + 1));
            return Err(self.damaged(&beyond));
        }
        let stretch = self.bytes.stretch(span).map_err(RecordError::Io)?;
        let batch_rows = match self.step.saturating_mul(metadata.num_rows()).checked_div(metadata.total_byte_size()) {
            Some(rows) => usize::try_from(rows).unwrap_or_default().clamp(1, max_rows),
            None => max_rows,
        };
        let batches = guarded(|| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(stretch, self.file.clone())
                .with_batch_size(batch_rows)
                .with_row_groups(vec![group])
                .build()
        });
        batches.map_err(|error| self.damaged(&error))
    }

    /// Reads what follows the rows, which the digest of the file takes in too.
    fn end(&mut self) -> Result<(), RecordError> {
        let said = self.file.metadata().file_metadata().num_rows();
        if i64::try_from(self.records()) != Ok(said) {
            let reason = format!("its footer tells of {said} records, and there are {}", self.records());
            return Err(self.damaged(&ParquetError::EOF(reason)));
        }
        let size = self.bytes.pass_rest().map_err(RecordError::Io)?;
        if size != self.size {
            let changed = format!("it had {} bytes when it was listed and {size} when it was read", self.size);
            return Err(RecordError::Io(io::Error::other(Error::transient(changed))));
        }
        Ok(())
    }

    fn damaged(&self, error: &ParquetError) -> RecordError {
        let reason = format!("the file is damaged or not whole: {}", words(error));
        RecordError::Cut { record: self.records() + 1, reason }
    }
}

impl Source {
    fn new(mut content: Content, size: u64) -> io::Result<Source> {
        Ok(match content {
            Content::Whole(bytes) => Source::Whole(bytes.into_inner()),
            Content::Streamed(_) if size <= SMALL => {
                let mut bytes = vec![];
                content.read_to_end(&mut bytes)?;
                Source::Whole(bytes.into())
            }
            Content::Streamed(_) => Source::Passing { content, at: 0 },
        })
    }

    /// What the footer tells of the file.
    fn told(&self, store: &Arc<dyn ObjectStore>, file: &RawFile) -> Result<ArrowReaderMetadata, RecordError> {
        match self {
            Source::Whole(bytes) => told(|| ParquetMetaDataReader::new().parse_and_finish(bytes)),
            Source::Passing { .. } => told_by_end(store, file),
        }
    }

    /// A part of the file, which lies behind all that were asked for before.
    fn stretch(&mut self, span: Range<u64>) -> io::Result<Stretches> {
        match self {
            Source::Whole(bytes) => Ok(Stretches::one(0, bytes.clone())),
            Source::Passing { content, at } => {
                let Some(between) = span.start.checked_sub(*at) else {
                    return Err(io::Error::other("its row groups do not stand one behind the other"));
                };
                io::copy(&mut content.take(between), &mut io::sink())?;
                let mut bytes = vec![];
                content.take(span.end - span.start).read_to_end(&mut bytes)?;
                *at = span.end;
                Ok(Stretches::one(span.start, bytes.into()))
            }
        }
    }

    /// How large the file is.
    fn pass_rest(&mut self) -> io::Result<u64> {
        match self {
            Source::Whole(bytes) => Ok(bytes.len() as u64),
            Source::Passing { content, at } => Ok(*at + io::copy(content, &mut io::sink())?),
        }
    }
}

/// The columns of the source's table in each of `files`.
pub async fn columns(
    store: &Arc<dyn ObjectStore>,
    files: Vec<RawFile>,
    settings: &S3Settings,
    rules: &TableRules,
) -> Result<Vec<TableSchema>> {
    let columns = |file: RawFile| async move {
        let (store, its) = (Arc::clone(store), file.clone());
        let told = tokio::task::spawn_blocking(move || told_by_end(&store, &its)).await?;
        let told = told.map_err(|error| at(&file, error))?;
        let kind = match file.kind {
            FileName::Load(_) => FileKind::Load,
            FileName::Changes(_) => FileKind::Changes,
        };
        typed::columns(told.schema(), kind, settings, rules).map_err(Error::definite).at(|| &file.shown)
    };
    futures::stream::iter(files).map(columns).buffered(FETCHES).try_collect().await
}

fn told_by_end(store: &Arc<dyn ObjectStore>, file: &RawFile) -> Result<ArrowReaderMetadata, RecordError> {
    let reader = ParquetMetaDataReader::new();
    told(|| Handle::current().block_on(footer(reader, store.as_ref(), &file.path, file.size)))
}

/// The columns are taken by their Parquet types alone, whatever else a writer may have noted.
fn told(footer: impl FnOnce() -> Result<ParquetMetaData, ParquetError>) -> Result<ArrowReaderMetadata, RecordError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    guarded(|| ArrowReaderMetadata::try_new(Arc::new(footer()?), options)).map_err(|error| match error {
        ParquetError::External(error) => RecordError::Io(io::Error::other(Error::from(ParquetError::External(error)))),
        error => RecordError::Columns(format!("it cannot be read as a Parquet file: {}", words(&error))),
    })
}

/// What `work` comes to, and an error where the bytes of a damaged file lead it astray.
fn guarded<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(ParquetError::General("its bytes contradict each other".to_string())))
}

/// The message without the name of its kind.
fn words(error: &ParquetError) -> String {
    match error {
        ParquetError::General(text) | ParquetError::EOF(text) | ParquetError::ArrowError(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
