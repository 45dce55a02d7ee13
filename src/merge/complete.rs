//! Rows of which the batch does not hold every value: the rest is read from the rows that were located.
//!
//! They come from updates that leave columns open (CsvNoSupValue, T-A16), and from deletes that leave their row in the
//! table, marked (`delete = "soft"`): a delete may carry the key alone.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{concat_batches, interleave, take_record_batch};
use datafusion::arrow::datatypes::{Int32Type, Int64Type};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::TryStreamExt;
use lakemerge_source::dms::records::Operation;

use super::locate::Located;
use super::net::{Net, Partial, Place, gone};
use super::write::Layout;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::lake::provider::ScanProvider;
use crate::lake::scan::{FILE, ROW, Rows, Scan};
use crate::lake::table::Table;

/// Some of the rows of [`Net::partial`], whole; none for deletes of rows that are not there.
#[derive(Default)]
pub struct Completed {
    pub rows: Vec<RecordBatch>,
    /// The number of the first.
    first: usize,
    places: Vec<Option<Place>>,
    /// The memory that the rows take.
    pub reserved: Option<Arc<MemoryReservation>>,
}

impl Completed {
    /// Where the row lies that is this one of [`Net::partial`].
    pub fn place(&self, number: u32) -> Option<Place> {
        self.places[number as usize - self.first]
    }
}

/// Bytes of rows that are completed at a time, about: an array of texts holds 2 GB.
const AT_ONCE: usize = 32 << 20;
/// The same in rows.
const ROWS: usize = 16 * 1024;

/// Completes the rows that are `these` of [`Net::partial`], whose keys were `located`; `None` if they take more memory than
/// there is for them.
///
/// # Errors
/// An update that leaves values open of a row that is not there.
pub async fn complete(
    engine: &Engine,
    table: &Table,
    layout: &Layout,
    net: &Net,
    located: &Located,
    these: Range<usize>,
) -> Result<Option<Completed>> {
    let first = these.start;
    let partial = &net.partial[these];
    if partial.is_empty() {
        return Ok(Some(Completed { first, ..Completed::default() }));
    }
    // of a single row nothing can be left for another time
    let most = if partial.len() == 1 { usize::MAX } else { engine.changes_memory() / 2 };
    let room = Room { reserved: MemoryConsumer::new("completed rows").register(&engine.pool()), most };
    let Some(stored) = Stored::read(engine, table, layout, partial, located, &room).await? else { return Ok(None) };
    let batches = net.changes.rows.iter().map(|rows| &rows.columns).chain(&stored.batches);
    let width = batches.map(|batch| batch.get_array_memory_size() / batch.num_rows().max(1)).max();
    let at_once = (AT_ONCE / width.unwrap_or_default().max(1)).clamp(1, ROWS);
    let (mut places, mut found) = (vec![], vec![]);
    for (partial, place) in partial.iter().zip(&stored.places) {
        if place.is_some() || !partial.is_open() {
            places.push(Some((found.len() / at_once, found.len() % at_once)));
            found.push((partial, *place));
            continue;
        }
        let (batch, row) = net.changes.place(partial.change);
        if net.changes.rows[batch].operations[row] != Operation::Delete {
            return Err(gone(layout, &net.changes, partial));
        }
        places.push(None);
    }
    let of_table = room.reserved.size();
    let mut rows = vec![];
    for found in found.chunks(at_once) {
        let completed = stored.with_changes(layout, net, found)?;
        if !room.has_place_for(&completed) {
            return Ok(None);
        }
        rows.push(completed);
    }
    drop(stored);
    room.reserved.shrink(of_table);
    Ok(Some(Completed { rows, first, places, reserved: Some(Arc::new(room.reserved)) }))
}

/// Memory for rows that are completed.
struct Room {
    reserved: MemoryReservation,
    most: usize,
}

impl Room {
    fn has_place_for(&self, rows: &RecordBatch) -> bool {
        let bytes = rows.get_array_memory_size();
        self.reserved.size().saturating_add(bytes) <= self.most && self.reserved.try_grow(bytes).is_ok()
    }
}

