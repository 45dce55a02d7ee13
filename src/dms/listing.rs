//! Which tables and raw files there are.

use chrono::MappedLocalTime;
use futures::{StreamExt, TryStreamExt};
use lakemerge_source::dms::folders::Folders;
use lakemerge_source::dms::names::{DataFormat, FileName, OF_ALL_TABLES};
use lakemerge_source::name::TableName;
use lakemerge_source::position::Stamp;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use sha2::{Digest, Sha256};

use super::range::Range;
use crate::error::{Error, Result};
use crate::storage::{LOST_AND_FOUND, Location};

/// A raw file of one table, or of all tables' changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFile {
    /// Its path from the table's folder on, or from the folder of all tables' changes.
    pub name: String,
    /// The stamp of a change file is in UTC, whatever zone its name is in.
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

/// How far a change file's LastModified may be from its stamp where DMS itself wrote it there, in milliseconds.
const AS_WRITTEN: i64 = 15 * 60 * 1000;

#[cfg(test)]
impl RawFile {
    /// A file of the table `s.t`, as a store without tags lists it.
    pub fn of(name: &str, size: usize) -> RawFile {
        let (path, kind) = (format!("s/t/{name}"), FileName::parse(name).expect("a name of a raw file"));
        let (shown, tag) = (path.clone(), String::new());
        RawFile { name: name.into(), kind, path: path.into(), shown, size: size as u64, modified: 0, tag }
    }
}

impl RawFile {
    /// What a LOAD file's number counts in: the folder of its partition, and its segment.
    pub fn segment(&self) -> (&str, u32) {
        let folder = self.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        match self.kind {
            FileName::Load(load) => (folder, load.segment),
            FileName::Changes(_) => (folder, 0),
        }
    }

    /// False if `found` was written after this was listed. Stores may quote an ETag in one answer and not in another.
    pub fn is_still(&self, found: &ObjectMeta) -> bool {
        let bare = |tag: &str| tag.trim_matches('"').to_string();
        let now = found.e_tag.as_deref().map(|tag| [bare(tag), written_at(found)]);
        self.tag.is_empty() || now.is_none_or(|now| now.contains(&bare(&self.tag)))
    }

    pub fn format(&self) -> DataFormat {
        DataFormat::of(&self.name)
    }

    /// True if records of all tables are in it.
    pub fn holds_all_tables(&self) -> bool {
        self.name.starts_with(OF_ALL_TABLES)
    }

    /// True if it was there soon after `stamp`: a copy has its copying's time.
    pub fn written_at(&self, stamp: Stamp) -> bool {
        (self.modified - stamp.as_unix_millis()).abs() <= AS_WRITTEN
    }
}

/// How far back change files are counted, in seconds.
pub const DAY: u64 = 24 * 60 * 60;

/// The raw files of one table, each kind in its own order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub loads: Vec<RawFile>,
    pub changes: Vec<RawFile>,
    /// Change files of an hour that came twice in their zone, where names and times do not tell which it was.
    pub undated: Vec<Undated>,
    /// Files whose names are not of DMS's form.
    pub strangers: Vec<String>,
    /// True where modification times come from a local file system: copies and checkouts change them.
    pub times_mean_nothing: bool,
    /// True if `changes` are those of all tables.
    pub of_all_tables: bool,
    /// Change files before this are left out.
    pub from: Option<Stamp>,
}

/// A change file of one of two hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undated {
    /// With the stamp of the second hour.
    pub file: RawFile,
    /// The stamp that it has if it is one of the first.
    pub first: Stamp,
}

impl Undated {
    /// The file, if it was closed within an hour after `mark`, the [time](super::progress::Progress::mark) of its newest
    /// change.
    pub fn dated(&self, mark: i64) -> Option<RawFile> {
        let second = self.file.kind.stamp()?;
        let apart = second.as_unix_millis() - self.first.as_unix_millis();
        let newest = Stamp::from_i64(mark)?.as_unix_millis();
        let is_of = |stamp: &Stamp| (0..apart).contains(&(stamp.as_unix_millis() - newest));
        let stamp = [self.first, second].into_iter().find(is_of)?;
        Some(RawFile { kind: FileName::Changes(stamp), ..self.file.clone() })
    }
}

