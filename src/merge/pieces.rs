//! Pieces of a data file: a row group as it is encoded, or some rows of one without the dead.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use deltalake::parquet::arrow::ArrowSchemaConverter;
use deltalake::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector};
use deltalake::parquet::arrow::arrow_writer::ArrowRowGroupWriterFactory;
use deltalake::parquet::basic::PageType;
use deltalake::parquet::bloom_filter::Sbbf;
use deltalake::parquet::file::metadata::{
    ColumnChunkMetaData, PageEncodingStats, PageIndexPolicy, ParquetMetaData, ParquetMetaDataOptions,
    ParquetMetaDataReader,
};
use deltalake::parquet::file::page_index::offset_index::OffsetIndexMetaData;
use deltalake::parquet::file::properties::WriterProperties;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use roaring::RoaringTreemap;

use super::bloom;
use super::cutting::{Chunk, Cutting};
use super::pages::{self, Codec, Living};
use super::write::{self, ROW_GROUP_ROWS};
use crate::engine::{Engine, Room};
use crate::error::Result;
use crate::lake::scan;
use crate::storage::parquet::{Stretches, footer, span};

/// What pages say of themselves is less than this part of a row group: one of our own, which is as large as it may be, stays
/// in one.
const HEADERS: usize = 8;

/// What becomes a row group of the new file.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// A row group as it is.
    Copy { group: usize },
    /// Some rows of a row group.
    Cut(Rows),
}

/// Rows of a row group.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    pub group: usize,
    /// As numbers of the group.
    range: Range<u64>,
    /// Those that are dead, as numbers within the range.
    dead: RoaringTreemap,
}

impl Rows {
    fn count(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// The living rows, of all those of the group.
    pub fn living(&self) -> Living {
        let number = |row: u64| usize::try_from(row).unwrap_or(usize::MAX);
        let dead = self.dead.iter().map(|row| number(self.range.start + row)).collect();
        Living { range: number(self.range.start)..number(self.range.end), dead }
    }

    /// The same as a reader takes it.
    pub fn selection(&self) -> RowSelection {
        let before = RowSelector::skip(usize::try_from(self.range.start).unwrap_or(usize::MAX));
        let living: Vec<RowSelector> = scan::all_but(&self.dead, self.count()).into();
        std::iter::once(before).chain(living).collect::<Vec<_>>().into()
    }
}

/// A piece as it goes into the new file.
pub enum Chunks {
    Copied { group: usize, bytes: Stretches, filters: Vec<Option<Sbbf>> },
    Cut(Vec<Chunk>),
}

/// The file that pieces are taken of.
pub struct Source {
    store: Arc<dyn ObjectStore>,
    path: Path,
    pub footer: Arc<ParquetMetaData>,
    reading: ArrowReaderMetadata,
    schema: SchemaRef,
    /// Those that no column is cut with just now.
    codecs: Arc<Mutex<Vec<Codec>>>,
}

impl Source {
    /// Opens the file at `path`, of so many bytes. `None` for a file of other columns than those of `schema`, which a
    /// new file would have.
    pub async fn open(store: Arc<dyn ObjectStore>, path: Path, size: u64, schema: SchemaRef) -> Result<Option<Source>> {
        let options = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
        let reader = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_metadata_options(Some(options));
        let footer = Arc::new(footer(reader, store.as_ref(), &path, size).await?);
        if !same_columns(&footer, &schema)? {
            return Ok(None);
        }
        // another writer's file may say that its texts were views
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let reading = ArrowReaderMetadata::try_new(Arc::clone(&footer), options)?;
        Ok(Some(Source { store, path, footer, reading, schema, codecs: Arc::default() }))
    }

    /// How a file is written that takes this one's place.
    pub fn properties(&self, key: &[String]) -> WriterProperties {
        let mut properties = write::properties(key);
        let columns = self.footer.row_groups().first().map_or(&[][..], |group| group.columns());
        for (column, field) in columns.iter().zip(self.schema.fields()) {
            properties =
                properties.set_column_dictionary_enabled(column.column_path().clone(), has_good_dictionary(column));
            if column.bloom_filter_offset().is_some() && bloom::is_understood(field.data_type()) {
                properties = bloom::with_filters(properties, column.column_path().clone());
            }
        }
        properties.build()
    }

