//! The `S3Settings` of the endpoint that wrote the files, as DMS itself takes and prints them.
//!
//! A setting that changes the files is either carried out or refused by its name: to ignore one would give wrong rows.

mod given;

use std::collections::BTreeMap;

use serde_json::Value;

pub(crate) use given::Member;

use super::folders::Folders;
use super::names::DataFormat;

/// The settings of an S3 target endpoint that decide how its files are read.
///
/// The defaults are those of DMS (API reference, `S3Settings`), except for CsvNullValue, where its documents disagree
/// and real files have an empty field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct S3Settings {
    /// IncludeOpForFullLoad: records of a full load begin with the operation, too.
    pub include_op_for_full_load: bool,
    /// CdcInsertsOnly and CdcInsertsAndUpdates: which changes are written at all.
    pub changes: WrittenChanges,
    /// CsvDelimiter: the byte between two fields.
    pub csv_delimiter: u8,
    /// CsvRowDelimiter: what ends a record.
    pub csv_row_delimiter: RowDelimiter,
    /// CsvNullValue: the text that stands for NULL; `None` is the empty field.
    pub csv_null_value: Option<String>,
    /// CsvNoSupValue, where UseCsvNoSupValue is true: the text of a value in a change that the source's log does not
    /// tell, so that an update leaves it as it was.
    pub csv_no_sup_value: Option<String>,
    /// Rfc4180: fields with delimiters in them are quoted; otherwise a quote is a character like any other.
    pub rfc4180: bool,
    /// AddColumnName: every file begins with a header.
    pub add_column_name: bool,
    /// TimestampColumnName: the name of the column for the time of commit, if there is one.
    pub timestamp_column_name: Option<String>,
    /// DataFormat. Each file is read by its name whatever this says.
    pub data_format: DataFormat,
    /// CompressionType. Files are unpacked by their names whatever this says.
    pub compression_type: CompressionType,
    /// AddTrailingPaddingCharacter: values of `CHAR` columns are filled up with spaces.
    pub add_trailing_padding_character: bool,
    /// MaxFileSize of a file of the full load, in KB (1,024 bytes).
    pub max_file_size: u64,
    /// Where change files lie.
    pub folders: Folders,
    /// What a person should know: members that DMS does not have, and changes that it leaves out.
    pub warnings: Vec<String>,
    /// Those of them about members that DMS does not have.
    pub unknown: Vec<String>,
    /// All members, by their names in lower case.
    pub given: BTreeMap<String, Value>,
}

/// Which changes DMS writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WrittenChanges {
    /// Inserts, updates and deletes.
    All,
    /// Inserts alone (CdcInsertsOnly).
    Inserts,
    /// Inserts and updates (CdcInsertsAndUpdates).
    InsertsAndUpdates,
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
            changes: WrittenChanges::All,
            csv_delimiter: b',',
            csv_row_delimiter: RowDelimiter::Byte(b'\n'),
            csv_null_value: None,
            csv_no_sup_value: None,
            rfc4180: true,
            add_column_name: false,
            timestamp_column_name: None,
            data_format: DataFormat::Csv,
            compression_type: CompressionType::None,
            add_trailing_padding_character: false,
            max_file_size: 1_048_576,
            folders: Folders::default(),
            warnings: Vec::new(),
            unknown: Vec::new(),
            given: BTreeMap::new(),
        }
    }
}

impl S3Settings {
    /// Reads the endpoint's `S3Settings`, alone or in any of the wrappings `{"S3Settings": ...}`,
    /// `{"Endpoint": {"S3Settings": ...}}` and `{"Endpoints": [{"S3Settings": ...}]}` with a single endpoint of S3, or as the
    /// resource of a CloudFormation template. Booleans and numbers may be strings, as the console writes them. The endpoint's
    /// extra connection attributes say what its S3Settings leave open.
    ///
    /// # Errors
    /// If the text is no such JSON, a value is not allowed, or a member that changes the files is not carried out.
    pub fn parse(json: &str) -> Result<Self, SettingsError> {
        let value: Value = serde_json::from_str(json.trim_start_matches('\u{feff}'))?;
        Self::of(given::members(&value).ok_or(SettingsError::Shape)?)
    }

