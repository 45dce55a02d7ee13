//! The rows that a batch leaves behind, in the order in which they are written.

use std::iter::zip;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::{interleave, interleave_record_batch};
use datafusion::execution::memory_pool::MemoryReservation;

use super::complete::Completed;
use super::net::{Net, Outcome, Packed, Place, Values};
use super::order::ordered;
use super::write::Layout;
use crate::error::{Error, Result};

/// Rows that one record batch holds at most.
const ROWS: usize = 16 * 1024;
/// The same for their bytes: a few batches are held on their way into a file.
const BYTES: usize = 8 << 20;

/// As many rows that lie one behind the other, in their order, are taken as they lie.
const MANY_TOGETHER: usize = 1024;

/// Rows by partition and key, which stay where they were read until they are written.
#[derive(Default, Clone)]
pub struct Upserts {
    batches: Arc<Vec<RecordBatch>>,
    /// For each row its values.
    places: Arc<Vec<Packed>>,
    /// The same of the changes that the added columns tell of, if these may be other ones.
    origins: Option<Arc<Vec<Packed>>>,
    /// What the rows take that had to be completed.
    _reserved: Option<Arc<MemoryReservation>>,
}

impl Upserts {
    /// Some of the outcomes of `net`, of which some had to be `completed`.
    pub fn new(
        layout: &Layout,
        net: &Net,
        outcomes: &[Outcome],
        completed: &Completed,
        threads: usize,
    ) -> Result<Upserts> {
        let mut places = Vec::with_capacity(outcomes.len());
        let mut origins = layout.keeps_deleted().then(Vec::new);
        for outcome in outcomes {
            let (place, origin) = match outcome.values {
                Values::Change(change) => {
                    (net.changes.place(change as usize), net.changes.place(outcome.change as usize))
                }
                Values::Partial(number) => match completed.place(number) {
                    Some((batch, row)) => {
                        let place = (net.changes.rows.len() + batch, row);
                        (place, place)
                    }
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
            let order = ordered(&[&columns.collect::<Result<Vec<_>>>()?], threads)?;
            let in_order = |places: Vec<Packed>| order.numbers().map(|number| places[number]).collect::<Vec<_>>();
            (places, origins) = (in_order(places), origins.map(in_order));
        }
        Ok(Upserts {
            batches: Arc::new(batches),
            places: Arc::new(places),
            origins: origins.map(Arc::new),
            _reserved: completed.reserved.clone(),
        })
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

    /// How many rows have about [`BYTES`] by their values alone; arrays of few rows take much beside them.
    fn at_once(&self) -> usize {
        let rows: usize = self.batches.iter().map(RecordBatch::num_rows).sum();
        let columns = self.batches.iter().flat_map(RecordBatch::columns);
        let values: usize = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or_default()).sum();
        (BYTES / (values / rows.max(1)).max(1)).clamp(1, ROWS)
    }

    /// All rows, in batches of bounded size.
    pub fn chunks(&self, layout: &Layout) -> impl Iterator<Item = Result<RecordBatch>> {
        self.chunks_of(layout, 0..self.count())
    }

    /// Some of the rows, in batches of bounded size.
    pub fn chunks_of(&self, layout: &Layout, rows: Range<usize>) -> impl Iterator<Item = Result<RecordBatch>> {
        let (at_once, mut start) = (self.at_once(), rows.start);
        std::iter::from_fn(move || {
            let most = &self.places[start..rows.end.min(start + at_once)];
            let together = Some(together(most)).filter(|together| *together >= MANY_TOGETHER);
            let chunk = start..start + together.unwrap_or(most.len());
            start = chunk.end;
            (!chunk.is_empty()).then(|| self.chunk(layout, chunk))
        })
    }

    fn chunk(&self, layout: &Layout, rows: Range<usize>) -> Result<RecordBatch> {
        let values = take(&self.batches, &self.places[rows.clone()])?;
        match &self.origins {
            Some(origins) => layout.with_metadata_of(&values, &take(&self.batches, &origins[rows])?),
            None => Ok(values),
        }
    }
}

/// How many of the first `places` follow one another in one batch.
fn together(places: &[Packed]) -> usize {
    let Some((batch, row)) = places.first().map(|place| place.place()) else { return 0 };
    zip(places, row..).take_while(|(place, row)| place.place() == (batch, *row)).count()
}

/// The rows at `places`. Interleaving looks at every batch it is given, so it gets only those that these rows lie in.
pub fn take(batches: &[RecordBatch], places: &[Packed]) -> Result<RecordBatch> {
    if let Some((batch, row)) = places.first().map(|place| place.place())
        && together(places) == places.len()
    {
        return Ok(batches[batch].slice(row, places.len()));
    }
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
