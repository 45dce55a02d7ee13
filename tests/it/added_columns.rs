//! Columns that a table has beside the source's: soft deletes and metadata.

use serde_json::{Value, json};

use crate::support::dms::{delete, insert, update};
use crate::support::site::Site;
use crate::support::table::{NULL, Table, row};
use crate::support::workload::stamp;

fn goods() -> Table {
    Table::new("shop.goods", &[("id", "int(11) NOT NULL"), ("name", "varchar(20) DEFAULT NULL")])
}

fn site_with(table: &Table, table_type: &str, options: &str) -> Site {
    let site = Site::local();
    site.declare(&[table]);
    site.edit("lakemerge.toml", "[lake]\n", &format!("[lake]\ntable_type = \"{table_type}\"\n"));
    site.edit("lakemerge.toml", "[[table]]\n", &format!("[[table]]\n{options}\n"));
    site
}

#[test]
fn a_softly_deleted_row_stays_as_it_was_and_is_marked() {
    for table_type in ["copy-on-write", "merge-on-read"] {
        let goods = goods();
        let site = site_with(&goods, table_type, "delete = \"soft\"");
        site.load(&goods, 1, &[row(["1", "a"]), row(["2", "b"]), row(["3", "c"])]);
        site.run();
        // the delete of 2 carries its key alone; 4 comes and goes in one batch; 9 was never there
        let changes =
            [delete(["2", NULL]), update(["1", "a2"]), insert(["4", "d"]), delete(["4", "d"]), delete(["9", "z"])];
        site.changes(&goods, &stamp(0), &changes);
        let report = site.run().table(&goods);
        let of = |name: &str| report[name].as_u64().unwrap();
        assert_eq!((of("read"), of("inserted"), of("updated"), of("deleted")), (5, 1, 1, 1), "{report:#}");
        assert_eq!((of("netted_away"), &report["skipped"][0]["rows"]), (1, &json!(1)), "{report:#}");
        let all = "SELECT * FROM shop.goods ORDER BY id";
        let expected = json!([
            {"id": 1, "name": "a2", "_deleted": false},
            {"id": 2, "name": "b", "_deleted": true},
            {"id": 3, "name": "c", "_deleted": false},
            {"id": 4, "name": "d", "_deleted": true},
        ]);
        assert_eq!(Value::from(site.query(all)), expected, "{table_type}");
        // a row that comes back lives again
        site.changes(&goods, &stamp(1), &[insert(["2", "b2"])]);
        site.run();
        let back = site.query("SELECT * FROM shop.goods WHERE id = 2");
        assert_eq!(Value::from(back), json!([{"id": 2, "name": "b2", "_deleted": false}]), "{table_type}");
    }
}

#[test]
fn metadata_columns_tell_where_a_row_comes_from() {
    let goods = goods();
    let mut site = Site::local();
    site.settings.timestamp_column = Some("committed".into());
    site.declare(&[&goods]);
    site.edit(
        "lakemerge.toml",
        "[[table]]\n",
        "[[table]]\nmetadata_columns = [\"_op\", \"_position\", \"_commit_ts\"]\n",
    );
    site.load(&goods, 1, &[row(["1", "a"]), row(["2", "b"])]);
    site.changes(&goods, &stamp(0), &[insert(["3", "c"]), update(["1", "a2"])]);
    site.run();
    let rows = site.query("SELECT id, _op, _position, _commit_ts IS NULL AS untimed FROM shop.goods ORDER BY id");
    let at = |record: u32| format!("{}/{record:010}", stamp(0));
    let expected = json!([
        {"id": 1, "_op": "U", "_position": at(2), "untimed": false},
        {"id": 2, "_op": "I", "_position": null, "untimed": false},
        {"id": 3, "_op": "I", "_position": at(1), "untimed": false},
    ]);
    assert_eq!(Value::from(rows), expected);
}

#[test]
fn an_unknown_metadata_column_is_named() {
    let goods = goods();
    let site = site_with(&goods, "copy-on-write", "metadata_columns = [\"_when\"]");
    site.load(&goods, 1, &[row(["1", "a"])]);
    site.command(&["run"]).exits(2).says(&["shop.goods", "_when", "_commit_ts"]);
}

#[test]
fn a_softly_deleted_row_has_the_values_of_its_delete_in_columns_that_tell_of_it() {
    for table_type in ["copy-on-write", "merge-on-read"] {
        let goods = goods();
        let site = site_with(&goods, table_type, "delete = \"soft\"\nmetadata_columns = [\"seq\", \"_op\"]");
        let rule = json!({ "rule-type": "transformation", "rule-id": "2", "rule-name": "2", "rule-target": "column",
            "rule-action": "add-column", "value": "seq", "expression": "$AR_H_CHANGE_SEQ",
            "object-locator": { "schema-name": "%", "table-name": "%" },
            "data-type": { "type": "string", "length": 50 } });
        let all = json!({ "rule-type": "selection", "rule-id": "1", "rule-name": "1", "rule-action": "include",
            "object-locator": { "schema-name": "%", "table-name": "%" } });
        site.write("mappings.json", &json!({ "rules": [all, rule] }).to_string());
        site.edit("lakemerge.toml", "s3_settings", "table_mappings = \"mappings.json\"\ns3_settings");
        site.put_raw("shop/goods/LOAD00000001.csv", "I,1,a,\nI,2,b,\nI,3,c,\n");
        let changes = "U,2,b2,20240101000000000000000000000000001\nD,1,a,20240101000000000000000000000000002\n\
                       D,2,b2,20240101000000000000000000000000003\n";
        site.put_raw(&format!("shop/goods/{}.csv", stamp(0)), changes);
        site.run();
        let rows = site.query("SELECT id, name, right(seq, 1) AS seq, _op, _deleted FROM shop.goods ORDER BY id");
        let expected = json!([
            {"id": 1, "name": "a", "seq": "2", "_op": "D", "_deleted": true},
            {"id": 2, "name": "b2", "seq": "3", "_op": "D", "_deleted": true},
            {"id": 3, "name": "c", "seq": null, "_op": "I", "_deleted": false},
        ]);
        assert_eq!(Value::from(rows), expected, "{table_type}");
    }
}
