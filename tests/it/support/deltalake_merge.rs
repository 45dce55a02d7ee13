//! A second oracle: the same changes, netted here, merged by deltalake's own MERGE into a plain Delta table.

use super::dms::{Change, Op};
use super::site::RUNTIME;
use super::table::{Row, Table, canonical};
use super::workload::Workload;
use datafusion::arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::prelude::SessionContext;
use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::{DeltaResult, DeltaTable, TableProperty};
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;
use url::Url;

/// The operation of a net change.
const OPERATION: &str = "operation";

/// Its columns are called `c0`, `c1`, … since MERGE folds the case of names. It has no partitions: which rows there are does
/// not depend on them, and MERGE takes its time with many.
pub struct PlainTable {
    of: Table,
    schema: SchemaRef,
    delta: DeltaTable,
    is_new: bool,
    _folder: TempDir,
}

/// What deltalake's MERGE can be asked to do: under `=` a NULL key matches nothing, so rows with one are left out, and
/// columns that lakemerge adds are not its business.
pub fn comparable(mut workload: Workload) -> Workload {
    let table = &mut workload.table;
    table.soft_delete = false;
    table.metadata_columns.clear();
    let is_whole = |row: &Row| table.key_of(row).iter().all(Option::is_some);
    workload.load.iter_mut().for_each(|(_, rows)| rows.retain(is_whole));
    workload.load.retain(|(_, rows)| !rows.is_empty());
    workload.files.iter_mut().for_each(|(_, changes)| changes.retain(|change| is_whole(&change.row)));
    workload
}

impl PlainTable {
    pub fn new(of: &Table) -> Self {
        let folder = TempDir::new().expect("no temporary folder");
        let fields =
            of.columns.iter().enumerate().map(|(i, (_, kind))| Field::new(format!("c{i}"), data_type(kind), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns: StructType = schema.as_ref().try_into_kernel().expect("a Delta schema");
        let create = async {
            let url = Url::from_directory_path(folder.path()).expect("a folder");
            let table = DeltaTable::try_from_url(url).await?;
            let create = table.create().with_columns(columns.fields().cloned());
            // its writer rounds the bounds of wide decimals, and then its readers lose rows
            create.with_configuration_property(TableProperty::DataSkippingNumIndexedCols, Some("0")).await
        };
        let delta = wait(create);
        Self { of: of.clone(), schema, delta, is_new: true, _folder: folder }
    }

    /// The last change of each key; the first ones, which are of the load, are just written.
    pub fn apply(&mut self, changes: &[Change]) {
        let net: BTreeMap<Row, &Change> = changes.iter().map(|change| (self.of.key_of(&change.row), change)).collect();
        let changes: Vec<_> = net.into_values().collect();
        let rows: Vec<_> = changes.iter().map(|change| &change.row).collect();
        let delta = self.delta.clone();
        let is_first = std::mem::take(&mut self.is_new) && changes.iter().all(|change| change.op != Op::Delete);
        self.delta = wait(async {
            if is_first {
                return delta.write([self.batch(&rows)]).await;
            }
            let operations = changes.iter().map(|change| Some(change.op.letter())).collect::<StringArray>();
            self.merge(delta, self.batch(&rows), Arc::new(operations)).await
        });
    }

    async fn merge(&self, delta: DeltaTable, rows: RecordBatch, operations: ArrayRef) -> DeltaResult<DeltaTable> {
        let mut columns: Vec<_> = rows
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .zip(rows.columns().iter().cloned())
            .collect();
        let names: Vec<_> = columns.iter().map(|(name, _)| name.clone()).collect();
        columns.push((OPERATION.to_owned(), operations));
        let changes = SessionContext::new().read_batch(RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, values)| (name, values, true)),
        )?)?;
        let source = |name: &str| col(Column::new(Some("source"), name));
        let is_delete = || source(OPERATION).eq(lit("D"));
        let key = self.of.columns.iter().zip(&names).filter(|((name, _), _)| self.of.key.contains(name));
        let same_key = key.map(|(_, name)| col(Column::new(Some("target"), name)).eq(source(name))).reduce(Expr::and);
        let merge = delta
            .merge(changes, same_key.expect("a key"))
            .with_source_alias("source")
            .with_target_alias("target")
            .when_matched_delete(|delete| delete.predicate(is_delete()))?
            .when_matched_update(|update| names.iter().fold(update, |u, name| u.update(name.as_str(), source(name))))?
            .when_not_matched_insert(|insert| {
                let insert = insert.predicate(!is_delete());
                names.iter().fold(insert, |i, name| i.set(name.as_str(), source(name)))
            })?;
        Ok(merge.await?.0)
    }

    fn batch(&self, rows: &[&Row]) -> RecordBatch {
        let column = |(i, field): (usize, &Arc<Field>)| -> ArrayRef {
            let kind = &self.of.columns[i].1;
            let texts = rows.iter().map(|row| canonical(row[i].as_ref()?, kind));
            match field.data_type() {
                DataType::Binary => Arc::new(texts.map(|text| Some(bytes(&text?))).collect::<BinaryArray>()),
                other => cast(&texts.collect::<StringArray>(), other).expect("a value of its type"),
            }
        };
        let columns = self.schema.fields().iter().enumerate().map(column).collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns).expect("columns of one length")
    }

    /// All rows, sorted, in the one form of each type.
    pub fn rows(&self) -> Vec<Row> {
        let read = async {
            let session = SessionContext::new();
            session.register_table("t", self.delta.table_provider().await?)?;
            session.sql("SELECT * FROM t").await?.collect().await.map_err(deltalake::DeltaTableError::from)
        };
        let batches = wait(read);
        let mut rows = vec![];
        for batch in batches {
            let columns: Vec<_> = (0..self.schema.fields().len())
                .map(|i| texts(batch.column_by_name(&format!("c{i}")).expect("a column"), &self.of.columns[i].1))
                .collect();
            rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()));
        }
        rows.sort();
        rows
    }
}

