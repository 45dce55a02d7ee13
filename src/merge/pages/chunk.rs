//! A column chunk that is put together from pages, with its statistics and indexes.

use std::cmp::Ordering;

use deltalake::parquet::basic::{BoundaryOrder, Encoding, PageType};
use deltalake::parquet::bloom_filter::Sbbf;
use deltalake::parquet::column::page::{CompressedPage, PageWriter};
use deltalake::parquet::column::writer::ColumnCloseResult;
use deltalake::parquet::errors::Result;
use deltalake::parquet::file::metadata::{
    ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats,
};
use deltalake::parquet::file::page_index::column_index::ColumnIndexMetaData;
use deltalake::parquet::file::statistics::{Statistics, ValueStatistics};
use deltalake::parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};

use super::values::{Ends, Form, Kept, double, float, int32, int64};
use crate::lake::stats::TRUNCATED_AT;
use crate::storage::parquet::Stretches;

/// An encoded column chunk.
pub struct Chunk {
    bytes: Stretches,
    close: ColumnCloseResult,
}

impl Chunk {
    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.close.bytes_written
    }

    pub fn append_to(self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<()> {
        group.append_column(&self.bytes, self.close)
    }
}

/// What is known of the values of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    pub rows: usize,
    pub nulls: usize,
    /// `None` where they are not known.
    pub least: Option<Bound>,
    pub most: Option<Bound>,
}

/// An end of some values in their form, or a value beyond it.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    pub value: Vec<u8>,
    pub is_exact: bool,
}

impl Known {
    /// Of values of which `kept` tells the smallest and the largest. Long ones are told by the bounds of `before`, of which
    /// these values are some.
    pub fn of(rows: usize, nulls: usize, kept: Kept<'_>, before: Option<&Known>) -> Known {
        let (least, most) = before.map_or((None, None), |known| (known.least.as_ref(), known.most.as_ref()));
        let ends = match kept {
            Kept::AsBefore => return Known { rows, nulls, least: least.cloned(), most: most.cloned() },
            Kept::Others(ends) => ends,
        };
        let bound = |value: &[u8], before: Option<&Bound>| {
            let exact = || Bound { value: value.to_vec(), is_exact: true };
            if value.len() <= TRUNCATED_AT {
                return Some(exact());
            }
            before.map(|bound| Bound { value: bound.value.clone(), is_exact: false })
        };
        let (of_least, of_most) = ends.unzip();
        let least = of_least.and_then(|value| bound(value, least));
        let most = of_most.and_then(|value| bound(value, most));
        Known { rows, nulls, least, most }
    }

    /// Between which the values lie, if that is known.
    pub fn bounds(&self) -> Ends<'_> {
        let (least, most) = (self.least.as_ref()?, self.most.as_ref()?);
        Some((&least.value, &most.value))
    }

    /// What the index of a chunk says of a page of so many rows. It may cut long values.
    pub fn by_index(index: &ColumnIndexMetaData, page: usize, rows: usize, numbers_are_exact: bool) -> Option<Known> {
        let nulls = usize::try_from(*index.null_counts()?.get(page)?).ok()?;
        if index.is_null_page(page) {
            return Some(Known { rows, nulls: rows, least: None, most: None });
        }
        let (least, most, is_exact) = match index {
            ColumnIndexMetaData::INT32(index) => {
                let bytes = |value: &i32| value.to_le_bytes().to_vec();
                (index.min_value(page).map(bytes)?, index.max_value(page).map(bytes)?, numbers_are_exact)
            }
            ColumnIndexMetaData::INT64(index) => {
                let bytes = |value: &i64| value.to_le_bytes().to_vec();
                (index.min_value(page).map(bytes)?, index.max_value(page).map(bytes)?, numbers_are_exact)
            }
            ColumnIndexMetaData::FLOAT(index) => {
                let bytes = |value: &f32| (!value.is_nan()).then(|| value.to_le_bytes().to_vec());
                (index.min_value(page).and_then(bytes)?, index.max_value(page).and_then(bytes)?, numbers_are_exact)
            }
            ColumnIndexMetaData::DOUBLE(index) => {
                let bytes = |value: &f64| (!value.is_nan()).then(|| value.to_le_bytes().to_vec());
                (index.min_value(page).and_then(bytes)?, index.max_value(page).and_then(bytes)?, numbers_are_exact)
            }
            ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(index) => {
                (index.min_value(page)?.to_vec(), index.max_value(page)?.to_vec(), numbers_are_exact)
            }
            ColumnIndexMetaData::BYTE_ARRAY(index) => {
                (index.min_value(page)?.to_vec(), index.max_value(page)?.to_vec(), false)
            }
            _ => return None,
        };
        let bound = |value| Some(Bound { value, is_exact });
        Some(Known { rows, nulls, least: bound(least), most: bound(most) })
    }
}

