//! The endpoint's S3Settings and the task's table mappings, taken as they are: carried out, or refused by name.

use crate::support::bin::Outcome;
use crate::support::dms::{Settings, delete, insert, update};
use crate::support::model::{Model, assert_same};
use crate::support::site::Site;
use crate::support::table::{NULL, Row, Table, row};
use crate::support::workload::stamp;
use serde_json::{Value, json};

fn people() -> Table {
    Table::new(
        "shop.people",
        &[("id", "int(11) NOT NULL"), ("name", "varchar(50) DEFAULT NULL"), ("owes", "decimal(10,2) DEFAULT NULL")],
    )
}

const ROWS: [[&str; 3]; 5] = [
    ["1", "Ada", "1.50"],
    ["2", "Brown, Bob", NULL],
    ["3", "say \"hi\"", "-3.00"],
    ["4", "two\nlines", "4.00"],
    ["5", "a|b;c", "5.00"],
];

/// Files written with the settings give the rows that the model has.
fn check(settings: Settings, rows: &[[&str; 3]]) {
    let people = people();
    let mut site = Site::local();
    site.settings = settings;
    site.declare(&[&people]);
    let rows: Vec<Row> = rows.iter().map(|&values| row(values)).collect();
    let changes = [
        insert(["6", "Eve", NULL]),
        update(["1", "Ada II", "2.50"]),
        delete(["3", "say \"hi\"", "-3.00"]),
        update(["6", "Eve", "6.00"]),
    ];
    site.load(&people, 1, &rows);
    site.changes(&people, "20240301-120000000", &changes);
    site.run();

    let mut model = Model::new(&people);
    model.load(&rows);
    model.apply(&changes);
    assert_same(&site.rows(&people), &model.rows(), &format!("{:?}", site.settings));
}

#[test]
fn the_defaults_quote_what_must_be_quoted() {
    check(Settings::default(), &ROWS);
}

#[test]
fn a_full_load_without_operations_is_all_inserts() {
    check(Settings { op_for_full_load: false, ..Settings::default() }, &ROWS);
}

#[test]
fn a_header_is_no_row() {
    check(Settings { header: true, ..Settings::default() }, &ROWS);
    check(Settings { header: true, op_for_full_load: false, ..Settings::default() }, &ROWS);
}

#[test]
fn a_time_stamp_column_is_no_column_of_the_table() {
    let with_stamp = || Settings { timestamp_column: Some("dms_ts".into()), ..Settings::default() };
    check(with_stamp(), &ROWS);
    check(Settings { header: true, ..with_stamp() }, &ROWS);
    check(Settings { op_for_full_load: false, ..with_stamp() }, &ROWS);
}

#[test]
fn other_delimiters_are_honoured() {
    check(Settings { delimiter: "|".into(), ..Settings::default() }, &ROWS);
    check(Settings { delimiter: "\t".into(), ..Settings::default() }, &ROWS);
    check(Settings { row_delimiter: "\r\n".into(), ..Settings::default() }, &ROWS);
}

#[test]
fn csv_null_value_tells_null_from_empty() {
    let rows = [["1", "", "1.00"], ["2", NULL, NULL], ["3", "null", "3.00"]];
    check(Settings { null: Some("NULL".into()), ..Settings::default() }, &rows);
}

#[test]
fn without_csv_null_value_empty_is_null_and_the_text_null_is_text() {
    check(Settings::default(), &[["1", NULL, NULL], ["2", "NULL", "2.00"], ["3", "null", "3.00"]]);
}

#[test]
fn without_rfc4180_a_quote_is_a_letter() {
    let rows = [["1", "5\" pipe", "1.00"], ["2", "\"quoted\"", NULL], ["3", "\"", "3.00"]];
    check(Settings { rfc4180: false, ..Settings::default() }, &rows);
}

#[test]
fn gzip_is_unpacked() {
    check(Settings { gzip: true, ..Settings::default() }, &ROWS);
    check(Settings { gzip: true, header: true, ..Settings::default() }, &ROWS);
}

