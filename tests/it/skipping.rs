//! Which data files and row groups a merge looks into for its keys, and that a row is found whoever wrote the file.

use crate::support::dms::{Change, Op, delete, insert, update};
use crate::support::kinds::Kind;
use crate::support::model::{Model, assert_same};
use crate::support::random::Random;
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::{NULL, Row, Table, row};
use crate::support::workload::stamp;
use serde_json::Value;

/// Rows that each file of [`events`] has.
const ROWS: usize = 300;

/// A table of UUIDs in one loaded file and two appended ones, so that every file has every key in its bounds.
fn events() -> (Site, Table, Vec<Vec<String>>) {
    let table = Table::new("shop.events", &[("id", "char(36) NOT NULL"), ("name", "varchar(20) DEFAULT NULL")]);
    let mut site = Site::local();
    site.declare(&[&table]);
    site.edit("lakemerge.toml", "[lake]\n", "[lake]\ntable_type = \"merge-on-read\"\n");
    let random = &mut Random::seeded(1);
    let mut uuid = || uuid::Uuid::from_u64_pair(random.next(), random.next()).to_string();
    let keys: Vec<Vec<_>> = (0..3).map(|_| (0..ROWS).map(|_| uuid()).collect()).collect();
    site.load(&table, 1, &keys[0].iter().map(|key| row([key, "loaded"])).collect::<Vec<_>>());
    site.run();
    for (nth, keys) in (0..).zip(&keys[1..]) {
        let inserts: Vec<_> = keys.iter().map(|key| insert([key, "inserted"])).collect();
        site.changes(&table, &stamp(nth), &inserts);
        site.run();
    }
    site.extra_env.push(("LAKEMERGE_LOG".into(), "off,lakemerge=debug".into()));
    (site, table, keys)
}

/// Merges `changes`, and gives how many rows it looked at in each file that had a key in its bounds.
fn looked_at(site: &Site, table: &Table, nth: u32, changes: &[Change]) -> Vec<usize> {
    site.changes(table, &stamp(nth), changes);
    let said = site.run_exits(0, &[]).0.stderr;
    let counts = said.lines().filter_map(|line| line.split_once(" may hold a key")?.0.rsplit(' ').nth(3));
    let mut counts: Vec<_> = counts.map(|count| count.parse().expect("a number of rows")).collect();
    counts.sort_unstable();
    counts
}

#[test]
fn a_file_is_skipped_whose_filter_excludes_the_keys() {
    let (site, table, keys) = events();
    // the file of the load has no filter
    let counts = looked_at(&site, &table, 10, &[update([&keys[2][7], "updated"])]);
    assert_eq!(counts, [0, ROWS, ROWS]);
    let counts = looked_at(&site, &table, 11, &[delete([&keys[1][8], "x"])]);
    assert_eq!(counts, [0, ROWS, ROWS]);
    // a filter also knows the rows that are marked as deleted
    let counts = looked_at(&site, &table, 12, &[delete([&keys[2][7], "x"])]);
    assert_eq!(counts, [0, 1, ROWS, ROWS]);
    let found = site.query("SELECT count(*) AS n FROM shop.events WHERE name <> 'loaded'");
    assert_eq!(found[0]["n"], 2 * ROWS - 2);
}

