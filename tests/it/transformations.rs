//! Table mappings that change names, columns and records: the lake has what the task's rules make of the source.

use serde_json::{Value, json};

use crate::support::dms::Settings;
use crate::support::site::Site;
use crate::support::table::Table;
use crate::support::workload::stamp;

/// A transformation of `target`, which is `schema`, `schema.table` or `schema.table.column`.
fn rule(action: &str, target: &str, more: Value) -> Value {
    let parts: Vec<_> = target.split('.').collect();
    let kind = ["schema", "table", "column"][parts.len() - 1];
    let mut rule = json!({
        "rule-type": "transformation",
        "rule-target": kind,
        "rule-action": action,
        "object-locator": {},
    });
    for (name, part) in ["schema-name", "table-name", "column-name"].iter().zip(parts) {
        rule["object-locator"][name] = part.into();
    }
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rule
}

fn named(action: &str, target: &str, value: &str) -> Value {
    rule(action, target, json!({ "value": value }))
}

fn sequence() -> Value {
    rule("add-column", "%.%.x", json!({ "value": "seq", "expression": "$AR_H_CHANGE_SEQ" }))
}

fn before(filter: &str) -> Value {
    rule("add-before-image-columns", "%.%.%", json!({ "before-image-def": { "column-filter": filter } }))
}

fn people() -> Table {
    Table::new("shop.people", &[("id", "int(11) NOT NULL"), ("name", "char(9) DEFAULT NULL"), ("age", "int(11)")])
}

/// A job whose mappings include all of `shop` and have these rules, numbered in their order.
fn site(settings: Settings, table: &Table, rules: Vec<Value>) -> Site {
    let mut site = Site::local();
    site.settings = settings;
    site.declare(&[table]);
    site.edit("lakemerge.toml", "s3_settings", "table_mappings = \"mappings.json\"\ns3_settings");
    let include = json!({
        "rule-type": "selection",
        "rule-action": "include",
        "object-locator": { "schema-name": "shop", "table-name": "%" },
    });
    let mut rules: Vec<_> = std::iter::once(include).chain(rules).collect();
    for (number, rule) in rules.iter_mut().enumerate() {
        rule["rule-id"] = number.into();
    }
    site.write("mappings.json", &json!({ "rules": rules }).to_string());
    site
}

fn header() -> Settings {
    Settings { header: true, ..Settings::default() }
}

/// The files below `folder`, and what the table holds in the end.
#[track_caller]
fn check(site: &Site, folder: &str, load: &str, changes: &str, sql: &str, expected: &str) {
    site.put_raw(&format!("{folder}/LOAD00000001.csv"), load);
    site.run();
    site.put_raw(&format!("{folder}/{}.csv", stamp(0)), changes);
    site.run();
    assert_eq!(site.query_csv(sql), expected);
}

const ALL: &str = "SELECT * FROM shop.people ORDER BY 1";

#[test]
fn schema_table_and_columns_have_their_new_names() {
    for name in ["shop.people", "lake.humans"] {
        for settings in [Settings::default(), header()] {
            let top = if settings.header { "Op,no,NAME,AGE\n" } else { "" };
            let people = people().partitioned_by(&["age"]);
            let rules = vec![
                named("rename", "shop", "lake"),
                named("rename", "shop.people", "humans"),
                named("rename", "shop.people.id", "no"),
                rule("convert-uppercase", "%.%.%", json!({})),
            ];
            let site = site(settings, &people, rules);
            site.edit("lakemerge.toml", "name = \"shop.people\"", &format!("name = \"{name}\""));
            check(
                &site,
                "lake/humans",
                &format!("{top}I,1,a,5\nI,2,b,6\n"),
                &format!("{top}U,1,a2,5\nD,2,b,6\n"),
                "SELECT * FROM lake.humans ORDER BY no",
                "no,NAME,AGE\n1,a2,5\n",
            );
            for asked in ["shop.people", "lake.humans"] {
                site.command(&["run", "--table", asked]).exits(0);
                site.command(&["maintain", "--table", asked]).exits(0);
            }
            site.command(&["run", "--table", "shop.nobody"]).exits(2).says(&["lake.humans"]);
        }
    }
}

#[test]
fn the_case_of_letters_is_converted() {
    let rules = ["%", "%.%", "%.%.%"].map(|target| rule("convert-uppercase", target, json!({}))).to_vec();
    let site = site(Settings::default(), &people(), rules);
    check(
        &site,
        "SHOP/PEOPLE",
        "I,1,a,5\n",
        "I,2,b,6\n",
        "SELECT * FROM SHOP.PEOPLE ORDER BY 1",
        "ID,NAME,AGE\n1,a,5\n2,b,6\n",
    );
}

#[test]
fn prefixes_and_suffixes_come_and_go() {
    let rules = vec![named("add-prefix", "%.%", "p_"), named("remove-suffix", "%.%.%", "me")];
    let site = site(Settings::default(), &people(), rules);
    let sql = "SELECT id, na FROM shop.p_people ORDER BY 1";
    check(&site, "shop/p_people", "I,1,a,5\n", "D,1,a,5\nI,2,b,6\n", sql, "id,na\n2,b\n");
}

#[test]
fn a_folder_of_another_name_is_left_alone() {
    let site = site(Settings::default(), &people(), vec![named("rename", "shop", "lake")]);
    site.put_raw("shop/people/LOAD00000001.csv", "I,9,z,9\n");
    check(&site, "lake/people", "I,1,a,5\n", "I,2,b,6\n", "SELECT id FROM lake.people ORDER BY 1", "id\n1\n2\n");
}

