//! Change files read by arrow-csv, into the types of the table.

use std::io::Cursor;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv::ReaderBuilder;
use datafusion::arrow::datatypes::{DataType, Field, Schema};

use crate::Result;
use crate::changes::OPERATION;
use crate::rows::Kind;

/// Rows of a batch, as a run of lakemerge reads them.
pub const ROWS: usize = 16 * 1024;

/// The rows of all `parts` of a change file, whose first column is the operation; each part has a thread of its own.
pub fn read(kind: Kind, parts: &[&[u8]]) -> Result<Vec<RecordBatch>> {
    let mut fields = vec![Arc::new(Field::new(OPERATION, DataType::Utf8, true))];
    fields.extend(kind.schema().fields().iter().cloned());
    let schema = Arc::new(Schema::new(fields));
    let read = |part: &&[u8]| {
        let reader = ReaderBuilder::new(Arc::clone(&schema)).with_header(false).with_batch_size(ROWS);
        Ok(reader.build(Cursor::new(part))?.collect::<Result<Vec<_>, _>>()?)
    };
    Ok(on_threads(parts, read)?.into_iter().flatten().collect())
}

/// What `work` makes of all `parts`, each on a thread of its own.
pub fn on_threads<P: Sync, T: Send>(parts: &[P], work: impl Fn(&P) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = parts.iter().map(|part| scope.spawn(move || work(part))).collect();
        workers.into_iter().map(|worker| worker.join().map_err(|_| "a worker panicked")?).collect()
    })
}
