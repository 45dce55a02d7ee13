//! Merge-on-read: rows that are marked and not removed, files that stay few, and where vectors lie.

use crate::support::dms::{delete, insert, update};
use crate::support::model::assert_same;
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::{Table, row};
use crate::support::workload::stamp;

const MERGE: &str = "table_type = \"merge-on-read\"";

/// A table of goods by number, and its site.
fn goods() -> (Table, Site) {
    let goods = Table::new("shop.goods", &[("id", "int(11) NOT NULL"), ("name", "varchar(20) DEFAULT NULL")]);
    let site = Site::local();
    site.declare(&[&goods]);
    site.edit("lakemerge.toml", "[lake]\n", &format!("[lake]\n{MERGE}\n"));
    (goods, site)
}

#[test]
fn marked_rows_stay_in_their_file_until_none_is_left() {
    let (goods, site) = goods();
    site.load(&goods, 1, &[row(["1", "a"]), row(["2", "b"]), row(["3", "c"])]);
    site.run();
    site.changes(&goods, &stamp(0), &[update(["1", "a2"]), delete(["2", "b"])]);
    let report = site.run().table(&goods);
    assert_eq!((&report["updated"], &report["deleted"]), (&1.into(), &1.into()), "{report:#}");
    let status = site.status(&goods);
    assert_eq!((&status["rows"], &status["deleted_rows"], &status["files"]), (&2.into(), &2.into(), &2.into()));
    // rows that are dead are no hits
    site.changes(&goods, &stamp(1), &[insert(["2", "b3"]), delete(["1", "a2"])]);
    let report = site.run().table(&goods);
    assert_eq!((&report["inserted"], &report["deleted"]), (&1.into(), &1.into()), "{report:#}");
    // the last row of the first file
    site.changes(&goods, &stamp(2), &[delete(["3", "c"])]);
    site.run();
    let status = site.status(&goods);
    assert_eq!((&status["rows"], &status["deleted_rows"], &status["files"]), (&1.into(), &0.into(), &1.into()));
    assert_same(&site.rows(&goods), &[row(["2", "b3"])], "goods");
}

#[test]
fn no_name_of_a_column_is_taken() {
    let columns =
        [("__change", "int(11) NOT NULL"), ("__file", "int(11)"), ("__row", "int(11)"), ("__moved", "int(11)")];
    let goods = Table::new("shop.goods", &columns);
    for table_type in ["merge-on-read", "copy-on-write"] {
        let site = Site::local();
        site.declare(&[&goods]);
        site.edit("lakemerge.toml", "[lake]\n", &format!("[lake]\ntable_type = \"{table_type}\"\n"));
        site.load(&goods, 1, &[row(["1", "11", "111", "1111"]), row(["2", "22", "222", "2222"])]);
        site.run();
        for nth in 0..3_u32 {
            let new = (nth + 3).to_string();
            site.changes(&goods, &stamp(nth), &[insert([&new, "33", "333", "3333"]), update(["2", &new, "5", "6"])]);
            site.run();
        }
        let expected = [
            row(["1", "11", "111", "1111"]),
            row(["2", "5", "5", "6"]),
            row(["3", "33", "333", "3333"]),
            row(["4", "33", "333", "3333"]),
            row(["5", "33", "333", "3333"]),
        ];
        assert_same(&site.rows(&goods), &expected, table_type);
        site.command(&["maintain"]).exits(0);
        assert_same(&site.rows(&goods), &expected, table_type);
        assert_eq!(site.query("SELECT __row FROM shop.goods WHERE __file = 5")[0]["__row"], 5);
    }
}

