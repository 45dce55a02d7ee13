//! Rows in the order of their keys.

use std::cmp::Ordering;
use std::iter::zip;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::row::{Row, RowConverter, Rows, SortField};

use crate::error::{Error, Result};

/// Fewer rows than this are no work for a thread of its own.
pub const SHARE: usize = 16 * 1024;

/// The numbers of rows by their values, NULL first, and rows of equal values by their numbers.
pub struct Ordered {
    entries: Vec<Entry>,
    /// The rows' binary forms, if entries do not tell them apart.
    forms: Option<Forms>,
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
            equal && self.forms.as_ref().is_none_or(|forms| forms.row(a.number()) == forms.row(b.number()))
        })
    }

    pub fn numbers(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.entries.iter().map(|entry| entry.number())
    }
}

/// The binary forms of rows, part by part.
struct Forms {
    parts: Vec<Rows>,
    /// The number of each part's first row.
    starts: Vec<usize>,
    count: usize,
}

impl Forms {
    fn new(parts: Vec<Rows>) -> Forms {
        let mut count = 0;
        let mut starts = Vec::with_capacity(parts.len());
        for part in &parts {
            starts.push(count);
            count += part.num_rows();
        }
        Forms { parts, starts, count }
    }

    /// Out of line, as it is hardly ever needed where entries are compared.
    #[inline(never)]
    fn compare(&self, a: Entry, b: Entry) -> Ordering {
        self.row(a.number()).cmp(&self.row(b.number()))
    }

    fn row(&self, number: usize) -> Row<'_> {
        let part = self.starts.partition_point(|start| *start <= number) - 1;
        self.parts[part].row(number - self.starts[part])
    }

    /// How many bytes all rows begin with alike: in keys that are numbers, all but the lowest few.
    fn alike(&self, threads: usize) -> usize {
        let Some(first) = self.parts.iter().find_map(|part| part.iter().next()) else { return 0 };
        let first = first.as_ref();
        let of_part = |part: &Rows| {
            part.iter().fold(first.len(), |alike, row| {
                let (first, row) = (&first[..alike], row.as_ref());
                if row.starts_with(first) { alike } else { zip(first, row).take_while(|(a, b)| a == b).count() }
            })
        };
        of_each(&self.parts, threads, of_part).into_iter().min().unwrap_or_default()
    }
}

/// Orders the rows of `batches`, whose columns are compared one after the other; rows are numbered through all of them.
pub fn ordered(batches: &[&[ArrayRef]], threads: usize) -> Result<Ordered> {
    let Some(columns) = batches.first() else { return order(vec![], threads) };
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let (converter, rows) = (RowConverter::new(fields)?, batches.iter().flat_map(|columns| columns.first()));
    let threads = if rows.map(|column| column.len()).sum::<usize>() < 2 * SHARE { 1 } else { threads };
    let parts = of_each(batches, threads, |columns| converter.convert_columns(columns));
    order(parts.into_iter().collect::<Result<_, _>>()?, threads)
}

/// Orders the rows of all `parts`.
///
/// A few bytes of a row's binary form decide nearly always, so they stand beside its number: rows are compared without
/// looking them up.
///
/// # Errors
/// More rows than 32 bits can number.
pub fn order(parts: Vec<Rows>, threads: usize) -> Result<Ordered> {
    let forms = Forms::new(parts);
    u32::try_from(forms.count).map_err(|_| Error::definite("no more than 2^32 rows can be sorted"))?;
    let alike = forms.alike(threads);
    let parts: Vec<_> = zip(&forms.parts, &forms.starts).collect();
    let of_parts = of_each(&parts, threads, |(part, start)| {
        let entry = |(row, number): (Row<'_>, usize)| Entry::new(&row.as_ref()[alike..], number as u32);
        // no binary form is the beginning of another one, so what ends within an entry is told apart by it
        let suffices = part.iter().all(|row| row.as_ref().len() - alike <= BYTES);
        (part.iter().zip(**start..).map(entry).collect::<Vec<_>>(), suffices)
    });
    let entries_suffice = of_parts.iter().all(|(_, suffices)| *suffices);
    let mut entries = Vec::with_capacity(forms.count);
    of_parts.into_iter().for_each(|(of_part, _)| entries.extend(of_part));
    if entries_suffice {
        sort(&mut entries, &Entry::cmp, threads);
        return Ok(Ordered { entries, forms: None });
    }
    let compare = |a: &Entry, b: &Entry| a.bytes().cmp(&b.bytes()).then_with(|| forms.compare(*a, *b)).then(a.cmp(b));
    sort(&mut entries, &compare, threads);
    Ok(Ordered { entries, forms: Some(forms) })
}

/// What `of` makes of each item, in their order, on so many threads.
pub fn of_each<T: Sync, R: Send>(items: &[T], threads: usize, of: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let share = items.len().div_ceil(threads.max(1)).max(1);
    let of_share = |items: &[T]| items.iter().map(&of).collect::<Vec<_>>();
    let (own, others) = items.split_at(share.min(items.len()));
    std::thread::scope(|scope| {
        let others: Vec<_> = others.chunks(share).map(|items| scope.spawn(move || of_share(items))).collect();
        let mut all = of_share(own);
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
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

    /// The order of the rows of `columns`, which come in batches of so many.
    fn of_batches(columns: &[ArrayRef], rows: usize, threads: usize) -> Ordered {
        let count = columns[0].len();
        let slice = |start: usize| columns.iter().map(move |column| column.slice(start, rows.min(count - start)));
        let batches: Vec<Vec<_>> = (0..count).step_by(rows).map(|start| slice(start).collect()).collect();
        ordered(&batches.iter().map(Vec::as_slice).collect::<Vec<_>>(), threads).unwrap()
    }

    #[test]
    fn equal_rows_stay_in_their_order_and_null_comes_first() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b"), None]));
        let ordered = ordered(&[&[texts]], 2).unwrap();
        assert_eq!(ordered.numbers().collect::<Vec<_>>(), [1, 4, 2, 0, 3]);
        assert_eq!(ordered.groups().map(<[_]>::len).collect::<Vec<_>>(), [2, 1, 2]);
    }

    proptest! {
        #[test]
        fn rows_are_ordered_as_their_values(
            rows in vec((option::of(-3i64..300), option::of("[ab]{0,14}")), 0..40),
            batch in 1usize..50,
            threads in 1usize..4,
        ) {
            let (numbers, texts): (Vec<_>, Vec<_>) = rows.iter().cloned().unzip();
            let columns: [ArrayRef; 2] = [Arc::new(Int64Array::from(numbers)), Arc::new(StringArray::from(texts))];
            let ordered = of_batches(&columns, batch, threads);
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
        let by_text = of_batches(&[texts], 1000, 3);
        assert!(by_text.numbers().eq(ordered(&[&[numbers]], 1).unwrap().numbers()));
        assert_eq!(by_text.groups().count(), count as usize);
    }
}
