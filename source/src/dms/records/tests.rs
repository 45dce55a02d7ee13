//! Files in, rows out.

use super::*;
use crate::dms::cut::Stop;
use crate::dms::layout;
use crate::dms::names::decompress;
use crate::dms::settings::{RowDelimiter, WrittenChanges};
use crate::schema::tests::any_sql_type;
use crate::schema::{Column, TableSchema};
use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::DataType;
use proptest::prelude::*;
use proptest::sample::select;

/// `id INT!; name TEXT` and the like, where `!` means NOT NULL.
fn columns(text: &str) -> Arc<Shape> {
    let column = |text: &str| {
        let (name, sql_type) = text.trim().split_once(' ').unwrap();
        let nullable = !sql_type.ends_with('!');
        Column { name: name.into(), sql_type: sql_type.trim_end_matches('!').parse().unwrap(), nullable }
    };
    shape(text.split(';').map(column).collect())
}

fn shape(columns: Vec<Column>) -> Arc<Shape> {
    Arc::new(Shape::of(TableSchema { columns, primary_key: Vec::new() }))
}

/// One row for each record, such as `I 1 a`, with `-` for NULL and the error at last.
fn read(input: impl Read, settings: &S3Settings, kind: FileKind, columns: Arc<Shape>) -> Vec<String> {
    let mut reader = RecordReader::new(input, settings, kind, columns, DatetimeAs::default());
    let mut told = Vec::new();
    loop {
        match reader.next(1) {
            Ok(Some(rows)) => told.push(tell(&rows)),
            Ok(None) => return told,
            Err(error) => {
                told.push(error.to_string());
                return told;
            }
        }
    }
}

fn tell(rows: &Rows) -> String {
    let mut told = format!("{:?}", rows.operations[0])[..1].to_owned();
    for column in rows.columns.columns() {
        told.push(' ');
        told.push_str(&if column.is_null(0) { "-".to_owned() } else { value(column) });
    }
    told
}

fn value(column: &dyn Array) -> String {
    use arrow::datatypes as t;
    match column.data_type() {
        DataType::Int8 => column.as_primitive::<t::Int8Type>().value(0).to_string(),
        DataType::Int16 => column.as_primitive::<t::Int16Type>().value(0).to_string(),
        DataType::Int32 => column.as_primitive::<t::Int32Type>().value(0).to_string(),
        DataType::Int64 => column.as_primitive::<t::Int64Type>().value(0).to_string(),
        DataType::Float32 => column.as_primitive::<t::Float32Type>().value(0).to_string(),
        DataType::Float64 => column.as_primitive::<t::Float64Type>().value(0).to_string(),
        DataType::Decimal128(..) => column.as_primitive::<t::Decimal128Type>().value_as_string(0),
        DataType::Boolean => column.as_boolean().value(0).to_string(),
        DataType::Date32 => format!("d{}", column.as_primitive::<t::Date32Type>().value(0)),
        DataType::Timestamp(..) => format!("t{}", column.as_primitive::<t::TimestampMicrosecondType>().value(0)),
        DataType::Binary => format!("{:?}", column.as_binary::<i32>().value(0)),
        _ => format!("'{}'", column.as_string::<i32>().value(0)),
    }
}

fn check(table: &str, file: &str, expected: &[&str]) {
    check_with(&S3Settings::default(), table, file, expected);
}

fn check_with(settings: &S3Settings, table: &str, file: &str, expected: &[&str]) {
    assert_eq!(read(file.as_bytes(), settings, FileKind::Changes, columns(table)), expected, "{file:?}");
}

fn check_load(settings: &S3Settings, table: &str, file: &str, expected: &[&str]) {
    assert_eq!(read(file.as_bytes(), settings, FileKind::Load, columns(table)), expected, "{file:?}");
}

#[test]
fn changes_begin_with_their_operation() {
    check("id INT!; name TEXT", "I,1,a\nU,1,\"b, c\"\nD,1,\n", &["I 1 'a'", "U 1 'b, c'", "D 1 -"]);
    check("id INT!", "X,1\n", &["record 1: column Op: \"X\" is an unknown operation; I, U and D are known"]);
    check("id INT!", "i,1\n", &["record 1: column Op: \"i\" is an unknown operation; I, U and D are known"]);
    check("id INT!", ",1\n", &["record 1: column Op: \"\" is an unknown operation; I, U and D are known"]);
}

