//! The position in a table's change files: the stamp that DMS puts into a file's name.

use crate::dms::values::time::days_since_1970;
use chrono::{DateTime, Datelike, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use std::fmt;
use std::str::FromStr;

/// The time in the name of a DMS change file, which is the time it was closed, in UTC (DMS S3 target, "CDC files").
///
/// It is held as the 18 decimal digits `yyyyMMddHHmmssffff`. Nine digits after the dash are what DMS writes; its
/// documentation also shows ten. A nine-digit name gets a 0 appended, so that both forms compare: as plain numbers a
/// ten-digit name of 2014 would be later than every nine-digit name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stamp(i64);

/// Why a text is no stamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a stamp: {reason}")]
pub struct StampError {
    text: String,
    reason: &'static str,
}

impl Stamp {
    /// The stored form: the digits `yyyyMMddHHmmss` and four digits of fraction, as a number.
    pub fn as_i64(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970.
    pub fn as_unix_millis(self) -> i64 {
        let (seconds, fraction) = (self.0 / 10_000, self.0 % 10_000);
        let (date, time) = (seconds / 1_000_000, seconds % 1_000_000);
        // a stamp's parts have at most four digits, so none is cut
        let part = |number: i64| i32::try_from(number).unwrap_or_default();
        let days = days_since_1970(part(date / 10_000), part(date / 100 % 100), part(date % 100));
        let of_day = time / 10_000 * 3600 + time / 100 % 100 * 60 + time % 100;
        (i64::from(days) * 86_400 + of_day) * 1000 + fraction / 10
    }

    /// The stamp in UTC of a name whose time is that of `zone` (DatePartitionTimezone): two in an hour that comes twice
    /// when summer time ends, none in one that is left out.
    pub fn in_utc(self, zone: Tz) -> MappedLocalTime<Stamp> {
        let Some(local) = self.time() else { return MappedLocalTime::None };
        let utc = |time: DateTime<Tz>| self.with_time(time.naive_utc()).unwrap_or(self);
        zone.from_local_datetime(&local).map(utc)
    }

    /// The stamp this many seconds earlier.
    pub fn before(self, seconds: u64) -> Option<Stamp> {
        let seconds = TimeDelta::try_seconds(i64::try_from(seconds).ok()?)?;
        self.with_time(self.time()?.checked_sub_signed(seconds)?)
    }

    /// The last that can stand before it.
    pub fn just_before(self) -> Stamp {
        match self.0 % 10_000 {
            0 => self.before(1).map_or(self, |second| Stamp(second.0 + 9_999)),
            _ => Stamp(self.0 - 1),
        }
    }

    /// The stamp in the name of a file that holds all tables' changes, `yyyyMMddHHmmssSSS`.
    pub fn from_digits(digits: &str) -> Option<Stamp> {
        let (date, time) = digits.split_at_checked(8)?;
        format!("{date}-{time}").parse().ok()
    }

    /// The whole seconds.
    fn time(self) -> Option<NaiveDateTime> {
        Some(DateTime::from_timestamp(self.as_unix_millis().div_euclid(1000), 0)?.naive_utc())
    }

    /// The same fraction of another second.
    fn with_time(self, time: NaiveDateTime) -> Option<Stamp> {
        let date = (i64::from(time.year()) * 100 + i64::from(time.month())) * 100 + i64::from(time.day());
        let clock = (i64::from(time.hour()) * 100 + i64::from(time.minute())) * 100 + i64::from(time.second());
        Stamp::from_i64((date * 1_000_000 + clock) * 10_000 + self.0 % 10_000)
    }

    /// The stamp of a stored form, or `None` if its digits are no time.
    pub fn from_i64(stored: i64) -> Option<Self> {
        checked(stored).ok()
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, time) = (self.0 / 10_000_000_000, self.0 % 10_000_000_000);
        if time % 10 == 0 { write!(f, "{date:08}-{:09}", time / 10) } else { write!(f, "{date:08}-{time:010}") }
    }
}

impl FromStr for Stamp {
    type Err = StampError;

    fn from_str(text: &str) -> Result<Self, StampError> {
        parse(text).map_err(|reason| StampError { text: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<Stamp, &'static str> {
    let (date, time) = text.split_once('-').ok_or("it has no dash between date and time")?;
    if date.len() != 8 || !(time.len() == 9 || time.len() == 10) {
        return Err("it needs 8 digits, a dash, and 9 or 10 digits");
    }
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok()).flatten();
    let (Some(date), Some(clock)) = (digits(date), digits(time)) else {
        return Err("it holds something other than digits");
    };
    checked(date * 10_000_000_000 + if time.len() == 9 { clock * 10 } else { clock })
}

fn checked(stored: i64) -> Result<Stamp, &'static str> {
    if !(0..1_000_000_000_000_000_000).contains(&stored) {
        return Err("it has more than 18 digits");
    }
    let two_digits_at = |place: i64| stored / place % 100;
    let (year, month, day) =
        (stored / 100_000_000_000_000, two_digits_at(1_000_000_000_000), two_digits_at(10_000_000_000));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return Err("its month is not 01 to 12"),
    };
    if !(1..=days).contains(&day) {
        return Err("its month has no such day");
    }
    if two_digits_at(100_000_000) > 23 {
        return Err("its hour is beyond 23");
    }
    if two_digits_at(1_000_000) > 59 {
        return Err("its minute is beyond 59");
    }
    if two_digits_at(10_000) > 59 {
        return Err("its second is beyond 59");
    }
    Ok(Stamp(stored))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp(text: &str) -> Stamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_stamp_is_a_time() {
        let stamp: Stamp = "20240809-192717787".parse().unwrap();
        assert_eq!(stamp.as_unix_millis(), 1_723_231_637_787);
    }

    #[test]
    fn nothing_stands_between_a_stamp_and_the_one_before() {
        assert_eq!(stamp("20240809-192717787").just_before().as_i64(), 202408091927177869);
        assert_eq!(stamp("20240301-000000000").just_before().as_i64(), 202402292359599999);
    }

    #[test]
    fn nine_digits_get_a_zero() {
        assert_eq!(stamp("20240809-192717787").as_i64(), 202408091927177870);
        assert_eq!(stamp("20240809-192717787").to_string(), "20240809-192717787");
        assert_eq!(stamp("20141029-1134010005").to_string(), "20141029-1134010005");
    }

    #[test]
    fn a_ten_digit_name_of_2014_is_older_than_a_nine_digit_name_of_2024() {
        assert!(stamp("20141029-1134010000") < stamp("20240809-192717787"));
        assert_eq!(stamp("20240809-1927177870"), stamp("20240809-192717787"));
    }

    #[test]
    fn a_time_of_a_zone_becomes_utc_also_where_an_hour_comes_twice_or_never() {
        let in_berlin = |text: &str| stamp(text).in_utc(Tz::Europe__Berlin);
        let utc = |text: &str| MappedLocalTime::Single(stamp(text));
        assert_eq!(in_berlin("20240809-192717787"), utc("20240809-172717787"));
        assert_eq!(in_berlin("20240101-0030000005"), utc("20231231-2330000005"));
        let twice = MappedLocalTime::Ambiguous(stamp("20241027-002030000"), stamp("20241027-012030000"));
        assert_eq!(in_berlin("20241027-022030000"), twice);
        assert_eq!(in_berlin("20240331-023000000"), MappedLocalTime::None);
    }

    #[test]
    fn a_stamp_may_be_set_back() {
        assert_eq!(stamp("20240301-000000123").before(1), Some(stamp("20240229-235959123")));
        assert_eq!(stamp("20240301-000000123").before(u64::MAX), None);
    }

    #[test]
    fn a_name_without_a_dash_has_seventeen_digits() {
        assert_eq!(Stamp::from_digits("20201117153046033"), Some(stamp("20201117-153046033")));
        for other in ["2020111715304603", "20201117-153046033", "20201117ü53046033", ""] {
            assert_eq!(Stamp::from_digits(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (text, reason) in [
            ("20240809192717787", "dash"),
            ("20240809-19271778", "9 or 10"),
            ("20240809-19271778x", "digits"),
            ("20240809-+92717787", "digits"),
            ("20241309-192717787", "month"),
            ("20230229-192717787", "no such day"),
            ("20240809-242717787", "hour"),
            ("20240809-196017787", "minute"),
            ("20240809-192760787", "second"),
        ] {
            let error = text.parse::<Stamp>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert_eq!(Stamp::from_i64(0), None);
        assert_eq!(Stamp::from_i64(i64::MIN), None);
        assert_eq!(Stamp::from_i64(i64::MAX), None);
    }

    proptest! {
        #[test]
        fn a_stamp_survives_its_text_and_its_stored_form(
            (year, month, day) in (0i64..=9999, 1i64..=12, 1i64..=28),
            (hour, minute, second, fraction) in (0i64..24, 0i64..60, 0i64..60, 0i64..10_000),
        ) {
            let date = (year * 100 + month) * 100 + day;
            let time = ((hour * 100 + minute) * 100 + second) * 10_000 + fraction;
            let stamp = Stamp::from_i64(date * 10_000_000_000 + time).unwrap();
            prop_assert_eq!(stamp.to_string().parse(), Ok(stamp));
            prop_assert_eq!(Stamp::from_i64(stamp.as_i64()), Some(stamp));
        }

        #[test]
        fn text_of_one_length_orders_as_stamps_do(
            a in "2024(0[1-9]|1[0-2])(0[1-9]|2[0-8])-1[0-9]([0-5][0-9]){2}[0-9]{3}",
            b in "2024(0[1-9]|1[0-2])(0[1-9]|2[0-8])-1[0-9]([0-5][0-9]){2}[0-9]{3}",
        ) {
            prop_assert_eq!(a.cmp(&b), stamp(&a).cmp(&stamp(&b)));
        }

        #[test]
        fn any_text_gives_a_stamp_or_an_error(text in any::<String>()) {
            let _ = text.parse::<Stamp>();
        }
    }
}
