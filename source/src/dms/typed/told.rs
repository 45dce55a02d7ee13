//! What a file with names and types tells of its table's columns, where nobody else does.

use arrow::datatypes::{DataType, Field, Schema};

use crate::dms::layout::{Layout, OP};
use crate::dms::names::FileKind;
use crate::dms::settings::S3Settings;
use crate::dms::shape::Shape;
use crate::dms::transformations::TableRules;
use crate::schema::{Column, SqlType, TableSchema};

/// The source's columns in a file, all of them nullable, and no primary key: without the operation and the time of
/// commit, and without what the task adds by `rules`.
///
/// # Errors
/// A column of a type that MySQL does not have, or one that may be an operation, as the end of a sentence.
pub fn columns(
    file: &Schema,
    kind: FileKind,
    settings: &S3Settings,
    rules: &TableRules,
) -> Result<TableSchema, String> {
    let names: Vec<_> = file.fields().iter().map(|field| field.name().clone()).collect();
    let (layout, has_operation) = Layout::told_by(&names, kind, settings);
    let leading = layout.leading(has_operation);
    if !has_operation && names.first().is_some_and(|name| name == OP) {
        return Err(format!(
            "its first column is {OP}: if the endpoint sets IncludeOpForFullLoad, s3_settings must say so; if the source \
             has such a column, give CREATE TABLE statements"
        ));
    }
    let of_source = file.fields().iter().skip(leading).filter(|field| !rules.adds(field.name(), &names[leading..]));
    let column = |field| Ok(Column { name: Field::name(field).clone(), sql_type: sql_type(field)?, nullable: true });
    let columns = of_source.map(|field| column(field.as_ref())).collect::<Result<_, String>>()?;
    Ok(TableSchema { columns, primary_key: Vec::new() })
}

/// The columns of `table`, each with the type of `file` where its own does not hold all values of that, and then those
/// that only `file` has.
pub fn united(table: &TableSchema, file: &TableSchema) -> TableSchema {
    let mut united = table.clone();
    for column in &file.columns {
        match table.position_of(&column.name) {
            None => united.columns.push(column.clone()),
            Some(at) if holds(&table.columns[at].sql_type, &column.sql_type) => {}
            Some(at) => united.columns[at].sql_type = column.sql_type.clone(),
        }
    }
    united
}

/// What there is to say of the columns of `file` that the table does not know, to be added to a message: how CREATE TABLE
/// would have them.
pub(super) fn unknown(file: &Schema, layout: &Layout, has_operation: bool, shape: &Shape) -> String {
    let of_table = file.fields().iter().skip(layout.leading(has_operation));
    let mut unknown = of_table.filter(|field| shape.named(field.name()).is_none()).peekable();
    if unknown.peek().is_some_and(|field| field.name() == OP) {
        return "; if the endpoint sets IncludeOpForFullLoad, s3_settings must say so".to_owned();
    }
    let unknown = unknown.filter_map(|field| Some(format!("`{}` {}", field.name(), sql_type(field).ok()?)));
    let unknown: Vec<_> = unknown.collect();
    if unknown.is_empty() { String::new() } else { format!("; by its type in the file it is {}", unknown.join(", ")) }
}

/// The type that a column without any other definition has, by that of its values.
///
/// # Errors
/// If MySQL has no such type, as the end of a sentence.
pub(super) fn sql_type(field: &Field) -> Result<SqlType, String> {
    Ok(match field.data_type() {
        DataType::Int8 => SqlType::TinyInt { unsigned: false },
        DataType::Int16 => SqlType::SmallInt { unsigned: false },
        DataType::Int32 => SqlType::Int { unsigned: false },
        DataType::Int64 => SqlType::BigInt { unsigned: false },
        DataType::UInt8 => SqlType::TinyInt { unsigned: true },
        DataType::UInt16 => SqlType::SmallInt { unsigned: true },
        DataType::UInt32 => SqlType::Int { unsigned: true },
        DataType::UInt64 => SqlType::BigInt { unsigned: true },
        DataType::Decimal128(precision, scale @ 0..) | DataType::Decimal256(precision, scale @ 0..) => {
            SqlType::Decimal { precision: *precision, scale: scale.unsigned_abs() }
        }
        DataType::Float32 => SqlType::Float,
        DataType::Float64 => SqlType::Double,
        DataType::Boolean => SqlType::Bit(1),
        DataType::Date32 => SqlType::Date,
        DataType::Timestamp(..) => SqlType::DateTime(6),
        DataType::Time32(_) | DataType::Time64(_) => SqlType::Time(6),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => SqlType::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            SqlType::Bytes
        }
        other => return Err(format!("column {} has the type {other}, which no column of MySQL has", field.name())),
    })
}