#[test]
fn row_groups_keep_their_filters_when_they_are_copied_and_when_they_are_not() {
    // three row groups, and more bytes than are sorted together
    const ROWS: usize = 300_000;
    let table = Table::new("shop.events", &[("id", "char(36) NOT NULL"), ("text", "varchar(200) DEFAULT NULL")]);
    let mut site = Site::local();
    site.declare(&[&table]);
    let random = &mut Random::seeded(2);
    let text = |random: &mut Random| (0..8).map(|_| format!("{:016x}", random.next())).collect::<String>();
    let uuid = |random: &mut Random| uuid::Uuid::from_u64_pair(random.next(), random.next()).to_string();
    site.load(&table, 1, &["0", "f"].map(|key| row([key, "loaded"])));
    site.run();
    let mut inserts: Vec<_> = (0..ROWS).map(|_| insert([&uuid(random), &text(random)])).collect();
    site.changes(&table, &stamp(0), &inserts);
    site.run();
    inserts.sort_by_key(|insert| insert.row[0].clone());
    let last = inserts[ROWS - 2].row[0].clone().expect("a key");
    site.changes(&table, &stamp(1), &[delete([&last, "x"])]);
    let report = site.run().table(&table);
    assert_eq!((&report["deleted"], &report["files_removed"]), (&1.into(), &1.into()), "{report:#}");
    site.extra_env.push(("LAKEMERGE_LOG".into(), "off,lakemerge=debug".into()));
    for (nth, key) in (2..).zip(["1", "7", "e"]) {
        let key = key.to_owned() + &uuid(random)[1..];
        assert_eq!(looked_at(&site, &table, nth, &[insert([&key, "new"])])[0], 0, "{key}");
    }
}

#[test]
fn a_new_file_has_a_filter_also_when_it_stands_for_others() {
    let (site, table, keys) = events();
    site.command(&["maintain"]).exits(0);
    let key = "ffffffff-ffff-ffff-ffff-ffffffffffff";
    // one sorted file of all rows needs none
    assert_eq!(looked_at(&site, &table, 10, &[insert([key, "new"])]), Vec::<usize>::new());
    let least = "00000000-0000-0000-0000-000000000000";
    site.changes(&table, &stamp(11), &[insert([least, "new"])]);
    site.run();
    let counts = looked_at(&site, &table, 12, &[update([&keys[1][7], "updated"])]);
    // the first of its pages
    assert!(matches!(counts[..], [(ROWS..)]), "{counts:?}");
}

#[test]
fn one_key_costs_a_page_of_a_few_thousand() {
    let table = Table::new("shop.counters", &[("id", "bigint(20) NOT NULL"), ("n", "int(11) DEFAULT NULL")]);
    let mut site = Site::local();
    site.declare(&[&table]);
    site.load(&table, 1, &(0..50_000).map(|id| row([&id.to_string(), "0"])).collect::<Vec<_>>());
    site.run();
    site.extra_env.push(("LAKEMERGE_LOG".into(), "off,lakemerge=debug".into()));
    for (nth, key) in (0..).zip(["3", "20000", "49999"]) {
        let counts = looked_at(&site, &table, nth, &[update([key, "1"])]);
        assert!(matches!(counts[..], [1..=4096]), "{key}: {counts:?}");
    }
}

#[test]
fn keys_are_looked_for_in_their_partitions_alone() {
    let columns = [("region", "varchar(9) NOT NULL"), ("id", "int NOT NULL"), ("n", "int DEFAULT NULL")];
    let table = Table::new("shop.places", &columns).primary_key(&["region", "id"]).partitioned_by(&["region"]);
    let mut site = Site::local();
    site.declare(&[&table]);
    let ids = || (0..500).map(|id: u32| (id * 2).to_string());
    let regions = ["north", "south", "west"];
    let rows: Vec<_> = regions.iter().flat_map(|region| ids().map(|id| row([region, &id, "0"]))).collect();
    site.load(&table, 1, &rows);
    site.run();
    site.extra_env.push(("LAKEMERGE_LOG".into(), "off,lakemerge=debug".into()));
    assert_eq!(looked_at(&site, &table, 0, &[update(["south", "8", "1"])]), [500]);
    // beyond what the partition holds, and in none
    let new = [insert(["south", "2000", "1"]), insert(["east", "8", "1"]), insert(["west", "-1", "1"])];
    assert_eq!(looked_at(&site, &table, 1, &new), Vec::<usize>::new());
    // of the files with one row each the one of the key's region
    assert_eq!(looked_at(&site, &table, 2, &[update(["east", "8", "2"]), update(["west", "998", "3"])]), [1, 500]);
    let changed = site.query("SELECT region, id, n FROM shop.places WHERE n <> 0 ORDER BY region, id");
    let changed: Vec<_> = changed.iter().map(|row| (row["region"].as_str(), &row["id"], &row["n"])).collect();
    let expected = [("east", 8, 2), ("south", 8, 1), ("south", 2000, 1), ("west", -1, 1), ("west", 998, 3)];
    let expected: Vec<_> = expected.iter().map(|(r, id, n)| (Some(*r), Value::from(*id), Value::from(*n))).collect();
    assert_eq!(changed, expected.iter().map(|(r, id, n)| (*r, id, n)).collect::<Vec<_>>());
}

