//! The rows of answers, encoded and on their way to where they go.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use super::QueryError;
use super::format::{BOX, Encoder, Format};
use crate::destination::Destination;

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

    /// Writes a whole answer as it streams; gives the number of rows written.
    pub async fn answer(&mut self, mut rows: SendableRecordBatchStream) -> Result<usize, QueryError> {
        if self.format == Format::Parquet && self.answers > 0 {
            return Err(QueryError::sql("a Parquet file holds one answer; ask one statement at a time"));
        }
        self.answers += 1;
        let mut encoder = Encoder::new(self.format, rows.schema())?;
        let mut written = 0;
        let mut cut = false;
        while !cut && let Some(batch) = rows.next().await {
            let mut batch = batch?;
            let room = BOX - written.min(BOX);
            cut = self.brief && batch.num_rows() > room;
            if cut {
                batch = batch.slice(0, room);
            }
            written += batch.num_rows();
            self.write(&encoder.encode(&batch)?)?;
        }
        self.write(&encoder.finish()?)?;
        self.to.flush().map_err(failed)?;
        if cut {
            let note = "rows are shown; add a LIMIT, or take all with --output FILE";
            let _ = writeln!(io::stderr(), "only the first {BOX} {note}");
        }
        Ok(written)
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

fn failed(error: io::Error) -> QueryError {
    QueryError::io("cannot write the answer", error)
}

fn cannot_write(path: &Path, error: io::Error) -> QueryError {
    QueryError::io(format!("cannot write {}", path.display()), error)
}