#[test]
fn a_load_has_an_operation_only_if_the_settings_say_so() {
    check_load(&S3Settings::default(), "id INT!; name TEXT", "1,a\n", &["I 1 'a'"]);
    let settings = S3Settings { include_op_for_full_load: true, ..S3Settings::default() };
    check_load(&settings, "id INT!", "I,1\n,2\n", &["I 1", "I 2"]);
    check_load(
        &settings,
        "id INT!",
        "U,1\n",
        &["record 1: column Op: \"U\" is an unknown operation; a full load has I alone"],
    );
}

#[test]
fn the_time_of_commit_stands_after_the_operation() {
    let settings = S3Settings { timestamp_column_name: Some("ts".into()), ..S3Settings::default() };
    check_with(&settings, "id INT!", "I,2024-06-12 10:28:17.806650,1\n", &["I 1"]);
    check_load(&settings, "id INT!", "2024-06-12 10:28:17.806650,1\n", &["I 1"]);
    check_with(
        &settings,
        "id INT!",
        "I\n",
        &["record 1: column ts is missing: the record has 1 of 3 fields; is CsvDelimiter another one?"],
    );
}

#[test]
fn a_header_may_name_the_columns_in_any_order() {
    let settings = S3Settings { add_column_name: true, ..S3Settings::default() };
    check_with(&settings, "id INT!; Name TEXT", "Op,name,ID\nI,a,1\n", &["I 1 'a'"]);
    check_with(&settings, "id INT!", "", &[]);
    check_with(&settings, "id INT!", "Op,id\n", &[]);
    check_with(&settings, "id INT!", "Op,id", &["header: the file ends without its last row delimiter"]);
    check_with(
        &settings,
        "id INT!; a TEXT",
        "Op,id,b\n",
        &[&format!(
            "header: \"b\" is no column of the table; the file has id, b; the table has id, a{}",
            layout::REMEDY
        )],
    );
    check_with(&settings, "id INT!; a TEXT; b INT", "Op,b,id\nI,5,1\n", &["I 1 - 5"]);
    check_with(
        &settings,
        "id INT!; a TEXT!",
        "Op,id\n",
        &["header: \"a\" is missing; the file has id; the table has id, a"],
    );
    check_with(
        &settings,
        "id INT!",
        "Op,id,ID\n",
        &["header: \"ID\" stands there twice; the file has id, ID; the table has id"],
    );
    let told = read(&b"id,a\n"[..], &settings, FileKind::Changes, columns("id INT!; a TEXT"));
    assert!(told[0].contains("Op is expected as column 1 and id stands there"), "{}", told[0]);
}

#[test]
fn too_few_fields_name_the_first_missing_column_and_too_many_their_number() {
    let before = "record 1: column b is missing: the record has 3 of 4 fields; if the column was added since then, merge \
                  the files of before with the CREATE TABLE of then (run --until the last stamp of before) and go on \
                  with this one";
    check("id INT!; a TEXT; b TEXT", "I,1,x\n", &[before]);
    check(
        "id INT!",
        "I,1\nI,1,2,3\n",
        &["I 1", &format!("record 2: it has 4 fields and 2 are expected{}", layout::REMEDY)],
    );
    check(
        "id INT!",
        "I,1\n\n",
        &["I 1", "record 2: column id is missing: the record has 1 of 2 fields; is CsvDelimiter another one?"],
    );
}

#[test]
fn records_are_counted_with_their_line_breaks() {
    let file = "I,1,\"a\nb\n\"\nI,19x4,c\n";
    check("Year INT; n TEXT", file, &["I 1 'a\nb\n'", "record 2: column Year: \"19x4\" is not an INT"]);
}

#[test]
fn an_empty_field_is_null_where_that_can_be() {
    check("a INT; b TEXT; c DATE; d VARBINARY", "I,,,,\n", &["I - - - -"]);
    check("a TEXT!; b VARBINARY!; c BINARY(2)!", "I,,,\n", &["I '' [] [0, 0]"]);
    check("a DATE!; b DATETIME!; c TIME!; d YEAR!", "I,,,,\n", &["I - - - -"]);
    check("a INT!", "I,\n", &["record 1: column a has no value and is INT NOT NULL"]);
    check("a INT!; b TEXT!; c TEXT; d DECIMAL(4,2)!", "D,,,,\n", &["D - '' - -"]);
    check("a INT; b TEXT; c TEXT!", "I,\"\",\"\",\"\"\n", &["I - '' ''"]);
}

