//! What is to be merged next, decided from the files that are there and the position that the log holds.
//!
//! No I/O and no clock: after each commit the same question is asked again, so that a run that was cut off, one that
//! lost a race and one that was never disturbed all take the same way.

use std::collections::HashMap;

use lakemerge_source::dms::names::FileName;
use lakemerge_source::position::Stamp;

use super::listing::{Listing, RawFile};
use crate::error::{Error, Result};
use crate::lake::position::{LoadedFile, Position};

/// What the log holds of a table that exists.
pub struct Reached<'a> {
    pub position: Position,
    pub load: &'a [LoadedFile],
}

/// What the user asked for beyond the ordinary.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Changes after this are left for a later run.
    pub until: Option<Stamp>,
    /// Replace the table by the load that is there now.
    pub reload: bool,
    pub include_late: bool,
    pub load_complete: bool,
    /// Raw files that are gone mean nothing.
    pub keep_vanished: bool,
    /// Files older than this are expected to be gone one day.
    pub expired_before: Option<Stamp>,
    /// Take the LOAD files as they are now as the ones that were read.
    pub accept_load: bool,
    /// Take a table as it is that another writer wrote or changed.
    pub adopt: bool,
    pub max_file_size: u64,
    pub batch_bytes: u64,
}

/// One commit's worth of work.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The first files of a load, into a table that is new or replaced. Change files up to `after` are older than it.
    Load {
        files: Vec<RawFile>,
        complete: bool,
        after: Option<Stamp>,
    },
    /// Files of a load that was under way.
    ContinueLoad {
        files: Vec<RawFile>,
        complete: bool,
    },
    /// LOAD files of another tag but the same size: a reload only if their content differs.
    Compare {
        files: Vec<RawFile>,
    },
    /// Nothing but a note of the LOAD files as they are.
    AcceptLoad,
    /// Nothing but a note that the load is complete.
    CompleteLoad,
    Changes {
        files: Vec<RawFile>,
        upto: Stamp,
    },
    Nothing,
}

/// Decides the next step of a table.
///
/// # Errors
/// Files that came or changed where no rule says what they mean; the message says which options decide it.
pub fn next(listing: &Listing, reached: Option<&Reached>, wishes: &Wishes) -> Result<Next> {
    let complete = wishes.load_complete || load_is_complete(listing, wishes.max_file_size);
    let Some(reached) = reached.filter(|_| !wishes.reload) else {
        if listing.loads.is_empty() && listing.changes.is_empty() {
            return Ok(Next::Nothing);
        }
        if wishes.reload && !complete {
            return Err(Error::definite(
                "the full load is still being written, and a reload now would take a part of it; wait, or add --load-complete TABLE",
            ));
        }
        let after = older_than_the_load(listing).filter_map(stamp).max();
        return Ok(Next::Load { files: listing.loads.clone(), complete, after });
    };
    if wishes.accept_load {
        return Ok(Next::AcceptLoad);
    }
    vanished(listing, reached, wishes)?;
    if let Some(step) = changed_load(listing, reached)? {
        return Ok(step);
    }
    let new: Vec<_> = new_loads(listing, reached.load);
    if !new.is_empty() {
        if reached.position.load_complete || reached.position.changes.is_some() {
            return Err(Error::definite(format!("{} came after the full load was complete; {REMEDIES}", names(&new))));
        }
        return Ok(Next::ContinueLoad { files: new, complete });
    }
    let batch = pending_changes(listing, &reached.position, wishes)?;
    if !batch.is_empty() {
        let upto = batch.iter().filter_map(stamp).max().max(reached.position.changes);
        return upto.map_or(Ok(Next::Nothing), |upto| Ok(Next::Changes { files: batch, upto }));
    }
    if complete && !reached.position.load_complete && wishes.load_complete {
        return Ok(Next::CompleteLoad);
    }
    Ok(Next::Nothing)
}

const REMEDIES: &str = "--reload TABLE replaces the table by the load that is there now, --accept-load TABLE keeps the \
                        table and takes the LOAD files as already merged";

/// DMS writes no mark at a load's end; these are the signs of one (T-A11).
fn load_is_complete(listing: &Listing, max_file_size: u64) -> bool {
    !listing.changes.is_empty() || listing.loads.last().is_some_and(|last| last.size < max_file_size)
}

/// A TRUNCATE of the source makes DMS delete all files of the table, so the files that were read last must still be
/// there, whatever came after them (T-A10).
fn vanished(listing: &Listing, reached: &Reached, wishes: &Wishes) -> Result<()> {
    let expired = wishes.expired_before.is_some_and(|before| reached.position.changes.is_none_or(|last| last < before));
    if wishes.keep_vanished || expired {
        return Ok(());
    }
    let last = reached.position.changes.filter(|last| !listing.changes.iter().any(|file| stamp(file) == Some(*last)));
    let first_load = || {
        let first = reached.load.first().filter(|first| !listing.loads.iter().any(|file| file.name == first.name))?;
        wishes.expired_before.is_none().then(|| first.name.clone())
    };
    let Some(gone) = last.map(|last| format!("change file {last}")).or_else(first_load) else { return Ok(()) };
    Err(Error::definite(format!(
        "{gone}, which is merged, is gone: if the source was truncated, --reload TABLE rebuilds the table from the files \
         that are there; if files expire, set raw_retention; if they were removed by hand, set on_vanished = \"keep\""
    )))
}

