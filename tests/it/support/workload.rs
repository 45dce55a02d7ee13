//! Random workloads: a table, its full load and its change files, with keys that collide often.

use super::dms::{Change, Op, Settings};
use super::model::Model;
use super::random::Random;
use super::site::Site;
use super::table::{Row, Table};

pub struct Workload {
    pub table: Table,
    pub settings: Settings,
    pub load: Vec<Vec<Row>>,
    /// Stamp and changes, in commit order.
    pub files: Vec<(String, Vec<Change>)>,
}

/// The columns a key is made of, one set per kind of workload.
const KEYS: &[&[(&str, &str)]] = &[
    &[("Entity", "varchar(50) DEFAULT NULL"), ("Year", "int(11) DEFAULT NULL")],
    &[("id", "bigint(20) unsigned NOT NULL")],
    &[("price", "decimal(18,4) NOT NULL"), ("id", "int(11) NOT NULL")],
    &[("at", "datetime(6) NOT NULL")],
    &[("day", "date NOT NULL"), ("shop", "varchar(20) NOT NULL")],
    &[("uuid", "binary(16) NOT NULL")],
];

const OTHERS: &[(&str, &str)] = &[
    ("name", "varchar(100) DEFAULT NULL"),
    ("amount", "decimal(10,2) DEFAULT NULL"),
    ("big", "bigint(20) unsigned DEFAULT NULL"),
    ("region", "varchar(20) DEFAULT NULL"),
    ("seen", "datetime(6) DEFAULT NULL"),
    ("born", "date DEFAULT NULL"),
    ("hash", "varbinary(16) DEFAULT NULL"),
    ("small", "smallint(6) DEFAULT NULL"),
];

const WORDS: &[&str] = &[
    "Arcadia",
    "Saint Elmo, Isles of",
    "say \"hello\"",
    "two\nlines",
    "Île Verte",
    " spaces around ",
    "back\\slash",
    "NULL",
    "0",
    "日本語 🦀",
    "a'b;c|d\te",
];

const REGIONS: &[&str] = &["north", "south/west", "a=b c%20", "Île", "0"];

impl Workload {
    /// Every third is partitioned; every fourth names NULL, so that '' is a value.
    pub fn random(seed: u64) -> Self {
        let random = &mut Random::seeded(seed);
        let key = KEYS[usize::try_from(seed).unwrap() % KEYS.len()];
        let key_names: Vec<_> = key.iter().map(|(name, _)| *name).collect();
        let mut table = Table::new("shop.things", &[key, OTHERS].concat());
        table = if key_names.contains(&"Entity") {
            table.configured_key(&key_names)
        } else {
            table.primary_key(&key_names)
        };
        if seed.is_multiple_of(3) {
            table = table.partitioned_by(if seed.is_multiple_of(2) { &["region"] } else { &["region", "born"] });
        }
        let settings = Settings { null: seed.is_multiple_of(4).then(|| "\\N".to_owned()), ..Settings::default() };

        let mut maker = Maker { table: &table, empty_is_text: settings.null.is_some(), keys: vec![], random };
        maker.keys = (0..40).map(|number| maker.key(number)).collect();
        let load = maker.load();
        let files = (0..5).map(|number| (stamp(number), maker.changes())).collect();
        Self { table, settings, load, files }
    }

    pub fn write_load(&self, site: &Site) {
        for (number, rows) in (1..).zip(&self.load) {
            site.load(&self.table, number, rows);
        }
    }

    /// How many records all files hold.
    pub fn records(&self) -> usize {
        self.load.iter().map(Vec::len).sum::<usize>()
            + self.files.iter().map(|(_, changes)| changes.len()).sum::<usize>()
    }

    /// What the table must hold in the end, sorted.
    pub fn outcome(&self) -> Vec<Row> {
        let mut model = Model::new(&self.table);
        self.load.iter().for_each(|rows| model.load(rows));
        self.files.iter().for_each(|(_, changes)| model.apply(changes));
        model.rows()
    }
}

