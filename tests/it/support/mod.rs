//! What the tests stand on: the binary, an S3 server, files as DMS writes them, a model, and other engines to read with.

pub mod bin;
pub mod deltalake_merge;
pub mod dms;
pub mod lenient;
pub mod kinds;
pub mod minio;
pub mod model;
pub mod parquet;
pub mod random;
pub mod readers;
pub mod site;
pub mod table;
pub mod workload;

use std::path::PathBuf;

/// Where `tests/setup.sh` puts what the tests need.
fn cache() -> PathBuf {
    std::env::var_os("LAKEMERGE_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is not set")).join(".cache/lakemerge"),
        PathBuf::from,
    )
}
