//! One CSV file on several threads: it is cut into pieces at ends of lines, which are read at once.
//!
//! A line may end within quotes, where no record does. That is known once the piece before has been read, of which the
//! beginning is known to be that of a record: if it leaves nothing, then so is the beginning of the next. If a record is
//! left, what the next piece was taken for is thrown away, and it is read again behind the bytes of that record.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use lakemerge_source::dms::records::{BadRecord, Beginning, RecordError, RecordReader, Rows};
use lakemerge_source::dms::settings::{RowDelimiter, S3Settings};
use lakemerge_source::name::TableName;

/// Bytes of a file that are worth a thread.
pub const PIECE: usize = 4 << 20;

pub type Input = Box<dyn Read + Send>;

/// Makes the reader of a file's content, or of a piece of it.
pub type MakeReader = Arc<dyn Fn(Input) -> RecordReader<Input> + Send + Sync>;

/// The rows of a file, in order, as one reader gives them.
pub struct Pieces {
    make_reader: MakeReader,
    settings: Arc<S3Settings>,
    size: usize,
    /// How many pieces are read at once.
    at_once: usize,
    content: Content,
    beginning: Option<Arc<[u8]>>,
    ahead: VecDeque<Ahead>,
    /// The record at whose beginning the last piece ended.
    left: Vec<u8>,
    ended: bool,
    /// What is still to be given of the last piece.
    rows: VecDeque<Rows>,
    error: Option<RecordError>,
    bad: Vec<BadRecord>,
    records: u64,
    other_tables: BTreeSet<TableName>,
}

/// The bytes of the file, from its beginning to its end.
struct Content {
    input: Input,
    unread: Vec<u8>,
    ended: bool,
    failed: Option<io::Error>,
}

/// A piece that is being read, as if its first byte began a record.
struct Ahead {
    bytes: Bytes,
    piece: JoinHandle<Piece>,
}

/// What a piece comes to.
struct Piece {
    rows: VecDeque<Rows>,
    error: Option<RecordError>,
    bad: Vec<BadRecord>,
    records: u64,
    other_tables: BTreeSet<TableName>,
    left: Vec<u8>,
}

impl Piece {
    fn failed(error: RecordError) -> Piece {
        let (rows, bad, other_tables) = Default::default();
        Piece { rows, error: Some(error), bad, records: 0, other_tables, left: vec![] }
    }
}

impl Pieces {
    /// Reads pieces of about `size` bytes, so many `at_once`.
    pub fn new(
        input: Input,
        make_reader: MakeReader,
        settings: Arc<S3Settings>,
        size: usize,
        at_once: usize,
    ) -> Pieces {
        Pieces {
            make_reader,
            settings,
            size,
            at_once,
            content: Content { input, unread: vec![], ended: false, failed: None },
            beginning: None,
            ahead: VecDeque::new(),
            left: vec![],
            ended: false,
            rows: VecDeque::new(),
            error: None,
            bad: vec![],
            records: 0,
            other_tables: BTreeSet::new(),
        }
    }

    /// As [`RecordReader::next`].
    pub fn next(&mut self, max_rows: usize) -> Result<Option<Rows>, RecordError> {
        loop {
            if let Some(rows) = self.rows.pop_front() {
                return Ok(Some(rows));
            }
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            let Some(piece) = self.piece(max_rows).or_else(|| self.end(max_rows)) else { return Ok(None) };
            let before = self.records;
            self.rows = piece.rows.into_iter().map(|rows| rows.behind(before)).collect();
            self.error = piece.error.map(|error| error.behind(before));
            self.bad.extend(piece.bad.into_iter().map(|bad| bad.behind(before)));
            self.records += piece.records;
            self.other_tables.extend(piece.other_tables);
            self.left = piece.left;
        }
    }

    /// As [`RecordReader::take_bad`].
    pub fn take_bad(&mut self) -> Vec<BadRecord> {
        std::mem::take(&mut self.bad)
    }

    /// As [`RecordReader::records`].
    pub fn records(&self) -> u64 {
        self.records
    }

    /// As [`RecordReader::other_tables`].
    pub fn other_tables(&self) -> impl Iterator<Item = &TableName> {
        self.other_tables.iter()
    }

