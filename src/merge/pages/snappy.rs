//! Parts of compressed bytes, compressed without a search for what repeats in them (Snappy, *format description*).
//!
//! Snappy's bytes are elements: literals, and copies of what lies some bytes before. An element keeps its form where no byte
//! of it is lost; a copy of what lies behind a loss gets a smaller offset. Only what loses a part, or the bytes that it
//! copies, is written anew.

use std::ops::Range;

use super::hybrid::write_varint;

/// The most bytes that Snappy's compressor looks back, and so those that every reader can.
const WINDOW: usize = 65_535;
/// The shortest copy that is smaller than its bytes.
const SHORTEST_COPY: usize = 4;
/// The longest copy of one element.
const LONGEST_COPY: usize = 64;
/// How many lost copies are followed, one to the next, until something is found that is kept.
const HOPS: usize = 16;
/// How many bytes are looked up together.
const BLOCK: usize = 16;
/// What is said of blocks of which a part is lost.
const UNKNOWN: u32 = u32::MAX;

/// Cuts compressed bytes.
#[derive(Default)]
pub struct Cutter {
    /// The compressed bytes with the offsets that copies get. Up to three bytes behind a copy that was passed by may be wrong:
    /// they are of elements that are passed by next, which puts them right, or that are written anew.
    patched: Vec<u8>,
    /// How many bytes are lost before each block, where all of it is kept.
    lost_before: Vec<u32>,
}

impl Cutter {
    /// `head` and those bytes of `unpacked` that are `kept`, compressed. `packed` are the compressed bytes of `unpacked`,
    /// and the ranges ascend and lie apart.
    ///
    /// `None` where `packed` is damaged.
    pub fn cut(&mut self, packed: &[u8], unpacked: &[u8], head: &[u8], kept: &[Range<usize>]) -> Option<Vec<u8>> {
        self.patched.clear();
        self.patched.extend_from_slice(packed);
        self.lost_before.clear();
        let mut places = Vec::with_capacity(kept.len());
        let (mut length, mut lost, mut end) = (head.len(), 0, 0);
        for range in kept {
            lost += range.start - end;
            // the blocks that it has as a whole
            let (first, after) = (range.start.div_ceil(BLOCK), range.end / BLOCK);
            if first < after {
                self.lost_before.resize(first, UNKNOWN);
                self.lost_before.resize(after, lost as u32);
            }
            places.push(length);
            (length, end) = (length + range.len(), range.end);
        }
        let mut out = Vec::with_capacity(packed.len() + head.len());
        write_varint(length as u64, &mut out);
        let mut cut = Cut { packed, unpacked, kept, places, lost: vec![], literal: head.to_vec(), cutter: self, out };
        cut.cut()?;
        Some(cut.out)
    }
}

/// An element, and where its bytes come to lie when they are unpacked.
#[derive(Debug, Clone, Copy)]
struct Element {
    start: usize,
    end: usize,
    /// How far before lies what it copies; nothing for a literal.
    offset: usize,
}

/// Bytes while they are cut.
struct Cut<'a> {
    packed: &'a [u8],
    unpacked: &'a [u8],
    kept: &'a [Range<usize>],
    /// Where the kept ranges come to lie.
    places: Vec<usize>,
    /// The elements of which a part is lost, so far.
    lost: Vec<Element>,
    /// What is to be written as a literal next.
    literal: Vec<u8>,
    cutter: &'a mut Cutter,
    out: Vec<u8>,
}

