//! The bytes of a raw file: fetched whole or as they stream in, with their digest.

use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::listing::RawFile;
use crate::error::{Error, Result};

/// Chunks of one file on their way to the worker thread.
const CHUNKS: usize = 8;

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
pub async fn hash(store: &dyn ObjectStore, file: &RawFile) -> Result<String> {
    let mut digest = Sha256::new();
    let mut content = store.get(&file.path).await?.into_stream();
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
    chunks: mpsc::Receiver<Result<Bytes>>,
    chunk: Bytes,
    digest: Arc<Mutex<Sha256>>,
}

/// The digest of what was read so far.
pub struct RunningDigest(Arc<Mutex<Sha256>>);

impl RunningDigest {
    pub fn hash(self) -> String {
        let digest = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        hexadecimal(&digest.finalize())
    }
}

impl Fetched {
    pub fn start(store: Arc<dyn ObjectStore>, file: &RawFile) -> (Fetched, RunningDigest) {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let path = file.path.clone();
        tokio::runtime::Handle::current().spawn(async move {
            let mut content = match store.get(&path).await {
                Ok(object) => object.into_stream(),
                Err(error) => {
                    let _ = sender.send(Err(error.into())).await;
                    return;
                }
            };
            while let Some(chunk) = content.next().await {
                if sender.send(chunk.map_err(Error::from)).await.is_err() {
                    return;
                }
            }
        });
        let digest = Arc::new(Mutex::new(Sha256::new()));
        (Fetched { chunks, chunk: Bytes::new(), digest: Arc::clone(&digest) }, RunningDigest(digest))
    }
}

impl Read for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.chunk.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.chunk = chunk.map_err(std::io::Error::other)?,
                None => return Ok(0),
            }
            self.digest.lock().unwrap_or_else(PoisonError::into_inner).update(&self.chunk);
        }
        let taken = self.chunk.split_to(self.chunk.len().min(buffer.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
