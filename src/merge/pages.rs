//! A column chunk without some of its rows, whose values are not decoded: a page that loses none is taken as it is
//! compressed, and of the others those bytes are kept that living values lie in. Where these are long stretches, they are
//! [cut](snappy) out of the compressed bytes, too.
//!
//! To decode, encode, hash and compress again values that do not change is most of what rewriting a file costs; where few
//! rows are dead, most pages are not even decompressed.

mod chunk;
mod hybrid;
mod snappy;
mod values;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::parquet::basic::{Compression, Encoding, PageType};
use deltalake::parquet::bloom_filter::Sbbf;
use deltalake::parquet::column::page::{CompressedPage, Page};
use deltalake::parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use deltalake::parquet::file::page_index::column_index::ColumnIndexMetaData;
use deltalake::parquet::file::page_index::offset_index::{OffsetIndexMetaData, PageLocation};
use deltalake::parquet::file::serialized_reader::SerializedPageReader;
use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use crate::error::{Error, Result};
use crate::storage::parquet::Stretches;
pub use chunk::Chunk;
use chunk::{ChunkWriter, Known};
use values::Form;

/// Rows of a row group, by their numbers in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Living {
    pub range: Range<usize>,
    /// Those of the range that are dead, ascending.
    pub dead: Vec<usize>,
}

impl Living {
    /// The living ones of some rows that follow one another, as numbers among these.
    fn of(&self, rows: &Range<usize>) -> Vec<Range<usize>> {
        let within = self.range.start.max(rows.start)..self.range.end.min(rows.end);
        let first = self.dead.partition_point(|row| *row < within.start);
        let dead = self.dead[first..].iter().take_while(|row| **row < within.end);
        let (mut living, mut from) = (vec![], within.start);
        for &row in dead.chain([&within.end]) {
            if from < row {
                living.push(from - rows.start..row - rows.start);
            }
            from = row + 1;
        }
        living
    }
}

/// A column chunk as it lies in its file.
pub struct Column<'a> {
    pub metadata: &'a ColumnChunkMetaData,
    /// Where its pages are, and what their bounds are.
    pub places: Option<&'a OffsetIndexMetaData>,
    pub index: Option<&'a ColumnIndexMetaData>,
    /// How many rows it has.
    pub rows: usize,
}

