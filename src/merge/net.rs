//! The net changes of a batch: of all changes of a row only the last counts, and what it does not say is known from
//! earlier ones or from the table.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, UInt64Array};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use lakemerge_source::dms::records::Operation;
use roaring::RoaringTreemap;

use super::order::{Ordered, SHARE, of_each, ordered};
use super::upserts::take;
use super::write::Layout;
use crate::dms::changes::ChangeRows;
use crate::error::{Error, Result};

/// The column of change numbers: a change's place in the order of the batch. No column of a key can have its name, since none
/// ends with a space.
pub const CHANGE: &str = "change ";

/// A row of one of several record batches: batch and row.
pub type Place = (usize, usize);

/// A [`Place`] in half the memory: there are as many as changes.
#[derive(Clone, Copy)]
pub struct Packed {
    batch: u32,
    row: u32,
}

impl Packed {
    pub fn new((batch, row): Place) -> Packed {
        Packed { batch: batch as u32, row: row as u32 }
    }

    pub fn place(self) -> Place {
        (self.batch as usize, self.row as usize)
    }
}

/// One outcome for each key of a batch.
pub struct Net {
    pub changes: Changes,
    /// Every key with the number of its last change, sorted by key.
    pub keys: RecordBatch,
    /// The numbers of the last changes that are deletes.
    pub deletes: RoaringTreemap,
    /// Those of them that only take an old key away and stand for no record.
    pub moved: RoaringTreemap,
    /// The rows that are to be there afterwards, by key.
    pub outcomes: Vec<Outcome>,
    /// Those of them that the batch does not hold whole.
    pub partial: Vec<Partial>,
    pub read: u64,
    pub netted_away: u64,
}

/// A row that is to be there afterwards.
pub struct Outcome {
    /// The last change of its key, which the columns that lakemerge adds tell of.
    pub change: u32,
    pub values: Values,
}

/// Where the values of a row stand.
pub enum Values {
    /// In this change.
    Change(u32),
    /// In several, or in the table: a number in [`Net::partial`].
    Partial(u32),
}

/// A row of which some values are in the table alone.
pub struct Partial {
    /// The last change of its key.
    pub change: usize,
    /// The last change of the key that the row had when the batch began, by which it is located.
    pub base: u64,
    /// For each column of the source the change that holds its value; none if the table does. Empty if it does for all.
    pub sources: Vec<Option<u32>>,
}

impl Partial {
    /// The change that holds the value of a column of the source, if one does.
    pub fn source(&self, column: usize) -> Option<usize> {
        self.sources.get(column).copied().flatten().map(|change| change as usize)
    }

    /// True if the table must tell the rest.
    pub fn is_open(&self) -> bool {
        self.sources.is_empty() || self.sources.contains(&None)
    }
}

/// The changes of a batch, by their numbers.
pub struct Changes {
    pub rows: Vec<ChangeRows>,
    places: Vec<Packed>,
    operations: Vec<Operation>,
}

impl Changes {
    fn new(rows: Vec<ChangeRows>) -> Changes {
        let count = rows.iter().map(|rows| rows.operations.len()).sum();
        let (mut places, mut operations) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (batch, rows) in rows.iter().enumerate() {
            places.extend((0..rows.operations.len()).map(|row| Packed::new((batch, row))));
            operations.extend_from_slice(&rows.operations);
        }
        Changes { rows, places, operations }
    }

    pub fn place(&self, change: usize) -> Place {
        self.places[change].place()
    }

    fn operation(&self, change: usize) -> Operation {
        self.operations[change]
    }

    fn is_moved(&self, change: usize) -> bool {
        let (batch, row) = self.place(change);
        self.rows[batch].is_moved(row)
    }

    fn is_unchanged(&self, column: usize, change: usize) -> bool {
        let (batch, row) = self.place(change);
        self.rows[batch].is_unchanged(column, row)
    }

    fn has_unchanged(&self, change: usize) -> bool {
        let (batch, row) = self.place(change);
        self.rows[batch].unchanged.iter().flatten().any(|rows| rows.value(row))
    }

    /// The raw file and the record of a change, for messages.
    pub fn record(&self, change: usize) -> String {
        let (batch, row) = self.place(change);
        format!("{}, record {}", self.rows[batch].file, self.rows[batch].record(row))
    }
}

