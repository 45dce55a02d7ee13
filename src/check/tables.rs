//! Hazards in the tables' definitions and keys.

use lakemerge_source::name::TableName;
use lakemerge_source::schema::{Column, SqlType};
use serde_json::{Value, json};

use super::{Finding, Look, Severity, Subject, some_of};
use crate::job::SchemaFrom;

pub fn hazards(look: &Look) -> Vec<Finding> {
    [keys(look), key_updates(look), dates(look), columns(look)].into_iter().flatten().collect()
}

/// The columns of a table's key.
fn key_columns(table: &Subject) -> impl Iterator<Item = &Column> {
    let definition = table.definition.iter();
    definition.flat_map(|definition| definition.key.iter().map(|&at| &definition.schema.columns[at]))
}

fn names<'a>(columns: impl Iterator<Item = &'a Column>) -> Vec<String> {
    columns.map(|column| column.name.clone()).collect()
}

/// Keys that nothing in the source keeps unique.
fn keys(look: &Look) -> Vec<Finding> {
    let configured = look.columns(|table| match &table.definition {
        Some(definition) if !definition.key_is_primary => names(key_columns(table)),
        _ => vec![],
    });
    let Some((tables, columns)) = configured else { return vec![] };
    vec![
        Finding::new(Severity::Risk, "key-not-primary", "[[table]] key")
            .of(tables)
            .found(format!("the key is not the PRIMARY KEY: {columns}"))
            .so("a double in the full load stops the table; a row that is inserted later under a key that is there takes the \
                 place of the other one")
            .mend("see that the source has a UNIQUE key of these columns, without NULL"),
    ]
}

/// Updates of keys, of which DMS tells the old key only by before images.
fn key_updates(look: &Look) -> Vec<Finding> {
    let is_primary = |table: &Subject| table.definition.as_ref().is_none_or(|definition| definition.key_is_primary);
    let is_without = |table: &&Subject| !table.meant.rules.has_before_images_of_key(is_primary(table));
    let without: Vec<_> = look.tables.iter().filter(is_without).collect();
    if without.is_empty() {
        return vec![];
    }
    let filter = if without.iter().all(|table| is_primary(table)) { "pk-only" } else { "non-lob" };
    let tables: Vec<_> = without.iter().map(|table| &table.name).collect();
    let sources: Vec<_> = without.iter().map(|table| &table.meant.source).collect();
    let rule = rule(&look.mappings, &sources, filter);
    let finding =
        format!("updates come without the key that the row had: {}", some_of(tables.iter().map(ToString::to_string)));
    vec![
        Finding::new(Severity::Risk, "no-before-images", "table mappings")
            .of(tables)
            .found(finding)
            .so("an update that changes a key leaves the old row behind. So does a REPLACE or an INSERT … ON DUPLICATE KEY \
                 UPDATE that the source logs as an update of the key, and one that changes only the case of a key's letters")
            .mend(format!("add the rule {rule} to the table mappings, restart the task and reload the tables")),
    ]
}

/// A rule that gives `tables`, by their names in the source, before images, with a number of its own.
fn rule(mappings: &Value, tables: &[&TableName], filter: &str) -> Value {
    let common = |part: fn(&TableName) -> &str| {
        let first = tables.first().map_or("%", |name| part(name));
        if tables.iter().all(|name| part(name) == first) { first } else { "%" }
    };
    let rules = mappings.get("rules").and_then(Value::as_array);
    let id = |rule: &Value| {
        let id = rule.get("rule-id")?;
        id.as_u64().or_else(|| id.as_str()?.parse().ok())
    };
    let number = rules.into_iter().flatten().filter_map(id).max().unwrap_or_default() + 1;
    json!({
        "rule-type": "transformation",
        "rule-id": number.to_string(),
        "rule-name": number.to_string(),
        "rule-target": "column",
        "object-locator": { "schema-name": common(|name| &name.schema), "table-name": common(|name| &name.table) },
        "rule-action": "add-before-image-columns",
        "before-image-def": { "column-prefix": "BI_", "column-suffix": "", "column-filter": filter },
    })
}

