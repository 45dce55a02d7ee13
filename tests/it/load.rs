//! The full load: in which order its files count, when it is complete, and what happens when it changes.

use crate::support::dms::{insert, update};
use crate::support::model::assert_same;
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::{Row, Table, row};
use crate::support::workload::stamp;

fn table() -> Table {
    Table::new("shop.rows", &[("id", "int(11) NOT NULL"), ("text", "varchar(50) DEFAULT NULL")])
}

fn declared(table: &Table) -> Site {
    let site = Site::local();
    site.declare(&[table]);
    site
}

/// More than a MaxFileSize of 1 KB.
fn many(from: u32) -> Vec<Row> {
    (from..from + 60).map(|id| vec![Some(id.to_string()), Some("x".repeat(30))]).collect()
}

#[test]
fn of_a_primary_key_that_comes_twice_the_later_file_stays() {
    let table = table();
    let site = declared(&table);
    site.load(&table, 2, &[row(["1", "from file 2"]), row(["2", "two"])]);
    site.load(&table, 1, &[row(["1", "from file 1"]), row(["3", "three"])]);
    let report = site.run().table(&table);
    assert_eq!((&report["read"], &report["inserted"], &report["commits"]), (&4.into(), &3.into(), &1.into()));
    assert_same(&site.rows(&table), &[row(["1", "from file 2"]), row(["2", "two"]), row(["3", "three"])], "doubles");
}

#[test]
fn load_files_count_in_hexadecimal_order() {
    let table = table();
    let site = declared(&table);
    for number in [0x10, 0x09, 0x0A] {
        site.load(&table, number, &[row(["1", &format!("file {number:X}")]), row([&number.to_string(), "own"])]);
    }
    site.run();
    let expected = [row(["1", "file 10"]), row(["10", "own"]), row(["16", "own"]), row(["9", "own"])];
    assert_same(&site.rows(&table), &expected, "hexadecimal numbers");
}

#[test]
fn a_double_of_a_configured_key_stops_the_table_and_shows_both_rows() {
    let double = table().configured_key(&["id"]);
    let other = Table::new("shop.other", &[("id", "int(11) NOT NULL")]);
    let site = Site::local();
    site.declare(&[&double, &other]);
    site.load(&double, 1, &[row(["7", "first of them"]), row(["8", "eight"])]);
    site.load(&double, 2, &[row(["7", "second of them"])]);
    site.load(&other, 1, &[row(["1"])]);
    let (outcome, report) = site.run_exits(1, &[]);
    outcome.says(&["shop.rows", "7", "first of them", "second of them"]);
    assert_eq!(report.table(&double)["state"], "failed");
    assert_eq!((site.version(&double), site.version(&other)), (None, Some(0)));
}

/// A load whose only file is as large as files may be: another one may follow.
fn loading() -> (Site, Table) {
    let table = table();
    let mut site = Site::local();
    site.settings.max_file_size = Some(1);
    site.declare(&[&table]);
    site.load(&table, 1, &many(0));
    let report = site.run().table(&table);
    assert_eq!(report["state"], "loading", "{report:#}");
    assert_eq!(site.status(&table)["state"], "loading");
    (site, table)
}

#[test]
fn a_load_that_is_still_arriving_continues_at_the_next_run() {
    let (site, table) = loading();
    assert_eq!(site.run().table(&table)["state"], "loading", "nothing new");

    // The second file also holds a row of the first again, as a resumed load does.
    let second = [vec![row(["0", "again"])], many(60)[..5].to_vec()].concat();
    site.load(&table, 2, &second);
    site.run();
    assert_eq!(site.status(&table)["state"], "up to date");
    let mut expected = [&[row(["0", "again"])], &many(0)[1..], &many(60)[..5]].concat();
    expected.sort();
    assert_same(&site.rows(&table), &expected, "continued");
}

#[test]
fn a_change_file_completes_a_load() {
    let (site, table) = loading();
    site.changes(&table, &stamp(0), &[update(["0", "changed"])]);
    site.run();
    let status = site.status(&table);
    assert_eq!((&status["state"], &status["position"]), (&"up to date".into(), &stamp(0).into()));
    assert_eq!(site.rows(&table).len(), 60);
}

#[test]
fn the_user_can_say_that_a_load_is_complete() {
    let (site, table) = loading();
    let said = || site.run_exits(0, &["--load-complete", "shop.rows"]).1.table(&table)["notes"].to_string();
    assert!(!said().contains("--load-complete"));
    assert!(said().contains("--load-complete changed nothing"));
    assert_eq!(site.status(&table)["state"], "up to date");
    assert_eq!(site.run().table(&table)["state"], "unchanged");
    assert_eq!(site.rows(&table).len(), 60);
}

#[test]
fn a_load_file_after_the_changes_stops_the_table() {
    let (site, table) = loading();
    site.changes(&table, &stamp(0), &[update(["0", "changed"])]);
    site.run();
    site.load(&table, 2, &[row(["0", "late"])]);
    let outcome = site.command(&["run"]).exits(1);
    outcome.says(&["shop.rows", "LOAD00000002.csv", "--reload"]);
    assert_eq!(site.rows(&table).len(), 60);
}

