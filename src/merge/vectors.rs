//! Merge-on-read: located rows are marked in deletion vectors, and their files stay as they are (Delta protocol,
//! *Deletion Vectors*).

use buoyant_kernel::actions::deletion_vector_writer::{KernelDeletionVector, StreamingDeletionVectorWriter};
use deltalake::kernel::{Action, Add, DeletionVectorDescriptor, LogicalFileView, StorageType};
use object_store::path::Path;
use object_store::{ObjectStore, PutPayload};
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::lake::scan::Rows;
use crate::lake::stats::widened;
use crate::lake::table::{Table, added, physical_rows};
use crate::lake::vectors;

/// Marks the rows of `located`. All vectors of a commit lie in one file; a file without a living row is removed.
pub async fn mark(table: &Table, located: &Rows) -> Result<Vec<Action>> {
    let id = Uuid::new_v4();
    let mut content = vec![];
    let mut writer = StreamingDeletionVectorWriter::new(&mut content);
    let mut actions = vec![];
    let mut files: Vec<_> = located.iter().collect();
    files.sort_unstable_by_key(|(file, _)| **file);
    let numbers: Vec<_> = files.iter().map(|(file, _)| **file).collect();
    let mut old = vectors::read(table, &numbers).await?;
    for (&number, rows) in files {
        let file = &table.files[number];
        // the one that is removed carries its former vector, or both would be live
        actions.push(Action::Remove(file.remove_action(true)));
        let dead = rows | old.remove(&number).unwrap_or_default();
        let records = physical_rows(file)?;
        if dead.len() < records {
            let vector = vector(&mut writer, &dead, id).map_err(|e| Error::definite(e).at(file.path()))?;
            actions.push(Action::Add(with_vector(file, records, vector)?));
        }
    }
    writer.finalize().map_err(Error::definite)?;
    if !content.is_empty() {
        let path = Path::from(format!("deletion_vector_{id}.bin"));
        table.log.object_store(None).put_opts(&path, PutPayload::from(content), Default::default()).await?;
    }
    Ok(actions)
}

fn vector(
    writer: &mut StreamingDeletionVectorWriter<'_, Vec<u8>>,
    dead: &RoaringTreemap,
    id: Uuid,
) -> Result<DeletionVectorDescriptor, buoyant_kernel::Error> {
    let mut vector = KernelDeletionVector::new();
    vector.add_deleted_row_indexes(dead.iter());
    let written = writer.write_deletion_vector(vector)?;
    Ok(DeletionVectorDescriptor {
        storage_type: StorageType::UuidRelativePath,
        path_or_inline_dv: z85::encode(id.as_bytes()),
        offset: Some(written.offset),
        size_in_bytes: written.size_in_bytes,
        cardinality: written.cardinality,
    })
}

/// The file again, with a vector.
fn with_vector(file: &LogicalFileView, records: u64, vector: DeletionVectorDescriptor) -> Result<Add> {
    let file = added(file);
    let stats = widened(file.stats.as_deref().unwrap_or("{}"), records)?;
    Ok(Add { data_change: true, stats: Some(stats), deletion_vector: Some(vector), ..file })
}
