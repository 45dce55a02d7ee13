//! Random workloads: a table, its full load and its change files, with keys that collide often.

use super::dms::{Change, Op, Settings};
use super::kinds::Kind;
use super::model::Model;
use super::random::Random;
use super::site::Site;
use super::table::{Row, Table};
use std::collections::{BTreeMap, BTreeSet};

pub struct Workload {
    pub table: Table,
    pub settings: Settings,
    /// Number and rows of the LOAD files, in order.
    pub load: Vec<(u32, Vec<Row>)>,
    /// Stamp and changes, in commit order.
    pub files: Vec<(String, Vec<Change>)>,
}

/// What paths, SQL and JSON might take amiss.
const NAMES: &[&str] = &[
    "id", "Entity", "Year", "order id", "naïve", "select", "a.b", "percent%", "it's", "x/y", "h=1", "日本", "Value",
    "region", "_hidden", "c16", "c17", "c18", "c19", "c20", "c21", "c22", "c23", "c24", "c25", "c26", "c27", "c28",
];

impl Workload {
    pub fn random(seed: u64) -> Self {
        let random = &mut Random::seeded(seed);
        let settings = settings(random);
        let keys = *random.pick(&[3, 40, 40, 40, 400, 2000]);
        Self::made(settings, keys, random)
    }

    /// One of 40 keys, in files of these settings.
    pub fn small(seed: u64, settings: &Settings) -> Self {
        Self::made(settings.clone(), 40, &mut Random::seeded(seed))
    }

    fn made(settings: Settings, keys: usize, random: &mut Random) -> Self {
        let columns = columns(random);
        let table = table(&columns, random);
        let kinds = columns.iter().map(|column| column.kind).collect();
        let mut maker = Maker { kinds, table, partitions: BTreeMap::new(), settings, random };
        maker.choose_partitions();
        let keys = maker.keys(keys);
        let load = maker.load(&keys);
        let number = maker.random.below(8) + u64::from(load.is_empty());
        let files = (0..number).map(|number| (stamp(u32::try_from(number).unwrap()), maker.changes(&keys))).collect();
        Self { table: maker.table, settings: maker.settings, load, files }
    }

    pub fn write_load(&self, site: &Site) {
        for (number, rows) in &self.load {
            site.load(&self.table, *number, rows);
        }
    }

    /// What the table must hold in the end, sorted.
    pub fn outcome(&self) -> Vec<Row> {
        let mut model = Model::new(&self.table).with_settings(&self.settings);
        self.load.iter().for_each(|(_, rows)| model.load(rows));
        self.files.iter().for_each(|(stamp, changes)| model.apply_file(stamp, changes));
        model.rows()
    }
}

/// Change files a minute apart, over an hour's and a day's end.
pub fn stamp(number: u32) -> String {
    let minutes = 23 * 60 + 57 + number;
    let (day, minutes) = (1 + minutes / (24 * 60), minutes % (24 * 60));
    format!("202403{day:02}-{:02}{:02}30{:03}", minutes / 60, minutes % 60, number % 1000)
}

fn settings(random: &mut Random) -> Settings {
    Settings {
        op_for_full_load: random.percent(70),
        delimiter: (*random.pick(&[",", ",", "|", ";", "\t"])).to_owned(),
        row_delimiter: (*random.pick(&["\n", "\n", "\r\n"])).to_owned(),
        null: random.percent(50).then(|| (*random.pick(&["\\N", "NULL"])).to_owned()),
        header: random.percent(25),
        timestamp_column: random.percent(25).then(|| "committed at".to_owned()),
        gzip: random.percent(10),
        max_file_size: random.percent(50).then_some(1),
        ..Settings::default()
    }
}

struct Column {
    name: &'static str,
    kind: Kind,
    in_key: bool,
    not_null: bool,
}

