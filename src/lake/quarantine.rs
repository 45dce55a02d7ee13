//! Records that could not be read, kept for a person to look at: `<lake>/_quarantine/<schema>/<table>/`, a Delta table.
//!
//! A record stands there under its raw file. It is added before the commit that passes it over, and once a file that was
//! read again is merged, what stood there before is removed: a record that was mended is gone then, and one that was read
//! twice stands there once. Where a run ends in between, rather is a record there twice than nowhere.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{
    ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake::kernel::{Action, LogicalFileView};
use lakemerge_source::dms::records;
use lakemerge_source::name::TableName;
use lakemerge_source::schema::TableSchema;
use serde_json::json;

use super::commit::{Commit, Outcome};
use super::position::{Facts, Position};
use super::{Lake, TableType, create};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::merge::write::{Layout, Writer};

/// A record that is no row of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// The raw file's path from `source.url` on.
    pub file: String,
    /// The record's number in it, from 1.
    pub record: u64,
    pub column: Option<String>,
    pub reason: String,
    /// The record as it stands in the file.
    pub raw: Vec<u8>,
}

impl BadRecord {
    /// A record of the raw file `file`.
    pub fn new(file: &str, bad: records::BadRecord) -> BadRecord {
        let records::BadRecord { record, column, value, reason, raw } = bad;
        let reason = value.map_or(reason.clone(), |value| format!("\"{value}\" {reason}"));
        BadRecord { file: file.to_string(), record, column, reason, raw }
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self.column.as_ref().map_or(String::new(), |column| format!("column {column}: "));
        write!(f, "record {}: {column}{}", self.record, self.reason)
    }
}

const FILE: &str = "file";

/// Races lost in a row before the records wait for the next run.
const RACES: u64 = 20;

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        text(FILE),
        Field::new("record", DataType::Int64, true),
        text("column"),
        text("reason"),
        Field::new("raw", DataType::Binary, true),
        Field::new("quarantined_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]))
}

/// The raw files of which the quarantine of `name` holds records.
pub async fn files(lake: &Lake, name: &TableName) -> Result<BTreeSet<String>> {
    let table = lake.open_quarantine(name).await?;
    Ok(table
        .iter()
        .flat_map(|table| table.files.iter())
        .filter_map(|file| file_of(&file.partition_values_map()))
        .collect())
}

/// Adds `bad` to the quarantine of `name`, and says in which data files they are.
pub async fn add(engine: &Engine, lake: &Lake, name: &TableName, bad: &[BadRecord]) -> Result<HashSet<String>> {
    if bad.is_empty() {
        return Ok(HashSet::new());
    }
    let layout = layout(engine, lake, name)?;
    let mut writer = Writer::new(&layout);
    let mut by_file: Vec<_> = bad.iter().collect();
    by_file.sort_by_key(|bad| (&bad.file, bad.record));
    writer.write(&batch(&by_file)?).await?;
    let added = writer.close().await?;
    for race in 0..RACES {
        let actions = added.iter().cloned().map(Action::Add).collect();
        let facts = json!({ "step": "quarantine", "records": bad.len() });
        let commit = Commit { actions, position: Position::default(), facts };
        let outcome = match &lake.open_quarantine(name).await? {
            Some(table) => commit.onto(table).await?,
            None => {
                let facts = Facts {
                    source: "quarantine".into(),
                    key: layout.key.clone(),
                    key_is_primary: true,
                    schema: TableSchema { columns: vec![], primary_key: vec![] },
                    added: vec![],
                    others: None,
                    load: vec![],
                };
                let metadata = create::metadata(&layout.schema, &layout.partition_by, &facts)?;
                commit.first(&layout.log, create::protocol(&layout.schema)?, metadata).await?
            }
        };
        if let Outcome::Committed(_) = outcome {
            return Ok(added.into_iter().map(|add| add.path).collect());
        }
        wait(race).await;
    }
    Err(too_many_races(name))
}

/// The data files in which the quarantine of `name` holds records of the raw `files`, or of all where these are `None`.
pub async fn holds(lake: &Lake, name: &TableName, files: Option<&BTreeSet<String>>) -> Result<HashSet<String>> {
    let table = lake.open_quarantine(name).await?;
    let is_meant = |file: &&LogicalFileView| {
        let of = file_of(&file.partition_values_map());
        of.is_none_or(|file| files.is_none_or(|files| files.contains(&file)))
    };
    let held = table.iter().flat_map(|table| table.files.iter()).filter(is_meant);
    Ok(held.map(|file| file.path().into_owned()).collect())
}

/// Removes the data files `paths` from the quarantine of `name`.
pub async fn forget(lake: &Lake, name: &TableName, paths: &HashSet<String>) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    for race in 0..RACES {
        let Some(table) = lake.open_quarantine(name).await? else { return Ok(()) };
        let meant = table.files.iter().filter(|file| paths.contains(file.path().as_ref()));
        let actions: Vec<_> = meant.map(|file| Action::Remove(file.remove_action(true))).collect();
        if actions.is_empty() {
            return Ok(());
        }
        let facts = json!({ "step": "quarantine", "files": actions.len() });
        let commit = Commit { actions, position: Position::default(), facts };
        if let Outcome::Committed(_) = commit.onto(&table).await? {
            return Ok(());
        }
        wait(race).await;
    }
    Err(too_many_races(name))
}

async fn wait(race: u64) {
    tokio::time::sleep(Duration::from_millis(20 * (race + 1))).await;
}

fn too_many_races(name: &TableName) -> Error {
    Error::transient(format!("the quarantine of {name} is written faster than this run can"))
}

fn file_of(partition_values: &HashMap<String, Option<String>>) -> Option<String> {
    partition_values.get(FILE).cloned().flatten()
}

fn layout(engine: &Engine, lake: &Lake, name: &TableName) -> Result<Layout> {
    let schema = schema();
    Ok(Layout {
        log: lake.quarantine(name)?,
        source_columns: schema.fields().len(),
        of_change: Arc::new([]),
        schema,
        key: vec![FILE.to_string(), "record".to_string()],
        partition_by: vec![FILE.to_string()],
        table_type: TableType::CopyOnWrite,
        memory: engine.pool(),
        threads: engine.threads(),
    })
}

fn batch(bad: &[&BadRecord]) -> Result<RecordBatch> {
    let now = chrono::Utc::now().timestamp_micros();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(bad.iter().map(|bad| &bad.file))),
        Arc::new(bad.iter().map(|bad| i64::try_from(bad.record).ok()).collect::<Int64Array>()),
        Arc::new(bad.iter().map(|bad| bad.column.as_deref()).collect::<StringArray>()),
        Arc::new(StringArray::from_iter_values(bad.iter().map(|bad| &bad.reason))),
        Arc::new(BinaryArray::from_iter_values(bad.iter().map(|bad| &bad.raw))),
        Arc::new(TimestampMicrosecondArray::from(vec![now; bad.len()]).with_timezone("UTC")),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