#[test]
fn a_row_is_found_whose_key_stands_elsewhere_in_the_file_than_in_the_table() {
    let columns = [("region", "varchar(9) NOT NULL"), ("n", "int DEFAULT NULL"), ("id", "int NOT NULL")];
    let table = Table::new("shop.places", &columns).primary_key(&["id", "region"]).partitioned_by(&["region"]);
    let site = Site::local();
    site.declare(&[&table]);
    site.load(&table, 1, &[row(["north", "-1", "1"]), row(["north", "-2", "2"]), row(["south", "-3", "3"])]);
    site.run();
    site.changes(&table, &stamp(0), &[update(["north", "7", "2"]), update(["south", "8", "3"])]);
    let report = site.run().table(&table);
    assert_eq!(report["updated"], 2, "{report:#}");
}

#[test]
fn a_key_of_several_columns_is_found_also_where_one_is_null() {
    let columns = [("a", "varchar(40) NOT NULL"), ("b", "varchar(40) DEFAULT NULL"), ("name", "varchar(20)")];
    let table = Table::new("shop.pairs", &columns).configured_key(&["a", "b"]);
    let site = Site::local();
    site.declare(&[&table]);
    site.edit("lakemerge.toml", "[lake]\n", "[lake]\ntable_type = \"merge-on-read\"\n");
    let random = &mut Random::seeded(3);
    let mut key = || [format!("{:016x}", random.next()), format!("{:x}", random.below(50))];
    let keys: Vec<[String; 2]> = (0..300).map(|_| key()).collect();
    let with_null = |nth: usize| [keys[nth][0].as_str(), if nth.is_multiple_of(4) { NULL } else { &keys[nth][1] }];
    for (nth, third) in (0..).zip([0, 1, 2]) {
        let inserts = (third..keys.len()).step_by(3).map(with_null).map(|[a, b]| insert([a, b, "inserted"]));
        site.changes(&table, &stamp(nth), &inserts.collect::<Vec<_>>());
        if third == 0 {
            site.load(&table, 1, &[row(["0", "0", "loaded"]), row(["g", "0", "loaded"])]);
        }
        site.run();
    }
    for (nth, key) in (3..).zip([0, 4, 8, 1, 2, 3, 299]) {
        let [a, b] = with_null(key);
        site.changes(&table, &stamp(nth), &[update([a, b, "updated"])]);
        let report = site.run().table(&table);
        assert_eq!((&report["updated"], &report["inserted"]), (&1.into(), &0.into()), "{a}, {b}");
    }
}

/// Keys of every kind, of which every third lies in the same file.
fn tables(random: &mut Random) -> Vec<(Table, Vec<String>)> {
    let integers = ["tinyint", "smallint", "mediumint", "int", "bigint"].map(|name| (name, false));
    let integers = integers.into_iter().chain([("int", true), ("bigint", true)]);
    let bits = |name| {
        [("tinyint", 8), ("smallint", 16), ("mediumint", 24), ("int", 32)]
            .iter()
            .find(|(n, _)| *n == name)
            .map_or(64, |(_, bits)| *bits)
    };
    let integers = integers.map(|(name, unsigned)| Kind::Integer { name, bits: bits(name), unsigned });
    let decimals = [(5, 2), (9, 0), (10, 2), (18, 4), (20, 0), (38, 10)];
    let decimals = decimals.map(|(precision, scale)| Kind::Decimal { precision, scale });
    let others =
        [Kind::Date, Kind::Datetime(6), Kind::Timestamp(6), Kind::Text("varchar(300)"), Kind::Text("char(40)")];
    let bytes = [Kind::Binary(16), Kind::Bytes("varbinary(100)")];
    let kinds = integers.chain(decimals).chain(others).chain(bytes);
    let tables = kinds.enumerate().map(|(nth, kind)| {
        let key = format!("{} NOT NULL", kind.sql());
        let columns = [("k", key.as_str()), ("name", "varchar(20) DEFAULT NULL")];
        (Table::new(&format!("keys.t{nth}"), &columns), kind.neighbours(30, random))
    });
    tables.collect()
}

