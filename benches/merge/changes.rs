//! What happens to the rows: sets of changes, each key once, and the files that bring them to both sides.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::csv::WriterBuilder;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use deltalake::parquet::arrow::ArrowWriter;

use crate::Result;
use crate::rows::{Kind, Row, hash};

/// The column of operations: `I`, `U` or `D`, as DMS calls them.
pub const OPERATION: &str = "Op";

#[derive(Debug, Clone, Copy)]
pub struct Change {
    pub operation: &'static str,
    pub row: Row,
}

/// A set of changes.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    pub name: String,
    pub updates: u64,
    pub deletes: u64,
    pub inserts: u64,
    /// The rows as loaded, by place, that updates and deletes fall on.
    pub among: Range<u64>,
    /// How many rows were inserted before.
    pub inserted_before: u64,
    /// What updated and inserted rows hold: above 0, and different in sets that follow one another.
    pub version: u64,
}

impl ChangeSet {
    /// `changes` of which 80 % are updates, 10 % deletes and 10 % inserts.
    pub fn mixed(name: &str, changes: u64, among: Range<u64>) -> ChangeSet {
        let tenth = changes / 10;
        ChangeSet {
            name: name.to_string(),
            updates: changes - 2 * tenth,
            deletes: tenth,
            inserts: tenth,
            among,
            inserted_before: 0,
            version: 1,
        }
    }

    pub fn inserts(name: &str, inserts: u64) -> ChangeSet {
        ChangeSet { updates: 0, deletes: 0, inserts, ..ChangeSet::mixed(name, 0, 0..0) }
    }

    pub fn len(&self) -> u64 {
        self.updates + self.deletes + self.inserts
    }

    /// The changes of a table of `rows`, in an order that is not the key's.
    pub fn changes(&self, kind: Kind, rows: u64) -> Vec<Change> {
        let mut changes = vec![];
        let mut picked = HashSet::new();
        let mut random = (0..).map(|nth: u64| hash(nth ^ (self.version << 32)));
        while (picked.len() as u64) < self.updates + self.deletes {
            let place = self.among.start + random.next().unwrap_or_default() % (self.among.end - self.among.start);
            if picked.insert(place) {
                let number = kind.loaded(place);
                changes.push(if picked.len() as u64 <= self.updates {
                    Change { operation: "U", row: Row { number, version: self.version } }
                } else {
                    Change { operation: "D", row: Row { number, version: 0 } }
                });
            }
        }
        for nth in 0..self.inserts {
            let number = kind.inserted(self.inserted_before + nth, rows);
            changes.push(Change { operation: "I", row: Row { number, version: self.version } });
        }
        changes.sort_by_key(|change| hash(change.row.number));
        changes
    }
}

/// Writes `changes` as DMS would: comma-separated, the operation first, in commit order.
pub fn write_dms(kind: Kind, changes: &[Change], path: &Path) -> Result<()> {
    write_csv(changes.chunks(BATCH).map(|changes| batch(kind, changes, OperationColumn::First)), path)
}

/// Writes `rows` as a LOAD file of DMS.
pub fn write_load(kind: Kind, rows: &[Row], path: &Path) -> Result<()> {
    write_csv(rows.chunks(BATCH).map(|rows| kind.batch(rows)), path)
}

fn write_csv(batches: impl Iterator<Item = Result<RecordBatch>>, path: &Path) -> Result<()> {
    let mut writer = WriterBuilder::new()
        .with_header(false)
        .with_timestamp_format("%Y-%m-%d %H:%M:%S%.6f".to_string())
        .build(BufWriter::new(File::create(path)?));
    for batch in batches {
        writer.write(&batch?)?;
    }
    Ok(())
}

/// Writes `changes` as the net changes that the other side starts from.
pub fn write_net(kind: Kind, changes: &[Change], path: &Path) -> Result<()> {
    let schema = batch(kind, &[], OperationColumn::Last)?.schema();
    let mut writer = ArrowWriter::try_new(File::create(path)?, schema, None)?;
    for changes in changes.chunks(BATCH) {
        writer.write(&batch(kind, changes, OperationColumn::Last)?)?;
    }
    writer.close()?;
    Ok(())
}

/// Rows that are made at once.
pub const BATCH: usize = 64 * 1024;

#[derive(Clone, Copy)]
enum OperationColumn {
    First,
    Last,
}

fn batch(kind: Kind, changes: &[Change], place: OperationColumn) -> Result<RecordBatch> {
    let rows = kind.batch(&changes.iter().map(|change| change.row).collect::<Vec<_>>())?;
    let operations = StringArray::from_iter_values(changes.iter().map(|change| change.operation));
    let mut fields = rows.schema().fields().to_vec();
    let mut columns = rows.columns().to_vec();
    let at = match place {
        OperationColumn::First => 0,
        OperationColumn::Last => columns.len(),
    };
    fields.insert(at, Arc::new(Field::new(OPERATION, DataType::Utf8, false)));
    columns.insert(at, Arc::new(operations));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