impl Cut<'_> {
    fn cut(&mut self) -> Option<()> {
        let (mut at, mut position, mut range) = (varint_length(self.packed)?, 0, 0);
        // the elements from here on go as they are
        let mut as_they_are = at;
        while at < self.packed.len() {
            while self.kept.get(range).is_some_and(|kept| kept.end <= position) {
                range += 1;
            }
            let kept = self.kept.get(range).cloned().unwrap_or(usize::MAX..usize::MAX);
            if kept.start <= position {
                let lost = kept.start - (self.places[range] - self.places[0]);
                let Cutter { patched, lost_before, .. } = &mut self.cutter;
                (at, position) = pass(self.packed, patched, lost_before, &kept, lost as u32, (at, position));
            }
            if at >= self.packed.len() || position == kept.end {
                continue;
            }
            let (length, offset, next) = read(self.packed, at)?;
            let element = Element { start: position, end: position + length, offset };
            self.take(as_they_are..at);
            as_they_are = next;
            self.put_parts(element, range)?;
            if element.start < kept.start || kept.end < element.end {
                self.lost.push(element);
            }
            (at, position) = (next, element.end);
        }
        if at != self.packed.len() || position != self.unpacked.len() {
            return None;
        }
        self.take(as_they_are..at);
        self.put_literal();
        Some(())
    }

    /// Elements as they are, with the offsets that they got.
    fn take(&mut self, elements: Range<usize>) {
        if !elements.is_empty() {
            self.put_literal();
            self.out.extend_from_slice(&self.cutter.patched[elements]);
        }
    }

    /// What is kept of an element, in the ranges from this number on.
    fn put_parts(&mut self, element: Element, first: usize) -> Option<()> {
        for range in first..self.kept.len() {
            let kept = self.kept[range].start.max(element.start)..self.kept[range].end.min(element.end);
            if kept.is_empty() {
                break;
            }
            match element.offset {
                0 => self.literal.extend_from_slice(&self.unpacked[kept]),
                offset => self.put_copy(kept, offset, range)?,
            }
        }
        Some(())
    }

    /// Bytes of one kept range that repeat those that lie `offset` before.
    fn put_copy(&mut self, mut bytes: Range<usize>, offset: usize, range: usize) -> Option<()> {
        while !bytes.is_empty() {
            let (source, length) = self.source(bytes.start.checked_sub(offset)?, bytes.len());
            let part = bytes.start..bytes.start + length;
            let back = source.map(|source| self.places[range] + part.start - self.kept[range].start - source);
            match back.filter(|back| length >= SHORTEST_COPY && (1..=WINDOW).contains(back)) {
                Some(back) => self.put_copied(length, back),
                None => self.literal.extend_from_slice(&self.unpacked[part.clone()]),
            }
            bytes.start = part.end;
        }
        Some(())
    }

    /// Where bytes come to lie that are the same as some of the at most `length` ones at `position`, and how many these are.
    fn source(&self, mut position: usize, mut length: usize) -> (Option<usize>, usize) {
        for _ in 0..HOPS {
            let after = self.kept.partition_point(|kept| kept.start <= position);
            if let Some(kept) = self.kept[..after].last().filter(|kept| position < kept.end) {
                let place = self.places[after - 1] + position - kept.start;
                return (Some(place), length.min(kept.end - position));
            }
            if let Some(next) = self.kept.get(after) {
                length = length.min(next.start - position);
            }
            let after = self.lost.partition_point(|element| element.start <= position);
            let Some(element) = self.lost[..after].last().filter(|element| position < element.end) else { break };
            length = length.min(element.end - position);
            match position.checked_sub(element.offset) {
                Some(source) if element.offset > 0 => position = source,
                _ => break,
            }
        }
        (None, length)
    }

    fn put_copied(&mut self, length: usize, offset: usize) {
        self.put_literal();
        debug_assert!(length <= LONGEST_COPY);
        if length < 12 && offset < 1 << 11 {
            self.out.push(1 | ((length - 4) as u8) << 2 | ((offset >> 8) as u8) << 5);
            self.out.push(offset as u8);
        } else {
            self.out.push(2 | ((length - 1) as u8) << 2);
            self.out.extend_from_slice(&(offset as u16).to_le_bytes());
        }
    }

    /// Writes the literal that was put off.
    fn put_literal(&mut self) {
        let Some(last) = self.literal.len().checked_sub(1) else { return };
        if last < 60 {
            self.out.push((last as u8) << 2);
        } else {
            let bytes = (last as u32).to_le_bytes();
            let length = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |highest| highest + 1);
            self.out.push((59 + length as u8) << 2);
            self.out.extend_from_slice(&bytes[..length]);
        }
        self.out.append(&mut self.literal);
    }
}

