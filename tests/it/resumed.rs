//! A task that is resumed from an earlier point writes a stretch of changes again: the table must not go back.

use crate::support::dms::Settings;
use crate::support::model::assert_same;
use crate::support::site::Site;
use crate::support::table::{Table, row};
use crate::support::workload::stamp;
use serde_json::{Value, json};

const MAPPINGS: &str = r#"{"rules": [
    {"rule-type": "selection", "rule-id": 1, "rule-name": "1", "rule-action": "include",
     "object-locator": {"schema-name": "shop", "table-name": "%"}},
    {"rule-type": "transformation", "rule-id": 2, "rule-name": "2", "rule-action": "add-column", "rule-target": "column",
     "object-locator": {"schema-name": "shop", "table-name": "%"},
     "value": "seq", "expression": "$AR_H_CHANGE_SEQ", "data-type": {"type": "string", "length": 50}}]}"#;

/// A table of one row whose changes tell the second in which they were committed, each file a batch of its own.
struct Counter {
    site: Site,
    table: Table,
    with_sequences: bool,
}

impl Counter {
    fn new(with_sequences: bool) -> Counter {
        let table = Table::new("shop.counter", &[("id", "int(11) NOT NULL"), ("second", "int(11) DEFAULT NULL")]);
        let mut site = Site::local();
        let timestamp_column = (!with_sequences).then(|| "ts".to_string());
        site.settings = Settings { timestamp_column, ..Settings::default() };
        site.run_config = "batch_bytes = \"1\"\nmaintenance = \"off\"\n".into();
        site.declare(&[&table]);
        site.edit("lakemerge.toml", "[source]\n", "[source]\ntable_mappings = \"mappings.json\"\n");
        site.write("mappings.json", if with_sequences { MAPPINGS } else { r#"{"rules": []}"# });
        if !with_sequences {
            site.edit("lakemerge.toml", "table_mappings = \"mappings.json\"\n", "");
        }
        let counter = Counter { site, table, with_sequences };
        counter.site.put_raw("shop/counter/LOAD00000001.csv", format!("{}\n", counter.record("I", 0)));
        counter
    }

    fn record(&self, operation: &str, second: u32) -> String {
        if self.with_sequences {
            format!("{operation},1,{second},2024010203040{second}00{second:019}")
        } else {
            format!("{operation},2024-01-02 03:04:0{second}.000000,1,{second}")
        }
    }

    /// A change file for each list of seconds, and what a run reports.
    fn run(&self, files: &[(u32, &[u32])]) -> Value {
        for (number, seconds) in files {
            let records: String = seconds.iter().map(|second| self.record("U", *second) + "\n").collect();
            self.site.put_raw(&format!("shop/counter/{}.csv", stamp(*number)), records);
        }
        self.site.run().table(&self.table)
    }

    #[track_caller]
    fn is_at(&self, second: &str) {
        assert_same(&self.site.rows(&self.table), &[row(["1", second])], "the row");
    }
}

#[test]
fn what_was_written_again_is_merged_with_what_comes_after_it() {
    for with_sequences in [true, false] {
        let counter = Counter::new(with_sequences);
        assert_eq!(counter.run(&[(0, &[1]), (1, &[2, 3]), (2, &[4])])["commits"], 4, "the load and a commit a file");
        counter.is_at("4");
        // seconds 2 to 4 again, and then new ones
        let report = counter.run(&[(3, &[2]), (4, &[3]), (5, &[3, 4]), (6, &[5]), (7, &[6])]);
        assert_eq!(report["commits"], 3, "3 to 5 in one: {report:#}");
        assert_eq!((&report["change_files"], &report["read"]), (&json!(5), &json!(6)), "{report:#}");
        counter.is_at("6");
        let notes = report["notes"].to_string();
        assert!(!notes.contains("smaller $AR_H_CHANGE_SEQ"), "{notes}");
        assert_eq!(counter.run(&[])["state"], "unchanged");
    }
}

#[test]
fn a_stretch_whose_end_is_not_there_yet_is_told() {
    for with_sequences in [true, false] {
        let counter = Counter::new(with_sequences);
        counter.run(&[(0, &[1]), (1, &[4])]);
        let report = counter.run(&[(2, &[2]), (3, &[3])]);
        assert!(report["notes"].to_string().contains("resumed from an earlier point"), "{report:#}");
        assert_eq!(report["commits"], 1);
        counter.is_at("3");
        assert_eq!(counter.run(&[(4, &[4, 5])])["notes"], json!([]));
        counter.is_at("5");
    }
}

#[test]
fn sequences_that_disagree_with_the_order_of_the_files_are_told_and_not_followed() {
    let counter = Counter::new(true);
    counter.site.edit("lakemerge.toml", "batch_bytes = \"1\"\n", "");
    let report = counter.run(&[(0, &[3, 5]), (1, &[4, 2])]);
    let notes = report["notes"].to_string();
    let first = format!(
        "2 changes have a smaller $AR_H_CHANGE_SEQ than the one before them, the first in shop/counter/{}.csv, record 1",
        stamp(1)
    );
    assert!(notes.contains(&first), "{notes}");
    counter.is_at("2");
}

#[test]
fn a_late_file_on_a_local_path_is_told_and_merged_in_its_place_when_asked_for() {
    let counter = Counter::new(false);
    counter.run(&[(1, &[1]), (2, &[2])]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    let report = counter.run(&[(0, &[1])]);
    assert_eq!(report["state"], "unchanged", "it may be a copy of what was merged");
    assert!(report["notes"].to_string().contains(&format!("{}.csv, older by name", stamp(0))), "{report:#}");
    let report = counter.site.run_exits(0, &["--include-late"]).1.table(&counter.table);
    assert_eq!((&report["change_files"], &report["commits"]), (&json!(3), &json!(1)), "{report:#}");
    counter.is_at("2");
    assert_eq!(counter.run(&[])["notes"], json!([]));
}