/// A merged load with changes, whose LOAD file is then another one.
fn changed_load() -> (Site, Table) {
    let table = table();
    let site = declared(&table);
    site.load(&table, 1, &[row(["1", "one"]), row(["2", "two"])]);
    site.run();
    site.load(&table, 1, &[row(["1", "uno"]), row(["3", "tres"])]);
    let version = site.version(&table);
    let outcome = site.command(&["run"]).exits(1);
    outcome.says(&["shop.rows", "LOAD00000001.csv", "--reload", "--accept-load"]);
    assert_eq!(site.version(&table), version);
    (site, table)
}

#[test]
fn a_changed_load_can_replace_the_table_in_one_commit() {
    let (site, table) = changed_load();
    let version = site.version(&table).unwrap();
    site.run_exits(0, &["--reload", "shop.rows"]);
    assert_eq!(site.version(&table), Some(version + 1));
    let expected = [row(["1", "uno"]), row(["3", "tres"])];
    assert_same(&site.rows(&table), &expected, "reloaded");
    for (engine, rows) in readers::rows(&site, &table) {
        assert_same(&rows, &expected, &format!("reloaded, read by {engine}"));
    }
    assert_eq!(site.run().table(&table)["state"], "unchanged");
}

#[test]
fn a_changed_load_can_be_accepted_as_it_is() {
    let (site, table) = changed_load();
    site.run_exits(0, &["--accept-load", "shop.rows"]);
    assert_same(&site.rows(&table), &[row(["1", "one"]), row(["2", "two"])], "accepted");
    assert_eq!(site.run().table(&table)["state"], "unchanged");
    site.changes(&table, &stamp(0), &[insert(["4", "four"])]);
    site.run();
    assert_eq!(site.rows(&table).len(), 3);
}

#[test]
fn changes_after_a_reload_are_merged() {
    let (site, table) = changed_load();
    site.run_exits(0, &["--reload", "shop.rows"]);
    site.changes(&table, &stamp(0), &[update(["3", "three"]), insert(["4", "four"])]);
    site.run();
    assert_same(&site.rows(&table), &[row(["1", "uno"]), row(["3", "three"]), row(["4", "four"])], "after a reload");
}

#[test]
fn a_table_without_a_folder_has_no_data_yet() {
    let table = table();
    let site = declared(&table);
    site.put_raw("shop/another/LOAD00000001.csv.tmp", "");
    let report = site.run().table(&table);
    assert_eq!((&report["state"], &report["version"]), (&"no data yet".into(), &serde_json::Value::Null));
    assert_eq!(site.status(&table)["state"], "no data yet");
}

#[test]
fn changes_without_a_load_begin_an_empty_table() {
    let table = table();
    let site = declared(&table);
    site.changes(&table, &stamp(0), &[insert(["1", "one"]), update(["1", "uno"]), insert(["2", "two"])]);
    site.run();
    assert_same(&site.rows(&table), &[row(["1", "uno"]), row(["2", "two"])], "changes alone");
}

/// T-A10: a TRUNCATE of the source makes DMS delete what it wrote; what comes then must not be merged into the old rows.
#[test]
fn a_consumed_change_file_that_vanished_stops_the_table() {
    let table = table();
    let site = declared(&table);
    site.load(&table, 1, &[row(["1", "one"])]);
    site.changes(&table, &stamp(0), &[insert(["2", "two"])]);
    site.run();
    site.remove_raw("shop/rows/LOAD00000001.csv");
    site.remove_raw(&format!("shop/rows/{}.csv", stamp(0)));
    site.changes(&table, &stamp(1), &[insert(["9", "nine"])]);
    site.command(&["run"]).exits(1).says(&["shop.rows", "on_vanished"]);
    assert_same(&site.rows(&table), &[row(["1", "one"]), row(["2", "two"])], "after a truncate");
}

#[test]
fn a_double_is_found_whatever_partition_its_rows_are_in() {
    let columns = [("id", "int(11) NOT NULL"), ("region", "varchar(20) DEFAULT NULL")];
    let primary = Table::new("shop.goods", &columns).partitioned_by(&["region"]);
    let site = Site::local();
    site.declare(&[&primary]);
    site.load(&primary, 1, &[row(["1", "a"]), row(["2", "a"])]);
    site.load(&primary, 2, &[row(["1", "b"])]);
    let report = site.run().table(&primary);
    assert_eq!((&report["inserted"], &report["netted_away"]), (&2.into(), &1.into()), "{report:#}");
    assert_same(&site.rows(&primary), &[row(["1", "b"]), row(["2", "a"])], "the later file's row stays");

    let configured = primary.configured_key(&["id"]);
    let site = Site::local();
    site.declare(&[&configured]);
    site.load(&configured, 1, &[row(["1", "a"]), row(["2", "a"]), row(["1", "b"])]);
    site.command(&["run"]).exits(1).says(&["id=1, region=a", "id=1, region=b"]);
}

