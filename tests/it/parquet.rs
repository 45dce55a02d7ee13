//! Tasks that write Parquet: every type, columns by name, and files that are none.

mod columns;

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, ListArray, StringArray};
use datafusion::arrow::datatypes::Int32Type;
use serde_json::json;

use crate::support::dms::{Change, Op, Settings, delete, insert, update};
use crate::support::model::{Model, assert_same};
use crate::support::parquet as files;
use crate::support::random::{Random, seeds};
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::{NULL, Row, Table, row};
use crate::support::workload::{Workload, stamp};

fn parquet() -> Settings {
    Settings { parquet: true, ..Settings::default() }
}

fn site_with(settings: Settings, table: &Table) -> Site {
    let mut site = Site::local();
    site.settings = settings;
    site.declare(&[table]);
    site
}

/// One column of each type of MySQL.
fn everything() -> Table {
    let columns = [
        ("id", "bigint(20) unsigned NOT NULL"),
        ("tiny", "tinyint(4) DEFAULT NULL"),
        ("utiny", "tinyint(3) unsigned DEFAULT NULL"),
        ("small", "smallint(6) DEFAULT NULL"),
        ("usmall", "smallint(5) unsigned DEFAULT NULL"),
        ("medium", "mediumint(9) DEFAULT NULL"),
        ("umedium", "mediumint(8) unsigned DEFAULT NULL"),
        ("int", "int(11) DEFAULT NULL"),
        ("uint", "int(10) unsigned NOT NULL"),
        ("big", "bigint(20) DEFAULT NULL"),
        ("price", "decimal(10,2) DEFAULT NULL"),
        ("wide", "decimal(38,10) DEFAULT NULL"),
        ("wider", "decimal(40,3) DEFAULT NULL"),
        ("ratio", "float DEFAULT NULL"),
        ("exact", "double DEFAULT NULL"),
        ("flag", "bit(1) DEFAULT NULL"),
        ("bits", "bit(12) DEFAULT NULL"),
        ("mask", "bit(64) DEFAULT NULL"),
        ("born", "date DEFAULT NULL"),
        ("seen", "datetime(3) DEFAULT NULL"),
        ("at", "timestamp(6) NULL DEFAULT NULL"),
        ("span", "time DEFAULT NULL"),
        ("year", "year(4) DEFAULT NULL"),
        ("name", "varchar(50) NOT NULL"),
        ("note", "longtext DEFAULT NULL"),
        ("kind", "enum('a','b') DEFAULT NULL"),
        ("json", "json DEFAULT NULL"),
        ("code", "binary(4) DEFAULT NULL"),
        ("blob", "mediumblob DEFAULT NULL"),
    ];
    Table::new("shop.everything", &columns)
}

fn least(id: &str) -> Row {
    row([
        id,
        "-128",
        "0",
        "-32768",
        "0",
        "-8388608",
        "0",
        "-2147483648",
        "0",
        "-9223372036854775808",
        "-99999999.99",
        "-9999999999999999999999999999.9999999999",
        "-9999999999999999999999999999999999999.999",
        "-1.5",
        "-1e300",
        "0",
        "0x0",
        "0x0",
        "1000-01-01",
        "1000-01-01 00:00:00.000",
        "1970-01-01 00:00:01.000000",
        "-838:59:59",
        "1901",
        "",
        "",
        "a",
        "{}",
        "00000000",
        "",
    ])
}

fn most(id: &str) -> Row {
    row([
        id,
        "127",
        "255",
        "32767",
        "65535",
        "8388607",
        "16777215",
        "2147483647",
        "4294967295",
        "9223372036854775807",
        "99999999.99",
        "9999999999999999999999999999.9999999999",
        "9999999999999999999999999999999999999.999",
        "3.4028235e38",
        "1.7976931348623157e308",
        "1",
        "0xfff",
        "0xffffffffffffffff",
        "9999-12-31",
        "9999-12-31 23:59:59.999",
        "2038-01-19 03:14:07.999999",
        "838:59:59",
        "2155",
        "NULL",
        "two\nlines, \"quoted\"",
        "b",
        "{\"a\": [1, 2]}",
        "deadbeef",
        "00ff",
    ])
}

