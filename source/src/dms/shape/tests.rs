//! Columns and rules in; a table's columns and the rows of its records out.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;
use crate::dms::names::FileKind;
use crate::dms::records::{Operation, RecordReader, Rows};
use crate::dms::transformations::tests::{mappings, rule};
use crate::name::TableName;

/// `id INT!; name TEXT` and the like, where `!` means NOT NULL; the first column is the primary key.
fn schema(text: &str) -> TableSchema {
    let column = |text: &str| {
        let (name, sql_type) = text.trim().split_once(' ').unwrap();
        let nullable = !sql_type.ends_with('!');
        Column { name: name.into(), sql_type: sql_type.trim_end_matches('!').parse().unwrap(), nullable }
    };
    let columns: Vec<_> = text.split(';').map(column).collect();
    TableSchema { primary_key: vec![columns[0].name.clone()], columns }
}

fn described(schema: &TableSchema) -> Described<'_> {
    Described { schema, of: Of::Source, key: &[], generated: &[], chars: Some(&[]), lobs: Some(&[]), wanted: &[] }
}

fn shape(rules: &[String], described: &Described<'_>, settings: &S3Settings) -> Result<Shape, String> {
    let rules = mappings(rules).unwrap().rules(&TableName::new("shop", "orders"));
    Shape::new(&rules, described, settings)
}

fn told(shape: &Shape) -> String {
    let column = |c: &Column| format!("{} {}{}", c.name, c.sql_type, if c.nullable { "" } else { "!" });
    let columns: Vec<_> = shape.schema.columns.iter().map(column).collect();
    format!("{} [{}]", columns.join("; "), shape.schema.primary_key.join(", "))
}

fn check(columns: &str, rules: &[String], expected: &str) {
    let schema = schema(columns);
    let shape = shape(rules, &described(&schema), &S3Settings::default());
    assert_eq!(shape.map(|shape| told(&shape)), Ok(expected.to_owned()), "{rules:?}");
}

