//! Vacuum: deletes the files that no version within the retention needs.
//!
//! A file or vector is kept while it is live, and after its removal for as long as the owner wants, counted from the
//! *removal*. A file that no commit knows is kept as long by its own age, and for a week at least: it may belong to a run
//! that is under way.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use deltalake::kernel::Action;
use deltalake::logstore::{extract_version_from_filename, get_actions};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::Upkeep;
use crate::error::{Error, Result};
use crate::lake::table::Table;
use crate::lake::vectors;

/// No run takes longer from its first file to its commit.
const LONGEST_RUN: TimeDelta = TimeDelta::days(7);
/// Commit files read at once.
const READS: usize = 32;

/// Deletes what is not needed any more of files that were removed longer ago than `retention`.
pub async fn vacuum(table: &Table, retention: Duration, done: &mut Upkeep) -> Result<()> {
    let now = Utc::now();
    let Some(cutoff) = TimeDelta::from_std(retention).ok().and_then(|kept| now.checked_sub_signed(kept)) else {
        return Ok(());
    };
    let of_a_run = cutoff.min(now - LONGEST_RUN);
    let Known { needed, removed } = known(table, cutoff, of_a_run).await?;
    let is_dead = |object: &ObjectMeta| {
        let path = object.location.as_ref();
        let before = if removed.contains(path) { cutoff } else { of_a_run };
        object.last_modified < before && !needed.contains(path)
    };
    let store = table.log.object_store(None);
    let objects: Vec<ObjectMeta> = store.list(None).try_collect().await?;
    let dead: Vec<_> = objects.into_iter().filter(|object| is_of_the_table(&object.location)).filter(is_dead).collect();
    let bytes: u64 = dead.iter().map(|object| object.size).sum();
    let count = dead.len() as u64;
    let paths = futures::stream::iter(dead.into_iter().map(|object| Ok(object.location))).boxed();
    store.delete_stream(paths).try_collect::<Vec<_>>().await?;
    done.files_deleted += count;
    done.bytes_deleted += bytes;
    Ok(())
}

/// Data files and vectors, by their paths in the table.
#[derive(Default)]
struct Known {
    /// Those of all versions that were current at the cutoff or later.
    needed: HashSet<String>,
    /// Some of those that were removed before.
    removed: HashSet<String>,
}

/// What the newest version and the commits from `from` on say, which is not after `cutoff`.
async fn known(table: &Table, cutoff: DateTime<Utc>, from: DateTime<Utc>) -> Result<Known> {
    let mut known = Known::default();
    let relative = |path: &str| match path.contains(":/") || path.starts_with('/') {
        true => {
            Err(Error::definite(format!("nothing is deleted, for the log names a file by an absolute path, {path}")))
        }
        false => Ok(()),
    };
    for file in table.files.iter() {
        relative(&file.path())?;
        known.needed.insert(file.object_store_path().to_string());
        if let Some(vector) = file.deletion_vector_descriptor() {
            known.needed.extend(vectors::path(table, vector)?.map(String::from));
        }
    }
    let mut commits = commits_since(table, from).await?;
    while let Some((entry, content)) = commits.next().await.transpose()? {
        let paths = if entry.made < cutoff { &mut known.removed } else { &mut known.needed };
        let actions = get_actions(entry.version, &content);
        for action in actions.map_err(|e| Error::definite(format!("commit {}: {e}", entry.version)))? {
            let Action::Remove(remove) = action else { continue };
            relative(&remove.path)?;
            paths.insert(remove.path);
            if let Some(vector) = remove.deletion_vector {
                paths.extend(vectors::path(table, vector)?.map(String::from));
            }
        }
    }
    Ok(known)
}

struct Entry {
    version: u64,
    made: DateTime<Utc>,
}

/// The commits that were made at `from` or later.
async fn commits_since(
    table: &Table,
    from: DateTime<Utc>,
) -> Result<futures::stream::BoxStream<'_, Result<(Entry, bytes::Bytes)>>> {
    let folder = Path::from("_delta_log");
    let entries: Vec<ObjectMeta> = table.log.object_store(None).list(Some(&folder)).try_collect().await?;
    let entries: Vec<Entry> = entries
        .into_iter()
        .filter(|entry| entry.last_modified >= from && entry.location.as_ref().ends_with(".json"))
        .filter_map(|entry| {
            let version = extract_version_from_filename(entry.location.filename()?)?;
            Some(Entry { version, made: entry.last_modified })
        })
        .collect();
    let log = table.log.clone();
    let read = move |entry: Entry| {
        let log = log.clone();
        async move {
            let version = entry.version;
            let content = log.read_commit_entry(version).await?;
            let gone = || Error::transient(format!("commit {version} went away while it was read"));
            Ok((entry, content.ok_or_else(gone)?))
        }
    };
    Ok(futures::stream::iter(entries).map(read).buffered(READS).boxed())
}

/// Log and hidden folders are not data; the folder of a partition may begin with `_`, but has a `=`.
fn is_of_the_table(path: &Path) -> bool {
    path.parts().all(|part| !part.as_ref().starts_with(['_', '.']) || part.as_ref().contains('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_never_touched() {
        assert!(!is_of_the_table(&Path::from("_delta_log/00000000000000000000.json")));
        assert!(!is_of_the_table(&Path::from(".hidden")));
        assert!(is_of_the_table(&Path::from("_c=1/part-1.parquet")));
        assert!(is_of_the_table(&Path::from("deletion_vector_1.bin")));
    }
}
