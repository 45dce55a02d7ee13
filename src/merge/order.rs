//! Rows in the order of their keys.

use std::cmp::Ordering;
use std::iter::zip;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::row::{Row, RowConverter, Rows, SortField};

use crate::error::{Error, Result};

/// Fewer rows than this are sorted on one thread.
const SHARE: usize = 16 * 1024;

/// The numbers of rows by their values, NULL first, and rows of equal values by their numbers.
pub struct Ordered {
    entries: Vec<Entry>,
    /// The rows' binary forms, if entries do not tell them apart.
    rows: Option<Rows>,
}

/// A row: in the upper 96 bits the first bytes of its binary form in which rows differ, in the lower 32 its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry(u128);

/// Bytes of a row's binary form that its entry holds.
const BYTES: usize = 12;

impl Entry {
    fn new(bytes: &[u8], number: u32) -> Entry {
        let mut entry = [0; 16];
        let count = bytes.len().min(BYTES);
        entry[..count].copy_from_slice(&bytes[..count]);
        Entry(u128::from_be_bytes(entry) | u128::from(number))
    }

    pub fn number(self) -> usize {
        self.0 as u32 as usize
    }

    fn bytes(self) -> u128 {
        self.0 >> 32
    }
}

impl Ordered {
    /// Each group of rows of equal values.
    pub fn groups(&self) -> impl Iterator<Item = &[Entry]> {
        self.entries.chunk_by(|a, b| {
            let equal = a.bytes() == b.bytes();
            equal && self.rows.as_ref().is_none_or(|rows| rows.row(a.number()) == rows.row(b.number()))
        })
    }

    pub fn numbers(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.entries.iter().map(|entry| entry.number())
    }
}

/// Orders the rows of `columns`, which are compared one after the other.
pub fn ordered(columns: &[ArrayRef], threads: usize) -> Result<Ordered> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    order(RowConverter::new(fields)?.convert_columns(columns)?, threads)
}

/// Orders `rows`.
///
/// A few bytes of a row's binary form decide nearly always, so they stand beside its number: rows are compared without
/// looking them up.
///
/// # Errors
/// More rows than 32 bits can number.
pub fn order(rows: Rows, threads: usize) -> Result<Ordered> {
    let count = u32::try_from(rows.num_rows()).map_err(|_| Error::definite("no more than 2^32 rows can be sorted"))?;
    let alike = alike(&rows);
    let entry = |(row, number): (Row<'_>, u32)| Entry::new(&row.as_ref()[alike..], number);
    let mut entries: Vec<_> = rows.iter().zip(0..count).map(entry).collect();
    // no binary form is the beginning of another one, so what ends within an entry is told apart by it
    if rows.iter().all(|row| row.as_ref().len() - alike <= BYTES) {
        sort(&mut entries, &Entry::cmp, threads);
        return Ok(Ordered { entries, rows: None });
    }
    let compare = |a: &Entry, b: &Entry| {
        let by_row = || rows.row(a.number()).cmp(&rows.row(b.number()));
        a.bytes().cmp(&b.bytes()).then_with(by_row).then(a.cmp(b))
    };
    sort(&mut entries, &compare, threads);
    Ok(Ordered { entries, rows: Some(rows) })
}

/// How many bytes all rows begin with alike: in keys that are numbers, all but the lowest few.
fn alike(rows: &Rows) -> usize {
    let Some(first) = rows.iter().next() else { return 0 };
    let first = first.as_ref();
    rows.iter().fold(first.len(), |alike, row| {
        let (first, row) = (&first[..alike], row.as_ref());
        if row.starts_with(first) { alike } else { zip(first, row).take_while(|(a, b)| a == b).count() }
    })
}

/// Sorts the smaller and the greater half on threads of their own.
fn sort(entries: &mut [Entry], compare: &(impl Fn(&Entry, &Entry) -> Ordering + Sync), threads: usize) {
    if threads < 2 || entries.len() < 2 * SHARE || entries.is_sorted_by(|a, b| compare(a, b).is_le()) {
        return entries.sort_unstable_by(compare);
    }
    let place = entries.len() / threads * (threads / 2);
    let (smaller, _, greater) = entries.select_nth_unstable_by(place, compare);
    std::thread::scope(|scope| {
        scope.spawn(|| sort(smaller, compare, threads / 2));
        sort(greater, compare, threads - threads / 2);
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, StringArray};
    use proptest::collection::vec;
    use proptest::{option, prelude::*};

    use super::*;

    #[test]
    fn equal_rows_stay_in_their_order_and_null_comes_first() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b"), None]));
        let ordered = ordered(&[texts], 2).unwrap();
        assert_eq!(ordered.numbers().collect::<Vec<_>>(), [1, 4, 2, 0, 3]);
        assert_eq!(ordered.groups().map(<[_]>::len).collect::<Vec<_>>(), [2, 1, 2]);
    }

    proptest! {
        #[test]
        fn rows_are_ordered_as_their_values(
            rows in vec((option::of(-3i64..300), option::of("[ab]{0,14}")), 0..40), threads in 1usize..4,
        ) {
            let (numbers, texts): (Vec<_>, Vec<_>) = rows.iter().cloned().unzip();
            let columns: [ArrayRef; 2] = [Arc::new(Int64Array::from(numbers)), Arc::new(StringArray::from(texts))];
            let ordered = ordered(&columns, threads).unwrap();
            let mut expected: Vec<_> = (0..rows.len()).collect();
            expected.sort_by_key(|number| &rows[*number]);
            prop_assert_eq!(ordered.numbers().collect::<Vec<_>>(), &*expected);
            let groups = expected.chunk_by(|a, b| rows[*a] == rows[*b]).map(<[_]>::len);
            prop_assert!(ordered.groups().map(<[_]>::len).eq(groups));
        }
    }

    #[test]
    fn halves_are_sorted_apart_and_long_values_are_compared_to_their_end() {
        let count = 3 * SHARE as i64;
        let numbers: Vec<_> = (0..count).map(|i| i * 7919 % count).collect();
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(
            numbers.iter().map(|n| format!("a text of more than sixteen bytes {n:08}")),
        ));
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        let by_text = ordered(&[texts], 3).unwrap();
        assert!(by_text.numbers().eq(ordered(&[numbers], 1).unwrap().numbers()));
        assert_eq!(by_text.groups().count(), count as usize);
    }
}
