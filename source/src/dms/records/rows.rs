//! The rows that one step of reading a file gives.

use arrow::array::{ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter, filter_record_batch};
use arrow::error::ArrowError;

/// What happened to a row at the source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// `I`, and every row of a full load.
    Insert,
    /// `U`; the row is as it was afterwards.
    Update,
    /// `D`; the row is as it was before.
    Delete,
}

/// Rows that follow one another in a file.
#[derive(Clone, PartialEq, Debug)]
pub struct Rows {
    /// The source columns in the table's order.
    pub columns: RecordBatch,
    /// One operation for each row.
    pub operations: Vec<Operation>,
    /// The number of the first row's record in its file, from 1; a header is not a record.
    pub first_record: u64,
    /// The number of each row's record, where those of other tables stand [between](super::RecordReader::of_all_tables).
    pub records: Option<Vec<u64>>,
    /// For each column how many values were zero dates and became NULL: `0000-00-00` with or without a time, a date whose month or day
    /// is zero, and an empty field of a `DATE`, `DATETIME` or `TIMESTAMP` that is NOT NULL.
    pub zero_dates: Vec<u64>,
    /// The commit time of each row in UTC, if it was [asked for](super::RecordReader::with_commit_times) and the files have it.
    pub commit_times: Option<ArrayRef>,
    /// The updates that gave their row another key, where before images tell.
    pub old_keys: Option<OldKeys>,
    /// For each column the rows whose update says nothing of it (CsvNoSupValue); empty if there are none at all.
    pub unchanged: Vec<Option<BooleanBuffer>>,
    /// `$AR_H_CHANGE_SEQ` of each row, where the task adds it.
    pub sequences: Option<StringArray>,
    /// The source's columns that the file does not name, though they were in the table from its load on; they are NULL.
    pub lacking: Vec<usize>,
}

impl Rows {
    /// The number of a row's record in its file.
    pub fn record(&self, row: usize) -> u64 {
        let between = self.records.as_ref().and_then(|records| records.get(row)).copied();
        between.unwrap_or(self.first_record + row as u64)
    }
}

/// The keys that rows had before an update changed them.
#[derive(Clone, PartialEq, Debug)]
pub struct OldKeys {
    /// The numbers of these rows among the rows, ascending.
    pub rows: Vec<usize>,
    /// Their former keys: the key's columns in the key's order, one row for each.
    pub keys: RecordBatch,
}

impl Rows {
    /// All rows but `bad`, which are ascending numbers of rows; the numbers of the others' records are told one by one.
    pub(super) fn without(self, bad: &[usize]) -> Result<Rows, ArrowError> {
        let good: Vec<_> = (0..self.operations.len()).filter(|row| bad.binary_search(row).is_err()).collect();
        let records = good.iter().map(|row| self.record(*row)).collect();
        let mut kept = vec![true; self.operations.len()];
        bad.iter().for_each(|row| kept[*row] = false);
        let kept = BooleanArray::from(kept);
        let those = |rows: &BooleanBuffer| -> BooleanBuffer { good.iter().map(|row| rows.value(*row)).collect() };
        let old_keys = match self.old_keys {
            Some(old) => old.without(bad)?,
            None => None,
        };
        let columns = filter_record_batch(&self.columns, &kept)?;
        let commit_times = self.commit_times.map(|times| filter(&times, &kept)).transpose()?;
        let sequences = self.sequences.map(|sequences| filter(&sequences, &kept)).transpose()?;
        Ok(Rows {
            columns,
            operations: good.iter().map(|row| self.operations[*row]).collect(),
            first_record: self.first_record,
            records: Some(records),
            zero_dates: self.zero_dates,
            commit_times,
            old_keys,
            unchanged: self.unchanged.iter().map(|rows| rows.as_ref().map(those)).collect(),
            sequences: sequences.map(|sequences| sequences.as_string().clone()),
            lacking: self.lacking,
        })
    }
}

impl OldKeys {
    /// The same once the rows `bad` are gone.
    fn without(self, bad: &[usize]) -> Result<Option<OldKeys>, ArrowError> {
        let is_good: Vec<_> = self.rows.iter().map(|row| bad.binary_search(row).is_err()).collect();
        let keys = filter_record_batch(&self.keys, &BooleanArray::from(is_good.clone()))?;
        let good = self.rows.iter().zip(is_good).filter(|(_, good)| *good).map(|(row, _)| row);
        let rows: Vec<_> = good.map(|row| row - bad.partition_point(|gone| gone < row)).collect();
        Ok(if rows.is_empty() { None } else { Some(OldKeys { rows, keys }) })
    }
}

/// For each column the rows of `places`, which are pairs of row and column.
pub(super) fn bits(places: &[(usize, usize)], columns: &RecordBatch) -> Vec<Option<BooleanBuffer>> {
    if places.is_empty() {
        return Vec::new();
    }
    let mut builders: Vec<Option<BooleanBufferBuilder>> = (0..columns.num_columns()).map(|_| None).collect();
    for &(row, column) in places {
        let builder = builders[column].get_or_insert_with(|| {
            let mut builder = BooleanBufferBuilder::new(columns.num_rows());
            builder.append_n(columns.num_rows(), false);
            builder
        });
        builder.set_bit(row, true);
    }
    builders.into_iter().map(|builder| builder.map(|mut builder| builder.finish())).collect()
}
