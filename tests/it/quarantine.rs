//! `on_bad_record = "quarantine"`: bad records go to a table of their own, and come back to their place once mended.

use std::time::Duration;

use crate::support::dms::{delete, insert, update};
use crate::support::model::assert_same;
use crate::support::site::Site;
use crate::support::table::{Row, Table, row};
use crate::support::workload::stamp;
use serde_json::{Value, json};

fn goods() -> Table {
    Table::new(
        "shop.goods",
        &[("id", "int(11) NOT NULL"), ("name", "varchar(50) DEFAULT NULL"), ("price", "decimal(10,2) DEFAULT NULL")],
    )
}

fn quarantining(site: Site, table: &Table) -> Site {
    site.declare(&[table]);
    site.edit("lakemerge.toml", "[source]\n", "[source]\non_bad_record = \"quarantine\"\n");
    site
}

fn file(number: u32) -> String {
    format!("shop/goods/{}.csv", stamp(number))
}

/// What is in quarantine: file, record, column, reason and the record itself.
#[track_caller]
fn quarantine(site: &Site, expected: &[(&str, u64, Value, &str, &str)]) {
    let found = site.query("SELECT file, record, `column`, reason, encode(raw, 'hex') AS raw FROM _quarantine.`shop.goods` ORDER BY file, record");
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (file, record, column, reason, raw)) in found.iter().zip(expected) {
        assert_eq!(
            (&found["file"], &found["record"], &found["column"], &found["raw"]),
            (&json!(file), &json!(record), column, &json!(hex(raw))),
            "{found:#}"
        );
        assert!(found["reason"].as_str().is_some_and(|text| text.contains(reason)), "{found:#}");
    }
}

#[test]
fn bad_records_are_set_apart_and_the_others_merged() {
    for site in [Site::local(), Site::s3()] {
        let table = goods();
        let site = quarantining(site, &table);
        site.put_raw("shop/goods/LOAD00000001.csv", "I,1,one,1.00\nI,2,two,2.001\nI,3,three,3.00\n");
        site.put_raw(&file(0), "U,1,uno,1.50\nI,four,4,4.00\nU,3,tres\nD,9,,\n");
        let plan = site.plan_exits(0, &["--deep"]).table(&table);
        let report = site.run().table(&table);
        assert_eq!((&report["read"], &plan["read"]), (&json!(7), &json!(7)), "{plan:#} {report:#}");
        let bad =
            report["skipped"].as_array().unwrap().iter().find(|s| s["reason"].as_str().unwrap().contains("quarantine"));
        assert_eq!(bad.unwrap()["rows"], 3, "{report:#}");
        assert!(report["notes"].to_string().contains("LOAD00000001.csv, record 2: column price"), "{report:#}");
        assert_same(&site.rows(&table), &[row(["1", "uno", "1.50"]), row(["3", "three", "3.00"])], "the good records");
        quarantine(
            &site,
            &[
                (&file(0), 2, json!("id"), "\"four\" is not an INT", "I,four,4,4.00"),
                (&file(0), 3, json!("price"), "is missing", "U,3,tres"),
                ("shop/goods/LOAD00000001.csv", 2, json!("price"), "2.001", "I,2,two,2.001"),
            ],
        );
        assert_eq!(site.status(&table)["quarantined"], 3);
        assert_eq!(site.run().table(&table)["state"], "unchanged");
    }
}

#[test]
fn what_cannot_be_cut_into_records_still_stops_the_table() {
    let (table, other) = (goods(), Table::new("shop.other", &[("id", "int(11) NOT NULL")]));
    let site = Site::local();
    site.declare(&[&table, &other]);
    site.edit("lakemerge.toml", "[source]\n", "[source]\non_bad_record = \"quarantine\"\n");
    site.load(&table, 1, &[row(["1", "one", "1.00"])]);
    site.load(&other, 1, &[row(["1"])]);
    site.put_raw(&file(0), "I,2,two,2.00\nI,3,\"three\" ,3.00\n");
    site.command(&["run"]).exits(1).says(&[&file(0), "record 2", "closing quote"]);
    site.put_raw(&file(0), "I,2,two,2.00\nI,3,three,3.0");
    site.command(&["run"]).exits(1).says(&[&file(0), "record 2", "ends without"]);
    assert_same(&site.rows(&table), &[row(["1", "one", "1.00"])], "nothing of the file");
    assert_eq!(site.rows(&other).len(), 1);
}

#[test]
fn a_table_that_is_all_bad_is_a_setting_that_is_wrong() {
    let table = goods();
    let site = quarantining(Site::local(), &table);
    site.load(&table, 1, &[row(["1", "one", "1.00"])]);
    site.put_raw(&file(0), "I,x,one,1.00\n".repeat(10_001));
    site.command(&["run"]).exits(1).says(&[&file(0), "10000", "setting", "record 1", "\"x\""]);
    assert_eq!(site.rows(&table).len(), 1);
    // of a load one need not wait so long
    let site = quarantining(Site::local(), &table);
    site.put_raw("shop/goods/LOAD00000001.csv", "1,one,1.00\n2,two,2.00\n");
    site.command(&["run"]).exits(1).says(&["LOAD00000001.csv", "every record", "IncludeOpForFullLoad"]);
    assert_eq!(site.version(&table), None);
}