/// Passes by elements that keep their form, from the one `at` on, which unpacks to `position` in a kept range before which
/// so many bytes are `lost`. Gives copies the offsets that they have where what is lost is gone. Says what comes next.
#[inline(never)]
fn pass(
    packed: &[u8],
    patched: &mut [u8],
    lost_before: &[u32],
    kept: &Range<usize>,
    lost: u32,
    (mut at, mut position): (usize, usize),
) -> (usize, usize) {
    while let (Some(bytes), Some(patched)) = (packed.get(at..at + 5), patched.get_mut(at..at + 5)) {
        let tag = &TAGS[usize::from(bytes[0])];
        let number = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        let (length, size) = tag.lengths(number);
        if position + length > kept.end {
            break;
        }
        // a literal is taken for a copy of itself, so that both go the same way
        let offset = number & tag.offset_mask | tag.high_offset;
        let source = position.wrapping_sub(offset as usize);
        let [from, to] = [source, source.wrapping_add(length - 1)]
            .map(|end| lost_before.get(end / BLOCK).copied().unwrap_or(UNKNOWN));
        let nearer = if from == to && from != UNKNOWN {
            lost - from
        } else if (kept.start..=position).contains(&source) {
            0
        } else {
            break;
        };
        // the offset is in the lowest bits of the number, but for the highest ones of the form that has them before; what is
        // behind it is of elements that are still to come
        patched[0] = bytes[0] & !tag.high_mask | ((offset - nearer) >> 3) as u8 & tag.high_mask;
        patched[1..].copy_from_slice(&number.wrapping_sub(nearer).to_le_bytes());
        at += size;
        position += length;
    }
    (at, position)
}

/// What the first byte of an element says.
#[derive(Clone, Copy)]
struct Tag {
    /// How many bytes it unpacks to, or 0 where the bytes behind say so.
    length: u8,
    /// How many bytes it has; those of a literal are missing where the bytes behind say how many they are.
    size: u8,
    /// What this byte has of an offset, and where.
    high_offset: u32,
    high_mask: u8,
    /// Which bits of the four bytes behind are an offset.
    offset_mask: u32,
}

const TAGS: [Tag; 256] = {
    let nothing = Tag { length: 0, size: 1, high_offset: 0, high_mask: 0, offset_mask: 0 };
    let mut tags = [nothing; 256];
    let mut at = 0;
    while at < 256 {
        let (tag, six) = (&mut tags[at], (at >> 2) as u8);
        match at & 3 {
            0 => (tag.length, tag.size) = if six < 60 { (six + 1, six + 2) } else { (0, six - 58) },
            1 => {
                (tag.length, tag.size) = (4 + (six & 7), 2);
                (tag.high_offset, tag.high_mask, tag.offset_mask) = ((six as u32 & 0x38) << 5, 0xE0, 0xFF);
            }
            2 => (tag.length, tag.size, tag.offset_mask) = (six + 1, 3, 0xFFFF),
            _ => (tag.length, tag.size, tag.offset_mask) = (six + 1, 5, u32::MAX),
        }
        at += 1;
    }
    tags
};

impl Tag {
    /// How many bytes it unpacks to, and how many it has, where `number` is what the four bytes behind the first one are.
    fn lengths(&self, number: u32) -> (usize, usize) {
        match self.length {
            0 => {
                let length = (number & (u32::MAX >> (8 * (5 - u32::from(self.size))))) as usize + 1;
                (length, usize::from(self.size) + length)
            }
            length => (usize::from(length), usize::from(self.size)),
        }
    }
}

/// How many bytes the element at `at` unpacks to, how far before lies what it copies, and where the next element is.
fn read(packed: &[u8], at: usize) -> Option<(usize, usize, usize)> {
    let tag = &TAGS[usize::from(packed[at])];
    // a literal may have fewer bytes behind it than a number
    let behind = &packed[at + 1..packed.len().min(at + 5)];
    let number = behind.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let offset = (number & tag.offset_mask | tag.high_offset) as usize;
    let (length, size) = tag.lengths(number);
    (at + size <= packed.len()).then_some((length, offset, at + size))
}

