//! Rows in the order of some of their columns, however many they are: what fits into the memory is sorted, goes to disk
//! as a run where more comes, and in the end the runs are merged.
//!
//! DataFusion's sort refuses what it should spill when the memory it reserved for merging does not suffice, or when
//! others have taken it (T-A26); here the rows, their keys and their order are counted as they are. The runs are
//! written and merged by DataFusion, in several rounds where they are many.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::sorts::streaming_merge::{SortedSpillFile, StreamingMergeBuilder};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use futures::TryStreamExt;
use tokio::task::spawn_blocking;

use super::net::Packed;
use super::order::order;
use super::upserts::take;
use super::write::Layout;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Bytes of rows that go to disk at a time.
const CHUNK: usize = 512 << 10;
/// A merge holds four chunks of each run, and should have memory for at least sixteen runs.
const CHUNKS: usize = 4 * 16;
/// With four times the largest chunk two runs can be merged, chunk by chunk.
const LEAST: usize = 4;
/// Bytes that come out at a time, about: an array of texts holds 2 GB.
const AT_ONCE: usize = 32 << 20;
/// Rows that come out at a time, at most.
const ROWS: usize = 8192;
/// What a row takes beside its values and the binary form of its key: an entry of the order, and its place.
const OVERHEAD: usize = 24;

/// The rows of `rows` by the columns of the numbers `by`, one after the other, NULL first.
pub async fn sorted(
    engine: &Engine,
    layout: &Layout,
    by: &[usize],
    rows: SendableRecordBatchStream,
) -> Result<SendableRecordBatchStream> {
    let sort = Sort { by, memory: engine.sort_memory() / layout.sorts_at_once(), threads: engine.threads() };
    sort.sorted(&engine.session().task_ctx(), rows).await
}

/// How rows are sorted.
struct Sort<'a> {
    by: &'a [usize],
    /// Bytes that the rows may take before they go to disk, and that runs are merged in.
    memory: usize,
    threads: usize,
}

impl Sort<'_> {
    async fn sorted(
        &self,
        task: &TaskContext,
        mut rows: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream> {
        let schema = rows.schema();
        let mut runs = Runs::new(task, &schema, CHUNK.min(self.memory / CHUNKS));
        let mut run = Run::new(&schema, self.by)?;
        while let Some(batch) = rows.try_next().await? {
            run.push(batch)?;
            if run.bytes() > self.memory {
                let full = std::mem::replace(&mut run, Run::new(&schema, self.by)?);
                runs.write(full.in_order(self.threads).await?).await?;
            }
        }
        if runs.written.is_empty() {
            return Ok(streamed(schema, run.in_order(self.threads).await?));
        }
        if !run.batches.is_empty() {
            runs.write(run.in_order(self.threads).await?).await?;
        }
        runs.merged(self)
    }
}

/// Rows in memory, as they come.
struct Run {
    by: Vec<usize>,
    batches: Vec<RecordBatch>,
    converter: RowConverter,
    keys: Rows,
    /// True if they came in order, as those of a load nearly always do.
    in_order: bool,
    values: usize,
}