fn refused(columns: &str, rules: &[String], expected: &str) {
    let schema = schema(columns);
    let error = shape(rules, &described(&schema), &S3Settings::default()).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

fn sequence() -> String {
    rule(50, "add-column", "%.%.x", r#""value": "seq", "expression": "$AR_H_CHANGE_SEQ""#)
}

fn before(filter: &str) -> String {
    let definition = format!(r#""before-image-def": {{"column-prefix": "b_", "column-filter": "{filter}"}}"#);
    rule(60, "add-before-image-columns", "%.%.%", &definition)
}

#[test]
fn columns_are_named_typed_and_left_out_by_their_rules() {
    let columns = "id INT!; name TEXT; born DATE";
    check(columns, &[], "id INT!; name TEXT; born DATE [id]");
    check(columns, &[rule(1, "rename", "shop.orders.id", r#""value": "no""#)], "no INT!; name TEXT; born DATE [no]");
    check(columns, &[rule(1, "convert-uppercase", "%.%.%", "")], "ID INT!; NAME TEXT; BORN DATE [ID]");
    check(columns, &[rule(1, "remove-column", "%.%.n_me", "")], "id INT!; born DATE [id]");
    let included = [rule(1, "include-column", "%.%.name", ""), rule(2, "include-column", "%.%.born", "")];
    check(columns, &included, "name TEXT; born DATE []");
    let typed = rule(1, "change-data-type", "%.%.id", r#""data-type": {"type": "string", "length": "20"}"#);
    check(columns, &[typed], "id TEXT!; name TEXT; born DATE [id]");
    let decimal =
        rule(1, "change-data-type", "%.%.id", r#""data-type": {"type": "numeric", "precision": 20, "scale": 4}"#);
    check(columns, &[decimal], "id DECIMAL(20,4)!; name TEXT; born DATE [id]");
    check(columns, &[rule(1, "data-masking-hash-mask", "%.%.born", "")], "id INT!; name TEXT; born TEXT [id]");
    let digits = rule(1, "data-masking-digits-mask", "%.%.id", r##""value": "#""##);
    check(columns, &[digits], "id INT!; name TEXT; born DATE [id]");
}

#[test]
fn of_renaming_rules_of_one_column_the_lowest_number_counts_and_other_kinds_beside_it() {
    let rules = [
        rule(3, "convert-uppercase", "%.%.%", ""),
        rule(2, "rename", "shop.orders.id", r#""value": "no""#),
        rule(4, "change-data-type", "shop.orders.id", r#""data-type": {"type": "int8"}"#),
        rule(5, "change-data-type", "shop.orders.age", r#""data-type": {"type": "int8"}"#),
        rule(6, "data-masking-hash-mask", "shop.orders.age", ""),
    ];
    check("id INT!; name TEXT; age INT", &rules, "no BIGINT!; NAME TEXT; AGE TEXT [no]");
}

#[test]
fn a_schema_that_has_the_new_name_already_is_taken_as_it_is() {
    let rules =
        [rule(1, "rename", "shop.orders.id", r#""value": "no""#), rule(2, "add-prefix", "%.%.%", r#""value": "c_""#)];
    check("no INT!; name TEXT", &rules, "no INT!; c_name TEXT [no]");
    let schema = schema("c_id INT!; c_name TEXT");
    let of_lake = Described { of: Of::Lake, ..described(&schema) };
    let prefixed = shape(&rules, &of_lake, &S3Settings::default()).unwrap();
    assert_eq!(told(&prefixed), "c_id INT!; c_name TEXT [c_id]");
}

#[test]
fn two_columns_of_one_name_are_refused() {
    refused(
        "id INT!; a TEXT",
        &[rule(1, "rename", "%.%.a", r#""value": "ID""#)],
        "the columns id and a the same name ID",
    );
    refused("id INT!", &[rule(1, "remove-column", "%.%.%", "")], "no column");
}

#[test]
fn added_columns_come_last_and_those_about_the_change_not_at_all() {
    let source =
        rule(2, "add-column", "%.%.x", r#""value": "src", "expression": "'a'", "data-type": {"type": "int4"}"#);
    check("id INT!; name TEXT", &[sequence(), source.clone()][..1], "id INT!; name TEXT [id]");
    check("id INT!; name TEXT", &[source.clone(), sequence()], "id INT!; name TEXT; src INT [id]");
    // the configured schema has it, in its place
    check("id INT!; src BIGINT!; name TEXT", std::slice::from_ref(&source), "id INT!; name TEXT; src BIGINT [id]");
    refused("id INT!", &[sequence(), source], "another order");
    let schema = schema("id INT!");
    let wanted = ["seq".to_owned()];
    let shape = shape(&[sequence()], &Described { wanted: &wanted, ..described(&schema) }, &S3Settings::default());
    assert_eq!(told(&shape.unwrap()), "id INT!; seq TEXT [id]");
}

#[test]
fn the_defined_key_is_named_as_in_the_lake() {
    let rules = [
        rule(1, "define-primary-key", "shop.orders", r#""primary-key-def": {"columns": ["b", "id"]}"#),
        rule(2, "convert-uppercase", "%.%.%", ""),
    ];
    let schema = schema("id INT!; b TEXT");
    let shape = shape(&rules, &described(&schema), &S3Settings::default()).unwrap();
    assert_eq!(shape.defined_key, Some(vec!["B".to_owned(), "ID".to_owned()]));
    assert_eq!((shape.position_of("b"), shape.position_of("ID"), shape.position_of("x")), (Some(1), Some(0), None));
    let wrong = rule(1, "define-primary-key", "%.%", r#""primary-key-def": {"columns": ["x"]}"#);
    refused("id INT!", &[wrong], "names x, which is no column");
}

/// The rows of a file of changes, one line for each.
fn read(shape: Shape, settings: &S3Settings, key: &[usize], file: &str) -> Result<Rows, String> {
    let mut reader =
        RecordReader::new(file.as_bytes(), settings, FileKind::Changes, Arc::new(shape), DatetimeAs::default())
            .with_key(key, DatetimeAs::default());
    reader.next(100).map(Option::unwrap).map_err(|error| error.to_string())
}

/// One line for each row, NULL as `-`.
fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("-");
    let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    let line = |row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" ");
    (0..batch.num_rows()).map(line).collect()
}

fn rows(rows: &Rows) -> Vec<String> {
    lines(&rows.columns)
}

fn orders(rules: &[String], settings: &S3Settings) -> Shape {
    let schema = schema("id INT!; name TEXT; n INT");
    shape(rules, &described(&schema), settings).unwrap()
}

#[test]
fn fields_that_the_task_adds_are_told_by_their_place_or_their_name() {
    let rules = [sequence(), before("pk-only")];
    let settings = S3Settings::default();
    let file = "I,1,a,5,77,\nU,2,b,6,78,1\nD,3,,,79,\n";
    let read_rows = read(orders(&rules, &settings), &settings, &[0], file).unwrap();
    assert_eq!(rows(&read_rows), ["1 a 5", "2 b 6", "3 - -"]);
    let sequences: Vec<_> = read_rows.sequences.as_ref().unwrap().iter().flatten().collect();
    assert_eq!(sequences, ["77", "78", "79"]);
    let old = read_rows.old_keys.unwrap();
    assert_eq!((old.rows, old.keys.num_rows()), (vec![1], 1));

    let settings = S3Settings { add_column_name: true, ..settings };
    let file = "Op,b_id,n,seq,id,name\nU,1,6,78,2,b\n";
    let by_name = read(orders(&rules, &settings), &settings, &[0], file).unwrap();
    assert_eq!(rows(&by_name), ["2 b 6"]);
    assert_eq!(by_name.old_keys.unwrap().rows, [0]);
    // without them nothing is told
    let by_name = read(orders(&rules, &settings), &settings, &[0], "Op,id,name\nU,2,b\n").unwrap();
    assert_eq!((by_name.old_keys, by_name.sequences.unwrap().iter().flatten().count()), (None, 0));
}

#[test]
fn an_old_key_is_what_the_before_images_hold_if_they_hold_anything() {
    let schema = TableSchema { primary_key: vec!["a".into(), "b".into()], ..schema("a INT!; b TEXT!; c TEXT") };
    for filter in ["pk-only", "all"] {
        let settings = S3Settings::default();
        let shape = shape(&[before(filter)], &described(&schema), &settings).unwrap();
        let c = if filter == "all" { "," } else { "" };
        // unchanged, changed, filled though unchanged, and changed to and from the empty text
        let file = ["U,1,x,c,,", "U,2,x,c,1,x", "U,1,x,c,1,x", "U,1,,c,1,y", "U,1,y,c,1,", "D,1,y,c,5,z"]
            .map(|line| format!("{line}{c}\n"))
            .concat();
        let old = read(shape, &settings, &[1, 0], &file).unwrap().old_keys.unwrap();
        assert_eq!(old.rows, [1, 3, 4], "{filter}");
        assert_eq!(lines(&old.keys), ["x 1", "y 1", " 1"]);
    }
}

#[test]
fn an_empty_text_may_be_an_old_key() {
    let schema = schema("code TEXT!; n INT");
    // where NULL has a text of its own, and where another before image is filled
    let with_null = S3Settings { csv_null_value: Some("\\N".into()), ..S3Settings::default() };
    for (settings, filter, file) in
        [(with_null, "pk-only", "U,new,1,\nU,same,1,\\N\n"), (S3Settings::default(), "all", "U,new,1,,1\nU,same,1,,\n")]
    {
        let shape = shape(&[before(filter)], &described(&schema), &settings).unwrap();
        let old = read(shape, &settings, &[0], file).unwrap().old_keys.unwrap();
        assert_eq!((old.rows, lines(&old.keys)), (vec![0], vec![String::new()]), "{filter}");
    }
}

#[test]
fn an_empty_before_image_of_a_number_tells_nothing() {
    let schema = schema("id INT!; v TEXT");
    let settings = S3Settings { csv_null_value: Some("NULL".into()), ..S3Settings::default() };
    let shape = shape(&[before("pk-only")], &described(&schema), &settings).unwrap();
    let old = read(shape, &settings, &[0], "U,1,a,\nU,2,b,NULL\nU,3,c,4\n").unwrap().old_keys.unwrap();
    assert_eq!((old.rows, lines(&old.keys)), (vec![2], vec!["4".to_owned()]));
}

#[test]
fn of_a_key_column_without_before_image_the_old_value_is_the_new_one() {
    let schema = schema("id INT!; day TEXT");
    let settings = S3Settings::default();
    let shape = shape(&[before("pk-only")], &described(&schema), &settings).unwrap();
    let old = read(shape, &settings, &[0, 1], "U,2,mon,1\n").unwrap().old_keys.unwrap();
    assert_eq!(lines(&old.keys), ["1 mon"]);
}

#[test]
fn lobs_may_have_no_before_images() {
    let schema = schema("id INT!; doc TEXT; n INT");
    let lobs = ["doc".to_owned()];
    let with_lobs = |lobs| Described { lobs, ..described(&schema) };
    let settings = S3Settings::default();
    let non_lob = shape(&[before("non-lob")], &with_lobs(Some(&lobs)), &settings).unwrap();
    assert_eq!(read(non_lob, &settings, &[0], "U,2,d,5,1,5\n").unwrap().old_keys.unwrap().rows, [0]);
    assert!(shape(&[before("non-lob")], &with_lobs(None), &settings).unwrap_err().contains("CREATE TABLE"));
    let header = S3Settings { add_column_name: true, ..settings };
    assert!(shape(&[before("non-lob")], &with_lobs(None), &header).is_ok());
}

#[test]
fn a_delete_may_come_as_an_update_that_its_indicator_marks() {
    let flag = rule(1, "add-column", "%.%.x", r#""value": "flag", "expression": "operation_indicator('D', 'U', 'I')""#);
    let settings = S3Settings::default();
    let read = read(orders(&[flag], &settings), &settings, &[0], "U,1,a,5,D\nU,2,b,6,U\nI,3,c,7,I\n").unwrap();
    assert_eq!(read.operations, [Operation::Delete, Operation::Update, Operation::Insert]);
    assert_eq!(rows(&read), ["1 a 5", "2 b 6", "3 c 7"]);
}

#[test]
fn what_an_update_does_not_tell_is_unchanged() {
    let settings = S3Settings { csv_no_sup_value: Some("?".into()), ..S3Settings::default() };
    let of = |file: &str| read(orders(&[], &settings), &settings, &[0], file);
    let read = of("U,1,?,5\nU,2,b,?\nD,3,?,?\n").unwrap();
    assert_eq!(rows(&read), ["1 - 5", "2 b -", "3 - -"]);
    let set = |column: usize| read.unchanged[column].as_ref().map(|bits| bits.set_indices().collect::<Vec<_>>());
    assert_eq!((set(0), set(1), set(2)), (None, Some(vec![0]), Some(vec![1])));
    assert!(of("U,1,a,5\n").unwrap().unchanged.is_empty());
    for file in ["I,1,?,5\n", "U,?,a,5\n", "D,?,,\n"] {
        assert!(of(file).unwrap_err().contains("\"?\" is CsvNoSupValue"), "{file}");
    }
}

#[test]
fn a_char_is_as_long_as_its_text() {
    let schema = schema("id INT!; code TEXT; name TEXT");
    let chars = ["code".to_owned()];
    let settings = S3Settings { add_trailing_padding_character: true, ..S3Settings::default() };
    let padded = shape(&[], &Described { chars: Some(&chars), ..described(&schema) }, &settings).unwrap();
    let read = read(padded, &settings, &[0], "I,1,ab  ,cd  \nI,2,   ,\nI,3,,x\n").unwrap();
    use arrow::array::{Array, AsArray};
    let (codes, names) = (read.columns.column(1).as_string::<i32>(), read.columns.column(2).as_string::<i32>());
    assert_eq!((codes.value(0), codes.value(1), codes.is_null(2), names.value(0)), ("ab", "", true, "cd  "));
    let untold = Described { chars: None, ..described(&schema) };
    assert!(shape(&[], &untold, &settings).unwrap_err().contains("AddTrailingPaddingCharacter"));
}

#[test]
fn records_of_known_widths_lack_only_columns_at_the_end() {
    let settings = S3Settings::default();
    let of = |least: usize, rules: &[String], file: &str| {
        let mut shape = orders(rules, &settings);
        shape.known_widths = least..=3;
        read(shape, &settings, &[0], file).map(|read| rows(&read))
    };
    assert!(of(3, &[], "I,1,a\n").is_err());
    assert_eq!(of(2, &[], "I,1,a\nI,2,b,5\nI,3,c\n").unwrap(), ["1 a -", "2 b 5", "3 c -"]);
    assert!(of(2, &[], "I,1\n").unwrap_err().contains("column name is missing"));
    assert!(of(0, &[], "I\n").unwrap_err().contains("column id is missing"));
    assert!(of(2, &[], "I,1,a,5,6\n").unwrap_err().contains("5 fields and 4 are expected"));
    // behind them stand as many fields as always, or a before image for each column that is there
    assert_eq!(of(2, &[sequence()], "I,1,a,77\nI,2,b,5,78\n").unwrap(), ["1 a -", "2 b 5"]);
    assert_eq!(of(2, &[before("all")], "U,1,a,1,a\nU,2,b,5,2,b,5\n").unwrap(), ["1 a -", "2 b 5"]);
    assert!(of(2, &[before("all")], "U,1,a,5,1,a\n").is_err());
    let mut strict = shape(&[], &described(&schema("id INT!; n INT!")), &settings).unwrap();
    strict.known_widths = 1..=2;
    assert!(read(strict, &settings, &[0], "I,1\n").unwrap_err().contains("column n is missing"));
}

#[test]
fn a_generated_column_that_is_not_there_is_no_null() {
    let schema = schema("id INT!; n INT; twice INT");
    let generated = ["twice".to_owned()];
    let settings = S3Settings { add_column_name: true, ..S3Settings::default() };
    let shape = shape(&[], &Described { generated: &generated, ..described(&schema) }, &settings).unwrap();
    assert_eq!(rows(&read(shape.clone(), &settings, &[0], "Op,id,twice\nI,1,4\n").unwrap()), ["1 - 4"]);
    assert!(read(shape, &settings, &[0], "Op,id,n\nI,1,2\n").unwrap_err().contains("\"twice\" is missing"));
}

#[test]
fn changes_have_an_operation_as_the_settings_say() {
    use crate::dms::settings::WrittenChanges::{All, Inserts, InsertsAndUpdates};
    use Operation::{Insert, Update};
    let of = |changes, include_op_for_full_load, columns: &str, file: &str| {
        let settings = S3Settings { changes, include_op_for_full_load, ..S3Settings::default() };
        let shape = Shape::of(schema(columns));
        read(shape, &settings, &[0], file).map(|read| (read.operations.clone(), rows(&read)))
    };
    let row = |operations: &[Operation], told: &[&str]| {
        Ok::<_, String>((operations.to_vec(), told.iter().map(|row| row.to_string()).collect::<Vec<_>>()))
    };
    assert_eq!(of(All, false, "id INT!", "U,1\n"), row(&[Update], &["1"]));
    assert_eq!(of(Inserts, true, "id INT!", "I,1\n"), row(&[Insert], &["1"]));
    assert_eq!(of(Inserts, false, "id INT!", "1\n2\n"), row(&[Insert, Insert], &["1", "2"]));
    assert!(of(Inserts, false, "id INT!", "I,1\n").is_err());
    assert_eq!(of(InsertsAndUpdates, true, "id INT!", "I,1\nU,1\n"), row(&[Insert, Update], &["1", "1"]));
    assert!(of(InsertsAndUpdates, true, "id INT!", "1\n").is_err());
    assert_eq!(
        of(InsertsAndUpdates, false, "id INT!", "I,1\n2\nU,1\n"),
        row(&[Insert, Update, Update], &["1", "2", "1"])
    );
    assert_eq!(
        of(InsertsAndUpdates, false, "a TEXT!; b TEXT", "I,1\nU,I,1\n"),
        row(&[Update, Update], &["I 1", "I 1"])
    );
    assert!(of(InsertsAndUpdates, false, "a TEXT!; b TEXT", "X,I,1\n").is_err());
}

#[test]
fn a_first_field_that_may_be_an_operation_or_a_value_is_refused() {
    use crate::dms::settings::WrittenChanges::InsertsAndUpdates;
    let settings = S3Settings { changes: InsertsAndUpdates, ..S3Settings::default() };
    let mut shape = Shape::of(schema("a TEXT!; b TEXT; c TEXT"));
    shape.known_widths = 2..=3;
    // an insert of two columns, or a row of three
    let error = read(shape.clone(), &settings, &[0], "I,1,2\n").unwrap_err();
    assert!(error.contains("may be the operation or the first column's value"), "{error}");
    let header = S3Settings { add_column_name: true, ..settings };
    for (file, expected) in [("a,b,c\nI,1,2\n", "I 1 2"), ("Op,a,b\nI,1,2\n", "1 2 -")] {
        assert_eq!(rows(&read(shape.clone(), &header, &[0], file).unwrap()), [expected], "{file}");
    }
}

/// Lines as a task with every addition writes them: those that are rows, and those that are not, with the reason.
const GOOD: [&str; 4] = [
    "I,1970-01-01 00:00:00.000001,2024-01-01,a,5,77,",
    "U,1970-01-01 00:00:00.000002,2024-01-02,b,6,78,2024-01-03",
    "U,1970-01-01 00:00:00.000003,2024-01-02,none,7,79,2024-01-02",
    "D,1970-01-01 00:00:00.000004,2024-01-04,c,,80,",
];
const BAD: [(&str, &str); 7] = [
    ("X,1970-01-01 00:00:00.000001,2024-01-01,a,5,77,", "unknown operation"),
    ("I,soon,2024-01-01,a,5,77,", "TIMESTAMP"),
    ("I,1970-01-01 00:00:00.000001,2024-02-30,a,5,77,", "exists"),
    ("I,1970-01-01 00:00:00.000001,0000-00-00,a,5,77,", "zero date"),
    ("U,1970-01-01 00:00:00.000001,2024-01-01,a,five,77,2024-01-09", "INT"),
    ("U,1970-01-01 00:00:00.000001,2024-01-01,a,5,77,2024-01-0x", "DATE"),
    ("I,1970-01-01 00:00:00.000001,2024-01-01,a", "missing"),
];

proptest::proptest! {
    #[test]
    fn records_that_are_set_apart_leave_the_others_as_they_are(
        picks in proptest::collection::vec(0..GOOD.len() + BAD.len(), 0..12), at_once in 1usize..5,
    ) {
        let schema = schema("id DATE!; name TEXT; n INT");
        let settings = S3Settings {
            timestamp_column_name: Some("ts".into()), csv_no_sup_value: Some("none".into()), ..S3Settings::default()
        };
        let rules = [sequence(), before("pk-only")];
        let shape = Arc::new(shape(&rules, &described(&schema), &settings).unwrap());
        let read = |texts: &[&str], at_once| {
            let file = texts.iter().map(|line| format!("{line}\n")).collect::<String>();
            let mut reader = RecordReader::new(
                file.as_bytes(), &settings, FileKind::Changes, shape.clone(), DatetimeAs::default(),
            ).with_key(&[0], DatetimeAs::default()).with_commit_times().setting_bad_apart();
            let (mut told, mut numbers, mut bad) = (Vec::new(), Vec::new(), Vec::new());
            while let Some(batch) = reader.next(at_once).unwrap() {
                let moved = batch.old_keys.as_ref().map(|old| (old.rows.clone(), lines(&old.keys)));
                for (row, line) in lines(&batch.columns).into_iter().enumerate() {
                    let old = moved.iter().flat_map(|(rows, keys)| rows.iter().zip(keys)).find(|(at, _)| **at == row);
                    let unchanged: Vec<_> =
                        batch.unchanged.iter().map(|rows| rows.as_ref().is_some_and(|rows| rows.value(row))).collect();
                    let sequence = batch.sequences.as_ref().map(|texts| texts.value(row).to_owned());
                    let time = ArrayFormatter::try_new(batch.commit_times.as_ref().unwrap(), &FormatOptions::new());
                    let time = time.unwrap().value(row).to_string();
                    let (operation, old) = (batch.operations[row], old.map(|(_, key)| key.clone()));
                    let unchanged = unchanged.contains(&true);
                    told.push(format!("{operation:?} {line} {old:?} {unchanged} {sequence:?} {time}"));
                    numbers.push(batch.record(row));
                }
                bad.extend(reader.take_bad());
            }
            bad.extend(reader.take_bad());
            (told, numbers, bad)
        };
        let file: Vec<_> = picks.into_iter().map(|i| GOOD.get(i).copied().unwrap_or_else(|| BAD[i - GOOD.len()].0)).collect();
        let is_good = |line: &&str| GOOD.contains(line);
        let (told, numbers, bad) = read(&file, at_once);
        let good: Vec<_> = file.iter().copied().filter(is_good).collect();
        proptest::prop_assert_eq!(told, read(&good, 100).0);
        let numbered = |good: bool| {
            let lines = file.iter().zip(1u64..).filter(move |(line, _)| is_good(line) == good);
            lines.map(|(line, number)| (number, *line)).collect::<Vec<_>>()
        };
        proptest::prop_assert_eq!(numbers, numbered(true).iter().map(|(number, _)| *number).collect::<Vec<_>>());
        let apart: Vec<_> = bad.iter().map(|bad| (bad.record, str::from_utf8(&bad.raw).unwrap())).collect();
        proptest::prop_assert_eq!(&apart, &numbered(false));
        for (bad, (_, line)) in bad.iter().zip(&apart) {
            let reason = BAD.iter().find(|(bad, _)| bad == line).unwrap().1;
            proptest::prop_assert!(bad.reason.contains(reason), "{}: {}", line, bad.reason);
        }
    }
}

#[test]
fn of_columns_that_were_added_between_others_no_width_tells() {
    let shape = |added: &str| Shape::of(schema("a TEXT!; b TEXT; c TEXT")).with_added(&[added.to_owned()]);
    assert_eq!(shape("c").known_widths, 2..=3);
    assert_eq!(shape("b").known_widths, 3..=3);
}
