//! One table's way through a run: look at the log and the raw files, do the next step, and look again.
//!
//! Nothing is remembered from step to step but the report. So a run that was killed, or that lost a race against
//! another writer, goes on from what the log says, as a new run would.

use std::sync::Arc;
use std::time::Duration;

use deltalake::kernel::Action;
use lakemerge_source::name::TableName;
use lakemerge_source::position::Stamp;
use lakemerge_source::schema::TableSchema;
use serde_json::json;

use crate::dms::listing::{self, Listing, RawFile};
use crate::dms::next::{self, Next, Reached, Wishes};
use crate::dms::reading::{self, ReadCounts, Reading};
use crate::engine::Engine;
use crate::error::{At, Error, Result};
use crate::job::{Definition, Job, SchemaFrom, TableJob};
use crate::lake::commit::{Commit, Outcome};
use crate::lake::position::{Facts, LoadedFile, Position};
use crate::lake::table::{Ours, Table};
use crate::lake::{Lake, create};
use crate::merge::write::Layout;
use crate::merge::{Counts, Merged, SameKey, load, merge};
use crate::report::{State, TableReport};
use crate::run::Options;

/// Races lost in a row before a run gives up and says that it should be run again.
const RACES: u32 = 50;

pub struct TableRun<'a> {
    job: &'a Job,
    engine: &'a Engine,
    lake: &'a Lake,
    name: TableName,
    meant: TableJob,
    wishes: Wishes,
    adopt: bool,
    report: TableReport,
}

/// A table of ours, and what its log says.
struct Opened {
    table: Table,
    ours: Ours,
}

