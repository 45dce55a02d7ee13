//! The metadata and protocol of a new table, and of one whose definition changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use buoyant_kernel::table_features::TableFeature;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::{Action, Add, Metadata, MetadataExt, Protocol, StructField, StructType, new_metadata};
use serde_json::json;

use super::position::Facts;
use super::stats::{has_misleading_bounds, has_sound_bounds, without_bounds};
use super::table::{Table, added};
use crate::error::{At, Error, Result};

/// As many columns as other writers keep statistics of by default.
const STATISTICS_COLUMNS: usize = 32;

const STATISTICS: &str = "delta.dataSkippingStatsColumns";
const VECTORS: &str = "delta.enableDeletionVectors";
/// Where a column's metadata have its comment, by Spark's convention.
const COMMENT: &str = "comment";

/// The metadata and protocol under which `table` may have deletion vectors.
pub fn with_vectors(table: &Table, metadata: Metadata) -> Result<(Metadata, Option<Protocol>)> {
    let metadata = metadata.add_config_key(VECTORS.to_string(), "true".to_string())?;
    let feature = ["deletionVectors"];
    let wanted =
        json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": feature, "writerFeatures": feature});
    Ok((metadata, united(table.snapshot.protocol(), &serde_json::from_value(wanted)?)?))
}

/// A protocol that allows what either of the two allows, or `None` if the old one does already.
fn united(old: &Protocol, new: &Protocol) -> Result<Option<Protocol>> {
    if new.min_writer_version() < 7 {
        return Ok(None);
    }
    let names = |features: Option<&[TableFeature]>| -> BTreeSet<String> {
        features.unwrap_or_default().iter().map(ToString::to_string).collect()
    };
    let (mut readers, mut writers) = (names(old.reader_features()), names(old.writer_features()));
    if old.min_writer_version() < 7 {
        // a protocol of features names also those that the old version number stood for
        writers.extend(["appendOnly", "invariants"].map(String::from));
    }
    let before = (readers.len(), writers.len());
    readers.extend(names(new.reader_features()));
    writers.extend(names(new.writer_features()));
    if writers.contains("columnMapping") {
        // a reader version of 2 stood for it
        readers.insert("columnMapping".into());
    }
    if old.min_writer_version() >= 7 && before == (readers.len(), writers.len()) {
        return Ok(None);
    }
    let protocol =
        json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": readers, "writerFeatures": writers});
    Ok(Some(serde_json::from_value(protocol)?))
}

/// True if the table already may have deletion vectors.
pub fn has_vectors(table: &Table) -> bool {
    table.snapshot.metadata().configuration().get(VECTORS).is_some_and(|value| value == "true")
}

/// A new table's protocol: the lowest that its columns allow.
pub fn protocol(schema: &Schema) -> Result<Protocol> {
    let needs_ntz = schema.fields().iter().any(|f| matches!(f.data_type(), DataType::Timestamp(_, None)));
    let value = if needs_ntz {
        json!({"minReaderVersion": 3, "minWriterVersion": 7,
               "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"]})
    } else {
        json!({"minReaderVersion": 1, "minWriterVersion": 2})
    };
    Ok(serde_json::from_value(value)?)
}

/// A new table's metadata. `facts` become part of its configuration.
pub fn metadata(schema: &Schema, partition_by: &[String], facts: &Facts) -> Result<Metadata> {
    let mut configuration = HashMap::from([facts.to_configuration()?]);
    if statistics_columns(schema, partition_by, &facts.key).len() < schema.fields().len() - partition_by.len() {
        configuration.extend([statistics(schema, partition_by, &facts.key)]);
    }
    Ok(new_metadata(&delta_schema(schema)?, partition_by, configuration)?)
}

/// `metadata` with other facts, and everything else as it is.
pub fn with_facts(metadata: &Metadata, facts: &Facts) -> Result<Metadata> {
    let (key, value) = facts.to_configuration()?;
    Ok(metadata.clone().add_config_key(key, value)?)
}

