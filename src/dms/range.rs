//! Listing a folder from one stamp on: of 100,000 change files that are merged, few need to be asked for.

use futures::TryStreamExt;
use futures::stream::BoxStream;
use lakemerge_source::position::Stamp;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use crate::error::{Error, Result};
use crate::storage::Location;

/// After so many objects before the first wanted one it is jumped to; below that a jump saves nothing.
const MANY: usize = 2_000;

/// A folder whose change files are wanted from a stamp on.
pub struct Range<'a> {
    pub folder: &'a Path,
    /// What stands before the stamp in a change file's name.
    pub before_stamp: &'a str,
    /// Change files before this may be passed over; all else is listed.
    pub from: Option<Stamp>,
}

/// The objects of a [`Range`], in the store's order.
pub struct Objects<'a> {
    raw: &'a Location,
    folder: Path,
    objects: BoxStream<'a, object_store::Result<ObjectMeta>>,
    /// What stands before the year in the path of a change file, and where to go on from.
    jump: Option<(String, Path)>,
    seen: usize,
}

impl Range<'_> {
    pub fn objects<'a>(&self, raw: &'a Location) -> Objects<'a> {
        // On S3 objects are listed by name, a thousand at a time; a local path gives all at once.
        let from = self.from.filter(|_| !raw.is_local());
        let jump = from.and_then(|from| {
            let before_year = format!("{}/{}", self.folder, self.before_stamp);
            let stamp = from.to_string();
            let stamp = if self.before_stamp.is_empty() { stamp } else { stamp.replace('-', "") };
            Some((before_year.clone(), Path::parse(format!("{before_year}{stamp}")).ok()?))
        });
        let objects = raw.store.list(Some(self.folder));
        Objects { raw, folder: self.folder.clone(), objects, jump, seen: 0 }
    }
}

impl Objects<'_> {
    pub async fn next(&mut self) -> Result<Option<ObjectMeta>> {
        let Some(object) = self.objects.try_next().await? else { return Ok(None) };
        let Some((before_year, from)) = &self.jump else { return Ok(Some(object)) };
        self.seen += 1;
        if object.location >= *from {
            self.jump = None;
        } else if self.seen == MANY {
            let years = year(object.location.as_ref(), before_year).zip(year(from.as_ref(), before_year));
            let folders = match years {
                Some(years) => has_folders_of_dates(self.raw, &self.folder, before_year, years).await?,
                None => true,
            };
            if !folders {
                self.objects = self.raw.store.list_with_offset(Some(&self.folder), from);
            }
            self.jump = None;
        }
        Ok(Some(object))
    }
}

/// Whether one of `2024/` or `2024-01-31/` lies in `folder` in the years `(first, last)`: their files may be newer than
/// all that sort after them. (Folders that begin with a month or a day sort before all years, or after them.)
async fn has_folders_of_dates(
    raw: &Location,
    folder: &Path,
    before_year: &str,
    (first, last): (u32, u32),
) -> Result<bool> {
    for year in first..=last {
        let year = format!("{before_year}{year:04}");
        let after = Path::parse(format!("{year}-")).map_err(Error::definite)?;
        let next = raw.store.list_with_offset(Some(folder), &after).try_next().await?;
        let rest = next.as_ref().and_then(|object| object.location.as_ref().strip_prefix(&year));
        if rest.is_some_and(|rest| rest.starts_with(['-', '/'])) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The year in a change file's name.
fn year(path: &str, before_year: &str) -> Option<u32> {
    path.strip_prefix(before_year)?.get(..4)?.parse().ok()
}
