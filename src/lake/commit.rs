//! The one way a table changes: rows and position in one commit, at exactly the version after the one that was read.
//!
//! The entry is written by deltalake's log store, conditionally, and nothing else of deltalake's commit is used: its
//! retry commits the same actions over whatever won (which doubles rows), its conflict checker does not see a
//! compaction, and its hooks report errors for a commit that landed (T-A2, E-1, E-15). Since a commit of ours stands
//! directly on the version it read, no other commit can lie between, whatever it did.

use std::collections::HashMap;

use bytes::Bytes;
use deltalake::kernel::transaction::{CommitData, PROTOCOL, TransactionError};
use deltalake::kernel::{Action, Metadata, Protocol};
use deltalake::logstore::{CommitOrBytes, LogStoreRef};
use deltalake::protocol::DeltaOperation;
use serde_json::{Value, json};
use uuid::Uuid;

use super::position::Position;
use super::table::Table;
use crate::error::{Error, Result};

/// What one commit changes.
pub struct Commit {
    pub actions: Vec<Action>,
    pub position: Position,
    /// Facts of the run for people; nothing is read back from them.
    pub facts: Value,
}

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed(u64),
    /// Another commit came first: everything that was read or located is stale.
    Lost,
}

impl Commit {
    /// Commits on top of `read`.
    pub async fn onto(self, read: &Table) -> Result<Outcome> {
        PROTOCOL
            .can_commit(&read.snapshot, &self.actions, &operation())
            .map_err(|e| Error::definite(format!("this table cannot be written: {e}")))?;
        self.write(&read.log, read.version() + 1, &read.paths_as_logged()?).await
    }

    /// Commits the first version of a table.
    pub async fn first(mut self, log: &LogStoreRef, protocol: Protocol, metadata: Metadata) -> Result<Outcome> {
        self.actions.insert(0, Action::Metadata(metadata));
        self.actions.insert(0, Action::Protocol(protocol));
        self.write(log, 0, &HashMap::new()).await
    }

    async fn write(self, log: &LogStoreRef, version: u64, paths: &HashMap<String, String>) -> Result<Outcome> {
        pause_before_commit(log).await;
        let id = Uuid::new_v4();
        let app_metadata =
            HashMap::from([("lakemerge".to_string(), json!({ "commit": id.to_string(), "facts": self.facts }))]);
        let transactions = self.position.transactions(version);
        let entry = CommitData::new(self.actions, operation(), app_metadata, transactions)
            .get_bytes()
            .map_err(|e| Error::definite(format!("commit {version}: {e}")))?;
        let entry = with_paths(entry, paths).map_err(|e| Error::definite(format!("commit {version}: {e}")))?;
        let written = log.write_commit_entry(version, CommitOrBytes::LogBytes(entry), id).await;
        let Err(error) = written else { return Ok(Outcome::Committed(version)) };
        // A PUT that was retried below us may answer "exists" for our own entry, and a time-out may have landed: the
        // log says what is true, the answer does not.
        match log.read_commit_entry(version).await? {
            Some(entry) if contains(&entry, id.to_string().as_bytes()) => Ok(Outcome::Committed(version)),
            Some(_) => Ok(Outcome::Lost),
            None => match error {
                TransactionError::VersionAlreadyExists(_) => Ok(Outcome::Lost),
                TransactionError::ObjectStore { source } => Err(source.into()),
                other => Err(Error::definite(format!("commit {version}: {other}"))),
            },
        }
    }
}

/// What the log calls it. Of a commit that wins deltalake's writers look at its actions alone.
fn operation() -> DeltaOperation {
    DeltaOperation::Merge {
        predicate: None,
        merge_predicate: None,
        matched_predicates: vec![],
        not_matched_predicates: vec![],
        not_matched_by_source_predicates: vec![],
    }
}

/// The entry with the paths of files as `paths` has them, by those that stand there.
fn with_paths(entry: Bytes, paths: &HashMap<String, String>) -> Result<Bytes, serde_json::Error> {
    if paths.is_empty() {
        return Ok(entry);
    }
    let mut lines = vec![];
    for line in entry.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut action: Value = serde_json::from_slice(line)?;
        for kind in ["add", "remove"] {
            if let Some(path) = action.pointer_mut(&format!("/{kind}/path"))
                && let Some(logged) = path.as_str().and_then(|path| paths.get(path))
            {
                *path = json!(logged);
            }
        }
        lines.push(serde_json::to_string(&action)?);
    }
    Ok(Bytes::from(lines.join("\n")))
}

fn contains(entry: &[u8], id: &[u8]) -> bool {
    entry.windows(id.len()).any(|window| window == id)
}

/// Lets a test put another writer between locate and commit of a table that is no quarantine; release builds have no such
/// door.
async fn pause_before_commit(_log: &LogStoreRef) {
    #[cfg(debug_assertions)]
    if let Some(path) = std::env::var_os("LAKEMERGE_TEST_PAUSE_BEFORE_COMMIT")
        && !_log.root_url().path().contains(super::QUARANTINE)
    {
        let go = std::path::PathBuf::from(&path).with_added_extension("go");
        let _ = std::fs::write(&path, b"");
        for _ in 0..6_000 {
            if go.exists() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}
