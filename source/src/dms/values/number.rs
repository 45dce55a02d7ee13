//! Integers, decimals and floating point numbers.

use super::Refusal;

/// A whole number of up to 64 bits with a sign.
#[inline]
pub(crate) fn integer(text: &[u8]) -> Result<i64, Refusal> {
    let (negative, digits) = sign(text);
    let magnitude = magnitude(digits)?;
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { 0i64.checked_add_unsigned(magnitude) }
        .ok_or(Refusal::Range)
}

/// A whole number of 64 bits that is not negative.
pub(crate) fn unsigned(text: &[u8]) -> Result<u64, Refusal> {
    let (negative, digits) = sign(text);
    match magnitude(digits)? {
        value if negative && value > 0 => Err(Refusal::Range),
        value => Ok(value),
    }
}

#[inline]
fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    }
}

#[inline]
fn magnitude(digits: &[u8]) -> Result<u64, Refusal> {
    if digits.is_empty() {
        return Err(Refusal::Form);
    }
    // Nineteen digits always fit 64 bits.
    if digits.len() <= 19 {
        let mut value = 0u64;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(Refusal::Form);
            }
            value = value * 10 + u64::from(digit);
        }
        return Ok(value);
    }
    let text = str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    text.ok_or(Refusal::Form)?.parse().map_err(|_| Refusal::Range)
}

/// A decimal as the whole number of its units of 10^-`scale`, for a `precision` of at most 38.
///
/// Zeros beyond the scale are dropped and other digits refused: MySQL has rounded already, so they would be another
/// column's.
pub(crate) fn decimal(text: &[u8], precision: u8, scale: u8) -> Result<i128, Refusal> {
    let (negative, whole, fraction) = decimal_parts(text, precision, scale)?;
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    let value = if precision <= 18 {
        let value = whole.iter().chain(fraction).fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        i128::from(value * 10u64.pow((scale - fraction.len()) as u32))
    } else {
        let value = whole.iter().chain(fraction).fold(0i128, |value, digit| value * 10 + i128::from(digit - b'0'));
        value * 10i128.pow((scale - fraction.len()) as u32)
    };
    Ok(if negative { -value } else { value })
}

/// A decimal of any precision as MySQL writes it: equal ones are the same text, since they may be keys.
pub(crate) fn long_decimal<'a>(
    text: &[u8],
    precision: u8,
    scale: u8,
    out: &'a mut Vec<u8>,
) -> Result<&'a str, Refusal> {
    let (negative, whole, fraction) = decimal_parts(text, precision, scale)?;
    out.clear();
    if negative && whole.iter().chain(fraction).any(|digit| *digit != b'0') {
        out.push(b'-');
    }
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(fraction);
        out.resize(out.len() + usize::from(scale) - fraction.len(), b'0');
    }
    str::from_utf8(out).map_err(|_| Refusal::Form)
}

/// Whether a number is written so: without a plus, and without zeros before it that say nothing.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    !matches!(digits, [b'+', ..] | [b'0', b'0'..=b'9', ..])
}

/// The sign and the digits before and after the point, without zeros that say nothing; a decimal of any precision.
pub(crate) fn decimal_parts(text: &[u8], precision: u8, scale: u8) -> Result<(bool, &[u8], &[u8]), Refusal> {
    let (negative, digits) = sign(text);
    let (mut whole, mut fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(point) if point + 1 < digits.len() => (&digits[..point], &digits[point + 1..]),
        Some(_) => return Err(Refusal::Form),
        None => (digits, &[][..]),
    };
    let all_digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
    if !all_digits || whole.len() + fraction.len() == 0 {
        return Err(Refusal::Form);
    }
    while let [b'0', rest @ ..] = whole {
        whole = rest;
    }
    if fraction.len() > usize::from(scale) {
        let (kept, beyond) = fraction.split_at(usize::from(scale));
        if beyond.iter().any(|b| *b != b'0') {
            return Err(Refusal::Fraction);
        }
        fraction = kept;
    }
    if whole.len() > usize::from(precision.saturating_sub(scale)) {
        return Err(Refusal::Range);
    }
    Ok((negative, whole, fraction))
}

/// A floating point number in plain digits or in the form of C's `%e`, as DMS writes it: `+3.23800011e+01`.
pub(crate) fn float32(text: &[u8]) -> Result<f32, Refusal> {
    let value: f32 = float_text(text)?.parse().map_err(|_| Refusal::Form)?;
    if value.is_finite() { Ok(value) } else { Err(Refusal::Range) }
}

/// The same in double precision.
pub(crate) fn float64(text: &[u8]) -> Result<f64, Refusal> {
    let value: f64 = float_text(text)?.parse().map_err(|_| Refusal::Form)?;
    if value.is_finite() { Ok(value) } else { Err(Refusal::Range) }
}

