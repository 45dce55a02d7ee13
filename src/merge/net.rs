//! The net changes of a batch: of all changes of a row only the last counts.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{
    SortColumn, concat_batches, interleave_record_batch, lexsort_to_indices, take_record_batch,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, UInt64Type};
use datafusion::datasource::MemTable;
use lakemerge_source::dms::records::Operation;
use roaring::RoaringTreemap;

use super::write::Layout;
use crate::dms::reading::ChangeRows;
use crate::engine::{Engine, quoted};
use crate::error::{Error, Result};

/// The column of change numbers: a change's place in the order of the batch.
pub const CHANGE: &str = "__change";
/// True for a delete.
const DELETE: &str = "__delete";

/// Rows that one record batch of net changes holds at most.
const ROWS: usize = 64 * 1024;

/// One outcome for each key of a batch.
pub struct Net {
    /// The rows that are to be there afterwards, by partition and key.
    pub upserts: Vec<RecordBatch>,
    /// Every key with the number of its last change, sorted by key.
    pub keys: RecordBatch,
    /// The numbers of the last changes that are deletes.
    pub deletes: RoaringTreemap,
    /// Those of them whose row the batch does not hold: all, unless deleted rows stay.
    pub bare: Bare,
    pub read: u64,
    pub netted_away: u64,
}

/// Deletes of rows that only the table can hold.
pub struct Bare {
    /// Their numbers, in order.
    pub changes: Vec<u64>,
    /// Their records, one for each; none unless deleted rows stay.
    pub records: Vec<RecordBatch>,
}

/// The last change of a key.
struct Last {
    change: u64,
    /// The change that holds the row's values: the same one, unless it is a delete and deleted rows stay.
    image: Option<u64>,
}

/// A record of the batch: record batch and row.
type Place = (usize, usize);

/// Nets `changes`, which are in the order of the source.
pub async fn net(engine: &Engine, layout: &Layout, changes: Vec<ChangeRows>) -> Result<Net> {
    let read = changes.iter().map(|rows| rows.operations.len() as u64).sum();
    let last = last_changes(engine, layout, &changes).await?;
    let batches: Vec<&RecordBatch> = changes.iter().map(|rows| &rows.columns).collect();
    let places = places(&changes, last.iter().map(|last| last.change));
    let is_delete = |(batch, row): &Place| changes[*batch].operations[*row] == Operation::Delete;
    let (mut deletes, mut bare) = (RoaringTreemap::new(), Bare { changes: vec![], records: vec![] });
    let (mut values, mut origins, mut bare_places) = (vec![], vec![], vec![]);
    for (last, place) in last.iter().zip(&places) {
        if !is_delete(place) {
            values.push(*place);
            origins.push(*place);
            continue;
        }
        deletes.insert(last.change);
        match last.image.filter(|_| layout.keeps_deleted()) {
            Some(image) => {
                values.extend(self::places(&changes, std::iter::once(image)));
                origins.push(*place);
            }
            None => {
                bare.changes.push(last.change);
                bare_places.push(*place);
            }
        }
    }
    if layout.keeps_deleted() {
        bare.records = take(&batches, &bare_places)?;
    }
    let numbers: Vec<_> = last.iter().map(|last| last.change).collect();
    let keys = keys_of(layout, &batches, &places, numbers)?;
    let order = order(layout, &batches, &values)?;
    let values: Vec<_> = order.iter().map(|&i| values[i]).collect();
    let origins: Vec<_> = order.iter().map(|&i| origins[i]).collect();
    let upserts = if layout.keeps_deleted() {
        let rows = take(&batches, &values)?.into_iter().zip(take(&batches, &origins)?);
        rows.map(|(values, origins)| layout.with_metadata_of(&values, &origins)).collect::<Result<_>>()?
    } else {
        take(&batches, &values)?
    };
    Ok(Net { upserts, keys, deletes, bare, read, netted_away: read - last.len() as u64 })
}

