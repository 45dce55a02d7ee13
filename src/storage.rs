//! Where files lie: a URL or a local path becomes an object store and a prefix in it.

pub mod parquet;

use std::collections::HashMap;
use std::path::{Component, Path as LocalPath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deltalake::logstore::store_for;
use object_store::aws::{AmazonS3ConfigKey, resolve_bucket_region};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore};
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use url::Url;

use crate::error::{Error, Result};

/// A folder in an object store.
#[derive(Clone, Debug)]
pub struct Location {
    /// Ends with a slash.
    pub url: Url,
    /// The store of the whole bucket, or of the whole local file system.
    pub store: Arc<dyn ObjectStore>,
    /// The folder within the store.
    pub prefix: Path,
}

impl Location {
    /// True where modification times and ETags come from a local file system, and so say nothing about writers.
    pub fn is_local(&self) -> bool {
        self.url.scheme() == "file"
    }

    /// The first link below `folder`, of those whose names matter, that leads nowhere: the store's listing passes over it, but
    /// the volume on a local path that it leads to may only not be there.
    pub fn dangling(&self, folder: &Path, matters: impl Fn(&str) -> bool) -> Option<PathBuf> {
        let root = Url::parse("file:///").ok().filter(|_| self.is_local())?.to_file_path().ok()?;
        dangling(&root.join(folder.as_ref()), &matters)
    }

    /// True if both are the same folder.
    pub fn is_same(&self, other: &Location) -> bool {
        let followed = |location: &Location| location.url.to_file_path().ok()?.canonicalize().ok();
        let (here, there) = (followed(self), followed(other));
        self.url == other.url || here.is_some() && here == there
    }

    /// Whom a person has to ask about the store.
    pub fn endpoint(&self) -> String {
        match (self.is_local(), endpoint()) {
            (true, _) => self.url.to_string(),
            (false, Some(endpoint)) => format!("{endpoint} ({})", self.url),
            (false, None) => format!("Amazon S3 ({})", self.url),
        }
    }

    /// What DataFusion registers the store under.
    pub fn store_url(&self) -> Result<Url> {
        let text = match self.url.host_str() {
            Some(host) => format!("{}://{host}", self.url.scheme()),
            None => format!("{}:///", self.url.scheme()),
        };
        Url::parse(&text).map_err(|e| Error::usage(format!("{}: {e}", self.url)))
    }
}

/// Opens locations, one object store per bucket for all tables (each store holds its own connections and credentials).
#[derive(Default)]
pub struct Stores {
    open: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Stores {
    /// Opens `text`, a URL or a path relative to `base`.
    ///
    /// # Errors
    /// A usage error for a URL of another scheme than `s3` or `file`, or an environment that turns off conditional
    /// writes.
    pub fn open(&self, text: &str, base: &LocalPath) -> Result<Location> {
        let url = directory_url(text, base)?;
        match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| Error::usage(format!("{text} is no local path")))?;
                // `from_absolute_path` would follow symbolic links only for paths that exist
                let prefix =
                    Path::from_url_path(url.path()).map_err(|e| Error::usage(format!("{}: {e}", path.display())))?;
                if looks_encoded(prefix.as_ref()) {
                    return Err(Error::usage(format!(
                        "{}: a folder with %XX in its name is found by some readers and not by others; rename it",
                        path.display()
                    )));
                }
                let store = self.store("file", || Ok(Arc::new(LocalFileSystem::new())))?;
                Ok(Location { url, store, prefix })
            }
            "s3" => {
                let bucket = url.host_str().unwrap_or_default().to_string();
                if bucket.is_empty() {
                    return Err(Error::usage(format!("{text} names no bucket; write s3://bucket/folder")));
                }
                let prefix = Path::from_url_path(url.path()).map_err(|e| Error::usage(format!("{text}: {e}")))?;
                let store = self.store(&format!("s3://{bucket}"), || s3(&bucket))?;
                Ok(Location { url, store, prefix })
            }
            other => Err(Error::usage(format!("{text}: {other}:// is not supported; use s3:// or a local path"))),
        }
    }

    fn store(&self, name: &str, open: impl FnOnce() -> Result<Arc<dyn ObjectStore>>) -> Result<Arc<dyn ObjectStore>> {
        let mut stores = self.open.lock();
        if let Some(store) = stores.get(name) {
            return Ok(Arc::clone(store));
        }
        let store = open()?;
        stores.insert(name.to_string(), Arc::clone(&store));
        Ok(store)
    }
}

/// A folder that a file system has for itself where it is mounted, and lets nobody read.
pub const LOST_AND_FOUND: &str = "lost+found";

/// `text` as the URL of a folder, with a slash at its end.
fn directory_url(text: &str, base: &LocalPath) -> Result<Url> {
    if text.contains("://") {
        let mut url = Url::parse(text).map_err(|e| Error::usage(format!("{text}: {e}")))?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        return Ok(url);
    }
    if text == "~" || text.starts_with("~/") {
        return Err(Error::usage(format!("{text}: ~ means something to a shell alone; write the folder out")));
    }
    let path = std::path::absolute(base.join(text)).map_err(|e| Error::usage(format!("{text}: {e}")))?;
    let path = without_parents(&path);
    Url::from_directory_path(&path).map_err(|()| Error::usage(format!("{} is no folder's path", path.display())))
}

