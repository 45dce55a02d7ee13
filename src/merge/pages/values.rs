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
    /// Of which NaN has no place in the order.
    Float,
    Double,
    /// Two's complement of so many bytes, the highest first: decimals.
    BigEndian(usize),
    /// Texts and other bytes, each behind its length.
    Bytes,
}

/// The smallest and the largest of some values.
pub type Ends<'a> = Option<(&'a [u8], &'a [u8])>;

/// The ends of the values that are kept of some.
pub enum Kept<'a> {
    /// Those of all of them, since none that is lost is one.
    AsBefore,
    Others(Ends<'a>),
}

impl Form {
    /// `None` for what is not understood here.
    pub fn of(column: &ColumnDescriptor) -> Option<Form> {
        match (column.physical_type(), column.sort_order()) {
            (Type::INT32, SortOrder::SIGNED) => Some(Form::Int32),
            (Type::INT64, SortOrder::SIGNED) => Some(Form::Int64),
            (Type::FLOAT, SortOrder::SIGNED) => Some(Form::Float),
            (Type::DOUBLE, SortOrder::SIGNED) => Some(Form::Double),
            (Type::FIXED_LEN_BYTE_ARRAY, SortOrder::SIGNED) => {
                usize::try_from(column.type_length()).ok().filter(|length| *length > 0).map(Form::BigEndian)
            }
            (Type::BYTE_ARRAY, SortOrder::UNSIGNED) => Some(Form::Bytes),
            _ => None,
        }
    }

