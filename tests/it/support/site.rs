//! A source, a lake and a configuration in a place of their own, on local folders or in a bucket.

use super::bin::{self, Outcome, Running};
use super::dms::{Change, Settings};
use super::minio;
use super::table::{Row, Table, canonical};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("no tokio runtime"));

/// Where source and lake lie.
#[derive(Clone)]
enum Store {
    Local(Arc<TempDir>),
    S3 { bucket: String, client: Arc<AmazonS3> },
}

pub struct Site {
    /// Holds `lakemerge.toml`, the schema files and the settings; the binary runs here.
    dir: TempDir,
    store: Store,
    lake: String,
    pub settings: Settings,
    /// Lines of the configuration's `[run]`.
    pub run_config: String,
    /// Further environment of the binary; what is empty is not set.
    pub extra_env: Vec<(String, String)>,
}

impl Site {
    pub fn local() -> Self {
        Self::on(Store::Local(Arc::new(TempDir::new().expect("no temporary folder"))))
    }

    pub fn s3() -> Self {
        let bucket = minio::server().bucket();
        Self::on(Store::S3 { client: Arc::new(minio::server().client(&bucket)), bucket })
    }

    /// Puts the lake of a declared site elsewhere.
    pub fn move_lake(&self, url: &str) {
        self.edit("lakemerge.toml", &format!("url = \"{}\"", self.url(&self.lake)), &format!("url = \"{url}\""));
    }

    fn on(store: Store) -> Self {
        Self {
            dir: TempDir::new().expect("no temporary folder"),
            store,
            lake: "lake".to_owned(),
            settings: Settings::default(),
            run_config: String::new(),
            extra_env: vec![],
        }
    }

    /// The same source with another lake and a configuration of its own (to be declared).
    pub fn with_lake(&self, lake: &str) -> Self {
        let mut site = Self::on(self.store.clone());
        site.lake = lake.to_owned();
        site.settings = self.settings.clone();
        site.run_config.clone_from(&self.run_config);
        site
    }

    /// Writes the configuration for these tables.
    pub fn declare(&self, tables: &[&Table]) {
        let mut config = format!(
            "[source]\nkind = \"dms\"\nurl = \"{}\"\ns3_settings = \"s3.json\"\n\n[lake]\nurl = \"{}\"\n\n[run]\n{}\n",
            self.url("raw/dms"),
            self.url(&self.lake),
            self.run_config
        );
        let mut schemas = BTreeMap::<String, String>::new();
        for table in tables {
            config += &table.config();
            *schemas.entry(table.schema_file()).or_default() += &table.create_table();
        }
        self.write("lakemerge.toml", &config);
        self.write("s3.json", &self.settings.json().to_string());
        for (file, text) in schemas {
            self.write(&file, &text);
        }
    }

