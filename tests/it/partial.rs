//! Updates that say less than a row: values that the source's log does not hold (CsvNoSupValue), and keys that change
//! (before images). Both beside each other, in batches of any size.

use std::collections::BTreeMap;

use crate::support::model::assert_same;
use crate::support::random::{Random, seeds};
use crate::support::site::Site;
use crate::support::table::{Row, Table, row};
use crate::support::workload::stamp;
use serde_json::json;

const MAPPINGS: &str = r#"{"rules": [
    {"rule-type": "selection", "rule-id": 1, "rule-name": "1", "rule-action": "include",
     "object-locator": {"schema-name": "shop", "table-name": "%"}},
    {"rule-type": "transformation", "rule-id": 2, "rule-name": "2", "rule-target": "column",
     "rule-action": "add-before-image-columns",
     "object-locator": {"schema-name": "shop", "table-name": "%"},
     "before-image-def": {"column-prefix": "BI_", "column-suffix": "", "column-filter": "pk-only"}}]}"#;

fn site(table_type: &str, run: &str) -> (Site, Table) {
    let table = Table::new(
        "shop.rows",
        &[("id", "int(11) NOT NULL"), ("a", "int(11) DEFAULT NULL"), ("b", "varchar(20) DEFAULT NULL")],
    );
    let mut site = Site::local();
    site.settings.more = vec![("UseCsvNoSupValue".into(), json!(true)), ("CsvNoSupValue".into(), json!("none"))];
    site.run_config = format!("maintenance = \"off\"\n{run}\n");
    site.declare(&[&table]);
    site.edit("lakemerge.toml", "[source]\n", "[source]\ntable_mappings = \"mappings.json\"\n");
    site.edit("lakemerge.toml", "[lake]\n", &format!("[lake]\ntable_type = \"{table_type}\"\n"));
    site.write("mappings.json", MAPPINGS);
    (site, table)
}

fn file(number: u32) -> String {
    format!("shop/rows/{}.csv", stamp(number))
}

/// Rows by their keys, as the source has them.
#[derive(Default)]
struct Source(BTreeMap<u64, [String; 2]>);

impl Source {
    /// One change, as DMS writes it.
    fn change(&mut self, random: &mut Random) -> String {
        let key = random.below(12);
        let Some(mut values) = self.0.get(&key).cloned() else {
            let values = [random.below(100).to_string(), format!("v{}", random.below(100))];
            let line = format!("I,{key},{},{},\n", values[0], values[1]);
            self.0.insert(key, values);
            return line;
        };
        if random.below(5) == 0 {
            self.0.remove(&key);
            // a delete may carry its key alone
            return format!("D,{key},none,none,\n");
        }
        let mut told = ["none".to_string(), "none".to_string()];
        for (value, told) in values.iter_mut().zip(&mut told) {
            if random.below(2) == 0 {
                *value = random.below(100).to_string();
                told.clone_from(value);
            }
        }
        let mut new = key;
        if random.below(3) == 0 {
            new = random.below(12);
            if new != key && self.0.contains_key(&new) {
                new = key;
            }
        }
        self.0.remove(&key);
        self.0.insert(new, values);
        format!("U,{new},{},{},{key}\n", told[0], told[1])
    }

    fn rows(&self) -> Vec<Row> {
        self.0.iter().map(|(key, [a, b])| row([&key.to_string(), a, b])).collect()
    }
}

#[test]
fn values_that_are_not_told_follow_their_row_to_its_new_key() {
    for seed in seeds(12) {
        let mut random = Random::seeded(seed);
        let table_type = if seed % 2 == 0 { "merge-on-read" } else { "copy-on-write" };
        let run = if seed % 3 == 0 { "batch_bytes = \"1\"" } else { "" };
        let (site, table) = site(table_type, run);
        let mut source = Source::default();
        site.put_raw("shop/rows/LOAD00000001.csv", "I,0,1,one,\nI,1,2,two,\nI,2,3,three,\n");
        for (key, values) in [["1", "one"], ["2", "two"], ["3", "three"]].iter().enumerate() {
            source.0.insert(key as u64, values.map(str::to_string));
        }
        for round in 0..4 {
            for number in 0..3 {
                let changes: String = (0..random.below(30)).map(|_| source.change(&mut random)).collect();
                site.put_raw(&file(round * 3 + number), changes);
            }
            site.run();
            let (mut found, mut expected) = (site.rows(&table), source.rows());
            found.sort();
            expected.sort();
            assert_same(&found, &expected, &format!("seed {seed}, round {round}"));
        }
    }
}

#[test]
fn a_value_that_nothing_tells_stops_the_table() {
    let (site, table) = site("copy-on-write", "");
    site.put_raw("shop/rows/LOAD00000001.csv", "I,1,1,one,\n");
    site.put_raw(&file(0), "U,1,2,none,1\nU,7,3,none,7\n");
    site.command(&["run"]).exits(1).says(&[&file(0), "record 2", "what b is"]);
    assert_same(&site.rows(&table), &[row(["1", "1", "one"])], "nothing of the file");
}
