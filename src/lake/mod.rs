//! The lake: Delta tables under one URL, opened, read through one scan, and changed by one commit loop.

pub mod commit;
pub mod create;
pub mod history;
pub mod layers;
mod many_files;
pub mod position;
pub mod probe;
pub mod provider;
mod pruning;
pub mod quarantine;
mod reader;
pub mod scan;
pub mod stats;
pub mod table;
pub mod vectors;

use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::{StreamExt, TryStreamExt};
use lakemerge_source::name::TableName;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::{LOST_AND_FOUND, Location};
use table::Table;

/// The folder of the lake below which tables of bad records lie, by the names of the tables that they are none of.
pub const QUARANTINE: &str = "_quarantine";

/// What a merge does to the files that hold rows it changes (the words are Hudi's).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableType {
    /// They are written again without the rows.
    CopyOnWrite,
    /// The rows are marked in a deletion vector.
    MergeOnRead,
}

/// All tables under one URL; a table lies at `<url>/<schema>/<table>/`.
#[derive(Clone, Debug)]
pub struct Lake {
    location: Location,
}

impl Lake {
    pub fn new(location: Location) -> Lake {
        Lake { location }
    }

    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Opens the newest version of `name`, or `None` where no table is.
    pub async fn open(&self, name: &TableName) -> Result<Option<Table>> {
        Table::open(name, self.log(name)?).await.map_err(|e| e.at(format!("table {name}")))
    }

    /// Opens the table of records of `name` that could not be read, if there is one.
    pub async fn open_quarantine(&self, name: &TableName) -> Result<Option<Table>> {
        Table::open(name, self.log_below(&[QUARANTINE], name)?).await.map_err(|e| e.at(format!("quarantine of {name}")))
    }

    /// The log of `name`, whether or not the table exists.
    pub fn log(&self, name: &TableName) -> Result<LogStoreRef> {
        self.log_below(&[], name)
    }

    /// The log of the table of records of `name` that could not be read.
    pub fn quarantine(&self, name: &TableName) -> Result<LogStoreRef> {
        self.log_below(&[QUARANTINE], name)
    }

    fn log_below(&self, folders: &[&str], name: &TableName) -> Result<LogStoreRef> {
        let mut url = self.location.url.clone();
        url.path_segments_mut()
            .map_err(|()| Error::usage(format!("{} cannot hold tables", self.location.url)))?
            .pop_if_empty()
            .extend(folders)
            .extend([escape(&name.schema).as_str(), escape(&name.table).as_str(), ""]);
        let prefix = Path::from_url_path(url.path()).map_err(|e| Error::usage(format!("table {name}: {e}")))?;
        let prefixed = Arc::new(PrefixStore::new(Arc::clone(&self.location.store), prefix));
        Ok(default_logstore(prefixed, Arc::clone(&self.location.store), &url, &StorageConfig::default()))
    }

    /// The names of all tables, in order.
    pub async fn table_names(&self) -> Result<Vec<TableName>> {
        self.names_below(&self.location.prefix).await
    }

    /// The names of the tables of which records are in the quarantine, in order.
    pub async fn quarantined(&self) -> Result<Vec<TableName>> {
        self.names_below(&self.location.prefix.clone().join(QUARANTINE)).await
    }

    async fn names_below(&self, folder: &Path) -> Result<Vec<TableName>> {
        let store = &self.location.store;
        let schemas = store.list_with_delimiter(Some(folder)).await?.common_prefixes;
        let schemas = schemas.into_iter().filter(|schema| schema.filename() != Some(LOST_AND_FOUND));
        let listings = futures::stream::iter(schemas.map(|schema| async move {
            let tables = store.list_with_delimiter(Some(&schema)).await?.common_prefixes;
            Ok::<_, Error>((schema, tables))
        }))
        .buffered(16)
        .try_collect::<Vec<_>>()
        .await?;
        let mut names = vec![];
        for (schema, tables) in listings {
            let Some(schema) = unescape(schema.filename().unwrap_or_default()) else { continue };
            names.extend(tables.iter().filter_map(|table| {
                Some(TableName { schema: schema.clone(), table: unescape(table.filename().unwrap_or_default())? })
            }));
        }
        names.sort();
        Ok(names)
    }
}

/// A name as a folder. Different names give different folders: a byte that stores, paths or other engines read otherwise
/// becomes `!XX`, and so does a leading `_` or `.`, which would hide the folder. (`%XX` would be decoded on the way.)
fn escape(name: &str) -> String {
    let mut folder = String::with_capacity(name.len());
    for (i, c) in name.char_indices() {
        let special = c.is_control() || "!/\\%#?*:~|<>[]{}^`\"'+=&;".contains(c);
        if special || (i == 0 && matches!(c, '_' | '.' | ' ')) {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                folder.push_str(&format!("!{byte:02X}"));
            }
        } else {
            folder.push(c);
        }
    }
    folder
}

/// The name of the table or schema that lies in `folder`, or `None` for a folder that is neither.
fn unescape(folder: &str) -> Option<String> {
    if folder.is_empty() || folder.starts_with(['_', '.']) {
        return None;
    }
    let mut parts = folder.split('!');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_folder_of_its_own_that_tells_it() {
        let names =
            ["orders", "Orders", "_hidden", ".hidden", "a/b", "..", "a%b", "a%25b", "größe", "a b", "x.y", "x_y"];
        let mut folders = std::collections::HashSet::new();
        for name in names {
            let folder = escape(name);
            assert_eq!(Path::from_url_path(&folder).unwrap().parts().count(), 1, "{name}");
            assert_eq!(unescape(&folder).as_deref(), Some(name));
            assert!(folders.insert(folder));
        }
        assert_eq!(unescape("_delta_log"), None);
    }
}