    /// Replaces text of a file beside the configuration.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.dir.path().join(file);
        let text = std::fs::read_to_string(&path).expect("the file cannot be read");
        assert!(text.contains(from), "{file} does not hold {from:?}: {text}");
        std::fs::write(path, text.replace(from, to)).expect("the file cannot be written");
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.dir.path().join(file), text).expect("the file cannot be written");
    }

    /// A path beside the configuration.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn url(&self, path: &str) -> String {
        match &self.store {
            Store::Local(root) => root.path().join(path).display().to_string(),
            Store::S3 { bucket, .. } => format!("s3://{bucket}/{path}"),
        }
    }

    pub fn table_uri(&self, table: &Table) -> String {
        self.url(&format!("{}/{}", self.lake, table.folder()))
    }

    pub fn env(&self) -> Vec<(String, String)> {
        let mut env = match self.store {
            Store::Local(_) => vec![],
            Store::S3 { .. } => minio::server().env(),
        };
        env.retain(|(name, _)| !self.extra_env.iter().any(|(extra, _)| extra == name));
        env.extend(self.extra_env.iter().filter(|(_, value)| !value.is_empty()).cloned());
        env
    }

    /// Where the source lies on a local path.
    pub fn raw_path(&self, path: &str) -> PathBuf {
        match &self.store {
            Store::Local(root) => root.path().join("raw/dms").join(path),
            Store::S3 { .. } => panic!("a bucket has no local paths"),
        }
    }

    /// A key without bytes that ends with a slash, as the S3 console makes one for a folder.
    pub fn put_raw_folder(&self, path: &str) {
        let Store::S3 { bucket, .. } = &self.store else { panic!("a local path has no keys") };
        let script = format!(
            "import boto3; boto3.client('s3', endpoint_url='{}').put_object(Bucket='{bucket}', Key='raw/dms/{path}/')",
            minio::server().endpoint()
        );
        let python = super::cache().join("venv/bin/python");
        let mut command = std::process::Command::new(python);
        let status = command.args(["-c", &script]).envs(minio::server().env()).status().expect("python starts");
        assert!(status.success(), "boto3 failed");
    }

    // The source

    pub fn load(&self, table: &Table, number: u32, rows: &[Row]) {
        let path = format!("{}/{}", table.folder(), self.settings.load_name(number));
        self.put_raw(&path, self.settings.load_file(table, rows));
    }

    /// `stamp` is `yyyymmdd-hhmmssmmm`.
    pub fn changes(&self, table: &Table, stamp: &str, changes: &[Change]) {
        let path = format!("{}/{}", table.folder(), self.settings.change_name(stamp));
        self.put_raw(&path, self.settings.change_file(table, changes));
    }

    /// `path` is below the source, `shop/orders/LOAD00000001.csv`.
    pub fn put_raw(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let path = format!("raw/dms/{path}");
        match &self.store {
            Store::Local(root) => {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("the folder cannot be created");
                std::fs::write(path, bytes.into()).expect("the file cannot be written");
            }
            Store::S3 { client, .. } => {
                RUNTIME
                    .block_on(client.put(&Key::parse(path).expect("a key"), bytes.into().into()))
                    .expect("the object cannot be put");
            }
        }
    }

    /// Many small files, at once.
    pub fn put_raw_many(&self, files: &[(String, String)]) {
        let Store::S3 { client, .. } = &self.store else {
            return files.iter().for_each(|(path, text)| self.put_raw(path, text.as_str()));
        };
        let puts = futures::stream::iter(files).map(|(path, text)| async move {
            let key = Key::parse(format!("raw/dms/{path}")).expect("a key");
            client.put(&key, text.clone().into_bytes().into()).await
        });
        RUNTIME.block_on(puts.buffer_unordered(32).try_collect::<Vec<_>>()).expect("the objects cannot be put");
    }

    pub fn remove_raw(&self, path: &str) {
        let path = format!("raw/dms/{path}");
        match &self.store {
            Store::Local(root) => std::fs::remove_file(root.path().join(path)).expect("the file cannot be removed"),
            Store::S3 { client, .. } => {
                RUNTIME
                    .block_on(client.delete(&Key::parse(path).expect("a key")))
                    .expect("the object cannot be deleted");
            }
        }
    }

    // The binary

    pub fn command(&self, args: &[&str]) -> Outcome {
        self.start(args).wait()
    }

    pub fn start(&self, args: &[&str]) -> Running {
        bin::start(self.dir.path(), &self.env(), args)
    }

    /// `run`, which must succeed, and its report.
    #[track_caller]
    pub fn run(&self) -> Report {
        self.run_exits(0, &[]).1
    }

    /// `run` with further arguments, which must end with `code`, and its report.
    #[track_caller]
    pub fn run_exits(&self, code: i32, args: &[&str]) -> (Outcome, Report) {
        let file = self.path("report.json");
        let _ = std::fs::remove_file(&file);
        let outcome = self.command(&[&["run", "--report", "report.json"], args].concat()).exits(code);
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("no report ({e}): {outcome}"));
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("the report is no JSON ({e}): {text}"));
        assert_eq!((&json["schema"], &json["command"], &json["exit_code"]), (&1.into(), &"run".into(), &code.into()));
        let report = Report(json);
        report.adds_up();
        (outcome, report)
    }

    /// `plan --format json`, which must end with `code`.
    #[track_caller]
    pub fn plan_exits(&self, code: i32, args: &[&str]) -> Report {
        let outcome = self.command(&[&["plan", "--format", "json"], args].concat()).exits(code);
        let json: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {outcome}"));
        assert_eq!((&json["schema"], &json["command"], &json["exit_code"]), (&1.into(), &"plan".into(), &code.into()));
        Report(json)
    }

    /// The findings of `check --format json`, which must end with `code`.
    #[track_caller]
    pub fn check_exits(&self, code: i32) -> Vec<Value> {
        let outcome = self.command(&["check", "--format", "json"]).exits(code);
        let json: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {outcome}"));
        assert_eq!((&json["schema"], &json["command"], &json["exit_code"]), (&1.into(), &"check".into(), &code.into()));
        json["findings"].as_array().unwrap_or_else(|| panic!("no findings: {outcome}")).clone()
    }

    /// The rows of `query SQL --format json`.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Value> {
        let outcome = self.command(&["query", sql, "--format", "json"]).exits(0);
        let json: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {outcome}"));
        let rows = if json.is_array() { &json } else { &json["rows"] };
        rows.as_array().unwrap_or_else(|| panic!("no rows: {outcome}")).clone()
    }

    /// `query SQL --format csv`, its header included.
    #[track_caller]
    pub fn query_csv(&self, sql: &str) -> String {
        self.command(&["query", sql, "--format", "csv"]).exits(0).stdout
    }

    /// All rows of a table as `query` gives them, sorted, in the one form of each type.
    #[track_caller]
    pub fn rows(&self, table: &Table) -> Vec<Row> {
        self.rows_where(table, "true")
    }

    /// The rows of which an SQL condition is true.
    #[track_caller]
    pub fn rows_where(&self, table: &Table, condition: &str) -> Vec<Row> {
        let columns = table.lake_columns();
        let value = |row: &Value, (name, kind): &(String, String)| match &row[name] {
            Value::Null if row.get(name).is_some() => None,
            value => canonical(value.as_str().unwrap_or_else(|| panic!("{name} is no text: {row}")), kind),
        };
        let rows = self.query(&format!("{} WHERE {condition}", table.select()));
        let row = |row: &Value| columns.iter().map(|column| value(row, column)).collect();
        let mut rows: Vec<Row> = rows.iter().map(row).collect();
        rows.sort();
        rows
    }

    /// What `status --format json` says of a table.
    #[track_caller]
    pub fn status(&self, table: &Table) -> Value {
        self.status_exits(0, table)
    }

    /// The same with the exit code of a table that a person must look at.
    #[track_caller]
    pub fn status_exits(&self, code: i32, table: &Table) -> Value {
        let outcome = self.command(&["status", "--format", "json"]).exits(code);
        let json: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {outcome}"));
        assert_eq!(json["schema"], 1, "{outcome}");
        find_table(&json, &table.full_name()).unwrap_or_else(|| panic!("no {}: {outcome}", table.full_name()))
    }

    // The lake

    /// The table's newest Delta version, by its log; `None` when there is no table.
    pub fn version(&self, table: &Table) -> Option<u64> {
        let log = format!("{}/{}/_delta_log", self.lake, table.folder());
        let names = self.list(&log);
        names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).max()
    }

    /// Every file of the lake with its bytes.
    pub fn lake_files(&self) -> BTreeMap<String, Vec<u8>> {
        match &self.store {
            Store::Local(root) => {
                let mut files = BTreeMap::new();
                read_files(&root.path().join(&self.lake), &mut files);
                files
            }
            Store::S3 { client, .. } => {
                let folder = Key::from(self.lake.as_str());
                let objects = client.list(Some(&folder)).and_then(|object| async move {
                    let bytes = client.get(&object.location).await?.bytes().await?;
                    Ok((object.location.to_string(), bytes.to_vec()))
                });
                RUNTIME.block_on(objects.try_collect()).expect("the bucket cannot be read")
            }
        }
    }

    /// The Parquet files below the table, live or not.
    pub fn data_files(&self, table: &Table) -> usize {
        let files = self.list(&format!("{}/{}", self.lake, table.folder()));
        files.iter().filter(|name| name.ends_with(".parquet")).count()
    }

    /// The names (without folders) of everything below a folder.
    fn list(&self, folder: &str) -> Vec<String> {
        match &self.store {
            Store::Local(root) => file_names(&root.path().join(folder)),
            Store::S3 { client, .. } => {
                let objects = client.list(Some(&Key::from(folder))).try_collect::<Vec<_>>();
                let objects = RUNTIME.block_on(objects).expect("the bucket cannot be listed");
                objects.iter().filter_map(|object| Some(object.location.filename()?.to_owned())).collect()
            }
        }
    }
}