#[test]
fn a_delete_has_its_key() {
    let read_with_key = |table: &str, file: &'static str| {
        let reader = RecordReader::new(
            file.as_bytes(),
            &S3Settings::default(),
            FileKind::Changes,
            columns(table),
            DatetimeAs::TimestampNtz,
        );
        reader.with_key(&[0], DatetimeAs::TimestampNtz).next(10).map(|rows| rows.map(|rows| tell(&rows)))
    };
    assert_eq!(read_with_key("a INT!; b INT!", "D,1,\n").unwrap().unwrap(), "D 1 -");
    let error = read_with_key("a INT!; b INT!", "D,,\n").unwrap_err().to_string();
    assert_eq!(error, "record 1: column a has no value and is INT NOT NULL");
    assert_eq!(read_with_key("a INT; b INT!", "D,,\n").unwrap().unwrap(), "D - -");
    for time in ["TIME", "YEAR", "DATE"] {
        let error = read_with_key(&format!("a {time}!; b INT!"), "I,,5\n").unwrap_err().to_string();
        assert!(error.starts_with("record 1: column a"), "{error}");
    }
}

#[test]
fn a_header_that_the_settings_do_not_tell_of_is_no_row() {
    let header =
        "record 1: it has the names of the columns; if the endpoint sets AddColumnName, s3_settings must say so";
    check_load(&S3Settings::default(), "k TEXT!; v TEXT", "k,v\na,1\n", &[header]);
    check_load(&S3Settings::default(), "k TEXT!; v TEXT", "a,1\nk,v\n", &["I 'a' '1'", "I 'k' 'v'"]);
    check_load(&S3Settings::default(), "word TEXT!", "word\n", &["I 'word'"]);
}

#[test]
fn a_null_value_tells_null_from_empty() {
    let settings = S3Settings { csv_null_value: Some("NULL".into()), ..S3Settings::default() };
    check_with(&settings, "a INT; b TEXT; c TEXT!", "I,NULL,NULL,\nU,,,x\n", &["I - - ''", "U - '' 'x'"]);
    check_with(&settings, "a INT; b TEXT", "I,\"NULL\",\"NULL\"\n", &["I - -"]);
    check_with(&settings, "a TEXT!; b DATE!", "I,NULL,NULL\n", &["I 'NULL' -"]);
    check_with(&settings, "a INT!", "I,NULL\n", &["record 1: column a has no value and is INT NOT NULL"]);
    check("a TEXT", "I,NULL\n", &["I 'NULL'"]);
}

#[test]
fn a_blank_line_is_a_row_of_one_null() {
    check_load(&S3Settings::default(), "a TEXT", "x\n\ny\n", &["I 'x'", "I -", "I 'y'"]);
}

#[test]
fn every_type_is_read_or_refused_in_its_words() {
    for (sql_type, text, expected) in [
        ("TINYINT", "-128", "-128"),
        ("TINYINT", "300", "\"300\" does not fit TINYINT"),
        ("TINYINT UNSIGNED", "255", "255"),
        ("TINYINT UNSIGNED", "-1", "\"-1\" does not fit TINYINT UNSIGNED"),
        ("SMALLINT UNSIGNED", "65536", "\"65536\" does not fit SMALLINT UNSIGNED"),
        ("MEDIUMINT", "8388608", "\"8388608\" does not fit MEDIUMINT"),
        ("MEDIUMINT UNSIGNED", "16777215", "16777215"),
        ("INT UNSIGNED", "4294967295", "4294967295"),
        ("INT", " 5", "\" 5\" is not an INT"),
        ("BIGINT", "-9223372036854775808", "-9223372036854775808"),
        ("BIGINT UNSIGNED", "18446744073709551615", "18446744073709551615"),
        ("DECIMAL(10,2)", "117300.00", "117300.00"),
        ("DECIMAL(10,2)", "12.345", "\"12.345\" has digits after its point that do not fit DECIMAL(10,2)"),
        ("DECIMAL(10,2)", "123456789.1", "\"123456789.1\" does not fit DECIMAL(10,2)"),
        (
            "DECIMAL(65,1)",
            "123456789012345678901234567890123456789012.5",
            "'123456789012345678901234567890123456789012.5'",
        ),
        ("FLOAT", "+3.23800011e+01", "32.38"),
        ("DOUBLE", "nan", "\"nan\" is not a DOUBLE"),
        ("BIT(1)", "true", "true"),
        ("BIT(12)", "0fff", "4095"),
        ("BIT(64)", "0102", "[0, 0, 0, 0, 0, 0, 1, 2]"),
        ("DATE", "1996-07-04", "d9681"),
        ("DATE", "1996-02-30", "\"1996-02-30\" is not a DATE that exists"),
        ("DATE", "0000-00-00", "-"),
        ("DATETIME", "1970-01-01 00:00:01.5", "t1500000"),
        ("DATETIME(3)", "1970-01-01 00:00:01.000001", "t1000001"),
        ("DATETIME", "1970-01-01", "\"1970-01-01\" is not a DATETIME"),
        ("TIMESTAMP(6)", "2024-00-15 10:00:00", "-"),
        ("TIME", "-838:59:59", "'-838:59:59'"),
        ("TIME", "noon", "\"noon\" is not a TIME"),
        ("YEAR", "2024", "2024"),
        ("TEXT", "München", "'München'"),
        ("BINARY(3)", "0xFf", "[255, 0, 0]"),
        ("VARBINARY", "abc", "\"abc\" is not a VARBINARY"),
    ] {
        let told = read(
            format!("I,{text}\n").as_bytes(),
            &S3Settings::default(),
            FileKind::Changes,
            columns(&format!("a {sql_type}")),
        );
        let (row, error) = (format!("I {expected}"), format!("record 1: column a: {expected}"));
        assert!(told == [row] || told == [error], "{sql_type} {text}: {told:?}");
    }
}

