//! Settings in, what they mean out.

use super::*;
use proptest::prelude::*;

fn parsed(json: &str) -> S3Settings {
    S3Settings::parse(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn refused(json: &str, expected: &str) {
    let error = S3Settings::parse(json).unwrap_err().to_string();
    assert!(error.contains(expected), "{json}: {error}");
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(parsed("{}"), S3Settings::default());
}

#[test]
fn what_dms_prints_is_read_in_any_wrapping() {
    let plain = r#"{"ServiceAccessRoleArn": "arn:aws:iam::1:role/r", "CsvRowDelimiter": "\\n", "CsvDelimiter": "|",
        "BucketName": "b", "CompressionType": "GZIP", "EncryptionMode": "SSE_S3", "EnableStatistics": true,
        "IncludeOpForFullLoad": true, "CdcInsertsOnly": false, "TimestampColumnName": "ts", "MaxFileSize": "2048",
        "AddColumnName": "TRUE", "Rfc4180": "false", "CsvNullValue": "NULL", "DatePartitionEnabled": false,
        "DatePartitionTimezone": "Europe/Berlin", "CdcPath": null, "DataFormat": "csv", "IgnoreHeaderRows": 0}"#;
    let expected = S3Settings {
        include_op_for_full_load: true,
        csv_delimiter: b'|',
        csv_null_value: Some("NULL".into()),
        rfc4180: false,
        add_column_name: true,
        timestamp_column_name: Some("ts".into()),
        compression_type: CompressionType::Gzip,
        max_file_size: 2048,
        given: parsed(plain).given,
        ..S3Settings::default()
    };
    assert_eq!(parsed(plain), expected);
    assert_eq!(parsed(&format!(r#"{{"S3Settings": {plain}}}"#)), expected);
    assert_eq!(parsed(&format!(r#"{{"Endpoint": {{"EngineName": "s3", "S3Settings": {plain}}}}}"#)), expected);
    assert_eq!(parsed(&format!(r#"{{"Endpoints": [{{"S3Settings": {plain}}}]}}"#)), expected);
}

#[test]
fn delimiters_are_one_byte_or_cr_lf() {
    assert_eq!(parsed(r#"{"CsvDelimiter": "\t"}"#).csv_delimiter, b'\t');
    assert_eq!(parsed(r#"{"CsvDelimiter": "\\t"}"#).csv_delimiter, b'\t');
    assert_eq!(parsed(r#"{"CsvRowDelimiter": "\\r\\n"}"#).csv_row_delimiter, RowDelimiter::CrLf);
    refused(r#"{"CsvDelimiter": "||"}"#, "CsvDelimiter = \"||\"");
    refused(r#"{"CsvDelimiter": "¦"}"#, "more than one byte");
    refused(r#"{"CsvRowDelimiter": ""}"#, "empty");
    refused(r#"{"CsvDelimiter": "\n"}"#, "differ");
    refused(r#"{"CsvDelimiter": "\""}"#, "quote");
}

#[test]
fn what_changes_the_files_and_is_not_carried_out_is_refused_by_name() {
    refused(r#"{"IgnoreHeaderRows": 1}"#, "IgnoreHeaderRows");
}

#[test]
fn parquet_files_name_their_columns_and_tell_how_they_are_encoded() {
    let parquet = parsed(
        r#"{"DataFormat": "Parquet", "ParquetVersion": "PARQUET_2_0", "EncodingType": "plain", "DictPageSizeLimit": 1024,
        "RowGroupLength": 10024, "DataPageSize": 1024, "EnableStatistics": false, "ParquetTimestampInMillisecond": true}"#,
    );
    let given = parquet.given.clone();
    assert_eq!(parquet, S3Settings { data_format: DataFormat::Parquet, given, ..S3Settings::default() });
    assert!(parquet.names_columns() && !parsed("{}").names_columns());
    let transactions = r#"{"DataFormat": "parquet", "PreserveTransactions": true, "CdcPath": "all"}"#;
    assert!(!parsed(transactions).names_columns());
    refused(r#"{"DataFormat": "orc"}"#, "csv or parquet");
}

#[test]
fn changes_that_are_not_written_are_a_warning() {
    let inserts = parsed(r#"{"CdcInsertsOnly": true}"#);
    assert_eq!(inserts.changes, WrittenChanges::Inserts);
    assert!(inserts.warnings[0].contains("no updates and no deletes"), "{:?}", inserts.warnings);
    let upserts = parsed(r#"{"cdcInsertsAndUpdates": "true", "CdcInsertsOnly": false}"#);
    assert_eq!(upserts.changes, WrittenChanges::InsertsAndUpdates);
    assert!(upserts.warnings[0].contains("no deletes"), "{:?}", upserts.warnings);
    assert_eq!(parsed("{}").changes, WrittenChanges::All);
    refused(r#"{"CdcInsertsOnly": true, "CdcInsertsAndUpdates": true}"#, "exclude each other");
}

#[test]
fn a_text_for_values_that_are_left_out_counts_only_where_it_is_used() {
    let value = |json: &str| parsed(json).csv_no_sup_value;
    assert_eq!(value(r#"{"UseCsvNoSupValue": true, "CsvNoSupValue": "?"}"#).as_deref(), Some("?"));
    assert_eq!(value(r#"{"CsvNoSupValue": "?"}"#), None);
    assert_eq!(value(r#"{"UseCsvNoSupValue": true}"#), None);
    refused(r#"{"UseCsvNoSupValue": true, "CsvNoSupValue": "-", "CsvNullValue": "-"}"#, "CsvNullValue too");
}

#[test]
fn a_wrong_value_is_named() {
    refused(r#"{"Rfc4180": "yes"}"#, "Rfc4180 = \"yes\": it must be true or false");
    refused(r#"{"CompressionType": "ZSTD"}"#, "NONE or GZIP");
    refused("[]", "not the JSON object");
    refused("{", "not JSON");
    refused(r#"{"Endpoint": {"EngineName": "mysql"}}"#, "not the JSON object");
    refused(r#"{"Endpoints": [{"S3Settings": {}}, {"S3Settings": {}}]}"#, "not the JSON object");
    refused(r#"{"S3Settings": 1}"#, "not the JSON object");
}

#[test]
fn a_member_that_is_not_known_is_a_warning() {
    let settings = parsed(r#"{"CsvQuote": "'", "Rfc4180": true}"#);
    assert_eq!(settings.warnings, ["S3 setting CsvQuote = \"'\" is not known and was ignored"]);
    assert_eq!(settings.unknown, settings.warnings);
    refused(r#"{"CsvQuote": "'"}"#, "not the JSON object");
}

#[test]
fn a_misspelled_member_is_refused() {
    refused(
        r#"{"CsvNulValue": "NULL", "Rfc4180": true}"#,
        "CsvNulValue = \"NULL\": there is no such setting; is csvnullvalue meant?",
    );
    for known in given::TAKEN.iter().chain(&given::LEAVE_FILES) {
        // one that is not taken would be said to be no setting
        match S3Settings::parse(&format!("{{\"{known}\": \"x\", \"Rfc4180\": true}}")) {
            Ok(settings) => assert_eq!(settings.unknown, [""; 0], "{known}"),
            Err(error) => assert!(!error.to_string().contains("no such setting"), "{error}"),
        }
    }
}

#[test]
fn other_spellings_and_wrappings_say_the_same() {
    let same = [
        r#"{"CsvNullValue": "NULL", "AddColumnName": "y"}"#,
        r#"{"csv_null_value": "NULL", "add_column_name": true}"#,
        r#"{"s3Settings": {"csvNullValue": "NULL", "addColumnName": true}}"#,
        r#"{"Type": "AWS::DMS::Endpoint", "Properties": {"S3Settings": {"CsvNullValue": "NULL", "AddColumnName": true}}}"#,
        r#"{"Endpoint": {"EndpointType": "TARGET", "ExtraConnectionAttributes": "csvNullValue=NULL;addColumnName=true;",
            "S3Settings": {"csvDelimiter": ","}}}"#,
        r#"{"Endpoints": [{"EndpointType": "SOURCE", "S3Settings": {}}, {"ExtraConnectionAttributes": "csvNullValue=x",
            "S3Settings": {"csvNullValue": "NULL", "AddColumnName": true}}]}"#,
    ];
    for json in same {
        let settings = parsed(json);
        assert_eq!((settings.csv_null_value.as_deref(), settings.add_column_name), (Some("NULL"), true), "{json}");
        assert!(settings.says("CsvNullValue") && !settings.says("CsvRowDelimiter"), "{json}");
    }
    refused(r#"{"Endpoint": {"EndpointType": "SOURCE", "S3Settings": {}}}"#, "not the JSON object");
}

proptest! {
    #[test]
    fn any_text_gives_settings_or_an_error(
        text in ".*|\\{\"(Csv(Row)?Delimiter|CsvNullValue|Rfc4180|MaxFileSize)\": (\".*\"|1|-1|true|\\[\\])\\}",
    ) {
        let _ = S3Settings::parse(&text);
    }
}
