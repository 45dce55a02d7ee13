//! Pieces of a file, which several readers read at once; together they come to what one reader makes of the file.
//!
//! A piece begins as the file does and goes on with some bytes of it. Where these end within a record, that record is
//! left: the bytes behind it begin a piece only together with what is left.

use std::io::Read;

use super::{BadRecord, RecordError, RecordReader, Rows};
use crate::dms::cut::{Cutter, Fields};
use crate::dms::settings::S3Settings;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What stands at the beginning of a file and is no record: a byte order mark and a header.
pub struct Beginning {
    /// What every piece begins with. Behind a byte order mark another one is data, so there is one in any case.
    pub bytes: Vec<u8>,
    /// How many bytes of the file that is.
    pub length: usize,
}

impl Beginning {
    /// The beginning of a file of which `bytes` are the first, or `None` if it may go on behind them.
    pub fn of(bytes: &[u8], settings: &S3Settings) -> Option<Beginning> {
        if bytes.len() < BYTE_ORDER_MARK.len() {
            return None;
        }
        let mark = bytes.strip_prefix(BYTE_ORDER_MARK).map_or(0, |_| BYTE_ORDER_MARK.len());
        let header = match settings.add_column_name {
            true => match Cutter::new(bytes, settings).next(&mut Fields::default()) {
                Ok(length) => length?,
                Err(stop) if stop.is_at_end() => return None,
                // every piece tells that it cannot be read
                Err(_) => bytes.len() - mark,
            },
            false => 0,
        };
        let length = mark + header;
        Some(Beginning { bytes: [BYTE_ORDER_MARK, &bytes[mark..length]].concat(), length })
    }
}

impl<R: Read> RecordReader<R> {
    /// Ends before a record that the input does not hold whole, instead of with an error.
    pub fn of_a_piece(self) -> Self {
        Self { is_piece: true, ..self }
    }

    /// The bytes behind the last record, once the piece has been read.
    pub fn left(&self) -> &[u8] {
        self.cutter.left()
    }
}

impl Rows {
    /// The same rows behind so many records.
    pub fn behind(mut self, records: u64) -> Rows {
        self.first_record += records;
        self.records.iter_mut().flatten().for_each(|record| *record += records);
        self
    }
}

impl BadRecord {
    /// The same record behind so many others.
    pub fn behind(self, records: u64) -> BadRecord {
        BadRecord { record: self.record + records, ..self }
    }
}

impl RecordError {
    /// The same error behind so many records.
    pub fn behind(mut self, records: u64) -> RecordError {
        if let RecordError::Bad { record, .. } | RecordError::Cut { record, .. } | RecordError::Wide { record, .. } =
            &mut self
        {
            *record += records;
        }
        self
    }
}
