//! Which name is meant: exactly the one typed, else the only one that equals it ignoring case.
//!
//! Tables and CTEs are known before planning, so their names are set right here, in one pass over
//! the statement; columns depend on scopes, and are settled with the planner in [`super::columns`].

use std::ops::ControlFlow;

use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, TableFactor, VisitMut, VisitorMut,
};

use super::QueryError;
use super::catalog::{Catalog, LAKE};

/// How many names an error lists before it only counts them.
const LISTED: usize = 30;

/// What the names at hand say to a name that was typed.
#[derive(Debug, PartialEq)]
pub enum Meant<T> {
    One(T),
    Several(Vec<T>),
    Nothing,
}

/// The rule of this module. `spelling` gives the part of a candidate that is compared.
pub fn meant<T: Clone + PartialEq>(
    typed: &str,
    candidates: impl IntoIterator<Item = T>,
    spelling: impl Fn(&T) -> &str,
) -> Meant<T> {
    let lower = typed.to_lowercase();
    let mut near = Vec::new();
    for candidate in candidates {
        if spelling(&candidate).to_lowercase() == lower && !near.contains(&candidate) {
            near.push(candidate);
        }
    }
    if near.iter().any(|candidate| spelling(candidate) == typed) {
        near.retain(|candidate| spelling(candidate) == typed);
    }
    match near.len() {
        0 => Meant::Nothing,
        1 => Meant::One(near.swap_remove(0)),
        _ => Meant::Several(near),
    }
}

/// The table that a one-, two- or three-part name means.
pub fn table(parts: &[&str], catalog: &Catalog) -> Result<(String, String), QueryError> {
    match parts {
        [table] => table_of_any_schema(table, catalog),
        [schema, table] => table_of_schema(schema, table, catalog),
        [lake, schema, table] if lake.eq_ignore_ascii_case(LAKE) => table_of_schema(schema, table, catalog),
        _ => Err(QueryError::sql(format!("{} is no table; a table is written schema.table", parts.join(".")))),
    }
}

/// The schema of the lake that a name means.
pub fn schema(typed: &str, catalog: &Catalog) -> Result<String, QueryError> {
    match meant(typed, catalog.qualifiers(), |name| name) {
        Meant::One(name) => Ok(name.to_owned()),
        Meant::Several(names) => Err(several(typed, &names)),
        Meant::Nothing => {
            let schemas = catalog.schemas().collect::<Vec<_>>();
            if schemas.is_empty() {
                return Err(QueryError::sql("the lake has no table yet; lakemerge run makes them"));
            }
            Err(QueryError::sql(format!(
                "no schema {typed} in the lake{}; the schemas are {}",
                did_you_mean(typed, &schemas),
                list(&schemas)
            )))
        }
    }
}

fn table_of_schema(schema_typed: &str, typed: &str, catalog: &Catalog) -> Result<(String, String), QueryError> {
    if looks_like_a_file(&format!("{schema_typed}.{typed}")) && schema(schema_typed, catalog).is_err() {
        return Err(no_file(&format!("{schema_typed}.{typed}")));
    }
    let schema = schema(schema_typed, catalog)?;
    let tables = catalog.tables_of(&schema);
    match meant(typed, tables.iter().copied(), |name| name) {
        Meant::One(table) => Ok((schema, table.to_owned())),
        Meant::Several(names) => Err(several(typed, &names)),
        Meant::Nothing => Err(QueryError::sql(format!(
            "no table {typed} in schema {schema}{}; its tables are {}",
            did_you_mean(typed, &tables),
            list(&tables)
        ))),
    }
}