    pub fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Form::Int32 => int32(a).cmp(&int32(b)),
            Form::Int64 => int64(a).cmp(&int64(b)),
            Form::Float => float(a).total_cmp(&float(b)),
            Form::Double => double(a).total_cmp(&double(b)),
            Form::BigEndian(_) => big_endian(a, b),
            Form::Bytes => a.cmp(b),
        }
    }

    /// All of `values`, which lie one behind the other; `None` where the last one is cut.
    pub fn split(self, mut values: &[u8]) -> Option<Vec<&[u8]>> {
        let mut split = vec![];
        while !values.is_empty() {
            split.push(self.take(&mut values)?);
        }
        Some(split)
    }

    /// Appends to `stretches` where those of `values` lie whose numbers are in the ascending `ranges`. The values lie one
    /// behind the other, the first one `at` this place, and between the `bounds`, if they are known.
    pub fn keep<'a>(
        self,
        values: &'a [u8],
        at: usize,
        ranges: &[Range<usize>],
        bounds: Ends<'_>,
        stretches: &mut Vec<Range<usize>>,
    ) -> Option<Kept<'a>> {
        let (mut rest, mut number, mut inside) = (values, 0, bounds.is_some());
        for range in ranges {
            for _ in number..range.start {
                inside &= self.is_inside(self.take(&mut rest)?, bounds);
            }
            let start = at + values.len() - rest.len();
            self.skip(range.len(), &mut rest)?;
            let end = at + values.len() - rest.len();
            match stretches.last_mut().filter(|last| last.end == start) {
                Some(last) => last.end = end,
                None if start < end => stretches.push(start..end),
                None => {}
            }
            number = range.end;
        }
        while inside && !rest.is_empty() {
            inside = self.is_inside(self.take(&mut rest)?, bounds);
        }
        if inside {
            return Some(Kept::AsBefore);
        }
        let mut ends = None;
        for stretch in stretches {
            let mut kept = &values[stretch.start - at..stretch.end - at];
            while !kept.is_empty() {
                let value = self.take(&mut kept)?;
                if self.is_nan(value) {
                    continue;
                }
                let (least, most) = ends.unwrap_or((value, value));
                ends = Some((
                    if self.compare(value, least).is_lt() { value } else { least },
                    if self.compare(most, value).is_lt() { value } else { most },
                ));
            }
        }
        Some(Kept::Others(self.of_any_zero(ends)))
    }

    /// Appends to `out` those of `count` values whose numbers are in the ascending `ranges`. Each is the number of an entry
    /// of `dictionary`.
    pub fn keep_numbers<'a>(
        self,
        values: &[u8],
        count: usize,
        ranges: &[Range<usize>],
        dictionary: &[&'a [u8]],
        bounds: Ends<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Kept<'a>> {
        // a page of NULLs alone may lack even the width of its numbers
        let (bits, packed) =
            if count == 0 { (&0, values) } else { values.split_first().filter(|(bits, _)| **bits <= 32)? };
        let numbers = hybrid::unpack(packed, u32::from(*bits), count)?;
        if numbers.iter().max().is_some_and(|most| *most as usize >= dictionary.len()) {
            return None;
        }
        let kept = ranges.iter().map(|range| &numbers[range.clone()]).collect::<Vec<_>>().concat();
        out.push(*bits);
        hybrid::pack(&kept, u32::from(*bits), out);
        let gaps = ranges.iter().map(|range| range.start).chain([count]);
        let gaps = std::iter::once(0).chain(ranges.iter().map(|range| range.end)).zip(gaps);
        let mut lost = gaps.flat_map(|(from, to)| &numbers[from..to]).map(|number| dictionary[*number as usize]);
        if bounds.is_some() && lost.all(|value| self.is_inside(value, bounds)) {
            return Some(Kept::AsBefore);
        }
        let mut is_used = vec![false; dictionary.len()];
        kept.into_iter().for_each(|number| is_used[number as usize] = true);
        let used = dictionary.iter().zip(is_used).filter(|(_, is_used)| *is_used).map(|(entry, _)| *entry);
        let used = used.filter(|entry| !self.is_nan(entry));
        let least = used.clone().min_by(|a, b| self.compare(a, b));
        Some(Kept::Others(self.of_any_zero(least.zip(used.max_by(|a, b| self.compare(a, b))))))
    }

    /// Takes the first value off.
    fn take<'a>(self, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        match self.length() {
            Some(length) => rest.split_off(..length),
            None => bytes(rest),
        }
    }

    /// Takes so many values off.
    fn skip(self, count: usize, rest: &mut &[u8]) -> Option<()> {
        match self.length() {
            Some(length) => rest.split_off(..count.checked_mul(length)?).map(drop),
            None => (0..count).try_for_each(|_| bytes(rest).map(drop)),
        }
    }

    /// The bytes of every value, where they have as many.
    fn length(self) -> Option<usize> {
        match self {
            Form::Int32 | Form::Float => Some(4),
            Form::Int64 | Form::Double => Some(8),
            Form::BigEndian(length) => Some(length),
            Form::Bytes => None,
        }
    }

    /// True if `value` lies between `bounds` and is none of them, or has no place in the order.
    fn is_inside(self, value: &[u8], bounds: Ends<'_>) -> bool {
        let is_between = |(least, most)| self.compare(least, value).is_lt() && self.compare(value, most).is_lt();
        bounds.is_some_and(|bounds| self.is_nan(value) || is_between(bounds))
    }

    fn is_nan(self, value: &[u8]) -> bool {
        match self {
            Form::Float => float(value).is_nan(),
            Form::Double => double(value).is_nan(),
            _ => false,
        }
    }

    /// The same ends, where readers that take both zeros for one do not miss the other (Parquet, *ColumnOrder*).
    fn of_any_zero<'a>(self, ends: Ends<'a>) -> Ends<'a> {
        const NEGATIVE: [u8; 8] = (-0.0_f64).to_le_bytes();
        let (least, most) = ends?;
        let is_zero = |value: &[u8]| match self {
            Form::Float => float(value) == 0.0,
            Form::Double => double(value) == 0.0,
            _ => false,
        };
        // the sign is in the last byte
        let least = if is_zero(least) { &NEGATIVE[8 - least.len()..] } else { least };
        let most = if is_zero(most) { &[0; 8][..most.len()] } else { most };
        Some((least, most))
    }
}

/// Takes the first value off, which stands behind its length.
fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, values) = rest.split_first_chunk()?;
    *rest = values;
    rest.split_off(..u32::from_le_bytes(*length) as usize)
}

pub fn int32(bytes: &[u8]) -> i32 {
    bytes.try_into().map(i32::from_le_bytes).unwrap_or_default()
}

pub fn int64(bytes: &[u8]) -> i64 {
    bytes.try_into().map(i64::from_le_bytes).unwrap_or_default()
}

pub fn float(bytes: &[u8]) -> f32 {
    bytes.try_into().map(f32::from_le_bytes).unwrap_or_default()
}

pub fn double(bytes: &[u8]) -> f64 {
    bytes.try_into().map(f64::from_le_bytes).unwrap_or_default()
}

/// Numbers of the same length.
fn big_endian(a: &[u8], b: &[u8]) -> Ordering {
    let is_negative = |bytes: &[u8]| bytes.first().is_some_and(|byte| *byte >= 0x80);
    is_negative(b).cmp(&is_negative(a)).then_with(|| a.cmp(b))
}
