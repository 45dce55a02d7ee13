//! Record batches to bytes: the five forms an answer can have. Batches in, bytes out; nothing is
//! written here.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;
use datafusion::error::DataFusionError;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::WriterProperties;
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

/// Row groups of an answer in Parquet, which are held while they fill.
const ROW_GROUP_ROWS: usize = 128 * 1024;
const ROW_GROUP_BYTES: usize = 32 << 20;

/// The answer to one statement, on its way to bytes.
pub enum Encoder {
    Table { schema: SchemaRef, held: Vec<RecordBatch>, rows: usize, boxes: usize },
    Csv { header: Option<SchemaRef> },
    Json(json::Writer<Vec<u8>, json::writer::JsonArray>),
    Ndjson(json::Writer<Vec<u8>, json::writer::LineDelimited>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

impl Encoder {
    pub fn new(format: Format, schema: SchemaRef) -> Result<Self, QueryError> {
        let options = || json::WriterBuilder::new().with_explicit_nulls(true);
        Ok(match format {
            Format::Table => Self::Table { schema, held: Vec::new(), rows: 0, boxes: 0 },
            Format::Csv => Self::Csv { header: Some(schema) },
            Format::Json => {
                distinct_names(&schema)?;
                Self::Json(options().build(Vec::new()))
            }
            Format::Ndjson => {
                distinct_names(&schema)?;
                Self::Ndjson(options().build(Vec::new()))
            }
            Format::Parquet => {
                distinct_names(&schema)?;
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
                    .build();
                let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties));
                Self::Parquet(Box::new(writer.map_err(DataFusionError::from)?))
            }
        })
    }

    /// Takes rows, and gives the text that is ready.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        match self {
            Self::Table { held, rows, .. } => {
                let room = BOX - *rows;
                if batch.num_rows() <= room {
                    *rows += batch.num_rows();
                    held.push(batch.clone());
                    return Ok(Vec::new());
                }
                *rows = BOX;
                held.push(batch.slice(0, room));
                let text = self.close_box()?;
                let rest = batch.slice(room, batch.num_rows() - room);
                Ok([text, self.encode(&rest)?].concat())
            }
            Self::Csv { header } => csv_text(&flattened(batch)?, header.take().is_some()),
            Self::Json(writer) => {
                writer.write(batch)?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Ndjson(writer) => {
                writer.write(batch)?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Parquet(writer) => {
                writer.write(batch).map_err(DataFusionError::from)?;
                Ok(std::mem::take(writer.inner_mut()))
            }
        }
    }

    /// Gives the rest of the text.
    pub fn finish(mut self) -> Result<Vec<u8>, QueryError> {
        match &mut self {
            Self::Table { .. } => self.close_box(),
            Self::Csv { header } => match header.take() {
                Some(schema) => csv_text(&flattened(&RecordBatch::new_empty(schema))?, true),
                None => Ok(Vec::new()),
            },
            Self::Json(writer) => {
                writer.finish()?;
                writer.get_mut().push(b'\n');
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Ndjson(_) => Ok(Vec::new()),
            Self::Parquet(writer) => {
                writer.finish().map_err(DataFusionError::from)?;
                Ok(std::mem::take(writer.inner_mut()))
            }
        }
    }

    fn close_box(&mut self) -> Result<Vec<u8>, QueryError> {
        let Self::Table { schema, held, rows, boxes } = self else {
            return Ok(Vec::new());
        };
        // An empty answer still shows its columns; a full one does not end with an empty box.
        if *rows == 0 && *boxes > 0 {
            return Ok(Vec::new());
        }
        held.push(RecordBatch::new_empty(Arc::clone(schema)));
        let options = FormatOptions::default().with_display_error(true).with_null("NULL");
        let text = pretty_format_batches_with_options(held, &options)?;
        held.clear();
        *rows = 0;
        *boxes += 1;
        Ok(format!("{}\n", harmless(&text.to_string())).into_bytes())
    }
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
