//! Record batches in, rows of a table out.

use super::*;
use crate::dms::mappings::Mappings;
use crate::dms::shape::{Described, Of};
use crate::name::TableName;
use crate::schema::TableSchema;
use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt8Array,
    UInt64Array,
};
use arrow::datatypes::{Field, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};

fn column(name: &str, sql_type: &str, nullable: bool) -> Column {
    Column { name: name.into(), sql_type: sql_type.parse().unwrap(), nullable }
}

fn convert(
    column: &Column,
    values: &ArrayRef,
    operations: &[Operation],
) -> std::result::Result<(ArrayRef, u64), Mismatch> {
    let datetime = DatetimeAs::default();
    converted(ColumnValues::new(column, datetime), datetime, values, operations)
}

/// Each value as text.
fn shown_values(array: &ArrayRef) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let texts = ArrayFormatter::try_new(array.as_ref(), &options).unwrap();
    (0..array.len()).map(|row| texts.value(row).to_string()).collect()
}

fn check(sql_type: &str, values: impl Array + 'static, expected: &[&str]) {
    let column = column("c", sql_type, true);
    let operations = vec![Operation::Insert; values.len()];
    let values: ArrayRef = Arc::new(values);
    let (array, _) = convert(&column, &values, &operations).unwrap();
    assert_eq!(*array.data_type(), column.sql_type.arrow(DatetimeAs::default()), "{sql_type}");
    assert_eq!(shown_values(&array), expected, "{sql_type}");
}

