//! Input that cannot be carried: one clear error, the table stays where it was, the others are merged.

use crate::support::dms::{insert, update};
use crate::support::model::assert_same;
use crate::support::site::Site;
use crate::support::table::{Row, Table, row};

const STAMP: &str = "20240301-120000000";
const FILE: &str = "shop/bad/20240301-120000000.csv";
const LOAD: &str = "shop/bad/LOAD00000001.csv";

fn table(name: &str) -> Table {
    let columns = [
        ("id", "int(11) NOT NULL"),
        ("name", "varchar(20) DEFAULT NULL"),
        ("price", "decimal(10,2) DEFAULT NULL"),
        ("born", "date DEFAULT NULL"),
    ];
    Table::new(&format!("shop.{name}"), &columns)
}

fn loaded() -> Vec<Row> {
    vec![row(["1", "one", "1.00", "2024-01-01"]), row(["2", "two", "2.00", "2024-01-02"])]
}

/// Both tables are loaded and merged; then `good` gets a good change file.
fn two_tables() -> (Site, Table, Table) {
    let (good, bad) = (table("good"), table("bad"));
    let site = Site::local();
    site.declare(&[&good, &bad]);
    site.load(&good, 1, &loaded());
    site.load(&bad, 1, &loaded());
    site.run();
    site.changes(&good, STAMP, &[insert(["3", "three", "3.00", "2024-01-03"])]);
    (site, good, bad)
}

/// `bad` gets a change file; the error says all of `texts`.
fn check(file: &str, texts: &[&str]) {
    let (site, good, bad) = two_tables();
    let before = site.version(&bad);
    site.put_raw(FILE, file);

    let (outcome, report) = site.run_exits(1, &[]);
    outcome.says(&[&[FILE, "shop.bad"], texts].concat());

    let failed = report.table(&bad);
    assert_eq!((&failed["state"], &failed["error_kind"]), (&"failed".into(), &"definite".into()), "{failed:#}");
    for text in texts {
        assert!(
            failed["error"].as_str().unwrap().contains(text),
            "the report's error does not say {text:?}: {failed:#}"
        );
    }
    assert_eq!(site.version(&bad), before);
    assert_same(&site.rows(&bad), &loaded(), "the table with the bad file");
    assert_eq!(report.table(&good)["state"], "merged");
    assert_eq!(site.rows(&good).len(), 3);

    // Repaired, the same file is merged.
    site.changes(&bad, STAMP, &[update(["2", "deux", "2.00", "2024-01-02"])]);
    site.run();
    assert_same(&site.rows(&bad), &[loaded()[0].clone(), row(["2", "deux", "2.00", "2024-01-02"])], "repaired");
}

#[test]
fn a_decimal_with_too_many_digits_is_not_rounded() {
    check("I,3,three,3.00,2024-01-03\nI,4,four,12.345,2024-01-04\n", &["record 2", "price", "12.345", "DECIMAL(10,2)"]);
}

#[test]
fn a_decimal_that_is_too_large_is_refused() {
    check("I,3,three,123456789.00,2024-01-03\n", &["record 1", "price", "123456789.00"]);
}

#[test]
fn a_number_with_a_space_is_refused() {
    check("I,3,three,3.00,2024-01-03\nU, 5,five,5.00,2024-01-05\n", &["record 2", "id", " 5", "INT"]);
}

#[test]
fn a_word_is_no_number() {
    check("I,yes,three,3.00,2024-01-03\n", &["record 1", "id", "yes", "INT"]);
}

#[test]
fn a_number_beyond_its_type_is_refused() {
    check("I,2147483648,three,3.00,2024-01-03\n", &["record 1", "id", "2147483648"]);
}

#[test]
fn a_date_that_is_none_is_refused() {
    check("I,3,three,3.00,2024-02-30\n", &["record 1", "born", "2024-02-30", "DATE"]);
}

#[test]
fn a_null_in_a_column_that_allows_none_is_refused() {
    check("I,,three,3.00,2024-01-03\n", &["record 1", "id"]);
}

#[test]
fn a_missing_column_is_an_error() {
    check("I,3,three,3.00,2024-01-03\nI,4,four,4.00\n", &["record 2", "4", "born"]);
}

#[test]
fn a_field_too_many_is_an_error() {
    check("I,3,three,3.00,2024-01-03,extra\n", &["record 1", "6 fields"]);
}

#[test]
fn an_unknown_operation_is_an_error() {
    check("I,3,three,3.00,2024-01-03\nX,4,four,4.00,2024-01-04\n", &["record 2", "operation", "X"]);
}

