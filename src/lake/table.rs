//! One Delta table at one version: its files, its schema, and the position its last commit of ours holds.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use deltalake::DeltaTable;
use deltalake::kernel::transaction::PROTOCOL;
use deltalake::kernel::{Action, Add, EagerSnapshot, LogicalFileView};
use deltalake::logstore::{LogStoreRef, get_actions};
use lakemerge_source::name::TableName;
use object_store::path::Path;

use super::position::{Facts, IDS, Position, VERSION};
use crate::error::{Error, Result};

/// What is said of a commit whose entry is gone.
const CLEANED_UP: &str = "or one before it, whose log entries are cleaned up";

const COLUMN_MAPPING: &str = "delta.columnMapping.mode";

/// A snapshot of a table. Cheap to clone.
#[derive(Clone)]
pub struct Table {
    pub name: TableName,
    pub log: LogStoreRef,
    /// The same as deltalake has it.
    pub delta: DeltaTable,
    pub snapshot: EagerSnapshot,
    /// Live data files; a file's number is its place here.
    pub files: Arc<Vec<LogicalFileView>>,
    /// Columns in table order, as Arrow.
    pub schema: SchemaRef,
    pub partition_columns: Vec<String>,
}

/// What the log says of our own work on a table.
#[derive(Debug, Clone)]
pub struct Ours {
    pub position: Position,
    pub facts: Facts,
    /// The version of our newest commit.
    pub version: u64,
    /// A later commit of somebody else that changed rows.
    pub foreign: Option<Foreign>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    pub version: u64,
    pub operation: String,
}

impl Table {
    pub(super) async fn open(name: &TableName, log: LogStoreRef) -> Result<Option<Table>> {
        let mut delta = DeltaTable::new(Arc::clone(&log));
        if delta.load().await.is_err() {
            // asked only now: it lists the log once more
            if !log.is_delta_table_location().await? {
                return Ok(None);
            }
            // another run may have made the table in between
            delta.load().await?;
        }
        Table::of(name, delta).map(Some)
    }

    /// The newest version, which is read from the commits since this one.
    pub async fn newest(&self) -> Result<Table> {
        let mut delta = self.delta.clone();
        delta.update_state().await?;
        Table::of(&self.name, delta)
    }

    /// A former version.
    pub(super) async fn at(&self, version: u64) -> Result<Table> {
        let mut delta = DeltaTable::new(Arc::clone(&self.log));
        let loaded = delta.load_version(version).await.map_err(Error::from);
        loaded.map_err(|e| e.at(format!("version {version} is not there any more")))?;
        Table::of(&self.name, delta)
    }

    fn of(name: &TableName, delta: DeltaTable) -> Result<Table> {
        let snapshot = delta.snapshot()?.snapshot().clone();
        PROTOCOL
            .can_read_from_protocol(snapshot.protocol())
            .map_err(|e| Error::definite(format!("this table cannot be read: {e}")))?;
        let mapping = snapshot.metadata().configuration().get(COLUMN_MAPPING).filter(|mode| *mode != "none");
        if mapping.is_some() {
            return Err(Error::definite(format!(
                "this table cannot be read: its files have other names for its columns ({COLUMN_MAPPING}), which lakemerge \
                 does not follow"
            )));
        }
        let files = snapshot.log_data().iter().collect();
        let schema = plain(snapshot.arrow_schema().as_ref());
        let partition_columns = snapshot.metadata().partition_columns().to_vec();
        let (name, log) = (name.clone(), delta.log_store());
        Ok(Table { name, log, delta, snapshot, files: Arc::new(files), schema, partition_columns })
    }

    pub fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// Rows that are alive.
    pub fn rows(&self) -> Option<u64> {
        self.files.iter().map(|file| Some((file.num_records()? as u64).saturating_sub(marked_rows(file)))).sum()
    }

    /// Rows that a deletion vector marks as deleted and that still lie in the data files.
    pub fn deleted_rows(&self) -> u64 {
        self.files.iter().map(marked_rows).sum()
    }

