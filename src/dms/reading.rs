//! The rows of raw files: fetched from the store, cut and typed on worker threads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use lakemerge_source::dms::names::{DataFormat, FileKind, decompress};
use lakemerge_source::dms::records::{self, Operation, RecordError, Rows};
use lakemerge_source::dms::settings::S3Settings;
use lakemerge_source::dms::shape::Shape;
use lakemerge_source::infer::Inference;
use lakemerge_source::name::TableName;
use lakemerge_source::schema::{DatetimeAs, TableSchema};
use object_store::ObjectStore;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::changes::ChangeRows;
use super::content::{self, Content, Fetched, STRETCH};
use super::listing::RawFile;
use super::metadata::MetadataColumn;
use super::pieces::PIECE;
use super::progress::Progress;
use super::rows::RowReader;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::lake::position::LoadedFile;
use crate::lake::quarantine::BadRecord;

/// Rows that one step of a reader hands on.
const ROWS: usize = 16 * 1024;
/// Files fetched at once: where a request costs tens of milliseconds, only many in flight keep a core busy (E-19).
const FETCHES: usize = 32;
/// How many times larger a packed file is when it is unpacked, roughly.
const UNPACKED: u64 = 8;

/// The tables whose records were passed over in files of all tables' changes.
pub type Others = Arc<Mutex<BTreeSet<TableName>>>;

/// How a table's raw files are read.
#[derive(Clone)]
pub struct Reading {
    pub table: TableName,
    pub store: Arc<dyn ObjectStore>,
    /// What files that are fetched before their turn may take, over all tables.
    pub in_flight: Budget,
    /// Pieces of work that are worth doing at once.
    pub threads: usize,
    /// Bytes that a record of CSV may have.
    pub longest: usize,
    /// Bytes of a file that are typed in one step: one is made while another waits and a third is merged.
    pub step: usize,
    pub settings: Arc<S3Settings>,
    pub shape: Arc<Shape>,
    pub datetime: DatetimeAs,
    /// The numbers of the key's columns.
    pub key: Arc<[usize]>,
    /// What rows carry beside the source's columns.
    pub metadata: Arc<[MetadataColumn]>,
    pub others: Others,
    /// Where records go that are no rows; without it the first one ends the reading.
    pub apart: Option<Apart>,
    pub lacking: Lacking,
}

/// Records of any file that are no rows.
pub type Apart = Arc<Mutex<Vec<BadRecord>>>;

/// The columns of the table that files do not name, each with the first file that does not.
pub type Lacking = Arc<Mutex<BTreeMap<usize, String>>>;

/// So many bad records of one table in one commit are no matter of single records.
const MOST_BAD: usize = 10_000;
/// The same for their bytes.
const MOST_BAD_BYTES: usize = 64 << 20;

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

/// What was read so far: LOAD files, or changes and how far they have come.
#[derive(Debug, Clone, Default)]
pub struct LoadRead {
    pub files: Vec<LoadedFile>,
    pub counts: ReadCounts,
    pub progress: Progress,
}

/// Changes as they come in, in the order of the source.
pub struct Incoming {
    rows: BoxStream<'static, Result<ChangeRows>>,
    read: Arc<Mutex<LoadRead>>,
}

impl Incoming {
    /// All that is still to come.
    pub fn rows(&mut self) -> BoxStream<'static, Result<ChangeRows>> {
        std::mem::replace(&mut self.rows, futures::stream::empty().boxed())
    }

    /// What was read so far.
    pub fn read(&self) -> LoadRead {
        self.read.lock().clone()
    }
}

/// The changes of one file.
enum FileRows {
    /// Cut and typed already, and holding their share of the bytes in flight.
    Ready(Vec<ChangeRows>, (ReadCounts, Progress), OwnedSemaphorePermit),
    /// Of a file that is too large to be fetched before its turn.
    ToCome(RawFile),
}

