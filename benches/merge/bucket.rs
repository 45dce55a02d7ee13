//! Many small change files of one table in a bucket: changes a second from end to end, and requests a file.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;

use crate::Result;
use crate::compare::grouped;
use crate::data::say;
use crate::minio;
use crate::process::{Measured, measure};
use crate::report::Report;
use crate::site::{lakemerge, remove};

const FILES: u64 = 5_000;
const CHANGES: u64 = 2_000_000;
/// Rows of the table before the changes.
const ROWS: u64 = 1_000_000;
/// In MB; more than what a run of a few tables takes, less than all changes as rows.
const MEMORY_LIMIT: u64 = 1_000;
/// What is to be reached.
const CHANGES_A_SECOND: f64 = 150_000.0;

/// Merges the files in one run, beside the server on the same cores.
pub async fn run(root: &Path, report: &mut Report) -> Result<()> {
    let folder = root.join("bucket");
    remove(&folder)?;
    fs::create_dir_all(&folder)?;
    let server = minio::server();
    let bucket = server.bucket();
    let config = format!(
        "[source]\nkind = \"dms\"\nurl = \"s3://{bucket}/raw\"\n\n[lake]\nurl = \"s3://{bucket}/lake\"\n\
         table_type = \"merge-on-read\"\n\n[run]\nmemory_limit = \"{MEMORY_LIMIT}MB\"\nmaintenance = \"off\"\n\n\
         [[table]]\nname = \"shop.orders\"\nschema = \"schema.sql\"\n"
    );
    fs::write(folder.join("lakemerge.toml"), config)?;
    let create = "CREATE TABLE orders (id BIGINT PRIMARY KEY, customer INT, version INT, total DECIMAL(12,2), placed DATETIME, \
         note VARCHAR(60));";
    fs::write(folder.join("schema.sql"), create)?;
    let command = |args: &[&str]| {
        let mut command = lakemerge(&folder, args);
        command.envs(server.env());
        command
    };

    say(&format!("{} change files in a bucket", grouped(FILES)));
    let load: String = (0..ROWS).map(|id| record(id, 0) + "\n").collect();
    let client = server.client(&bucket);
    client.put(&"raw/shop/orders/LOAD00000001.csv".into(), load.into()).await?;
    measure(command(&["run"]))?;
    let (files, versions) = change_files();
    let bytes: usize = files.iter().map(|(_, content)| content.len()).sum();
    futures::stream::iter(files)
        .map(|(path, content)| {
            let client = &client;
            async move { client.put(&path.into(), content.into()).await }
        })
        .buffer_unordered(32)
        .try_collect::<Vec<_>>()
        .await?;

    let before = requests(&server.endpoint())?;
    let measured = measure(command(&["run"]))?;
    let after = requests(&server.endpoint())?;
    check(&command, &versions)?;
    tell(measured, bytes, &before, &after, report);
    remove(&folder)
}

fn tell(
    measured: Measured,
    bytes: usize,
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
    report: &mut Report,
) {
    let speed = CHANGES as f64 / measured.seconds;
    let made = after.iter().map(|(api, count)| (api, count - before.get(api).copied().unwrap_or_default()));
    let made: Vec<_> = made.filter(|(_, count)| *count > 0).collect();
    let kinds = made.iter().map(|(api, count)| format!("{} {api}", grouped(*count))).collect::<Vec<_>>();
    let all: u64 = made.iter().map(|(_, count)| *count).sum();
    let text = format!(
        "{measured} for {:.0} MB: {} changes/s; {:.3} requests a file ({})",
        bytes as f64 / 1e6,
        grouped(speed as u64),
        all as f64 / FILES as f64,
        kinds.join(", ")
    );
    let reached = speed >= CHANGES_A_SECOND && measured.peak <= MEMORY_LIMIT * 1_000_000;
    let work = format!(
        "{} changes in {} files of a bucket, merge-on-read, memory_limit {MEMORY_LIMIT} MB, the server on the same cores",
        grouped(CHANGES),
        grouped(FILES)
    );
    report.alone(&work, text, "150,000 changes/s within memory_limit, about one request a file", Some(reached));
}

fn record(id: u64, version: u64) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "{id},{},{version},{}.{:02},2024-0{}-1{} 1{}:00:00.000000,the note that somebody wrote about order {id}",
        id * 7 % 100_000,
        id % 5_000,
        version % 100,
        1 + id % 9,
        id % 10,
        version % 10
    );
    text
}

/// The files by their paths, and the version of every row afterwards.
fn change_files() -> (Vec<(String, String)>, HashMap<u64, u64>) {
    let mut versions: HashMap<u64, u64> = (0..ROWS).map(|id| (id, 0)).collect();
    let (mut files, mut random, mut next) = (vec![], 0x2545_f491_4f6c_dd1d_u64, ROWS);
    for nth in 0..FILES {
        let mut content = String::new();
        for _ in 0..CHANGES / FILES {
            // xorshift64: the same keys in every run
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let id = random % next;
            let operation = match random >> 40 & 15 {
                0..3 => {
                    versions.insert(next, 1);
                    content.push_str(&format!("I,{}\n", record(next, 1)));
                    next += 1;
                    continue;
                }
                3..5 => 'D',
                _ => 'U',
            };
            // only rows that are there change
            let Some(version) = versions.get_mut(&id) else {
                versions.insert(id, 1);
                content.push_str(&format!("I,{}\n", record(id, 1)));
                continue;
            };
            *version += 1;
            content.push_str(&format!("{operation},{}\n", record(id, *version)));
            if operation == 'D' {
                versions.remove(&id);
            }
        }
        let stamp = format!("20240101-{:02}{:02}{:02}000", nth / 3600, nth / 60 % 60, nth % 60);
        files.push((format!("raw/shop/orders/{stamp}.csv"), content));
    }
    (files, versions)
}

/// The table must hold every row in its last version.
fn check(command: &dyn Fn(&[&str]) -> std::process::Command, versions: &HashMap<u64, u64>) -> Result<()> {
    let sql = "SELECT count(*), sum(id), sum(version), sum(id % 1000 * version) FROM shop.orders";
    let output = command(&["query", "--format", "csv", sql]).output()?;
    let found = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_string();
    let (mut ids, mut sum, mut mixed) = (0, 0, 0);
    for (id, version) in versions {
        ids += id;
        sum += version;
        mixed += id % 1000 * version;
    }
    let expected = format!("{},{ids},{sum},{mixed}", versions.len());
    if found == expected { Ok(()) } else { Err(format!("the table holds {found} and not {expected}").into()) }
}

/// The requests that the server has answered so far, by their kind.
fn requests(endpoint: &str) -> Result<BTreeMap<String, u64>> {
    // the server tells what it counted a moment ago
    std::thread::sleep(Duration::from_secs(12));
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("http://"))?;
    stream.write_all(b"GET /minio/v2/metrics/node HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let counter = |line: &str| {
        let labels = line.strip_prefix("minio_s3_requests_total{api=\"")?;
        let (api, rest) = labels.split_once('"')?;
        Some((api.to_string(), rest.rsplit(' ').next()?.parse::<f64>().ok()? as u64))
    };
    Ok(answer.lines().filter_map(counter).collect())
}
