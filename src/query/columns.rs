//! Columns, resolved together with the planner: only it knows what each scope has.
//!
//! A statement is planned as it was typed, so every exact name wins. Where the planner misses a
//! column it says which ones there are; the one that equals it ignoring case is written in its place,
//! and the statement is planned again. Tables are opened once, so a further round costs little.

use std::ops::ControlFlow;

use datafusion::common::{Column, SchemaError, Span, TableReference};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, ObjectNamePart, Select, SelectItem, VisitorMut,
    WildcardAdditionalOptions,
};

use super::QueryError;
use super::catalog::Catalog;
use super::identifiers::{self, Meant};
use super::scope::{self, Scope};

/// More rounds than a statement has names that need one; a name that flips back and forth between
/// two scopes ends here.
const ROUNDS: usize = 200;

/// Plans a statement whose tables are already named exactly.
pub async fn plan(
    state: &SessionState,
    catalog: &Catalog,
    mut statement: Statement,
) -> Result<LogicalPlan, QueryError> {
    let mut scope = None;
    for _ in 0..ROUNDS {
        let error = match state.statement_to_plan(statement.clone()).await {
            Ok(plan) => return Ok(plan),
            Err(error) => error,
        };
        let mut missing = Vec::new();
        collect_missing(&error, None, &mut missing);
        if missing.is_empty() {
            return Err(error.into());
        }
        let scope = match &scope {
            Some(scope) => scope,
            None => scope.insert(scope::of(&mut statement, catalog).await?),
        };
        let mut rewritten = false;
        for missing in &missing {
            let name = missing.resolve(&mut statement, scope)?;
            // another one of this round may have been written everywhere
            rewritten |= missing.rewrite(&mut statement, &name, missing.is_anywhere(scope, &name));
        }
        if !rewritten {
            return Err(error.into());
        }
    }
    Err(QueryError::sql("the names in this statement differ only in case between its parts; write them exactly"))
}

/// A column that the planner did not find.
#[derive(Debug)]
struct Missing {
    /// As it was typed, its table first.
    typed: Vec<String>,
    /// Where it stands, if the planner kept it.
    place: Option<Span>,
    /// What there is in its scope.
    valid: Vec<Column>,
}

fn collect_missing(error: &DataFusionError, place: Option<Span>, found: &mut Vec<Missing>) {
    match error {
        DataFusionError::Diagnostic(diagnostic, inner) => {
            collect_missing(inner, diagnostic.span.or(place), found);
        }
        DataFusionError::Context(_, inner) => collect_missing(inner, place, found),
        DataFusionError::Shared(inner) => collect_missing(inner, place, found),
        DataFusionError::Collection(errors) => {
            for error in errors {
                collect_missing(error, place, found);
            }
        }
        DataFusionError::SchemaError(error, _) => {
            if let SchemaError::FieldNotFound { field, valid_fields } = error.as_ref() {
                let mut typed = relation_parts(field.relation.as_ref());
                typed.push(field.name.clone());
                found.push(Missing { typed, place: field.spans().first().or(place), valid: valid_fields.clone() });
            }
        }
        _ => {}
    }
}

fn relation_parts(relation: Option<&TableReference>) -> Vec<String> {
    relation.map_or_else(Vec::new, |relation| {
        let parts = [relation.catalog(), relation.schema(), Some(relation.table())];
        parts.into_iter().flatten().map(str::to_owned).collect()
    })
}

impl Missing {
    /// The name that is meant, in as many parts as were typed.
    fn resolve(&self, statement: &mut Statement, scope: &Scope) -> Result<Vec<String>, QueryError> {
        let own = self.valid.iter().filter_map(|column| self.spelled(column));
        let meant_here = self.choose(own.collect());
        let meant = match meant_here {
            // A column of an outer SELECT, or an alias: the planner names only the inner ones.
            Meant::Nothing => {
                let all = scope.columns.iter();
                self.choose(all.filter_map(|column| self.spelled(column)).collect())
            }
            meant => meant,
        };
        match meant {
            Meant::One(name) if name != self.typed => Ok(name),
            Meant::Several(names) => {
                let names = names.iter().map(|name| name.join(".")).collect::<Vec<_>>();
                Err(identifiers::several(&self.typed.join("."), &names))
            }
            Meant::One(_) | Meant::Nothing => Err(self.unknown(statement)),
        }
    }

    /// A candidate written with as many parts as were typed, if it is the same ignoring case.
    fn spelled(&self, column: &Column) -> Option<Vec<String>> {
        let mut parts = relation_parts(column.relation.as_ref());
        parts.push(column.name.clone());
        let parts = parts.split_off(parts.len().checked_sub(self.typed.len())?);
        let mut pairs = parts.iter().zip(&self.typed);
        let same = pairs.all(|(name, typed)| name.to_lowercase() == typed.to_lowercase());
        same.then_some(parts)
    }

