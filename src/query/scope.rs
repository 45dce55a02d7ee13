//! All names a statement could mean, wherever in it they are visible: what is asked when a column is
//! not found in its own scope, because it belongs to an outer SELECT or is an alias.

use std::ops::ControlFlow;

use datafusion::common::{Column, TableReference};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Query, Select, SelectItem, TableFactor, VisitorMut};

use super::QueryError;
use super::catalog::Catalog;
use super::identifiers;

/// The columns of every table and the aliases of a statement.
#[derive(Debug, Default)]
pub struct Scope {
    pub columns: Vec<Column>,
}

/// Gathers the names of a statement whose tables are already named exactly.
pub async fn of(statement: &mut Statement, catalog: &Catalog) -> Result<Scope, QueryError> {
    let mut names = Names::default();
    let _ = identifiers::visit(statement, &mut names);
    let mut columns = Vec::new();
    for Known { name, schema, table } in names.tables {
        let Some(provider) = catalog.open(&schema, &table).await? else {
            continue;
        };
        let relation = TableReference::bare(name);
        let fields = provider.schema();
        let fields = fields.fields().iter();
        columns.extend(fields.map(|field| Column::new(Some(relation.clone()), field.name())));
    }
    // What a subquery gives out is one of its aliases or a column of a table, under its own name.
    let inner = columns.iter().map(|column| column.name.clone());
    let given = inner.chain(names.aliases).collect::<Vec<_>>();
    for name in &names.derived {
        let relation = TableReference::bare(name.as_str());
        let given = given.iter();
        columns.extend(given.map(|column| Column::new(Some(relation.clone()), column)));
    }
    columns.extend(given.into_iter().map(Column::new_unqualified));
    Ok(Scope { columns })
}

struct Known {
    name: String,
    schema: String,
    table: String,
}

#[derive(Default)]
struct Names {
    tables: Vec<Known>,
    /// Subqueries and CTEs, as the FROM names them.
    derived: Vec<String>,
    /// Columns that the statement itself names.
    aliases: Vec<String>,
}

impl VisitorMut for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let columns = cte.alias.columns.iter();
            self.aliases.extend(columns.map(|column| column.name.value.clone()));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                self.aliases.push(alias.value.clone());
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let Some(name) = identifiers::name_of(factor) else {
            return ControlFlow::Continue(());
        };
        if let TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } = factor
        {
            let columns = alias.columns.iter();
            self.aliases.extend(columns.map(|column| column.name.value.clone()));
        }
        match identifiers::table_of(factor) {
            Some((schema, table)) => self.tables.push(Known { name, schema, table }),
            None => self.derived.push(name),
        }
        ControlFlow::Continue(())
    }
}