/// Whether every value of the type `file` is one of the type `table` too.
fn holds(table: &SqlType, file: &SqlType) -> bool {
    match (table, file) {
        _ if table == file => true,
        (SqlType::Text, other) => *other != SqlType::Bytes,
        (SqlType::Double, SqlType::Float) | (SqlType::DateTime(6), SqlType::DateTime(_) | SqlType::Timestamp(_)) => {
            true
        }
        (SqlType::Decimal { precision, scale }, _) => {
            let whole = precision.saturating_sub(*scale);
            match *file {
                SqlType::Decimal { precision: p, scale: s } => *scale >= s && whole >= p.saturating_sub(s),
                _ => integer(file).is_some_and(|(least, most)| {
                    let limit = 10_i128.checked_pow(whole.into());
                    limit.is_none_or(|limit| -limit < least && most < limit)
                }),
            }
        }
        _ => match (integer(table), integer(file)) {
            (Some((least, most)), Some((least_in_file, most_in_file))) => {
                least <= least_in_file && most_in_file <= most
            }
            _ => false,
        },
    }
}

/// The least and the greatest value of an integer type, and of a single bit.
fn integer(sql_type: &SqlType) -> Option<(i128, i128)> {
    let (bits, unsigned) = match *sql_type {
        SqlType::Bit(1) => (1, true),
        SqlType::TinyInt { unsigned } => (8, unsigned),
        SqlType::SmallInt { unsigned } => (16, unsigned),
        SqlType::MediumInt { unsigned } => (24, unsigned),
        SqlType::Int { unsigned } => (32, unsigned),
        SqlType::BigInt { unsigned } => (64, unsigned),
        _ => return None,
    };
    Some(if unsigned { (0, (1 << bits) - 1) } else { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(columns: &[(&str, &str)]) -> TableSchema {
        let column = |(name, sql_type): &(&str, &str)| Column {
            name: (*name).to_owned(),
            sql_type: sql_type.parse().unwrap(),
            nullable: true,
        };
        TableSchema { columns: columns.iter().map(column).collect(), primary_key: Vec::new() }
    }

    #[test]
    fn what_dms_and_the_task_add_is_no_column_of_the_source() {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let file = Schema::new(vec![
            field("Op", DataType::Utf8),
            field("ts", DataType::Utf8),
            field("id", DataType::UInt32),
            field("price", DataType::Decimal128(10, 2)),
        ]);
        let settings = S3Settings {
            include_op_for_full_load: true,
            timestamp_column_name: Some("ts".to_owned()),
            ..S3Settings::default()
        };
        let rules = TableRules::default();
        let told = columns(&file, FileKind::Load, &settings, &rules).unwrap();
        assert_eq!(told, schema(&[("id", "INT UNSIGNED"), ("price", "DECIMAL(10,2)")]));
        let error = columns(&file, FileKind::Load, &S3Settings::default(), &rules).unwrap_err();
        assert!(error.contains("IncludeOpForFullLoad"), "{error}");
        let nested = Schema::new(vec![Field::new_list("tags", field("item", DataType::Utf8), true)]);
        let error = columns(&nested, FileKind::Load, &settings, &rules).unwrap_err();
        assert!(error.starts_with("column tags has the type List("), "{error}");
    }

    #[test]
    fn a_type_that_holds_all_values_stays() {
        let check = |table: &str, file: &str, expected: &str| {
            let united = united(&schema(&[("c", table)]), &schema(&[("C", file)]));
            assert_eq!(united, schema(&[("c", expected)]), "{table} and {file}");
        };
        check("BIGINT", "SMALLINT UNSIGNED", "BIGINT");
        check("INT", "INT UNSIGNED", "INT UNSIGNED");
        check("SMALLINT", "BIT(1)", "SMALLINT");
        check("DECIMAL(12,4)", "DECIMAL(10,2)", "DECIMAL(12,4)");
        check("DECIMAL(12,4)", "DECIMAL(12,2)", "DECIMAL(12,2)");
        check("DECIMAL(20,0)", "BIGINT UNSIGNED", "DECIMAL(20,0)");
        check("DECIMAL(19,0)", "BIGINT UNSIGNED", "BIGINT UNSIGNED");
        check("TEXT", "INT", "TEXT");
        check("INT", "TEXT", "TEXT");
        check("TEXT", "BLOB", "VARBINARY");
        check("DATE", "DATETIME(6)", "DATETIME(6)");
    }

    #[test]
    fn a_column_that_the_table_lacks_comes_behind_the_others() {
        let table = schema(&[("id", "INT"), ("name", "TEXT")]);
        let united = united(&table, &schema(&[("id", "INT"), ("new", "DATE"), ("name", "TEXT")]));
        assert_eq!(united, schema(&[("id", "INT"), ("name", "TEXT"), ("new", "DATE")]));
    }
}
