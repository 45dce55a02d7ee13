//! What a run would do to one table, by asking the same questions with the position that each step would reach. Nothing
//! is written.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use lakemerge_source::dms::names::DataFormat;
use lakemerge_source::dms::records::Operation;
use lakemerge_source::position::Stamp;
use lakemerge_source::schema::{Column, TableSchema};
use parking_lot::Mutex;

use super::definition;
use super::table::{Opened, TableRun, same_key};
use crate::dms::changes::ChangeRows;
use crate::dms::listing::{Listing, RawFile};
use crate::dms::next::{self, Next, Reached};
use crate::dms::reading::{self, Incoming, Reading};
use crate::error::{Error, Result};
use crate::job::{Definition, SchemaFrom};
use crate::lake::position::{LoadedFile, Position};
use crate::lake::scan::Rows;
use crate::lake::table::Table;
use crate::merge::{self, SameKey, load};
use crate::plan::{Contents, Step, StepKind, TablePlan, Touched};
use crate::report::State;

/// How closely a plan looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// At the listing and the log.
    Names,
    /// Also at the records of the files.
    Records,
}

/// How far a run would have come.
struct Ahead {
    position: Position,
    load: Vec<LoadedFile>,
    /// The table as it is now, unless a step before makes or replaces it.
    opened: Option<Opened>,
    /// The columns and key; `None` where only reading the load can tell.
    definition: Option<Definition>,
}

