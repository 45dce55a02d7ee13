//! The source's columns change while its table is in the lake.

use crate::support::dms::{delete, insert, update};
use crate::support::readers;
use crate::support::site::{Report, Site};
use crate::support::table::{NULL, Row, Table, row};
use crate::support::workload::stamp;

const ID: (&str, &str) = ("id", "int(11) NOT NULL");
const NAME: (&str, &str) = ("name", "varchar(20) DEFAULT NULL");

fn goods(columns: &[(&str, &str)]) -> Table {
    Table::new("shop.goods", columns)
}

/// What every engine reads.
#[track_caller]
fn assert_read(site: &Site, table: &Table, expected: &[Row]) {
    assert_eq!(site.rows(table), expected);
    for (engine, rows) in readers::rows(site, table) {
        assert_eq!(rows, expected, "{engine}");
    }
}

/// Declares `table` anew, with `lake` and `source` as further lines of these sections.
fn declare(site: &Site, table: &Table, lake: &str, source: &str) {
    site.declare(&[table]);
    site.edit("lakemerge.toml", "[lake]\n", &format!("[lake]\n{lake}\n"));
    site.edit("lakemerge.toml", "[source]\n", &format!("[source]\n{source}\n"));
}

const TYPES: [&str; 2] = ["table_type = \"copy-on-write\"", "table_type = \"merge-on-read\""];

#[test]
fn status_tells_that_a_run_would_stop_at_the_configuration() {
    let site = Site::local();
    let table = goods(&[ID, NAME]);
    declare(&site, &table, "", "");
    site.load(&table, 1, &[row(["1", "a"])]);
    site.run();
    assert_eq!(site.status(&table)["state"], "up to date");
    for (line, said) in [
        ("delete = \"soft\"", "the table has no column _deleted"),
        ("metadata_columns = [\"_op\"]", "the table has no column _op"),
        ("key = [\"id\", \"name\"]", "the table's key is (id)"),
    ] {
        declare(&site, &table, "", "");
        site.edit("lakemerge.toml", "[[table]]\n", &format!("[[table]]\n{line}\n"));
        site.command(&["run"]).exits(1).says(&[said]);
        let status = site.status_exits(1, &table);
        assert_eq!(status["state"], "stopped", "{status:#}");
        assert!(status["error"].to_string().contains(said), "{status:#}");
    }
    declare(&site, &table, "", "");
    site.edit("lakemerge.toml", "[[table]]\n", "[[table]]\nmetadata_columns = [\"_op\", \"_op\"]\n");
    site.command(&["run"]).exits(2).says(&["names _op twice"]);
}

#[test]
fn an_empty_field_of_a_key_must_not_mean_another_value() {
    let key = [("id", "int(11) NOT NULL"), ("a", "varchar(9) DEFAULT NULL")];
    let other = [("id", "int(11) NOT NULL"), ("a", "varchar(9) NOT NULL")];
    for (was, is, said) in [(key, other, "was NULL until now"), (other, key, "was the empty text until now")] {
        let tables = [was, is].map(|columns| Table::new("shop.goods", &columns).configured_key(&["id", "a"]));
        let mut site = Site::local();
        site.declare(&[&tables[0]]);
        site.load(&tables[0], 1, &[row(["7", "x"])]);
        site.run();
        site.declare(&[&tables[1]]);
        site.changes(&tables[1], &stamp(0), &[insert(["8", "y"])]);
        site.command(&["run"]).exits(1).says(&["empty field of the key column a", said, "--reload shop.goods"]);
        // with a text of its own for NULL nothing is read otherwise
        site.settings.null = Some("<NULL>".to_string());
        site.declare(&[&tables[1]]);
        site.run();
        assert_eq!(site.rows(&tables[1]).len(), 2);
    }
}

#[test]
fn a_new_last_column_is_null_in_the_rows_that_are_there() {
    for lake in TYPES {
        let site = Site::local();
        let old = goods(&[ID, NAME]);
        declare(&site, &old, lake, "");
        site.load(&old, 1, &[row(["1", "a"]), row(["2", "b"]), row(["3", "c"])]);
        site.changes(&old, &stamp(0), &[delete(["3", "c"])]);
        site.run();

        let new = goods(&[ID, NAME, ("seen", "datetime DEFAULT '2024-01-01 00:00:00'")]);
        declare(&site, &new, lake, "");
        let report = site.run().table(&new);
        assert_eq!((&report["state"], &report["commits"]), (&"merged".into(), &1.into()), "{report:#}");
        assert!(report["notes"].to_string().contains("column seen is new"), "{report:#}");
        assert_read(&site, &new, &[row(["1", "a", NULL]), row(["2", "b", NULL])]);

        site.changes(&new, &stamp(1), &[update(["1", "a2", "2024-03-01 12:00:00"]), insert(["4", "d", NULL])]);
        site.run();
        let expected = [row(["1", "a2", "2024-03-01 12:00:00.000000"]), row(["2", "b", NULL]), row(["4", "d", NULL])];
        assert_read(&site, &new, &expected);
        assert_eq!(site.run().table(&new)["state"], "unchanged");
    }
}

