//! The members of an endpoint's S3Settings, in whatever form they were given.

use serde_json::Value;

use super::{CompressionType, Harmless, SettingsError};
use crate::dms::names::DataFormat;

/// The members that are carried out or refused, in [plain](plain) form.
pub(super) const TAKEN: [&str; 23] = [
    "includeopforfullload",
    "csvdelimiter",
    "csvrowdelimiter",
    "csvnullvalue",
    "usecsvnosupvalue",
    "csvnosupvalue",
    "cdcinsertsonly",
    "cdcinsertsandupdates",
    "addtrailingpaddingcharacter",
    "rfc4180",
    "addcolumnname",
    "timestampcolumnname",
    "dataformat",
    "compressiontype",
    "maxfilesize",
    "ignoreheaderrows",
    "externaltabledefinition",
    "datepartitionenabled",
    "datepartitionsequence",
    "datepartitiondelimiter",
    "datepartitiontimezone",
    "preservetransactions",
    "cdcpath",
];

/// The members that decide where, when and how files are written but not what is in them; a Parquet file tells itself
/// how it is encoded, and the unit of its times.
pub(super) const LEAVE_FILES: [&str; 20] = [
    "serviceaccessrolearn",
    "bucketname",
    "bucketfolder",
    "expectedbucketowner",
    "encryptionmode",
    "serversideencryptionkmskeyid",
    "cannedaclforobjects",
    "cdcmaxbatchinterval",
    "cdcminfilesize",
    "encodingtype",
    "dictpagesizelimit",
    "datapagesize",
    "rowgrouplength",
    "parquetversion",
    "enablestatistics",
    "parquettimestampinmillisecond",
    "gluecatalogdatabasename",
    "gluecatalogrolearn",
    "gluecataloggeneration",
    "usetaskstarttimeforfullloadtimestamp",
];

/// So many letters of a name may be wrong that is still taken for another.
const MISSPELLED: usize = 2;

/// One member of the JSON object.
pub(crate) struct Member {
    pub name: String,
    /// Its name in [plain](plain) form.
    pub plain: String,
    pub value: Value,
}

/// The members of the settings in whatever DMS answered, or as CloudFormation and Terraform have them; beside them those of
/// the endpoint's extra connection attributes. `None` if it is about another kind of endpoint, or about several of S3.
pub(super) fn members(answer: &Value) -> Option<Vec<Member>> {
    let is_target = |endpoint: &&Value| {
        let kind = member(endpoint, "EndpointType").and_then(Value::as_str);
        kind.is_none_or(|kind| kind.eq_ignore_ascii_case("target"))
    };
    let is_s3 = |endpoint: &&Value| member(endpoint, "S3Settings").is_some() && is_target(endpoint);
    let endpoint = match (member(answer, "Endpoints"), member(answer, "Endpoint").or(member(answer, "Properties"))) {
        // of all endpoints the only one that is S3
        (Some(several), _) => {
            let mut with_s3 = several.as_array()?.iter().filter(is_s3);
            with_s3.next().filter(|_| with_s3.next().is_none())?
        }
        (None, Some(one)) => Some(one).filter(is_s3)?,
        (None, None) => Some(answer).filter(is_target)?,
    };
    let settings = member(endpoint, "S3Settings").unwrap_or(endpoint).as_object()?;
    let told = settings.iter().filter(|(_, value)| !value.is_null());
    let mut members: Vec<_> = told.map(|(name, value)| Member::new(name, value.clone())).collect();
    let attributes = member(endpoint, "ExtraConnectionAttributes").and_then(Value::as_str).unwrap_or_default();
    for (name, value) in attributes.split(';').filter_map(|attribute| attribute.split_once('=')) {
        let attribute = Member::new(name.trim(), Value::String(value.to_owned()));
        if members.iter().all(|member| member.plain != attribute.plain) {
            members.push(attribute);
        }
    }
    members.retain(|member| member.plain != "extraconnectionattributes");
    Some(members)
}

/// The member of `object` with this name in any spelling.
fn member<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let name = plain(name);
    object.as_object()?.iter().find(|(key, _)| plain(key) == name).map(|(_, value)| value)
}

/// A name without case and underscores: DMS's is in Pascal case, connection attributes are in camel case, and Terraform
/// has underscores.
fn plain(name: &str) -> String {
    name.chars().filter(|letter| *letter != '_').map(|letter| letter.to_ascii_lowercase()).collect()
}

impl Member {
    fn new(name: &str, value: Value) -> Member {
        Member { name: name.to_owned(), plain: plain(name), value }
    }

    /// That it is not known.
    ///
    /// # Errors
    /// If its name is nearly that of one that is, which then is what was meant.
    pub fn not_known(&self) -> Result<String, SettingsError> {
        let is_meant = |known: &&&str| strsim::damerau_levenshtein(&self.plain, known) <= MISSPELLED;
        match TAKEN.iter().chain(&LEAVE_FILES).find(is_meant) {
            Some(known) => Err(self.wrong(&format!("there is no such setting; is {known} meant?"))),
            None => Ok(format!("S3 setting {} = {} is not known and was ignored", self.name, self.value)),
        }
    }

    pub fn wrong(&self, reason: &str) -> SettingsError {
        let (member, value) = (self.name.to_owned(), self.value.to_string());
        SettingsError::Value { member, value, reason: reason.to_owned() }
    }

    pub fn boolean(&self) -> Result<bool, SettingsError> {
        match &self.value {
            Value::Bool(value) => Ok(*value),
            // AddColumnName may also be y or n (DMS API reference, S3Settings)
            Value::String(text) if ["true", "y"].iter().any(|yes| text.eq_ignore_ascii_case(yes)) => Ok(true),
            Value::String(text) if ["false", "n"].iter().any(|no| text.eq_ignore_ascii_case(no)) => Ok(false),
            _ => Err(self.wrong("it must be true or false")),
        }
    }

    pub fn number(&self) -> Result<u64, SettingsError> {
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
    pub fn unescaped(&self) -> Result<String, SettingsError> {
        Ok(self.text()?.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t"))
    }

    pub fn one_byte(&self) -> Result<u8, SettingsError> {
        match *self.unescaped()?.as_bytes() {
            [byte] => Ok(byte),
            [] => Err(self.wrong("it must not be empty")),
            _ => Err(self.wrong("a delimiter of more than one byte is not carried out; use a single ASCII character")),
        }
    }

    pub fn format(&self) -> Result<DataFormat, SettingsError> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "csv" => Ok(DataFormat::Csv),
            "parquet" => Ok(DataFormat::Parquet),
            _ => Err(self.wrong("it must be csv or parquet")),
        }
    }

    pub fn compression(&self) -> Result<CompressionType, SettingsError> {
        match self.text()?.to_ascii_uppercase().as_str() {
            "NONE" => Ok(CompressionType::None),
            "GZIP" => Ok(CompressionType::Gzip),
            _ => Err(self.wrong("it must be NONE or GZIP")),
        }
    }

    pub(super) fn refuse_unless(&self, harmless: Harmless, way_out: &'static str) -> Result<(), SettingsError> {
        let leaves = match harmless {
            Harmless::Empty => self.text()?.is_empty(),
            Harmless::Zero => self.number()? == 0,
        };
        let (member, value) = (self.name.to_owned(), self.value.to_string());
        if leaves { Ok(()) } else { Err(SettingsError::NotYet { member, value, way_out }) }
    }
}
