//! Deletion vectors as they are read: where they lie, and the rows they mark.

use std::collections::HashMap;
use std::sync::Arc;

use buoyant_kernel::actions::deletion_vector::DeletionVectorDescriptor as KernelDescriptor;
use buoyant_kernel::{DeltaResult, Error as KernelError, FileMeta, FileSlice, StorageHandler};
use bytes::Bytes;
use deltalake::kernel::DeletionVectorDescriptor;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::sync::Mutex;
use url::Url;

use super::scan::Rows;
use super::table::Table;
use crate::error::{At, Error, Result};

/// Vector files that are fetched at once.
const FETCHES: usize = 16;

/// The rows that are marked in `files`. A vector file, which holds all vectors of a commit, is fetched once.
pub async fn read(table: &Table, files: &[usize]) -> Result<Rows> {
    let place = |file: usize| move || format!("deletion vector of {}", table.files[file].path());
    let mut vectors = vec![];
    for &file in files {
        if let Some(vector) = table.files[file].deletion_vector_descriptor() {
            vectors.push((file, path(table, vector.clone()).at(place(file))?, vector));
        }
    }
    let paths: HashMap<Path, usize> =
        vectors.iter().filter_map(|(file, path, _)| Some((path.clone()?, *file))).collect();
    let fetches = paths.into_iter().map(|(path, file)| {
        let (store, place) = (table.log.object_store(None), place(file)());
        async move {
            let content = store.get(&path).await.at(|| &place)?.bytes().await.at(|| &place)?;
            Ok::<_, Error>((path, content))
        }
    });
    let fetched: HashMap<Path, Bytes> = futures::stream::iter(fetches).buffered(FETCHES).try_collect().await?;
    let mut rows = Rows::new();
    for (file, path, vector) in &vectors {
        let content = path.as_ref().and_then(|path| fetched.get(path)).cloned().unwrap_or_default();
        let vector = KernelDescriptor::try_from(vector.clone()).at(place(*file))?;
        rows.insert(*file, vector.read(Arc::new(Fetched(content)), table.log.root_url()).at(place(*file))?);
    }
    Ok(rows)
}

/// The vectors of a table that were asked for so far.
#[derive(Default)]
pub struct Known(Mutex<Rows>);

impl Known {
    /// The rows that are marked in `files` of `table`, which is always the same. A vector is read once.
    pub async fn read(&self, table: &Table, files: &[usize]) -> Result<Rows> {
        let mut known = self.0.lock().await;
        let unknown: Vec<_> = files.iter().copied().filter(|file| !known.contains_key(file)).collect();
        known.extend(read(table, &unknown).await?);
        Ok(files.iter().filter_map(|file| Some((*file, known.get(file)?.clone()))).collect())
    }
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
