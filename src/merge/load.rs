//! A full load: rows stream in, are sorted by key (spilling to disk), lose the doubles that DMS may write, and become
//! the files of a new table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake::kernel::Add;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use roaring::RoaringTreemap;
use tokio::sync::mpsc;

use super::SameKey;
use super::net::{CHANGE, Net};
use super::sort;
use super::write::{Layout, Writer};
use crate::dms::reading::{LoadRead, LoadStep};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// What a load wrote and read.
pub struct Loaded {
    pub files: Vec<Add>,
    pub read: LoadRead,
    /// Rows whose key came again in a later row.
    pub doubles: u64,
}

/// Writes the rows of `steps`. Nothing is committed.
pub async fn load(
    engine: &Engine,
    layout: &Layout,
    steps: BoxStream<'static, Result<LoadStep>>,
    same_key: SameKey,
) -> Result<Loaded> {
    let Distinct { rows, read, doubles } = distinct(engine, layout, steps, same_key).await?;
    let files = write_by_key(engine, layout, Writer::new(layout), rows).await?;
    Ok(Loaded { files, read: taken(&read), doubles: doubles.load(Ordering::Relaxed) })
}

/// What [`load`] would read, and how many doubles it would find. Nothing is written.
pub async fn count(
    engine: &Engine,
    layout: &Layout,
    steps: BoxStream<'static, Result<LoadStep>>,
    same_key: SameKey,
) -> Result<(LoadRead, u64)> {
    let Distinct { mut rows, read, doubles } = distinct(engine, layout, steps, same_key).await?;
    while rows.try_next().await?.is_some() {}
    Ok((taken(&read), doubles.load(Ordering::Relaxed)))
}

/// The rows of a load by key, the last of each; what was read and found is complete when they end.
struct Distinct {
    rows: SendableRecordBatchStream,
    read: Arc<Mutex<LoadRead>>,
    doubles: Arc<AtomicU64>,
}

async fn distinct(
    engine: &Engine,
    layout: &Layout,
    steps: BoxStream<'static, Result<LoadStep>>,
    same_key: SameKey,
) -> Result<Distinct> {
    let read = Arc::new(Mutex::new(LoadRead::default()));
    let incoming = numbered(layout, steps, Arc::clone(&read));
    let by: Vec<_> = layout.key_numbers().chain([layout.schema.fields().len()]).collect();
    let by_key = sort::sorted(engine, layout, &by, incoming).await?;
    let doubles = Arc::new(AtomicU64::new(0));
    let rows = without_doubles(layout, by_key, same_key, Arc::clone(&doubles))?;
    Ok(Distinct { rows, read, doubles })
}

fn taken(read: &Mutex<LoadRead>) -> LoadRead {
    read.lock().clone()
}

/// Writes `rows`, which come by key, into new files of a table that has others.
pub async fn write(engine: &Engine, layout: &Layout, rows: mpsc::Receiver<Result<RecordBatch>>) -> Result<Vec<Add>> {
    let rows = futures::stream::unfold(rows, |mut rows| async move {
        let batch = rows.recv().await?;
        Some((batch.map_err(DataFusionError::from), rows))
    });
    let rows = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&layout.schema), rows));
    write_by_key(engine, layout, Writer::among_others(layout), rows).await
}

async fn write_by_key(
    engine: &Engine,
    layout: &Layout,
    mut writer: Writer<'_>,
    rows: SendableRecordBatchStream,
) -> Result<Vec<Add>> {
    if layout.partition_by.is_empty() {
        writer.write_all(rows).await?;
    } else {
        writer.write_sorted(engine, rows).await?;
    }
    writer.close().await
}

/// The stream of a load's rows, numbered in order.
fn numbered(
    layout: &Layout,
    steps: BoxStream<'static, Result<LoadStep>>,
    read: Arc<Mutex<LoadRead>>,
) -> SendableRecordBatchStream {
    let mut fields = layout.schema.fields().to_vec();
    fields.push(Arc::new(Field::new(CHANGE, DataType::UInt64, false)));
    let schema = Arc::new(Schema::new(fields));
    let start = Numbering { steps, next: 0, schema: Arc::clone(&schema), read };
    let rows =
        futures::stream::try_unfold(start, |mut this| async move { Ok(this.next().await?.map(|batch| (batch, this))) });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

struct Numbering {
    steps: BoxStream<'static, Result<LoadStep>>,
    next: u64,
    schema: SchemaRef,
    read: Arc<Mutex<LoadRead>>,
}

impl Numbering {
    async fn next(&mut self) -> Result<Option<RecordBatch>, DataFusionError> {
        while let Some(step) = self.steps.try_next().await? {
            match step {
                LoadStep::Rows(rows) => {
                    let after = self.next + rows.num_rows() as u64;
                    let mut columns = rows.columns().to_vec();
                    columns.push(Arc::new(UInt64Array::from_iter_values(self.next..after)));
                    self.next = after;
                    return Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?));
                }
                LoadStep::File(file, counts) => {
                    self.read.lock().add(file, counts);
                }
            }
        }
        Ok(None)
    }
}