fn refuse(sql_type: &str, nullable: bool, values: impl Array + 'static, expected: &str) {
    let operations = vec![Operation::Insert; values.len()];
    let values: ArrayRef = Arc::new(values);
    match convert(&column("c", sql_type, nullable), &values, &operations) {
        Err(Mismatch::Value { row, value, reason }) => {
            assert_eq!(format!("{row}: {} {reason}", value.unwrap_or_default()), expected);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_keep_their_value() {
    check("BIGINT UNSIGNED", UInt64Array::from(vec![Some(u64::MAX), None]), &["18446744073709551615", "NULL"]);
    check("SMALLINT", Int32Array::from(vec![-32768]), &["-32768"]);
    check("MEDIUMINT", Int32Array::from(vec![8_388_607]), &["8388607"]);
    check("YEAR", Int32Array::from(vec![2024]), &["2024"]);
    let prices = || Decimal128Array::from(vec![Some(1250)]).with_precision_and_scale(10, 2).unwrap();
    check("DECIMAL(12,4)", prices(), &["12.5000"]);
    check("DECIMAL(10,1)", prices(), &["12.5"]);
    check("DECIMAL(40,3)", prices(), &["12.500"]);
    check("FLOAT", Float64Array::from(vec![f64::from(32.38f32)]), &["32.38"]);
    check("TINYINT(1)", BooleanArray::from(vec![true, false]), &["1", "0"]);
}

#[test]
fn bits_are_booleans_numbers_or_bytes() {
    check("BIT(1)", BooleanArray::from(vec![true, false]), &["true", "false"]);
    check("BIT(1)", Int32Array::from(vec![1, 0]), &["true", "false"]);
    check("BIT(8)", UInt8Array::from(vec![10]), &["10"]);
    check("BIT(12)", BinaryArray::from(vec![&b"\x0f\xff"[..]]), &["4095"]);
    check("BIT(64)", BinaryArray::from(vec![&b"\x0a"[..]]), &["000000000000000a"]);
    refuse("BIT(3)", true, UInt8Array::from(vec![10]), "0: a does not fit BIT(3)");
}

#[test]
fn a_value_that_does_not_fit_is_named() {
    refuse("TINYINT", true, Int32Array::from(vec![1, 128]), "1: 128 does not fit TINYINT");
    refuse("INT UNSIGNED", true, Int64Array::from(vec![-1]), "0: -1 does not fit INT UNSIGNED");
    refuse("BIGINT UNSIGNED", true, Int64Array::from(vec![-1]), "0: -1 does not fit BIGINT UNSIGNED");
    refuse("MEDIUMINT", true, Int32Array::from(vec![8_388_608]), "0: 8388608 does not fit MEDIUMINT");
    refuse("INT", false, Int32Array::from(vec![Some(1), None]), "1:  has no value and is INT NOT NULL");
    let price = || Decimal128Array::from(vec![1255]).with_precision_and_scale(10, 2).unwrap();
    refuse("DECIMAL(10,1)", true, price(), "0: 12.55 has digits after its point that do not fit DECIMAL(10,1)");
    refuse("DECIMAL(3,2)", true, price(), "0: 12.55 does not fit DECIMAL(3,2)");
    refuse("FLOAT", true, Float64Array::from(vec![1e39]), "0: 1e39 does not fit FLOAT");
    refuse("DOUBLE", true, Float64Array::from(vec![f64::NAN]), "0: NaN is not a DOUBLE");
    refuse("DATE", true, StringArray::from(vec!["2024-02-30"]), "0: 2024-02-30 is not a DATE that exists");
    refuse("DATE", true, Date32Array::from(vec![2_932_897]), "0: +10000-01-01 is not a DATE");
    refuse("TEXT", true, BinaryArray::from(vec![&b"a\xff"[..]]), "0: a\u{fffd} is not UTF-8");
}

#[test]
fn times_are_those_of_the_file() {
    let time = || TimestampMillisecondArray::from(vec![1_718_188_097_806]).with_timezone("UTC");
    check("DATETIME(3)", time(), &["2024-06-12T10:28:17.806"]);
    let values: ArrayRef = Arc::new(time());
    let (moments, _) = convert(&column("c", "TIMESTAMP", true), &values, &[Operation::Insert]).unwrap();
    let expected = TimestampMicrosecondArray::from(vec![1_718_188_097_806_000]).with_timezone("UTC");
    assert_eq!(moments.as_primitive::<TimestampMicrosecondType>(), &expected);
    check("DATETIME", TimestampNanosecondArray::from(vec![1_000]), &["1970-01-01T00:00:00.000001"]);
    refuse(
        "DATETIME",
        true,
        TimestampNanosecondArray::from(vec![1]),
        "0: 1970-01-01 00:00:00.000000001 has digits after its point that do not fit DATETIME",
    );
    check("TIME(6)", Time64MicrosecondArray::from(vec![3_723_000_001]), &["01:02:03.000001"]);
    check("TIME", StringArray::from(vec!["-838:59:59"]), &["-838:59:59"]);
    check("DATE", Date32Array::from(vec![19_886]), &["2024-06-12"]);
    let values: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![i64::MAX]));
    assert!(convert(&column("c", "DATETIME", true), &values, &[Operation::Insert]).is_err());
}

#[test]
fn text_and_bytes_are_told_from_null() {
    check("VARCHAR(9)", StringArray::from(vec![Some(""), None, Some("é")]), &["", "NULL", "é"]);
    check("VARCHAR(9)", BinaryArray::from(vec![Some("é".as_bytes()), None]), &["é", "NULL"]);
    check("VARBINARY(9)", BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None]), &["00ff", "NULL"]);
    check("VARBINARY(9)", StringArray::from(vec!["ab"]), &["6162"]);
    check("BINARY(4)", BinaryArray::from(vec![&b"\xab\xcd"[..]]), &["abcd0000"]);
    check("INT", StringArray::from(vec!["-7"]), &["-7"]);
    check("TEXT", Int32Array::from(vec![-7]), &["-7"]);
}

#[test]
fn a_null_in_a_date_that_is_not_null_is_a_zero_date() {
    let values: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), None, None]));
    let operations = [Operation::Insert, Operation::Update, Operation::Delete];
    let (_, zero_dates) = convert(&column("c", "DATE", false), &values, &operations).unwrap();
    assert_eq!(zero_dates, 1);
}