/// Nets `changes`, which are in the order of the source.
///
/// # Errors
/// An update that says nothing of a column, of a row that the batch has deleted.
pub fn net(layout: &Layout, changes: Vec<ChangeRows>, threads: usize) -> Result<Net> {
    let changes = Changes::new(changes);
    let key: Vec<_> = layout.key_numbers().collect();
    let keys = changes.rows.iter().map(|rows| rows.columns.project(&key)).collect::<Result<Vec<_>, _>>()?;
    let order = ordered(&keys.iter().map(RecordBatch::columns).collect::<Vec<_>>(), threads)?;
    let history = History::of(&order, &changes, layout.keeps_deleted());
    let (mut deletes, mut moved) = (vec![], vec![]);
    let (mut last, mut outcomes, mut partial) = (vec![], vec![], vec![]);
    for group in order.groups() {
        let change = group[group.len() - 1].number();
        last.push(change as u64);
        let deleted = changes.operation(change) == Operation::Delete;
        if deleted {
            deletes.push(change as u64);
            if changes.is_moved(change) {
                moved.push(change as u64);
            }
        }
        if !deleted || layout.keeps_deleted() {
            let values = match &history {
                Some(history) => history.values(layout, &changes, change, &mut partial)?,
                None => Values::Change(change as u32),
            };
            outcomes.push(Outcome { change: change as u32, values });
        }
    }
    let (deletes, moved) = (set(deletes), set(moved));
    let halves: u64 = changes.rows.iter().map(|rows| rows.moved.len() as u64).sum();
    let read = changes.places.len() as u64 - halves;
    let netted_away = read - (last.len() as u64 - moved.len());
    let keys = keys_of(layout, &changes, &keys, &last, threads)?;
    Ok(Net { changes, keys, deletes, moved, outcomes, partial, read, netted_away })
}

/// The set of `numbers`, which takes them in several times faster when they ascend.
pub fn set(mut numbers: Vec<u64>) -> RoaringTreemap {
    numbers.sort_unstable();
    numbers.dedup();
    let mut set = RoaringTreemap::new();
    let appended = set.append(numbers);
    debug_assert!(appended.is_ok());
    set
}

/// What came before each change, for rows that not one change holds whole.
struct History {
    /// The change of the same key before it.
    previous: Vec<Option<usize>>,
    /// The last change of the same key.
    last: Vec<usize>,
}

impl History {
    /// `None` where every last change holds all that is needed.
    fn of(order: &Ordered, changes: &Changes, keeps_deleted: bool) -> Option<History> {
        if !keeps_deleted && changes.rows.iter().all(|rows| rows.unchanged.is_empty()) {
            return None;
        }
        let count = changes.places.len();
        let mut history = History { previous: vec![None; count], last: vec![0; count] };
        for group in order.groups() {
            let mut before = None;
            for entry in group {
                history.previous[entry.number()] = before.replace(entry.number());
                history.last[entry.number()] = group[group.len() - 1].number();
            }
        }
        Some(history)
    }

    /// Where the values stand of the row that `change`, the last of its key, leaves behind.
    fn values(&self, layout: &Layout, changes: &Changes, change: usize, partial: &mut Vec<Partial>) -> Result<Values> {
        let mut sources: Vec<Option<u32>> = vec![];
        let mut at = change;
        loop {
            if changes.operation(at) != Operation::Delete {
                if sources.iter().all(Option::is_none) && !changes.has_unchanged(at) {
                    return Ok(Values::Change(at as u32));
                }
                sources.resize(layout.source_columns, None);
                let unknown = sources.iter_mut().enumerate().filter(|(_, source)| source.is_none());
                let known_here = unknown.filter(|(column, _)| !changes.is_unchanged(*column, at));
                known_here.for_each(|(_, source)| *source = Some(at as u32));
            } else if changes.operation(change) != Operation::Delete {
                return Err(gone(layout, changes, &Partial { change, base: 0, sources }));
            }
            // an update of the key goes on from the row that had the old one
            let has_moved = changes.operation(at) == Operation::Update && at > 0 && changes.is_moved(at - 1);
            let here = if has_moved { at - 1 } else { at };
            let row = Partial { change, base: self.last[here] as u64, sources };
            match self.previous[here].filter(|_| row.is_open()) {
                Some(before) => (at, sources) = (before, row.sources),
                None => {
                    partial.push(row);
                    return Ok(Values::Partial(partial.len() as u32 - 1));
                }
            }
        }
    }
}

/// The error for a change that leaves values open of a row that is not there.
pub fn gone(layout: &Layout, changes: &Changes, row: &Partial) -> Error {
    let open = (0..layout.source_columns).filter(|column| row.source(*column).is_none());
    let names: Vec<_> = open.map(|column| layout.schema.field(column).name().as_str()).collect();
    Error::definite(format!(
        "{}: the update does not say what {} is (CsvNoSupValue), and the row it updates is not there; mend the record, or have \
         the task load the table again and run with --reload TABLE",
        changes.record(row.change),
        names.join(", ")
    ))
}

/// The keys of the changes `last` with their numbers, of the `keys` of all changes.
fn keys_of(
    layout: &Layout,
    changes: &Changes,
    keys: &[RecordBatch],
    last: &[u64],
    threads: usize,
) -> Result<RecordBatch> {
    let mut fields = layout.key_fields();
    fields.push(Arc::new(Field::new(CHANGE, DataType::UInt64, false)));
    let schema = Arc::new(Schema::new(fields));
    let batch = |last: &&[u64]| {
        let places: Vec<_> = last.iter().map(|change| changes.places[*change as usize]).collect();
        let mut columns = take(keys, &places)?.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from(last.to_vec())));
        Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
    };
    let shares: Vec<_> = last.chunks(last.len().div_ceil(threads.max(1)).max(SHARE)).collect();
    let batches = of_each(&shares, threads, batch).into_iter().collect::<Result<Vec<_>>>()?;
    Ok(concat_batches(&schema, &batches)?)
}