#[test]
fn a_type_that_is_the_same_in_delta_is_followed_without_a_rewrite() {
    let site = Site::local();
    let old = goods(&[ID, ("count", "mediumint(9) DEFAULT NULL"), ("name", "varchar(5) DEFAULT NULL")]);
    site.declare(&[&old]);
    site.load(&old, 1, &[row(["1", "8388607", "abcde"])]);
    site.run();
    let files = site.data_files(&old);

    let new = goods(&[ID, ("count", "int(11) DEFAULT NULL"), ("name", "varchar(50) DEFAULT NULL")]);
    site.declare(&[&new]);
    site.changes(&new, &stamp(0), &[insert(["2", "8388608", "abcdef"])]);
    site.run();
    assert_eq!(site.data_files(&new), files + 1);
    assert_read(&site, &new, &[row(["1", "8388607", "abcde"]), row(["2", "8388608", "abcdef"])]);
}

#[test]
fn another_type_stops_the_table_or_rewrites_it() {
    for lake in TYPES {
        let site = Site::local();
        let old = goods(&[ID, NAME, ("price", "decimal(5,2) DEFAULT NULL"), ("code", "int(11) DEFAULT NULL")]);
        declare(&site, &old, lake, "");
        site.load(&old, 1, &[row(["1", "a", "1.50", "7"]), row(["2", "b", "999.99", NULL])]);
        site.changes(&old, &stamp(0), &[update(["2", "b2", "-999.99", "-8"]), delete(["3", "x", NULL, NULL])]);
        site.run();

        let new = goods(&[ID, NAME, ("price", "decimal(12,4) DEFAULT NULL"), ("code", "varchar(9) DEFAULT NULL")]);
        declare(&site, &new, lake, "");
        site.changes(&new, &stamp(1), &[insert(["9", "i", "12345678.1234", "x1"])]);
        let (outcome, _) = site.run_exits(1, &[]);
        outcome.says(&[
            "shop.goods",
            "price",
            "DECIMAL(5,2)",
            "DECIMAL(12,4)",
            "on_type_change = \"rewrite\"",
            "--reload",
        ]);
        assert_eq!(site.rows(&old), [row(["1", "a", "1.50", "7"]), row(["2", "b2", "-999.99", "-8"])]);

        declare(&site, &new, lake, "on_type_change = \"rewrite\"");
        let report = site.run().table(&new);
        assert_eq!(report["commits"], 2, "{report:#}");
        let expected = [
            row(["1", "a", "1.5000", "7"]),
            row(["2", "b2", "-999.9900", "-8"]),
            row(["9", "i", "12345678.1234", "x1"]),
        ];
        assert_read(&site, &new, &expected);
        assert_eq!(site.run().table(&new)["state"], "unchanged");
    }
}

#[test]
fn a_value_that_has_no_place_in_the_new_type_leaves_the_table_as_it_is() {
    let site = Site::local();
    let old = goods(&[ID, NAME]);
    site.declare(&[&old]);
    site.load(&old, 1, &[row(["1", "17"]), row(["2", "many"])]);
    site.run();
    let new = goods(&[ID, ("name", "int(11) DEFAULT NULL")]);
    declare(&site, &new, "", "on_type_change = \"rewrite\"");
    let (outcome, _) = site.run_exits(1, &[]);
    outcome.says(&["shop.goods", "name", "many"]);
    assert_eq!(site.rows(&old), [row(["1", "17"]), row(["2", "many"])]);
}

#[test]
fn what_cannot_be_followed_stops_the_table_and_says_what_to_do() {
    let site = Site::local();
    let old = goods(&[ID, NAME]);
    site.declare(&[&old]);
    site.load(&old, 1, &[row(["1", "a"])]);
    site.run();
    for (columns, words) in [
        (vec![ID], ["column name", "must load the table again", "--reload shop.goods"]),
        (vec![ID, ("new", "int"), NAME], ["column new", "without a header", "--reload shop.goods"]),
        (vec![NAME, ID], ["differ in their order", "shop.goods", "--reload shop.goods"]),
    ] {
        site.declare(&[&goods(&columns).primary_key(&["id"])]);
        site.run_exits(1, &[]).0.says(&words);
    }
    assert_eq!(site.rows(&old), [row(["1", "a"])]);
}

#[test]
fn records_older_than_a_new_column_that_is_not_null_lack_it() {
    for header in [false, true] {
        let mut site = Site::local();
        site.settings.header = header;
        let old = goods(&[ID, NAME]);
        site.declare(&[&old]);
        site.load(&old, 1, &[row(["1", "a"]), row(["2", "b"])]);
        site.run();
        // changes from before the ALTER are still to come
        site.changes(&old, &stamp(0), &[update(["1", "a2"])]);
        let new = goods(&[ID, NAME, ("size", "int(11) NOT NULL DEFAULT '5'")]);
        site.declare(&[&new]);
        site.changes(&new, &stamp(1), &[update(["2", "b2", "6"]), insert(["3", "c", "7"])]);
        site.plan_exits(0, &["--deep"]);
        site.run();
        site.changes(&old, &stamp(2), &[insert(["4", "d"])]);
        site.run();
        let expected = [row(["1", "a2", NULL]), row(["2", "b2", "6"]), row(["3", "c", "7"]), row(["4", "d", NULL])];
        assert_read(&site, &new, &expected);
    }
}