/// Puts a chunk together.
pub struct ChunkWriter {
    form: Form,
    /// The chunk that its pages come from.
    before: ColumnChunkMetaData,
    sink: TrackedWrite<Vec<u8>>,
    uncompressed: usize,
    dictionary: Option<u64>,
    first_data: Option<u64>,
    places: OffsetIndexBuilder,
    pages: Vec<Known>,
    encodings: Vec<PageEncodingStats>,
}

impl ChunkWriter {
    pub fn new(form: Form, before: ColumnChunkMetaData, capacity: usize) -> ChunkWriter {
        ChunkWriter {
            form,
            before,
            // a little more, for what pages say of themselves
            sink: TrackedWrite::new(Vec::with_capacity(capacity + capacity / 16 + 1024)),
            uncompressed: 0,
            dictionary: None,
            first_data: None,
            places: OffsetIndexBuilder::new(),
            pages: vec![],
            encodings: vec![],
        }
    }

    pub fn dictionary(&mut self, page: CompressedPage) -> Result<()> {
        self.count(PageType::DICTIONARY_PAGE, page.encoding());
        let written = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        self.uncompressed += written.uncompressed_size;
        self.dictionary = Some(written.offset);
        Ok(())
    }

    pub fn data(&mut self, page: CompressedPage, known: Known) -> Result<()> {
        self.count(PageType::DATA_PAGE, page.encoding());
        let written = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        self.uncompressed += written.uncompressed_size;
        self.first_data.get_or_insert(written.offset);
        let size = i32::try_from(written.compressed_size)?;
        self.places.append_offset_and_size(i64::try_from(written.offset)?, size);
        self.places.append_row_count(i64::try_from(known.rows)?);
        self.pages.push(known);
        Ok(())
    }

    fn count(&mut self, page_type: PageType, encoding: Encoding) {
        match self.encodings.iter_mut().find(|stats| stats.page_type == page_type && stats.encoding == encoding) {
            Some(stats) => stats.count += 1,
            None => self.encodings.push(PageEncodingStats { page_type, encoding, count: 1 }),
        }
    }

