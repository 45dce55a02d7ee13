//! What `plan` says is what `run` then does, and `plan` itself does nothing.

use crate::support::dms::{Change, delete, insert, update};
use crate::support::site::{Report, Site};
use crate::support::table::{Table, row};
use crate::support::workload::stamp;
use serde_json::{Value, json};

fn things() -> Table {
    Table::new(
        "shop.things",
        &[("id", "int(11) NOT NULL"), ("name", "varchar(50) DEFAULT NULL"), ("made", "date DEFAULT NULL")],
    )
}

fn declared(mut site: Site, table: &Table) -> Site {
    // as many batches as files
    site.run_config = "batch_bytes = \"1\"\nmaintenance = \"off\"\n".into();
    site.declare(&[table]);
    site
}

fn loaded(site: &Site, table: &Table) {
    site.load(table, 1, &[row(["1", "one", "2024-01-01"]), row(["2", "two", "0000-00-00"])]);
    site.load(table, 2, &[row(["3", "three", "2024-01-03"]), row(["1", "one again", "2024-01-01"])]);
}

fn changes(number: u32) -> Vec<Change> {
    let key = (10 + number).to_string();
    vec![
        insert([&key, "new", "2024-02-01"]),
        update([&key, "newer", "0000-00-00"]),
        update(["2", "changed", "2024-02-02"]),
        delete(["99", "never there", "2024-02-03"]),
    ]
}

/// A plan of the table, which leaves the lake as it is.
#[track_caller]
fn planned(site: &Site, table: &Table, code: i32, args: &[&str]) -> Value {
    let before = site.lake_files();
    let plan = site.plan_exits(code, args);
    assert!(site.lake_files() == before, "a plan changed the lake");
    assert_eq!(plan.0["deep"], args.contains(&"--deep"));
    plan.table(table)
}

/// A run does what the plan without reading and the deep one said.
#[track_caller]
fn check(site: &Site, table: &Table, code: i32, args: &[&str]) -> (Value, Value) {
    let plan = planned(site, table, code, args);
    let deep = check_deep(site, table, code, args);
    let same =
        ["state", "position", "version", "reaches", "load_files", "change_files", "bytes", "error", "error_kind"];
    for field in same {
        assert_eq!(plan[field], deep.0[field], "{field} of the plans: {plan:#} {:#}", deep.0);
    }
    assert_eq!((&plan["read"], &plan["netted_away"], &plan["zero_dates"]), (&Value::Null, &Value::Null, &Value::Null));
    deep
}

#[track_caller]
fn check_deep(site: &Site, table: &Table, code: i32, args: &[&str]) -> (Value, Value) {
    let plan = planned(site, table, code, &[args, &["--deep"]].concat());
    let (_, report) = site.run_exits(code, args);
    let run = report.table(table);
    for field in ["state", "load_files", "change_files", "bytes", "error_kind"] {
        assert_eq!(plan[field], run[field], "{field}: {plan:#} {run:#}");
    }
    let commits = plan["steps"].as_array().expect("steps").len();
    assert_eq!((&run["commits"], &run["position"]), (&commits.into(), &plan["reaches"]), "{plan:#} {run:#}");
    for field in ["read", "netted_away", "zero_dates"] {
        assert_eq!(plan[field].as_u64().unwrap_or(0), run[field].as_u64().unwrap(), "{field}: {plan:#} {run:#}");
    }
    match plan["error"].as_str() {
        // the run also says where that leaves the table
        Some(error) => assert!(run["error"].as_str().is_some_and(|said| said.starts_with(error)), "{plan:#} {run:#}"),
        None => assert_eq!(run["error"], Value::Null),
    }
    (plan, run)
}

fn kinds(plan: &Value) -> Vec<&str> {
    plan["steps"].as_array().expect("steps").iter().map(|step| step["step"].as_str().expect("a kind")).collect()
}

