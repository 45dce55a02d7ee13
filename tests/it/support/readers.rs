//! Other engines on a table: Python deltalake, Polars and DuckDB, through `tests/readers.py`.

use super::site::Site;
use super::table::{Row, Table, canonical};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// What each engine reads: all rows, sorted, in the one form of each type.
pub fn rows(site: &Site, table: &Table) -> BTreeMap<String, Vec<Row>> {
    parse(table, &python(site, table, &["rows", &names(table)]))
}

/// The same for the rows where a column has a value; here an engine may skip files by their statistics.
pub fn find(site: &Site, table: &Table, column: &str, value: &str) -> BTreeMap<String, Vec<Row>> {
    parse(table, &python(site, table, &["find", &names(table), column, value]))
}

/// What OPTIMIZE of another writer does.
pub fn compact(site: &Site, table: &Table) {
    python(site, table, &["compact"]);
}

/// The same of another writer that has opened the table before `maintain` compacts it.
pub fn compact_late(site: &Site, table: &Table) -> serde_json::Value {
    let folder = site.path("");
    let binary = env!("CARGO_BIN_EXE_lakemerge");
    python(site, table, &["compact-late", &folder.display().to_string(), binary, "maintain"])
}

/// The same, with Bloom filters on all columns.
pub fn compact_with_filters(site: &Site, table: &Table) {
    python(site, table, &["compact-with-filters"]);
}

/// Makes the table as another writer would: its columns are a number and a day, and both are NOT NULL.
pub fn create(site: &Site, table: &Table, rows: &[(u32, &str)]) {
    python(site, table, &["create", &serde_json::to_string(rows).expect("rows are JSON")]);
}

/// What the log says of the table in words, after it was given this name, a description, comments and properties, if any.
pub fn describe(site: &Site, table: &Table, name: Option<&str>) -> serde_json::Value {
    let name: Vec<_> = ["describe"].into_iter().chain(name).collect();
    python(site, table, &name)
}

fn names(table: &Table) -> String {
    let names: Vec<_> = table.lake_columns().into_iter().map(|(name, _)| name).collect();
    serde_json::to_string(&names).expect("names are text")
}

/// `args` without the table's URI, which comes second.
fn python(site: &Site, table: &Table, args: &[&str]) -> serde_json::Value {
    let python = super::cache().join("venv/bin/python");
    assert!(python.exists(), "no {}: run ./test, which installs the readers", python.display());
    let output = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers.py"))
        .arg(args[0])
        .arg(site.table_uri(table))
        .args(&args[1..])
        .envs(site.env().iter().map(|(name, value)| (name, value)))
        .output()
        .expect("python cannot be started");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "readers.py {args:?} failed: {stderr}");
    serde_json::from_slice(&output.stdout).expect("readers.py prints JSON")
}

fn parse(table: &Table, json: &serde_json::Value) -> BTreeMap<String, Vec<Row>> {
    let engines = json.as_object().expect("an object of engines");
    engines.iter().map(|(engine, rows)| (engine.clone(), engine_rows(table, rows))).collect()
}

fn engine_rows(table: &Table, rows: &serde_json::Value) -> Vec<Row> {
    let columns = table.lake_columns();
    let value = |(value, (_, kind)): (&serde_json::Value, &(String, String))| canonical(value.as_str()?, kind);
    let row = |row: &serde_json::Value| row.as_array().expect("a row").iter().zip(&columns).map(value).collect();
    let mut rows: Vec<Row> = rows.as_array().expect("rows").iter().map(row).collect();
    rows.sort();
    rows
}
