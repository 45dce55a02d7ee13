//! Hazards in the lake: the store under it, and the tables that lie there.

use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;

use super::{Finding, Look, Severity, Subject, some_of};
use crate::error::{Error, Kind};
use crate::lake::probe;
use crate::lake::table::Table;

/// Versions after a checkpoint from which on a log is slow to read; upkeep writes one every ten.
const WITHOUT_CHECKPOINT: u64 = 100;

pub async fn hazards(look: &Look<'_>) -> Vec<Finding> {
    let mut found = vec![];
    if !look.job.lake.is_local()
        && let Err(error) = probe::conditional_writes(&look.job.lake).await
    {
        found.push(conditional_writes(look, &error));
    }
    let others: Vec<_> =
        look.lake.iter().filter(|name| !look.tables.iter().any(|table| table.name == **name)).collect();
    if !others.is_empty() {
        let finding = format!("the job does not have {}", some_of(others.iter().map(ToString::to_string)));
        found.push(
            Finding::new(Severity::Note, "tables-of-others", "lake.url")
                .of(others)
                .found(finding)
                .so("runs leave these tables of the lake as they are; queries show them beside the others")
                .mend("nothing, if another job or program keeps them; else they are no longer up to date"),
        );
    }
    found.extend(logs(look).await);
    found
}

fn conditional_writes(look: &Look, error: &Error) -> Finding {
    let place = look.job.lake.endpoint();
    if error.kind == Kind::Definite && error.to_string().contains("conditional writes") {
        return Finding::new(Severity::Loss, "conditional-writes", place)
            .found(error.to_string())
            .so("two runs, or a run and another writer, can both commit one version, and the rows of one are lost")
            .mend("move the lake to a store that honours If-None-Match");
    }
    Finding::new(Severity::Risk, "conditional-writes-unknown", place)
        .found(format!("conditional writes could not be tried: {error}"))
        .so("a run cannot write there either, or two runs may both commit")
        .mend(match error.kind {
            Kind::Transient => "see that the store can be reached, and check again",
            _ => "give the role s3:PutObject below the lake and check again",
        })
}

/// Logs that readers must go through from long ago.
async fn logs(look: &Look<'_>) -> Option<Finding> {
    let mut grown = vec![];
    for Subject { name, table, .. } in &look.tables {
        let Some(table) = table else { continue };
        let since = table.version().saturating_sub(last_checkpoint(table).await.unwrap_or_default());
        if since > WITHOUT_CHECKPOINT {
            grown.push((name, since));
        }
    }
    let (first, tables) = (grown.first()?, grown.iter().map(|(name, _)| *name));
    let text = some_of(grown.iter().map(|(name, since)| format!("{name} ({since} versions)")));
    let place = if grown.len() == 1 { first.0.to_string() } else { "lake.url".to_string() };
    Some(
        Finding::new(Severity::Note, "log-without-checkpoint", place)
            .of(tables)
            .found(format!("logs have grown since their last checkpoint: {text}"))
            .so("every reader goes through all these versions")
            .mend("run `lakemerge maintain`, and leave run.maintenance at \"auto\""),
    )
}

/// The version of the last checkpoint, which the log notes.
async fn last_checkpoint(table: &Table) -> Option<u64> {
    let store = table.log.object_store(None);
    let content = store.get(&Path::from("_delta_log/_last_checkpoint")).await.ok()?.bytes().await.ok()?;
    serde_json::from_slice::<Value>(&content).ok()?.get("version")?.as_u64()
}