impl TableRun<'_> {
    /// The steps that a run would take from here.
    pub async fn foresee(mut self, depth: Depth) -> TablePlan {
        let mut plan = TablePlan::new(self.name.to_string());
        let outcome = self.look_ahead(&mut plan, depth).await;
        plan.position = self.report.position;
        plan.version = self.report.version;
        plan.notes = self.report.notes;
        if plan.steps.is_empty() {
            plan.reaches.clone_from(&plan.position);
        }
        if let Err(error) = outcome {
            let version = plan.version.or(plan.steps.last().map(|_| 0));
            let position = if plan.steps.is_empty() { &plan.position } else { &plan.reaches };
            plan.fail(&error.unfinished(version, position.as_deref()));
        }
        plan
    }

    async fn look_ahead(&mut self, plan: &mut TablePlan, depth: Depth) -> Result<()> {
        let _turn = match depth {
            Depth::Names => None,
            Depth::Records => Some(self.engine.turn().await?),
        };
        self.look_into_the_quarantine().await?;
        let opened = self.open().await?;
        let mut ahead = opened.map(|opened| self.ahead_of(opened, plan)).transpose()?;
        let reached = ahead.as_ref().map(|a| Reached { position: a.position, load: &a.load });
        let opened = ahead.as_ref().and_then(|ahead| ahead.opened.as_ref());
        let mut listing = self.list(self.wishes.from(reached.as_ref()), opened).await?;
        if let Some(opened) = opened {
            self.note_late(&listing, opened);
        }
        loop {
            let reached = ahead.as_ref().map(|a| Reached { position: a.position, load: &a.load });
            let opened = ahead.as_ref().and_then(|ahead| ahead.opened.as_ref());
            let step = match self.next(&mut listing, reached.as_ref(), opened).await? {
                Next::Nothing => break,
                Next::Load { files, complete, after, gone } => {
                    let before = ahead.as_ref().and_then(|ahead| ahead.position.changes);
                    let old = ahead.take().and_then(|ahead| ahead.opened);
                    if let (Some(gone), Some(old)) = (&gone, &old) {
                        self.note_emptying(gone, old);
                    }
                    let (step, reached) = self.foresee_load(&files, old, plan, depth).await?;
                    let position = next::loaded(&listing, after, complete);
                    ahead = Some(Ahead { position, ..reached });
                    self.note_older(&listing, before);
                    step
                }
                step => {
                    let ahead = ahead.as_mut().ok_or_else(|| Error::definite("there is no table to go on with"))?;
                    if depth == Depth::Records {
                        self.foresee_columns(&step, ahead, plan).await?;
                    }
                    self.foresee_more(step, &listing, ahead, depth).await?
                }
            };
            let reaches = ahead.as_ref().and_then(|ahead| ahead.position.changes);
            plan.takes(Step { reaches: reaches.map(|stamp| stamp.to_string()), ..step });
        }
        plan.state = match &ahead {
            None => State::NoDataYet,
            Some(ahead) if !ahead.position.load_complete => State::Loading,
            Some(_) => plan.state,
        };
        Ok(())
    }

    fn ahead_of(&mut self, opened: Opened, plan: &mut TablePlan) -> Result<Ahead> {
        // before a reload the configuration need not fit the table that is there
        let mut definition = if self.wishes.reload { None } else { Some(self.defined(&opened)?.0) };
        let facts = &opened.ours.facts;
        let (position, load) = (opened.ours.position, facts.load.clone());
        let mut rewritten = false;
        if let (Some(evolution), Some(definition)) = (&opened.evolution, &mut definition) {
            let meant = self.meant.definition(&self.name, Some(&facts.schema))?;
            *definition = meant.clone().of_table(&evolution.of(facts, &meant));
            plan.schema_changes = differences(&facts.schema, &definition.schema);
            self.note_evolution(evolution);
            let reaches = position.changes.map(|stamp| stamp.to_string());
            plan.takes(Step { reaches, ..Step::new(StepKind::Evolve, &[]) });
            // the files that are there now then say nothing of what later steps touch
            rewritten = !evolution.retyped.is_empty();
        }
        Ok(Ahead { position, load, opened: (!rewritten).then_some(opened), definition })
    }

    /// The first part of a load, into a table that is new or replaced.
    async fn foresee_load(
        &mut self,
        files: &[RawFile],
        old: Option<Opened>,
        plan: &mut TablePlan,
        depth: Depth,
    ) -> Result<(Step, Ahead)> {
        let mut step = Step::new(StepKind::Load, files);
        self.refuse_empty(files)?;
        let mut definition = None;
        if depth == Depth::Names && matches!(self.meant.schema, SchemaFrom::Infer) {
            self.report.notes.push("the columns are inferred from the load; --deep says what they would be".into());
        } else {
            let inferred = self.infer(files).await?;
            let defined = self.meant.definition(&self.name, inferred.as_ref())?;
            plan.schema_changes = match &old {
                Some(old) => differences(&old.ours.facts.schema, &defined.schema),
                None => vec![format!(
                    "a new table with {}; key ({})",
                    list(&defined.schema.columns),
                    definition::key_names(&defined).join(", ")
                )],
            };
            if depth == Depth::Records {
                let layout = self.layout(&defined)?;
                let reading = self.reading(&defined);
                let rows = reading.load(files.to_vec());
                let (read, doubles) = load::count(self.engine, &layout, rows, same_key(defined.key_is_primary)).await?;
                self.note_doubles(doubles, &layout.key);
                let (read, zero_dates) = (read.counts.records, read.counts.zero_dates);
                let contents =
                    Contents { read, inserts: read, netted_away: doubles, zero_dates, ..Contents::default() };
                self.note_lacking(&reading);
                step.contents = Some(contents.with_bad(&reading));
            }
            definition = Some(defined);
        }
        self.wishes.reload = false;
        Ok((step, Ahead { position: Position::default(), load: loaded(files), opened: None, definition }))
    }

    /// A step on a table that is there by then; moves `ahead` to where it leads.
    async fn foresee_more(&mut self, step: Next, listing: &Listing, ahead: &mut Ahead, depth: Depth) -> Result<Step> {
        match step {
            Next::ContinueLoad { files, complete } => {
                let mut step = Step::new(StepKind::ContinueLoad, &files);
                self.refuse_empty(&files)?;
                if let (Depth::Records, Some(definition)) = (depth, &ahead.definition) {
                    let reading = self.reading(definition);
                    let incoming = reading.load_rows(files.clone());
                    let same_key = same_key(definition.key_is_primary);
                    let contents = self.contents(definition, ahead, incoming, same_key).await?;
                    self.note_lacking(&reading);
                    step.contents = Some(contents.with_bad(&reading));
                }
                ahead.load.extend(loaded(&files));
                ahead.position = Position { load_complete: complete, listed: listing.newest(), ..ahead.position };
                Ok(step)
            }
            Next::Changes { files, upto } => {
                self.foresee_changes(StepKind::Changes, &files, Some(upto), listing, ahead, depth).await
            }
            Next::Empty { files, upto, gone } => {
                if let Some(opened) = ahead.opened.take() {
                    self.note_emptying(&gone, &opened);
                }
                ahead.load.clear();
                ahead.position = Position::default();
                self.foresee_changes(StepKind::Empty, &files, upto, listing, ahead, depth).await
            }
            Next::Compare { files } => {
                if depth == Depth::Records {
                    ahead.load = self.compared(&files, &ahead.load).await?;
                } else {
                    self.report.notes.push(
                        "LOAD files were written again; the run compares their content and stops if it is another \
                         (--deep compares it now)"
                            .into(),
                    );
                    for known in &mut ahead.load {
                        if let Some(file) = files.iter().find(|file| file.name == known.name) {
                            known.tag.clone_from(&file.tag);
                        }
                    }
                }
                Ok(Step::new(StepKind::CompareLoad, &files))
            }
            Next::AcceptLoad => {
                self.wishes.accept_load = false;
                self.note_accepted(listing.loads.len());
                ahead.load = loaded(&listing.loads);
                Ok(Step::new(StepKind::AcceptLoad, &listing.loads))
            }
            Next::CompleteLoad => {
                ahead.position.load_complete = true;
                Ok(Step::new(StepKind::CompleteLoad, &[]))
            }
            step @ (Next::Load { .. } | Next::Nothing) => Err(Error::definite(format!("{step:?} does not go on"))),
        }
    }

    async fn foresee_changes(
        &mut self,
        kind: StepKind,
        files: &[RawFile],
        upto: Option<Stamp>,
        listing: &Listing,
        ahead: &mut Ahead,
        depth: Depth,
    ) -> Result<Step> {
        let mut step = Step::new(kind, files);
        if let (Depth::Records, Some(definition)) = (depth, &ahead.definition) {
            let reading = self.reading(definition);
            let incoming = reading.changes(files.to_vec());
            let contents = self.contents(definition, ahead, incoming, SameKey::LaterStays).await?;
            self.note_lacking(&reading);
            step.contents = Some(contents.with_bad(&reading));
        }
        self.wishes.again.clear();
        ahead.position = next::passed(ahead.position, upto, listing, self.wishes.include_late);
        Ok(step)
    }

    /// The columns that the files of a step tell of, where the table is to have them.
    async fn foresee_columns(&mut self, step: &Next, ahead: &mut Ahead, plan: &mut TablePlan) -> Result<()> {
        let Some(definition) = &mut ahead.definition else { return Ok(()) };
        let Some((evolution, told)) = self.told_beyond(&definition.schema, step.merges()).await? else {
            return Ok(());
        };
        let evolved = self.meant.definition(&self.name, Some(&told))?;
        plan.schema_changes.extend(differences(&definition.schema, &evolved.schema));
        self.note_evolution(&evolution);
        let reaches = ahead.position.changes.map(|stamp| stamp.to_string());
        plan.takes(Step { reaches, ..Step::new(StepKind::Evolve, &[]) });
        *definition = Definition { key_is_primary: definition.key_is_primary, ..evolved };
        if !evolution.retyped.is_empty() {
            ahead.opened = None;
        }
        Ok(())
    }

    /// What is empty can be seen in the listing.
    fn refuse_empty(&self, files: &[RawFile]) -> Result<()> {
        let is_empty = |file: &&RawFile| file.size == 0 && !self.job.settings.add_column_name;
        match files.iter().filter(|file| file.format() == DataFormat::Csv).find(is_empty) {
            Some(file) => Err(reading::empty(file)),
            None => Ok(()),
        }
    }

    fn note_emptying(&mut self, gone: &str, opened: &Opened) {
        let rows = opened.table.rows().map_or("all".to_string(), |rows| rows.to_string());
        self.report.notes.push(format!(
            "{gone}, which was merged, is gone: as on_vanished = \"truncate\" says, the table's {rows} rows would be removed"
        ));
    }

    /// What the files of a step come to; where their rows lie is looked for in the table as it is now.
    async fn contents(
        &self,
        definition: &Definition,
        ahead: &Ahead,
        mut incoming: Incoming,
        same_key: SameKey,
    ) -> Result<Contents> {
        let layout = self.layout(definition)?;
        let operations = Arc::new(Mutex::new(Contents::default()));
        let counted = Arc::clone(&operations);
        let rows = incoming.rows().inspect_ok(move |rows| {
            count(rows, &mut counted.lock());
        });
        let table = ahead.opened.as_ref().map(|opened| &opened.table);
        let foreseen = merge::foresee(self.engine, table, &layout, rows.boxed(), same_key).await?;
        let operations = operations.lock().clone();
        Ok(Contents {
            read: foreseen.read,
            netted_away: foreseen.netted_away,
            zero_dates: incoming.read().counts.zero_dates,
            touched: table.map(|table| touched(table, &foreseen.located)),
            ..operations
        })
    }
}

