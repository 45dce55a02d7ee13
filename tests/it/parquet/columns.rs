//! Columns of Parquet files: found by their names, missing, new, or of another type.

use serde_json::{Value, json};

use super::{ID, NAME, everything, foresees_stop, goods, inferred, least, loaded, most, nulls};
use crate::support::dms::{Change, Op, delete, insert, update};
use crate::support::model::assert_same;
use crate::support::readers;
use crate::support::table::{NULL, row};
use crate::support::workload::stamp;

#[test]
fn columns_are_found_by_name_in_any_order_and_may_be_missing() {
    let table = goods(&[ID, NAME, ("price", "decimal(10,2) DEFAULT NULL")]);
    let site = loaded(&table);
    let turned = goods(&[("price", "decimal(10,2)"), ID]).primary_key(&["id"]);
    site.changes(&turned, &stamp(0), &[insert(["1.50", "3"])]);
    site.run();
    let expected = [row(["1", "5", "5.00"]), row(["2", "5", "5.00"]), row(["3", NULL, "1.50"])];
    assert_same(&site.rows(&table), &expected, "by name");
}

#[test]
fn a_column_that_create_table_lacks_stops_the_table_until_it_is_added() {
    let old = goods(&[ID, NAME]);
    let site = loaded(&old);
    let new = goods(&[ID, ("size", "smallint unsigned DEFAULT NULL"), NAME]);
    site.changes(&new, &stamp(0), &[insert(["3", "7", "new"])]);
    let error = ["20240301-235730000.parquet", "\"size\" is no column", "CREATE TABLE", "`size` SMALLINT UNSIGNED"];
    site.command(&["run"]).exits(1).says(&error);
    foresees_stop(&site, &old, "\"size\" is no column");
    assert_eq!(site.rows(&old).len(), 2);
    site.declare(&[&new]);
    site.run();
    let expected = [row(["1", NULL, "5"]), row(["2", NULL, "5"]), row(["3", "7", "new"])];
    assert_same(&site.rows(&new), &expected, "added in the middle");
}

#[test]
fn a_column_that_must_have_a_value_may_not_be_missing() {
    let table = goods(&[ID, ("name", "varchar(50) NOT NULL")]);
    let site = loaded(&table);
    site.changes(&goods(&[ID]), &stamp(0), &[insert(["3"])]);
    site.command(&["run"]).exits(1).says(&["20240301-235730000.parquet", "\"name\" is missing"]);
    assert_eq!(site.rows(&table).len(), 2);
}

#[test]
fn a_changed_type_is_taken_as_far_as_the_column_can_hold_it() {
    let table = goods(&[ID, ("code", "smallint(6) DEFAULT NULL"), ("price", "decimal(10,2) DEFAULT NULL"), NAME]);
    let site = loaded(&table);
    let retyped =
        goods(&[ID, ("code", "bigint DEFAULT NULL"), ("price", "decimal(12,4) DEFAULT NULL"), ("name", "int")]);
    site.changes(&retyped, &stamp(0), &[insert(["3", "-7", "1.5000", "9"])]);
    site.run();
    let last = row(["3", "-7", "1.50", "9"]);
    assert_same(&site.rows_where(&table, "id = 3"), std::slice::from_ref(&last), "held");
    for (at, value, words) in [
        (1, "40000", ["record 2", "column code", "40000", "does not fit SMALLINT"]),
        (2, "1.2345", ["record 2", "column price", "1.2345", "do not fit DECIMAL(10,2)"]),
    ] {
        let mut other = row(["4", "1", "1.0000", "1"]);
        other[at] = Some(value.to_owned());
        site.changes(&retyped, &stamp(1), &[delete(["3", NULL, NULL, NULL]), Change { op: Op::Insert, row: other }]);
        site.command(&["run"]).exits(1).says(&words);
        assert_same(&site.rows_where(&table, "id = 3"), std::slice::from_ref(&last), "as it was");
    }
}

#[test]
fn inferred_columns_have_the_types_of_the_files() {
    let table = everything();
    let site = inferred(&table, "");
    site.load(&table, 1, &[least("0"), most("18446744073709551615"), nulls("5")]);
    site.run();
    let types = "SELECT column_name AS name, data_type AS type FROM information_schema.columns \
                 WHERE table_name = 'everything' ORDER BY ordinal_position";
    let types: Vec<_> = site.query(types).iter().map(|c| format!("{} {}", c["name"], c["type"])).collect();
    let types = types.join(", ").replace('"', "");
    let expected = "id Decimal128(20, 0), tiny Int8, utiny Int16, small Int16, usmall Int32, medium Int32, \
                    umedium Int64, int Int32, uint Int64, big Int64, price Decimal128(10, 2), \
                    wide Decimal128(38, 10), wider Utf8, ratio Float64, exact Float64, flag Boolean, bits Binary, \
                    mask Binary, born Date32, seen Timestamp(µs), at Timestamp(µs), span Utf8, year Int16, \
                    name Utf8, note Utf8, kind Utf8, json Utf8, code Binary, blob Binary";
    assert_eq!(types, expected);
    assert_eq!(site.query("SELECT CAST(id AS VARCHAR) AS id FROM shop.everything").len(), 3);
}

