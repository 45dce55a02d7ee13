//! Record batches to bytes: the five forms an answer can have. Batches in, bytes out; nothing is
//! written here. Parts of an answer are encoded apart from one another, so that all threads can.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json;
use arrow::json::writer::JsonFormat;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;
use datafusion::error::DataFusionError;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use datafusion::parquet::basic::Compression;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::parquet::file::writer::SerializedFileWriter;
use std::sync::Arc;

use super::QueryError;

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A box for people. Control characters are escaped.
    #[default]
    Table,
    /// RFC 4180 with a header and `\n` line ends; NULL is empty, binary is hexadecimal.
    Csv,
    /// One array of objects. Decimals are numbers with all their digits, NULL, NaN and infinity are
    /// `null`, binary is a hexadecimal string, times are ISO 8601: with `Z` if they are UTC.
    Json,
    /// The objects of [`Format::Json`], one a line.
    Ndjson,
    /// One Parquet file, and so one answer.
    Parquet,
}

/// The rows of one box. A box needs all its rows to know its widths, so this bounds the memory.
pub const BOX: usize = 10_000;

/// Row groups of an answer in Parquet, which are held until they are encoded.
const ROW_GROUP_ROWS: usize = 128 * 1024;
const ROW_GROUP_BYTES: usize = 32 << 20;

impl Format {
    /// How many rows, and bytes of them, are encoded together; a batch of any size where it does not matter.
    pub fn part(self) -> Option<(usize, usize)> {
        match self {
            Self::Table => Some((BOX, usize::MAX)),
            Self::Parquet => Some((ROW_GROUP_ROWS, ROW_GROUP_BYTES)),
            Self::Csv | Self::Json | Self::Ndjson => None,
        }
    }
}

/// An answer as it is put together from parts, each of which is [encoded](Encoder) by itself.
pub enum Whole {
    Text { format: Format, schema: SchemaRef, parts: usize },
    Parquet(Box<SerializedFileWriter<Vec<u8>>>),
}

/// What encodes parts of an answer, several at a time.
#[derive(Clone)]
pub enum Encoder {
    Text(fn(&[RecordBatch]) -> Result<Vec<u8>, QueryError>),
    Parquet(SchemaRef, Arc<ArrowRowGroupWriterFactory>),
}

/// An encoded part of an answer.
pub enum Part {
    Text(Vec<u8>),
    RowGroup(Vec<ArrowColumnChunk>),
}

/// An answer without parts, and what encodes them.
pub fn start(format: Format, schema: SchemaRef) -> Result<(Whole, Encoder), QueryError> {
    let encode = match format {
        Format::Table => table_text,
        Format::Csv => csv_rows,
        Format::Json => json_members,
        Format::Ndjson => json_text::<json::writer::LineDelimited>,
        Format::Parquet => return start_parquet(schema),
    };
    if matches!(format, Format::Json | Format::Ndjson) {
        distinct_names(&schema)?;
    }
    Ok((Whole::Text { format, schema, parts: 0 }, Encoder::Text(encode)))
}

fn start_parquet(schema: SchemaRef) -> Result<(Whole, Encoder), QueryError> {
    distinct_names(&schema)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties));
    let writer = writer.and_then(ArrowWriter::into_serialized_writer);
    let (file, columns) = writer.map_err(DataFusionError::from)?;
    Ok((Whole::Parquet(Box::new(file)), Encoder::Parquet(schema, Arc::new(columns))))
}

impl Whole {
    /// Gives what comes before all parts.
    pub fn begin(&self) -> Result<Vec<u8>, QueryError> {
        match self {
            Self::Text { format: Format::Csv, schema, .. } => {
                csv_text(&flattened(&RecordBatch::new_empty(Arc::clone(schema)))?, true)
            }
            Self::Text { format: Format::Json, .. } => Ok(b"[".to_vec()),
            _ => Ok(Vec::new()),
        }
    }

    /// Takes the next part, from the encoder that it came with, and gives the bytes that are ready.
    pub fn append(&mut self, part: Part) -> Result<Vec<u8>, QueryError> {
        match (self, part) {
            (Self::Text { format, parts, .. }, Part::Text(text)) => {
                *parts += 1;
                let follows = *format == Format::Json && *parts > 1;
                Ok(if follows { [b",".as_slice(), &text].concat() } else { text })
            }
            (Self::Parquet(file), Part::RowGroup(chunks)) => {
                append_row_group(file, chunks).map_err(DataFusionError::from)?;
                Ok(std::mem::take(file.inner_mut()))
            }
            _ => Err(QueryError::sql("a part of an answer is of another format")),
        }
    }

    /// Gives what comes behind all parts.
    pub fn finish(self) -> Result<Vec<u8>, QueryError> {
        match self {
            // an empty answer still shows its columns
            Self::Text { format: Format::Table, schema, parts: 0 } => table_text(&[RecordBatch::new_empty(schema)]),
            Self::Text { format: Format::Json, .. } => Ok(b"]\n".to_vec()),
            Self::Text { .. } => Ok(Vec::new()),
            Self::Parquet(mut file) => {
                file.finish().map_err(DataFusionError::from)?;
                Ok(std::mem::take(file.inner_mut()))
            }
        }
    }
}

