//! Steps that change no row: what a user or the raw files say is noted in the log.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use super::definition;
use super::table::{Opened, TableRun};
use crate::dms::listing::{Listing, RawFile};
use crate::dms::{content, next};
use crate::error::{At, Error, Result};
use crate::job::SchemaFrom;
use crate::lake::commit::{Commit, Outcome};
use crate::lake::create;
use crate::lake::position::{Facts, LoadedFile, Position};
use crate::lake::table::{Ours, Table, physical_rows};
use crate::merge::Merged;

/// Files that are fetched at once.
const FETCHES: usize = 8;

impl TableRun<'_> {
    /// LOAD files that were written again: the same content is no reload, and is noted as it is now.
    pub(super) async fn compare(&mut self, files: &[RawFile], opened: &Opened) -> Result<Outcome> {
        let load = self.compared(files, &opened.ours.facts.load).await?;
        let facts = Facts { load, ..opened.ours.facts.clone() };
        self.report.notes.push("LOAD files were written again with the same content".into());
        self.commit(opened, opened.ours.position, Merged::nothing(), Some(facts)).await
    }

    /// The LOAD files that were `read`, as they are now; their content must be what it was.
    pub(super) async fn compared(&self, files: &[RawFile], read: &[LoadedFile]) -> Result<Vec<LoadedFile>> {
        let mut load = read.to_vec();
        for (file, hash) in self.hashed(files).await? {
            let Some(known) = load.iter_mut().find(|known| known.name == file.name) else { continue };
            if known.hash != hash {
                return Err(next::load_changed(&file.name));
            }
            known.tag.clone_from(&file.tag);
        }
        Ok(load)
    }

    /// The hash of each file's content.
    async fn hashed(&self, files: &[RawFile]) -> Result<Vec<(RawFile, String)>> {
        let hashed = files.iter().cloned().map(|file| {
            let store = Arc::clone(&self.job.raw.store);
            async move {
                let hash = content::hash(store, &file).await.at(|| &file.shown)?;
                Ok((file, hash))
            }
        });
        futures::stream::iter(hashed).buffered(FETCHES).try_collect().await
    }

    /// Takes the LOAD files as they are now as those that were read.
    pub(super) async fn accept_load(&mut self, opened: &Opened, listing: &Listing) -> Result<Outcome> {
        let facts = Facts { load: self.taken_as_merged(listing).await?, ..opened.ours.facts.clone() };
        let outcome = self.commit(opened, opened.ours.position, Merged::nothing(), Some(facts)).await?;
        self.wishes.accept_load &= outcome == Outcome::Lost;
        Ok(outcome)
    }

    /// The LOAD files as they are now.
    async fn taken_as_merged(&mut self, listing: &Listing) -> Result<Vec<LoadedFile>> {
        let hashed = self.hashed(&listing.loads).await?.into_iter();
        let loaded = |(RawFile { name, size, tag, .. }, hash)| LoadedFile { name, size, tag, hash };
        let load: Vec<_> = hashed.map(loaded).collect();
        self.note_accepted(load.len());
        Ok(load)
    }

    pub(super) fn note_accepted(&mut self, files: usize) {
        self.report.notes.push(format!("{files} LOAD files are taken as merged; none was read into the table"));
    }

    /// Takes a table that somebody else wrote as one of ours, with the LOAD files as merged and all changes to come:
    /// replayed to their end they give the right rows whatever part of them the table holds.
    pub(super) async fn adopt(&mut self, table: Table) -> Result<Option<Opened>> {
        if matches!(self.meant.schema, SchemaFrom::Infer) {
            return Err(Error::usage(
                "--adopt needs the table's CREATE TABLE statement, since no load is read that its types could be inferred \
                 from; configure it as schema",
            ));
        }
        let meant = self.meant.definition(&self.name, None)?;
        let mut facts = Facts {
            source: "dms".into(),
            key: definition::key_names(&meant),
            key_is_primary: meant.key_is_primary,
            schema: meant.schema,
            added: vec![],
            others: Some(meant.shape.others()),
            load: vec![],
        };
        definition::check(&table, &facts, &self.meant, super::found_by(self.job))?;
        if let Some(error) = table.files.iter().find_map(|file| physical_rows(file).err()) {
            return Err(error.so("have its writer rewrite the files (OPTIMIZE), or keep the table out of the job"));
        }
        // in the same commit: a run that finds the table without them would merge the load over it
        let listing = self.list(None, None).await?;
        facts.load = self.taken_as_merged(&listing).await?;
        let actions = create::taken_over(&table, &facts)?;
        let position = Position { load_complete: true, ..Position::default() };
        let commit = Commit { actions, position, facts: json!({ "step": "adopt" }) };
        if let Outcome::Committed(_) = commit.onto(&table).await? {
            (self.wishes.accept_load, self.wishes.adopt) = (false, false);
            self.report.commits += 1;
        }
        Box::pin(self.open()).await
    }

    /// Takes the rows as another writer left them.
    pub(super) async fn accept_foreign(&mut self, table: &Table, ours: &Ours) -> Result<()> {
        let commit = Commit { actions: vec![], position: ours.position, facts: json!({ "step": "adopt" }) };
        if let Outcome::Committed(_) = commit.onto(table).await? {
            self.wishes.adopt = false;
            self.report.commits += 1;
        }
        Ok(())
    }
}
