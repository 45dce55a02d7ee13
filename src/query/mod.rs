//! SQL over the lake, for reading only.
//!
//! A batch of statements is parsed and [guarded](guard); the names of the [catalog] are listed once;
//! then each statement is [shown](show) from the catalog, or its [identifiers], those of its
//! [subqueries] and its [columns] are resolved, it is planned with the [precedence], the [numbers], the [integers] and the
//! [decimals] of MySQL and with time stamps in [microseconds](micros), and refused where the answer would be
//! [unsound], executed with filters [down](pushdown) at the scans, and its rows stream
//! through a [format] to the [output]. Without a statement there is a [shell].

// The journey is told with its stations, most of which are nobody else's business.
#![allow(rustdoc::private_intra_doc_links)]

pub mod catalog;
pub mod error;

mod columns;
mod decimals;
mod format;
mod guard;
mod headings;
mod identifiers;
mod integers;
mod micros;
mod numbers;
mod output;
mod precedence;
mod pushdown;
mod scope;
mod shell;
mod show;
mod subqueries;
mod unsound;

use std::fs;
use std::io::{self, IsTerminal};
use std::iter;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use futures::{StreamExt, TryStreamExt, stream};

pub use catalog::Tables;
use catalog::{Catalog, LAKE};
use decimals::Decimals;
pub use error::QueryError;
pub use format::Format;
use integers::{Integers, Sums};
use micros::Microseconds;
use output::Output;

/// What is asked, and how the answer is wanted.
#[derive(Debug)]
pub struct Request {
    pub input: Input,
    pub format: Format,
    /// Standard output, if none.
    pub output: Option<PathBuf>,
}

/// Where the statements come from.
#[derive(Debug)]
pub enum Input {
    Sql(String),
    File(PathBuf),
    /// A shell if standard input is a terminal, else the statements on it.
    Shell,
}

/// Answers a request. `session` brings its memory pool, object stores and planner; catalog and
/// [options](session_config) are set here, on a context derived from it.
pub async fn run(session: SessionContext, tables: Arc<dyn Tables>, request: Request) -> Result<(), QueryError> {
    let mut output = match &request.output {
        Some(path) => Output::file(path, request.format)?,
        None if request.format == Format::Parquet && io::stdout().is_terminal() => {
            return Err(QueryError::sql("Parquet is not for a terminal; add --output FILE"));
        }
        None => Output::stdout(request.format),
    };
    let desk = Desk { session, tables };
    match desk.serve(request.input, &mut output).await {
        Ok(()) => output.finish(),
        Err(error) if error.is_closed_pipe() => Ok(()),
        Err(error) => Err(error),
    }
}

/// What `query` needs of a session's options; [`run`] applies it by itself.
pub fn session_config(config: SessionConfig) -> SessionConfig {
    let mut config = config
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(LAKE, LAKE);
    let parser = &mut config.options_mut().sql_parser;
    // Else 12345678.91 is a float, and finds no decimal that is exactly that.
    parser.parse_float_as_decimal = true;
    // Else `Entity` becomes `entity` before anyone can look it up.
    parser.enable_ident_normalization = false;
    // So that an error about a name tells where it stands.
    parser.collect_spans = true;
    config
}

/// Where statements are answered.
struct Desk {
    session: SessionContext,
    tables: Arc<dyn Tables>,
}

impl Desk {
    async fn serve(&self, input: Input, output: &mut Output) -> Result<(), QueryError> {
        let sql = match input {
            Input::Sql(sql) => sql,
            Input::File(path) => fs::read_to_string(&path)
                .map_err(|error| QueryError::io(format!("cannot read {}", path.display()), error))?,
            Input::Shell if io::stdin().is_terminal() => return shell::run(self, output).await,
            Input::Shell => {
                io::read_to_string(io::stdin()).map_err(|error| QueryError::io("cannot read standard input", error))?
            }
        };
        // editors of Windows put a mark before it
        self.answer_all(sql.trim_start_matches('\u{feff}'), output).await.map(drop)
    }

    /// Answers statements in order, up to the first error; gives the number of rows written.
    async fn answer_all(&self, sql: &str, output: &mut Output) -> Result<usize, QueryError> {
        let mut statements = DFParserBuilder::new(sql).build()?.parse_statements()?;
        if statements.is_empty() {
            return Err(QueryError::sql("no statement to answer; try SHOW TABLES"));
        }
        statements.iter().try_for_each(guard::check)?;
        statements.iter_mut().for_each(precedence::settle);
        let catalog = Arc::new(Catalog::list(&self.tables).await?);
        let context = self.context(&catalog);
        let mut rows = 0;
        for statement in statements {
            let answer = self::answer(&context, &catalog, statement).await?;
            rows += output.answer(answer, &context).await?;
        }
        Ok(rows)
    }