fn dates(look: &Look) -> Vec<Finding> {
    let mut found = vec![];
    let is_date =
        |column: &&Column| matches!(column.sql_type, SqlType::Date | SqlType::DateTime(_) | SqlType::Timestamp(_));
    if let Some((tables, columns)) = look.columns(|table| names(key_columns(table).filter(is_date))) {
        found.push(
            Finding::new(Severity::Risk, "dates-in-key", "[[table]] key")
                .of(tables)
                .found(format!("there are dates in keys: {columns}"))
                .so("a zero date in a key stops its table, because it has no value in a Delta table that tells it from others")
                .mend("see that the source has no zero dates there, or choose a key without them"),
        );
    }
    // DMS says that it hands fractions on in milliseconds (reference, B25)
    let is_fine = |column: &&Column| matches!(column.sql_type, SqlType::DateTime(4..) | SqlType::Timestamp(4..));
    if let Some((tables, columns)) = look.columns(|table| names(key_columns(table).filter(is_fine))) {
        found.push(
            Finding::new(Severity::Risk, "microseconds-in-key", "[[table]] key")
                .of(tables)
                .found(format!("there are times with more than three digits of fraction in keys: {columns}"))
                .so("DMS documents milliseconds for them: rows whose keys differ by less become one")
                .mend("look into a file whether all digits are there, or choose a key without them"),
        );
    }
    let others = |table: &Subject| {
        let Some(definition) = &table.definition else { return vec![] };
        let columns = definition.schema.columns.iter().enumerate();
        names(columns.filter(|(at, column)| !definition.key.contains(at) && is_fine(column)).map(|(_, column)| column))
    };
    if let Some((tables, columns)) = look.columns(others) {
        found.push(
            Finding::new(Severity::Note, "microseconds", "source columns")
                .of(tables)
                .found(format!("there are times with more than three digits of fraction: {columns}"))
                .so("DMS documents milliseconds for them, so further digits may be cut")
                .mend("look into a file whether all digits are there"),
        );
    }
    found
}

/// Columns and rows that the source changes without telling.
fn columns(look: &Look) -> Vec<Finding> {
    let mut found = vec![];
    if let Some((tables, columns)) = look.columns(|table| table.columns(|s| &s.generated)) {
        found.push(
            Finding::new(Severity::Loss, "generated-columns", "source columns")
                .of(tables)
                .found(format!("there are generated columns: {columns}"))
                .so("a full load has their values and change files have not, so each change makes them NULL or stops the \
                     table")
                .mend("remove them in the table mappings (rule-action remove-column), reload the tables, and compute them in \
                       queries"),
        );
    }
    if let Some((tables, parents)) = look.columns(|t| t.statement().map(|s| s.cascades.clone()).unwrap_or_default()) {
        found.push(
            Finding::new(Severity::Loss, "cascades", "source foreign keys")
                .of(tables)
                .found(format!("foreign keys change rows when those of another table change: {parents}"))
                .so("the source logs no such change (MySQL before 9.6), so the rows stay in the lake as they were")
                .mend("delete and update these rows by statements of their own instead of ON DELETE and ON UPDATE, or reload \
                       the tables regularly"),
        );
    }
    let inferred = look.those(|table| matches!(table.meant.schema, SchemaFrom::Infer));
    if !inferred.is_empty() {
        let finding =
            format!("types are guessed from the full load: {}", some_of(inferred.iter().map(ToString::to_string)));
        found.push(
            Finding::new(Severity::Risk, "schema-inferred", "[[table]] schema = \"infer\"")
                .of(inferred)
                .found(finding)
                .so("a later value that does not fit its guessed type stops the table; generated columns, LOBs and foreign \
                     keys cannot be checked")
                .mend("give the CREATE TABLE statements (mysqldump --no-data) and run with --reload TABLE"),
        );
    }
    found
}