/// A table with an `id` that is the key, and a `name`.
fn shape() -> Shape {
    Shape::of(TableSchema {
        columns: vec![column("id", "INT", false), column("name", "TEXT", true)],
        primary_key: vec!["id".into()],
    })
}

fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    let fields = columns.iter().map(|(name, values)| Field::new(*name, values.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.iter().map(|(_, values)| Arc::clone(values)).collect()).unwrap()
}

fn ints(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

fn words(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn read(settings: &S3Settings, kind: FileKind, shape: Shape, batch: &RecordBatch) -> Result<Rows, String> {
    let reader = TypedReader::new(&batch.schema(), settings, kind, Arc::new(shape), &[0], DatetimeAs::default());
    let mut reader = reader.map_err(|error| error.to_string())?.with_commit_times();
    reader.take(batch.clone());
    reader.rows().map(Option::unwrap).map_err(|error| error.to_string())
}

#[test]
fn columns_are_found_by_their_names() {
    use Operation::{Delete, Insert, Update};
    let settings = S3Settings { timestamp_column_name: Some("ts".into()), ..S3Settings::default() };
    let file = batch(&[
        ("Op", words(&[Some("I"), Some("U"), Some("D")])),
        ("ts", words(&[Some("2024-06-12 10:28:17.000001"); 3])),
        ("NAME", words(&[Some("a"), Some("b"), None])),
        ("id", ints(&[1, 2, 3])),
    ]);
    let rows = read(&settings, FileKind::Changes, shape(), &file).unwrap();
    assert_eq!(rows.operations, [Insert, Update, Delete]);
    assert_eq!(shown_values(rows.columns.column(0)), ["1", "2", "3"]);
    assert_eq!(shown_values(rows.columns.column(1)), ["a", "b", "NULL"]);
    assert_eq!(shown_values(&rows.commit_times.unwrap())[0], "2024-06-12T10:28:17.000001Z");
}

#[test]
fn a_load_may_lack_the_operation_and_columns_that_can_be_null() {
    let file = batch(&[("id", ints(&[1]))]);
    for include_op_for_full_load in [false, true] {
        let settings = S3Settings { include_op_for_full_load, ..S3Settings::default() };
        let rows = read(&settings, FileKind::Load, shape(), &file).unwrap();
        assert_eq!((rows.operations[0], rows.columns.column(1).null_count()), (Operation::Insert, 1));
    }
}

#[test]
fn what_does_not_fit_the_table_is_said() {
    let refused = |kind, columns: &[(&str, ArrayRef)], expected: &str| {
        let error = read(&S3Settings::default(), kind, shape(), &batch(columns)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    let (load, changes) = (FileKind::Load, FileKind::Changes);
    refused(load, &[("name", words(&[None]))], "\"id\" is missing; the file has name; the table has id, name");
    let unknown = [("id", ints(&[1])), ("new", ints(&[1]))];
    refused(load, &unknown, "\"new\" is no column of the table; the file has id, new");
    refused(load, &unknown, "by its type in the file it is `new` INT");
    refused(changes, &[("id", ints(&[1]))], "Op is expected as its first column");
    let operation = |letter| [("Op", words(&[letter])), ("id", ints(&[1]))];
    refused(changes, &operation(Some("X")), "record 1: column Op: \"X\" is an unknown operation; I, U and D are known");
    refused(changes, &operation(None), "record 1: column Op: \"NULL\" is an unknown operation");
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1, 1 << 40]));
    refused(load, &[("id", wide)], "record 2: column id: \"1099511627776\" does not fit INT");
    let nested = Int32Array::from(vec![1]);
    let list = arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([Some([Some(1)])]);
    refused(load, &[("id", Arc::new(nested)), ("name", Arc::new(list))], "column name has the type List(");
}

#[test]
fn before_images_tell_the_updates_that_changed_a_key() {
    let rules = r#"{"rules": [
        {"rule-type": "selection", "rule-action": "include", "object-locator": {"schema-name": "%", "table-name": "%"}},
        {"rule-type": "transformation", "rule-target": "column", "rule-action": "add-before-image-columns",
         "object-locator": {"schema-name": "%", "table-name": "%"},
         "before-image-def": {"column-prefix": "old_", "column-filter": "pk-only"}}]}"#;
    let rules = Mappings::parse(rules).unwrap().rules(&TableName::new("s", "t"));
    let settings = S3Settings { data_format: crate::dms::names::DataFormat::Parquet, ..S3Settings::default() };
    let schema = shape().schema;
    let described =
        Described { schema: &schema, of: Of::Source, key: &[], generated: &[], chars: None, lobs: None, wanted: &[] };
    let shape = Shape::new(&rules, &described, &settings).unwrap();
    let file = batch(&[
        ("Op", words(&[Some("U"), Some("U"), Some("U")])),
        ("id", ints(&[1, 2, 3])),
        ("name", words(&[None, None, None])),
        ("old_id", Arc::new(Int32Array::from(vec![Some(1), Some(7), None]))),
    ]);
    let old_keys = read(&settings, FileKind::Changes, shape, &file).unwrap().old_keys.unwrap();
    assert_eq!((old_keys.rows, shown_values(old_keys.keys.column(0))), (vec![1], vec!["7".to_owned()]));
}

