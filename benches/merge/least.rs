//! What a piece of work takes at the least: the steps that nobody gets around who starts from the change file, each done by
//! itself on all cores, with everything in memory. Where a target was missed, this tells what any tool could reach with
//! the same libraries.

use std::path::{Path, PathBuf};
use std::time::Instant;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::parquet::column::page::Page;
use deltalake::parquet::file::reader::{FileReader, SerializedFileReader};
use lakemerge::merge::write::properties;
use snap::raw::{Decoder, Encoder};

use crate::Result;
use crate::arrow_csv::{self, on_threads};
use crate::changes::OPERATION;
use crate::rows::Kind;

/// The best of so many rounds counts.
const ROUNDS: usize = 3;

/// Seconds of each step.
#[derive(Debug, Clone, Copy)]
pub struct Least {
    /// Reading the change file with arrow-csv.
    pub read: f64,
    /// Encoding the new rows with parquet's writer.
    pub encoded: f64,
    /// Unpacking the pages of the files that are written again, with Snappy.
    pub unpacked: f64,
}

impl Least {
    /// Of the changes in the DMS file `changes`, which are those of the Parquet file `net`; nothing is written again.
    pub fn of(kind: Kind, changes: &Path, net: &Path) -> Result<Least> {
        let content = std::fs::read(changes)?;
        let parts = parts(&content, threads()?);
        let rows = new_rows(net)?;
        let shares = shares(&rows, threads()?);
        Ok(Least {
            read: best(|| arrow_csv::read(kind, &parts))?,
            encoded: best(|| on_threads(&shares, |rows| encoded(kind, rows)))?,
            unpacked: 0.0,
        })
    }

    /// The same where the files `replaced` are written again.
    pub fn replacing(self, replaced: &[PathBuf]) -> Result<Least> {
        let mut unpacked = 0.0;
        for file in replaced {
            let pages = packed_pages(file)?;
            let shares = shares(&pages, threads()?);
            unpacked += best(|| on_threads(&shares, |pages| pages.iter().try_for_each(|page| unpack(page))))?;
        }
        Ok(Least { unpacked, ..self })
    }

    pub fn seconds(&self) -> f64 {
        self.read + self.encoded + self.unpacked
    }
}

fn threads() -> Result<usize> {
    Ok(std::thread::available_parallelism()?.get())
}

fn shares<T>(all: &[T], count: usize) -> Vec<&[T]> {
    all.chunks(all.len().div_ceil(count).max(1)).collect()
}

fn best<T>(work: impl Fn() -> Result<T>) -> Result<f64> {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// `content` in parts of about the same size, cut between lines.
fn parts(content: &[u8], count: usize) -> Vec<&[u8]> {
    let (mut parts, mut rest) = (vec![], content);
    for left in (1..=count).rev() {
        let from = rest.len() / left;
        let end = rest[from..].iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| from + at + 1);
        let (part, others) = rest.split_at(end);
        parts.push(part);
        rest = others;
    }
    parts
}

/// The rows that are to be there afterwards.
fn new_rows(net: &Path) -> Result<Vec<RecordBatch>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(net)?)?;
    let mut rows = vec![];
    for batch in reader.with_batch_size(arrow_csv::ROWS).build()? {
        let mut batch = batch?;
        let operations = batch.remove_column(batch.schema().index_of(OPERATION)?);
        let stays = operations.as_string::<i32>().iter().map(|operation| Some(operation != Some("D")));
        rows.push(filter_record_batch(&batch, &stays.collect::<BooleanArray>())?);
    }
    Ok(rows)
}

fn encoded(kind: Kind, rows: &[RecordBatch]) -> Result<()> {
    let key: Vec<_> = kind.key().iter().map(|name| name.to_string()).collect();
    let mut writer = ArrowWriter::try_new(vec![], kind.schema(), Some(properties(&key).build()))?;
    rows.iter().try_for_each(|rows| writer.write(rows))?;
    writer.close()?;
    Ok(())
}

/// The data pages of a file as Snappy packs them.
fn packed_pages(file: &Path) -> Result<Vec<Vec<u8>>> {
    let reader = SerializedFileReader::new(std::fs::File::open(file)?)?;
    let (mut encoder, mut packed) = (Encoder::new(), vec![]);
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        for column in 0..group.num_columns() {
            for page in group.get_column_page_reader(column)? {
                if let Page::DataPage { buf, .. } | Page::DataPageV2 { buf, .. } = page? {
                    packed.push(encoder.compress_vec(&buf)?);
                }
            }
        }
    }
    Ok(packed)
}

fn unpack(page: &[u8]) -> Result<()> {
    std::hint::black_box(Decoder::new().decompress_vec(page)?);
    Ok(())
}