fn varint_length(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| byte & 0x80 == 0).map(|last| last + 1)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use snap::raw::{Decoder, Encoder, decompress_len};

    use super::*;

    /// The ranges between some places, of which every second one is kept.
    fn kept(mut places: Vec<usize>, length: usize) -> Vec<Range<usize>> {
        places.iter_mut().for_each(|place| *place %= length + 1);
        places.sort_unstable();
        places.dedup();
        places.chunks_exact(2).map(|ends| ends[0]..ends[1]).collect()
    }

    /// What is cut unpacks to what is kept; its compressed bytes.
    fn cut(packed: &[u8], head: &[u8], kept: &[Range<usize>]) -> Vec<u8> {
        let unpacked = Decoder::new().decompress_vec(packed).unwrap();
        let mut cutter = Cutter::default();
        let cut = cutter.cut(packed, &unpacked, head, kept).unwrap();
        let expected = kept.iter().fold(head.to_vec(), |all, range| [&all, &unpacked[range.clone()]].concat());
        assert_eq!(Decoder::new().decompress_vec(&cut).unwrap(), expected);
        cut
    }

    /// Rows of a few words each, the same ones again and again.
    fn rows(words: &[u16]) -> Vec<u8> {
        words
            .iter()
            .flat_map(|word| format!("{}word-{word};", "x".repeat(usize::from(word % 70))).into_bytes())
            .collect()
    }

    /// An element of any form, if there is anything to copy.
    fn element() -> impl Strategy<Value = (u8, usize, Vec<u8>)> {
        (0..4_u8, any::<usize>(), prop_oneof![vec(0..3_u8, 1..70), vec(any::<u8>(), 1..400)])
    }

    fn packed(elements: Vec<(u8, usize, Vec<u8>)>) -> Vec<u8> {
        let (mut packed, mut length) = (vec![], 0);
        for (form, offset, bytes) in elements {
            if form == 0 || length == 0 {
                let last = bytes.len() as u32 - 1;
                // a length may have more bytes than it needs
                let size = (offset % 4 + 1).max(if last < 256 { 1 } else { 2 });
                if last < 60 && offset % 8 < 4 {
                    packed.push((last as u8) << 2);
                } else {
                    packed.push((59 + size as u8) << 2);
                    packed.extend_from_slice(&last.to_le_bytes()[..size]);
                }
                packed.extend_from_slice(&bytes);
                length += bytes.len();
                continue;
            }
            let (copied, offset) = ((bytes.len() - 1) % 64 + 1, offset % length + 1);
            match form {
                1 if (4..12).contains(&copied) && offset < 2048 => {
                    packed.push(1 | (copied as u8 - 4) << 2 | ((offset >> 8) as u8) << 5);
                    packed.push(offset as u8);
                }
                2 if offset <= WINDOW => {
                    packed.push(2 | (copied as u8 - 1) << 2);
                    packed.extend_from_slice(&(offset as u16).to_le_bytes());
                }
                _ => {
                    packed.push(3 | (copied as u8 - 1) << 2);
                    packed.extend_from_slice(&(offset as u32).to_le_bytes());
                }
            }
            length += copied;
        }
        let mut all = vec![];
        write_varint(length as u64, &mut all);
        [all, packed].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn what_is_cut_unpacks_to_what_is_kept(
            words in vec(prop_oneof![0..5_u16, 0..2000_u16], 0..6000),
            head in vec(any::<u8>(), 0..100),
            places in prop_oneof![vec(any::<usize>(), 0..6), vec(any::<usize>(), 0..400)],
        ) {
            let rows = rows(&words);
            cut(&Encoder::new().compress_vec(&rows).unwrap(), &head, &kept(places, rows.len()));
        }

        #[test]
        fn elements_of_every_form_are_cut(
            elements in vec(element(), 0..400),
            head in vec(any::<u8>(), 0..10),
            places in vec(any::<usize>(), 0..100),
        ) {
            let packed = packed(elements);
            let length = decompress_len(&packed).unwrap();
            cut(&packed, &head, &kept(places, length));
        }

        #[test]
        fn damaged_bytes_are_cut_or_not(
            words in vec(0..300_u16, 1..300),
            damage in vec((any::<usize>(), any::<u8>()), 1..4),
            places in vec(any::<usize>(), 0..20),
        ) {
            let rows = rows(&words);
            let mut packed = Encoder::new().compress_vec(&rows).unwrap();
            for (at, byte) in damage {
                let at = at % packed.len();
                packed[at] = byte;
            }
            // what it gives is not looked at: a panic is what must not be
            let _ = Cutter::default().cut(&packed, &rows, &[], &kept(places, rows.len()));
        }
    }

    #[test]
    fn what_repeats_stays_short() {
        let words: Vec<_> = (0..40_000_u32).map(|row| (row * row % 251) as u16).collect();
        let rows = rows(&words);
        let every = 1500;
        let kept: Vec<_> = (0..rows.len() / every).map(|part| part * every..part * every + every - 40).collect();
        let cut = cut(&Encoder::new().compress_vec(&rows).unwrap(), &[], &kept);
        let content: Vec<_> = kept.iter().flat_map(|range| rows[range.clone()].to_vec()).collect();
        let anew = Encoder::new().compress_vec(&content).unwrap();
        assert!(cut.len() * 100 < anew.len() * 105, "{} bytes, {} when compressed anew", cut.len(), anew.len());
    }
}
