//! Whatever the table, its files, the settings and what happens in between: it holds what its changes make of it one by
//! one, and nothing is left to do.
//!
//! A failure prints its seed, the last one in what the test says. `LAKEMERGE_TEST_SEED=n` repeats one case, `LAKEMERGE_TEST_CASES=n` tries as many.

use crate::support::deltalake_merge::{PlainTable, comparable};
use crate::support::dms::{Change, Op};
use crate::support::model::{Model, assert_same};
use crate::support::random::{Random, seeds};
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::equals;
use crate::support::workload::Workload;
use serde_json::Value;

#[test]
fn every_run_leaves_what_the_changes_make_one_by_one() {
    for seed in seeds(18) {
        let mut case = Case::new(seed, Workload::random(seed));
        for arrival in case.arrivals() {
            case.arrive(&arrival);
            case.run();
            case.maintain_now_and_then();
        }
        if seed % 4 == 0 {
            case.is_read_by_other_engines();
        }
    }
}

#[test]
fn deltalakes_own_merge_gives_the_same_rows() {
    for seed in seeds(8) {
        let mut case = Case::new(seed, comparable(Workload::random(seed)));
        let mut theirs = PlainTable::new(&case.workload.table);
        for arrival in case.arrivals() {
            theirs.apply(&case.arrive(&arrival));
            case.run();
            assert_same(&case.site.rows(&case.workload.table), &theirs.rows(), "against deltalake's MERGE");
        }
    }
}

/// The files that come into the source before one run, as ranges of all.
struct Arrival {
    load: std::ops::Range<usize>,
    files: std::ops::Range<usize>,
}

struct Case {
    workload: Workload,
    random: Random,
    site: Site,
    model: Model,
    /// Records that came since the last run.
    records: usize,
    /// Commits that they take if no batch ends before its files do.
    commits: u64,
    /// Some file may have had a deletion vector.
    vectors: bool,
}

impl Case {
    fn new(seed: u64, workload: Workload) -> Self {
        println!("seed {seed}: {:?}\n{:?}", workload.table, workload.settings);
        let mut site = Site::local();
        site.settings = workload.settings.clone();
        let model = Model::new(&workload.table).with_settings(&workload.settings);
        Self { random: Random::seeded(!seed), site, model, records: 0, commits: 0, vectors: false, workload }
    }

    /// Cuts the files, which are in order, anywhere but where a part of the load would look like all of it.
    fn arrivals(&mut self) -> Vec<Arrival> {
        let (load, files) = (self.workload.load.len(), self.workload.files.len());
        let mut arrivals = vec![];
        let mut from = 0;
        for to in 1..=load + files {
            let goes_on = to >= load || self.is_full(to - 1);
            if to == load + files || goes_on && self.random.percent(40) {
                let load = from.min(load)..to.min(load);
                arrivals.push(Arrival { files: from - load.start..to - load.end, load });
                from = to;
            }
        }
        arrivals
    }

    /// True for a LOAD file as large as the endpoint lets one grow.
    fn is_full(&self, load: usize) -> bool {
        let bytes = self.site.settings.load_file(&self.workload.table, &self.workload.load[load].1).len();
        self.site.settings.max_file_size.is_some_and(|kilobytes| bytes >= 1024 * kilobytes as usize)
    }

    /// Puts files into the source, in any order of creation, and gives what they say.
    fn arrive(&mut self, arrival: &Arrival) -> Vec<Change> {
        let Self { workload, site, model, random, .. } = self;
        let mut said = vec![];
        let (loads, files) = (&workload.load[arrival.load.clone()], &workload.files[arrival.files.clone()]);
        for (_, rows) in loads {
            model.load(rows);
            said.extend(rows.iter().map(|row| Change { op: Op::Insert, row: row.clone() }));
        }
        for (stamp, changes) in files {
            model.apply_file(stamp, changes);
            said.extend(changes.iter().cloned());
        }
        let is_new = site.version(&workload.table).is_none();
        self.commits = u64::from(is_new || !loads.is_empty()) + u64::from(!files.is_empty());
        let mut created: Vec<_> = (0..loads.len() + files.len()).collect();
        random.shuffle(&mut created);
        for i in created {
            match i.checked_sub(loads.len()) {
                None => site.load(&workload.table, loads[i].0, &loads[i].1),
                Some(i) => site.changes(&workload.table, &files[i].0, &files[i].1),
            }
        }
        self.records += said.len();
        said
    }

