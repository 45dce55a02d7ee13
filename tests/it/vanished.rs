//! T-A10: a TRUNCATE of the source makes DMS delete what it wrote; `on_vanished = "truncate"` empties the table.

use crate::support::dms::{insert, update};
use crate::support::model::assert_same;
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::{Table, row};
use crate::support::workload::stamp;

/// A table with a load and a change file, both merged and then gone.
fn truncated(table_type: &str) -> (Site, Table) {
    let table = Table::new("shop.rows", &[("id", "int(11) NOT NULL"), ("text", "varchar(50) DEFAULT NULL")]);
    let site = Site::local();
    site.declare(&[&table]);
    site.edit("lakemerge.toml", "s3_settings", "on_vanished = \"truncate\"\ns3_settings");
    site.edit("lakemerge.toml", "[run]", &format!("table_type = \"{table_type}\"\n[run]"));
    site.load(&table, 1, &[row(["1", "one"]), row(["2", "two"])]);
    site.run();
    site.changes(&table, &stamp(0), &[update(["2", "dos"]), insert(["3", "three"])]);
    site.run();
    site.remove_raw("shop/rows/LOAD00000001.csv");
    site.remove_raw(&format!("shop/rows/{}.csv", stamp(0)));
    (site, table)
}

#[test]
fn changes_after_a_truncate_are_merged_into_the_emptied_table_in_one_commit() {
    for table_type in ["copy-on-write", "merge-on-read"] {
        let (site, table) = truncated(table_type);
        let version = site.version(&table).unwrap();
        site.changes(&table, &stamp(1), &[insert(["9", "nine"]), insert(["1", "again"])]);
        site.changes(&table, &stamp(2), &[update(["9", "neuf"])]);
        let report = site.run().table(&table);
        assert_eq!((&report["commits"], site.version(&table)), (&1.into(), Some(version + 1)), "{report:#}");
        let note = report["notes"][0].as_str().unwrap();
        assert!(note.contains("is gone") && note.contains("3 rows were removed"), "{note}");
        let expected = [row(["1", "again"]), row(["9", "neuf"])];
        assert_same(&site.rows(&table), &expected, table_type);
        for (engine, rows) in readers::rows(&site, &table) {
            assert_same(&rows, &expected, &format!("{table_type}, read by {engine}"));
        }
        assert_eq!(site.run().table(&table)["state"], "unchanged");
        site.changes(&table, &stamp(3), &[insert(["10", "ten"])]);
        site.run();
        assert_eq!(site.rows(&table).len(), 3);
    }
}

#[test]
fn a_load_after_a_truncate_replaces_the_table_in_one_commit() {
    let (site, table) = truncated("copy-on-write");
    let version = site.version(&table).unwrap();
    site.load(&table, 1, &[row(["7", "seven"])]);
    let report = site.run().table(&table);
    assert_eq!((&report["commits"], site.version(&table)), (&1.into(), Some(version + 1)), "{report:#}");
    assert!(report["notes"][0].as_str().unwrap().contains("3 rows were removed"), "{report:#}");
    assert_same(&site.rows(&table), &[row(["7", "seven"])], "loaded again");
    site.changes(&table, &stamp(1), &[update(["7", "sept"])]);
    site.run();
    assert_same(&site.rows(&table), &[row(["7", "sept"])], "and changed");
}

#[test]
fn a_truncate_without_more_empties_the_table_once_and_a_load_may_follow() {
    let (site, table) = truncated("copy-on-write");
    assert_eq!(site.run().table(&table)["commits"], 1);
    assert!(site.rows(&table).is_empty());
    assert_eq!(site.run().table(&table)["commits"], 0);
    site.load(&table, 1, &[row(["7", "seven"])]);
    site.changes(&table, &stamp(1), &[insert(["8", "eight"])]);
    site.run();
    assert_same(&site.rows(&table), &[row(["7", "seven"]), row(["8", "eight"])], "filled again");
    assert_eq!(site.run().table(&table)["state"], "unchanged");
}

#[test]
fn what_it_means_may_be_said_for_one_table() {
    let (site, table) = truncated("copy-on-write");
    site.changes(&table, &stamp(1), &[insert(["9", "nine"])]);
    site.edit("lakemerge.toml", "name = \"shop.rows\"", "name = \"shop.rows\"\non_vanished = \"stop\"");
    site.command(&["run"]).exits(1).says(&["is gone", "on_vanished"]);
    assert_eq!(site.rows(&table).len(), 3);
    site.edit("lakemerge.toml", "on_vanished = \"stop\"", "on_vanished = \"keep\"");
    site.run();
    assert_eq!(site.rows(&table).len(), 4);
}

#[test]
fn what_is_older_than_the_late_window_is_still_there_after_a_truncate() {
    let (site, table) = truncated("copy-on-write");
    // Left behind by whoever removed the others: all that is listed is applied, however old.
    site.changes(&table, "20230101-000000000", &[insert(["5", "five"])]);
    site.run();
    assert_same(&site.rows(&table), &[row(["5", "five"])], "what is listed");
}