#[test]
fn columns_that_are_left_out_are_in_neither_records_nor_table() {
    let removed = vec![rule("remove-column", "shop.people.name", json!({}))];
    let included = ["id", "age"].map(|c| rule("include-column", &format!("shop.people.{c}"), json!({}))).to_vec();
    for rules in [removed, included] {
        let site = site(Settings::default(), &people(), rules);
        check(&site, "shop/people", "I,1,5\nI,2,6\n", "U,1,7\n", ALL, "id,age\n1,7\n2,6\n");
    }
}

#[test]
fn columns_have_the_types_that_they_are_changed_to() {
    let rules = vec![
        rule(
            "change-data-type",
            "shop.people.age",
            json!({ "data-type": { "type": "numeric", "precision": 6, "scale": 2 } }),
        ),
        rule("data-masking-hash-mask", "shop.people.id", json!({})),
    ];
    let site = site(Settings::default(), &people(), rules);
    check(&site, "shop/people", "I,ab,a,5.50\n", "U,ab,a,6.25\nI,cd,b,\n", ALL, "id,name,age\nab,a,6.25\ncd,b,\n");
}

#[test]
fn the_key_that_the_task_defines_is_the_key() {
    let people = people().configured_key(&[]);
    let key = rule("define-primary-key", "shop.people", json!({ "primary-key-def": { "columns": ["name", "id"] } }));
    let site = site(Settings::default(), &people, vec![key]);
    check(&site, "shop/people", "I,1,a,5\nI,1,b,6\n", "U,1,b,7\nD,1,a,5\n", ALL, "id,name,age\n1,b,7\n");
}

#[test]
fn what_is_added_about_a_change_is_read_and_not_kept() {
    let position = rule("add-column", "%.%.x", json!({ "value": "pos", "expression": "$AR_H_STREAM_POSITION" }));
    let source =
        rule("add-column", "%.%.x", json!({ "value": "src", "expression": "'a'", "data-type": { "type": "string" } }));
    let rules = || vec![sequence(), source.clone(), position.clone(), before("pk-only")];
    for with_header in [false, true] {
        let settings = Settings { header: with_header, timestamp_column: Some("ts".into()), ..Settings::default() };
        let top = if with_header { "Op,ts,id,name,age,seq,src,pos,BI_id\n" } else { "" };
        let site = site(settings, &people(), rules());
        let ts = "2024-02-29 23:59:59.000000";
        check(
            &site,
            "shop/people",
            &format!("{top}I,{ts},1,a,5,,s,,\nI,{ts},2,b,6,,s,,\n"),
            // 1 becomes 3; a delete with its key alone
            &format!("{top}U,{ts},3,a,5,20240612103025100000000000000000061,s,bin.1:4,1\nD,{ts},2,,,2,,,\n"),
            ALL,
            "id,name,age,src\n3,a,5,s\n",
        );
    }
}

#[test]
fn a_column_about_a_change_is_kept_where_it_is_asked_for() {
    let site = site(Settings::default(), &people(), vec![sequence()]);
    site.edit("lakemerge.toml", "[[table]]\n", "[[table]]\nmetadata_columns = [\"seq\", \"_op\"]\n");
    let expected = "id,name,age,seq,_op\n1,a,5,,I\n2,b,6,77,I\n";
    check(&site, "shop/people", "I,1,a,5,\n", "I,2,b,6,77\n", ALL, expected);
}

#[test]
fn columns_are_inferred_without_what_the_task_adds() {
    for with_header in [false, true] {
        let settings = Settings { header: with_header, ..Settings::default() };
        let (top, key) = if with_header { ("Op,id,n,seq,BI_id\n", "id") } else { ("", "column_1") };
        let people = people().configured_key(&[key]);
        let site = site(settings, &people, vec![sequence(), before("pk-only")]);
        site.edit("lakemerge.toml", "\"shop.sql\"", "\"infer\"");
        let names = if with_header { "id,n" } else { "column_1,column_2" };
        let (load, changes) = (format!("{top}I,1,a,,\nI,2,b,,\n"), format!("{top}U,3,a,77,1\n"));
        check(&site, "shop/people", &load, &changes, ALL, &format!("{names}\n2,b\n3,a\n"));
    }
}

#[test]
fn old_and_new_widths_mix_once_a_column_was_added() {
    let old = people();
    let site = site(Settings::default(), &old, vec![sequence(), before("pk-only")]);
    site.put_raw("shop/people/LOAD00000001.csv", "I,1,a,5,,\n");
    site.run();
    // one field less than all others, and nothing says that there is such a width
    site.put_raw(&format!("shop/people/{}.csv", stamp(0)), "U,1,a,7,,\n");
    site.edit("shop.sql", "`age` int(11)", "`age` int(11),\n  `town` varchar(9) DEFAULT NULL");
    site.run();
    site.put_raw(&format!("shop/people/{}.csv", stamp(1)), "I,2,b,6,77,\nI,3,c,8,Bonn,78,\n");
    site.run();
    assert_eq!(site.query_csv(ALL), "id,name,age,town\n1,a,7,\n2,b,6,\n3,c,8,Bonn\n");
    site.put_raw(&format!("shop/people/{}.csv", stamp(2)), "I,4,b,77,\n");
    site.command(&["run"]).exits(1).says(&["record 1", "is missing"]);
}

#[test]
fn a_mapping_that_contradicts_the_schema_is_a_usage_error() {
    for (rules, words) in [
        (vec![named("rename", "shop.people.name", "age")], ["name and age", "the same name age"]),
        (vec![named("turn", "shop.people", "x")], ["mappings.json", "rule-action \"turn\""]),
        (vec![before("sometimes")], ["rule-id 1", "column-filter \"sometimes\""]),
    ] {
        let site = site(Settings::default(), &people(), rules);
        site.put_raw("shop/people/LOAD00000001.csv", "I,1,a,5\n");
        site.command(&["run"]).exits(2).says(&words);
    }
}
