//! Parquet files of a scan that are so many that what DataFusion counts of them would take more memory than their rows.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::ConfigOptions;
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::error::Result;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion_datasource::file::FileSource;
use datafusion_datasource::file_stream::FileOpener;
use datafusion_datasource::morsel::{MorselPlanner, Morselizer};
use datafusion_datasource::{PartitionedFile, TableSchema};
use object_store::ObjectStore;

/// A scan of more files than that forgets what it counted of each: DataFusion keeps 10 KB of metrics of every file until the
/// plan is done. Tests take it for every scan of a few files.
pub const MANY: usize = if cfg!(debug_assertions) { 3 } else { 1000 };

/// Reads as the `ParquetSource` does that it is made of, with metrics for each file that go with it.
#[derive(Clone)]
pub struct ManyFiles {
    source: ParquetSource,
    batch_size: usize,
}

impl ManyFiles {
    pub fn new(source: ParquetSource) -> ManyFiles {
        ManyFiles { source, batch_size: 0 }
    }

    /// The same made of `source`, which is what became of the one before.
    fn made_of(&self, source: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        match source.downcast_ref::<ParquetSource>() {
            Some(source) => Arc::new(ManyFiles { source: source.clone(), batch_size: self.batch_size }),
            None => source,
        }
    }

    /// The same source with metrics of its own.
    fn fresh(&self) -> Result<Arc<dyn FileSource>> {
        let mut fresh = ParquetSource::new(self.source.table_schema().clone())
            .with_table_parquet_options(self.source.table_parquet_options().clone());
        if let Some(predicate) = self.source.filter() {
            fresh = fresh.with_predicate(predicate);
        }
        if let Some(readers) = self.source.parquet_file_reader_factory() {
            fresh = fresh.with_parquet_file_reader_factory(Arc::clone(readers));
        }
        let projected = match self.source.projection() {
            Some(projection) => fresh.try_pushdown_projection(projection)?,
            None => None,
        };
        Ok(projected.unwrap_or_else(|| Arc::new(fresh)).with_batch_size(self.batch_size))
    }
}

impl FileSource for ManyFiles {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.source.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let source = Arc::new(self.source.clone());
        let config = FileScanConfigBuilder::new(config.object_store_url.clone(), source)
            .with_limit(config.limit)
            .with_preserve_order(config.preserve_order)
            .with_expr_adapter(config.expr_adapter_factory.clone())
            .build();
        Ok(Box::new(OneByOne { source: self.clone(), store, config, partition }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.source.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(ManyFiles { source: self.source.clone(), batch_size })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.source.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.source.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.source.metrics()
    }

    fn file_type(&self) -> &str {
        self.source.file_type()
    }

    fn fmt_extra(&self, how: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.source.fmt_extra(how, f)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let mut pushed = self.source.try_pushdown_filters(filters, config)?;
        pushed.updated_node = pushed.updated_node.map(|source| self.made_of(source));
        Ok(pushed)
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(self.source.try_pushdown_sort(order, properties)?.map(|source| self.made_of(source)))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.source.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.source.try_pushdown_projection(projection)?.map(|source| self.made_of(source)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.source.apply_expressions(f)
    }
}

/// Opens each file with a source of its own.
struct OneByOne {
    source: ManyFiles,
    store: Arc<dyn ObjectStore>,
    config: FileScanConfig,
    partition: usize,
}

impl Morselizer for OneByOne {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let source = self.source.fresh()?;
        source.create_morselizer(Arc::clone(&self.store), &self.config, self.partition)?.plan_file(file)
    }
}

impl fmt::Debug for OneByOne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneByOne")
    }
}
