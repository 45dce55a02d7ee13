//! What is meant for one table: a `[[table]]` of the configuration with the rules of the task, and the definition that
//! they give it.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use lakemerge_source::ddl::{self, CreateTable, DdlError};
use lakemerge_source::dms::mappings::Mappings;
use lakemerge_source::dms::names::DataFormat;
use lakemerge_source::dms::settings::S3Settings;
use lakemerge_source::dms::shape::{Described, Of, Shape};
use lakemerge_source::dms::transformations::TableRules;
use lakemerge_source::name::TableName;
use lakemerge_source::schema::{DatetimeAs, SqlType, TableSchema};

use super::{OfAll, datetime, on_vanished, table_type};
use crate::config::{self, Config};
use crate::dms::metadata::MetadataColumn;
use crate::dms::next::OnVanished;
use crate::error::{Error, Result};
use crate::lake::TableType;
use crate::lake::position::Facts;

/// What is meant for one table.
#[derive(Clone)]
pub struct TableJob {
    /// Its name in the source; folders and lake have the name that the task's rules make of it.
    pub source: TableName,
    /// What the task does to its records.
    pub rules: TableRules,
    pub(super) settings: Arc<S3Settings>,
    /// The columns of the key as configured; `None` takes the PRIMARY KEY.
    pub key: Option<Vec<String>>,
    pub schema: SchemaFrom,
    pub partition_by: Vec<String>,
    pub datetime: DatetimeAs,
    pub table_type: TableType,
    pub on_vanished: OnVanished,
    /// True if bad records are set apart, instead of stopping the table.
    pub quarantines: bool,
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

impl Definition {
    /// The same for a table whose configuration holds `facts`: records from before columns were added may still come.
    pub fn of_table(mut self, facts: &Facts) -> Definition {
        self.key_is_primary = facts.key_is_primary;
        if !facts.added.is_empty() && facts.others.is_none_or(|others| others == self.shape.others()) {
            self.shape = Arc::new(Shape::clone(&self.shape).with_added(&facts.added));
        }
        self
    }
}

impl TableJob {
    /// True if an empty field means NULL in a column that may be NULL, and the empty text in others: in CSV without
    /// CsvNullValue.
    pub fn empty_may_be_null(&self) -> bool {
        self.settings.csv_null_value.is_none() && self.settings.data_format == DataFormat::Csv
    }

    /// The columns of the Delta table: the source's, then those that are added.
    pub fn arrow(&self, schema: &TableSchema) -> SchemaRef {
        let mut fields = schema.arrow(self.datetime).fields().to_vec();
        fields.extend(self.metadata.iter().map(|column| Arc::new(column.field())));
        Arc::new(Schema::new(fields))
    }

    /// The CREATE TABLE statement of `name`, if the configuration names a file that has it.
    pub fn create_table(&self, name: &TableName) -> Option<&CreateTable> {
        match &self.schema {
            SchemaFrom::Statements { tables, .. } => Some(self.statement(name, tables).ok()?.0),
            SchemaFrom::Unknown | SchemaFrom::Infer => None,
        }
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
            if matches!(schema.columns[at].sql_type, SqlType::Bytes | SqlType::Binary(_)) {
                return Err(Error::usage(format!(
                    "partition_by names {column}, which holds bytes, and a folder's name is a text"
                )));
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
                let (generated, chars, lobs) = (&statement.generated, &statement.chars, &statement.lobs);
                Described { schema, of, key, generated, chars: Some(chars), lobs: Some(lobs), wanted }
            }
            // what arrives has the names and types that the rules gave it
            (SchemaFrom::Infer, Some(schema)) => {
                Described { schema, of: Of::Lake, key, generated: &[], chars: None, lobs: None, wanted }
            }
            _ => return Err(lines_to_add(name, "its columns are not known", self)),
        };
        let shape = Shape::new(&self.rules, &described, &self.settings).map_err(Error::usage)?;
        Ok(if matches!(self.schema, SchemaFrom::Infer) { shape.guessed() } else { shape })
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

/// The tables that the configuration names, by their names in the lake.
pub(super) fn tables(
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
            on_vanished: table.on_vanished.map_or(all.on_vanished, |v| on_vanished(Some(v))),
            quarantines: table.on_bad_record.map_or(all.quarantines, |v| v == config::OnBadRecord::Quarantine),
            rewrite_types: table.on_type_change.map_or(all.rewrite_types, |v| v == config::OnTypeChange::Rewrite),
            rules,
            metadata,
            helpers,
            source,
        };
        let target = mappings.target(&job.source);
        if let Some(other) = tables.insert(target.clone(), job) {
            return Err(Error::usage(format!("{place}: {} is the table {target} of the lake already", other.source)));
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

/// The columns of ours, and those of the task's, that the table has beside the source's.
fn metadata_columns(table: &config::Table, rules: &TableRules) -> Result<(Vec<MetadataColumn>, Vec<String>)> {
    let mut ours: Vec<_> =
        (table.delete == Some(config::Delete::Soft)).then_some(MetadataColumn::Deleted).into_iter().collect();
    let mut helpers = vec![];
    for (i, name) in table.metadata_columns.iter().enumerate() {
        if table.metadata_columns[..i].contains(name) {
            return Err(Error::usage(format!("metadata_columns names {name} twice")));
        }
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
