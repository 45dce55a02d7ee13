//! Any column in, as writers write it; its living rows out, with sound statistics and indexes.

use std::cmp::Ordering;

use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::scalar::ScalarValue;
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use deltalake::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use deltalake::parquet::basic::BoundaryOrder;
use deltalake::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use deltalake::parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use deltalake::parquet::file::statistics::Statistics;
use deltalake::parquet::file::writer::SerializedFileWriter;
use proptest::collection::vec;
use proptest::{option, prelude::*};

use super::*;

/// A column of every form: `numbers` as values of the type, in their order where `long` is not set.
fn column(data_type: &DataType, numbers: &[Option<u16>], long: bool) -> ArrayRef {
    let text = |number: u16| {
        if long { format!("{}{number}", "longer than bounds may be ".repeat(4)) } else { format!("é{number:04}") }
    };
    let number = |number: u16| i64::from(number) - 500;
    let numbers = numbers.iter().copied();
    match data_type {
        DataType::Int32 => Arc::new(numbers.map(|n| n.map(|n| number(n) as i32)).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(numbers.map(|n| n.map(|n| number(n) << 40)).collect::<Int64Array>()),
        DataType::Date32 => Arc::new(numbers.map(|n| n.map(|n| number(n) as i32)).collect::<Date32Array>()),
        DataType::Timestamp(..) => {
            Arc::new(numbers.map(|n| n.map(|n| number(n) * 86_399_999_999)).collect::<TimestampMicrosecondArray>())
        }
        DataType::Decimal128(precision, scale) => {
            let decimals = numbers.map(|n| n.map(|n| i128::from(number(n)) * 1000)).collect::<Decimal128Array>();
            Arc::new(decimals.with_precision_and_scale(*precision, *scale).unwrap())
        }
        DataType::Utf8 => Arc::new(numbers.map(|n| n.map(text)).collect::<StringArray>()),
        DataType::Binary => Arc::new(numbers.map(|n| n.map(|n| text(n).into_bytes())).collect::<BinaryArray>()),
        DataType::Float32 => Arc::new(numbers.map(|n| n.map(|n| number(n) as f32 + 0.5)).collect::<Float32Array>()),
        DataType::Float64 => {
            Arc::new(numbers.map(|n| n.map(|n| number(n) as f64 / 3.0 + 0.5)).collect::<Float64Array>())
        }
        _ => Arc::new(numbers.map(|n| n.map(|n| n % 2 == 0)).collect::<BooleanArray>()),
    }
}

fn file(values: &ArrayRef, nullable: bool, properties: WriterProperties) -> (Bytes, ParquetMetaData) {
    let schema = Schema::new(vec![Field::new("v", values.data_type().clone(), nullable)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::clone(values)]).unwrap();
    let mut writer = ArrowWriter::try_new(vec![], batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let bytes = Bytes::from(writer.into_inner().unwrap());
    let metadata = opened(&bytes).metadata().as_ref().clone();
    (bytes, metadata)
}

fn opened(bytes: &Bytes) -> ParquetRecordBatchReaderBuilder<Bytes> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options).unwrap()
}

/// The column of a file, and the file's bytes.
fn cut(bytes: &Bytes, metadata: &ParquetMetaData, living: &Living) -> Result<Option<Bytes>> {
    let group = metadata.row_group(0);
    let column = Column {
        metadata: group.column(0),
        places: metadata.offset_index().map(|index| &index[0][0]),
        index: metadata.column_index().map(|index| &index[0][0]),
        rows: group.num_rows() as usize,
    };
    let Some(chunk) = column.cut(&Stretches::one(0, bytes.clone()), living, None, &mut Codec::new())? else {
        return Ok(None);
    };
    let schema = metadata.file_metadata().schema_descr().root_schema_ptr();
    let mut writer = SerializedFileWriter::new(vec![], schema, Arc::default())?;
    let mut group = writer.next_row_group()?;
    chunk.append_to(&mut group)?;
    group.close()?;
    Ok(Some(writer.into_inner()?.into()))
}

