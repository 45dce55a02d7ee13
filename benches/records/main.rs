//! `cargo bench --bench records`: from the records of a change file to their net changes, in MB of the file a second,
//! against arrow-csv reading the same file into the same types.
//!
//! The file is uncompressed, of about 500 MB (`--megabytes N`), and in memory for both sides. It comes as two halves,
//! one for each of two threads, as lakemerge cuts several files, or pieces of one, at once. Netting is that of a
//! run ([`lakemerge::merge::net`]): it says which change of each key stays and in which order, and leaves the rows where
//! they were read. Every key comes once, which leaves the most to it.

#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

#[allow(dead_code, reason = "what the other benchmark needs of them")]
#[path = "../merge/rows.rs"]
mod rows;
#[allow(dead_code, reason = "what the other benchmark needs of them")]
#[path = "../merge/changes.rs"]
mod changes;
#[path = "../merge/arrow_csv.rs"]
mod arrow_csv;

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use lakemerge::config::Config;
use lakemerge::dms::changes::ChangeRows;
use lakemerge::job::Job;
use lakemerge::lake::Lake;
use lakemerge::lake::TableType;
use lakemerge::merge::complete::Completed;
use lakemerge::merge::net;
use lakemerge::merge::upserts::Upserts;
use lakemerge::merge::write::Layout;
use lakemerge_source::ddl;
use lakemerge_source::dms::names::FileKind;
use lakemerge_source::dms::records::RecordReader;
use lakemerge_source::dms::settings::S3Settings;
use lakemerge_source::dms::shape::Shape;
use lakemerge_source::name::TableName;
use lakemerge_source::schema::{DatetimeAs, TableSchema};
use tempfile::TempDir;

use crate::arrow_csv::{ROWS, on_threads};
use crate::changes::{ChangeSet, write_dms};
use crate::rows::{Kind, SCHEMA};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const KIND: Kind = Kind::Orders;
const THREADS: usize = 2;
const ROUNDS: usize = 3;
/// What a record has, roughly.
const RECORD_BYTES: u64 = 160;
/// The share of arrow-csv's speed to reach.
const TO_REACH: f64 = 0.6;

/// The contents of each half.
type Halves = [Vec<u8>; THREADS];

fn main() -> Result<()> {
    let megabytes = megabytes()?;
    let folder = TempDir::new()?;
    let ours = Ours::new(folder.path())?;
    let halves = halves(megabytes, folder.path())?;
    let size = halves.iter().map(Vec::len).sum::<usize>() as f64 / 1e6;
    println!("{size:.0} MB in two halves, on {THREADS} threads; the best of {ROUNDS}, in MB/s");
    let (mut cut, mut net, mut arrow) = (f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let changes = ours.read(&halves)?;
        let read = start.elapsed().as_secs_f64();
        let columns: Vec<_> = changes.iter().map(|rows| rows.columns.clone()).collect();
        let start = Instant::now();
        ours.net(changes)?;
        net = net.min(start.elapsed().as_secs_f64());
        cut = cut.min(read);
        let start = Instant::now();
        let theirs = arrow_csv::read(KIND, &halves.each_ref().map(Vec::as_slice))?;
        arrow = arrow.min(start.elapsed().as_secs_f64());
        same(&columns, &theirs)?;
    }
    let ratio = arrow / (cut + net);
    println!("| lakemerge: cut and type | {:.0} |", size / cut);
    println!("| lakemerge: net | {:.0} |", size / net);
    println!("| lakemerge: records to net changes | {:.0} |", size / (cut + net));
    println!("| arrow-csv | {:.0} |", size / arrow);
    let word = if ratio >= TO_REACH { "reached" } else { "missed" };
    println!("| ratio, to reach {TO_REACH:.2} | {ratio:.2} ({word}) |");
    Ok(())
}

fn megabytes() -> Result<u64> {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.as_slice() {
        [] => Ok(500),
        [name, number] if name == "--megabytes" => Ok(number.parse()?),
        _ => Err("the only option is --megabytes N".into()),
    }
}

fn halves(megabytes: u64, folder: &Path) -> Result<Halves> {
    let count = megabytes * 1_000_000 / RECORD_BYTES;
    let changes = ChangeSet::mixed("records", count, 0..4 * count).changes(KIND, 4 * count);
    let (first, second) = changes.split_at(changes.len() / 2);
    let path = folder.join("changes.csv");
    let written = |half| -> Result<Vec<u8>> {
        write_dms(KIND, half, &path)?;
        Ok(std::fs::read(&path)?)
    };
    Ok([written(first)?, written(second)?])
}

/// What a run has at hand when it reads changes.
struct Ours {
    layout: Layout,
    schema: TableSchema,
}

impl Ours {
    fn new(folder: &Path) -> Result<Ours> {
        let config = format!(
            "[source]\nkind = \"dms\"\nurl = \"raw\"\n[lake]\nurl = \"lake\"\n[run]\nparallelism = {THREADS}\n"
        );
        std::fs::create_dir(folder.join("raw"))?;
        std::fs::create_dir(folder.join("lake"))?;
        std::fs::write(folder.join("lakemerge.toml"), config)?;
        let job = Job::new(&Config::read(&folder.join("lakemerge.toml"))?)?;
        let name = TableName { schema: SCHEMA.to_string(), table: KIND.table().to_string() };
        let tables = ddl::create_tables(Cursor::new(KIND.create_table()))?;
        let schema = ddl::find(&tables, &name)?.clone();
        let engine = job.engine(1)?;
        let layout = Layout {
            log: Lake::new(job.lake.clone()).log(&name)?,
            schema: schema.arrow(DatetimeAs::default()),
            key: schema.primary_key.clone(),
            partition_by: vec![],
            source_columns: schema.columns.len(),
            of_change: Arc::new([]),
            table_type: TableType::MergeOnRead,
            memory: engine.pool(),
            threads: engine.threads(),
        };
        Ok(Ours { layout, schema })
    }

    fn read(&self, halves: &Halves) -> Result<Vec<ChangeRows>> {
        let read = |half: &Vec<u8>| {
            let shape = Arc::new(Shape::of(self.schema.clone()));
            let settings = S3Settings::default();
            let kind = FileKind::Changes;
            let mut reader = RecordReader::new(Cursor::new(half), &settings, kind, shape, DatetimeAs::default());
            let mut read = vec![];
            while let Some(rows) = reader.next(ROWS)? {
                read.push(ChangeRows::whole(rows.columns, rows.operations));
            }
            Ok(read)
        };
        Ok(on_threads(halves, read)?.into_iter().flatten().collect())
    }

    fn net(&self, changes: Vec<ChangeRows>) -> Result<()> {
        let read = changes.iter().map(|rows| rows.operations.len() as u64).sum::<u64>();
        let net = net::net(&self.layout, changes, THREADS)?;
        let deletes = net.deletes.len();
        let upserts = Upserts::new(&self.layout, &net, &net.outcomes, &Completed::default(), THREADS)?;
        let kept = upserts.count() as u64 + deletes;
        if kept == read {
            Ok(())
        } else {
            Err(format!("{kept} of {read} changes were kept, and no key comes twice").into())
        }
    }
}

/// # Errors
/// If both sides have not read the same rows; the other side's first column is the operation.
fn same(ours: &[RecordBatch], theirs: &[RecordBatch]) -> Result<()> {
    let columns = |batch: &RecordBatch| batch.columns()[1..].to_vec();
    let same = ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| a.columns() == columns(b));
    if same { Ok(()) } else { Err("lakemerge and arrow-csv have not read the same rows".into()) }
}
