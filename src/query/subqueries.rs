//! Names that the planner, which compares them exactly, would take for others without a word: a column of a subquery's own
//! FROM means itself before one of the query around it, also where only that one is spelled as it is typed; and what two
//! sides of a join have in common by name is what they spell alike.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, ObjectNamePart, Query, Select, SelectItem, SetExpr, TableFactor, TableWithJoins,
    VisitMut, VisitorMut,
};

use super::QueryError;
use super::catalog::Catalog;
use super::identifiers::{self, Meant};

/// Spells such names as the subquery's tables do. Tables are already named exactly.
///
/// # Errors
/// A join by names that are spelled in two ways.
pub async fn settle(statement: &mut Statement, catalog: &Catalog) -> Result<(), QueryError> {
    let mut selects = Selects::default();
    let _ = identifiers::visit(statement, &mut selects);
    if selects.count < 2 && !selects.join_by_name {
        return Ok(());
    }
    let mut tables = HashMap::new();
    for (schema, table) in selects.tables {
        if let Some(provider) = catalog.open(&schema, &table).await? {
            let names = provider.schema().fields().iter().map(|field| field.name().clone()).collect();
            tables.insert((schema, table), names);
        }
    }
    let mut settling =
        Settling { columns: Columns { tables, ctes: vec![] }, open: vec![], aliases: vec![], settled: vec![] };
    match identifiers::visit(statement, &mut settling) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

type TableName = (String, String);

/// How many SELECTs a statement has, and the tables in it.
#[derive(Default)]
struct Selects {
    count: usize,
    join_by_name: bool,
    tables: Vec<TableName>,
}

impl VisitorMut for Selects {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.count += 1;
        self.join_by_name |= select.from.iter_mut().any(is_by_name);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        self.tables.extend(identifiers::table_of(factor));
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            self.join_by_name |= is_by_name(table_with_joins);
        }
        ControlFlow::Continue(())
    }
}

fn is_by_name(joined: &mut TableWithJoins) -> bool {
    let mut constraints = joined.joins.iter_mut().filter_map(|join| identifiers::constraint(&mut join.join_operator));
    constraints.any(|constraint| matches!(constraint, JoinConstraint::Natural | JoinConstraint::Using(_)))
}

/// The names of columns, as far as they are known without the planner.
struct Columns {
    tables: HashMap<TableName, Vec<String>>,
    /// Those of the CTEs in scope, outermost first.
    ctes: Vec<(String, Option<Vec<String>>)>,
}

impl Columns {
    fn of_factor(&self, factor: &TableFactor) -> Option<Vec<String>> {
        let (given, alias) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let given = match (identifiers::table_of(factor), &name.0[..]) {
                    (Some(table), _) => self.tables.get(&table).cloned(),
                    (None, [cte]) => self.of_cte(&cte.as_ident()?.value),
                    _ => None,
                };
                (given, alias)
            }
            TableFactor::Derived { subquery, alias, .. } => (self.of_query(subquery), alias),
            TableFactor::NestedJoin { table_with_joins, alias } => (self.of_joined(table_with_joins), alias),
            _ => return None,
        };
        match alias.as_ref().map(|alias| &alias.columns[..]) {
            Some(renamed @ [_, ..]) => Some(renamed.iter().map(|column| column.name.value.clone()).collect()),
            _ => given,
        }
    }

    fn of_cte(&self, name: &str) -> Option<Vec<String>> {
        self.ctes.iter().rev().find(|(cte, _)| cte == name)?.1.clone()
    }

    fn of_joined(&self, joined: &TableWithJoins) -> Option<Vec<String>> {
        let mut names = self.of_factor(&joined.relation)?;
        for join in &joined.joins {
            names.extend(self.of_factor(&join.relation)?);
        }
        Some(names)
    }

    /// What the FROM of a SELECT has.
    fn of_from(&self, select: &Select) -> Option<Vec<String>> {
        let parts: Option<Vec<_>> = select.from.iter().map(|from| self.of_joined(from)).collect();
        Some(parts?.concat())
    }

    /// What a query gives out. A column without a name that can be typed is left out.
    fn of_query(&self, query: &Query) -> Option<Vec<String>> {
        match &query.with {
            // its scope has more CTEs than this one
            Some(_) => None,
            None => self.of_body(&query.body),
        }
    }

    fn of_body(&self, body: &SetExpr) -> Option<Vec<String>> {
        match body {
            SetExpr::Select(select) => self.of_select(select),
            SetExpr::Query(query) => self.of_query(query),
            // the first of several gives the names
            SetExpr::SetOperation { left, .. } => self.of_body(left),
            _ => None,
        }
    }

    fn of_select(&self, select: &Select) -> Option<Vec<String>> {
        let from = self.of_from(select);
        let mut names = vec![];
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => names.push(alias.value.clone()),
                SelectItem::UnnamedExpr(Expr::Identifier(ident)) => names.push(spelled(ident, from.as_ref()?)),
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents)) => {
                    names.push(spelled(idents.last()?, from.as_ref()?));
                }
                SelectItem::UnnamedExpr(_) => {}
                SelectItem::Wildcard(options) if options.opt_except.is_none() && options.opt_exclude.is_none() => {
                    names.extend_from_slice(from.as_ref()?);
                }
                _ => return None,
            }
        }
        Some(names)
    }
}

