//! The other side: the writer, the MERGE and the load of the deltalake crate, the latter two as processes of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use datafusion::logical_expr::{Expr, col, lit};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use deltalake::DeltaTable;
use deltalake::protocol::SaveMode;
use url::Url;

use crate::Result;
use crate::changes::{BATCH, OPERATION};
use crate::process::{Measured, measure};
use crate::rows::{Kind, Row, uuid};

/// The hidden first argument that makes this binary the other side: `MERGE TABLE NET-CHANGES KEY…`.
pub const MERGE: &str = "merge-by-deltalake";

/// Merges the net changes of a Parquet file into the table in `folder`, in a process of its own.
pub fn measure_merge(kind: Kind, folder: &Path, net: &Path) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(MERGE).arg(folder).arg(net).args(kind.key());
    measure(command)
}

/// The hidden first argument that makes this binary open a table and do nothing more: `LOAD TABLE`.
pub const LOAD: &str = "load-by-deltalake";

/// Loads the newest version of the table in `folder`, in a process of its own.
pub fn measure_load(folder: &Path) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(LOAD).arg(folder);
    measure(command)
}

/// What that process does.
pub async fn load(arguments: &[String]) -> Result<()> {
    let [folder] = arguments else { return Err("expected TABLE".into()) };
    let table = deltalake::open_table(url(&PathBuf::from(folder))?).await?;
    if table.get_file_uris()?.next().is_none() { Err("the table has no files".into()) } else { Ok(()) }
}

/// What the process of [`MERGE`] does. The changes are read into memory first, so that deltalake knows their bounds and may skip
/// files by them.
pub async fn merge(arguments: &[String]) -> Result<()> {
    let [folder, net, key @ ..] = arguments else { return Err("expected TABLE NET-CHANGES KEY…".into()) };
    let table = deltalake::open_table(url(&PathBuf::from(folder))?).await?;
    let session = SessionContext::new();
    let changes = session.read_parquet(net.as_str(), ParquetReadOptions::default()).await?.cache().await?;
    let columns: Vec<String> = changes.schema().fields().iter().map(|field| field.name().clone()).collect();
    let columns: Vec<_> = columns.into_iter().filter(|name| name != OPERATION).collect();
    let source = |name: &str| col(format!("source.{name}"));
    let is_delete = || col(format!("source.\"{OPERATION}\"")).eq(lit("D"));
    let same_key = key.iter().map(|name| col(format!("target.{name}")).eq(source(name))).reduce(Expr::and);
    table
        .merge(changes, same_key.ok_or("no key")?)
        .with_source_alias("source")
        .with_target_alias("target")
        .when_matched_delete(|delete| delete.predicate(is_delete()))?
        .when_matched_update(|update| columns.iter().fold(update, |u, name| u.update(name.as_str(), source(name))))?
        .when_not_matched_insert(|insert| {
            let insert = insert.predicate(!is_delete());
            columns.iter().fold(insert, |i, name| i.set(name.as_str(), source(name)))
        })?
        .await?;
    Ok(())
}

/// Writes the first `rows` of a table with deltalake's writer, in `files` files of the same size, sorted by key.
pub async fn write(kind: Kind, rows: u64, files: u64, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut table = DeltaTable::try_from_url(url(folder)?).await?;
    let per_file = rows / files;
    for file in 0..files {
        let mut places: Vec<u64> = (file * per_file..(file + 1) * per_file).collect();
        if kind == Kind::Events {
            places.sort_by_cached_key(|&place| uuid(kind.loaded(place)));
        }
        let batches = places.chunks(BATCH).map(|places| {
            let rows: Vec<_> = places.iter().map(|&place| Row { number: kind.loaded(place), version: 0 }).collect();
            kind.batch(&rows)
        });
        let batches = batches.collect::<Result<Vec<_>>>()?;
        table = table
            .write(batches)
            .with_save_mode(SaveMode::Append)
            .with_target_file_size(std::num::NonZeroU64::new(1 << 30))
            .await?;
    }
    Ok(())
}

pub fn url(folder: &Path) -> Result<Url> {
    let folder = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
    Url::from_directory_path(&folder).map_err(|()| format!("{} is no folder", folder.display()).into())
}