#[test]
fn a_quote_that_never_closes_is_an_error() {
    check("I,3,three,3.00,2024-01-03\nI,4,\"four,4.00,2024-01-04\n", &["record 2", "quote"]);
}

#[test]
fn text_after_a_closing_quote_is_an_error() {
    check("I,3,\"three\"and,3.00,2024-01-03\n", &["record 1", "quote"]);
}

#[test]
fn bytes_that_are_no_utf8_are_an_error() {
    let (site, _, bad) = two_tables();
    site.put_raw(FILE, b"I,3,caf\xe9,3.00,2024-01-03\n".to_vec());
    site.run_exits(1, &[]).0.says(&[FILE, "record 1", "name", "UTF-8"]);
    assert_same(&site.rows(&bad), &loaded(), "the table with the bad file");
}

#[test]
fn a_file_cut_in_the_middle_is_an_error() {
    check("I,3,three,3.00,2024-01-03\nI,4,four,4.0", &["record 2"]);
    // Cut where a record would still be whole.
    check("I,3,three,3.00,2024-01-03\nI,4,four,4.00,2024-01-0", &["record 2"]);
    check("I,3,three,3.00,2024-01-03\nI,4,four,4.00,2024-01-04", &["record 2"]);
}

#[test]
fn an_empty_change_file_is_no_error() {
    let (site, _, bad) = two_tables();
    site.put_raw(FILE, "");
    site.run();
    assert_same(&site.rows(&bad), &loaded(), "after an empty change file");
}

/// `bad` gets its first LOAD file; no table comes of it.
fn check_load(file: &str, texts: &[&str]) {
    let (good, bad) = (table("good"), table("bad"));
    let site = Site::local();
    site.declare(&[&good, &bad]);
    site.load(&good, 1, &loaded());
    site.put_raw(LOAD, file);
    let (outcome, report) = site.run_exits(1, &[]);
    outcome.says(&[&[LOAD, "shop.bad"], texts].concat());
    assert_eq!(report.table(&bad)["state"], "failed");
    assert_eq!(site.version(&bad), None);
    assert_same(&site.rows(&good), &loaded(), "the other table");
}

#[test]
fn an_empty_load_is_an_error() {
    check_load("", &["empty"]);
}

#[test]
fn a_bad_record_in_a_load_stops_the_whole_load() {
    check_load("I,1,one,1.00,2024-01-01\nI,2,two,2.001,2024-01-02\n", &["record 2", "price", "2.001"]);
}

#[test]
fn a_load_with_operations_that_the_settings_do_not_promise_is_an_error() {
    check_load("1,one,1.00,2024-01-01\n", &["record 1"]);
}

#[test]
fn a_key_column_that_the_schema_lacks_is_a_config_error() {
    let table = table("bad").configured_key(&["identity"]);
    let site = Site::local();
    site.declare(&[&table]);
    site.load(&table, 1, &loaded());
    site.command(&["run"]).exits(2).says(&["shop.bad", "identity", "key"]);
    assert_eq!(site.version(&table), None);
}

#[test]
fn a_table_that_the_schema_file_lacks_is_a_config_error() {
    let table = table("bad");
    let site = Site::local();
    site.declare(&[&table]);
    site.write("shop.sql", "CREATE TABLE `other` (`id` int(11) NOT NULL);\n");
    site.load(&table, 1, &loaded());
    site.command(&["run"]).exits(2).says(&["shop.bad", "shop.sql"]);
}

#[test]
fn an_unknown_config_key_is_named() {
    let table = table("bad");
    for (from, to, named) in [
        ("[lake]", "[lake]\ntabel_type = \"copy-on-write\"", "tabel_type"),
        ("[source]", "[source]\nurls = \"x\"", "urls"),
        ("[[table]]", "[[table]]\nkeys = [\"id\"]", "keys"),
        ("[run]", "[run]\nbatch = 1", "batch"),
    ] {
        let site = Site::local();
        site.declare(&[&table]);
        site.edit("lakemerge.toml", from, to);
        site.command(&["run"]).exits(2).says(&["lakemerge.toml", named]);
    }
}