/// deltalake writes filters of all columns here, and has another form for some types than lakemerge's own files.
#[test]
fn a_row_is_found_in_files_of_another_writer_with_filters_or_without() {
    for with_filters in [false, true] {
        let random = &mut Random::seeded(5);
        let tables = tables(random);
        let site = Site::local();
        site.declare(&tables.iter().map(|(table, _)| table).collect::<Vec<_>>());
        site.edit("lakemerge.toml", "[lake]\n", "[lake]\ntable_type = \"merge-on-read\"\n");
        let mut models: Vec<_> = tables.iter().map(|(table, _)| Model::new(table)).collect();
        let third = |keys: &[String], nth: usize, name: &str| -> Vec<Row> {
            keys.iter().skip(nth).step_by(3).map(|key| row([key, name])).collect()
        };
        for ((table, keys), model) in tables.iter().zip(&mut models) {
            model.load(&third(keys, 0, "loaded"));
            site.load(table, 1, &third(keys, 0, "loaded"));
        }
        site.run();
        let mut merge = |nth: u32, of: &dyn Fn(&[String]) -> Vec<Change>| {
            for ((table, keys), model) in tables.iter().zip(&mut models) {
                let changes = of(keys);
                model.apply(&changes);
                site.changes(table, &stamp(nth), &changes);
            }
            let report = site.run();
            for (table, keys) in &tables {
                // a row that is not found would be inserted
                let count = |op| of(keys).iter().filter(|change| change.op == op).count();
                let report = report.table(table);
                let expected = [count(Op::Insert), count(Op::Update), count(Op::Delete)];
                assert_eq!(["inserted", "updated", "deleted"].map(|name| report[name].clone()), expected, "{table:?}");
            }
        };
        let inserts = |rows: Vec<Row>| rows.into_iter().map(|row| Change { op: Op::Insert, row }).collect::<Vec<_>>();
        merge(0, &|keys| inserts(third(keys, 1, "inserted")));
        for (table, _) in &tables {
            if with_filters { readers::compact_with_filters(&site, table) } else { readers::compact(&site, table) }
        }
        merge(1, &|keys| inserts(third(keys, 2, "inserted again")));
        for nth in 0..4 {
            // one key, which lies in the bounds of both files
            merge(2 + nth, &|keys| vec![update([&keys[3 + 2 * nth as usize], "updated"])]);
        }
        merge(6, &|keys| vec![delete([&keys[3], "x"]), update([&keys[14], "updated"]), update([&keys[10], "updated"])]);
        for ((table, _), model) in tables.iter().zip(&models) {
            assert_same(&site.rows(table), &model.rows(), &format!("{:?}, filters {with_filters}", table.columns));
        }
    }
}

/// DuckDB asks the filter of a column of bytes for something else than these bytes, and would find no row.
#[test]
fn other_engines_find_a_row_by_its_text_and_by_its_bytes() {
    let columns = [("id", "binary(4) NOT NULL"), ("name", "varchar(20) NOT NULL")];
    let tables = [("shop.by_bytes", "id"), ("shop.by_name", "name")]
        .map(|(name, key)| Table::new(name, &columns).primary_key(&[key]));
    let site = Site::local();
    site.declare(&tables.iter().collect::<Vec<_>>());
    site.edit("lakemerge.toml", "[lake]\n", "[lake]\ntable_type = \"merge-on-read\"\n");
    let inserts = [["00ff0041", "a"], ["ff80fe01", "日本"], ["41424344", "c"]];
    for table in &tables {
        site.load(table, 1, &[row(["20202020", "loaded"])]);
        site.changes(table, &stamp(0), &inserts.map(insert));
    }
    site.run();
    for table in &tables {
        for [id, name] in inserts {
            for (column, value) in [("id", id), ("name", name)] {
                for (engine, rows) in readers::find(&site, table, column, value) {
                    assert_same(&rows, &[row([id, name])], &format!("{table:?}: {column} = {value}, read by {engine}"));
                }
            }
        }
    }
}

