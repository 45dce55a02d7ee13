//! Loads and change files that are larger than the memory that a run may take.

use std::path::Path;

use crate::Result;
use crate::changes::ChangeSet;
use crate::compare::grouped;
use crate::data::{Data, Writer};
use crate::process::Measured;
use crate::report::Report;
use crate::site::{Site, TableType, files};
use crate::state::Model;

/// In MB: the least that can be set, and one that leaves the allocator some room.
const LIMITS: [u64; 2] = [256, 512];

/// The peak memory of a full load, and of one file that changes four rows in ten, within each limit.
pub async fn run(data: &Data, report: &mut Report) -> Result<()> {
    let loads = data.loads()?;
    let (changes, file, _) = data.changes(&ChangeSet::mixed("memory", data.rows / 10 * 4, 0..data.rows))?;
    let mut loaded = Model::new(data.kind, data.rows);
    let before = loaded.state();
    loaded.apply(&changes);
    let after = loaded.state();
    let table = data.table(Writer::Lakemerge).await?;
    for limit in LIMITS {
        let site = Site::new(&data.work("memory"), data.kind, TableType::CopyOnWrite)?.with_memory_limit(limit)?;
        let site = site.with_loads(&loads)?;
        let load = site.run()?;
        before.check(&site.table(), "lakemerge").await?;
        tell(
            &format!("a full load of {} rows", grouped(data.rows)),
            megabytes(&files(&loads, "")?)?,
            load,
            limit,
            report,
        );
        for table_type in [TableType::MergeOnRead, TableType::CopyOnWrite] {
            let site = Site::new(&data.work("memory"), data.kind, table_type)?.with_memory_limit(limit)?;
            let site = site.with_table(&table)?.with_loads(&loads)?.with_changes(&file, 0)?;
            let merge = site.run()?;
            after.check(&site.table(), "lakemerge").await?;
            let work = format!("{} changes in one file, {}", grouped(changes.len() as u64), table_type.name());
            tell(&work, megabytes(&[&file])?, merge, limit, report);
        }
    }
    Ok(())
}

fn tell(work: &str, bytes: f64, measured: Measured, limit: u64, report: &mut Report) {
    let work = format!("{work}, {bytes:.0} MB, memory_limit {limit} MB");
    let reached = measured.peak <= limit << 20;
    report.alone(&work, measured.to_string(), "within memory_limit", Some(reached));
}

fn megabytes(files: &[impl AsRef<Path>]) -> Result<f64> {
    let bytes: u64 = files.iter().map(|file| Ok(std::fs::metadata(file)?.len())).sum::<Result<u64>>()?;
    Ok(bytes as f64 / 1e6)
}
