//! `status`: how far each table has come.

use std::collections::BTreeSet;
use std::io::Write;

use chrono::Utc;
use futures::StreamExt;
use lakemerge_source::name::TableName;
use lakemerge_source::position::Stamp;
use serde::Serialize;

use crate::dms::listing;
use crate::dms::next::{self, Reached};
use crate::error::{Error, Kind, Result};
use crate::job::Job;
use crate::lake::Lake;
use crate::lake::position::Position;
use crate::lake::table::Table;
use crate::run;

/// Tables looked at at once.
const AT_ONCE: usize = 16;

#[derive(Debug, Serialize)]
pub struct Status {
    pub schema: u32,
    pub tables: Vec<TableStatus>,
}

/// One table; what cannot be known is null.
#[derive(Debug, Serialize)]
pub struct TableStatus {
    pub table: String,
    /// `up to date`, `behind`, `loading`, `no data yet`, `foreign` for a table that another writer made or changed,
    /// `stopped` if a run would stop at what the raw files, the table or its configuration are, `not in this job` for a
    /// table of the lake that this job's runs leave alone, or `unreadable`.
    pub state: &'static str,
    /// Why it is unreadable or stopped, or that another writer changed it.
    pub error: Option<String>,
    /// Of what kind the error is, where it is unreadable.
    #[serde(skip)]
    kind: Option<Kind>,
    /// The last change file merged, as in its name.
    pub position: Option<String>,
    /// Seconds between the position and the newest change file that is there; 0 when all are merged.
    pub lag_seconds: Option<i64>,
    pub version: Option<u64>,
    pub files: Option<u64>,
    pub rows: Option<u64>,
    /// Rows marked as deleted that still lie in data files.
    pub deleted_rows: Option<u64>,
    pub bytes: Option<u64>,
    /// Change files that are not merged yet, and their bytes.
    pub pending_files: u64,
    pub pending_bytes: u64,
    /// Records in the quarantine.
    pub quarantined: Option<u64>,
}

/// Looks at every table of the job and of the lake.
pub async fn status(job: &Job) -> Result<Status> {
    let lake = Lake::new(job.lake.clone());
    let mut names: BTreeSet<TableName> = lake.table_names().await?.into_iter().collect();
    let of_job = run::tables_of(job).await?;
    names.extend(of_job.iter().cloned());
    let quarantined = lake.quarantined().await?;
    let (job, lake, of_job, quarantined) = (job, &lake, &of_job, &quarantined);
    let tables = futures::stream::iter(names.into_iter().map(|name| async move {
        let mut status = TableStatus::unknown(&name);
        if quarantined.contains(&name) {
            let bad = lake.open_quarantine(&name).await.ok().flatten();
            status.quarantined = bad.and_then(|bad| bad.rows());
        }
        // one broken table must not hide the others
        let looked_at = match of_job.contains(&name) {
            true => table(job, lake, &name, &mut status).await,
            false => table_of_others(lake, &name, &mut status).await,
        };
        if let Err(error) = looked_at {
            status.state = "unreadable";
            status.error = Some(error.to_string());
            status.kind = Some(error.kind);
        }
        status
    }))
    .buffered(AT_ONCE)
    .collect()
    .await;
    Ok(Status { schema: 1, tables })
}

impl TableStatus {
    fn is(&mut self, table: &Table) {
        self.version = Some(table.version());
        self.files = Some(table.files.len() as u64);
        self.rows = table.rows();
        self.deleted_rows = Some(table.deleted_rows());
        self.bytes = Some(table.bytes());
    }

    fn stopped(&mut self, error: &Error) {
        self.state = "stopped";
        self.error = Some(error.to_string());
    }

    fn unknown(name: &TableName) -> TableStatus {
        TableStatus {
            table: name.to_string(),
            state: "no data yet",
            error: None,
            kind: None,
            position: None,
            lag_seconds: None,
            version: None,
            files: None,
            rows: None,
            deleted_rows: None,
            bytes: None,
            pending_files: 0,
            pending_bytes: 0,
            quarantined: Some(0),
        }
    }
}

/// A table of the lake whose raw files are none of the job's business.
async fn table_of_others(lake: &Lake, name: &TableName, status: &mut TableStatus) -> Result<()> {
    status.state = "not in this job";
    if let Some(table) = lake.open(name).await? {
        status.is(&table);
        let position = table.ours().await?.and_then(|ours| ours.position.changes);
        status.position = position.map(|stamp| stamp.to_string());
    }
    Ok(())
}

