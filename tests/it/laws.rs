//! The design's laws, on random workloads against a model that shares no code with lakemerge.

use crate::support::dms::{delete, insert, update};
use crate::support::model::assert_same;
use crate::support::random::Random;
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::{NULL, Table, row};
use crate::support::workload::{Workload, stamp};

/// A site with the workload's tables declared, and no files yet.
fn site_for(workload: &Workload, run_config: &str) -> Site {
    let mut site = Site::local();
    site.settings = workload.settings.clone();
    site.run_config = run_config.to_owned();
    site.declare(&[&workload.table]);
    site
}

#[test]
fn the_net_of_a_batch_equals_its_changes_one_by_one() {
    let seeds = (0..12).chain([Random::fresh_seed("net")]);
    for seed in seeds {
        let workload = Workload::random(seed);
        let site = site_for(&workload, "");
        workload.write_load(&site);
        for (stamp, changes) in &workload.files {
            site.changes(&workload.table, stamp, changes);
        }
        let report = site.run().table(&workload.table);
        assert_same(&site.rows(&workload.table), &workload.outcome(), &format!("seed {seed}"));
        assert_eq!(report["read"], workload.records(), "seed {seed}: {report:#}");
        let number = |name: &str| report[name].as_u64().unwrap();
        let left = usize::try_from(number("inserted") - number("deleted")).unwrap();
        assert_eq!(left, workload.outcome().len(), "seed {seed}: inserted - deleted is what is left: {report:#}");
    }
}

#[test]
fn a_batch_that_does_not_fit_the_memory_is_still_one_commit_with_the_same_rows() {
    for seed in [0, 1, 2, 3, 4, 5, Random::fresh_seed("memory")] {
        let workload = Workload::random(seed);
        let mut site = site_for(&workload, "");
        if seed.is_multiple_of(2) {
            site.edit("lakemerge.toml", "[lake]\n", "[lake]\ntable_type = \"merge-on-read\"\n");
        }
        workload.write_load(&site);
        site.run();
        for (stamp, changes) in &workload.files {
            site.changes(&workload.table, stamp, changes);
        }
        site.extra_env = vec![("LAKEMERGE_TEST_CHANGES_MEMORY".into(), "200".into())];
        let report = site.run().table(&workload.table);
        assert_eq!(report["commits"], 1, "seed {seed}: {report:#}");
        assert_same(&site.rows(&workload.table), &workload.outcome(), &format!("seed {seed}"));
        let number = |name: &str| report[name].as_u64().unwrap();
        let skipped = report["skipped"].as_array().unwrap().iter().map(|s| s["rows"].as_u64().unwrap()).sum::<u64>();
        let told = ["inserted", "updated", "deleted", "netted_away"].map(number).iter().sum::<u64>() + skipped;
        assert_eq!(number("read"), told, "seed {seed}: {report:#}");
    }
}

#[test]
fn other_engines_read_the_same_rows() {
    for seed in 0..6 {
        let workload = Workload::random(seed);
        let site = site_for(&workload, "");
        workload.write_load(&site);
        site.run();
        for (stamp, changes) in &workload.files {
            site.changes(&workload.table, stamp, changes);
        }
        site.run();
        for (engine, rows) in readers::rows(&site, &workload.table) {
            assert_same(&rows, &workload.outcome(), &format!("seed {seed}, read by {engine}"));
        }
    }
}

#[test]
fn neither_arrival_nor_batch_size_nor_parallelism_changes_the_table() {
    for seed in [0, 1, 2, 5, Random::fresh_seed("arrival")] {
        let workload = Workload::random(seed);
        for (run_config, shuffled) in [
            ("batch_bytes = \"1KB\"\nparallelism = 1", false),
            ("batch_bytes = \"1KB\"\nparallelism = \"auto\"", true),
            ("batch_bytes = \"1GB\"\nparallelism = 4", true),
        ] {
            let site = site_for(&workload, run_config);
            let mut files: Vec<_> = workload.files.iter().collect();
            if shuffled {
                Random::seeded(seed).shuffle(&mut files);
                for (stamp, changes) in &files {
                    site.changes(&workload.table, stamp, changes);
                }
                workload.write_load(&site);
            } else {
                workload.write_load(&site);
                for (stamp, changes) in &files {
                    site.changes(&workload.table, stamp, changes);
                }
            }
            site.run();
            assert_same(&site.rows(&workload.table), &workload.outcome(), &format!("seed {seed}, {run_config}"));
        }
    }
}

#[test]
fn a_run_after_each_file_gives_what_one_run_gives() {
    for seed in [0, 3, 4] {
        let workload = Workload::random(seed);
        let site = site_for(&workload, "");
        workload.write_load(&site);
        site.run();
        for (stamp, changes) in &workload.files {
            site.changes(&workload.table, stamp, changes);
            let report = site.run().table(&workload.table);
            assert_eq!((&report["position"], &report["commits"]), (&stamp.as_str().into(), &1.into()), "{report:#}");
        }
        assert_same(&site.rows(&workload.table), &workload.outcome(), &format!("seed {seed}"));
    }
}

#[test]
fn running_twice_is_running_once() {
    for seed in [0, 1] {
        let workload = Workload::random(seed);
        let site = site_for(&workload, "");
        workload.write_load(&site);
        for (stamp, changes) in &workload.files {
            site.changes(&workload.table, stamp, changes);
        }
        site.run();
        let before = (site.version(&workload.table), site.data_files(&workload.table));
        let report = site.run().table(&workload.table);
        assert_eq!((site.version(&workload.table), site.data_files(&workload.table)), before);
        assert_eq!((&report["state"], &report["read"]), (&"unchanged".into(), &0.into()));
        assert_same(&site.rows(&workload.table), &workload.outcome(), &format!("seed {seed}"));
    }
}

