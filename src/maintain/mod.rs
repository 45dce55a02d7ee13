//! Upkeep of tables: small files become large ones, dead rows go, the log gets checkpoints, and what no version within
//! the retention needs is deleted.
//!
//! Not deltalake's own `optimize` and `vacuum`: the one aborts beside every merge and never purges a single file, the
//! other deletes a vector by its age as soon as it is replaced (E-14, T-A19).

pub mod compact;
pub mod plan;
mod retention;
pub mod vacuum;

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use deltalake::logstore::LogStoreRef;
use deltalake::protocol::checkpoints;
use lakemerge_source::name::TableName;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::lake::table::Table;
use plan::Thresholds;
use retention::Retention;

/// Versions between two checkpoints at least, and at most.
const CHECKPOINT: u64 = 10;
const CHECKPOINT_AT_LAST: u64 = 20;
/// So many bytes of a checkpoint cost as much as one more commit to read. A checkpoint also holds every removal within
/// the retention, so that frequent ones of a busy table would outgrow the table.
const CHECKPOINT_BYTES: u64 = 32 << 10;
/// Versions between two clean-ups of log and files at the end of runs.
const CLEAN_UP: u64 = 100;
/// What upkeep may add to a run.
const BUDGET: Duration = Duration::from_secs(60);

/// What upkeep did to one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Upkeep {
    /// That of the last commit.
    #[serde(skip)]
    pub version: Option<u64>,
    pub commits: u64,
    pub files_compacted: u64,
    pub files_written: u64,
    /// Rows marked as deleted that are gone from the data files now.
    pub rows_purged: u64,
    pub checkpoint: bool,
    pub log_files_deleted: u64,
    pub files_deleted: u64,
    pub bytes_deleted: u64,
}

impl std::fmt::Display for Upkeep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} files compacted into {}, {} deleted rows purged, {} files of {} bytes vacuumed",
            self.files_compacted, self.files_written, self.rows_purged, self.files_deleted, self.bytes_deleted
        )
    }
}

/// All that can be done for `name`; nothing, if it is no table of ours.
///
/// # Errors
/// A table that another writer changed: a commit of ours would hide that change.
pub async fn maintain(engine: &Engine, lake: &Lake, name: &TableName) -> Result<Option<Upkeep>> {
    let mut done = Upkeep::default();
    let Some(table) = lake.open(name).await? else { return Ok(None) };
    if table.ours().await?.is_none() {
        return Ok(None);
    }
    let table = compact::compact(engine, table, Thresholds::ALL, None, &mut done).await?;
    checkpoint(&table, &mut done).await?;
    clean_up(&table, &mut done).await?;
    Ok(Some(done))
}

/// What is due after a run of so many `commits` to which `table` is owed, within a bound of time. What came of it before an
/// error is in `done`.
pub async fn after_run(engine: &Engine, table: Table, commits: u64, done: &mut Upkeep) -> Result<()> {
    let until = Instant::now() + BUDGET;
    let from = table.version().saturating_sub(commits);
    let table = compact::compact(engine, table, Thresholds::OVERDUE, Some(until), done).await?;
    let to = table.version();
    let is_due = from / CHECKPOINT != to / CHECKPOINT;
    if is_due && LastCheckpoint::of(&table.log).await?.is_none_or(|last| to >= last.next()) {
        checkpoint(&table, done).await?;
    }
    if from / CLEAN_UP != to / CLEAN_UP {
        clean_up(&table, done).await?;
    }
    Ok(())
}

async fn checkpoint(table: &Table, done: &mut Upkeep) -> Result<()> {
    checkpoints::create_checkpoint(&table.delta, None).await.map_err(|e| Error::from(e).at("checkpoint"))?;
    done.checkpoint = true;
    Ok(())
}

/// What the log says of its newest checkpoint (Delta protocol, *Last Checkpoint File*).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LastCheckpoint {
    version: u64,
    size_in_bytes: Option<u64>,
}

impl LastCheckpoint {
    /// `None` where there is none, or none that can be read.
    async fn of(log: &LogStoreRef) -> Result<Option<LastCheckpoint>> {
        match log.object_store(None).get(&Path::from("_delta_log/_last_checkpoint")).await {
            Ok(file) => Ok(serde_json::from_slice(&file.bytes().await?).ok()),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The version at which another one is due.
    fn next(&self) -> u64 {
        let versions = self.size_in_bytes.unwrap_or_default() / CHECKPOINT_BYTES;
        // counted from the version at which the last one was due, which it may have been behind
        self.version - self.version % CHECKPOINT + versions.clamp(CHECKPOINT, CHECKPOINT_AT_LAST)
    }
}

async fn clean_up(table: &Table, done: &mut Upkeep) -> Result<()> {
    let retention = Retention::of(table.snapshot.metadata().configuration())?;
    if retention.cleans_log {
        let before = TimeDelta::from_std(retention.log).ok().and_then(|log| Utc::now().checked_sub_signed(log));
        if let Some(before) = before {
            let (version, log) = (table.version(), table.log.as_ref());
            let deleted = checkpoints::cleanup_expired_logs_for(version, log, before.timestamp_millis(), None).await;
            done.log_files_deleted += deleted.map_err(|e| Error::from(e).at("log clean-up"))? as u64;
        }
    }
    vacuum::vacuum(table, retention.files, done).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_checkpoint_is_made_less_often() {
        let next = |text: &str| serde_json::from_str::<LastCheckpoint>(text).unwrap().next();
        assert_eq!(next(r#"{"version":640,"size":4214,"sizeInBytes":176588,"numOfAddFiles":16}"#), 650);
        assert_eq!(next(r#"{"version":640,"size":4214,"sizeInBytes":500000}"#), 655);
        assert_eq!(next(r#"{"version":640,"size":4214,"sizeInBytes":100000000}"#), 660);
        assert_eq!(next(r#"{"version":641,"size":4214}"#), 650);
    }
}