impl<'a> TableRun<'a> {
    pub fn new(job: &'a Job, engine: &'a Engine, lake: &'a Lake, options: &Options, name: TableName) -> TableRun<'a> {
        let meant = job.table(&name);
        let wishes = Wishes {
            until: options.until,
            reload: options.reload.contains(&name),
            include_late: options.include_late,
            load_complete: options.load_complete.contains(&name),
            accept_load: options.accept_load.contains(&name),
            keep_vanished: meant.keep_vanished,
            expired_before: expired_before(job.raw_retention),
            max_file_size: job.settings.max_file_size * 1024,
            batch_bytes: job.batch_bytes,
        };
        let adopt = options.adopt.contains(&name);
        let report = TableReport::new(name.to_string());
        TableRun { job, engine, lake, meant, name, wishes, adopt, report }
    }

    pub fn into_report(self) -> TableReport {
        self.report
    }

    /// Does step after step until nothing is left to do.
    pub async fn to_the_end(&mut self) -> Result<()> {
        let listing = listing::files(&self.job.raw, &self.name).await?;
        for stranger in &listing.strangers {
            self.report.notes.push(format!("{stranger} is not a name that DMS writes, so it is left alone"));
        }
        let mut races = 0;
        loop {
            let opened = self.open().await?;
            let reached = opened.as_ref().map(|o| Reached { position: o.ours.position, load: &o.ours.facts.load });
            let step = next::next(&listing, reached.as_ref(), &self.wishes)?;
            if step == Next::Nothing {
                self.conclude(opened.as_ref());
                return Ok(());
            }
            match self.step(step, opened, &listing).await? {
                Outcome::Committed(_) => races = 0,
                Outcome::Lost if races < RACES => {
                    races += 1;
                    tokio::time::sleep(Duration::from_millis(u64::from(races) * 20)).await;
                }
                Outcome::Lost => return Err(Error::transient("other writers commit faster than this run can")),
            }
        }
    }

    /// Opens the table if there is one, and makes sure that it is as our last commit left it.
    async fn open(&mut self) -> Result<Option<Opened>> {
        let Some(table) = self.lake.open(&self.name).await? else { return Ok(None) };
        table.check_writable()?;
        let Some(ours) = table.ours().await? else {
            if self.adopt {
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
            if self.adopt {
                self.accept_foreign(&table, &ours).await?;
                return Box::pin(self.open()).await;
            }
            return Err(Error::definite(format!(
                "version {} ({}) changed rows after lakemerge's last commit, version {}; --reload {name} replaces the table, \
                 --adopt {name} takes its rows as they are now",
                foreign.version,
                foreign.operation,
                ours.version,
                name = self.name
            )));
        }
        if !self.wishes.reload {
            self.check_definition(&table, &ours.facts)?;
        }
        Ok(Some(Opened { table, ours }))
    }

    /// The configuration must still mean the table that is there.
    fn check_definition(&self, table: &Table, facts: &Facts) -> Result<()> {
        let remedy = format!("--reload {} rebuilds the table as configured", self.name);
        let meant = self.meant.definition(&self.name, Some(&facts.schema))?;
        if meant.schema.columns != facts.schema.columns {
            return Err(Error::definite(format!("{}; {remedy}", difference(&facts.schema, &meant.schema))));
        }
        if key_names(&meant) != facts.key {
            let (was, is) = (facts.key.join(", "), key_names(&meant).join(", "));
            return Err(Error::definite(format!(
                "the table's key is ({was}), the configuration says ({is}); {remedy}"
            )));
        }
        let partition_by = partition_names(&self.meant, &meant.schema);
        if partition_by != table.partition_columns {
            let (was, is) = (table.partition_columns.join(", "), partition_by.join(", "));
            return Err(Error::definite(format!(
                "the table is partitioned by ({was}), the configuration says ({is}); {remedy}"
            )));
        }
        let types = |schema: &datafusion::arrow::datatypes::Schema| -> Vec<_> {
            schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect()
        };
        if types(&table.schema) != types(&meant.schema.arrow(self.meant.datetime)) {
            return Err(Error::definite(format!(
                "the table's columns or their types are not those configured; {remedy}"
            )));
        }
        Ok(())
    }

    async fn step(&mut self, step: Next, opened: Option<Opened>, listing: &Listing) -> Result<Outcome> {
        match (step, opened) {
            (Next::Load { files, complete }, opened) => self.load(files, complete, opened, listing).await,
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
            load: loaded.read.files,
        };
        let generation = old.as_ref().map_or(0, |old| old.ours.position.generation + 1);
        let position = Position { generation, load_complete: complete, changes: None, listed: listing.newest() };
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
        let (rows, read) = self.reading(&definition).load_rows(files).await?;
        let merged = merge(self.engine, &opened.table, &layout, rows, same_key(definition.key_is_primary)).await?;
        let mut facts = opened.ours.facts.clone();
        facts.load.extend(read.files);
        let position = Position { load_complete: complete, listed: listing.newest(), ..opened.ours.position };
        let outcome = self.commit(opened, position, merged, Some(facts)).await?;
        if let Outcome::Committed(_) = outcome {
            self.read(read.counts);
            self.report.load_files += load_files;
        }
        Ok(outcome)
    }

    async fn changes(&mut self, files: &[RawFile], upto: Stamp, opened: &Opened, listing: &Listing) -> Result<Outcome> {
        let (definition, layout) = self.defined(opened)?;
        let (rows, read) = self.reading(&definition).changes(files).await?;
        let merged = merge(self.engine, &opened.table, &layout, rows, SameKey::LaterStays).await?;
        let position =
            Position { load_complete: true, changes: Some(upto), listed: listing.newest(), ..opened.ours.position };
        let outcome = self.commit(opened, position, merged, None).await?;
        if let Outcome::Committed(_) = outcome {
            self.read(read);
            self.report.change_files += files.len() as u64;
        }
        Ok(outcome)
    }

    /// LOAD files that were written again: the same content is no reload, and is noted as it is now.
    async fn compare(&mut self, files: &[RawFile], opened: &Opened) -> Result<Outcome> {
        let mut facts = opened.ours.facts.clone();
        for file in files {
            let hash = reading::hash(self.job.raw.store.as_ref(), file).await.at(|| &file.shown)?;
            let Some(known) = facts.load.iter_mut().find(|known| known.name == file.name) else { continue };
            if known.hash != hash {
                return Err(next::load_changed(&file.name));
            }
            known.tag.clone_from(&file.tag);
        }
        self.report.notes.push("LOAD files were written again with the same content".into());
        self.commit(opened, opened.ours.position, Merged::nothing(), Some(facts)).await
    }

    async fn accept_load(&mut self, opened: &Opened, listing: &Listing) -> Result<Outcome> {
        let mut facts = opened.ours.facts.clone();
        facts.load.clear();
        for file in &listing.loads {
            let hash = reading::hash(self.job.raw.store.as_ref(), file).await.at(|| &file.shown)?;
            facts.load.push(LoadedFile { name: file.name.clone(), size: file.size, tag: file.tag.clone(), hash });
        }
        self.report
            .notes
            .push(format!("{} LOAD files are taken as merged; none was read into the table", facts.load.len()));
        let outcome = self.commit(opened, opened.ours.position, Merged::nothing(), Some(facts)).await?;
        self.wishes.accept_load &= outcome == Outcome::Lost;
        Ok(outcome)
    }

    /// Takes a table that somebody else wrote as one of ours, with the LOAD files as merged and all changes to come:
    /// replayed to their end they give the right rows whatever part of them the table holds.
    async fn adopt(&mut self, table: Table) -> Result<Option<Opened>> {
        let definition = self.meant.definition(&self.name, None)?;
        let facts = Facts {
            source: "dms".into(),
            key: key_names(&definition),
            key_is_primary: definition.key_is_primary,
            schema: definition.schema,
            load: vec![],
        };
        self.check_definition(&table, &facts)?;
        let metadata = create::with_facts(table.snapshot.metadata(), &facts)?;
        let position = Position { load_complete: true, ..Position::default() };
        let commit = Commit { actions: vec![Action::Metadata(metadata)], position, facts: json!({ "step": "adopt" }) };
        commit.onto(&table).await?;
        self.wishes.accept_load = true;
        self.adopt = false;
        self.report.commits += 1;
        Box::pin(self.open()).await
    }

    async fn accept_foreign(&mut self, table: &Table, ours: &Ours) -> Result<()> {
        let commit = Commit { actions: vec![], position: ours.position, facts: json!({ "step": "adopt" }) };
        commit.onto(table).await?;
        self.adopt = false;
        self.report.commits += 1;
        Ok(())
    }

    async fn commit(
        &mut self,
        opened: &Opened,
        position: Position,
        merged: Merged,
        facts: Option<Facts>,
    ) -> Result<Outcome> {
        let Merged { mut actions, counts, vectors } = merged;
        actions.extend(definition_changes(&opened.table, facts, vectors)?);
        let of_run = json!({ "step": "merge", "read": counts.read, "inserted": counts.inserted, "updated": counts.updated,
                             "deleted": counts.deleted, "netted_away": counts.netted_away });
        let outcome = Commit { actions, position, facts: of_run }.onto(&opened.table).await?;
        if let Outcome::Committed(version) = outcome {
            self.committed(version, position, counts);
        }
        Ok(outcome)
    }

    fn committed(&mut self, version: u64, position: Position, counts: Counts) {
        self.report.committed(counts);
        self.report.version = Some(version);
        self.report.position = position.changes.map(|stamp| stamp.to_string());
    }

    fn read(&mut self, counts: ReadCounts) {
        self.report.bytes += counts.bytes;
        self.report.zero_dates += counts.zero_dates;
    }

    fn conclude(&mut self, opened: Option<&Opened>) {
        match opened {
            None => self.report.state = State::NoDataYet,
            Some(opened) if !opened.ours.position.load_complete => self.report.state = State::Loading,
            Some(_) => {}
        }
    }

    /// The schema that the rows of `files` allow, where the configuration says `"infer"`.
    async fn infer(&mut self, files: &[RawFile]) -> Result<Option<TableSchema>> {
        if !matches!(self.meant.schema, SchemaFrom::Infer) {
            return Ok(None);
        }
        let settings = Arc::new(self.job.settings.clone());
        let schema = reading::infer(Arc::clone(&self.job.raw.store), settings, files.to_vec()).await?;
        let columns: Vec<_> = schema.columns.iter().map(|c| format!("{} {}", c.name, c.sql_type)).collect();
        self.report.notes.push(format!("inferred the columns {}", columns.join(", ")));
        Ok(Some(schema))
    }

    fn defined(&self, opened: &Opened) -> Result<(Definition, Layout)> {
        let mut definition = self.meant.definition(&self.name, Some(&opened.ours.facts.schema))?;
        definition.key_is_primary = opened.ours.facts.key_is_primary;
        let layout = self.layout(&definition)?;
        Ok((definition, layout))
    }

    fn layout(&self, definition: &Definition) -> Result<Layout> {
        Ok(Layout {
            log: self.lake.log(&self.name)?,
            schema: definition.schema.arrow(self.meant.datetime),
            key: key_names(definition),
            partition_by: partition_names(&self.meant, &definition.schema),
            table_type: self.meant.table_type,
        })
    }

    fn reading(&self, definition: &Definition) -> Reading {
        Reading {
            store: Arc::clone(&self.job.raw.store),
            settings: Arc::new(self.job.settings.clone()),
            columns: definition.schema.columns.clone().into(),
            datetime: self.meant.datetime,
            key: definition.key.clone().into(),
        }
    }
}

/// The stamp of `seconds` ago; none where files are kept for ever.
fn expired_before(seconds: u64) -> Option<Stamp> {
    let age = chrono::TimeDelta::try_seconds(i64::try_from(seconds).ok().filter(|s| *s > 0)?)?;
    let time = chrono::Utc::now().checked_sub_signed(age)?;
    time.format("%Y%m%d-%H%M%S000").to_string().parse().ok()
}

/// The table's new metadata and protocol, where facts change or its first vectors come.
fn definition_changes(table: &Table, facts: Option<Facts>, vectors: bool) -> Result<Vec<Action>> {
    let mut metadata = table.snapshot.metadata().clone();
    let mut actions = vec![];
    if let Some(facts) = &facts {
        metadata = create::with_facts(&metadata, facts)?;
    }
    let first_vectors = vectors && !create::has_vectors(table);
    if first_vectors {
        let (with_vectors, protocol) = create::with_vectors(table, metadata)?;
        metadata = with_vectors;
        actions.extend(protocol.map(Action::Protocol));
    }
    if facts.is_some() || first_vectors {
        actions.push(Action::Metadata(metadata));
    }
    Ok(actions)
}

/// A key that the source keeps unique may come twice in a load, since rows change while it runs; another may not.
fn same_key(key_is_primary: bool) -> SameKey {
    if key_is_primary { SameKey::LaterStays } else { SameKey::Refuse }
}

fn key_names(definition: &Definition) -> Vec<String> {
    definition.key.iter().map(|&i| definition.schema.columns[i].name.clone()).collect()
}

fn partition_names(meant: &TableJob, schema: &TableSchema) -> Vec<String> {
    let names = meant.partition_by.iter();
    names.filter_map(|name| schema.position_of(name)).map(|i| schema.columns[i].name.clone()).collect()
}

/// What differs between the columns of the table and those of the configuration.
fn difference(table: &TableSchema, configured: &TableSchema) -> String {
    for column in &configured.columns {
        match table.columns.iter().find(|c| c.name == column.name) {
            None => return format!("the configured schema has a column {} that the table has not", column.name),
            Some(c) if c.sql_type != column.sql_type => {
                return format!(
                    "column {} is {} in the table and {} in the configured schema",
                    c.name, c.sql_type, column.sql_type
                );
            }
            Some(_) => {}
        }
    }
    match table.columns.iter().find(|c| !configured.columns.iter().any(|column| column.name == c.name)) {
        Some(column) => format!("the table has a column {} that the configured schema has not", column.name),
        None => "the columns of the table and of the configured schema differ in order or nullability".to_string(),
    }
}