#[test]
fn bad_records_are_set_apart_and_the_others_keep_their_numbers() {
    let file = batch(&[
        ("Op", words(&[Some("I"), Some("I"), Some("X"), Some("I"), Some("D")])),
        ("id", Arc::new(Int64Array::from(vec![1, 1 << 40, 3, 4, 1 << 41]))),
        ("name", words(&[Some("a"), None, Some("c"), Some("d"), None])),
    ]);
    let (settings, shape) = (S3Settings::default(), Arc::new(shape()));
    let reader = TypedReader::new(&file.schema(), &settings, FileKind::Changes, shape, &[0], DatetimeAs::default());
    let mut reader = reader.unwrap().setting_bad_apart();
    reader.take(file);
    let mut good = Vec::new();
    while let Some(rows) = reader.rows().unwrap() {
        let ids = shown_values(rows.columns.column(0));
        good.extend(ids.into_iter().enumerate().map(|(row, id)| (rows.record(row), id)));
    }
    assert_eq!(good, [(1, "1".to_owned()), (4, "4".to_owned())]);
    let mut bad = reader.take_bad();
    bad.sort_by_key(|bad| bad.record);
    let told = bad.iter().map(|bad| (bad.record, bad.column.as_deref().unwrap()));
    assert_eq!(told.collect::<Vec<_>>(), [(2, "id"), (3, "Op"), (5, "id")]);
    assert_eq!(str::from_utf8(&bad[0].raw).unwrap(), r#"{"Op":"I","id":1099511627776,"name":null}"#);
    assert_eq!(reader.records(), 5);
}

#[test]
fn a_zero_date_in_a_key_is_named() {
    let shape = Shape::of(TableSchema { columns: vec![column("d", "DATE", false)], primary_key: vec!["d".into()] });
    let file = batch(&[("d", Arc::new(Date32Array::from(vec![Some(1), None])))]);
    let error = read(&S3Settings::default(), FileKind::Load, shape, &file).unwrap_err();
    assert!(error.starts_with("record 2: column d is a zero date"), "{error}");
}

#[test]
fn integers_that_a_double_rounds_are_refused() {
    check("DOUBLE", Int64Array::from(vec![Some(9_007_199_254_740_992), None]), &["9007199254740992.0", "NULL"]);
    refuse(
        "DOUBLE",
        true,
        Int64Array::from(vec![1, 9_007_199_254_740_993]),
        "1: 9007199254740993 is no DOUBLE that is exactly the same",
    );
    refuse("FLOAT", true, Int32Array::from(vec![16_777_217]), "0: 16777217 is no FLOAT that is exactly the same");
}