/// How far a change file's LastModified may be from its stamp where DMS itself wrote it there, in milliseconds.
const AS_WRITTEN: i64 = 15 * 60 * 1000;

/// Change files that an earlier load left behind: what they say is in the load already, or outdated by it (T-A12).
///
/// Only times that DMS's own writing gave are trusted: a copied file has its copying's, and then a file's age says
/// nothing of its place in the order.
pub fn older_than_the_load(listing: &Listing) -> impl Iterator<Item = &RawFile> {
    let load = listing.loads.iter().map(|file| file.modified).min().filter(|_| !listing.times_mean_nothing);
    listing.changes.iter().filter(move |file| {
        let written = stamp(file).map(Stamp::as_unix_millis);
        let as_written = written.is_some_and(|written| (file.modified - written).abs() <= AS_WRITTEN);
        as_written && load.is_some_and(|load| file.modified < load)
    })
}

fn changed_load(listing: &Listing, reached: &Reached) -> Result<Option<Next>> {
    let by_name: HashMap<_, _> = reached.load.iter().map(|file| (file.name.as_str(), file)).collect();
    let changed: Vec<_> = listing
        .loads
        .iter()
        .filter(|file| {
            by_name.get(file.name.as_str()).is_some_and(|read| read.size != file.size || read.tag != file.tag)
        })
        .cloned()
        .collect();
    if let Some(file) = changed.iter().find(|file| by_name[file.name.as_str()].size != file.size) {
        return Err(load_changed(&file.name));
    }
    Ok((!changed.is_empty()).then_some(Next::Compare { files: changed }))
}

/// The error for a LOAD file whose content is not what was read.
pub fn load_changed(name: &str) -> Error {
    Error::definite(format!("{name} has changed since it was loaded: the task wrote its full load again; {REMEDIES}"))
}

fn new_loads(listing: &Listing, read: &[LoadedFile]) -> Vec<RawFile> {
    listing.loads.iter().filter(|file| !read.iter().any(|r| r.name == file.name)).cloned().collect()
}

/// The files of the next batch.
fn pending_changes(listing: &Listing, position: &Position, wishes: &Wishes) -> Result<Vec<RawFile>> {
    let wanted = |file: &&RawFile| stamp(file).is_some_and(|s| wishes.until.is_none_or(|until| s <= until));
    let (before, after): (Vec<_>, Vec<_>) =
        listing.changes.iter().filter(wanted).cloned().partition(|file| stamp(file) <= position.changes);
    // Where modification times mean nothing, names alone count.
    let late: Vec<_> = before
        .into_iter()
        .filter(|file| !listing.times_mean_nothing && position.listed > 0 && file.modified > position.listed)
        .collect();
    if late.is_empty() {
        return Ok(first_batch(after, wishes.batch_bytes));
    }
    if !wishes.include_late {
        return Err(Error::definite(format!(
            "{} came late: older by name than changes that are already merged; --include-late merges it now, after them",
            names(&late)
        )));
    }
    // in one commit: afterwards nothing tells a late file from one that was merged in its time
    Ok(late)
}

/// As many files as fit in a batch, and at least one.
fn first_batch(files: Vec<RawFile>, batch_bytes: u64) -> Vec<RawFile> {
    let mut bytes = 0;
    files
        .into_iter()
        .enumerate()
        .take_while(|(i, file)| {
            bytes += file.size;
            *i == 0 || bytes <= batch_bytes
        })
        .map(|(_, file)| file)
        .collect()
}

fn stamp(file: &RawFile) -> Option<Stamp> {
    match file.kind {
        FileName::Changes(stamp) => Some(stamp),
        FileName::Load(_) => None,
    }
}