#[test]
fn a_mistyped_config_value_is_named() {
    let table = table("bad");
    for (from, to, named) in [
        ("kind = \"dms\"", "kind = \"dsm\"", "dsm"),
        ("[lake]", "[lake]\ntable_type = \"copy on write\"", "copy on write"),
        ("[run]", "[run]\nparallelism = \"many\"", "many"),
        ("[run]", "[run]\nbatch_bytes = \"lots\"", "lots"),
        ("[[table]]", "[[table]]\nkey = \"id\"", "key"),
    ] {
        let site = Site::local();
        site.declare(&[&table]);
        site.edit("lakemerge.toml", from, to);
        site.command(&["run"]).exits(2).says(&["lakemerge.toml", named]);
    }
}

#[test]
fn a_missing_config_file_or_an_unknown_argument_is_wrong_usage() {
    let site = Site::local();
    site.command(&["run"]).exits(2).says(&["lakemerge.toml"]);
    site.command(&["run", "--no-such-option"]).exits(2).says(&["--no-such-option"]);
    site.command(&["merge"]).exits(2);
}

#[test]
fn a_partition_or_key_that_cannot_be_is_refused_before_anything_is_written() {
    for (from, to, says) in [
        ("key = [\"id\"]", "key = [\"id\", \"ID\"]", "twice"),
        ("key = [\"id\"]", "key = [\"id\"]\npartition_by = [\"a\", \"a\"]", "twice"),
        ("key = [\"id\"]", "key = [\"id\"]\npartition_by = [\"a\", \"id\"]", "every column"),
    ] {
        let columns = [("id", "int(11) NOT NULL"), ("a", "int(11) DEFAULT NULL")];
        let table = Table::new("shop.goods", &columns).configured_key(&["id"]);
        let site = Site::local();
        site.declare(&[&table]);
        site.edit("lakemerge.toml", from, to);
        site.load(&table, 1, &[row(["1", "2"])]);
        site.command(&["run"]).exits(2).says(&["shop.goods", says]);
        assert_eq!(site.version(&table), None);
    }
}

#[test]
fn a_policy_that_is_not_carried_out_is_refused_by_name() {
    let policy = "on_ddl = \"resnapshot\"";
    let table = Table::new("shop.goods", &[("id", "int(11) NOT NULL")]);
    let site = Site::local();
    site.declare(&[&table]);
    site.edit("lakemerge.toml", "[source]\n", &format!("[source]\n{policy}\n"));
    site.load(&table, 1, &[row(["1"])]);
    site.command(&["run"]).exits(2).says(&["lakemerge.toml", policy]);
    assert_eq!(site.version(&table), None);
}

#[test]
fn a_gap_in_a_load_is_told_and_an_option_for_a_table_left_out_is_refused() {
    let (table, other) = (table("bad"), Table::new("shop.other", &[("id", "int(11) NOT NULL")]));
    let site = Site::local();
    site.declare(&[&table, &other]);
    site.load(&table, 1, &loaded());
    site.load(&table, 3, &[row(["3", "three", "3.00", "2024-01-03"])]);
    site.load(&other, 1, &[row(["1"])]);
    let asked = site.command(&["run", "--table", "shop.other", "--reload", "shop.bad"]);
    asked.exits(2).says(&["shop.bad", "--table"]);
    assert_eq!(site.version(&other), None);
    let report = site.run().table(&table);
    assert!(report["notes"].to_string().contains("missing: LOAD00000002"), "{report:#}");
}

#[test]
fn a_definition_that_is_altered_behind_is_not_taken() {
    let table = table("bad");
    let site = Site::local();
    site.declare(&[&table]);
    let schema = std::fs::read_to_string(site.path("shop.sql")).unwrap();
    site.write("shop.sql", &format!("{schema}\nALTER TABLE `bad` ADD COLUMN `new` int FIRST;\n"));
    site.load(&table, 1, &loaded());
    site.command(&["run"]).exits(2).says(&["shop.sql", "shop.bad", "ALTER TABLE"]);
    assert_eq!(site.version(&table), None);
}

#[test]
fn a_lake_in_the_place_of_the_raw_files_is_refused() {
    let (site, good, bad) = two_tables();
    let raw = site.raw_path("");
    std::os::unix::fs::symlink(&raw, raw.join("../../elsewhere")).expect("a link");
    for place in ["raw/dms", "raw/dms/", "elsewhere"] {
        let changed = site.with_lake(place);
        changed.declare(&[&good, &bad]);
        for command in ["run", "maintain"] {
            let error = changed.command(&[command]).exits(2).stderr;
            assert!(error.contains("lake.url") && error.contains("is source.url as well"), "{error}");
        }
    }
    assert!(site.raw_path(&format!("shop/good/{STAMP}.csv")).exists());
    assert_eq!(site.run().table(&good)["inserted"], 1);
}