fn columns(random: &mut Random) -> Vec<Column> {
    let key_is_primary = random.percent(60);
    let in_key = *random.pick(&[1, 1, 1, 2, 2, 3, 5, 16]);
    let others = *random.pick(&[1, 4, 8, 12]);
    let mut names = NAMES.to_vec();
    random.shuffle(&mut names);
    let mut columns: Vec<_> = (0..in_key + others)
        .map(|i| Column {
            name: names[i],
            kind: if i < in_key { Kind::for_key(random) } else { Kind::any(random) },
            in_key: i < in_key,
            not_null: if i < in_key && key_is_primary { true } else { random.percent(30) },
        })
        .collect();
    random.shuffle(&mut columns);
    columns
}

fn table(columns: &[Column], random: &mut Random) -> Table {
    let kinds: Vec<_> = columns
        .iter()
        .map(|column| format!("{} {}", column.kind.sql(), if column.not_null { "NOT NULL" } else { "DEFAULT NULL" }))
        .collect();
    let described: Vec<_> = columns.iter().zip(&kinds).map(|(column, kind)| (column.name, kind.as_str())).collect();
    let mut key: Vec<_> = columns.iter().filter(|column| column.in_key).map(|column| column.name).collect();
    random.shuffle(&mut key);
    let mut table = Table::new("shop.things", &described);
    let may_be_primary = columns.iter().all(|column| column.not_null || !column.in_key);
    table = if may_be_primary && random.percent(80) { table.primary_key(&key) } else { table.configured_key(&key) };
    if random.percent(35) {
        // a key of few values has few rows
        let may = |column: &&Column| column.kind.partitions() && (key.len() > 1 || !column.in_key);
        let mut names: Vec<_> = columns.iter().filter(may).map(|column| column.name).collect();
        random.shuffle(&mut names);
        names.truncate((1 + random.index(2)).min(columns.len() - 1));
        table = table.partitioned_by(&names);
    }
    table.soft_delete = random.percent(25);
    if random.percent(25) {
        let mut names = vec!["_op", "_commit_ts", "_position"];
        random.shuffle(&mut names);
        names.truncate(1 + random.index(3));
        table.metadata_columns = names.into_iter().map(str::to_owned).collect();
    }
    if random.percent(25) {
        table.options = "datetime = \"timestamp\"\n".to_owned();
    }
    table
}

struct Maker<'a> {
    table: Table,
    kinds: Vec<Kind>,
    /// The few values of each column that the table is partitioned by.
    partitions: BTreeMap<usize, Vec<Option<String>>>,
    settings: Settings,
    random: &'a mut Random,
}

