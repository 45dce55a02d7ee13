//! What is meant: a [`Config`] becomes a [`Job`], or an error that says what is impossible and where.
//!
//! [`Config`]: crate::config::Config

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use lakemerge_source::ddl::{self, CreateTable};
use lakemerge_source::dms::mappings::Mappings;
use lakemerge_source::dms::settings::S3Settings;
use lakemerge_source::name::TableName;
use lakemerge_source::schema::{DatetimeAs, TableSchema};

use crate::config::{self, Config};
use crate::dms::metadata::MetadataColumn;
use crate::dms::next::OnVanished;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::lake::TableType;
use crate::storage::{Location, Stores};

/// Everything a command needs to know before it touches a table.
pub struct Job {
    pub raw: Location,
    pub settings: S3Settings,
    pub mappings: Mappings,
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
    datetime: DatetimeAs,
    table_type: TableType,
    on_vanished: OnVanished,
    rewrite_types: bool,
    tables: BTreeMap<TableName, TableJob>,
}

/// What is meant for one table.
#[derive(Clone)]
pub struct TableJob {
    /// The columns of the key as configured; `None` takes the PRIMARY KEY.
    pub key: Option<Vec<String>>,
    pub schema: SchemaFrom,
    pub partition_by: Vec<String>,
    pub datetime: DatetimeAs,
    pub table_type: TableType,
    pub on_vanished: OnVanished,
    /// True if a column's new type may rewrite the table.
    pub rewrite_types: bool,
    /// Columns beside the source's, in order; `_deleted` among them means that deleted rows stay.
    pub metadata: Vec<MetadataColumn>,
}

/// Where the types of a table's columns come from.
#[derive(Clone)]
pub enum SchemaFrom {
    /// Nothing is said of this table.
    Unknown,
    /// CREATE TABLE statements of a file.
    Statements { file: String, tables: Arc<Vec<CreateTable>> },
    /// All rows of the first load.
    Infer,
}

/// A table's columns and key, as they must be before a record can be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub schema: TableSchema,
    /// Column numbers, in the order configured.
    pub key: Vec<usize>,
    /// True if the source itself keeps the key unique.
    pub key_is_primary: bool,
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
        let datetime = datetime(config.lake.datetime);
        let warnings = settings.warnings.clone();
        Ok(Job {
            raw: stores.open(&source.url, &config.folder).map_err(|e| e.at("source.url"))?,
            settings,
            mappings,
            lake: stores.open(&config.lake.url, &config.folder).map_err(|e| e.at("lake.url"))?,
            memory_limit: memory_limit(config.run.memory_limit.as_deref().unwrap_or("auto"))?,
            batch_bytes: bytes(config.run.batch_bytes.as_deref().unwrap_or("256MB"), "run.batch_bytes")?.max(1),
            parallelism: parallelism(config.run.parallelism.as_ref())?,
            maintenance: config.run.maintenance != Some(config::Maintenance::Off),
            warnings,
            raw_retention: duration(source.raw_retention.as_deref().unwrap_or("0d"), "source.raw_retention")?,
            late_window: duration(source.late_window.as_deref().unwrap_or("24h"), "source.late_window")?,
            datetime,
            table_type: table_type(config.lake.table_type),
            on_vanished: on_vanished(source.on_vanished),
            rewrite_types: source.on_type_change == Some(config::OnTypeChange::Rewrite),
            tables: tables(config, datetime)?,
        })
    }

    /// What is meant for `table`; of a table that the configuration does not name nothing is known.
    pub fn table(&self, table: &TableName) -> TableJob {
        self.tables.get(table).cloned().unwrap_or(TableJob {
            key: None,
            schema: SchemaFrom::Unknown,
            partition_by: vec![],
            datetime: self.datetime,
            table_type: self.table_type,
            on_vanished: self.on_vanished,
            rewrite_types: self.rewrite_types,
            metadata: vec![],
        })
    }

    /// DataFusion within this job's limits.
    pub fn engine(&self) -> Result<Engine> {
        Engine::new(&self.lake, self.memory_limit, self.parallelism)
    }

    /// The tables that the configuration names.
    pub fn named_tables(&self) -> impl Iterator<Item = &TableName> {
        self.tables.keys()
    }
}

