//! Cuts a file into records and these into fields, in place and without copying.
//!
//! Cut with memchr and not with csv-core, which skips blank lines (a NULL in a table of one column), cannot tell `""`
//! from nothing, and takes text after a closing quote as if it belonged there.

use std::io::{self, ErrorKind, Read};

use memchr::{memchr, memchr2};

use super::settings::{RowDelimiter, S3Settings};
use super::values::shown;

/// No record may be longer: with an open quote the rest of the file would be one. DMS cuts LOBs at 100 MB.
const LONGEST: usize = 512 << 20;

/// The first size of the buffer, which grows to the longest record.
const BUFFER: usize = 128 << 10;

/// No table has more columns than 4,096; of a record with more fields than this only the number is kept.
const MOST_FIELDS: usize = 5_000;

/// Where a field lies in the buffer, without its quotes.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: u32,
    end: u32,
    quotes: Quotes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Around,
    /// Around it, and doubled within it.
    Doubled,
}

impl Span {
    /// An empty field that stands nowhere.
    pub const NOTHING: Span = Span { start: 0, end: 0, quotes: Quotes::None };

    pub fn quoted(self) -> bool {
        self.quotes != Quotes::None
    }
}

/// The fields of the record at hand.
#[derive(Default)]
pub(crate) struct Fields {
    pub spans: Vec<Span>,
    /// How many there are, although not all may be in `spans`.
    pub count: usize,
}

/// Why cutting stops before the end.
pub(crate) enum Stop {
    /// Something follows the closing quote of this field, counted from 0.
    AfterQuote(usize),
    /// More bytes than these.
    TooLong(usize),
    /// The file ends where a complete one cannot end.
    Cut(&'static str),
    Io(io::Error),
}

impl Stop {
    pub const AFTER_QUOTE: &str =
        "has text after its closing quote; do the settings have another Rfc4180 or delimiter?";

    /// Why a record of more bytes than these is none.
    pub fn too_long(bytes: usize) -> String {
        let hint = if bytes < LONGEST { " if it is as it should be, raise run.memory_limit" } else { "" };
        let longest = bytes >> 20;
        format!("it is longer than {longest} MiB; is a quote left open, or is CsvRowDelimiter another one?{hint}")
    }

    /// Whether it may be that only the rest of a record has not come.
    pub fn is_at_end(&self) -> bool {
        matches!(self, Self::Cut(_))
    }
}

/// The records of one file.
pub(crate) struct Cutter<R> {
    input: R,
    delimiter: u8,
    row: RowDelimiter,
    quoting: bool,
    longest: usize,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Nothing has been read yet, so a byte order mark may follow.
    fresh: bool,
    ended: bool,
    /// Told only when the complete records before it have been cut.
    failed: Option<io::Error>,
}

impl<R: Read> Cutter<R> {
    pub fn new(input: R, settings: &S3Settings) -> Self {
        Self {
            input,
            delimiter: settings.csv_delimiter,
            row: settings.csv_row_delimiter,
            quoting: settings.rfc4180,
            longest: LONGEST,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            fresh: true,
            ended: false,
            failed: None,
        }
    }

    /// Takes no record of more bytes than these.
    pub fn with_longest(self, bytes: usize) -> Self {
        Self { longest: bytes.clamp(BUFFER, LONGEST), ..self }
    }

    /// Cuts the next record into `fields` and gives its length in bytes, or `None` at the end of the file.
    pub fn next(&mut self, fields: &mut Fields) -> Result<Option<usize>, Stop> {
        if self.fresh {
            self.fresh = false;
            self.fill()?;
            if self.buffer[..self.end].starts_with(b"\xEF\xBB\xBF") {
                self.start = 3;
            }
        }
        loop {
            match self.scan(fields) {
                Scan::Record(next) => {
                    let length = next - self.start;
                    self.start = next;
                    return Ok(Some(length));
                }
                Scan::AfterQuote => return Err(Stop::AfterQuote(fields.count)),
                Scan::More { in_quotes } => {
                    if !self.fill()? {
                        return self.at_end(in_quotes).map(|()| None);
                    }
                }
            }
        }
    }