#[test]
fn a_mended_record_is_merged_in_its_place() {
    for table_type in ["copy-on-write", "merge-on-read"] {
        let table = goods();
        let site = quarantining(Site::local(), &table);
        site.edit("lakemerge.toml", "[run]", &format!("table_type = \"{table_type}\"\n[run]"));
        site.load(&table, 1, &[row(["1", "one", "1.00"]), row(["2", "two", "2.00"])]);
        site.put_raw(&file(0), "U,1,uno,x\nI,3,three,y\nI,4,four,z\nI,5,five,bad\n");
        site.run();
        site.changes(
            &table,
            &stamp(1),
            &[update(["1", "eins", "1.10"]), insert(["3", "drei", "3.10"]), delete(["2", "", ""])],
        );
        site.changes(&table, &stamp(2), &[delete(["3", "", ""])]);
        site.run();
        let before = site.version(&table).unwrap();
        // the last one stays bad
        site.put_raw(&file(0), "U,1,uno,1.50\nI,3,three,3.50\nI,4,four,4.50\nI,5,five,worse\n");
        assert_eq!(site.run().table(&table)["state"], "unchanged");
        let report = site.run_exits(0, &["--include-late"]).1.table(&table);
        assert_eq!((&report["commits"], &report["change_files"]), (&json!(1), &json!(3)), "{report:#}");
        assert_eq!(site.version(&table), Some(before + 1));
        let expected: [Row; 2] = [row(["1", "eins", "1.10"]), row(["4", "four", "4.50"])];
        assert_same(&site.rows(&table), &expected, table_type);
        quarantine(&site, &[(&file(0), 4, json!("price"), "worse", "I,5,five,worse")]);
        // mended for good, under another policy
        site.edit("lakemerge.toml", "on_bad_record = \"quarantine\"\n", "");
        site.put_raw(&file(0), "U,1,uno,1.50\nI,3,three,3.50\nI,4,four,4.50\nI,5,five,5.50\n");
        site.run_exits(0, &["--include-late"]);
        quarantine(&site, &[]);
        assert_eq!(site.rows(&table).len(), 3);
        assert_eq!(site.run_exits(0, &["--include-late"]).1.table(&table)["state"], "unchanged");
    }
}

#[test]
fn a_reload_forgets_what_was_bad_before() {
    let table = goods();
    let site = quarantining(Site::local(), &table);
    site.put_raw("shop/goods/LOAD00000001.csv", "I,1,one,x\nI,2,two,2.00\n");
    site.run();
    site.put_raw("shop/goods/LOAD00000001.csv", "I,1,one,1.00\nI,2,two,y\n");
    site.run_exits(0, &["--reload", "shop.goods"]);
    assert_same(&site.rows(&table), &[row(["1", "one", "1.00"])], "the load as it is now");
    quarantine(&site, &[("shop/goods/LOAD00000001.csv", 2, json!("price"), "y", "I,2,two,y")]);
}

#[test]
fn a_key_with_a_zero_date_is_a_bad_record() {
    let table = Table::new("shop.days", &[("day", "date NOT NULL"), ("text", "varchar(50) DEFAULT NULL")]);
    let table = table.primary_key(&["day"]);
    let site = Site::local();
    site.declare(&[&table]);
    site.put_raw("shop/days/LOAD00000001.csv", "I,2024-01-01,one\nI,0000-00-00,two\n");
    site.command(&["run"]).exits(1).says(&["LOAD00000001.csv", "record 2", "column day", "0000-00-00", "zero date"]);
    site.edit("lakemerge.toml", "[source]\n", "[source]\non_bad_record = \"quarantine\"\n");
    site.run();
    assert_same(&site.rows(&table), &[row(["2024-01-01", "one"])], "the day that is one");
}

#[test]
fn a_run_that_ends_before_its_commit_forgets_no_bad_record() {
    let table = goods();
    let mut site = quarantining(Site::local(), &table);
    site.load(&table, 1, &[row(["1", "one", "1.00"])]);
    site.put_raw(&file(0), "I,2,two,x\n");
    site.run();
    let before = site.version(&table);
    site.put_raw(&file(0), "I,2,two,2.00\n");
    // it stands still before its commit, and is killed there
    site.extra_env = vec![("LAKEMERGE_TEST_PAUSE_BEFORE_COMMIT".into(), site.path("paused").display().to_string())];
    site.start(&["run", "--include-late"]).kill_after(Duration::from_secs(5));
    assert!(site.path("paused").exists());
    assert_eq!(site.version(&table), before);
    site.extra_env.clear();
    quarantine(&site, &[(&file(0), 1, json!("price"), "x", "I,2,two,x")]);
    site.run_exits(0, &["--include-late"]);
    assert_eq!(site.rows(&table).len(), 2);
    quarantine(&site, &[]);
}
