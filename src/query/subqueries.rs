//! A column's name in a subquery means one of its own FROM before one of the query around it, also where only that one is
//! spelled as it is typed: the planner, which compares names exactly, would take it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Select, SelectItem, VisitorMut};

use super::QueryError;
use super::catalog::Catalog;
use super::identifiers::{self, Meant};

/// Spells such names as the subquery's tables do. Tables are already named exactly.
pub async fn settle(statement: &mut Statement, catalog: &Catalog) -> Result<(), QueryError> {
    let mut selects = Selects::default();
    let _ = identifiers::visit(statement, &mut selects);
    if selects.count < 2 {
        return Ok(());
    }
    let mut columns = HashMap::new();
    for (schema, table) in selects.tables {
        if let Some(provider) = catalog.open(&schema, &table).await? {
            let names = provider.schema().fields().iter().map(|field| field.name().clone()).collect();
            columns.insert((schema, table), names);
        }
    }
    let _ = identifiers::visit(statement, &mut Settling { columns, open: vec![] });
    Ok(())
}

type TableName = (String, String);

/// How many SELECTs a statement has, and the tables in it.
#[derive(Default)]
struct Selects {
    count: usize,
    tables: Vec<TableName>,
}

impl VisitorMut for Selects {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.count += 1;
        self.tables.extend(identifiers::factors(select).filter_map(identifiers::table_of));
        ControlFlow::Continue(())
    }
}

struct Settling {
    columns: HashMap<TableName, Vec<String>>,
    /// The names that the SELECTs around the one at hand have of their own, outermost first; `None` where not all are known.
    open: Vec<Option<Vec<String>>>,
}

impl Settling {
    fn own(&self, select: &Select) -> Option<Vec<String>> {
        let mut names = vec![];
        for factor in identifiers::factors(select) {
            names.extend_from_slice(self.columns.get(&identifiers::table_of(factor)?)?);
        }
        let aliases = select.projection.iter().filter_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
            _ => None,
        });
        names.extend(aliases);
        Some(names)
    }
}

impl VisitorMut for Settling {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let own = self.own(select);
        self.open.push(own);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<()> {
        self.open.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let (Expr::Identifier(ident), [_, .., Some(own)]) = (expr, &self.open[..])
            && let Meant::One(name) = identifiers::meant(&ident.value, own.iter(), |name| name)
        {
            ident.value.clone_from(name);
        }
        ControlFlow::Continue(())
    }
}
