//! The source's columns change: what a table can follow, and how (T-A6, T-A21).
//!
//! New columns are added, NULL in the rows that are there. A type that is the same in Delta changes nothing but what the
//! log says of the source. Any other type needs every value in its new form, in one commit: deltalake can neither read
//! nor write tables with type widening.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Volatility, cast, create_udf};
use datafusion::prelude::{Expr, ident, lit};
use datafusion::scalar::ScalarValue;
use deltalake::kernel::Action;
use lakemerge_source::dms::shape::Shape;
use lakemerge_source::dms::typed::{may_become, retyped, stays};
use lakemerge_source::schema::{Column, DatetimeAs, TableSchema};
use serde_json::json;

use super::table::{Opened, TableRun};
use crate::error::{At, Error, Result};
use crate::job::Definition;
use crate::lake::commit::{Commit, Outcome};
use crate::lake::create;
use crate::lake::position::Facts;
use crate::lake::provider::ScanProvider;
use crate::lake::scan::Scan;
use crate::merge::Counts;
use crate::merge::write::{Layout, Writer};

/// What has happened to a table's columns since its last commit.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Evolution {
    pub added: Vec<String>,
    /// Columns as they were and as they are from now on, with values of another form.
    pub retyped: Vec<(Column, Column)>,
}

/// How columns are found in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    Name,
    Place,
}

impl Evolution {
    /// What leads from the columns of `table` to those that are `configured`, or `None` if they are the same.
    ///
    /// # Errors
    /// What cannot be followed, in words.
    pub fn between(
        table: &TableSchema,
        configured: &Shape,
        arrow: impl Fn(&Column) -> DataType,
        found_by: FoundBy,
    ) -> Result<Option<Evolution>, String> {
        let of_source = configured.source_columns();
        let configured = &configured.schema;
        if table.columns == configured.columns {
            return Ok(None);
        }
        let mut evolution = Evolution::default();
        for column in &table.columns {
            let Some(now) = configured.columns.iter().find(|c| c.name == column.name) else {
                let advice = match found_by {
                    FoundBy::Name => "leave it in the schema, where it is NULL from now on",
                    FoundBy::Place => {
                        "if the source has dropped it, nothing tells without a header (AddColumnName) which records still \
                         have it, so the task must load the table again"
                    }
                };
                return Err(format!(
                    "the table has a column {} that the configured schema has not; {advice}",
                    column.name
                ));
            };
            if arrow(column) == arrow(now) && stays(&column.sql_type, &now.sql_type) {
                continue;
            }
            if !may_become(&column.sql_type, &now.sql_type) {
                return Err(format!(
                    "column {} is {} in the table and {} from now on, and what MySQL makes of its values the files do not tell; \
                     have the task load the table again and run with --reload TABLE",
                    column.name, column.sql_type, now.sql_type
                ));
            }
            evolution.retyped.push((column.clone(), now.clone()));
        }
        let is_new = |column: &&Column| !table.columns.iter().any(|c| c.name == column.name);
        evolution.added = configured.columns.iter().filter(is_new).map(|column| column.name.clone()).collect();
        let kept: Vec<_> = configured.columns.iter().filter(|c| !is_new(c)).map(|c| &c.name).collect();
        if found_by == FoundBy::Place {
            if !kept.iter().copied().eq(table.columns.iter().map(|column| &column.name)) {
                return Err("the columns of the table and of the configured schema differ in their order".to_string());
            }
            let kept = of_source.iter().filter(|c| !is_new(c)).count();
            if let Some(column) = of_source.iter().take(kept).find(is_new) {
                return Err(format!(
                    "column {} is new and stands before others: without a header (AddColumnName) nothing tells which \
                     records have it",
                    column.name
                ));
            }
        }
        Ok(Some(evolution))
    }

    /// What the table's configuration holds afterwards.
    pub fn of(&self, old: &Facts, definition: &Definition) -> Facts {
        let added = old.added.iter().chain(&self.added).cloned().collect();
        let others = old.others.map(|others| others + definition.shape.before_images_of(&self.added));
        Facts { schema: definition.schema.clone(), added, others, ..old.clone() }
    }
}

