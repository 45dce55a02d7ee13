//! The rows of raw files: fetched from the store, cut and typed on worker threads.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use futures::{StreamExt, TryStreamExt};
use lakemerge_source::dms::names::{FileKind, decompress};
use lakemerge_source::dms::records::{Operation, RecordError, RecordReader, Rows};
use lakemerge_source::dms::settings::S3Settings;
use lakemerge_source::infer::Inference;
use lakemerge_source::schema::{Column, DatetimeAs, TableSchema};
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::listing::RawFile;
use super::metadata::MetadataColumn;
use crate::error::{Error, Result};
use crate::lake::position::LoadedFile;

/// Rows that one step of a reader hands on.
const ROWS: usize = 16 * 1024;
/// Files fetched at once: where a request costs tens of milliseconds, only many in flight keep a core busy (E-19).
const FETCHES: usize = 32;
/// Chunks of one file on their way to the worker thread.
const CHUNKS: usize = 8;

/// How a table's raw files are read.
#[derive(Clone)]
pub struct Reading {
    pub store: Arc<dyn ObjectStore>,
    pub settings: Arc<S3Settings>,
    pub columns: Arc<[Column]>,
    pub datetime: DatetimeAs,
    /// The numbers of the key's columns.
    pub key: Arc<[usize]>,
    /// What rows carry beside the source's columns.
    pub metadata: Arc<[MetadataColumn]>,
}

/// Typed rows with their operations, in the order of the source.
pub struct ChangeRows {
    pub columns: RecordBatch,
    pub operations: Vec<Operation>,
}

/// What was read, for the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCounts {
    pub records: u64,
    pub bytes: u64,
    pub zero_dates: u64,
}

/// One step of a load.
pub enum LoadStep {
    Rows(RecordBatch),
    /// A file was read to its end.
    File(LoadedFile, ReadCounts),
}

/// What was read of a load so far.
#[derive(Debug, Clone, Default)]
pub struct LoadRead {
    pub files: Vec<LoadedFile>,
    pub counts: ReadCounts,
}

impl Reading {
    /// All changes of `files`, which are in order.
    pub async fn changes(&self, files: &[RawFile]) -> Result<(Vec<ChangeRows>, ReadCounts)> {
        let mut read = futures::stream::iter(files.iter().cloned().map(|file| {
            let this = self.clone();
            async move {
                let content = this.store.get(&file.path).await?.bytes().await?;
                tokio::task::spawn_blocking(move || this.change_file(&file, content)).await?
            }
        }))
        .buffered(FETCHES);
        let (mut rows, mut counts) = (vec![], ReadCounts::default());
        while let Some((more, read)) = read.try_next().await? {
            rows.extend(more);
            counts.add(read);
        }
        Ok((rows, counts))
    }

    fn change_file(&self, file: &RawFile, content: Bytes) -> Result<(Vec<ChangeRows>, ReadCounts)> {
        let mut counts = ReadCounts { bytes: content.len() as u64, ..ReadCounts::default() };
        let mut rows = vec![];
        let mut reader = self.reader(file, FileKind::Changes, std::io::Cursor::new(content));
        while let Some(more) = reader.next(ROWS).map_err(|e| at(file, e))? {
            counts.zero_dates += self.zero_dates(file, &more)?;
            let columns = self.with_metadata(file, &more)?;
            rows.push(ChangeRows { columns, operations: more.operations });
        }
        counts.records = reader.records();
        Ok((rows, counts))
    }

