//! Time stamps are counted in microseconds, as Delta counts them.
//!
//! DataFusion plans `TIMESTAMP` as nanoseconds, and compares time stamps with text and dates as
//! nanoseconds too. Those end in the year 2262; `9999-12-31`, which so often says "until further
//! notice", overflows. Which type two sides meet in is fixed in the engine, so this rule comes
//! after its type coercion, and brings nanoseconds to microseconds wherever they arise: in casts,
//! literals, functions and scans. All else takes its type from these.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::config::ConfigOptions;
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, Projection, TableScan, TryCast};
use datafusion::optimizer::AnalyzerRule;

/// To be added after the rules of the engine.
#[derive(Debug)]
pub struct Microseconds;

impl AnalyzerRule for Microseconds {
    fn name(&self) -> &'static str {
        "microseconds"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan, DataFusionError> {
        Ok(plan.transform_up_with_subqueries(settle_node)?.data)
    }
}

/// The node in microseconds, once all below it is.
fn settle_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>, DataFusionError> {
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let plan = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let expr = expr.transform_up(|expr| settle(expr, &schema))?;
        Ok(expr.update_data(|expr| name.restore(expr)))
    })?;
    plan.transform_data(|plan| match plan {
        LogicalPlan::TableScan(scan) => settle_scan(scan),
        // These two keep the schema they were made with.
        LogicalPlan::Union(mut union) => {
            union.schema = settle_schema(&union.schema)?;
            Ok(Transformed::yes(LogicalPlan::Union(union)))
        }
        LogicalPlan::Values(mut values) => {
            values.schema = settle_schema(&values.schema)?;
            Ok(Transformed::yes(LogicalPlan::Values(values)))
        }
        plan => plan.recompute_schema().map(Transformed::yes),
    })
}

/// The expression in microseconds, once its parts are.
fn settle(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>, DataFusionError> {
    let settled = match expr {
        Expr::Cast(Cast { expr, field }) => match micros(field.data_type()) {
            // A number is cast to nanoseconds by what it says, and then counts so many of them.
            Some(to) if !expr.get_type(schema)?.is_numeric() => expr.cast_to(&to, schema)?,
            Some(to) => Expr::Cast(Cast { expr, field }).cast_to(&to, schema)?,
            None => return Ok(Transformed::no(Expr::Cast(Cast { expr, field }))),
        },
        Expr::TryCast(TryCast { expr, field }) => match micros(field.data_type()) {
            Some(to) if !expr.get_type(schema)?.is_numeric() => Expr::TryCast(TryCast::new(expr, to)),
            Some(to) => Expr::TryCast(TryCast { expr, field }).cast_to(&to, schema)?,
            None => return Ok(Transformed::no(Expr::TryCast(TryCast { expr, field }))),
        },
        Expr::OuterReferenceColumn(field, column) => Expr::OuterReferenceColumn(settle_field(&field), column),
        Expr::ScalarFunction(function) => return settle_function(function, schema),
        Expr::Literal(..) | Expr::HigherOrderFunction(_) => match micros(&expr.get_type(schema)?) {
            Some(to) => expr.cast_to(&to, schema)?,
            None => return Ok(Transformed::no(expr)),
        },
        expr => return Ok(Transformed::no(expr)),
    };
    Ok(Transformed::yes(settled))
}

fn settle_function(function: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>, DataFusionError> {
    let is_to_timestamp = function.func.name() == "to_timestamp";
    let expr = Expr::ScalarFunction(function);
    let Some(to) = micros(&expr.get_type(schema)?) else {
        return Ok(Transformed::no(expr));
    };
    // What it gives would overflow before it could be cast; of most that it takes, a cast makes the same.
    if let Expr::ScalarFunction(ScalarFunction { args, .. }) = &expr
        && let ([arg], true) = (args.as_slice(), is_to_timestamp)
    {
        let (arg, from) = (arg.clone(), arg.get_type(schema)?);
        if from.is_integer() {
            let seconds = arg.cast_to(&DataType::Timestamp(TimeUnit::Second, None), schema)?;
            return Ok(Transformed::yes(seconds.cast_to(&to, schema)?));
        }
        if from.is_string() || from.is_temporal() {
            return Ok(Transformed::yes(arg.cast_to(&to, schema)?));
        }
    }
    Ok(Transformed::yes(expr.cast_to(&to, schema)?))
}

/// No table of the lake has nanoseconds, but `generate_series` has, and so has what a recursive
/// query reads of itself.
fn settle_scan(mut scan: TableScan) -> Result<Transformed<LogicalPlan>, DataFusionError> {
    let schema = Arc::clone(&scan.projected_schema);
    if schema.fields().iter().all(|field| micros(field.data_type()).is_none()) {
        return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
    }
    // Its rows are those of the query's first part, which by now has microseconds.
    if let Some(own) = source_as_provider(&scan.source)?.downcast_ref::<CteWorkTable>() {
        let fields = own.schema().fields().iter().map(settle_field).collect::<Vec<_>>();
        let own = CteWorkTable::new(own.name(), Arc::new(Schema::new(fields)));
        scan.source = provider_as_source(Arc::new(own));
        scan.projected_schema = settle_schema(&schema)?;
        return Ok(Transformed::yes(LogicalPlan::TableScan(scan)));
    }
    let columns = schema.columns().into_iter().zip(schema.fields()).map(|(column, field)| {
        let (relation, name) = (column.relation.clone(), column.name.clone());
        let column = Expr::Column(column);
        match micros(field.data_type()) {
            Some(to) => Ok(column.cast_to(&to, &schema)?.alias_qualified(relation, name)),
            None => Ok(column),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, DataFusionError>>()?;
    let scan = Arc::new(LogicalPlan::TableScan(scan));
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, scan)?)))
}

fn settle_schema(schema: &DFSchemaRef) -> Result<DFSchemaRef, DataFusionError> {
    let fields = schema.iter().map(|(relation, field)| (relation.cloned(), settle_field(field))).collect();
    let settled = DFSchema::new_with_metadata(fields, schema.metadata().clone())?;
    Ok(Arc::new(settled.with_functional_dependencies(schema.functional_dependencies().clone())?))
}

fn settle_field(field: &FieldRef) -> FieldRef {
    match micros(field.data_type()) {
        Some(to) => Arc::new(field.as_ref().clone().with_data_type(to)),
        None => Arc::clone(field),
    }
}

/// What stands for a type of nanoseconds; nothing for any other type.
fn micros(from: &DataType) -> Option<DataType> {
    match from {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        DataType::Duration(TimeUnit::Nanosecond) => Some(DataType::Duration(TimeUnit::Microsecond)),
        DataType::List(item) => {
            let to = micros(item.data_type())?;
            Some(DataType::List(Arc::new(item.as_ref().clone().with_data_type(to))))
        }
        _ => None,
    }
}
