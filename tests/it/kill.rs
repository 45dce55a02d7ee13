//! Killed anywhere and run again is the same as never killed.

use crate::support::dms::Settings;
use crate::support::model::assert_same;
use crate::support::random::Random;
use crate::support::site::Site;
use crate::support::table::{Row, Table};
use crate::support::workload::Workload;
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
