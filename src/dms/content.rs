//! The bytes of a raw file: fetched whole or as they stream in, with their digest.

use std::io::{Cursor, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, iter, once};
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::listing::RawFile;
use crate::error::{Error, Result};

/// Bytes of a file that one request asks for. A file that comes as one stream comes in chunks of a few KB, of which each
/// wakes threads up, and no faster than one connection is.
pub const STRETCH: u64 = 4 << 20;
/// Stretches of one file that are asked for at once, beside one that waits for the worker thread.
const REQUESTS: usize = 2;

/// The bytes of a file, to be read from its beginning.
pub enum Content {
    Whole(Cursor<Bytes>),
    Streamed(Fetched),
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Content::Whole(bytes) => bytes.read(buffer),
            Content::Streamed(fetched) => fetched.read(buffer),
        }
    }
}

/// The [`LoadedFile::hash`](crate::lake::position::LoadedFile::hash) of a file as it is now.
pub async fn hash(store: Arc<dyn ObjectStore>, file: &RawFile) -> Result<String> {
    let mut digest = Sha256::new();
    let mut content = stretches(store, file);
    while let Some(chunk) = content.try_next().await? {
        digest.update(&chunk);
    }
    Ok(hexadecimal(&digest.finalize()))
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// A file that is fetched on the runtime while a worker thread reads it.
pub struct Fetched {
    /// The last one is `None`: without it the task that fetches has ended too early.
    chunks: mpsc::Receiver<Option<Result<Bytes>>>,
    chunk: Bytes,
    ended: bool,
    digest: Option<Arc<Mutex<Sha256>>>,
}

/// The digest of what was read so far.
pub struct RunningDigest(Arc<Mutex<Sha256>>);

impl RunningDigest {
    pub fn hash(self) -> String {
        let digest = self.0.lock().clone();
        hexadecimal(&digest.finalize())
    }
}

impl Fetched {
    pub fn start(store: Arc<dyn ObjectStore>, file: &RawFile) -> Fetched {
        let (sender, chunks) = mpsc::channel(1);
        let mut stretches = stretches(store, file);
        tokio::runtime::Handle::current().spawn(async move {
            while let Some(stretch) = stretches.next().await {
                let failed = stretch.is_err();
                if sender.send(Some(stretch.map_err(Error::from))).await.is_err() || failed {
                    return;
                }
            }
            // who takes no more needs no end
            let _ = sender.send(None).await;
        });
        Fetched { chunks, chunk: Bytes::new(), ended: false, digest: None }
    }

    /// The same with the digest of the file, which takes as long as reading it from a fast disk.
    pub fn digested(store: Arc<dyn ObjectStore>, file: &RawFile) -> (Fetched, RunningDigest) {
        let digest = Arc::new(Mutex::new(Sha256::new()));
        let fetched = Fetched { digest: Some(Arc::clone(&digest)), ..Fetched::start(store, file) };
        (fetched, RunningDigest(digest))
    }
}

/// All bytes of `file`, as it was listed.
pub async fn whole(store: &dyn ObjectStore, file: &RawFile) -> object_store::Result<Bytes> {
    let found = store.get(&file.path).await?;
    check_version(file, &found.meta)?;
    found.bytes().await
}

/// What was written again since it was listed is another file, with another place in the order, or after a reload.
fn check_version(listed: &RawFile, found: &ObjectMeta) -> object_store::Result<()> {
    if listed.is_still(found) {
        return Ok(());
    }
    let source = "it was written again after it was listed".into();
    Err(object_store::Error::Precondition { path: found.location.to_string(), source })
}

/// The bytes of `file` as it was listed, all of one version of it.
fn stretches(store: Arc<dyn ObjectStore>, file: &RawFile) -> BoxStream<'static, object_store::Result<Bytes>> {
    let file = file.clone();
    let stretches = async move {
        if file.size <= STRETCH {
            let bytes = whole(store.as_ref(), &file).await;
            return Ok::<_, object_store::Error>(once(async { bytes }).boxed());
        }
        let stretch = |start: u64, if_match: Option<String>| {
            let range = Some(GetRange::Bounded(start..start + STRETCH));
            let options = GetOptions { range, if_match, ..GetOptions::default() };
            let (store, path) = (Arc::clone(&store), file.path.clone());
            async move { store.get_opts(&path, options).await }
        };
        let first = stretch(0, None).await?;
        check_version(&file, &first.meta)?;
        let (size, tag) = (first.meta.size, first.meta.e_tag.clone());
        let others: Vec<_> =
            (STRETCH..size).step_by(STRETCH as usize).map(|start| stretch(start, tag.clone())).collect();
        let others = iter(others).map(|stretch| async { stretch.await?.bytes().await });
        Ok(once(first.bytes()).chain(others.buffered(REQUESTS)).boxed())
    };
    once(stretches).try_flatten().boxed()
}

impl Read for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.chunk.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(Some(chunk)) => self.chunk = chunk.map_err(std::io::Error::other)?,
                Some(None) => self.ended = true,
                None => return Err(std::io::Error::other(Error::transient("the file was not fetched to its end"))),
            }
            if let Some(digest) = &self.digest {
                digest.lock().update(&self.chunk);
            }
        }
        let taken = self.chunk.split_to(self.chunk.len().min(buffer.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    const NAME: &str = "LOAD00000001.csv";

    #[tokio::test]
    async fn a_file_of_any_size_comes_whole() {
        for size in [0, 1, STRETCH as usize, STRETCH as usize + 1, 4 * STRETCH as usize - 1] {
            let bytes: Bytes = (0..size).map(|i| (i / 7) as u8).collect();
            let (store, file): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), RawFile::of(NAME, size));
            store.put(&file.path, bytes.clone().into()).await.unwrap();
            let (mut content, digest) = Fetched::digested(Arc::clone(&store), &file);
            let read = move || {
                let mut read = vec![];
                content.read_to_end(&mut read).map(|_| read)
            };
            let read = tokio::task::spawn_blocking(read).await.unwrap().unwrap();
            assert!(read == bytes, "{size} bytes");
            assert_eq!(digest.hash(), hash(Arc::clone(&store), &file).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_file_that_was_written_again_since_it_was_listed_is_not_read() {
        for size in [10, 2 * STRETCH as usize] {
            let (store, file): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), RawFile::of(NAME, size));
            store.put(&file.path, vec![1; size].into()).await.unwrap();
            let file = RawFile { tag: store.head(&file.path).await.unwrap().e_tag.unwrap(), ..file };
            assert!(hash(Arc::clone(&store), &file).await.is_ok());
            store.put(&file.path, vec![2; size].into()).await.unwrap();
            let error = hash(store, &file).await.unwrap_err();
            assert!(error.to_string().contains("it was written again after it was listed"), "{error}");
            assert_eq!(error.kind.exit_code(), 75);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_written_again_meanwhile_is_not_read_on() {
        let (store, file): (Arc<dyn ObjectStore>, _) =
            (Arc::new(InMemory::new()), RawFile::of(NAME, 8 * STRETCH as usize));
        store.put(&file.path, vec![1; file.size as usize].into()).await.unwrap();
        let mut stretches = stretches(Arc::clone(&store), &file);
        assert!(stretches.next().await.unwrap().is_ok());
        store.put(&file.path, vec![2; file.size as usize].into()).await.unwrap();
        let read: object_store::Result<Vec<Bytes>> = stretches.try_collect().await;
        assert!(matches!(read, Err(object_store::Error::Precondition { .. })));
    }
}
