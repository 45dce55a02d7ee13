//! `run`: every table of the job, one step after the other until nothing is left to do.

mod definition;
mod evolve;
mod foresee;
mod adoption;
mod steps;
mod table;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use lakemerge_source::name::TableName;
use lakemerge_source::position::Stamp;
use parking_lot::Mutex;

use crate::dms::listing;
use crate::dms::next::Wishes;
use crate::dms::reading::Others;
use crate::engine::Engine;
use crate::error::{At, Error, Result};
use crate::job::{Job, SchemaFrom};
use crate::lake::position::Facts;
use crate::lake::table::Table;
use crate::lake::{Lake, probe};
use crate::plan::{Plan, TablePlan};
use crate::report::{Report, State, TableReport};
use evolve::FoundBy;
pub use foresee::Depth;
use table::TableRun;

/// Tables that are looked at at once.
const LOOKED_AT: usize = 8;

/// What tables at work have come to with their last commit, by their names.
type AtWork = Arc<Mutex<BTreeMap<String, TableReport>>>;

/// What the command line asks for.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// Only these tables; empty means all.
    pub tables: Vec<TableName>,
    pub until: Option<Stamp>,
    pub reload: Vec<TableName>,
    pub changes_from: Option<Stamp>,
    pub include_late: bool,
    pub load_complete: Vec<TableName>,
    pub accept_load: Vec<TableName>,
    pub adopt: Vec<TableName>,
}

impl Options {
    /// The same, with the tables by their names in the lake where they were named as in the source.
    fn in_lake(mut self, job: &Job) -> Options {
        let named =
            [&mut self.tables, &mut self.reload, &mut self.load_complete, &mut self.accept_load, &mut self.adopt];
        for name in named.into_iter().flatten() {
            *name = job.name_in_lake(name);
        }
        self
    }
}

/// Merges everything new into the lake, until `stopped` gives a reason not to go on.
///
/// What befalls one table is in its report, and the others go on; what concerns the whole run is the report's error.
pub async fn run(job: Arc<Job>, options: Options, stopped: impl Future<Output = Error>) -> Report {
    let (started, start) = (Utc::now(), Instant::now());
    let (mut reports, at_work) = (vec![], AtWork::default());
    let ended = tokio::select! {
        ended = all(&job, options, &at_work, &mut reports) => ended,
        error = stopped => {
            let left = std::mem::take(&mut *at_work.lock()).into_values();
            let is_left = |report: &TableReport| reports.iter().all(|ended| ended.table != report.table);
            let left: Vec<_> = left.filter(is_left).collect();
            reports.extend(left.into_iter().map(|mut report| {
                report.fail(&error);
                report
            }));
            Err(error)
        }
    };
    reports.sort_by(|a, b| a.table.cmp(&b.table));
    let report = Report::new("run", started, start.elapsed().as_secs_f64(), reports);
    let report = Report { warnings: job.warnings.clone(), ..report };
    match ended {
        Ok(()) => report,
        Err(error) => {
            tracing::error!("{error}");
            report.ended_by(&error)
        }
    }
}

