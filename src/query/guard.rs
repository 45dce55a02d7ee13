//! Only reading: says no to every statement that would write, set, or read beside the lake.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, GroupByExpr, NamedWindowExpr, Query, Select, SetExpr, SetOperator, SetQuantifier,
    TableFactor, Visit, Visitor, WindowType,
};

use super::QueryError;

/// Table functions that compute and read nothing.
const FUNCTIONS: [&str; 3] = ["generate_series", "range", "unnest"];

/// Passes a statement that only reads tables of the lake.
pub fn check(statement: &Statement) -> Result<(), QueryError> {
    match statement {
        Statement::Statement(statement) => check_sql(statement),
        Statement::Explain(explain) => check(&explain.statement),
        Statement::CopyTo(_) => {
            Err(QueryError::sql("query only reads: COPY is refused; to write an answer to a file use --output FILE"))
        }
        Statement::CreateExternalTable(_) => Err(refused("CREATE EXTERNAL TABLE")),
        Statement::Reset(_) => Err(refused("RESET")),
    }
}

fn check_sql(statement: &ast::Statement) -> Result<(), QueryError> {
    match statement {
        ast::Statement::Query(query) => match query.visit(&mut Reads) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        },
        ast::Statement::Explain { statement, .. } => check_sql(statement),
        ast::Statement::ExplainTable { .. }
        | ast::Statement::ShowTables { .. }
        | ast::Statement::ShowColumns { .. }
        | ast::Statement::ShowSchemas { .. }
        | ast::Statement::ShowDatabases { .. } => Ok(()),
        other => {
            let text = other.to_string();
            let words = text.split_whitespace();
            // `SHOW GRANTS` is not refused for being a SHOW.
            let shown = if text.starts_with("SHOW") { 2 } else { 1 };
            Err(refused(&words.take(shown).collect::<Vec<_>>().join(" ")))
        }
    }
}

fn refused(what: &str) -> QueryError {
    QueryError::sql(format!(
        "query only reads: {what} is refused; it takes SELECT, WITH, VALUES, EXPLAIN, SHOW TABLES, \
         SHOW SCHEMAS and DESCRIBE"
    ))
}

/// The error for what the planner would pass over.
fn ignored(what: &str, instead: &str) -> QueryError {
    QueryError::sql(format!("{what} is not carried out; {instead}"))
}

/// Passes what combines sets; of two that may hold a row several times the planner makes sets.
fn multiset(body: &SetExpr) -> ControlFlow<Box<QueryError>> {
    let SetExpr::SetOperation { left, op, set_quantifier, right } = body else { return ControlFlow::Continue(()) };
    let all = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
    if all && !matches!(op, SetOperator::Union) {
        return stop(ignored(&format!("{op} ALL"), "number equal rows (row_number) and leave ALL out"));
    }
    multiset(left)?;
    multiset(right)
}

struct Reads;

