//! One table's way through a run: look at the log and the raw files, do the next step, and look again.
//!
//! Nothing is remembered from step to step but the report, and the log as far as it was read. So a run that was killed, or
//! that lost a race against another writer, goes on from what the log says, as a new run would.

use std::sync::Arc;
use std::time::Duration;

use lakemerge_source::infer::Inference;
use lakemerge_source::name::TableName;
use lakemerge_source::position::Stamp;
use lakemerge_source::schema::TableSchema;

use super::evolve::Evolution;
use super::{AtWork, definition};
use crate::dms::listing::{self, Listing, RawFile};
use crate::dms::next::{self, Next, Reached, Wishes};
use crate::dms::reading::{self, Apart, Lacking, Others, Reading};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::job::{Definition, Job, SchemaFrom, TableJob};
use crate::lake::Lake;
use crate::lake::commit::Outcome;
use crate::lake::quarantine;
use crate::lake::table::{Ours, Table};
use crate::maintain::{self, Upkeep};
use crate::merge::SameKey;
use crate::merge::write::Layout;
use crate::report::{State, TableReport};

/// Races lost in a row before a run gives up and says that it should be run again.
const RACES: u32 = 50;

/// The work on one table.
pub struct TableRun<'a> {
    pub(super) job: &'a Job,
    pub(super) engine: &'a Engine,
    pub(super) lake: &'a Lake,
    pub(super) name: TableName,
    pub(super) meant: TableJob,
    pub(super) wishes: Wishes,
    pub(super) report: TableReport,
    others: Others,
    at_work: AtWork,
    /// The table as it was when it was last looked at.
    seen: Option<Table>,
}

/// A table of ours, and what its log says.
pub(super) struct Opened {
    pub table: Table,
    pub ours: Ours,
    /// Where the configuration has other columns than the table.
    pub evolution: Option<Evolution>,
}

