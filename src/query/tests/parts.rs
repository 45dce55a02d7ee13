//! Answers that are put together from parts, which are encoded on several threads.

use arrow::array::ListArray;
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;

const FORMATS: [Format; 5] = [Format::Table, Format::Csv, Format::Json, Format::Ndjson, Format::Parquet];

/// So many rows of a number, a list and a text.
fn batch(from: i64, rows: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter((from..from + rows).map(|n| (n % 7 != 0).then_some(n))));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((from..from + rows).map(|n| format!("text {n}"))));
    let list = |n: i64| (n % 5 != 0).then(|| (0..n % 3).map(|part| Some(part as i32)));
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>((from..from + rows).map(list)));
    RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("l", lists, true), ("t", texts, true)]).unwrap()
}

fn batches(sizes: &[i64]) -> Vec<RecordBatch> {
    let before = |i: usize| sizes[..i].iter().sum();
    sizes.iter().enumerate().map(|(i, rows)| batch(before(i), *rows)).collect()
}

/// The answer with these rows, encoded on so many threads.
async fn written(batches: &[RecordBatch], format: Format, threads: usize) -> Vec<u8> {
    let page = Page::default();
    let mut output = Output::writer(Destination::Writer(Box::new(page.clone())), format);
    let rows: Vec<_> = batches.iter().cloned().map(Ok).collect();
    let rows = RecordBatchStreamAdapter::new(batch(0, 0).schema(), stream::iter(rows));
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(threads));
    let count = output.answer(Box::pin(rows), &context).await.unwrap();
    assert_eq!(count, batches.iter().map(RecordBatch::num_rows).sum::<usize>());
    page.0.lock().unwrap().clone()
}

#[tokio::test]
async fn an_answer_is_the_same_on_however_many_threads() {
    let batches = batches(&[1, 0, 9_999, 15_000, 3, 1]);
    for format in FORMATS {
        let alone = written(&batches, format, 1).await;
        for threads in [2, 7] {
            assert!(written(&batches, format, threads).await == alone, "{format:?} on {threads} threads");
        }
    }
}

#[tokio::test]
async fn the_parts_of_an_answer_make_a_whole() {
    let batches = batches(&[1, 0, 9_999, 15_000, 3, 1]);
    let count = batches.iter().map(RecordBatch::num_rows).sum::<usize>();

    let text = String::from_utf8(written(&batches, Format::Csv, 2).await).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines[0], lines.len()), ("n,l,t", count + 1));
    assert_eq!(lines[25_004], "25003,[0],text 25003");

    let text = String::from_utf8(written(&batches, Format::Ndjson, 2).await).unwrap();
    let objects: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let array: Vec<serde_json::Value> = serde_json::from_slice(&written(&batches, Format::Json, 2).await).unwrap();
    assert_eq!((array.len(), &array), (count, &objects));
    assert_eq!(array[8], serde_json::json!({"n": 8, "t": "text 8", "l": [0, 1]}));

    let text = String::from_utf8(written(&batches, Format::Table, 2).await).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("| n ")).count(), count.div_ceil(10_000));
}

#[tokio::test]
async fn a_parquet_file_has_row_groups_of_a_bounded_size() {
    let batches = batches(&[1, 0, 30_000, 120_000, 5_003]);
    let all = concat_batches(&batches[0].schema(), &batches).unwrap();
    let file = Bytes::from(written(&batches, Format::Parquet, 2).await);
    let file = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let groups: Vec<_> = file.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [131_072, 23_932]);
    let read = file.build().unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(concat_batches(&all.schema(), &read).unwrap(), all);
}

#[tokio::test]
async fn an_answer_without_rows_has_a_form() {
    for format in FORMATS {
        let whole = written(&batches(&[0]), format, 2).await;
        assert_eq!(whole, written(&[], format, 2).await, "{format:?}");
        match format {
            Format::Table => assert!(String::from_utf8(whole).unwrap().contains("| n | l | t |")),
            Format::Csv => assert_eq!(whole, b"n,l,t\n"),
            Format::Json => assert_eq!(whole, b"[]\n"),
            Format::Ndjson => assert!(whole.is_empty()),
            Format::Parquet => {
                let file = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(whole)).unwrap();
                assert_eq!((file.schema(), file.metadata().num_row_groups()), (&batch(0, 0).schema(), 0));
            }
        }
    }
}