fn names(files: &[RawFile]) -> String {
    match files {
        [one] => one.name.clone(),
        [first, ..] => format!("{} and {} more", first.name, files.len() - 1),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, modified: i64) -> RawFile {
        RawFile {
            name: name.to_string(),
            kind: FileName::parse(name).unwrap(),
            path: name.into(),
            shown: name.to_string(),
            size: 10,
            modified,
            tag: modified.to_string(),
        }
    }

    fn listing(files: &[(&str, i64)]) -> Listing {
        let mut listing = Listing::default();
        for (name, modified) in files {
            let file = file(name, *modified);
            if stamp(&file).is_some() { listing.changes.push(file) } else { listing.loads.push(file) }
        }
        listing
    }

    fn wishes() -> Wishes {
        Wishes { max_file_size: 100, batch_bytes: 1000, ..Wishes::default() }
    }

    const A: &str = "20240101-000000001.csv";
    const B: &str = "20240101-000000002.csv";
    const LOAD: &str = "LOAD00000001.csv";

    fn loaded(modified: i64) -> Vec<LoadedFile> {
        vec![LoadedFile { name: LOAD.into(), size: 10, tag: modified.to_string(), hash: String::new() }]
    }

    fn at(changes: Option<&str>, listed: i64) -> Position {
        let changes = changes.map(|name| stamp(&file(name, 0)).unwrap());
        Position { load_complete: true, changes, listed, ..Position::default() }
    }

    fn check(files: &[(&str, i64)], position: Position, wishes: &Wishes) -> Result<Vec<String>> {
        let load = loaded(1);
        let reached = Reached { position, load: &load };
        Ok(match next(&listing(files), Some(&reached), wishes)? {
            Next::Changes { files, .. } | Next::ContinueLoad { files, .. } | Next::Compare { files } => {
                files.into_iter().map(|file| file.name).collect()
            }
            Next::Nothing => vec![],
            other => vec![format!("{other:?}")],
        })
    }

    #[test]
    fn changes_after_the_position_are_next() {
        assert_eq!(check(&[(LOAD, 1), (A, 2), (B, 3)], at(Some(A), 2), &wishes()).unwrap(), [B]);
        assert!(check(&[(LOAD, 1), (A, 2), (B, 3)], at(Some(B), 3), &wishes()).unwrap().is_empty());
    }

    #[test]
    fn a_batch_ends_at_a_file_boundary_and_has_at_least_one() {
        let small = Wishes { batch_bytes: 5, ..wishes() };
        assert_eq!(check(&[(LOAD, 1), (A, 2), (B, 3)], at(None, 1), &small).unwrap(), [A]);
    }

    #[test]
    fn until_leaves_later_changes_for_later() {
        let until = Wishes { until: stamp(&file(A, 0)), ..wishes() };
        assert_eq!(check(&[(LOAD, 1), (A, 2), (B, 3)], at(None, 1), &until).unwrap(), [A]);
    }

    #[test]
    fn a_late_file_stops_unless_it_is_asked_for() {
        let files = [(LOAD, 1), (A, 9), (B, 3)];
        let error = check(&files, at(Some(B), 3), &wishes()).unwrap_err().to_string();
        assert!(error.contains(A) && error.contains("--include-late"), "{error}");
        let include = Wishes { include_late: true, ..wishes() };
        assert_eq!(check(&files, at(Some(B), 3), &include).unwrap(), [A]);
    }

    #[test]
    fn a_load_written_again_is_compared_or_refused() {
        assert_eq!(check(&[(LOAD, 7)], at(None, 1), &wishes()).unwrap(), [LOAD]);
        let mut bigger = listing(&[(LOAD, 1)]);
        bigger.loads[0].size = 11;
        let load = loaded(1);
        let error = next(&bigger, Some(&Reached { position: at(None, 1), load: &load }), &wishes()).unwrap_err();
        assert!(error.to_string().contains("--reload TABLE"), "{error}");
    }

    #[test]
    fn a_file_that_was_merged_and_is_gone_stops_the_table() {
        let error = check(&[(LOAD, 1), (B, 3)], at(Some(A), 2), &wishes()).unwrap_err().to_string();
        assert!(error.contains("20240101-000000001, which is merged, is gone"), "{error}");
        assert!(check(&[(A, 2), (B, 3)], at(Some(A), 2), &wishes()).is_err());
        let keep = Wishes { keep_vanished: true, ..wishes() };
        assert_eq!(check(&[(B, 3)], at(Some(A), 2), &keep).unwrap(), [B]);
        let expired = Wishes { expired_before: stamp(&file(B, 0)), ..wishes() };
        assert_eq!(check(&[(B, 3)], at(Some(A), 2), &expired).unwrap(), [B]);
    }

    #[test]
    fn changes_that_are_older_than_the_load_are_left_out_where_times_tell() {
        let written = stamp(&file(A, 0)).unwrap().as_unix_millis();
        let after = |files: &[(&str, i64)]| match next(&listing(files), None, &wishes()).unwrap() {
            Next::Load { after, .. } => after.map(|stamp| stamp.to_string()),
            other => panic!("{other:?}"),
        };
        assert_eq!(after(&[(LOAD, written + 5000), (A, written + 100)]).as_deref(), Some("20240101-000000001"));
        assert_eq!(after(&[(LOAD, written - 5000), (A, written + 100)]), None);
        // a copy, made years later, of the changes first
        let copied = written + 1_000_000_000;
        assert_eq!(after(&[(LOAD, copied + 1), (A, copied)]), None);
    }

    #[test]
    fn a_full_last_file_means_that_the_load_goes_on() {
        let more = Wishes { max_file_size: 10, ..wishes() };
        let step = next(&listing(&[(LOAD, 1)]), None, &more).unwrap();
        assert!(matches!(step, Next::Load { complete: false, .. }), "{step:?}");
        let two = [(LOAD, 1), ("LOAD00000002.csv", 2)];
        let loading = Position { load_complete: false, ..at(None, 1) };
        assert_eq!(check(&two, loading, &more).unwrap(), ["LOAD00000002.csv"]);
        assert!(check(&two, at(None, 1), &more).is_err());
    }
}