/// Text without the words (`inf`, `nan`) that Rust reads as numbers.
fn float_text(text: &[u8]) -> Result<&str, Refusal> {
    let allowed = |b: &u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    if !text.iter().all(allowed) {
        return Err(Refusal::Form);
    }
    str::from_utf8(text).map_err(|_| Refusal::Form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_integer_is_digits_with_a_sign() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("-128", Ok(-128)),
            ("+7", Ok(7)),
            ("007", Ok(7)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(Refusal::Range)),
            ("00000000000000000000000012", Ok(12)),
            ("99999999999999999999", Err(Refusal::Range)),
            ("", Err(Refusal::Form)),
            ("-", Err(Refusal::Form)),
            (" 5", Err(Refusal::Form)),
            ("5 ", Err(Refusal::Form)),
            ("19x4", Err(Refusal::Form)),
            ("1.0", Err(Refusal::Form)),
            ("--1", Err(Refusal::Form)),
            ("9999999999999999999x", Err(Refusal::Form)),
        ] {
            assert_eq!(integer(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(unsigned(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(unsigned(b"18446744073709551616"), Err(Refusal::Range));
        assert_eq!(unsigned(b"-1"), Err(Refusal::Range));
    }

    #[test]
    fn a_decimal_is_exact_or_refused() {
        for (text, expected) in [
            ("21000.00", Ok(2_100_000)),
            ("-0.05", Ok(-5)),
            ("7", Ok(700)),
            ("7.5", Ok(750)),
            (".5", Ok(50)),
            ("12.340", Ok(1234)),
            ("12.345", Err(Refusal::Fraction)),
            ("0012345678.00", Ok(1_234_567_800)),
            ("123456789.00", Err(Refusal::Range)),
            ("1e3", Err(Refusal::Form)),
            ("1.", Err(Refusal::Form)),
            (".", Err(Refusal::Form)),
            ("", Err(Refusal::Form)),
            ("1.2.3", Err(Refusal::Form)),
            ("1,5", Err(Refusal::Form)),
        ] {
            assert_eq!(decimal(text.as_bytes(), 10, 2), expected, "{text}");
        }
        let nines = "9".repeat(38);
        assert_eq!(decimal(nines.as_bytes(), 38, 0), Ok(10i128.pow(38) - 1));
        assert_eq!(decimal(b"0.5", 1, 1), Ok(5));
    }

    #[test]
    fn a_float_is_written_as_c_does_or_plainly() {
        assert_eq!(float32(b"+3.23800011e+01"), Ok(32.38));
        assert_eq!(float64(b"+5.0656000000000000e+05"), Ok(506_560.0));
        assert_eq!(float64(b"-1.5"), Ok(-1.5));
        assert_eq!(float64(b"1e999"), Err(Refusal::Range));
        assert_eq!(float32(b"1e39"), Err(Refusal::Range));
        for text in ["", "nan", "inf", "-Infinity", "0x1p3", " 1", "1f", "e5", "+", "1e"] {
            assert_eq!(float64(text.as_bytes()), Err(Refusal::Form), "{text}");
        }
    }

    #[test]
    fn equal_long_decimals_are_the_same_text() {
        for (text, scale, expected) in [
            ("1.5", 3, "1.500"),
            ("+01.5000", 3, "1.500"),
            ("-.5", 1, "-0.5"),
            ("-0.000", 3, "0.000"),
            ("00", 0, "0"),
            ("123456789012345678901234567890123456789012", 0, "123456789012345678901234567890123456789012"),
        ] {
            assert_eq!(long_decimal(text.as_bytes(), 65, scale, &mut vec![]), Ok(expected), "{text}");
        }
        assert_eq!(long_decimal(b"1.55", 65, 1, &mut vec![]), Err(Refusal::Fraction));
    }

    proptest! {
        #[test]
        fn an_integer_survives_its_text(value in any::<i64>()) {
            prop_assert_eq!(integer(value.to_string().as_bytes()), Ok(value));
        }

        #[test]
        fn a_decimal_survives_its_text(units in -(10i128.pow(18))..10i128.pow(18), scale in 0u8..10) {
            let divisor = 10i128.pow(u32::from(scale));
            let (whole, fraction) = (units.abs() / divisor, units.abs() % divisor);
            let (sign, width) = (if units < 0 { "-" } else { "" }, usize::from(scale));
            let text = if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction:0width$}") };
            prop_assert_eq!(decimal(text.as_bytes(), 38, scale), Ok(units));
        }

        #[test]
        fn any_bytes_give_a_number_or_a_refusal(
            text in "[-+0-9.eEx ]{0,45}", precision in 0u8..=65, scale in 0u8..=65,
        ) {
            let text = text.as_bytes();
            let _ = (integer(text), unsigned(text), float32(text), float64(text));
            let _ = decimal(text, precision.min(38), scale.min(precision.min(38)));
            let _ = decimal_parts(text, precision, scale);
        }
    }
}
