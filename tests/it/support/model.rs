//! What a table must hold: the changes applied one by one to a map. It shares no code with lakemerge.

use super::dms::{Change, Op, Settings};
use super::table::{Row, Table, canonical};
use std::collections::BTreeMap;

pub struct Model {
    table: Table,
    settings: Settings,
    rows: BTreeMap<Row, Held>,
}

/// A row, and what the columns say that lakemerge adds.
struct Held {
    row: Row,
    deleted: bool,
    op: &'static str,
    committed: Option<String>,
    position: Option<String>,
}

impl Model {
    pub fn new(table: &Table) -> Self {
        Self { table: table.clone(), settings: Settings::default(), rows: BTreeMap::new() }
    }

    /// For tables with columns that tell where a row comes from.
    pub fn with_settings(mut self, settings: &Settings) -> Self {
        self.settings = settings.clone();
        self
    }

    /// Rows of a LOAD file; of a key that comes twice the later row stays.
    pub fn load(&mut self, rows: &[Row]) {
        for (record, row) in (1..).zip(rows) {
            let committed = self.settings.commit_time(record);
            let held = Held { row: row.clone(), deleted: false, op: "I", committed, position: None };
            self.rows.insert(self.table.key_of(row), held);
        }
    }

    pub fn apply(&mut self, changes: &[Change]) {
        self.apply_file("", changes);
    }

    /// Changes of the file with this stamp. An insert of a key that is there replaces it, an update of a key that is not
    /// there inserts it, a delete of a key that is not there does nothing: DMS may hand over a change again.
    pub fn apply_file(&mut self, stamp: &str, changes: &[Change]) {
        for (record, Change { op, row }) in (1..).zip(changes) {
            let key = self.table.key_of(row);
            let before = self.rows.remove(&key);
            let (row, deleted) = match (op, before) {
                (Op::Insert | Op::Update, _) => (row.clone(), false),
                (Op::Delete, Some(before)) if self.table.soft_delete => (before.row, true),
                (Op::Delete, _) => continue,
            };
            let (committed, position) = (self.settings.commit_time(record), Some(format!("{stamp}/{record:010}")));
            self.rows.insert(key, Held { row, deleted, op: op.letter(), committed, position });
        }
    }

    /// All rows, sorted, in the one form of each type.
    pub fn rows(&self) -> Vec<Row> {
        let columns = self.table.lake_columns();
        let row = |held: &Held| -> Row {
            let added = columns[self.table.columns.len()..].iter().map(|(name, _)| match name.as_str() {
                "_deleted" => Some(held.deleted.to_string()),
                "_op" => Some(held.op.to_owned()),
                "_commit_ts" => held.committed.clone(),
                "_position" => held.position.clone(),
                other => panic!("there is no {other}"),
            });
            let values = held.row.iter().cloned().chain(added).zip(&columns);
            values.map(|(value, (_, kind))| canonical(&value?, kind)).collect()
        };
        let mut rows: Vec<_> = self.rows.values().map(row).collect();
        rows.sort();
        rows
    }
}

/// Both sorted. Says what is too much and what is missing, rather than showing two whole tables.
#[track_caller]
pub fn assert_same(found: &[Row], expected: &[Row], what: &str) {
    if found == expected {
        return;
    }
    let count = |rows: &[Row]| {
        let mut counts = BTreeMap::<Row, i64>::new();
        for row in rows {
            *counts.entry(row.clone()).or_default() += 1;
        }
        counts
    };
    let (has, wants) = (count(found), count(expected));
    let more = |a: &BTreeMap<Row, i64>, b: &BTreeMap<Row, i64>| -> Vec<Row> {
        a.iter()
            .filter(|(row, n)| **n > b.get(*row).copied().unwrap_or(0))
            .map(|(row, _)| row.clone())
            .take(8)
            .collect()
    };
    panic!(
        "{what}: {} rows instead of {}\n  too much: {:?}\n  missing: {:?}",
        found.len(),
        expected.len(),
        more(&has, &wants),
        more(&wants, &has)
    );
}