/// Of the rows of `by_key`, which are sorted by key and number, the last of each key, without its number.
fn without_doubles(
    layout: &Layout,
    by_key: SendableRecordBatchStream,
    same_key: SameKey,
    found: Arc<AtomicU64>,
) -> Result<SendableRecordBatchStream> {
    let start = Some((by_key, Doubles::new(layout, same_key, found)?));
    let rows = futures::stream::try_unfold(start, |state| async move {
        let Some((mut by_key, mut doubles)) = state else { return Ok::<_, DataFusionError>(None) };
        let (rows, state) = match by_key.try_next().await? {
            Some(batch) => (doubles.push(&batch)?, Some((by_key, doubles))),
            None => (doubles.finish().into_iter().collect(), None),
        };
        Ok(Some((futures::stream::iter(rows.into_iter().map(Ok)), state)))
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&layout.schema), rows.try_flatten())))
}

/// Leaves the last of the rows that share a key, out of a stream that is sorted by key and number.
struct Doubles {
    layout: Layout,
    same_key: SameKey,
    converter: RowConverter,
    /// The last row seen, which the next batch may outdate.
    held: Option<(OwnedRow, RecordBatch)>,
    found: Arc<AtomicU64>,
}

impl Doubles {
    fn new(layout: &Layout, same_key: SameKey, found: Arc<AtomicU64>) -> Result<Doubles> {
        let fields = layout.key_fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(Doubles { layout: layout.clone(), same_key, converter: RowConverter::new(fields)?, held: None, found })
    }

    /// The rows that are sure to stay, without their numbers.
    fn push(&mut self, batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let count = batch.num_rows();
        let Some(last) = count.checked_sub(1) else { return Ok(vec![]) };
        let batch = batch.project(&(0..self.layout.schema.fields().len()).collect::<Vec<_>>())?;
        let keys = self.converter.convert_columns(&self.layout.key_columns(&batch))?;
        let mut sure = vec![];
        if let Some((key, row)) = self.held.take() {
            if key.row() == keys.row(0) {
                self.double(&row, &batch.slice(0, 1))?;
            } else {
                sure.push(row);
            }
        }
        let stays: Vec<bool> = (0..last).map(|i| keys.row(i) != keys.row(i + 1)).collect();
        for i in (0..last).filter(|&i| !stays[i]) {
            self.double(&batch.slice(i, 1), &batch.slice(i + 1, 1))?;
        }
        let before_last = batch.slice(0, last);
        sure.push(if stays.contains(&false) {
            filter_record_batch(&before_last, &BooleanArray::from(stays))?
        } else {
            before_last
        });
        self.held = Some((keys.row(last).owned(), batch.slice(last, 1)));
        Ok(sure)
    }

    fn finish(&mut self) -> Option<RecordBatch> {
        self.held.take().map(|(_, row)| row)
    }

    fn double(&mut self, earlier: &RecordBatch, later: &RecordBatch) -> Result<()> {
        self.found.fetch_add(1, Ordering::Relaxed);
        match self.same_key {
            SameKey::LaterStays => Ok(()),
            SameKey::Refuse => Err(Error::definite(format!(
                "the full load holds two rows of one key ({}), and nothing in the source keeps this key unique:\n  {}\n  {}\n\
                 configure a key that tells them apart",
                self.layout.key.join(", "),
                row_text(earlier, 0)?,
                row_text(later, 0)?
            ))),
        }
    }
}

/// The error for a row of a load's later part whose key another part brought.
pub fn double_key_across_runs(layout: &Layout, net: &Net, located: &RoaringTreemap) -> Result<Error> {
    let of_table = located.min();
    let row = of_table.and_then(|change| {
        let numbers = net.keys.column(net.keys.num_columns() - 1);
        let numbers = numbers.as_any().downcast_ref::<UInt64Array>()?;
        numbers.values().iter().position(|number| *number == change)
    });
    let which = match row {
        Some(row) => row_text(&net.keys.project(&(0..layout.key.len()).collect::<Vec<_>>())?, row)?,
        None => "within the new files".to_string(),
    };
    Ok(Error::definite(format!(
        "the full load holds two rows of one key ({}), and nothing in the source keeps this key unique: {which}; configure \
         a key that tells them apart and run with --reload",
        layout.key.join(", ")
    )))
}

/// `column=value, …` of one row.
fn row_text(batch: &RecordBatch, row: usize) -> Result<String> {
    let options = FormatOptions::default().with_null("NULL");
    let cell = |(field, column): (&Arc<Field>, &ArrayRef)| -> Result<String> {
        Ok(format!("{}={}", field.name(), ArrayFormatter::try_new(column.as_ref(), &options)?.value(row)))
    };
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns()).map(cell).collect::<Result<Vec<_>>>()?;
    Ok(cells.join(", "))
}
