//! What is meant: a [`Config`] becomes a [`Job`], or an error that says what is impossible and where.
//!
//! [`Config`]: crate::config::Config

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use lakemerge_source::ddl::{self, CreateTable, DdlError};
use lakemerge_source::dms::mappings::Mappings;
use lakemerge_source::dms::settings::S3Settings;
use lakemerge_source::dms::shape::{Described, Of, Shape};
use lakemerge_source::dms::transformations::TableRules;
use lakemerge_source::name::TableName;
use lakemerge_source::schema::{DatetimeAs, TableSchema};

use crate::config::{self, Config};
use crate::dms::metadata::MetadataColumn;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::lake::TableType;
use crate::storage::{Location, Stores};

/// Everything a command needs to know before it touches a table.
pub struct Job {
    pub raw: Location,
    pub settings: Arc<S3Settings>,
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
    /// True if runs look after the tables they changed.
    pub maintenance: bool,
    /// Warnings about the job itself, each said once.
    pub warnings: Vec<String>,
    all: OfAll,
    /// By their names in the lake.
    tables: BTreeMap<TableName, TableJob>,
}

/// What is meant for one table.
#[derive(Clone)]
pub struct TableJob {
    /// Its name in the source; folders and lake have the name that the task's rules make of it.
    pub source: TableName,
    /// What the task does to its records.
    pub rules: TableRules,
    settings: Arc<S3Settings>,
    /// The columns of the key as configured; `None` takes the PRIMARY KEY.
    pub key: Option<Vec<String>>,
    pub schema: SchemaFrom,
    pub partition_by: Vec<String>,
    pub datetime: DatetimeAs,
    pub table_type: TableType,
    /// True if raw files that are gone mean nothing.
    pub keep_vanished: bool,
    /// True if a column's new type may rewrite the table.
    pub rewrite_types: bool,
    /// Columns beside the source's, in order; `_deleted` among them means that deleted rows stay.
    pub metadata: Vec<MetadataColumn>,
    /// Columns that the task adds to tell of a change, and that the table is to have.
    pub helpers: Vec<String>,
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
    /// What the records look like that make its rows.
    pub shape: Arc<Shape>,
    /// Column numbers, in the order configured.
    pub key: Vec<usize>,
    /// True if the source itself keeps the key unique.
    pub key_is_primary: bool,
    /// Column numbers, in the order configured.
    pub partition_by: Vec<usize>,
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
        refuse_what_is_not_carried_out(config)?;
        let settings = match &source.s3_settings {
            Some(file) => S3Settings::parse(&read(config, file)?).map_err(|e| Error::usage(e).at(file.display()))?,
            None => S3Settings::default(),
        };
        let mappings = match &source.table_mappings {
            Some(file) => Mappings::parse(&read(config, file)?).map_err(|e| Error::usage(e).at(file.display()))?,
            None => Mappings::all(),
        };
        duration(source.late_window.as_deref().unwrap_or("24h"), "source.late_window")?;
        let warnings = settings.warnings.clone();
        let (settings, all) = (Arc::new(settings), OfAll::new(config));
        let tables = tables(config, &mappings, &settings, &all)?;
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
                keep_vanished: self.all.keep_vanished,
                rewrite_types: self.all.rewrite_types,
                metadata: vec![],
                helpers: vec![],
            }
        })
    }

    /// Whether the task brings the table that has this name in folders and lake.
    pub fn selects(&self, table: &TableName) -> bool {
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

    /// DataFusion within this job's limits.
    pub fn engine(&self) -> Result<Engine> {
        Engine::new(&self.lake, self.memory_limit, self.parallelism)
    }

    /// The tables that the configuration names, by their names in the lake.
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
        let shape = self.shape(name, inferred)?;
        let schema = &shape.schema;
        let names = match (&self.key, &shape.defined_key) {
            (Some(key), _) | (None, Some(key)) => key,
            (None, None) if !schema.primary_key.is_empty() => &schema.primary_key,
            (None, None) => return Err(lines_to_add(name, "it has no PRIMARY KEY and no key is configured", self)),
        };
        let key = names.iter().map(|column| key_column(&shape, column)).collect::<Result<Vec<_>>>()?;
        if let Some(column) = self.metadata.iter().find(|column| schema.position_of(column.name()).is_some()) {
            return Err(Error::usage(format!(
                "the source itself has a column {}, so lakemerge cannot add one",
                column.name()
            )));
        }
        if let Some((_, twice)) = key.iter().enumerate().find(|(i, at)| key[..*i].contains(at)) {
            return Err(Error::usage(format!("key names {} twice", schema.columns[*twice].name)));
        }
        let mut partition_by = vec![];
        for column in &self.partition_by {
            let at = shape.position_of(column).ok_or_else(|| no_such_column("partition_by", column, schema))?;
            if partition_by.contains(&at) {
                return Err(Error::usage(format!("partition_by names {column} twice")));
            }
            partition_by.push(at);
        }
        if partition_by.len() == schema.columns.len() {
            return Err(Error::usage("partition_by names every column, and no column is left for the files"));
        }
        let mut primary: Vec<_> = schema.primary_key.iter().filter_map(|c| schema.position_of(c)).collect();
        let mut sorted = key.clone();
        primary.sort_unstable();
        sorted.sort_unstable();
        let key_is_primary = primary == sorted;
        Ok(Definition { key_is_primary, schema: schema.clone(), shape: Arc::new(shape), key, partition_by })
    }

    /// The columns that the rules of the task make of those that are configured or inferred.
    fn shape(&self, name: &TableName, inferred: Option<&TableSchema>) -> Result<Shape> {
        let (key, wanted) = (self.key.as_deref().unwrap_or_default(), &self.helpers);
        let described = match (&self.schema, inferred) {
            (SchemaFrom::Statements { file, tables }, _) => {
                let usage = |e| Error::usage(e).at(file);
                let (statement, of) = self.statement(name, tables).map_err(usage)?;
                let schema = statement.schema_of(name).map_err(usage)?;
                Described { schema, of, key, chars: Some(&statement.chars), lobs: Some(&statement.lobs), wanted }
            }
            // what arrives has the names and types that the rules gave it
            (SchemaFrom::Infer, Some(schema)) => {
                Described { schema, of: Of::Lake, key, chars: None, lobs: None, wanted }
            }
            _ => return Err(lines_to_add(name, "its columns are not known", self)),
        };
        Shape::new(&self.rules, &described, &self.settings).map_err(Error::usage)
    }

    /// The CREATE TABLE of the source's table, else of the table `name` of the lake.
    fn statement<'a>(
        &self,
        name: &TableName,
        tables: &'a [CreateTable],
    ) -> std::result::Result<(&'a CreateTable, Of), DdlError> {
        let exact = |name: &TableName| {
            tables.iter().any(|t| t.table == name.table && t.schema.as_ref().is_some_and(|s| *s == name.schema))
        };
        if exact(name) && !exact(&self.source) {
            return Ok((ddl::find_statement(tables, name)?, Of::Lake));
        }
        match ddl::find_statement(tables, &self.source) {
            Ok(statement) => Ok((statement, Of::Source)),
            Err(error) => match ddl::find_statement(tables, name) {
                Ok(statement) => Ok((statement, Of::Lake)),
                Err(_) => Err(error),
            },
        }
    }
}