/// The same path without `..`, which object stores refuse. What a link leads to has another parent than the link.
fn without_parents(path: &LocalPath) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain = std::fs::canonicalize(&plain).unwrap_or(plain);
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

fn dangling(folder: &LocalPath, matters: &impl Fn(&str) -> bool) -> Option<PathBuf> {
    // what cannot be read is told by the listing
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let (kind, path) = (entry.file_type().ok()?, entry.path());
        match (kind.is_symlink(), kind.is_dir()) {
            (true, _) => {
                let matters = entry.file_name().to_str().is_none_or(matters);
                (matters && path.metadata().is_err()).then_some(path)
            }
            (_, true) => dangling(&path, matters),
            _ => None,
        }
    })
}

fn looks_encoded(path: &str) -> bool {
    let is_hex = |at: usize| path.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    path.match_indices('%').any(|(at, _)| is_hex(at + 1) && is_hex(at + 2))
}

/// A variable of the environment that is set to something.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The S3 endpoint, where it is not Amazon's own.
fn endpoint() -> Option<String> {
    set("AWS_ENDPOINT_URL_S3").or_else(|| set("AWS_ENDPOINT_URL"))
}

/// True if any variable that the S3 client reads names an endpoint.
fn has_endpoint() -> bool {
    let is_endpoint = |name: &str| {
        AmazonS3ConfigKey::from_str(&name.to_lowercase()).is_ok_and(|key| key == AmazonS3ConfigKey::Endpoint)
    };
    endpoint().is_some() || std::env::vars_os().any(|(name, _)| name.to_str().is_some_and(is_endpoint))
}

/// The region of a bucket of Amazon's, which it tells to whoever asks.
fn region_of(bucket: &str) -> Option<String> {
    let runtime = Handle::try_current().ok().filter(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread)?;
    let patience = ClientOptions::new().with_timeout(PATIENCE).with_connect_timeout(PATIENCE);
    tokio::task::block_in_place(|| runtime.block_on(resolve_bucket_region(bucket, &patience))).ok()
}

/// How long a bucket is waited for that does not tell its region.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a request may take, where AWS_TIMEOUT does not say. In the 30 s that are usual a line of a few megabits does not
/// carry the parts of an upload that go over it at once, however often they are tried.
const REQUEST: &str = "120s";

fn s3(bucket: &str) -> Result<Arc<dyn ObjectStore>> {
    for name in ["AWS_S3_ALLOW_UNSAFE_RENAME", "aws_s3_allow_unsafe_rename"] {
        if set(name).is_some_and(|value| value != "false" && value != "0") {
            return Err(Error::usage(format!(
                "{name} is set: it turns conditional writes off, and two runs could then both commit; unset it"
            )));
        }
    }
    let mut options: HashMap<String, String> = HashMap::new();
    if let Some(endpoint) = endpoint() {
        if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
            return Err(Error::usage(format!(
                "the environment names the endpoint {endpoint} (AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL), which must begin with \
                 https:// or http://"
            )));
        }
        if endpoint.starts_with("http://") {
            options.insert("AWS_ALLOW_HTTP".into(), "true".into());
        }
        // deltalake asks the standard credential chain only where there is no endpoint (E-19)
        if set("AWS_ACCESS_KEY_ID").is_none() {
            options.insert("AWS_FORCE_CREDENTIAL_LOAD".into(), "true".into());
        }
        options.insert("AWS_ENDPOINT_URL".into(), endpoint);
    }
    if set("AWS_REGION").is_none() {
        let region = set("AWS_DEFAULT_REGION").or_else(|| (!has_endpoint()).then(|| region_of(bucket)).flatten());
        options.insert("AWS_REGION".into(), region.unwrap_or_else(|| "us-east-1".into()));
    }
    if set("AWS_TIMEOUT").is_none() {
        options.insert("TIMEOUT".into(), REQUEST.into());
    }
    let url = Url::parse(&format!("s3://{bucket}")).map_err(|e| Error::usage(format!("bucket {bucket}: {e}")))?;
    // to make one asks nothing of it: what is wrong is a setting
    store_for(&url, options).map_err(Error::usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_relative_to_the_configuration() {
        let url = directory_url("raw/dms", LocalPath::new("/etc/jobs")).unwrap();
        assert_eq!(url.as_str(), "file:///etc/jobs/raw/dms/");
    }

    #[test]
    fn a_path_may_lead_through_parents() {
        let url = |text: &str, base: &LocalPath| directory_url(text, base).unwrap().path().to_string();
        assert_eq!(url("../raw", LocalPath::new("/no/such/jobs")), "/no/such/raw/");
        assert_eq!(url("/no/a/../../raw/..", LocalPath::new("/")), "/");
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("far/away")).unwrap();
        std::os::unix::fs::symlink(real.join("far/away"), real.join("link")).unwrap();
        assert_eq!(url("link/../raw", &real), format!("{}/", real.join("far/raw").display()));
    }

    #[test]
    fn a_bucket_is_one_store_for_all_its_folders() {
        let stores = Stores::default();
        let a = stores.open("/tmp/a", LocalPath::new("/")).unwrap();
        let b = stores.open("/tmp/b", LocalPath::new("/")).unwrap();
        assert!(Arc::ptr_eq(&a.store, &b.store));
        assert_eq!(a.prefix.as_ref(), "tmp/a");
    }
}
