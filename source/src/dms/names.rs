//! How DMS names the files of a table: `LOAD00000001.csv` or `.parquet` for the full load, a [`Stamp`] for changes.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use crate::position::Stamp;

/// What a file's name says about it. Loads order before changes, and each in the order in which they were written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileName {
    /// A file of the full load.
    Load(LoadNumber),
    /// A file of changes, by the time it was closed.
    Changes(Stamp),
}

/// Which file of a full load: a number counts only together with its segment, and with its folder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LoadNumber {
    /// The segment of a parallel load in ranges without names, from 1; 0 where there are none.
    pub segment: u32,
    /// The number of the file.
    pub number: u32,
}

/// A file that lies where DMS puts none of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// Change files are all that DMS puts into folders of dates.
    #[error(
        "a file of the full load lies in a folder of a date, where DMS puts change files alone; move it to where it was \
         written"
    )]
    LoadAtADate,
    /// Partitions of a parallel load have one folder each.
    #[error(
        "a file of the full load lies two folders deep, but DMS makes one folder for each partition or segment; move it \
         to where it was written"
    )]
    LoadTooDeep,
    /// Folders below a table are for dates or for the segments of its load.
    #[error(
        "a change file lies in a folder whose name is no date of any form that DatePartitionSequence and \
         DatePartitionDelimiter have; is source.url the folder above <schema>/<table>/? If so, move the file to where it was \
         written"
    )]
    ChangesAtNoDate,
}

impl FileName {
    /// What `base_name`, without its folder, names; `None` for anything that is no file of DMS.
    ///
    /// The number of a load is upper-case hexadecimal. DMS writes eight digits; the prose of its documentation ("Using
    /// Amazon S3 as a target") has five, so both are read.
    pub fn parse(base_name: &str) -> Option<Self> {
        let stem = stem(base_name)?;
        let (segment, file) = match stem.strip_prefix("SEGMENT").and_then(|rest| rest.split_once('_')) {
            Some((segment, file)) => (decimal(segment)?, file),
            None => (0, stem),
        };
        let Some(number) = file.strip_prefix("LOAD") else {
            return stem.parse().ok().map(Self::Changes);
        };
        let upper_hex = number.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        if !upper_hex || !(5..=8).contains(&number.len()) {
            return None;
        }
        let number = u32::from_str_radix(number, 16).ok()?;
        Some(Self::Load(LoadNumber { segment, number }))
    }

    /// What the file at `path` below a table's folder is; `None` for anything that is no file of DMS.
    ///
    /// # Errors
    /// If it lies where DMS puts none of its kind.
    pub fn below_table(path: &str) -> Result<Option<Self>, Misplaced> {
        let (folder, base_name) = path.rsplit_once('/').unwrap_or(("", path));
        let name = Self::parse(base_name);
        match name {
            Some(_) if folder.is_empty() => Ok(name),
            Some(Self::Load(_)) if is_date(folder) => Err(Misplaced::LoadAtADate),
            Some(Self::Load(_)) if folder.contains('/') => Err(Misplaced::LoadTooDeep),
            Some(Self::Changes(_)) if !is_date(folder) => Err(Misplaced::ChangesAtNoDate),
            _ => Ok(name),
        }
    }

    /// What the file `base_name` is in the folder of all tables' changes, `CDC_TXN-20201117153046033.csv`. DMS writes
    /// these in CSV whatever DataFormat says.
    pub fn of_all_tables(base_name: &str) -> Option<Self> {
        csv_stem(base_name)?.strip_prefix(OF_ALL_TABLES).and_then(Stamp::from_digits).map(Self::Changes)
    }

    /// The time in the name of a change file.
    pub fn stamp(self) -> Option<Stamp> {
        match self {
            Self::Changes(stamp) => Some(stamp),
            Self::Load(_) => None,
        }
    }
}

/// How the names of files begin that hold all tables' changes.
pub const OF_ALL_TABLES: &str = "CDC_TXN-";

/// In what form a file holds its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataFormat {
    /// Texts between delimiters, perhaps packed.
    Csv,
    /// Values with names and types. What CompressionType packs are its pages, so that the name stays as it is.
    Parquet,
}

impl DataFormat {
    /// The form of the file `name`, whatever the setting DataFormat says, which may have been changed between two files.
    pub fn of(name: &str) -> Self {
        if name.ends_with(PARQUET) { Self::Parquet } else { Self::Csv }
    }
}

const PARQUET: &str = ".parquet";

fn stem(base_name: &str) -> Option<&str> {
    csv_stem(base_name).or_else(|| base_name.strip_suffix(PARQUET))
}

