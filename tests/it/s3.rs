//! What only a bucket shows: late files, folders' keys, listing from an offset, and how the store is reached.

use crate::support::dms::{delete, insert, update};
use crate::support::minio;
use crate::support::model::assert_same;
use crate::support::site::Site;
use crate::support::table::{Table, row};
use crate::support::workload::stamp;

fn site() -> (Site, Table) {
    let table = Table::new("shop.rows", &[("id", "int(11) NOT NULL"), ("text", "varchar(50) DEFAULT NULL")]);
    let site = Site::s3();
    site.declare(&[&table]);
    site.load(&table, 1, &[row(["1", "one"])]);
    (site, table)
}

#[test]
fn a_late_file_within_the_window_stops_and_one_before_it_is_not_looked_for() {
    let (site, table) = site();
    site.changes(&table, "20240302-120000000", &[update(["1", "a"])]);
    site.run();
    site.changes(&table, "20240301-110000000", &[insert(["2", "25 hours late"])]);
    assert_eq!(site.run().table(&table)["state"], "unchanged");
    site.changes(&table, "20240301-130000000", &[insert(["3", "23 hours late"])]);
    site.command(&["run"]).exits(1).says(&["20240301-130000000.csv came late", "--include-late"]);
    let status = site.status_exits(1, &table);
    assert_eq!(status["state"], "stopped", "{status:#}");
    assert!(status["error"].to_string().contains("came late"), "{status:#}");
    site.edit("lakemerge.toml", "s3_settings", "late_window = \"1h\"\ns3_settings");
    let left_out = "20240301-130000000.csv came late and is left out, as it is older than late_window; --include-late";
    site.command(&["run"]).exits(0).says(&[left_out]);
    assert!(site.command(&["plan"]).exits(0).stdout.contains(left_out));
    assert_eq!(site.run().table(&table)["state"], "unchanged");
    // of any age
    // and what was merged after them once more
    assert_eq!(site.run_exits(0, &["--include-late"]).1.table(&table)["change_files"], 3);
    let expected = [row(["1", "a"]), row(["2", "25 hours late"]), row(["3", "23 hours late"])];
    assert_same(&site.rows(&table), &expected, "late files");
    assert_eq!(site.run().table(&table)["state"], "unchanged");
}

#[test]
fn a_late_file_gives_the_rows_that_it_would_have_given_in_time() {
    for table_type in ["copy-on-write", "merge-on-read"] {
        let table = Table::new("shop.rows", &[("id", "int(11) NOT NULL"), ("text", "varchar(50) DEFAULT NULL")]);
        let site = Site::s3();
        site.declare(&[&table]);
        site.edit("lakemerge.toml", "[run]", &format!("table_type = \"{table_type}\"\n[run]\nbatch_bytes = \"1\""));
        site.load(&table, 1, &[row(["1", "one"]), row(["2", "two"])]);
        let late = [update(["1", "late"]), update(["2", "late"]), insert(["3", "late"]), insert(["4", "late"])];
        site.changes(&table, &stamp(1), &[update(["1", "newer"]), delete(["2", ""]), insert(["3", "newer"])]);
        site.changes(&table, &stamp(2), &[delete(["3", ""])]);
        site.run();
        let version = site.version(&table).unwrap();
        // S3 tells whole seconds
        std::thread::sleep(std::time::Duration::from_millis(1100));
        site.changes(&table, &stamp(0), &late);
        site.command(&["run"]).exits(1).says(&[&stamp(0), "came late", "--include-late"]);
        site.run_exits(0, &["--include-late"]);
        assert_eq!(site.version(&table), Some(version + 1), "one commit");
        assert_same(&site.rows(&table), &[row(["1", "newer"]), row(["4", "late"])], table_type);
        assert_eq!(site.run_exits(0, &["--include-late"]).1.table(&table)["state"], "unchanged");
    }
}

#[test]
fn a_change_file_that_was_overwritten_with_the_same_size_is_noticed() {
    let (site, table) = site();
    site.changes(&table, "20240302-120000000", &[update(["1", "a"])]);
    site.run();
    site.changes(&table, "20240302-120000000", &[update(["1", "b"])]);
    site.command(&["run"]).exits(1).says(&["20240302-120000000.csv", "another file", "--include-late"]);
    site.run_exits(0, &["--include-late"]);
    assert_same(&site.rows(&table), &[row(["1", "b"])], "merged again");
}