fn table_of_any_schema(typed: &str, catalog: &Catalog) -> Result<(String, String), QueryError> {
    match meant(typed, catalog.tables(), |(_, table)| table) {
        Meant::One((schema, table)) => Ok((schema.to_owned(), table.to_owned())),
        Meant::Several(found) => {
            let names = found.iter().map(|(s, t)| format!("{s}.{t}"));
            Err(several(typed, &names.collect::<Vec<_>>()))
        }
        Meant::Nothing if looks_like_a_file(typed) => Err(no_file(typed)),
        Meant::Nothing => {
            let tables = catalog.tables().map(|(_, table)| table);
            let near = did_you_mean(typed, &tables.collect::<Vec<_>>());
            let all = catalog.tables().map(|(s, t)| format!("{s}.{t}"));
            let all = all.collect::<Vec<_>>();
            Err(QueryError::sql(if all.is_empty() {
                format!("no table {typed}: the lake has no tables yet")
            } else {
                format!("no table {typed} in any schema{near}; the tables are {}", list(&all))
            }))
        }
    }
}

fn looks_like_a_file(name: &str) -> bool {
    const ENDINGS: [&str; 5] = [".parquet", ".csv", ".json", ".ndjson", ".gz"];
    let name = name.to_lowercase();
    name.contains('/') || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn no_file(name: &str) -> QueryError {
    QueryError::sql(format!("{name} is no table: query reads the tables of the lake, no files; see SHOW TABLES"))
}

/// The error for a name that could be several, with each way to write it.
pub fn several<T: AsRef<str>>(typed: &str, names: &[T]) -> QueryError {
    let names = names.iter().map(|name| quoted(name.as_ref()));
    let names = names.collect::<Vec<_>>().join(" or ");
    QueryError::sql(format!("{typed} could be {names}; write the one you mean"))
}

fn quoted(name: &str) -> String {
    let parts = name.split('.').map(|part| format!("\"{part}\""));
    parts.collect::<Vec<_>>().join(".")
}

/// `; did you mean …?` when a name is close enough to be a slip.
pub fn did_you_mean<T: AsRef<str>>(typed: &str, names: &[T]) -> String {
    let lower = typed.to_lowercase();
    let close = |name: &str| {
        let name = name.to_lowercase();
        let distance = levenshtein(&lower, &name);
        let slip = distance * 3 <= lower.chars().count().max(name.chars().count());
        let part = lower.len() >= 3 && name.contains(&lower);
        (slip || part).then_some(distance)
    };
    let near = names.iter().filter_map(|name| {
        let name = name.as_ref();
        close(name).map(|distance| (distance, name))
    });
    near.min().map(|(_, name)| format!("; did you mean {name}?")).unwrap_or_default()
}

/// Names as a list that stays readable.
pub fn list<T: AsRef<str>>(names: &[T]) -> String {
    let shown = names.iter().take(LISTED).map(AsRef::as_ref);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Writes every table of a statement as the `schema.table` it means, and every CTE as it was named.
pub fn name_tables(statement: &mut Statement, catalog: &Catalog) -> Result<(), QueryError> {
    let mut namer = Namer { catalog, ctes: Vec::new(), called: false };
    match visit(statement, &mut namer) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Walks the SQL inside a statement of DataFusion's.
pub fn visit<V: VisitorMut>(statement: &mut Statement, visitor: &mut V) -> ControlFlow<V::Break> {
    match statement {
        Statement::Statement(statement) => statement.visit(visitor),
        Statement::Explain(explain) => visit(&mut explain.statement, visitor),
        // Refused before anyone walks them.
        Statement::CopyTo(_) | Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    }
}

struct Namer<'a> {
    catalog: &'a Catalog,
    /// The CTEs in scope, outermost first.
    ctes: Vec<String>,
    /// The next relation is the name of a table function.
    called: bool,
}

impl VisitorMut for Namer<'_> {
    type Break = Box<QueryError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let Some(with) = &mut query.with else {
            return ControlFlow::Continue(());
        };
        for cte in &mut with.cte_tables {
            // Unless recursive, a CTE does not see itself: `WITH t AS (SELECT * FROM t)` reads the
            // table. The visitor comes by again, and then finds the table's full name.
            if !with.recursive {
                cte.visit(self)?;
            }
            self.ctes.push(cte.alias.name.value.clone());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let defined = query.with.as_ref().map_or(0, |with| with.cte_tables.len());
        self.ctes.truncate(self.ctes.len().saturating_sub(defined));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        self.called = matches!(factor, TableFactor::Table { args: Some(_), .. });
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Self::Break> {
        if std::mem::take(&mut self.called) {
            return ControlFlow::Continue(());
        }
        match self.name(relation) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        name_wildcards(select);
        ControlFlow::Continue(())
    }
}

impl Namer<'_> {
    fn name(&self, relation: &mut ObjectName) -> Result<(), QueryError> {
        let idents = relation.0.iter().filter_map(ObjectNamePart::as_ident);
        let idents = idents.cloned().collect::<Vec<_>>();
        let parts = idents.iter().map(|ident| ident.value.as_str());
        let parts = parts.collect::<Vec<_>>();
        if let [typed] = parts[..] {
            // as in any scope, what is nearer hides what is farther
            match meant(typed, self.ctes.iter().map(String::as_str), |name| name) {
                Meant::One(cte) => return write(relation, &idents, &[cte]),
                Meant::Several(ctes) => return Err(several(typed, &ctes)),
                Meant::Nothing => {}
            }
        }
        let (schema, table) = table(&parts, self.catalog)?;
        write(relation, &idents, &[&schema, &table])
    }
}

/// Puts names in the place of others, which keep their places in the text and their quotes.
fn write(relation: &mut ObjectName, typed: &[Ident], names: &[&str]) -> Result<(), QueryError> {
    let Some(last) = typed.last() else {
        return Err(QueryError::sql(format!("{relation} is no table's name")));
    };
    let missing = names.len().saturating_sub(typed.len());
    let superfluous = typed.len().saturating_sub(names.len());
    let places = std::iter::repeat_n(last, missing).chain(&typed[superfluous..]);
    let idents = places.zip(names).map(|(place, name)| Ident {
        value: (*name).to_owned(),
        quote_style: place.quote_style,
        span: place.span,
    });
    *relation = ObjectName::from(idents.collect::<Vec<_>>());
    Ok(())
}

/// Sets the table of `T.*` right: the planner's error about it names no candidates, and it asks for the schema of a table
/// that has no alias.
fn name_wildcards(select: &mut Select) {
    let mut names = Vec::new();
    for factor in factors(select) {
        let whole = match factor {
            TableFactor::Table { name, alias: None, .. } => name.0.clone(),
            _ => vec![],
        };
        names.extend(name_of(factor).map(|name| (name, whole)));
    }
    for item in &mut select.projection {
        if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
            && let Some(ObjectNamePart::Identifier(ident)) = name.0.last_mut()
            && let Meant::One((meant, whole)) = meant(&ident.value, names.iter().cloned(), |(name, _)| name)
        {
            ident.value = meant;
            if name.0.len() < whole.len() {
                name.0 = whole;
            }
        }
    }
}

/// The tables, subqueries and so on of a SELECT's FROM.
pub fn factors(select: &Select) -> impl Iterator<Item = &TableFactor> {
    select
        .from
        .iter()
        .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)))
}

/// What says which rows of the two sides of a join belong together, if anything does.
pub fn constraint(join: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match join {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => Some(constraint),
        _ => None,
    }
}

/// The schema and table that a part of a FROM reads, if it is a table that was named.
pub fn table_of(factor: &TableFactor) -> Option<(String, String)> {
    let TableFactor::Table { name, args: None, .. } = factor else { return None };
    let [schema, table] = &name.0[..] else { return None };
    Some((schema.as_ident()?.value.clone(), table.as_ident()?.value.clone()))
}

/// The name by which the rest of a SELECT knows a table of its FROM.
pub fn name_of(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. } => Some(alias.name.value.clone()),
        TableFactor::Table { name, .. } => {
            let ident = name.0.last()?.as_ident()?;
            Some(ident.value.clone())
        }
        _ => None,
    }
}
