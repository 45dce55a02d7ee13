//! The net changes of a batch: of all changes of a row only the last counts.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{SortColumn, concat_batches, interleave_record_batch, lexsort_to_indices};
use datafusion::arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use datafusion::datasource::MemTable;
use lakemerge_source::dms::records::Operation;
use roaring::RoaringTreemap;

use super::write::Layout;
use crate::dms::reading::ChangeRows;
use crate::engine::{Engine, quoted};
use crate::error::{Error, Result};

/// The column of change numbers: a change's place in the order of the batch.
pub const CHANGE: &str = "__change";

/// Rows that one record batch of net changes holds at most.
const ROWS: usize = 64 * 1024;

/// One outcome for each key of a batch.
pub struct Net {
    /// The rows that are to be there afterwards, by partition and key.
    pub upserts: Vec<RecordBatch>,
    /// Every key with the number of its last change.
    pub keys: RecordBatch,
    /// The numbers of the last changes that are deletes.
    pub deletes: RoaringTreemap,
    pub read: u64,
    pub netted_away: u64,
}

/// Nets `changes`, which are in the order of the source.
pub async fn net(engine: &Engine, layout: &Layout, changes: Vec<ChangeRows>) -> Result<Net> {
    let read = changes.iter().map(|rows| rows.operations.len() as u64).sum();
    let last = last_changes(engine, layout, &changes).await?;
    let netted_away = read - last.len() as u64;
    let places = places(&changes, &last);
    let is_delete = |(batch, row): &(usize, usize)| changes[*batch].operations[*row] == Operation::Delete;
    let deletes = last.iter().zip(&places).filter(|(_, place)| is_delete(place)).map(|(change, _)| *change).collect();
    let batches: Vec<&RecordBatch> = changes.iter().map(|rows| &rows.columns).collect();
    let keys = keys_of(layout, &batches, &places, &last)?;
    let kept: Vec<_> = places.into_iter().filter(|place| !is_delete(place)).collect();
    Ok(Net { upserts: sorted(layout, &batches, &kept)?, keys, deletes, read, netted_away })
}

/// The numbers of the changes that no later change of the same key outdates, in order.
async fn last_changes(engine: &Engine, layout: &Layout, changes: &[ChangeRows]) -> Result<Vec<u64>> {
    let mut fields: Vec<_> = layout.key_fields();
    fields.push(Arc::new(Field::new(CHANGE, DataType::UInt64, false)));
    let schema = Arc::new(Schema::new(fields));
    let mut next = 0;
    let mut batches = vec![];
    for rows in changes {
        let count = rows.operations.len() as u64;
        let mut columns = layout.key_columns(&rows.columns);
        columns.push(Arc::new(UInt64Array::from_iter_values(next..next + count)) as ArrayRef);
        batches.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
        next += count;
    }
    let session = engine.session();
    session.register_table("changes", Arc::new(MemTable::try_new(schema, vec![batches])?))?;
    let key: Vec<_> = layout.key.iter().map(|name| quoted(name)).collect();
    let statement = include_str!("../../sql/net.sql").replace("{key}", &key.join(", "));
    let mut last = vec![];
    for batch in session.sql(&statement).await?.collect().await? {
        last.extend_from_slice(batch.column(0).as_primitive::<UInt64Type>().values());
    }
    last.sort_unstable();
    Ok(last)
}

/// Where the changes of these numbers, which are in order, stand: batch and row.
fn places(changes: &[ChangeRows], numbers: &[u64]) -> Vec<(usize, usize)> {
    let mut places = Vec::with_capacity(numbers.len());
    let (mut batch, mut first) = (0, 0);
    for &number in numbers {
        while number - first >= changes[batch].operations.len() as u64 {
            first += changes[batch].operations.len() as u64;
            batch += 1;
        }
        places.push((batch, usize::try_from(number - first).unwrap_or(usize::MAX)));
    }
    places
}

fn keys_of(
    layout: &Layout,
    batches: &[&RecordBatch],
    places: &[(usize, usize)],
    numbers: &[u64],
) -> Result<RecordBatch> {
    let keys: Vec<_> = batches
        .iter()
        .map(|batch| RecordBatch::try_new(Arc::new(Schema::new(layout.key_fields())), layout.key_columns(batch)))
        .collect::<Result<_, _>>()?;
    let taken = take(&keys.iter().collect::<Vec<_>>(), places)?;
    let schema = Arc::new(Schema::new(layout.key_fields()));
    let taken = concat_batches(&schema, &taken)?;
    let mut fields = layout.key_fields();
    fields.push(Arc::new(Field::new(CHANGE, DataType::UInt64, false)));
    let mut columns = taken.columns().to_vec();
    columns.push(Arc::new(UInt64Array::from(numbers.to_vec())));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The rows at `places`, by partition and key.
fn sorted(layout: &Layout, batches: &[&RecordBatch], places: &[(usize, usize)]) -> Result<Vec<RecordBatch>> {
    if places.is_empty() {
        return Ok(vec![]);
    }
    let fields: Vec<_> = layout.sort_columns().map(|i| layout.schema.field(i).clone()).collect();
    let schema = Arc::new(Schema::new(fields));
    let order_by: Vec<_> = batches
        .iter()
        .map(|batch| {
            let columns = layout.sort_columns().map(|i| Arc::clone(batch.column(i))).collect();
            RecordBatch::try_new(Arc::clone(&schema), columns)
        })
        .collect::<Result<_, _>>()?;
    let order_by = concat_batches(&schema, &take(&order_by.iter().collect::<Vec<_>>(), places)?)?;
    let columns: Vec<_> =
        order_by.columns().iter().map(|values| SortColumn { values: Arc::clone(values), options: None }).collect();
    let order = lexsort_to_indices(&columns, None)?;
    let places: Vec<_> = order.values().iter().map(|&i| places[i as usize]).collect();
    take(batches, &places)
}

/// The rows at `places`, in batches of bounded size.
fn take(batches: &[&RecordBatch], places: &[(usize, usize)]) -> Result<Vec<RecordBatch>> {
    let mut taken = vec![];
    for places in places.chunks(ROWS) {
        // interleave looks at every batch it is given, so it gets only those that these rows lie in
        let mut used: HashMap<usize, usize> = HashMap::new();
        let mut inputs = vec![];
        let places: Vec<_> = places
            .iter()
            .map(|&(batch, row)| {
                let input = *used.entry(batch).or_insert_with(|| {
                    inputs.push(batches[batch]);
                    inputs.len() - 1
                });
                (input, row)
            })
            .collect();
        taken.push(interleave_record_batch(&inputs, &places).map_err(Error::from)?);
    }
    Ok(taken)
}
