//! Statements from end to end, over tables in memory.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;

use super::*;
use crate::destination::Destination;
use crate::engine::pool::QueryPool;

mod answers;
mod names;
mod parts;
mod times;

/// Rows of a batch.
const BATCH: usize = 200;

#[derive(Default)]
struct Lake {
    tables: BTreeMap<(String, String), RecordBatch>,
    listed: AtomicUsize,
    opened: Mutex<Vec<String>>,
}

impl Lake {
    fn with<const N: usize>(mut self, name: &str, columns: [(&str, ArrayRef); N]) -> Self {
        let (schema, table) = name.split_once('.').unwrap();
        let columns = columns.map(|(name, column)| (name, column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        self.tables.insert((schema.into(), table.into()), batch);
        self
    }
}

#[async_trait]
impl Tables for Lake {
    async fn names(&self) -> Result<Vec<(String, String)>, DataFusionError> {
        self.listed.fetch_add(1, Ordering::Relaxed);
        Ok(self.tables.keys().cloned().collect())
    }

    async fn open(&self, schema: &str, table: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        self.opened.lock().unwrap().push(format!("{schema}.{table}"));
        let Some(batch) = self.tables.get(&(schema.to_owned(), table.to_owned())) else {
            return Ok(None);
        };
        // each with memory of its own, as a file's batches have
        let starts = (0..batch.num_rows().max(1)).step_by(BATCH);
        let batches = starts.map(|start| {
            let rows = batch.slice(start, BATCH.min(batch.num_rows() - start));
            concat_batches(&batch.schema(), [&rows])
        });
        let table = MemTable::try_new(batch.schema(), vec![batches.collect::<Result<_, _>>()?])?;
        Ok(Some(Arc::new(table)))
    }
}

fn decimals(values: &[i128], precision: u8, scale: i8) -> ArrayRef {
    let array = Decimal128Array::from(values.to_vec());
    Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
}

fn words(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn lake() -> Lake {
    let entities = words(&[Some("India"), Some("China"), Some("Chad")]);
    let codes = words(&[Some("IND"), Some("CHN"), None]);
    Lake::default()
        .with(
            "fossil.coal_prod",
            [
                ("Entity", Arc::clone(&entities)),
                ("Code", codes),
                ("Year", Arc::new(Int32Array::from(vec![2013, 2013, 2014]))),
                ("Production", decimals(&[1_234_567_891, 284_566, 0], 10, 2)),
            ],
        )
        .with(
            "fossil.Oil_Prod",
            [("ENTITY", Arc::clone(&entities)), ("barrels", Arc::new(Int64Array::from(vec![1, 2, 3])))],
        )
        .with(
            "shop.orders",
            [
                ("id", decimals(&[18_446_744_073_709_551_615, 9_007_199_254_740_993], 20, 0)),
                ("total", decimals(&[123_456_789_012_345_678, 5], 18, 4)),
                ("big", Arc::new(Int64Array::from(vec![9_007_199_254_740_993, i64::MIN]))),
            ],
        )
        .with("shop.twins", [("name", Arc::clone(&entities)), ("NAME", Arc::clone(&entities))])
        .with("a.same", [("x", Arc::clone(&entities))])
        .with("b.same", [("x", entities)])
        .with(
            "shop.kinds",
            [
                ("text", words(&[Some("a,\"b\"\nc"), None])),
                ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\x00\xff"), None]))),
                ("real", Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY]))),
                ("price", decimals(&[-5, 1_234_567_891], 10, 2)),
                ("day", Arc::new(Date32Array::from(vec![Some(18_262), None]))),
                ("naive", Arc::new(TimestampMicrosecondArray::from(vec![1_577_836_800_000_001, 0]))),
                ("utc", Arc::new(TimestampMicrosecondArray::from(vec![1_577_836_800_000_000, 0]).with_timezone("UTC"))),
            ],
        )
}

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn ask_of(lake: Arc<Lake>, sql: &str, format: Format) -> Result<String, QueryError> {
    let page = Page::default();
    let mut output = Output::writer(Destination::Writer(Box::new(page.clone())), format);
    let desk = Desk { session: SessionContext::new(), tables: lake };
    desk.answer_all(sql, &mut output).await?;
    let text = page.0.lock().unwrap().clone();
    Ok(String::from_utf8(text).unwrap())
}

/// The answer as CSV, without its header.
async fn rows(sql: &str) -> String {
    let text = ask_of(Arc::new(lake()), sql, Format::Csv).await;
    let text = text.unwrap_or_else(|error| panic!("{sql}: {error}"));
    text.split_once('\n').map(|(_, rows)| rows.trim_end().to_owned()).unwrap_or_default()
}

async fn header(sql: &str) -> String {
    let text = ask_of(Arc::new(lake()), sql, Format::Csv).await.unwrap();
    text.lines().next().unwrap_or_default().to_owned()
}

async fn error(sql: &str) -> String {
    match ask_of(Arc::new(lake()), sql, Format::Csv).await {
        Ok(text) => panic!("{sql}: {text}"),
        Err(error) => error.to_string(),
    }
}
