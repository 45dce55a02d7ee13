//! What a table must hold: the changes applied one by one to a map. It shares no code with lakemerge.

use super::dms::{Change, Op};
use super::table::{Row, Table};
use std::collections::BTreeMap;

pub struct Model {
    table: Table,
    rows: BTreeMap<Row, Row>,
}

impl Model {
    pub fn new(table: &Table) -> Self {
        Self { table: table.clone(), rows: BTreeMap::new() }
    }

    /// Rows of a LOAD file; of a key that comes twice the later row stays.
    pub fn load(&mut self, rows: &[Row]) {
        for row in rows {
            self.rows.insert(self.table.key_of(row), row.clone());
        }
    }

    /// An insert of a key that is there replaces it, an update of a key that is not there inserts it, a delete of a key
    /// that is not there does nothing: DMS may hand over a change again.
    pub fn apply(&mut self, changes: &[Change]) {
        for Change { op, row } in changes {
            let key = self.table.key_of(row);
            match op {
                Op::Insert | Op::Update => self.rows.insert(key, row.clone()),
                Op::Delete => self.rows.remove(&key),
            };
        }
    }

    /// All rows, sorted.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<_> = self.rows.values().cloned().collect();
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