/// What deltalake comes to. Its plans of wide tables are deeper than the stack of a test.
fn wait<T: Send>(work: impl Future<Output = DeltaResult<T>> + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(64 << 20);
        let waiting = thread.spawn_scoped(scope, || RUNTIME.block_on(work)).expect("a thread");
        waiting.join().expect("deltalake does not panic").expect("deltalake does its work")
    })
}

fn texts(values: &ArrayRef, kind: &str) -> Vec<Option<String>> {
    if data_type(kind) == DataType::Binary {
        let values = cast(values, &DataType::Binary).expect("bytes");
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        return values.as_binary::<i32>().iter().map(|value| value.map(hex)).collect();
    }
    let values = cast(values, &DataType::Utf8).expect("a text");
    values.as_string::<i32>().iter().map(|value| canonical(value?, kind)).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hexadecimal digits")).collect()
}

/// Any type that holds every value of this one.
fn data_type(kind: &str) -> DataType {
    let kind = kind.trim_end_matches(" NOT NULL").trim_end_matches(" DEFAULT NULL");
    let (name, arguments) = kind.split_once('(').unwrap_or((kind, ""));
    let numbers: Vec<u8> = arguments.trim_end_matches(')').split(',').filter_map(|text| text.parse().ok()).collect();
    match (name, numbers.as_slice()) {
        ("bigint unsigned", _) => DataType::Decimal128(20, 0),
        ("year", _) => DataType::Int64,
        ("bit", [1]) => DataType::Boolean,
        ("bit", [64]) | ("binary" | "varbinary" | "blob", _) => DataType::Binary,
        ("bit", _) => DataType::Int64,
        (name, _) if name.contains("int") => DataType::Int64,
        ("decimal", &[precision, scale]) if precision <= 38 => DataType::Decimal128(precision, scale.cast_signed()),
        ("float", _) => DataType::Float32,
        ("double", _) => DataType::Float64,
        ("date", _) => DataType::Date32,
        ("datetime" | "timestamp", _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => DataType::Utf8,
    }
}
