//! Files of several row groups: copy-on-write copies those that lose no row, and every row stays what it was.

use crate::support::dms::{delete, insert, update};
use crate::support::model::assert_same;
use crate::support::random::Random;
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::{Row, Table, row};
use crate::support::workload::stamp;

/// More than two row groups, and more bytes than are sorted together.
const ROWS: u32 = 300_000;

#[test]
fn untouched_row_groups_are_copied_and_touched_ones_lose_just_their_rows() {
    let table = Table::new("shop.big", &[("id", "int(11) NOT NULL"), ("text", "varchar(200) DEFAULT NULL")]);
    let random = &mut Random::seeded(7);
    let mut text = || (0..8).map(|_| format!("{:016x}", random.next())).collect::<String>();
    let mut model: Vec<(u32, String)> = (0..ROWS).map(|id| (id, text())).collect();
    let site = Site::local();
    site.declare(&[&table]);
    let rows: Vec<Row> = model.iter().map(|(id, text)| row([&id.to_string(), text])).collect();
    site.load(&table, 1, &rows);
    site.run();

    // all in the last row group, but for one insert behind it
    let changes = [update(["299000", "new"]), delete(["299001", "x"]), insert(["400000", "behind"])];
    site.changes(&table, &stamp(0), &changes);
    let report = site.run().table(&table);
    assert_eq!((&report["updated"], &report["deleted"], &report["inserted"]), (&1.into(), &1.into(), &1.into()));
    // then in the first and again in the last
    site.changes(&table, &stamp(1), &[delete(["5", "x"]), delete(["299999", "x"])]);
    site.run();

    model[299_000].1 = "new".into();
    model.push((400_000, "behind".into()));
    model.retain(|(id, _)| ![5, 299_001, 299_999].contains(id));
    let count = model.len();
    let sum: u64 = model.iter().map(|(id, _)| u64::from(*id)).sum();
    let found = site.query("SELECT count(*) AS n, sum(id) AS s, count(DISTINCT text) AS t FROM shop.big");
    assert_eq!((&found[0]["n"], &found[0]["s"], &found[0]["t"]), (&count.into(), &sum.into(), &count.into()));
    for id in [0, 4, 6, 131_071, 131_072, 262_143, 262_144, 298_999, 299_000, 299_002, 299_998, 400_000] {
        let expected = &model[model.binary_search_by_key(&id, |(id, _)| *id).unwrap()].1;
        assert_eq!(site.query(&format!("SELECT text FROM shop.big WHERE id = {id}"))[0]["text"], **expected, "{id}");
    }
    for (engine, rows) in readers::find(&site, &table, "id", "299000") {
        assert_eq!(rows, [row(["299000", "new"])], "{engine}");
    }
}

#[test]
fn a_change_file_beyond_the_memory_is_merged_in_parts() {
    let columns = [("id", "int(11) NOT NULL"), ("region", "varchar(8) DEFAULT NULL"), ("text", "varchar(80)")];
    let number = |id: u32| id.to_string();
    fn texts(row: &[String; 3]) -> [&str; 3] {
        row.each_ref().map(String::as_str)
    }
    for (lake, table, soft) in [
        ("table_type = \"copy-on-write\"", Table::new("shop.wide", &columns), false),
        ("table_type = \"merge-on-read\"", Table::new("shop.wide", &columns).partitioned_by(&["region"]), false),
        ("table_type = \"merge-on-read\"", Table::new("shop.wide", &columns), true),
    ] {
        let rows = |ids: std::ops::Range<u32>, text: &'static str| {
            ids.map(move |id| [number(id), if id % 2 == 0 { "even" } else { "odd" }.to_owned(), text.to_owned()])
        };
        let mut site = Site::local();
        site.declare(&[&table]);
        site.edit("lakemerge.toml", "[lake]\n", &format!("[lake]\n{lake}\n"));
        if soft {
            site.edit("lakemerge.toml", "[[table]]\n", "[[table]]\ndelete = \"soft\"\n");
        }
        site.load(&table, 1, &rows(0..50_000, "loaded").map(|values| row(texts(&values))).collect::<Vec<_>>());
        site.run();

        // 40,000 updates of which half are deleted again, out of order, and 10,000 inserts
        let mut random = Random::seeded(3);
        let mut updates: Vec<_> = rows(10_000..50_000, "updated").map(|values| update(texts(&values))).collect();
        random.shuffle(&mut updates);
        let mut deletes: Vec<_> = rows(10_000..30_000, "x").map(|values| delete(texts(&values))).collect();
        random.shuffle(&mut deletes);
        let changes: Vec<_> = updates
            .into_iter()
            .chain(deletes)
            .chain(rows(50_000..60_000, "new").map(|values| insert(texts(&values))))
            // and two rows that change more often than fits
            .chain((0..20_000).flat_map(|_| rows(30_000..30_001, "updated")).map(|values| update(texts(&values))))
            .chain((0..20_000).flat_map(|_| rows(10_000..10_001, "x")).map(|values| delete(texts(&values))))
            .collect();
        site.changes(&table, &stamp(0), &changes);
        site.extra_env = vec![("LAKEMERGE_TEST_CHANGES_MEMORY".into(), "1000000".into())];
        let report = site.run().table(&table);
        let counts = ["commits", "read", "inserted", "updated", "deleted", "netted_away"].map(|name| &report[name]);
        assert_eq!(counts, [1, 110_000, 10_000, 20_000, 20_000, 60_000], "{report:#}");
        if soft {
            let marked = site.query("SELECT text, _deleted FROM shop.wide WHERE id = 10000");
            assert_eq!((&marked[0]["text"], &marked[0]["_deleted"]), (&"updated".into(), &true.into()), "{marked:?}");
        }

        let live = if soft { "WHERE NOT coalesce(_deleted, false)" } else { "" };
        let found = site.query(&format!(
            "SELECT text, region, count(*) AS n, sum(id) AS s FROM shop.wide {live} GROUP BY text, region ORDER BY 1, 2"
        ));
        let found: Vec<_> =
            found.iter().map(|row| format!("{} {} {} {}", row["text"], row["region"], row["n"], row["s"])).collect();
        let expected = ["loaded", "new", "updated"].into_iter().zip([0..10_000, 50_000..60_000, 30_000..50_000]);
        let expected: Vec<_> = expected
            .flat_map(|(text, ids): (_, std::ops::Range<u64>)| {
                [("even", 0), ("odd", 1)].map(|(region, rest)| {
                    let ids: Vec<_> = ids.clone().filter(|id| id % 2 == rest).collect();
                    format!("\"{text}\" \"{region}\" {} {}", ids.len(), ids.iter().sum::<u64>())
                })
            })
            .collect();
        assert_eq!(found, expected, "{lake}, soft {soft}");
    }
}

