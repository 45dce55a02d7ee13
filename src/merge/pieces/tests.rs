//! Pieces of files, and what of them is fetched.

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Int64Type;
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::parquet::basic::Encoding;
use deltalake::parquet::file::writer::SerializedFileWriter;
use object_store::PutPayload;
use object_store::memory::InMemory;

use super::*;
use crate::storage::Location;

/// Two row groups of 300,000 rows, with pages of another length in each column.
async fn source() -> Source {
    let rows = 600_000;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let texts = (0..rows).map(|row| format!("{row} {}", "x".repeat(row as usize % 50)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let batch = RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("t", texts, true)]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(300_000));
    let properties = properties.set_data_page_size_limit(100_000).build();
    written(&batch, properties).await
}

async fn written(batch: &RecordBatch, properties: WriterProperties) -> Source {
    let mut writer = ArrowWriter::try_new(vec![], batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    let (store, size): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), bytes.len() as u64);
    let path = Path::from("file.parquet");
    store.put(&path, PutPayload::from(bytes)).await.unwrap();
    Source::open(store, path, size, batch.schema()).await.unwrap().unwrap()
}

/// The numbers of the rows that are read for `rows`.
async fn read(source: &Source, rows: &Rows) -> Vec<i64> {
    let bytes = Stretches::fetch(source.store.as_ref(), &source.path, &source.ranges(rows, |_, _| true)).await.unwrap();
    let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, source.reading.clone())
        .with_row_groups(vec![rows.group])
        .with_row_selection(rows.selection())
        .build()
        .unwrap();
    let mut numbers = vec![];
    for batch in batches {
        let batch = batch.unwrap();
        let texts = batch.column(1).as_string::<i32>();
        for (number, text) in batch.column(0).as_primitive::<Int64Type>().values().iter().zip(texts) {
            assert!(text.unwrap().starts_with(&format!("{number} ")));
            numbers.push(*number);
        }
    }
    numbers
}

#[tokio::test]
async fn every_living_row_is_in_one_piece() {
    let source = source().await;
    let dead: RoaringTreemap = [0, 1, 99_999, 131_071, 131_072, 299_999].into();
    let pieces = source.pieces(&dead);
    let mut living = vec![];
    for piece in &pieces[..pieces.len() - 1] {
        let Piece::Cut(rows) = piece else { panic!("{piece:?}") };
        assert!(rows.count() <= ROW_GROUP_ROWS as u64);
        let fetched: u64 = source.ranges(rows, |_, _| true).iter().map(|range| range.end - range.start).sum();
        assert!(fetched < span(source.footer.row_group(0)).end * 2 / 3, "{fetched} bytes for {rows:?}");
        living.extend(read(&source, rows).await);
    }
    assert!((4..=6).contains(&pieces.len()), "{} pieces", pieces.len());
    assert_eq!(pieces.last(), Some(&Piece::Copy { group: 1 }));
    assert!(living.into_iter().eq((0..300_000).filter(|row| !dead.contains(*row as u64))));
}

/// The same file, which tells that there are so many pages whose values are numbers of a dictionary's.
fn telling(source: &Source, pages: i32) -> Source {
    let group = source.footer.row_group(0).clone();
    let columns = group.columns().iter().map(|column| {
        let stats =
            PageEncodingStats { page_type: PageType::DATA_PAGE, encoding: Encoding::RLE_DICTIONARY, count: pages };
        column.clone().into_builder().set_page_encoding_stats(vec![stats]).build().unwrap()
    });
    let columns = columns.collect();
    let group = group.into_builder().set_column_metadata(columns).build().unwrap();
    let footer = source.footer.as_ref().clone().into_builder().set_row_groups(vec![group]).build();
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reading = ArrowReaderMetadata::try_new(Arc::new(footer), options).unwrap();
    let (store, path) = (Arc::clone(&source.store), source.path.clone());
    let (footer, schema) = (Arc::clone(reading.metadata()), Arc::clone(&source.schema));
    Source { store, path, footer, reading, schema, codecs: Arc::default() }
}

