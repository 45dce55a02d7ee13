//! Changes as they come out of raw files: typed rows with their operations, in the order of the source.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, new_null_array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::interleave;
use lakemerge_source::dms::records::{OldKeys, Operation};

use super::metadata::MetadataColumn;
use crate::error::Result;

/// Rows that follow one another in one raw file.
#[derive(Clone)]
pub struct ChangeRows {
    /// The table's columns, the added ones too.
    pub columns: RecordBatch,
    pub operations: Vec<Operation>,
    /// The rows, ascending, that stand for no record of their own: each takes the key away that its row had before the
    /// update right behind it gave it another.
    pub moved: Vec<usize>,
    /// For each column the rows whose update says nothing of it; empty if there are none at all.
    pub unchanged: Vec<Option<BooleanBuffer>>,
    /// The raw file, for messages.
    pub file: Arc<str>,
    /// The number of the first record.
    pub first_record: u64,
    /// The number of each record, where those of other tables stand between.
    pub records: Option<Vec<u64>>,
}

impl ChangeRows {
    /// Rows of which every one is whole and stands for a record.
    pub fn whole(columns: RecordBatch, operations: Vec<Operation>) -> ChangeRows {
        ChangeRows {
            columns,
            operations,
            moved: vec![],
            unchanged: vec![],
            file: "".into(),
            first_record: 1,
            records: None,
        }
    }

    /// The number of the record that `row` comes from.
    pub fn record(&self, row: usize) -> u64 {
        let place = row - self.moved.partition_point(|moved| *moved < row);
        let between = self.records.as_ref().and_then(|records| records.get(place)).copied();
        between.unwrap_or(self.first_record + place as u64)
    }

    pub fn is_moved(&self, row: usize) -> bool {
        self.moved.binary_search(&row).is_ok()
    }

    pub fn is_unchanged(&self, column: usize, row: usize) -> bool {
        self.unchanged.get(column).and_then(Option::as_ref).is_some_and(|rows| rows.value(row))
    }

    /// The same changes with a delete of the old key before each update that changed a key. `key` are the numbers of
    /// the key's columns, whose former values `old` holds; `tells_of_change` says which
    /// columns an update has of itself.
    pub fn with_key_updates(
        self,
        old: &OldKeys,
        key: &[usize],
        tells_of_change: impl Fn(usize) -> bool,
    ) -> Result<ChangeRows> {
        let ChangeRows { columns, operations, unchanged, file, first_record, records, .. } = self;
        let (mut places, mut moved, mut next) = (vec![], vec![], old.rows.iter().peekable());
        for row in 0..operations.len() {
            if let Some(number) = next.next_if_eq(&&row).map(|_| moved.len()) {
                moved.push(places.len());
                places.push((1, number));
            }
            places.push((0, row));
        }
        // the added columns of a delete are those of its record
        let schema = columns.schema();
        let of_old = |(column, values): (usize, &ArrayRef)| -> Result<ArrayRef> {
            if let Some(place) = key.iter().position(|k| *k == column) {
                return Ok(Arc::clone(old.keys.column(place)));
            }
            let count = old.rows.len();
            if !tells_of_change(column) {
                return Ok(new_null_array(values.data_type(), count));
            }
            let name = schema.field(column).name();
            Ok(if name == MetadataColumn::Deleted.name() {
                Arc::new(BooleanArray::from(vec![true; count]))
            } else if name == MetadataColumn::Op.name() {
                Arc::new(StringArray::from(vec!["D"; count]))
            } else {
                let rows: Vec<_> = old.rows.iter().map(|row| (0, *row)).collect();
                interleave(&[values.as_ref()], &rows)?
            })
        };
        let arrays =
            columns.columns().iter().enumerate().map(|(column, values)| {
                Ok(interleave(&[values.as_ref(), of_old((column, values))?.as_ref()], &places)?)
            });
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let spread = |rows: &BooleanBuffer| -> BooleanBuffer {
            places.iter().map(|(input, row)| *input == 0 && rows.value(*row)).collect()
        };
        let operations = places.iter().map(|(input, row)| match input {
            0 => operations[*row],
            _ => Operation::Delete,
        });
        Ok(ChangeRows {
            operations: operations.collect(),
            columns: RecordBatch::try_new(Arc::clone(&schema), arrays)?,
            unchanged: unchanged.iter().map(|rows| rows.as_ref().map(spread)).collect(),
            moved,
            file,
            first_record,
            records,
        })
    }
}