/// Rows as they stand in the table.
struct Stored {
    batches: Vec<RecordBatch>,
    /// For each row that is to be completed its place; none if the table does not hold it.
    places: Vec<Option<Place>>,
}

impl Stored {
    async fn read(
        engine: &Engine,
        table: &Table,
        layout: &Layout,
        partial: &[Partial],
        located: &Located,
        room: &Room,
    ) -> Result<Option<Stored>> {
        let mut stored = Stored { batches: vec![], places: vec![None; partial.len()] };
        let mut of_base: HashMap<u64, Vec<usize>> = HashMap::new();
        for (number, partial) in partial.iter().enumerate().filter(|(_, partial)| partial.is_open()) {
            of_base.entry(partial.base).or_default().push(number);
        }
        let mut of_address: HashMap<(usize, u64), &[usize]> = HashMap::new();
        let mut wanted = Rows::new();
        for address in &located.addresses {
            if let Some(numbers) = of_base.get(&address.change) {
                of_address.insert((address.file, address.row), numbers);
                wanted.entry(address.file).or_default().insert(address.row);
            }
        }
        if wanted.is_empty() {
            return Ok(Some(stored));
        }
        // what is read of a row group may be a row, in buffers for thousands of them
        let (mut gathered, mut count) = (vec![], 0);
        let scan = Scan::only(table, wanted).with_addresses();
        let mut rows = engine.session().read_table(Arc::new(ScanProvider(scan)))?.execute_stream().await?;
        while let Some(batch) = rows.try_next().await? {
            let column =
                |name| batch.column_by_name(name).ok_or_else(|| Error::definite(format!("the scan lost {name}")));
            let (files, numbers) =
                (column(FILE)?.as_primitive::<Int32Type>(), column(ROW)?.as_primitive::<Int64Type>());
            for (i, (file, row)) in files.values().iter().zip(numbers.values()).enumerate() {
                let address = usize::try_from(*file).ok().zip(u64::try_from(*row).ok());
                let of_row = address.and_then(|address| of_address.get(&address));
                for &number in
                    of_row.ok_or_else(|| Error::definite("the scan gave a row that was not asked for"))?.iter()
                {
                    stored.places[number] = Some((stored.batches.len(), count + i));
                }
            }
            let values = batch.project(&(0..layout.schema.fields().len()).collect::<Vec<_>>())?;
            let all = UInt64Array::from_iter_values(0..values.num_rows() as u64);
            let values = take_record_batch(&values, &all)?;
            if !room.has_place_for(&values) {
                return Ok(None);
            }
            count += values.num_rows();
            gathered.push(values);
            if count >= ROWS {
                stored.batches.push(concat_batches(&layout.schema, &std::mem::take(&mut gathered))?);
                count = 0;
            }
        }
        if count > 0 {
            stored.batches.push(concat_batches(&layout.schema, &gathered)?);
        }
        Ok(Some(stored))
    }

    /// Rows of which some values are in changes, and the rest, if any, at the places.
    fn with_changes(&self, layout: &Layout, net: &Net, rows: &[(&Partial, Option<Place>)]) -> Result<RecordBatch> {
        let batches: Vec<_> = net.changes.rows.iter().map(|rows| &rows.columns).chain(&self.batches).collect();
        let of_table = |(batch, row): Place| (net.changes.rows.len() + batch, row);
        let columns = (0..layout.schema.fields().len()).map(|column| {
            let places = rows.iter().map(|(partial, stored)| {
                let of_change = layout.tells_of_change(column).then_some(partial.change);
                match of_change.or_else(|| partial.source(column)) {
                    Some(change) => net.changes.place(change),
                    None => stored.map(of_table).unwrap_or_default(),
                }
            });
            let places: Vec<_> = places.collect();
            let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            Ok(interleave(&arrays, &places)?)
        });
        Ok(RecordBatch::try_new(Arc::clone(&layout.schema), columns.collect::<Result<_>>()?)?)
    }
}