impl<'a> TableRun<'a> {
    pub fn new(
        job: &'a Job,
        engine: &'a Engine,
        lake: &'a Lake,
        name: TableName,
        wishes: Wishes,
        others: Others,
    ) -> TableRun<'a> {
        let report = TableReport::new(name.to_string());
        let wishes = Wishes { batch_bytes: wishes.batch_bytes.min(engine.batch()), ..wishes };
        let (meant, at_work) = (job.table(&name), AtWork::default());
        TableRun { job, engine, lake, meant, name, wishes, report, others, at_work, seen: None }
    }

    /// The same, telling after each commit what it has come to.
    pub(super) fn telling(self, at_work: AtWork) -> Self {
        TableRun { at_work, ..self }
    }

    fn tell(&self) {
        self.at_work.lock().insert(self.report.table.clone(), self.report.clone());
    }

    pub fn into_report(self) -> TableReport {
        self.report
    }

    /// Does step after step until nothing is left to do.
    pub async fn until_nothing_is_left(&mut self) -> Result<()> {
        // The listing, and the version of ours that it is good for: what another run has merged must be in it.
        let mut listed: Option<(Listing, Option<u64>)> = None;
        let mut races = 0;
        self.look_into_the_quarantine().await?;
        loop {
            let opened = self.open().await?;
            if let Some((opened, evolution)) = opened.as_ref().and_then(|o| Some((o, o.evolution.as_ref()?))) {
                let _turn = self.engine.turn().await?;
                races = lost(self.evolve(evolution, &opened.ours.facts.schema, opened).await?, races).await?;
                continue;
            }
            let reached = opened.as_ref().map(|o| Reached { position: o.ours.position, load: &o.ours.facts.load });
            let version = opened.as_ref().map(|o| o.ours.version);
            let mut listing = match listed.take() {
                Some((listing, of)) if of == version => listing,
                _ => self.list(self.wishes.from(reached.as_ref()), opened.as_ref()).await?,
            };
            let step = self.next(&mut listing, reached.as_ref(), opened.as_ref()).await?;
            if let Some(opened) = &opened {
                self.note_late(&listing, opened);
            }
            if step == Next::Nothing {
                self.conclude(opened.as_ref());
                return Ok(());
            }
            let turn = self.engine.turn().await?;
            let outcome = self.step(step, opened, &listing).await?;
            drop(turn);
            self.tell();
            if let Outcome::Committed(version) = outcome {
                listed = Some((listing, Some(version)));
            }
            races = lost(outcome, races).await?;
        }
    }

    /// The next step, with the listing that it needs: a table is emptied only if all of its files are known.
    pub(super) async fn next(
        &mut self,
        listing: &mut Listing,
        reached: Option<&Reached<'_>>,
        opened: Option<&Opened>,
    ) -> Result<Next> {
        let step = next::next(listing, reached, &self.wishes)?;
        if !step.empties() || listing.from.is_none() {
            return Ok(step);
        }
        *listing = self.list(None, opened).await?;
        next::next(listing, reached, &self.wishes)
    }

    /// Files with bad records are among those that come late: they may be mended.
    pub(super) async fn look_into_the_quarantine(&mut self) -> Result<()> {
        if self.wishes.include_late {
            self.wishes.again = quarantine::files(self.lake, &self.name).await?;
        }
        Ok(())
    }

    pub(super) async fn list(&mut self, from: Option<Stamp>, opened: Option<&Opened>) -> Result<Listing> {
        let mut listing = listing::files(&self.job.raw, &self.job.settings.folders, &self.name, from).await?;
        self.note_strangers(&listing);
        let definition = match opened {
            _ if listing.undated.is_empty() => return Ok(listing),
            Some(opened) => Ok(self.defined(opened)?.0),
            None => self.meant.definition(&self.name, None),
        };
        // what is wrong with it is told where rows are to be read
        let Ok(definition) = definition else { return Ok(listing) };
        let (reading, mut dated) = (self.reading(&definition), vec![]);
        for undated in &listing.undated {
            let mark = reading.progress(undated.file.clone()).await?.mark;
            dated.extend(undated.dated(mark));
        }
        listing.date(dated)?;
        Ok(listing)
    }

    pub(super) fn note_strangers(&mut self, listing: &Listing) {
        for stranger in &listing.strangers {
            let note = format!("{stranger} is not a name that DMS writes, so it is left alone");
            if !self.report.notes.contains(&note) {
                self.report.notes.push(note);
            }
        }
    }

    /// Does what upkeep this run's commits have made due. What fails there is left for the next run: the rows are merged.
    pub async fn look_after(&mut self) {
        let Some(table) = self.seen.take().filter(|_| self.report.commits > 0) else { return };
        let mut done = Upkeep::default();
        let upkeep = async {
            let _turn = self.engine.turn().await?;
            maintain::after_run(self.engine, table, self.report.commits, &mut done).await
        };
        let ended = upkeep.await;
        self.report.version = self.report.version.max(done.version);
        self.report.maintenance = done;
        if let Err(error) = ended {
            self.report.notes.push(format!("upkeep is left for the next run: {error}"));
        }
    }

    /// Opens the table if there is one, and makes sure that it is as our last commit left it.
    pub(super) async fn open(&mut self) -> Result<Option<Opened>> {
        let Some(table) = self.newest().await? else { return Ok(None) };
        self.seen = Some(table.clone());
        table.check_writable()?;
        let Some(ours) = table.ours().await? else {
            if self.wishes.adopt {
                return self.adopt(table).await;
            }
            return Err(Error::definite(format!(
                "{} is a Delta table that lakemerge has not written; --adopt {} takes it as it is and merges all changes into it",
                table.log.root_url(),
                self.name
            )));
        };
        self.report.version = Some(table.version());
        self.report.position = ours.position.changes.map(|stamp| stamp.to_string());
        if let Some(foreign) = ours.foreign.as_ref().filter(|_| !self.wishes.reload) {
            if self.wishes.adopt {
                self.accept_foreign(&table, &ours).await?;
                return Box::pin(self.open()).await;
            }
            return Err(Error::definite(format!(
                "version {} ({}) changed rows after lakemerge's last commit, version {}; --reload {name} replaces the table, \
                 --adopt {name} takes its rows as they are now (changes that were merged before are not merged again)",
                foreign.version,
                foreign.operation,
                ours.version,
                name = self.name
            )));
        }
        let evolution = match self.wishes.reload {
            true => None,
            false => definition::check(&table, &ours.facts, &self.meant, super::found_by(self.job))?,
        };
        Ok(Some(Opened { table, ours, evolution }))
    }

    /// The table as it is now, or `None` where there is none.
    async fn newest(&self) -> Result<Option<Table>> {
        // what cannot be followed any more is opened anew, and says by that what is wrong with it
        if let Some(seen) = &self.seen
            && let Ok(table) = seen.newest().await
        {
            return Ok(Some(table));
        }
        self.lake.open(&self.name).await
    }

    /// What a load leaves out, or may take twice, into a table that has come to `before`.
    pub(super) fn note_older(&mut self, listing: &Listing, before: Option<Stamp>) {
        let gaps = listing.gaps();
        if !gaps.is_empty() {
            self.report
                .notes
                .push(format!("of the full load are missing: {}; their rows are not loaded", gaps.join(", ")));
        }
        let older = next::left_out(listing, self.wishes.changes_from);
        if let (Some(first), Some(last)) = (older.first(), older.last()) {
            let files = match first == last {
                true => format!("the change file {} is", first.name),
                false => format!("{} change files, {} to {}, are", older.len(), first.name, last.name),
            };
            let name = &self.name;
            let mut note = format!("{files} older than the full load and left out");
            if let (None, Some(stamp)) = (self.wishes.changes_from, first.kind.stamp()) {
                note += &format!(
                    "; if it is not the task that wrote the LOAD files last, but somebody who mended or copied them, run \
                     with --reload {name} --changes-from {stamp}"
                );
            }
            self.report.notes.push(note);
        }
        let again = listing.changes.iter().filter(|file| file.kind.stamp() <= before).count();
        if listing.times_mean_nothing && self.wishes.changes_from.is_none() && before.is_some() && again > 0 {
            self.report.notes.push(format!(
                "{again} change files that were merged before are merged over the new load, since nothing tells on a local path \
                 whether they are older; if the task wrote the load after them, run again with --reload {} --changes-from and \
                 the stamp of the first change file behind the load",
                self.name
            ));
        }
    }

    /// Late files that are left out.
    pub(super) fn note_late(&mut self, listing: &Listing, opened: &Opened) {
        let mut files = next::left(listing, &opened.ours.position, &self.wishes);
        if let Some(first) = files.next().filter(|_| !self.wishes.include_late && self.report.commits == 0) {
            let (first, more) = (&first.shown, files.count());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let note = match listing.times_mean_nothing {
                true => format!(
                    "{first}{more}, older by name than what is merged, was written after that; if it is no copy of what was \
                     merged but came late, --include-late merges it in its place"
                ),
                false => format!(
                    "{first}{more} came late and is left out, as it is older than late_window; --include-late merges it in its \
                     place"
                ),
            };
            if !self.report.notes.contains(&note) {
                self.report.notes.push(note);
            }
        }
    }

    fn conclude(&mut self, opened: Option<&Opened>) {
        match opened {
            None => self.report.state = State::NoDataYet,
            Some(opened) if !opened.ours.position.load_complete => self.report.state = State::Loading,
            Some(_) => {}
        }
        self.note_without_effect(opened);
    }

    /// What was asked for and changed nothing.
    fn note_without_effect(&mut self, opened: Option<&Opened>) {
        if self.wishes.adopt {
            let note = "--adopt changed nothing: no other writer has made the table or changed its rows";
            self.report.notes.push(note.into());
        }
        let is_complete = opened.is_some_and(|opened| opened.ours.position.load_complete);
        if self.wishes.load_complete && is_complete && self.report.commits == 0 {
            self.report.notes.push("--load-complete changed nothing: the load was complete before".into());
        }
        let older = opened.and_then(|opened| opened.ours.position.older);
        if self.wishes.changes_from.is_some_and(|from| opened.is_some() && Some(from.just_before()) != older) {
            self.report.notes.push(format!(
                "--changes-from changed nothing: it is said of a load, and the table is loaded; with --reload {} it is loaded \
                 again",
                self.name
            ));
        }
    }

    /// The schema that the rows of `files` allow, where the configuration says `"infer"`.
    pub(super) async fn infer(&mut self, files: &[RawFile]) -> Result<Option<TableSchema>> {
        if !matches!(self.meant.schema, SchemaFrom::Infer) {
            return Ok(None);
        }
        let key = self.meant.key.as_deref().unwrap_or_default();
        let schema = match self.told_by_load(files).await? {
            Some(told) => told,
            None => {
                let inference = Inference::new(&self.job.settings).with_rules(self.meant.rules.clone(), key);
                let inference = inference.with_longest(self.engine.longest_record());
                reading::infer(Arc::clone(&self.job.raw.store), inference, files.to_vec()).await?
            }
        };
        let columns: Vec<_> = schema.columns.iter().map(|c| format!("{} {}", c.name, c.sql_type)).collect();
        self.report.notes.push(format!("inferred the columns {}", columns.join(", ")));
        Ok(Some(schema))
    }

    pub(super) fn defined(&self, opened: &Opened) -> Result<(Definition, Layout)> {
        let definition = self.meant.definition(&self.name, Some(&opened.ours.facts.schema))?;
        let definition = definition.of_table(&opened.ours.facts);
        let layout = self.layout(&definition)?;
        Ok((definition, layout))
    }

    pub(super) fn layout(&self, definition: &Definition) -> Result<Layout> {
        Ok(Layout {
            log: self.lake.log(&self.name)?,
            schema: self.meant.arrow(&definition.schema),
            key: definition::key_names(definition),
            partition_by: definition::partition_names(definition),
            table_type: self.meant.table_type,
            source_columns: definition.schema.columns.len(),
            of_change: definition.shape.of_change().into(),
            memory: self.engine.pool(),
            threads: self.engine.threads(),
        })
    }

    pub(super) fn reading(&self, definition: &Definition) -> Reading {
        Reading {
            table: self.name.clone(),
            store: Arc::clone(&self.job.raw.store),
            in_flight: self.engine.in_flight().clone(),
            threads: self.engine.threads(),
            longest: self.engine.longest_record(),
            step: self.engine.step(),
            settings: Arc::clone(&self.job.settings),
            shape: Arc::clone(&definition.shape),
            datetime: self.meant.datetime,
            key: definition.key.clone().into(),
            metadata: self.meant.metadata.clone().into(),
            others: Arc::clone(&self.others),
            apart: self.meant.quarantines.then(Apart::default),
            lacking: Lacking::default(),
        }
    }
}

/// How many races in a row are lost, after a pause that lets others go first.
async fn lost(outcome: Outcome, races: u32) -> Result<u32> {
    match outcome {
        Outcome::Committed(_) => Ok(0),
        Outcome::Lost if races < RACES => {
            tokio::time::sleep(Duration::from_millis(u64::from(races + 1) * 20)).await;
            Ok(races + 1)
        }
        Outcome::Lost => Err(Error::transient("other writers commit faster than this run can")),
    }
}

/// A key that the source keeps unique may come twice in a load, since rows change while it runs; another may not.
pub(super) fn same_key(key_is_primary: bool) -> SameKey {
    if key_is_primary { SameKey::LaterStays } else { SameKey::Refuse }
}
