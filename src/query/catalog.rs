//! The lake as a catalog: names are listed once, a table is opened when a statement names it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::TableType;
use tokio::sync::Mutex;

/// The name under which DataFusion knows the lake; nobody has to write it.
pub const LAKE: &str = "lake";

/// DataFusion's own tables about tables.
const INFORMATION_SCHEMA: &str = "information_schema";
const INFORMATION_TABLES: [&str; 4] = ["columns", "routines", "schemata", "tables"];

/// What `query` needs to know of a lake.
#[async_trait]
pub trait Tables: Send + Sync {
    /// Every table, as (schema, table).
    async fn names(&self) -> Result<Vec<(String, String)>, DataFusionError>;

    /// The table of exactly this name, or none.
    async fn open(&self, schema: &str, table: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError>;
}

/// The tables as they were when a batch of statements began.
#[derive(Debug)]
pub struct Catalog {
    schemas: BTreeMap<String, Arc<Schema>>,
}

impl Catalog {
    pub async fn list(tables: &Arc<dyn Tables>) -> Result<Self, DataFusionError> {
        let mut names = BTreeMap::<String, BTreeSet<String>>::new();
        for (schema, table) in tables.names().await? {
            names.entry(schema).or_default().insert(table);
        }
        let schemas = names
            .into_iter()
            .map(|(name, names)| {
                let schema = Schema { name: name.clone(), names, opened: Mutex::default(), tables: Arc::clone(tables) };
                (name, Arc::new(schema))
            })
            .collect();
        Ok(Self { schemas })
    }

    /// The schemas of the lake, in order.
    pub fn schemas(&self) -> impl Iterator<Item = &str> {
        self.schemas.keys().map(String::as_str)
    }

    /// The tables of the lake as (schema, table), in order.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.schemas.values().flat_map(|schema| {
            let tables = schema.names.iter();
            tables.map(|table| (schema.name.as_str(), table.as_str()))
        })
    }

    /// The tables of one schema by its exact name, DataFusion's information schema included.
    pub fn tables_of(&self, schema: &str) -> Vec<&str> {
        match self.schemas.get(schema) {
            Some(schema) => schema.names.iter().map(String::as_str).collect(),
            None if schema == INFORMATION_SCHEMA => INFORMATION_TABLES.to_vec(),
            None => Vec::new(),
        }
    }

    /// Everything that may stand before the dot of a table's name.
    pub fn qualifiers(&self) -> impl Iterator<Item = &str> {
        self.schemas().chain([INFORMATION_SCHEMA])
    }

    /// Opens a table by its exact name; of the information schema there is nothing to open.
    pub async fn open(&self, schema: &str, table: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        match self.schemas.get(schema) {
            Some(schema) => schema.table(table).await,
            None => Ok(None),
        }
    }
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let schema = Arc::clone(self.schemas.get(name)?);
        Some(schema)
    }
}

struct Schema {
    name: String,
    names: BTreeSet<String>,
    /// A statement may be planned several times; it must see one version of each table.
    opened: Mutex<HashMap<String, Arc<dyn TableProvider>>>,
    tables: Arc<dyn Tables>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("name", &self.name).field("names", &self.names).finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        self.names.iter().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if !self.names.contains(name) {
            return Ok(None);
        }
        let mut opened = self.opened.lock().await;
        if let Some(table) = opened.get(name) {
            return Ok(Some(Arc::clone(table)));
        }
        let table = self.tables.open(&self.name, name).await?;
        if let Some(table) = &table {
            opened.insert(name.to_owned(), Arc::clone(table));
        }
        Ok(table)
    }

    /// Known without opening, so that `information_schema.tables` costs nothing.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        Ok(self.names.contains(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}