fn csv_stem(base_name: &str) -> Option<&str> {
    base_name.strip_suffix(".csv.gz").or_else(|| base_name.strip_suffix(".csv"))
}

fn decimal(digits: &str) -> Option<u32> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// Whether folders are those of a date, in any form that DatePartitionSequence and DatePartitionDelimiter have.
fn is_date(folder: &str) -> bool {
    let split = |delimiter| folder.split(delimiter).collect::<Vec<_>>();
    let digits = || {
        let ends: &[usize] = match folder.len() {
            6 => &[4, 6],
            8 => &[4, 6, 8],
            10 => &[4, 6, 8, 10],
            _ => return false,
        };
        let parts = |ends: &[usize]| {
            let starts = std::iter::once(&0).chain(ends);
            starts.zip(ends).filter_map(|(start, end)| folder.get(*start..*end)).collect::<Vec<_>>()
        };
        is_date_of(&parts(ends))
            || folder.len() == 8 && (is_date_of(&parts(&[2, 6, 8])) || is_date_of(&parts(&[2, 4, 8])))
    };
    ['/', '-', '_'].into_iter().any(|delimiter| is_date_of(&split(delimiter))) || digits()
}

fn is_date_of(parts: &[&str]) -> bool {
    let number = |part: &str, digits: usize| Some(decimal(part)?).filter(|_| part.len() == digits);
    let year = |part: &str| number(part, 4).is_some();
    let two = |part: &str, range: std::ops::RangeInclusive<u32>| number(part, 2).is_some_and(|n| range.contains(&n));
    let (month, day, hour) =
        (|part: &str| two(part, 1..=12), |part: &str| two(part, 1..=31), |part: &str| two(part, 0..=23));
    match *parts {
        [y, m] => year(y) && month(m),
        [a, b, c] => year(a) && month(b) && day(c) || month(a) && year(b) && day(c) || day(a) && month(b) && year(c),
        [y, m, d, h] => year(y) && month(m) && day(d) && hour(h),
        _ => false,
    }
}

/// Whether a file belongs to the full load or to the changes after it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileKind {
    /// A `LOAD` file.
    Load,
    /// A file of changes.
    Changes,
}

/// The contents of the file `name`: unpacked if it ends with `.gz`, else as they are.
///
/// The name decides and not the setting CompressionType, which may have been changed between two files. A file of no
/// bytes at all is empty, packed or not.
pub fn decompress(name: &str, input: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    if !name.ends_with(".gz") {
        return Box::new(input);
    }
    Box::new(Gzip::Unopened(Some(BufReader::with_capacity(64 << 10, input))))
}