#[cfg(test)]
impl Reading {
    /// For the files of a table of `columns`, the first of them its key, on one thread.
    pub fn of(store: Arc<dyn ObjectStore>, columns: Vec<lakemerge_source::schema::Column>) -> Reading {
        let primary_key = columns.iter().take(1).map(|column| column.name.clone()).collect();
        Reading {
            table: TableName::new("s", "t"),
            store,
            in_flight: Budget::new(1 << 20),
            threads: 1,
            longest: usize::MAX,
            step: usize::MAX,
            settings: Arc::default(),
            shape: Arc::new(Shape::of(TableSchema { columns, primary_key })),
            datetime: DatetimeAs::default(),
            key: Arc::new([0]),
            metadata: Arc::new([]),
            others: Arc::default(),
            apart: None,
            lacking: Lacking::default(),
        }
    }
}

impl Reading {
    /// The records that were set apart so far.
    pub fn bad(&self) -> Vec<BadRecord> {
        let apart = self.apart.as_ref();
        apart.map(|apart| apart.lock().clone()).unwrap_or_default()
    }

    fn note_lacking(&self, file: &RawFile, rows: &Rows) {
        if !rows.lacking.is_empty() {
            let mut lacking = self.lacking.lock();
            rows.lacking.iter().for_each(|column| _ = lacking.entry(*column).or_insert_with(|| file.shown.clone()));
        }
    }

    fn set_apart(&self, file: &RawFile, bad: Vec<records::BadRecord>) -> Result<u64> {
        let (count, Some(apart)) = (bad.len() as u64, &self.apart) else { return Ok(0) };
        let mut apart = apart.lock();
        apart.extend(bad.into_iter().map(|bad| BadRecord::new(&file.shown, bad)));
        if apart.len() > MOST_BAD || apart.iter().map(|bad| bad.raw.len()).sum::<usize>() > MOST_BAD_BYTES {
            let first = apart.iter().find(|bad| bad.file == file.shown).map(BadRecord::to_string).unwrap_or_default();
            return Err(Error::definite(format!(
                "more than {MOST_BAD} records or {} MiB for the quarantine; does a setting or the schema not fit? {first}",
                MOST_BAD_BYTES >> 20
            ))
            .at(&file.shown));
        }
        Ok(count)
    }

    /// All changes of `files`, which are in order.
    ///
    /// Many files are fetched at once, as far as the bytes in flight allow; a large one is cut while it streams in.
    pub fn changes(&self, files: Vec<RawFile>) -> Incoming {
        let read = Arc::new(Mutex::new(LoadRead::default()));
        let (this, counted) = (self.clone(), Arc::clone(&read));
        let fetches = {
            let this = this.clone();
            futures::stream::iter(files).map(move |file| this.clone().fetched(file)).buffered(FETCHES)
        };
        let rows = fetches.map_ok(move |file| match file {
            FileRows::Ready(rows, read, permit) => {
                counted.lock().add_changes(read);
                drop(permit);
                futures::stream::iter(rows.into_iter().map(Ok)).boxed()
            }
            FileRows::ToCome(file) => this.streamed(file, Arc::clone(&counted)),
        });
        Incoming { rows: rows.try_flatten().boxed(), read }
    }