impl TableJob {
    /// The columns of the Delta table: the source's, then those that are added.
    pub fn arrow(&self, schema: &TableSchema) -> SchemaRef {
        let mut fields = schema.arrow(self.datetime).fields().to_vec();
        fields.extend(self.metadata.iter().map(|column| Arc::new(column.field())));
        Arc::new(Schema::new(fields))
    }

    /// The columns and key of `name`, from its CREATE TABLE statement or from what `infer`red.
    ///
    /// # Errors
    /// Usage errors that show the lines to add to the configuration.
    pub fn definition(&self, name: &TableName, inferred: Option<&TableSchema>) -> Result<Definition> {
        let schema = match (&self.schema, inferred) {
            (SchemaFrom::Statements { file, tables }, _) => {
                ddl::find(tables, name).map_err(|e| Error::usage(e).at(file))?.clone()
            }
            (SchemaFrom::Infer, Some(schema)) => schema.clone(),
            _ => return Err(lines_to_add(name, "its columns are not known", self)),
        };
        let names = match &self.key {
            Some(key) => key.clone(),
            None if !schema.primary_key.is_empty() => schema.primary_key.clone(),
            None => return Err(lines_to_add(name, "it has no PRIMARY KEY and no key is configured", self)),
        };
        let key = names.iter().map(|column| key_column(&schema, column)).collect::<Result<Vec<_>>>()?;
        if let Some(column) = self.metadata.iter().find(|column| schema.position_of(column.name()).is_some()) {
            return Err(Error::usage(format!(
                "the source itself has a column {}, so lakemerge cannot add one",
                column.name()
            )));
        }
        if let Some((_, twice)) = key.iter().enumerate().find(|(i, at)| key[..*i].contains(at)) {
            return Err(Error::usage(format!("key names {} twice", schema.columns[*twice].name)));
        }
        let mut partitions = vec![];
        for column in &self.partition_by {
            let at = schema.position_of(column).ok_or_else(|| no_such_column("partition_by", column, &schema))?;
            if partitions.contains(&at) {
                return Err(Error::usage(format!("partition_by names {column} twice")));
            }
            partitions.push(at);
        }
        if partitions.len() == schema.columns.len() {
            return Err(Error::usage("partition_by names every column, and no column is left for the files"));
        }
        let mut primary: Vec<_> = schema.primary_key.iter().filter_map(|c| schema.position_of(c)).collect();
        let mut sorted = key.clone();
        primary.sort_unstable();
        sorted.sort_unstable();
        Ok(Definition { key_is_primary: primary == sorted, schema, key })
    }
}

fn key_column(schema: &TableSchema, column: &str) -> Result<usize> {
    use lakemerge_source::schema::SqlType;
    let at = schema.position_of(column).ok_or_else(|| no_such_column("key", column, schema))?;
    match schema.columns[at].sql_type {
        SqlType::Float | SqlType::Double => Err(Error::usage(format!(
            "key column {column} is a {}: two equal numbers may differ in their bits, so it cannot identify a row",
            schema.columns[at].sql_type
        ))),
        _ => Ok(at),
    }
}

fn no_such_column(what: &str, column: &str, schema: &TableSchema) -> Error {
    let names: Vec<_> = schema.columns.iter().map(|c| c.name.as_str()).collect();
    Error::usage(format!("{what} column {column:?} is not in the schema, which has: {}", names.join(", ")))
}

fn lines_to_add(name: &TableName, why: &str, table: &TableJob) -> Error {
    let mut lines = format!("[[table]]\nname = {:?}\n", name.to_string());
    if table.key.is_none() {
        lines.push_str(
            "key = [\"…\"]             # the columns that identify a row; not needed if the schema has a PRIMARY KEY\n",
        );
    }
    lines.push_str("schema = \"schema.sql\"   # CREATE TABLE statements (a mysqldump works), or \"infer\"");
    Error::usage(format!("{why}; add to the configuration:\n\n{lines}\n"))
}