#[test]
fn the_same_holds_in_a_bucket() {
    let workload = Workload::random(0);
    let mut site = Site::s3();
    site.settings = workload.settings.clone();
    site.declare(&[&workload.table]);
    workload.write_load(&site);
    for (stamp, changes) in &workload.files {
        site.changes(&workload.table, stamp, changes);
    }
    site.run();
    let before = site.version(&workload.table);
    site.run();
    assert_eq!(site.version(&workload.table), before);
    assert_same(&site.rows(&workload.table), &workload.outcome(), "in a bucket");
    for (engine, rows) in readers::rows(&site, &workload.table) {
        assert_same(&rows, &workload.outcome(), &format!("in a bucket, read by {engine}"));
    }
}

fn goods() -> Table {
    let columns =
        [("id", "int(11) NOT NULL"), ("name", "varchar(20) DEFAULT NULL"), ("region", "varchar(20) DEFAULT NULL")];
    Table::new("shop.goods", &columns)
}

#[test]
fn counts_say_what_happened_to_the_rows() {
    let goods = goods();
    let site = Site::local();
    site.declare(&[&goods]);
    site.load(&goods, 1, &[row(["1", "a", "n"]), row(["2", "b", "n"]), row(["3", "c", "s"])]);
    let first = site.run().table(&goods);
    assert_eq!((&first["read"], &first["inserted"], &first["load_files"]), (&3.into(), &3.into(), &1.into()));

    let changes = [
        insert(["4", "d", "s"]),
        update(["1", "a2", "n"]),
        update(["1", "a3", "n"]),
        delete(["2", "b", "n"]),
        insert(["5", "e", "n"]),
        delete(["5", "e", "n"]),
    ];
    site.changes(&goods, &stamp(0), &changes);
    let second = site.run().table(&goods);
    assert_eq!((&second["state"], &second["read"], &second["change_files"]), (&"merged".into(), &6.into(), &1.into()));
    let of = |name: &str| second[name].as_u64().unwrap();
    assert_eq!((of("inserted"), of("updated"), of("deleted")), (1, 1, 1), "{second:#}");
    assert_same(&site.rows(&goods), &[row(["1", "a3", "n"]), row(["3", "c", "s"]), row(["4", "d", "s"])], "goods");
}

#[test]
fn a_batch_that_matches_nothing_only_adds() {
    let goods = goods();
    let site = Site::local();
    site.declare(&[&goods]);
    site.load(&goods, 1, &[row(["1", "a", "n"])]);
    site.run();
    site.changes(&goods, &stamp(0), &[insert(["2", "b", "n"]), delete(["9", "z", "n"])]);
    let report = site.run().table(&goods);
    assert_eq!((&report["files_removed"], &report["files_added"]), (&0.into(), &1.into()), "{report:#}");
}

#[test]
fn a_batch_rewrites_only_the_files_that_hold_its_rows() {
    let goods = goods().partitioned_by(&["region"]);
    let site = Site::local();
    site.declare(&[&goods]);
    site.load(&goods, 1, &[row(["1", "a", "n"]), row(["2", "b", "s"]), row(["3", "c", NULL])]);
    assert_eq!(site.run().table(&goods)["files_added"], 3);
    site.changes(&goods, &stamp(0), &[delete(["2", "b", "s"])]);
    let report = site.run().table(&goods);
    assert_eq!((&report["files_removed"], &report["files_added"]), (&1.into(), &0.into()), "{report:#}");
    // A row that moves to another partition leaves its own.
    site.changes(&goods, &stamp(1), &[update(["3", "c", "n"])]);
    site.run();
    assert_same(&site.rows(&goods), &[row(["1", "a", "n"]), row(["3", "c", "n"])], "moved");
}

#[test]
fn null_matches_null_in_every_column_of_a_key() {
    let table = Table::new(
        "shop.nulls",
        &[("a", "varchar(10) DEFAULT NULL"), ("b", "int(11) DEFAULT NULL"), ("v", "int(11) DEFAULT NULL")],
    )
    .configured_key(&["a", "b"]);
    let site = Site::local();
    site.declare(&[&table]);
    let rows = [row([NULL, NULL, "1"]), row([NULL, "1", "2"]), row(["x", NULL, "3"]), row(["x", "1", "4"])];
    site.load(&table, 1, &rows);
    site.run();
    let changes = [update([NULL, NULL, "10"]), delete([NULL, "1", "2"]), update(["x", NULL, "30"])];
    site.changes(&table, &stamp(0), &changes);
    site.run();
    let mut expected = [row([NULL, NULL, "10"]), row(["x", NULL, "30"]), row(["x", "1", "4"])];
    expected.sort();
    assert_same(&site.rows(&table), &expected, "null keys");
}

#[test]
fn one_table_can_be_run_alone() {
    let (goods, other) = (goods(), Table::new("shop.other", &[("id", "int(11) NOT NULL")]));
    let site = Site::local();
    site.declare(&[&goods, &other]);
    site.load(&goods, 1, &[row(["1", "a", "n"])]);
    site.load(&other, 1, &[row(["1"])]);
    site.run_exits(0, &["--table", "shop.other"]);
    assert_eq!((site.version(&goods), site.version(&other)), (None, Some(0)));
    site.command(&["run", "--table", "shop.nonsense"]).exits(2).says(&["shop.nonsense"]);
}