async fn all(job: &Arc<Job>, options: Options, at_work: &AtWork, reports: &mut Vec<TableReport>) -> Result<()> {
    let options = options.in_lake(job);
    let names = tables(job, &options).await?;
    let known = names.clone();
    let others = Others::default();
    let engine = job.engine(names.len())?;
    let lake = Lake::new(job.lake.clone());
    if !lake.location().is_local() && lake.table_names().await?.is_empty() {
        probe::conditional_writes(lake.location()).await.map_err(|e| e.so("nothing was merged"))?;
    }
    let options = Arc::new(options);
    let progress = progress(names.len());
    let mut work = futures::stream::iter(names)
        .map(|name| {
            let (job, engine, lake, options) =
                (Arc::clone(job), engine.of_its_own(), lake.clone(), Arc::clone(&options));
            let (others, at_work) = (Arc::clone(&others), Arc::clone(at_work));
            // a task of its own, so that tables use all threads and a panic in one leaves the others alone
            async move {
                let label = name.to_string();
                let task =
                    tokio::spawn(async move { run_table(&job, &engine, &lake, &options, name, others, at_work).await });
                task.await.unwrap_or_else(|error| {
                    let mut report = TableReport::new(label);
                    report.fail(&Error::from(error));
                    report
                })
            }
        })
        // those that have nothing new wait for stores alone; of those that have, as many work as have a turn
        .buffer_unordered(job.parallelism.max(LOOKED_AT));
    while let Some(report) = work.next().await {
        progress.suspend(|| say(&report));
        progress.inc(1);
        reports.push(report);
    }
    progress.finish_and_clear();
    if options.tables.is_empty() {
        for (name, error) in unknown(job, &known, &others) {
            let mut report = TableReport::new(name.to_string());
            report.fail(&error);
            say(&report);
            reports.push(report);
        }
    }
    Ok(())
}

/// The tables that the job selects and that it knows only by their records among all tables' changes, and what is missing.
fn unknown(job: &Job, known: &[TableName], others: &Others) -> Vec<(TableName, Error)> {
    let others = others.lock();
    let unknown = others.iter().filter(|name| job.selects(name) && !known.contains(name));
    let error = |name: &TableName| {
        let missing = job.table(name).definition(name, None).err()?;
        Some((name.clone(), missing.at("there are changes of a new table")))
    };
    unknown.filter_map(error).collect()
}

/// What a run with these options would do. Nothing is written.
pub async fn plan(job: Arc<Job>, options: Options, depth: Depth) -> Result<Plan> {
    let options = options.in_lake(&job);
    let names = tables(&job, &options).await?;
    let (known, others) = (names.clone(), Others::default());
    let (engine, lake, options) = (job.engine(names.len())?, Lake::new(job.lake.clone()), Arc::new(options));
    let progress = progress(names.len());
    let mut plans: Vec<_> = futures::stream::iter(names)
        .map(|name| {
            let (job, engine, lake, options) =
                (Arc::clone(&job), engine.of_its_own(), lake.clone(), Arc::clone(&options));
            let (progress, others) = (progress.clone(), Arc::clone(&others));
            async move {
                let label = name.to_string();
                let task = tokio::spawn(async move {
                    let wishes = wishes(&job, &options, &name);
                    TableRun::new(&job, &engine, &lake, name, wishes, others).foresee(depth).await
                });
                let plan = task.await.unwrap_or_else(|error| {
                    let mut plan = TablePlan::new(label);
                    plan.fail(&Error::from(error));
                    plan
                });
                progress.inc(1);
                plan
            }
        })
        .buffered(job.parallelism)
        .collect()
        .await;
    progress.finish_and_clear();
    if options.tables.is_empty() {
        plans.extend(unknown(&job, &known, &others).into_iter().map(|(name, error)| {
            let mut plan = TablePlan::new(name.to_string());
            plan.fail(&error);
            plan
        }));
    }
    Ok(Plan::new(depth == Depth::Records, plans))
}

/// The tables of a job: those that the source has and the job selects, and those that are named.
pub async fn tables_of(job: &Job) -> Result<BTreeSet<TableName>> {
    let of_source = listing::tables(&job.raw, &job.settings.folders, |name| job.selects(name));
    let mut names: BTreeSet<_> = of_source.await.at(|| &job.raw.url)?.into_iter().collect();
    names.extend(job.named_tables().filter(|name| job.selects(name)).cloned());
    Ok(names)
}