fn tables(config: &Config, datetime_of_all: DatetimeAs) -> Result<BTreeMap<TableName, TableJob>> {
    let mut statements: HashMap<&str, Arc<Vec<CreateTable>>> = HashMap::new();
    let mut tables = BTreeMap::new();
    for table in &config.tables {
        let place = format!("[[table]] {}", table.name);
        let name = TableName::from_str(&table.name).map_err(|e| Error::usage(e).at(&place))?;
        let schema = match table.schema.as_deref() {
            None => SchemaFrom::Unknown,
            Some("infer") => SchemaFrom::Infer,
            Some(file) => {
                let parsed = match statements.get(file) {
                    Some(parsed) => Arc::clone(parsed),
                    None => Arc::new(create_tables(config, file).map_err(|e| e.at(&place))?),
                };
                statements.insert(file, Arc::clone(&parsed));
                SchemaFrom::Statements { file: file.to_string(), tables: parsed }
            }
        };
        let job = TableJob {
            key: table.key.clone().filter(|key| !key.is_empty()),
            schema,
            partition_by: table.partition_by.clone(),
            datetime: table.datetime.map_or(datetime_of_all, |d| datetime(Some(d))),
            table_type: table_type(table.table_type.or(config.lake.table_type)),
            metadata: metadata_columns(table).map_err(|e| e.at(&place))?,
            on_vanished: on_vanished(table.on_vanished.or(config.source.on_vanished)),
            rewrite_types: table.on_type_change.or(config.source.on_type_change) == Some(config::OnTypeChange::Rewrite),
        };
        if tables.insert(name, job).is_some() {
            return Err(Error::usage(format!("{place} stands twice")));
        }
    }
    Ok(tables)
}

fn create_tables(config: &Config, file: &str) -> Result<Vec<CreateTable>> {
    let path = config.folder.join(file);
    let input = std::fs::File::open(&path).map_err(|e| Error::usage(format!("schema {}: {e}", path.display())))?;
    ddl::create_tables(std::io::BufReader::with_capacity(1 << 20, input)).map_err(|e| Error::usage(e).at(file))
}

/// A setting that changes the outcome and is not carried out is refused by name: to ignore it would be silent.
fn refuse_what_is_not_carried_out(config: &Config, settings: &S3Settings) -> Result<()> {
    let source = &config.source;
    let of_all = ("source".to_string(), (source.on_bad_record, source.on_vanished, source.on_ddl));
    let of_tables = config.tables.iter().map(|table| {
        let policies = (table.on_bad_record, table.on_vanished, table.on_ddl);
        (format!("[[table]] {}", table.name), policies)
    });
    for (place, (bad_record, vanished, ddl)) in std::iter::once(of_all).chain(of_tables) {
        if let Some(value) = bad_record.filter(|v| *v != config::OnBadRecord::Stop) {
            return Err(not_yet("on_bad_record", value).at(place));
        }
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

fn metadata_columns(table: &config::Table) -> Result<Vec<MetadataColumn>> {
    let soft = (table.delete == Some(config::Delete::Soft)).then_some(MetadataColumn::Deleted);
    let named = table.metadata_columns.iter().map(|name| {
        MetadataColumn::named(name).ok_or_else(|| {
            Error::usage(format!("metadata_columns has no {name:?}; there are _op, _commit_ts and _position"))
        })
    });
    soft.into_iter().map(Ok).chain(named).collect()
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

/// The smaller of the machine's memory and the cgroup's limit (a container sees the machine's own figure, E-8).
fn available_memory() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    });
    let cgroup = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok())
        .min();
    machine.unwrap_or(1 << 30).min(cgroup.unwrap_or(u64::MAX))
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
    fn a_duration_needs_its_unit() {
        assert_eq!(duration("24h", "k").unwrap(), 86_400);
        assert!(duration("24", "k").is_err());
    }
}
