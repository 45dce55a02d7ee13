//! Which files are found where, and in which order.

use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};

use super::*;

async fn bucket(paths: &[&str]) -> Location {
    let store = InMemory::new();
    for path in paths {
        store.put(&Path::parse(format!("raw/{path}")).unwrap(), PutPayload::from_static(b"x")).await.unwrap();
    }
    let url = "s3://bucket/raw/".parse().unwrap();
    Location { url, store: Arc::new(store), prefix: "raw".into() }
}

fn folders(json: &str) -> Folders {
    lakemerge_source::dms::settings::S3Settings::parse(json).unwrap().folders
}

async fn listing(paths: &[&str], json: &str, from: Option<&str>) -> Result<Listing> {
    let from = from.map(|stamp| stamp.parse().unwrap());
    files(&bucket(paths).await, &folders(json), &TableName::new("s", "t"), from).await
}

fn names(files: &[RawFile]) -> Vec<&str> {
    files.iter().map(|file| file.name.as_str()).collect()
}

#[tokio::test]
async fn change_files_are_in_the_order_of_their_names_whatever_folder_they_are_in() {
    let paths = [
        "s/t/LOAD00000001.csv",
        "s/t/23/10/2022/20221023-000000000.csv",
        "s/t/10/2022/24/20221024-000000000.csv",
        "s/t/20221025-000000000.csv",
        "s/t/2022-10-26-00/20221026-000000000.csv",
        "s/t2/20221027-000000000.csv",
    ];
    let listing = listing(&paths, "{}", None).await.unwrap();
    let expected = paths[1..5].iter().map(|path| &path[4..]).collect::<Vec<_>>();
    assert_eq!(names(&listing.changes), expected);
    assert_eq!(names(&listing.loads), ["LOAD00000001.csv"]);
}