#[test]
fn a_new_column_is_added_to_a_table_that_was_inferred() {
    let old = goods(&[ID, NAME]);
    let site = inferred(&old, "");
    site.load(&old, 1, &[row(["1", "a"])]);
    site.run();
    let new = goods(&[ID, ("price", "decimal(10,2) DEFAULT NULL"), NAME]);
    site.changes(&old, &stamp(0), &[insert(["2", "b"])]);
    site.changes(&new, &stamp(1), &[insert(["3", "1.50", "c"]), update(["1", NULL, "a2"])]);
    let plan = site.plan_exits(0, &["--deep"]).table(&new);
    assert_eq!(
        (&plan["steps"][0]["step"], &plan["schema_changes"]),
        (&"evolve".into(), &json!(["price DECIMAL(10,2) is new"]))
    );
    assert_eq!(plan["steps"][1]["contents"]["read"], 3, "{plan:#}");
    let report = site.run().table(&new);
    assert_eq!(report["commits"], 2, "{report:#}");
    assert!(report["notes"].to_string().contains("column price is new"), "{report:#}");
    let shown = goods(&[ID, NAME, ("price", "decimal(10,2) DEFAULT NULL")]);
    let expected = [row(["1", "a2", NULL]), row(["2", "b", NULL]), row(["3", "c", "1.50"])];
    assert_same(&site.rows(&shown), &expected, "evolved");
    for (engine, rows) in readers::rows(&site, &shown) {
        assert_same(&rows, &expected, &format!("evolved, read by {engine}"));
    }
    // a file without the column, such as one of a task that was set back
    site.changes(&old, &stamp(2), &[update(["3", "c2"])]);
    assert_eq!(site.run().table(&new)["commits"], 1);
    assert_same(&site.rows_where(&shown, "id = 3"), &[row(["3", "c2", NULL])], "without the column");
}

#[test]
fn a_wider_type_stops_a_table_that_was_inferred_or_rewrites_it() {
    let old = goods(&[ID, ("count", "smallint(6) DEFAULT NULL")]);
    let new = goods(&[("id", "bigint(20) NOT NULL"), ("count", "int(11) DEFAULT NULL")]);
    let site = inferred(&old, "");
    site.load(&old, 1, &[row(["1", "7"])]);
    site.run();
    site.changes(&new, &stamp(0), &[insert(["4294967296", "70000"])]);
    let words = ["shop.goods", "column id is INT in the table and BIGINT", "on_type_change = \"rewrite\"", "--reload"];
    site.command(&["run"]).exits(1).says(&words);
    foresees_stop(&site, &old, words[1]);
    site.edit("lakemerge.toml", "[source]\n", "[source]\non_type_change = \"rewrite\"\n");
    assert_eq!(site.run().table(&new)["commits"], 2);
    let expected = [row(["1", "7"]), row(["4294967296", "70000"])];
    assert_same(&site.rows(&new), &expected, "rewritten");
    // what an earlier, narrower file holds needs no other type
    site.changes(&old, &stamp(1), &[update(["1", "8"])]);
    assert_eq!(site.run().table(&new)["commits"], 1);
}

#[test]
fn what_a_task_adds_is_no_inferred_column() {
    let table = goods(&[("id", "int(11) NOT NULL"), NAME, ("seq", "varchar(35)"), ("old_id", "int(11)")]);
    let mut site = inferred(&table, "table_mappings = \"mappings.json\"");
    site.settings.timestamp_column = Some("committed".to_owned());
    site.write("s3.json", &site.settings.json().to_string());
    let rule = |action: &str, more: Value| {
        let mut rule = json!({"rule-type": "transformation", "rule-target": "column", "rule-action": action,
            "object-locator": {"schema-name": "%", "table-name": "%"}});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    let rules = json!({"rules": [
        {"rule-type": "selection", "rule-action": "include", "rule-id": "1",
         "object-locator": {"schema-name": "%", "table-name": "%"}},
        rule("add-column", json!({"rule-id": "2", "value": "seq", "expression": "$AR_H_CHANGE_SEQ"})),
        rule("add-before-image-columns",
             json!({"rule-id": "3", "before-image-def": {"column-prefix": "old_", "column-filter": "pk-only"}})),
    ]});
    site.write("mappings.json", &rules.to_string());
    site.load(&table, 1, &[row(["1", "a", NULL, NULL]), row(["2", "b", NULL, NULL])]);
    site.run();
    // the row with the key 1 gets the key 7
    site.changes(&table, &stamp(0), &[update(["7", "a", "77", "1"]), update(["2", "b2", "78", "2"])]);
    let report = site.run().table(&table);
    assert_eq!((&report["read"], &report["commits"]), (&2.into(), &1.into()), "{report:#}");
    let shown = goods(&[ID, NAME]);
    assert_same(&site.rows(&shown), &[row(["2", "b2"]), row(["7", "a"])], "moved");
    let columns = site.query("SELECT * FROM shop.goods LIMIT 1")[0].as_object().unwrap().len();
    assert_eq!(columns, 2);
}
