//! PreserveTransactions: the changes of all tables in one folder, in the order of their transactions.

use serde_json::json;

use crate::support::model::assert_same;
use crate::support::site::Site;
use crate::support::table::{NULL, Table, row};

/// Two tables of different width.
fn tables() -> [Table; 2] {
    let text = ("text", "varchar(50) DEFAULT NULL");
    let rows = Table::new("shop.rows", &[("id", "int(11) NOT NULL"), text]);
    [
        rows,
        Table::new("shop.pairs", &[("a", "int(11) NOT NULL"), ("b", "int(11) NOT NULL"), text])
            .primary_key(&["a", "b"]),
    ]
}

/// A loaded site whose changes lie in `changes/all`.
fn site([rows, pairs]: &[Table; 2]) -> Site {
    let mut site = Site::local();
    site.settings.more = vec![("PreserveTransactions".into(), json!(true)), ("CdcPath".into(), json!("changes/all"))];
    site.declare(&[rows, pairs]);
    site.load(rows, 1, &[row(["1", "one"]), row(["2", "two"])]);
    site.load(pairs, 1, &[row(["1", "1", "one"])]);
    site
}

fn put(site: &Site, number: u32, records: &str) {
    site.put_raw(&format!("changes/all/CDC_TXN-20240301{number:09}.csv"), records);
}

#[test]
fn each_table_takes_its_own_changes() {
    let both = tables();
    let site = site(&both);
    put(&site, 1, "U,rows,shop,1,uno\nI,pairs,shop,1,2,\"a, b\"\nI,rows,shop,3,\nI,other,elsewhere,x\n");
    put(&site, 2, "D,rows,shop,2,two\nU,pairs,shop,1,2,c\nU,rows,shop,1,\"two\nlines\"\n");
    site.write(
        "mappings.json",
        &json!({ "rules": [{ "rule-type": "selection", "rule-id": "1", "rule-action": "include",
        "object-locator": { "schema-name": "shop", "table-name": "%" } }] })
        .to_string(),
    );
    site.edit("lakemerge.toml", "s3_settings", "table_mappings = \"mappings.json\"\ns3_settings");
    let report = site.run();
    assert_eq!(report.0["tables"].as_array().unwrap().len(), 2, "{:#}", report.0);
    assert_eq!((&report.table(&both[0])["read"], &report.table(&both[1])["read"]), (&6.into(), &3.into()));
    assert_same(&site.rows(&both[0]), &[row(["1", "two\nlines"]), row(["3", NULL])], "rows");
    assert_same(&site.rows(&both[1]), &[row(["1", "1", "one"]), row(["1", "2", "c"])], "pairs");
}

#[test]
fn a_table_without_changes_goes_on_and_does_not_read_them_again() {
    let both = tables();
    let site = site(&both);
    site.run();
    put(&site, 1, "U,rows,shop,1,a\n");
    put(&site, 2, "U,rows,shop,1,b\n");
    let report = site.run();
    let pairs = report.table(&both[1]);
    assert_eq!((&pairs["commits"], &pairs["read"], &pairs["files_added"]), (&1.into(), &0.into(), &0.into()));
    assert_eq!(site.status(&both[1])["position"], "20240301-000000002");

    // Whoever opened this file would stop.
    put(&site, 1, "I,rows,shop,x\nI,pairs,shop,x\n");
    let versions = both.each_ref().map(|table| site.version(table));
    let report = site.run();
    assert_eq!(both.each_ref().map(|table| report.table(table)["state"].clone()), ["unchanged", "unchanged"]);
    assert_eq!(both.each_ref().map(|table| site.version(table)), versions);
}

#[test]
fn a_bad_record_stops_its_table_alone_and_is_counted_in_the_whole_file() {
    let both = tables();
    let site = site(&both);
    put(&site, 1, "U,rows,shop,1,a\nI,pairs,shop,x,1,\nU,rows,shop,2,b\n");
    site.command(&["run"]).exits(1).says(&["changes/all/CDC_TXN-20240301000000001.csv", "record 2", "shop.pairs"]);
    assert_same(&site.rows(&both[0]), &[row(["1", "a"]), row(["2", "b"])], "the other table");
}