impl Run {
    fn new(schema: &SchemaRef, by: &[usize]) -> Result<Run> {
        let fields = by.iter().map(|column| SortField::new(schema.field(*column).data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let keys = converter.empty_rows(0, 0);
        Ok(Run { by: by.to_vec(), batches: vec![], converter, keys, in_order: true, values: 0 })
    }

    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let keys: Vec<ArrayRef> = self.by.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        let first_new = self.keys.num_rows();
        self.converter.append(&mut self.keys, &keys)?;
        let mut new = first_new.max(1)..self.keys.num_rows();
        self.in_order &= new.all(|row| self.keys.row(row - 1) <= self.keys.row(row));
        self.values += batch.get_array_memory_size();
        self.batches.push(batch);
        Ok(())
    }

    /// What it takes, and what it will take to order it.
    fn bytes(&self) -> usize {
        self.values + self.keys.size() + self.keys.num_rows() * OVERHEAD
    }

    async fn in_order(self, threads: usize) -> Result<InOrder> {
        let ordered = move || {
            let Run { batches, keys, values, in_order, .. } = self;
            let row = values / keys.num_rows().max(1);
            if in_order {
                return Ok(InOrder { batches, places: None, row });
            }
            let of_batch = |(batch, rows): (usize, &RecordBatch)| (0..rows.num_rows()).map(move |row| (batch, row));
            let places: Vec<_> = batches.iter().enumerate().flat_map(of_batch).map(Packed::new).collect();
            let order = order(vec![keys], threads)?;
            Ok(InOrder { places: Some(order.numbers().map(|number| places[number]).collect()), batches, row })
        };
        spawn_blocking(ordered).await?
    }
}

/// Rows in memory, in order.
struct InOrder {
    batches: Vec<RecordBatch>,
    /// Where each row is, if they are not in order as they lie.
    places: Option<Vec<Packed>>,
    /// Bytes of a row, about.
    row: usize,
}

type Chunks = Box<dyn Iterator<Item = Result<RecordBatch, DataFusionError>> + Send>;

impl InOrder {
    /// The rows, at most so many at a time.
    fn chunks(self, rows: usize) -> Chunks {
        let InOrder { batches, places, .. } = self;
        match places {
            None => Box::new(batches.into_iter().flat_map(move |batch| {
                let starts = (0..batch.num_rows()).step_by(rows);
                starts.map(move |start| Ok(batch.slice(start, rows.min(batch.num_rows() - start))))
            })),
            Some(places) => {
                let starts = (0..places.len()).step_by(rows);
                Box::new(starts.map(move |start| {
                    let places = &places[start..places.len().min(start + rows)];
                    Ok(take(&batches, places)?)
                }))
            }
        }
    }
}

/// Runs on disk.
struct Runs {
    schema: SchemaRef,
    files: SpillManager,
    metrics: ExecutionPlanMetricsSet,
    written: Vec<SortedSpillFile>,
    /// Bytes of a chunk, about.
    chunk: usize,
    /// Rows of a chunk of the widest rows so far.
    rows: usize,
}

impl Runs {
    fn new(task: &TaskContext, schema: &SchemaRef, chunk: usize) -> Runs {
        let metrics = ExecutionPlanMetricsSet::new();
        let files = SpillManager::new(task.runtime_env(), SpillMetrics::new(&metrics, 0), Arc::clone(schema));
        Runs { schema: Arc::clone(schema), files, metrics, written: vec![], chunk, rows: ROWS }
    }

    async fn write(&mut self, run: InOrder) -> Result<()> {
        let (files, rows) = (self.files.clone(), rows_of(self.chunk, run.row));
        self.rows = self.rows.min(rows);
        let write = move || {
            let mut file = files.create_in_progress_file("rows in order")?;
            let mut largest = 0;
            for chunk in run.chunks(rows) {
                largest = largest.max(file.append_batch(&chunk?)?);
            }
            Ok::<_, Error>(file.finish()?.map(|file| SortedSpillFile { file, max_record_batch_memory: largest }))
        };
        self.written.extend(spawn_blocking(write).await??);
        Ok(())
    }