impl Contents {
    /// The same with the records that were set apart.
    fn with_bad(mut self, reading: &Reading) -> Contents {
        self.bad = reading.bad().len() as u64;
        self.read += self.bad;
        self
    }
}

/// Adds the records of each operation.
fn count(rows: &ChangeRows, contents: &mut Contents) {
    let records = rows.operations.iter().enumerate().filter(|(row, _)| !rows.is_moved(*row));
    for (_, operation) in records {
        match operation {
            Operation::Insert => contents.inserts += 1,
            Operation::Update => contents.updates += 1,
            Operation::Delete => contents.deletes += 1,
        }
    }
}

fn touched(table: &Table, located: &Rows) -> Touched {
    let bytes = |file: &usize| u64::try_from(table.files[*file].size()).unwrap_or_default();
    Touched {
        rows: located.values().map(roaring::RoaringTreemap::len).sum(),
        files: located.len() as u64,
        bytes: located.keys().map(bytes).sum(),
    }
}

/// The files as they would be noted; only reading them gives the hash, which no decision asks for.
fn loaded(files: &[RawFile]) -> Vec<LoadedFile> {
    let loaded = |file: &RawFile| LoadedFile {
        name: file.name.clone(),
        size: file.size,
        tag: file.tag.clone(),
        hash: String::new(),
    };
    files.iter().map(loaded).collect()
}

fn list(columns: &[Column]) -> String {
    columns.iter().map(|column| format!("{} {}", column.name, column.sql_type)).collect::<Vec<_>>().join(", ")
}

/// What a reload changes of a table's columns.
fn differences(old: &TableSchema, new: &TableSchema) -> Vec<String> {
    let known = |schema: &TableSchema, name: &str| schema.columns.iter().position(|column| column.name == name);
    let gone = old.columns.iter().filter(|column| known(new, &column.name).is_none());
    let gone = gone.map(|column| format!("{} {} is gone", column.name, column.sql_type));
    let new_or_other = new.columns.iter().filter_map(|column| match known(old, &column.name) {
        None => Some(format!("{} {} is new", column.name, column.sql_type)),
        Some(at) if old.columns[at].sql_type != column.sql_type => {
            Some(format!("{} {} becomes {}", column.name, old.columns[at].sql_type, column.sql_type))
        }
        Some(_) => None,
    });
    gone.chain(new_or_other).collect()
}