/// Change files a minute apart, over an hour's and a day's end.
pub fn stamp(number: u32) -> String {
    let minutes = 23 * 60 + 57 + number;
    let (day, minutes) = (1 + minutes / (24 * 60), minutes % (24 * 60));
    format!("202403{day:02}-{:02}{:02}30{:03}", minutes / 60, minutes % 60, number % 1000)
}

struct Maker<'a> {
    table: &'a Table,
    empty_is_text: bool,
    keys: Vec<Row>,
    random: &'a mut Random,
}

impl Maker<'_> {
    /// About two thirds of the keys, in one to three files.
    fn load(&mut self) -> Vec<Vec<Row>> {
        let keys = self.keys.clone();
        let mut files = vec![vec![]; 1 + usize::try_from(self.random.below(3)).unwrap()];
        for key in keys {
            if self.random.percent(66) {
                let file = usize::try_from(self.random.below(files.len() as u64)).unwrap();
                let row = self.row(&key);
                files[file].push(row);
            }
        }
        // DMS writes no empty LOAD file.
        files.retain(|rows| !rows.is_empty());
        files
    }

    fn changes(&mut self) -> Vec<Change> {
        let number = 1 + self.random.below(40);
        let mut changes = vec![];
        for _ in 0..number {
            let key = self.random.pick(&self.keys).clone();
            // Now and then several changes of one key in a row.
            for _ in 0..1 + self.random.below(3) {
                let op = *self.random.pick(&[Op::Insert, Op::Update, Op::Update, Op::Delete]);
                changes.push(Change { op, row: self.row(&key) });
            }
        }
        changes
    }

    fn row(&mut self, key: &Row) -> Row {
        let others: Vec<_> =
            self.table.columns[key.len()..].iter().map(|(name, kind)| self.value(name, kind)).collect();
        key.iter().cloned().chain(others).collect()
    }

    fn value(&mut self, name: &str, kind: &str) -> Option<String> {
        if self.random.percent(15) {
            return None;
        }
        Some(match kind.split(['(', ' ']).next().expect("a type") {
            "varchar" if name == "region" => (*self.random.pick(REGIONS)).to_owned(),
            "varchar" if self.empty_is_text && self.random.percent(20) => String::new(),
            "varchar" => (*self.random.pick(WORDS)).to_owned(),
            "decimal" => {
                let cents = self.random.below(19_999_999_999);
                let sign = if self.random.percent(30) { "-" } else { "" };
                format!("{sign}{}.{:02}", cents % 9_999_999_999 / 100, 1 + cents % 99)
            }
            "bigint" if self.random.percent(30) => u64::MAX.to_string(),
            "bigint" => self.random.next().to_string(),
            "datetime" => format!("20{:02}-02-28 23:59:59.{:06}", self.random.below(100), self.random.below(1_000_000)),
            "date" => format!("{}-12-31", 2020 + self.random.below(4)),
            "varbinary" => format!("{:016x}", self.random.next()),
            "smallint" => (i64::try_from(self.random.below(65_536)).unwrap() - 32_768).to_string(),
            other => panic!("no values for {other}"),
        })
    }

    /// The key with this number; neighbours differ little, where rounding would make them one.
    fn key(&mut self, number: u64) -> Row {
        let kinds = &self.table.columns[..self.table.key.len()];
        let value = |(place, (name, _)): (usize, &(String, String))| match name.as_str() {
            "Entity" if number % 8 == 3 => None,
            "Entity" => Some(WORDS[usize::try_from(number / 4).unwrap() % WORDS.len()].to_owned()),
            "Year" if number % 8 == 5 => None,
            "Year" => Some((2000 + number).to_string()),
            "id" if place == 0 => Some((9_007_199_254_740_993 + number).to_string()),
            "id" => Some((number % 4).to_string()),
            "price" => Some(format!("12345678901234.{:04}", number / 4)),
            "at" => Some(format!("2024-02-29 12:00:00.{number:06}")),
            "day" => Some(format!("2024-02-{:02}", 1 + number / 4)),
            "shop" => Some(WORDS[usize::try_from(number).unwrap() % 4].to_owned()),
            "uuid" => Some(format!("{number:016x}{:016x}", number << 56)),
            other => panic!("no keys for {other}"),
        };
        kinds.iter().enumerate().map(value).collect()
    }
}
