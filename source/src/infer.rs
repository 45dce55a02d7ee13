//! A table's types guessed from its full load, for sources without `CREATE TABLE` statements.
//!
//! Every value is looked at, so that no later row of the load can be refused; a column whose values could be read as a
//! number or a date but not written back as they stand (`007`, `+5`) is text.

use std::io::Read;

use crate::dms::cut::{Cutter, Fields};
use crate::dms::layout::Layout;
use crate::dms::names::FileKind;
use crate::dms::records::RecordError;
use crate::dms::settings::S3Settings;
use crate::dms::transformations::TableRules;
use crate::dms::values::{Refusal, number, shown, time};
use crate::schema::{Column, SqlType, TableSchema};

/// What the full load of a table shows about its columns.
pub struct Inference {
    settings: S3Settings,
    longest: usize,
    layout: Layout,
    rules: TableRules,
    key: Vec<String>,
    /// The names in the first file's header.
    header: Option<Vec<String>>,
    /// One for each field after the operation and the time of commit.
    guesses: Option<Vec<Guess>>,
}

impl Inference {
    /// Nothing observed yet; `settings` are those of the endpoint that wrote the files.
    pub fn new(settings: &S3Settings) -> Self {
        let layout = Layout::of(settings, FileKind::Load);
        let rules = TableRules::default();
        let (settings, longest) = (settings.clone(), usize::MAX);
        Self { settings, longest, layout, rules, key: Vec::new(), header: None, guesses: None }
    }

    /// Takes no record of more bytes than these.
    pub fn with_longest(self, bytes: usize) -> Self {
        Self { longest: bytes, ..self }
    }

    /// Leaves out what the task adds to the source's columns; `key` is the configured one.
    pub fn with_rules(self, rules: TableRules, key: &[String]) -> Self {
        Self { rules, key: key.to_vec(), ..self }
    }

    /// Takes in all values of one `LOAD` file, unpacked.
    ///
    /// # Errors
    /// If the file cannot be cut into records of one shape, the same as in the files before it, or is not UTF-8.
    pub fn observe<R: Read>(&mut self, input: R) -> Result<(), RecordError> {
        let mut cutter = Cutter::new(input, &self.settings).with_longest(self.longest);
        let mut fields = Fields::default();
        let mut scratch = Vec::new();
        let stopped = |record, stop| RecordError::stopped(record, stop, |_| None);
        if self.settings.add_column_name {
            if cutter.next(&mut fields).map_err(|stop| stopped(0, stop))?.is_none() {
                return Ok(());
            }
            self.take_header(&cutter.header(&fields).map_err(RecordError::Header)?)?;
        }
        let leading = self.layout.of_load();
        let null_value = self.settings.csv_null_value.as_deref().map(str::as_bytes);
        let mut record = 0;
        while cutter.next(&mut fields).map_err(|stop| stopped(record + 1, stop))?.is_some() {
            record += 1;
            let count = fields.count.checked_sub(leading);
            let guesses = self.guesses.get_or_insert_with(|| vec![Guess::default(); count.unwrap_or_default()]);
            if count != Some(guesses.len()) {
                let expected = leading + guesses.len();
                let reason = format!("it has {} fields and {expected} are expected", fields.count);
                return Err(RecordError::bad(record, reason));
            }
            for (place, (guess, span)) in guesses.iter_mut().zip(fields.spans.iter().skip(leading)).enumerate() {
                let text = cutter.text(*span, &mut scratch);
                if text.is_empty() || null_value == Some(text) {
                    continue;
                }
                if guess.observe(text).is_err() {
                    return Err(RecordError::Bad {
                        record,
                        column: Some(column_name(self.header.as_deref(), place)),
                        value: Some(shown(text)),
                        reason: Refusal::Utf8.reason(&SqlType::Text),
                    });
                }
            }
        }
        Ok(())
    }