    fn of(members: Vec<Member>) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        let mut no_sup = NoSup::default();
        for member in &members {
            if !settings.take(member, &mut no_sup)? {
                settings.unknown.push(member.not_known()?);
            }
        }
        if !members.is_empty() && settings.unknown.len() == members.len() {
            return Err(SettingsError::Shape);
        }
        settings.warnings.extend(settings.unknown.iter().cloned());
        settings.given = members.into_iter().map(|member| (member.plain, member.value)).collect();
        // without a text for it, DMS writes such a value as NULL
        settings.csv_no_sup_value = no_sup.value.filter(|_| no_sup.used);
        settings.check()?;
        settings.warnings.extend(settings.left_out());
        settings.folders = settings.folders.finished(settings.add_column_name)?;
        Ok(settings)
    }

    /// Whether every file names its columns. All tables' changes are in CSV without a header.
    pub fn names_columns(&self) -> bool {
        self.add_column_name || self.data_format == DataFormat::Parquet && self.folders.cdc_path.is_none()
    }

    /// What DMS does not write, in words.
    fn left_out(&self) -> Option<String> {
        match self.changes {
            WrittenChanges::All => None,
            WrittenChanges::Inserts => Some(
                "S3 setting CdcInsertsOnly = true: DMS writes no updates and no deletes, so rows that the source has \
                 changed or deleted stay as they were inserted"
                    .to_owned(),
            ),
            WrittenChanges::InsertsAndUpdates => Some(
                "S3 setting CdcInsertsAndUpdates = true: DMS writes no deletes, so rows that the source has deleted stay"
                    .to_owned(),
            ),
        }
    }

    fn check(&self) -> Result<(), SettingsError> {
        if self.rfc4180 && (self.csv_delimiter == b'"' || self.csv_row_delimiter.has(b'"')) {
            return Err(self.delimiters("a delimiter must not be the quote while Rfc4180 is true"));
        }
        if self.csv_row_delimiter.has(self.csv_delimiter) {
            return Err(self.delimiters("it must differ from CsvRowDelimiter"));
        }
        match &self.csv_no_sup_value {
            Some(value) if self.csv_null_value.as_ref() == Some(value) => Err(SettingsError::Value {
                member: "CsvNoSupValue".to_owned(),
                value: format!("{value:?}"),
                reason: "it is CsvNullValue too, so NULL cannot be told from a value that was left out".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn delimiters(&self, reason: &str) -> SettingsError {
        let value = format!("{:?}", char::from(self.csv_delimiter));
        SettingsError::Value { member: "CsvDelimiter".to_owned(), value, reason: reason.to_owned() }
    }

    /// Takes one member in, if it is known.
    fn take(&mut self, member: &Member, no_sup: &mut NoSup) -> Result<bool, SettingsError> {
        if self.folders.take(member)? {
            return Ok(true);
        }
        match member.plain.as_str() {
            "includeopforfullload" => self.include_op_for_full_load = member.boolean()?,
            "csvdelimiter" => self.csv_delimiter = member.one_byte()?,
            "csvrowdelimiter" if member.unescaped()? == "\r\n" => self.csv_row_delimiter = RowDelimiter::CrLf,
            "csvrowdelimiter" => self.csv_row_delimiter = RowDelimiter::Byte(member.one_byte()?),
            "csvnullvalue" => self.csv_null_value = member.text_unless_empty()?,
            "usecsvnosupvalue" => no_sup.used = member.boolean()?,
            "csvnosupvalue" => no_sup.value = member.text_unless_empty()?,
            "cdcinsertsonly" => self.write_only(WrittenChanges::Inserts, member)?,
            "cdcinsertsandupdates" => self.write_only(WrittenChanges::InsertsAndUpdates, member)?,
            "addtrailingpaddingcharacter" => self.add_trailing_padding_character = member.boolean()?,
            "rfc4180" => self.rfc4180 = member.boolean()?,
            "addcolumnname" => self.add_column_name = member.boolean()?,
            "timestampcolumnname" => self.timestamp_column_name = member.text_unless_empty()?,
            "dataformat" => self.data_format = member.format()?,
            "compressiontype" => self.compression_type = member.compression()?,
            "maxfilesize" => self.max_file_size = member.number()?,
            other => match changes_files(other) {
                Some((default, way_out)) => member.refuse_unless(default, way_out)?,
                None => return Ok(given::LEAVE_FILES.contains(&other)),
            },
        }
        Ok(true)
    }

    /// Whether the settings say so, instead of leaving it to DMS's default.
    pub fn says(&self, name: &str) -> bool {
        self.given.contains_key(&name.to_ascii_lowercase())
    }

    fn write_only(&mut self, changes: WrittenChanges, member: &Member) -> Result<(), SettingsError> {
        if !member.boolean()? {
            return Ok(());
        }
        if self.changes != WrittenChanges::All {
            return Err(member.wrong("CdcInsertsOnly and CdcInsertsAndUpdates exclude each other"));
        }
        self.changes = changes;
        Ok(())
    }
}

/// The two members that say how a value is written that the source's log does not tell.
#[derive(Default)]
struct NoSup {
    used: bool,
    value: Option<String>,
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
    Empty,
    Zero,
}

/// The members that change the files and are not carried out: their harmless value, and what to do otherwise.
fn changes_files(lower_name: &str) -> Option<(Harmless, &'static str)> {
    Some(match lower_name {
        "ignoreheaderrows" => (Harmless::Zero, "it belongs to a source endpoint; give the settings of the S3 target"),
        "externaltabledefinition" => {
            (Harmless::Empty, "it belongs to a source endpoint; give the settings of the S3 target")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
