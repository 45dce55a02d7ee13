//! Layers of a table: files that were written at one time, by key, so that no two of them hold keys of one range.
//!
//! The bounds of a file do not always tell it: texts are cut in them, and of a composite key they say nothing but what each
//! column ranges over. So files of one layer carry its name as a tag (Delta protocol, *Add File*); a file without
//! one is a layer of its own.

use std::collections::HashMap;

use deltalake::kernel::{Add, LogicalFileView};
use uuid::Uuid;

const TAG: &str = "lakemerge.layer";

/// Makes `files`, which were written by key, a new layer.
pub fn mark(files: &mut [Add]) {
    if files.len() > 1 {
        set(files, &Uuid::new_v4().to_string());
    }
}

/// Puts `files`, which hold rows of `file` in its order, into its layer. A file that is not known to be in order gives
/// files that are layers of their own.
pub fn stay(file: &LogicalFileView, files: &mut [Add]) {
    match tag(file) {
        Some(layer) => set(files, &layer),
        None => files.iter_mut().for_each(|file| file.tags = None),
    }
}

/// The layer of a file.
pub fn of(file: &LogicalFileView) -> String {
    tag(file).unwrap_or_else(|| file.path().into_owned())
}

fn set(files: &mut [Add], layer: &str) {
    for file in files {
        file.tags.get_or_insert_default().insert(TAG.to_string(), Some(layer.to_string()));
    }
}

fn tag(file: &LogicalFileView) -> Option<String> {
    tags(file)?.remove(TAG)?
}

/// The tags of a file.
#[expect(deprecated, reason = "nothing else gives a file's tags")]
fn tags(file: &LogicalFileView) -> Option<HashMap<String, Option<String>>> {
    file.add_action().tags
}