    /// The last record, which was so many bytes long, as it stands in the file, without its row delimiter.
    pub fn record(&self, length: usize) -> &[u8] {
        let delimiter = match self.row {
            RowDelimiter::Byte(_) => 1,
            RowDelimiter::CrLf => 2,
        };
        &self.buffer[self.start - length..self.start - delimiter]
    }

    /// What has come behind the last record.
    pub fn left(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The bytes of a field of the last record, undoubled into `scratch` if they must be.
    pub fn text<'a>(&'a self, span: Span, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let text = &self.buffer[span.start as usize..span.end as usize];
        if span.quotes != Quotes::Doubled {
            return text;
        }
        scratch.clear();
        let mut rest = text;
        while let Some(quote) = memchr(b'"', rest) {
            scratch.extend_from_slice(&rest[..=quote]);
            rest = rest.get(quote + 2..).unwrap_or_default();
        }
        scratch.extend_from_slice(rest);
        scratch
    }

    /// The names that the record at hand holds.
    pub(crate) fn header(&self, fields: &Fields) -> Result<Vec<String>, String> {
        let mut scratch = Vec::new();
        let mut name = |span: &Span| {
            let name = self.text(*span, &mut scratch);
            str::from_utf8(name).map(str::to_owned).map_err(|_| format!("the name \"{}\" is not UTF-8", shown(name)))
        };
        fields.spans.iter().map(&mut name).collect()
    }

    fn at_end(&mut self, in_quotes: bool) -> Result<(), Stop> {
        match self.failed.take() {
            Some(error) if error.kind() == ErrorKind::UnexpectedEof => Err(Stop::Cut("the packed file ends early")),
            Some(error) => Err(Stop::Io(error)),
            None if self.start == self.end => Ok(()),
            None if in_quotes => Err(Stop::Cut("the file ends inside quotes")),
            None if self.row != RowDelimiter::Byte(b'\n') => {
                Err(Stop::Cut("the file ends without its last row delimiter; is CsvRowDelimiter another one?"))
            }
            None => Err(Stop::Cut("the file ends without its last row delimiter")),
        }
    }

    /// Reads until the buffer is full, so that a long record is scanned anew only when what is there has doubled.
    /// False if nothing came.
    fn fill(&mut self) -> Result<bool, Stop> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.buffer.len() {
            if self.buffer.len() >= self.longest {
                return Err(Stop::TooLong(self.longest));
            }
            self.buffer.resize((self.buffer.len() * 2).min(self.longest), 0);
        }
        let before = self.end;
        while !self.ended && self.end < self.buffer.len() {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = Some(error);
                    self.ended = true;
                }
            }
        }
        Ok(self.end > before)
    }

    fn scan(&self, fields: &mut Fields) -> Scan {
        fields.spans.clear();
        fields.count = 0;
        let bytes = &self.buffer[..self.end];
        let mut at = self.start;
        loop {
            let quoted = self.quoting && bytes.get(at) == Some(&b'"');
            let field = if quoted { self.quoted(bytes, at + 1) } else { self.plain(bytes, at) };
            let (span, next) = match field {
                Ok(field) => field,
                Err(scan) => return scan,
            };
            if fields.count < MOST_FIELDS {
                fields.spans.push(span);
            }
            fields.count += 1;
            match next {
                Next::Field(next) => at = next,
                Next::Record(next) => return Scan::Record(next),
            }
        }
    }

    /// A field that begins without a quote; quotes within it are data.
    #[inline]
    fn plain(&self, bytes: &[u8], start: usize) -> Result<(Span, Next), Scan> {
        let last = match self.row {
            RowDelimiter::Byte(byte) => byte,
            RowDelimiter::CrLf => b'\n',
        };
        let mut from = start;
        loop {
            let Some(found) = memchr2(self.delimiter, last, &bytes[from..]) else {
                return Err(Scan::More { in_quotes: false });
            };
            let end = from + found;
            if bytes[end] == self.delimiter {
                return Ok((Span::new(start, end, Quotes::None), Next::Field(end + 1)));
            }
            match self.row {
                RowDelimiter::Byte(_) => return Ok((Span::new(start, end, Quotes::None), Next::Record(end + 1))),
                RowDelimiter::CrLf if end > start && bytes[end - 1] == b'\r' => {
                    return Ok((Span::new(start, end - 1, Quotes::None), Next::Record(end + 1)));
                }
                // A line feed alone is data where a record ends with both.
                RowDelimiter::CrLf => from = end + 1,
            }
        }
    }

    /// A field whose opening quote stands before `start`.
    fn quoted(&self, bytes: &[u8], start: usize) -> Result<(Span, Next), Scan> {
        let mut quotes = Quotes::Around;
        let mut from = start;
        loop {
            let Some(found) = bytes.get(from..).and_then(|rest| memchr(b'"', rest)) else {
                return Err(Scan::More { in_quotes: true });
            };
            let end = from + found;
            let after = bytes.get(end + 1).copied().ok_or(Scan::More { in_quotes: false })?;
            if after == b'"' {
                quotes = Quotes::Doubled;
                from = end + 2;
                continue;
            }
            let span = Span::new(start, end, quotes);
            return match self.row {
                _ if after == self.delimiter => Ok((span, Next::Field(end + 2))),
                RowDelimiter::Byte(byte) if after == byte => Ok((span, Next::Record(end + 2))),
                RowDelimiter::CrLf if after == b'\r' => match bytes.get(end + 2) {
                    None => Err(Scan::More { in_quotes: false }),
                    Some(b'\n') => Ok((span, Next::Record(end + 3))),
                    Some(_) => Err(Scan::AfterQuote),
                },
                _ => Err(Scan::AfterQuote),
            };
        }
    }
}