    /// Bytes of the live data files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| u64::try_from(file.size()).unwrap_or_default()).sum()
    }

    /// The paths of data files that the log has in another form than deltalake writes, each in the latter with the one of
    /// the log: Spark leaves letters beyond ASCII as they are. An action is about the file of just the same path.
    pub fn paths_as_logged(&self) -> Result<HashMap<String, String>> {
        let is_doubtful = |file: &&LogicalFileView| file.path().bytes().any(|byte| !byte.is_ascii_graphic());
        let mut doubtful = HashMap::new();
        for file in self.files.iter().filter(is_doubtful) {
            let action = serde_json::to_value(file.remove_action(true)).map_err(Error::definite)?;
            let written = action["path"].as_str().unwrap_or_default().to_string();
            doubtful.insert(file.object_store_path(), written);
        }
        let mut paths = HashMap::new();
        if doubtful.is_empty() {
            return Ok(paths);
        }
        for batch in self.snapshot.add_actions_batches(true)? {
            let column = batch.column_by_name("path").map(|column| cast(column, &DataType::Utf8)).transpose()?;
            let logged = column.ok_or_else(|| Error::definite("the log tells no paths of files"))?;
            for logged in logged.as_string::<i32>().iter().flatten() {
                let path = Path::from_url_path(logged).map_err(Error::definite)?;
                if let Some(written) = doubtful.remove(&path).filter(|written| written != logged) {
                    paths.insert(written, logged.to_string());
                }
            }
        }
        Ok(paths)
    }

    pub fn is_partition_column(&self, column: &str) -> bool {
        self.partition_columns.iter().any(|name| name == column)
    }

    /// What our newest commit says, or `None` if none of this table's commits is ours.
    ///
    /// Every commit of ours repeats the complete position, so the newest commit files are enough; only where the log
    /// has been cleaned up behind a checkpoint are the ids looked up one by one, each by a replay (E-6).
    pub async fn ours(&self) -> Result<Option<Ours>> {
        let Some(facts) = Facts::from_configuration(self.snapshot.metadata().configuration())? else {
            return Ok(None);
        };
        let mut foreign = None;
        let mut unread = None;
        for version in (0..=self.version()).rev() {
            let Some(entry) = self.log.read_commit_entry(version).await? else {
                unread = Some(version);
                break;
            };
            let commit = read_commit(version, &entry)?;
            if commit.transactions.get(VERSION).and_then(|v| u64::try_from(*v).ok()) == Some(version) {
                let position = Position::from_transactions(&commit.transactions)
                    .ok_or_else(|| Error::definite(format!("version {version} holds only a part of its position")))?;
                return Ok(Some(Ours { position, facts, version, foreign }));
            }
            if commit.changes_rows && foreign.is_none() {
                foreign = Some(Foreign { version, operation: commit.operation });
            }
        }
        let mut values = HashMap::new();
        for id in IDS {
            if let Some(value) = self.snapshot.transaction_version(self.log.as_ref(), id).await? {
                values.insert(id.to_string(), value);
            }
        }
        let version = values.get(VERSION).and_then(|v| u64::try_from(*v).ok());
        // nobody can tell any more what the commits between ours and the oldest that is left did
        let unread = unread.filter(|unread| foreign.is_none() && version.is_some_and(|ours| ours < *unread));
        let foreign = foreign.or(unread.map(|version| Foreign { version, operation: CLEANED_UP.into() }));
        Ok(Position::from_transactions(&values).zip(version).map(|(position, version)| Ours {
            position,
            facts,
            version,
            foreign,
        }))
    }

    /// Refuses what a commit of ours could not keep true, by name.
    pub fn check_writable(&self) -> Result<()> {
        PROTOCOL
            .can_write_to(&self.snapshot)
            .map_err(|e| Error::definite(format!("this table cannot be written: {e}")))?;
        let configuration = self.snapshot.metadata().configuration();
        let on = |key: &str| configuration.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        for key in [
            "delta.enableChangeDataFeed",
            "delta.enableRowTracking",
            "delta.appendOnly",
            "delta.enableInCommitTimestamps",
            "delta.compatibility.symlinkFormatManifest.enabled",
        ] {
            if on(key) {
                return Err(refused(key));
            }
        }
        for key in configuration.keys() {
            let refuse = ["delta.setTransactionRetentionDuration", "delta.universalFormat.enabledFormats"];
            if refuse.contains(&key.as_str()) || key.starts_with("delta.constraints.") {
                return Err(refused(key));
            }
        }
        for field in self.snapshot.arrow_schema().fields() {
            let kept = ["delta.invariants", "delta.generationExpression", "delta.identity.start"];
            if let Some(key) = kept.iter().find(|key| field.metadata().contains_key(**key)) {
                return Err(refused(&format!("{key} of the column {}", field.name())));
            }
        }
        Ok(())
    }
}

fn refused(property: &str) -> Error {
    Error::definite(format!(
        "the table property {property} asks of every writer what lakemerge does not do; unset it, or keep the table out of the job"
    ))
}

/// All that the log says of a file.
#[expect(deprecated, reason = "nothing else gives it")]
pub fn added(file: &LogicalFileView) -> Add {
    file.add_action()
}

/// How many rows lie in a file, dead ones included.
pub fn physical_rows(file: &LogicalFileView) -> Result<u64> {
    let rows = file
        .num_records()
        .ok_or_else(|| Error::definite(format!("{}: the log does not say how many rows the file has", file.path())))?;
    Ok(rows as u64)
}

/// How many rows of a file its deletion vector marks.
pub fn marked_rows(file: &LogicalFileView) -> u64 {
    file.deletion_vector_descriptor().map_or(0, |vector| u64::try_from(vector.cardinality).unwrap_or_default())
}

/// The columns without metadata of other tools, all nullable: what a file lacks is read as NULL.
fn plain(schema: &Schema) -> SchemaRef {
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true).with_metadata(HashMap::new()))
        .collect();
    Arc::new(Schema::new(fields))
}

pub(super) struct CommitEntry {
    pub transactions: HashMap<String, i64>,
    changes_rows: bool,
    operation: String,
    /// When it was made, in milliseconds since 1970, as it says itself.
    pub time: Option<i64>,
}

pub(super) fn read_commit(version: u64, entry: &Bytes) -> Result<CommitEntry> {
    let mut commit =
        CommitEntry { transactions: HashMap::new(), changes_rows: false, operation: "unknown".into(), time: None };
    for action in get_actions(version, entry).map_err(|e| Error::definite(format!("commit {version}: {e}")))? {
        match action {
            Action::Txn(txn) => {
                commit.transactions.insert(txn.app_id, txn.version);
            }
            Action::Add(add) => commit.changes_rows |= add.data_change,
            Action::Remove(remove) => commit.changes_rows |= remove.data_change,
            Action::CommitInfo(info) => {
                commit.operation = info.operation.unwrap_or(commit.operation);
                commit.time = info.timestamp;
            }
            _ => {}
        }
    }
    Ok(commit)
}