fn append_row_group(
    file: &mut SerializedFileWriter<Vec<u8>>,
    chunks: Vec<ArrowColumnChunk>,
) -> Result<(), ParquetError> {
    let mut group = file.next_row_group()?;
    chunks.into_iter().try_for_each(|chunk| chunk.append_to_row_group(&mut group))?;
    group.close().map(drop)
}

impl Encoder {
    pub fn encode(&self, rows: &[RecordBatch]) -> Result<Part, QueryError> {
        match self {
            Self::Text(encode) => encode(rows).map(Part::Text),
            Self::Parquet(schema, columns) => {
                Ok(Part::RowGroup(row_group(schema, columns, rows).map_err(DataFusionError::from)?))
            }
        }
    }
}

fn row_group(
    schema: &Schema,
    columns: &ArrowRowGroupWriterFactory,
    rows: &[RecordBatch],
) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
    let mut writers = columns.create_column_writers(0)?;
    for batch in rows {
        // a nested column has several leaves
        let mut writers = writers.iter_mut();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            let leaves = compute_leaves(field, column)?;
            leaves.iter().zip(&mut writers).try_for_each(|(leaf, writer)| writer.write(leaf))?;
        }
    }
    writers.into_iter().map(ArrowColumnWriter::close).collect()
}

fn csv_rows(rows: &[RecordBatch]) -> Result<Vec<u8>, QueryError> {
    let texts = rows.iter().map(|batch| csv_text(&flattened(batch)?, false));
    Ok(texts.collect::<Result<Vec<_>, _>>()?.concat())
}

/// Objects without the brackets, which are those of the whole answer.
fn json_members(rows: &[RecordBatch]) -> Result<Vec<u8>, QueryError> {
    let text = json_text::<json::writer::JsonArray>(rows)?;
    Ok(text.get(1..text.len().saturating_sub(1)).unwrap_or_default().to_vec())
}

fn json_text<F: JsonFormat>(rows: &[RecordBatch]) -> Result<Vec<u8>, QueryError> {
    let mut writer = json::WriterBuilder::new().with_explicit_nulls(true).build::<_, F>(Vec::new());
    rows.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    Ok(writer.into_inner())
}

fn table_text(rows: &[RecordBatch]) -> Result<Vec<u8>, QueryError> {
    let options = FormatOptions::default().with_display_error(true).with_null("NULL");
    let text = pretty_format_batches_with_options(rows, &options)?;
    Ok(format!("{}\n", harmless(&text.to_string())).into_bytes())
}

/// Control characters as their escapes: a terminal would obey what somebody wrote into a row.
fn harmless(text: &str) -> String {
    let is_harmful = |c: char| c.is_control() && c != '\n';
    let escaped = |c: char| if is_harmful(c) { c.escape_default().collect() } else { c.to_string() };
    if text.contains(is_harmful) { text.chars().map(escaped).collect() } else { text.to_string() }
}

/// JSON readers keep only one of two members with the same name, and readers of Parquet refuse two such columns.
fn distinct_names(schema: &Schema) -> Result<(), QueryError> {
    let mut seen = HashSet::new();
    match schema.fields().iter().find(|field| !seen.insert(field.name())) {
        None => Ok(()),
        Some(field) => Err(QueryError::sql(format!(
            "two columns of the answer are called {}, which readers of this format do not tell apart; name one with AS",
            field.name()
        ))),
    }
}

fn csv_text(batch: &RecordBatch, header: bool) -> Result<Vec<u8>, QueryError> {
    let mut text = Vec::new();
    csv::WriterBuilder::new().with_header(header).build(&mut text).write(batch)?;
    Ok(text)
}

/// Nested values as text: arrow's CSV writer refuses them.
fn flattened(batch: &RecordBatch) -> Result<RecordBatch, QueryError> {
    let schema = batch.schema();
    if !schema.fields().iter().any(|field| field.data_type().is_nested()) {
        return Ok(batch.clone());
    }
    let flat = |(field, column): (&Arc<Field>, &ArrayRef)| -> Result<_, QueryError> {
        if !field.data_type().is_nested() {
            return Ok((field.as_ref().clone(), Arc::clone(column)));
        }
        let options = FormatOptions::default().with_null("NULL");
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
        let text = |row| column.is_valid(row).then(|| formatter.value(row).to_string());
        let text = (0..column.len()).map(text).collect::<StringArray>();
        let field = Field::new(field.name(), DataType::Utf8, true);
        Ok((field, Arc::new(text) as ArrayRef))
    };
    let columns = schema.fields().iter().zip(batch.columns()).map(flat);
    let (fields, columns): (Vec<_>, Vec<_>) = columns.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