#[test]
fn rows_that_are_wider_than_the_changes_to_them_are_completed_some_at_a_time() {
    for table_type in ["copy-on-write", "merge-on-read"] {
        let goods = Table::new("shop.goods", &[("id", "int(11) NOT NULL"), ("text", "text")]);
        let mut site = Site::local();
        site.declare(&[&goods]);
        site.edit("lakemerge.toml", "[[table]]\n", "[[table]]\ndelete = \"soft\"\n");
        site.edit("lakemerge.toml", "[lake]\n", &format!("[lake]\ntable_type = \"{table_type}\"\n"));
        let text = |id: u32| format!("{id:01000}");
        site.load(&goods, 1, &(0..3000).map(|id| row([&id.to_string(), &text(id)])).collect::<Vec<_>>());
        site.run();
        // what the deletes say fits, and the rows that they leave, marked, do not
        let deletes: Vec<_> = (0..3000).rev().map(|id: u32| delete([&id.to_string(), ""])).collect();
        site.changes(&goods, &stamp(0), &deletes);
        site.extra_env = vec![("LAKEMERGE_TEST_CHANGES_MEMORY".into(), "1000000".into())];
        let report = site.run().table(&goods);
        assert_eq!((&report["deleted"], &report["commits"]), (&3000.into(), &1.into()), "{report:#}");
        let sql = "SELECT count(*) AS n, count(DISTINCT id) AS ids, \
                   sum(CASE WHEN _deleted AND CAST(text AS bigint) = id THEN 1 END) AS kept FROM shop.goods";
        let found = &site.query(sql)[0];
        assert_eq!((&found["n"], &found["ids"], &found["kept"]), (&3000.into(), &3000.into(), &3000.into()), "{found}");
    }
}

#[test]
fn rows_that_come_in_order_are_written_among_those_that_do_not() {
    let table = Table::new("shop.rows", &[("id", "int(11) NOT NULL"), ("text", "varchar(20) DEFAULT NULL")]);
    let new = |id: u32, text: &str| (id.to_string(), format!("{text} {id}"));
    for lake in ["table_type = \"copy-on-write\"", "table_type = \"merge-on-read\""] {
        let site = Site::local();
        site.declare(&[&table]);
        site.edit("lakemerge.toml", "[lake]\n", &format!("[lake]\n{lake}\n"));
        site.load(&table, 1, &[row(["5000", "loaded"])]);
        site.run();
        // in order across batches of rows, but for a few that came before or changed again
        let (early, late) =
            ([20_000, 1_500].map(|id| new(id, "early")), [3_000, 5_000, 29_999].map(|id| new(id, "late")));
        let rows: Vec<_> = (0..30_000).filter(|id| ![20_000, 1_500].contains(id)).map(|id| new(id, "new")).collect();
        let inserts = early.iter().chain(&rows).map(|(id, text)| insert([id, text]));
        let changes = inserts.chain(late.iter().map(|(id, text)| update([id, text]))).chain([delete(["7", "x"])]);
        site.changes(&table, &stamp(0), &changes.collect::<Vec<_>>());
        site.run();
        let mut model: std::collections::BTreeMap<_, _> = rows.into_iter().chain(early).chain(late).collect();
        model.remove("7");
        let mut expected: Vec<Row> = model.iter().map(|(id, text)| row([id, text])).collect();
        expected.sort();
        assert_same(&site.rows(&table), &expected, lake);
    }
}