/// The rows of `bytes` are `expected`, and lie within all bounds that are told of them.
fn check(bytes: &Bytes, expected: &ArrayRef) {
    let reader = opened(bytes);
    let (metadata, schema) = (Arc::clone(reader.metadata()), Arc::clone(reader.schema()));
    let read = reader.with_batch_size(usize::MAX >> 1).build().unwrap().next().unwrap().unwrap();
    assert_eq!(read.column(0), expected);
    let group = metadata.row_group(0);
    let converter = StatisticsConverter::try_new("v", &schema, metadata.file_metadata().schema_descr()).unwrap();
    let nulls = converter.row_group_null_counts([group]).unwrap();
    assert_eq!(nulls.value(0), expected.null_count() as u64);
    let bounds = (converter.row_group_mins([group]).unwrap(), converter.row_group_maxes([group]).unwrap());
    let statistics = group.column(0).statistics().unwrap();
    let exact = (statistics.min_is_exact(), statistics.max_is_exact());
    assert_within(expected, &bounds, 0, exact);
    check_pages(&metadata, group, &converter, expected);
}

fn check_pages(
    metadata: &ParquetMetaData,
    group: &RowGroupMetaData,
    converter: &StatisticsConverter<'_>,
    expected: &ArrayRef,
) {
    let places = metadata.offset_index().unwrap();
    let firsts: Vec<_> = places[0][0].page_locations().iter().map(row_of).chain([expected.len()]).collect();
    assert_eq!(firsts.first(), Some(&0));
    let Some(index) = metadata.column_index().filter(|index| index[0][0].get_boundary_order().is_some()) else {
        return;
    };
    let bounds = (
        converter.data_page_mins(index, places, [&0]).unwrap(),
        converter.data_page_maxes(index, places, [&0]).unwrap(),
    );
    let nulls = converter.data_page_null_counts(index, places, [&0]).unwrap();
    for (page, rows) in firsts.windows(2).enumerate() {
        let of_page = expected.slice(rows[0], rows[1] - rows[0]);
        assert_eq!(nulls.value(page), of_page.null_count() as u64);
        assert_within(&of_page, &bounds, page, (false, false));
    }
    let ends: Vec<_> =
        (0..firsts.len() - 1).map(|page| [&bounds.0, &bounds.1].map(|ends| scalar(ends, page))).collect();
    let ends: Vec<_> = ends.into_iter().filter(|ends| !ends[0].is_null()).collect();
    let wrong = match index[0][0].get_boundary_order() {
        Some(BoundaryOrder::ASCENDING) => Some(Ordering::Greater),
        Some(BoundaryOrder::DESCENDING) => Some(Ordering::Less),
        _ => None,
    };
    let order = |pages: &[[ScalarValue; 2]], end: usize| pages[0][end].partial_cmp(&pages[1][end]);
    assert!(ends.windows(2).all(|pages| (0..2).all(|end| wrong.is_none() || order(pages, end) != wrong)), "{ends:?}");
    assert_eq!(group.num_rows() as usize, expected.len());
}

fn scalar(array: &ArrayRef, row: usize) -> ScalarValue {
    ScalarValue::try_from_array(array, row).unwrap()
}

fn assert_within(values: &ArrayRef, (mins, maxes): &(ArrayRef, ArrayRef), number: usize, exact: (bool, bool)) {
    let values: Vec<_> = (0..values.len()).filter(|row| values.is_valid(*row)).map(|row| scalar(values, row)).collect();
    let (min, max) = (scalar(mins, number), scalar(maxes, number));
    if values.is_empty() || min.is_null() {
        assert_eq!(exact, (false, false));
        return;
    }
    assert!(values.iter().all(|value| min.partial_cmp(value).is_some_and(Ordering::is_le)), "{min} of {values:?}");
    assert!(values.iter().all(|value| max.partial_cmp(value).is_some_and(Ordering::is_ge)), "{max} of {values:?}");
    assert!(!exact.0 || values.contains(&min), "{min} of {values:?}");
    assert!(!exact.1 || values.contains(&max), "{max} of {values:?}");
}

fn of_pages(rows: usize) -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_data_page_row_count_limit(rows)
        .set_write_batch_size(rows)
        .set_offset_index_disabled(false)
}

