//! Which tables and raw files there are.

use futures::{StreamExt, TryStreamExt};
use lakemerge_source::dms::names::FileName;
use lakemerge_source::name::TableName;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use crate::error::{Error, Result};
use crate::storage::Location;

/// A raw file of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFile {
    /// The last part of its path.
    pub name: String,
    pub kind: FileName,
    pub path: Path,
    /// Its path from `source.url` on, for messages.
    pub shown: String,
    pub size: u64,
    /// LastModified, in milliseconds since 1970.
    pub modified: i64,
    /// What changes when the file is written again: the ETag on S3, the modification time on a local path.
    pub tag: String,
}

/// The raw files of one table, each kind in its own order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub loads: Vec<RawFile>,
    pub changes: Vec<RawFile>,
    /// Files whose names are not of DMS's form.
    pub strangers: Vec<String>,
    /// True where modification times come from a local file system: copies and checkouts change them.
    pub times_mean_nothing: bool,
}

impl Listing {
    /// The largest LastModified of all files.
    pub fn newest(&self) -> i64 {
        self.loads.iter().chain(&self.changes).map(|file| file.modified).max().unwrap_or_default()
    }
}

/// The tables below `raw` that the task `selects`: every `<schema>/<table>/` folder.
pub async fn tables(raw: &Location, selects: impl Fn(&TableName) -> bool) -> Result<Vec<TableName>> {
    let schemas = folders(raw, &raw.prefix).await?;
    if schemas.is_empty() {
        let found = raw.store.list(Some(&raw.prefix)).next().await;
        if found.transpose()?.is_none() {
            return Err(Error::definite(format!("{}: there is nothing here; is source.url right?", raw.url)));
        }
    }
    let listings = futures::stream::iter(schemas.into_iter().map(|schema| async move {
        let tables = folders(raw, &schema).await?;
        Ok::<_, Error>((schema, tables))
    }))
    .buffered(16)
    .try_collect::<Vec<_>>()
    .await?;
    let part = |path: &Path| path.filename().map(str::to_string).unwrap_or_default();
    let mut names = vec![];
    for (schema, tables) in listings {
        names.extend(tables.iter().map(|table| TableName { schema: part(&schema), table: part(table) }));
    }
    names.retain(|name| !name.table.starts_with("awsdms_") && selects(name));
    names.sort();
    Ok(names)
}

async fn folders(raw: &Location, path: &Path) -> Result<Vec<Path>> {
    Ok(raw.store.list_with_delimiter(Some(path)).await?.common_prefixes)
}

/// The raw files of `table`.
pub async fn files(raw: &Location, table: &TableName) -> Result<Listing> {
    // names as the store has them, which `join` would escape
    let folder = format!("{}/{}/{}", raw.prefix, table.schema, table.table);
    let folder = Path::parse(&folder).map_err(|e| Error::definite(format!("{folder}: {e}")))?;
    let mut listing = Listing { times_mean_nothing: raw.is_local(), ..Listing::default() };
    let mut objects = raw.store.list(Some(&folder));
    while let Some(object) = objects.try_next().await? {
        let depth = object.location.prefix_match(&folder).map_or(0, Iterator::count);
        let name = object.location.filename().unwrap_or_default().to_string();
        match FileName::parse(&name) {
            Some(kind) if depth == 1 => {
                let file = raw_file(raw, object, name, kind);
                match file.kind {
                    FileName::Load(_) => listing.loads.push(file),
                    FileName::Changes(_) => listing.changes.push(file),
                }
            }
            parsed if parsed.is_some() || is_segment(&name) => {
                return Err(Error::definite(format!(
                    "{}: files in folders of dates or of load segments (DatePartitionEnabled, parallel-load) are not read by \
                     this version; nothing of this table is merged, because its order would not be known",
                    shown(raw, &object.location)
                )));
            }
            // a zero-byte key may stand for the folder itself
            _ if object.size == 0 && depth <= 1 && name == table.table => {}
            _ => listing.strangers.push(shown(raw, &object.location)),
        }
    }
    listing.loads.sort_by_key(|file| file.kind);
    listing.changes.sort_by_key(|file| file.kind);
    twice(&listing.loads)?;
    twice(&listing.changes)?;
    Ok(listing)
}

/// True for a file of a load in ranges without names, `SEGMENT1_LOAD00000001.csv`.
fn is_segment(name: &str) -> bool {
    name.strip_prefix("SEGMENT")
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(number, file)| !number.is_empty() && matches!(FileName::parse(file), Some(FileName::Load(_))))
}

/// A path from `source.url` on.
fn shown(raw: &Location, path: &Path) -> String {
    path.prefix_match(&raw.prefix).map_or_else(|| path.to_string(), |parts| Path::from_iter(parts).to_string())
}

fn raw_file(raw: &Location, object: ObjectMeta, name: String, kind: FileName) -> RawFile {
    let written_at = object.last_modified.timestamp_nanos_opt().unwrap_or_default().to_string();
    let tag = if raw.is_local() { written_at } else { object.e_tag.unwrap_or(written_at) };
    RawFile {
        name,
        kind,
        shown: shown(raw, &object.location),
        path: object.location,
        size: object.size,
        modified: object.last_modified.timestamp_millis(),
        tag,
    }
}

/// Two files of one name, such as `LOAD00000001.csv` beside `LOAD00000001.csv.gz`, have no order.
fn twice(files: &[RawFile]) -> Result<()> {
    match files.windows(2).find(|pair| pair[0].kind == pair[1].kind) {
        Some(pair) => Err(Error::definite(format!(
            "{} and {} stand for the same file of the task; remove one of them",
            pair[0].shown, pair[1].shown
        ))),
        None => Ok(()),
    }
}
