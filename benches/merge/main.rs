//! `cargo bench --bench merge`: lakemerge against the MERGE of the deltalake crate, each side as a process of its own,
//! and lakemerge alone.
//!
//! ```text
//! cargo bench --bench merge                                 the compared scenarios, queries, idle tables and long logs
//! cargo bench --bench merge -- uniform newest --rows 1000000
//! cargo bench --bench merge -- --large --long --record      everything, written to benches/RESULTS.md
//! ```
//!
//! [`rows`] says what stands in a row, [`changes`] what happens to rows, [`data`] makes tables and change files of both
//! once in `${LAKEMERGE_BENCH_DIR:-<tmp>/lakemerge-bench}` (5 GB for 10 million rows). A measured run works on a
//! [`fresh copy`](site::fresh_copy) of a table: [`site`] is the place of a run of lakemerge, [`theirs`] is the other
//! side, [`process`] takes the time and the peak memory of both. [`compare`] runs pairs of both and checks after every
//! run that the table holds what it must ([`state`]); where a target is missed, [`least`] tells what the work takes at the
//! least. [`queries`] and [`alone`] measure lakemerge by itself, [`memory`] what does not fit into it, [`commits`] what a
//! long log costs, [`bucket`] many files on S3 ([`minio`], the server of the tests); [`report`] prints.
//!
//! What favours whom: both sides are whole processes on a warm page cache. lakemerge starts from the change file as DMS
//! writes it, and so also cuts, types and nets it. deltalake starts from the net changes, ready in a Parquet file.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its results and its progress")]

mod rows;
mod changes;
mod data;
mod site;
mod theirs;
mod process;
mod state;
mod arrow_csv;
mod least;
mod compare;
mod queries;
mod alone;
mod memory;
mod commits;
mod bucket;
mod report;
#[path = "../../tests/it/support/minio.rs"]
#[allow(clippy::panic, reason = "it is a part of the tests")]
mod minio;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::data::Data;
use crate::report::Report;
use crate::rows::Kind;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Benchmarks of lakemerge against deltalake's MERGE, and alone
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench merge --")]
struct Options {
    /// Only these scenarios: uniform, newest, inserts, small, composite, overlap, again, query, idle, memory, commits, bucket,
    /// large, long
    scenarios: Vec<String>,
    /// Rows of the table
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Measured runs of each side, of which the median counts
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Also compare peak memory with a table of six times as many rows
    #[arg(long)]
    large: bool,
    /// Also run a thousand times, 100 changes each
    #[arg(long)]
    long: bool,
    /// Write the results to benches/RESULTS.md
    #[arg(long)]
    record: bool,
    /// Cargo passes this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn wants(&self, scenario: &str) -> bool {
        let unasked = match scenario {
            "large" => self.large,
            "long" => self.long,
            _ => self.scenarios.is_empty(),
        };
        unasked || self.scenarios.iter().any(|name| name == scenario)
    }
}

const SCENARIOS: [&str; 14] = [
    "uniform",
    "newest",
    "inserts",
    "small",
    "composite",
    "overlap",
    "again",
    "query",
    "idle",
    "memory",
    "commits",
    "bucket",
    "large",
    "long",
];

/// Where `./test` puts the S3 server.
fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/lakemerge");
    std::env::var_os("LAKEMERGE_CACHE").map_or_else(home, PathBuf::from)
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.split_first() {
        Some((first, rest)) if first == theirs::MERGE => theirs::merge(rest).await,
        Some((first, rest)) if first == theirs::LOAD => theirs::load(rest).await,
        _ => benchmark(&Options::parse()).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn benchmark(options: &Options) -> Result<()> {
    if let Some(unknown) = options.scenarios.iter().find(|name| !SCENARIOS.contains(&name.as_str())) {
        return Err(format!("there is no scenario {unknown}; there are {}", SCENARIOS.join(", ")).into());
    }
    if options.rows < 100_000 || !options.rows.is_multiple_of(100_000) {
        return Err("--rows takes a multiple of 100000, for ten files of the same size".into());
    }
    let root = folder();
    let orders = Data::new(&root, Kind::Orders, options.rows);
    let documents = Data::new(&root, Kind::Documents, options.rows);
    let events = Data::new(&root, Kind::Events, options.rows);
    let mut report = Report::new(options.rows, options.pairs);
    for comparison in compare::comparisons(&orders, &documents, &events) {
        if options.wants(comparison.name) {
            compare::run(&comparison, options.pairs, &mut report).await?;
        }
    }
    if options.wants("again") {
        compare::again(&orders, options.pairs, &mut report).await?;
    }
    if options.wants("query") {
        queries::run(&orders, options.pairs, &mut report).await?;
    }
    if options.wants("idle") {
        alone::idle(&root, options.pairs, &mut report)?;
    }
    if options.wants("memory") {
        memory::run(&orders, &mut report).await?;
    }
    if options.wants("commits") {
        let few = Data::new(&root, Kind::Orders, commits::ROWS);
        commits::run(&few, options.pairs, &mut report).await?;
        few.clear()?;
    }
    if options.wants("bucket") {
        bucket::run(&root, &mut report).await?;
    }
    if options.wants("large") {
        let large = Data::new(&root, Kind::Orders, options.rows * 6);
        alone::large(&orders, &large, &mut report).await?;
    }
    if options.wants("long") {
        alone::long(&orders, &mut report).await?;
    }
    orders.clear()?;
    documents.clear()?;
    events.clear()?;
    println!("{report}");
    if options.record {
        report.record()?;
    }
    Ok(())
}

/// Where tables are made and copied to.
fn folder() -> PathBuf {
    let chosen = std::env::var_os("LAKEMERGE_BENCH_DIR").map(PathBuf::from);
    chosen.unwrap_or_else(|| std::env::temp_dir().join("lakemerge-bench"))
}