impl Listing {
    /// Puts the files of `undated` for which `dated` are given in their places.
    ///
    /// # Errors
    /// If two files then have one stamp.
    pub fn date(&mut self, dated: Vec<RawFile>) -> Result<()> {
        self.undated.retain(|undated| !dated.iter().any(|file| file.path == undated.file.path));
        self.changes.extend(dated);
        self.changes.sort_by_key(|file| file.kind);
        twice(&self.changes)
    }

    /// LOAD files that are missing between others of their segment.
    pub fn gaps(&self) -> Vec<String> {
        self.loads.chunk_by(|a, b| a.segment() == b.segment()).flat_map(gaps).collect()
    }

    /// The largest LastModified of all files.
    pub fn newest(&self) -> i64 {
        self.loads.iter().chain(&self.changes).map(|file| file.modified).max().unwrap_or_default()
    }

    /// How many change files behind the one at `older` there are in the day up to `upto`; 0 where not all are listed.
    pub fn in_day_before(&self, upto: Stamp, older: Option<Stamp>) -> i64 {
        let from = upto.before(DAY);
        if self.from.is_some_and(|first| Some(first) > from) || !self.undated.is_empty() {
            return 0;
        }
        let stamps = self.changes.iter().filter_map(|file| file.kind.stamp());
        let count = stamps.filter(|stamp| Some(*stamp) > from.max(older) && *stamp <= upto).count();
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    /// What tells one writing of a change file from another, as a number; 0 is unknown. A copy on a local path keeps the
    /// size alone.
    pub fn trace(&self, file: &RawFile) -> i64 {
        let tag = if self.times_mean_nothing { "" } else { &file.tag };
        let digest = Sha256::digest(format!("{} {tag}", file.size));
        digest.iter().take(7).fold(0, |number, byte| number << 8 | i64::from(*byte)).max(1)
    }

    /// The [trace](Listing::trace) of the change file at `stamp`.
    pub fn trace_at(&self, stamp: Stamp) -> i64 {
        let file = self.changes.iter().find(|file| file.kind == FileName::Changes(stamp));
        file.map_or(0, |file| self.trace(file))
    }

    fn take(&mut self, mut file: RawFile, folders: &Folders) -> Result<()> {
        let FileName::Changes(named) = file.kind else {
            self.loads.push(file);
            return Ok(());
        };
        // Beside the full load lie those that were written before there were folders of dates, and these are in UTC.
        let Some(zone) = folders.timezone.filter(|_| file.name.contains('/')) else {
            self.changes.push(file);
            return Ok(());
        };
        match named.in_utc(zone) {
            MappedLocalTime::Single(stamp) => file.kind = FileName::Changes(stamp),
            MappedLocalTime::Ambiguous(first, second) => {
                match [first, second].into_iter().find(|stamp| file.written_at(*stamp)) {
                    Some(stamp) => file.kind = FileName::Changes(stamp),
                    None => {
                        let file = RawFile { kind: FileName::Changes(second), ..file };
                        self.undated.push(Undated { file, first });
                        return Ok(());
                    }
                }
            }
            MappedLocalTime::None => {
                return Err(Error::definite(format!(
                    "{}: there is no such time in {zone}; is that still the endpoint's DatePartitionTimezone?",
                    file.shown
                )));
            }
        }
        self.changes.push(file);
        Ok(())
    }

    fn finished(mut self) -> Result<Listing> {
        let (from, stamp) = (self.from, |file: &RawFile| file.kind.stamp());
        self.changes.retain(|file| stamp(file) >= from);
        self.undated.retain(|undated| stamp(&undated.file) >= from);
        self.undated.sort_by_key(|undated| undated.file.kind);
        self.loads.sort_by(|a, b| (a.segment(), a.kind).cmp(&(b.segment(), b.kind)));
        self.changes.sort_by_key(|file| file.kind);
        twice(&self.loads)?;
        twice(&self.changes)?;
        of_one_load(&self.loads)?;
        Ok(self)
    }
}

fn gaps(files: &[RawFile]) -> Vec<String> {
    let mut expected = 1;
    let mut missing = vec![];
    for file in files {
        let FileName::Load(load) = file.kind else { continue };
        let before = file.name.rfind("LOAD").map_or("", |at| &file.name[..at]);
        match load.number.checked_sub(expected) {
            Some(0) | None => {}
            Some(1) => missing.push(format!("{before}LOAD{expected:08X}")),
            Some(_) => missing.push(format!("{before}LOAD{expected:08X} to LOAD{:08X}", load.number - 1)),
        }
        expected = load.number.saturating_add(1);
    }
    missing
}

/// The tables below `raw` that the job `selects`: every `<schema>/<table>/` folder.
pub async fn tables(raw: &Location, folders: &Folders, selects: impl Fn(&TableName) -> bool) -> Result<Vec<TableName>> {
    let root = raw.store.list_with_delimiter(Some(&raw.prefix)).await?;
    root.objects.iter().try_for_each(|object| refuse_changes_of_all(raw, object, folders))?;
    let schemas = root.common_prefixes.into_iter();
    let schemas: Vec<_> = schemas.filter(|schema| schema.filename() != Some(LOST_AND_FOUND)).collect();
    if schemas.is_empty() {
        let found = raw.store.list(Some(&raw.prefix)).next().await;
        if found.transpose()?.is_none() {
            return Err(Error::definite("there is nothing here; is source.url right?"));
        }
    }
    let listings = futures::stream::iter(schemas.into_iter().map(|schema| async move {
        let listed = raw.store.list_with_delimiter(Some(&schema)).await?;
        listed.objects.iter().try_for_each(|object| refuse_changes_of_all(raw, object, folders))?;
        Ok::<_, Error>((schema, listed))
    }))
    .buffered(16)
    .try_collect::<Vec<_>>()
    .await?;
    let part = |path: &Path| path.filename().map(str::to_string).unwrap_or_default();
    let (mut names, mut misplaced) = (vec![], raw_file_among(&root.objects));
    for (schema, listed) in &listings {
        misplaced = misplaced.or_else(|| raw_file_among(&listed.objects));
        let tables = listed.common_prefixes.iter();
        names.extend(tables.map(|table| TableName { schema: part(schema), table: part(table) }));
    }
    if let Some(file) = misplaced {
        let file = shown(raw, file);
        let why =
            "is a raw file, but lies in no folder of a table: source.url must be the folder above <schema>/<table>/";
        if names.is_empty() {
            return Err(Error::usage(format!("{file} {why}")));
        }
        tracing::warn!("{file} {why}, so it is left alone");
    }
    // the folder of all tables' changes looks like one of a schema
    let changes = |name: &TableName| {
        let folder = format!("{}/{}/", name.schema, name.table);
        folders.cdc_path.as_ref().is_some_and(|path| format!("{path}/").starts_with(&folder))
    };
    names.retain(|name| selects(name) && !changes(name));
    names.sort();
    Ok(names)
}

/// The first of `objects` that has the name of a file of one table.
fn raw_file_among(objects: &[ObjectMeta]) -> Option<&Path> {
    let is_one = |path: &&Path| path.filename().and_then(FileName::parse).is_some();
    objects.iter().map(|object| &object.location).find(is_one)
}

/// The raw files of `table`, without change files before `from`.
pub async fn files(raw: &Location, folders: &Folders, table: &TableName, from: Option<Stamp>) -> Result<Listing> {
    let mut listing = Listing {
        times_mean_nothing: raw.is_local(),
        of_all_tables: folders.cdc_path.is_some(),
        from,
        ..Listing::default()
    };
    let folder = below(raw, &format!("{}/{}", table.schema, table.table))?;
    // a name without an ending may be that of a folder
    let matters = |name: &str| FileName::parse(name).is_some() || !name.contains('.');
    if let Some(link) = raw.dangling(&folder, matters) {
        return Err(Error::definite(format!("{}: the link leads nowhere; is a volume not mounted?", link.display())));
    }
    // the folders of dates do not sort by time in every form
    let range = Range { folder: &folder, before_stamp: "", from: from.filter(|_| !folders.date_partitions) };
    let mut objects = range.objects(raw);
    while let Some(object) = objects.next().await? {
        let name = name_below(&object.location, &folder);
        match FileName::below_table(&name).map_err(|e| Error::definite(e).at(shown(raw, &object.location)))? {
            Some(kind) => listing.take(raw_file(raw, object, name, kind), folders)?,
            None if is_folder(&object, &name) => {}
            None => {
                refuse_changes_of_all(raw, &object, folders)?;
                listing.strangers.push(shown(raw, &object.location));
            }
        }
    }
    if let Some(path) = &folders.cdc_path {
        let folder = below(raw, path)?;
        let mut objects = Range { folder: &folder, before_stamp: OF_ALL_TABLES, from }.objects(raw);
        while let Some(object) = objects.next().await? {
            let name = name_below(&object.location, &folder);
            match FileName::of_all_tables(&name) {
                Some(kind) => listing.changes.push(raw_file(raw, object, name, kind)),
                None if is_folder(&object, &name) => {}
                None => listing.strangers.push(shown(raw, &object.location)),
            }
        }
    }
    listing.finished()
}

/// Changes of all tables would be passed over where the settings say nothing of their folder, or of another one.
fn refuse_changes_of_all(raw: &Location, object: &ObjectMeta, folders: &Folders) -> Result<()> {
    let is_one = object.location.filename().and_then(FileName::of_all_tables).is_some();
    let shown = shown(raw, &object.location);
    let told = folders.cdc_path.as_ref();
    if !is_one || told.is_some_and(|path| shown.starts_with(&format!("{path}/"))) {
        return Ok(());
    }
    Err(Error::usage(match told {
        Some(path) => format!(
            "{shown} holds changes of all tables, and CdcPath of the S3 settings is {path}: is that, below source.url, the \
             folder that the endpoint writes to?"
        ),
        None => format!(
            "{shown} holds changes of all tables, so the endpoint has PreserveTransactions and a CdcPath; give its settings \
             as source.s3_settings"
        ),
    }))
}

/// The folder at `path` below `raw`, with names as the store has them, which `join` would escape.
fn below(raw: &Location, path: &str) -> Result<Path> {
    let folder = format!("{}/{path}", raw.prefix);
    Path::parse(&folder).map_err(|e| Error::definite(format!("{folder}: {e}")))
}

fn name_below(path: &Path, folder: &Path) -> String {
    let parts = path.prefix_match(folder).map(|parts| parts.map(|part| part.as_ref().to_string()).collect::<Vec<_>>());
    parts.unwrap_or_default().join("/")
}

/// A key without bytes may stand for a folder, such as `2024/` or the table's own.
fn is_folder(object: &ObjectMeta, name: &str) -> bool {
    object.size == 0 && !name.contains('.')
}

/// A path from `source.url` on.
fn shown(raw: &Location, path: &Path) -> String {
    path.prefix_match(&raw.prefix).map_or_else(|| path.to_string(), |parts| Path::from_iter(parts).to_string())
}

fn written_at(object: &ObjectMeta) -> String {
    object.last_modified.timestamp_nanos_opt().unwrap_or_default().to_string()
}

fn raw_file(raw: &Location, object: ObjectMeta, name: String, kind: FileName) -> RawFile {
    // a local file's ETag has the number of its inode, which not every file system keeps
    let tag = object.e_tag.clone().filter(|_| !raw.is_local()).unwrap_or_else(|| written_at(&object));
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
    let same = |a: &RawFile, b: &RawFile| match a.kind {
        FileName::Load(_) => a.kind == b.kind && a.segment() == b.segment(),
        FileName::Changes(_) => a.kind == b.kind,
    };
    match files.windows(2).find(|pair| same(&pair[0], &pair[1])) {
        Some([a, b]) if a.segment() == b.segment() && a.holds_all_tables() == b.holds_all_tables() => {
            Err(Error::definite(format!(
                "{} and {} stand for the same file of the task; remove one of them",
                a.shown, b.shown
            )))
        }
        Some([a, b]) => Err(Error::definite(format!(
            "{} and {} are of the same moment, so their order is not known; if one is a copy of the other, remove it, else \
             have the task load the table again",
            a.shown, b.shown
        ))),
        _ => Ok(()),
    }
}

/// One load lies beside its folder's change files, or in segments, or in folders of partitions: where two forms meet, an
/// earlier load was left behind, and its rows may be gone from the source.
fn of_one_load(loads: &[RawFile]) -> Result<()> {
    let form = |file: &RawFile| (file.segment().0.is_empty(), file.segment().1 == 0);
    match loads.iter().find(|file| form(file) != form(&loads[0])) {
        Some(other) => Err(Error::definite(format!(
            "{} and {} are not of one full load: a parallel load puts all its files in segments or all in folders; remove \
             the files of the load that is out of date",
            loads[0].shown, other.shown
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
