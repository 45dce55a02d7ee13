//! The design's laws, each on its smallest example; `properties` holds them on random tables.

use crate::support::dms::{delete, insert, update};
use crate::support::model::assert_same;
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::{NULL, Table, row};
use crate::support::workload::{Workload, stamp};

#[test]
fn a_bucket_holds_what_the_changes_make_one_by_one() {
    let site = Site::s3();
    let workload = Workload::small(0, &site.settings);
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