    /// How far the changes of `file` have come.
    pub async fn progress(&self, file: RawFile) -> Result<Progress> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let content = Fetched::start(Arc::clone(&this.store), &file);
            Ok(this.change_file(&file, Content::Streamed(content), |_| Ok(()))?.1)
        })
        .await?
    }

    async fn fetched(self, file: RawFile) -> Result<FileRows> {
        let bytes = unpacked(&file);
        if bytes >= self.in_flight.bytes() / 2 {
            return Ok(FileRows::ToCome(file));
        }
        let permit = self.in_flight.take(bytes).await?;
        // a Parquet file is read from its end
        let content = match file.format() {
            DataFormat::Csv if file.size > STRETCH => Content::Streamed(Fetched::start(Arc::clone(&self.store), &file)),
            _ => Content::Whole(Cursor::new(content::whole(self.store.as_ref(), &file).await?)),
        };
        tokio::task::spawn_blocking(move || {
            let mut rows = vec![];
            let read = self.change_file(&file, content, |more| {
                rows.push(more);
                Ok(())
            })?;
            Ok(FileRows::Ready(rows, read, permit))
        })
        .await?
    }

    fn streamed(&self, file: RawFile, counted: Arc<Mutex<LoadRead>>) -> BoxStream<'static, Result<ChangeRows>> {
        let this = self.clone();
        on_a_thread(move |rows| {
            let content = Fetched::start(Arc::clone(&this.store), &file);
            let read = this.change_file(&file, Content::Streamed(content), |more| rows.send(more))?;
            counted.lock().add_changes(read);
            Ok(())
        })
        .boxed()
    }

    /// Hands the changes of `file` to `take`.
    fn change_file(
        &self,
        file: &RawFile,
        content: Content,
        mut take: impl FnMut(ChangeRows) -> Result<()>,
    ) -> Result<(ReadCounts, Progress)> {
        let mut progress = Progress::default();
        let mut counts = ReadCounts { bytes: file.size, ..ReadCounts::default() };
        let mut reader = RowReader::new(self, file, FileKind::Changes, content).map_err(|e| at(file, e))?;
        let (shown, mut records): (Arc<str>, _) = (file.shown.as_str().into(), 0);
        while let Some(rows) = reader.next(ROWS).map_err(|e| at(file, e))? {
            self.set_apart(file, reader.take_bad())?;
            self.note_lacking(file, &rows);
            counts.zero_dates += rows.zero_dates.iter().sum::<u64>();
            progress.observe(&shown, &rows);
            let columns = self.with_metadata(file, &rows)?;
            records += rows.operations.len() as u64;
            let changes = ChangeRows {
                columns,
                operations: rows.operations,
                moved: vec![],
                unchanged: rows.unchanged,
                file: Arc::clone(&shown),
                first_record: rows.first_record,
                records: rows.records,
            };
            take(match rows.old_keys {
                Some(old) => changes.with_key_updates(&old, &self.key, |column| self.shape.tells_of_change(column))?,
                None => changes,
            })?;
        }
        self.set_apart(file, reader.take_bad())?;
        self.others.lock().extend(reader.other_tables());
        counts.records = records;
        Ok((counts, progress))
    }

    /// The rows of a load's `files`, in order, as they stream in.
    pub fn load(&self, files: Vec<RawFile>) -> BoxStream<'static, Result<LoadStep>> {
        let this = self.clone();
        on_a_thread(move |steps| files.iter().try_for_each(|file| this.load_file(file, steps))).boxed()
    }

    /// All rows of a load's `files`, as changes.
    pub fn load_rows(&self, files: Vec<RawFile>) -> Incoming {
        let read = Arc::new(Mutex::new(LoadRead::default()));
        let counted = Arc::clone(&read);
        let rows = self.load(files).try_filter_map(move |step| {
            let rows = match step {
                LoadStep::Rows(columns) => {
                    let operations = vec![Operation::Insert; columns.num_rows()];
                    Some(ChangeRows::whole(columns, operations))
                }
                LoadStep::File(file, counts) => {
                    counted.lock().add(file, counts);
                    None
                }
            };
            futures::future::ready(Ok(rows))
        });
        Incoming { rows: rows.boxed(), read }
    }

    fn load_file(&self, file: &RawFile, steps: &Taker<LoadStep>) -> Result<()> {
        let (content, digest) = Fetched::digested(Arc::clone(&self.store), file);
        let mut counts = ReadCounts { bytes: file.size, ..ReadCounts::default() };
        let content = Content::Streamed(content);
        let mut reader = RowReader::new(self, file, FileKind::Load, content).map_err(|e| at(file, e))?;
        let mut bad = 0;
        while let Some(rows) = reader.next(ROWS).map_err(|e| at(file, e))? {
            bad += self.set_apart(file, reader.take_bad())?;
            self.note_lacking(file, &rows);
            counts.zero_dates += rows.zero_dates.iter().sum::<u64>();
            steps.send(LoadStep::Rows(self.with_metadata(file, &rows)?))?;
        }
        bad += self.set_apart(file, reader.take_bad())?;
        counts.records = reader.records() - bad;
        if counts.records == 0 && bad > 0 {
            let bad = self.bad().into_iter().find(|bad| bad.file == file.shown);
            let reason = bad.map(|bad| bad.to_string()).unwrap_or_default();
            return Err(Error::definite(format!(
                "every record is bad, as if a setting or the schema did not fit; {reason}"
            ))
            .at(&file.shown));
        }
        if reader.records() == 0 && !self.settings.add_column_name && file.format() == DataFormat::Csv {
            return Err(empty(file));
        }
        let loaded =
            LoadedFile { name: file.name.clone(), size: file.size, tag: file.tag.clone(), hash: digest.hash() };
        steps.send(LoadStep::File(loaded, counts))
    }

    /// Whether the time of commit is read: of changes it also tells what was written again.
    pub(super) fn reads_commit_times(&self, kind: FileKind) -> bool {
        kind == FileKind::Changes || self.metadata.contains(&MetadataColumn::CommitTs)
    }

    /// How many pieces of the CSV file `file` are read at once: as many as it has, and as are in flight by right where
    /// every thread has a table to read.
    pub(super) fn pieces_at_once(&self, file: &RawFile) -> usize {
        let of_file = usize::try_from(unpacked(file)).unwrap_or(usize::MAX) / PIECE;
        let by_right = usize::try_from(self.in_flight.bytes()).unwrap_or(usize::MAX) / self.threads.max(1) / PIECE;
        self.threads.min(of_file).min(by_right)
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
}

