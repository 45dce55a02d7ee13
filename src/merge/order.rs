//! Rows in the order of their keys.

use std::ops::Range;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::row::{RowConverter, Rows, SortField};

use crate::error::Result;

/// Fewer rows than this are sorted on one thread.
const SHARE: usize = 64 * 1024;

/// The numbers of rows by their values, NULL first, and rows of equal values by their numbers.
pub struct Ordered {
    pub numbers: Vec<usize>,
    values: Rows,
}

impl Ordered {
    /// The places in [`Ordered::numbers`] of each group of rows of equal values.
    pub fn groups(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut start = 0;
        std::iter::from_fn(move || {
            let first = *self.numbers.get(start)?;
            let value = self.values.row(first);
            let more = self.numbers[start + 1..].iter().take_while(|number| self.values.row(**number) == value).count();
            let group = start..start + 1 + more;
            start = group.end;
            Some(group)
        })
    }
}

/// Orders the rows of `columns`, which are compared one after the other.
///
/// The first bytes of a row's binary form decide nearly always, so they stand beside its number: rows are compared
/// without looking them up.
pub fn ordered(columns: &[ArrayRef], threads: usize) -> Result<Ordered> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let values = RowConverter::new(fields)?.convert_columns(columns)?;
    let mut entries: Vec<_> = values.iter().enumerate().map(|(number, row)| (leading(row.as_ref()), number)).collect();
    let compare = |(a, i): &(u128, usize), (b, j): &(u128, usize)| {
        a.cmp(b).then_with(|| values.row(*i).cmp(&values.row(*j))).then(i.cmp(j))
    };
    let share = entries.len().div_ceil(threads.max(1)).max(SHARE);
    if share < entries.len() {
        std::thread::scope(|scope| {
            for share in entries.chunks_mut(share) {
                scope.spawn(|| share.sort_unstable_by(compare));
            }
        });
        // a stable sort finds the shares and merges them
        entries.sort_by(compare);
    } else {
        entries.sort_unstable_by(compare);
    }
    let numbers = entries.into_iter().map(|(_, number)| number).collect();
    Ok(Ordered { numbers, values })
}

fn leading(row: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    let count = row.len().min(bytes.len());
    bytes[..count].copy_from_slice(&row[..count]);
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn equal_rows_stay_in_their_order_and_null_comes_first() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b"), None]));
        let ordered = ordered(&[texts], 2).unwrap();
        assert_eq!(ordered.numbers, [1, 4, 2, 0, 3]);
        assert_eq!(ordered.groups().collect::<Vec<_>>(), [0..2, 2..3, 3..5]);
    }

    #[test]
    fn shares_are_merged_and_long_values_are_compared_to_their_end() {
        let count = 3 * SHARE as i64;
        let numbers: Vec<_> = (0..count).map(|i| i * 7919 % count).collect();
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(
            numbers.iter().map(|n| format!("a text of more than sixteen bytes {n:08}")),
        ));
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        let by_text = ordered(&[texts], 3).unwrap();
        assert_eq!(by_text.numbers, ordered(&[numbers], 1).unwrap().numbers);
        assert_eq!(by_text.groups().count(), by_text.numbers.len());
    }
}