impl Column<'_> {
    /// The chunk without any but its `living` rows, whose pages `bytes` holds. `filter` is its Bloom filter.
    ///
    /// `None` for a chunk of nested or boolean values, and for one whose pages are encoded or compressed in
    /// another way than writers do by default.
    pub fn cut(
        &self,
        bytes: &Stretches,
        living: &Living,
        filter: Option<Sbbf>,
        codec: &mut Codec,
    ) -> Result<Option<Chunk>> {
        let column = self.metadata.column_descr();
        let Some(form) = Form::of(column).filter(|_| codec.understands(self.metadata.compression())) else {
            return Ok(None);
        };
        if column.max_rep_level() > 0 || column.max_def_level() > 1 {
            return Ok(None);
        }
        let Some(Pages { dictionary, data }) = self.pages(bytes, living)? else { return Ok(None) };
        let dictionary = dictionary.filter(|_| data.iter().any(|page| page.encoding != Encoding::PLAIN));
        let pages = data.iter().map(|page| &page.bytes).chain(dictionary.as_ref().map(Page::buffer));
        let mut chunk = ChunkWriter::new(form, self.metadata.clone(), pages.map(Bytes::len).sum());
        let (mut dictionary_values, mut entries) = (vec![], vec![]);
        if let Some(page) = dictionary {
            dictionary_values.extend_from_slice(codec.unpack(page.buffer())?);
            entries = form.split(&dictionary_values).ok_or_else(damaged)?;
            chunk.dictionary(CompressedPage::new(page, dictionary_values.len()))?;
        }
        let values = Values { form, is_nullable: column.max_def_level() > 0, entries: &entries };
        for page in data {
            let before = self.known(&page);
            let kept = living.of(&page.rows);
            let is_whole = kept.first() == Some(&(0..page.rows.len()));
            let (bytes, length, known) = match before.clone().filter(|_| is_whole) {
                Some(known) => (page.bytes.clone(), codec.unpacked_len(&page.bytes)?, known),
                None => {
                    let unpacked = codec.unpack(&page.bytes)?;
                    let kept = page.keep(unpacked, &values, &kept, before.as_ref());
                    let (content, known) = kept.ok_or_else(damaged)?;
                    if is_whole {
                        (page.bytes.clone(), unpacked.len(), known)
                    } else {
                        let length = content.len();
                        (codec.pack(content, &page.bytes)?, length, known)
                    }
                }
            };
            chunk.data(page.compressed(bytes, known.rows, length), known)?;
        }
        Ok(Some(chunk.close(filter)?))
    }

    /// The pages with living rows. `None` where some are of another kind than is understood here.
    fn pages(&self, bytes: &Stretches, living: &Living) -> Result<Option<Pages>> {
        // a reader of uncompressed pages gives those that are compressed as they lie
        let as_they_lie = self.metadata.clone().into_builder().set_compression(Compression::UNCOMPRESSED);
        let places = self.places.map(|places| &places.page_locations()[..]).filter(|places| !places.is_empty());
        let wanted = places.map(|places| self.wanted(places, living));
        let (numbers, pages) = match wanted {
            Some((numbers, places)) => {
                let first = places.first().map_or(0, |place| place.offset);
                let as_they_lie = as_they_lie.set_dictionary_page_offset(None).set_data_page_offset(first).build()?;
                (numbers, SerializedPageReader::new(Arc::new(bytes.clone()), &as_they_lie, self.rows, Some(places))?)
            }
            None => {
                (vec![], SerializedPageReader::new(Arc::new(bytes.clone()), &as_they_lie.build()?, self.rows, None)?)
            }
        };
        let (mut found, mut numbers, mut next) = (Pages { dictionary: None, data: vec![] }, numbers.into_iter(), 0);
        for page in pages {
            let page = page?;
            let Page::DataPage { buf, num_values, encoding, def_level_encoding: Encoding::RLE, .. } = page else {
                if !page.is_dictionary_page() {
                    return Ok(None);
                }
                found.dictionary = Some(page);
                continue;
            };
            let number = numbers.next();
            let first = number.zip(places).map_or(next, |(number, places)| row_of(&places[number]));
            next = first + num_values as usize;
            if next > self.rows {
                return Err(damaged());
            }
            let is_understood = match encoding {
                Encoding::PLAIN => true,
                Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => found.dictionary.is_some(),
                _ => false,
            };
            if !is_understood {
                return Ok(None);
            }
            let page = DataPage { number, rows: first..next, bytes: buf, encoding };
            if !living.of(&page.rows).is_empty() {
                found.data.push(page);
            }
        }
        Ok(Some(found))
    }

    /// The numbers of the pages with living rows, and their places behind the one of the dictionary.
    fn wanted(&self, places: &[PageLocation], living: &Living) -> (Vec<usize>, Vec<PageLocation>) {
        let mut wanted = (vec![], vec![]);
        for (number, place) in places.iter().enumerate() {
            let end = places.get(number + 1).map_or(self.rows, row_of);
            if !living.of(&(row_of(place)..end)).is_empty() {
                wanted.0.push(number);
                wanted.1.push(place.clone());
            }
        }
        let start = self.metadata.byte_range().0 as i64;
        let has_dictionary = wanted.0.first().is_some_and(|first| needs_dictionary(self.metadata, *first));
        if let Some(first) = places.first().filter(|first| has_dictionary && first.offset > start) {
            let size = i32::try_from(first.offset - start).unwrap_or(i32::MAX);
            wanted.1.insert(0, PageLocation { offset: start, compressed_page_size: size, first_row_index: 0 });
        }
        wanted
    }

    /// What the file says of a page.
    fn known(&self, page: &DataPage) -> Option<Known> {
        let numbers_are_exact = self.metadata.statistics().is_some_and(|all| all.min_is_exact() && all.max_is_exact());
        Known::by_index(self.index?, page.number?, page.rows.len(), numbers_are_exact)
    }
}

/// False where the pages of a column from this one on need no dictionary, by what the file tells: writers give up for good one
/// that became too large.
pub fn needs_dictionary(column: &ColumnChunkMetaData, from_page: usize) -> bool {
    let Some(stats) = column.page_encoding_stats() else { return true };
    let counts = stats.iter().filter(|stats| is_of_dictionary(stats)).map(|stats| stats.count);
    counts.map(|count| usize::try_from(count).unwrap_or(usize::MAX)).fold(0, usize::saturating_add) > from_page
}