#[test]
fn many_small_runs_leave_few_files_and_a_checkpoint() {
    let (goods, site) = goods();
    site.load(&goods, 1, &[row(["0", "start"])]);
    site.run();
    for i in 0..30_u32 {
        site.changes(&goods, &stamp(i), &[insert([&(i + 1).to_string(), "x"]), update(["0", &i.to_string()])]);
        site.run();
    }
    let status = site.status(&goods);
    assert!(status["files"].as_u64().unwrap() < 15, "{status:#}");
    assert_eq!(status["rows"], 31, "{status:#}");
    let checkpoint = format!("{}/_delta_log/_last_checkpoint", site.table_uri(&goods));
    assert!(std::path::Path::new(&checkpoint).exists(), "{checkpoint}");
    assert_eq!(site.query("SELECT count(*) AS n, max(name) AS m FROM shop.goods WHERE id = 0")[0]["m"], "29");
    for (engine, rows) in readers::rows(&site, &goods) {
        assert_eq!(rows.len(), 31, "read by {engine}");
    }
}

#[test]
fn large_files_of_the_same_keys_are_clustered() {
    let (goods, mut site) = goods();
    // every file is a large one
    site.extra_env = vec![("LAKEMERGE_TEST_SMALL".into(), "0".into())];
    let mut model: Vec<_> = (0..10).map(|key| row([&(key * 20).to_string(), "loaded"])).collect();
    site.load(&goods, 1, &model);
    site.run();
    let of_run = |nth: u32| (0..10).map(move |key| [(key * 20 + nth + 10).to_string(), format!("run {nth}")]);
    let files = |nth: u32| {
        let inserts: Vec<_> = of_run(nth).map(|values| insert([&values[0], &values[1]])).collect();
        site.changes(&goods, &stamp(nth), &inserts);
        site.run();
        site.status(&goods)["files"].as_u64().expect("a number of files")
    };
    // seven layers are let be, but not for long
    assert_eq!((0..10).map(files).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 1, 2, 3, 4]);
    site.command(&["maintain"]).exits(0);
    assert_eq!(site.status(&goods)["files"], 1);
    model.extend((0..10).flat_map(of_run).map(|values| row([&values[0], &values[1]])));
    model.sort();
    assert_same(&site.rows(&goods), &model, "by lakemerge");
    for (engine, rows) in readers::rows(&site, &goods) {
        assert_same(&rows, &model, &format!("read by {engine}"));
    }
}

#[test]
fn a_large_file_of_another_writers_compaction_is_rewritten_and_purged() {
    let (goods, mut site) = goods();
    // every file is a large one
    site.extra_env = vec![("LAKEMERGE_TEST_SMALL".into(), "0".into())];
    site.load(&goods, 1, &(0..50).map(|id: u32| row([&id.to_string(), "loaded"])).collect::<Vec<_>>());
    site.run();
    site.changes(&goods, &stamp(0), &[insert(["50", "new"])]);
    site.run();
    readers::compact(&site, &goods);
    site.changes(&goods, &stamp(1), &[delete(["0", "x"])]);
    site.run();
    site.command(&["maintain"]).exits(0).says(&["1 deleted rows purged"]);
    readers::compact(&site, &goods);
    site.edit("lakemerge.toml", MERGE, "table_type = \"copy-on-write\"");
    site.changes(&goods, &stamp(2), &[delete(["1", "x"]), update(["50", "newer"])]);
    site.run();
    let mut expected: Vec<_> = (2..50).map(|id| row([&id.to_string(), "loaded"])).collect();
    expected.push(row(["50", "newer"]));
    expected.sort();
    assert_same(&site.rows(&goods), &expected, "goods");
}