    /// The next piece, while those behind it are being read.
    fn piece(&mut self, max_rows: usize) -> Option<Piece> {
        let beginning = self.beginning()?;
        let (size, at_once) = match self.left.len() {
            // a record that is longer than a piece is looked at again each time when twice as much is there
            long if long > self.size => (long, 1),
            _ => (self.size, self.at_once),
        };
        while self.ahead.len() < at_once
            && let Some(bytes) = self.content.lines(size, last_of(self.settings.csv_row_delimiter))
        {
            let reader = self.reader(&beginning, Cursor::new(bytes.clone()));
            let read_on = move || read(reader, max_rows);
            match std::thread::Builder::new().spawn(read_on) {
                Ok(piece) => self.ahead.push_back(Ahead { bytes, piece }),
                // the system gives no more threads
                Err(error) => return Some(Piece::failed(RecordError::Io(error))),
            }
        }
        let next = self.ahead.pop_front()?;
        let piece = next.piece.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if self.left.is_empty() {
            return Some(piece);
        }
        let left = std::mem::take(&mut self.left);
        let reader = self.reader(&beginning, Cursor::new(left).chain(Cursor::new(next.bytes)));
        Some(read(reader, max_rows))
    }

    fn reader(&self, beginning: &Arc<[u8]>, bytes: impl Read + Send + 'static) -> RecordReader<Input> {
        (self.make_reader)(Box::new(Cursor::new(Arc::clone(beginning)).chain(bytes))).of_a_piece()
    }

    /// What stands at the beginning of the file and is no record; none if the file has no more than that.
    fn beginning(&mut self) -> Option<Arc<[u8]>> {
        if let Some(beginning) = &self.beginning {
            return Some(Arc::clone(beginning));
        }
        let content = &mut self.content;
        loop {
            if let Some(beginning) = Beginning::of(&content.unread, &self.settings) {
                content.unread.drain(..beginning.length);
                return Some(Arc::clone(self.beginning.insert(beginning.bytes.into())));
            }
            if content.ended {
                return None;
            }
            content.read(2 * content.unread.len() + self.size);
        }
    }

    /// The end of the file, where nothing may be left.
    fn end(&mut self, max_rows: usize) -> Option<Piece> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let beginning = self.beginning.clone().unwrap_or_default();
        let (left, unread) = (std::mem::take(&mut self.left), std::mem::take(&mut self.content.unread));
        let rest = Cursor::new(beginning).chain(Cursor::new(left)).chain(Cursor::new(unread));
        Some(read((self.make_reader)(Box::new(rest.chain(Failed(self.content.failed.take())))), max_rows))
    }
}

impl Content {
    /// The next lines, about `size` bytes; a line that is longer may be cut anywhere. `None` at the end of the file.
    fn lines(&mut self, size: usize, last: u8) -> Option<Bytes> {
        self.read(size);
        let end = self.unread.iter().rposition(|byte| *byte == last).map_or(self.unread.len(), |end| end + 1);
        let rest = self.unread.split_off(end);
        let lines = Bytes::from(std::mem::replace(&mut self.unread, rest));
        if lines.is_empty() { None } else { Some(lines) }
    }

    /// Reads until so many bytes are there, or the file has ended.
    fn read(&mut self, size: usize) {
        while !self.ended && self.unread.len() < size {
            let missing = size - self.unread.len();
            self.unread.reserve(missing);
            match self.input.by_ref().take(missing as u64).read_to_end(&mut self.unread) {
                Ok(read) => self.ended = read < missing,
                Err(error) => (self.ended, self.failed) = (true, Some(error)),
            }
        }
    }
}

/// Fails once, if it has an error.
pub struct Failed(pub Option<io::Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

fn last_of(delimiter: RowDelimiter) -> u8 {
    match delimiter {
        RowDelimiter::Byte(byte) => byte,
        RowDelimiter::CrLf => b'\n',
    }
}

fn read(mut reader: RecordReader<Input>, max_rows: usize) -> Piece {
    let (mut rows, mut error) = (VecDeque::new(), None);
    loop {
        match reader.next(max_rows) {
            Ok(Some(more)) => rows.push_back(more),
            Ok(None) => break,
            Err(reason) => {
                error = Some(reason);
                break;
            }
        }
    }
    Piece {
        rows,
        error,
        bad: reader.take_bad(),
        records: reader.records(),
        other_tables: reader.other_tables().cloned().collect(),
        left: reader.left().to_vec(),
    }
}

#[cfg(test)]
mod tests;