fn nulls(id: &str) -> Row {
    let columns = everything().columns;
    columns
        .iter()
        .map(|(name, kind)| match name.as_str() {
            "id" => Some(id.to_owned()),
            "uint" => Some("7".to_owned()),
            _ => (!kind.contains("DEFAULT NULL")).then(|| "é".to_owned()),
        })
        .collect()
}

fn key_alone(id: &str) -> Row {
    let mut row = vec![None; everything().columns.len()];
    row[0] = Some(id.to_owned());
    row
}

#[test]
fn every_type_of_mysql_arrives_as_it_is() {
    let table = everything();
    for (millis, timestamp_column, op_for_full_load) in
        [(false, None, false), (true, Some("committed".to_owned()), true)]
    {
        let more = vec![("ParquetTimestampInMillisecond".to_owned(), json!(millis))];
        let settings = Settings { op_for_full_load, timestamp_column, more, gzip: millis, ..parquet() };
        // of a time stamp in milliseconds nothing more is written
        let cut = |mut row: Row| {
            let moment = row[20].as_mut().filter(|_| millis);
            moment.map(|text| text.replace_range(23.., "000")).unwrap_or_default();
            row
        };
        let site = site_with(settings.clone(), &table);
        let load = [cut(least("0")), cut(most("18446744073709551615")), nulls("5"), nulls("6")];
        let changes = [
            Change { op: Op::Insert, row: cut(most("7")) },
            Change { op: Op::Update, row: cut(least("5")) },
            Change { op: Op::Delete, row: key_alone("6") },
        ];
        site.load(&table, 1, &load);
        site.changes(&table, &stamp(0), &changes);
        let report = site.run().table(&table);
        assert_eq!((&report["read"], &report["zero_dates"]), (&7.into(), &0.into()), "{report:#}");
        let mut model = Model::new(&table);
        model.load(&load);
        model.apply(&changes);
        assert_same(&site.rows(&table), &model.rows(), "every type");
        for (engine, rows) in readers::rows(&site, &table) {
            assert_same(&rows, &model.rows(), &format!("read by {engine}"));
        }
    }
}

#[test]
fn random_tables_are_what_the_model_says() {
    let settings = Settings { timestamp_column: Some("committed at".to_owned()), ..parquet() };
    for seed in seeds(12) {
        let settings = Settings { op_for_full_load: seed % 2 == 0, gzip: seed % 3 == 0, ..settings.clone() };
        let workload = Workload::small(1_000 + seed, &settings);
        let site = site_with(settings, &workload.table);
        workload.write_load(&site);
        let (first, then) = workload.files.split_at(workload.files.len() / 2);
        first.iter().for_each(|(stamp, changes)| site.changes(&workload.table, stamp, changes));
        site.run();
        then.iter().for_each(|(stamp, changes)| site.changes(&workload.table, stamp, changes));
        site.run();
        assert_same(&site.rows(&workload.table), &workload.outcome(), &format!("LAKEMERGE_TEST_SEED={seed}"));
    }
}

const ID: (&str, &str) = ("id", "int(11) NOT NULL");
const NAME: (&str, &str) = ("name", "varchar(50) DEFAULT NULL");

fn goods(columns: &[(&str, &str)]) -> Table {
    Table::new("shop.goods", columns)
}

/// A loaded table with two rows.
fn loaded(table: &Table) -> Site {
    let site = site_with(parquet(), table);
    let filler = |id: &str| -> Row {
        let value = |(name, _): &(String, String)| Some(if name == "id" { id } else { "5" }.to_owned());
        table.columns.iter().map(value).collect()
    };
    site.load(table, 1, &[filler("1"), filler("2")]);
    site.run();
    site
}

