//! The rows of one raw file, whatever its format.

use std::io::Read;
use std::sync::Arc;

use lakemerge_source::dms::names::{DataFormat, FileKind, decompress};
use lakemerge_source::dms::records::{BadRecord, RecordError, RecordReader, Rows};
use lakemerge_source::name::TableName;

use super::content::Content;
use super::listing::RawFile;
use super::parquet::ParquetRows;
use super::reading::Reading;

/// Gives the rows of a file, from its beginning to its end.
pub enum RowReader {
    Csv(Box<RecordReader<Box<dyn Read + Send>>>),
    Parquet(Box<ParquetRows>),
}

impl RowReader {
    /// Reads `content`, which is that of `file`.
    ///
    /// # Errors
    /// If a Parquet file tells no columns, or none that are the table's.
    pub fn new(reading: &Reading, file: &RawFile, kind: FileKind, content: Content) -> Result<RowReader, RecordError> {
        let Reading { settings, shape, key, datetime, .. } = reading;
        if file.format() == DataFormat::Parquet {
            return Ok(RowReader::Parquet(Box::new(ParquetRows::new(reading, file, kind, content)?)));
        }
        let content = decompress(&file.name, content);
        let reader = RecordReader::new(content, settings, kind, Arc::clone(shape), *datetime).with_key(key, *datetime);
        let reader = if file.holds_all_tables() { reader.of_all_tables(&reading.table) } else { reader };
        let reader = if reading.apart.is_some() { reader.setting_bad_apart() } else { reader };
        let reader = if reading.reads_commit_times(kind) { reader.with_commit_times() } else { reader };
        Ok(RowReader::Csv(Box::new(reader)))
    }

    /// The next rows, at most `max_rows` of them; `None` at the end of the file.
    ///
    /// # Errors
    /// At the first record that is no row, unless these are set apart, and where the file cannot be read on. Rows of the
    /// same call are lost with it, and the reader cannot go on.
    pub fn next(&mut self, max_rows: usize) -> Result<Option<Rows>, RecordError> {
        match self {
            RowReader::Csv(records) => records.next(max_rows),
            RowReader::Parquet(rows) => rows.next(max_rows),
        }
    }

    /// The records that were set apart since this was asked last.
    pub fn take_bad(&mut self) -> Vec<BadRecord> {
        match self {
            RowReader::Csv(records) => records.take_bad(),
            RowReader::Parquet(rows) => rows.take_bad(),
        }
    }

    /// How many records have been read so far.
    pub fn records(&self) -> u64 {
        match self {
            RowReader::Csv(records) => records.records(),
            RowReader::Parquet(rows) => rows.records(),
        }
    }

    /// The tables whose records were passed over so far.
    pub fn other_tables(&self) -> impl Iterator<Item = &TableName> {
        let records = match self {
            RowReader::Csv(records) => Some(records),
            RowReader::Parquet(_) => None,
        };
        records.into_iter().flat_map(|records| records.other_tables())
    }
}