#[tokio::test]
async fn a_file_in_a_folder_that_is_not_for_its_kind_stops_the_table() {
    for (path, expected) in [
        ("s/t/old/20221023-000000000.csv", "no date"),
        ("s/t/2022/10/23/LOAD00000001.csv", "folder of a date"),
        ("s/t/a/b/LOAD00000001.csv", "two folders deep"),
    ] {
        let error = listing(&[path], r#"{"DatePartitionEnabled": true}"#, None).await.unwrap_err().to_string();
        assert!(error.contains(path) && error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn segments_of_a_load_are_in_order_and_of_one_form() {
    let paths = ["s/t/SEGMENT2_LOAD00000001.csv", "s/t/SEGMENT10_LOAD00000001.csv", "s/t/SEGMENT2_LOAD0000000A.csv"];
    let segments = listing(&paths, "{}", None).await.unwrap();
    assert_eq!(names(&segments.loads), [&paths[0][4..], &paths[2][4..], &paths[1][4..]]);
    let paths = ["s/t/p1/LOAD00000001.csv", "s/t/p0/LOAD00000002.csv", "s/t/p0/LOAD00000001.csv"];
    let partitions = listing(&paths, "{}", None).await.unwrap();
    assert_eq!(names(&partitions.loads), [&paths[2][4..], &paths[1][4..], &paths[0][4..]]);
    for other in ["s/t/LOAD00000001.csv", "s/t/SEGMENT1_LOAD00000001.csv"] {
        let error = listing(&[paths[0], other], "{}", None).await.unwrap_err().to_string();
        assert!(error.contains(paths[0]) && error.contains(other), "{error}");
    }
}

#[tokio::test]
async fn two_files_of_one_moment_have_no_order() {
    let pair = ["s/t/2022/10/23/20221024-000000000.csv", "s/t/2022/10/24/20221024-000000000.csv"];
    let error = listing(&pair, "{}", None).await.unwrap_err().to_string();
    assert!(error.contains(pair[0]) && error.contains(pair[1]) && error.contains("same moment"), "{error}");
    let pair = ["s/t/20221024-000000000.csv", "s/t/20221024-000000000.csv.gz"];
    let error = listing(&pair, "{}", None).await.unwrap_err().to_string();
    assert!(error.contains("remove one of them"), "{error}");
}

const BERLIN: &str = r#"{"DatePartitionEnabled": true, "DatePartitionTimezone": "Europe/Berlin"}"#;

#[tokio::test]
async fn names_of_a_zone_are_in_utc_where_they_are_in_folders_of_dates() {
    let paths = ["s/t/2024/01/01/20240101-003000000.csv", "s/t/20231231-234500000.csv"];
    let listing = listing(&paths, BERLIN, None).await.unwrap();
    assert_eq!(names(&listing.changes), ["2024/01/01/20240101-003000000.csv", "20231231-234500000.csv"]);
    let stamps: Vec<_> = listing.changes.iter().map(|file| file.kind.stamp().unwrap().to_string()).collect();
    assert_eq!(stamps, ["20231231-233000000", "20231231-234500000"]);
}

#[tokio::test]
async fn a_time_that_a_zone_leaves_out_is_a_wrong_zone() {
    let path = "s/t/2024/03/31/20240331-023000000.csv";
    let error = listing(&[path], BERLIN, None).await.unwrap_err().to_string();
    assert!(error.contains(path) && error.contains("DatePartitionTimezone"), "{error}");
}

fn of_the_repeated_hour(written: Option<&str>) -> Listing {
    let modified = written.map_or(0, |stamp| stamp.parse::<Stamp>().unwrap().as_unix_millis() + 1000);
    let name = "2024/10/27/20241027-023000000.csv".to_string();
    let kind = FileName::below_table(&name).unwrap().unwrap();
    let file = RawFile { shown: name.clone(), name, kind, path: "".into(), size: 1, modified, tag: "".into() };
    let mut listing = Listing::default();
    listing.take(file, &folders(BERLIN)).unwrap();
    listing
}

#[test]
fn of_an_hour_that_comes_twice_the_time_of_writing_tells_which_it_was() {
    for stamp in ["20241027-003000000", "20241027-013000000"] {
        let listing = of_the_repeated_hour(Some(stamp));
        assert_eq!(listing.changes[0].kind, FileName::Changes(stamp.parse().unwrap()));
        assert!(listing.undated.is_empty());
    }
    let listing = of_the_repeated_hour(None);
    assert_eq!((listing.changes.len(), listing.undated.len()), (0, 1));
}

const TRANSACTIONS: &str = r#"{"PreserveTransactions": true, "CdcPath": "cdc/all"}"#;

#[tokio::test]
async fn changes_of_all_tables_are_those_of_each() {
    let paths = ["s/t/LOAD00000001.csv", "cdc/all/CDC_TXN-20201117153046033.csv", "cdc/all/notes.txt"];
    let listing = listing(&paths, TRANSACTIONS, None).await.unwrap();
    assert_eq!((names(&listing.loads), names(&listing.changes)), (vec!["LOAD00000001.csv"], vec![&paths[1][8..]]));
    assert!(listing.of_all_tables && listing.changes[0].holds_all_tables());
    assert_eq!(listing.strangers, ["cdc/all/notes.txt"]);
    let tables = tables(&bucket(&paths).await, &folders(TRANSACTIONS), |_| true).await.unwrap();
    assert_eq!(tables, [TableName::new("s", "t")]);
}

#[tokio::test]
async fn keys_that_stand_for_folders_are_passed_over() {
    let raw = bucket(&["s/t/LOAD00000001.csv"]).await;
    for folder in ["raw/s/t", "raw/s/t/2024", "raw/s/t/2024/01/31"] {
        raw.store.put(&Path::parse(folder).unwrap(), PutPayload::new()).await.unwrap();
    }
    let listing = files(&raw, &Folders::default(), &TableName::new("s", "t"), None).await.unwrap();
    assert_eq!((listing.strangers.len(), listing.loads.len()), (0, 1));
    let tables = tables(&raw, &Folders::default(), |_| true).await.unwrap();
    assert_eq!(tables, [TableName::new("s", "t")]);
}

/// `stamps` a second apart below `s/t`, and what else is there.
async fn many(number: u32, others: &[&str]) -> Location {
    let name = |i: u32| format!("s/t/20240101-{:02}{:02}{:02}000.csv", i / 3600, i / 60 % 60, i % 60);
    let paths: Vec<_> = (0..number).map(name).chain(others.iter().map(ToString::to_string)).collect();
    bucket(&paths.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn strangers_of(raw: &Location) -> (usize, Vec<String>) {
    let from = "20240101-020000000".parse().ok();
    let listing = files(raw, &Folders::default(), &TableName::new("s", "t"), from).await.unwrap();
    (listing.changes.len(), listing.strangers)
}

#[tokio::test]
async fn what_is_long_merged_is_not_listed_and_loads_are() {
    // the strangers tell which part of the folder was gone through
    let others =
        ["s/t/20240101-000000.txt", "s/t/20240101-015959.txt", "s/t/20240101-020001.txt", "s/t/LOAD00000001.csv"];
    let (changes, strangers) = strangers_of(&many(7300, &others).await).await;
    assert_eq!((changes, strangers), (100, vec![others[0].to_string(), others[2].to_string()]));
    // few are all listed, but none before is given
    let (changes, strangers) = strangers_of(&many(50, &others[..2]).await).await;
    assert_eq!((changes, strangers.len()), (0, 2));
}

#[tokio::test]
async fn nothing_is_passed_over_where_folders_of_dates_lie_among_the_names() {
    for folder in ["2024/05/01", "2024-05-01", "2024/05", "20240501", "2024_05_01", "05/2024/01", "31/05/2024"] {
        let file = format!("s/t/{folder}/20240501-000000000.csv");
        let (changes, _) = strangers_of(&many(7300, &[&file]).await).await;
        assert_eq!(changes, 101, "{folder}");
    }
}

#[test]
fn a_file_is_still_the_one_that_was_listed_until_it_is_written_again() {
    let found = |e_tag: Option<&str>, millis| ObjectMeta {
        location: "s/t/LOAD00000001.csv".into(),
        last_modified: chrono::DateTime::from_timestamp_millis(millis).unwrap(),
        size: 1,
        e_tag: e_tag.map(String::from),
        version: None,
    };
    let listed = |tag: &str| RawFile { tag: tag.into(), ..RawFile::of("LOAD00000001.csv", 1) };
    assert!(listed("").is_still(&found(Some("a"), 7)));
    for tag in ["a", "\"a\""] {
        assert!(listed("\"a\"").is_still(&found(Some(tag), 7)), "{tag}");
        assert!(!listed("\"b\"").is_still(&found(Some(tag), 7)), "{tag}");
    }
    // a local file, whose ETag is no sign
    assert!(listed("7000000").is_still(&found(Some("inode-2"), 7)));
    assert!(!listed("7000000").is_still(&found(Some("inode-2"), 8)));
    // a store that does not tell
    assert!(listed("\"a\"").is_still(&found(None, 8)));
}