#[test]
fn names_of_tables_may_hold_anything() {
    for name in ["naïve", "a b", "a+b", "a=b", "a#b", "a%b", "a~b", "日本", "a.b", "a!20b"] {
        let table = Table::new(&format!("shop.{name}"), &[("id", "int(11) NOT NULL")]);
        let site = Site::local();
        site.declare(&[&table]);
        site.edit("lakemerge.toml", &format!("\"shop.{name}\""), &format!("'shop.\"{name}\"'"));
        site.load(&table, 1, &[row(["1"])]);
        site.command(&["run"]).exits(0);
        site.changes(&table, &stamp(0), &[insert(["2"])]);
        site.command(&["run"]).exits(0);
        let rows = site.query(&format!("SELECT id FROM shop.\"{name}\" ORDER BY id"));
        assert_eq!(rows.len(), 2, "{name}: {rows:?}");
    }
}

#[test]
fn names_of_key_columns_may_hold_anything() {
    for name in ["a\nb", "{first}", "{same_key}", "a?b", "$1", "-- a"] {
        let table = Table::new("shop.rows", &[(name, "int(11) NOT NULL"), ("text", "varchar(9) DEFAULT NULL")]);
        let site = Site::local();
        site.declare(&[&table]);
        site.load(&table, 1, &[row(["1", "one"]), row(["2", "two"])]);
        site.run();
        site.changes(&table, &stamp(0), &[update(["2", "dos"])]);
        site.command(&["run"]).exits(0);
        assert_same(&site.rows(&table), &[row(["1", "one"]), row(["2", "dos"])], name);
    }
}

#[test]
fn of_a_reload_on_a_local_path_the_user_says_where_its_changes_begin() {
    // T-A12: a file of before the new load stays
    let table = Table::new("shop.rows", &[("id", "int(11) NOT NULL"), ("text", "varchar(50) DEFAULT NULL")]);
    let site = Site::local();
    site.declare(&[&table]);
    site.load(&table, 1, &[row(["1", "one"])]);
    site.changes(&table, &stamp(0), &[update(["1", "before the load"])]);
    site.run();
    site.load(&table, 1, &[row(["1", "as the task loaded it again"])]);
    let report = site.run_exits(0, &["--reload", "shop.rows"]).1.table(&table);
    assert!(report["notes"].to_string().contains("--reload shop.rows --changes-from"), "{report:#}");
    let asked = ["--reload", "shop.rows", "--changes-from", &stamp(1)];
    let report = site.run_exits(0, &asked).1.table(&table);
    assert!(report["notes"].to_string().contains("is older than the full load and left out"), "{report:#}");
    assert_same(&site.rows(&table), &[row(["1", "as the task loaded it again"])], "without the older file");
    site.changes(&table, &stamp(1), &[update(["1", "behind the load"])]);
    site.run();
    assert_same(&site.rows(&table), &[row(["1", "behind the load"])], "and with the one behind it");
}

#[test]
fn where_the_changes_of_a_load_begin_is_said_of_that_load() {
    let tables = ["shop.one", "shop.two"].map(|name| Table::new(name, &[("id", "int(11) NOT NULL")]));
    let site = Site::local();
    site.declare(&[&tables[0], &tables[1]]);
    for table in &tables {
        site.load(table, 1, &[row(["1"])]);
        site.changes(table, &stamp(0), &[insert(["2"])]);
    }
    let (outcome, _) = site.run_exits(2, &["--changes-from", &stamp(1)]);
    assert!(outcome.stderr.contains("--table"), "{outcome}");
    site.run_exits(0, &["--reload", "shop.one", "--changes-from", &stamp(1)]);
    assert_same(&site.rows(&tables[0]), &[row(["1"])], "the one that was named");
    assert_same(&site.rows(&tables[1]), &[row(["1"]), row(["2"])], "the other");
    // also of what comes later
    site.changes(&tables[0], &format!("{}1", &stamp(0)[..stamp(0).len() - 1]), &[insert(["3"])]);
    site.changes(&tables[0], &stamp(2), &[insert(["4"])]);
    site.run();
    assert_same(&site.rows(&tables[0]), &[row(["1"]), row(["4"])], "behind the load");
    // said again of a load that is there it changes nothing, and nor does anything else that finds nothing to do
    let told = |asked: &[&str]| site.run_exits(0, asked).1.table(&tables[0])["notes"].to_string();
    let of = ["--table", "shop.one"];
    assert!(!told(&[&of[..], &["--changes-from", &stamp(1)]].concat()).contains("changed nothing"));
    assert!(told(&[&of[..], &["--changes-from", &stamp(3)]].concat()).contains("--changes-from changed nothing"));
    assert!(told(&[&of[..], &["--adopt", "shop.one"]].concat()).contains("--adopt changed nothing"));
}
