//! The lake's tables as [`query`](crate::query) asks for them.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use lakemerge_source::name::TableName;

use crate::lake::provider::ScanProvider;
use crate::lake::scan::Scan;
use crate::lake::{Lake, QUARANTINE};
use crate::query::Tables;

#[derive(Debug)]
pub struct LakeTables(pub Lake);

#[async_trait]
impl Tables for LakeTables {
    async fn names(&self) -> Result<Vec<(String, String)>, DataFusionError> {
        let names = self.0.table_names().await?.into_iter().map(|name| (name.schema, name.table));
        let bad = self.0.quarantined().await?.into_iter().map(|name| (QUARANTINE.to_string(), name.to_string()));
        Ok(names.chain(bad).collect())
    }

    async fn open(&self, schema: &str, table: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let opened = match schema {
            QUARANTINE => match self.0.quarantined().await?.iter().find(|name| name.to_string() == table) {
                Some(name) => self.0.open_quarantine(name).await?,
                None => None,
            },
            _ => self.0.open(&TableName::new(schema, table)).await?,
        };
        let Some(table) = opened else { return Ok(None) };
        Ok(Some(Arc::new(ScanProvider(Scan::all(&table)))))
    }
}
