//! Where DMS puts a table's files: folders of dates, partitions and segments, and what lies between them.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::dms::{Change, delete, insert, update};
use crate::support::model::assert_same;
use crate::support::site::Site;
use crate::support::table::{Row, Table, row};
use crate::support::workload::stamp;

fn table() -> Table {
    Table::new("shop.rows", &[("id", "int(11) NOT NULL"), ("text", "varchar(50) DEFAULT NULL")])
}

fn site(settings: &[(&str, serde_json::Value)], table: &Table) -> Site {
    let mut site = Site::local();
    site.settings.more = settings.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    site.declare(&[table]);
    site
}

/// A change file in a folder below the table's.
fn changes_in(site: &Site, table: &Table, folder: &str, stamp: &str, changes: &[Change]) {
    let path = format!("{}/{folder}/{}", table.folder(), site.settings.change_name(stamp));
    site.put_raw(&path, site.settings.change_file(table, changes));
}

fn load_at(site: &Site, table: &Table, path: &str, rows: &[Row]) {
    site.put_raw(&format!("{}/{path}", table.folder()), site.settings.load_file(table, rows));
}

#[test]
fn changes_in_folders_of_dates_are_merged_in_the_order_of_their_names() {
    let table = table();
    let forms = [
        ("DDMMYYYY", "SLASH", ["31/12/2023", "01/01/2024"]),
        ("MMYYYYDD", "UNDERSCORE", ["12_2023_31", "01_2024_01"]),
        ("YYYYMMDDHH", "NONE", ["2023123123", "2024010100"]),
        ("YYYYMM", "DASH", ["2023-12", "2024-01"]),
    ];
    for (sequence, delimiter, [old, new]) in forms {
        let settings = [
            ("DatePartitionEnabled", json!(true)),
            ("DatePartitionSequence", json!(sequence)),
            ("DatePartitionDelimiter", json!(delimiter)),
        ];
        let site = site(&settings, &table);
        site.load(&table, 1, &[row(["1", "one"]), row(["2", "two"])]);
        changes_in(&site, &table, new, "20240101-000100000", &[update(["1", "new"]), insert(["3", "three"])]);
        changes_in(&site, &table, old, "20231231-235900000", &[update(["1", "old"]), delete(["2", "two"])]);
        let report = site.run().table(&table);
        assert_eq!((&report["change_files"], &report["notes"]), (&2.into(), &json!([])), "{sequence}: {report:#}");
        assert_same(&site.rows(&table), &[row(["1", "new"]), row(["3", "three"])], sequence);
        assert_eq!(site.run().table(&table)["state"], "unchanged", "{sequence}");
    }
}

#[test]
fn the_setting_may_have_changed_between_two_files() {
    let table = table();
    let site = site(&[("DatePartitionEnabled", json!(false))], &table);
    site.load(&table, 1, &[row(["1", "one"])]);
    site.changes(&table, "20240101-000000000", &[update(["1", "a"])]);
    changes_in(&site, &table, "2024/01/02", "20240102-000000000", &[update(["1", "b"])]);
    site.run();
    site.changes(&table, "20240103-000000000", &[insert(["2", "c"])]);
    changes_in(&site, &table, "20240104", "20240104-000000000", &[update(["2", "d"])]);
    site.run();
    assert_same(&site.rows(&table), &[row(["1", "b"]), row(["2", "d"])], "mixed");
    assert_eq!(site.status(&table)["position"], "20240104-000000000");
}

#[test]
fn a_file_in_a_folder_that_is_not_for_its_kind_stops_its_table_alone() {
    let (table, other) = (table(), Table::new("shop.other", &[("id", "int(11) NOT NULL")]));
    for wrong in ["old/20240101-000000000.csv", "2024/01/01/LOAD00000002.csv"] {
        let mut site = Site::local();
        site.settings.more = vec![("DatePartitionEnabled".into(), json!(true))];
        site.declare(&[&table, &other]);
        site.load(&table, 1, &[row(["1", "one"])]);
        site.load(&other, 1, &[row(["1"])]);
        load_at(&site, &table, wrong, &[row(["2", "two"])]);
        site.command(&["run"]).exits(1).says(&["shop.rows", wrong, "nothing was merged"]);
        assert_eq!((site.version(&table), site.version(&other)), (None, Some(0)), "{wrong}");
    }
}

