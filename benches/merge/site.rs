//! The place of a run of lakemerge: a configuration, a raw source and a lake, in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::process::{Measured, measure};
use crate::rows::{Kind, SCHEMA};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableType {
    MergeOnRead,
    CopyOnWrite,
}

impl TableType {
    pub fn name(self) -> &'static str {
        match self {
            TableType::MergeOnRead => "merge-on-read",
            TableType::CopyOnWrite => "copy-on-write",
        }
    }
}

pub struct Site {
    folder: PathBuf,
    kind: Kind,
}

impl Site {
    /// A new site in `folder`, whatever was there before.
    pub fn new(folder: &Path, kind: Kind, table_type: TableType) -> Result<Site> {
        remove(folder)?;
        let site = Site { folder: folder.to_path_buf(), kind };
        fs::create_dir_all(site.raw())?;
        fs::create_dir_all(folder.join("lake"))?;
        fs::write(folder.join("schema.sql"), kind.create_table())?;
        let config = format!(
            "[source]\nkind = \"dms\"\nurl = \"raw\"\n\n[lake]\nurl = \"lake\"\ntable_type = \"{}\"\n\n\
             [[table]]\nname = \"{SCHEMA}.{}\"\nschema = \"schema.sql\"\n",
            table_type.name(),
            kind.table()
        );
        fs::write(folder.join("lakemerge.toml"), config)?;
        Ok(site)
    }

    /// Bounds the memory of its runs.
    pub fn with_memory_limit(self, megabytes: u64) -> Result<Site> {
        let path = self.folder.join("lakemerge.toml");
        let config = fs::read_to_string(&path)? + &format!("\n[run]\nmemory_limit = \"{megabytes}MB\"\n");
        fs::write(path, config)?;
        Ok(self)
    }

    /// Puts a copy of the Delta table in `from` into the lake.
    pub fn with_table(self, from: &Path) -> Result<Site> {
        fresh_copy(from, &self.table())?;
        Ok(self)
    }

    /// Puts the files of `from` into the source.
    pub fn with_loads(self, from: &Path) -> Result<Site> {
        files(from, "")?.iter().try_fold(self, |site, file| site.with_load(file))
    }

    /// Puts a file into the source under its name.
    pub fn with_load(self, from: &Path) -> Result<Site> {
        fs::hard_link(from, self.raw().join(from.file_name().ok_or("a file without a name")?))?;
        Ok(self)
    }

    /// Puts a change file into the source, the `nth` of its table.
    pub fn with_changes(self, from: &Path, nth: u32) -> Result<Site> {
        fs::hard_link(from, self.change_file(nth))?;
        Ok(self)
    }

    /// The path of the `nth` change file.
    pub fn change_file(&self, nth: u32) -> PathBuf {
        self.raw().join(format!("20300101-{:02}{:02}{:02}000.csv", nth / 3600, nth / 60 % 60, nth % 60))
    }

    /// The folder of the Delta table.
    pub fn table(&self) -> PathBuf {
        self.folder.join("lake").join(SCHEMA).join(self.kind.table())
    }

    fn raw(&self) -> PathBuf {
        self.folder.join("raw").join(SCHEMA).join(self.kind.table())
    }

    /// `lakemerge run`.
    pub fn run(&self) -> Result<Measured> {
        measure(lakemerge(&self.folder, &["run"]))
    }

    /// `lakemerge run` that takes over a table of another writer.
    pub fn adopt(&self) -> Result<Measured> {
        let name = format!("{SCHEMA}.{}", self.kind.table());
        measure(lakemerge(&self.folder, &["run", "--adopt", &name]))
    }

    /// `lakemerge status`.
    pub fn status(&self) -> Result<Measured> {
        measure(lakemerge(&self.folder, &["status"]))
    }

    /// `lakemerge maintain`.
    pub fn maintain(&self) -> Result<Measured> {
        measure(lakemerge(&self.folder, &["maintain"]))
    }

    /// `lakemerge query` of the statements, in one process.
    pub fn query(&self, statements: &[String]) -> Result<Measured> {
        fs::write(self.folder.join("query.sql"), statements.join(";\n"))?;
        measure(lakemerge(&self.folder, &["query", "--file", "query.sql", "--format", "csv"]))
    }
}

/// The binary with the configuration of `folder`.
pub fn lakemerge(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakemerge"));
    command.current_dir(folder).args(arguments);
    command
}

/// A copy of the Delta table in `from` that may be changed: data files are hard links, since no side changes a file, and
/// the log is copied.
pub fn fresh_copy(from: &Path, to: &Path) -> Result<()> {
    remove(to)?;
    copy(from, to, false)
}

fn copy(from: &Path, to: &Path, is_log: bool) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).map_err(|e| format!("{}: {e}", from.display()))? {
        let entry = entry?;
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&path, &copied, is_log || entry.file_name() == "_delta_log")?;
        } else if is_log {
            fs::copy(path, copied)?;
        } else {
            fs::hard_link(path, copied)?;
        }
    }
    Ok(())
}

/// Removes a folder if it is there.
pub fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Files below `folder` whose names end with `end`.
pub fn files(folder: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let mut found = vec![];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path(), end)?);
        } else if entry.file_name().to_string_lossy().ends_with(end) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
