//! The rows that a batch leaves behind, in the order in which they are written.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::{concat_batches, interleave, interleave_record_batch};

use super::complete::Completed;
use super::net::{Net, Packed, Place, Values};
use super::order::ordered;
use super::write::Layout;
use crate::error::{Error, Result};

/// Rows that one record batch holds at most.
const ROWS: usize = 16 * 1024;
/// Rows that follow one another are copied together from this many on, as a mean.
const STRETCH: usize = 32;

/// Rows by partition and key, which stay where they were read until they are written.
#[derive(Default, Clone)]
pub struct Upserts {
    batches: Arc<Vec<RecordBatch>>,
    /// For each row its values.
    places: Arc<Vec<Packed>>,
    /// The same of the changes that the added columns tell of, if these may be other ones.
    origins: Option<Arc<Vec<Packed>>>,
}

impl Upserts {
    /// The outcomes of `net`, of which some had to be `completed`.
    pub fn new(layout: &Layout, net: &Net, completed: &Completed, threads: usize) -> Result<Upserts> {
        let mut places = Vec::with_capacity(net.outcomes.len());
        let mut origins = layout.keeps_deleted().then(Vec::new);
        for outcome in &net.outcomes {
            let (place, origin) = match outcome.values {
                Values::Change(change) => {
                    (net.changes.place(change as usize), net.changes.place(outcome.change as usize))
                }
                Values::Partial(number) => match completed.numbers[number as usize] {
                    Some(row) => ((net.changes.rows.len(), row), (net.changes.rows.len(), row)),
                    None => continue,
                },
            };
            places.push(Packed::new(place));
            if let Some(origins) = &mut origins {
                origins.push(Packed::new(origin));
            }
        }
        let batches = net.changes.rows.iter().map(|rows| &rows.columns).chain(&completed.rows);
        let batches: Vec<_> = batches.cloned().collect();
        if !layout.partition_by.is_empty() && !places.is_empty() {
            let values: Vec<_> = places.iter().map(|place| place.place()).collect();
            let columns = layout.partition_numbers().map(|column| taken(&batches, column, &values));
            let order = ordered(&columns.collect::<Result<Vec<_>>>()?, threads)?;
            let in_order = |places: Vec<Packed>| order.numbers().map(|number| places[number]).collect::<Vec<_>>();
            (places, origins) = (in_order(places), origins.map(in_order));
        }
        Ok(Upserts { batches: Arc::new(batches), places: Arc::new(places), origins: origins.map(Arc::new) })
    }

    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// About how many bytes the rows take in memory.
    pub fn bytes(&self) -> usize {
        let rows: usize = self.batches.iter().map(RecordBatch::num_rows).sum();
        let bytes: usize = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        bytes / rows.max(1) * self.count()
    }

    /// All rows, in batches of bounded size.
    pub fn chunks(&self, layout: &Layout) -> impl Iterator<Item = Result<RecordBatch>> {
        self.chunks_of(layout, 0..self.count())
    }

    /// Some of the rows, in batches of bounded size.
    pub fn chunks_of(&self, layout: &Layout, rows: Range<usize>) -> impl Iterator<Item = Result<RecordBatch>> {
        let starts = rows.clone().step_by(ROWS);
        starts.map(move |start| self.chunk(layout, start..rows.end.min(start + ROWS)))
    }

    fn chunk(&self, layout: &Layout, rows: Range<usize>) -> Result<RecordBatch> {
        let values = take(&self.batches, &self.places[rows.clone()])?;
        match &self.origins {
            Some(origins) => layout.with_metadata_of(&values, &take(&self.batches, &origins[rows])?),
            None => Ok(values),
        }
    }
}

/// The rows at `places`: copied in stretches where they mostly follow one another, as inserts do, and one by one
/// elsewhere.
pub fn take(batches: &[RecordBatch], places: &[Packed]) -> Result<RecordBatch> {
    let follows = |a: &Packed, b: &Packed| {
        let ((batch, row), next) = (a.place(), b.place());
        (batch, row + 1) == next
    };
    let stretches = places.chunk_by(follows);
    if stretches.clone().count() >= places.len().div_ceil(STRETCH) {
        return take_each(batches, places);
    }
    let slices: Vec<_> = stretches
        .map(|stretch| {
            let (batch, row) = stretch[0].place();
            batches[batch].slice(row, stretch.len())
        })
        .collect();
    match slices.as_slice() {
        [slice] => Ok(slice.clone()),
        slices => Ok(concat_batches(slices[0].schema_ref(), slices)?),
    }
}

/// Interleaving looks at every batch it is given, so it gets only those that these rows lie in.
fn take_each(batches: &[RecordBatch], places: &[Packed]) -> Result<RecordBatch> {
    let mut numbers = vec![None; batches.len()];
    let mut inputs = vec![];
    let places: Vec<_> = places
        .iter()
        .map(|place| {
            let (batch, row) = place.place();
            let input = *numbers[batch].get_or_insert_with(|| {
                inputs.push(&batches[batch]);
                inputs.len() - 1
            });
            (input, row)
        })
        .collect();
    interleave_record_batch(&inputs, &places).map_err(Error::from)
}

fn taken(batches: &[RecordBatch], column: usize, places: &[Place]) -> Result<ArrayRef> {
    let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(column).as_ref()).collect();
    Ok(interleave(&arrays, places)?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_are_taken_alike_in_stretches_and_one_by_one(
            stretches in proptest::collection::vec((0_usize..3, 0_usize..100, 1_usize..100), 1..40),
        ) {
            let batches: Vec<_> = (0..3)
                .map(|batch| {
                    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(batch * 1000..batch * 1000 + 200));
                    let texts = (0..200).map(|row| (row % 7 > 0).then(|| format!("{batch} {row}")));
                    let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
                    RecordBatch::try_from_iter([("number", numbers), ("text", texts)]).unwrap()
                })
                .collect();
            let rows = |(batch, from, count)| (from..from + count).map(move |row| Packed::new((batch, row)));
            let places: Vec<_> = stretches.into_iter().flat_map(rows).collect();
            prop_assert_eq!(take(&batches, &places).unwrap(), take_each(&batches, &places).unwrap());
        }
    }
}