    /// The pieces in which rows live, if `dead` are dead: row groups of which none is dead, and of the others as many
    /// rows as a new row group may have, as far as the file says where their pages are.
    pub fn pieces(&self, dead: &RoaringTreemap) -> Vec<Piece> {
        let (mut pieces, mut first, mut dead) = (vec![], 0, dead.iter().peekable());
        for (number, group) in self.footer.row_groups().iter().enumerate() {
            let rows = u64::try_from(group.num_rows()).unwrap_or_default();
            let mut of_group = vec![];
            while let Some(row) = dead.next_if(|row| *row < first + rows) {
                of_group.push(row - first);
            }
            first += rows;
            // the writer wants to know of all row groups where their pages are, or of none
            if of_group.is_empty() && self.footer.offset_index().is_some() {
                pieces.push(Piece::Copy { group: number });
                continue;
            }
            let mut of_group = of_group.into_iter().peekable();
            for range in self.parts(number, rows) {
                let dead = std::iter::from_fn(|| of_group.next_if(|row| *row < range.end));
                let dead: RoaringTreemap = dead.map(|row| row - range.start).collect();
                let rows = Rows { group: number, range, dead };
                if rows.dead.len() < rows.count() {
                    pieces.push(Piece::Cut(rows));
                }
            }
        }
        pieces
    }

    /// Waits for the memory that a piece takes until it is written.
    pub async fn room(&self, engine: &Engine, piece: &Piece) -> Result<Room> {
        let bytes = match piece {
            Piece::Copy { group } => u64::try_from(self.footer.row_group(*group).compressed_size()).unwrap_or_default(),
            Piece::Cut(rows) => self.bytes(rows),
        };
        engine.room(bytes).await
    }

    /// Fetches a piece, and takes its dead rows out if it is none that is copied.
    pub async fn chunks(
        &self,
        engine: &Engine,
        encoders: Arc<ArrowRowGroupWriterFactory>,
        piece: Piece,
    ) -> Result<Chunks> {
        match piece {
            Piece::Copy { group } => {
                let span = span(self.footer.row_group(group));
                let bytes = Stretches::fetch(self.store.as_ref(), &self.path, &[span]).await?;
                Ok(Chunks::Copied { group, bytes, filters: self.filters(group).await? })
            }
            Piece::Cut(rows) => {
                let ranges = self.ranges(&rows, pages::needs_dictionary);
                let bytes = Stretches::fetch(self.store.as_ref(), &self.path, &ranges).await?;
                // a filter of more rows than there are in the new row group is larger than it needs to be
                let is_whole =
                    rows.count() == u64::try_from(self.footer.row_group(rows.group).num_rows()).unwrap_or_default();
                let filters = if is_whole { self.filters(rows.group).await? } else { vec![] };
                let cutting = Arc::new(Cutting {
                    reading: self.reading.clone(),
                    schema: Arc::clone(&self.schema),
                    encoders,
                    rows,
                    bytes,
                    filters,
                    codecs: Arc::clone(&self.codecs),
                });
                let chunks = cutting.chunks(engine).await?;
                if chunks.iter().all(Option::is_some) {
                    return Ok(Chunks::Cut(chunks.into_iter().flatten().collect()));
                }
                // where the file does not tell the truth of a dictionary, a reader needs it
                let all = self.ranges(&cutting.rows, |_, _| true);
                let bytes = match all == ranges {
                    true => cutting.bytes.clone(),
                    false => Stretches::fetch(self.store.as_ref(), &self.path, &all).await?,
                };
                Ok(Chunks::Cut(cutting.encode_the_rest(engine, bytes, chunks).await?))
            }
        }
    }

    /// About how much memory it takes to encode `rows` again: what is encoded takes as much as what was fetched, and what is
    /// unpacked in between no more than all of it.
    fn bytes(&self, rows: &Rows) -> u64 {
        let group = self.footer.row_group(rows.group);
        let fetched: u64 = self.ranges(rows, |_, _| true).iter().map(|range| range.end - range.start).sum();
        let unpacked = u64::try_from(group.total_byte_size()).unwrap_or_default();
        let all = u64::try_from(group.num_rows()).unwrap_or_default().max(1);
        fetched + (u128::from(unpacked) * u128::from(rows.count()) / u128::from(all)) as u64
    }

    /// The `rows` rows of a row group in parts that a new row group may have; uncut where the file does not say where
    /// its pages are. They are cut where the fewest bytes of pages are to be unpacked for two parts.
    fn parts(&self, group: usize, rows: u64) -> Vec<Range<u64>> {
        let Some(places) = self.places(group) else { return std::iter::once(0..rows).collect() };
        let pages: Vec<Vec<_>> = places
            .iter()
            .map(|column| column.page_locations().iter())
            .map(|pages| pages.map(|page| (page.first_row_index as u64, page.compressed_page_size)).collect())
            .collect();
        let in_two = |row: u64| -> i64 {
            let page =
                |pages: &Vec<(u64, i32)>| pages[..pages.partition_point(|(first, _)| *first <= row)].last().copied();
            pages.iter().filter_map(page).filter(|(first, _)| *first < row).map(|(_, size)| i64::from(size)).sum()
        };
        let most = self.most(group);
        let (mut parts, mut start) = (vec![], 0);
        while rows - start > most {
            let between = pages.iter().flatten().map(|(first, _)| *first);
            let between = between.filter(|row| (start + most.div_ceil(2)..=start + most).contains(row));
            let end = between.min_by_key(|row| (in_two(*row), Reverse(*row))).unwrap_or(start + most);
            parts.push(start..end);
            start = end;
        }
        parts.push(start..rows);
        parts
    }

