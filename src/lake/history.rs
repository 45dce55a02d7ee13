//! Former versions of a table, by their number, their time, or how far they had come.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use futures::{StreamExt, TryStreamExt};
use lakemerge_source::position::Stamp;

use super::position::Position;
use super::table::{CommitEntry, Table, read_commit};
use crate::error::{Error, Result};

/// Log entries fetched at once.
const AT_ONCE: usize = 16;

/// Which version is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    Version(u64),
    /// The newest that was committed by then, as the commits themselves say.
    Time(DateTime<Utc>),
    /// The newest whose changes came from files up to this one.
    Position(Stamp),
}

impl FromStr for AsOf {
    type Err = String;

    fn from_str(text: &str) -> Result<AsOf, String> {
        if let Ok(version) = text.parse() {
            return Ok(AsOf::Version(version));
        }
        if let Ok(position) = text.parse() {
            return Ok(AsOf::Position(position));
        }
        let in_utc = |form| NaiveDateTime::parse_from_str(text, form).ok();
        let with_zone = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
        let time = in_utc("%Y-%m-%d %H:%M:%S%.f").or_else(|| in_utc("%Y-%m-%dT%H:%M:%S%.f")).map(|time| time.and_utc());
        let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0).map(|time| time.and_utc());
        with_zone().or(time).or_else(date).map(AsOf::Time).ok_or_else(|| {
            "it is no version (12), time (2026-11-29, 2026-11-29 08:30:00, 2026-11-29T08:30:00+01:00; in UTC where no zone is \
             given) or position (20261129-083000000)"
                .to_string()
        })
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AsOf::Version(version) => write!(f, "version {version}"),
            AsOf::Time(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            AsOf::Position(position) => write!(f, "position {position}"),
        }
    }
}

impl AsOf {
    /// Whether a commit that is not newer than any that was asked before is the one.
    fn is(self, commit: &CommitEntry) -> bool {
        match self {
            AsOf::Version(_) => false,
            AsOf::Time(time) => commit.time.is_some_and(|at| at <= time.timestamp_millis()),
            AsOf::Position(stamp) => Position::from_transactions(&commit.transactions)
                .is_some_and(|position| position.changes.is_none_or(|changes| changes <= stamp)),
        }
    }
}

impl Table {
    /// A former version of this table, which is the newest one.
    ///
    /// # Errors
    /// There is none such, or it is cleaned up.
    pub async fn as_of(&self, as_of: AsOf) -> Result<Table> {
        let newest = self.version();
        let version = match as_of {
            AsOf::Version(version) if version > newest => {
                return Err(Error::usage(format!("there is no version {version} yet; the newest is {newest}")));
            }
            AsOf::Version(version) => version,
            AsOf::Time(_) | AsOf::Position(_) => self.find(as_of).await?,
        };
        if version == newest { Ok(self.clone()) } else { self.at(version).await }
    }

    async fn find(&self, as_of: AsOf) -> Result<u64> {
        let read = |version| async move { Ok::<_, Error>((version, self.log.read_commit_entry(version).await?)) };
        let mut entries = futures::stream::iter((0..=self.version()).rev()).map(read).buffered(AT_ONCE);
        while let Some((version, entry)) = entries.try_next().await? {
            let Some(entry) = entry else {
                return Err(Error::usage(format!(
                    "it was later than {as_of} from version {} on, and what is before is cleaned up",
                    version + 1
                )));
            };
            if as_of.is(&read_commit(version, &entry)?) {
                return Ok(version);
            }
        }
        Err(Error::usage(format!("there was no such table yet at {as_of}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_in_three_ways() {
        let time = |text: &str| AsOf::Time(DateTime::parse_from_rfc3339(text).unwrap().to_utc());
        let cases = [
            ("12", AsOf::Version(12)),
            ("20261129-083000000", AsOf::Position("20261129-083000000".parse().unwrap())),
            ("2026-11-29", time("2026-11-29T00:00:00Z")),
            ("2026-11-29 08:30:00", time("2026-11-29T08:30:00Z")),
            ("2026-11-29T08:30:00.25", time("2026-11-29T08:30:00.25Z")),
            ("2026-11-29T08:30:00+01:00", time("2026-11-29T07:30:00Z")),
        ];
        for (text, as_of) in cases {
            assert_eq!(text.parse(), Ok(as_of), "{text}");
        }
        for text in ["", "-1", "yesterday", "2026-13-01", "20261129"] {
            assert_ne!(text.parse::<AsOf>().ok(), Some(time("2026-11-29T00:00:00Z")), "{text}");
        }
        assert!("yesterday".parse::<AsOf>().unwrap_err().contains("20261129-083000000"));
    }
}