/// True for data pages whose values are numbers of a dictionary's.
pub fn is_of_dictionary(pages: &PageEncodingStats) -> bool {
    let is_numbered = matches!(pages.encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
    pages.page_type != PageType::DICTIONARY_PAGE && is_numbered
}

fn row_of(place: &PageLocation) -> usize {
    usize::try_from(place.first_row_index).unwrap_or_default()
}

fn damaged() -> Error {
    Error::definite(
        "a page ends before its values do, has more of them than there are rows, or names a value that its dictionary lacks",
    )
}

/// Pages as they are compressed.
struct Pages {
    dictionary: Option<Page>,
    data: Vec<DataPage>,
}

struct DataPage {
    /// Its number in the indexes of its chunk, if there are any.
    number: Option<usize>,
    /// Its rows, by their numbers in the row group.
    rows: Range<usize>,
    bytes: Bytes,
    encoding: Encoding,
}

/// How values lie in the pages of a chunk.
struct Values<'a> {
    form: Form,
    is_nullable: bool,
    /// Those of its dictionary.
    entries: &'a [&'a [u8]],
}

/// What a page holds.
struct Content {
    head: Vec<u8>,
    /// Stretches of what another one holds, which follow.
    kept: Vec<Range<usize>>,
}

impl Content {
    fn len(&self) -> usize {
        self.head.len() + self.kept.iter().map(Range::len).sum::<usize>()
    }

    /// All of it, of which a page that holds `unpacked` has the stretches.
    fn bytes(&self, unpacked: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend_from_slice(&self.head);
        for stretch in &self.kept {
            bytes.extend_from_slice(&unpacked[stretch.clone()]);
        }
        bytes
    }

    fn has_long_stretches(&self) -> bool {
        !self.kept.is_empty() && self.len() >= self.kept.len().saturating_mul(SHORTEST_STRETCH)
    }

    /// True by and by: the more of a page of so many bytes is lost, the sooner.
    fn is_to_be_packed(&self, of: usize) -> bool {
        let mut hash = DefaultHasher::new();
        (self.len(), self.kept.len(), of).hash(&mut hash);
        let lost = of.saturating_sub(self.len()) + self.kept.len() * LOST_BY_A_CUT;
        hash.finish() % (of as u64).max(1) < (lost * LOST_PART) as u64
    }
}

