//! The steps of one table: what is read, merged and committed in each.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use deltalake::kernel::Action;
use lakemerge_source::position::Stamp;
use serde_json::json;

use super::definition;
use super::table::{Opened, TableRun, same_key};
use crate::dms::listing::{Listing, RawFile};
use crate::dms::next::{self, Next};
use crate::dms::progress::Progress;
use crate::dms::reading::{ReadCounts, Reading};
use crate::error::{Error, Result};
use crate::lake::commit::{Commit, Outcome};
use crate::lake::create;
use crate::lake::position::{Facts, Position};
use crate::lake::quarantine::{self, BadRecord};
use crate::lake::table::Table;
use crate::merge::{Counts, Merged, SameKey, load, merge};

/// Records that were put into the quarantine for a commit that passes them over.
struct SetApart {
    bad: Vec<BadRecord>,
    /// The data files of the quarantine that they are in.
    added: HashSet<String>,
    /// Those in which it held records of the same raw files before.
    before: HashSet<String>,
}

impl TableRun<'_> {
    pub(super) async fn step(&mut self, step: Next, opened: Option<Opened>, listing: &Listing) -> Result<Outcome> {
        if let Some(opened) = &opened
            && let Some((evolution, told)) = self.told_beyond(&opened.ours.facts.schema, step.merges()).await?
        {
            return self.evolve(&evolution, &told, opened).await;
        }
        match (step, opened) {
            (Next::Load { files, complete, after, gone }, opened) => {
                let emptied = gone.zip(opened.as_ref().map(|opened| opened.table.rows()));
                let outcome = self.load(files, complete, after, opened, listing).await?;
                if let (Outcome::Committed(_), Some((gone, rows))) = (&outcome, emptied) {
                    self.note_emptied(&gone, rows);
                }
                Ok(outcome)
            }
            (Next::Empty { files, upto, gone }, Some(opened)) => {
                self.empty(&files, upto, &gone, &opened, listing).await
            }
            (Next::ContinueLoad { files, complete }, Some(opened)) => {
                self.continue_load(files, complete, &opened, listing).await
            }
            (Next::Changes { files, upto }, Some(opened)) => self.changes(files, upto, &opened, listing).await,
            (Next::Compare { files }, Some(opened)) => self.compare(&files, &opened).await,
            (Next::AcceptLoad, Some(opened)) => self.accept_load(&opened, listing).await,
            (Next::CompleteLoad, Some(opened)) => {
                let position = Position { load_complete: true, ..opened.ours.position };
                self.commit(&opened, position, Merged::nothing(), None).await
            }
            (step, _) => Err(Error::definite(format!("{step:?} has no table to be done to"))),
        }
    }

    /// The first part of a load: a new table, or all of a replaced one, in one commit.
    async fn load(
        &mut self,
        files: Vec<RawFile>,
        complete: bool,
        after: Option<Stamp>,
        old: Option<Opened>,
        listing: &Listing,
    ) -> Result<Outcome> {
        let inferred = self.infer(&files).await?;
        let definition = self.meant.definition(&self.name, inferred.as_ref())?;
        let layout = self.layout(&definition)?;
        let reading = self.reading(&definition);
        let load_files = files.len() as u64;
        let rows = reading.load(files);
        let loaded = load::load(self.engine, &layout, rows, same_key(definition.key_is_primary)).await?;
        let counts = Counts {
            read: loaded.read.counts.records,
            inserted: loaded.read.counts.records - loaded.doubles,
            netted_away: loaded.doubles,
            files_added: loaded.files.len() as u64,
            files_removed: old.as_ref().map_or(0, |old| old.table.files.len() as u64),
            ..Counts::default()
        };
        let facts = Facts {
            source: "dms".into(),
            key: layout.key.clone(),
            key_is_primary: definition.key_is_primary,
            schema: definition.schema.clone(),
            added: vec![],
            others: Some(definition.shape.others()),
            load: loaded.read.files,
        };
        let generation = old.as_ref().map_or(0, |old| old.ours.position.generation + 1);
        let position = Position { generation, ..next::loaded(listing, after, complete) };
        let mut actions: Vec<_> = loaded.files.into_iter().map(Action::Add).collect();
        let facts_of_run = json!({ "step": "load", "load_files": load_files, "rows": counts.inserted });
        let bad = reading.bad();
        let apart = self.set_apart(None, bad).await?;
        let outcome = match &old {
            None => {
                let metadata = create::metadata(&layout.schema, &layout.partition_by, &facts)?;
                let commit = Commit { actions, position, facts: facts_of_run };
                commit.first(&layout.log, create::protocol(&layout.schema)?, metadata).await?
            }
            Some(old) => {
                actions.extend(old.table.files.iter().map(|file| Action::Remove(file.remove_action(true))));
                actions.extend(create::replaced(&old.table, &layout.schema, &layout.partition_by, &facts)?);
                Commit { actions, position, facts: facts_of_run }.onto(&old.table).await?
            }
        };
        if let Outcome::Committed(version) = outcome {
            self.wishes.reload = false;
            self.read(loaded.read.counts);
            self.report.load_files += load_files;
            self.note_doubles(loaded.doubles, &layout.key);
            self.note_older(listing, old.as_ref().and_then(|old| old.ours.position.changes));
            self.committed(version, position, counts);
        }
        self.settle(&outcome, &reading, apart).await;
        Ok(outcome)
    }

    /// Files of a load that were not there when its first part was committed.
    async fn continue_load(
        &mut self,
        files: Vec<RawFile>,
        complete: bool,
        opened: &Opened,
        listing: &Listing,
    ) -> Result<Outcome> {
        let (definition, layout) = self.defined(opened)?;
        let (load_files, read_now) = (files.len() as u64, shown(&files));
        let reading = self.reading(&definition);
        let mut incoming = reading.load_rows(files);
        let merged =
            merge(self.engine, &opened.table, &layout, incoming.rows(), same_key(definition.key_is_primary)).await?;
        let read = incoming.read();
        let mut facts = opened.ours.facts.clone();
        facts.load.extend(read.files);
        let before = opened.ours.position;
        let position = Position { load_complete: complete, listed: listing.newest().max(before.listed), ..before };
        let bad = reading.bad();
        let apart = self.set_apart(Some(&read_now), bad).await?;
        let outcome = self.commit(opened, position, merged, Some(facts)).await?;
        if let Outcome::Committed(_) = outcome {
            self.read(read.counts);
            self.report.load_files += load_files;
        }
        self.settle(&outcome, &reading, apart).await;
        Ok(outcome)
    }

    async fn changes(
        &mut self,
        mut files: Vec<RawFile>,
        mut upto: Stamp,
        opened: &Opened,
        listing: &Listing,
    ) -> Result<Outcome> {
        let (definition, layout) = self.defined(opened)?;
        let before = opened.ours.position;
        let (reading, merged, read) = loop {
            let reading = self.reading(&definition);
            let mut incoming = reading.changes(files.clone());
            let merged = merge(self.engine, &opened.table, &layout, incoming.rows(), SameKey::LaterStays).await?;
            let read = incoming.read();
            // A stretch that was written again is merged with what comes after it: no commit takes the table back.
            let more = if read.progress.is_before(before.mark) {
                next::following(listing, upto, &self.wishes, files.iter().map(|file| file.size).sum())
            } else {
                vec![]
            };
            let Some(reached) = more.last().and_then(|file| file.kind.stamp()) else { break (reading, merged, read) };
            if let Some((evolution, told)) = self.told_beyond(&opened.ours.facts.schema, &more).await? {
                return self.evolve(&evolution, &told, opened).await;
            }
            files.extend(more);
            upto = reached;
        };
        let mark = before.mark.max(read.progress.mark);
        let position = Position { mark, ..next::passed(before, Some(upto), listing, self.wishes.include_late) };
        let bad = reading.bad();
        let apart = self.set_apart(Some(&shown(&files)), bad).await?;
        let outcome = self.commit(opened, position, merged, None).await?;
        if let Outcome::Committed(_) = outcome {
            self.read(read.counts);
            self.report.change_files += files.len() as u64;
            self.note_progress(&read.progress, before.mark, upto);
            self.wishes.again.clear();
        }
        self.settle(&outcome, &reading, apart).await;
        Ok(outcome)
    }

    /// Change files into the emptied table: all its files are removed, and those of the new rows added, in one commit.
    async fn empty(
        &mut self,
        files: &[RawFile],
        upto: Option<Stamp>,
        gone: &str,
        opened: &Opened,
        listing: &Listing,
    ) -> Result<Outcome> {
        let (definition, layout) = self.defined(opened)?;
        let reading = self.reading(&definition);
        let mut incoming = reading.changes(files.to_vec());
        let emptied = Table { files: Arc::default(), ..opened.table.clone() };
        let mut merged = merge(self.engine, &emptied, &layout, incoming.rows(), SameKey::LaterStays).await?;
        let read = incoming.read();
        merged.actions.extend(opened.table.files.iter().map(|file| Action::Remove(file.remove_action(true))));
        merged.counts.files_removed = opened.table.files.len() as u64;
        let generation = opened.ours.position.generation + 1;
        let emptied = Position { generation, mark: read.progress.mark, ..Position::default() };
        let position = next::passed(emptied, upto, listing, self.wishes.include_late);
        let facts = Facts { load: vec![], ..opened.ours.facts.clone() };
        let bad = reading.bad();
        let apart = self.set_apart(None, bad).await?;
        let outcome = self.commit(opened, position, merged, Some(facts)).await?;
        if let Outcome::Committed(_) = outcome {
            self.read(read.counts);
            self.report.change_files += files.len() as u64;
            self.note_emptied(gone, opened.table.rows());
        }
        self.settle(&outcome, &reading, apart).await;
        Ok(outcome)
    }

    /// Puts the bad records of the raw files that are about to be merged, or of all, into the quarantine.
    async fn set_apart(&self, files: Option<&BTreeSet<String>>, bad: Vec<BadRecord>) -> Result<SetApart> {
        // what was in it may be mended, whatever is meant now
        let before = match self.meant.quarantines || !self.wishes.again.is_empty() {
            true => quarantine::holds(self.lake, &self.name, files).await,
            false => Ok(HashSet::new()),
        };
        let before = before.map_err(|e| e.at("quarantine"))?;
        let added = quarantine::add(self.engine, self.lake, &self.name, &bad).await;
        Ok(SetApart { added: added.map_err(|e| e.at("quarantine"))?, bad, before })
    }

    /// What the commit makes true: the records that were set apart are all that is wrong with their raw files; or, if it was
    /// lost, they are somebody else's to tell.
    async fn settle(&mut self, outcome: &Outcome, reading: &Reading, apart: SetApart) {
        let stale = match outcome {
            Outcome::Committed(_) => {
                self.note_lacking(reading);
                self.note_bad(&apart.bad);
                &apart.before
            }
            Outcome::Lost => &apart.added,
        };
        if let Err(error) = quarantine::forget(self.lake, &self.name, stale).await {
            self.report.notes.push(format!("the quarantine may still have records that are mended: {error}"));
        }
    }

    fn note_progress(&mut self, progress: &Progress, mark: i64, upto: Stamp) {
        if progress.is_before(mark) {
            self.report.notes.push(format!(
                "the changes up to {upto} are older than those merged before, as a task writes them that is resumed from an \
                 earlier point; rows may be as they once were until the changes after them come"
            ));
        }
        if let Some((file, record)) = &progress.first {
            self.report.notes.push(format!(
                "{} changes have a smaller $AR_H_CHANGE_SEQ than the one before them, the first in {file}, record {record}; \
                 the order of files and records was kept",
                progress.disagreements
            ));
        }
    }

    pub(super) fn note_lacking(&mut self, reading: &Reading) {
        let (lacking, columns) = (reading.lacking.lock(), &reading.shape.schema.columns);
        let notes = lacking.iter().map(|(column, file)| {
            format!(
                "{file} names no column {}, which is NULL in its rows; if the source dropped it, have the task load the table \
                 again and run with --reload {}",
                columns[*column].name, self.name
            )
        });
        self.report.notes.extend(notes);
    }

    fn note_bad(&mut self, bad: &[BadRecord]) {
        self.report.quarantined(bad.len() as u64);
        let Some(first) = bad.first() else { return };
        let more = if bad.len() > 1 { format!(" and {} more", bad.len() - 1) } else { String::new() };
        self.report.notes.push(format!("in quarantine: {}, {first}{more}", first.file));
    }

    pub(super) fn note_doubles(&mut self, doubles: u64, key: &[String]) {
        if doubles > 0 {
            self.report.notes.push(format!(
                "{doubles} rows of the full load have a key ({}) that comes again in it, and the later rows stay, as where DMS \
                 begins a load again; if there are many, look whether columns and settings fit the files",
                key.join(", ")
            ));
        }
    }

    fn note_emptied(&mut self, gone: &str, rows: Option<u64>) {
        let rows = rows.map_or("all".to_string(), |rows| rows.to_string());
        self.report.notes.push(format!(
            "{gone}, which was merged, is gone: as on_vanished = \"truncate\" says, the table's {rows} rows were removed, and \
             what is there now alone was merged"
        ));
    }

    pub(super) async fn commit(
        &mut self,
        opened: &Opened,
        position: Position,
        merged: Merged,
        facts: Option<Facts>,
    ) -> Result<Outcome> {
        let Merged { mut actions, counts, vectors } = merged;
        actions.extend(definition::changes(&opened.table, facts, vectors)?);
        let of_run = json!({ "step": "merge", "read": counts.read, "inserted": counts.inserted, "updated": counts.updated,
                             "deleted": counts.deleted, "netted_away": counts.netted_away });
        let outcome = Commit { actions, position, facts: of_run }.onto(&opened.table).await?;
        if let Outcome::Committed(version) = outcome {
            self.committed(version, position, counts);
        }
        Ok(outcome)
    }

    pub(super) fn committed(&mut self, version: u64, position: Position, counts: Counts) {
        self.report.committed(counts);
        self.report.version = Some(version);
        self.report.position = position.changes.map(|stamp| stamp.to_string());
    }

    fn read(&mut self, counts: ReadCounts) {
        self.report.bytes += counts.bytes;
        self.report.zero_dates += counts.zero_dates;
    }
}

fn shown(files: &[RawFile]) -> BTreeSet<String> {
    files.iter().map(|file| file.shown.clone()).collect()
}
