//! Compaction: groups of files are read without their dead rows, sorted by key, and written as few, or as ones whose keys lie
//! apart. A single file loses its dead rows and stays in its order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deltalake::kernel::{Action, Add};
use roaring::RoaringTreemap;
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
use crate::merge::rewrite;
use crate::merge::write::{Layout, Writer, small};

/// Races lost before a group is left for another time: upkeep never holds up a merge.
const RACES: u32 = 5;

/// Writes group after group, each in a commit of its own, until none is left or `until` has come. Gives the version that
/// this comes to.
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
        let Some(group) = groups(&facts(&table, &ours.facts.key)?, thresholds).into_iter().next() else { break };
        match replace(engine, &table, &ours, &group, done).await? {
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
    let facts = table.files.iter().enumerate().map(|(number, file)| {
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

async fn replace(engine: &Engine, table: &Table, ours: &Ours, group: &[usize], done: &mut Upkeep) -> Result<Outcome> {
    let layout = Layout {
        log: table.log.clone(),
        schema: Arc::clone(&table.schema),
        key: ours.facts.key.clone(),
        partition_by: table.partition_columns.clone(),
        table_type: TableType::CopyOnWrite,
        source_columns: ours.facts.schema.columns.len(),
        memory: engine.pool(),
        threads: engine.threads(),
    };
    let mut added = match group {
        [file] => rewrite::without(engine, table, &layout, *file, &RoaringTreemap::new()).await?,
        files => sorted(engine, table, &layout, files).await?,
    };
    // the same rows in other files: readers of changes have nothing to see
    added.iter_mut().for_each(|add| add.data_change = false);
    let written = added.len() as u64;
    let purged: u64 = group.iter().map(|&file| marked_rows(&table.files[file])).sum();
    let removed = group.iter().map(|&file| Action::Remove(table.files[file].remove_action(false)));
    let actions = removed.chain(added.into_iter().map(Action::Add)).collect();
    let facts = json!({ "step": "compact", "files": group.len(), "rows_purged": purged });
    let outcome = Commit { actions, position: ours.position, facts }.onto(table).await?;
    if let Outcome::Committed(_) = outcome {
        done.commits += 1;
        done.files_compacted += group.len() as u64;
        done.files_written += written;
        done.rows_purged += purged;
    }
    Ok(outcome)
}