fn key_column(shape: &Shape, column: &str) -> Result<usize> {
    use lakemerge_source::schema::SqlType;
    let schema = &shape.schema;
    let at = shape.position_of(column).ok_or_else(|| no_such_column("key", column, schema))?;
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

/// What is said of all tables.
struct OfAll {
    datetime: DatetimeAs,
    table_type: TableType,
    keep_vanished: bool,
    rewrite_types: bool,
}

impl OfAll {
    fn new(config: &Config) -> OfAll {
        OfAll {
            datetime: datetime(config.lake.datetime),
            table_type: table_type(config.lake.table_type),
            keep_vanished: config.source.on_vanished == Some(config::OnVanished::Keep),
            rewrite_types: config.source.on_type_change == Some(config::OnTypeChange::Rewrite),
        }
    }
}

fn tables(
    config: &Config,
    mappings: &Mappings,
    settings: &Arc<S3Settings>,
    all: &OfAll,
) -> Result<BTreeMap<TableName, TableJob>> {
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
        let source = mappings.source(&name, &schema.names());
        let rules = mappings.rules(&source);
        let (metadata, helpers) = metadata_columns(table, &rules).map_err(|e| e.at(&place))?;
        let job = TableJob {
            key: table.key.clone().filter(|key| !key.is_empty()),
            schema,
            settings: Arc::clone(settings),
            partition_by: table.partition_by.clone(),
            datetime: table.datetime.map_or(all.datetime, |d| datetime(Some(d))),
            table_type: table.table_type.map_or(all.table_type, |t| table_type(Some(t))),
            keep_vanished: table.on_vanished.map_or(all.keep_vanished, |v| v == config::OnVanished::Keep),
            rewrite_types: table.on_type_change.map_or(all.rewrite_types, |v| v == config::OnTypeChange::Rewrite),
            rules,
            metadata,
            helpers,
            source,
        };
        if tables.insert(mappings.target(&job.source), job).is_some() {
            return Err(Error::usage(format!("{place} stands twice")));
        }
    }
    Ok(tables)
}

impl SchemaFrom {
    /// The names of the tables that the statements create.
    fn names(&self) -> Vec<String> {
        match self {
            SchemaFrom::Statements { tables, .. } => tables.iter().map(|table| table.table.clone()).collect(),
            SchemaFrom::Unknown | SchemaFrom::Infer => vec![],
        }
    }
}

fn create_tables(config: &Config, file: &str) -> Result<Vec<CreateTable>> {
    let path = config.folder.join(file);
    let input = std::fs::File::open(&path).map_err(|e| Error::usage(format!("schema {}: {e}", path.display())))?;
    ddl::create_tables(std::io::BufReader::with_capacity(1 << 20, input)).map_err(|e| Error::usage(e).at(file))
}

/// A setting that changes the outcome and is not carried out is refused by name: to ignore it would be silent.
fn refuse_what_is_not_carried_out(config: &Config) -> Result<()> {
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
        if let Some(value) = vanished.filter(|v| *v == config::OnVanished::Truncate) {
            return Err(not_yet("on_vanished", value).at(place));
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

/// The columns of ours, and those of the task's, that the table has beside the source's.
fn metadata_columns(table: &config::Table, rules: &TableRules) -> Result<(Vec<MetadataColumn>, Vec<String>)> {
    let mut ours: Vec<_> =
        (table.delete == Some(config::Delete::Soft)).then_some(MetadataColumn::Deleted).into_iter().collect();
    let mut helpers = vec![];
    for name in &table.metadata_columns {
        match MetadataColumn::named(name) {
            Some(column) => ours.push(column),
            None if rules.adds_helper(name) => helpers.push(name.clone()),
            None => {
                return Err(Error::usage(format!(
                    "metadata_columns has no {name:?}; there are _op, _commit_ts and _position, and the columns that the \
                     task adds with $AR_H_ expressions"
                )));
            }
        }
    }
    Ok((ours, helpers))
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