    /// The session as it was given, with the lake as its only catalog.
    fn context(&self, catalog: &Arc<Catalog>) -> SessionContext {
        let catalogs = MemoryCatalogProviderList::new();
        let _ = catalogs.register_catalog(LAKE.to_owned(), Arc::clone(catalog) as _);
        let given = self.session.state();
        let planners = iter::once(Arc::new(Integers) as _).chain(given.expr_planners().iter().cloned()).collect();
        let first: [Arc<dyn AnalyzerRule + Send + Sync>; 2] = [Arc::new(Sums), Arc::new(Decimals)];
        let rules = first.into_iter().chain(given.analyzer().rules.iter().cloned());
        let rules = rules.chain(iter::once(Arc::new(Microseconds) as _)).collect();
        let physical = pushdown::by_names(given.physical_optimizers());
        let state = SessionStateBuilder::new_from_existing(given)
            .with_config(session_config(self.session.copied_config()))
            .with_catalog_list(Arc::new(catalogs))
            .with_expr_planners(planners)
            .with_analyzer_rules(rules)
            .with_physical_optimizer_rules(physical)
            .build();
        SessionContext::new_with_state(state)
    }
}

/// From a guarded statement to its rows.
async fn answer(
    context: &SessionContext,
    catalog: &Catalog,
    mut statement: Statement,
) -> Result<SendableRecordBatchStream, QueryError> {
    if let Some(batch) = show::answer(&statement, catalog).await? {
        let schema = batch.schema();
        let rows = stream::iter([Ok(batch)]);
        return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)));
    }
    headings::as_typed(&mut statement);
    numbers::settle(&mut statement);
    identifiers::name_tables(&mut statement, catalog)?;
    subqueries::settle(&mut statement, catalog).await?;
    let plan = columns::plan(&context.state(), catalog, statement).await?;
    // The guard's second lock, from DataFusion's side.
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(&plan)?;
    unsound::check(&plan)?;
    let context = &few_values_at_a_time(context, &plan)?;
    match begun(context, plan.clone()).await {
        Err(error) if is_out_of_memory(&error) && joins(context, &plan)? => {
            wait_for_memory(context).await;
            Ok(begun(&sorting_joins(context), plan).await?)
        }
        rows => Ok(rows?),
    }
}

/// The same context, for plans of so many columns with fewer rows at a time than it has for others.
fn few_values_at_a_time(context: &SessionContext, plan: &LogicalPlan) -> Result<SessionContext, DataFusionError> {
    let config = context.copied_config();
    let columns = match widest(plan)? {
        // of a table of many columns few may be needed
        columns if columns > COLUMNS => widest(&context.state().optimize(plan)?)?,
        columns => columns,
    };
    if columns <= COLUMNS {
        return Ok(context.clone());
    }
    let rows = (config.batch_size() * COLUMNS / columns).max(1);
    Ok(with_config(context, config.with_batch_size(rows)))
}

/// Columns of a table for which a batch has all its rows.
const COLUMNS: usize = 64;

/// The most columns of a step of a plan.
fn widest(plan: &LogicalPlan) -> Result<usize, DataFusionError> {
    let mut columns = 0;
    plan.apply_with_subqueries(|node| {
        columns = columns.max(node.schema().fields().len());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(columns)
}

fn with_config(context: &SessionContext, config: SessionConfig) -> SessionContext {
    SessionContext::new_with_state(SessionStateBuilder::new_from_existing(context.state()).with_config(config).build())
}

/// The rows of a plan, once the first of them are there: what they need memory for has it by then, most of the time.
async fn begun(context: &SessionContext, plan: LogicalPlan) -> Result<SendableRecordBatchStream, DataFusionError> {
    let mut rows = context.execute_logical_plan(plan).await?.execute_stream().await?;
    let schema = rows.schema();
    let first = rows.try_next().await?.map(Ok);
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(first).chain(rows))))
}

/// Waits until what a plan held is given back, by its tasks, which end a bit later than it does.
async fn wait_for_memory(context: &SessionContext) {
    let pool = &context.runtime_env().memory_pool;
    for _ in 0..100 {
        if pool.reserved() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn is_out_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

fn joins(context: &SessionContext, plan: &LogicalPlan) -> Result<bool, DataFusionError> {
    context.state().optimize(plan)?.exists(|node| Ok(matches!(node, LogicalPlan::Join(_))))
}

/// The same context for joins that sort both sides, which takes longer and can spill: one that hashes a side needs memory
/// for all of it.
fn sorting_joins(context: &SessionContext) -> SessionContext {
    let config = context.copied_config();
    // DataFusion sorts for a join that it divides
    let partitions = config.target_partitions().max(2);
    let config = config.with_target_partitions(partitions).set_bool("datafusion.optimizer.prefer_hash_join", false);
    with_config(context, config)
}

#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used)]
mod tests;