/// The same with columns that the files alone tell of.
fn inferred(table: &Table, source: &str) -> Site {
    let site = site_with(parquet(), table);
    let schema = format!("schema = \"{}\"", table.schema_file());
    site.edit("lakemerge.toml", &schema, "schema = \"infer\"\nkey = [\"id\"]");
    site.edit("lakemerge.toml", "[source]\n", &format!("[source]\n{source}\n"));
    site
}

/// A plan that reads the files ends where the run would.
#[track_caller]
fn foresees_stop(site: &Site, table: &Table, words: &str) {
    let plan = site.plan_exits(1, &["--deep"]).table(table);
    assert!(plan["error"].as_str().unwrap().contains(words), "{plan:#}");
}

fn change_path(table: &Table, number: u32) -> String {
    format!("{}/{}.parquet", table.folder(), stamp(number))
}

#[test]
fn changes_without_an_operation_stop_the_table_unless_they_are_inserts_alone() {
    let table = goods(&[ID, NAME]);
    let mut site = loaded(&table);
    let plain = Settings { op_for_full_load: false, ..parquet() };
    site.put_raw(&change_path(&table, 0), plain.load_file(&table, &[row(["3", "c"])]));
    site.command(&["run"]).exits(1).says(&["20240301-235730000.parquet", "Op is expected"]);
    site.settings = Settings { more: vec![("CdcInsertsOnly".to_owned(), json!(true))], ..plain };
    site.write("s3.json", &site.settings.json().to_string());
    site.run();
    assert_eq!(site.rows(&table).len(), 3);
}

#[test]
fn an_operation_that_the_settings_do_not_tell_of_is_explained() {
    let table = goods(&[ID, NAME]);
    let site = site_with(Settings { op_for_full_load: false, ..parquet() }, &table);
    site.put_raw("shop/goods/LOAD00000001.parquet", parquet().load_file(&table, &[row(["1", "a"])]));
    site.command(&["run"]).exits(1).says(&["LOAD00000001.parquet", "\"Op\" is no column", "IncludeOpForFullLoad"]);
}

#[test]
fn names_folders_and_formats_may_be_mixed() {
    let table = goods(&[ID, NAME]);
    let site = site_with(parquet(), &table);
    let file = |rows: &[Row]| parquet().load_file(&table, rows);
    site.put_raw("shop/goods/SEGMENT1_LOAD00000001.parquet", file(&[row(["1", "a"])]));
    site.put_raw("shop/goods/SEGMENT2_LOAD00000001.parquet", file(&[row(["2", "b"])]));
    site.put_raw(
        "shop/goods/2024/03/02/20240302-000000000.parquet",
        parquet().change_file(&table, &[insert(["3", "c"])]),
    );
    site.put_raw("shop/goods/20240303-000000000.csv", "U,1,a2\nD,2,\n");
    site.run();
    assert_same(&site.rows(&table), &[row(["1", "a2"]), row(["3", "c"])], "mixed");
    site.put_raw("shop/goods/20240303-000000000.parquet", parquet().change_file(&table, &[]));
    site.command(&["run"]).exits(1).says(&["20240303-000000000.parquet", "same file of the task"]);
}

#[test]
fn a_load_of_two_formats_is_not_inferred() {
    let table = goods(&[ID, NAME]);
    let site = inferred(&table, "");
    site.load(&table, 1, &[row(["1", "a"])]);
    site.put_raw("shop/goods/LOAD00000002.csv", "I,2,b\n");
    site.command(&["run"]).exits(1).says(&["LOAD00000001.parquet", "LOAD00000002.csv", "two formats"]);
}

