//! The records of one file of a table, as typed rows with their operations.

mod error;
mod options;
mod piece;
mod rows;

use std::io::Read;
use std::sync::Arc;

use arrow::array::{ArrayBuilder, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

pub use error::{BadRecord, RecordError};
pub use piece::Beginning;
pub use rows::{OldKeys, Operation, Rows};

use super::cut::{Cutter, Fields};
use super::former::Former;
use super::layout::{Layout, Misfit, Places};
use super::names::FileKind;
use super::settings::S3Settings;
use super::shape::Shape;
use super::transactions::TableFilter;
use super::values::{ColumnValues, Field, Refusal, shown};
use crate::name::TableName;
use crate::schema::{DatetimeAs, SqlType, arrow_schema};

/// A batch ends at the latest once it has this many bytes of its file: values of one column must fit 31 bits.
const BATCH_BYTES: usize = 64 << 20;

/// No batch has more rows, since a short field may stand for a longer value.
const BATCH_ROWS: usize = 1 << 20;

/// Reads one file, from its beginning to its end.
///
/// NULL, the empty text and a missing value are told apart as far as the file does (DMS S3 target, CsvNullValue): a
/// field equal to CsvNullValue is NULL; an empty field is NULL where the column allows it, else the empty text or, in a
/// column of dates and times, NULL for a zero date; empty numbers that are NOT NULL are refused except in deletes.
pub struct RecordReader<R: Read> {
    cutter: Cutter<R>,
    fields: Fields,
    /// For doubled quotes, and for the bytes of binary values.
    scratch: (Vec<u8>, Vec<u8>),
    layout: Layout,
    kind: FileKind,
    null_value: Option<Vec<u8>>,
    /// CsvNoSupValue, which only changes have.
    no_sup_value: Option<Vec<u8>>,
    shape: Arc<Shape>,
    /// Of the record at hand, or of the header.
    places: Places,
    values: Vec<ColumnValues>,
    commit_times: Option<ColumnValues>,
    former: Former,
    /// Row and column of each value that an update leaves as it was.
    unchanged: Vec<(usize, usize)>,
    sequences: Option<StringBuilder>,
    /// For a file of all tables' changes.
    filter: Option<TableFilter>,
    schema: SchemaRef,
    header: Header,
    records: u64,
    /// The zero dates in the keys of the batch so far.
    zero_keys: u64,
    /// Where bad records go, if they do not end the reading.
    bad: Option<Vec<BadRecord>>,
    is_piece: bool,
    /// Bytes of the file after which a batch ends.
    step: usize,
    failed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    None,
    Unread,
    Read,
}

impl<R: Read> RecordReader<R> {
    /// Reads `input`, the unpacked contents of a file, as rows of a table.
    pub fn new(input: R, settings: &S3Settings, kind: FileKind, shape: Arc<Shape>, datetime: DatetimeAs) -> Self {
        let layout = Layout::of(settings, kind);
        let places = layout.all_places(&shape);
        let columns = &shape.schema.columns;
        Self {
            cutter: Cutter::new(input, settings),
            fields: Fields::default(),
            scratch: Default::default(),
            kind,
            null_value: settings.csv_null_value.clone().map(String::into_bytes),
            no_sup_value: settings
                .csv_no_sup_value
                .clone()
                .filter(|_| kind == FileKind::Changes)
                .map(String::into_bytes),
            values: (0..columns.len()).map(|column| shape.values(column, datetime)).collect(),
            schema: arrow_schema(columns, datetime),
            commit_times: None,
            former: Former::default(),
            unchanged: Vec::new(),
            sequences: places.sequence.map(|_| StringBuilder::new()),
            filter: None,
            header: if settings.add_column_name { Header::Unread } else { Header::None },
            records: 0,
            zero_keys: 0,
            bad: None,
            is_piece: false,
            step: BATCH_BYTES,
            failed: false,
            places,
            layout,
            shape,
        }
    }

    /// The tables whose records were passed over so far.
    pub fn other_tables(&self) -> impl Iterator<Item = &TableName> {
        self.filter.iter().flat_map(TableFilter::others)
    }

    /// The records that were set apart since this was asked last.
    pub fn take_bad(&mut self) -> Vec<BadRecord> {
        self.bad.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The next rows, at most `max_rows` of them and fewer if they are large; `None` at the end of the file.
    ///
    /// # Errors
    /// At the first record that is no row, unless these are [set apart](Self::setting_bad_apart), and where the file
    /// cannot be cut into records. Rows of the same call are lost with it, and the reader cannot go on.
    pub fn next(&mut self, max_rows: usize) -> Result<Option<Rows>, RecordError> {
        if self.failed {
            return Err(RecordError::bad(self.records, "reading ended at an earlier error".to_owned()));
        }
        let rows = self.read(max_rows.clamp(1, BATCH_ROWS));
        self.failed = rows.is_err();
        rows
    }

    /// How many records have been read so far, the header not counted.
    pub fn records(&self) -> u64 {
        self.records
    }

    fn read(&mut self, max_rows: usize) -> Result<Option<Rows>, RecordError> {
        if self.header == Header::Unread {
            self.header = Header::Read;
            self.read_header()?;
        }
        loop {
            let (mut operations, mut records, mut bytes) = (Vec::new(), Vec::new(), 0);
            let mut bad = Vec::new();
            while operations.len() < max_rows && bytes < self.step {
                let Some(length) = self.cut(self.records + 1)? else { break };
                self.records += 1;
                if self.filter.is_some() {
                    match self.is_of_table() {
                        Ok(true) => records.push(self.records),
                        Ok(false) => continue,
                        Err(error) => {
                            self.set_apart(error, length)?;
                            continue;
                        }
                    }
                }
                bytes += length;
                let row = operations.len();
                operations.push(match self.row(row) {
                    Ok(operation) => operation,
                    Err(error) => {
                        self.set_apart(error, length)?;
                        self.fill(row + 1);
                        bad.push(row);
                        Operation::Delete
                    }
                });
            }
            if operations.is_empty() {
                return Ok(None);
            }
            let first_record = records.first().copied().unwrap_or(self.records + 1 - operations.len() as u64);
            let rows = self.batch(operations, first_record)?;
            let rows = Rows { records: self.filter.is_some().then_some(records), ..rows };
            let rows =
                if bad.is_empty() { rows } else { rows.without(&bad).map_err(RecordError::inner(first_record))? };
            if !rows.operations.is_empty() {
                return Ok(Some(rows));
            }
        }
    }

    /// Keeps the record at hand, which is so many bytes long, if that is wanted.
    fn set_apart(&mut self, error: RecordError, length: usize) -> Result<(), RecordError> {
        match (error, &mut self.bad) {
            (RecordError::Bad { record, column, value, reason }, Some(bad)) => {
                let raw = self.cutter.record(length).to_vec();
                bad.push(BadRecord { record, column, value, reason, raw });
                Ok(())
            }
            (error, _) => Err(error),
        }
    }

    /// Makes `rows` rows of what is there of them, after a record that ended early.
    fn fill(&mut self, rows: usize) {
        for values in self.values.iter_mut().chain(&mut self.commit_times) {
            (values.len()..rows).for_each(|_| values.push_nothing());
        }
        if let Some(sequences) = &mut self.sequences {
            (sequences.len()..rows).for_each(|_| sequences.append_null());
        }
        self.former.fill();
        self.zero_keys = self.count_zero_keys();
    }

    fn count_zero_keys(&self) -> u64 {
        self.former.key().iter().map(|column| self.values[*column].zero_dates()).sum::<u64>() + self.former.zero_dates()
    }

    /// Whether the record at hand is one of the table, in a file of all tables' changes.
    fn is_of_table(&mut self) -> Result<bool, RecordError> {
        let Some(filter) = &mut self.filter else { return Ok(true) };
        let of_table = filter.take(&self.cutter, &mut self.fields);
        let of_table = of_table.map_err(|reason| RecordError::bad(self.records, reason))?;
        if of_table && self.places.timestamp.is_some() {
            let expected = self.layout.all_places(&self.shape).width;
            TableFilter::complete(&self.cutter, &mut self.fields, expected);
        }
        Ok(of_table)
    }

    fn cut(&mut self, record: u64) -> Result<Option<usize>, RecordError> {
        match self.cutter.next(&mut self.fields) {
            Err(stop) if self.is_piece && stop.is_at_end() => Ok(None),
            cut => cut.map_err(|stop| RecordError::stopped(record, stop, |field| self.places.name(field))),
        }
    }

    fn read_header(&mut self) -> Result<(), RecordError> {
        if self.cut(0)?.is_some() {
            let header = self.cutter.header(&self.fields).map_err(RecordError::Header)?;
            let (has_operation, names) = self.layout.columns_of(&header).map_err(RecordError::Header)?;
            let places = Places::by_name(&self.layout, &self.shape, has_operation, names, self.former.key());
            self.places = places.map_err(RecordError::Header)?;
            self.former.keep(&self.places.before);
        }
        Ok(())
    }

    /// Takes the record at hand in, which becomes this row of the batch.
    fn row(&mut self, row: usize) -> Result<Operation, RecordError> {
        if self.fields.count != self.places.width || !self.layout.is_told() {
            self.find_places()?;
        }
        if self.records == 1 && self.header == Header::None && self.is_header() {
            let reason = "it has the names of the columns; if the endpoint sets AddColumnName, s3_settings must say so";
            return Err(RecordError::bad(self.records, reason.to_owned()));
        }
        let operation = self.operation()?;
        let null_value = self.null_value.as_deref();
        if let (Some(field), Some(values)) = (self.places.timestamp, &mut self.commit_times) {
            let span = self.fields.spans[field];
            let text = self.cutter.text(span, &mut self.scratch.0);
            let pushed = values.push(Field { text, quoted: span.quoted(), operation, null_value }, &mut self.scratch.1);
            pushed.map_err(|refusal| {
                RecordError::refused(self.records, self.places.name(field), values, refusal, text)
            })?;
        }
        for (column, (values, field)) in self.values.iter_mut().zip(&self.places.columns).enumerate() {
            let Some(field) = *field else {
                values.push_nothing();
                continue;
            };
            let span = self.fields.spans[field];
            let text = self.cutter.text(span, &mut self.scratch.0);
            let untold = self.no_sup_value.as_deref() == Some(text);
            if untold && operation != Operation::Insert && !self.former.has_in_key(column) {
                if operation == Operation::Update {
                    self.unchanged.push((row, column));
                }
                values.push_nothing();
                continue;
            }
            // a delete may carry its key alone, and carries that
            let operation = if self.former.has_in_key(column) { Operation::Update } else { operation };
            let pushed = match untold {
                true => Err(Refusal::Untold),
                false => values.push(Field { text, quoted: span.quoted(), operation, null_value }, &mut self.scratch.1),
            };
            pushed.map_err(|refusal| {
                let name = self.shape.schema.columns[column].name.clone();
                RecordError::refused(self.records, Some(name), values, refusal, text)
            })?;
        }
        if operation == Operation::Update && !self.places.before.is_empty() {
            self.take_former_key(row)?;
        }
        if self.count_zero_keys() > self.zero_keys {
            return Err(self.zero_key());
        }
        if let Some(sequences) = &mut self.sequences {
            let span = self.places.sequence.map(|field| self.fields.spans[field]);
            let text = span.map(|span| self.cutter.text(span, &mut self.scratch.0));
            let text = text.filter(|text| !text.is_empty() && self.null_value.as_deref() != Some(*text));
            sequences.append_option(text.and_then(|text| str::from_utf8(text).ok()));
        }
        Ok(operation)
    }

    /// True if the record at hand names columns, as the first one does that AddColumnName adds.
    fn is_header(&mut self) -> bool {
        let columns = self.shape.schema.columns.iter().zip(&self.places.columns);
        let mut fields = columns.filter_map(|(column, field)| Some((column, self.fields.spans[(*field)?])));
        // a table of one column may hold the word
        self.places.width > 1
            && fields.all(|(column, span)| {
                self.cutter.text(span, &mut self.scratch.0).eq_ignore_ascii_case(column.name.as_bytes())
            })
    }

    /// The error for a key with a zero date.
    fn zero_key(&mut self) -> RecordError {
        let zero = |column: &&usize| self.values[**column].zero_dates() > 0;
        let Some(&column) = self.former.key().iter().find(zero) else {
            return RecordError::bad(self.records, Refusal::ZeroKey.reason(&SqlType::DateTime(0)));
        };
        let field = self.places.columns[column];
        let text = field.map(|field| self.cutter.text(self.fields.spans[field], &mut self.scratch.0));
        let name = self.shape.schema.columns[column].name.clone();
        RecordError::refused(self.records, Some(name), &self.values[column], Refusal::ZeroKey, text.unwrap_or_default())
    }

    /// Takes in the key that the row had before the update, if it had another one.
    fn take_former_key(&mut self, row: usize) -> Result<(), RecordError> {
        // if any of them has a value, they are filled, and one without is NULL or the empty text
        for &(field, column) in &self.places.before {
            let text = self.cutter.text(self.fields.spans[field], &mut self.scratch.0);
            let is_told = match &self.null_value {
                Some(_) if text.is_empty() => self.values[column].may_be_empty(),
                Some(null_value) => text != null_value,
                None => !text.is_empty(),
            };
            if is_told && self.no_sup_value.as_deref() != Some(text) {
                return self.take_former_values(row);
            }
        }
        Ok(())
    }

    fn take_former_values(&mut self, row: usize) -> Result<(), RecordError> {
        self.former.rows.push(row);
        for &(field, column) in &self.places.before {
            let Some(values) = self.former.values_of(column) else { continue };
            let span = self.fields.spans[field];
            let text = self.cutter.text(span, &mut self.scratch.0);
            let (operation, null_value) = (Operation::Update, self.null_value.as_deref());
            let pushed = values.push(Field { text, quoted: span.quoted(), operation, null_value }, &mut self.scratch.1);
            pushed.map_err(|refusal| {
                RecordError::refused(self.records, self.places.name(field), values, refusal, text)
            })?;
        }
        Ok(())
    }

    /// Finds out where the fields of the record at hand stand: with a header all records are alike.
    fn find_places(&mut self) -> Result<(), RecordError> {
        if self.header == Header::Read {
            return if self.fields.count == self.places.width { Ok(()) } else { Err(self.wrong_count()) };
        }
        let first = match self.fields.spans.first() {
            Some(span) => self.cutter.text(*span, &mut self.scratch.0),
            None => &[],
        };
        let places = match self.layout.places(&self.shape, self.fields.count, first) {
            Ok(places) => places,
            Err(Misfit::Width) => return Err(self.wrong_count()),
            Err(Misfit::Ambiguous) => {
                let reason = "its first field may be the operation or the first column's value; with \
                              CdcInsertsAndUpdates let DMS write both (IncludeOpForFullLoad), or a header (AddColumnName)";
                return Err(RecordError::bad(self.records, reason.to_owned()));
            }
        };
        let mut missing = (0..places.columns.len()).filter(|column| places.columns[*column].is_none());
        if missing.any(|column| !self.shape.may_lack(column) || self.former.has_in_key(column)) {
            return Err(self.wrong_count());
        }
        self.places = places;
        Ok(())
    }

    /// In a full load an empty operation is that of a row which was loaded before the setting was.
    fn operation(&mut self) -> Result<Operation, RecordError> {
        let Some(span) = self.fields.spans.first().copied().filter(|_| self.places.has_operation) else {
            // a change that does not say what it is may be either, and an update is right for both
            let untold = self.kind == FileKind::Changes && !self.layout.is_told();
            return Ok(match untold {
                true if self.is_marked_as_deleted() => Operation::Delete,
                true => Operation::Update,
                false => Operation::Insert,
            });
        };
        let text = self.cutter.text(span, &mut self.scratch.0);
        match (self.kind, text) {
            (_, b"I") => Ok(Operation::Insert),
            (FileKind::Changes, b"U") => {
                Ok(if self.is_marked_as_deleted() { Operation::Delete } else { Operation::Update })
            }
            (FileKind::Changes, b"D") => Ok(Operation::Delete),
            (FileKind::Load, text) if text.is_empty() || self.null_value.as_deref() == Some(text) => {
                Ok(Operation::Insert)
            }
            (kind, text) => {
                let value = Some(shown(text));
                let known = if kind == FileKind::Load { "a full load has I alone" } else { "I, U and D are known" };
                let reason = format!("is an unknown operation; {known}");
                Err(RecordError::Bad { record: self.records, column: self.places.name(0), value, reason })
            }
        }
    }

    /// With `operation_indicator` a delete may come as an update of the row that it marks.
    fn is_marked_as_deleted(&mut self) -> bool {
        self.places.indicator.as_ref().is_some_and(|(field, marker)| {
            let text = self.cutter.text(self.fields.spans[*field], &mut self.scratch.0);
            text == marker
        })
    }

    fn wrong_count(&self) -> RecordError {
        let all = if self.header == Header::Read { None } else { Some(self.layout.all_places(&self.shape)) };
        let places = all.as_ref().unwrap_or(&self.places);
        let mut scratch = vec![];
        let first = self.fields.spans.first().map_or(&[][..], |span| self.cutter.text(*span, &mut scratch));
        RecordError::of_width(self.records, self.fields.count, first, self.kind, places)
    }

    fn batch(&mut self, operations: Vec<Operation>, first_record: u64) -> Result<Rows, RecordError> {
        let (mut arrays, mut zero_dates) =
            (Vec::with_capacity(self.values.len()), Vec::with_capacity(self.values.len()));
        let inner = |error: ArrowError| RecordError::inner(first_record)(error);
        self.zero_keys = 0;
        for values in &mut self.values {
            let (array, zeros) = values.finish().map_err(inner)?;
            arrays.push(array);
            zero_dates.push(zeros);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(operations.len()));
        let columns = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(inner)?;
        let commit_times = match &mut self.commit_times {
            Some(values) => Some(values.finish().map_err(inner)?.0),
            None => None,
        };
        let old_keys = self.former.finish(&columns, &mut zero_dates).map_err(inner)?;
        let unchanged = rows::bits(&std::mem::take(&mut self.unchanged), &columns);
        let sequences = self.sequences.as_mut().map(StringBuilder::finish);
        Ok(Rows {
            columns,
            operations,
            first_record,
            records: None,
            zero_dates,
            commit_times,
            old_keys,
            unchanged,
            sequences,
            lacking: self.shape.lacking(&self.places.columns),
        })
    }
}

#[cfg(test)]
mod tests;
