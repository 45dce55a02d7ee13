//! Other writers at the same time: a second run, and a compaction by Python deltalake.

use crate::support::bin::Running;
use crate::support::dms::{Change, Op};
use crate::support::model::{Model, assert_same};
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::{Row, Table};
use crate::support::workload::stamp;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

fn table() -> Table {
    Table::new("shop.rows", &[("id", "int(11) NOT NULL"), ("text", "varchar(20) DEFAULT NULL")])
}

fn rows(ids: std::ops::Range<u32>, text: &str) -> Vec<Row> {
    ids.map(|id| vec![Some(id.to_string()), Some(text.to_owned())]).collect()
}

fn changes(op: Op, ids: std::ops::Range<u32>, text: &str) -> Vec<Change> {
    rows(ids, text).into_iter().map(|row| Change { op, row }).collect()
}

/// A run that stands still before each commit, until it is told to go on (debug builds of lakemerge only).
struct Paused {
    running: Running,
    flag: PathBuf,
}

/// Starts `run` and returns once it has located its rows and stands before its commit.
fn paused_run(site: &mut Site) -> Paused {
    let flag = site.path("paused");
    site.extra_env = vec![("LAKEMERGE_TEST_PAUSE_BEFORE_COMMIT".into(), flag.display().to_string())];
    let mut running = site.start(&["run"]);
    site.extra_env = vec![];
    let started = Instant::now();
    while !flag.exists() {
        if running.ended() {
            panic!("the run ended without a commit to pause before: {}", running.wait());
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the run never came to a commit");
        sleep(Duration::from_millis(5));
    }
    Paused { running, flag }
}

impl Paused {
    fn goes_on(self) -> crate::support::bin::Outcome {
        std::fs::write(self.flag.with_extension("go"), "").unwrap();
        self.running.wait()
    }
}

fn first_runs_meet(mut site: Site) {
    let table = table();
    site.declare(&[&table]);
    site.load(&table, 1, &rows(0..10, "loaded"));
    site.changes(&table, &stamp(0), &changes(Op::Update, 0..3, "changed"));

    let slow = paused_run(&mut site);
    site.run();
    slow.goes_on().exits(0);

    let mut model = Model::new(&table);
    model.load(&rows(0..10, "loaded"));
    model.apply(&changes(Op::Update, 0..3, "changed"));
    assert_same(&site.rows(&table), &model.rows(), "after two first runs");
    let version = site.version(&table);
    site.run();
    assert_eq!(site.version(&table), version, "nothing is left to do");
}

/// What the other run has merged came after this one's listing, and is not gone.
#[test]
fn a_file_that_came_and_was_merged_by_another_run_meanwhile_is_not_missed() {
    let (mut site, table) = (Site::local(), table());
    site.declare(&[&table]);
    site.load(&table, 1, &rows(0..10, "loaded"));
    site.run();
    site.changes(&table, &stamp(0), &changes(Op::Update, 0..3, "changed"));

    let slow = paused_run(&mut site);
    site.changes(&table, &stamp(1), &changes(Op::Delete, 3..5, ""));
    site.run();
    slow.goes_on().exits(0);

    assert_eq!(site.status(&table)["position"], stamp(1));
    let expected = [rows(0..3, "changed"), rows(5..10, "loaded")].concat();
    assert_same(&site.rows(&table), &expected, "after another run with a newer file");
}

#[test]
fn two_first_runs_give_the_rows_once_on_a_folder() {
    first_runs_meet(Site::local());
}

#[test]
fn two_first_runs_give_the_rows_once_in_a_bucket() {
    first_runs_meet(Site::s3());
}

#[test]
fn runs_that_start_together_give_the_rows_once() {
    for site in [Site::local(), Site::s3()] {
        let table = table();
        site.declare(&[&table]);
        site.load(&table, 1, &rows(0..10, "loaded"));
        site.changes(&table, &stamp(0), &changes(Op::Insert, 10..20, "added"));
        let running: Vec<_> = (0..3).map(|_| site.start(&["run"])).collect();
        for outcome in running.into_iter().map(Running::wait) {
            assert!(matches!(outcome.code, Some(0 | 75)), "{outcome}");
        }
        site.run();
        let expected = [rows(0..10, "loaded"), rows(10..20, "added")].concat();
        let mut expected = expected;
        expected.sort();
        assert_same(&site.rows(&table), &expected, "after three runs at once");
    }
}

/// Small files of several runs; then a compaction takes place while a run has located its rows and not committed.
fn a_compaction_comes_between(mut site: Site) {
    let table = table();
    site.declare(&[&table]);
    let mut model = Model::new(&table);
    site.load(&table, 1, &rows(0..10, "loaded"));
    model.load(&rows(0..10, "loaded"));
    site.run();
    for number in 0..3 {
        let added = changes(Op::Insert, 10 * (number + 1)..10 * (number + 2), "added");
        site.changes(&table, &stamp(number), &added);
        model.apply(&added);
        site.run();
    }

    let mixed = [
        changes(Op::Update, 5..8, "updated"),
        changes(Op::Delete, 15..18, "added"),
        changes(Op::Update, 25..27, "updated"),
        changes(Op::Insert, 90..95, "new"),
    ]
    .concat();
    site.changes(&table, &stamp(9), &mixed);
    model.apply(&mixed);
    let slow = paused_run(&mut site);
    readers::compact(&site, &table);
    slow.goes_on().exits(0);

    assert_same(&site.rows(&table), &model.rows(), "after a compaction in between");
    for (engine, rows) in readers::rows(&site, &table) {
        assert_same(&rows, &model.rows(), &format!("after a compaction in between, read by {engine}"));
    }
    // And the next changes find the rows where the compaction put them.
    let last = changes(Op::Delete, 0..40, "");
    site.changes(&table, &stamp(10), &last);
    model.apply(&last);
    site.run();
    assert_same(&site.rows(&table), &model.rows(), "the run after it");
}

#[test]
fn a_compaction_of_another_writer_that_comes_after_ours_doubles_no_row() {
    let table = table();
    let site = Site::local();
    site.declare(&[&table]);
    site.edit("lakemerge.toml", "[lake]\n", "[lake]\ntable_type = \"merge-on-read\"\n");
    site.load(&table, 1, &rows(0..10, "loaded"));
    site.run();
    for number in 0..3 {
        site.changes(&table, &stamp(number), &changes(Op::Insert, 10 * (number + 1)..10 * (number + 2), "added"));
        site.run();
    }
    let before = site.rows(&table);
    let ended = readers::compact_late(&site, &table);
    assert!(ended["error"].as_str().is_some_and(|text| text.contains("Metadata changed")), "{ended}");
    assert_eq!(site.rows(&table), before);
}

#[test]
fn a_compaction_before_the_commit_neither_loses_nor_doubles_a_row_on_a_folder() {
    a_compaction_comes_between(Site::local());
}

#[test]
fn a_compaction_before_the_commit_neither_loses_nor_doubles_a_row_in_a_bucket() {
    a_compaction_comes_between(Site::s3());
}

/// Both have located the same rows when the faster one commits.
#[test]
fn two_runs_with_the_same_changes_apply_them_once() {
    let mut site = Site::local();
    let table = table();
    site.declare(&[&table]);
    site.load(&table, 1, &rows(0..10, "loaded"));
    site.run();
    site.changes(&table, &stamp(0), &changes(Op::Update, 0..5, "updated"));
    site.changes(&table, &stamp(1), &changes(Op::Insert, 10..15, "added"));
    let slow = paused_run(&mut site);
    site.run();
    slow.goes_on().exits(0);
    let mut expected = [rows(0..5, "updated"), rows(5..10, "loaded"), rows(10..15, "added")].concat();
    expected.sort();
    assert_same(&site.rows(&table), &expected, "after two runs with the same changes");
}