/// Those of them to work on.
async fn tables(job: &Job, options: &Options) -> Result<Vec<TableName>> {
    let mut names = tables_of(job).await?;
    let asked = [&options.tables, &options.reload, &options.load_complete, &options.accept_load, &options.adopt];
    for name in asked.into_iter().flatten() {
        if !names.contains(name) {
            let known: Vec<_> = names.iter().map(ToString::to_string).collect();
            return Err(Error::usage(format!("there is no table {name} in this job; it has {}", known.join(", "))));
        }
    }
    let loads = if options.reload.is_empty() { &options.tables } else { &options.reload };
    if options.changes_from.is_some() && loads.is_empty() && names.len() > 1 {
        return Err(Error::usage("--changes-from is said of a table's load; name the table with --reload or --table"));
    }
    if !options.tables.is_empty() {
        if let Some(name) = asked.into_iter().flatten().find(|name| !options.tables.contains(name)) {
            return Err(Error::usage(format!("{name} is asked for beside --table, but --table leaves it out")));
        }
        names.retain(|name| options.tables.contains(name));
    }
    Ok(names.into_iter().collect())
}

async fn run_table(
    job: &Job,
    engine: &Engine,
    lake: &Lake,
    options: &Options,
    name: TableName,
    others: Others,
    at_work: AtWork,
) -> TableReport {
    let start = Instant::now();
    let mut run = TableRun::new(job, engine, lake, name.clone(), wishes(job, options, &name), others).telling(at_work);
    let outcome = run.until_nothing_is_left().await;
    if outcome.is_ok() && job.maintenance {
        run.look_after().await;
    }
    let mut report = run.into_report();
    if let Err(error) = outcome {
        report.fail(&error.unfinished(report.version, report.position.as_deref()));
    }
    report.seconds = start.elapsed().as_secs_f64();
    report
}

/// A bar over tables; it shows itself on a terminal only.
fn progress(tables: usize) -> ProgressBar {
    let bar = ProgressBar::new(tables as u64);
    if let Ok(style) = ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len} tables") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// What a run with `options` is to do with a table.
pub fn wishes(job: &Job, options: &Options, name: &TableName) -> Wishes {
    Wishes {
        until: options.until,
        reload: options.reload.contains(name),
        // what it says is said of one load
        changes_from: options.changes_from.filter(|_| options.reload.is_empty() || options.reload.contains(name)),
        include_late: options.include_late,
        again: BTreeSet::new(),
        load_complete: options.load_complete.contains(name),
        accept_load: options.accept_load.contains(name),
        adopt: options.adopt.contains(name),
        on_vanished: job.table(name).on_vanished,
        late_window: job.late_window,
        expired_before: expired_before(job.raw_retention),
        max_file_size: job.settings.max_file_size * 1024,
        batch_bytes: job.batch_bytes,
    }
}

/// Whether a run can go on with a table as it is and as it is configured now.
pub fn can_go_on(job: &Job, table: &Table, facts: &Facts) -> Result<()> {
    table.check_writable()?;
    definition::check(table, facts, &job.table(&table.name), found_by(job)).map(drop)
}

/// Whether a run can begin with a table as it is configured.
pub fn can_begin(job: &Job, name: &TableName) -> Result<()> {
    let meant = job.table(name);
    // of other tables only the files tell
    if matches!(meant.schema, SchemaFrom::Infer) { Ok(()) } else { meant.definition(name, None).map(drop) }
}

/// Columns are found by their names in files that have them.
fn found_by(job: &Job) -> FoundBy {
    if job.settings.names_columns() { FoundBy::Name } else { FoundBy::Place }
}

/// The stamp of `seconds` ago; none where files are kept for ever.
fn expired_before(seconds: u64) -> Option<Stamp> {
    let age = chrono::TimeDelta::try_seconds(i64::try_from(seconds).ok().filter(|s| *s > 0)?)?;
    let time = chrono::Utc::now().checked_sub_signed(age)?;
    time.format("%Y%m%d-%H%M%S000").to_string().parse().ok()
}

fn say(report: &TableReport) {
    match report.state {
        State::Failed => tracing::error!("{}", report.line()),
        _ => tracing::info!("{}", report.line()),
    }
    for note in &report.notes {
        tracing::warn!("{}: {note}", report.table);
    }
}
