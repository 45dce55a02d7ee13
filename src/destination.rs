//! Where an answer or a report goes: standard output, or a file that appears only when it is whole.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Opened before the work whose outcome goes there, so that one which cannot be written is known beforehand.
pub enum Destination {
    Writer(Box<dyn Write + Send>),
    File(Draft),
}

/// A file that lies beside `path` until it is whole.
pub struct Draft {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl Destination {
    pub fn stdout() -> Destination {
        Destination::Writer(Box::new(io::stdout()))
    }

    /// Writes beside `path`, and under its name only in [`Destination::finish`]. What is no regular file, such as a named
    /// pipe, is written as it is.
    pub fn file(path: &Path) -> io::Result<Destination> {
        // It may lead to a file that someone else has open: no place for a rename.
        if path == Path::new("/dev/stdout") {
            return Ok(Destination::stdout());
        }
        // A link stays a link to what it points to.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if path.exists() && !path.is_file() {
            return Ok(Destination::Writer(Box::new(fs::OpenOptions::new().write(true).open(&path)?)));
        }
        let beside = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !beside.is_dir() {
            let error = format!("there is no folder {}", beside.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, error));
        }
        let mut draft = tempfile::Builder::new();
        draft.prefix(".lakemerge-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // A draft is private by default; this one becomes an ordinary file, less the umask.
            draft.permissions(fs::Permissions::from_mode(0o666));
        }
        match draft.tempfile_in(beside) {
            Ok(file) => Ok(Destination::File(Draft { file: BufWriter::new(file), path })),
            // what is there may be writable where its folder is not
            Err(error) => match fs::OpenOptions::new().write(true).truncate(true).open(&path) {
                Ok(file) => Ok(Destination::Writer(Box::new(file))),
                Err(_) => Err(error),
            },
        }
    }

    /// Puts the file in its place.
    pub fn finish(self) -> io::Result<()> {
        let Destination::File(Draft { file, path }) = self else { return Ok(()) };
        let file = file.into_inner()?;
        file.as_file().sync_all()?;
        // a file that is mounted by itself is not replaced by another
        if let Err(failed) = file.persist(&path) {
            fs::copy(failed.file.path(), &path).map_err(|_| failed.error)?;
        }
        Ok(())
    }
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Destination::Writer(writer) => writer.write(bytes),
            Destination::File(draft) => draft.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Destination::Writer(writer) => writer.flush(),
            Destination::File(draft) => draft.file.flush(),
        }
    }
}
