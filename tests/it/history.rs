//! `query --as-of`: tables as they were, by version, time and position; and answers as Parquet files.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int32Type;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::support::dms::{delete, insert, update};
use crate::support::site::Site;
use crate::support::table::{Table, row};
use crate::support::workload::stamp;

/// A table of three versions: two rows, then a changed one, then one of another key alone.
fn changed_twice() -> (Site, Table) {
    let table = Table::new("shop.rows", &[("id", "int(11) NOT NULL"), ("text", "varchar(50) DEFAULT NULL")]);
    let site = Site::local();
    site.declare(&[&table]);
    site.load(&table, 1, &[row(["1", "one"]), row(["2", "two"])]);
    site.run();
    site.changes(&table, &stamp(0), &[update(["2", "dos"])]);
    site.run();
    site.changes(&table, &stamp(1), &[delete(["1", "one"]), delete(["2", "dos"]), insert(["3", "three"])]);
    site.run();
    (site, table)
}

fn ask(site: &Site, as_of: &str) -> crate::support::bin::Outcome {
    let sql = "SELECT id, text FROM shop.rows ORDER BY id";
    site.command(&["query", sql, "--format", "csv", "--as-of", as_of])
}

#[test]
fn a_table_is_asked_as_it_was() {
    let (site, table) = changed_twice();
    let versions = ["id,text\n1,one\n2,two\n", "id,text\n1,one\n2,dos\n", "id,text\n3,three\n"];
    for (version, expected) in versions.iter().enumerate() {
        assert_eq!(ask(&site, &version.to_string()).exits(0).stdout, *expected, "version {version}");
    }
    let before = "20240229-000000000".to_string();
    for (position, expected) in [(before, versions[0]), (stamp(0), versions[1]), (stamp(1), versions[2])] {
        assert_eq!(ask(&site, &position).exits(0).stdout, expected, "position {position}");
    }
    // the commits themselves tell their times
    let log = std::path::PathBuf::from(site.table_uri(&table)).join("_delta_log");
    let time = |version: u64| {
        let entry = std::fs::read_to_string(log.join(format!("{version:020}.json"))).unwrap();
        let info = entry.lines().find(|line| line.contains("commitInfo")).unwrap();
        let info: serde_json::Value = serde_json::from_str(info).unwrap();
        chrono::DateTime::from_timestamp_millis(info["commitInfo"]["timestamp"].as_i64().unwrap()).unwrap()
    };
    for (version, expected) in versions.iter().enumerate() {
        let at = time(version as u64).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        assert_eq!(ask(&site, &at).exits(0).stdout, *expected, "{at}");
    }
}

#[test]
fn a_statement_may_begin_with_a_comment() {
    let (site, _) = changed_twice();
    let query = |arguments: &[&str]| site.command(&[&["query"][..], arguments].concat());
    let statement = "-- how many there are\nSELECT count(*) AS n FROM shop.rows";
    for arguments in [[statement, "--format", "csv"], ["--format", "csv", statement]] {
        assert_eq!(query(&arguments).exits(0).stdout, "n\n1\n");
    }
    query(&["--fromat", "csv", statement]).exits(2).says(&["'--fromat'", "'--format'"]);
}

#[test]
fn what_is_no_version_is_said_to_be_none() {
    let (site, _) = changed_twice();
    let cases = [
        ("3", "there is no version 3 yet; the newest is 2"),
        ("2020-01-01", "there was no such table yet at 2020-01-01T00:00:00Z"),
        ("yesterday", "it is no version"),
    ];
    for (as_of, message) in cases {
        let stderr = ask(&site, as_of).exits(2).stderr;
        assert!(stderr.contains(message), "{as_of}: {stderr}");
    }
}

#[test]
fn an_answer_may_be_a_parquet_file() {
    let (site, _) = changed_twice();
    let file = site.path("answer.parquet");
    let to_file = |sql: &str| {
        site.command(&["query", sql, "--format", "parquet", "--output", file.to_str().unwrap(), "--as-of", "0"])
    };
    to_file("SELECT id, text, CAST(1.5 AS DECIMAL(5,2)) AS d FROM shop.rows ORDER BY id").exits(0);
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file).unwrap()).unwrap();
    let rows: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].column(0).as_primitive::<Int32Type>().values(), &[1, 2]);
    assert_eq!(rows[0].num_columns(), 3);
    let stderr = to_file("SELECT 1 AS a; SELECT 2 AS a").exits(1).stderr;
    assert!(stderr.contains("one answer"), "{stderr}");
}
