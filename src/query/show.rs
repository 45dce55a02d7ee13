//! SHOW TABLES, SHOW SCHEMAS and DESCRIBE, answered from the catalog: no table is opened that is not
//! named.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::comparison::ilike;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, ObjectName, ShowStatementFilter, ShowStatementFilterPosition, ShowStatementOptions,
};

use super::QueryError;
use super::catalog::Catalog;
use super::identifiers;

/// The answer, if the statement is one of these.
pub async fn answer(statement: &Statement, catalog: &Catalog) -> Result<Option<RecordBatch>, QueryError> {
    let Statement::Statement(statement) = statement else {
        return Ok(None);
    };
    let batch = match statement.as_ref() {
        ast::Statement::ShowTables { show_options, .. } => tables(show_options, catalog)?,
        ast::Statement::ShowSchemas { show_options, .. } | ast::Statement::ShowDatabases { show_options, .. } => {
            schemas(show_options, catalog)?
        }
        ast::Statement::ExplainTable { table_name, .. } => describe(table_name, catalog).await?,
        ast::Statement::ShowColumns { show_options, .. } => {
            let Some(table) = parent(show_options) else {
                return Err(QueryError::sql("SHOW COLUMNS needs a table: SHOW COLUMNS FROM table"));
            };
            filtered(describe(table, catalog).await?, show_options)?
        }
        _ => return Ok(None),
    };
    Ok(Some(batch))
}

fn tables(options: &ShowStatementOptions, catalog: &Catalog) -> Result<RecordBatch, QueryError> {
    let only = match parent(options).map(parts).as_deref() {
        None => None,
        Some([.., schema]) => Some(identifiers::schema(schema, catalog)?),
        Some([]) => None,
    };
    let named = |schema: &str| only.as_ref().is_none_or(|only| only == schema);
    let tables = catalog.tables().filter(|(schema, _)| named(schema));
    let (schemas, tables): (Vec<_>, Vec<_>) = tables.unzip();
    // The filter of SHOW TABLES LIKE is about the table.
    let batch = batch([("table", text(tables)), ("schema", text(schemas))])?;
    Ok(filtered(batch, options)?.project(&[1, 0])?)
}

fn schemas(options: &ShowStatementOptions, catalog: &Catalog) -> Result<RecordBatch, QueryError> {
    filtered(batch([("schema", text(catalog.schemas().collect()))])?, options)
}

async fn describe(name: &ObjectName, catalog: &Catalog) -> Result<RecordBatch, QueryError> {
    let parts = parts(name);
    let parts = parts.iter().map(String::as_str).collect::<Vec<_>>();
    let (schema, table) = identifiers::table(&parts, catalog)?;
    let Some(provider) = catalog.open(&schema, &table).await? else {
        return Err(QueryError::sql(format!("{schema}.{table} cannot be described; select from it instead")));
    };
    columns(&provider.schema())
}

fn columns(schema: &SchemaRef) -> Result<RecordBatch, QueryError> {
    let fields = schema.fields();
    let names = fields.iter().map(|field| field.name().as_str());
    let types = fields.iter().map(|field| type_name(field.data_type()));
    let types = StringArray::from_iter_values(types);
    let nullable = fields.iter().map(|field| Some(field.is_nullable()));
    batch([
        ("column", text(names.collect())),
        ("type", Arc::new(types)),
        ("nullable", Arc::new(nullable.collect::<BooleanArray>())),
    ])
}

/// The type by the name it has in Delta and in SQL.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp".into(),
        DataType::Timestamp(_, None) => "timestamp_ntz".into(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("decimal({precision},{scale})")
        }
        DataType::Dictionary(_, value) => type_name(value),
        other => other.to_string().to_lowercase(),
    }
}

fn parent(options: &ShowStatementOptions) -> Option<&ObjectName> {
    options.show_in.as_ref()?.parent_name.as_ref()
}

fn parts(name: &ObjectName) -> Vec<String> {
    let idents = name.0.iter().filter_map(|part| part.as_ident());
    idents.map(|ident| ident.value.clone()).collect()
}

/// Keeps the rows whose first column is LIKE the pattern, ignoring case as names do.
fn filtered(batch: RecordBatch, options: &ShowStatementOptions) -> Result<RecordBatch, QueryError> {
    let filter = match &options.filter_position {
        None => return Ok(batch),
        Some(ShowStatementFilterPosition::Infix(filter) | ShowStatementFilterPosition::Suffix(filter)) => filter,
    };
    let pattern = match filter {
        ShowStatementFilter::Like(pattern)
        | ShowStatementFilter::ILike(pattern)
        | ShowStatementFilter::NoKeyword(pattern) => pattern,
        ShowStatementFilter::Where(_) => {
            return Err(QueryError::sql("SHOW … WHERE is not supported; use LIKE 'pattern'"));
        }
    };
    let pattern = StringArray::new_scalar(pattern);
    let kept = ilike(batch.column(0), &pattern)?;
    Ok(filter_record_batch(&batch, &kept)?)
}

fn text(values: Vec<&str>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<RecordBatch, QueryError> {
    Ok(RecordBatch::try_from_iter(columns)?)
}