/// The numbers of the rows of a new file of the pieces.
async fn cut(source: &Source, pieces: Vec<Piece>) -> Vec<i64> {
    let url = "s3://bucket/".parse().unwrap();
    let lake = Location { url, store: Arc::clone(&source.store), prefix: Path::default() };
    let engine = Engine::new(&lake, 1 << 30, 2, 1).unwrap();
    let columns = ArrowSchemaConverter::new().convert(&source.schema).unwrap().root_schema_ptr();
    let mut file = SerializedFileWriter::new(vec![], columns, Arc::default()).unwrap();
    let encoders = Arc::new(ArrowRowGroupWriterFactory::new(&file, Arc::clone(&source.schema)));
    for piece in pieces {
        let chunks = source.chunks(&engine, Arc::clone(&encoders), piece).await.unwrap();
        let Chunks::Cut(chunks) = chunks else { panic!("a piece that is not cut") };
        let mut group = file.next_row_group().unwrap();
        chunks.into_iter().for_each(|chunk| chunk.append_to(&mut group).unwrap());
        group.close().unwrap();
    }
    let file = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.into_inner().unwrap())).unwrap();
    let batches = file.build().unwrap().map(Result::unwrap);
    batches.flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[tokio::test]
async fn a_dictionary_is_fetched_for_the_pages_that_need_it_and_for_others_if_the_file_tells_it_wrong() {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..300_000));
    let batch = RecordBatch::try_from_iter_with_nullable([("n", numbers, true)]).unwrap();
    // it is given up in the first pages
    let properties = WriterProperties::builder().set_dictionary_page_size_limit(50_000);
    let source = written(&batch, properties.set_max_row_group_row_count(None).build()).await;
    let counts = source.footer.row_group(0).column(0).page_encoding_stats().unwrap();
    let with_dictionary: i32 = counts.iter().filter(|pages| pages::is_of_dictionary(pages)).map(|of| of.count).sum();
    assert!((1..5).contains(&with_dictionary), "{counts:?}");
    let (dead, living) = (RoaringTreemap::from([7, 299_000]), (0..300_000).filter(|row| ![7, 299_000].contains(row)));
    let living: Vec<i64> = living.collect();
    for (told, fetched) in [(with_dictionary, [true, false]), (0, [false; 2]), (1_000, [true; 2])] {
        let source = telling(&source, told);
        let pieces = source.pieces(&dead);
        let has_dictionary = [&pieces[0], &pieces[pieces.len() - 1]].map(|piece| {
            let Piece::Cut(rows) = piece else { panic!("{piece:?}") };
            source.ranges(rows, pages::needs_dictionary).len() == 2
        });
        assert_eq!(has_dictionary, fetched, "{told} pages");
        assert!(cut(&source, pieces).await == living, "{told} pages");
    }
}

#[tokio::test]
async fn a_row_group_as_large_as_ours_are_stays_in_one_however_large_its_dictionaries_are() {
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values((0..60_000).map(|row| row * 7919 % 60_000)));
    let columns = (0..120).map(|column| (format!("c{column}"), Arc::clone(&numbers), true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    assert!(batch.get_array_memory_size() < write::row_group_bytes());
    let source = written(&batch, write::properties(&[]).build()).await;
    let encoded = source.footer.row_group(0).total_byte_size();
    assert!(encoded as usize > write::row_group_bytes() / 4 * 5, "{encoded} bytes");
    let [Piece::Cut(rows)] = &source.pieces(&[7].into())[..] else { panic!("more than one piece") };
    assert_eq!(rows.count(), 60_000);
}

#[tokio::test]
async fn a_piece_without_a_living_row_is_none() {
    let source = source().await;
    let dead: RoaringTreemap = (0..300_000).collect();
    assert_eq!(source.pieces(&dead), [Piece::Copy { group: 1 }]);
    let dead = (5..600_000).collect();
    let [Piece::Cut(rows)] = &source.pieces(&dead)[..] else { panic!("more than one piece") };
    assert_eq!(read(&source, rows).await, [0, 1, 2, 3, 4]);
}
