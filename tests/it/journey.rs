//! The first five minutes: the demo that the repository ships, as the README runs it.

use crate::support::bin::{self, Outcome};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

const TABLES: [(&str, i64); 4] = [("coal_prod", 203), ("fossil_capita", 200), ("gas_prod", 201), ("oil_prod", 200)];

/// A copy of the demo, without a lake that someone may have made in the repository.
fn demo() -> TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = TempDir::new().unwrap();
    std::fs::copy(root.join("lakemerge.toml"), copy.path().join("lakemerge.toml")).unwrap();
    copy_folder(&root.join("demo"), &copy.path().join("demo"));
    copy
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() && entry.file_name() != "lake" {
            copy_folder(&path, &target);
        } else if path.is_file() {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

fn lakemerge(demo: &TempDir, args: &[&str]) -> Outcome {
    bin::start(demo.path(), &[], args).wait()
}

fn csv(demo: &TempDir, sql: &str) -> String {
    lakemerge(demo, &["query", sql, "--format", "csv"]).exits(0).stdout
}

fn versions(demo: &TempDir) -> Vec<usize> {
    let log = |table| demo.path().join("demo/lake/fossil").join(table).join("_delta_log");
    TABLES.iter().map(|(table, _)| std::fs::read_dir(log(table)).unwrap().count()).collect()
}

#[test]
fn the_demo_becomes_four_tables_that_can_be_queried() {
    let demo = demo();
    lakemerge(&demo, &["run"]).exits(0);

    for (table, rows) in TABLES {
        assert_eq!(csv(&demo, &format!("SELECT count(*) AS n FROM fossil.{table}")), format!("n\n{rows}\n"), "{table}");
    }
    let updated = "SELECT Year, Production, consumption FROM fossil.coal_prod \
                   WHERE Entity = 'Ruritania' AND Year >= 2009 AND Year <> 2011 AND Year <> 2012 ORDER BY Year";
    assert_eq!(
        csv(&demo, updated),
        "Year,Production,consumption\n\
         2009,60.60,408.51\n\
         2013,284.56,145.66\n\
         2014,61.73,426.15\n\
         2015,301.10,150.00\n\
         2016,298.40,149.10\n"
    );
    let last_of_many = "SELECT Entity, Production FROM fossil.coal_prod WHERE Year = 2015 ORDER BY Entity";
    assert_eq!(csv(&demo, last_of_many), "Entity,Production\nRuritania,301.10\nZubrowka,12.00\n");
    let key_with_null = "SELECT Year, Production, consumption FROM fossil.coal_prod WHERE Entity IS NULL";
    assert_eq!(csv(&demo, key_with_null), "Year,Production,consumption\n2014,12.75,3.50\n");
    let quoted = "SELECT Entity, Production FROM fossil.gas_prod WHERE Code = 'SEI' AND Year = 2014";
    assert_eq!(csv(&demo, quoted), "Entity,Production\n\"Saint Elmo, Isles of\",9.90\n");
    let null = "SELECT Year, Production FROM fossil.oil_prod WHERE Code = 'IVT' AND Year NOT BETWEEN 1996 AND 2014";
    assert_eq!(csv(&demo, null), "Year,Production\n2015,\n");
}

#[test]
fn a_second_run_of_the_demo_makes_no_version() {
    let demo = demo();
    lakemerge(&demo, &["run"]).exits(0);
    let before = versions(&demo);
    lakemerge(&demo, &["run"]).exits(0);
    assert_eq!(versions(&demo), before);
}

#[test]
fn status_and_query_give_json_that_scripts_can_rely_on() {
    let demo = demo();
    lakemerge(&demo, &["run"]).exits(0);

    let status: Value =
        serde_json::from_str(&lakemerge(&demo, &["status", "--format", "json"]).exits(0).stdout).unwrap();
    assert_eq!(status["schema"], 1);
    let tables = status["tables"].as_array().unwrap();
    assert_eq!(tables.len(), TABLES.len());
    for (table, (name, rows)) in tables.iter().zip(TABLES) {
        assert_eq!(table["table"], format!("fossil.{name}"));
        assert_eq!(table["state"], "up to date");
        assert_eq!((&table["rows"], &table["deleted_rows"]), (&rows.into(), &0.into()));
        assert!(table["version"].is_u64() && table["files"].is_u64() && table["bytes"].is_u64(), "{table}");
    }
    assert_eq!(tables[0]["position"], "20240302-071512345");
    assert_eq!(tables[3]["position"], "20240303-000000007");

    let sql = "SELECT Entity, Code, Year, Production FROM fossil.coal_prod WHERE Entity IS NULL";
    let json: Value =
        serde_json::from_str(&lakemerge(&demo, &["query", sql, "--format", "json"]).exits(0).stdout).unwrap();
    let rows = if json.is_array() { &json } else { &json["rows"] };
    assert_eq!(rows[0]["Year"], 2014);
    assert!(rows[0]["Entity"].is_null());
}

/// Makes the raw files and data files below `folder` such that nobody can read them, though they look the same in a listing.
fn spoil(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            spoil(&path);
        } else if path.extension().is_some_and(|extension| extension == "csv" || extension == "parquet") {
            let metadata = path.metadata().unwrap();
            std::fs::write(&path, vec![b'"'; metadata.len() as usize]).unwrap();
            std::fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(metadata.modified().unwrap())
                .unwrap();
        }
    }
}

