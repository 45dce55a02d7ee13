//! A table of many commits: what it takes to open it, without a checkpoint and a few commits behind one.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Result;
use crate::changes::ChangeSet;
use crate::compare::{grouped, site};
use crate::data::{Data, Writer, say};
use crate::process::Measured;
use crate::queries;
use crate::report::Report;
use crate::site::{Site, TableType, files};
use crate::state::Model;
use crate::theirs;

/// Rows of the table: few, since it is the log that is measured.
pub const ROWS: u64 = 1000;

const COMMITS: u64 = 10_000;
/// Runs make a checkpoint every ten commits, so this is what lies behind the last one on average.
const BEHIND: u64 = 5;

/// Opens the table by a run with nothing new, by `status` and by a point query, and by deltalake's load.
pub async fn run(data: &Data, pairs: usize, report: &mut Report) -> Result<()> {
    let (applied, dms, _) = data.changes(&ChangeSet::mixed("commits", data.rows / 10, 0..data.rows))?;
    let mut model = Model::new(data.kind, data.rows);
    model.apply(&applied);
    let table = data.table(Writer::Lakemerge).await?;
    let site = site(data, "commits", Writer::Lakemerge, TableType::CopyOnWrite, &table)?.with_changes(&dms, 0)?;
    site.run()?;
    let mut log = Log::of(&site.table())?;
    log.grow_to(COMMITS)?;
    let work = format!("opening a table of {} commits", grouped(COMMITS));
    report.alone(&format!("{work}, no checkpoint"), opened(&site, data, pairs)?, "", None);
    site.maintain()?;
    log.grow_to(COMMITS + BEHIND)?;
    report.alone(
        &format!("{work}, a checkpoint {BEHIND} commits before the last"),
        opened(&site, data, pairs)?,
        "",
        None,
    );
    model.state().check(&site.table(), "lakemerge").await
}

fn opened(site: &Site, data: &Data, pairs: usize) -> Result<String> {
    let question = [queries::point(data.rows / 2, data.rows)];
    let median = |work: &dyn Fn() -> Result<Measured>| -> Result<Measured> {
        Ok(Measured::of_many(&(0..pairs).map(|_| work()).collect::<Result<Vec<_>>>()?))
    };
    let measured = format!(
        "`run` with nothing new {}; `status` {}; a point query {}; deltalake's load of the table {}",
        median(&|| site.run())?,
        median(&|| site.status())?,
        median(&|| site.query(&question))?,
        median(&|| theirs::measure_load(&site.table()))?,
    );
    say(&format!("  {measured}"));
    Ok(measured)
}

/// The log of a table of one file, whose last commit put this file in the place of another.
struct Log {
    table: PathBuf,
    version: u64,
    /// The actions of the last commit.
    actions: Vec<Value>,
}

impl Log {
    fn of(table: &Path) -> Result<Log> {
        let entries = files(&table.join("_delta_log"), ".json")?;
        let last = entries.iter().max().ok_or("a log without commits")?;
        let version = last.file_stem().and_then(|name| name.to_str()).ok_or("a commit without a name")?.parse()?;
        let actions = fs::read_to_string(last)?.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let count = |kind: &str| actions.iter().filter(|action| action.get(kind).is_some()).count();
        if (count("add"), count("remove")) != (1, 1) {
            return Err(format!("{} does not put one file in the place of another", last.display()).into());
        }
        Ok(Log { table: table.to_path_buf(), version, actions })
    }

    /// Writes commits that are lakemerge's last one over and over: each puts the same rows in the place of themselves.
    fn grow_to(&mut self, version: u64) -> Result<()> {
        let before = self.file()?;
        while self.version < version {
            self.version += 1;
            let (replaced, name) = (self.file()?, format!("part-{:020}.snappy.parquet", self.version));
            for action in &mut self.actions {
                if let Some(add) = action.get_mut("add") {
                    add["path"] = name.as_str().into();
                } else if let Some(remove) = action.get_mut("remove") {
                    remove["path"] = replaced.as_str().into();
                } else if let Some(txn) = action.get_mut("txn").filter(|txn| txn["appId"] == "lakemerge/version") {
                    txn["version"] = self.version.into();
                }
            }
            let lines: Vec<_> = self.actions.iter().map(Value::to_string).collect();
            fs::write(self.table.join(format!("_delta_log/{:020}.json", self.version)), lines.join("\n") + "\n")?;
        }
        Ok(fs::rename(self.table.join(before), self.table.join(self.file()?))?)
    }

    /// The live file.
    fn file(&self) -> Result<String> {
        let added = self.actions.iter().find_map(|action| action["add"]["path"].as_str());
        Ok(added.ok_or("a commit that adds no file")?.to_string())
    }
}
