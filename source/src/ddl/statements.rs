//! Splits a dump into statements while it streams by, and keeps only those that may say what tables there are.
//!
//! Comments are dropped and the contents of executable ones (`/*!40101 ... */`) stay, as the server sees them.

use std::io::{self, ErrorKind, Read};

use memchr::{memchr, memchr2};

/// No statement is kept beyond this many bytes: a `CREATE TABLE` has at most 4096 columns.
pub(super) const LONGEST: usize = 16 << 20;

/// A statement that may matter, without comments and without its delimiter.
pub(super) struct Statement {
    pub text: Vec<u8>,
    /// False if it was longer than [`LONGEST`] and `text` is only its beginning.
    pub whole: bool,
}

pub(super) struct Statements<R> {
    bytes: Bytes<R>,
    delimiter: Vec<u8>,
    /// Within `/*! ... */`: its contents count as statement text.
    executable: bool,
}

impl<R: Read> Statements<R> {
    pub fn new(input: R) -> Self {
        Self { bytes: Bytes::new(input), delimiter: b";".to_vec(), executable: false }
    }

    /// The next statement that begins with `CREATE`, `ALTER`, `RENAME`, `DROP` or `USE`.
    pub fn next(&mut self) -> io::Result<Option<Statement>> {
        let mut text = Text::default();
        loop {
            let Some(byte) = self.bytes.peek(0)? else { return Ok(text.finish()) };
            if byte == self.delimiter[0] && self.bytes.starts_with(&self.delimiter)? {
                self.bytes.skip(self.delimiter.len());
                if let Some(statement) = std::mem::take(&mut text).finish() {
                    return Ok(Some(statement));
                }
                continue;
            }
            match byte {
                b'\'' | b'"' | b'`' => self.quoted(byte, &mut text)?,
                b'#' => self.bytes.skip_past(b'\n')?,
                b'-' if self.at_dashes()? => self.bytes.skip_past(b'\n')?,
                b'/' if self.bytes.starts_with(b"/*")? => self.comment(&mut text)?,
                b'*' if self.executable && self.bytes.starts_with(b"*/")? => {
                    self.bytes.skip(2);
                    self.executable = false;
                    text.push(b' ', false);
                }
                // `USE db` is a command of the client, which ends with its line.
                b'\n' if text.is_use() => {
                    self.bytes.skip(1);
                    return Ok(text.finish());
                }
                _ => self.plain(byte, &mut text)?,
            }
        }
    }

    fn plain(&mut self, byte: u8, text: &mut Text) -> io::Result<()> {
        self.bytes.skip(1);
        text.push(byte, self.executable);
        match text.kind {
            Kind::Skipped => self.bytes.skip_plain(self.delimiter[0]),
            Kind::Delimiter => {
                let line = self.bytes.line(64)?;
                let word = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty());
                if let Some(delimiter) = word {
                    self.delimiter = delimiter.to_vec();
                }
                *text = Text::default();
            }
            Kind::Unknown | Kind::Kept => {}
        }
        Ok(())
    }

    /// Copies a string or a quoted name; a doubled quote closes it and opens the next one, which comes to the same.
    fn quoted(&mut self, quote: u8, text: &mut Text) -> io::Result<()> {
        text.push(quote, self.executable);
        self.bytes.skip(1);
        loop {
            let rest = self.bytes.rest()?;
            if rest.is_empty() {
                return Ok(());
            }
            let stop = if quote == b'`' { memchr(quote, rest) } else { memchr2(quote, b'\\', rest) };
            let plain = stop.unwrap_or(rest.len());
            text.extend(&rest[..plain]);
            self.bytes.skip(plain);
            if stop.is_none() {
                continue;
            }
            let escape = self.bytes.peek(0)? == Some(b'\\');
            for _ in 0..=usize::from(escape) {
                if let Some(byte) = self.bytes.peek(0)? {
                    text.extend(&[byte]);
                    self.bytes.skip(1);
                }
            }
            if !escape {
                return Ok(());
            }
        }
    }

    /// `--` begins a comment only if white space or nothing follows (MySQL manual, "Comments").
    fn at_dashes(&mut self) -> io::Result<bool> {
        Ok(self.bytes.starts_with(b"--")? && self.bytes.peek(2)?.is_none_or(|b| b.is_ascii_whitespace()))
    }

    fn comment(&mut self, text: &mut Text) -> io::Result<()> {
        let executable = if self.bytes.starts_with(b"/*!")? {
            self.bytes.skip(3);
            true
        } else if self.bytes.starts_with(b"/*M!")? {
            self.bytes.skip(4);
            true
        } else {
            self.bytes.skip(2);
            false
        };
        text.push(b' ', false);
        // No server has version 999999: mariadb-dump uses it to hide its "enable the sandbox mode" line.
        if executable && self.version()? < 999_999 {
            self.executable = true;
            return Ok(());
        }
        loop {
            self.bytes.skip_past(b'*')?;
            match self.bytes.peek(0)? {
                Some(b'/') => {
                    self.bytes.skip(1);
                    return Ok(());
                }
                None => return Ok(()),
                Some(_) => {}
            }
        }
    }

    fn version(&mut self) -> io::Result<u32> {
        let mut version = 0;
        for _ in 0..6 {
            match self.bytes.peek(0)? {
                Some(digit) if digit.is_ascii_digit() => version = version * 10 + u32::from(digit - b'0'),
                _ => break,
            }
            self.bytes.skip(1);
        }
        Ok(version)
    }
}

