//! What is to be merged next, decided from the files that are there and the position that the log holds.
//!
//! No I/O and no clock: after each commit the same question is asked again, so that a run that was cut off, one that
//! lost a race and one that was never disturbed all take the same way.

use std::collections::{BTreeSet, HashMap};

use lakemerge_source::dms::names::DataFormat;
use lakemerge_source::position::Stamp;

use super::listing::{DAY, Listing, RawFile};
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
    /// Changes before this are older than the load.
    pub changes_from: Option<Stamp>,
    /// Merge late files, with all that are merged after them, in their order.
    pub include_late: bool,
    /// The same for merged files, as they are [shown](RawFile::shown): what was wrong with them may be mended.
    pub again: BTreeSet<String>,
    pub load_complete: bool,
    pub on_vanished: OnVanished,
    /// Late files are looked for among those that are older than the position by so many seconds at most.
    pub late_window: u64,
    /// Files older than this are expected to be gone one day.
    pub expired_before: Option<Stamp>,
    /// Take the LOAD files as they are now as the ones that were read.
    pub accept_load: bool,
    /// Take a table as it is that another writer wrote or changed.
    pub adopt: bool,
    pub max_file_size: u64,
    pub batch_bytes: u64,
}

impl LoadedFile {
    /// True if `file` is the one that was read, as far as its metadata tell.
    fn is(&self, file: &RawFile) -> bool {
        self.name == file.name && self.size == file.size && self.tag == file.tag
    }
}

/// What it means that merged raw files are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnVanished {
    /// A person must say.
    #[default]
    Stop,
    /// The source was truncated: the table is emptied, and what is there is all there is.
    Truncate,
    /// Nothing.
    Keep,
}

