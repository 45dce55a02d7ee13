//! A table's definition: what the configuration says of it against what its log says.

use datafusion::arrow::datatypes::{Field, Schema};
use deltalake::kernel::{Action, MetadataExt};
use lakemerge_source::schema::{Column, SqlType};

use super::evolve::{Evolution, FoundBy, needs_rewrite};
use crate::error::{Error, Result};
use crate::job::{Definition, SchemaFrom, TableJob};
use crate::lake::create;
use crate::lake::position::Facts;
use crate::lake::table::Table;

/// The configuration must still mean the table that is there, whose log says `facts`, or one that it can evolve to.
pub fn check(table: &Table, facts: &Facts, configured: &TableJob, found_by: FoundBy) -> Result<Option<Evolution>> {
    let remedy =
        format!("--reload {} rebuilds the table as configured, from a full load that the task wrote since", table.name);
    let meant = configured.definition(&table.name, Some(&facts.schema))?;
    let arrow = |column: &Column| column.sql_type.arrow(configured.datetime);
    let evolution = Evolution::between(&facts.schema, &meant.shape, arrow, found_by)
        .map_err(|difference| Error::definite(format!("{difference}; {remedy}")))?;
    if let Some(error) = evolution.as_ref().and_then(needs_rewrite).filter(|_| !configured.rewrite_types) {
        return Err(error.so(format!("or {remedy}")));
    }
    if key_names(&meant) != facts.key {
        let (was, is) = (facts.key.join(", "), key_names(&meant).join(", "));
        return Err(Error::definite(format!("the table's key is ({was}), the configuration says ({is}); {remedy}")));
    }
    if let Some(column) = read_otherwise(facts, &meant, configured) {
        let (was, is) = if column.nullable { ("the empty text", "NULL") } else { ("NULL", "the empty text") };
        return Err(Error::definite(format!(
            "an empty field of the key column {} was {was} until now and is {is} as configured, so that rows would not be found \
             any more; {remedy}",
            column.name
        )));
    }
    let partition_by = partition_names(&meant);
    if partition_by != table.partition_columns {
        let (was, is) = (table.partition_columns.join(", "), partition_by.join(", "));
        return Err(Error::definite(format!(
            "the table is partitioned by ({was}), the configuration says ({is}); {remedy}"
        )));
    }
    if let Some(difference) = difference(&table.schema, &configured.arrow(&facts.schema)) {
        return Err(Error::definite(format!("{difference}; {remedy}")));
    }
    Ok(evolution)
}

/// A column of the key that was nullable and is not, or is and was not, where that tells what an empty field of CSV is.
fn read_otherwise<'a>(facts: &Facts, meant: &'a Definition, configured: &TableJob) -> Option<&'a Column> {
    if !configured.empty_may_be_null() || matches!(configured.schema, SchemaFrom::Infer) {
        return None;
    }
    let is_text = |column: &&Column| matches!(column.sql_type, SqlType::Text | SqlType::Bytes);
    let was = |column: &Column| facts.schema.columns.iter().find(|was| was.name == column.name);
    let key = meant.key.iter().filter_map(|&number| meant.schema.columns.get(number));
    key.filter(is_text).find(|column| was(column).is_some_and(|was| was.nullable != column.nullable))
}

/// How the columns of a table differ from those that are configured.
fn difference(table: &Schema, configured: &Schema) -> Option<String> {
    let has = |schema: &Schema, field: &Field| schema.field_with_name(field.name()).is_ok();
    if let Some(field) = table.fields().iter().find(|field| !has(configured, field)) {
        let name = field.name();
        return Some(format!("the table has a column {name}, which neither the source nor the configuration has"));
    }
    if let Some(field) = configured.fields().iter().find(|field| !has(table, field)) {
        let name = field.name();
        return Some(format!(
            "the table has no column {name}, which the source or the configuration (delete, metadata_columns) has"
        ));
    }
    let mut pairs = table.fields().iter().zip(configured.fields());
    let (was, is) = pairs.find(|(was, is)| was.name() != is.name() || was.data_type() != is.data_type())?;
    Some(match was.name() == is.name() {
        true => format!(
            "column {} is {} in the table, and {} as configured (datetime)",
            was.name(),
            was.data_type(),
            is.data_type()
        ),
        false => format!("the table has column {} where {} is configured", was.name(), is.name()),
    })
}

/// The table's new metadata and protocol, where facts change, its first vectors come, or another writer's columns promise
/// that no value is NULL, which no DMS file does.
pub fn changes(table: &Table, facts: Option<Facts>, vectors: bool) -> Result<Vec<Action>> {
    let mut metadata = table.snapshot.metadata().clone();
    let mut actions = vec![];
    let relaxed = create::relaxed(&table.snapshot.schema())?;
    if let Some(relaxed) = &relaxed {
        metadata = metadata.with_schema(relaxed)?;
    }
    if let Some(facts) = &facts {
        metadata = create::with_facts(&metadata, facts)?;
    }
    let first_vectors = vectors && !create::has_vectors(table);
    if first_vectors {
        let (with_vectors, protocol) = create::with_vectors(table, metadata)?;
        metadata = with_vectors;
        actions.extend(protocol.map(Action::Protocol));
    }
    if facts.is_some() || relaxed.is_some() || first_vectors {
        actions.push(Action::Metadata(metadata));
    }
    Ok(actions)
}

/// The names of the key's columns, in the order configured.
pub fn key_names(definition: &Definition) -> Vec<String> {
    definition.key.iter().map(|&i| definition.schema.columns[i].name.clone()).collect()
}

/// The names of the columns to partition by, as the schema spells them.
pub fn partition_names(definition: &Definition) -> Vec<String> {
    definition.partition_by.iter().map(|&i| definition.schema.columns[i].name.clone()).collect()
}
