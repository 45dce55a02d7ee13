//! The keys that rows had before an update changed them, as far as before images tell (DMS, "add-before-image-columns").
//!
//! PostgreSQL fills the before images only where the key changed; MySQL is expected to fill them in every update. So the
//! old key is what they hold if they hold anything, else the new one.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{filter_record_batch, or, take};
use arrow::error::ArrowError;

use super::records::OldKeys;
use super::shape::Shape;
use super::values::ColumnValues;
use crate::schema::DatetimeAs;

/// The former keys in the batch that is being read.
#[derive(Default)]
pub(super) struct Former {
    key: Vec<usize>,
    /// For each column of the key the former values, where before images tell them.
    values: Vec<Option<ColumnValues>>,
    /// The rows that they belong to.
    pub rows: Vec<usize>,
}

impl Former {
    pub fn new(key: &[usize], shape: &Shape, datetime: DatetimeAs) -> Self {
        let values = |column: &usize| shape.has_before_image(*column).then(|| shape.values(*column, datetime));
        Self { key: key.to_vec(), values: key.iter().map(values).collect(), rows: Vec::new() }
    }

    /// Of columns other than those of `before`, which are pairs of field and column, nothing former is told.
    pub fn keep(&mut self, before: &[(usize, usize)]) {
        for (column, values) in self.key.iter().zip(&mut self.values) {
            if !before.iter().any(|(_, told)| told == column) {
                *values = None;
            }
        }
    }

    pub fn key(&self) -> &[usize] {
        &self.key
    }

    pub fn has_in_key(&self, column: usize) -> bool {
        self.key.contains(&column)
    }

    /// What takes the former values of a column, if it is one of the key.
    pub fn values_of(&mut self, column: usize) -> Option<&mut ColumnValues> {
        let place = self.key.iter().position(|known| *known == column)?;
        self.values[place].as_mut()
    }

    /// The zero dates among them.
    pub fn zero_dates(&self) -> u64 {
        self.values.iter().flatten().map(ColumnValues::zero_dates).sum()
    }

    /// Makes what is there of a key whole with NULL, after a record that ended early.
    pub fn fill(&mut self) {
        for values in self.values.iter_mut().flatten() {
            (values.len()..self.rows.len()).for_each(|_| values.push_nothing());
        }
    }

    /// The old keys of the rows in `columns` whose keys are other ones now; zero dates in them are counted.
    pub fn finish(&mut self, columns: &RecordBatch, zero_dates: &mut [u64]) -> Result<Option<OldKeys>, ArrowError> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let rows = std::mem::take(&mut self.rows);
        let mut old = Vec::new();
        for (column, values) in self.key.iter().zip(&mut self.values) {
            old.push(match values {
                Some(values) => {
                    let (old, zeros) = values.finish()?;
                    zero_dates[*column] += zeros;
                    Some(old)
                }
                None => None,
            });
        }
        changed(&self.key, rows, old, columns)
    }
}

/// Of `rows`, which had `old` as the columns of their key (none: as they have now), those that have another key now.
pub(super) fn changed(
    key: &[usize],
    rows: Vec<usize>,
    old: Vec<Option<ArrayRef>>,
    columns: &RecordBatch,
) -> Result<Option<OldKeys>, ArrowError> {
    let places: UInt64Array = rows.iter().map(|row| Some(*row as u64)).collect();
    let mut changed = BooleanArray::from(vec![false; rows.len()]);
    let mut keys: Vec<ArrayRef> = Vec::new();
    for (column, old) in key.iter().zip(old) {
        let new = take(columns.column(*column), &places, None)?;
        let old = old.unwrap_or_else(|| new.clone());
        changed = or(&changed, &distinct(&old, &new)?)?;
        keys.push(old);
    }
    let schema = columns.schema().project(key)?;
    let keys = filter_record_batch(&RecordBatch::try_new(schema.into(), keys)?, &changed)?;
    let rows: Vec<_> =
        rows.into_iter().zip(changed.values()).filter_map(|(row, changed)| changed.then_some(row)).collect();
    Ok(if rows.is_empty() { None } else { Some(OldKeys { rows, keys }) })
}
