//! Batches and memory: what fits is held, what does not is sorted by key with spilling to disk and comes back in parts
//! that fit, each with all changes of its keys (T-A26).

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch, UInt8Array, UInt64Array};
use datafusion::arrow::compute::partition;
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
const PARTS: usize = 3;

/// The changes of a batch.
pub enum Held {
    /// All of them, and the memory that they take.
    All(Vec<ChangeRows>, MemoryReservation),
    /// As many as the memory has room for, and those to come.
    First(Vec<ChangeRows>, BoxStream<'static, Result<ChangeRows>>),
}

/// Holds as many of `changes` as there is memory for.
pub async fn hold(engine: &Engine, mut changes: BoxStream<'static, Result<ChangeRows>>) -> Result<Held> {
    let reserved = engine.reserve_changes();
    let mut held = vec![];
    while let Some(rows) = changes.try_next().await? {
        let fits = reserved.try_grow(rows.columns.get_array_memory_size()).is_ok();
        held.push(rows);
        if !fits {
            return Ok(Held::First(held, changes));
        }
    }
    Ok(Held::All(held, reserved))
}

/// The changes `first` and `rest` in parts: each has all changes of its keys, in their order, and parts come by key.
pub fn by_key(
    engine: &Engine,
    layout: &Layout,
    first: Vec<ChangeRows>,
    rest: BoxStream<'static, Result<ChangeRows>>,
) -> Result<BoxStream<'static, Result<Vec<ChangeRows>>>> {
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
        Ok::<_, Error>(Parts { rows, layout, bytes, held: vec![], held_bytes: 0 })
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

/// Rows that come sorted by key, cut between two keys whenever they fill a part.
struct Parts {
    rows: SendableRecordBatchStream,
    layout: Layout,
    bytes: usize,
    held: Vec<RecordBatch>,
    held_bytes: usize,
}

impl Parts {
    async fn next(&mut self) -> Result<Option<Vec<ChangeRows>>> {
        while let Some(batch) = self.rows.try_next().await? {
            self.held_bytes += batch.get_array_memory_size();
            self.held.push(batch);
            if self.held_bytes < self.bytes {
                continue;
            }
            if let Some(rest) = self.cut()? {
                self.held_bytes = rest.get_array_memory_size();
                let part = std::mem::replace(&mut self.held, vec![rest]);
                return Ok(Some(self.changes(&part)?));
            }
        }
        let part = std::mem::take(&mut self.held);
        if part.is_empty() { Ok(None) } else { self.changes(&part).map(Some) }
    }

    /// Takes the rows of the last key away, which may go on in the next batch; none where that are all of a batch.
    fn cut(&mut self) -> Result<Option<RecordBatch>> {
        let Some(last) = self.held.pop() else { return Ok(None) };
        let keys = partition(&self.layout.key_columns(&last))?.ranges();
        let at = keys.last().map_or(0, |key| key.start);
        if at == 0 {
            self.held.push(last);
            return Ok(None);
        }
        self.held.push(last.slice(0, at));
        Ok(Some(last.slice(at, last.num_rows() - at)))
    }

    fn changes(&self, part: &[RecordBatch]) -> Result<Vec<ChangeRows>> {
        let columns: Vec<_> = (0..self.layout.schema.fields().len()).collect();
        let of_batch = |batch: &RecordBatch| {
            let added = batch.columns().iter().skip(columns.len() + 1).collect::<Vec<_>>();
            let [operations, moved] = added.as_slice() else {
                return Err(Error::definite("the sort lost the operations of its rows"));
            };
            let operations = operations.as_primitive::<UInt8Type>().values().iter();
            Ok(ChangeRows {
                moved: moved.as_boolean().values().set_indices().collect(),
                ..ChangeRows::whole(batch.project(&columns)?, operations.map(|code| operation(*code)).collect())
            })
        };
        part.iter().map(of_batch).collect()
    }
}

/// The operation of which `code` is the number.
fn operation(code: u8) -> Operation {
    const OPERATIONS: [Operation; 3] = [Operation::Insert, Operation::Update, Operation::Delete];
    OPERATIONS.into_iter().find(|operation| *operation as u8 == code).unwrap_or(Operation::Insert)
}