#[test]
fn of_many_change_files_those_that_are_long_merged_are_not_listed() {
    let (site, table) = site();
    let name = |i: u32| format!("shop/rows/20240301-{:02}{:02}{:02}000.csv", i / 3600, i / 60 % 60, i % 60);
    let empty: Vec<_> = (0..2_100).map(|i| (name(i), String::new())).collect();
    site.put_raw_many(&empty);
    site.changes(&table, "20240303-000000000", &[update(["1", "a"])]);
    site.run();
    // Files that are none of DMS's are noted where they are seen: among the last of the old ones they are not.
    for name in ["20240301-000000.txt", "20240301-003455.txt", "20240303-000001.txt", "readme.txt"] {
        site.put_raw(&format!("shop/rows/{name}"), "x");
    }
    site.changes(&table, "20240303-010000000", &[update(["1", "b"])]);
    let notes = site.run().table(&table)["notes"].to_string();
    let seen = |name: &str| notes.contains(name);
    assert!(seen("20240301-000000.txt") && seen("20240303-000001.txt") && seen("readme.txt"), "{notes}");
    assert!(!seen("20240301-003455.txt"), "{notes}");
    assert_same(&site.rows(&table), &[row(["1", "b"])], "after many");
    assert_eq!(site.status(&table)["pending_files"], 0);
}

#[test]
fn keys_that_stand_for_folders_are_no_files() {
    let (site, table) = site();
    for folder in ["shop/rows", "shop/rows/2024", "shop/rows/2024/03/01", "shop/empty"] {
        site.put_raw_folder(folder);
    }
    site.put_raw("shop/rows/2024/03/01/20240301-000000000.csv", "I,2,two\n");
    let report = site.run();
    assert_eq!(report.0["tables"][0]["state"], "no data yet", "{:#}", report.0);
    assert_eq!(report.table(&table)["notes"], serde_json::json!([]));
    assert_same(&site.rows(&table), &[row(["1", "one"]), row(["2", "two"])], "among folders' keys");
}

#[test]
fn source_and_lake_may_lie_in_two_buckets() {
    let (site, table) = site();
    let lake = minio::server().bucket();
    let config = std::fs::read_to_string(site.path("lakemerge.toml")).unwrap();
    let url = config.lines().rfind(|line| line.starts_with("url")).unwrap();
    site.edit("lakemerge.toml", url, &format!("url = \"s3://{lake}/deep/lake\""));
    site.run();
    assert_same(&site.rows(&table), &[row(["1", "one"])], "in another bucket");
    assert_eq!(site.version(&table), None, "nothing is written to the source's bucket");
}

#[test]
fn unsafe_renames_are_refused() {
    let (mut site, table) = site();
    site.extra_env = vec![("AWS_S3_ALLOW_UNSAFE_RENAME".into(), "true".into())];
    site.command(&["run"]).exits(2).says(&["AWS_S3_ALLOW_UNSAFE_RENAME", "unset it"]);
    assert_eq!(site.version(&table), None);
}

#[test]
fn credentials_and_region_may_come_from_a_profile_beside_an_endpoint() {
    let (mut site, table) = site();
    let user = minio::server().env().into_iter().find(|(name, _)| name == "AWS_ACCESS_KEY_ID").unwrap().1;
    site.write("credentials", &format!("[lake]\naws_access_key_id = {user}\naws_secret_access_key = {user}\n"));
    site.write("config", "[profile lake]\nregion = us-east-1\n");
    let file = |name: &str| site.path(name).display().to_string();
    let of_profile = [
        ("AWS_SHARED_CREDENTIALS_FILE", file("credentials")),
        ("AWS_CONFIG_FILE", file("config")),
        ("AWS_PROFILE", "lake".to_owned()),
        ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
    ];
    // of the server's own environment the endpoint alone
    let unset = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"].map(|name| (name, String::new()));
    let env = of_profile.into_iter().chain(unset);
    site.extra_env = env.map(|(name, value)| (name.to_owned(), value)).collect();
    site.run();
    assert_same(&site.rows(&table), &[row(["1", "one"])], "with a profile");
    site.extra_env[2].1 = "nobody".into();
    let outcome = site.command(&["run"]);
    assert_ne!(outcome.code, Some(0), "{outcome}");
}