/// The one of `names` that is meant, or the name as it was typed.
fn spelled(ident: &Ident, names: &[String]) -> String {
    match identifiers::meant(&ident.value, names, |name| name) {
        Meant::One(name) => name.clone(),
        _ => ident.value.clone(),
    }
}

struct Settling {
    columns: Columns,
    /// The names that the SELECTs around the one at hand have of their own, outermost first; `None` where not all are known.
    open: Vec<Option<Vec<String>>>,
    /// The aliases that what is at hand may name, in the same order.
    aliases: Vec<Vec<String>>,
    /// What their WHERE says, in the same order, taken out once it is settled.
    settled: Vec<Option<Expr>>,
}

impl Settling {
    /// Refuses joins by names that are spelled in two ways: the planner would find nothing in common.
    fn check_joins(&self, joined: &mut TableWithJoins) -> ControlFlow<Box<QueryError>> {
        let Some(mut left) = self.columns.of_factor(&joined.relation) else { return ControlFlow::Continue(()) };
        for join in &mut joined.joins {
            let Some(right) = self.columns.of_factor(&join.relation) else { break };
            let by_name = match identifiers::constraint(&mut join.join_operator) {
                Some(JoinConstraint::Natural) => left.clone(),
                Some(JoinConstraint::Using(names)) => {
                    let idents = names.iter().filter_map(|name| name.0.last().and_then(ObjectNamePart::as_ident));
                    idents.map(|ident| ident.value.clone()).collect()
                }
                _ => vec![],
            };
            for name in by_name {
                let of_side = |side: &[String]| match identifiers::meant(&name, side, |name| name) {
                    Meant::One(name) => Some(name.clone()),
                    _ => None,
                };
                if let (Some(here), Some(there)) = (of_side(&left), of_side(&right))
                    && !left.contains(&there)
                {
                    return ControlFlow::Break(Box::new(QueryError::sql(format!(
                        "the two sides of this join spell {here} and {there}, so they have no column of that name in \
                         common; write ON with the one of each side"
                    ))));
                }
            }
            left.extend(right);
        }
        ControlFlow::Continue(())
    }
}

impl VisitorMut for Settling {
    type Break = Box<QueryError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let names = match &cte.alias.columns[..] {
                [] => self.columns.of_query(&cte.query),
                renamed => Some(renamed.iter().map(|column| column.name.value.clone()).collect()),
            };
            self.columns.ctes.push((cte.alias.name.value.clone(), names));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let defined = query.with.as_ref().map_or(0, |with| with.cte_tables.len());
        let ctes = &mut self.columns.ctes;
        ctes.truncate(ctes.len().saturating_sub(defined));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        for from in &mut select.from {
            self.check_joins(from)?;
        }
        self.open.push(self.columns.of_from(select));
        self.aliases.push(vec![]);
        // a WHERE does not know the aliases
        select.selection.visit(self)?;
        self.settled.push(select.selection.take());
        if let Some(aliases) = self.aliases.last_mut() {
            aliases.extend(select.projection.iter().filter_map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
                _ => None,
            }));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        select.selection = self.settled.pop().flatten();
        self.aliases.pop();
        self.open.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => self.check_joins(table_with_joins),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let (Expr::Identifier(ident), [_, .., Some(own)]) = (expr, &self.open[..])
            && !self.aliases.last().is_some_and(|aliases| aliases.contains(&ident.value))
            && let Meant::One(name) = identifiers::meant(&ident.value, own, |name| name)
        {
            ident.value.clone_from(name);
        }
        ControlFlow::Continue(())
    }
}
