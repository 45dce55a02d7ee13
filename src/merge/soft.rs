//! Soft deletes: a row that the source has deleted stays, with `_deleted` true and otherwise as the table had it.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int32Type, Int64Type};
use futures::TryStreamExt;

use super::locate::Located;
use super::net::{self, Bare};
use super::write::Layout;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::lake::provider::ScanProvider;
use crate::lake::scan::{FILE, ROW, Rows, Scan};
use crate::lake::table::Table;

/// The rows that `bare` deletes, as they stand in the table, marked as deleted. A delete may carry the key alone, so
/// its own record says nothing of the other columns.
pub async fn deleted_rows(
    engine: &Engine,
    table: &Table,
    layout: &Layout,
    located: &Located,
    bare: &Bare,
) -> Result<Vec<RecordBatch>> {
    let of_change: HashMap<u64, usize> = bare.changes.iter().enumerate().map(|(i, change)| (*change, i)).collect();
    let mut record_of: HashMap<(usize, u64), usize> = HashMap::new();
    let mut wanted = Rows::new();
    for address in &located.addresses {
        if let Some(&record) = of_change.get(&address.change) {
            record_of.insert((address.file, address.row), record);
            wanted.entry(address.file).or_default().insert(address.row);
        }
    }
    if wanted.is_empty() {
        return Ok(vec![]);
    }
    let scan = Scan::new(table, wanted.keys().copied().collect()).await?.only(&wanted)?.with_addresses();
    let mut stored = engine.session().read_table(Arc::new(ScanProvider(scan)))?.execute_stream().await?;
    let records = Records::new(&bare.records);
    let mut rows = vec![];
    while let Some(batch) = stored.try_next().await? {
        let column = |name| batch.column_by_name(name).ok_or_else(|| Error::definite(format!("the scan lost {name}")));
        let (files, numbers) = (column(FILE)?.as_primitive::<Int32Type>(), column(ROW)?.as_primitive::<Int64Type>());
        let places = files.values().iter().zip(numbers.values()).map(|(file, row)| {
            let address = usize::try_from(*file).ok().zip(u64::try_from(*row).ok());
            let record = address.and_then(|address| record_of.get(&address));
            record
                .map(|&record| records.place(record))
                .ok_or_else(|| Error::definite("the scan gave a row that was not asked for"))
        });
        let places = places.collect::<Result<Vec<_>>>()?;
        let values = batch.project(&(0..layout.schema.fields().len()).collect::<Vec<_>>())?;
        let mut first = 0;
        for origins in net::take(&records.batches, &places)? {
            let count = origins.num_rows();
            rows.push(layout.with_metadata_of(&values.slice(first, count), &origins)?);
            first += count;
        }
    }
    Ok(rows)
}

/// Records that lie in several batches, by one number.
struct Records<'a> {
    batches: Vec<&'a RecordBatch>,
    first: Vec<usize>,
}

impl<'a> Records<'a> {
    fn new(batches: &'a [RecordBatch]) -> Records<'a> {
        let mut next = 0;
        let first = batches.iter().map(|batch| {
            next += batch.num_rows();
            next - batch.num_rows()
        });
        Records { first: first.collect(), batches: batches.iter().collect() }
    }

    fn place(&self, record: usize) -> (usize, usize) {
        let batch = self.first.partition_point(|first| *first <= record) - 1;
        (batch, record - self.first[batch])
    }
}
