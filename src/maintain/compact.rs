//! Compaction: groups of files are read without their dead rows, sorted by key, and written as few, or as ones whose keys lie
//! apart. A single file loses its dead rows and stays in its order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deltalake::kernel::{Action, Add};
use serde_json::json;

use super::Upkeep;
use super::plan::{FileFacts, Large, Thresholds, groups};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::lake::TableType;
use crate::lake::commit::{Commit, Outcome};
use crate::lake::layers;
use crate::lake::provider::ScanProvider;
use crate::lake::scan::{Bounds, Scan};
use crate::lake::table::{Ours, Table, marked_rows, physical_rows};
use crate::lake::vectors;
use crate::merge::rewrite;
use crate::merge::write::{Layout, Writer, small};

/// Races lost before a group is left for another time: upkeep never holds up a merge.
const RACES: u32 = 5;
/// Bytes of files that are replaced in one commit, about. Of many small commits one would come before each of a run beside
/// them, and with larger ones more is lost where a run comes first.
const COMMIT_BYTES: i64 = 512 << 20;

/// Writes group after group, some in each commit, until none is left or `until` has come. Gives the table as
/// this leaves it.
pub async fn compact(
    engine: &Engine,
    mut table: Table,
    thresholds: Thresholds,
    until: Option<Instant>,
    done: &mut Upkeep,
) -> Result<Table> {
    let mut races = 0;
    while until.is_none_or(|until| Instant::now() < until) {
        table.check_writable()?;
        let ours = ours(&table).await?;
        let groups = groups(&facts(&table, &ours.facts.key)?, thresholds);
        if groups.is_empty() {
            break;
        }
        match replace(engine, &table, &ours, groups, until, done).await? {
            Outcome::Committed(_) => races = 0,
            Outcome::Lost if races < RACES => {
                races += 1;
                tokio::time::sleep(Duration::from_millis(u64::from(races) * 50)).await;
            }
            Outcome::Lost => break,
        }
        table = table.newest().await?;
    }
    Ok(table)
}

async fn ours(table: &Table) -> Result<Ours> {
    let ours =
        table.ours().await?.ok_or_else(|| Error::definite("this table is not lakemerge's, so it is left alone"))?;
    match &ours.foreign {
        None => Ok(ours),
        Some(foreign) => Err(Error::definite(format!(
            "version {} ({}) of another writer changed rows; the next run says what can be done, and until then the table is \
             left as it is",
            foreign.version, foreign.operation
        ))),
    }
}

fn facts(table: &Table, key: &[String]) -> Result<Vec<FileFacts>> {
    let first = key.iter().find(|column| !table.is_partition_column(column));
    let first = first.map(|column| table.schema.field_with_name(column)).transpose()?;
    // a file of which the log does not tell how many rows it has is left as it is
    let files = table.files.iter().enumerate().filter(|(_, file)| file.num_records().is_some());
    let facts = files.map(|(number, file)| {
        let mut partition: Vec<_> = file.partition_values_map().into_iter().collect();
        partition.sort();
        let bytes = u64::try_from(file.size()).unwrap_or_default();
        let keys = || Bounds::of(file).column(first?);
        Ok(FileFacts {
            number,
            partition: format!("{partition:?}"),
            bytes,
            rows: physical_rows(file)?,
            dead: marked_rows(file),
            large: (bytes >= small()).then(|| Large { layer: layers::of(file), keys: keys() }),
        })
    });
    facts.collect()
}

/// Writes `files` as few, by key.
async fn sorted(engine: &Engine, table: &Table, layout: &Layout, files: &[usize]) -> Result<Vec<Add>> {
    let scan = Scan::new(table, files.to_vec());
    let rows = engine.session().read_table(Arc::new(ScanProvider(scan)))?.execute_stream().await?;
    let mut writer = Writer::instead_of(files, table, layout);
    writer.write_sorted(engine, rows).await?;
    writer.close().await
}

/// Writes as many of `groups` as one commit has, and commits them.
async fn replace(
    engine: &Engine,
    table: &Table,
    ours: &Ours,
    groups: Vec<Vec<usize>>,
    until: Option<Instant>,
    done: &mut Upkeep,
) -> Result<Outcome> {
    let layout = Layout {
        log: table.log.clone(),
        schema: Arc::clone(&table.schema),
        key: ours.facts.key.clone(),
        partition_by: table.partition_columns.clone(),
        table_type: TableType::CopyOnWrite,
        source_columns: ours.facts.schema.columns.len(),
        of_change: Arc::new([]),
        memory: engine.pool(),
        threads: engine.threads(),
    };
    let (mut written, mut replaced, mut bytes) = (vec![], vec![], 0);
    for group in groups {
        let is_enough = bytes >= COMMIT_BYTES || until.is_some_and(|until| Instant::now() >= until);
        if is_enough && !replaced.is_empty() {
            break;
        }
        written.extend(match &group[..] {
            [file] => {
                let dead = vectors::read(table, &group).await?.remove(file).unwrap_or_default();
                rewrite::without(engine, table, &layout, *file, &dead).await?
            }
            files => sorted(engine, table, &layout, files).await?,
        });
        bytes += group.iter().map(|&file| table.files[file].size()).sum::<i64>();
        replaced.extend(group);
    }
    // the same rows in other files: readers of changes have nothing to see
    written.iter_mut().for_each(|add| add.data_change = false);
    let (files_compacted, files_written) = (replaced.len() as u64, written.len() as u64);
    let purged: u64 = replaced.iter().map(|&file| marked_rows(&table.files[file])).sum();
    let removed = replaced.iter().map(|&file| Action::Remove(table.files[file].remove_action(false)));
    // deltalake's own compaction, when it loses against this one, does not look at what was removed, and would add its files
    // beside these; it gives way to whoever writes the metadata, be they the same
    let metadata = Action::Metadata(table.snapshot.metadata().clone());
    let actions = removed.chain(written.into_iter().map(Action::Add)).chain([metadata]).collect();
    let facts = json!({ "step": "compact", "files": files_compacted, "rows_purged": purged });
    let outcome = Commit { actions, position: ours.position, facts }.onto(table).await?;
    if let Outcome::Committed(version) = outcome {
        done.version = Some(version);
        done.commits += 1;
        done.files_compacted += files_compacted;
        done.files_written += files_written;
        done.rows_purged += purged;
    }
    Ok(outcome)
}
