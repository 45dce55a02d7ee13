//! The `S3Settings` of the endpoint that wrote the files, as DMS itself takes and prints them.
//!
//! A setting that changes the files is either carried out or refused by its name: to ignore one would give wrong rows.

use serde_json::{Map, Value};

use super::folders::Folders;

/// The settings of an S3 target endpoint that decide how its files are read.
///
/// The defaults are those of DMS (API reference, `S3Settings`), except for CsvNullValue, where its documents disagree
/// and real files have an empty field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct S3Settings {
    /// IncludeOpForFullLoad: records of a full load begin with the operation, too.
    pub include_op_for_full_load: bool,
    /// CsvDelimiter: the byte between two fields.
    pub csv_delimiter: u8,
    /// CsvRowDelimiter: what ends a record.
    pub csv_row_delimiter: RowDelimiter,
    /// CsvNullValue: the text that stands for NULL; `None` is the empty field.
    pub csv_null_value: Option<String>,
    /// Rfc4180: fields with delimiters in them are quoted; otherwise a quote is a character like any other.
    pub rfc4180: bool,
    /// AddColumnName: every file begins with a header.
    pub add_column_name: bool,
    /// TimestampColumnName: the name of the column for the time of commit, if there is one.
    pub timestamp_column_name: Option<String>,
    /// CompressionType. Files are unpacked by their names whatever this says.
    pub compression_type: CompressionType,
    /// MaxFileSize of a file of the full load, in KB (1,024 bytes).
    pub max_file_size: u64,
    /// Where change files lie.
    pub folders: Folders,
    /// What was seen and not understood, for a person to read: members that DMS does not have.
    pub warnings: Vec<String>,
}

/// What ends a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowDelimiter {
    /// One byte.
    Byte(u8),
    /// A carriage return and a line feed.
    CrLf,
}

/// How DMS packs the files that it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompressionType {
    /// Not at all.
    None,
    /// With gzip.
    Gzip,
}

/// Why endpoint settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The text is no JSON.
    #[error("the S3 settings are not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The JSON is no object.
    #[error("the S3 settings are not the JSON object S3Settings of one S3 endpoint; give them as DMS prints them")]
    Shape,
    /// A member has a value that DMS does not allow.
    #[error("S3 setting {member} = {value}: {reason}")]
    Value {
        /// The member's name.
        member: String,
        /// Its value as JSON.
        value: String,
        /// What it should be.
        reason: String,
    },
    /// A member changes the files in a way that is not carried out.
    #[error("S3 setting {member} = {value} is not carried out yet: {way_out}")]
    NotYet {
        /// The member's name.
        member: String,
        /// Its value as JSON.
        value: String,
        /// What to do about it.
        way_out: &'static str,
    },
}

impl Default for S3Settings {
    fn default() -> Self {
        Self {
            include_op_for_full_load: false,
            csv_delimiter: b',',
            csv_row_delimiter: RowDelimiter::Byte(b'\n'),
            csv_null_value: None,
            rfc4180: true,
            add_column_name: false,
            timestamp_column_name: None,
            compression_type: CompressionType::None,
            max_file_size: 1_048_576,
            folders: Folders::default(),
            warnings: Vec::new(),
        }
    }
}

impl S3Settings {
    /// Reads the endpoint's `S3Settings`, alone or in any of the wrappings `{"S3Settings": ...}`,
    /// `{"Endpoint": {"S3Settings": ...}}` and `{"Endpoints": [{"S3Settings": ...}]}` with a single endpoint.
    /// Booleans and numbers may be strings, as the console writes them.
    ///
    /// # Errors
    /// If the text is no such JSON, a value is not allowed, or a member that changes the files is not carried out.
    pub fn parse(json: &str) -> Result<Self, SettingsError> {
        let value: Value = serde_json::from_str(json)?;
        let object = unwrapped(&value).and_then(Value::as_object).ok_or(SettingsError::Shape)?;
        Self::of(object)
    }

