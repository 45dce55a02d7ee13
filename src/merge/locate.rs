//! Where the rows are that a batch changes.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::{SortColumn, SortOptions, lexsort_to_indices};
use datafusion::arrow::datatypes::{Int32Type, Int64Type, UInt64Type};
use datafusion::datasource::MemTable;
use datafusion::scalar::ScalarValue;
use deltalake::kernel::LogicalFileView;
use futures::TryStreamExt;
use roaring::RoaringTreemap;

use super::net::CHANGE;
use crate::engine::{Engine, quoted};
use crate::error::{Error, Result};
use crate::lake::provider::ScanProvider;
use crate::lake::scan::{Bounds, FILE, ROW, Rows, Scan};
use crate::lake::table::Table;

/// The rows that are there already, and the changes that named them.
#[derive(Default)]
pub struct Located {
    pub rows: Rows,
    pub changes: RoaringTreemap,
    pub addresses: Vec<Address>,
}

/// Where the row lies that a change named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub change: u64,
    pub file: usize,
    pub row: u64,
}

/// Finds the live rows whose keys stand in `keys` (the key columns and [`CHANGE`]).
///
/// Reads the key columns alone, and only of files whose bounds allow one of the keys.
pub async fn locate(engine: &Engine, table: &Table, key: &[String], keys: &RecordBatch) -> Result<Located> {
    let candidates = candidates(table, key, keys)?;
    if candidates.is_empty() || keys.num_rows() == 0 {
        return Ok(Located::default());
    }
    let session = engine.session();
    let target = Scan::new(table, candidates).await?.with_addresses();
    session.register_table("target", Arc::new(ScanProvider(target)))?;
    session.register_table("changes", Arc::new(MemTable::try_new(keys.schema(), vec![vec![keys.clone()]])?))?;
    let same_key: Vec<_> = key.iter().map(|k| format!("(c.{0} IS NOT DISTINCT FROM t.{0})", quoted(k))).collect();
    let statement = include_str!("../../sql/locate.sql").replace("{same_key}", &same_key.join(" AND "));
    let mut found = session.sql(&statement).await?.execute_stream().await?;
    let mut located = Located::default();
    while let Some(batch) = found.try_next().await? {
        let column = |name| batch.column_by_name(name).ok_or_else(|| Error::definite(format!("locate lost {name}")));
        let files = column(FILE)?.as_primitive::<Int32Type>();
        let rows = column(ROW)?.as_primitive::<Int64Type>();
        let changes = column(CHANGE)?.as_primitive::<UInt64Type>();
        for ((file, row), change) in files.values().iter().zip(rows.values()).zip(changes.values()) {
            let address = usize::try_from(*file).ok().zip(u64::try_from(*row).ok());
            let (file, row) = address.ok_or_else(|| Error::definite("locate gave an address that is none"))?;
            located.rows.entry(file).or_default().insert(row);
            located.changes.insert(*change);
            located.addresses.push(Address { change: *change, file, row });
        }
    }
    Ok(located)
}

/// The files whose bounds do not rule every key out.
fn candidates(table: &Table, key: &[String], keys: &RecordBatch) -> Result<Vec<usize>> {
    let mut ranges = HashMap::new();
    for column in key {
        if let Some(range) = range(keys, column)? {
            ranges.insert(column.as_str(), range);
        }
    }
    let files = table.files.iter().enumerate();
    Ok(files.filter(|(_, file)| may_hold(table, file, &ranges)).map(|(number, _)| number).collect())
}

/// The smallest and largest value of a key column, or `None` where a NULL is among them: bounds say nothing of NULLs.
fn range(keys: &RecordBatch, column: &str) -> Result<Option<(ScalarValue, ScalarValue)>> {
    let values = keys.column_by_name(column).ok_or_else(|| Error::definite(format!("key column {column} was lost")))?;
    if values.null_count() > 0 || values.is_empty() {
        return Ok(None);
    }
    let end = |descending| {
        let options = Some(SortOptions { descending, nulls_first: false });
        let first = lexsort_to_indices(&[SortColumn { values: Arc::clone(values), options }], Some(1))?;
        ScalarValue::try_from_array(values, first.value(0) as usize)
    };
    Ok(Some((end(false)?, end(true)?)))
}

fn may_hold(table: &Table, file: &LogicalFileView, ranges: &HashMap<&str, (ScalarValue, ScalarValue)>) -> bool {
    let bounds = Bounds::of(file);
    ranges.iter().all(|(column, (from, to))| {
        let Ok(field) = table.schema.field_with_name(column) else { return true };
        bounds.column(field).is_none_or(|(least, most)| least <= *to && *from <= most)
    })
}
