//! Deletion vectors as they are read: where they lie, and the rows they mark.

use std::collections::HashMap;
use std::sync::Arc;

use buoyant_kernel::actions::deletion_vector::DeletionVectorDescriptor as KernelDescriptor;
use buoyant_kernel::{DeltaResult, Error as KernelError, FileMeta, FileSlice, StorageHandler};
use bytes::Bytes;
use deltalake::kernel::DeletionVectorDescriptor;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use url::Url;

use super::scan::Rows;
use super::table::Table;
use crate::error::{At, Error, Result};

/// The rows that are marked in `files`. A vector file, which holds all vectors of a commit, is fetched once.
pub async fn read(table: &Table, files: &[usize]) -> Result<Rows> {
    let mut rows = Rows::new();
    let mut fetched: HashMap<Path, Bytes> = HashMap::new();
    for &file in files {
        let Some(vector) = table.files[file].deletion_vector_descriptor() else { continue };
        let place = || format!("deletion vector of {}", table.files[file].path());
        let content = match path(table, vector.clone()).at(place)? {
            None => Bytes::new(),
            Some(path) => match fetched.get(&path) {
                Some(content) => content.clone(),
                None => {
                    let content = table.log.object_store(None).get(&path).await.at(place)?.bytes().await.at(place)?;
                    fetched.insert(path, content.clone());
                    content
                }
            },
        };
        let vector = KernelDescriptor::try_from(vector).at(place)?;
        rows.insert(file, vector.read(Arc::new(Fetched(content)), table.log.root_url()).at(place)?);
    }
    Ok(rows)
}

/// Where a vector lies within its table; nothing for one that is kept in the log itself.
pub fn path(table: &Table, vector: DeletionVectorDescriptor) -> Result<Option<Path>> {
    let root = table.log.root_url();
    let vector = KernelDescriptor::try_from(vector)?;
    let Some(url) = vector.absolute_path(root)? else { return Ok(None) };
    let path = Path::from_url_path(url.path()).map_err(Error::definite)?;
    let root = Path::from_url_path(root.path()).map_err(Error::definite)?;
    let within: Option<Path> =
        path.prefix_match(&root).map(|parts| parts.map(|part| part.as_ref().to_string()).collect());
    within.map(Some).ok_or_else(|| Error::definite(format!("{path} lies outside of the table")))
}

/// A vector file's content, for the kernel to decode: its own way to fetch one encodes a path twice on S3.
struct Fetched(Bytes);

impl StorageHandler for Fetched {
    fn read_files(&self, files: Vec<FileSlice>) -> DeltaResult<Box<dyn Iterator<Item = DeltaResult<Bytes>>>> {
        let contents: Vec<_> = files.iter().map(|_| Ok(self.0.clone())).collect();
        Ok(Box::new(contents.into_iter()))
    }

    fn list_from(&self, path: &Url) -> DeltaResult<Box<dyn Iterator<Item = DeltaResult<FileMeta>>>> {
        Err(KernelError::file_not_found(path))
    }

    fn copy_atomic(&self, src: &Url, _: &Url) -> DeltaResult<()> {
        Err(KernelError::file_not_found(src))
    }

    fn put(&self, path: &Url, _: Bytes, _: bool) -> DeltaResult<()> {
        Err(KernelError::file_not_found(path))
    }

    fn head(&self, path: &Url) -> DeltaResult<FileMeta> {
        Err(KernelError::file_not_found(path))
    }

    fn delete(&self, path: &Url) -> DeltaResult<()> {
        Err(KernelError::file_not_found(path))
    }
}