const UNDERSTOOD: [DataType; 11] = [
    DataType::Int32,
    DataType::Int64,
    DataType::Date32,
    DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, None),
    DataType::Decimal128(9, 2),
    DataType::Decimal128(18, 2),
    DataType::Decimal128(30, 5),
    DataType::Float32,
    DataType::Float64,
    DataType::Utf8,
    DataType::Binary,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn living_rows_come_out_as_they_were(
        data_type in prop::sample::select(UNDERSTOOD.to_vec()),
        numbers in vec(option::weighted(0.9, prop_oneof![0..3_u16, 0..1000_u16]), 1..400),
        (nullable, sorted, long, dictionary) in any::<(bool, bool, bool, bool)>(),
        compression in prop::sample::select(vec![Compression::SNAPPY, Compression::UNCOMPRESSED]),
        statistics in prop::sample::select(vec![EnabledStatistics::Page, EnabledStatistics::Chunk, EnabledStatistics::None]),
        (page, without_places) in (1_usize..100, any::<bool>()),
        dictionary_bytes in prop::sample::select(vec![20_usize, 100, 10_000]),
        (from, to) in (0_usize..400, 0_usize..400),
        dead in prop_oneof![vec(0_usize..400, 0..3), vec(0_usize..400, 0..300)],
    ) {
        let mut numbers = numbers;
        if !nullable {
            numbers.iter_mut().for_each(|number| *number = Some(number.unwrap_or(7)));
        }
        if sorted {
            numbers.sort();
        }
        let values = column(&data_type, &numbers, long);
        let properties = of_pages(page)
            .set_compression(compression)
            .set_dictionary_enabled(dictionary)
            .set_dictionary_page_size_limit(dictionary_bytes)
            .set_statistics_enabled(statistics)
            .set_offset_index_disabled(without_places && statistics != EnabledStatistics::Page)
            .build();
        let (bytes, metadata) = file(&values, nullable, properties);
        let range = from.min(to).min(values.len() - 1)..from.max(to).min(values.len() - 1) + 1;
        let mut dead: Vec<_> = dead.into_iter().filter(|row| range.contains(row)).collect();
        dead.sort_unstable();
        dead.dedup();
        let rows: Vec<_> = range.clone().filter(|row| !dead.contains(row)).collect();
        if !rows.is_empty() {
            let bytes = cut(&bytes, &metadata, &Living { range, dead }).unwrap().unwrap();
            let rows = UInt32Array::from_iter_values(rows.into_iter().map(|row| row as u32));
            check(&bytes, &take(&values, &rows, None).unwrap());
        }
    }
}

#[test]
fn a_page_that_loses_no_row_is_taken_as_it_is_compressed() {
    let numbers: Vec<_> = (0..1000).map(Some).collect();
    let values = column(&DataType::Utf8, &numbers, true);
    let properties = of_pages(100).set_compression(Compression::SNAPPY).set_dictionary_enabled(false).build();
    let (bytes, metadata) = file(&values, true, properties);
    let new = cut(&bytes, &metadata, &Living { range: 0..1000, dead: vec![350, 999] }).unwrap().unwrap();
    let pages = |bytes: &Bytes| -> Vec<Bytes> {
        let metadata = Arc::clone(opened(bytes).metadata());
        let places = metadata.offset_index().unwrap()[0][0].page_locations();
        let page = |place: &PageLocation| {
            let start = place.offset as usize;
            bytes.slice(start..start + place.compressed_page_size as usize)
        };
        places.iter().map(page).collect()
    };
    let same: Vec<_> = pages(&bytes).into_iter().zip(pages(&new)).map(|(old, new)| old == new).collect();
    assert_eq!(same, [true, true, true, false, true, true, true, true, true, false]);
}