#[test]
fn a_table_of_another_writer_is_taken_only_if_that_is_said() {
    let days = Table::new("shop.days", &[("id", "int(11) NOT NULL"), ("day", "date NOT NULL")]);
    for table_type in [MERGE, "table_type = \"copy-on-write\""] {
        let site = Site::local();
        site.declare(&[&days]);
        site.edit("lakemerge.toml", "[lake]\n", &format!("[lake]\n{table_type}\n"));
        readers::create(&site, &days, &[(1, "2024-01-01"), (2, "2024-01-02")]);
        assert_eq!(readers::describe(&site, &days, None)["not null"], serde_json::json!(["id", "day"]));
        site.changes(&days, &stamp(0), &[update(["2", "2024-02-02"]), insert(["3", "0000-00-00"])]);
        site.command(&["run"]).exits(1).says(&["--adopt shop.days"]);
        let report = site.run_exits(0, &["--adopt", "shop.days"]).1.table(&days);
        assert_eq!((&report["updated"], &report["zero_dates"]), (&1.into(), &1.into()), "{report:#}");
        let expected = [row(["1", "2024-01-01"]), row(["2", "2024-02-02"]), vec![Some("3".into()), None]];
        assert_same(&site.rows(&days), &expected, "by lakemerge");
        for (engine, rows) in readers::rows(&site, &days) {
            assert_same(&rows, &expected, &format!("read by {engine}"));
        }
        assert_eq!(readers::describe(&site, &days, None)["not null"], serde_json::json!([]));
    }
}

#[test]
fn what_the_owner_says_of_a_table_survives_a_reload() {
    let (goods, site) = goods();
    site.load(&goods, 1, &[row(["1", "a"])]);
    site.run();
    let described = readers::describe(&site, &goods, Some("the goods"));
    site.load(&goods, 1, &[row(["2", "b"])]);
    site.run_exits(0, &["--reload", "shop.goods"]);
    let reloaded = readers::describe(&site, &goods, None);
    assert_eq!(reloaded, described);
    assert_eq!(reloaded["name"], "the goods", "{reloaded:#}");
    assert_eq!(reloaded["properties"]["delta.deletedFileRetentionDuration"], "interval 30 days", "{reloaded:#}");
    assert_eq!(reloaded["comments"]["id"], "the goods", "{reloaded:#}");
}

#[test]
fn a_query_reads_no_vector_of_a_file_that_its_filter_rules_out() {
    let (goods, site) = goods();
    site.load(&goods, 1, &[row(["1", "a"]), row(["2", "b"])]);
    site.run();
    let vectors = || {
        let files = std::fs::read_dir(site.table_uri(&goods)).expect("a folder").flatten().map(|file| file.path());
        files.filter(|path| path.extension().is_some_and(|of| of == "bin")).collect::<std::collections::BTreeSet<_>>()
    };
    site.changes(&goods, &stamp(0), &[insert(["100", "c"]), insert(["101", "d"]), delete(["1", "a"])]);
    site.run();
    let first = vectors();
    site.changes(&goods, &stamp(1), &[delete(["100", "c"])]);
    site.run();
    assert_eq!(site.query("SELECT id FROM shop.goods WHERE id > 50")[0]["id"], 101);
    for vector in &first {
        std::fs::remove_file(vector).expect("a vector");
    }
    assert_eq!(site.query("SELECT id FROM shop.goods WHERE id > 50")[0]["id"], 101);
    let error = site.command(&["query", "SELECT id FROM shop.goods WHERE id < 50"]).exits(1).stderr;
    assert!(error.contains("deletion vector of part-"), "{error}");
}

#[test]
fn vectors_are_found_in_a_bucket_whatever_the_names() {
    let table = Table::new("shop.naïve", &[("id", "int(11) NOT NULL"), ("name", "varchar(20) DEFAULT NULL")]);
    let site = Site::s3().with_lake("my lake");
    site.declare(&[&table]);
    site.edit("lakemerge.toml", "[lake]\n", &format!("[lake]\n{MERGE}\n"));
    site.load(&table, 1, &[row(["1", "a"]), row(["2", "b"])]);
    site.run();
    site.changes(&table, &stamp(0), &[update(["1", "a2"])]);
    site.run();
    assert_same(&site.rows(&table), &[row(["1", "a2"]), row(["2", "b"])], "through the vector");
    site.changes(&table, &stamp(1), &[delete(["2", "b"])]);
    site.run();
    site.command(&["maintain"]).exits(0);
    assert_same(&site.rows(&table), &[row(["1", "a2"])], "after the purge");
}