    /// Runs with whatever settings, and once more.
    fn run(&mut self) {
        let in_one_batch = self.choose_settings();
        let rows_before = self.site.version(&self.workload.table).map_or(0, |_| self.rows_by_status());
        let report = self.site.run().table(&self.workload.table);
        let what = format!("{} after {report:#}", self.site.run_config);
        assert_same(&self.site.rows(&self.workload.table), &self.model.rows(), &what);
        assert_eq!(report["read"], std::mem::take(&mut self.records), "{what}");
        let number = |name: &str| report[name].as_u64().unwrap();
        let rows = self.rows_by_status();
        if !self.workload.table.soft_delete {
            assert_eq!(rows_before + number("inserted") - number("deleted"), rows, "{what}");
        }
        assert_eq!(rows, self.model.rows().len() as u64, "{what}");
        assert!(!in_one_batch || report["commits"] == self.commits, "not {} commits: {what}", self.commits);
        self.nothing_is_left_to_do();
        self.a_row_is_found_by_its_key();
    }

    /// All that may change from run to run; true if all changes that are there make one batch.
    fn choose_settings(&mut self) -> bool {
        let Self { workload, site, random, .. } = self;
        let mut lines = vec![];
        let mut choose = |name: &str, values: &[&str]| match *random.pick(values) {
            "" => {}
            value => lines.push(format!("{name} = {value}")),
        };
        choose("batch_bytes", &["", "\"1\"", "\"1KB\"", "\"20KB\"", "\"1GB\""]);
        choose("memory_limit", &["", "\"256MB\"", "\"300MB\""]);
        choose("parallelism", &["", "1", "2", "7"]);
        choose("maintenance", &["", "\"auto\"", "\"off\""]);
        site.run_config = lines.join("\n");
        let table_type = *random.pick(&["copy-on-write", "merge-on-read"]);
        self.vectors |= table_type == "merge-on-read";
        let mut table = workload.table.clone();
        table.options += &format!("table_type = \"{table_type}\"\n");
        site.declare(&[&table]);
        site.extra_env.clear();
        if random.percent(40) {
            let bytes = *random.pick(&["200", "10000"]);
            site.extra_env.push(("LAKEMERGE_TEST_CHANGES_MEMORY".to_owned(), bytes.to_owned()));
        }
        if random.percent(50) {
            site.extra_env.push(("LAKEMERGE_TEST_SMALL".to_owned(), "0".to_owned()));
        }
        !site.run_config.contains("batch_bytes") || site.run_config.contains("1GB")
    }

    fn maintain_now_and_then(&mut self) {
        if self.random.percent(30) {
            self.site.command(&["maintain"]).exits(0);
            let status = self.site.status(&self.workload.table);
            assert_eq!(status["deleted_rows"], 0, "{status:#}");
            assert_same(&self.site.rows(&self.workload.table), &self.model.rows(), "after maintain");
            let version = self.site.version(&self.workload.table);
            self.site.command(&["maintain"]).exits(0);
            assert_eq!(self.site.version(&self.workload.table), version, "nothing is left to maintain");
            self.nothing_is_left_to_do();
        }
    }

    fn nothing_is_left_to_do(&self) {
        let table = &self.workload.table;
        let before = (self.site.version(table), self.site.data_files(table));
        let report = self.site.run().table(table);
        assert_eq!((&report["read"], &report["commits"]), (&0.into(), &0.into()), "{report:#}");
        assert_eq!((self.site.version(table), self.site.data_files(table)), before, "{report:#}");
    }

    /// Here files and row groups are skipped by their bounds.
    fn a_row_is_found_by_its_key(&mut self) {
        let rows = self.model.rows();
        if rows.is_empty() {
            return;
        }
        let table = &self.workload.table;
        let row = self.random.pick(&rows);
        let in_key = table.columns.iter().zip(row).filter(|((name, _), _)| table.key.contains(name));
        let conditions: Vec<_> = in_key.map(|((name, kind), value)| equals(name, kind, value.as_deref())).collect();
        let condition = conditions.join(" AND ");
        assert_same(&self.site.rows_where(table, &condition), std::slice::from_ref(row), &condition);
    }

    fn rows_by_status(&self) -> u64 {
        let status: Value = self.site.status(&self.workload.table);
        status["rows"].as_u64().unwrap_or_else(|| panic!("no rows: {status:#}"))
    }

    fn is_read_by_other_engines(&self) {
        let table = &self.workload.table;
        // Polars looks for the names of partition columns as they are escaped in folders
        if table.partition_by.iter().any(|name| name.contains(['%', '\'', '/', '='])) {
            return;
        }
        for (engine, rows) in readers::rows(&self.site, table) {
            // Polars joins vectors to files by path and misses those whose partition folder is escaped
            if engine == "polars" && self.vectors && !table.partition_by.is_empty() {
                continue;
            }
            assert_same(&rows, &self.model.rows(), &format!("read by {engine}"));
        }
    }
}