impl TableRun<'_> {
    /// Gives the table the columns that are configured, or that it was `told` of, in a commit of its own.
    pub(super) async fn evolve(
        &mut self,
        evolution: &Evolution,
        told: &TableSchema,
        opened: &Opened,
    ) -> Result<Outcome> {
        let table = &opened.table;
        let definition = self.meant.definition(&self.name, Some(told))?;
        let layout = self.layout(&definition)?;
        let facts = evolution.of(&opened.ours.facts, &definition);
        let mut actions = create::replaced(table, &layout.schema, &layout.partition_by, &facts)?;
        let mut counts = Counts::default();
        if !evolution.retyped.is_empty() {
            actions.extend(table.files.iter().map(|file| Action::Remove(file.remove_action(true))));
            let names: Vec<_> = evolution.retyped.iter().map(|(_, now)| now.name.as_str()).collect();
            let added = self.rewritten(opened, &layout, &evolution.retyped).await;
            let added = added.at(|| format!("a new type of {}", names.join(", ")))?;
            counts.files_added = added.len() as u64;
            counts.files_removed = table.files.len() as u64;
            actions.extend(added.into_iter().map(Action::Add));
        }
        let of_run = json!({ "step": "evolve", "added": evolution.added.len(), "retyped": evolution.retyped.len() });
        let commit = Commit { actions, position: opened.ours.position, facts: of_run };
        let outcome = commit.onto(table).await?;
        if let Outcome::Committed(version) = outcome {
            self.committed(version, opened.ours.position, counts);
            self.note_evolution(evolution);
        }
        Ok(outcome)
    }

    pub(super) fn note_evolution(&mut self, evolution: &Evolution) {
        let notes = &mut self.report.notes;
        notes.extend(evolution.added.iter().map(|name| {
            format!(
                "column {name} is new: rows that no change touches since then have NULL there, whatever its default"
            )
        }));
        notes.extend(evolution.retyped.iter().map(|(was, is)| {
            format!("column {} was {} and is {}; the table was rewritten", is.name, was.sql_type, is.sql_type)
        }));
    }

    /// All rows with the columns of `layout`.
    async fn rewritten(
        &self,
        opened: &Opened,
        layout: &Layout,
        retyped: &[(Column, Column)],
    ) -> Result<Vec<deltalake::kernel::Add>> {
        let scan = Scan::all(&opened.table);
        let rows = self.engine.session().read_table(Arc::new(ScanProvider(scan)))?;
        let rows = rows.select(in_new_types(&opened.table.schema, layout, retyped, self.meant.datetime))?;
        let mut writer = Writer::new(layout);
        writer.write_sorted(self.engine, rows.execute_stream().await?).await?;
        writer.close().await
    }
}

/// The columns of the new table, each from the column of `old` that has its name, or NULL. A value that has no equal in
/// its new type is an error.
fn in_new_types(old: &SchemaRef, new: &Layout, retyped: &[(Column, Column)], datetime: DatetimeAs) -> Vec<Expr> {
    let column = |field: &Arc<Field>| {
        let value = match (old.field_with_name(field.name()), retyped.iter().find(|(_, now)| now.name == *field.name()))
        {
            (Err(_), _) => cast(lit(ScalarValue::Null), field.data_type().clone()),
            (Ok(_), None) => ident(field.name()),
            (Ok(was), Some((before, now))) => in_new_type(was, field, before, now, datetime),
        };
        value.alias(field.name())
    };
    new.schema.fields().iter().map(column).collect()
}

fn in_new_type(was: &Field, is: &Field, before: &Column, now: &Column, datetime: DatetimeAs) -> Expr {
    let (before, now) = (before.clone(), now.clone());
    let retype = move |arguments: &[ColumnarValue]| {
        let values = ColumnarValue::values_to_arrays(arguments)?;
        let retyped =
            retyped(&before, &now, datetime, &values[0]).map_err(|e| DataFusionError::from(Error::definite(e)))?;
        Ok(ColumnarValue::Array(retyped))
    };
    let types = (vec![was.data_type().clone()], is.data_type().clone());
    create_udf("retyped", types.0, types.1, Volatility::Immutable, Arc::new(retype)).call(vec![ident(was.name())])
}

/// The error for a type that the table would have to be rewritten for.
pub fn needs_rewrite(evolution: &Evolution) -> Option<Error> {
    let (was, is) = evolution.retyped.first()?;
    Some(Error::definite(format!(
        "column {} is {} in the table and {} from now on; on_type_change = \"rewrite\" rewrites the table with the new type",
        is.name, was.sql_type, is.sql_type
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(columns: &[(&str, &str)]) -> TableSchema {
        let column = |(name, sql_type): &(&str, &str)| Column {
            name: (*name).to_string(),
            sql_type: sql_type.parse().unwrap(),
            nullable: true,
        };
        TableSchema { columns: columns.iter().map(column).collect(), primary_key: vec![] }
    }

    fn between(table: &[(&str, &str)], now: &[(&str, &str)], found_by: FoundBy) -> Result<Option<Evolution>, String> {
        let arrow = |column: &Column| column.sql_type.arrow(DatetimeAs::default());
        Evolution::between(&schema(table), &Shape::of(schema(now)), arrow, found_by)
    }

    #[test]
    fn a_column_is_added_at_the_end_or_where_names_tell() {
        let added = Evolution { added: vec!["b".into()], ..Evolution::default() };
        let end = [("a", "INT"), ("c", "INT"), ("b", "TEXT")];
        assert_eq!(between(&end[..2], &end, FoundBy::Place), Ok(Some(added)));
        let middle = [("a", "INT"), ("b", "TEXT"), ("c", "INT")];
        assert!(between(&end[..2], &middle, FoundBy::Place).unwrap_err().contains("stands before others"));
        assert!(between(&end[..2], &middle, FoundBy::Name).is_ok());
        assert_eq!(between(&end, &end, FoundBy::Place), Ok(None));
    }

    #[test]
    fn a_type_that_is_the_same_in_delta_needs_no_rewrite() {
        let free = between(&[("a", "MEDIUMINT")], &[("a", "INT")], FoundBy::Place);
        assert_eq!(free, Ok(Some(Evolution::default())));
        let wider = between(&[("a", "INT")], &[("a", "BIGINT")], FoundBy::Place).unwrap().unwrap();
        assert!(needs_rewrite(&wider).unwrap().to_string().contains("column a is INT in the table and BIGINT"));
        assert!(between(&[("a", "DOUBLE")], &[("a", "INT")], FoundBy::Place).is_err());
    }

    #[test]
    fn a_column_that_is_gone_stops() {
        assert!(
            between(&[("a", "INT"), ("b", "INT")], &[("a", "INT")], FoundBy::Name).unwrap_err().contains("column b")
        );
    }
}