    fn take_header(&mut self, header: &[String]) -> Result<(), RecordError> {
        let (_, names) = self.layout.columns_of(header).map_err(RecordError::Header)?;
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(RecordError::Header(format!("{:?} stands there twice", twice.1)));
        }
        match &self.header {
            Some(first) if first != names => {
                let (first, names) = (first.join(", "), names.join(", "));
                Err(RecordError::Header(format!("the header has {names}; that of an earlier file has {first}")))
            }
            _ => {
                self.guesses.get_or_insert_with(|| vec![Guess::default(); names.len()]);
                self.header = Some(names.to_vec());
                Ok(())
            }
        }
    }

    /// The schema in which every observed value can be read: the columns of the source, all of them nullable, and no
    /// primary key.
    ///
    /// # Errors
    /// If no file had a header or a record, or it cannot be told which fields are columns of the source.
    pub fn finish(self) -> Result<TableSchema, String> {
        let guesses = self.guesses.ok_or("the full load has neither a header nor a record to infer columns from")?;
        let header = self.header;
        let is_column: Vec<bool> = match &header {
            Some(names) => names.iter().map(|name| !self.rules.adds(name, names)).collect(),
            None => {
                let columns = self.rules.source_fields(guesses.len(), &self.key)?;
                (0..guesses.len()).map(|field| field < columns).collect()
            }
        };
        let column = |(place, guess): (usize, Guess)| {
            let name = column_name(header.as_deref(), place);
            let is_key = self.key.iter().any(|column| column.eq_ignore_ascii_case(&name));
            Column { sql_type: if is_key { guess.key_type() } else { guess.sql_type() }, name, nullable: true }
        };
        let of_source = guesses.into_iter().enumerate().filter(|(field, _)| is_column[*field]);
        Ok(TableSchema { columns: of_source.map(column).collect(), primary_key: Vec::new() })
    }
}

fn column_name(header: Option<&[String]>, place: usize) -> String {
    header.and_then(|names| names.get(place)).cloned().unwrap_or_else(|| format!("column_{}", place + 1))
}

/// What all values of one column have been so far.
#[derive(Clone, Default)]
struct Guess {
    text: bool,
    whole: bool,
    decimal: bool,
    float: bool,
    date: bool,
    datetime: bool,
    negative: bool,
    beyond_i64: bool,
    beyond_u64: bool,
    /// The most digits before a point, and after it.
    digits: usize,
    scale: usize,
    /// The digits after the point of the first number, or the length of the first time.
    form: Option<usize>,
    /// Some values have another form than the first. A source writes all values of a type in one, but a text may hold any:
    /// as a number `1.1` and `1.10` are the same.
    uneven: bool,
}

impl Guess {
    /// Takes one value in; an error if it is not UTF-8.
    fn observe(&mut self, text: &[u8]) -> Result<(), std::str::Utf8Error> {
        if self.text {
            return str::from_utf8(text).map(drop);
        }
        match text.len() {
            10 if time::date(text).is_ok() => self.date = true,
            19..=29 if time::datetime(text).is_ok() => {
                self.datetime = true;
                self.has_form(text.len());
            }
            _ if self.number(text) => {}
            _ => {
                self.text = true;
                return str::from_utf8(text).map(drop);
            }
        }
        Ok(())
    }

    /// Whether the value is a number, written as numbers are.
    fn number(&mut self, text: &[u8]) -> bool {
        if text.contains(&b'e') || text.contains(&b'E') {
            self.float = true;
            return is_float(text) && number::float64(text).is_ok();
        }
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
            Some(point) => (&digits[..point], Some(&digits[point + 1..])),
            None => (digits, None),
        };
        let all_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        if !all_digits(whole) || fraction.is_some_and(|part| !all_digits(part)) || whole.len() > 1 && whole[0] == b'0' {
            return false;
        }
        self.negative |= digits.len() < text.len();
        self.digits = self.digits.max(whole.len());
        self.has_form(fraction.map_or(0, <[u8]>::len));
        match fraction {
            Some(fraction) => {
                self.decimal = true;
                self.scale = self.scale.max(fraction.len());
            }
            None => {
                self.whole = true;
                self.beyond_i64 |= number::integer(text).is_err();
                self.beyond_u64 |= number::unsigned(digits).is_err();
            }
        }
        // Zero has no sign in a whole number.
        fraction.is_some() || text != b"-0"
    }

    fn has_form(&mut self, form: usize) {
        self.uneven |= *self.form.get_or_insert(form) != form;
    }

    /// The type of a column of the key, where values that are not the same must stay apart.
    fn key_type(&self) -> SqlType {
        if self.uneven { SqlType::Text } else { self.sql_type() }
    }

    fn sql_type(&self) -> SqlType {
        let number = self.whole || self.decimal || self.float;
        match (number, self.date, self.datetime) {
            _ if self.text => SqlType::Text,
            (false, true, false) => SqlType::Date,
            (false, false, true) => SqlType::DateTime(6),
            // Fifteen digits are what a double keeps.
            (true, false, false) if self.float && self.digits + self.scale <= 15 => SqlType::Double,
            (true, false, false) if self.float => SqlType::Text,
            (true, false, false) if self.decimal || self.beyond_u64 || self.beyond_i64 && self.negative => {
                self.decimal_type()
            }
            (true, false, false) if self.beyond_i64 => SqlType::BigInt { unsigned: true },
            (true, false, false) => SqlType::BigInt { unsigned: false },
            _ => SqlType::Text,
        }
    }

    /// Wider than what was seen: changes will bring larger values.
    fn decimal_type(&self) -> SqlType {
        let precision = if self.digits + self.scale <= 15 { 15 } else { 38 };
        match u8::try_from(self.scale) {
            Ok(scale) if scale <= 30 && self.digits + self.scale <= 38 => SqlType::Decimal { precision, scale },
            _ => SqlType::Text,
        }
    }
}

