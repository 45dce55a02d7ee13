//! Tasks that write Parquet: every type, columns by name, and files that are none.

use serde_json::json;

use crate::support::dms::{Change, Op, Settings};
use crate::support::model::{Model, assert_same};
use crate::support::random::seeds;
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::{Row, Table, row};
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