#[test]
fn a_record_from_before_a_rule_is_not_taken_for_one_from_before_a_column() {
    // the task was given before images in a run of its own, or in the one that meets the column
    for together in [false, true] {
        let site = Site::local();
        let old = goods(&[ID, NAME]);
        site.declare(&[&old]);
        site.load(&old, 1, &[row(["1", "a"]), row(["7", "g"])]);
        site.run();
        let new = goods(&[ID, NAME, ("size", "int(11) DEFAULT NULL")]);
        site.declare(&[&new]);
        if !together {
            site.changes(&new, &stamp(0), &[update(["1", "a", "5"])]);
            site.run();
        }
        let rules = r#"{"rules": [{"rule-type": "selection", "rule-id": "1", "rule-name": "1", "rule-action": "include",
            "object-locator": {"schema-name": "%", "table-name": "%"}}, {"rule-type": "transformation", "rule-id": "2",
            "rule-name": "2", "rule-target": "column", "rule-action": "add-before-image-columns",
            "object-locator": {"schema-name": "%", "table-name": "%", "column-name": "%"},
            "before-image-def": {"column-prefix": "BI_", "column-suffix": "", "column-filter": "pk-only"}}]}"#;
        site.write("mappings.json", rules);
        let with_rules = |table: &Table| {
            site.declare(&[table]);
            site.edit("lakemerge.toml", "[source]\n", "[source]\ntable_mappings = \"mappings.json\"\n");
        };
        with_rules(&new);
        // the file is of before
        site.changes(&new, &stamp(1), &[update(["1", "a", "7"])]);
        site.command(&["run"]).exits(1).says(&["record 1", "fields"]);
        let size = if together { NULL } else { "5" };
        assert_read(&site, &new, &[row(["1", "a", size]), row(["7", "g", NULL])]);
        // nor after further columns
        for more in [&["tint"][..], &["tint", "tone"]] {
            let columns: Vec<_> = more.iter().map(|name| (*name, "int(11) DEFAULT NULL")).collect();
            with_rules(&goods(&[&[ID, NAME, ("size", "int(11) DEFAULT NULL")], &columns[..]].concat()));
            site.command(&["run"]).exits(1).says(&["record 1", "fields"]);
        }
    }
}

#[test]
fn a_column_that_files_do_not_name_any_more_is_told() {
    for parquet in [false, true] {
        let mut site = Site::local();
        (site.settings.header, site.settings.parquet) = (!parquet, parquet);
        let whole = goods(&[ID, NAME, ("size", "int(11) DEFAULT NULL")]);
        site.declare(&[&whole]);
        site.load(&whole, 1, &[row(["1", "a", "5"]), row(["2", "b", "6"])]);
        site.run();
        // the source drops the column
        let narrow = goods(&[ID, NAME]);
        site.changes(&narrow, &stamp(0), &[update(["1", "a2"]), insert(["3", "c"])]);
        let told = |report: &Report| report.table(&whole)["notes"].to_string().matches("names no column size").count();
        assert_eq!(told(&site.plan_exits(0, &["--deep"])), 1);
        assert_eq!(told(&site.run()), 1);
        assert_read(&site, &whole, &[row(["1", "a2", NULL]), row(["2", "b", "6"]), row(["3", "c", NULL])]);
        assert_eq!(told(&site.run()), 0);
    }
}

#[test]
fn a_length_that_mysql_pads_or_rounds_to_is_another_type() {
    let columns = |code, at| {
        let table = goods(&[("code", code), ("at", at), ("n", "int(11) DEFAULT NULL")]);
        table.primary_key(&["code"])
    };
    let site = Site::local();
    let old = columns("binary(2) NOT NULL", "datetime(6) DEFAULT NULL");
    declare(&site, &old, "", "");
    site.load(&old, 1, &[row(["0102", "2024-01-01 10:00:00.000000", "1"])]);
    site.run();
    let new = columns("binary(4) NOT NULL", "datetime DEFAULT NULL");
    declare(&site, &new, "", "");
    site.command(&["run"]).exits(1).says(&["code", "BINARY(2)", "BINARY(4)", "on_type_change"]);
    declare(&site, &new, "", "on_type_change = \"rewrite\"");
    site.changes(&new, &stamp(0), &[update(["01020000", "2024-01-01 10:00:00.000000", "9"])]);
    site.run();
    assert_eq!(site.rows(&new).len(), 1, "the key is padded as the source pads it");
    // a fraction that the source has rounded since
    let site = Site::local();
    declare(&site, &old, "", "");
    site.load(&old, 1, &[row(["0102", "2024-01-01 10:00:00.623456", "1"])]);
    site.run();
    declare(&site, &new, "", "on_type_change = \"rewrite\"");
    site.command(&["run"]).exits(1).says(&["at", "10:00:00.623456", "DATETIME", "--reload"]);
}