/// What makes another writer's table one of ours with these `facts`: its metadata, and those of its files once more that
/// have bounds which would mislead a reader.
pub fn taken_over(table: &Table, facts: &Facts) -> Result<Vec<Action>> {
    let mut metadata = with_facts(table.snapshot.metadata(), facts)?;
    let misleading = table.schema.fields().iter().filter(|field| has_misleading_bounds(field.data_type()));
    let misleading: Vec<_> = misleading.map(|field| field.name().as_str()).collect();
    let mut actions = vec![];
    if !misleading.is_empty() {
        let (key, value) = statistics(&table.schema, &table.partition_columns, &facts.key);
        metadata = metadata.add_config_key(key, value)?;
        for file in table.files.iter().map(added) {
            let Some(stats) = &file.stats else { continue };
            if let Some(stats) = without_bounds(stats, &misleading).at(|| &file.path)? {
                actions.push(Action::Add(Add { data_change: false, stats: Some(stats), ..file }));
            }
        }
    }
    actions.push(Action::Metadata(metadata));
    Ok(actions)
}

/// The property by which other writers keep bounds of the same columns.
fn statistics(schema: &Schema, partition_by: &[String], key: &[String]) -> (String, String) {
    let columns = statistics_columns(schema, partition_by, key).into_iter().map(quoted);
    (STATISTICS.to_string(), columns.collect::<Vec<_>>().join(","))
}

/// The actions that give `table` a new definition, beside those that replace its rows. What its owner says of it, in its
/// name, description, properties and the comments of columns, stays.
pub fn replaced(table: &Table, schema: &Schema, partition_by: &[String], facts: &Facts) -> Result<Vec<Action>> {
    let old = table.snapshot.metadata();
    let schema = commented(schema, &table.snapshot.arrow_schema());
    let mut new = metadata(&schema, partition_by, facts)?.with_table_id(old.id().to_string())?;
    if let Some(name) = old.name() {
        new = new.with_name(name.to_string())?;
    }
    if let Some(description) = old.description() {
        new = new.with_description(description.to_string())?;
    }
    for (key, value) in old.configuration() {
        if key != STATISTICS && !new.configuration().contains_key(key) {
            new = new.add_config_key(key.clone(), value.clone())?;
        }
    }
    let mut actions = vec![Action::Metadata(new)];
    actions.extend(united(table.snapshot.protocol(), &protocol(&schema)?)?.map(Action::Protocol));
    Ok(actions)
}

/// `schema` with the comments of the columns of the same names in `old`.
fn commented(schema: &Schema, old: &Schema) -> Schema {
    let comment_of = |field: &Field| old.field_with_name(field.name()).ok()?.metadata().get_key_value(COMMENT);
    let fields = schema.fields().iter().map(|field| match comment_of(field) {
        Some((key, comment)) => {
            Arc::new(field.as_ref().clone().with_metadata(HashMap::from([(key.clone(), comment.clone())])))
        }
        None => Arc::clone(field),
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// `schema` with columns that may all be NULL, if some of its may not.
pub fn relaxed(schema: &StructType) -> Result<Option<StructType>> {
    if schema.fields().all(|field| field.nullable) {
        return Ok(None);
    }
    let fields = schema.fields().map(|field| StructField { nullable: true, ..field.clone() });
    Ok(Some(StructType::try_new(fields)?))
}

/// The columns that files carry bounds of: the key first, then the others in order, without the types whose bounds
/// would mislead a reader.
pub fn statistics_columns<'a>(schema: &'a Schema, partition_by: &[String], key: &[String]) -> Vec<&'a str> {
    let in_key = |field: &&Field| key.iter().any(|name| name == field.name());
    let fields: Vec<&Field> = schema.fields().iter().map(AsRef::as_ref).collect();
    let (first, then): (Vec<_>, Vec<_>) = fields.into_iter().partition(in_key);
    first
        .into_iter()
        .chain(then)
        .filter(|field| !partition_by.iter().any(|name| name == field.name()) && has_sound_bounds(field.data_type()))
        .take(STATISTICS_COLUMNS)
        .map(|field| field.name().as_str())
        .collect()
}

fn delta_schema(schema: &Schema) -> Result<StructType> {
    let schema: StructType =
        schema.try_into_kernel().map_err(|e| Error::definite(format!("the schema does not fit Delta: {e}")))?;
    Ok(schema)
}

/// deltalake reads the property as SQL identifiers.
fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if plain { name.to_string() } else { format!("`{}`", name.replace('`', "``")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_decimals_have_no_bounds_and_the_key_comes_first() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Decimal128(20, 0), true),
            Field::new("order id", DataType::Int64, true),
            Field::new("price", DataType::Decimal128(15, 2), true),
        ]);
        assert_eq!(statistics_columns(&schema, &[], &["price".into()]), ["price", "order id"]);
        assert_eq!(quoted("order id"), "`order id`");
    }
}
