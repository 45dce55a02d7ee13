//! What Parquet files tell of the columns of a table that are configured as inferred.

use std::sync::Arc;

use lakemerge_source::dms::names::DataFormat;
use lakemerge_source::dms::typed::united;
use lakemerge_source::schema::{Column, TableSchema};

use super::evolve::{Evolution, FoundBy, needs_rewrite};
use super::table::TableRun;
use crate::dms::listing::RawFile;
use crate::dms::parquet;
use crate::error::{Error, Result};
use crate::job::SchemaFrom;

impl TableRun<'_> {
    /// The columns of a load in Parquet; `None` for one in CSV.
    pub(super) async fn told_by_load(&self, files: &[RawFile]) -> Result<Option<TableSchema>> {
        if let Some(pair) = files.windows(2).find(|pair| pair[0].format() != pair[1].format()) {
            return Err(Error::definite(format!(
                "{} and {} are of two formats, so the columns of the full load cannot be inferred; give CREATE TABLE \
                 statements, or remove the files of the load that is out of date",
                pair[0].shown, pair[1].shown
            )));
        }
        let told = self.told_by(files).await?;
        Ok(told.into_iter().reduce(|told, file| united(&told, &file)))
    }

    /// How the table must evolve before `files` are merged into it, and the columns that it has then; `None` if it `known`s
    /// what they tell of.
    ///
    /// # Errors
    /// For a type that only rewriting the table would give it, unless that is configured.
    pub(super) async fn told_beyond(
        &self,
        known: &TableSchema,
        files: &[RawFile],
    ) -> Result<Option<(Evolution, TableSchema)>> {
        if !matches!(self.meant.schema, SchemaFrom::Infer) {
            return Ok(None);
        }
        let told = self.told_by(files).await?.iter().fold(known.clone(), |known, file| united(&known, file));
        if told == *known {
            return Ok(None);
        }
        let meant = self.meant.definition(&self.name, Some(&told))?;
        let arrow = |column: &Column| column.sql_type.arrow(self.meant.datetime);
        let remedy = format!("--reload {} rebuilds the table, from a full load that the task wrote since", self.name);
        let evolution = Evolution::between(known, &meant.shape, arrow, FoundBy::Name)
            .map_err(|difference| Error::definite(format!("{difference}; {remedy}")))?;
        match evolution.as_ref().and_then(needs_rewrite).filter(|_| !self.meant.rewrite_types) {
            Some(error) => Err(error.so(format!("or {remedy}"))),
            None => Ok(evolution.map(|evolution| (evolution, told))),
        }
    }

    /// The columns of each file in Parquet.
    async fn told_by(&self, files: &[RawFile]) -> Result<Vec<TableSchema>> {
        let files = files.iter().filter(|file| file.format() == DataFormat::Parquet).cloned().collect();
        let store = Arc::clone(&self.job.raw.store);
        parquet::columns(&store, files, &self.job.settings, &self.meant.rules).await
    }
}
