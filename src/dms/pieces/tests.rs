//! The law of pieces: they come to what one reader makes of the file.

use std::io::ErrorKind;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int32Type;
use futures::TryStreamExt;
use lakemerge_source::dms::names::FileKind;
use lakemerge_source::dms::shape::Shape;
use lakemerge_source::schema::{Column, DatetimeAs, TableSchema};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::budget::Budget;
use crate::dms::listing::RawFile;
use crate::dms::reading::{Apart, LoadRead, Reading};

/// A file, and how it is read.
#[derive(Debug, Clone)]
struct Case {
    content: String,
    settings: &'static str,
    sets_apart: bool,
    holds_all_tables: bool,
    /// How reading ends, if not at the end of the file.
    failure: Option<ErrorKind>,
}

/// All that a reader gives: rows, the error, bad records, the number of records, other tables.
type Told = (Vec<Rows>, Option<String>, Vec<BadRecord>, u64, BTreeSet<TableName>);

impl Case {
    fn of(content: &str) -> Case {
        let content = content.to_string();
        Case { content, settings: "{}", sets_apart: true, holds_all_tables: false, failure: None }
    }

    fn input(&self) -> Input {
        let failure = Failed(self.failure.map(|kind| io::Error::new(kind, "the line is dead")));
        Box::new(Cursor::new(self.content.clone().into_bytes()).chain(failure))
    }

    fn settings(&self) -> Arc<S3Settings> {
        Arc::new(S3Settings::parse(self.settings).unwrap())
    }

    fn make_reader(&self) -> MakeReader {
        let column = |name: &str, sql_type: &str, nullable| Column {
            name: name.into(),
            sql_type: sql_type.parse().unwrap(),
            nullable,
        };
        let columns = vec![column("id", "INT", false), column("name", "TEXT", true), column("at", "DATETIME", false)];
        let shape = Arc::new(Shape::of(TableSchema { columns, primary_key: vec!["id".into()] }));
        let (case, settings) = (self.clone(), self.settings());
        Arc::new(move |input| {
            let kind = FileKind::Changes;
            let reader = RecordReader::new(input, &settings, kind, Arc::clone(&shape), DatetimeAs::default());
            let reader = reader.with_key(&[0], DatetimeAs::default());
            let reader = if case.sets_apart { reader.setting_bad_apart() } else { reader };
            if case.holds_all_tables { reader.of_all_tables(&TableName::new("s", "t")) } else { reader }
        })
    }

    fn by_one_reader(&self) -> Told {
        let mut reader = (self.make_reader())(self.input());
        let (rows, error) = all(|| reader.next(1));
        let others = reader.other_tables().cloned().collect();
        (rows, error, reader.take_bad(), reader.records(), others)
    }

    fn in_pieces(&self, size: usize, at_once: usize) -> Told {
        let mut pieces = Pieces::new(self.input(), self.make_reader(), self.settings(), size, at_once);
        let (rows, error) = all(|| pieces.next(1));
        let others = pieces.other_tables().cloned().collect();
        (rows, error, pieces.take_bad(), pieces.records(), others)
    }
}

fn all(mut next: impl FnMut() -> Result<Option<Rows>, RecordError>) -> (Vec<Rows>, Option<String>) {
    let mut rows = vec![];
    loop {
        match next() {
            Ok(Some(more)) => rows.push(more),
            Ok(None) => return (rows, None),
            Err(error) => return (rows, Some(error.to_string())),
        }
    }
}

/// Holds in pieces of every size.
fn check(case: &Case) -> Told {
    let expected = case.by_one_reader();
    for size in 1..=case.content.len() + 1 {
        assert_eq!(case.in_pieces(size, 3), expected, "pieces of {size} bytes of {case:?}");
    }
    expected
}

const TIME: &str = "2024-05-06 07:08:09";

#[test]
fn a_record_with_lines_within_quotes_is_one() {
    let text = format!("I,1,\"a\nI,2,b,{TIME}\n\"\"\n\",{TIME}\nU,3,\"\n\n\n\",{TIME}\nD,4,,{TIME}\n");
    let (rows, error, ..) = check(&Case::of(&text));
    assert_eq!((rows.len(), error), (3, None));
}

#[test]
fn records_keep_their_numbers() {
    let text = format!("I,1,a,{TIME}\nI,x,a,{TIME}\nI,1\nI,2,\"\n\",{TIME}\nI,y,a,{TIME}\nI,3,,\n");
    let (rows, _, bad, records, _) = check(&Case::of(&text));
    assert_eq!(rows.iter().map(|rows| rows.record(0)).collect::<Vec<_>>(), [1, 4, 6]);
    assert_eq!(bad.iter().map(|bad| bad.record).collect::<Vec<_>>(), [2, 3, 5]);
    assert_eq!((records, rows[2].zero_dates[2]), (6, 1));
    let (_, error, ..) = check(&Case { sets_apart: false, ..Case::of(&text) });
    assert!(error.unwrap().starts_with("record 2: column id"));
}

