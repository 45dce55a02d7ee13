//! The command line: what was typed, which command it becomes, and how it ends.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use clap::{Args, Parser, Subcommand, ValueEnum};
use futures::StreamExt;
use lakemerge_source::name::TableName;
use lakemerge_source::position::Stamp;
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::destination::Destination;
use crate::error::{At, Error, Kind, Result};
use crate::job::Job;
use crate::lake::Lake;
use crate::lake::history::AsOf;
use crate::report::Report;
use crate::{check, desk, maintain, query, run, status};

/// Brings the changes of a MySQL database into Delta Lake tables and keeps them correct to the row.
#[derive(Debug, Parser)]
#[command(name = "lakemerge", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The job
    #[arg(long, global = true, value_name = "FILE", default_value = "lakemerge.toml")]
    config: PathBuf,
    /// How messages on standard error are written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Merge everything new into the lake
    Run(RunArgs),
    /// Show what a run would do, and do nothing
    Plan(PlanArgs),
    /// Ask the lake in SQL; a shell without a statement
    Query(QueryArgs),
    /// How far each table has come
    Status(StatusArgs),
    /// Look for hazards in the configuration, the source and the lake
    Check(CheckArgs),
    /// Compact, purge deleted rows, vacuum, checkpoint
    Maintain(MaintainArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    selection: Selection,
    /// Write a JSON report
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Take a table as it is that another writer wrote or changed
    #[arg(long, value_name = "TABLE")]
    adopt: Vec<TableName>,
}

#[derive(Debug, Args)]
struct PlanArgs {
    #[command(flatten)]
    selection: Selection,
    /// Also read the files: their records, what is netted away, the rows they touch, and what cannot be read
    #[arg(long)]
    deep: bool,
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    format: ReportFormat,
}

/// What a run is to do, beyond the ordinary.
#[derive(Debug, Args)]
struct Selection {
    /// Only this table (repeatable)
    #[arg(long = "table", value_name = "SCHEMA.TABLE")]
    tables: Vec<TableName>,
    /// Leave changes after this position, such as 20240809-192717787, for a later run
    #[arg(long, value_name = "POSITION")]
    until: Option<Stamp>,
    /// Replace the table by the full load that is there now
    #[arg(long, value_name = "TABLE")]
    reload: Vec<TableName>,
    /// Change files before this position are older than the full load, and are left out where it is loaded
    #[arg(long, value_name = "POSITION")]
    changes_from: Option<Stamp>,
    /// Merge change files that came late or were mended in the quarantine, in their place among those after them
    #[arg(long)]
    include_late: bool,
    /// The table's full load is complete
    #[arg(long, value_name = "TABLE")]
    load_complete: Vec<TableName>,
    /// Take the table's LOAD files as merged, as they are now
    #[arg(long, value_name = "TABLE")]
    accept_load: Vec<TableName>,
}

#[derive(Debug, Args)]
struct QueryArgs {
    /// The statement
    #[arg(conflicts_with = "file")]
    sql: Option<String>,
    /// Read statements from a file
    #[arg(long)]
    file: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = QueryFormat::Table)]
    format: QueryFormat,
    /// Write the result to a file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Ask the tables as they were
    #[arg(long, value_name = "VERSION|TIME|POSITION")]
    as_of: Option<AsOf>,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    format: ReportFormat,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    format: ReportFormat,
}