#[test]
fn settings_that_change_nothing_in_the_files_are_accepted() {
    let more = [
        ("EncryptionMode", json!("SSE_KMS")),
        ("ServerSideEncryptionKmsKeyId", json!("arn:aws:kms:us-east-1:000000000000:key/1")),
        ("CdcMaxBatchInterval", json!(120)),
        ("CdcMinFileSize", json!(64_000)),
        ("CannedAclForObjects", json!("none")),
        ("EnableStatistics", json!(true)),
        ("CdcInsertsOnly", json!(false)),
        ("DatePartitionEnabled", json!(false)),
        ("PreserveTransactions", json!(false)),
        ("CompressionType", json!("NONE")),
    ];
    let more = more.map(|(name, value)| (name.to_owned(), value)).to_vec();
    check(Settings { more, ..Settings::default() }, &ROWS);
}

#[test]
fn a_setting_that_is_not_carried_out_is_refused_by_name() {
    let people = people();
    for (name, value) in [("IgnoreHeaderRows", json!(1)), ("PreserveTransactions", json!(true))] {
        let mut site = Site::local();
        site.settings.more = vec![(name.to_owned(), value)];
        site.declare(&[&people]);
        site.load(&people, 1, &[row(["1", "Ada", "1.00"])]);
        site.command(&["run"]).exits(2).says(&[name, "s3.json"]);
        assert_eq!(site.version(&people), None, "{name}");
    }
}

/// Files of `shop.people` written with further settings, and the ids and names that the table has in the end.
#[track_caller]
fn check_files(more: &[(&str, Value)], op_for_full_load: bool, load: &str, changes: &str, expected: &str) -> Outcome {
    let people = people();
    let mut site = Site::local();
    site.settings.op_for_full_load = op_for_full_load;
    site.settings.more = more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    site.declare(&[&people]);
    site.edit("shop.sql", "varchar(50)", "char(50)");
    site.put_raw("shop/people/LOAD00000001.csv", load);
    site.run();
    site.put_raw("shop/people/20240301-120000000.csv", changes);
    let (outcome, _) = site.run_exits(0, &[]);
    assert_eq!(
        site.query_csv("SELECT id, name, owes FROM shop.people ORDER BY id"),
        format!("id,name,owes\n{expected}")
    );
    outcome
}

#[test]
fn changes_may_be_inserts_alone() {
    let inserts = [("CdcInsertsOnly", json!(true))];
    let outcome = check_files(&inserts, true, "I,1,a,1.00\n", "I,2,b,2.00\n", "1,a,1.00\n2,b,2.00\n");
    outcome.says(&["CdcInsertsOnly", "no updates and no deletes"]);
    check_files(&inserts, false, "1,a,1.00\n", "2,b,2.00\n", "1,a,1.00\n2,b,2.00\n");
}

#[test]
fn changes_may_be_inserts_and_updates() {
    let upserts = [("CdcInsertsAndUpdates", json!(true))];
    let expected = "1,a2,1.00\n2,b,2.00\n";
    let outcome = check_files(&upserts, true, "I,1,a,1.00\n", "I,2,b,2.00\nU,1,a2,1.00\n", expected);
    outcome.says(&["CdcInsertsAndUpdates", "no deletes"]);
    // the documentation has both forms
    check_files(&upserts, false, "1,a,1.00\n", "I,2,b,2.00\nU,1,a2,1.00\n", expected);
    check_files(&upserts, false, "1,a,1.00\n", "2,b,2.00\n1,a2,1.00\n", expected);
}

#[test]
fn a_value_that_an_update_does_not_tell_stays_as_it_was() {
    let no_sup = [("UseCsvNoSupValue", json!(true)), ("CsvNoSupValue", json!("?"))];
    check_files(&no_sup, true, "I,1,a,1.00\n", "U,1,a2,?\nU,1,?,3.00\n", "1,a2,3.00\n");
}