#[test]
fn rows_come_out_of_large_pages_again_and_again() {
    let numbers: Vec<_> = (0..40_000_u32).map(|row| (row % 17 > 0).then_some((row * row % 997) as u16)).collect();
    for (data_type, nullable) in UNDERSTOOD.into_iter().zip([true, false].into_iter().cycle()) {
        let numbers: Vec<_> =
            numbers.iter().map(|number| if nullable { *number } else { number.or(Some(7)) }).collect();
        let mut values = column(&data_type, &numbers, false);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).set_dictionary_enabled(false);
        let (mut bytes, _) = file(&values, nullable, properties.build());
        for round in 1..4 {
            let dead: Vec<_> = (0..values.len()).filter(|row| row % (211 * round) == 5).collect();
            let living =
                UInt32Array::from_iter_values((0..values.len() as u32).filter(|row| !dead.contains(&(*row as usize))));
            let metadata = Arc::clone(opened(&bytes).metadata());
            bytes = cut(&bytes, &metadata, &Living { range: 0..values.len(), dead }).unwrap().unwrap();
            values = take(&values, &living, None).unwrap();
            check(&bytes, &values);
        }
    }
}

#[test]
fn what_is_not_understood_is_left_to_others() {
    let numbers: Vec<_> = (0..100).map(Some).collect();
    let plain = || WriterProperties::builder().set_dictionary_enabled(false);
    let cases = [
        (DataType::Boolean, plain()),
        (DataType::Int64, plain().set_compression(Compression::ZSTD(Default::default()))),
        (DataType::Int64, plain().set_encoding(Encoding::DELTA_BINARY_PACKED)),
        (DataType::Int64, plain().set_writer_version(WriterVersion::PARQUET_2_0)),
    ];
    for (data_type, properties) in cases {
        let (bytes, metadata) = file(&column(&data_type, &numbers, false), true, properties.build());
        assert!(cut(&bytes, &metadata, &Living { range: 0..100, dead: vec![7] }).unwrap().is_none(), "{data_type}");
    }
}

#[test]
fn the_bounds_of_floating_numbers_pass_over_nan_and_are_zeros_of_the_wider_sign() {
    const NAN: f64 = f64::NAN;
    let (zero, negative) = (Some(0.0_f64), Some(-0.0_f64));
    let cases = [
        (vec![NAN, 0.0, 1.0, NAN, 2.0], 4, (negative, Some(1.0))),
        (vec![-2.0, -0.0, NAN, -1.0], 0, (Some(-1.0), zero)),
        (vec![-0.0, 7.0], 1, (negative, zero)),
        (vec![-1.0, NAN, 0.5, 1.0], 1, (Some(-1.0), Some(1.0))),
        (vec![NAN, 3.0, NAN], 1, (None, None)),
    ];
    for ((numbers, dead, expected), dictionary) in
        cases.into_iter().flat_map(|case| [(case.clone(), true), (case, false)])
    {
        let values: ArrayRef = Arc::new(Float64Array::from(numbers.clone()));
        let properties = WriterProperties::builder().set_dictionary_enabled(dictionary).build();
        let (bytes, metadata) = file(&values, true, properties);
        let new = cut(&bytes, &metadata, &Living { range: 0..numbers.len(), dead: vec![dead] }).unwrap().unwrap();
        let new = opened(&new);
        let Some(Statistics::Double(found)) = new.metadata().row_group(0).column(0).statistics() else { panic!() };
        let bits = |number: Option<f64>| number.map(f64::to_bits);
        let found = (bits(found.min_opt().copied()), bits(found.max_opt().copied()));
        assert_eq!(found, (bits(expected.0), bits(expected.1)), "{numbers:?} without {dead}");
    }
}

#[test]
fn a_damaged_page_gives_rows_or_an_error() {
    let numbers: Vec<_> = (0..2000).map(|number| Some(number % 100)).collect();
    for data_type in UNDERSTOOD {
        for dictionary in [true, false] {
            let properties = of_pages(500).set_compression(Compression::SNAPPY).set_dictionary_enabled(dictionary);
            let (bytes, metadata) = file(&column(&data_type, &numbers, false), true, properties.build());
            let (start, length) = metadata.row_group(0).column(0).byte_range();
            for (at, bits) in (start..start + length).step_by(5).zip([0x55, 0xD5].into_iter().cycle()) {
                let mut bytes = bytes.to_vec();
                bytes[at as usize] ^= bits;
                // what it gives is not looked at: a panic is what must not be
                let _ = cut(&bytes.into(), &metadata, &Living { range: 0..2000, dead: vec![7, 600, 1999] });
            }
        }
    }
}
