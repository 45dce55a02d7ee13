//! How DMS names the files of a table: `LOAD00000001.csv` for the full load, a [`Stamp`] for changes.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use crate::position::Stamp;

/// What a file's name says about it. Loads order before changes, and each in the order in which they were written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileName {
    /// A file of the full load, by its number.
    Load(u32),
    /// A file of changes, by the time it was closed.
    Changes(Stamp),
}

impl FileName {
    /// What `base_name`, without its folder, names; `None` for anything that is no CSV file of DMS.
    ///
    /// The number of a load is upper-case hexadecimal. DMS writes eight digits; the prose of its documentation ("Using
    /// Amazon S3 as a target") has five, so both are read.
    pub fn parse(base_name: &str) -> Option<Self> {
        let stem = base_name.strip_suffix(".csv.gz").or_else(|| base_name.strip_suffix(".csv"))?;
        let Some(number) = stem.strip_prefix("LOAD") else {
            return stem.parse().ok().map(Self::Changes);
        };
        let upper_hex = number.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        if !upper_hex || !(5..=8).contains(&number.len()) {
            return None;
        }
        u32::from_str_radix(number, 16).ok().map(Self::Load)
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
            ("LOAD00000001.parquet", None),
            ("LOAD00000001", None),
            ("load00000001.csv", None),
            ("", None),
        ] {
            assert_eq!(FileName::parse(name), expected.map(FileName::Load), "{name}");
        }
    }

    #[test]
    fn changes_are_named_by_their_stamp() {
        let stamp = "20240809-192717787".parse().unwrap();
        assert_eq!(FileName::parse("20240809-192717787.csv"), Some(FileName::Changes(stamp)));
        assert_eq!(FileName::parse("20240809-192717787.csv.gz"), Some(FileName::Changes(stamp)));
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
            let _ = FileName::parse(&name);
        }

        #[test]
        fn any_packed_bytes_give_text_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = unpacked("a.gz", [&[0x1f, 0x8b, 8, 0][..], &bytes].concat());
        }
    }
}