    fn merged(self, sort: &Sort<'_>) -> Result<SendableRecordBatchStream> {
        let options = SortOptions { descending: false, nulls_first: true };
        let columns = sort.by.iter().map(|&column| Column::new(self.schema.field(column).name(), column));
        let order = LexOrdering::new(columns.map(|column| PhysicalSortExpr::new(Arc::new(column), options)));
        let order = order.ok_or_else(|| Error::definite("rows are sorted by no column"))?;
        let largest = self.written.iter().map(|run| run.max_record_batch_memory).max().unwrap_or_default();
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(sort.memory.max(LEAST * largest)));
        let mut merged = StreamingMergeBuilder::new()
            .with_sorted_spill_files(self.written)
            .with_spill_manager(self.files)
            .with_schema(Arc::clone(&self.schema))
            .with_expressions(&order)
            .with_metrics(BaselineMetrics::new(&self.metrics, 0))
            .with_batch_size(self.rows)
            .with_reservation(MemoryConsumer::new("merging runs").register(&pool))
            .build()?;
        // a task of its own, so that who takes the rows works beside it
        let mut stream = RecordBatchReceiverStreamBuilder::new(self.schema, 2);
        let out = stream.tx();
        stream.spawn(async move {
            while let Some(batch) = merged.try_next().await? {
                if out.send(Ok(batch)).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        Ok(stream.build())
    }
}

/// How many rows of so many bytes go into a chunk of `bytes`.
fn rows_of(bytes: usize, row: usize) -> usize {
    (bytes / row.max(1)).clamp(1, ROWS)
}

/// The rows of a run that never went to disk, gathered beside whoever takes them.
fn streamed(schema: SchemaRef, run: InOrder) -> SendableRecordBatchStream {
    let mut stream = RecordBatchReceiverStreamBuilder::new(schema, 2);
    let out = stream.tx();
    stream.spawn_blocking(move || {
        let rows = rows_of(AT_ONCE, run.row);
        for chunk in run.chunks(rows) {
            if out.blocking_send(chunk).is_err() {
                break;
            }
        }
        Ok(())
    });
    stream.build()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array, StringArray};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::execution::runtime_env::RuntimeEnv;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use proptest::collection::vec;
    use proptest::{option, prelude::*};

    use super::*;

    type Values = (Option<String>, Option<i64>);

    /// `values` in batches of so many rows, sorted within so many bytes.
    async fn sorted(values: &[Values], rows: usize, memory: usize) -> Result<Vec<Values>> {
        let rows = batches(values, rows, memory).await?;
        let rows = rows.iter().flat_map(|batch| {
            let texts = batch.column(0).as_string::<i32>().iter().map(|text| text.map(str::to_owned));
            texts.zip(batch.column(1).as_primitive::<Int64Type>())
        });
        Ok(rows.collect())
    }

    async fn batches(values: &[Values], rows: usize, memory: usize) -> Result<Vec<RecordBatch>> {
        let batches = values.chunks(rows).map(|values| {
            let (texts, numbers): (Vec<_>, Vec<_>) = values.iter().cloned().unzip();
            let columns: [(_, ArrayRef, _); 2] =
                [("t", Arc::new(StringArray::from(texts)), true), ("n", Arc::new(Int64Array::from(numbers)), true)];
            Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
        });
        let batches = batches.collect::<Result<Vec<_>>>()?;
        let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(vec![]) };
        let batches = futures::stream::iter(batches.into_iter().map(Ok));
        let task = TaskContext::default().with_runtime(Arc::new(RuntimeEnv::default()));
        let sort = Sort { by: &[1, 0], memory, threads: 2 };
        let sorted = sort.sorted(&task, Box::pin(RecordBatchStreamAdapter::new(schema, batches))).await?;
        Ok(sorted.try_collect().await?)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_come_in_order_whatever_the_memory(
            values in vec((option::of("[a-c]{0,20}"), option::of(-4i64..4)), 0..200),
            rows in 1usize..50,
            memory in 100usize..20_000,
        ) {
            let mut expected = values.clone();
            expected.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
            prop_assert_eq!(runtime().block_on(sorted(&values, rows, memory)).unwrap(), expected);
        }
    }

    #[test]
    fn wide_rows_behind_narrow_ones_come_a_few_at_a_time() {
        let (memory, wide) = (1 << 20, "x".repeat(50_000));
        let text = |i: i64| if i < 10_000 { String::new() } else { wide.clone() };
        let values: Vec<_> = (0..10_200).map(|i| (Some(text(i)), Some(i * 7919 % 10_200))).collect();
        let batches = runtime().block_on(batches(&values, 100, memory)).unwrap();
        let largest = batches.iter().map(RecordBatch::get_array_memory_size).max().unwrap();
        assert!(largest < memory, "{largest} bytes at a time");
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), values.len());
    }

    #[test]
    fn many_runs_are_merged_in_rounds() {
        let values: Vec<_> =
            (0..40_000).map(|i| (Some(format!("{i} {}", "x".repeat(100))), Some(i * 7919 % 40_000))).collect();
        let sorted = runtime().block_on(sorted(&values, 500, 200_000)).unwrap();
        assert!(sorted.iter().map(|(_, number)| *number).eq((0..40_000).map(Some)));
    }
}
