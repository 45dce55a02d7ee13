//! Batches and memory: what fits is held, what does not is sorted by key with spilling to disk and comes back in parts
//! that fit, each with all changes of its keys that count (T-A26).

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch, UInt8Array, UInt64Array};
use datafusion::arrow::compute::{concat, partition, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lakemerge_source::dms::records::Operation;

use super::net::CHANGE;
use super::sort;
use super::write::Layout;
use crate::dms::changes::ChangeRows;
use crate::engine::Engine;
use crate::error::{Error, Result};

const OPERATION: &str = "operation ";
const MOVED: &str = "moved ";

/// A part may take this share of the memory for changes: tables share it, and a part's keys and new rows stand beside it.
const PARTS: usize = 2;

/// What a change takes beside its values until it is merged: its place and its number, an entry of the order, an outcome.
const OVERHEAD: usize = 48;
/// The same where a row that is deleted stays, marked: what came before it, and where it lies in the table.
const OVERHEAD_OF_MARKED: usize = 200;

/// The same for each column of a change that leaves values open: where its value stands.
const OVERHEAD_OF_OPEN: usize = 8;

/// What changes that have just been read take in all.
fn bytes_of_read(layout: &Layout, rows: &ChangeRows) -> usize {
    let open = if rows.unchanged.is_empty() { 0 } else { layout.source_columns * OVERHEAD_OF_OPEN };
    bytes_of(layout, &rows.columns) + rows.operations.len() * open
}

/// What changes take in all.
fn bytes_of(layout: &Layout, rows: &RecordBatch) -> usize {
    let overhead = if layout.keeps_deleted() { OVERHEAD_OF_MARKED } else { OVERHEAD };
    // keys stand once more in the form they are ordered by, and in their order
    let keys: usize = layout.key_numbers().map(|column| rows.column(column).get_array_memory_size()).sum();
    rows.get_array_memory_size() + 2 * keys + rows.num_rows() * overhead
}

/// The changes of a batch.
pub enum Held {
    /// All of them, and the memory that they take.
    All(Vec<ChangeRows>, MemoryReservation),
    /// As many as the memory has room for, and those to come.
    First(Vec<ChangeRows>, BoxStream<'static, Result<ChangeRows>>),
}

/// The changes of some keys.
pub struct Part {
    pub changes: Vec<ChangeRows>,
    /// How many there were beside, which later ones of the same keys outdate: one row may change more often than fits.
    pub outdated: u64,
}

/// Holds as many of `changes` as there is memory for.
pub async fn hold(
    engine: &Engine,
    layout: &Layout,
    mut changes: BoxStream<'static, Result<ChangeRows>>,
) -> Result<Held> {
    let reserved = engine.reserve_changes();
    let mut held = vec![];
    while let Some(rows) = changes.try_next().await? {
        let fits = reserved.try_grow(bytes_of_read(layout, &rows)).is_ok();
        held.push(rows);
        if !fits {
            return Ok(Held::First(held, changes));
        }
    }
    Ok(Held::All(held, reserved))
}

/// The changes `first` and `rest` in parts, which come by key; within one the changes of a key are in their order.
pub fn by_key(
    engine: &Engine,
    layout: &Layout,
    first: Vec<ChangeRows>,
    rest: BoxStream<'static, Result<ChangeRows>>,
) -> Result<BoxStream<'static, Result<Part>>> {
    let schema = numbered_schema(&layout.schema);
    let mut next = 0;
    let numbered = futures::stream::iter(first.into_iter().map(Ok)).chain(rest).map({
        let schema = Arc::clone(&schema);
        move |rows| numbered(&schema, rows?, &mut next)
    });
    let numbered = RecordBatchStreamAdapter::new(Arc::clone(&schema), numbered);
    let (engine, layout) = (engine.clone(), layout.clone());
    let bytes = engine.changes_memory() / PARTS;
    let sorted = async move {
        let by: Vec<_> = layout.key_numbers().chain([layout.schema.fields().len()]).collect();
        let rows = sort::sorted(&engine, &layout, &by, Box::pin(numbered)).await?;
        Ok::<_, Error>(Parts::new(rows, layout, bytes))
    };
    let parts = futures::stream::once(sorted).map_ok(|parts| {
        futures::stream::try_unfold(parts, |mut parts| async move { Ok(parts.next().await?.map(|part| (part, parts))) })
    });
    Ok(parts.try_flatten().boxed())
}

fn numbered_schema(schema: &SchemaRef) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(CHANGE, DataType::UInt64, false)));
    fields.push(Arc::new(Field::new(OPERATION, DataType::UInt8, false)));
    fields.push(Arc::new(Field::new(MOVED, DataType::Boolean, false)));
    Arc::new(Schema::new(fields))
}