#[test]
fn a_load_goes_on_until_the_first_change_and_a_changed_one_is_noticed() {
    let table = goods(&[ID, NAME]);
    let site = loaded(&table);
    site.load(&table, 2, &[row(["3", "c"])]);
    assert_eq!(site.run().table(&table)["load_files"], 1);
    // the same content under another time
    site.load(&table, 2, &[row(["3", "c"])]);
    let report = site.run().table(&table);
    assert!(report["notes"].to_string().contains("same content"), "{report:#}");
    site.load(&table, 2, &[row(["3", "d"])]);
    site.command(&["run"]).exits(1).says(&["LOAD00000002.parquet has changed", "--reload"]);
    site.run_exits(0, &["--reload", "shop.goods"]);
    assert_same(&site.rows_where(&table, "id = 3"), &[row(["3", "d"])], "reloaded");
    site.changes(&table, &stamp(0), &[insert(["4", "e"])]);
    site.run();
    site.load(&table, 3, &[row(["5", "f"])]);
    site.command(&["run"]).exits(1).says(&["LOAD00000003.parquet", "after the full load was complete"]);
}

#[test]
fn all_tables_changes_stay_in_csv() {
    let table = goods(&[ID, NAME]);
    let transactions = [("PreserveTransactions".to_owned(), json!(true)), ("CdcPath".to_owned(), json!("cdc"))];
    let site = site_with(Settings { more: transactions.into(), ..parquet() }, &table);
    site.load(&table, 1, &[row(["1", "a"])]);
    site.put_raw("cdc/CDC_TXN-20240302000000000.csv", "U,goods,shop,1,a2\nI,goods,shop,2,b\n");
    site.run();
    assert_same(&site.rows(&table), &[row(["1", "a2"]), row(["2", "b"])], "transactions");
}

#[test]
fn bad_records_are_set_apart_where_that_is_wanted() {
    let table = goods(&[ID, ("count", "smallint(6) DEFAULT NULL")]);
    let site = loaded(&table);
    site.edit("lakemerge.toml", "[source]\n", "[source]\non_bad_record = \"quarantine\"\n");
    let wide = goods(&[ID, ("count", "int(11) DEFAULT NULL")]);
    site.changes(&wide, &stamp(0), &[insert(["3", "40000"]), update(["1", "6"]), insert(["4", "-40000"])]);
    assert_eq!(site.plan_exits(0, &["--deep"]).table(&table)["read"], 3);
    let report = site.run().table(&table);
    assert_eq!((&report["read"], &report["updated"]), (&3.into(), &1.into()), "{report:#}");
    assert_same(&site.rows(&table), &[row(["1", "6"]), row(["2", "5"])], "the good record");
    let raw = "SELECT record, `column`, reason, CAST(raw AS VARCHAR) AS raw FROM _quarantine.`shop.goods` ORDER BY 1";
    let expected = |record: u32, id: u32, count: i32| {
        json!({"record": record, "column": "count", "reason": format!("\"{count}\" does not fit SMALLINT"),
               "raw": format!("{{\"Op\":\"I\",\"id\":{id},\"count\":{count}}}")})
    };
    assert_eq!(json!(site.query(raw)), json!([expected(1, 3, 40_000), expected(3, 4, -40_000)]));
    // mended, it comes back to its place
    site.changes(&table, &stamp(0), &[insert(["3", "4"]), update(["1", "6"])]);
    site.run_exits(0, &["--include-late"]);
    assert_eq!((site.rows(&table).len(), site.query(raw).len()), (3, 0));
}

/// `bad` gets this change file; the error says all of `words`, and the other table is merged.
fn check_bad(file: impl Into<Vec<u8>>, words: &[&str]) {
    let (good, bad) = (Table::new("shop.good", &[ID, NAME]), Table::new("shop.bad", &[ID, NAME]));
    let mut site = Site::local();
    site.settings = parquet();
    site.declare(&[&good, &bad]);
    for table in [&good, &bad] {
        site.load(table, 1, &[row(["1", "one"])]);
    }
    site.run();
    let version = site.version(&bad);
    site.put_raw(&change_path(&bad, 0), file);
    site.changes(&good, &stamp(0), &[insert(["2", "two"])]);
    let (outcome, report) = site.run_exits(1, &[]);
    outcome.says(&[&["shop/bad/20240301-235730000.parquet"], words].concat());
    assert_eq!((site.version(&bad), &report.table(&good)["state"]), (version, &"merged".into()));
    assert_same(&site.rows(&bad), &[row(["1", "one"])], "as it was");
    foresees_stop(&site, &bad, words[0]);
    site.changes(&bad, &stamp(0), &[update(["1", "uno"])]);
    site.run();
    assert_same(&site.rows(&bad), &[row(["1", "uno"])], "mended");
}