/// Berlin's clocks were set back from 03:00 to 02:00 on 2024-10-27, at 01:00 UTC.
fn the_hour_that_came_twice() -> (Site, Table) {
    let table = table();
    let settings = [("DatePartitionEnabled", json!(true)), ("DatePartitionTimezone", json!("Europe/Berlin"))];
    let site = site(&settings, &table);
    site.load(&table, 1, &[row(["7", "loaded"])]);
    changes_in(&site, &table, "2024/10/27", "20241027-025930000", &[update(["7", "old"])]);
    changes_in(&site, &table, "2024/10/27", "20241027-020030000", &[update(["7", "new"])]);
    (site, table)
}

fn written_at(site: &Site, path: &str, seconds: u64) {
    let file = std::fs::File::options().write(true).open(site.raw_path(path)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

#[test]
fn in_an_hour_that_came_twice_the_time_of_writing_gives_the_order() {
    let (site, table) = the_hour_that_came_twice();
    // 00:59:31 and 01:00:31 UTC
    written_at(&site, "shop/rows/2024/10/27/20241027-025930000.csv", 1_729_990_771);
    written_at(&site, "shop/rows/2024/10/27/20241027-020030000.csv", 1_729_990_831);
    site.run();
    assert_same(&site.rows(&table), &[row(["7", "new"])], "the repeated hour");
    assert_eq!(site.status(&table)["position"], "20241027-010030000");
}

#[test]
fn in_an_hour_that_came_twice_files_without_their_time_of_writing_stop_the_table() {
    let (site, table) = the_hour_that_came_twice();
    site.command(&["run"]).exits(1).says(&["20241027-020030000.csv and 1 more", "twice", "--reload"]);
    assert_eq!(site.version(&table), None);
}

#[test]
fn in_an_hour_that_came_twice_the_changes_themselves_may_tell_the_order() {
    // committed half a minute before their files were closed, at 00:59:00 and 01:00:00 UTC
    let (by_time, by_sequence) = (
        ["2024-10-27 00:59:00.000000", "2024-10-27 01:00:00.000000"],
        ["20241027005900000000000000000000001", "20241027010000000000000000000000002"],
    );
    for (moments, with_sequence) in [(by_time, false), (by_sequence, true)] {
        let table = table();
        let mut settings =
            vec![("DatePartitionEnabled", json!(true)), ("DatePartitionTimezone", json!("Europe/Berlin"))];
        if !with_sequence {
            settings.push(("TimestampColumnName", json!("ts")));
        }
        let site = site(&settings, &table);
        let rule = json!({ "rule-type": "transformation", "rule-id": "2", "rule-action": "add-column",
            "rule-target": "column", "object-locator": { "schema-name": "%", "table-name": "%" },
            "value": "seq", "expression": "$AR_H_CHANGE_SEQ" });
        let include = json!({ "rule-type": "selection", "rule-id": "1", "rule-action": "include",
            "object-locator": { "schema-name": "shop", "table-name": "%" } });
        let rules = if with_sequence { vec![include, rule] } else { vec![include] };
        site.write("mappings.json", &json!({ "rules": rules }).to_string());
        site.edit("lakemerge.toml", "[source]\n", "[source]\ntable_mappings = \"mappings.json\"\n");
        let record = |operation: &str, text: &str, moment: &str| match with_sequence {
            true => format!("{operation},7,{text},{moment}\n"),
            false => format!("{operation},{moment},7,{text}\n"),
        };
        site.put_raw("shop/rows/LOAD00000001.csv", record("I", "loaded", moments[0]));
        site.put_raw("shop/rows/2024/10/27/20241027-025930000.csv", record("U", "old", moments[0]));
        site.put_raw("shop/rows/2024/10/27/20241027-020030000.csv", record("U", "new", moments[1]));
        site.run();
        assert_same(&site.rows(&table), &[row(["7", "new"])], "the repeated hour");
        assert_eq!(site.status(&table)["position"], "20241027-010030000");
        assert_eq!(site.run().table(&table)["state"], "unchanged");
    }
}

#[test]
fn a_load_in_partitions_or_segments_is_one_load() {
    let table = table();
    let forms = [
        ["p2023/LOAD00000001.csv", "p2023/LOAD00000002.csv", "p2024/LOAD00000001.csv"],
        ["SEGMENT1_LOAD00000001.csv", "SEGMENT1_LOAD00000002.csv", "SEGMENT2_LOAD00000001.csv"],
    ];
    let mappings = json!({ "rules": [
        { "rule-type": "selection", "rule-id": "1", "rule-action": "include",
          "object-locator": { "schema-name": "shop", "table-name": "%" } },
        { "rule-type": "table-settings", "rule-id": "2", "parallel-load": { "type": "partitions-auto" },
          "object-locator": { "schema-name": "shop", "table-name": "rows" } },
    ] });
    for paths in forms {
        let site = site(&[], &table);
        site.write("mappings.json", &mappings.to_string());
        site.edit("lakemerge.toml", "s3_settings", "table_mappings = \"mappings.json\"\ns3_settings");
        for (id, path) in ["1", "2", "3"].into_iter().zip(paths) {
            // the last row of each comes again in the next, as rows that move between partitions do
            load_at(&site, &table, path, &[row([id, path]), row(["9", path])]);
        }
        let report = site.run().table(&table);
        assert_eq!((&report["load_files"], &report["netted_away"]), (&3.into(), &2.into()), "{report:#}");
        let [a, b, c] = paths;
        assert_same(&site.rows(&table), &[row(["1", a]), row(["2", b]), row(["3", c]), row(["9", c])], a);
        assert_eq!(site.run().table(&table)["state"], "unchanged");

        load_at(&site, &table, paths[1], &[row(["2", "written again"])]);
        site.command(&["run"]).exits(1).says(&[paths[1], "--reload"]);
    }
}

#[test]
fn a_load_is_complete_when_each_segment_is() {
    let table = table();
    let mut site = Site::local();
    site.settings.max_file_size = Some(1);
    site.declare(&[&table]);
    let many: Vec<_> = (0..60).map(|id| vec![Some(id.to_string()), Some("x".repeat(30))]).collect();
    load_at(&site, &table, "a/LOAD00000001.csv", &many);
    load_at(&site, &table, "b/LOAD00000001.csv", &[row(["100", "b"])]);
    assert_eq!(site.run().table(&table)["state"], "loading");
    load_at(&site, &table, "a/LOAD00000002.csv", &[row(["101", "a"])]);
    assert_eq!(site.run().table(&table)["state"], "merged");
    // a segment that began when the others were done
    load_at(&site, &table, "c/LOAD00000001.csv", &[row(["102", "c"])]);
    assert_eq!(site.run().table(&table)["state"], "merged");
    assert_eq!(site.rows(&table).len(), 63);
}

#[test]
fn a_load_of_another_form_stops_the_table() {
    let table = table();
    let site = site(&[], &table);
    site.load(&table, 1, &[row(["1", "one"])]);
    load_at(&site, &table, "backup/LOAD00000001.csv", &[row(["1", "old"])]);
    let outcome = site.command(&["run"]).exits(1);
    outcome.says(&["shop/rows/LOAD00000001.csv", "shop/rows/backup/LOAD00000001.csv", "not of one full load"]);
}

#[test]
fn files_without_records_and_control_tables_are_no_errors() {
    let table = table();
    let mut site = Site::local();
    site.settings.header = true;
    site.settings.more = vec![("DatePartitionEnabled".into(), json!(true))];
    site.declare(&[&table]);
    site.load(&table, 1, &[row(["1", "one"])]);
    changes_in(&site, &table, "2024/03/01", "20240301-000000000", &[]);
    site.put_raw("shop/rows/2024/03/02/20240302-000000000.csv", "");
    site.put_raw("shop/rows/20240303-000000000.csv", "");
    changes_in(&site, &table, "2024/03/04", "20240304-000000000", &[insert(["2", "two"])]);
    for control in ["shop/awsdms_status/LOAD00000001.csv", "shop/awsdms_history/20240303-000000000.csv"] {
        site.put_raw(control, "x");
    }
    let report = site.run();
    assert_eq!(report.0["tables"].as_array().unwrap().len(), 1, "{:#}", report.0);
    assert_eq!(report.table(&table)["change_files"], 4);
    assert_same(&site.rows(&table), &[row(["1", "one"]), row(["2", "two"])], "among empty files");

    // nothing but a header is a file as well
    changes_in(&site, &table, "2024/03/05", "20240305-000000000", &[]);
    site.run();
    assert_eq!(site.status(&table)["position"], "20240305-000000000");
    assert_eq!(site.run().table(&table)["state"], "unchanged");
}

#[test]
fn a_change_file_that_was_overwritten_is_noticed() {
    let table = table();
    let site = site(&[], &table);
    site.load(&table, 1, &[row(["1", "one"])]);
    site.changes(&table, &stamp(0), &[update(["1", "a"])]);
    site.run();
    // a copy on a local path is the same file
    site.changes(&table, &stamp(0), &[update(["1", "a"])]);
    assert_eq!(site.run().table(&table)["state"], "unchanged");
    site.changes(&table, &stamp(0), &[update(["1", "another"]), insert(["2", "b"])]);
    site.command(&["run"]).exits(1).says(&[&stamp(0), "another file", "--include-late"]);
    site.run_exits(0, &["--include-late"]);
    assert_same(&site.rows(&table), &[row(["1", "another"]), row(["2", "b"])], "merged again");
    assert_eq!(site.run().table(&table)["state"], "unchanged");
}

#[test]
fn raw_files_that_lie_in_no_table_are_named() {
    let table = table();
    let site = site(&[], &table);
    load_at(&site, &table, "LOAD00000001.csv", &[row(["1", "one"])]);
    site.put_raw("LOAD00000001.csv", "1,one\n");
    let outcome = site.command(&["run"]).exits(0);
    assert!(outcome.stderr.contains("LOAD00000001.csv is a raw file, but lies in no folder of a table"), "{outcome}");
    let raw = site.path("lakemerge.toml");
    let config = std::fs::read_to_string(&raw).unwrap();
    let url = config.lines().find(|line| line.starts_with("url = ")).unwrap();
    let deeper = format!("{}/shop\"", url.trim_end_matches('"').trim_end_matches('/'));
    site.edit("lakemerge.toml", url, &deeper);
    for command in ["run", "plan", "status"] {
        let outcome = site.command(&[command]).exits(2);
        assert!(outcome.stderr.contains("source.url must be the folder above"), "{command}: {outcome}");
    }
}

#[test]
fn a_link_that_leads_nowhere_is_no_file_that_is_not_there() {
    let table = table();
    let site = site(&[], &table);
    load_at(&site, &table, "LOAD00000001.csv", &[row(["1", "one"])]);
    let link = site.raw_path(&format!("{}/{}", table.folder(), site.settings.change_name(&stamp(0))));
    std::os::unix::fs::symlink("/no/such/volume/notes.txt", link.with_file_name("notes.txt")).unwrap();
    site.run();
    std::os::unix::fs::symlink("/no/such/volume/file.csv", &link).unwrap();
    let (outcome, _) = site.run_exits(1, &[]);
    assert!(outcome.stderr.contains("leads nowhere"), "{outcome}");
}

#[test]
fn tables_of_another_job_are_told_of_and_not_judged() {
    let (a, b) =
        (Table::new("shop.a", &[("id", "int(11) NOT NULL")]), Table::new("shop.b", &[("id", "int(11) NOT NULL")]));
    let site = Site::local();
    site.declare(&[&a, &b]);
    for table in [&a, &b] {
        site.load(table, 1, &[row(["1"])]);
    }
    site.run();
    // another job with the same lake, whose source has one of them
    std::fs::remove_dir_all(site.raw_path("shop/b")).unwrap();
    site.declare(&[&a]);
    let other = site.status(&b);
    assert_eq!(
        (&other["state"], &other["rows"], &other["error"]),
        (&"not in this job".into(), &1.into(), &Value::Null)
    );
    assert_eq!(site.status(&a)["state"], "up to date");
}

#[test]
fn a_folder_of_unknown_columns_is_told_before_a_run_stops_at_it() {
    let (a, b) =
        (Table::new("shop.a", &[("id", "int(11) NOT NULL")]), Table::new("shop.b", &[("id", "int(11) NOT NULL")]));
    let site = Site::local();
    site.declare(&[&a]);
    site.load(&a, 1, &[row(["1"])]);
    site.load(&b, 1, &[row(["1"])]);
    let status = site.status_exits(1, &b);
    assert_eq!(status["state"], "stopped", "{status:#}");
    assert!(status["error"].as_str().unwrap().contains("columns are not known"), "{status:#}");
}

#[test]
fn a_path_may_lead_through_a_parent() {
    let table = Table::new("shop.rows", &[("id", "int(11) NOT NULL")]);
    let site = Site::local();
    site.declare(&[&table]);
    site.load(&table, 1, &[row(["1"])]);
    std::fs::create_dir(site.path("job")).unwrap();
    for file in ["lakemerge.toml", "s3.json", &table.schema_file()] {
        std::fs::copy(site.path(file), site.path("job").join(file)).unwrap();
    }
    let config = std::fs::read_to_string(site.path("lakemerge.toml")).unwrap();
    let raw = site.raw_path("..").canonicalize().unwrap().display().to_string();
    let config = config.replace(&format!("url = \"{raw}"), "url = \"../raw").replace("/lake\"", "/x/../lake\"");
    std::os::unix::fs::symlink(&raw, site.path("raw")).unwrap();
    std::fs::write(site.path("job/lakemerge.toml"), config).unwrap();
    site.command(&["--config", "job/../job/lakemerge.toml", "run"]).exits(0);
    assert_eq!(site.rows(&table).len(), 1);
}
