//! The program starts itself again so that its allocator asks for huge pages, and nobody notices.

use crate::support::site::Site;
use crate::support::table::Table;
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const TUNABLES: &str = "GLIBC_TUNABLES";

/// What `lakemerge query`, which waits for statements, was started with: its arguments, and the variable as it is at last.
fn started_with(tunables: Option<&str>) -> (Vec<String>, Option<String>) {
    let site = Site::local();
    site.declare(&[&Table::new("shop.orders", &[("id", "int(11) NOT NULL")])]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakemerge"));
    command.args(["query", "--format", "csv"]).current_dir(site.path("."));
    match tunables {
        Some(tunables) => command.env(TUNABLES, tunables),
        None => command.env_remove(TUNABLES),
    };
    let started = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let texts = |file: &str| -> Vec<String> {
        let bytes = fs::read(format!("/proc/{}/{file}", child.id())).unwrap();
        bytes.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    };
    let variable = || texts("environ").iter().find_map(|text| Some(text.strip_prefix(TUNABLES)?[1..].to_owned()));
    while variable().is_none() && started.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(5));
    }
    let found = (texts("cmdline"), variable());
    child.stdin.take().unwrap().write_all(b"SELECT 1 AS one").unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), &*said), (Some(0), "one\n1\n"));
    found
}

#[test]
fn it_starts_again_as_it_was_started_unless_the_allocator_is_told_otherwise() {
    let expected = [env!("CARGO_BIN_EXE_lakemerge"), "query", "--format", "csv", ""];
    let (arguments, tunables) = started_with(None);
    assert_eq!(
        (arguments, tunables.as_deref()),
        (expected.map(str::to_owned).to_vec(), Some("glibc.malloc.hugetlb=1"))
    );
    let (arguments, tunables) = started_with(Some("glibc.malloc.perturb=0"));
    assert_eq!(
        (arguments, tunables.as_deref()),
        (expected.map(str::to_owned).to_vec(), Some("glibc.malloc.perturb=0"))
    );
}
