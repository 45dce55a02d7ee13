//! What is meant: a [`Config`] becomes a [`Job`], or an error that says what is impossible and where.
//!
//! [`Config`]: crate::config::Config

mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lakemerge_source::dms::mappings::Mappings;
use lakemerge_source::dms::settings::S3Settings;
use lakemerge_source::dms::task::TaskSettings;
use lakemerge_source::name::TableName;
use lakemerge_source::schema::DatetimeAs;

pub use table::{Definition, SchemaFrom, TableJob};

use crate::config::{self, Config};
use crate::dms::next::OnVanished;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::lake::TableType;
use crate::storage::{Location, Stores};

/// Everything a command needs to know before it touches a table.
pub struct Job {
    pub raw: Location,
    pub settings: Arc<S3Settings>,
    pub mappings: Mappings,
    /// What the DMS task is told; `None` if the configuration does not name its settings.
    pub task: Option<TaskSettings>,
    pub lake: Location,
    /// Bytes of memory for all tables together.
    pub memory_limit: usize,
    /// Raw bytes after which a batch ends at the next file boundary.
    pub batch_bytes: u64,
    /// Tables and threads at work at once.
    pub parallelism: usize,
    /// Seconds after which a missing raw file is normal; 0 if it never is.
    pub raw_retention: u64,
    /// Late files are looked for among those that are older than the position by so many seconds at most.
    pub late_window: u64,
    /// True if runs look after the tables they changed.
    pub maintenance: bool,
    /// Warnings about the job itself, each said once.
    pub warnings: Vec<String>,
    all: OfAll,
    /// By their names in the lake.
    tables: BTreeMap<TableName, TableJob>,
}

impl Job {
    /// # Errors
    /// Usage errors: a file that is missing, a value without meaning, a setting that is not carried out.
    pub fn new(config: &Config) -> Result<Job> {
        let stores = Stores::default();
        let source = &config.source;
        if source.kind == config::SourceKind::Mysql {
            return Err(not_yet("source.kind", "mysql"));
        }
        let settings = match &source.s3_settings {
            Some(file) => S3Settings::parse(&read(config, file)?).map_err(|e| Error::usage(e).at(file.display()))?,
            None => S3Settings::default(),
        };
        refuse_what_is_not_carried_out(config, &settings)?;
        let mappings = match &source.table_mappings {
            Some(file) => Mappings::parse(&read(config, file)?).map_err(|e| Error::usage(e).at(file.display()))?,
            None => Mappings::all(),
        };
        let task = source
            .task_settings
            .as_ref()
            .map(|file| TaskSettings::parse(&read(config, file)?).map_err(|e| Error::usage(e).at(file.display())));
        let mut warnings = settings.warnings.clone();
        warnings.extend(without_use(config));
        let (settings, all) = (Arc::new(settings), OfAll::new(config));
        let tables = table::tables(config, &mappings, &settings, &all)?;
        let unselected = tables.iter().filter(|(_, table)| !mappings.selects(&table.source));
        warnings.extend(
            unselected.map(|(name, _)| {
                format!("[[table]] {name}: no rule of table_mappings selects it, so it is left alone")
            }),
        );
        if config.lake.url.is_empty() {
            return Err(Error::usage("it names no folder").at("lake.url"));
        }
        let raw = stores.open(&source.url, &config.folder).map_err(|e| e.at("source.url"))?;
        let lake = stores.open(&config.lake.url, &config.folder).map_err(|e| e.at("lake.url"))?;
        if raw.is_same(&lake) {
            return Err(Error::usage(format!(
                "{} is source.url as well: upkeep of a table would delete its raw files; give the lake a folder of its own",
                lake.url
            ))
            .at("lake.url"));
        }
        Ok(Job {
            raw,
            settings,
            mappings,
            task: task.transpose()?,
            lake,
            memory_limit: memory_limit(config.run.memory_limit.as_deref().unwrap_or("auto"))?,
            batch_bytes: bytes(config.run.batch_bytes.as_deref().unwrap_or("256MB"), "run.batch_bytes")?.max(1),
            parallelism: parallelism(config.run.parallelism.as_ref())?,
            maintenance: config.run.maintenance != Some(config::Maintenance::Off),
            warnings,
            raw_retention: duration(source.raw_retention.as_deref().unwrap_or("0d"), "source.raw_retention")?,
            late_window: duration(source.late_window.as_deref().unwrap_or("24h"), "source.late_window")?,
            all,
            tables,
        })
    }