    /// The exactest of the candidates: table and column are each exact first.
    fn choose(&self, mut candidates: Vec<Vec<String>>) -> Meant<Vec<String>> {
        for (at, typed) in self.typed.iter().enumerate() {
            if candidates.iter().any(|name| name.get(at) == Some(typed)) {
                candidates.retain(|name| name.get(at) == Some(typed));
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        match candidates.len() {
            0 => Meant::Nothing,
            1 => Meant::One(candidates.swap_remove(0)),
            _ => Meant::Several(candidates),
        }
    }

    fn unknown(&self, statement: &mut Statement) -> QueryError {
        let mut visitor = Rewrite::find(self);
        let _ = identifiers::visit(statement, &mut visitor);
        let place = self
            .place
            .map_or_else(String::new, |place| format!("line {}, column {}: ", place.start.line, place.start.column));
        let name = self.typed.join(".");
        let text = |name: &str| format!("if it is text, write '{name}' in single quotes");
        let mut columns = self.valid.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        columns.dedup();
        let near = identifiers::did_you_mean(self.typed.last().unwrap_or(&name), &columns);
        let known = match columns.is_empty() {
            true => String::new(),
            false => format!("; the columns are {}", identifiers::list(&columns)),
        };
        QueryError::sql(match (visitor.quote, self.typed.len()) {
            (Some('"'), 1) => format!("{place}\"{name}\" is no column; {}", text(&name)),
            (_, 1) if near.is_empty() => {
                format!("{place}{name} is no column; {}{known}", text(&name))
            }
            _ => format!("{place}{name} is no column{near}{known}"),
        })
    }

    /// True if `name` is what is meant wherever it is typed so, in whatever SELECT.
    fn is_anywhere(&self, scope: &Scope, name: &[String]) -> bool {
        let all = scope.columns.iter().filter_map(|column| self.spelled(column)).collect();
        matches!(self.choose(all), Meant::One(meant) if meant == name)
    }

    /// Writes the name at its place; wherever it is typed the same, if it means the same there or has no known place.
    fn rewrite(&self, statement: &mut Statement, name: &[String], everywhere: bool) -> bool {
        let mut visitor = Rewrite::to(self, name);
        visitor.place = visitor.place.filter(|_| !everywhere);
        let _ = identifiers::visit(statement, &mut visitor);
        if visitor.hits == 0 && visitor.place.is_some() {
            visitor.place = None;
            let _ = identifiers::visit(statement, &mut visitor);
        }
        visitor.hits > 0
    }
}

struct Rewrite<'a> {
    typed: &'a [String],
    to: &'a [String],
    place: Option<Span>,
    hits: usize,
    /// How the last one met was quoted.
    quote: Option<char>,
}

impl<'a> Rewrite<'a> {
    fn to(missing: &'a Missing, to: &'a [String]) -> Self {
        Self { typed: &missing.typed, to, place: missing.place, hits: 0, quote: None }
    }

    /// Changes nothing.
    fn find(missing: &'a Missing) -> Self {
        Self::to(missing, &missing.typed)
    }

    fn name(&mut self, idents: &mut [Ident]) {
        let spans = idents.iter().map(|ident| Span::try_from_sqlparser_span(ident.span));
        let place = Span::union_iter(spans.flatten());
        let same = idents.len() >= self.typed.len()
            && idents.iter().zip(self.typed).all(|(ident, typed)| ident.value == *typed);
        if !same || (self.place.is_some() && self.place != place) {
            return;
        }
        for (ident, name) in idents.iter_mut().zip(self.to) {
            ident.value.clone_from(name);
            self.quote = ident.quote_style;
        }
        self.hits += 1;
    }
}

impl VisitorMut for Rewrite<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.name(std::slice::from_mut(ident)),
            Expr::CompoundIdentifier(idents) => self.name(idents),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// The columns that are no expressions: `USING (…)` and `* EXCEPT (…)`.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let joins = select.from.iter_mut().flat_map(|from| &mut from.joins);
        for join in joins {
            for column in using(&mut join.join_operator) {
                self.name(std::slice::from_mut(column));
            }
        }
        for item in &mut select.projection {
            if let SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) = item {
                for column in excepted(options) {
                    self.name(std::slice::from_mut(column));
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn using(join: &mut JoinOperator) -> Vec<&mut Ident> {
    let Some(JoinConstraint::Using(columns)) = identifiers::constraint(join) else {
        return Vec::new();
    };
    let parts = columns.iter_mut().filter_map(|name| name.0.last_mut());
    let idents = parts.filter_map(|part| match part {
        ObjectNamePart::Identifier(ident) => Some(ident),
        ObjectNamePart::Function(_) => None,
    });
    idents.collect()
}

fn excepted(options: &mut WildcardAdditionalOptions) -> Vec<&mut Ident> {
    use datafusion::sql::sqlparser::ast::ExcludeSelectItem;
    let mut idents = Vec::new();
    if let Some(except) = &mut options.opt_except {
        idents.push(&mut except.first_element);
        idents.extend(&mut except.additional_elements);
    }
    let names = match &mut options.opt_exclude {
        Some(ExcludeSelectItem::Single(name)) => std::slice::from_mut(name),
        Some(ExcludeSelectItem::Multiple(names)) => names,
        None => &mut [],
    };
    for part in names.iter_mut().filter_map(|name| name.0.last_mut()) {
        if let ObjectNamePart::Identifier(ident) = part {
            idents.push(ident);
        }
    }
    idents
}