impl Maker<'_> {
    /// Few, since each is a folder with files of its own.
    fn choose_partitions(&mut self) {
        let columns: Vec<_> = (0..self.kinds.len()).filter(|&i| self.is_in_partition(i)).collect();
        for column in columns {
            let mut values = self.kinds[column].neighbours(2, self.random);
            values.extend((0..3).map(|_| self.kinds[column].value(self.random)));
            // in a key a zero date stops the table
            values.retain(|value| value != "0000-00-00" || !self.is_key(column));
            let null = (!self.is_not_null(column)).then_some(None);
            let values = values.into_iter().map(|value| self.meaning(column, value)).chain(null).collect();
            self.partitions.insert(column, values);
        }
    }

    /// Up to `count` keys, in rows that hold nothing else.
    fn keys(&mut self, count: usize) -> Vec<Row> {
        let in_key: Vec<_> = (0..self.kinds.len()).filter(|&i| self.is_key(i)).collect();
        // as many values of each column as give twice the keys that are wanted
        let each = (1..).find(|each: &usize| each.saturating_pow(in_key.len() as u32) >= 2 * count).unwrap();
        let pools: Vec<Vec<_>> = in_key.iter().map(|&i| self.pool(i, each)).collect();
        let mut keys = BTreeSet::new();
        for _ in 0..4 * count {
            let mut row = vec![None; self.kinds.len()];
            for (&i, pool) in in_key.iter().zip(&pools) {
                row[i] = self.random.pick(pool).clone();
            }
            if keys.len() < count {
                keys.insert(row);
            }
        }
        let mut keys: Vec<_> = keys.into_iter().collect();
        self.random.shuffle(&mut keys);
        keys
    }

    fn pool(&mut self, column: usize, count: usize) -> Vec<Option<String>> {
        if let Some(values) = self.partitions.get(&column) {
            return values.clone();
        }
        let values = self.kinds[column].neighbours(count, self.random);
        let null = (!self.is_not_null(column)).then_some(None);
        let values = values.into_iter().map(|value| self.meaning(column, value));
        let pool: BTreeSet<_> = values.chain(null).collect();
        pool.into_iter().collect()
    }

    fn is_key(&self, column: usize) -> bool {
        self.table.key.contains(&self.table.columns[column].0)
    }

    fn is_in_partition(&self, column: usize) -> bool {
        self.table.partition_by.contains(&self.table.columns[column].0)
    }

    fn is_not_null(&self, column: usize) -> bool {
        self.table.columns[column].1.ends_with("NOT NULL")
    }

    /// What is read of a value: the file cannot tell some from NULL, and a partition has no empty text and none that is
    /// too long for the name of a folder.
    fn meaning(&self, column: usize, mut value: String) -> Option<String> {
        if self.is_in_partition(column) && matches!(self.kinds[column], Kind::Text(_)) {
            value = if value.is_empty() { "filled".to_owned() } else { value.chars().rev().take(20).collect() };
        }
        let null = self.settings.null.as_deref().unwrap_or_default();
        (self.settings.parquet || self.is_not_null(column) || value != null).then_some(value)
    }

    /// About two thirds of the keys, in up to three files. Of a primary key that was changed meanwhile DMS may write two
    /// rows, of which the later one stays.
    fn load(&mut self, keys: &[Row]) -> Vec<(u32, Vec<Row>)> {
        let mut files = vec![vec![]; self.random.index(4)];
        let doubles = if self.table.key_is_primary && self.random.percent(30) { 5 } else { 0 };
        for key in keys {
            let mut again = self.random.percent(66);
            while again && !files.is_empty() {
                let file = self.random.index(files.len());
                let row = self.row(key);
                files[file].push(row);
                again = self.random.percent(doubles);
            }
        }
        let mut number = 0;
        let mut numbered = |rows| {
            number += 1 + u32::try_from(self.random.below(9)).unwrap();
            (number, rows)
        };
        // DMS writes no empty LOAD file.
        files.into_iter().filter(|rows| !rows.is_empty()).map(&mut numbered).collect()
    }

    fn changes(&mut self, keys: &[Row]) -> Vec<Change> {
        let number = 1 + self.random.index(keys.len());
        let mut changes = vec![];
        for _ in 0..number {
            let key = self.random.pick(keys).clone();
            // Now and then several changes of one key in a row.
            let times = if self.random.percent(2) { 30 } else { 1 + self.random.below(3) };
            for _ in 0..times {
                let op = *self.random.pick(&[Op::Insert, Op::Update, Op::Update, Op::Delete]);
                let key_alone = op == Op::Delete && self.random.percent(30);
                changes.push(Change { op, row: if key_alone { key.clone() } else { self.row(&key) } });
            }
        }
        changes
    }

    fn row(&mut self, key: &Row) -> Row {
        (0..key.len()).map(|i| if self.is_key(i) { key[i].clone() } else { self.value(i) }).collect()
    }

    fn value(&mut self, column: usize) -> Option<String> {
        if let Some(values) = self.partitions.get(&column) {
            return self.random.pick(values).clone();
        }
        if !self.is_not_null(column) && self.random.percent(15) {
            return None;
        }
        let value = self.kinds[column].value(self.random);
        self.meaning(column, value)
    }
}
