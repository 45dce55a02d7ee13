//! Dates, times of day, years. A zero date, which MySQL allows and no calendar has, is `None`.

use super::Refusal;
use super::Refusal::{Calendar, Form};

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// The days from 1970-01-01 to `yyyy-MM-dd`, or `None` for a date whose month or day is zero.
#[inline]
pub(crate) fn date(text: &[u8]) -> Result<Option<i32>, Refusal> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return Err(Form) };
    let (year, month, day) = (two(y1, y2)? * 100 + two(y3, y4)?, two(m1, m2)?, two(d1, d2)?);
    if month > 12 || day > 31 {
        return Err(Calendar);
    }
    if month == 0 || day == 0 {
        return Ok(None);
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day > days { Err(Calendar) } else { Ok(Some(days_since_1970(year, month, day))) }
}

/// Counts in years that begin in March, so that the leap day is the last one.
pub(crate) fn days_since_1970(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, month) = (year.div_euclid(400), (month + 9) % 12);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The microseconds from 1970-01-01 to `yyyy-MM-dd HH:mm:ss`, with up to nine digits of fraction of which those beyond
/// the sixth are zero; `None` for a zero date.
#[inline]
pub(crate) fn datetime(text: &[u8]) -> Result<Option<i64>, Refusal> {
    if text == b"0000-00-00" {
        return Ok(None);
    }
    let Some((day, [b' ', clock @ ..])) = text.split_at_checked(10) else { return Err(Form) };
    let day = date(day)?;
    let Some((&[h1, h2, b':', m1, m2, b':', s1, s2], fraction)) = clock.split_first_chunk::<8>() else {
        return Err(Form);
    };
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    let micros = micros(fraction)?;
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Calendar);
    }
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    Ok(day.map(|day| (i64::from(day) * SECONDS_PER_DAY + seconds) * MICROS_PER_SECOND + micros))
}

/// The microseconds of `.f` to `.fffffffff`, or of nothing.
fn micros(fraction: &[u8]) -> Result<i64, Refusal> {
    let digits = match fraction {
        [] => return Ok(0),
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => digits,
        _ => return Err(Form),
    };
    let mut micros = 0;
    for place in 0..9 {
        let digit = digits.get(place).map_or(0, |b| b.wrapping_sub(b'0'));
        match (place, digit) {
            (_, 10..) => return Err(Form),
            (0..6, _) => micros = micros * 10 + i64::from(digit),
            (_, 1..) => return Err(Refusal::Fraction),
            _ => {}
        }
    }
    Ok(micros)
}

#[inline]
fn two(tens: u8, ones: u8) -> Result<i32, Refusal> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 { Err(Form) } else { Ok(i32::from(tens) * 10 + i32::from(ones)) }
}

/// A length of time, `[-]H:MM:SS[.f]` with at most 838 hours, as MySQL writes one of so many digits of fraction: equal ones
/// are the same text, since they may be keys. Digits beyond those stay unless they are zero.
pub(crate) fn time<'a>(text: &[u8], digits: u8, out: &'a mut Vec<u8>) -> Result<&'a str, Refusal> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let colon = unsigned.iter().position(|b| *b == b':').ok_or(Form)?;
    let (hours, clock) = unsigned.split_at(colon);
    let Some((&[b':', m1, m2, b':', s1, s2], fraction)) = clock.split_first_chunk::<6>() else { return Err(Form) };
    if !(1..=3).contains(&hours.len()) || !hours.iter().all(u8::is_ascii_digit) {
        return Err(Form);
    }
    let hours = hours.iter().fold(0, |hours, digit| hours * 10 + i32::from(digit - b'0'));
    let micros = micros(fraction)?;
    let (minutes, seconds) = (two(m1, m2)?, two(s1, s2)?);
    if minutes > 59 || seconds > 59 {
        return Err(Calendar);
    }
    if hours > 838 {
        return Err(Refusal::Range);
    }
    let is_zero = hours == 0 && minutes == 0 && seconds == 0 && micros == 0;
    let sign = if text.len() > unsigned.len() && !is_zero { "-" } else { "" };
    let mut fraction = format!("{micros:06}");
    while fraction.len() > usize::from(digits) && fraction.ends_with('0') {
        fraction.pop();
    }
    let point = if fraction.is_empty() { "" } else { "." };
    out.clear();
    out.extend_from_slice(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{point}{fraction}").as_bytes());
    str::from_utf8(out).map_err(|_| Form)
}