#[test]
fn the_header_stands_for_all_pieces() {
    for header in ["Op,id,at,name\n", "\u{feff}Op,at,id,\"name\"\n"] {
        let time = if header.starts_with("Op") { "1,2024-05-06 07:08:09" } else { "2024-05-06 07:08:09,1" };
        let text = format!("{header}I,{time},\u{feff}a\nI,{time},\"\n\"\n\u{feff}I,{time},b\n");
        let (rows, error, bad, ..) = check(&Case { settings: r#"{"AddColumnName": true}"#, ..Case::of(&text) });
        assert_eq!((rows.len(), error, bad.len()), (2, None, 1));
    }
}

#[test]
fn a_byte_order_mark_is_data_unless_it_begins_the_file() {
    let text = format!("\u{feff}I,1,a,{TIME}\n\u{feff}I,2,b,{TIME}\n");
    let (rows, _, bad, ..) = check(&Case::of(&text));
    assert_eq!((rows.len(), bad.len()), (1, 1));
}

#[test]
fn the_end_must_be_that_of_a_record() {
    let text = format!("I,1,a,{TIME}\nI,2,\"b");
    let (rows, error, ..) = check(&Case::of(&text));
    assert_eq!((rows.len(), error.as_deref()), (1, Some("record 2: the file ends inside quotes")));
    let (_, error, ..) = check(&Case { failure: Some(ErrorKind::UnexpectedEof), ..Case::of(&text) });
    assert_eq!(error.as_deref(), Some("record 2: the packed file ends early"));
}

fn any_content() -> impl Strategy<Value = String> {
    const PARTS: [&str; 12] = [
        "I,1,a,2024-05-06 07:08:09\n",
        "U,2,\"a\nI,3,\"\"b\"\",\n\",2024-05-06 07:08:09\n",
        "U,2,\"\r\n\",2024-05-06 07:08:09\r\n",
        "D,4,\n",
        "D,5,,\n",
        "I,x,a,0000-00-00 00:00:00\n",
        "U,t,s,6,a,\n",
        "I,other,s,7\n",
        "I,1,\"a\"b,\n",
        "\u{feff}",
        "\"",
        "\n",
    ];
    let part = prop_oneof![8 => select(&PARTS[..]).prop_map(str::to_string), 1 => "[IU1ts,\"\r\n]{0,9}"];
    let beginning =
        select(vec!["", "", "Op,id,name,at\n", "Op,id,name,at\r\n", "Op,id,at\n", "\u{feff}Op,at,\"id\",name\n"]);
    (beginning, vec(part, 0..12)).prop_map(|(beginning, parts)| beginning.to_string() + &parts.concat())
}

fn any_case() -> impl Strategy<Value = Case> {
    let settings = vec![
        "{}",
        "{}",
        r#"{"AddColumnName": true}"#,
        r#"{"CsvRowDelimiter": "\r\n"}"#,
        r#"{"Rfc4180": false}"#,
        r#"{"AddColumnName": true, "CsvRowDelimiter": "\r\n"}"#,
    ];
    let failures = vec![None, None, None, Some(ErrorKind::UnexpectedEof), Some(ErrorKind::TimedOut)];
    let case = (any_content(), select(settings), any::<bool>(), any::<bool>(), select(failures));
    case.prop_map(|(content, settings, sets_apart, holds_all_tables, failure)| Case {
        content,
        settings,
        sets_apart,
        holds_all_tables,
        failure,
    })
}

proptest! {
    #[test]
    fn pieces_come_to_what_one_reader_gives(case in any_case(), size in 1usize..120, at_once in 1usize..4) {
        prop_assert_eq!(case.in_pieces(size, at_once), case.by_one_reader());
    }
}

/// A file that is fetched whole where `in_flight` is twice its size, and streams in otherwise.
async fn changes(content: &str, in_flight: usize, threads: usize) -> (String, LoadRead) {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let file = RawFile::of("20240101-000000000.csv", content.len());
    store.put(&file.path, content.to_string().into()).await.unwrap();
    let column =
        |name: &str, sql_type: &str| Column { name: name.into(), sql_type: sql_type.parse().unwrap(), nullable: false };
    let columns = vec![column("id", "INT"), column("text", "TEXT")];
    let (in_flight, apart) = (Budget::new(in_flight), Some(Apart::default()));
    let reading = Reading { in_flight, threads, apart, ..Reading::of(store, columns) };
    let mut incoming = reading.changes(vec![file]);
    let rows: Vec<_> = incoming.rows().try_collect().await.unwrap();
    let mut told = format!("{:?}", reading.bad());
    for rows in rows {
        let ids = rows.columns.column(0).as_primitive::<Int32Type>();
        for (row, id) in ids.values().iter().enumerate() {
            told.push_str(&format!("{} {:?} {id}\n", rows.record(row), rows.operations[row]));
        }
    }
    (told, incoming.read())
}

#[tokio::test]
async fn a_large_change_file_is_the_same_on_any_number_of_threads() {
    let text = "a line\n".repeat(900);
    let record = |id: u32| match id % 100 {
        99 => format!("U,{id}x,\"{text}\"\n"),
        _ => format!("I,{id},\"{text}\"\n"),
    };
    let content: String = (0..2500).map(record).collect();
    let expected = changes(&content, 1 << 30, 1).await;
    assert_eq!(expected.1.counts.records, 2475);
    for in_flight in [1 << 30, 6 * PIECE] {
        let (told, read) = changes(&content, in_flight, 3).await;
        assert!(told == expected.0, "{in_flight} bytes in flight");
        assert_eq!((read.counts, read.progress), (expected.1.counts, expected.1.progress.clone()));
    }
}
