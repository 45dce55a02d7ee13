//! Where answers go: standard output, or a file that appears only when it is whole.

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use tempfile::NamedTempFile;

use super::QueryError;
use super::format::{BOX, Encoder, Format};

/// The rows of one statement, ready to be written.
pub struct Output {
    to: Destination,
    format: Format,
    /// A person is looking: the first box is enough.
    brief: bool,
}

enum Destination {
    Writer(Box<dyn Write + Send>),
    File { draft: BufWriter<NamedTempFile>, path: PathBuf },
}

impl Output {
    pub fn stdout(format: Format) -> Self {
        let stdout = io::stdout();
        let brief = stdout.is_terminal();
        Self { brief: brief && format == Format::Table, ..Self::writer(Box::new(stdout), format) }
    }

    pub fn writer(writer: Box<dyn Write + Send>, format: Format) -> Self {
        Self { to: Destination::Writer(writer), format, brief: false }
    }

    /// Writes beside `path`, and under its name only in [`Output::finish`]. What is no regular file,
    /// such as a named pipe, is written as it is.
    pub fn file(path: &Path, format: Format) -> Result<Self, QueryError> {
        // It may lead to a file that someone else has open: no place for a rename.
        if path == Path::new("/dev/stdout") {
            return Ok(Self::stdout(format));
        }
        let what = || format!("cannot write {}", path.display());
        // A link stays a link to what it points to.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if path.exists() && !path.is_file() {
            let file = fs::OpenOptions::new().write(true).open(&path);
            let file = file.map_err(|error| QueryError::io(what(), error))?;
            return Ok(Self::writer(Box::new(file), format));
        }
        let beside = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !beside.is_dir() {
            let error = format!("there is no folder {}", beside.display());
            let error = io::Error::new(io::ErrorKind::NotFound, error);
            return Err(QueryError::io(what(), error));
        }
        let mut draft = tempfile::Builder::new();
        draft.prefix(".lakemerge-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // A draft is private by default; this one becomes an ordinary file, less the umask.
            draft.permissions(fs::Permissions::from_mode(0o666));
        }
        let draft = draft.tempfile_in(beside);
        let draft = draft.map_err(|error| QueryError::io(what(), error))?;
        Ok(Self { to: Destination::File { draft: BufWriter::new(draft), path }, format, brief: false })
    }

    /// Writes a whole answer as it streams; gives the number of rows written.
    pub async fn answer(&mut self, mut rows: SendableRecordBatchStream) -> Result<usize, QueryError> {
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
        self.flush()?;
        if cut {
            let note = "rows are shown; add a LIMIT, or take all with --output FILE";
            let _ = writeln!(io::stderr(), "only the first {BOX} {note}");
        }
        Ok(written)
    }

    /// Puts the file in its place.
    pub fn finish(self) -> Result<(), QueryError> {
        let Destination::File { draft, path } = self.to else {
            return Ok(());
        };
        let failed = |error| QueryError::io(format!("cannot write {}", path.display()), error);
        let draft = draft.into_inner().map_err(|error| failed(error.into_error()))?;
        draft.as_file().sync_all().map_err(failed)?;
        draft.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn write(&mut self, text: &[u8]) -> Result<(), QueryError> {
        let written = match &mut self.to {
            Destination::Writer(writer) => writer.write_all(text),
            Destination::File { draft, .. } => draft.write_all(text),
        };
        written.map_err(|error| QueryError::io("cannot write the answer", error))
    }

    fn flush(&mut self) -> Result<(), QueryError> {
        let flushed = match &mut self.to {
            Destination::Writer(writer) => writer.flush(),
            Destination::File { .. } => Ok(()),
        };
        flushed.map_err(|error| QueryError::io("cannot write the answer", error))
    }
}
