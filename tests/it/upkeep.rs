//! `maintain`: what is deleted, and what is kept.

use std::time::{Duration, SystemTime};
use std::{fs, io};

use serde_json::Value;

use crate::support::dms::update;
use crate::support::model::assert_same;
use crate::support::site::Site;
use crate::support::table::{Table, row};
use crate::support::workload::stamp;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn goods() -> (Table, Site) {
    let goods = Table::new("shop.goods", &[("id", "int(11) NOT NULL"), ("name", "varchar(20) DEFAULT NULL")]);
    let site = Site::local();
    site.declare(&[&goods]);
    (goods, site)
}

/// Gives the table a property, as another writer would.
fn set(site: &Site, table: &Table, key: &str, value: &str) {
    let log = site.path(&site.table_uri(table)).join("_delta_log");
    let version = site.version(table).unwrap();
    let entries =
        (0..=version).rev().map(|version| fs::read_to_string(log.join(format!("{version:020}.json"))).unwrap());
    let actions = entries.flat_map(|text| text.lines().map(str::to_string).collect::<Vec<_>>());
    let mut metadata = actions
        .map(|line| serde_json::from_str::<Value>(&line).unwrap())
        .find(|action| action.get("metaData").is_some())
        .unwrap();
    metadata["metaData"]["configuration"][key] = value.into();
    fs::write(log.join(format!("{:020}.json", version + 1)), metadata.to_string()).unwrap();
}

#[test]
fn what_the_owner_wants_to_keep_is_kept() {
    let (goods, site) = goods();
    site.load(&goods, 1, &[row(["1", "a"])]);
    site.run();
    for nth in 0..3 {
        site.changes(&goods, &stamp(nth), &[update(["1", &format!("b{nth}")])]);
        site.run();
    }
    let folder = site.path(&site.table_uri(&goods));
    let is_data = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().starts_with("part-");
    let files = || fs::read_dir(&folder).unwrap().filter_map(|entry| is_data(entry).then_some(())).count();
    let before = files();
    assert!(before > 1);
    // what lakemerge does not understand deletes nothing
    set(&site, &goods, "delta.deletedFileRetentionDuration", "a while");
    site.command(&["maintain"]).exits(1).says(&["delta.deletedFileRetentionDuration", "a while"]);
    // as Spark reads it
    set(&site, &goods, "delta.deletedFileRetentionDuration", "3650 DAYS");
    site.command(&["maintain"]).exits(0);
    assert_eq!(files(), before);
    // files of a run that is under way, or was a while ago
    for (name, age) in [("young", Duration::ZERO), ("old", 8 * DAY)] {
        let path = folder.join(format!("part-{name}.snappy.parquet"));
        fs::write(&path, "rows to come").unwrap();
        fs::File::options().append(true).open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }
    set(&site, &goods, "delta.deletedFileRetentionDuration", "interval 0 seconds");
    site.command(&["maintain"]).exits(0);
    assert!(folder.join("part-young.snappy.parquet").exists());
    assert!(!folder.join("part-old.snappy.parquet").exists());
    assert_eq!(files(), 2, "the live file and the one of a run under way");
    assert_same(&site.rows(&goods), &[row(["1", "b2"])], "goods");
}

#[test]
fn the_log_is_cleaned_up_only_if_the_owner_wants_it() {
    for (wanted, left) in [("False", true), ("true", false)] {
        let (goods, site) = goods();
        site.load(&goods, 1, &[row(["1", "a"])]);
        site.run();
        let log = site.path(&site.table_uri(&goods)).join("_delta_log");
        set(&site, &goods, "delta.enableExpiredLogCleanup", wanted);
        set(&site, &goods, "delta.logRetentionDuration", "interval 1 week 1 days");
        for version in 0..=site.version(&goods).unwrap() {
            let entry = fs::File::options().append(true).open(log.join(format!("{version:020}.json"))).unwrap();
            entry.set_modified(SystemTime::now() - 9 * DAY).unwrap();
        }
        site.command(&["maintain"]).exits(0);
        assert_eq!(log.join("00000000000000000000.json").exists(), left, "enableExpiredLogCleanup = {wanted}");
        assert_same(&site.rows(&goods), &[row(["1", "a"])], "goods");
    }
}
