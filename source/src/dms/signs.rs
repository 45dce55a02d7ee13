//! Signs that a file is not of the form that the settings leave it to be by default: its records could then be read, and
//! would give wrong rows.

use memchr::memchr_iter;

use super::names::FileKind;
use super::settings::{RowDelimiter, S3Settings};

/// So many bytes of a file are looked at.
pub const LOOKED_AT: usize = 4096;

/// What is likely of the file of which `bytes` are the first, if anything. What a setting says is no default.
pub fn sign(bytes: &[u8], settings: &S3Settings, kind: FileKind) -> Option<&'static str> {
    if settings.csv_row_delimiter != RowDelimiter::Byte(b'\n') {
        return None;
    }
    let ends: Vec<_> = memchr_iter(b'\n', bytes).collect();
    let returns = ends.iter().all(|end| bytes[..*end].ends_with(b"\r"));
    if returns && !ends.is_empty() && !settings.says("CsvRowDelimiter") {
        return Some(
            "every line ends with a carriage return: if it is a part of the row delimiter, CsvRowDelimiter in s3_settings \
             must be \"\\r\\n\", and if the last values end so, \"\\n\"",
        );
    }
    let begins_with_operation = |start: usize| bytes[start..].starts_with(&[b'I', settings.csv_delimiter]);
    let starts = ends.split_last().map(|(_, before)| [0].into_iter().chain(before.iter().map(|end| end + 1)));
    // one row may have this value
    let operations = ends.len() > 1 && starts.is_some_and(|mut starts| starts.all(begins_with_operation));
    let has_none = kind == FileKind::Load && !settings.include_op_for_full_load && !settings.add_column_name;
    (operations && has_none && !settings.says("IncludeOpForFullLoad")).then_some(
        "the first field of every record is I: if the endpoint sets IncludeOpForFullLoad, s3_settings must say so, and if \
         these are values, that it is false",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, settings: &str) -> Option<&'static str> {
        sign(text.as_bytes(), &S3Settings::parse(settings).unwrap(), FileKind::Load)
    }

    #[test]
    fn carriage_returns_at_the_end_of_all_lines_are_one() {
        assert!(load("1,x\r\n2,y\r\n3", "{}").unwrap().contains("CsvRowDelimiter"));
        assert!(sign(b"U,1,x\r\n", &S3Settings::default(), FileKind::Changes).is_some());
        for (text, settings) in [
            ("1,x\r\n2,y\n", "{}"),
            ("1,\"x\r\ny\"\n", "{}"),
            ("", "{}"),
            ("1,x\r\n", r#"{"CsvRowDelimiter": "\\n"}"#),
            ("1,x\r\n", r#"{"CsvRowDelimiter": "\\r\\n"}"#),
        ] {
            assert_eq!(load(text, settings), None, "{text} {settings}");
        }
    }

    #[test]
    fn operations_in_the_place_of_a_column_are_one() {
        assert!(load("I,x\nI,y\nI,", "{}").unwrap().contains("IncludeOpForFullLoad"));
        assert_eq!(sign(b"I,x\nI,y\n", &S3Settings::default(), FileKind::Changes), None);
        for (text, settings) in [
            ("I,x\n", "{}"),
            ("I,x\nJ,y\n", "{}"),
            ("I,x\nI,y\n", r#"{"IncludeOpForFullLoad": false}"#),
            ("I,x\nI,y\n", r#"{"IncludeOpForFullLoad": true}"#),
            ("I,x\nI,y\n", r#"{"AddColumnName": true}"#),
        ] {
            assert_eq!(load(text, settings), None, "{text} {settings}");
        }
    }
}