/// A gzip stream of any number of members, also of none.
enum Gzip<R> {
    Unopened(Option<BufReader<R>>),
    Open(Box<MultiGzDecoder<BufReader<R>>>),
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self {
                Self::Open(decoder) => return decoder.read(buffer),
                Self::Unopened(input) => {
                    // The decoder calls an empty stream cut.
                    if input.as_mut().map_or(Ok(true), |input| input.fill_buf().map(<[u8]>::is_empty))? {
                        return Ok(0);
                    }
                    let Some(input) = input.take() else { return Ok(0) };
                    *self = Self::Open(Box::new(MultiGzDecoder::new(input)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    #[test]
    fn a_load_is_numbered_in_upper_case_hexadecimal() {
        for (name, expected) in [
            ("LOAD00000001.csv", Some(1)),
            ("LOAD0000000A.csv.gz", Some(10)),
            ("LOAD00010.csv", Some(16)),
            ("LOADFFFFFFFF.csv", Some(u32::MAX)),
            ("LOAD0000000a.csv", None),
            ("LOAD0001.csv", None),
            ("LOAD000000001.csv", None),
            ("LOAD0000000A.parquet", Some(10)),
            ("LOAD00000001.parquet.gz", None),
            ("LOAD00000001", None),
            ("load00000001.csv", None),
            ("", None),
        ] {
            let expected = expected.map(|number| FileName::Load(LoadNumber { segment: 0, number }));
            assert_eq!(FileName::parse(name), expected, "{name}");
        }
    }

    #[test]
    fn a_number_of_a_load_counts_together_with_its_segment() {
        let expected = FileName::Load(LoadNumber { segment: 12, number: 10 });
        assert_eq!(FileName::parse("SEGMENT12_LOAD0000000A.csv"), Some(expected));
        assert!(expected > FileName::parse("SEGMENT2_LOAD0000000B.csv").unwrap());
        for other in ["SEGMENT_LOAD00000001.csv", "SEGMENT+1_LOAD00000001.csv", "SEGMENT1LOAD00000001.csv"] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
        assert_eq!(FileName::parse("SEGMENT1_20240809-192717787.csv"), None);
    }

    #[test]
    fn a_change_file_may_lie_in_a_folder_of_a_date_of_any_form() {
        let dates = ["2022 10 23", "2022 10 23 01", "2022 10", "10 2022 23", "23 10 2022"];
        for date in dates {
            for delimiter in ["/", "-", "_", ""] {
                let path = format!("{}/20221023-013830913.csv", date.replace(' ', delimiter));
                assert!(matches!(FileName::below_table(&path), Ok(Some(FileName::Changes(_)))), "{path}");
            }
        }
        for folder in ["2022", "2022/23/10/01", "2022-10/23", "old", "2022/10/23/24", "32/10/2022", "20221", "é0221023"]
        {
            let path = format!("{folder}/20221023-013830913.csv");
            assert_eq!(FileName::below_table(&path), Err(Misplaced::ChangesAtNoDate), "{path}");
        }
    }

    #[test]
    fn a_load_may_lie_in_the_folder_of_its_partition() {
        let load = Ok(FileName::parse("LOAD00000001.csv"));
        assert_eq!(FileName::below_table("LOAD00000001.csv"), load);
        assert_eq!(FileName::below_table("p2022/LOAD00000001.csv"), load);
        assert_eq!(FileName::below_table("p2022/notes.txt"), Ok(None));
        assert_eq!(FileName::below_table("2022/10/23/LOAD00000001.csv"), Err(Misplaced::LoadAtADate));
        assert_eq!(FileName::below_table("20221023/LOAD00000001.csv"), Err(Misplaced::LoadAtADate));
        assert_eq!(FileName::below_table("a/b/LOAD00000001.csv"), Err(Misplaced::LoadTooDeep));
    }

    #[test]
    fn files_of_all_tables_are_named_by_seventeen_digits() {
        let stamp = "20201117-153046033".parse().unwrap();
        assert_eq!(FileName::of_all_tables("CDC_TXN-20201117153046033.csv"), Some(FileName::Changes(stamp)));
        assert_eq!(FileName::of_all_tables("CDC_TXN-20201117-153046033.csv"), None);
        assert_eq!(FileName::of_all_tables("20201117-153046033.csv"), None);
        assert_eq!(FileName::of_all_tables("CDC_TXN-20201117153046033.parquet"), None);
    }

    #[test]
    fn changes_are_named_by_their_stamp() {
        let stamp = "20240809-192717787".parse().unwrap();
        assert_eq!(FileName::parse("20240809-192717787.csv"), Some(FileName::Changes(stamp)));
        assert_eq!(FileName::parse("20240809-192717787.csv.gz"), Some(FileName::Changes(stamp)));
        assert_eq!(FileName::parse("20240809-192717787.parquet"), Some(FileName::Changes(stamp)));
        assert_eq!(FileName::parse("20240809-992717787.csv"), None);
        assert_eq!(FileName::parse("CDC_TXN-20201117153046033.csv"), None);
    }

    #[test]
    fn loads_come_before_changes_and_each_in_order() {
        let mut names = ["20240809-192717787.csv", "LOAD00000010.csv", "LOAD0000000F.csv", "20140809-192717787.csv"];
        names.sort_by_key(|name| FileName::parse(name));
        let order = ["LOAD0000000F.csv", "LOAD00000010.csv", "20140809-192717787.csv", "20240809-192717787.csv"];
        assert_eq!(names, order);
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(name: &str, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(name, io::Cursor::new(bytes)).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn a_packed_file_is_unpacked_by_its_name() {
        let two_members = [gzip(b"1,a\n"), gzip(b"2,b\n")].concat();
        assert_eq!(unpacked("a.csv.gz", two_members.clone()).unwrap(), b"1,a\n2,b\n");
        assert_eq!(unpacked("a.csv", two_members.clone()).unwrap(), two_members);
        assert_eq!(unpacked("a.csv.gz", Vec::new()).unwrap(), b"");
    }

    #[test]
    fn a_packed_file_that_ends_early_is_said_to() {
        let mut packed = gzip(b"1,a\n2,b\n");
        packed.truncate(packed.len() - 9);
        assert_eq!(unpacked("a.csv.gz", packed).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn any_name_is_parsed_or_not(name in "(LOAD)?[0-9A-Fa-f-]{0,20}(.csv)?(.gz)?|.*") {
            let _ = (FileName::parse(&name), FileName::of_all_tables(&name), FileName::below_table(&name));
        }

        #[test]
        fn any_packed_bytes_give_text_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = unpacked("a.gz", [&[0x1f, 0x8b, 8, 0][..], &bytes].concat());
        }
    }
}
