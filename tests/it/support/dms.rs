//! Files as AWS DMS writes them to S3: names, operations, quoting; those in Parquet are written by [`super::parquet`].

use super::parquet;
use super::table::{NULL, Row, Table};
use std::io::Write;
use std::process::{Command, Stdio};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Insert,
    Update,
    Delete,
}

impl Op {
    pub fn letter(self) -> &'static str {
        match self {
            Self::Insert => "I",
            Self::Update => "U",
            Self::Delete => "D",
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    pub op: Op,
    pub row: Row,
}

pub fn insert<const N: usize>(values: [&str; N]) -> Change {
    Change { op: Op::Insert, row: super::table::row(values) }
}

pub fn update<const N: usize>(values: [&str; N]) -> Change {
    Change { op: Op::Update, row: super::table::row(values) }
}

pub fn delete<const N: usize>(values: [&str; N]) -> Change {
    Change { op: Op::Delete, row: super::table::row(values) }
}

/// How an endpoint's S3Settings shape its files.
#[derive(Clone, Debug)]
pub struct Settings {
    pub op_for_full_load: bool,
    pub delimiter: String,
    pub row_delimiter: String,
    pub null: Option<String>,
    pub rfc4180: bool,
    pub header: bool,
    pub timestamp_column: Option<String>,
    pub gzip: bool,
    /// DataFormat = "parquet".
    pub parquet: bool,
    /// In KB, as DMS wants it.
    pub max_file_size: Option<u32>,
    /// Further settings, for the JSON only.
    pub more: Vec<(String, serde_json::Value)>,
}

impl Default for Settings {
    /// DMS's own defaults, but for the operation in the full load.
    fn default() -> Self {
        Self {
            op_for_full_load: true,
            delimiter: ",".into(),
            row_delimiter: "\n".into(),
            null: None,
            rfc4180: true,
            header: false,
            timestamp_column: None,
            gzip: false,
            parquet: false,
            max_file_size: None,
            more: vec![],
        }
    }
}

impl Settings {
    /// The endpoint's S3Settings; what has DMS's default is left out, as people do.
    pub fn json(&self) -> serde_json::Value {
        let default = Self { op_for_full_load: false, ..Self::default() };
        let mut json = serde_json::json!({
            "ServiceAccessRoleArn": "arn:aws:iam::000000000000:role/dms",
            "BucketFolder": "raw/dms",
            "BucketName": "test",
            "DataFormat": if self.parquet { "parquet" } else { "csv" },
        });
        let mut set = |name: &str, value: serde_json::Value, differs: bool| {
            if differs {
                json[name] = value;
            }
        };
        set("IncludeOpForFullLoad", self.op_for_full_load.into(), self.op_for_full_load);
        set("CsvDelimiter", self.delimiter.clone().into(), self.delimiter != default.delimiter);
        set("CsvRowDelimiter", self.row_delimiter.clone().into(), self.row_delimiter != default.row_delimiter);
        set("CsvNullValue", self.null.clone().into(), self.null.is_some());
        set("Rfc4180", self.rfc4180.into(), !self.rfc4180);
        set("AddColumnName", self.header.into(), self.header);
        set("TimestampColumnName", self.timestamp_column.clone().into(), self.timestamp_column.is_some());
        set("CompressionType", "GZIP".into(), self.gzip);
        set("MaxFileSize", self.max_file_size.into(), self.max_file_size.is_some());
        for (name, value) in &self.more {
            json[name] = value.clone();
        }
        json
    }

    /// `LOAD00000001.csv`, `LOAD0000000A.csv`, …
    pub fn load_name(&self, number: u32) -> String {
        format!("LOAD{number:08X}{}", self.extension())
    }

    pub fn change_name(&self, stamp: &str) -> String {
        format!("{stamp}{}", self.extension())
    }

    fn extension(&self) -> &'static str {
        match (self.parquet, self.gzip) {
            (true, _) => ".parquet",
            (false, true) => ".csv.gz",
            (false, false) => ".csv",
        }
    }

    pub fn load_file(&self, table: &Table, rows: &[Row]) -> Vec<u8> {
        if self.parquet {
            let rows: Vec<_> = rows.iter().map(|row| (self.op_for_full_load.then_some("I"), row)).collect();
            return parquet::file(self, table, &rows);
        }
        let op = self.op_for_full_load.then_some("I");
        let mut text = self.header_line(table, self.op_for_full_load);
        for (record, row) in (1..).zip(rows) {
            text += &self.record(record, op, row);
        }
        self.finish(text)
    }

    pub fn change_file(&self, table: &Table, changes: &[Change]) -> Vec<u8> {
        if self.parquet {
            let rows: Vec<_> = changes.iter().map(|change| (Some(change.op.letter()), &change.row)).collect();
            return parquet::file(self, table, &rows);
        }
        let mut text = self.header_line(table, true);
        for (record, change) in (1..).zip(changes) {
            text += &self.record(record, Some(change.op.letter()), &change.row);
        }
        self.finish(text)
    }

    fn header_line(&self, table: &Table, with_op: bool) -> String {
        if !self.header {
            return String::new();
        }
        let names = with_op.then_some("Op").into_iter().chain(self.timestamp_column.as_deref());
        let names: Vec<_> = names.chain(table.column_names()).collect();
        names.join(&self.delimiter) + &self.row_delimiter
    }

    fn record(&self, number: u32, op: Option<&str>, row: &Row) -> String {
        let fields = op.map(str::to_owned).into_iter().chain(self.commit_time(number));
        let fields: Vec<_> = fields.chain(row.iter().map(|value| self.field(value.as_deref()))).collect();
        fields.join(&self.delimiter) + &self.row_delimiter
    }

    /// When the change of a record was committed, where the files say it. It decides nothing, so any will do.
    pub fn commit_time(&self, record: u32) -> Option<String> {
        self.timestamp_column.as_ref().map(|_| format!("2024-02-29 23:59:{:02}.000000", record % 60))
    }

    /// Quoted exactly when it must be: when it holds the delimiter, a quote or a line break.
    fn field(&self, value: Option<&str>) -> String {
        let Some(value) = value else {
            return self.null.clone().unwrap_or_default();
        };
        assert_ne!(value, NULL, "row() makes NULL a None");
        let special = [self.delimiter.as_str(), self.row_delimiter.as_str(), "\"", "\n", "\r"];
        if self.rfc4180 && special.iter().any(|text| value.contains(text)) {
            format!("\"{}\"", value.replace('"', "\"\""))
        } else {
            value.to_owned()
        }
    }

    fn finish(&self, text: String) -> Vec<u8> {
        if self.gzip { gzip(text.as_bytes()) } else { text.into_bytes() }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip cannot be started");
    let mut pipe = child.stdin.take().expect("stdin is piped");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || pipe.write_all(&bytes));
    let output = child.wait_with_output().expect("gzip cannot be waited for");
    writer.join().expect("the writer ended").expect("gzip takes its input");
    assert!(output.status.success(), "gzip failed");
    output.stdout
}