#[test]
fn zero_dates_are_counted() {
    let file = b"I,0000-00-00,0000-00-00 00:00:00,\nI,,,2024-00-01\nD,,,\n";
    let columns = columns("a DATE; b DATETIME; c DATE!");
    let mut reader =
        RecordReader::new(&file[..], &S3Settings::default(), FileKind::Changes, columns, DatetimeAs::default());
    let rows = reader.next(10).unwrap().unwrap();
    assert_eq!((rows.zero_dates.iter().sum::<u64>(), rows.columns.num_rows(), rows.first_record), (4, 3, 1));
    assert_eq!(reader.records(), 3);
}

#[test]
fn rows_have_the_schema_of_their_table() {
    let columns = columns("a BIGINT UNSIGNED; b DATETIME; c TIMESTAMP; d DECIMAL(5,1)");
    for datetime in [DatetimeAs::TimestampNtz, DatetimeAs::Timestamp] {
        let mut reader =
            RecordReader::new(&b"I,,,,\n"[..], &S3Settings::default(), FileKind::Changes, columns.clone(), datetime);
        assert_eq!(reader.next(10).unwrap().unwrap().columns.schema(), columns.schema.arrow(datetime));
    }
}

#[test]
fn batches_follow_one_another() {
    let file = "1\n2\n3\n4\n5\n";
    let mut reader = RecordReader::new(
        file.as_bytes(),
        &S3Settings::default(),
        FileKind::Load,
        columns("a INT"),
        DatetimeAs::default(),
    );
    let mut told = Vec::new();
    while let Some(rows) = reader.next(2).unwrap() {
        told.push((rows.first_record, rows.operations.len(), rows.columns.num_rows()));
    }
    assert_eq!(told, [(1, 2, 2), (3, 2, 2), (5, 1, 1)]);
}

#[test]
fn a_file_that_is_not_whole_is_cut() {
    check("a INT", "I,1\nI,2", &["I 1", "record 2: the file ends without its last row delimiter"]);
    check("a TEXT", "I,\"2", &["record 1: the file ends inside quotes"]);
    check("a TEXT", "I,\"2\"x\n", &[&format!("record 1: column a {}", Stop::AFTER_QUOTE)]);
}

#[test]
fn a_packed_file_that_ends_early_is_cut_after_its_whole_records() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(b"I,1\nI,2\n").unwrap();
    let mut packed = encoder.finish().unwrap();
    packed.truncate(packed.len() - 10);
    let input = decompress("a.csv.gz", std::io::Cursor::new(packed));
    let told = read(input, &S3Settings::default(), FileKind::Changes, columns("a INT"));
    assert_eq!(told, ["I 1", "record 2: the packed file ends early"]);
}

#[test]
fn text_must_be_utf8_and_its_column_is_named() {
    let told = read(&b"I,L\xfcneburg\n"[..], &S3Settings::default(), FileKind::Changes, columns("city TEXT"));
    assert_eq!(told, ["record 1: column city: \"L\u{fffd}neburg\" is not UTF-8"]);
}

#[test]
fn a_long_value_is_shortened_in_messages() {
    let told = read(
        format!("I,\"{}\n\"\n", "é".repeat(500)).as_bytes(),
        &S3Settings::default(),
        FileKind::Changes,
        columns("a INT"),
    );
    assert_eq!(told, [format!("record 1: column a: \"{}…\" is not an INT", "é".repeat(80))]);
    check("a INT", "I,\"1\n2\"\n", &["record 1: column a: \"1\\n2\" is not an INT"]);
}