#[test]
fn a_load_and_its_changes_are_foreseen_batch_by_batch() {
    let table = things();
    let site = declared(Site::local(), &table);
    loaded(&site, &table);
    (0..3).for_each(|number| site.changes(&table, &stamp(number), &changes(number)));
    let (plan, _) = check(&site, &table, 0, &[]);
    assert_eq!(kinds(&plan), ["load", "changes", "changes", "changes"]);
    assert_eq!(plan["steps"][0]["files"][1]["file"], "shop/things/LOAD00000002.csv");
    assert_eq!(plan["steps"][2]["reaches"], stamp(1));
    let contents = &plan["steps"][1]["contents"];
    let counts = ["read", "inserts", "updates", "deletes", "netted_away", "zero_dates"].map(|name| &contents[name]);
    assert_eq!(counts, [&json!(4), &json!(1), &json!(2), &json!(1), &json!(1), &json!(1)], "{plan:#}");
    assert_eq!(contents["touched"], Value::Null, "there is no table yet");
    assert_eq!(
        plan["schema_changes"],
        json!(["a new table with id INT, name TEXT, made DATE; key (id)"]),
        "what the run would make"
    );
}

#[test]
fn changes_are_foreseen_with_the_rows_that_they_touch() {
    let table = things();
    let site = declared(Site::local(), &table);
    loaded(&site, &table);
    site.run();
    site.changes(&table, &stamp(0), &changes(0));
    let (plan, run) = check(&site, &table, 0, &[]);
    let touched = &plan["steps"][0]["contents"]["touched"];
    assert_eq!((&touched["rows"], &touched["files"]), (&json!(1), &json!(1)), "{plan:#}");
    assert!(touched["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{plan:#}");
    assert_eq!((&run["updated"], &run["files_removed"]), (&json!(1), &json!(1)));
    assert_eq!(plan["schema_changes"], json!([]));

    let (plan, _) = check(&site, &table, 0, &[]);
    assert_eq!((&plan["state"], kinds(&plan).len()), (&json!("unchanged"), 0));
}

#[test]
fn the_options_of_a_run_mean_the_same_to_a_plan() {
    let table = things();
    let site = declared(Site::local(), &table);
    loaded(&site, &table);
    (0..3).for_each(|number| site.changes(&table, &stamp(number), &changes(number)));
    let (plan, _) = check(&site, &table, 0, &["--until", &stamp(1), "--table", "shop.things"]);
    assert_eq!(kinds(&plan), ["load", "changes", "changes"]);

    site.edit("shop.sql", "`made` date DEFAULT NULL", "`made` varchar(10) DEFAULT NULL");
    check(&site, &table, 1, &[]);
    let (plan, _) = check(&site, &table, 0, &["--reload", "shop.things"]);
    assert_eq!(kinds(&plan), ["load", "changes", "changes", "changes"]);
    assert_eq!(plan["schema_changes"], json!(["made DATE becomes TEXT"]));
    site.command(&["plan", "--table", "shop.nothing"]).exits(2).says(&["shop.nothing"]);
}

#[test]
fn columns_that_are_added_or_change_their_type_are_foreseen() {
    let table = things();
    let site = declared(Site::local(), &table);
    loaded(&site, &table);
    check(&site, &table, 0, &[]);
    site.edit("shop.sql", "`made` date DEFAULT NULL", "`made` date DEFAULT NULL,\n  `seen` date DEFAULT NULL");
    site.put_raw(&format!("shop/things/{}.csv", stamp(0)), "U,1,one,2024-01-01,2024-01-02\n");
    let (plan, _) = check(&site, &table, 0, &[]);
    assert_eq!((kinds(&plan), &plan["schema_changes"]), (vec!["evolve", "changes"], &json!(["seen DATE is new"])));
    assert_eq!(plan["steps"][1]["contents"]["touched"]["rows"], 1);

    site.edit("lakemerge.toml", "[source]\n", "[source]\non_type_change = \"rewrite\"\n");
    site.edit("shop.sql", "`id` int(11)", "`id` bigint(20)");
    site.put_raw(&format!("shop/things/{}.csv", stamp(1)), "D,3,three,2024-01-03,2024-01-04\n");
    let (plan, _) = check(&site, &table, 0, &[]);
    assert_eq!(plan["schema_changes"], json!(["id INT becomes BIGINT"]));
    assert_eq!(plan["steps"][1]["contents"]["touched"], Value::Null, "the table is rewritten first");
}

#[test]
fn a_load_that_goes_on_is_foreseen() {
    let table = things();
    let mut site = Site::local();
    site.settings.max_file_size = Some(1);
    let site = declared(site, &table);
    let long = |from: u32| {
        let texts = (from..from + 40).map(|id| (id.to_string(), "x".repeat(30)));
        texts.map(|(id, text)| row([&id, &text, "2024-01-01"])).collect::<Vec<_>>()
    };
    site.load(&table, 1, &long(0));
    assert_eq!(check(&site, &table, 0, &[]).0["state"], "loading");
    assert_eq!(check(&site, &table, 0, &[]).0["state"], "loading");
    site.load(&table, 2, &long(40));
    let (plan, _) = check(&site, &table, 0, &[]);
    assert_eq!((kinds(&plan), &plan["state"]), (vec!["continue load"], &json!("loading")));
    let (plan, _) = check(&site, &table, 0, &["--load-complete", "shop.things"]);
    assert_eq!(kinds(&plan), ["complete load"]);
}

#[test]
fn a_late_file_is_foreseen_as_the_error_it_is() {
    let table = things();
    let site = declared(Site::s3(), &table);
    loaded(&site, &table);
    site.changes(&table, &stamp(2), &changes(2));
    check(&site, &table, 0, &[]);
    // S3 tells whole seconds
    std::thread::sleep(std::time::Duration::from_millis(1100));
    site.changes(&table, &stamp(1), &changes(1));
    let (plan, _) = check(&site, &table, 1, &[]);
    assert!(plan["error"].as_str().is_some_and(|error| error.contains("--include-late")), "{plan:#}");
    let (plan, _) = check(&site, &table, 0, &["--include-late"]);
    assert_eq!((kinds(&plan), &plan["reaches"]), (vec!["changes"], &json!(stamp(2))));
}

#[test]
fn a_vanished_file_is_foreseen_as_the_error_it_is() {
    let table = things();
    let site = declared(Site::local(), &table);
    loaded(&site, &table);
    site.changes(&table, &stamp(0), &changes(0));
    check(&site, &table, 0, &[]);
    site.remove_raw(&format!("shop/things/{}.csv", stamp(0)));
    let (plan, _) = check(&site, &table, 1, &[]);
    assert!(plan["error"].as_str().is_some_and(|error| error.contains("is gone")), "{plan:#}");
}

#[test]
fn a_load_written_again_is_foreseen() {
    let table = things();
    let site = declared(Site::local(), &table);
    loaded(&site, &table);
    check(&site, &table, 0, &[]);
    loaded(&site, &table);
    let (plan, _) = check(&site, &table, 0, &[]);
    assert_eq!(kinds(&plan), ["compare load"]);

    site.load(&table, 2, &[row(["3", "THREE", "2024-01-03"]), row(["1", "one again", "2024-01-01"])]);
    let (plan, _) = check_deep(&site, &table, 1, &[]);
    assert!(plan["error"].as_str().is_some_and(|error| error.contains("LOAD00000002.csv has changed")), "{plan:#}");
    site.load(&table, 2, &[row(["3", "another size", "2024-01-03"])]);
    check(&site, &table, 1, &[]);
    let (plan, _) = check(&site, &table, 0, &["--accept-load", "shop.things"]);
    assert_eq!(kinds(&plan), ["accept load"]);
}

#[test]
fn a_bad_record_is_found_by_a_deep_plan() {
    let table = things();
    let site = declared(Site::local(), &table);
    loaded(&site, &table);
    site.changes(&table, &stamp(0), &changes(0));
    site.changes(&table, &stamp(1), &[insert(["20", "new", "2024-02-01"]), insert(["x", "bad", "2024-02-01"])]);
    let plan = planned(&site, &table, 0, &[]);
    assert_eq!((&plan["state"], &plan["error"]), (&json!("merged"), &Value::Null));
    let (plan, _) = check_deep(&site, &table, 1, &[]);
    assert_eq!(kinds(&plan), ["load", "changes"], "the steps before it");
    let error = plan["error"].as_str().unwrap_or_default();
    assert!(error.contains("record 2") && error.contains("id"), "{plan:#}");
}

#[test]
fn a_double_of_a_key_that_nothing_keeps_unique_is_found_by_a_deep_plan() {
    let table = things().configured_key(&["id"]);
    let site = declared(Site::local(), &table);
    loaded(&site, &table);
    check_deep(&site, &table, 1, &[]);
}

#[test]
fn a_table_without_a_definition_is_foreseen_as_a_config_error() {
    let table = things().configured_key(&["identity"]);
    let site = declared(Site::local(), &table);
    loaded(&site, &table);
    check(&site, &table, 2, &[]);
}

#[test]
fn inferred_columns_are_told_by_a_deep_plan() {
    let table = things().configured_key(&["id"]);
    let mut site = Site::local();
    site.settings.header = true;
    let site = declared(site, &table);
    site.edit("lakemerge.toml", "\"shop.sql\"", "\"infer\"");
    site.load(&table, 1, &[row(["1", "one", "2024-01-01"])]);
    site.changes(&table, &stamp(0), &[insert(["2", "two", "2024-01-02"])]);
    let plan = planned(&site, &table, 0, &[]);
    assert_eq!((&plan["schema_changes"], kinds(&plan).len()), (&json!([]), 2));
    let (plan, _) = check_deep(&site, &table, 0, &[]);
    assert_eq!(plan["schema_changes"][0], "a new table with id BIGINT, name TEXT, made DATE; key (id)");
}

#[test]
fn every_table_has_a_line_and_its_steps_below() {
    let (table, idle) = (things(), Table::new("shop.idle", &[("id", "int(11) NOT NULL")]));
    let site = Site::local();
    site.declare(&[&table, &idle]);
    loaded(&site, &table);
    site.changes(&table, &stamp(0), &changes(0));
    let text = site.command(&["plan", "--deep"]).exits(0).stdout;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("shop.idle    no data yet"), "{text}");
    assert!(lines[1].starts_with("shop.things  3 files, ") && lines[1].contains("8 records"), "{text}");
    assert!(lines[2].starts_with("  columns: a new table with id INT"), "{text}");
    assert!(lines[3].starts_with("  load 2 files, shop/things/LOAD00000001.csv to LOAD00000002.csv, "), "{text}");
    assert!(lines[4].contains("4 records (1 inserts, 2 updates, 1 deletes), 1 netted away, 1 zero date"), "{text}");
}

