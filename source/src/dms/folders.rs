//! Where a task puts its change files: beside the full load, in folders of dates, or all tables' in one folder.

use chrono::{Days, NaiveDate, Offset, TimeZone};
use chrono_tz::Tz;

use super::settings::{Member, SettingsError};

/// The settings that decide in which folders change files lie.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Folders {
    /// DatePartitionEnabled: change files lie in folders of dates below the table's folder. Which form these have does
    /// not matter, since it may have changed between two files and their names alone order them.
    pub date_partitions: bool,
    /// DatePartitionTimezone: the zone of the times in folders and names; `None` is UTC.
    pub timezone: Option<Tz>,
    /// PreserveTransactions and CdcPath: the folder, below BucketFolder, where all tables' changes lie in the order of
    /// their transactions.
    pub cdc_path: Option<String>,
    preserve_transactions: bool,
}

const SEQUENCES: [&str; 5] = ["YYYYMMDD", "YYYYMMDDHH", "YYYYMM", "MMYYYYDD", "DDMMYYYY"];
const DELIMITERS: [&str; 4] = ["SLASH", "UNDERSCORE", "DASH", "NONE"];

impl Folders {
    /// Takes a member in if it is about folders, and says whether it is.
    pub(crate) fn take(&mut self, member: &Member) -> Result<bool, SettingsError> {
        match member.plain.as_str() {
            "datepartitionenabled" => self.date_partitions = member.boolean()?,
            "datepartitionsequence" => member.one_of(&SEQUENCES)?,
            "datepartitiondelimiter" => member.one_of(&DELIMITERS)?,
            "datepartitiontimezone" => {
                let zone = member.text_unless_empty()?.map(|name| name.parse()).transpose();
                self.timezone = zone.map_err(|_| member.wrong("it is no time zone of the tz database"))?;
            }
            "preservetransactions" => self.preserve_transactions = member.boolean()?,
            "cdcpath" => self.cdc_path = member.text_unless_empty()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The zone of the times in names, if an hour comes twice there when its clocks are set back (as the rules of the
    /// years around 2030 say).
    pub fn zone_with_seasons(&self) -> Option<Tz> {
        let day =
            |day: u64| NaiveDate::from_ymd_opt(2025, 1, 1)?.and_hms_opt(0, 0, 0)?.checked_add_days(Days::new(day));
        self.timezone.filter(|zone| {
            let offset = |day| zone.offset_from_utc_datetime(&day).fix();
            let mut offsets = (0..3653).step_by(10).filter_map(day).map(offset);
            let first = offsets.next();
            offsets.any(|offset| Some(offset) != first)
        })
    }

    /// What the members mean together.
    pub(crate) fn finished(self, has_header: bool) -> Result<Self, SettingsError> {
        let wrong = |member: &str, value: &str, reason: &str| {
            let (member, value, reason) = (member.to_owned(), value.to_owned(), reason.to_owned());
            Err(SettingsError::Value { member, value, reason })
        };
        let cdc_path = self.cdc_path.as_deref().map(|path| path.trim_matches('/')).filter(|path| !path.is_empty());
        // without the other setting it is one of endpoints that are sources (DMS, "S3Settings", CdcPath)
        let cdc_path = cdc_path.filter(|_| self.preserve_transactions);
        match (self.preserve_transactions, cdc_path) {
            (true, None) => return wrong("PreserveTransactions", "true", "DMS needs a CdcPath beside it"),
            (true, Some(_)) if self.date_partitions => {
                return wrong("DatePartitionEnabled", "true", "DMS does not allow it beside PreserveTransactions");
            }
            (true, Some(_)) if has_header => {
                return wrong("AddColumnName", "true", "DMS does not allow it beside PreserveTransactions");
            }
            _ => {}
        }
        // DMS names files by the zone only where it makes folders by it
        let timezone = self.timezone.filter(|_| self.date_partitions);
        Ok(Self { timezone, cdc_path: cdc_path.map(str::to_owned), ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::S3Settings;
    use super::*;

    fn parsed(json: &str) -> Folders {
        S3Settings::parse(json).unwrap_or_else(|error| panic!("{json}: {error}")).folders
    }

    fn refused(json: &str, expected: &str) {
        let error = S3Settings::parse(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{json}: {error}");
    }

    #[test]
    fn folders_of_dates_have_any_form_and_a_zone() {
        for sequence in SEQUENCES {
            for delimiter in DELIMITERS {
                let json = format!(
                    r#"{{"DatePartitionEnabled": "true", "DatePartitionSequence": "{}",
                        "DatePartitionDelimiter": "{delimiter}", "DatePartitionTimezone": "Europe/Berlin"}}"#,
                    sequence.to_lowercase()
                );
                let folders = parsed(&json);
                assert_eq!((folders.date_partitions, folders.timezone), (true, Some(Tz::Europe__Berlin)), "{json}");
            }
        }
    }

    #[test]
    fn a_zone_without_folders_of_dates_means_nothing() {
        assert_eq!(parsed(r#"{"DatePartitionEnabled": false, "DatePartitionTimezone": "Asia/Tokyo"}"#).timezone, None);
    }

    #[test]
    fn some_zones_set_their_clocks_back() {
        let seasons = |zone: &str| {
            let json = format!(r#"{{"DatePartitionEnabled": true, "DatePartitionTimezone": "{zone}"}}"#);
            parsed(&json).zone_with_seasons().is_some()
        };
        assert!(seasons("Europe/Berlin") && seasons("America/New_York") && seasons("Australia/Lord_Howe"));
        assert!(!seasons("UTC") && !seasons("Etc/GMT+5") && !seasons("Asia/Tokyo"));
    }

    #[test]
    fn all_changes_in_one_folder_need_its_path() {
        let folders = parsed(r#"{"PreserveTransactions": true, "CdcPath": "/changes/all/"}"#);
        assert_eq!(folders.cdc_path.as_deref(), Some("changes/all"));
        assert_eq!(parsed(r#"{"PreserveTransactions": false, "CdcPath": ""}"#), Folders::default());
        refused(r#"{"PreserveTransactions": true}"#, "needs a CdcPath");
        assert_eq!(parsed(r#"{"CdcPath": "undefined"}"#), Folders::default());
    }

    #[test]
    fn what_dms_does_not_allow_together_is_refused() {
        let transactions = r#""PreserveTransactions": true, "CdcPath": "changes""#;
        refused(&format!(r#"{{{transactions}, "DatePartitionEnabled": true}}"#), "DatePartitionEnabled");
        refused(&format!(r#"{{{transactions}, "AddColumnName": true}}"#), "AddColumnName");
    }

    #[test]
    fn a_word_that_dms_does_not_have_is_named() {
        refused(r#"{"DatePartitionSequence": "DDMM"}"#, "DatePartitionSequence = \"DDMM\": it must be one of YYYYMMDD");
        refused(r#"{"DatePartitionDelimiter": "/"}"#, "DatePartitionDelimiter");
        refused(r#"{"DatePartitionTimezone": "Europe/Berlim"}"#, "no time zone");
    }
}