#[test]
fn after_an_error_nothing_is_read() {
    let mut reader = RecordReader::new(
        &b"x\n1\n"[..],
        &S3Settings::default(),
        FileKind::Load,
        columns("a INT"),
        DatetimeAs::default(),
    );
    assert!(reader.next(1).is_err());
    assert!(reader.next(1).unwrap_err().to_string().contains("earlier error"));
}

fn any_settings() -> impl Strategy<Value = S3Settings> {
    let changes = [WrittenChanges::All, WrittenChanges::Inserts, WrittenChanges::InsertsAndUpdates];
    (any::<[bool; 7]>(), select(changes.to_vec())).prop_map(
        |([op, null, rfc4180, header, crlf, timestamp, no_sup], changes)| S3Settings {
            changes,
            csv_no_sup_value: no_sup.then(|| "a".to_owned()),
            include_op_for_full_load: op,
            csv_null_value: null.then(|| "NULL".to_owned()),
            rfc4180,
            add_column_name: header,
            csv_row_delimiter: if crlf { RowDelimiter::CrLf } else { RowDelimiter::Byte(b'\n') },
            timestamp_column_name: timestamp.then(|| "ts".to_owned()),
            ..S3Settings::default()
        },
    )
}

/// Gives at most `step` bytes at a time.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

proptest! {
    #[test]
    fn any_bytes_give_rows_or_an_error(
        bytes in "([IUD],)?(Op|ts|a|b|[-+.:0-9]{0,12}|NULL|\"|,|\r?\n|2024-01-01 10:00:00|é| ){0,12}\n?",
        noise in proptest::collection::vec(any::<u8>(), 0..20),
        settings in any_settings(),
        load in any::<bool>(),
        types in proptest::collection::vec((any_sql_type(), any::<bool>()), 0..4),
        least in 0usize..5,
    ) {
        let column = |(name, (sql_type, nullable)): (&str, _)| Column { name: name.into(), sql_type, nullable };
        let mut columns = shape(["a", "b", "c", "d"].into_iter().zip(types).map(column).collect());
        let all = *columns.known_widths.end();
        Arc::make_mut(&mut columns).known_widths = least.min(all)..=all;
        let kind = if load { FileKind::Load } else { FileKind::Changes };
        let bytes = [bytes.as_bytes(), &noise].concat();
        let whole = read(&bytes[..], &settings, kind, columns.clone());
        prop_assert_eq!(read(Drip(&bytes, 1 + noise.len() % 3), &settings, kind, columns), whole);
    }

    #[test]
    fn what_is_written_as_dms_does_comes_back(
        records in proptest::collection::vec(("[a,\"\n é]{0,6}", any::<i32>(), any::<u64>()), 1..6),
    ) {
        let quoted = |field: &str| match field.contains([',', '"', '\n']) {
            true => format!("\"{}\"", field.replace('"', "\"\"")),
            false => field.to_owned(),
        };
        let line = |(text, int, big): &(String, i32, u64)| format!("{},{int},{big}\n", quoted(text));
        let file: String = records.iter().map(line).collect();
        let columns = columns("text TEXT!; int INT!; big BIGINT UNSIGNED!");
        let mut reader =
            RecordReader::new(file.as_bytes(), &S3Settings::default(), FileKind::Load, columns, DatetimeAs::default());
        let rows = reader.next(100).unwrap().unwrap();
        let texts: StringArray = records.iter().map(|(text, _, _)| Some(text.as_str())).collect();
        prop_assert_eq!(rows.columns.column(0).as_string::<i32>(), &texts);
        for (row, (_, int, big)) in records.iter().enumerate() {
            use arrow::datatypes::{Decimal128Type, Int32Type};
            prop_assert_eq!(rows.columns.column(1).as_primitive::<Int32Type>().value(row), *int);
            prop_assert_eq!(rows.columns.column(2).as_primitive::<Decimal128Type>().value(row), i128::from(*big));
        }
    }
}

#[test]
fn a_header_that_was_not_told_of_is_refused_in_any_case() {
    let column = |name: &str| Column { name: name.to_owned(), sql_type: SqlType::Text, nullable: true };
    let columns = vec![column("a"), column("b")];
    let shape = Arc::new(Shape::of(TableSchema { columns, primary_key: vec![] }));
    let (settings, input) = (S3Settings::default(), "A,B\n1,2\n".as_bytes());
    let mut reader = RecordReader::new(input, &settings, FileKind::Load, shape, DatetimeAs::default());
    assert!(reader.next(9).unwrap_err().to_string().contains("AddColumnName"));
}