/// The fields that the README lists.
#[test]
fn the_json_has_the_fields_that_are_promised() {
    let table = things();
    let site = declared(Site::local(), &table);
    loaded(&site, &table);
    let Report(plan) = site.plan_exits(0, &["--deep"]);
    let fields = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(fields(&plan), "command deep exit_code schema tables");
    assert_eq!(
        fields(&plan["tables"][0]),
        "bytes change_files error error_kind load_files netted_away notes position reaches read schema_changes state \
         steps table version zero_dates"
    );
    let step = &plan["tables"][0]["steps"][0];
    assert_eq!(fields(step), "bytes contents files reaches step");
    assert_eq!(fields(&step["files"][0]), "bytes file");
    assert_eq!(fields(&step["contents"]), "bad deletes inserts netted_away read touched updates zero_dates");
}

#[test]
fn a_table_that_a_truncate_empties_is_foreseen() {
    let table = things();
    let site = declared(Site::local(), &table);
    site.edit("lakemerge.toml", "[source]\n", "[source]\non_vanished = \"truncate\"\n");
    loaded(&site, &table);
    site.run();
    ["LOAD00000001", "LOAD00000002"].iter().for_each(|load| site.remove_raw(&format!("shop/things/{load}.csv")));
    (0..2).for_each(|number| site.changes(&table, &stamp(number), &changes(number)));
    let (plan, _) = check(&site, &table, 0, &[]);
    assert_eq!(kinds(&plan), ["empty", "changes"]);
    assert!(plan["notes"][0].as_str().unwrap().contains("3 rows would be removed"), "{plan:#}");
    // and by the load of a source that was filled again
    (0..2).for_each(|number| site.remove_raw(&format!("shop/things/{}.csv", stamp(number))));
    let rows = site.rows(&table).len();
    loaded(&site, &table);
    let (plan, _) = check(&site, &table, 0, &[]);
    assert_eq!(kinds(&plan), ["load"]);
    assert!(plan["notes"][0].as_str().unwrap().contains(&format!("{rows} rows would be removed")), "{plan:#}");
}