#[derive(Debug, Args)]
struct MaintainArgs {
    /// Only this table (repeatable)
    #[arg(long = "table", value_name = "SCHEMA.TABLE")]
    tables: Vec<TableName>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum QueryFormat {
    Table,
    Csv,
    Json,
    Ndjson,
    Parquet,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReportFormat {
    Table,
    Json,
}

impl From<Selection> for run::Options {
    fn from(selection: Selection) -> run::Options {
        run::Options {
            tables: selection.tables,
            until: selection.until,
            reload: selection.reload,
            changes_from: selection.changes_from,
            include_late: selection.include_late,
            load_complete: selection.load_complete,
            accept_load: selection.accept_load,
            adopt: vec![],
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    ExitCode::from(run_command(std::env::args_os().map(no_option)))
}

/// The same argument, or, if it is an SQL comment, which a statement may begin with, one that is not taken for an option.
fn no_option(argument: OsString) -> OsString {
    match argument.to_str().and_then(|text| text.strip_prefix("--")) {
        Some(text) if text.starts_with(char::is_whitespace) => format!(" --{text}").into(),
        _ => argument,
    }
}

/// What tasks may take to end when the work is done or stopped.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A thread's stack, which a query of thousands of terms needs; what is not used takes no memory.
const STACK: usize = 64 << 20;

/// Threads that wait for files, dozens for each table that is worked on: those of a local store are among them, and must never
/// be the ones that find none left.
const BLOCKING: usize = 8192;

/// Runs a command line and gives its exit code.
fn run_command(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // help and version are no mistakes, and go to standard output
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    log_to_stderr(cli.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .max_blocking_threads(BLOCKING)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return end(&Error::definite(format!("no runtime: {error}"))),
    };
    let ended = runtime.block_on(async {
        let signals = Signals::of(&cli.command);
        // the work is a task, so that a panic in it is an error like others
        let work = tokio::spawn(command(cli));
        tokio::select! {
            done = work => done.unwrap_or_else(|error| Err(Error::from(error))),
            error = stopped(signals) => Err(error),
        }
    });
    // threads that wait for tasks which are given up here panic, and have nothing to say
    std::panic::set_hook(Box::new(|_| {}));
    // what is spilled is deleted by the tasks that end here; one that still waits for a store must not hold the process
    runtime.shutdown_timeout(LAST_WORDS);
    ended.unwrap_or_else(|error| end(&error))
}

fn end(error: &Error) -> u8 {
    tracing::error!("{error}");
    error.kind.exit_code()
}

async fn command(cli: Cli) -> Result<u8> {
    let started = Utc::now();
    let meant = Config::read(&cli.config).and_then(|config| {
        let job = Job::new(&config).at(|| cli.config.display())?;
        Ok((config, job))
    });
    if let Ok((_, job)) = &meant {
        for warning in &job.warnings {
            tracing::warn!("{warning}");
        }
    }
    let (config, job) = match (meant, &cli.command) {
        (Ok(meant), _) => meant,
        (Err(error), Command::Run(RunArgs { report: Some(file), .. })) => {
            let report = Report::new("run", started, 0.0, vec![]).ended_by(&error);
            write_report(&report, report_to(file)?)?;
            return Err(error);
        }
        (Err(error), _) => return Err(error),
    };
    match cli.command {
        Command::Run(args) => run_job(job, args).await,
        Command::Plan(args) => show_plan(job, args).await,
        Command::Query(args) => ask(&job, args).await,
        Command::Status(args) => show_status(&job, args).await,
        Command::Check(args) => show_hazards(&config, job, args).await,
        Command::Maintain(args) => look_after(&job, args).await,
    }
}

async fn run_job(job: Job, args: RunArgs) -> Result<u8> {
    let options = run::Options { adopt: args.adopt, ..args.selection.into() };
    let report_to = args.report.as_deref().map(report_to).transpose()?;
    let report = run::run(Arc::new(job), options, stopped(Signals::All)).await;
    if let Some(to) = report_to {
        write_report(&report, to)?;
    }
    Ok(report.exit_code)
}

fn write_report(report: &Report, mut to: Destination) -> Result<()> {
    write_json(report, &mut to)?;
    to.finish().at(|| "the report")
}

fn report_to(file: &Path) -> Result<Destination> {
    Destination::file(file).map_err(|e| Error::usage(format!("--report {}: {e}", file.display())))
}

async fn show_plan(job: Job, args: PlanArgs) -> Result<u8> {
    let depth = if args.deep { run::Depth::Records } else { run::Depth::Names };
    let plan = run::plan(Arc::new(job), args.selection.into(), depth).await?;
    let mut out = Readers(std::io::stdout().lock());
    match args.format {
        ReportFormat::Table => plan.write_table(&mut out)?,
        ReportFormat::Json => write_json(&plan, &mut out)?,
    }
    Ok(plan.exit_code)
}

async fn ask(job: &Job, args: QueryArgs) -> Result<u8> {
    let input = match (args.sql, args.file) {
        (Some(sql), _) => query::Input::Sql(sql),
        (None, Some(file)) => query::Input::File(file),
        (None, None) => query::Input::Shell,
    };
    let format = match args.format {
        QueryFormat::Table => query::Format::Table,
        QueryFormat::Csv => query::Format::Csv,
        QueryFormat::Json => query::Format::Json,
        QueryFormat::Ndjson => query::Format::Ndjson,
        QueryFormat::Parquet => query::Format::Parquet,
    };
    let engine = job.engine(1)?;
    let tables = Arc::new(desk::LakeTables { lake: Lake::new(job.lake.clone()), as_of: args.as_of });
    let request = query::Request { input, format, output: args.output };
    query::run(engine.query_session(), tables, request).await?;
    Ok(0)
}

async fn show_status(job: &Job, args: StatusArgs) -> Result<u8> {
    let status = status::status(job).await?;
    let mut out = Readers(std::io::stdout().lock());
    match args.format {
        ReportFormat::Table => status.write_table(&mut out)?,
        ReportFormat::Json => write_json(&status, &mut out)?,
    }
    Ok(status.exit_code())
}

async fn show_hazards(config: &Config, job: Job, args: CheckArgs) -> Result<u8> {
    let check = check::check(config, Arc::new(job)).await?;
    let mut out = Readers(std::io::stdout().lock());
    match args.format {
        ReportFormat::Table => check.write_table(&mut out)?,
        ReportFormat::Json => write_json(&check, &mut out)?,
    }
    Ok(check.exit_code)
}

/// Standard output, whose reader may go when it has seen enough: that is no error.
struct Readers<W>(W);

impl<W: Write> Write for Readers<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}

fn write_json(value: &impl serde::Serialize, out: &mut impl Write) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    writeln!(out, "{text}").map_err(Error::definite)
}

async fn look_after(job: &Job, args: MaintainArgs) -> Result<u8> {
    let lake = Lake::new(job.lake.clone());
    let mut names = lake.table_names().await?;
    let asked: Vec<_> = args.tables.iter().map(|name| job.name_in_lake(name)).collect();
    if let Some(unknown) = asked.iter().find(|name| !names.contains(name)) {
        return Err(Error::usage(format!("there is no table {unknown} in {}", job.lake.url)));
    }
    names.retain(|name| asked.is_empty() || asked.contains(name));
    let engine = job.engine(names.len())?;
    let work = futures::stream::iter(names).map(|name| {
        let (engine, lake) = (engine.of_its_own(), lake.clone());
        async move {
            let upkeep = async {
                let _turn = engine.turn().await?;
                maintain::maintain(&engine, &lake, &name).await
            };
            let done = upkeep.await;
            (name, done)
        }
    });
    let mut work = work.buffer_unordered(job.parallelism);
    let mut worst = None;
    while let Some((name, done)) = work.next().await {
        match done {
            Ok(Some(done)) => tracing::info!("{name}: {done}"),
            Ok(None) if asked.is_empty() => tracing::info!("{name}: it is not lakemerge's, so it is left alone"),
            Ok(None) => {
                tracing::error!("{name}: this table is not lakemerge's, so it is left alone");
                worst = worst.max(Some(Kind::Definite));
            }
            Err(error) => {
                tracing::error!("{name}: {error}");
                worst = worst.max(Some(error.kind));
            }
        }
    }
    Ok(worst.map_or(0, Kind::exit_code))
}

/// The signals that end the process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signals {
    All,
    /// In the shell an interrupt ends a statement, not the shell.
    TerminateOnly,
    /// A run ends itself, with a report.
    None,
}

impl Signals {
    fn of(command: &Command) -> Signals {
        match command {
            Command::Run(_) => Signals::None,
            Command::Query(QueryArgs { sql: None, file: None, .. }) if std::io::stdin().is_terminal() => {
                Signals::TerminateOnly
            }
            _ => Signals::All,
        }
    }
}

/// Ends when the process is asked to stop. Every commit is whole, so it may stop anywhere.
async fn stopped(signals: Signals) -> Error {
    use tokio::signal::unix::{SignalKind, signal};
    if signals == Signals::None {
        return std::future::pending().await;
    }
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv(), if signals == Signals::All => "SIGINT",
    };
    Error::transient(format!("stopped by {name}; run again to go on from the last commit"))
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_env("LAKEMERGE_LOG").unwrap_or_else(|_| EnvFilter::new("off,lakemerge=info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // what cannot be told on a full disk, or to a reader that is gone, must not end the work
    let log = log.log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_target(false).with_ansi(std::io::stderr().is_terminal()).without_time().init(),
        LogFormat::Json => log.json().init(),
    }
}