async fn table(job: &Job, lake: &Lake, name: &TableName, status: &mut TableStatus) -> Result<()> {
    let opened = lake.open(name).await?;
    let ours = match &opened {
        Some(table) => table.ours().await?,
        None => None,
    };
    let reached = ours.as_ref().map(|ours| Reached { position: ours.position, load: &ours.facts.load });
    let wishes = run::wishes(job, &run::Options::default(), name);
    let raw = listing::files(&job.raw, &job.settings.folders, name, wishes.from(reached.as_ref())).await?;
    status.pending_files = (raw.loads.len() + raw.changes.len()) as u64;
    status.pending_bytes = raw.loads.iter().chain(&raw.changes).map(|file| file.size).sum();
    if status.pending_files > 0 {
        status.state = "behind";
    }
    let next = next::next(&raw, reached.as_ref(), &wishes).map(drop);
    // of files without their time only the records may tell
    let is_sure = |error: &Error| error.kind == Kind::Definite && raw.undated.is_empty();
    let Some(table) = opened else {
        let error = run::can_begin(job, name).err().or_else(|| next.err().filter(is_sure));
        if let Some(error) = error.filter(|_| status.pending_files > 0) {
            status.stopped(&error);
        }
        return Ok(());
    };
    status.is(&table);
    let Some(ours) = &ours else {
        status.state = "foreign";
        status.error = Some(format!("lakemerge has not written this table; run --adopt {name} takes it as it is"));
        return Ok(());
    };
    let Position { changes, load_complete, .. } = ours.position;
    let pending: Vec<_> = raw
        .changes
        .iter()
        .filter(|file| stamp(file) > changes)
        .chain(raw.loads.iter().filter(|file| !ours.facts.load.iter().any(|read| read.name == file.name)))
        .collect();
    status.pending_files = pending.len() as u64;
    status.pending_bytes = pending.iter().map(|file| file.size).sum();
    status.position = changes.map(|stamp| stamp.to_string());
    let newest = raw.changes.last().and_then(stamp).map(Stamp::as_unix_millis);
    status.lag_seconds = Some(match (changes.map(Stamp::as_unix_millis), newest) {
        (Some(reached), Some(newest)) => (newest - reached).max(0) / 1000,
        (None, Some(newest)) => (Utc::now().timestamp_millis() - newest).max(0) / 1000,
        (_, None) => 0,
    });
    status.state = match (ours.foreign.is_some(), load_complete, pending.is_empty()) {
        (true, ..) => "foreign",
        (false, false, _) => "loading",
        (false, true, false) => "behind",
        (false, true, true) => "up to date",
    };
    if let Some(foreign) = &ours.foreign {
        status.error = Some(format!(
            "version {} ({}) of another writer changed rows; run says what can be done",
            foreign.version, foreign.operation
        ));
    }
    let defined = match status.state != "foreign" {
        true => run::can_go_on(job, &table, &ours.facts),
        false => Ok(()),
    };
    if let Some(error) = defined.err().or_else(|| next.err().filter(is_sure)) {
        status.stopped(&error);
    }
    Ok(())
}

fn stamp(file: &listing::RawFile) -> Option<Stamp> {
    file.kind.stamp()
}

impl Status {
    /// 1 if a person must look at a table, 75 if one could not be read for now, else 0.
    pub fn exit_code(&self) -> u8 {
        let failed = self.tables.iter().filter(|table| table.error.is_some());
        failed.map(|table| table.kind.unwrap_or(Kind::Definite)).max().map_or(0, Kind::exit_code)
    }

    /// Aligned columns for people.
    pub fn write_table(&self, out: &mut impl Write) -> Result<()> {
        let text = |value: Option<u64>| value.map_or("-".to_string(), |v| v.to_string());
        let mut rows = vec![
            ["table", "state", "position", "lag s", "version", "files", "rows", "deleted", "bytes", "pending"]
                .map(String::from),
        ];
        for table in &self.tables {
            rows.push([
                table.table.clone(),
                table.state.to_string(),
                table.position.clone().unwrap_or("-".into()),
                table.lag_seconds.map_or("-".into(), |lag| lag.to_string()),
                text(table.version),
                text(table.files),
                text(table.rows),
                text(table.deleted_rows),
                text(table.bytes),
                table.pending_files.to_string(),
            ]);
        }
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or_default())
            .collect();
        for row in &rows {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
            writeln!(out, "{}", cells.join("  ").trim_end()).map_err(Error::definite)?;
        }
        for table in self.tables.iter().filter(|table| table.quarantined != Some(0)) {
            let count = text(table.quarantined);
            writeln!(out, "{}: {count} records in quarantine", table.table).map_err(Error::definite)?;
        }
        for table in self.tables.iter().filter(|table| table.error.is_some()) {
            writeln!(out, "{}: {}", table.table, table.error.as_deref().unwrap_or_default())
                .map_err(Error::definite)?;
        }
        Ok(())
    }
}
