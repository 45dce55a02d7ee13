//! `check`: hazards in the configuration, the source and the lake, each with what follows from it and what to do.
//!
//! It looks at what is there and decides nothing that a run would decide otherwise: what would stop a run is asked of
//! [`run::plan`]. Nothing is written but the objects by which conditional writes are tried.

mod lake;
mod settings;
mod source;
mod tables;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use futures::StreamExt;
use lakemerge_source::ddl::CreateTable;
use lakemerge_source::name::TableName;
use serde::Serialize;
use serde_json::Value;

use crate::config::Config;
use crate::dms::listing::{self, Listing};
use crate::dms::next;
use crate::error::{Error, Kind, Result};
use crate::job::{Definition, Job, TableJob};
use crate::lake::Lake;
use crate::lake::table::Table;
use crate::{plan, run};

/// Tables looked at at once.
const AT_ONCE: usize = 16;

/// All hazards; the fields are listed in the README.
#[derive(Debug, Serialize)]
pub struct Check {
    pub schema: u32,
    pub command: &'static str,
    pub exit_code: u8,
    /// The gravest first.
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Rows or values get lost, or are wrong, without an error.
    Loss,
    /// They may, or a table stops.
    Risk,
    /// Good to know.
    Note,
}

/// One hazard, with all tables that have it.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// Its name, which stays the same.
    pub hazard: &'static str,
    /// The setting, file or place.
    #[serde(rename = "where")]
    pub place: String,
    pub tables: Vec<String>,
    pub finding: String,
    pub consequence: String,
    pub remedy: String,
}

impl Finding {
    pub fn new(severity: Severity, hazard: &'static str, place: impl Into<String>) -> Finding {
        Finding {
            severity,
            hazard,
            place: place.into(),
            tables: vec![],
            finding: String::new(),
            consequence: String::new(),
            remedy: String::new(),
        }
    }

    pub fn found(mut self, finding: impl Into<String>) -> Finding {
        self.finding = finding.into();
        self
    }

    pub fn so(mut self, consequence: impl Into<String>) -> Finding {
        self.consequence = consequence.into();
        self
    }

    pub fn mend(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = remedy.into();
        self
    }

    pub fn of<'a>(mut self, tables: impl IntoIterator<Item = &'a TableName>) -> Finding {
        self.tables = tables.into_iter().map(ToString::to_string).collect();
        self
    }
}

/// What is looked at.
struct Look<'a> {
    config: &'a Config,
    job: &'a Job,
    /// The members of the endpoint's S3Settings as they stand there, by their names in lower case.
    endpoint: &'a BTreeMap<String, Value>,
    /// The task's table mappings as they stand there; null if they are not given.
    mappings: Value,
    /// The tables of the job.
    tables: Vec<Subject>,
    /// Tables with raw files, selected or not.
    raw: Vec<TableName>,
    /// Tables that lie in the lake.
    lake: Vec<TableName>,
}

/// One table of the job, and what can be known of it.
struct Subject {
    name: TableName,
    meant: TableJob,
    definition: Option<Definition>,
    /// Without the change files, which may be millions over all tables.
    listing: Option<Listing>,
    has_changes: bool,
    /// How many change files are older than the load.
    older_changes: usize,
    table: Option<Table>,
}

impl Subject {
    async fn new(job: &Job, lake: &Lake, name: TableName) -> Subject {
        let meant = job.table(&name);
        // what cannot be read here stops a run, and the plan says so
        let mut listing = listing::files(&job.raw, &job.settings.folders, &name, None).await.ok();
        let older_changes = listing.as_ref().map_or(0, |listing| next::older_than_the_load(listing).count());
        let changes = listing.as_mut().map(|listing| std::mem::take(&mut listing.changes)).unwrap_or_default();
        let has_changes = !changes.is_empty();
        let table = lake.open(&name).await.ok().flatten();
        let ours = match &table {
            Some(table) => table.ours().await.ok().flatten(),
            None => None,
        };
        let definition = meant.definition(&name, ours.as_ref().map(|ours| &ours.facts.schema)).ok();
        Subject { name, meant, definition, listing, has_changes, older_changes, table }
    }

    /// The CREATE TABLE statement that is given for it.
    fn statement(&self) -> Option<&CreateTable> {
        self.meant.create_table(&self.name)
    }

    /// Of columns that `named` gives by their names in the source, those that the task leaves in the files.
    fn columns(&self, named: impl Fn(&CreateTable) -> &Vec<String>) -> Vec<String> {
        let is_left = |name: &&String| self.definition.as_ref().is_none_or(|d| d.shape.position_of(name).is_some());
        self.statement().map(|statement| named(statement).iter().filter(is_left).cloned().collect()).unwrap_or_default()
    }
}