/// Whether the text is a floating-point number as DMS writes them, `+1.25000000e+00`: `1E5` is a code of something.
fn is_float(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    let Some(e) = digits.iter().position(|byte| *byte == b'e') else { return false };
    let (number, exponent) = (&digits[..e], &digits[e + 1..]);
    let fraction = number.get(2..).unwrap_or_default();
    number.first().is_some_and(u8::is_ascii_digit)
        && number.get(1) == Some(&b'.')
        && !fraction.is_empty()
        && fraction.iter().all(u8::is_ascii_digit)
        && exponent.len() >= 3
        && b"+-".contains(&exponent[0])
        && exponent[1..].iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dms::mappings::Mappings;
    use crate::dms::records::RecordReader;
    use crate::dms::shape::Shape;
    use crate::name::TableName;
    use crate::schema::DatetimeAs;
    use proptest::prelude::*;

    fn inferred(settings: &S3Settings, files: &[&str]) -> Result<TableSchema, String> {
        let mut inference = Inference::new(settings);
        for file in files {
            inference.observe(file.as_bytes()).map_err(|error| error.to_string())?;
        }
        inference.finish()
    }

    #[test]
    fn numbers_of_several_forms_are_texts_in_a_key() {
        let of = |file: &str, key: &str| {
            let key = [key.to_string()];
            let mut inference = Inference::new(&S3Settings::default()).with_rules(TableRules::default(), &key);
            inference.observe(file.as_bytes()).unwrap();
            told(&inference.finish().unwrap())
        };
        assert_eq!(of("1.1,1.1\n1.10,1.10\n", "column_1"), "column_1 TEXT, column_2 DECIMAL(15,2)");
        assert_eq!(of("1.10,1\n2.20,2\n", "column_1"), "column_1 DECIMAL(15,2), column_2 BIGINT");
        assert_eq!(of("1,1\n1.0,2\n", "COLUMN_1"), "column_1 TEXT, column_2 BIGINT");
        let times = "2024-01-01 10:00:00,1\n2024-01-01 10:00:00.0,2\n";
        assert_eq!(of(times, "column_1"), "column_1 TEXT, column_2 BIGINT");
    }

    fn told(schema: &TableSchema) -> String {
        schema.columns.iter().map(|c| format!("{} {}", c.name, c.sql_type)).collect::<Vec<_>>().join(", ")
    }

    /// The type of a column with these values.
    fn check(values: &[&str], expected: &str) {
        let file = values.iter().map(|value| format!("{value},\n")).collect::<String>();
        let schema = inferred(&S3Settings::default(), &[&file]).unwrap();
        assert_eq!(schema.columns[0].sql_type.to_string(), expected, "{values:?}");
    }

    #[test]
    fn whole_numbers_are_the_narrowest_of_the_wide_types() {
        check(&["1", "", "-5"], "BIGINT");
        check(&["9223372036854775808", "1"], "BIGINT UNSIGNED");
        check(&["9223372036854775808", "-1"], "DECIMAL(38,0)");
        check(&["18446744073709551616"], "DECIMAL(38,0)");
        check(&[&"9".repeat(39)], "TEXT");
    }

    #[test]
    fn what_would_not_be_written_back_is_text() {
        for value in ["007", "+5", "-0", "00.5", ".5", "5.", "1;5", "0x1", "nan"] {
            check(&["1", value], "TEXT");
        }
    }

    #[test]
    fn decimals_are_widened() {
        check(&["21000.00", "1", "-0.125"], "DECIMAL(15,3)");
        check(&["1234567890123.456"], "DECIMAL(38,3)");
        check(&["123456789012345678901234567890.123456789"], "TEXT");
    }

    #[test]
    fn floats_dates_and_times_are_seen_by_their_form() {
        check(&["+3.23800011e+01", "-1.5e-300"], "DOUBLE");
        check(&["12", "1E5"], "TEXT");
        check(&["1e5"], "TEXT");
        check(&["1996-07-04", "0000-00-00", ""], "DATE");
        check(&["2018-06-11 18:11:52", "2018-06-11 18:11:52.123456"], "DATETIME(6)");
        check(&["1996-07-04", "2018-06-11 18:11:52"], "TEXT");
        check(&["1996-07-04", "5"], "TEXT");
        check(&["", ""], "TEXT");
        check(&["", "x"], "TEXT");
    }

    #[test]
    fn names_come_from_the_header() {
        let settings = S3Settings { add_column_name: true, include_op_for_full_load: true, ..S3Settings::default() };
        let schema = inferred(&settings, &["Op,id,name\nI,1,a\n", "", "Op,id,name\nI,2,b\n"]).unwrap();
        assert_eq!(told(&schema), "id BIGINT, name TEXT");
        let error = inferred(&settings, &["Op,id\nI,1\n", "Op,ID\nI,1\n"]).unwrap_err();
        assert_eq!(error, "header: the header has ID; that of an earlier file has id");
    }

    #[test]
    fn without_a_header_columns_are_counted() {
        let schema = inferred(&S3Settings::default(), &["1,a\n2,b\n"]).unwrap();
        assert_eq!(told(&schema), "column_1 BIGINT, column_2 TEXT");
        let error = inferred(&S3Settings::default(), &["1,a\n", "2\n"]).unwrap_err();
        assert_eq!(error, "record 1: it has 1 fields and 2 are expected");
        assert!(inferred(&S3Settings::default(), &[""]).is_err());
    }

    #[test]
    fn what_the_task_adds_is_no_column_of_the_source() {
        let added = |settings: S3Settings, filter: &str, file: &str| {
            let of = |action: &str, more: &str| {
                format!(
                    r#"{{"rule-type": "transformation", "rule-target": "column", "rule-action": "{action}", {more},
                    "object-locator": {{"schema-name": "%", "table-name": "%"}}}}"#
                )
            };
            let before =
                of("add-before-image-columns", &format!(r#""before-image-def": {{"column-filter": "{filter}"}}"#));
            let sequence = of("add-column", r#""value": "seq", "expression": "$AR_H_CHANGE_SEQ""#);
            let all = r#"{"rule-type": "selection", "rule-action": "include",
                "object-locator": {"schema-name": "%", "table-name": "%"}}"#;
            let mappings = Mappings::parse(&format!(r#"{{"rules": [{all}, {before}, {sequence}]}}"#)).unwrap();
            let rules = mappings.rules(&TableName::new("s", "t"));
            let mut inference = Inference::new(&settings).with_rules(rules, &["column_1".to_owned()]);
            inference.observe(file.as_bytes()).unwrap();
            inference.finish().map(|schema| told(&schema))
        };
        let header = || S3Settings { add_column_name: true, ..S3Settings::default() };
        assert_eq!(added(header(), "pk-only", "id,n,seq,BI_id\n1,a,,\n").unwrap(), "id BIGINT, n TEXT");
        assert_eq!(added(S3Settings::default(), "pk-only", "1,a,,\n").unwrap(), "column_1 BIGINT, column_2 TEXT");
        assert_eq!(added(S3Settings::default(), "all", "1,a,,,\n").unwrap(), "column_1 BIGINT, column_2 TEXT");
        assert!(added(S3Settings::default(), "all", "1,a,,\n").unwrap_err().contains("before images"));
        assert!(added(S3Settings::default(), "non-lob", "1,a,,\n").unwrap_err().contains("AddColumnName"));
    }

    proptest! {
        #[test]
        fn every_observed_record_can_be_read(
            records in proptest::collection::vec(
                "(-?[0-9]{1,22}|[0-9]{1,3}.[0-9]{1,3}|[+-][0-9].[0-9]{3}e[+-]0[0-9]|\
                  202[34]-0[0-3]-[0-3][0-9]( 10:00:00)?|[a,\" ]{0,3}|)",
                1..6,
            ),
        ) {
            let quoted = |field: &String| format!("\"{}\",\n", field.replace('"', "\"\""));
            let file: String = records.iter().map(quoted).collect();
            let settings = S3Settings::default();
            let schema = inferred(&settings, &[&file]).unwrap();
            let shape = Shape::of(schema).guessed().into();
            let ntz = DatetimeAs::TimestampNtz;
            let mut reader = RecordReader::new(file.as_bytes(), &settings, FileKind::Load, shape, ntz);
            prop_assert_eq!(reader.next(100).unwrap().unwrap().operations.len(), records.len());
        }

        #[test]
        fn any_bytes_give_a_schema_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), header in any::<bool>(),
        ) {
            let mut inference = Inference::new(&S3Settings { add_column_name: header, ..S3Settings::default() });
            if inference.observe(&bytes[..]).is_ok() {
                let _ = inference.finish();
            }
        }
    }
}
