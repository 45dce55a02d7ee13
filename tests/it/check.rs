//! `check` names what may make a table wrong, and writes nothing.

use crate::support::dms::{Settings, insert};
use crate::support::lenient::Lenient;
use crate::support::site::Site;
use crate::support::table::{Table, row};
use crate::support::workload::stamp;
use serde_json::{Value, json};

fn things() -> Table {
    Table::new("shop.things", &[("id", "int(11) NOT NULL"), ("name", "varchar(50) DEFAULT NULL")])
}

const INCLUDE: &str = r#"{"rule-type": "selection", "rule-id": "4", "rule-name": "4", "rule-action": "include",
    "object-locator": {"schema-name": "shop", "table-name": "%"}}"#;

const TASK: &str = r#"{"TargetMetadata": {"LobMaxSize": 64},
    "FullLoadSettings": {"TargetTablePrepMode": "DROP_AND_CREATE"}}"#;

/// A job of which nothing is left open.
fn careful(tables: &[&Table]) -> Site {
    let mut site = Site::local();
    site.settings = Settings { header: true, null: Some("\\N".into()), ..Settings::default() };
    declare(&site, tables);
    site
}

fn declare(site: &Site, tables: &[&Table]) {
    site.declare(tables);
    let lines = "[source]\ntable_mappings = \"mappings.json\"\ntask_settings = \"task.json\"\n";
    site.edit("lakemerge.toml", "[source]\n", lines);
    site.write("mappings.json", &format!(r#"{{"rules": [{INCLUDE}]}}"#));
    site.write("task.json", TASK);
}

/// What every DMS job has.
const ALWAYS: [&str; 3] = ["no-before-images", "ddl-without-rows", "row-image-unseen"];

fn hazards(findings: &[Value]) -> Vec<&str> {
    findings.iter().map(|finding| finding["hazard"].as_str().expect("a hazard")).collect()
}

/// The hazards beside those that every job has, with their severities.
#[track_caller]
fn check(site: &Site, code: i32, expected: &[(&str, &str)]) -> Vec<Value> {
    let before = site.lake_files();
    let findings = site.check_exits(code);
    assert!(site.lake_files() == before, "the check changed the lake");
    let text = |finding: &Value, field: &str| finding[field].as_str().is_some_and(|text| !text.is_empty());
    for finding in &findings {
        assert!(["where", "finding", "consequence", "remedy"].iter().all(|field| text(finding, field)), "{finding:#}");
    }
    let found: Vec<_> = findings
        .iter()
        .map(|finding| (finding["hazard"].as_str().expect("a hazard"), finding["severity"].as_str().expect("one")))
        .filter(|(hazard, _)| !ALWAYS.contains(hazard))
        .collect();
    assert_eq!(found, expected, "{findings:#?}");
    findings
}

fn finding<'a>(findings: &'a [Value], hazard: &str) -> &'a Value {
    findings.iter().find(|finding| finding["hazard"] == hazard).expect("it was found")
}

#[test]
fn a_careful_job_has_the_hazards_that_every_dms_job_has() {
    let table = things();
    let site = careful(&[&table]);
    site.load(&table, 1, &[row(["1", "one"])]);
    assert_eq!(hazards(&check(&site, 0, &[])), ALWAYS);
    assert!(site.lake_files().is_empty());
    site.run();
    check(&site, 0, &[]);
}

#[test]
fn the_rule_that_gives_before_images_is_shown() {
    let (table, other) = (things(), Table::new("shop.other", &[("id", "int(11) NOT NULL")]));
    let rule = |site: &Site| {
        let findings = site.check_exits(0);
        let remedy = finding(&findings, "no-before-images")["remedy"].as_str().unwrap().to_owned();
        let rule = remedy.split_once("add the rule ").and_then(|(_, rest)| rest.split_once(" to the table mappings"));
        serde_json::from_str::<Value>(rule.expect("a rule").0).expect("a rule is JSON")
    };
    let site = careful(&[&table]);
    site.load(&table, 1, &[row(["1", "one"])]);
    let expected = json!({
        "rule-type": "transformation", "rule-id": "5", "rule-name": "5", "rule-target": "column",
        "object-locator": {"schema-name": "shop", "table-name": "things"},
        "rule-action": "add-before-image-columns",
        "before-image-def": {"column-prefix": "BI_", "column-suffix": "", "column-filter": "pk-only"}
    });
    assert_eq!(rule(&site), expected);

    let table = table.configured_key(&["id"]);
    let site = careful(&[&table, &other]);
    site.load(&table, 1, &[row(["1", "one"])]);
    let rule = rule(&site);
    assert_eq!(rule["object-locator"], json!({"schema-name": "shop", "table-name": "%"}));
    assert_eq!(rule["before-image-def"]["column-filter"], "non-lob");
}