fn numbered(schema: &SchemaRef, rows: ChangeRows, next: &mut u64) -> Result<RecordBatch, DataFusionError> {
    if !rows.unchanged.is_empty() {
        return Err(Error::definite(format!(
            "{}: updates that leave values open (CsvNoSupValue) are completed in memory, and this batch does not fit in \
             run.memory_limit; raise it, or lower run.batch_bytes",
            rows.file
        ))
        .into());
    }
    let count = rows.operations.len();
    let after = *next + count as u64;
    let mut columns = rows.columns.columns().to_vec();
    columns.push(Arc::new(UInt64Array::from_iter_values(*next..after)));
    columns.push(Arc::new(rows.operations.iter().map(|operation| *operation as u8).collect::<UInt8Array>()));
    let mut moved = vec![false; count];
    rows.moved.iter().for_each(|row| moved[*row] = true);
    columns.push(Arc::new(BooleanArray::from(moved)));
    *next = after;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Rows that come sorted by key and change, cut between two keys whenever they fill a part.
struct Parts {
    rows: SendableRecordBatchStream,
    layout: Layout,
    bytes: usize,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    /// Those of the last key, which may go on in the next batch.
    last: Vec<RecordBatch>,
    outdated: u64,
}

impl Parts {
    fn new(rows: SendableRecordBatchStream, layout: Layout, bytes: usize) -> Parts {
        Parts { rows, layout, bytes, held: vec![], held_bytes: 0, last: vec![], outdated: 0 }
    }

    async fn next(&mut self) -> Result<Option<Part>> {
        while let Some(batch) = self.rows.try_next().await? {
            self.push(batch)?;
            if self.held_bytes >= self.bytes {
                return self.part().map(Some);
            }
        }
        self.held.append(&mut self.last);
        if self.held.is_empty() { Ok(None) } else { self.part().map(Some) }
    }

    fn part(&mut self) -> Result<Part> {
        self.held_bytes = 0;
        let held = std::mem::take(&mut self.held);
        Ok(Part { changes: self.changes(&held)?, outdated: std::mem::take(&mut self.outdated) })
    }

    /// Holds the rows of `batch` that count, and gives those up that they outdate.
    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let keeps_deleted = self.layout.keeps_deleted();
        let keys = partition(&self.layout.key_columns(&batch))?.ranges();
        let Some(first) = keys.first() else { return Ok(()) };
        let operations = operations(&batch);
        let goes_on = self.goes_on_in(&batch)?;
        if goes_on {
            let values_are_before = keeps_deleted && operations[first.clone()].iter().all(is_delete);
            for row in std::mem::take(&mut self.last) {
                if values_are_before && !self::operations(&row).iter().all(is_delete) {
                    self.last.push(row);
                } else {
                    self.outdated += records(&row);
                }
            }
        }
        let (mut counting, mut of_last) = (vec![], 0);
        for key in &keys {
            of_last = counting.len();
            counting.extend(counting_of(&operations, key, keeps_deleted));
        }
        let rows = if counting.len() == batch.num_rows() { batch.clone() } else { taken(&batch, &counting)? };
        self.outdated += records(&batch) - records(&rows);
        if keys.len() > 1 || !goes_on {
            let settled = std::mem::take(&mut self.last).into_iter().chain([rows.slice(0, of_last)]);
            for rows in settled.filter(|rows| rows.num_rows() > 0) {
                self.held_bytes += bytes_of(&self.layout, &rows);
                self.held.push(rows);
            }
        }
        // not as a part of the batch, all of which it would keep in memory
        for row in of_last..rows.num_rows() {
            self.last.push(taken(&rows, &[row])?);
        }
        Ok(())
    }

    /// True if the first key of `batch` is the last one so far.
    fn goes_on_in(&self, batch: &RecordBatch) -> Result<bool> {
        let Some(last) = self.last.last() else { return Ok(false) };
        let last = self.layout.key_columns(&last.slice(0, 1));
        let first = self.layout.key_columns(&batch.slice(0, 1));
        let pairs = last.iter().zip(&first).map(|(last, first)| concat(&[last.as_ref(), first.as_ref()]));
        Ok(partition(&pairs.collect::<Result<Vec<_>, _>>()?)?.len() == 1)
    }

    fn changes(&self, part: &[RecordBatch]) -> Result<Vec<ChangeRows>> {
        let columns: Vec<_> = (0..self.layout.schema.fields().len()).collect();
        let of_batch = |batch: &RecordBatch| {
            let moved = batch.column(batch.num_columns() - 1).as_boolean();
            Ok(ChangeRows {
                moved: moved.values().set_indices().collect(),
                ..ChangeRows::whole(batch.project(&columns)?, operations(batch))
            })
        };
        part.iter().map(of_batch).collect()
    }
}

/// Of the rows of one key those that say what becomes of it: the last one, and before it, if it marks a row that stays, the
/// last that has its values.
fn counting_of(operations: &[Operation], key: &Range<usize>, keeps_deleted: bool) -> impl Iterator<Item = usize> {
    let last = key.end - 1;
    let marks = keeps_deleted && is_delete(&operations[last]);
    let values = key.clone().rev().find(|row| !is_delete(&operations[*row])).filter(|_| marks);
    values.into_iter().chain([last])
}

fn is_delete(operation: &Operation) -> bool {
    *operation == Operation::Delete
}

/// What [`numbered`] says of the operations.
fn operations(rows: &RecordBatch) -> Vec<Operation> {
    let codes = rows.column(rows.num_columns() - 2).as_primitive::<UInt8Type>();
    codes.values().iter().map(|code| operation(*code)).collect()
}

/// How many rows stand for a record.
fn records(rows: &RecordBatch) -> u64 {
    (rows.num_rows() - rows.column(rows.num_columns() - 1).as_boolean().true_count()) as u64
}

fn taken(rows: &RecordBatch, numbers: &[usize]) -> Result<RecordBatch> {
    Ok(take_record_batch(rows, &UInt64Array::from_iter_values(numbers.iter().map(|row| *row as u64)))?)
}

/// The operation of which `code` is the number.
fn operation(code: u8) -> Operation {
    const OPERATIONS: [Operation; 3] = [Operation::Insert, Operation::Update, Operation::Delete];
    OPERATIONS.into_iter().find(|operation| *operation as u8 == code).unwrap_or(Operation::Insert)
}
