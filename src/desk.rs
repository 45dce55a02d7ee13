//! The lake's tables as [`query`](crate::query) asks for them.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use lakemerge_source::name::TableName;

use crate::lake::Lake;
use crate::lake::provider::ScanProvider;
use crate::lake::scan::Scan;
use crate::query::Tables;

#[derive(Debug)]
pub struct LakeTables(pub Lake);

#[async_trait]
impl Tables for LakeTables {
    async fn names(&self) -> Result<Vec<(String, String)>, DataFusionError> {
        let names = self.0.table_names().await?;
        Ok(names.into_iter().map(|name| (name.schema, name.table)).collect())
    }

    async fn open(&self, schema: &str, table: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let name = TableName { schema: schema.to_string(), table: table.to_string() };
        let Some(table) = self.0.open(&name).await? else { return Ok(None) };
        Ok(Some(Arc::new(ScanProvider(Scan::all(&table).await?))))
    }
}
