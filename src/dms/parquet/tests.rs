//! Files in, whole or damaged; rows or an error out.

use std::io::Cursor;

use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::file::properties::WriterProperties;
use lakemerge_source::schema::Column;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use super::*;
use crate::dms::content::Fetched;

/// Ids and names of `rows` rows, a hundred to a row group.
fn file(rows: i32) -> Bytes {
    let ids: ArrayRef = Arc::new((0..rows).collect::<Int32Array>());
    let names: ArrayRef = Arc::new((0..rows).map(|row| Some(format!("name {}", row % 7))).collect::<StringArray>());
    let batch = RecordBatch::try_from_iter([("id", ids), ("name", names)]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let mut writer = ArrowWriter::try_new(vec![], batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap().into()
}

fn reading(store: Arc<dyn ObjectStore>) -> Reading {
    let column = |name: &str, sql_type: &str| Column {
        name: name.into(),
        sql_type: sql_type.parse().unwrap(),
        nullable: name != "id",
    };
    Reading::of(store, vec![column("id", "INT"), column("name", "TEXT")])
}

/// How many rows are read before the file's end, whole or as it streams in; or the error.
async fn read(bytes: Bytes, as_it_streams: bool) -> Result<usize, String> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let file = RawFile::of("LOAD00000001.parquet", bytes.len());
    store.put(&file.path, bytes.clone().into()).await.unwrap();
    let reading = reading(store);
    let work = move || {
        let source = match as_it_streams {
            true => {
                let content = Content::Streamed(Fetched::start(Arc::clone(&reading.store), &file));
                Source::Passing { content, at: 0 }
            }
            false => Source::new(Content::Whole(Cursor::new(bytes)), file.size).unwrap(),
        };
        let mut reader = ParquetRows::of(source, &reading, &file, FileKind::Load)?;
        let mut rows = 0;
        while let Some(more) = reader.next(30)? {
            assert_eq!(more.first_record, rows as u64 + 1);
            rows += more.operations.len();
        }
        Ok(rows)
    };
    tokio::task::spawn_blocking(work).await.unwrap().map_err(|error: RecordError| error.to_string())
}

#[tokio::test]
async fn rows_come_one_row_group_after_the_other() {
    for as_it_streams in [false, true] {
        assert_eq!(read(file(250), as_it_streams).await, Ok(250));
        assert_eq!(read(file(0), as_it_streams).await, Ok(0));
    }
}

#[tokio::test]
async fn a_file_that_is_none_says_so() {
    let check = async |bytes: Bytes, expected: &str| {
        for as_it_streams in [false, true] {
            let error = read(bytes.clone(), as_it_streams).await.unwrap_err();
            assert!(error.contains("cannot be read as a Parquet file") && error.contains(expected), "{error}");
        }
    };
    check(Bytes::new(), "").await;
    check(Bytes::from_static(b"I,1,one\n"), "").await;
    check(file(250).slice(..1000), "").await;
}

/// One byte is another one, at any place of the file.
#[tokio::test]
async fn a_damaged_file_gives_rows_or_an_error() {
    let whole = file(120);
    let mut errors = 0;
    for place in 0..whole.len() {
        let mut bytes = whole.to_vec();
        bytes[place] ^= [0x01, 0x80, 0xff][place % 3];
        match read(bytes.into(), place % 2 == 0).await {
            Ok(rows) => assert_eq!(rows, 120, "byte {place}"),
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 0);
}