    fn of(object: &Map<String, Value>) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            settings.take(&Member { name, value })?;
        }
        if settings.rfc4180 && (settings.csv_delimiter == b'"' || settings.csv_row_delimiter.has(b'"')) {
            return Err(settings.delimiters("a delimiter must not be the quote while Rfc4180 is true"));
        }
        if settings.csv_row_delimiter.has(settings.csv_delimiter) {
            return Err(settings.delimiters("it must differ from CsvRowDelimiter"));
        }
        settings.folders = settings.folders.finished(settings.add_column_name)?;
        Ok(settings)
    }

    fn delimiters(&self, reason: &str) -> SettingsError {
        let value = format!("{:?}", char::from(self.csv_delimiter));
        SettingsError::Value { member: "CsvDelimiter".to_owned(), value, reason: reason.to_owned() }
    }

    /// Takes one member in. Names are compared without case: as connection attributes they are in camel case.
    fn take(&mut self, member: &Member<'_>) -> Result<(), SettingsError> {
        if self.folders.take(member)? {
            return Ok(());
        }
        match member.name.to_ascii_lowercase().as_str() {
            "includeopforfullload" => self.include_op_for_full_load = member.boolean()?,
            "csvdelimiter" => self.csv_delimiter = member.one_byte()?,
            "csvrowdelimiter" if member.unescaped()? == "\r\n" => self.csv_row_delimiter = RowDelimiter::CrLf,
            "csvrowdelimiter" => self.csv_row_delimiter = RowDelimiter::Byte(member.one_byte()?),
            "csvnullvalue" => self.csv_null_value = member.text_unless_empty()?,
            "rfc4180" => self.rfc4180 = member.boolean()?,
            "addcolumnname" => self.add_column_name = member.boolean()?,
            "timestampcolumnname" => self.timestamp_column_name = member.text_unless_empty()?,
            "compressiontype" => self.compression_type = member.compression()?,
            "maxfilesize" => self.max_file_size = member.number()?,
            other => match changes_files(other) {
                Some((default, way_out)) => member.refuse_unless(default, way_out)?,
                None if leaves_files(other) => {}
                None => self
                    .warnings
                    .push(format!("S3 setting {} = {} is not known and was ignored", member.name, member.value)),
            },
        }
        Ok(())
    }
}

/// The settings in whatever DMS answered; `None` if it is about another kind of endpoint, or about several.
fn unwrapped(answer: &Value) -> Option<&Value> {
    let endpoint = match answer.get("Endpoints") {
        Some(several) => several.as_array().filter(|endpoints| endpoints.len() == 1)?.first(),
        None => answer.get("Endpoint"),
    };
    match endpoint {
        Some(endpoint) => endpoint.get("S3Settings"),
        None => Some(answer.get("S3Settings").unwrap_or(answer)),
    }
}

impl RowDelimiter {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => own == byte,
            Self::CrLf => matches!(byte, b'\r' | b'\n'),
        }
    }
}

/// The value with which a setting leaves the files as they are.
enum Harmless {
    False,
    Empty,
    Zero,
    Csv,
}

/// The members that change the files and are not carried out: their harmless value, and what to do otherwise.
fn changes_files(lower_name: &str) -> Option<(Harmless, &'static str)> {
    Some(match lower_name {
        "dataformat" => (Harmless::Csv, "let DMS write csv"),
        "cdcinsertsonly" | "cdcinsertsandupdates" => {
            (Harmless::False, "deletes would never arrive; set it to false and reload the tables")
        }
        "usecsvnosupvalue" => {
            (Harmless::False, "missing values would look like values; set it to false and reload the tables")
        }
        "addtrailingpaddingcharacter" => {
            (Harmless::False, "it would add characters to values; set it to false and reload the tables")
        }
        "ignoreheaderrows" => (Harmless::Zero, "it belongs to a source endpoint; give the settings of the S3 target"),
        "externaltabledefinition" => {
            (Harmless::Empty, "it belongs to a source endpoint; give the settings of the S3 target")
        }
        _ => return None,
    })
}

/// The members that decide where and when files are written or concern Parquet, but not what is in CSV files.
fn leaves_files(lower_name: &str) -> bool {
    matches!(
        lower_name,
        "serviceaccessrolearn"
            | "bucketname"
            | "bucketfolder"
            | "expectedbucketowner"
            | "encryptionmode"
            | "serversideencryptionkmskeyid"
            | "cannedaclforobjects"
            | "cdcmaxbatchinterval"
            | "cdcminfilesize"
            | "csvnosupvalue"
            | "encodingtype"
            | "dictpagesizelimit"
            | "datapagesize"
            | "rowgrouplength"
            | "parquetversion"
            | "enablestatistics"
            | "parquettimestampinmillisecond"
            | "gluecatalogdatabasename"
            | "gluecatalogrolearn"
            | "gluecataloggeneration"
            | "usetaskstarttimeforfullloadtimestamp"
    )
}

