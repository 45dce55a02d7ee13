//! Where the rows are that a batch changes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, make_comparator};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Int32Type, Int64Type, UInt64Type};
use datafusion::datasource::MemTable;
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::Accumulator;
use datafusion::scalar::ScalarValue;
use deltalake::kernel::LogicalFileView;
use futures::TryStreamExt;
use roaring::RoaringTreemap;

use super::among::{first_not, may_be_among};
use super::net::{CHANGE, set};
use super::skipping::Search;
use crate::engine::{Engine, quoted};
use crate::error::{Error, Result};
use crate::lake::provider::ScanProvider;
use crate::lake::scan::{Bounds, FILE, ROW, Rows, Scan, partition_value};
use crate::lake::table::Table;

/// The rows that are there already, and the changes that named them.
#[derive(Default)]
pub struct Located {
    pub rows: Rows,
    pub changes: RoaringTreemap,
    /// None unless they are asked for: they take more memory than the rest.
    pub addresses: Vec<Address>,
}

/// Where the row lies that a change named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub change: u64,
    pub file: usize,
    pub row: u64,
}

/// Finds the live rows whose keys stand in `keys`: the key columns, by which they are sorted, and [`CHANGE`].
///
/// Reads the key columns alone, and only of files whose bounds allow one of the keys, and of their pages where one of
/// them may lie; of their rows those are looked up whose key may be among these (`may_be_among`). A hash table cannot spill,
/// so the keys are taken in slices that fit the memory (E-8); what is located is united before the one commit.
pub async fn locate(
    engine: &Engine,
    table: &Table,
    key: &[String],
    keys: &RecordBatch,
    addresses: bool,
) -> Result<Located> {
    let mut located = Located::default();
    let rows_at_once = rows_of(keys, engine.memory() / SLICES);
    let mut first = 0;
    while first < keys.num_rows() {
        let slice = keys.slice(first, rows_at_once.min(keys.num_rows() - first));
        first += slice.num_rows();
        let candidates = candidates(table, key, &slice)?;
        if candidates.files.is_empty() {
            continue;
        }
        let search = Search::new(engine, table, key, candidates.leading, &slice, candidates.overlap)?;
        let within = search.within(candidates.files).await?;
        if !within.files.is_empty() {
            let target = Scan::new(table, within.files).with_addresses().within(within.rows);
            join(engine, target, key, slice, addresses, &mut located).await?;
        }
    }
    Ok(located)
}

/// A slice of keys may take this part of the memory: its hash table needs a few times as much, and tables share it.
const SLICES: usize = 8;

/// Of more files DataFusion does not ask again, each by itself, which row groups have keys in the range of those that are
/// looked for: it takes half of the time that a small file takes, and [`Search`] knows. Tests meet both.
const FEW_FILES: usize = if cfg!(debug_assertions) { 3 } else { 100 };

fn rows_of(keys: &RecordBatch, bytes: usize) -> usize {
    let row = keys.get_array_memory_size() / keys.num_rows().max(1);
    (bytes / row.max(1)).max(1024)
}

async fn join(
    engine: &Engine,
    target: Scan,
    key: &[String],
    keys: RecordBatch,
    addresses: bool,
    located: &mut Located,
) -> Result<()> {
    let session = engine.session();
    if target.files().len() > FEW_FILES {
        session.state_ref().write().config_mut().options_mut().optimizer.enable_join_dynamic_filter_pushdown = false;
    }
    let first = key.first().ok_or_else(|| Error::definite("a key without columns"))?;
    session.register_udf(may_be_among(Arc::clone(key_column(&keys, first)?)));
    session.register_table("target", Arc::new(ScanProvider(target)))?;
    session.register_table("changes", Arc::new(MemTable::try_new(keys.schema(), vec![vec![keys]])?))?;
    let same_key = key.iter().map(|k| format!("(c.{0} IS NOT DISTINCT FROM t.{0})", quoted(k)));
    let same_key = same_key.collect::<Vec<_>>().join(" AND ");
    let statement = format!(include_str!("../../sql/locate.sql"), same_key = same_key, first = quoted(first));
    let mut found = session.sql(&statement).await?.execute_stream().await?;
    let mut named = vec![];
    while let Some(batch) = found.try_next().await? {
        let column = |name| batch.column_by_name(name).ok_or_else(|| Error::definite(format!("locate lost {name}")));
        let files = column(FILE)?.as_primitive::<Int32Type>();
        let rows = column(ROW)?.as_primitive::<Int64Type>();
        let changes = column(CHANGE)?.as_primitive::<UInt64Type>();
        let mut first = 0;
        // the rows of a file come together
        for of_file in files.values().chunk_by(|a, b| a == b) {
            let range = first..first + of_file.len();
            first = range.end;
            let file = usize::try_from(of_file[0]).map_err(|_| no_address())?;
            let rows = rows.values()[range.clone()].iter().map(|row| u64::try_from(*row).map_err(|_| no_address()));
            let rows = rows.collect::<Result<Vec<_>>>()?;
            if addresses {
                let pairs = changes.values()[range].iter().zip(&rows);
                located.addresses.extend(pairs.map(|(&change, &row)| Address { change, file, row }));
            }
            *located.rows.entry(file).or_default() |= set(rows);
        }
        named.extend_from_slice(changes.values());
    }
    located.changes |= set(named);
    Ok(())
}

fn no_address() -> Error {
    Error::definite("locate gave an address that is none")
}