#[test]
fn a_query_opens_no_file_that_its_filter_rules_out() {
    let mut table = Table::new(
        "shop.orders",
        &[("id", "int NOT NULL"), ("country", "char(2) DEFAULT NULL"), ("at", "datetime(6)")],
    );
    table = table.partitioned_by(&["country"]);
    let site = Site::local();
    site.declare(&[&table]);
    let at = "2024-02-29 12:00:00.123456";
    site.load(&table, 1, &[["1", "DE"], ["2", "FR"], ["3", NULL]].map(|[id, country]| row([id, country, at])));
    site.run();
    let loaded = site.lake_files();
    site.edit("lakemerge.toml", "[lake]\n", "[lake]\ntable_type = \"merge-on-read\"\n");
    site.changes(&table, &stamp(0), &[insert(["101", "DE", "2025-01-01 00:00:00"])]);
    site.run();
    let count = |condition: &str| {
        site.query(&format!("SELECT count(*) AS n FROM shop.orders WHERE {condition}"))[0]["n"].clone()
    };
    for (condition, rows) in [
        ("country = 'DE'", 2),
        ("country IS NULL", 1),
        ("country IS NOT NULL", 3),
        ("country <> 'DE'", 1),
        ("country IN ('FR', 'XX') OR id > 100", 2),
        ("id BETWEEN 2 AND 100", 2),
        ("at = TIMESTAMP '2024-02-29 12:00:00.123456'", 3),
        ("at > TIMESTAMP '2024-02-29 12:00:00.123456'", 1),
        ("id + 1 = 102", 1),
        ("id < 0", 0),
        ("random() < 2 AND country LIKE 'D%'", 2),
    ] {
        assert_eq!(count(condition), rows, "{condition}");
    }
    for file in loaded.keys().filter(|file| file.ends_with(".parquet")) {
        std::fs::remove_file(file).expect("a data file cannot be removed");
    }
    assert_eq!(count("id > 100"), 1);
    assert_eq!(count("country = 'DE' AND at >= TIMESTAMP '2025-01-01 00:00:00'"), 1);
    assert_eq!(count("country = 'IT'"), 0);
    site.command(&["query", "SELECT count(*) FROM shop.orders WHERE country = 'FR' AND id > 1"]).exits(1);
}

#[test]
fn a_time_behind_a_bound_that_was_cut_to_milliseconds_is_found() {
    let table = Table::new("shop.ticks", &[("at", "datetime(6) NOT NULL"), ("text", "varchar(20) DEFAULT NULL")]);
    let site = Site::local();
    site.declare(&[&table]);
    site.load(&table, 1, &[row(["2024-02-29 12:00:00.123456", "loaded"])]);
    site.run();
    // as Spark writes the largest value
    let log = format!("{}/_delta_log", site.table_uri(&table));
    for entry in std::fs::read_dir(log).expect("the log cannot be listed") {
        let path = entry.expect("the log cannot be listed").path();
        if path.extension().is_some_and(|end| end == "json") {
            let text = std::fs::read_to_string(&path).expect("a commit cannot be read");
            std::fs::write(&path, text.replace("12:00:00.124", "12:00:00.123")).expect("a commit cannot be written");
        }
    }
    assert_eq!(site.query("SELECT text FROM shop.ticks WHERE at > TIMESTAMP '2024-02-29 12:00:00.1234'").len(), 1);
    site.changes(&table, &stamp(0), &[update(["2024-02-29 12:00:00.123456", "updated"])]);
    let report = site.run().table(&table);
    assert_eq!((&report["updated"], &report["inserted"]), (&1.into(), &0.into()), "{report:#}");
}
