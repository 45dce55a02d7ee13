//! The rows of one raw file, whatever its format.

use std::collections::BTreeSet;
use std::io::{Cursor, Read};
use std::sync::Arc;

use lakemerge_source::dms::names::{DataFormat, FileKind, decompress};
use lakemerge_source::dms::records::{BadRecord, RecordError, RecordReader, Rows};
use lakemerge_source::dms::signs;
use lakemerge_source::name::TableName;

use super::content::Content;
use super::listing::RawFile;
use super::parquet::ParquetRows;
use super::pieces::{Failed, Input, MakeReader, PIECE, Pieces};
use super::reading::Reading;

/// Gives the rows of a file, from its beginning to its end.
pub enum RowReader {
    Csv(Box<RecordReader<Input>>),
    Pieces(Box<Pieces>),
    Parquet(Box<ParquetRows>),
}

impl RowReader {
    /// Reads `content`, which is that of `file`.
    ///
    /// # Errors
    /// If a Parquet file tells no columns, or none that are the table's.
    pub fn new(reading: &Reading, file: &RawFile, kind: FileKind, content: Content) -> Result<RowReader, RecordError> {
        if file.format() == DataFormat::Parquet {
            return Ok(RowReader::Parquet(Box::new(ParquetRows::new(reading, file, kind, content)?)));
        }
        let content = unless_misread(decompress(&file.name, content), reading, kind)?;
        let make_reader = make_reader(reading, file, kind);
        let at_once = reading.pieces_at_once(file);
        if at_once > 1 {
            let settings = Arc::clone(&reading.settings);
            return Ok(RowReader::Pieces(Box::new(Pieces::new(content, make_reader, settings, PIECE, at_once))));
        }
        Ok(RowReader::Csv(Box::new(make_reader(content))))
    }

    /// The next rows, at most `max_rows` of them; `None` at the end of the file.
    ///
    /// # Errors
    /// At the first record that is no row, unless these are set apart, and where the file cannot be read on. Rows of the
    /// same call are lost with it, and the reader cannot go on.
    pub fn next(&mut self, max_rows: usize) -> Result<Option<Rows>, RecordError> {
        match self {
            RowReader::Csv(records) => records.next(max_rows),
            RowReader::Pieces(pieces) => pieces.next(max_rows),
            RowReader::Parquet(rows) => rows.next(max_rows),
        }
    }

    /// The records that were set apart since this was asked last.
    pub fn take_bad(&mut self) -> Vec<BadRecord> {
        match self {
            RowReader::Csv(records) => records.take_bad(),
            RowReader::Pieces(pieces) => pieces.take_bad(),
            RowReader::Parquet(rows) => rows.take_bad(),
        }
    }

    /// How many records have been read so far.
    pub fn records(&self) -> u64 {
        match self {
            RowReader::Csv(records) => records.records(),
            RowReader::Pieces(pieces) => pieces.records(),
            RowReader::Parquet(rows) => rows.records(),
        }
    }

    /// The tables whose records were passed over so far.
    pub fn other_tables(&self) -> BTreeSet<TableName> {
        match self {
            RowReader::Csv(records) => records.other_tables().cloned().collect(),
            RowReader::Pieces(pieces) => pieces.other_tables().cloned().collect(),
            RowReader::Parquet(_) => BTreeSet::new(),
        }
    }
}

/// The same content, unless it is of another form than the settings leave it to be.
fn unless_misread(mut content: Input, reading: &Reading, kind: FileKind) -> Result<Input, RecordError> {
    let mut beginning = vec![];
    let limit = signs::LOOKED_AT as u64;
    let read = content.by_ref().take(limit).read_to_end(&mut beginning);
    match (read, signs::sign(&beginning, &reading.settings, kind)) {
        (Ok(_), Some(sign)) => Err(RecordError::Columns(sign.to_owned())),
        (Ok(_), None) => Ok(Box::new(Cursor::new(beginning).chain(content))),
        // comes once more behind the records that are whole
        (Err(error), _) => Ok(Box::new(Cursor::new(beginning).chain(Failed(Some(error))))),
    }
}

/// What makes readers of the CSV file `file`, or of pieces of it.
fn make_reader(reading: &Reading, file: &RawFile, kind: FileKind) -> MakeReader {
    let (reading, of_all_tables) = (reading.clone(), file.holds_all_tables());
    Arc::new(move |input| {
        let Reading { settings, shape, key, datetime, longest, step, .. } = &reading;
        let reader = RecordReader::new(input, settings, kind, Arc::clone(shape), *datetime).with_longest(*longest);
        let reader = reader.with_step(*step);
        let reader = reader.with_key(key, *datetime);
        let reader = if of_all_tables { reader.of_all_tables(&reading.table) } else { reader };
        let reader = if reading.apart.is_some() { reader.setting_bad_apart() } else { reader };
        if reading.reads_commit_times(kind) { reader.with_commit_times() } else { reader }
    })
}
