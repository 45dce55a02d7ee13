//! The lake's tables as [`query`](crate::query) asks for them.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use lakemerge_source::name::TableName;

use crate::error::{At, Error};
use crate::lake::history::AsOf;
use crate::lake::provider::ScanProvider;
use crate::lake::scan::Scan;
use crate::lake::table::Table;
use crate::lake::{Lake, QUARANTINE};
use crate::query::Tables;

#[derive(Debug)]
pub struct LakeTables {
    pub lake: Lake,
    /// The version of each table that is asked, the newest if none; quarantines are asked as they are now.
    pub as_of: Option<AsOf>,
}

impl LakeTables {
    async fn open_as_of(&self, name: &TableName) -> Result<Option<Table>, Error> {
        let newest = self.lake.open(name).await?;
        let (Some(table), Some(as_of)) = (&newest, self.as_of) else { return Ok(newest) };
        table.as_of(as_of).await.at(|| format!("table {name}")).map(Some)
    }
}

#[async_trait]
impl Tables for LakeTables {
    async fn names(&self) -> Result<Vec<(String, String)>, DataFusionError> {
        let names = self.lake.table_names().await?.into_iter().map(|name| (name.schema, name.table));
        let bad = self.lake.quarantined().await?.into_iter().map(|name| (QUARANTINE.to_string(), name.to_string()));
        Ok(names.chain(bad).collect())
    }

    async fn open(&self, schema: &str, table: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let opened = match schema {
            QUARANTINE => match self.lake.quarantined().await?.iter().find(|name| name.to_string() == table) {
                Some(name) => self.lake.open_quarantine(name).await?,
                None => None,
            },
            _ => self.open_as_of(&TableName::new(schema, table)).await?,
        };
        let Some(table) = opened else { return Ok(None) };
        Ok(Some(Arc::new(ScanProvider(Scan::all(&table)))))
    }
}