/// Files that may hold keys.
struct Candidates {
    /// How many columns the key begins with that tell the partition.
    leading: usize,
    /// With the keys that a file may hold as far as its partition tells, which are those of a range.
    files: Vec<(usize, Range<usize>)>,
    /// In how many of them a key may lie on average.
    overlap: f64,
}

/// The files whose partitions and bounds do not rule every key out: by the keys themselves in the key's leading partition
/// columns and in the one behind these, by their range in the others.
fn candidates(table: &Table, key: &[String], keys: &RecordBatch) -> Result<Candidates> {
    let mut ranges = HashMap::new();
    for (place, column) in key.iter().enumerate() {
        let values = key_column(keys, column)?;
        // bounds say nothing of NULLs
        if values.null_count() == 0 && !values.is_empty() {
            let ends = if place == 0 { ends(values)? } else { range(values)? };
            ranges.insert(column.as_str(), ends);
        }
    }
    let (leading, rest) = key.split_at(leading(table, key, keys));
    let (mut files, mut pairs) = (vec![], 0);
    for (number, file) in table.files.iter().enumerate() {
        let bounds = FileBounds::new(table, file);
        if !in_range(&bounds, &ranges)? || leading.iter().any(|column| bounds.is_of_null(column)) {
            continue;
        }
        let mut of_file = 0..keys.num_rows();
        for column in leading {
            of_file = within(&bounds, column, keys, of_file)?;
        }
        let count = match rest.first() {
            Some(first) => within(&bounds, first, keys, of_file.clone())?.len(),
            None => of_file.len(),
        };
        if count > 0 {
            files.push((number, of_file));
            pairs += count;
        }
    }
    Ok(Candidates { leading: leading.len(), files, overlap: pairs as f64 / keys.num_rows().max(1) as f64 })
}

/// How many columns the key begins with by which its rows lie in partitions. Where a NULL is among them they tell nothing.
fn leading(table: &Table, key: &[String], keys: &RecordBatch) -> usize {
    let leading = key.iter().take_while(|column| table.is_partition_column(column));
    let values = leading.map(|column| keys.column_by_name(column));
    let values: Vec<_> = values.collect();
    if values.iter().flatten().any(|values| values.null_count() > 0) { 0 } else { values.len() }
}

/// What the log says of a column's values in a file.
struct FileBounds<'a> {
    table: &'a Table,
    bounds: Bounds,
    partition: HashMap<String, Option<String>>,
}

impl FileBounds<'_> {
    fn new<'a>(table: &'a Table, file: &LogicalFileView) -> FileBounds<'a> {
        FileBounds { table, bounds: Bounds::of(file), partition: file.partition_values_map() }
    }

    /// True if the file's partition is that of the rows without a value.
    fn is_of_null(&self, column: &str) -> bool {
        self.partition.get(column).is_some_and(|text| text.as_deref().is_none_or(str::is_empty))
    }

    /// The smallest and the largest; `None` where the log does not say.
    fn of(&self, column: &str) -> Result<Option<(ScalarValue, ScalarValue)>> {
        let field = self.table.schema.field_with_name(column)?;
        Ok(match self.partition.get(column) {
            Some(text) => {
                let value = partition_value(text.as_deref(), field.data_type())?;
                (!value.is_null()).then(|| (value.clone(), value))
            }
            None => self.bounds.column(field),
        })
    }
}

/// The smallest and the largest of sorted values.
fn ends(values: &ArrayRef) -> Result<(ScalarValue, ScalarValue)> {
    Ok((ScalarValue::try_from_array(values, 0)?, ScalarValue::try_from_array(values, values.len() - 1)?))
}

/// The smallest and the largest of values in any order.
fn range(values: &ArrayRef) -> Result<(ScalarValue, ScalarValue)> {
    let (mut least, mut most) =
        (MinAccumulator::try_new(values.data_type())?, MaxAccumulator::try_new(values.data_type())?);
    least.update_batch(std::slice::from_ref(values))?;
    most.update_batch(std::slice::from_ref(values))?;
    Ok((least.evaluate()?, most.evaluate()?))
}

fn key_column<'a>(keys: &'a RecordBatch, column: &str) -> Result<&'a ArrayRef> {
    keys.column_by_name(column).ok_or_else(|| Error::definite(format!("key column {column} was lost")))
}

fn in_range(bounds: &FileBounds, ranges: &HashMap<&str, (ScalarValue, ScalarValue)>) -> Result<bool> {
    for (column, (from, to)) in ranges {
        if bounds.of(column)?.is_some_and(|(least, most)| most < *from || *to < least) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Those of the keys `among`, which are sorted by `column`, that lie within a file's bounds of it.
fn within(bounds: &FileBounds, column: &str, keys: &RecordBatch, among: Range<usize>) -> Result<Range<usize>> {
    let values = key_column(keys, column)?;
    let bounds = bounds.of(column)?.filter(|_| values.null_count() == 0);
    let Some((least, most)) = bounds else { return Ok(among) };
    let (least, most) = (least.to_array()?, most.to_array()?);
    let to_least = make_comparator(values, &least, SortOptions::default())?;
    let to_most = make_comparator(values, &most, SortOptions::default())?;
    let from = first_not(among.clone(), |key| to_least(key, 0).is_lt());
    let after = first_not(from..among.end, |key| to_most(key, 0).is_le());
    Ok(from..after)
}