impl Span {
    /// The buffer is never longer than [`LONGEST`], so its places fit 32 bits.
    #[inline]
    fn new(start: usize, end: usize, quotes: Quotes) -> Self {
        Self { start: start as u32, end: end as u32, quotes }
    }
}

enum Scan {
    Record(usize),
    More { in_quotes: bool },
    AfterQuote,
}

enum Next {
    Field(usize),
    Record(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives at most `step` bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    /// The records as text: fields between bars, quoted ones with a `q` before them, and the error at last.
    fn cut(input: impl Read, settings: &S3Settings, buffer: usize) -> Vec<String> {
        let mut cutter = Cutter::new(input, settings);
        cutter.buffer = vec![0; buffer];
        let (mut fields, mut told) = (Fields::default(), Vec::new());
        loop {
            match cutter.next(&mut fields) {
                Ok(Some(_)) => {
                    let field = |span: &Span| {
                        let mut scratch = Vec::new();
                        let text = String::from_utf8_lossy(cutter.text(*span, &mut scratch)).into_owned();
                        if span.quoted() { format!("q{text}") } else { text }
                    };
                    told.push(fields.spans.iter().map(field).collect::<Vec<_>>().join("|"));
                }
                Ok(None) => return told,
                Err(stop) => {
                    told.push(match stop {
                        Stop::AfterQuote(field) => format!("after quote {field}"),
                        Stop::TooLong(bytes) => format!("longer than {bytes}"),
                        Stop::Cut(reason) => reason.to_owned(),
                        Stop::Io(error) => error.to_string(),
                    });
                    return told;
                }
            }
        }
    }

    fn check(input: &str, expected: &[&str]) {
        assert_eq!(cut(input.as_bytes(), &S3Settings::default(), BUFFER), expected, "{input:?}");
    }

    #[test]
    fn records_are_cut_at_delimiters_outside_quotes() {
        check("1,a\n2,b\n", &["1|a", "2|b"]);
        check("1,\"a, \"\"b\"\"\nc\",2\n", &["1|qa, \"b\"\nc|2"]);
        check("a\"b,c \"d\"\n", &["a\"b|c \"d\""]);
        check("", &[]);
    }

    #[test]
    fn blank_lines_and_quoted_nothing_are_seen() {
        check("\n\n", &["", ""]);
        check(",\"\"\n\"\"\n", &["|q", "q"]);
        check("\"\"\"\"\n", &["q\""]);
    }

    #[test]
    fn text_after_a_closing_quote_is_refused() {
        check("1,2\n1,\"a\"b\n", &["1|2", "after quote 1"]);
    }

    #[test]
    fn a_record_has_no_more_bytes_than_it_may() {
        let longest = BUFFER * 3 / 2;
        let cut = |length: usize| {
            let text = format!("1\n\"{}\"\n2\n", "x".repeat(length));
            let mut cutter = Cutter::new(text.as_bytes(), &S3Settings::default()).with_longest(longest);
            let mut fields = Fields::default();
            (0..3).map_while(|_| cutter.next(&mut fields).ok().flatten()).count()
        };
        assert_eq!((cut(BUFFER), cut(longest - 3), cut(longest)), (3, 3, 1));
    }

    #[test]
    fn a_file_that_ends_early_is_told_after_its_whole_records() {
        check("1\n2", &["1", "the file ends without its last row delimiter"]);
        check("1\n2,", &["1", "the file ends without its last row delimiter"]);
        check("1\n\"2", &["1", "the file ends inside quotes"]);
        check("\"2\"", &["the file ends without its last row delimiter"]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_beginning_only() {
        check("\u{feff}1\n\u{feff}2\n", &["1", "\u{feff}2"]);
        check("\u{feff}", &[]);
    }

    #[test]
    fn cr_lf_ends_a_record_only_as_a_pair() {
        let settings = S3Settings { csv_row_delimiter: RowDelimiter::CrLf, ..S3Settings::default() };
        let cut = |text: &str| cut(text.as_bytes(), &settings, BUFFER);
        assert_eq!(cut("1,a\r\n2,b\nc\r,\r\n\r\n"), ["1|a", "2|b\nc\r|", ""]);
        assert_eq!(cut("\"a\r\nb\"\r\n"), ["qa\r\nb"]);
        assert_eq!(cut("\"a\"\rb\r\n"), ["after quote 0"]);
        assert_eq!(cut("a\n"), ["the file ends without its last row delimiter; is CsvRowDelimiter another one?"]);
        check("1,a\r\n", &["1|a\r"]);
    }

    #[test]
    fn without_rfc4180_a_quote_is_a_character() {
        let settings = S3Settings { rfc4180: false, ..S3Settings::default() };
        assert_eq!(cut(&b"\"a,b\"\n\"\n"[..], &settings, BUFFER), ["\"a|b\"", "\""]);
    }

    proptest! {
        #[test]
        fn the_cut_does_not_depend_on_how_the_input_is_chunked(
            text in "[a,\"\n\r]{0,40}", step in 1usize..7, buffer in 1usize..9, crlf in any::<bool>(),
        ) {
            let row = if crlf { RowDelimiter::CrLf } else { RowDelimiter::Byte(b'\n') };
            let settings = S3Settings { csv_row_delimiter: row, ..S3Settings::default() };
            let whole = cut(text.as_bytes(), &settings, BUFFER);
            prop_assert_eq!(cut(Drip(text.as_bytes(), step), &settings, buffer.max(3)), whole);
        }

        #[test]
        fn what_is_quoted_as_dms_does_comes_back(
            records in proptest::collection::vec(proptest::collection::vec("[a,\"\n é]{0,6}", 1..5), 0..6),
        ) {
            let quoted = |field: &String| match field.contains([',', '"', '\n']) {
                true => format!("\"{}\"", field.replace('"', "\"\"")),
                false => field.clone(),
            };
            let line = |record: &Vec<String>| record.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
            let file: String = records.iter().map(line).collect();
            let mark = |field: &String| if field.contains([',', '"', '\n']) { "q" } else { "" };
            let marked = |field: &String| format!("{}{field}", mark(field));
            let expected: Vec<_> = records.iter().map(|r| r.iter().map(marked).collect::<Vec<_>>().join("|")).collect();
            prop_assert_eq!(cut(file.as_bytes(), &S3Settings::default(), BUFFER), expected);
        }
    }
}
