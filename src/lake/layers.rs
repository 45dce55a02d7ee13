//! Layers of a table: files that lakemerge wrote at one time, by key, so that no two of them hold keys of one range.
//!
//! The bounds of a file do not always tell it: texts are cut in them, and of a composite key they say nothing but what each
//! column ranges over. So files carry the name of their layer as a tag (Delta protocol, *Add File*).

use deltalake::kernel::{Add, LogicalFileView};
use uuid::Uuid;

use super::table::added;

const TAG: &str = "lakemerge.layer";

/// Makes `files`, which were written by key, a new layer.
pub fn mark(files: &mut [Add]) {
    set(files, &Uuid::new_v4().to_string());
}

/// Puts `files`, which hold rows of `file` in its order, into its layer; into none if it is in none, since it may be in
/// no order.
pub fn stay(file: &LogicalFileView, files: &mut [Add]) {
    match of(file) {
        Some(layer) => set(files, &layer),
        None => files.iter_mut().for_each(|file| file.tags = None),
    }
}

/// The layer of a file, if lakemerge wrote it.
pub fn of(file: &LogicalFileView) -> Option<String> {
    added(file).tags?.remove(TAG)?
}

fn set(files: &mut [Add], layer: &str) {
    for file in files {
        file.tags.get_or_insert_default().insert(TAG.to_string(), Some(layer.to_string()));
    }
}
