//! How a reader reads, beyond what the settings say.

use std::io::Read;

use super::{BATCH_BYTES, RecordReader};
use crate::dms::former::Former;
use crate::dms::transactions::TableFilter;
use crate::dms::values::ColumnValues;
use crate::name::TableName;
use crate::schema::{Column, DatetimeAs, SqlType};

impl<R: Read> RecordReader<R> {
    /// Reads the column that TimestampColumnName adds too.
    pub fn with_commit_times(mut self) -> Self {
        self.commit_times = self.places.timestamp.map(|_| {
            let column = Column { name: String::new(), sql_type: SqlType::Timestamp(6), nullable: true };
            ColumnValues::new(&column, DatetimeAs::Timestamp)
        });
        self
    }

    /// Takes no record of more bytes than these.
    pub fn with_longest(self, bytes: usize) -> Self {
        Self { cutter: self.cutter.with_longest(bytes), ..self }
    }

    /// Ends a batch once it has so many bytes of the file.
    pub fn with_step(self, bytes: usize) -> Self {
        Self { step: bytes.min(BATCH_BYTES), ..self }
    }

    /// Says which columns make the key: no record goes without a value of theirs, and before images of theirs tell the
    /// updates that gave a row another key.
    pub fn with_key(mut self, key: &[usize], datetime: DatetimeAs) -> Self {
        self.former = Former::new(key, &self.shape, datetime);
        self
    }

    /// Reads a file of all tables' changes, and of these the records of `table`.
    pub fn of_all_tables(mut self, table: &TableName) -> Self {
        self.filter = Some(TableFilter::new(table.clone()));
        self.layout = self.layout.with_operation();
        self.places = self.layout.all_places(&self.shape);
        self
    }

    /// Sets records that are no rows apart instead of ending with the first of them.
    pub fn setting_bad_apart(self) -> Self {
        Self { bad: Some(Vec::new()), ..self }
    }
}
