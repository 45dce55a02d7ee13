//! Vacuum: deletes the files that no version within the retention needs.
//!
//! A file or vector is kept while it is live, and after its removal for `delta.deletedFileRetentionDuration` (a week by
//! default), counted from the *removal*. A file that no commit knows is kept as long by its own age: it may belong to a
//! run that is under way.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use deltalake::kernel::Action;
use deltalake::logstore::{extract_version_from_filename, get_actions};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::Upkeep;
use crate::error::{Error, Result};
use crate::lake::table::Table;
use crate::lake::vectors;

/// The protocol's default retention of removed files.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// Commit files read at once.
const READS: usize = 32;

/// Deletes what is not needed any more.
pub async fn vacuum(table: &Table, done: &mut Upkeep) -> Result<()> {
    let retention = table.snapshot.table_properties().deleted_file_retention_duration.unwrap_or(RETENTION);
    let cutoff = Utc::now() - chrono::TimeDelta::from_std(retention).map_err(Error::definite)?;
    let needed = needed(table, cutoff).await?;
    let store = table.log.object_store(None);
    let objects: Vec<ObjectMeta> = store.list(None).try_collect().await?;
    let dead: Vec<_> = objects
        .into_iter()
        .filter(|object| is_of_the_table(&object.location))
        .filter(|object| object.last_modified < cutoff && !needed.contains(object.location.as_ref()))
        .collect();
    let bytes: u64 = dead.iter().map(|object| object.size).sum();
    let count = dead.len() as u64;
    let paths = futures::stream::iter(dead.into_iter().map(|object| Ok(object.location))).boxed();
    store.delete_stream(paths).try_collect::<Vec<_>>().await?;
    done.files_deleted += count;
    done.bytes_deleted += bytes;
    Ok(())
}

/// The data files and vectors, by their paths in the table, of all versions that were current at `cutoff` or later.
async fn needed(table: &Table, cutoff: DateTime<Utc>) -> Result<HashSet<String>> {
    let mut needed = HashSet::new();
    for file in table.files.iter() {
        needed.insert(file.object_store_path().to_string());
        if let Some(vector) = file.deletion_vector_descriptor() {
            needed.extend(vectors::path(table, vector)?.map(String::from));
        }
    }
    let mut removed = commits_since(table, cutoff).await?;
    while let Some((version, entry)) = removed.next().await.transpose()? {
        let actions = get_actions(version, &entry).map_err(|e| Error::definite(format!("commit {version}: {e}")))?;
        for action in actions {
            let Action::Remove(remove) = action else { continue };
            needed.insert(remove.path);
            if let Some(vector) = remove.deletion_vector {
                needed.extend(vectors::path(table, vector)?.map(String::from));
            }
        }
    }
    Ok(needed)
}

/// The commits that were made at `cutoff` or later.
async fn commits_since(
    table: &Table,
    cutoff: DateTime<Utc>,
) -> Result<futures::stream::BoxStream<'_, Result<(u64, bytes::Bytes)>>> {
    let folder = Path::from("_delta_log");
    let entries: Vec<ObjectMeta> = table.log.object_store(None).list(Some(&folder)).try_collect().await?;
    let versions: Vec<u64> = entries
        .into_iter()
        .filter(|entry| entry.last_modified >= cutoff && entry.location.as_ref().ends_with(".json"))
        .filter_map(|entry| extract_version_from_filename(entry.location.filename()?))
        .collect();
    let log = table.log.clone();
    let read = move |version: u64| {
        let log = log.clone();
        async move {
            let entry = log.read_commit_entry(version).await?;
            Ok((
                version,
                entry.ok_or_else(|| Error::transient(format!("commit {version} went away while it was read")))?,
            ))
        }
    };
    Ok(futures::stream::iter(versions).map(read).buffered(READS).boxed())
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