#[test]
fn a_table_that_was_empty_when_the_task_began_has_changes_alone() {
    let both = tables();
    let site = site(&both);
    site.remove_raw("shop/pairs/LOAD00000001.csv");
    put(&site, 1, "I,pairs,shop,1,2,a\n");
    site.run();
    assert_same(&site.rows(&both[1]), &[row(["1", "2", "a"])], "changes alone");
}

#[test]
fn a_new_table_that_is_not_configured_is_named() {
    let both = tables();
    let site = site(&both);
    put(&site, 1, "I,news,shop,1\nI,awsdms_status,shop,1\nU,rows,shop,1,a\n");
    assert_eq!(site.plan_exits(2, &["--deep"]).0["tables"].as_array().unwrap().len(), 3);
    let (outcome, report) = site.run_exits(2, &[]);
    outcome.says(&["shop.news", "[[table]]", "schema"]);
    assert_eq!(report.0["tables"].as_array().unwrap().len(), 3, "{:#}", report.0);
    assert_same(&site.rows(&both[0]), &[row(["1", "a"]), row(["2", "two"])], "the other table");
}

#[test]
fn changes_wait_for_their_tables_load() {
    let both = tables();
    let mut site = site(&both);
    site.settings.max_file_size = Some(1);
    site.declare(&[&both[0], &both[1]]);
    let many: Vec<_> = (0..60).map(|id| vec![Some(id.to_string()), Some("x".repeat(30))]).collect();
    site.load(&both[0], 1, &many);
    put(&site, 1, "U,rows,shop,1,a\nU,pairs,shop,1,1,a\n");
    let report = site.run();
    assert_eq!(
        (&report.table(&both[0])["state"], &report.table(&both[1])["state"]),
        (&"loading".into(), &"merged".into())
    );
    assert_eq!(site.status(&both[0])["position"], serde_json::Value::Null);
    site.load(&both[0], 2, &[row(["100", "last"])]);
    site.run();
    let rows = site.rows(&both[0]);
    assert_eq!((rows.len(), rows.contains(&row(["1", "a"]))), (61, true));
}

#[test]
fn positions_of_rows_are_those_of_their_records() {
    let [rows, pairs] = tables();
    let both = [rows, pairs];
    let site = site(&both);
    site.edit("lakemerge.toml", "name = \"shop.rows\"", "name = \"shop.rows\"\nmetadata_columns = [\"_position\"]");
    put(&site, 1, "U,rows,shop,1,a\nI,pairs,shop,5,5,\nU,rows,shop,2,b\n");
    site.run();
    let csv = site.query_csv("SELECT id, _position FROM shop.rows ORDER BY id");
    assert_eq!(csv, "id,_position\n1,20240301-000000001/0000000001\n2,20240301-000000001/0000000003\n");
}

#[test]
fn changes_of_all_tables_are_not_passed_over_where_the_settings_forget_them() {
    for folder in ["changes", "changes/all"] {
        let both = tables();
        let mut site = site(&both);
        site.settings.more.clear();
        site.declare(&[&both[0], &both[1]]);
        site.put_raw(&format!("{folder}/CDC_TXN-20240301000000001.csv"), "U,rows,shop,1,a\n");
        site.command(&["run"]).exits(2).says(&["CDC_TXN-20240301000000001.csv", "PreserveTransactions", "s3_settings"]);
    }
}

#[test]
fn a_truncate_cannot_be_told_among_all_tables_changes() {
    let both = tables();
    let site = site(&both);
    site.edit("lakemerge.toml", "s3_settings", "on_vanished = \"truncate\"\ns3_settings");
    site.command(&["run"]).exits(2).says(&["on_vanished", "PreserveTransactions"]);
}

#[test]
fn changes_outside_of_the_folder_that_is_told_are_named() {
    let both = tables();
    let site = site(&both);
    site.put_raw("cdc/CDC_TXN-20240301000000001.csv", "U,rows,shop,1,a\n");
    let (outcome, _) = site.run_exits(2, &[]);
    assert!(outcome.stderr.contains("CdcPath of the S3 settings is changes/all"), "{outcome}");
}