    /// Ends the chunk. `filter` holds all of its values, and may hold others.
    pub fn close(self, filter: Option<Sbbf>) -> Result<Chunk> {
        let rows: usize = self.pages.iter().map(|page| page.rows).sum();
        let statistics = self.statistics();
        let column_index = self.index()?;
        let mut bytes = self.sink.into_inner()?;
        // it waits for its turn to be written
        bytes.shrink_to_fit();
        let mut encodings: Vec<_> = self.encodings.iter().map(|stats| stats.encoding).chain([Encoding::RLE]).collect();
        encodings.sort_unstable();
        encodings.dedup();
        let metadata = ColumnChunkMetaData::builder(self.before.column_descr_ptr())
            .set_compression_codec(self.before.compression_codec())
            .set_encodings(encodings)
            .set_page_encoding_stats(self.encodings)
            .set_num_values(i64::try_from(rows)?)
            .set_total_compressed_size(i64::try_from(bytes.len())?)
            .set_total_uncompressed_size(i64::try_from(self.uncompressed)?)
            .set_dictionary_page_offset(self.dictionary.map(i64::try_from).transpose()?)
            .set_data_page_offset(i64::try_from(self.first_data.unwrap_or_default())?)
            .set_statistics(statistics)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: filter,
            column_index,
            offset_index: Some(self.places.build()),
        };
        Ok(Chunk { bytes: Stretches::one(0, bytes.into()), close })
    }

    /// The pages with values.
    fn valued(&self) -> impl Iterator<Item = &Known> + Clone {
        self.pages.iter().filter(|page| page.nulls < page.rows)
    }

    fn statistics(&self) -> Statistics {
        let nulls = self.pages.iter().map(|page| page.nulls as u64).sum();
        let all_are_known = self.valued().all(|page| page.least.is_some() && page.most.is_some());
        let pages = self.valued().filter(|_| all_are_known);
        let least = pages.clone().filter_map(|page| page.least.as_ref());
        let least = least.min_by(|a, b| self.form.compare(&a.value, &b.value));
        let most = pages.filter_map(|page| page.most.as_ref());
        let most = most.max_by(|a, b| self.form.compare(&a.value, &b.value));
        match self.form {
            Form::Int32 => {
                Statistics::Int32(of_ends(least, most, nulls, int32).with_backwards_compatible_min_max(true))
            }
            Form::Int64 => {
                Statistics::Int64(of_ends(least, most, nulls, int64).with_backwards_compatible_min_max(true))
            }
            Form::Float => {
                Statistics::Float(of_ends(least, most, nulls, float).with_backwards_compatible_min_max(true))
            }
            Form::Double => {
                Statistics::Double(of_ends(least, most, nulls, double).with_backwards_compatible_min_max(true))
            }
            Form::BigEndian(_) => {
                Statistics::FixedLenByteArray(of_ends(least, most, nulls, |value| value.to_vec().into()))
            }
            Form::Bytes => Statistics::ByteArray(of_ends(least, most, nulls, |value| value.to_vec().into())),
        }
    }

    /// The index of the pages' bounds, if all of them are known.
    fn index(&self) -> Result<Option<ColumnIndexMetaData>> {
        let mut index = ColumnIndexBuilder::new(self.before.column_type());
        for page in &self.pages {
            let nulls = i64::try_from(page.nulls)?;
            match (&page.least, &page.most) {
                (Some(least), Some(most)) => index.append(false, least.value.clone(), most.value.clone(), nulls),
                _ if page.nulls == page.rows => index.append(true, vec![], vec![], nulls),
                _ => return Ok(None),
            }
        }
        index.set_boundary_order(self.order());
        index.build().map(Some)
    }

    fn order(&self) -> BoundaryOrder {
        let ends = self.valued().filter_map(|page| page.least.as_ref().zip(page.most.as_ref()));
        let ends: Vec<_> = ends.map(|(least, most)| [&least.value, &most.value]).collect();
        let never = |ordering: Ordering| {
            ends.windows(2).all(|pages| (0..2).all(|end| self.form.compare(pages[0][end], pages[1][end]) != ordering))
        };
        if never(Ordering::Greater) {
            BoundaryOrder::ASCENDING
        } else if never(Ordering::Less) {
            BoundaryOrder::DESCENDING
        } else {
            BoundaryOrder::UNORDERED
        }
    }
}

fn of_ends<T>(
    least: Option<&Bound>,
    most: Option<&Bound>,
    nulls: u64,
    value: impl Fn(&[u8]) -> T,
) -> ValueStatistics<T> {
    let [min, max] = [least, most].map(|bound| bound.map(|bound| value(&bound.value)));
    let is_exact = |bound: Option<&Bound>| bound.is_some_and(|bound| bound.is_exact);
    ValueStatistics::new(min, max, None, Some(nulls), false)
        .with_min_is_exact(is_exact(least))
        .with_max_is_exact(is_exact(most))
}