#[test]
fn the_spaces_behind_a_char_are_no_part_of_it() {
    let padding = [("AddTrailingPaddingCharacter", json!(true))];
    check_files(&padding, true, "I,1,a  ,1.00\n", "I,2,b c ,2.00\n", "1,a,1.00\n2,b c,2.00\n");
    check_files(&[], true, "I,1,a  ,1.00\n", "I,2,b,2.00\n", "1,a  ,1.00\n2,b,2.00\n");
}

#[test]
fn a_setting_that_dms_does_not_have_is_named() {
    let people = people();
    let mut site = Site::local();
    site.settings.more = vec![("CsvDelimeter".to_owned(), json!("|"))];
    site.declare(&[&people]);
    site.load(&people, 1, &[row(["1", "Ada", "1.00"])]);
    site.command(&["run"]).says(&["CsvDelimeter"]);
}

fn selection(id: u32, table: &str, action: &str) -> serde_json::Value {
    json!({
        "rule-type": "selection",
        "rule-id": id.to_string(),
        "rule-name": id.to_string(),
        "object-locator": { "schema-name": "shop", "table-name": table },
        "rule-action": action,
        "filters": []
    })
}

#[test]
fn table_mappings_decide_which_tables_are_merged() {
    let tables = ["people", "secret_a", "secretXa", "log"]
        .map(|name| Table::new(&format!("shop.{name}"), &[("id", "int(11) NOT NULL")]));
    let [people, secret, looks_like_it, log] = &tables;
    let site = Site::local();
    // Without a [[table]] of their own, so the mappings alone keep them out.
    site.declare(&[people, looks_like_it]);
    site.edit("lakemerge.toml", "s3_settings", "table_mappings = \"mappings.json\"\ns3_settings");
    let rules = [selection(1, "%", "include"), selection(2, "secret[_]a", "exclude"), selection(3, "l_g", "exclude")];
    site.write("mappings.json", &json!({ "rules": rules }).to_string());
    for table in &tables {
        site.load(table, 1, &[row(["1"])]);
    }
    let report = site.run();
    assert_eq!(report.0["tables"].as_array().unwrap().len(), 2, "{:#}", report.0);
    assert_eq!((site.version(people), site.version(looks_like_it)), (Some(0), Some(0)));
    assert_eq!((site.version(secret), site.version(log)), (None, None));
}

#[test]
fn a_selected_table_without_a_schema_is_an_error_that_shows_what_to_add() {
    let (people, other) = (people(), Table::new("shop.other", &[("id", "int(11) NOT NULL")]));
    let site = Site::local();
    site.declare(&[&people]);
    site.load(&people, 1, &[row(["1", "Ada", "1.00"])]);
    site.load(&other, 1, &[row(["1"])]);
    let outcome = site.command(&["run"]);
    assert!(matches!(outcome.code, Some(1 | 2)), "{outcome}");
    outcome.says(&["[[table]]", "shop.other", "schema", "key"]);
    assert_eq!(site.version(&other), None);
}

#[test]
fn a_schema_can_be_inferred_from_the_first_load() {
    let people = people().configured_key(&["id"]);
    let mut site = Site::local();
    site.settings.header = true;
    site.declare(&[&people]);
    site.edit("lakemerge.toml", "\"shop.sql\"", "\"infer\"");
    site.load(&people, 1, &[row(["1", "Ada", "1.50"]), row(["2", "Bob", NULL])]);
    site.command(&["run"]).exits(0).says(&["shop.people", "owes"]);
    let csv = site.query_csv("SELECT id, name, owes FROM shop.people ORDER BY id");
    assert_eq!(csv.lines().count(), 3, "{csv}");
    assert!(csv.contains("2,Bob,\n"), "{csv}");
    // a key that no number is written as: it would become the key of another row
    site.changes(&people, &stamp(0), &[update(["01", "Eve", "2.00"])]);
    site.command(&["run"]).exits(1).says(&[&stamp(0), "column id", "\"01\"", "inferred", "CREATE TABLE"]);
    assert_eq!(site.rows(&people).len(), 2);
}
