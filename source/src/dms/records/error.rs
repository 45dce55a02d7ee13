//! Why records cannot be read, and which one it is.

use std::fmt;

use arrow::error::ArrowError;

use crate::dms::cut::Stop;
use crate::dms::layout::{self, Places};
use crate::dms::names::FileKind;
use crate::dms::values::{ColumnValues, Refusal, shown};

/// Why a file cannot be read on. The file itself is named by whoever opened it.
#[derive(Debug)]
pub enum RecordError {
    /// A record is no row of the table.
    Bad {
        /// The record's number, from 1.
        record: u64,
        /// The column, if it is one column's fault.
        column: Option<String>,
        /// The value, shortened and without control characters.
        value: Option<String>,
        /// What is wrong.
        reason: String,
    },
    /// A record has fields that the table does not know: those of all records to come may be among them.
    Wide {
        /// The record's number, from 1.
        record: u64,
        /// What is wrong.
        reason: String,
    },
    /// The file is not whole: it was cut, or it is still being written. Every file of DMS ends with a row delimiter.
    Cut {
        /// The number of the record that is not whole, from 1; 0 is the header.
        record: u64,
        /// What is missing.
        reason: String,
    },
    /// Reading failed.
    Io(std::io::Error),
    /// The header does not fit the table.
    Header(String),
    /// The columns that the file itself tells of do not fit the table.
    Columns(String),
}

/// A record that is no row of the table, and was [set apart](super::RecordReader::setting_bad_apart).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadRecord {
    /// Its number, from 1.
    pub record: u64,
    /// As in [`RecordError::Bad`].
    pub column: Option<String>,
    /// As in [`RecordError::Bad`].
    pub value: Option<String>,
    /// As in [`RecordError::Bad`].
    pub reason: String,
    /// The record as it stands in the file, without its row delimiter.
    pub raw: Vec<u8>,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad { record, column, value, reason } => {
                write!(f, "record {record}: ")?;
                match (column, value) {
                    (Some(column), Some(value)) => write!(f, "column {column}: \"{value}\" {reason}"),
                    (Some(column), None) => write!(f, "column {column} {reason}"),
                    (None, Some(value)) => write!(f, "\"{value}\" {reason}"),
                    (None, None) => f.write_str(reason),
                }
            }
            Self::Cut { record: 0, reason } => write!(f, "header: {reason}"),
            Self::Cut { record, reason } | Self::Wide { record, reason } => write!(f, "record {record}: {reason}"),
            Self::Io(error) => write!(f, "the file cannot be read: {error}"),
            Self::Header(reason) => write!(f, "header: {reason}"),
            Self::Columns(reason) => f.write_str(reason),
        }
    }
}

/// What a value may be in truth.
fn hint(text: &[u8]) -> &'static str {
    match text {
        b"NULL" | b"null" | b"\\N" => "; if it stands for NULL, CsvNullValue in s3_settings must say so",
        text if text.ends_with(b"\r") => "; if records end with a carriage return too, CsvRowDelimiter must say so",
        _ => "",
    }
}

/// As DMS writes it, `2024-08-09 19:27:17.787000`.
fn is_time_of_commit(text: &[u8]) -> bool {
    text.len() >= 19 && text.is_ascii() && text[4] == b'-' && text[10] == b' ' && text[13] == b':'
}

impl std::error::Error for RecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl RecordError {
    pub(crate) fn bad(record: u64, reason: String) -> Self {
        Self::Bad { record, column: None, value: None, reason }
    }

    pub(super) fn inner(record: u64) -> impl Fn(ArrowError) -> Self {
        move |error| Self::bad(record, error.to_string())
    }

    /// A `text` that is no value of its column.
    pub(super) fn refused(
        record: u64,
        column: Option<String>,
        values: &ColumnValues,
        refusal: Refusal,
        text: &[u8],
    ) -> Self {
        let (reason, is_missing) = (values.reason(refusal), refusal == Refusal::Missing);
        let (value, hint) = if is_missing { (None, "") } else { (Some(shown(text)), hint(text)) };
        Self::Bad { record, column, value, reason: format!("{reason}{hint}") }
    }

    /// Of a record of `count` fields, the `first` of them given, that does not have those that `places` tells of.
    pub(super) fn of_width(record: u64, count: usize, first: &[u8], kind: FileKind, places: &Places) -> Self {
        let expected = places.width;
        // the commonest of mistakes in a job's first run
        let hint = match (kind, places.has_operation) {
            (FileKind::Load, true) if count + 1 == expected => {
                "; does the endpoint set IncludeOpForFullLoad? Without it a LOAD file has no Op"
            }
            (FileKind::Load, false) if count == expected + 1 && first == b"I" => {
                "; if the endpoint sets IncludeOpForFullLoad, a LOAD file begins with an Op, and s3_settings must say so"
            }
            _ if count == expected + 1 && is_time_of_commit(first) => {
                "; if the endpoint sets TimestampColumnName, records begin with a time, and s3_settings must say so"
            }
            _ if count > expected => layout::REMEDY,
            _ if count > 1 => layout::REMEDY_FOR_FEWER,
            _ => "; is CsvDelimiter another one?",
        };
        if count > expected {
            let reason = format!("it has {count} fields and {expected} are expected{hint}");
            return Self::Wide { record, reason };
        }
        let reason = format!("is missing: the record has {count} of {expected} fields{hint}");
        Self::Bad { record, column: places.name(count), value: None, reason }
    }

    /// `name` gives the name of a field, counted from 0.
    pub(crate) fn stopped(record: u64, stop: Stop, name: impl FnOnce(usize) -> Option<String>) -> Self {
        match stop {
            Stop::AfterQuote(_) if record == 0 => Self::Header(format!("a name {}", Stop::AFTER_QUOTE)),
            Stop::AfterQuote(field) => {
                Self::Bad { record, column: name(field), value: None, reason: Stop::AFTER_QUOTE.to_owned() }
            }
            Stop::TooLong(bytes) if record == 0 => Self::Header(Stop::too_long(bytes)),
            Stop::TooLong(bytes) => Self::bad(record, Stop::too_long(bytes)),
            Stop::Cut(reason) => Self::Cut { record, reason: reason.to_owned() },
            Stop::Io(error) => Self::Io(error),
        }
    }
}