#[test]
fn what_is_not_given_is_named() {
    let table = things();
    let site = Site::local();
    site.declare(&[&table]);
    site.edit("lakemerge.toml", "s3_settings = \"s3.json\"\n", "");
    site.load(&table, 1, &[row(["1", "one"])]);
    let expected = [
        ("columns-without-names", "risk"),
        ("s3-settings-unknown", "risk"),
        ("empty-is-null", "note"),
        ("table-mappings-unknown", "note"),
        ("task-settings-unknown", "note"),
    ];
    check(&site, 0, &expected);
}

#[test]
fn task_settings_that_lose_something_are_named() {
    let table = things();
    let ddl = |member: &str| format!(r#""ChangeProcessingDdlHandlingPolicy": {{"{member}": false}}"#);
    for (settings, code, hazard, severity) in [
        (ddl("HandleSourceTableTruncated"), 1, "truncates-not-handed-on", "loss"),
        (ddl("HandleSourceTableAltered"), 0, "alters-not-handed-on", "risk"),
        (ddl("HandleSourceTableDropped"), 0, "drops-not-handed-on", "note"),
        (r#""TargetMetadata": {"BatchApplyEnabled": true}"#.into(), 1, "batch-apply", "loss"),
        (r#""ErrorBehavior": {"DataErrorPolicy": "IGNORE_RECORD"}"#.into(), 1, "records-ignored", "loss"),
        (r#""FullLoadSettings": {"TargetTablePrepMode": "DO_NOTHING"}"#.into(), 0, "old-files-kept", "risk"),
    ] {
        let site = careful(&[&table]);
        site.load(&table, 1, &[row(["1", "one"])]);
        // of two members of one name the later one counts
        site.write("task.json", &format!("{}, {settings}}}", TASK.trim_end_matches('}').to_owned() + "}"));
        check(&site, code, &[(hazard, severity)]);
    }
    let site = careful(&[&table]);
    site.write("task.json", "[]");
    site.command(&["check"]).exits(2).says(&["task.json", "task settings"]);
}

#[test]
fn lobs_are_named_with_what_becomes_of_them() {
    let table = Table::new(
        "shop.things",
        &[("id", "int(11) NOT NULL"), ("text", "longtext"), ("note", "text"), ("extra", "json DEFAULT NULL")],
    );
    let lobs = |task: &str, mappings: &str| {
        let site = careful(&[&table]);
        site.load(&table, 1, &[row(["1", "one", "two", "{}"])]);
        site.write("task.json", &TASK.replace(r#"{"LobMaxSize": 64}"#, task));
        site.write("mappings.json", &format!(r#"{{"rules": [{INCLUDE}{mappings}]}}"#));
        site
    };
    let rule = |settings: &str| {
        format!(
            r#", {{"rule-type": "table-settings", "rule-id": "9", "rule-name": "9", "lob-settings": {settings},
                "object-locator": {{"schema-name": "shop", "table-name": "things"}}}}"#
        )
    };
    let cut = |site: Site, severity: &str, expected: &str| {
        let findings = check(&site, i32::from(severity == "loss"), &[("lobs-cut", severity)]);
        let text = finding(&findings, "lobs-cut")["finding"].as_str().unwrap().to_owned();
        assert!(text.ends_with(expected), "{text}");
    };
    cut(lobs(r#"{"LobMaxSize": 64}"#, ""), "risk", "shop.things (text at 64 KB, extra at 64 KB)");
    cut(lobs("{}", ""), "loss", "shop.things (text at 32 KB, extra at 32 KB)");
    cut(
        lobs(r#"{"SupportLobs": false}"#, &rule(r#"{"mode": "limited", "bulk-max-size": "16"}"#)),
        "loss",
        "shop.things (text at 16 KB, extra at 16 KB)",
    );
    check(&lobs(r#"{"SupportLobs": false}"#, ""), 1, &[("lobs-left-out", "loss")]);
    check(&lobs(r#"{"FullLobMode": true}"#, ""), 1, &[("lobs-in-full-mode", "loss")]);
    check(&lobs("{}", &rule(r#"{"mode": "none"}"#)), 1, &[("lobs-left-out", "loss")]);
    let site = lobs("{}", "");
    site.edit("lakemerge.toml", "task_settings = \"task.json\"\n", "");
    check(&site, 0, &[("lobs-unknown", "risk"), ("task-settings-unknown", "note")]);
}

#[test]
fn hazards_of_definitions_name_the_columns() {
    for (table, code, hazards, says) in [
        (things().configured_key(&["id"]), 0, vec![("key-not-primary", "risk")], "shop.things (id)"),
        (
            Table::new("shop.things", &[("id", "int(11) NOT NULL"), ("twice", "int(11) GENERATED ALWAYS AS (id * 2)")]),
            1,
            vec![("generated-columns", "loss")],
            "shop.things (twice)",
        ),
        (
            Table::new("shop.things", &[("day", "date NOT NULL"), ("id", "int(11) DEFAULT NULL")]),
            0,
            vec![("dates-in-key", "risk")],
            "shop.things (day)",
        ),
        (
            Table::new("shop.things", &[("at", "datetime(6) NOT NULL"), ("id", "int(11) DEFAULT NULL")]),
            0,
            vec![("dates-in-key", "risk"), ("microseconds-in-key", "risk")],
            "shop.things (at)",
        ),
        (
            Table::new("shop.things", &[("id", "int(11) NOT NULL"), ("at", "timestamp(6) NULL DEFAULT NULL")]),
            0,
            vec![("microseconds", "note")],
            "shop.things (at)",
        ),
    ] {
        let site = careful(&[&table]);
        site.put_raw("shop/things/20240301-120000000.csv.partial", "");
        let mut expected = hazards.clone();
        expected.push(("strangers", "note"));
        let findings = check(&site, code, &expected);
        let text = finding(&findings, hazards[0].0)["finding"].as_str().unwrap();
        assert!(text.ends_with(says), "{text}");
    }
}

#[test]
fn foreign_keys_that_change_rows_are_named() {
    let table = things();
    let site = careful(&[&table]);
    site.load(&table, 1, &[row(["1", "one"])]);
    site.edit(
        "shop.sql",
        "PRIMARY KEY (`id`)",
        "PRIMARY KEY (`id`),\n  CONSTRAINT `p` FOREIGN KEY (`id`) REFERENCES `people` (`id`) ON DELETE CASCADE",
    );
    let findings = check(&site, 1, &[("cascades", "loss")]);
    assert!(finding(&findings, "cascades")["finding"].as_str().unwrap().ends_with("shop.things (people)"));
}

#[test]
fn settings_that_make_values_alike_are_named() {
    let table = things().configured_key(&["name"]);
    let mut site = Site::local();
    site.settings.rfc4180 = false;
    declare(&site, &[&table]);
    site.edit("lakemerge.toml", "key = [\"name\"]", "key = [\"name\"]\nmetadata_columns = [\"_commit_ts\"]");
    site.load(&table, 1, &[row(["1", "one"])]);
    let expected = [
        ("columns-without-names", "risk"),
        ("commit-times-missing", "risk"),
        ("empty-is-null-in-key", "risk"),
        ("key-not-primary", "risk"),
        ("values-without-quotes", "risk"),
    ];
    check(&site, 0, &expected);
}

#[test]
fn settings_that_leave_changes_out_are_a_loss() {
    let table = things();
    for name in ["CdcInsertsOnly", "CdcInsertsAndUpdates"] {
        let mut site = careful(&[&table]);
        site.settings.more = vec![(name.to_owned(), json!(true))];
        declare(&site, &[&table]);
        site.load(&table, 1, &[row(["1", "one"])]);
        let findings = check(&site, 1, &[("changes-left-out", "loss")]);
        assert_eq!(findings[0]["where"], format!("S3 setting {name}"));
    }
}

#[test]
fn rules_of_the_mappings_decide_what_is_a_hazard() {
    let table = Table::new("shop.things", &[("id", "int(11) NOT NULL"), ("twice", "int(11) AS (id * 2)")]);
    let mappings = |rules: &str| {
        let site = careful(&[&table]);
        site.write("mappings.json", &format!(r#"{{"rules": [{rules}]}}"#));
        site.put_raw("shop/things/readme.txt", "");
        site
    };
    let rule = |more: &str| {
        format!(
            r#"{INCLUDE}, {{"rule-type": "transformation", "rule-id": "7", "rule-name": "7", "rule-target": "column",
                "object-locator": {{"schema-name": "shop", "table-name": "things", "column-name": "twice"}}, {more}}}"#
        )
    };
    check(&mappings(&rule(r#""rule-action": "remove-column""#)), 0, &[("strangers", "note")]);

    let images = r#""rule-action": "add-before-image-columns", "before-image-def": {"column-prefix": "BI_",
        "column-suffix": "", "column-filter": "pk-only"}"#;
    let site = mappings(&rule(images).replace(r#", "column-name": "twice""#, ""));
    let findings = check(&site, 1, &[("generated-columns", "loss"), ("strangers", "note")]);
    assert!(!hazards(&findings).contains(&"no-before-images"), "{findings:#?}");
    // of a key that is not the primary one they tell nothing
    site.edit("lakemerge.toml", "[[table]]", "[[table]]\nkey = [\"id\", \"twice\"]");
    let findings = site.check_exits(1);
    assert!(hazards(&findings).contains(&"no-before-images"), "{findings:#?}");

    let filter = r#""filters": [{"filter-type": "source", "column-name": "id",
        "filter-conditions": [{"filter-operator": "gte", "value": "1"}]}], "rule-action""#;
    let filtered = INCLUDE.replace("\"%\"", "\"things\"").replace("\"rule-action\"", filter);
    let expected = [("generated-columns", "loss"), ("rows-filtered", "risk"), ("strangers", "note")];
    check(&mappings(&filtered), 1, &expected);
}

#[test]
fn policies_that_hide_a_truncate_are_named() {
    let table = things();
    let site = careful(&[&table]);
    site.load(&table, 1, &[row(["1", "one"])]);
    site.edit("lakemerge.toml", "[source]\n", "[source]\non_vanished = \"keep\"\nraw_retention = \"7d\"\n");
    site.edit("lakemerge.toml", "[run]\n", "[run]\nmaintenance = \"off\"\n");
    let expected = [("vanished-expired", "risk"), ("vanished-kept", "risk"), ("upkeep-by-hand", "note")];
    check(&site, 0, &expected);
}

#[test]
fn a_lake_among_the_raw_files_is_a_loss() {
    let table = things();
    let site = careful(&[&table]);
    site.load(&table, 1, &[row(["1", "one"])]);
    site.edit("lakemerge.toml", "/lake\"", "/raw/dms/lake\"");
    check(&site, 1, &[("lake-inside-source", "loss")]);
    site.edit("lakemerge.toml", "/raw/dms/lake\"", "/raw\"");
    check(&site, 0, &[("source-inside-lake", "risk"), ("tables-of-others", "note")]);
}

#[test]
fn folders_and_files_that_do_not_fit_are_named() {
    let (table, other) = (things(), Table::new("shop.other", &[("id", "int(11) NOT NULL")]));
    let site = careful(&[&table, &other]);
    site.load(&table, 1, &[row(["1", "one"])]);
    site.load(&table, 4, &[row(["2", "two"])]);
    site.put_raw("hr/people/LOAD00000001.csv", "Op,id\nI,1\n");
    site.put_raw("shop/things/readme.txt", "hello");
    let expected =
        [("load-with-gaps", "risk"), ("folders-not-selected", "note"), ("no-data-yet", "note"), ("strangers", "note")];
    let findings = check(&site, 0, &expected);
    for (hazard, says) in [
        ("load-with-gaps", "shop.things (LOAD00000002 to LOAD00000003)"),
        ("folders-not-selected", "hr.people"),
        ("no-data-yet", "shop.other"),
        ("strangers", "shop.things (shop/things/readme.txt)"),
    ] {
        let text = finding(&findings, hazard)["finding"].as_str().unwrap();
        assert!(text.ends_with(says), "{text}");
    }
}

#[test]
fn changes_without_a_load_are_named() {
    let table = things();
    let site = careful(&[&table]);
    site.changes(&table, &stamp(0), &[insert(["1", "one"])]);
    let findings = check(&site, 0, &[("no-load", "risk")]);
    assert_eq!(finding(&findings, "no-load")["tables"], json!(["shop.things"]));
}

#[test]
fn a_table_that_would_stop_a_run_is_named_with_the_reason() {
    let table = things();
    let site = careful(&[&table]);
    site.load(&table, 1, &[row(["1", "one"])]);
    site.changes(&table, &stamp(0), &[insert(["2", "two"])]);
    site.run();
    site.remove_raw(&format!("shop/things/{}.csv", stamp(0)));
    let findings = check(&site, 0, &[("run-stops", "risk")]);
    assert!(finding(&findings, "run-stops")["finding"].as_str().unwrap().contains("is gone"));
}

#[test]
fn tables_of_the_lake_that_nobody_keeps_are_named() {
    let (table, other) = (things(), Table::new("shop.other", &[("id", "int(11) NOT NULL")]));
    let mut site = careful(&[&table, &other]);
    site.load(&table, 1, &[row(["1", "one"])]);
    site.load(&other, 1, &[row(["1"])]);
    site.run();
    site.run_config = "maintenance = \"off\"\nbatch_bytes = \"1\"\n".into();
    declare(&site, &[&table]);
    let exclude = INCLUDE.replace("include", "exclude").replace('%', "other").replace("\"4\"", "\"5\"");
    site.write("mappings.json", &format!(r#"{{"rules": [{INCLUDE}, {exclude}]}}"#));
    (0..101).for_each(|number| site.changes(&table, &stamp(number), &[insert([&number.to_string(), "new"])]));
    site.run();
    let expected = [
        ("folders-not-selected", "note"),
        ("log-without-checkpoint", "note"),
        ("tables-of-others", "note"),
        ("upkeep-by-hand", "note"),
    ];
    let findings = check(&site, 0, &expected);
    assert!(finding(&findings, "log-without-checkpoint")["finding"].as_str().unwrap().contains("(101 versions)"));
    assert_eq!(finding(&findings, "tables-of-others")["tables"], json!(["shop.other"]));
}

#[test]
fn a_store_without_conditional_writes_is_a_loss_and_others_are_left_as_they_were() {
    let (table, endpoint) = (things(), Lenient::start());
    let mut site = careful(&[&table]);
    site.load(&table, 1, &[row(["1", "one"])]);
    site.move_lake("s3://lenient/lake");
    site.extra_env = endpoint.env();
    let findings = site.check_exits(1);
    assert_eq!(hazards(&findings)[0], "conditional-writes");
    assert!(findings[0]["where"].as_str().unwrap().contains(&endpoint.endpoint()), "{findings:#?}");

    let mut site = Site::s3();
    site.settings = Settings { header: true, null: Some("\\N".into()), ..Settings::default() };
    declare(&site, &[&table]);
    site.load(&table, 1, &[row(["1", "one"])]);
    let findings = check(&site, 0, &[("source-elsewhere", "risk")]);
    let text = finding(&findings, "source-elsewhere")["finding"].as_str().unwrap();
    assert!(text.starts_with("the endpoint writes to s3://test/raw/dms, and source.url is s3://"), "{text}");
}

#[test]
fn the_json_has_the_fields_that_are_promised_and_people_get_a_paragraph() {
    let table = things();
    let site = careful(&[&table]);
    site.load(&table, 1, &[row(["1", "one"])]);
    let findings = site.check_exits(0);
    let fields: Vec<_> = findings[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["consequence", "finding", "hazard", "remedy", "severity", "tables", "where"]);

    let text = site.command(&["check"]).exits(0).stdout;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("RISK  table mappings: updates come without the key"), "{text}");
    assert!(lines[1].starts_with("      so: an update that changes a key leaves the old row behind"), "{text}");
    assert!(lines[2].starts_with("      do: add the rule {"), "{text}");
}

#[test]
fn names_in_a_zone_with_summer_time_are_a_risk() {
    let table = things();
    for (zone, expected) in [("Europe/Berlin", vec![("stamps-go-backwards", "risk")]), ("Asia/Tokyo", vec![])] {
        let mut site = Site::local();
        let more =
            vec![("DatePartitionEnabled".to_owned(), json!(true)), ("DatePartitionTimezone".to_owned(), json!(zone))];
        site.settings = Settings { header: true, null: Some("\\N".into()), more, ..Settings::default() };
        declare(&site, &[&table]);
        site.load(&table, 1, &[row(["1", "one"])]);
        check(&site, 0, &expected);
    }
}
