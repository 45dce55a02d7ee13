//! The rows that a batch leaves behind, in the order in which they are written.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::{interleave, interleave_record_batch};

use super::complete::Completed;
use super::net::{Net, Place, Values};
use super::order::ordered;
use super::write::Layout;
use crate::error::{Error, Result};

/// Rows that one record batch holds at most.
const ROWS: usize = 64 * 1024;

/// Rows by partition and key, which stay where they were read until they are written.
#[derive(Default, Clone)]
pub struct Upserts {
    batches: Arc<Vec<RecordBatch>>,
    /// For each row its values, and the change that the added columns tell of.
    places: Arc<Vec<(Place, Place)>>,
}

impl Upserts {
    /// The outcomes of `net`, of which some had to be `completed`.
    pub fn new(layout: &Layout, net: Net, completed: Completed, threads: usize) -> Result<Upserts> {
        let mut places = Vec::with_capacity(net.outcomes.len());
        for outcome in &net.outcomes {
            match outcome.values {
                Values::Change(change) => places.push((net.changes.place(change), net.changes.place(outcome.change))),
                Values::Partial(number) => {
                    if let Some(row) = completed.numbers[number] {
                        let place = (net.changes.rows.len(), row);
                        places.push((place, place));
                    }
                }
            }
        }
        let batches: Vec<_> = net.changes.rows.into_iter().map(|rows| rows.columns).chain(completed.rows).collect();
        if !layout.partition_by.is_empty() && !places.is_empty() {
            let values: Vec<_> = places.iter().map(|(values, _)| *values).collect();
            let columns = layout.partition_numbers().map(|column| taken(&batches, column, &values));
            let order = ordered(&columns.collect::<Result<Vec<_>>>()?, threads)?;
            places = order.numbers.into_iter().map(|number| places[number]).collect();
        }
        Ok(Upserts { batches: Arc::new(batches), places: Arc::new(places) })
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
        starts.map(move |start| self.chunk(layout, &self.places[start..rows.end.min(start + ROWS)]))
    }

    fn chunk(&self, layout: &Layout, places: &[(Place, Place)]) -> Result<RecordBatch> {
        let values = take(&self.batches, places.iter().map(|(values, _)| *values))?;
        if !layout.keeps_deleted() {
            return Ok(values);
        }
        layout.with_metadata_of(&values, &take(&self.batches, places.iter().map(|(_, origin)| *origin))?)
    }
}

/// The rows at `places`. Interleaving looks at every batch it is given, so it gets only those that these rows lie in.
fn take(batches: &[RecordBatch], places: impl Iterator<Item = Place>) -> Result<RecordBatch> {
    let mut used: HashMap<usize, usize> = HashMap::new();
    let mut inputs = vec![];
    let places: Vec<_> = places
        .map(|(batch, row)| {
            let input = *used.entry(batch).or_insert_with(|| {
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