/// A year of one to four digits.
pub(crate) fn year(text: &[u8]) -> Result<i16, Refusal> {
    if !(1..=4).contains(&text.len()) || !text.iter().all(u8::is_ascii_digit) {
        return Err(Form);
    }
    Ok(text.iter().fold(0, |year, digit| year * 10 + i16::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_date_is_a_day_of_the_calendar() {
        for (text, expected) in [
            ("1970-01-01", Ok(Some(0))),
            ("1996-07-04", Ok(Some(9681))),
            ("2024-02-29", Ok(Some(19782))),
            ("0000-01-01", Ok(Some(-719_528))),
            ("9999-12-31", Ok(Some(2_932_896))),
            ("0000-00-00", Ok(None)),
            ("2024-00-15", Ok(None)),
            ("2024-05-00", Ok(None)),
            ("2023-02-29", Err(Calendar)),
            ("1900-02-29", Err(Calendar)),
            ("2023-13-01", Err(Calendar)),
            ("2023-00-32", Err(Calendar)),
            ("2023-1-01", Err(Form)),
            ("2023/01/01", Err(Form)),
            ("2023-01-01 00:00:00", Err(Form)),
            ("+023-01-01", Err(Form)),
        ] {
            assert_eq!(date(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_datetime_has_a_space_and_no_zone() {
        for (text, expected) in [
            ("1970-01-01 00:00:00", Ok(Some(0))),
            ("1970-01-02 01:02:03.5", Ok(Some(90_123_500_000))),
            ("1969-12-31 23:59:59.999999", Ok(Some(-1))),
            ("1970-01-01 00:00:00.000001000", Ok(Some(1))),
            ("0000-00-00 00:00:00.000000", Ok(None)),
            ("0000-00-00", Ok(None)),
            ("2024-00-15 10:00:00", Ok(None)),
            ("1970-01-01 00:00:00.0000001", Err(Refusal::Fraction)),
            ("1970-01-01 24:00:00", Err(Calendar)),
            ("1970-01-01 00:00:60", Err(Calendar)),
            ("1970-01-01", Err(Form)),
            ("1970-01-01T00:00:00", Err(Form)),
            ("1970-01-01 00:00:00Z", Err(Form)),
            ("1970-01-01 00:00:00+02:00", Err(Form)),
            ("1970-01-01 00:00:00.", Err(Form)),
            ("1970-01-01 00:00", Err(Form)),
        ] {
            assert_eq!(datetime(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_time_is_a_length_of_time() {
        let shown = |text: &str, digits| time(text.as_bytes(), digits, &mut vec![]).map(str::to_string);
        for (text, digits, expected) in [
            ("00:00:00", 0, "00:00:00"),
            ("-00:00:00.0", 0, "00:00:00"),
            ("-00:00:00.5", 1, "-00:00:00.5"),
            ("-838:59:59.000000", 0, "-838:59:59"),
            ("7:05:09", 0, "07:05:09"),
            ("007:05:09.12", 3, "07:05:09.120"),
            ("10:00:00", 6, "10:00:00.000000"),
            ("100:00:00.5", 0, "100:00:00.5"),
            ("10:00:00.123400", 3, "10:00:00.1234"),
        ] {
            assert_eq!(shown(text, digits).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "12:00", "12:60:00", "839:00:00", ":00:00", "12:00:00 PM", "--1:00:00", "12:00:00.x"] {
            assert!(shown(text, 0).is_err(), "{text}");
        }
    }

    #[test]
    fn a_year_is_digits() {
        assert_eq!(year(b"2024"), Ok(2024));
        assert_eq!(year(b"0"), Ok(0));
        for text in ["", "20245", "-1", "2 24"] {
            assert_eq!(year(text.as_bytes()), Err(Form));
        }
    }

    proptest! {
        #[test]
        fn a_date_is_as_many_days_as_counting_gives(days in -719_528..2_932_896i32) {
            prop_assert_eq!(date(counted(days).as_bytes()), Ok(Some(days)));
        }

        #[test]
        fn any_bytes_give_a_time_or_a_refusal(text in "[-0-9:. T]{0,30}") {
            let text = text.as_bytes();
            let _ = (date(text), datetime(text), time(text, 3, &mut vec![]).map(str::len), year(text));
        }
    }

    /// The date that lies `days` after 1970-01-01, by counting years and months.
    fn counted(days: i32) -> String {
        let leap = |year: i32| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let (mut year, mut rest) = (0, days + 719_528);
        while rest >= 365 + i32::from(leap(year)) {
            rest -= 365 + i32::from(leap(year));
            year += 1;
        }
        let lengths = [31, 28 + i32::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while rest >= lengths[month] {
            rest -= lengths[month];
            month += 1;
        }
        format!("{year:04}-{:02}-{:02}", month + 1, rest + 1)
    }
}
