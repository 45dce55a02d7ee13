//! What a lakemerge commit holds besides rows: the complete position under a short fixed set of `txn` application ids,
//! and, in the table's configuration, what is not a number or seldom changes (Delta protocol, *Transaction
//! Identifiers* and *Change Metadata*).

use std::collections::HashMap;

use deltalake::kernel::Transaction;
use lakemerge_source::position::Stamp;
use lakemerge_source::schema::TableSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Every commit of ours holds its own version under this id: what shows that a later commit was somebody else's.
pub const VERSION: &str = "lakemerge/version";
/// Counts reloads, for people who look for what a table has gone through.
const GENERATION: &str = "lakemerge/generation";
/// 1 when the full load is complete.
const LOADED: &str = "lakemerge/dms/loaded";
/// [`Stamp`] of the last change file merged; 0 before the first.
const CHANGES: &str = "lakemerge/dms/changes";
/// The largest LastModified among the raw files listed, in milliseconds since 1970.
const LISTED: &str = "lakemerge/dms/listed";

/// What tells the last change file merged from another one of its name ([`Listing::trace`]); 0 where it is unknown, as
/// in tables of earlier versions.
///
/// [`Listing::trace`]: crate::dms::listing::Listing::trace
const LAST: &str = "lakemerge/dms/last";

/// [`Stamp`] up to which change files are older than the full load; 0 where there is none, as in tables of earlier
/// versions.
const OLDER: &str = "lakemerge/dms/older";

/// How many change files there were in the day up to [`CHANGES`] ([`Listing::in_day_before`]); 0 where it is unknown, as in
/// tables of earlier versions.
///
/// [`Listing::in_day_before`]: crate::dms::listing::Listing::in_day_before
const DAY: &str = "lakemerge/dms/day";

/// [`Progress::mark`] of the changes merged; 0 where nothing tells it, as in tables of earlier versions.
///
/// [`Progress::mark`]: crate::dms::progress::Progress::mark
const MARK: &str = "lakemerge/dms/mark";

/// The largest LastModified among the raw files when all of them were last listed, and all that had come late were merged; 0
/// where that is unknown, as in tables of earlier versions.
const SWEPT: &str = "lakemerge/dms/swept";

/// The ids of a complete position, all of which stand in every commit.
pub const IDS: [&str; 10] = [VERSION, GENERATION, LOADED, CHANGES, LISTED, LAST, OLDER, DAY, MARK, SWEPT];

/// How far a table has come in the order of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    pub generation: i64,
    pub load_complete: bool,
    pub changes: Option<Stamp>,
    pub listed: i64,
    pub last: i64,
    /// Change files up to this one are older than the full load, and never merged.
    pub older: Option<Stamp>,
    pub day: i64,
    pub mark: i64,
    pub swept: i64,
}

impl Position {
    /// The last change file merged; those that the load left out are none.
    pub fn merged(&self) -> Option<Stamp> {
        self.changes.filter(|_| self.changes > self.older)
    }

    /// The `txn` actions of the commit that becomes `version`.
    pub fn transactions(&self, version: u64) -> Vec<Transaction> {
        let values = [
            (VERSION, i64::try_from(version).unwrap_or(i64::MAX)),
            (GENERATION, self.generation),
            (LOADED, i64::from(self.load_complete)),
            (CHANGES, self.changes.map_or(0, Stamp::as_i64)),
            (LISTED, self.listed),
            (LAST, self.last),
            (OLDER, self.older.map_or(0, Stamp::as_i64)),
            (DAY, self.day),
            (MARK, self.mark),
            (SWEPT, self.swept),
        ];
        values.into_iter().map(|(id, value)| Transaction::new(id, value)).collect()
    }

    /// The position that `values` (application id → version) hold, or `None` if they are not a complete one.
    pub fn from_transactions(values: &HashMap<String, i64>) -> Option<Position> {
        let changes = *values.get(CHANGES)?;
        Some(Position {
            generation: *values.get(GENERATION)?,
            load_complete: *values.get(LOADED)? == 1,
            changes: if changes == 0 { None } else { Some(Stamp::from_i64(changes)?) },
            listed: *values.get(LISTED)?,
            last: values.get(LAST).copied().unwrap_or_default(),
            older: values.get(OLDER).filter(|older| **older != 0).and_then(|older| Stamp::from_i64(*older)),
            day: values.get(DAY).copied().unwrap_or_default(),
            mark: values.get(MARK).copied().unwrap_or_default(),
            swept: values.get(SWEPT).copied().unwrap_or_default(),
        })
    }
}

/// A raw file of the full load as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedFile {
    pub name: String,
    pub size: u64,
    /// ETag on S3, modification time on a local path.
    pub tag: String,
    /// The first 16 bytes of the content's SHA-256, in hexadecimal.
    pub hash: String,
}

/// What the table's configuration holds of ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// `dms` or `mysql`; `quarantine` for the records set apart of them.
    pub source: String,
    pub key: Vec<String>,
    /// True if the source itself keeps the key unique.
    pub key_is_primary: bool,
    /// The source's column definitions.
    pub schema: TableSchema,
    /// The columns that were added since: records that are older than that may still come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// How many fields records have beside the source's columns, by the rules of the load. By other rules the width of a record
    /// does not tell which of the columns that were added it lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<usize>,
    pub load: Vec<LoadedFile>,
}

const FACTS: &str = "lakemerge.table";

impl Facts {
    /// The facts as an entry of the table's configuration.
    pub fn to_configuration(&self) -> Result<(String, String)> {
        Ok((FACTS.to_string(), serde_json::to_string(self)?))
    }

    pub fn from_configuration(configuration: &HashMap<String, String>) -> Result<Option<Facts>> {
        configuration
            .get(FACTS)
            .map(|text| serde_json::from_str(text))
            .transpose()
            .map_err(|e| Error::definite(format!("the table property {FACTS} cannot be read: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_as_it_was_written() {
        for changes in [None, Some("20240809-192717787".parse().unwrap())] {
            let listed = 1_700_000_000_000;
            let (last, older, day, mark, swept) = (17, changes, 18, 20, 21);
            let position =
                Position { generation: 3, load_complete: true, changes, listed, last, older, day, mark, swept };
            let values: HashMap<_, _> =
                position.transactions(7).into_iter().map(|txn| (txn.app_id, txn.version)).collect();
            assert_eq!(values[VERSION], 7);
            assert_eq!(values.len(), IDS.len());
            assert_eq!(Position::from_transactions(&values), Some(position));
        }
    }

    #[test]
    fn a_position_of_before_the_last_file_was_known_is_read() {
        let position = Position { last: 17, ..Position::default() };
        let mut values: HashMap<_, _> =
            position.transactions(7).into_iter().map(|txn| (txn.app_id, txn.version)).collect();
        values.remove(LAST);
        assert_eq!(Position::from_transactions(&values), Some(Position::default()));
    }

    #[test]
    fn half_a_position_is_none() {
        assert_eq!(Position::from_transactions(&HashMap::from([(CHANGES.to_string(), 0)])), None);
    }
}
