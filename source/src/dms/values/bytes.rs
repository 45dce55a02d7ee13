//! Bytes and bits, which DMS writes as hexadecimal digits ("Using Amazon S3 as a target", BYTES).

use super::Refusal;

/// Appends the bytes of hexadecimal digits in either case, with or without `0x` before them, to `out`.
pub(crate) fn hex(text: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let (pairs, odd) = digits(text).as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Refusal::Form);
    }
    for &[high, low] in pairs {
        out.push(nibble(high)? << 4 | nibble(low)?);
    }
    Ok(())
}

/// Appends the bytes of a `BINARY(length)`, filled up with zeros as MySQL does.
pub(crate) fn padded(text: &[u8], length: u32, out: &mut Vec<u8>) -> Result<(), Refusal> {
    // MySQL has no longer ones, and the bytes of a batch must fit 32 bits.
    let length = usize::try_from(length.min(255)).map_err(|_| Refusal::Range)?;
    let before = out.len();
    hex(text, out)?;
    if out.len() - before > length {
        return Err(Refusal::Range);
    }
    out.resize(before + length, 0);
    Ok(())
}

/// The value of a `BIT(1)`: a boolean to DMS, whose text is not documented.
pub(crate) fn boolean(text: &[u8]) -> Result<bool, Refusal> {
    match text {
        b"1" | b"01" | b"0x01" | b"\\x01" => Ok(true),
        b"0" | b"00" | b"0x00" | b"\\x00" => Ok(false),
        _ if text.eq_ignore_ascii_case(b"true") || text.eq_ignore_ascii_case(b"t") => Ok(true),
        _ if text.eq_ignore_ascii_case(b"false") || text.eq_ignore_ascii_case(b"f") => Ok(false),
        _ => Err(Refusal::Form),
    }
}

/// The value of a `BIT(count)`, the first digit highest.
pub(crate) fn bits(text: &[u8], count: u8) -> Result<u64, Refusal> {
    let digits = digits(text);
    if digits.is_empty() {
        return Err(Refusal::Form);
    }
    let mut value = 0u64;
    for digit in digits {
        let digit = nibble(*digit)?;
        if value >> 60 != 0 {
            return Err(Refusal::Range);
        }
        value = value << 4 | u64::from(digit);
    }
    if value.checked_shr(count.into()).is_some_and(|beyond| beyond != 0) { Err(Refusal::Range) } else { Ok(value) }
}

fn digits(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"0x").or_else(|| text.strip_prefix(b"0X")).unwrap_or(text)
}

fn nibble(digit: u8) -> Result<u8, Refusal> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(Refusal::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<u8>, Refusal> {
        let mut out = Vec::new();
        hex(text.as_bytes(), &mut out).map(|()| out)
    }

    #[test]
    fn bytes_are_hexadecimal_in_either_case() {
        assert_eq!(read("00fFAb"), Ok(vec![0, 255, 171]));
        assert_eq!(read("0xFF"), Ok(vec![255]));
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("abc"), Err(Refusal::Form));
        assert_eq!(read("zz"), Err(Refusal::Form));
    }

    #[test]
    fn a_binary_is_filled_up_with_zeros() {
        let read = |text: &str| {
            let mut out = Vec::new();
            padded(text.as_bytes(), 3, &mut out).map(|()| out)
        };
        assert_eq!(read("ff"), Ok(vec![255, 0, 0]));
        assert_eq!(read("01020304"), Err(Refusal::Range));
    }

    #[test]
    fn one_bit_is_a_boolean() {
        for text in ["1", "01", "true", "T", "\\x01"] {
            assert_eq!(boolean(text.as_bytes()), Ok(true), "{text}");
        }
        for text in ["0", "00", "FALSE", "f", "0x00"] {
            assert_eq!(boolean(text.as_bytes()), Ok(false), "{text}");
        }
        for text in ["", "2", "yes", "10", " 1"] {
            assert_eq!(boolean(text.as_bytes()), Err(Refusal::Form), "{text}");
        }
    }

    #[test]
    fn bits_beyond_their_number_are_refused() {
        assert_eq!(bits(b"0x1f", 5), Ok(31));
        assert_eq!(bits(b"20", 5), Err(Refusal::Range));
        assert_eq!(bits(b"FFFFFFFFFFFFFFFF", 64), Ok(u64::MAX));
        assert_eq!(bits(b"1FFFFFFFFFFFFFFFF", 64), Err(Refusal::Range));
        assert_eq!(bits(b"", 5), Err(Refusal::Form));
    }

    proptest! {
        #[test]
        fn bytes_survive_their_text(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let text: String = bytes.iter().map(|b| format!("{b:02X}")).collect();
            prop_assert_eq!(read(&text), Ok(bytes));
        }
    }
}
