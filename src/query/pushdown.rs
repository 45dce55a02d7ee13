//! Filters go down to the scans, but not where they could meet a column of the same name.
//!
//! DataFusion hands a filter through a projection by the names of its columns, of which the last of two alike wins: of
//! `p.status IS NULL OR o.status = 'new'` over a join, both would be asked of one side. What can go through a join has gone
//! down before, in the logical plan.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;

/// A rule of the engine, for parts of a plan in which every column has a name of its own.
#[derive(Debug)]
struct Unambiguous(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

/// The same rules, of which those that go by names do so where these tell columns apart.
pub fn by_names(
    rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>],
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let by_name = |rule: &Arc<dyn PhysicalOptimizerRule + Send + Sync>| match rule.name().starts_with("FilterPushdown")
    {
        true => Arc::new(Unambiguous(Arc::clone(rule))) as _,
        false => Arc::clone(rule),
    };
    rules.iter().map(by_name).collect()
}

impl PhysicalOptimizerRule for Unambiguous {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if has_twins(&plan) {
            let inputs = plan.children().into_iter().map(|input| self.optimize(Arc::clone(input), config));
            let inputs = inputs.collect::<Result<_>>()?;
            return replace_children_if_necessary(plan, inputs);
        }
        self.0.optimize(plan, config)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// Whether two columns of any step have one name.
fn has_twins(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let schema = plan.schema();
    let mut names = HashSet::new();
    !schema.fields().iter().all(|field| names.insert(field.name())) || plan.children().into_iter().any(has_twins)
}