/// One member of the JSON object.
pub(crate) struct Member<'a> {
    pub name: &'a str,
    value: &'a Value,
}

impl Member<'_> {
    pub fn wrong(&self, reason: &str) -> SettingsError {
        let (member, value) = (self.name.to_owned(), self.value.to_string());
        SettingsError::Value { member, value, reason: reason.to_owned() }
    }

    pub fn boolean(&self) -> Result<bool, SettingsError> {
        match self.value {
            Value::Bool(value) => Ok(*value),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(self.wrong("it must be true or false")),
        }
    }

    fn number(&self) -> Result<u64, SettingsError> {
        let number = self.value.as_u64().or_else(|| self.value.as_str()?.parse().ok());
        number.ok_or_else(|| self.wrong("it must be a whole number"))
    }

    fn text(&self) -> Result<&str, SettingsError> {
        self.value.as_str().ok_or_else(|| self.wrong("it must be a string"))
    }

    pub fn text_unless_empty(&self) -> Result<Option<String>, SettingsError> {
        Ok(Some(self.text()?).filter(|text| !text.is_empty()).map(str::to_owned))
    }

    pub fn one_of(&self, words: &[&str]) -> Result<(), SettingsError> {
        let text = self.text()?;
        match words.iter().any(|word| word.eq_ignore_ascii_case(text)) {
            true => Ok(()),
            false => Err(self.wrong(&format!("it must be one of {}", words.join(", ")))),
        }
    }

    /// The text with `\n`, `\r` and `\t` understood where they were written as two characters.
    fn unescaped(&self) -> Result<String, SettingsError> {
        Ok(self.text()?.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t"))
    }

    fn one_byte(&self) -> Result<u8, SettingsError> {
        match *self.unescaped()?.as_bytes() {
            [byte] => Ok(byte),
            [] => Err(self.wrong("it must not be empty")),
            _ => Err(self.wrong("a delimiter of more than one byte is not carried out; use a single ASCII character")),
        }
    }

    fn compression(&self) -> Result<CompressionType, SettingsError> {
        match self.text()?.to_ascii_uppercase().as_str() {
            "NONE" => Ok(CompressionType::None),
            "GZIP" => Ok(CompressionType::Gzip),
            _ => Err(self.wrong("it must be NONE or GZIP")),
        }
    }

    fn refuse_unless(&self, harmless: Harmless, way_out: &'static str) -> Result<(), SettingsError> {
        let leaves = match harmless {
            Harmless::False => !self.boolean()?,
            Harmless::Empty => self.text()?.is_empty(),
            Harmless::Zero => self.number()? == 0,
            Harmless::Csv => self.text()?.eq_ignore_ascii_case("csv"),
        };
        let (member, value) = (self.name.to_owned(), self.value.to_string());
        if leaves { Ok(()) } else { Err(SettingsError::NotYet { member, value, way_out }) }
    }
}

#[cfg(test)]
mod tests {
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
        refused(r#"{"DataFormat": "parquet"}"#, "DataFormat = \"parquet\"");
        refused(r#"{"CdcInsertsOnly": true}"#, "CdcInsertsOnly = true");
        refused(r#"{"cdcInsertsAndUpdates": "true"}"#, "cdcInsertsAndUpdates = \"true\"");
        refused(r#"{"UseCsvNoSupValue": true}"#, "UseCsvNoSupValue");
        refused(r#"{"AddTrailingPaddingCharacter": true}"#, "AddTrailingPaddingCharacter");
        refused(r#"{"IgnoreHeaderRows": 1}"#, "IgnoreHeaderRows");
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
        assert_eq!(
            parsed(r#"{"CsvQuote": "'"}"#).warnings,
            ["S3 setting CsvQuote = \"'\" is not known and was ignored"]
        );
    }

    proptest! {
        #[test]
        fn any_text_gives_settings_or_an_error(
            text in ".*|\\{\"(Csv(Row)?Delimiter|CsvNullValue|Rfc4180|MaxFileSize)\": (\".*\"|1|-1|true|\\[\\])\\}",
        ) {
            let _ = S3Settings::parse(&text);
        }
    }
}