    /// What is meant for `table`; of a table that the configuration does not name nothing is known.
    pub fn table(&self, table: &TableName) -> TableJob {
        self.tables.get(table).cloned().unwrap_or_else(|| {
            let source = self.mappings.source(table, &[]);
            TableJob {
                rules: self.mappings.rules(&source),
                source,
                settings: Arc::clone(&self.settings),
                key: None,
                schema: SchemaFrom::Unknown,
                partition_by: vec![],
                datetime: self.all.datetime,
                table_type: self.all.table_type,
                on_vanished: self.all.on_vanished,
                quarantines: self.all.quarantines,
                rewrite_types: self.all.rewrite_types,
                metadata: vec![],
                helpers: vec![],
            }
        })
    }

    /// Whether the task brings the table that has this name in folders and lake, and it is no control table of DMS.
    pub fn selects(&self, table: &TableName) -> bool {
        if table.table.starts_with("awsdms_") {
            return false;
        }
        match self.tables.get(table) {
            Some(meant) => self.mappings.selects(&meant.source),
            None => self.mappings.selects_folder(table),
        }
    }

    /// The name in the lake of the table that a person calls `name`, as in the source or in the lake.
    pub fn name_in_lake(&self, name: &TableName) -> TableName {
        match self.tables.contains_key(name) {
            true => name.clone(),
            false => self.mappings.target(&self.mappings.source(name, &[])),
        }
    }

    /// DataFusion within this job's limits, for work on so many tables. As many of them are worked on at once as there are
    /// threads for, and memory to give each the least that it needs.
    pub fn engine(&self, tables: usize) -> Result<Engine> {
        let enough_for = self.memory_limit / usize::try_from(LEAST_MEMORY).unwrap_or(usize::MAX);
        let at_once = self.parallelism.min(tables).min(enough_for).max(1);
        Engine::new(&self.lake, self.memory_limit, self.parallelism, at_once)
    }

    /// The tables that the configuration names, by their names in the lake.
    pub fn named_tables(&self) -> impl Iterator<Item = &TableName> {
        self.tables.keys()
    }
}

/// What is said of all tables.
struct OfAll {
    datetime: DatetimeAs,
    table_type: TableType,
    on_vanished: OnVanished,
    quarantines: bool,
    rewrite_types: bool,
}

impl OfAll {
    fn new(config: &Config) -> OfAll {
        OfAll {
            datetime: datetime(config.lake.datetime),
            table_type: table_type(config.lake.table_type),
            on_vanished: on_vanished(config.source.on_vanished),
            quarantines: config.source.on_bad_record == Some(config::OnBadRecord::Quarantine),
            rewrite_types: config.source.on_type_change == Some(config::OnTypeChange::Rewrite),
        }
    }
}

/// What the configuration says for commands that are not carried out.
fn without_use(config: &Config) -> impl Iterator<Item = String> {
    let source = &config.source;
    let found = [
        ("[mysql]", config.mysql.is_some()),
        ("[capture]", config.capture.is_some()),
        ("source.server_id", source.server_id.is_some()),
        ("source.tls", source.tls.is_some()),
        ("source.tls_ca", source.tls_ca.is_some()),
    ];
    found.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| {
        format!("{name} of the configuration is for a MySQL server, which this version does not ask; it has no effect")
    })
}

/// A setting that changes the outcome and is not carried out is refused by name: to ignore it would be silent.
fn refuse_what_is_not_carried_out(config: &Config, settings: &S3Settings) -> Result<()> {
    let source = &config.source;
    let of_all = ("source".to_string(), (source.on_vanished, source.on_ddl));
    let of_tables = config.tables.iter().map(|table| {
        let policies = (table.on_vanished, table.on_ddl);
        (format!("[[table]] {}", table.name), policies)
    });
    for (place, (vanished, ddl)) in std::iter::once(of_all).chain(of_tables) {
        let truncates = vanished == Some(config::OnVanished::Truncate);
        if truncates && settings.folders.cdc_path.is_some() {
            return Err(Error::usage(
                "on_vanished = \"truncate\" cannot be carried out with PreserveTransactions: a TRUNCATE leaves the files of \
                 all tables' changes as they are, and nothing in them says which of the changes came before it",
            )
            .at(place));
        }
        if let Some(value) = ddl.filter(|v| *v != config::OnDdl::Stop) {
            return Err(not_yet("on_ddl", value).at(place));
        }
    }
    Ok(())
}

fn not_yet(key: &str, value: impl std::fmt::Display) -> Error {
    Error::usage(format!("{key} = \"{value}\" is not carried out by this version; remove it or use the default"))
}

fn read(config: &Config, file: &Path) -> Result<String> {
    let path = config.folder.join(file);
    std::fs::read_to_string(&path).map_err(|e| Error::usage(format!("{}: {e}", path.display())))
}

fn datetime(word: Option<config::Datetime>) -> DatetimeAs {
    match word {
        Some(config::Datetime::Timestamp) => DatetimeAs::Timestamp,
        Some(config::Datetime::TimestampNtz) | None => DatetimeAs::TimestampNtz,
    }
}