#[test]
fn a_file_that_cannot_be_read_names_itself_and_leaves_the_table() {
    let table = Table::new("shop.bad", &[ID, NAME]);
    let whole = parquet().change_file(&table, &[insert(["2", "two"])]);
    let damaged = {
        let mut bytes = whole.clone();
        bytes[4..40].fill(0xff);
        bytes
    };
    check_bad("", &["cannot be read as a Parquet file"]);
    check_bad("I,2,two\n", &["cannot be read as a Parquet file"]);
    check_bad(whole[..whole.len() - 10].to_vec(), &["cannot be read as a Parquet file"]);
    check_bad(damaged, &["record 1: the file is damaged"]);
    let ids: ArrayRef = Arc::new(Int32Array::from(vec![2]));
    let names = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
    let ops: ArrayRef = Arc::new(StringArray::from(vec!["I"]));
    let columns = [("Op", ops), ("id", ids), ("name", Arc::new(names) as ArrayRef)];
    let nested = columns.map(|(name, values)| (name.to_owned(), values)).into();
    check_bad(files::bytes(nested, false), &["column name has the type List"]);
}

#[test]
fn files_in_a_bucket_are_read_whole_or_as_they_stream_in() {
    let table = goods(&[ID, ("name", "varchar(3000) DEFAULT NULL")]);
    let mut site = Site::s3();
    site.settings = parquet();
    site.run_config = "memory_limit = \"256MB\"".to_owned();
    site.declare(&[&table]);
    // the rows of one file are more than a small file has
    let mut random = Random::seeded(7);
    let mut rows = |count: usize, from: usize| -> Vec<Row> {
        let text = |random: &mut Random| (0..187).map(|_| format!("{:016x}", random.next())).collect::<String>();
        (from..from + count).map(|id| vec![Some(id.to_string()), Some(text(&mut random))]).collect()
    };
    let load = rows(4_000, 0);
    let changes: Vec<_> = rows(4_000, 2_000).into_iter().map(|row| Change { op: Op::Update, row }).collect();
    site.load(&table, 1, &load);
    site.changes(&table, &stamp(0), &changes);
    site.changes(&table, &stamp(1), &[delete(["0", NULL])]);
    let size: usize = [site.settings.load_file(&table, &load), site.settings.change_file(&table, &changes)]
        .iter()
        .map(Vec::len)
        .sum();
    assert!(size > 20 << 20, "{size}");
    let report = site.run().table(&table);
    let bytes = report["bytes"].as_u64().unwrap();
    assert!(bytes > size as u64 && bytes < size as u64 + 10_000, "{report:#}");
    assert_eq!((&report["read"], &report["load_files"]), (&8_001.into(), &1.into()), "{report:#}");
    let mut model = Model::new(&table);
    model.load(&load);
    model.apply(&changes);
    model.apply(&[delete(["0", NULL])]);
    assert_same(&site.rows(&table), &model.rows(), "in a bucket");
    assert_eq!(site.run().table(&table)["state"], "unchanged");
}

#[test]
fn check_says_nothing_of_what_only_csv_files_lack() {
    let site = loaded(&goods(&[ID, NAME]));
    let hazards: Vec<_> = site.check_exits(0).iter().map(|finding| finding["hazard"].to_string()).collect();
    for of_csv in ["columns-without-names", "values-without-quotes", "empty-is-null", "run-stops"] {
        assert!(!hazards.iter().any(|hazard| hazard.contains(of_csv)), "{hazards:?}");
    }
}