    /// The rows of a load's `files`, in order, as they stream in.
    pub fn load(&self, files: Vec<RawFile>) -> mpsc::Receiver<Result<LoadStep>> {
        let (steps, receiver) = mpsc::channel(4);
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            for file in &files {
                if let Err(error) = this.load_file(file, &steps) {
                    // a receiver that is gone has its own error to tell
                    let _ = steps.blocking_send(Err(error));
                    return;
                }
            }
        });
        receiver
    }

    /// All rows of a load's `files`, as changes.
    pub async fn load_rows(&self, files: Vec<RawFile>) -> Result<(Vec<ChangeRows>, LoadRead)> {
        let (mut rows, mut read) = (vec![], LoadRead::default());
        let mut steps = self.load(files);
        while let Some(step) = steps.recv().await {
            match step? {
                LoadStep::Rows(columns) => {
                    let operations = vec![Operation::Insert; columns.num_rows()];
                    rows.push(ChangeRows { columns, operations });
                }
                LoadStep::File(file, counts) => read.add(file, counts),
            }
        }
        Ok((rows, read))
    }

    fn load_file(&self, file: &RawFile, steps: &mpsc::Sender<Result<LoadStep>>) -> Result<()> {
        let (content, digest) = Fetched::start(Arc::clone(&self.store), file);
        let mut counts = ReadCounts { bytes: file.size, ..ReadCounts::default() };
        let mut reader = self.reader(file, FileKind::Load, content);
        while let Some(rows) = reader.next(ROWS).map_err(|e| at(file, e))? {
            counts.zero_dates += self.zero_dates(file, &rows)?;
            if steps.blocking_send(Ok(LoadStep::Rows(self.with_metadata(file, &rows)?))).is_err() {
                return Err(Error::transient("the load was given up"));
            }
        }
        counts.records = reader.records();
        if counts.records == 0 && !self.settings.add_column_name {
            return Err(Error::definite(format!(
                "{}: an empty LOAD file, but DMS writes none for a table without rows; was it cut while it was copied?",
                file.shown
            )));
        }
        let loaded =
            LoadedFile { name: file.name.clone(), size: file.size, tag: file.tag.clone(), hash: digest.hash() };
        steps.blocking_send(Ok(LoadStep::File(loaded, counts))).map_err(|_| Error::transient("the load was given up"))
    }

    /// Counts zero dates, which become NULL; in a key two of them would become one row.
    fn zero_dates(&self, file: &RawFile, rows: &Rows) -> Result<u64> {
        if let Some(column) = self.key.iter().find(|&&column| rows.zero_dates[column] > 0) {
            return Err(Error::definite(format!(
                "{}, records {} to {}: key column {} holds a zero date, which no calendar has, and as NULL different keys \
                 would become one; configure a key without it, or mend the value in the source",
                file.shown,
                rows.first_record,
                rows.first_record + rows.operations.len() as u64 - 1,
                self.columns[*column].name,
            )));
        }
        Ok(rows.zero_dates.iter().sum())
    }

    fn with_metadata(&self, file: &RawFile, rows: &Rows) -> Result<RecordBatch> {
        if self.metadata.is_empty() {
            return Ok(rows.columns.clone());
        }
        let mut fields = rows.columns.schema().fields().to_vec();
        fields.extend(self.metadata.iter().map(|column| Arc::new(column.field())));
        let mut columns = rows.columns.columns().to_vec();
        columns.extend(self.metadata.iter().map(|column| column.values(file, rows)));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    fn reader(
        &self,
        file: &RawFile,
        kind: FileKind,
        content: impl Read + Send + 'static,
    ) -> RecordReader<Box<dyn Read + Send>> {
        let content = decompress(&file.name, content);
        let reader = RecordReader::new(content, &self.settings, kind, Arc::clone(&self.columns), self.datetime);
        if self.metadata.contains(&MetadataColumn::CommitTs) { reader.with_commit_times() } else { reader }
    }
}

/// The columns and types that all rows of a load's `files` allow.
pub async fn infer(store: Arc<dyn ObjectStore>, settings: Arc<S3Settings>, files: Vec<RawFile>) -> Result<TableSchema> {
    tokio::task::spawn_blocking(move || {
        let mut inference = Inference::new(&settings);
        for file in &files {
            let (content, _) = Fetched::start(Arc::clone(&store), file);
            inference.observe(decompress(&file.name, content)).map_err(|e| at(file, e))?;
        }
        inference.finish().map_err(Error::definite)
    })
    .await?
}

/// The [`LoadedFile::hash`] of a file as it is now.
pub async fn hash(store: &dyn ObjectStore, file: &RawFile) -> Result<String> {
    let mut digest = Sha256::new();
    let mut content = store.get(&file.path).await?.into_stream();
    while let Some(chunk) = content.try_next().await? {
        digest.update(&chunk);
    }
    Ok(hexadecimal(&digest.finalize()))
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn at(file: &RawFile, error: RecordError) -> Error {
    match error {
        RecordError::Io(error) => match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
            Some(ours) => ours.clone(),
            None => Error::definite(error),
        },
        other => Error::definite(other),
    }
    .at(&file.shown)
}

impl LoadRead {
    pub fn add(&mut self, file: LoadedFile, counts: ReadCounts) {
        self.files.push(file);
        self.counts.add(counts);
    }
}

impl ReadCounts {
    pub fn add(&mut self, other: ReadCounts) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.zero_dates += other.zero_dates;
    }
}

/// A file that is fetched on the runtime while a worker thread reads it.
struct Fetched {
    chunks: mpsc::Receiver<Result<Bytes>>,
    chunk: Bytes,
    digest: Arc<std::sync::Mutex<Sha256>>,
}

/// The digest of what was read so far.
struct RunningDigest(Arc<std::sync::Mutex<Sha256>>);

impl RunningDigest {
    fn hash(self) -> String {
        let digest = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        hexadecimal(&digest.finalize())
    }
}

impl Fetched {
    fn start(store: Arc<dyn ObjectStore>, file: &RawFile) -> (Fetched, RunningDigest) {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let path = file.path.clone();
        tokio::runtime::Handle::current().spawn(async move {
            let mut content = match store.get(&path).await {
                Ok(object) => object.into_stream(),
                Err(error) => {
                    let _ = sender.send(Err(error.into())).await;
                    return;
                }
            };
            while let Some(chunk) = content.next().await {
                if sender.send(chunk.map_err(Error::from)).await.is_err() {
                    return;
                }
            }
        });
        let digest = Arc::new(std::sync::Mutex::new(Sha256::new()));
        (Fetched { chunks, chunk: Bytes::new(), digest: Arc::clone(&digest) }, RunningDigest(digest))
    }
}

impl Read for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.chunk.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.chunk = chunk.map_err(std::io::Error::other)?,
                None => return Ok(0),
            }
            self.digest.lock().unwrap_or_else(std::sync::PoisonError::into_inner).update(&self.chunk);
        }
        let taken = self.chunk.split_to(self.chunk.len().min(buffer.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
