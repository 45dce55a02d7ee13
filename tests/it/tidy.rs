//! How the repository should look, where a test can tell.

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a folder whose names end like this; none if there is no such folder.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, end: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                walk(&path, end, found);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    let mut found = vec![];
    walk(&root().join(folder), end, &mut found);
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the file is text")
}

fn sources() -> Vec<PathBuf> {
    let sources = [files("src", ".rs"), files("source/src", ".rs")].concat();
    assert!(!sources.is_empty());
    sources
}

#[test]
fn every_source_file_begins_by_saying_what_it_is_for() {
    for path in [sources(), files("tests/it", ".rs")].concat() {
        assert!(text(&path).starts_with("//! "), "{} does not begin with //!", path.display());
    }
}

#[test]
fn no_source_file_is_longer_than_500_lines() {
    for path in [sources(), files("tests/it", ".rs")].concat() {
        let lines = text(&path).lines().count();
        assert!(lines <= 500, "{} has {lines} lines", path.display());
    }
}

/// What analysts start from is not run by lakemerge itself.
const EXAMPLES: &str = "sql/examples";

#[test]
fn every_statement_in_sql_is_used_and_says_what_it_returns() {
    let sources: Vec<_> = sources().iter().map(|path| text(path)).collect();
    for path in files("sql", ".sql") {
        assert!(text(&path).starts_with("-- "), "{} does not begin with a comment", path.display());
        if path.starts_with(root().join(EXAMPLES)) {
            continue;
        }
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        let used = |source: &String| {
            source.split("include_str!(").skip(1).any(|rest| {
                rest.split(')').next().is_some_and(|argument| argument.trim().trim_matches('"').ends_with(&name))
            })
        };
        assert!(sources.iter().any(used), "{name} is included nowhere");
    }
}

/// A second version of one of these doubles the build and makes types that look alike differ.
#[test]
fn the_big_libraries_are_there_once() {
    let lock = text(&root().join("Cargo.lock"));
    for name in ["arrow", "parquet", "datafusion", "object_store", "deltalake-core"] {
        let found = lock.lines().filter(|line| *line == format!("name = \"{name}\"")).count();
        assert_eq!(found, 1, "{name} is in Cargo.lock {found} times");
    }
}
