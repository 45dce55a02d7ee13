//! Values that statistics usually round: found by WHERE in a file of one row, by `query` and by other engines.

use crate::support::dms::{insert, update};
use crate::support::model::assert_same;
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::{Row, Table, row};
use crate::support::workload::stamp;

/// Type, value, how SQL writes it, and a neighbour from which rounding would not tell it.
const VALUES: [(&str, &str, &str, &str); 8] = [
    ("bigint(20) unsigned", "9007199254740993", "9007199254740993", "9007199254740992"),
    ("bigint(20) unsigned", "18446744073709551615", "18446744073709551615", "18446744073709551614"),
    ("bigint(20)", "9223372036854775807", "9223372036854775807", "9223372036854775806"),
    ("decimal(18,4)", "12345678901234.5678", "12345678901234.5678", "12345678901234.5679"),
    ("decimal(15,2)", "1234567890123.45", "1234567890123.45", "1234567890123.46"),
    ("decimal(10,2)", "12345678.91", "12345678.91", "12345678.92"),
    (
        "datetime(6)",
        "2024-02-29 12:00:00.123456",
        "TIMESTAMP '2024-02-29 12:00:00.123456'",
        "2024-02-29 12:00:00.123999",
    ),
    (
        "timestamp(6)",
        "2024-02-29 12:00:00.123456",
        "TIMESTAMP '2024-02-29 12:00:00.123456'",
        "2024-02-29 12:00:00.123001",
    ),
];

fn tables() -> Vec<Table> {
    let table = |(number, (kind, ..)): (usize, &(&str, &str, &str, &str))| {
        let kind = format!("{kind} NOT NULL");
        Table::new(&format!("exact.t{number}"), &[("v", &kind), ("text", "varchar(20) DEFAULT NULL")])
    };
    VALUES.iter().enumerate().map(table).collect()
}

fn one_row_each() -> (Site, Vec<Table>) {
    let tables = tables();
    let site = Site::local();
    site.declare(&tables.iter().collect::<Vec<_>>());
    for (table, (_, value, ..)) in tables.iter().zip(VALUES) {
        site.load(table, 1, &[row([value, "loaded"])]);
    }
    site.run();
    (site, tables)
}

#[test]
fn a_value_is_found_by_query() {
    let (site, tables) = one_row_each();
    for (table, (kind, _, literal, _)) in tables.iter().zip(VALUES) {
        for (condition, rows) in [
            (format!("v = {literal}"), 1),
            (format!("v >= {literal}"), 1),
            (format!("v <= {literal}"), 1),
            (format!("v > {literal}"), 0),
            (format!("v < {literal}"), 0),
            (format!("v <> {literal}"), 0),
        ] {
            let sql = format!("SELECT text FROM {} WHERE {condition}", table.full_name());
            assert_eq!(site.query(&sql).len(), rows, "{kind}: {sql}");
        }
    }
}

#[test]
fn a_value_comes_out_as_it_went_in() {
    let (site, tables) = one_row_each();
    for (table, (kind, value, ..)) in tables.iter().zip(VALUES) {
        assert_same(&site.rows(table), &[row([value, "loaded"])], kind);
    }
    assert_eq!(site.query_csv("SELECT v FROM exact.t0 WHERE v > 0"), "v\n9007199254740993\n");
    assert_eq!(site.query_csv("SELECT v FROM exact.t1 WHERE v > 0"), "v\n18446744073709551615\n");
    assert_eq!(site.query_csv("SELECT v FROM exact.t3 WHERE v > 0"), "v\n12345678901234.5678\n");
    assert_eq!(site.query_csv("SELECT min(v) AS a, max(v) AS b FROM exact.t1"), format!("a,b\n{0},{0}\n", u64::MAX));
}

#[test]
fn a_value_is_found_by_other_engines() {
    let (site, tables) = one_row_each();
    for (table, (kind, value, ..)) in tables.iter().zip(VALUES) {
        for (engine, rows) in readers::find(&site, table, "v", value) {
            assert_same(&rows, &[row([value, "loaded"])], &format!("{kind}, read by {engine}"));
        }
    }
}

/// The key is such a value: rounded bounds would rule out the file that holds the row, and an update would double it.
#[test]
fn an_update_finds_its_row_and_leaves_the_neighbour() {
    let (site, tables) = one_row_each();
    for (table, (_, _, _, neighbour)) in tables.iter().zip(VALUES) {
        site.changes(table, &stamp(0), &[insert([neighbour, "neighbour"])]);
    }
    site.run();
    for (table, (_, value, ..)) in tables.iter().zip(VALUES) {
        site.changes(table, &stamp(1), &[update([value, "updated"])]);
    }
    site.run();
    for (table, (kind, value, _, neighbour)) in tables.iter().zip(VALUES) {
        let mut expected: Vec<Row> = vec![row([value, "updated"]), row([neighbour, "neighbour"])];
        expected.sort();
        assert_same(&site.rows(table), &expected, kind);
        for (engine, rows) in readers::find(&site, table, "v", neighbour) {
            assert_same(&rows, &[row([neighbour, "neighbour"])], &format!("{kind}, read by {engine}"));
        }
    }
}
