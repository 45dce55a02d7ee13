//! How long a table's owner wants to keep what was removed (`delta.deletedFileRetentionDuration`,
//! `delta.logRetentionDuration`, `delta.enableExpiredLogCleanup`).
//!
//! Read here as Spark reads it: what the kernel does not understand counts there as if it was not set, and more would be
//! deleted than the owner wants.

use std::collections::HashMap;
use std::time::Duration;

use crate::error::{Error, Result};

const FILES: &str = "delta.deletedFileRetentionDuration";
const LOG: &str = "delta.logRetentionDuration";
const CLEANS_LOG: &str = "delta.enableExpiredLogCleanup";

const DAY: u64 = 24 * 3600;

/// What a table's properties say, or the protocol's defaults.
#[derive(Debug, PartialEq, Eq)]
pub struct Retention {
    /// Of data files and vectors, from their removal on.
    pub files: Duration,
    pub log: Duration,
    /// False if the owner does not want the log to be cleaned up.
    pub cleans_log: bool,
}

impl Retention {
    /// # Errors
    /// If one of the properties is not understood: nothing is to be deleted then.
    pub fn of(properties: &HashMap<String, String>) -> Result<Retention> {
        let duration = |key: &str, days: u64| match properties.get(key) {
            Some(text) => interval(text).ok_or_else(|| not_understood(key, text)),
            None => Ok(Duration::from_secs(days * DAY)),
        };
        let cleans_log = match properties.get(CLEANS_LOG).map(|text| (text, text.trim().to_lowercase())) {
            None => true,
            Some((text, lower)) => lower.parse().map_err(|_| not_understood(CLEANS_LOG, text))?,
        };
        Ok(Retention { files: duration(FILES, 7)?, log: duration(LOG, 30)?, cleans_log })
    }
}

fn not_understood(key: &str, text: &str) -> Error {
    Error::definite(format!(
        "nothing is deleted, for the table property {key} = \"{text}\" is not understood; write it like \"interval 30 days\", \
         or \"true\" and \"false\""
    ))
}

/// As Spark reads it: numbers and units, added up, with or without the word `interval` before them. Months and years, which
/// are not always as long, are refused there too.
fn interval(text: &str) -> Option<Duration> {
    let lower = text.to_lowercase();
    let mut words = lower.split_whitespace().peekable();
    words.next_if_eq(&"interval");
    words.peek()?;
    let mut sum = Duration::ZERO;
    while let Some(number) = words.next() {
        let number: u64 = number.parse().ok()?;
        let unit = words.next()?;
        let unit = unit.strip_suffix('s').unwrap_or(unit);
        let duration = match unit {
            "week" => Duration::from_secs(number.checked_mul(7 * DAY)?),
            "day" => Duration::from_secs(number.checked_mul(DAY)?),
            "hour" => Duration::from_secs(number.checked_mul(3600)?),
            "minute" => Duration::from_secs(number.checked_mul(60)?),
            "second" => Duration::from_secs(number),
            "millisecond" => Duration::from_millis(number),
            "microsecond" => Duration::from_micros(number),
            "nanosecond" => Duration::from_nanos(number),
            _ => return None,
        };
        sum = sum.checked_add(duration)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_what_spark_takes_for_one() {
        let days = |days| Some(Duration::from_secs(days * DAY));
        for (text, expected) in [
            ("interval 30 days", days(30)),
            ("INTERVAL 1 Week", days(7)),
            ("3650 days", days(3650)),
            ("interval 4 weeks 2 days", days(30)),
            ("interval 36 hours", Some(Duration::from_secs(36 * 3600))),
            ("interval 0 seconds", Some(Duration::ZERO)),
            ("interval 1 month", None),
            ("interval -1 days", None),
            ("interval", None),
            ("30", None),
            ("", None),
        ] {
            assert_eq!(interval(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_keeps_everything() {
        let of = |key: &str, text: &str| Retention::of(&HashMap::from([(key.to_string(), text.to_string())]));
        assert_eq!(of("x", "y").unwrap().files, Duration::from_secs(7 * DAY));
        assert!(!of(CLEANS_LOG, "False").unwrap().cleans_log);
        for (key, text) in [(FILES, "a while"), (LOG, "interval 1 year"), (CLEANS_LOG, "no")] {
            let error = of(key, text).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(text), "{error}");
        }
    }
}
