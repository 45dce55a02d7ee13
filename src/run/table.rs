//! One table's way through a run: look at the log and the raw files, do the next step, and look again.
//!
//! Nothing is remembered from step to step but the report. So a run that was killed, or that lost a race against
//! another writer, goes on from what the log says, as a new run would.

use std::sync::Arc;
use std::time::Duration;

use deltalake::kernel::Action;
use lakemerge_source::infer::Inference;
use lakemerge_source::name::TableName;
use lakemerge_source::position::Stamp;
use lakemerge_source::schema::TableSchema;
use serde_json::json;

use super::definition;
use super::evolve::{Evolution, FoundBy};
use crate::dms::listing::{self, Listing, RawFile};
use crate::dms::next::{self, Next, Reached, Wishes};
use crate::dms::reading::{self, Others, ReadCounts, Reading};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::job::{Definition, Job, SchemaFrom, TableJob};
use crate::lake::commit::{Commit, Outcome};
use crate::lake::position::{Facts, Position};
use crate::lake::table::{Ours, Table};
use crate::lake::{Lake, create};
use crate::maintain;
use crate::merge::write::Layout;
use crate::merge::{Counts, Merged, SameKey, load, merge};
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
        TableRun { job, engine, lake, meant: job.table(&name), name, wishes, report, others }
    }

    pub fn into_report(self) -> TableReport {
        self.report
    }

    /// Does step after step until nothing is left to do.
    pub async fn until_nothing_is_left(&mut self) -> Result<()> {
        // The listing, and the version of ours that it is good for: what another run has merged must be in it.
        let mut listed: Option<(Listing, Option<u64>)> = None;
        let mut races = 0;
        loop {
            let opened = self.open().await?;
            if let Some((opened, evolution)) = opened.as_ref().and_then(|o| Some((o, o.evolution.as_ref()?))) {
                races = lost(self.evolve(evolution, &opened.ours.facts.schema, opened).await?, races).await?;
                continue;
            }
            let reached = opened.as_ref().map(|o| Reached { position: o.ours.position, load: &o.ours.facts.load });
            let version = opened.as_ref().map(|o| o.ours.version);
            let mut listing = match listed.take() {
                Some((listing, of)) if of == version => listing,
                _ => self.list(self.wishes.from(reached.as_ref())).await?,
            };
            let mut step = next::next(&listing, reached.as_ref(), &self.wishes)?;
            if step.empties() && listing.from.is_some() {
                listing = self.list(None).await?;
                step = next::next(&listing, reached.as_ref(), &self.wishes)?;
            }
            if step == Next::Nothing {
                self.conclude(opened.as_ref());
                return Ok(());
            }
            let outcome = self.step(step, opened, &listing).await?;
            if let Outcome::Committed(version) = outcome {
                listed = Some((listing, Some(version)));
            }
            races = lost(outcome, races).await?;
        }
    }

    pub(super) async fn list(&mut self, from: Option<Stamp>) -> Result<Listing> {
        let listing = listing::files(&self.job.raw, &self.job.settings.folders, &self.name, from).await?;
        self.note_strangers(&listing);
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
        let Some(to) = self.report.version.filter(|_| self.report.commits > 0) else { return };
        let from = to.saturating_sub(self.report.commits);
        match maintain::after_run(self.engine, self.lake, &self.name, from, to).await {
            Ok(done) => {
                self.report.version = Some(to + done.commits);
                self.report.maintenance = done;
            }
            Err(error) => self.report.notes.push(format!("upkeep is left for the next run: {error}")),
        }
    }

    /// Opens the table if there is one, and makes sure that it is as our last commit left it.
    pub(super) async fn open(&mut self) -> Result<Option<Opened>> {
        let Some(table) = self.lake.open(&self.name).await? else { return Ok(None) };
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
            false => definition::check(&table, &ours.facts, &self.meant, self.found_by())?,
        };
        Ok(Some(Opened { table, ours, evolution }))
    }

    async fn step(&mut self, step: Next, opened: Option<Opened>, listing: &Listing) -> Result<Outcome> {
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
            (Next::Changes { files, upto }, Some(opened)) => self.changes(&files, upto, &opened, listing).await,
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
        let loaded = load::load(self.engine, &layout, reading.load(files), same_key(definition.key_is_primary)).await?;
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
            least_fields: None,
            load: loaded.read.files,
        };
        let generation = old.as_ref().map_or(0, |old| old.ours.position.generation + 1);
        let last = after.map_or(0, |after| listing.trace_at(after));
        let position = Position { generation, load_complete: complete, changes: after, listed: listing.newest(), last };
        let mut actions: Vec<_> = loaded.files.into_iter().map(Action::Add).collect();
        let metadata = create::metadata(&layout.schema, &layout.partition_by, &facts)?;
        let facts_of_run = json!({ "step": "load", "load_files": load_files, "rows": counts.inserted });
        let outcome = match &old {
            None => {
                let commit = Commit { actions, position, facts: facts_of_run };
                commit.first(&layout.log, create::protocol(&layout.schema)?, metadata).await?
            }
            Some(old) => {
                actions.extend(old.table.files.iter().map(|file| Action::Remove(file.remove_action(true))));
                actions.extend(create::replaced(&old.table, &layout.schema, metadata)?);
                Commit { actions, position, facts: facts_of_run }.onto(&old.table).await?
            }
        };
        if let Outcome::Committed(version) = outcome {
            self.wishes.reload = false;
            self.read(loaded.read.counts);
            self.report.load_files += load_files;
            self.note_older(listing);
            self.committed(version, position, counts);
        }
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
        let load_files = files.len() as u64;
        let mut incoming = self.reading(&definition).load_rows(files);
        let merged =
            merge(self.engine, &opened.table, &layout, incoming.rows(), same_key(definition.key_is_primary)).await?;
        let read = incoming.read();
        let mut facts = opened.ours.facts.clone();
        facts.load.extend(read.files);
        let before = opened.ours.position;
        let position = Position { load_complete: complete, listed: listing.newest().max(before.listed), ..before };
        let outcome = self.commit(opened, position, merged, Some(facts)).await?;
        if let Outcome::Committed(_) = outcome {
            self.read(read.counts);
            self.report.load_files += load_files;
        }
        Ok(outcome)
    }

    async fn changes(&mut self, files: &[RawFile], upto: Stamp, opened: &Opened, listing: &Listing) -> Result<Outcome> {
        let (definition, layout) = self.defined(opened)?;
        let mut incoming = self.reading(&definition).changes(files.to_vec());
        let merged = merge(self.engine, &opened.table, &layout, incoming.rows(), SameKey::LaterStays).await?;
        let read = incoming.read().counts;
        let before = opened.ours.position;
        let position = Position {
            load_complete: true,
            changes: Some(upto),
            listed: listing.newest().max(before.listed),
            last: listing.trace_at(upto),
            ..before
        };
        let outcome = self.commit(opened, position, merged, None).await?;
        if let Outcome::Committed(_) = outcome {
            self.read(read);
            self.report.change_files += files.len() as u64;
        }
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
        let mut incoming = self.reading(&definition).changes(files.to_vec());
        let emptied = Table { files: Arc::default(), ..opened.table.clone() };
        let mut merged = merge(self.engine, &emptied, &layout, incoming.rows(), SameKey::LaterStays).await?;
        let read = incoming.read().counts;
        merged.actions.extend(opened.table.files.iter().map(|file| Action::Remove(file.remove_action(true))));
        merged.counts.files_removed = opened.table.files.len() as u64;
        let position = Position {
            generation: opened.ours.position.generation + 1,
            // a load may follow, as long as there are no changes
            load_complete: upto.is_some(),
            changes: upto,
            listed: listing.newest(),
            last: upto.map_or(0, |upto| listing.trace_at(upto)),
        };
        let facts = Facts { load: vec![], ..opened.ours.facts.clone() };
        let outcome = self.commit(opened, position, merged, Some(facts)).await?;
        if let Outcome::Committed(_) = outcome {
            self.read(read);
            self.report.change_files += files.len() as u64;
            self.note_emptied(gone, opened.table.rows());
        }
        Ok(outcome)
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

    pub(super) fn note_older(&mut self, listing: &Listing) {
        let older = next::older_than_the_load(listing).count();
        if older > 0 {
            self.report.notes.push(format!("{older} change files are older than the full load and are left out"));
        }
    }

    fn conclude(&mut self, opened: Option<&Opened>) {
        match opened {
            None => self.report.state = State::NoDataYet,
            Some(opened) if !opened.ours.position.load_complete => self.report.state = State::Loading,
            Some(_) => {}
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
                reading::infer(Arc::clone(&self.job.raw.store), inference, files.to_vec()).await?
            }
        };
        let columns: Vec<_> = schema.columns.iter().map(|c| format!("{} {}", c.name, c.sql_type)).collect();
        self.report.notes.push(format!("inferred the columns {}", columns.join(", ")));
        Ok(Some(schema))
    }

    pub(super) fn defined(&self, opened: &Opened) -> Result<(Definition, Layout)> {
        let mut definition = self.meant.definition(&self.name, Some(&opened.ours.facts.schema))?;
        definition.key_is_primary = opened.ours.facts.key_is_primary;
        if let Some(least) = opened.ours.facts.least_fields {
            let all = definition.shape.source_columns().len();
            Arc::make_mut(&mut definition.shape).known_widths = least.min(all)..=all;
        }
        let layout = self.layout(&definition)?;
        Ok((definition, layout))
    }

    /// Columns are found by their names in files that have them.
    pub(super) fn found_by(&self) -> FoundBy {
        if self.job.settings.names_columns() { FoundBy::Name } else { FoundBy::Place }
    }

    pub(super) fn layout(&self, definition: &Definition) -> Result<Layout> {
        Ok(Layout {
            log: self.lake.log(&self.name)?,
            schema: self.meant.arrow(&definition.schema),
            key: definition::key_names(definition),
            partition_by: definition::partition_names(definition),
            table_type: self.meant.table_type,
            source_columns: definition.schema.columns.len(),
            memory: self.engine.pool(),
        })
    }

    pub(super) fn reading(&self, definition: &Definition) -> Reading {
        Reading {
            table: self.name.clone(),
            store: Arc::clone(&self.job.raw.store),
            in_flight: self.engine.in_flight().clone(),
            settings: Arc::clone(&self.job.settings),
            shape: Arc::clone(&definition.shape),
            datetime: self.meant.datetime,
            key: definition.key.clone().into(),
            metadata: self.meant.metadata.clone().into(),
            others: Arc::clone(&self.others),
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