/// The last change of each key, in order.
async fn last_changes(engine: &Engine, layout: &Layout, changes: &[ChangeRows]) -> Result<Vec<Last>> {
    let mut fields = with_change(layout.key_fields());
    if layout.keeps_deleted() {
        fields.push(Arc::new(Field::new(DELETE, DataType::Boolean, false)));
    }
    let schema = Arc::new(Schema::new(fields));
    let mut next = 0;
    let mut batches = vec![];
    for rows in changes {
        let count = rows.operations.len() as u64;
        let mut columns = layout.key_columns(&rows.columns);
        columns.push(Arc::new(UInt64Array::from_iter_values(next..next + count)) as ArrayRef);
        if layout.keeps_deleted() {
            let deletes = rows.operations.iter().map(|operation| Some(*operation == Operation::Delete));
            columns.push(Arc::new(deletes.collect::<BooleanArray>()));
        }
        batches.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
        next += count;
    }
    let session = engine.session();
    session.register_table("changes", Arc::new(MemTable::try_new(schema, vec![batches])?))?;
    let key: Vec<_> = layout.key.iter().map(|name| quoted(name)).collect();
    let statement =
        if layout.keeps_deleted() { include_str!("../../sql/net_soft.sql") } else { include_str!("../../sql/net.sql") };
    let mut last = vec![];
    for batch in session.sql(&statement.replace("{key}", &key.join(", "))).await?.collect().await? {
        let numbers = batch.column(0).as_primitive::<UInt64Type>();
        let images = batch.columns().get(1).map(|images| images.as_primitive::<UInt64Type>());
        last.extend(numbers.values().iter().enumerate().map(|(i, &change)| Last {
            change,
            image: images.filter(|images| images.is_valid(i)).map(|images| images.value(i)),
        }));
    }
    last.sort_unstable_by_key(|last| last.change);
    Ok(last)
}

/// Where the changes of these numbers, which are in order, stand.
fn places(changes: &[ChangeRows], numbers: impl Iterator<Item = u64>) -> Vec<Place> {
    let mut places = vec![];
    let (mut batch, mut first) = (0, 0);
    for number in numbers {
        while number - first >= changes[batch].operations.len() as u64 {
            first += changes[batch].operations.len() as u64;
            batch += 1;
        }
        places.push((batch, usize::try_from(number - first).unwrap_or(usize::MAX)));
    }
    places
}

/// The keys at `places` with their numbers, sorted by key.
fn keys_of(layout: &Layout, batches: &[&RecordBatch], places: &[Place], numbers: Vec<u64>) -> Result<RecordBatch> {
    let schema = Arc::new(Schema::new(layout.key_fields()));
    let keys = batches
        .iter()
        .map(|batch| RecordBatch::try_new(Arc::clone(&schema), layout.key_columns(batch)))
        .collect::<Result<Vec<_>, _>>()?;
    let taken = concat_batches(&schema, &take(&keys.iter().collect::<Vec<_>>(), places)?)?;
    let mut columns = taken.columns().to_vec();
    columns.push(Arc::new(UInt64Array::from(numbers)));
    let keys = RecordBatch::try_new(Arc::new(Schema::new(with_change(layout.key_fields()))), columns)?;
    Ok(take_record_batch(&keys, &lexsort_to_indices(&sort_columns(taken.columns()), None)?)?)
}

fn sort_columns(columns: &[ArrayRef]) -> Vec<SortColumn> {
    columns.iter().map(|values| SortColumn { values: Arc::clone(values), options: None }).collect()
}

fn with_change(mut fields: Vec<FieldRef>) -> Vec<FieldRef> {
    fields.push(Arc::new(Field::new(CHANGE, DataType::UInt64, false)));
    fields
}

/// `rows`, by partition and key.
pub fn sorted(layout: &Layout, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let batches: Vec<_> = rows.iter().collect();
    let places: Vec<_> =
        rows.iter().enumerate().flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row))).collect();
    let order = order(layout, &batches, &places)?;
    take(&batches, &order.into_iter().map(|i| places[i]).collect::<Vec<_>>())
}

/// The order of the rows at `places` by partition and key, as numbers of places.
fn order(layout: &Layout, batches: &[&RecordBatch], places: &[Place]) -> Result<Vec<usize>> {
    if places.is_empty() {
        return Ok(vec![]);
    }
    let fields: Vec<_> = layout.sort_columns().map(|i| layout.schema.field(i).clone()).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let sort_keys = batches
        .iter()
        .map(|batch| {
            let columns = layout.sort_columns().map(|i| Arc::clone(batch.column(i))).collect();
            RecordBatch::try_new(Arc::clone(&schema), columns)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let sort_keys = concat_batches(&schema, &take(&sort_keys.iter().collect::<Vec<_>>(), places)?)?;
    let order = lexsort_to_indices(&sort_columns(sort_keys.columns()), None)?;
    Ok(order.values().iter().map(|&i| i as usize).collect())
}

/// The rows at `places`, in batches of bounded size.
pub fn take(batches: &[&RecordBatch], places: &[Place]) -> Result<Vec<RecordBatch>> {
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