/// One commit's worth of work.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The first files of a load, into a table that is new or replaced. Change files up to `after` are older than it.
    Load {
        files: Vec<RawFile>,
        complete: bool,
        after: Option<Stamp>,
        /// The merged file that is gone, if that is why.
        gone: Option<String>,
    },
    /// Change files into a table that is emptied because the merged file `gone` is.
    Empty {
        files: Vec<RawFile>,
        upto: Option<Stamp>,
        gone: String,
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

impl Next {
    /// The files to be merged into a table that is there.
    pub fn merges(&self) -> &[RawFile] {
        match self {
            Next::ContinueLoad { files, .. } | Next::Changes { files, .. } | Next::Empty { files, .. } => files,
            _ => &[],
        }
    }

    /// True if it empties a table whose files are gone, for which all files must be known.
    pub fn empties(&self) -> bool {
        matches!(self, Next::Load { gone: Some(_), .. } | Next::Empty { .. })
    }
}

impl Wishes {
    /// The first change file that a listing needs for a table that has come to `reached`: all of them where the table is
    /// new or replaced, or where late files of any age are asked for.
    pub fn from(&self, reached: Option<&Reached>) -> Option<Stamp> {
        let reached = reached.filter(|_| !self.reload && !self.include_late)?;
        // files of these partitions may stand among the change files
        let among = |file: &LoadedFile| file.name.starts_with(|c: char| c.is_ascii_digit());
        // a day for the count of files that were there
        reached.position.changes.filter(|_| !reached.load.iter().any(among))?.before(self.late_window.max(DAY))
    }

    /// Whether a late file is not too old to be looked for.
    fn looks_for(&self, file: &RawFile, position: &Position) -> bool {
        let from = position.changes.and_then(|last| last.before(self.late_window));
        self.include_late || stamp(file) >= from
    }

    fn wants(&self, file: &RawFile) -> bool {
        stamp(file).is_some_and(|stamp| self.until.is_none_or(|until| stamp <= until))
    }
}

/// Decides the next step of a table.
///
/// # Errors
/// Files that came or changed where no rule says what they mean; the message says which options decide it.
pub fn next(listing: &Listing, reached: Option<&Reached>, wishes: &Wishes) -> Result<Next> {
    let complete = wishes.load_complete || load_is_complete(listing, wishes);
    let is_there = reached.is_some();
    let Some(reached) = reached.filter(|_| !wishes.reload) else {
        if listing.loads.is_empty() && listing.changes.is_empty() && listing.undated.is_empty() {
            if wishes.reload && is_there {
                let truncated = if_truncated(listing);
                return Err(Error::definite(format!("there are no raw files to load the table from again{truncated}")));
            }
            return Ok(Next::Nothing);
        }
        if wishes.reload && !complete {
            return Err(Error::transient(STILL_LOADING));
        }
        return first_load(listing, complete, None, wishes);
    };
    if wishes.accept_load {
        return Ok(Next::AcceptLoad);
    }
    if let Some(gone) = vanished(listing, reached, wishes)? {
        return emptied(listing, complete, gone, wishes);
    }
    if let Some(step) = changed_load(listing, reached)? {
        return Ok(step);
    }
    let new: Vec<_> = new_loads(listing, reached.load);
    if !new.is_empty() {
        // A segment may begin when others are complete, which only the changes after them tell; and MaxFileSize, by which
        // a load's end is told, is said of CSV files alone, maybe of what is in them before they are packed.
        let is_open = |file: &RawFile| {
            file.segment() != ("", 0) || file.format() == DataFormat::Parquet || file.name.ends_with(".gz")
        };
        if reached.position.merged().is_some() || (reached.position.load_complete && !new.iter().all(is_open)) {
            return Err(Error::definite(format!("{} came after the full load was complete; {REMEDIES}", names(&new))));
        }
        return Ok(Next::ContinueLoad { files: new, complete });
    }
    if listing.of_all_tables && !complete && !reached.position.load_complete {
        return Ok(Next::Nothing);
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

/// Where the load of the files of `listing` leads, of which change files up to `after` are older.
pub fn loaded(listing: &Listing, after: Option<Stamp>, complete: bool) -> Position {
    let position = Position { older: after, ..Position::default() };
    let left_out = listing.changes.iter().filter_map(stamp).filter(|stamp| Some(*stamp) <= after).max();
    Position { load_complete: complete, ..passed(position, left_out, listing, false) }
}

/// Where the change files up to `upto` lead, as far as their names tell; late ones among them if these were included.
pub fn passed(before: Position, upto: Option<Stamp>, listing: &Listing, include_late: bool) -> Position {
    let is_sweep = listing.from.is_none() && (include_late || before.changes.is_none());
    Position {
        swept: if is_sweep { listing.newest() } else { before.swept },
        // without changes a load may follow
        load_complete: upto.is_some(),
        changes: upto,
        listed: listing.newest().max(before.listed),
        last: upto.map_or(0, |upto| listing.trace_at(upto)),
        day: upto.map_or(0, |upto| listing.in_day_before(upto, before.older)),
        ..before
    }
}

const STILL_LOADING: &str = "the full load is still being written, and a reload now would take a part of it; wait, or add \
                             --load-complete TABLE";

fn first_load(listing: &Listing, complete: bool, gone: Option<String>, wishes: &Wishes) -> Result<Next> {
    let after = match wishes.changes_from {
        // also for files that come later
        Some(from) => Some(from.just_before()),
        None => left_out(listing, None).into_iter().filter_map(stamp).max(),
    };
    dated(listing, after)?;
    Ok(Next::Load { files: listing.loads.clone(), complete, after, gone })
}

/// The table as what is listed alone says, in one commit: no reader finds it empty that is about to be filled.
fn emptied(listing: &Listing, complete: bool, gone: String, wishes: &Wishes) -> Result<Next> {
    if !listing.loads.is_empty() {
        return if complete {
            first_load(listing, complete, Some(gone), wishes)
        } else {
            Err(Error::transient(STILL_LOADING))
        };
    }
    dated(listing, None)?;
    let wanted = listing.changes.iter().filter(|file| wishes.wants(file)).cloned().collect();
    let files = first_batch(wanted, wishes.batch_bytes);
    let upto = files.iter().filter_map(stamp).max();
    Ok(Next::Empty { files, upto, gone })
}

/// Every change file after `position` must have its place in the order.
fn dated(listing: &Listing, position: Option<Stamp>) -> Result<()> {
    let files = listing.undated.iter().map(|undated| &undated.file);
    let undated: Vec<_> = files.filter(|file| stamp(file) > position).cloned().collect();
    if undated.is_empty() {
        return Ok(());
    }
    Err(Error::definite(format!(
        "{}: the hour in the name came twice in DatePartitionTimezone, and the time at which the file was last written \
         does not tell which it was (a copy's does not), nor do its records (TimestampColumnName or $AR_H_CHANGE_SEQ would), \
         so its place in the order is not known; have the task load the \
         table again, remove the change files of before, and run with --reload TABLE",
        names(&undated)
    )))
}

const REMEDIES: &str = "--reload TABLE replaces the table by the load that is there now (if a file of it was mended by hand, \
                        with --changes-from and the stamp of the first change file), --accept-load TABLE keeps the table and \
                        takes the LOAD files as already merged";

/// DMS writes no mark at a load's end; these are the signs of one (T-A11). Changes of other tables are none, nor are those
/// that an earlier load left behind.
fn load_is_complete(listing: &Listing, wishes: &Wishes) -> bool {
    let of_this_load = listing.changes.len() > left_out(listing, wishes.changes_from).len();
    let mut segments = listing.loads.chunk_by(|a, b| a.segment() == b.segment());
    // a file ends before the record that does not fit any more
    let full = wishes.max_file_size - wishes.max_file_size / 100;
    !listing.of_all_tables && of_this_load
        || segments.all(|segment| segment.last().is_some_and(|last| last.size < full))
}

/// The file that was merged and is gone, if that means that the source was truncated: DMS then deletes all files of the
/// table, so those that were read last must still be there, whatever came after them (T-A10).
fn vanished(listing: &Listing, reached: &Reached, wishes: &Wishes) -> Result<Option<String>> {
    let position = &reached.position;
    let expired = wishes.expired_before.is_some_and(|before| match position.merged() {
        Some(last) => last < before,
        // what was loaded is as old as the newest file that was there
        None => position.listed < before.as_unix_millis(),
    });
    if wishes.on_vanished == OnVanished::Keep || expired {
        return Ok(None);
    }
    let is_last = |file: &RawFile| stamp(file).is_some() && stamp(file) == position.merged();
    // a file without its time may be the one
    let last_is_there = listing.changes.iter().any(is_last) || !listing.undated.is_empty();
    let last = position.merged().filter(|_| !last_is_there).map(|last| format!("change file {last}"));
    let first_load = || {
        let first = reached.load.first().filter(|first| !listing.loads.iter().any(|file| file.name == first.name))?;
        // before the first change there is nothing else to tell by
        (wishes.expired_before.is_none() || position.merged().is_none()).then(|| first.name.clone())
    };
    let Some(gone) = last.or_else(first_load) else { return Ok(None) };
    let is_merged = |file: &&RawFile| reached.load.iter().any(|read| read.is(file)) || is_last(file);
    match listing.loads.iter().chain(&listing.changes).find(is_merged) {
        None if wishes.on_vanished == OnVanished::Truncate => Ok(Some(gone)),
        Some(left) if wishes.on_vanished == OnVanished::Truncate => Err(Error::definite(format!(
            "{gone}, which is merged, is gone, but {} is still there, which a TRUNCATE of the source would have removed too, so \
             the table is not emptied; {IF_GONE}",
            left.name
        ))),
        _ => Err(Error::definite(format!(
            "{gone}, which is merged, is gone{}; --reload TABLE rebuilds the table from the files that are there, if any are; \
             {IF_GONE}",
            if_truncated(listing)
        ))),
    }
}

/// What else may be done, unless changes of the table lie among those of others, where it is refused.
fn if_truncated(listing: &Listing) -> &'static str {
    match listing.of_all_tables {
        true => "",
        false => "; if the source was truncated, on_vanished = \"truncate\" empties the table",
    }
}

const IF_GONE: &str = "if files expire, set raw_retention; if they were removed by hand, set on_vanished = \"keep\"";

/// Change files that an earlier load left behind: what they say is in the load already, or outdated by it (T-A12).
///
/// Only times that DMS's own writing gave are trusted: a copied file has its copying's, and then a file's age says
/// nothing of its place in the order.
pub fn older_than_the_load(listing: &Listing) -> impl Iterator<Item = &RawFile> {
    let load = listing.loads.iter().map(|file| file.modified).min().filter(|_| !listing.times_mean_nothing);
    listing.changes.iter().filter(move |file| {
        let as_written = stamp(file).is_some_and(|stamp| file.written_at(stamp));
        as_written && load.is_some_and(|load| file.modified < load)
    })
}

/// The change files that a load leaves out: those before what the user says, or else those that are
/// [older](older_than_the_load), which a LOAD file that was written again by hand makes of all.
pub fn left_out(listing: &Listing, changes_from: Option<Stamp>) -> Vec<&RawFile> {
    match changes_from {
        Some(from) => listing.changes.iter().filter(|file| stamp(file) < Some(from)).collect(),
        None => older_than_the_load(listing).collect(),
    }
}

fn changed_load(listing: &Listing, reached: &Reached) -> Result<Option<Next>> {
    let by_name: HashMap<_, _> = reached.load.iter().map(|file| (file.name.as_str(), file)).collect();
    let changed: Vec<_> = listing
        .loads
        .iter()
        .filter(|file| by_name.get(file.name.as_str()).is_some_and(|read| !read.is(file)))
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
    let wanted = listing.changes.iter().filter(|file| stamp(file) > position.older && wishes.wants(file));
    let (before, after): (Vec<_>, Vec<_>) = wanted.cloned().partition(|file| stamp(file) <= position.changes);
    // Where files may be copies, a new one is not late unless a person says so.
    let times_count = !listing.times_mean_nothing || wishes.include_late;
    // the last one may have been copied in its place since
    let is_last = |file: &RawFile| stamp(file) == position.changes && listing.trace(file) == position.last;
    let is_late =
        |file: &RawFile| times_count && position.listed > 0 && file.modified > position.listed && !is_last(file);
    let is_other =
        |file: &RawFile| stamp(file) == position.changes && position.last != 0 && listing.trace(file) != position.last;
    let is_again = |file: &RawFile| wishes.again.contains(&file.shown);
    // Others that were merged since may have taken the mark past it, or it was too old to be listed. Where nothing tells, all
    // since the last sweep come once more, to the same rows.
    let may_be_late = |file: &RawFile| {
        let as_written = !listing.times_mean_nothing && stamp(file).is_some_and(|stamp| file.written_at(stamp));
        let expired = wishes.expired_before.is_some_and(|before| stamp(file) < Some(before));
        wishes.include_late && file.modified > position.swept && !as_written && !expired
    };
    let mut late = before;
    late.retain(|file| is_late(file) || is_other(file) || is_again(file) || may_be_late(file));
    let told_by_time = late.len();
    late.retain(|file| wishes.looks_for(file, position));
    if let Some(last) = position.changes.filter(|_| times_count && some_came_unseen(listing, position, told_by_time)) {
        if !wishes.include_late {
            return Err(Error::definite(format!(
                "in the day up to {last} there are change files that were not there when it was merged, although their times \
                 are older (a bucket that is replicated shows them so); --include-late merges the files of that day once \
                 more, in one commit"
            )));
        }
        let first = late.first().and_then(stamp).unwrap_or(last);
        return merged_again(listing, last.before(DAY).min(Some(first)), position, wishes);
    }
    if late.is_empty() {
        dated(listing, position.changes)?;
        return Ok(first_batch(after, wishes.batch_bytes));
    }
    if !wishes.include_late {
        return Err(Error::definite(match late.iter().find(|file| is_other(file)) {
            Some(file) => format!(
                "{} is another file than the one that was merged under this name; --include-late merges it again",
                file.name
            ),
            None => format!(
                "{} came late or was written again: older by name than changes that are already merged; --include-late merges it \
                 in its place, and the changes after it once more, in one commit",
                names(&late)
            ),
        }));
    }
    merged_again(listing, late.first().and_then(stamp), position, wishes)
}

/// The change files after `upto` that are wanted, as many as fit in `bytes`.
pub fn following(listing: &Listing, upto: Stamp, wishes: &Wishes, bytes: u64) -> Vec<RawFile> {
    let wanted = listing.changes.iter().filter(|file| stamp(file) > Some(upto) && wishes.wants(file));
    first_batch(wanted.cloned().collect(), bytes)
}

/// True if more change files are there than when the last one was merged, beside so many `late` ones that their times tell.
fn some_came_unseen(listing: &Listing, position: &Position, late: usize) -> bool {
    let count = position.changes.map_or(0, |last| listing.in_day_before(last, position.older));
    position.day > 0 && count > position.day + i64::try_from(late).unwrap_or(i64::MAX)
}

/// The change files `from` one to those at `position`: one after the other they give the rows that they would have given
/// in their time, whatever of them the table holds already. One commit has all of them, so that no reader sees how the
/// table was in between, and because afterwards nothing tells a late file from one that was merged in its time.
fn merged_again(listing: &Listing, from: Option<Stamp>, position: &Position, wishes: &Wishes) -> Result<Vec<RawFile>> {
    let again = |file: &&RawFile| (from..=position.changes).contains(&stamp(file)) && stamp(file) > position.older;
    let files: Vec<_> = listing.changes.iter().filter(again).cloned().collect();
    if let Some(first) =
        files.first().filter(|file| wishes.expired_before.is_some_and(|before| stamp(file) < Some(before)))
    {
        return Err(Error::definite(format!(
            "{} is older than raw_retention, so that change files after it may be gone, and it cannot be merged in its \
             place; --reload TABLE replaces the table by the load that is there now",
            first.name
        )));
    }
    dated(listing, from)?;
    Ok(files)
}

/// The change files that came late and are left: those older than the window, and on a local path all, where nothing tells
/// late ones from copies of merged ones.
pub fn left<'a>(listing: &'a Listing, position: &'a Position, wishes: &'a Wishes) -> impl Iterator<Item = &'a RawFile> {
    let is_left = |file: &&RawFile| {
        position.listed > 0
            && file.modified > position.listed
            && stamp(file) > position.older
            && stamp(file) <= position.changes
            && (listing.times_mean_nothing || !wishes.looks_for(file, position))
    };
    listing.changes.iter().filter(is_left)
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
    file.kind.stamp()
}

fn names(files: &[RawFile]) -> String {
    match files {
        [one] => one.name.clone(),
        [first, ..] => format!("{} and {} more", first.name, files.len() - 1),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests;