fn file_names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return vec![];
    };
    let mut names = vec![];
    for entry in entries {
        let entry = entry.expect("the folder can be read");
        if entry.path().is_dir() {
            names.extend(file_names(&entry.path()));
        } else {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names
}

fn read_files(folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            read_files(&path, files);
        } else {
            files.insert(path.display().to_string(), std::fs::read(&path).expect("the file can be read"));
        }
    }
}

fn find_table(json: &Value, name: &str) -> Option<Value> {
    json["tables"].as_array()?.iter().find(|table| table["table"] == name).cloned()
}

/// What `run --report` wrote, or `plan` said.
#[derive(Debug)]
pub struct Report(pub Value);

impl Report {
    #[track_caller]
    pub fn table(&self, table: &Table) -> Value {
        find_table(&self.0, &table.full_name()).unwrap_or_else(|| panic!("no {}: {:#}", table.full_name(), self.0))
    }

    /// Law 5: read = inserted + updated + deleted + netted away + skipped.
    #[track_caller]
    fn adds_up(&self) {
        let tables = self.0["tables"].as_array().expect("a report lists tables");
        for table in tables.iter().filter(|table| table["state"] != "failed") {
            let number = |name: &str| table[name].as_u64().unwrap_or_else(|| panic!("no number {name}: {table:#}"));
            let skipped = table["skipped"].as_array().unwrap_or_else(|| panic!("no skipped: {table:#}"));
            let skipped: u64 = skipped.iter().map(|reason| reason["rows"].as_u64().expect("a number of rows")).sum();
            let carried = number("inserted") + number("updated") + number("deleted");
            assert_eq!(number("read"), carried + number("netted_away") + skipped, "does not add up: {table:#}");
        }
    }
}