impl Visitor for Reads {
    type Break = Box<QueryError>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        match query.body.as_ref() {
            SetExpr::Insert(_) => stop(refused("INSERT")),
            SetExpr::Update(_) => stop(refused("UPDATE")),
            SetExpr::Delete(_) => stop(refused("DELETE")),
            SetExpr::Merge(_) => stop(refused("MERGE")),
            body => multiset(body),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = &select.group_by;
        let derived = |window: &ast::NamedWindowDefinition| match &window.1 {
            NamedWindowExpr::NamedWindow(_) => true,
            NamedWindowExpr::WindowSpec(spec) => spec.window_name.is_some(),
        };
        if select.into.is_some() {
            return stop(refused("SELECT INTO"));
        }
        if let Some(modifier) = modifiers.first() {
            return stop(ignored(
                &format!("GROUP BY … {modifier}"),
                "write GROUP BY ROLLUP (…), CUBE (…) or GROUPING SETS",
            ));
        }
        if select.prewhere.is_some() {
            return stop(ignored("PREWHERE", "write WHERE"));
        }
        match select.named_window.iter().find(|window| derived(window)) {
            Some(window) => stop(ignored(&format!("WINDOW {window}"), "write the window out")),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Function(Function { over: Some(WindowType::WindowSpec(spec)), .. }) if spec.window_name.is_some() => {
                stop(ignored(&format!("OVER ({spec})"), "write the window out, or its name without parentheses"))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        let (name, called) = match factor {
            TableFactor::Table { name, args, .. } => (name, args.is_some()),
            TableFactor::Function { name, .. } => (name, true),
            TableFactor::TableFunction { expr, .. } => {
                return stop(QueryError::sql(format!("TABLE({expr}) is refused: {ONLY_LAKE}")));
            }
            _ => return ControlFlow::Continue(()),
        };
        let text = name.to_string();
        if let TableFactor::Table { sample: Some(_), .. } = factor {
            return stop(ignored("TABLESAMPLE", "write WHERE random() < 0.1"));
        }
        if let TableFactor::Table { partitions, .. } = factor
            && !partitions.is_empty()
        {
            return stop(ignored("PARTITION (…)", "write a WHERE over the columns of the partition"));
        }
        if called && !FUNCTIONS.contains(&text.to_lowercase().as_str()) {
            return stop(QueryError::sql(format!("{text}(…) is refused: {ONLY_LAKE}")));
        }
        let is_text = |part: &ast::ObjectNamePart| part.as_ident().is_some_and(|ident| ident.quote_style == Some('\''));
        if name.0.iter().any(is_text) {
            return stop(QueryError::sql(format!("FROM {text} is refused: {ONLY_LAKE}")));
        }
        ControlFlow::Continue(())
    }
}

const ONLY_LAKE: &str = "query reads the tables of the lake, no files; see SHOW TABLES";

fn stop(error: QueryError) -> ControlFlow<Box<QueryError>> {
    ControlFlow::Break(Box::new(error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn verdict(sql: &str) -> Result<(), String> {
        let statements = DFParser::parse_sql(sql).unwrap();
        check(&statements[0]).map_err(|error| error.to_string())
    }

    #[test]
    fn what_only_reads_passes() {
        for sql in [
            "SELECT 1",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "VALUES (1), (2)",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW TABLES",
            "SHOW TABLES FROM fossil LIKE 'c%'",
            "SHOW SCHEMAS",
            "SHOW DATABASES",
            "DESCRIBE fossil.coal_prod",
            "DESC fossil.coal_prod",
            "SHOW COLUMNS FROM fossil.coal_prod",
            "SELECT * FROM generate_series(1, 3)",
        ] {
            assert_eq!(verdict(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn what_writes_or_sets_is_refused_by_name() {
        for (sql, name) in [
            ("COPY (SELECT 1) TO 'x.csv'", "COPY"),
            ("INSERT INTO t VALUES (1)", "INSERT"),
            ("UPDATE t SET a = 1", "UPDATE"),
            ("DELETE FROM t", "DELETE"),
            ("CREATE TABLE t AS SELECT 1", "CREATE"),
            ("CREATE VIEW v AS SELECT 1", "CREATE"),
            ("DROP TABLE t", "DROP"),
            ("SET datafusion.execution.batch_size = 1", "SET"),
            ("RESET datafusion.execution.batch_size", "RESET"),
            ("TRUNCATE TABLE t", "TRUNCATE"),
            ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "CREATE EXTERNAL TABLE"),
            ("EXPLAIN ANALYZE INSERT INTO t VALUES (1)", "INSERT"),
            ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", "INSERT"),
            ("SELECT 1 INTO t", "SELECT INTO"),
            ("SHOW GRANTS", "SHOW GRANTS"),
        ] {
            let error = verdict(sql).unwrap_err();
            assert!(error.starts_with(&format!("query only reads: {name} is refused")), "{sql}: {error}");
        }
    }

    #[test]
    fn files_are_no_tables() {
        for sql in [
            "SELECT * FROM 'file.parquet'",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT 1 WHERE EXISTS (SELECT * FROM parquet_scan('x'))",
        ] {
            assert!(verdict(sql).unwrap_err().contains("no files"), "{sql}");
        }
    }
}