fn on_vanished(word: Option<config::OnVanished>) -> OnVanished {
    match word {
        Some(config::OnVanished::Truncate) => OnVanished::Truncate,
        Some(config::OnVanished::Keep) => OnVanished::Keep,
        Some(config::OnVanished::Stop) | None => OnVanished::Stop,
    }
}

fn table_type(word: Option<config::TableType>) -> TableType {
    match word {
        Some(config::TableType::MergeOnRead) => TableType::MergeOnRead,
        Some(config::TableType::CopyOnWrite) | None => TableType::CopyOnWrite,
    }
}

fn parallelism(word: Option<&config::Parallelism>) -> Result<usize> {
    match word {
        Some(config::Parallelism::Number(0)) => Err(Error::usage("run.parallelism must be at least 1")),
        Some(config::Parallelism::Number(n)) => Ok(*n),
        Some(config::Parallelism::Word(word)) if word != "auto" => {
            Err(Error::usage(format!("run.parallelism = {word:?}: give a number or \"auto\"")))
        }
        _ => Ok(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)),
    }
}

/// The least that one table's sort, locate and writer need beside each other.
const LEAST_MEMORY: u64 = 256 << 20;

fn memory_limit(text: &str) -> Result<usize> {
    let limit = if text == "auto" {
        (available_memory() / 2).max(LEAST_MEMORY)
    } else {
        let limit = bytes(text, "run.memory_limit")?;
        if limit < LEAST_MEMORY {
            return Err(Error::usage(format!("run.memory_limit = {text:?} is below the least of 256MB")));
        }
        limit
    };
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// The smaller of the machine's memory and the limit of a cgroup that this process is in (a container sees the machine's
/// own figure, E-8).
fn available_memory() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    });
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = memory_limits_of(&cgroups);
    let limit = limits.iter().filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()).min();
    machine.unwrap_or(1 << 30).min(limit.unwrap_or(u64::MAX))
}

/// The files that hold the limits of these `cgroups` and of those around them, as `/proc/self/cgroup` tells them: of
/// version 2 `0::PATH`, of version 1 `NUMBER:CONTROLLERS:PATH`. A container may see its own as the root.
fn memory_limits_of(cgroups: &str) -> Vec<String> {
    let mut files = vec![];
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (root, file) = match parts.next() {
            Some("") => ("/sys/fs/cgroup", "memory.max"),
            Some(controllers) if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = Path::new(parts.next().unwrap_or("/"));
        let around = path.ancestors().filter_map(|path| path.strip_prefix("/").ok());
        files.extend(around.map(|path| Path::new(root).join(path).join(file).display().to_string()));
    }
    files
}

/// `"256MB"`, `"64KB"`, `"2GB"` or plain bytes; the units are powers of 1024.
pub fn bytes(text: &str, key: &str) -> Result<u64> {
    let trimmed = text.trim();
    let digits = trimmed.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = match trimmed[digits.len()..].trim().to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => Some(1),
        "K" => Some(1 << 10),
        "M" => Some(1 << 20),
        "G" => Some(1 << 30),
        "T" => Some(1_u64 << 40),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    number.zip(unit).and_then(|(n, unit)| n.checked_mul(unit)).ok_or_else(|| {
        Error::usage(format!("{key} = {text:?} is no size; write a number and KB, MB or GB, such as \"256MB\""))
    })
}

/// `"24h"`, `"7d"`, `"30m"`, `"45s"`, in seconds.
pub fn duration(text: &str, key: &str) -> Result<u64> {
    let trimmed = text.trim();
    let unit = match trimmed.chars().last() {
        Some('s') => Some(1),
        Some('m') => Some(60),
        Some('h') => Some(3600),
        Some('d') => Some(86_400),
        _ => None,
    };
    let number = trimmed.get(..trimmed.len().saturating_sub(1)).and_then(|n| n.parse::<u64>().ok());
    number
        .zip(unit)
        .and_then(|(n, unit)| n.checked_mul(unit))
        .ok_or_else(|| Error::usage(format!("{key} = {text:?} is no duration; write one such as \"24h\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        assert_eq!(bytes("256MB", "k").unwrap(), 256 << 20);
        assert_eq!(bytes("1 GiB", "k").unwrap(), 1 << 30);
        assert_eq!(bytes("17", "k").unwrap(), 17);
        assert!(bytes("many", "k").is_err());
    }

    #[test]
    fn a_cgroup_has_the_limits_of_those_around_it_too() {
        assert_eq!(
            memory_limits_of("0::/batch/job.service"),
            [
                "/sys/fs/cgroup/batch/job.service/memory.max",
                "/sys/fs/cgroup/batch/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            memory_limits_of("5:cpu,cpuacct:/a\n4:memory:/a\n0::/"),
            [
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory.max"
            ]
        );
    }

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(duration("24h", "k").unwrap(), 86_400);
        assert!(duration("24", "k").is_err());
    }
}