/// The columns and types that all rows of a load's `files` allow.
pub async fn infer(store: Arc<dyn ObjectStore>, mut inference: Inference, files: Vec<RawFile>) -> Result<TableSchema> {
    tokio::task::spawn_blocking(move || {
        for file in &files {
            let content = Fetched::start(Arc::clone(&store), file);
            inference.observe(decompress(&file.name, content)).map_err(|e| at(file, e))?;
        }
        inference.finish().map_err(Error::definite)
    })
    .await?
}

pub(super) fn at(file: &RawFile, error: RecordError) -> Error {
    match error {
        RecordError::Io(error) => match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
            Some(ours) => ours.clone(),
            None => Error::definite(error),
        },
        other => Error::definite(other),
    }
    .at(&file.shown)
}

/// The error for a LOAD file without a record.
pub fn empty(file: &RawFile) -> Error {
    Error::definite("an empty LOAD file, but DMS writes none for a table without rows; was it cut while it was copied?")
        .at(&file.shown)
}

/// How many bytes `file` has when it is unpacked, roughly.
fn unpacked(file: &RawFile) -> u64 {
    let is_packed = file.name.ends_with(".gz") || file.format() == DataFormat::Parquet;
    if is_packed { file.size * UNPACKED } else { file.size }
}

/// Takes what a thread hands on.
struct Taker<T>(mpsc::Sender<T>);

impl<T> Taker<T> {
    fn send(&self, item: T) -> Result<()> {
        // who takes no more has its own error to tell
        self.0.blocking_send(item).map_err(|_| Error::transient("what was read was given up"))
    }
}

/// What `work` hands on, on a thread that may block. If it fails, or panics, that is the last item: an end without an error
/// is the end of the work.
fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce(&Taker<T>) -> Result<()> + Send + 'static,
) -> impl Stream<Item = Result<T>> + Send {
    let (sender, receiver) = mpsc::channel(1);
    let thread = tokio::task::spawn_blocking(move || work(&Taker(sender)));
    futures::stream::unfold((receiver, Some(thread)), |(mut receiver, thread)| async move {
        match receiver.recv().await {
            Some(item) => Some((Ok(item), (receiver, thread))),
            None => match thread?.await.map_err(Error::from).flatten() {
                Ok(()) => None,
                Err(error) => Some((Err(error), (receiver, None))),
            },
        }
    })
}

impl LoadRead {
    fn add_changes(&mut self, (counts, progress): (ReadCounts, Progress)) {
        self.counts.add(counts);
        self.progress.then(progress);
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_ends_early_is_an_error() {
        let all = |work: fn(&Taker<u32>) -> Result<()>| on_a_thread(work).collect::<Vec<_>>();
        let told = all(|taker| taker.send(1)).await;
        assert!(matches!(told[..], [Ok(1)]), "{told:?}");
        let told = all(|_| Err(Error::definite("a reason"))).await;
        assert!(matches!(&told[..], [Err(error)] if error.to_string() == "a reason"), "{told:?}");
        let told = all(|taker| taker.send(1).map(|()| panic!("on purpose"))).await;
        assert!(matches!(&told[..], [Ok(1), Err(error)] if error.to_string().contains("ended early")), "{told:?}");
    }
}