/// What the first word of a statement makes of it.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[default]
    Unknown,
    Kept,
    Skipped,
    Delimiter,
}

/// The text of the statement at hand, as far as it is kept.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    kind: Kind,
    cut: bool,
    /// It begins within an executable comment: older versions of `mysqldump` create placeholders for views so.
    placeholder: bool,
}

impl Text {
    fn push(&mut self, byte: u8, executable: bool) {
        if self.kind == Kind::Unknown {
            if self.bytes.is_empty() {
                if byte.is_ascii_whitespace() {
                    return;
                }
                self.placeholder = executable;
            }
            // No first word that matters is longer than DELIMITER.
            if !byte.is_ascii_alphabetic() || self.bytes.len() > 9 {
                self.kind = self.kind_of_first_word();
            }
        }
        self.extend(&[byte]);
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.kind == Kind::Skipped {
            return;
        }
        if self.bytes.len() + bytes.len() > LONGEST {
            self.cut = true;
        } else if !self.cut {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn kind_of_first_word(&self) -> Kind {
        let is = |word: &str| self.bytes.eq_ignore_ascii_case(word.as_bytes());
        match () {
            () if is("create") && self.placeholder => Kind::Skipped,
            () if is("create") || is("alter") || is("rename") || is("drop") || is("use") => Kind::Kept,
            () if is("delimiter") => Kind::Delimiter,
            () => Kind::Skipped,
        }
    }

    fn is_use(&self) -> bool {
        self.kind == Kind::Kept
            && self.bytes.get(..3).is_some_and(|word| word.eq_ignore_ascii_case(b"use"))
            && self.bytes.len() > 3 + self.bytes[3..].iter().take_while(|b| b.is_ascii_whitespace()).count()
    }

    fn finish(self) -> Option<Statement> {
        (self.kind == Kind::Kept).then_some(Statement { text: self.bytes, whole: !self.cut })
    }
}

/// The input with a few bytes of looking ahead.
struct Bytes<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Bytes<R> {
    fn new(input: R) -> Self {
        Self { input, buffer: vec![0; 64 << 10], start: 0, end: 0 }
    }

    fn peek(&mut self, ahead: usize) -> io::Result<Option<u8>> {
        while self.end - self.start <= ahead {
            if !self.fill()? {
                return Ok(None);
            }
        }
        Ok(Some(self.buffer[self.start + ahead]))
    }

    /// Reads once more behind what is there; false at the end of the input.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn starts_with(&mut self, text: &[u8]) -> io::Result<bool> {
        for (ahead, expected) in text.iter().enumerate() {
            if self.peek(ahead)? != Some(*expected) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is in memory, at least one byte unless the input is at its end.
    fn rest(&mut self) -> io::Result<&[u8]> {
        self.peek(0)?;
        Ok(&self.buffer[self.start..self.end])
    }

    fn skip(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    fn skip_past(&mut self, byte: u8) -> io::Result<()> {
        loop {
            let rest = self.rest()?;
            let (found, seen) = (memchr(byte, rest), rest.len());
            self.skip(found.map_or(seen, |at| at + 1));
            if found.is_some() || seen == 0 {
                return Ok(());
            }
        }
    }

    /// Skips, within what is in memory, everything that cannot end a statement or begin a string or a comment.
    fn skip_plain(&mut self, delimiter: u8) {
        let plain = |b: &u8| !matches!(b, b'\'' | b'"' | b'`' | b'#' | b'-' | b'/' | b'*') && *b != delimiter;
        self.start += self.buffer[self.start..self.end].iter().take_while(|b| plain(b)).count();
    }

    /// The rest of the line, of which at most `limit` bytes are kept.
    fn line(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while let Some(byte) = self.peek(0)? {
            self.skip(1);
            if byte == b'\n' {
                break;
            }
            if line.len() < limit {
                line.push(byte);
            }
        }
        Ok(line)
    }
}