impl Look<'_> {
    /// The tables for which `columns` gives any, with these as text, and for the whole finding.
    fn columns(&self, columns: impl Fn(&Subject) -> Vec<String>) -> Option<(Vec<&TableName>, String)> {
        let found: Vec<_> =
            self.tables.iter().map(|table| (&table.name, columns(table))).filter(|(_, c)| !c.is_empty()).collect();
        let text = found.iter().map(|(name, columns)| format!("{name} ({})", columns.join(", ")));
        let text = some_of(text);
        (!found.is_empty()).then(|| (found.iter().map(|(name, _)| *name).collect(), text))
    }

    /// The tables of which `is` holds.
    fn those(&self, is: impl Fn(&Subject) -> bool) -> Vec<&TableName> {
        self.tables.iter().filter(|table| is(table)).map(|table| &table.name).collect()
    }
}

/// Looks for hazards.
pub async fn check(config: &Config, job: Arc<Job>) -> Result<Check> {
    let lake = Lake::new(job.lake.clone());
    let plan = run::plan(Arc::clone(&job), run::Options::default(), run::Depth::Names).await;
    let raw = listing::tables(&job.raw, &job.settings.folders, |_| true).await.map_err(|e| e.at(&job.raw.url));
    let tables = lake.table_names().await.map_err(|e| e.at(&job.lake.url));
    // what could not be looked at may hide any hazard
    let unseen = [raw.as_ref().err(), tables.as_ref().err(), plan.as_ref().err()].into_iter().flatten();
    let unseen =
        unseen.inspect(|error| tracing::warn!("it could not be looked at: {error}")).map(|error| error.kind).max();
    let (raw, in_lake) = (raw.unwrap_or_default(), tables.unwrap_or_default());
    let names: BTreeSet<_> = raw.iter().chain(job.named_tables()).filter(|name| job.selects(name)).cloned().collect();
    let (of_job, of_lake) = (&job, &lake);
    let tables = futures::stream::iter(names).map(|name| Subject::new(of_job, of_lake, name)).buffered(AT_ONCE);
    let look = Look {
        config,
        job: &job,
        endpoint: &job.settings.given,
        mappings: settings::mappings(config),
        tables: tables.collect().await,
        raw,
        lake: in_lake,
    };
    let mut findings = settings::hazards(&look);
    findings.extend(task::hazards(&look));
    findings.extend(tables::hazards(&look));
    findings.extend(source::hazards(&look));
    findings.extend(lake::hazards(&look).await);
    findings.extend(stops(&job, plan));
    findings.sort_by(|a, b| (a.severity, a.hazard, &a.tables).cmp(&(b.severity, b.hazard, &b.tables)));
    let is_loss = findings.iter().any(|finding| finding.severity == Severity::Loss);
    let exit_code = if is_loss { 1 } else { unseen.map_or(0, Kind::exit_code) };
    Ok(Check { schema: 1, command: "check", exit_code, findings })
}

/// What would stop a run.
fn stops(job: &Job, plan: Result<plan::Plan>) -> Vec<Finding> {
    let stop = |place: String, error: &str, consequence: &str| {
        Finding::new(Severity::Risk, "run-stops", place)
            .found(format!("a run would stop: {error}"))
            .so(consequence)
            .mend("do what the message says, and look again with `lakemerge plan`")
    };
    match plan {
        Err(error) => vec![stop(job.raw.url.to_string(), &error.to_string(), "nothing is merged")],
        Ok(plan) => {
            let stopped = plan.tables.iter().filter_map(|table| Some((table, table.error.as_deref()?)));
            let finding = |(table, error): (&plan::TablePlan, &str)| Finding {
                tables: vec![table.table.clone()],
                ..stop(table.table.clone(), error, "nothing more of the table is merged; the others go on")
            };
            stopped.map(finding).collect()
        }
    }
}

/// As many as a line should have.
const SHOWN: usize = 10;

fn some_of(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<_> = texts.collect();
    match texts.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", texts[..SHOWN].join(", ")),
        None => texts.join(", "),
    }
}

impl Check {
    /// A paragraph for each hazard.
    pub fn write_table(&self, out: &mut impl Write) -> Result<()> {
        self.write(out).map_err(Error::definite)
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        if self.findings.is_empty() {
            writeln!(out, "no hazards found")?;
        }
        for Finding { severity, place, tables, finding, consequence, remedy, .. } in &self.findings {
            let severity = match severity {
                Severity::Loss => "LOSS",
                Severity::Risk => "RISK",
                Severity::Note => "NOTE",
            };
            writeln!(out, "{severity}  {place}: {finding}")?;
            if !tables.iter().all(|table| finding.contains(table) || place.contains(table)) {
                writeln!(out, "      in: {}", some_of(tables.iter().cloned()))?;
            }
            writeln!(out, "      so: {consequence}")?;
            writeln!(out, "      do: {remedy}")?;
        }
        Ok(())
    }
}
