//! The values of a page as they lie in it, told apart and compared without being decoded (Parquet, *Encodings* and
//! *ColumnOrder*).

use std::cmp::Ordering;
use std::ops::Range;

use deltalake::parquet::basic::{SortOrder, Type};
use deltalake::parquet::schema::types::ColumnDescriptor;

use super::hybrid;

/// The form of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Int32,
    Int64,
    /// Two's complement of so many bytes, the highest first: decimals.
    BigEndian(usize),
    /// Texts and other bytes, each behind its length.
    Bytes,
}

/// The smallest and the largest of some values.
pub type Ends<'a> = Option<(&'a [u8], &'a [u8])>;

impl Form {
    /// `None` for what is not understood here.
    pub fn of(column: &ColumnDescriptor) -> Option<Form> {
        match (column.physical_type(), column.sort_order()) {
            (Type::INT32, SortOrder::SIGNED) => Some(Form::Int32),
            (Type::INT64, SortOrder::SIGNED) => Some(Form::Int64),
            (Type::FIXED_LEN_BYTE_ARRAY, SortOrder::SIGNED) => {
                usize::try_from(column.type_length()).ok().map(Form::BigEndian)
            }
            (Type::BYTE_ARRAY, SortOrder::UNSIGNED) => Some(Form::Bytes),
            _ => None,
        }
    }

    pub fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Form::Int32 => int32(a).cmp(&int32(b)),
            Form::Int64 => int64(a).cmp(&int64(b)),
            Form::BigEndian(_) => big_endian(a, b),
            Form::Bytes => a.cmp(b),
        }
    }

    /// All of `values`, which lie one behind the other; `None` where the last one is cut.
    pub fn split(self, mut values: &[u8]) -> Option<Vec<&[u8]>> {
        let mut split = vec![];
        while !values.is_empty() {
            split.push(match self {
                Form::Int32 => fixed(4, &mut values)?,
                Form::Int64 => fixed(8, &mut values)?,
                Form::BigEndian(length) => fixed(length, &mut values)?,
                Form::Bytes => bytes(&mut values)?,
            });
        }
        Some(split)
    }

    /// Appends to `stretches` where those of `values` lie whose numbers are in the ascending `ranges`. The values lie one
    /// behind the other, the first one `at` this place.
    pub fn keep<'a>(
        self,
        values: &'a [u8],
        at: usize,
        ranges: &[Range<usize>],
        stretches: &mut Vec<Range<usize>>,
    ) -> Option<Ends<'a>> {
        match self {
            Form::Int32 => keep(values, at, ranges, stretches, |rest| fixed(4, rest), |a, b| int32(a) < int32(b)),
            Form::Int64 => keep(values, at, ranges, stretches, |rest| fixed(8, rest), |a, b| int64(a) < int64(b)),
            Form::BigEndian(length) => {
                keep(values, at, ranges, stretches, |rest| fixed(length, rest), |a, b| big_endian(a, b).is_lt())
            }
            Form::Bytes => keep(values, at, ranges, stretches, bytes, is_less),
        }
    }

    /// Appends to `out` those of `values` whose numbers are in the ascending `ranges`. Each is the number of an entry of
    /// `dictionary`.
    pub fn keep_numbers<'a>(
        self,
        values: &[u8],
        ranges: &[Range<usize>],
        dictionary: &[&'a [u8]],
        out: &mut Vec<u8>,
    ) -> Option<Ends<'a>> {
        // a page of NULLs alone may lack even the width of its numbers
        let count = ranges.last().map_or(0, |last| last.end);
        let (bits, packed) =
            if count == 0 { (&0, values) } else { values.split_first().filter(|(bits, _)| **bits <= 32)? };
        let numbers = hybrid::unpack(packed, u32::from(*bits), count)?;
        let kept = ranges.iter().map(|range| &numbers[range.clone()]).collect::<Vec<_>>().concat();
        out.push(*bits);
        hybrid::pack(&kept, u32::from(*bits), out);
        let mut is_used = vec![false; dictionary.len()];
        for number in kept {
            *is_used.get_mut(number as usize)? = true;
        }
        let used = dictionary.iter().zip(is_used).filter(|(_, is_used)| *is_used).map(|(entry, _)| *entry);
        let least = used.clone().min_by(|a, b| self.compare(a, b));
        Some(least.zip(used.max_by(|a, b| self.compare(a, b))))
    }
}

fn keep<'a>(
    values: &'a [u8],
    at: usize,
    ranges: &[Range<usize>],
    stretches: &mut Vec<Range<usize>>,
    next: impl Fn(&mut &'a [u8]) -> Option<&'a [u8]>,
    is_less: impl Fn(&[u8], &[u8]) -> bool,
) -> Option<Ends<'a>> {
    let (mut rest, mut number, mut ends) = (values, 0, None);
    for range in ranges {
        for _ in number..range.start {
            next(&mut rest)?;
        }
        let start = at + values.len() - rest.len();
        for _ in range.clone() {
            let value = next(&mut rest)?;
            ends = Some(match ends {
                None => (value, value),
                Some((least, most)) => {
                    (if is_less(value, least) { value } else { least }, if is_less(most, value) { value } else { most })
                }
            });
        }
        let end = at + values.len() - rest.len();
        match stretches.last_mut().filter(|last| last.end == start) {
            Some(last) => last.end = end,
            None if start < end => stretches.push(start..end),
            None => {}
        }
        number = range.end;
    }
    Some(ends)
}

fn fixed<'a>(length: usize, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    rest.split_off(..length)
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, values) = rest.split_first_chunk()?;
    *rest = values;
    rest.split_off(..u32::from_le_bytes(*length) as usize)
}

/// As `a < b`; most bytes differ in the first ones.
fn is_less(a: &[u8], b: &[u8]) -> bool {
    let first = |bytes: &[u8]| bytes.first_chunk().copied().map(u64::from_be_bytes);
    match (first(a), first(b)) {
        (Some(a), Some(b)) if a != b => a < b,
        _ => a < b,
    }
}

pub fn int32(bytes: &[u8]) -> i32 {
    bytes.try_into().map(i32::from_le_bytes).unwrap_or_default()
}

pub fn int64(bytes: &[u8]) -> i64 {
    bytes.try_into().map(i64::from_le_bytes).unwrap_or_default()
}

/// Numbers of the same length.
fn big_endian(a: &[u8], b: &[u8]) -> Ordering {
    let is_negative = |bytes: &[u8]| bytes.first().is_some_and(|byte| *byte >= 0x80);
    is_negative(b).cmp(&is_negative(a)).then_with(|| a.cmp(b))
}