impl DataPage {
    /// What the page holds with only the rows `kept`, given what it holds `unpacked`.
    fn keep(
        &self,
        unpacked: &[u8],
        values: &Values<'_>,
        kept: &[Range<usize>],
        before: Option<&Known>,
    ) -> Option<(Content, Known)> {
        let rows = kept.iter().map(Range::len).sum();
        let mut content = Content { head: vec![], kept: vec![] };
        let (mut count, mut of_values, mut bytes) = (self.rows.len(), kept.to_vec(), unpacked);
        if values.is_nullable {
            let (length, rest) = unpacked.split_first_chunk()?;
            let (levels, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            let mut packed = vec![];
            if hybrid::constant(levels, 1, self.rows.len()) == Some(1) {
                hybrid::repeat(1, rows, 1, &mut packed);
            } else {
                let levels = hybrid::unpack(levels, 1, self.rows.len())?;
                count = levels.iter().filter(|level| **level == 1).count();
                of_values = numbers_of_values(&levels, kept);
                let kept = kept.iter().map(|range| &levels[range.clone()]).collect::<Vec<_>>().concat();
                hybrid::pack(&kept, 1, &mut packed);
            }
            content.head.extend_from_slice(&u32::try_from(packed.len()).ok()?.to_le_bytes());
            content.head.append(&mut packed);
            bytes = rest;
        }
        let nulls = rows - of_values.iter().map(Range::len).sum::<usize>();
        let (form, bounds) = (values.form, before.and_then(Known::bounds));
        let ends = match self.encoding {
            Encoding::PLAIN => form.keep(bytes, unpacked.len() - bytes.len(), &of_values, bounds, &mut content.kept)?,
            _ => form.keep_numbers(bytes, count, &of_values, values.entries, bounds, &mut content.head)?,
        };
        Some((content, Known::of(rows, nulls, ends, before)))
    }

    /// The page as a writer takes it, with so many rows.
    fn compressed(&self, bytes: Bytes, rows: usize, unpacked: usize) -> CompressedPage {
        let page = Page::DataPage {
            buf: bytes,
            num_values: u32::try_from(rows).unwrap_or(u32::MAX),
            encoding: self.encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        CompressedPage::new(page, unpacked)
    }
}

/// The values of some `rows`, where a row has one if its level is 1.
fn numbers_of_values(levels: &[u32], rows: &[Range<usize>]) -> Vec<Range<usize>> {
    let count = |rows: Range<usize>| levels[rows].iter().filter(|level| **level == 1).count();
    let (mut row, mut value) = (0, 0);
    let of_range = |range: &Range<usize>| {
        let first = value + count(row..range.start);
        (row, value) = (range.end, first + count(range.clone()));
        first..value
    };
    rows.iter().map(of_range).collect()
}

/// The shortest stretches, on average, that are cut out of compressed bytes in less time than it takes to compress them.
const SHORTEST_STRETCH: usize = 512;
/// The part of a page that may be lost, on average, before it is compressed anew: what is cut gets larger by and by than what
/// is compressed, for want of what was repeated.
const LOST_PART: usize = 6;
/// As many bytes count as lost for each stretch, at whose ends literals take the place of copies.
const LOST_BY_A_CUT: usize = 16;

/// Snappy makes no more than 64 bytes of three.
const MOST_PACKED: usize = 22;

/// What packs and unpacks pages, and the memory for one of each.
pub struct Codec {
    is_snappy: bool,
    decoder: Decoder,
    encoder: Encoder,
    cutter: snappy::Cutter,
    unpacked: Vec<u8>,
    packed: Vec<u8>,
}

impl Codec {
    pub fn new() -> Codec {
        Codec {
            is_snappy: false,
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            cutter: snappy::Cutter::default(),
            unpacked: vec![],
            packed: vec![],
        }
    }

    /// Goes on with pages of this compression, if it is one that is understood here.
    fn understands(&mut self, compression: Compression) -> bool {
        self.is_snappy = compression == Compression::SNAPPY;
        self.is_snappy || compression == Compression::UNCOMPRESSED
    }

    fn unpacked_len(&self, bytes: &[u8]) -> Result<usize> {
        if self.is_snappy { decompress_len(bytes).map_err(Error::definite) } else { Ok(bytes.len()) }
    }

    fn unpack(&mut self, bytes: &[u8]) -> Result<&[u8]> {
        let length = self.unpacked_len(bytes)?;
        if length / MOST_PACKED > bytes.len() {
            return Err(damaged());
        }
        if self.unpacked.len() < length {
            self.unpacked.resize(length, 0);
        }
        let unpacked = &mut self.unpacked[..length];
        if length == 0 {
            // some writers leave out even what says that nothing follows
        } else if self.is_snappy {
            self.decoder.decompress(bytes, unpacked).map_err(Error::definite)?;
        } else {
            unpacked.copy_from_slice(bytes);
        }
        Ok(unpacked)
    }

    /// Packs `content`, of which the stretches lie in the `page` that was unpacked last.
    fn pack(&mut self, content: Content, page: &[u8]) -> Result<Bytes> {
        let unpacked = &self.unpacked[..self.unpacked_len(page)?];
        if !self.is_snappy {
            return Ok(content.bytes(unpacked).into());
        }
        if content.has_long_stretches() && !content.is_to_be_packed(unpacked.len()) {
            let cut = self.cutter.cut(page, unpacked, &content.head, &content.kept);
            debug_assert!(cut.as_ref().is_some_and(|cut| {
                Decoder::new().decompress_vec(cut).is_ok_and(|bytes| bytes == content.bytes(unpacked))
            }));
            if let Some(cut) = cut {
                return Ok(cut.into());
            }
        }
        let content = content.bytes(unpacked);
        let most = max_compress_len(content.len());
        if self.packed.len() < most {
            self.packed.resize(most, 0);
        }
        let length = self.encoder.compress(&content, &mut self.packed).map_err(Error::definite)?;
        Ok(Bytes::copy_from_slice(&self.packed[..length]))
    }
}

#[cfg(test)]
mod tests;
