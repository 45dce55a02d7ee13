//! What a run did, for scripts (`--report FILE`) and for people (a line a table on stderr).

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::error::{Error, Kind};
use crate::maintain::Upkeep;
use crate::merge::Counts;

/// The whole report; its fields are listed in the README.
#[derive(Debug, Serialize)]
pub struct Report {
    pub schema: u32,
    pub command: &'static str,
    pub exit_code: u8,
    /// What befell the whole run, such as a signal; null if nothing.
    pub error: Option<String>,
    /// What the configuration or the settings make likely to be wrong.
    pub warnings: Vec<String>,
    /// When it began and ended, UTC.
    pub started: String,
    pub ended: String,
    pub seconds: f64,
    pub tables: Vec<TableReport>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum State {
    #[serde(rename = "merged")]
    Merged,
    #[serde(rename = "unchanged")]
    Unchanged,
    /// The full load is not complete yet.
    #[serde(rename = "loading")]
    Loading,
    #[serde(rename = "no data yet")]
    NoDataYet,
    #[serde(rename = "failed")]
    Failed,
}

/// What happened to one table. `read = inserted + updated + deleted + netted_away + skipped`.
#[derive(Debug, Clone, Serialize)]
pub struct TableReport {
    pub table: String,
    pub state: State,
    pub error: Option<String>,
    pub error_kind: Option<&'static str>,
    /// The last change file merged, as in its name.
    pub position: Option<String>,
    /// The table's Delta version.
    pub version: Option<u64>,
    pub commits: u64,
    pub load_files: u64,
    pub change_files: u64,
    /// Raw bytes read.
    pub bytes: u64,
    pub read: u64,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    pub netted_away: u64,
    /// Rows that an update of their key took away; the update itself counts by the row it left behind.
    pub key_updates: u64,
    pub skipped: Vec<Skipped>,
    /// Dates and time stamps like 0000-00-00, which became NULL.
    pub zero_dates: u64,
    pub files_added: u64,
    pub files_removed: u64,
    /// What was done for the table after its last commit.
    pub maintenance: Upkeep,
    pub seconds: f64,
    /// What a person should know although nothing failed.
    pub notes: Vec<String>,
    #[serde(skip)]
    kind: Option<Kind>,
}

/// Records that changed nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    pub reason: &'static str,
    pub rows: u64,
}

/// Deletes of keys that the table does not hold.
const ABSENT: &str = "delete of a row that is not there";

/// Records that are no rows.
const QUARANTINED: &str = "bad record, which is in the quarantine";

impl TableReport {
    pub fn new(table: String) -> TableReport {
        TableReport {
            table,
            state: State::Unchanged,
            error: None,
            error_kind: None,
            position: None,
            version: None,
            commits: 0,
            load_files: 0,
            change_files: 0,
            bytes: 0,
            read: 0,
            inserted: 0,
            updated: 0,
            deleted: 0,
            netted_away: 0,
            key_updates: 0,
            skipped: vec![],
            zero_dates: 0,
            files_added: 0,
            files_removed: 0,
            maintenance: Upkeep::default(),
            seconds: 0.0,
            notes: vec![],
            kind: None,
        }
    }

    /// Adds what one commit did.
    pub fn committed(&mut self, counts: Counts) {
        self.state = State::Merged;
        self.commits += 1;
        self.read += counts.read;
        self.inserted += counts.inserted;
        self.updated += counts.updated;
        self.deleted += counts.deleted;
        self.netted_away += counts.netted_away;
        self.key_updates += counts.key_updates;
        self.files_added += counts.files_added;
        self.files_removed += counts.files_removed;
        self.skip(ABSENT, counts.absent_deletes);
    }

    /// Adds records that one commit passed over, since they are no rows.
    pub fn quarantined(&mut self, records: u64) {
        self.read += records;
        self.skip(QUARANTINED, records);
    }

    fn skip(&mut self, reason: &'static str, rows: u64) {
        match self.skipped.iter_mut().find(|skipped| skipped.reason == reason) {
            _ if rows == 0 => {}
            Some(skipped) => skipped.rows += rows,
            None => self.skipped.push(Skipped { reason, rows }),
        }
    }

    pub fn fail(&mut self, error: &Error) {
        self.state = State::Failed;
        self.kind = Some(error.kind);
        self.error_kind = Some(error.kind.name());
        self.error = Some(error.to_string());
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let position = self.position.as_ref().map_or(String::new(), |position| format!(", at {position}"));
        match self.state {
            State::Failed => format!("{}: {}", self.table, self.error.as_deref().unwrap_or_default()),
            State::Unchanged => format!("{}: nothing new{position}", self.table),
            State::NoDataYet => format!("{}: no data yet", self.table),
            State::Loading if self.commits == 0 => format!("{}: loading, nothing new", self.table),
            State::Merged | State::Loading => format!(
                "{}: {} inserted, {} updated, {} deleted of {} records in {:.1} s{position}{}",
                self.table,
                self.inserted,
                self.updated,
                self.deleted,
                self.read,
                self.seconds,
                if self.state == State::Loading { " (loading)" } else { "" }
            ),
        }
    }
}

impl Report {
    pub fn new(command: &'static str, started: DateTime<Utc>, seconds: f64, tables: Vec<TableReport>) -> Report {
        let worst = tables.iter().filter_map(|table| table.kind).max();
        let shown = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
        Report {
            schema: 1,
            command,
            exit_code: worst.map_or(0, Kind::exit_code),
            error: None,
            warnings: vec![],
            started: shown(started),
            ended: shown(Utc::now()),
            seconds,
            tables,
        }
    }

    /// The report of a run that ended before its tables did. What befell one of them until then still counts.
    pub fn ended_by(mut self, error: &Error) -> Report {
        self.error = Some(error.to_string());
        let worst = self.tables.iter().filter_map(|table| table.kind).chain([error.kind]).max();
        self.exit_code = worst.map_or(0, Kind::exit_code);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_stopped_still_tells_that_a_table_failed() {
        let report = |error: &Error| {
            let mut table = TableReport::new("shop.orders".into());
            table.fail(error);
            Report::new("run", Utc::now(), 0.0, vec![table]).ended_by(&Error::transient("stopped")).exit_code
        };
        assert_eq!(report(&Error::definite("a bad record")), 1);
        assert_eq!(report(&Error::transient("a lost connection")), 75);
    }
}