    /// How many rows of a row group make one of a new file, at most. Dictionaries do not count, as each part has all of them.
    fn most(&self, group: usize) -> u64 {
        let group = self.footer.row_group(group);
        let most = (write::row_group_bytes() + write::row_group_bytes() / HEADERS) as u128;
        let bytes: u128 = group.columns().iter().map(|column| u128::from(bytes_of_rows(column))).sum();
        let rows = u128::try_from(group.num_rows()).unwrap_or_default() * most / bytes.max(1);
        u64::try_from(rows).unwrap_or(u64::MAX).clamp(1, ROW_GROUP_ROWS as u64)
    }

    /// Where the pages of a row group are.
    fn places(&self, group: usize) -> Option<&[OffsetIndexMetaData]> {
        let places = self.footer.offset_index()?.get(group)?;
        places.iter().all(|column| !column.page_locations().is_empty()).then_some(places)
    }

    /// The bytes that hold `rows`: of each column its pages and, if these from the first on are said to need it, the dictionary;
    /// or the whole row group.
    fn ranges(&self, rows: &Rows, needs_dictionary: fn(&ColumnChunkMetaData, usize) -> bool) -> Vec<Range<u64>> {
        let group = self.footer.row_group(rows.group);
        let all = u64::try_from(group.num_rows()).unwrap_or_default();
        let Some(places) = self.places(rows.group).filter(|_| rows.count() < all) else { return vec![span(group)] };
        let mut ranges = vec![];
        for (column, places) in group.columns().iter().zip(places) {
            let (start, length) = column.byte_range();
            let pages = places.page_locations();
            let offset = |page: usize| pages.get(page).map_or(start + length, |page| page.offset as u64);
            let first = pages.partition_point(|page| page.first_row_index as u64 <= rows.range.start).saturating_sub(1);
            if offset(0) > start && needs_dictionary(column, first) {
                ranges.push(start..offset(0));
            }
            let after = pages.partition_point(|page| (page.first_row_index as u64) < rows.range.end);
            ranges.push(offset(first)..offset(after));
        }
        ranges
    }

    /// The Bloom filters of a row group, by column; those of unknown length are given up.
    async fn filters(&self, group: usize) -> Result<Vec<Option<Sbbf>>> {
        let mut filters = vec![];
        for (column, field) in self.footer.row_group(group).columns().iter().zip(self.schema.fields()) {
            let place = column.bloom_filter_offset().zip(column.bloom_filter_length());
            let place = place.filter(|_| bloom::is_understood(field.data_type()));
            let place = place.and_then(|(at, length)| Some((u64::try_from(at).ok()?, u64::try_from(length).ok()?)));
            filters.push(match place {
                Some((at, length)) => {
                    let bytes = self.store.get_range(&self.path, at..at + length).await?;
                    Some(Sbbf::from_bytes(&bytes)?)
                }
                None => None,
            });
        }
        Ok(filters)
    }
}

/// True if the file's columns are just those that a new file would have, so that encoded chunks fit.
fn same_columns(footer: &ParquetMetaData, schema: &SchemaRef) -> Result<bool> {
    let new = ArrowSchemaConverter::new().convert(schema)?;
    let old = footer.file_metadata().schema_descr();
    Ok(old.num_columns() == new.num_columns() && old.columns().iter().zip(new.columns()).all(|(old, new)| old == new))
}

/// How many bytes a column's data pages have when they are unpacked, about.
fn bytes_of_rows(column: &ColumnChunkMetaData) -> u64 {
    let [packed, unpacked] = [column.compressed_size(), column.uncompressed_size()].map(|size| size.max(0) as u128);
    let dictionary = column.dictionary_page_offset().map_or(0, |at| (column.data_page_offset() - at).max(0) as u128);
    (unpacked * packed.saturating_sub(dictionary) / packed.max(1)) as u64
}

/// True for a column whose values repeat: all its pages use the dictionary, and the dictionary is small.
fn has_good_dictionary(column: &ColumnChunkMetaData) -> bool {
    let Some(at) = column.dictionary_page_offset() else { return false };
    let bytes = column.data_page_offset() - at;
    let is_of_data = |pages: &&PageEncodingStats| pages.page_type != PageType::DICTIONARY_PAGE;
    let everywhere =
        column.page_encoding_stats().is_none_or(|stats| stats.iter().filter(is_of_data).all(pages::is_of_dictionary));
    everywhere && usize::try_from(bytes).is_ok_and(|bytes| bytes < write::DICTIONARY_BYTES)
}

#[cfg(test)]
mod tests;