#[test]
fn without_new_files_nothing_is_opened_and_it_is_quick() {
    let demo = demo();
    lakemerge(&demo, &["run"]).exits(0);
    spoil(&demo.path().join("demo"));
    let report = demo.path().join("report.json");
    let seconds = lakemerge(&demo, &["run", "--report", report.to_str().unwrap()]).exits(0).seconds;
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    for table in report["tables"].as_array().unwrap() {
        assert_eq!(table["state"], "unchanged");
        assert_eq!((&table["bytes"], &table["read"], &table["commits"]), (&0.into(), &0.into(), &0.into()));
    }
    // A debug build on a busy machine; a release build takes a fraction of it.
    assert!(seconds < 5.0, "{seconds} s");
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_run() {
    let demo = demo();
    let run = lakemerge(&demo, &["run", "--report", "no/such/folder/report.json"]).exits(2);
    assert!(run.stderr.contains("--report no/such/folder/report.json: there is no folder"), "{}", run.stderr);
    assert!(!demo.path().join("demo/lake").exists());
}

#[test]
fn a_long_statement_is_answered() {
    let demo = demo();
    lakemerge(&demo, &["run"]).exits(0);
    let conditions = (0..3000).map(|year| format!("\"Year\" = {year}")).collect::<Vec<_>>().join(" OR ");
    let sql = format!("SELECT count(*) AS n FROM fossil.coal_prod WHERE {conditions}");
    lakemerge(&demo, &["query", &sql]).exits(0);
}

#[test]
fn query_is_read_only() {
    let demo = demo();
    lakemerge(&demo, &["run"]).exits(0);
    for sql in [
        "COPY (SELECT 1) TO 'stolen.csv'",
        "CREATE TABLE t AS SELECT 1 AS a",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'demo/schema.sql'",
        "INSERT INTO fossil.coal_prod SELECT * FROM fossil.coal_prod",
        "DROP TABLE fossil.coal_prod",
        "SET datafusion.execution.batch_size = 1",
        "SELECT * FROM 'demo/schema.sql'",
    ] {
        let outcome = lakemerge(&demo, &["query", sql, "--format", "csv"]).exits(1);
        assert_eq!(outcome.stdout, "", "{sql}");
    }
    assert!(!demo.path().join("stolen.csv").exists());
}

#[test]
fn an_error_in_sql_exits_1_and_names_what_is_wrong() {
    let demo = demo();
    lakemerge(&demo, &["run"]).exits(0);
    lakemerge(&demo, &["query", "SELECT Prodction FROM fossil.coal_prod"]).exits(1).says(&["Prodction"]);
    lakemerge(&demo, &["query", "SELECT 1 FROM fossil.coal"]).exits(1).says(&["coal"]);
}
