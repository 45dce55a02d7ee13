//! Columns that a table has beside the source's, where the configuration asks for them: where a row comes from, and
//! whether it is deleted.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, StringArray, TimestampMicrosecondArray, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use lakemerge_source::dms::names::FileName;
use lakemerge_source::dms::records::{Operation, Rows};

use super::listing::RawFile;

/// A column that lakemerge adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataColumn {
    /// `_deleted`: true for a row that the source has deleted (`delete = "soft"`).
    Deleted,
    /// `_op`: I, U or D, the last change of the row.
    Op,
    /// `_commit_ts`: when the source committed it, where the files tell (TimestampColumnName).
    CommitTs,
    /// `_position`: the stamp of its change file and its record there, which orders as text; NULL for a loaded row.
    Position,
}

impl MetadataColumn {
    pub fn name(self) -> &'static str {
        match self {
            MetadataColumn::Deleted => "_deleted",
            MetadataColumn::Op => "_op",
            MetadataColumn::CommitTs => "_commit_ts",
            MetadataColumn::Position => "_position",
        }
    }

    /// The column that `metadata_columns` calls so.
    pub fn named(name: &str) -> Option<MetadataColumn> {
        [MetadataColumn::Op, MetadataColumn::CommitTs, MetadataColumn::Position].into_iter().find(|c| c.name() == name)
    }

    pub fn field(self) -> Field {
        let data_type = match self {
            MetadataColumn::Deleted => DataType::Boolean,
            MetadataColumn::Op | MetadataColumn::Position => DataType::Utf8,
            MetadataColumn::CommitTs => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        };
        Field::new(self.name(), data_type, true)
    }

    /// The column's values for rows of `file`.
    pub fn values(self, file: &RawFile, rows: &Rows) -> ArrayRef {
        let operations = rows.operations.iter();
        match self {
            MetadataColumn::Deleted => {
                Arc::new(operations.map(|o| Some(*o == Operation::Delete)).collect::<BooleanArray>())
            }
            MetadataColumn::Op => {
                Arc::new(StringArray::from_iter_values(operations.map(|operation| match operation {
                    Operation::Insert => "I",
                    Operation::Update => "U",
                    Operation::Delete => "D",
                })))
            }
            MetadataColumn::CommitTs => match &rows.commit_times {
                Some(times) => Arc::clone(times),
                None => Arc::new(TimestampMicrosecondArray::new_null(operations.len()).with_timezone("UTC")),
            },
            MetadataColumn::Position => match file.kind {
                FileName::Load(_) => new_null_array(&DataType::Utf8, operations.len()),
                FileName::Changes(stamp) => {
                    let records = (0..operations.len()).map(|row| rows.record(row));
                    Arc::new(StringArray::from_iter_values(records.map(|record| format!("{stamp}/{record:010}"))))
                }
            },
        }
    }
}
