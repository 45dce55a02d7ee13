//! Small numbers as Parquet packs them: runs of one number, and groups of eight in as many bits as the largest needs
//! (Parquet, *Run Length Encoding / Bit-Packing Hybrid*). Levels and the numbers of dictionary entries are written so.

/// A group of packed numbers, and the shortest run that is worth a header of its own.
const GROUP: usize = 8;

/// The first `count` numbers of `bits` bits each, at most 32; `None` where the bytes end before.
pub fn unpack(mut bytes: &[u8], bits: u32, count: usize) -> Option<Vec<u32>> {
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let left = count - numbers.len();
        match run(&mut bytes, bits)? {
            Run::Repeated(number, times) => numbers.resize(numbers.len() + times.min(left), number),
            Run::Packed(packed, times) => unpack_bits(packed, bits, times.min(left), &mut numbers)?,
        }
    }
    Some(numbers)
}

/// The number that all of the first `count` numbers are, where one run says so.
pub fn constant(mut bytes: &[u8], bits: u32, count: usize) -> Option<u32> {
    match run(&mut bytes, bits)? {
        Run::Repeated(number, times) if times >= count => Some(number),
        _ => None,
    }
}

/// Packs `numbers` of `bits` bits each behind what `out` holds.
pub fn pack(numbers: &[u32], bits: u32, out: &mut Vec<u8>) {
    let (mut packed, mut at) = (0, 0_usize);
    for run in numbers.chunk_by(|a, b| a == b) {
        if run.len() >= GROUP {
            // what is packed before a run must fill its groups
            let filling = (at - packed).next_multiple_of(GROUP) - (at - packed);
            if run.len() >= filling + GROUP {
                pack_bits(&numbers[packed..at + filling], bits, out);
                repeat(run[0], run.len() - filling, bits, out);
                packed = at + run.len();
            }
        }
        at += run.len();
    }
    pack_bits(&numbers[packed..], bits, out);
}

/// Packs a number of `bits` bits that comes so many `times`.
pub fn repeat(number: u32, times: usize, bits: u32, out: &mut Vec<u8>) {
    write_varint((times as u64) << 1, out);
    out.extend_from_slice(&number.to_le_bytes()[..bits.div_ceil(8) as usize]);
}

enum Run<'a> {
    Repeated(u32, usize),
    Packed(&'a [u8], usize),
}

/// Takes the first run off `bytes`.
fn run<'a>(bytes: &mut &'a [u8], bits: u32) -> Option<Run<'a>> {
    let header = read_varint(bytes)?;
    let times = usize::try_from(header >> 1).ok()?;
    if header & 1 == 0 {
        let (number, rest) = bytes.split_at_checked(bits.div_ceil(8) as usize)?;
        *bytes = rest;
        let mut four = [0; 4];
        four.get_mut(..number.len())?.copy_from_slice(number);
        return Some(Run::Repeated(u32::from_le_bytes(four), times));
    }
    // some writers leave the last group unfilled
    let (packed, rest) = bytes.split_at(times.checked_mul(bits as usize)?.min(bytes.len()));
    *bytes = rest;
    Some(Run::Packed(packed, times.checked_mul(GROUP)?))
}

fn unpack_bits(packed: &[u8], bits: u32, count: usize, numbers: &mut Vec<u32>) -> Option<()> {
    if (packed.len() as u64) * 8 < u64::from(bits) * count as u64 {
        return None;
    }
    let mask = (1_u64 << bits) - 1;
    if (1..=8).contains(&bits) {
        // a group has no more bytes than one number holds
        for group in packed.chunks(bits as usize).take(count.div_ceil(GROUP)) {
            let group = eight(group);
            numbers.extend((0..GROUP as u32).map(|number| (group >> (number * bits) & mask) as u32));
        }
        numbers.truncate(numbers.len() - (count.next_multiple_of(GROUP) - count));
    } else {
        numbers.extend((0..count).map(|number| {
            let at = number * bits as usize;
            (eight(&packed[(at / 8).min(packed.len())..]) >> (at % 8) & mask) as u32
        }));
    }
    Some(())
}

/// The first eight bytes, or as many as there are, the lowest first.
fn eight(bytes: &[u8]) -> u64 {
    let eight = bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        eight
    });
    u64::from_le_bytes(eight)
}

fn pack_bits(numbers: &[u32], bits: u32, out: &mut Vec<u8>) {
    if numbers.is_empty() {
        return;
    }
    let groups = numbers.len().div_ceil(GROUP);
    write_varint((groups as u64) << 1 | 1, out);
    let end = out.len() + groups * bits as usize;
    let (mut held, mut held_bits) = (0_u64, 0);
    for number in numbers {
        held |= u64::from(*number) << held_bits;
        held_bits += bits;
        if held_bits >= 32 {
            out.extend_from_slice(&(held as u32).to_le_bytes());
            held >>= 32;
            held_bits -= 32;
        }
    }
    out.extend_from_slice(&held.to_le_bytes());
    out.resize(end, 0);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A number in groups of seven bits, the lowest first, as Snappy writes it, too.
pub fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn numbers_come_back(bits in 0u32..=32, runs in vec((any::<u32>(), 1usize..40), 0..20)) {
            let mask = ((1_u64 << bits) - 1) as u32;
            let numbers: Vec<_> = runs.iter().flat_map(|(number, times)| vec![number & mask; *times]).collect();
            let mut packed = vec![];
            pack(&numbers, bits, &mut packed);
            prop_assert_eq!(unpack(&packed, bits, numbers.len()), Some(numbers));
        }

        #[test]
        fn any_bytes_are_numbers_or_none(bytes in vec(any::<u8>(), 0..40), bits in 0u32..=32, count in 0usize..100) {
            let numbers = unpack(&bytes, bits, count);
            prop_assert!(numbers.is_none_or(|numbers| numbers.len() == count));
        }
    }

    #[test]
    fn a_long_run_takes_a_few_bytes() {
        let mut packed = vec![];
        pack(&[vec![1; 20_000], vec![2; 20_000]].concat(), 3, &mut packed);
        assert_eq!(packed.len(), 8);
        assert_eq!(constant(&packed, 3, 20_000), Some(1));
        assert_eq!(constant(&packed, 3, 20_001), None);
    }
}
