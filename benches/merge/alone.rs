//! What there is no other side for: idle tables, a larger table, and a thousand small runs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Result;
use crate::changes::{ChangeSet, write_dms};
use crate::compare::{grouped, site, uniform};
use crate::data::{Data, Writer, say};
use crate::process::{Measured, measure, median};
use crate::queries::{bytes, point_seconds};
use crate::report::Report;
use crate::rows::SCHEMA;
use crate::site::{TableType, files, lakemerge, remove};
use crate::state::Model;

const TABLES: u32 = 200;

/// `run` over many tables with nothing new.
pub fn idle(root: &Path, pairs: usize, report: &mut Report) -> Result<()> {
    let folder = root.join("idle");
    remove(&folder)?;
    let mut config = "[source]\nkind = \"dms\"\nurl = \"raw\"\n\n[lake]\nurl = \"lake\"\n".to_string();
    let mut schema = String::new();
    for table in 0..TABLES {
        write!(config, "\n[[table]]\nname = \"{SCHEMA}.t{table}\"\nschema = \"schema.sql\"\n")?;
        writeln!(schema, "CREATE TABLE {SCHEMA}.t{table} (id BIGINT PRIMARY KEY, name VARCHAR(40));")?;
        let raw = folder.join("raw").join(SCHEMA).join(format!("t{table}"));
        fs::create_dir_all(&raw)?;
        let rows: String = (0..100).map(|id| format!("{id},name of {id}\n")).collect();
        fs::write(raw.join("LOAD00000001.csv"), rows)?;
        fs::write(raw.join("20300101-000000000.csv"), "U,7,another name\nD,8,name of 8\nI,100,name of 100\n")?;
    }
    fs::create_dir_all(folder.join("lake"))?;
    fs::write(folder.join("schema.sql"), schema)?;
    fs::write(folder.join("lakemerge.toml"), config)?;
    let first = measure(lakemerge(&folder, &["run"]))?;
    let runs = (0..pairs).map(|_| measure(lakemerge(&folder, &["run"]))).collect::<Result<Vec<_>>>()?;
    let idle = Measured::of_many(&runs);
    let per_table = |run: &Measured| run.seconds * 1e3 / f64::from(TABLES);
    let measured = format!(
        "{:.2} ms per table, {:.0} MB (their first run, with a load and a change file each: {:.1} ms per table)",
        per_table(&idle),
        idle.megabytes(),
        per_table(&first)
    );
    report.alone("run over 200 tables with nothing new", measured, "", None);
    Ok(())
}

/// Peak memory of the same changes on a table of six times as many rows.
pub async fn large(data: &Data, large: &Data, report: &mut Report) -> Result<()> {
    for table_type in [TableType::MergeOnRead, TableType::CopyOnWrite] {
        let changes = uniform(data.rows).len();
        let few = merge(data, changes, table_type).await?;
        let many = merge(large, changes, table_type).await?;
        let measured = format!(
            "{:.0} MB and {:.2} s for {} rows, {:.0} MB and {:.2} s for {} rows: {:+.0} %",
            few.megabytes(),
            few.seconds,
            data.rows,
            many.megabytes(),
            many.seconds,
            large.rows,
            (many.megabytes() / few.megabytes() - 1.0) * 100.0
        );
        let reached = many.megabytes() <= few.megabytes() * 1.2;
        let work = format!("{} uniform changes on a larger table, {}", grouped(changes), table_type.name());
        report.alone(&work, measured, "memory within 20 %", Some(reached));
    }
    large.clear()
}

async fn merge(data: &Data, changes: u64, table_type: TableType) -> Result<Measured> {
    let (applied, dms, _) = data.changes(&ChangeSet::mixed("large", changes, 0..data.rows))?;
    let table = data.table(Writer::Deltalake).await?;
    let site = site(data, "lakemerge", Writer::Deltalake, table_type, &table)?.with_changes(&dms, 0)?;
    let measured = site.run()?;
    let mut model = Model::new(data.kind, data.rows);
    model.apply(&applied);
    model.state().check(&site.table(), "lakemerge").await?;
    Ok(measured)
}

const RUNS: u32 = 1000;
/// How many runs at the beginning and at the end are taken together.
const SPAN: usize = 50;

/// A thousand merge-on-read runs of 100 changes each, with whatever maintenance a run does by itself.
pub async fn long(data: &Data, report: &mut Report) -> Result<()> {
    let table = data.table(Writer::Lakemerge).await?;
    let site = site(data, "long", Writer::Lakemerge, TableType::MergeOnRead, &table)?;
    let query_before = point_seconds(&site, data.rows)?;
    let mut model = Model::new(data.kind, data.rows);
    let (mut seconds, mut peak) = (vec![], 0);
    for nth in 0..RUNS {
        let changes = ChangeSet {
            inserted_before: u64::from(nth) * 10,
            version: u64::from(nth) + 1,
            ..ChangeSet::mixed("long", 100, 0..data.rows)
        };
        let changes = changes.changes(data.kind, data.rows);
        write_dms(data.kind, &changes, &site.change_file(nth))?;
        model.apply(&changes);
        let run = site.run()?;
        seconds.push(run.seconds);
        peak = peak.max(run.peak);
        if (nth + 1) % 100 == 0 {
            say(&format!("  run {}: {:.3} s", nth + 1, run.seconds));
        }
    }
    model.state().check(&site.table(), "lakemerge").await?;
    let log = site.table().join("_delta_log");
    let query_after = point_seconds(&site, data.rows)?;
    let slowest = seconds.iter().copied().fold(0.0, f64::max);
    let measured = format!(
        "{:.0} ms per run at the beginning, {:.0} ms at the end, {:.0} ms the slowest; {:.0} MB; the log has {} files of \
         {:.1} MB; a point query takes {:.1} ms, before {:.1} ms",
        median(seconds[..SPAN].to_vec()) * 1e3,
        median(seconds[seconds.len() - SPAN..].to_vec()) * 1e3,
        slowest * 1e3,
        peak as f64 / 1e6,
        files(&log, "")?.len(),
        bytes(&log)? as f64 / 1e6,
        query_after * 1e3,
        query_before * 1e3
    );
    report.alone("1,000 merge-on-read runs of 100 changes each", measured, "", None);
    Ok(())
}
