//! The rows of answers, encoded and on their way to where they go.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;

use arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::prelude::SessionContext;
use futures::stream::try_unfold;
use futures::{Stream, TryStreamExt};

use super::QueryError;
use super::format::{self, BOX, Encoder, Format, Part};
use crate::destination::Destination;

/// Parts of an answer that are encoded take this part of the memory for queries, and about as much again when they are.
const PARTS: usize = 4;

/// Where answers go, and in which format.
pub struct Output {
    to: Destination,
    /// The file that was named, if one was.
    path: Option<PathBuf>,
    format: Format,
    /// A person is looking: the first box is enough.
    brief: bool,
    answers: usize,
}

impl Output {
    pub fn stdout(format: Format) -> Self {
        let brief = io::stdout().is_terminal() && format == Format::Table;
        Self { brief, ..Self::writer(Destination::stdout(), format) }
    }

    pub fn writer(to: Destination, format: Format) -> Self {
        Self { to, path: None, format, brief: false, answers: 0 }
    }

    pub fn file(path: &Path, format: Format) -> Result<Self, QueryError> {
        let to = Destination::file(path).map_err(|error| cannot_write(path, error))?;
        Ok(Self { path: Some(path.to_owned()), ..Self::writer(to, format) })
    }

    /// Writes a whole answer as it streams from `context`; gives the number of rows written.
    pub async fn answer(
        &mut self,
        rows: SendableRecordBatchStream,
        context: &SessionContext,
    ) -> Result<usize, QueryError> {
        if self.format == Format::Parquet && self.answers > 0 {
            return Err(QueryError::sql("a Parquet file holds one answer; ask one statement at a time"));
        }
        self.answers += 1;
        let (mut whole, encoder) = format::start(self.format, rows.schema())?;
        // one more tells that there are more
        let most = if self.brief { BOX + 1 } else { usize::MAX };
        let parts = Parts { rows, size: self.format.part(), wanted: most, rest: None };
        let encoded = parts.stream().map_ok(|part| encoded(encoder.clone(), part)).try_buffered(self.at_once(context));
        let mut encoded = pin!(encoded);
        self.write(&whole.begin()?)?;
        let mut written = 0;
        let mut cut = false;
        while let Some((part, rows)) = encoded.try_next().await? {
            cut = self.brief && written == BOX;
            if !cut {
                written += rows;
                self.write(&whole.append(part)?)?;
            }
        }
        self.write(&whole.finish()?)?;
        self.to.flush().map_err(failed)?;
        if cut {
            let note = "rows are shown; add a LIMIT, or take all with --output FILE";
            let _ = writeln!(io::stderr(), "only the first {BOX} {note}");
        }
        Ok(written)
    }

    /// How many parts are encoded at once: large ones as far as the memory allows, of small ones more than there are
    /// threads, so that none of these waits while others are written.
    fn at_once(&self, context: &SessionContext) -> usize {
        let threads = context.copied_config().target_partitions();
        match (self.format.part(), context.runtime_env().memory_pool.memory_limit()) {
            (None, _) => threads * 2,
            (Some((_, bytes)), MemoryLimit::Finite(pool)) => threads.min(pool / PARTS / bytes).max(1),
            (Some(_), _) => threads,
        }
    }

    /// Puts the file in its place.
    pub fn finish(self) -> Result<(), QueryError> {
        self.to.finish().map_err(|error| match &self.path {
            Some(path) => cannot_write(path, error),
            None => failed(error),
        })
    }

    fn write(&mut self, text: &[u8]) -> Result<(), QueryError> {
        self.to.write_all(text).map_err(failed)
    }
}

/// The rows of an answer, in parts.
struct Parts {
    rows: SendableRecordBatchStream,
    size: Option<(usize, usize)>,
    /// How many rows are still wanted.
    wanted: usize,
    /// What did not fit in the part before.
    rest: Option<RecordBatch>,
}

impl Parts {
    fn stream(self) -> impl Stream<Item = Result<Vec<RecordBatch>, QueryError>> {
        try_unfold(self, |mut parts| async move { Ok(parts.next().await?.map(|part| (part, parts))) })
    }

    async fn next(&mut self) -> Result<Option<Vec<RecordBatch>>, QueryError> {
        let (mut part, mut rows, mut bytes) = (vec![], 0, 0);
        while let Some(batch) = self.batch().await? {
            let row = (bytes_of(&batch) / batch.num_rows()).max(1);
            let room = match self.size {
                Some((most_rows, most_bytes)) => {
                    (most_rows - rows).min((most_bytes.saturating_sub(bytes) / row).max(usize::from(rows == 0)))
                }
                None => batch.num_rows(),
            };
            let count = room.min(batch.num_rows());
            part.push(batch.slice(0, count));
            (rows, bytes) = (rows + count, bytes + count * row);
            if count < batch.num_rows() {
                self.rest = Some(batch.slice(count, batch.num_rows() - count));
            }
            if self.rest.is_some() || self.size.is_none_or(|(most_rows, _)| rows == most_rows) {
                break;
            }
        }
        Ok((rows > 0).then_some(part))
    }

    /// The next rows, as they come.
    async fn batch(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        while self.wanted > 0 {
            let Some(batch) = self.rows.try_next().await? else { break };
            let batch = batch.slice(0, batch.num_rows().min(self.wanted));
            self.wanted -= batch.num_rows();
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

/// What rows take by themselves, of columns that may share memory with others.
fn bytes_of(batch: &RecordBatch) -> usize {
    let of =
        |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size());
    batch.columns().iter().map(of).sum()
}

/// A part, encoded on a thread of its own, and how many rows it has.
async fn encoded(encoder: Encoder, rows: Vec<RecordBatch>) -> Result<(Part, usize), QueryError> {
    let count = rows.iter().map(RecordBatch::num_rows).sum();
    let task = SpawnedTask::spawn_blocking(move || encoder.encode(&rows));
    let part = task.join().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
    Ok((part?, count))
}

fn failed(error: io::Error) -> QueryError {
    QueryError::io("cannot write the answer", error)
}

fn cannot_write(path: &Path, error: io::Error) -> QueryError {
    QueryError::io(format!("cannot write {}", path.display()), error)
}
