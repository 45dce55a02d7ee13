//! Killed anywhere and run again is the same as never killed.

use crate::support::dms::{Settings, insert};
use crate::support::model::assert_same;
use crate::support::random::Random;
use crate::support::site::Site;
use crate::support::table::{Row, Table, row};
use crate::support::workload::{Workload, stamp};
use serde_json::Value;
use std::time::Duration;

const KILLS: u32 = 40;
/// How often the runs on one lake are killed at most, before one may end.
const KILLS_PER_LAKE: u32 = 3;

/// Two tables of one source, so that a run can be killed between their commits.
fn workloads() -> [Workload; 2] {
    let settings = Settings { null: Some("\\N".to_owned()), ..Settings::default() };
    let first = Workload::small(0, &settings);
    let mut second = Workload::small(4, &settings);
    second.table.name = "others".to_owned();
    [first, second]
}

fn declare(site: &mut Site, tables: &[&Table]) {
    // A batch per file, so that there are many commits to be killed between.
    site.run_config = "batch_bytes = \"1KB\"".to_owned();
    site.declare(tables);
}

/// What must not depend on how often a run was killed.
fn state(site: &Site, tables: &[&Table]) -> Vec<(Vec<Row>, Value, Value)> {
    let state = |table: &&Table| {
        let status = site.status(table);
        (site.rows(table), status["state"].clone(), status["position"].clone())
    };
    tables.iter().map(state).collect()
}

#[test]
fn killed_at_40_moments_and_run_again_is_never_killed() {
    let seed = Random::fresh_seed("kill");
    let random = &mut Random::seeded(seed);
    let workloads = workloads();
    let tables: Vec<&Table> = workloads.iter().map(|workload| &workload.table).collect();

    let mut source = Site::s3();
    source.settings = workloads[0].settings.clone();
    for workload in &workloads {
        workload.write_load(&source);
        for (stamp, changes) in &workload.files {
            source.changes(&workload.table, stamp, changes);
        }
    }
    declare(&mut source, &tables);
    let unbroken = source.command(&["run"]).exits(0).seconds;
    let expected = state(&source, &tables);
    for (workload, (rows, ..)) in workloads.iter().zip(&expected) {
        assert_same(rows, &workload.outcome(), "the unbroken run");
    }

    let (mut killed, mut lakes) = (0, 0);
    while killed < KILLS {
        lakes += 1;
        assert!(lakes < 10 * KILLS, "the runs end before they can be killed: {killed} of {lakes}");
        let mut site = source.with_lake(&format!("lake-{lakes}"));
        declare(&mut site, &tables);
        for _ in 0..KILLS_PER_LAKE {
            let moment = Duration::from_secs_f64(unbroken * random.fraction());
            let outcome = site.start(&["run"]).kill_after(moment);
            if outcome.code.is_some() {
                break;
            }
            killed += 1;
        }
        site.command(&["run"]).exits(0);
        for ((found, expected), table) in state(&site, &tables).iter().zip(&expected).zip(&tables) {
            let what = format!("seed {seed}, lake {lakes}, {}", table.full_name());
            assert_same(&found.0, &expected.0, &what);
            assert_eq!((&found.1, &found.2), (&expected.1, &expected.2), "{what}");
        }
    }
    println!("killed {killed} runs on {lakes} lakes");
}

#[test]
fn a_stopped_run_reports_what_it_has_committed() {
    let table = Table::new("shop.rows", &[("id", "int(11) NOT NULL"), ("text", "varchar(50) DEFAULT NULL")]);
    let mut site = Site::local();
    site.run_config = "batch_bytes = \"1KB\"\nmaintenance = \"off\"".to_owned();
    site.declare(&[&table]);
    site.load(&table, 1, &[row(["0", "loaded"])]);
    for number in 0..400 {
        site.changes(&table, &stamp(number), &[insert([&(number + 1).to_string(), &"x".repeat(1024)])]);
    }
    let report = site.path("report.json");
    let mut run = site.start(&["run", "--report", report.to_str().unwrap()]);
    while site.version(&table).is_none_or(|version| version < 3) {
        assert!(!run.ended(), "it ended before it was stopped");
        std::thread::sleep(Duration::from_millis(5));
    }
    run.terminate().exits(75);
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let told = &report["tables"][0];
    assert_eq!((&told["table"], &told["state"]), (&"shop.rows".into(), &"failed".into()), "{report:#}");
    assert!(told["error"].as_str().unwrap().contains("SIGTERM"), "{report:#}");
    // one more may have come between its commit and the signal
    let (commits, rows) = (told["commits"].as_u64().unwrap(), site.rows(&table).len() as u64);
    assert!(commits >= 3 && (commits == rows || commits + 1 == rows), "{commits} commits, {rows} rows");
    assert_eq!(told["read"].as_u64(), Some(commits), "{report:#}");
}
