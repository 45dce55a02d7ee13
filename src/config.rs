//! `lakemerge.toml` as it is typed: strings and options, checked for spelling only. What it means is a [`Job`].
//!
//! [`Job`]: crate::job::Job

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::environment;
use crate::error::{Error, Result};

/// The whole file. Relative paths in it are relative to its folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(skip)]
    pub folder: PathBuf,
    pub source: Source,
    pub lake: Lake,
    #[serde(default)]
    pub run: Run,
    pub mysql: Option<Server>,
    pub capture: Option<Capture>,
    #[serde(default, rename = "table")]
    pub tables: Vec<Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub kind: SourceKind,
    pub url: String,
    pub s3_settings: Option<PathBuf>,
    pub table_mappings: Option<PathBuf>,
    pub task_settings: Option<PathBuf>,
    pub on_bad_record: Option<OnBadRecord>,
    pub on_vanished: Option<OnVanished>,
    pub on_ddl: Option<OnDdl>,
    pub on_type_change: Option<OnTypeChange>,
    pub late_window: Option<String>,
    pub raw_retention: Option<String>,
    pub server_id: Option<u32>,
    pub tls: Option<Tls>,
    pub tls_ca: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lake {
    pub url: String,
    pub table_type: Option<TableType>,
    pub datetime: Option<Datetime>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub memory_limit: Option<String>,
    pub batch_bytes: Option<String>,
    pub parallelism: Option<Parallelism>,
    pub maintenance: Option<Maintenance>,
}

/// `[mysql]`: the server that `verify` and `check` of a DMS job ask.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    pub url: String,
    pub s3_settings: Option<PathBuf>,
}

/// `[[table]]`: what is said of one table, over what is said of all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub name: String,
    pub key: Option<Vec<String>>,
    pub schema: Option<String>,
    #[serde(default)]
    pub partition_by: Vec<String>,
    #[serde(default)]
    pub metadata_columns: Vec<String>,
    pub delete: Option<Delete>,
    pub table_type: Option<TableType>,
    pub datetime: Option<Datetime>,
    pub on_bad_record: Option<OnBadRecord>,
    pub on_vanished: Option<OnVanished>,
    pub on_ddl: Option<OnDdl>,
    pub on_type_change: Option<OnTypeChange>,
}

/// An option that is one of a few words in the file.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ })+) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
        pub enum $name { $(#[serde(rename = $word)] $variant),+ }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
    )+ };
}

words! {
    SourceKind { Dms = "dms", Mysql = "mysql" }
    /// What to do with a record that cannot be read.
    OnBadRecord { Stop = "stop", Quarantine = "quarantine" }
    /// What to do when raw files of a table are gone: a source TRUNCATE deletes them.
    OnVanished { Stop = "stop", Truncate = "truncate", Keep = "keep" }
    OnDdl { Stop = "stop", Resnapshot = "resnapshot" }
    OnTypeChange { Stop = "stop", Rewrite = "rewrite" }
    Tls { Required = "required", VerifyIdentity = "verify-identity", Disabled = "disabled" }
    TableType { CopyOnWrite = "copy-on-write", MergeOnRead = "merge-on-read" }
    Datetime { TimestampNtz = "timestamp_ntz", Timestamp = "timestamp" }
    Maintenance { Auto = "auto", Off = "off" }
    Delete { Hard = "hard", Soft = "soft" }
}

/// `"auto"` or a number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Parallelism {
    Number(usize),
    Word(String),
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// A usage error that names the file, the line and the key.
    pub fn read(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::usage(format!("{}: {e}; name the configuration with --config FILE", path.display())))?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
        Config::parse(&text, folder, environment::variable).map_err(|e| e.at(path.display()))
    }

    fn parse(text: &str, folder: PathBuf, environment: impl Fn(&str) -> Option<String>) -> Result<Config> {
        let mut values: toml::Table = toml::from_str(text).map_err(Error::usage)?;
        for (_, value) in &mut values {
            expand(value, "", &environment)?;
        }
        let config = values.try_into::<Config>().map_err(|error| {
            // only of the text itself an error can show the line
            let of_text = toml::from_str::<Config>(text).err();
            Error::usage(of_text.filter(|error| !error.message().contains("${")).unwrap_or(error))
        })?;
        Ok(Config { folder, ..config })
    }
}

/// Puts environment variables into every string of `value`, after parsing: a value cannot change the file's structure.
fn expand(value: &mut toml::Value, key: &str, environment: &impl Fn(&str) -> Option<String>) -> Result<()> {
    match value {
        toml::Value::String(text) => *text = expand_text(text, key == "url", environment)?,
        toml::Value::Array(items) => {
            for item in items {
                expand(item, key, environment)?;
            }
        }
        toml::Value::Table(entries) => {
            for (key, entry) in entries.iter_mut() {
                expand(entry, key, environment)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Replaces each `${NAME}`. In a URL's user or password the value is percent-encoded, so that `@` or `/` in a password
/// stays part of it.
fn expand_text(text: &str, is_url: bool, environment: &impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else {
            return Err(Error::usage(format!("{text:?}: ${{ without a closing brace")));
        };
        let value = environment(name)
            .ok_or_else(|| Error::usage(format!("{text:?}: the environment variable {name} is not set")))?;
        out.push_str(before);
        let in_authority = is_url && out.contains("://") && tail.contains('@');
        if in_authority {
            out.extend(percent_encoded(&value))
        } else {
            out.push_str(&value)
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn percent_encoded(value: &str) -> impl Iterator<Item = char> + '_ {
    value.bytes().flat_map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => vec![char::from(byte)],
        _ => format!("%{byte:02X}").chars().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, PathBuf::from("."), |name| (name == "PW").then(|| "p@ss/word".to_string()))
    }

    const LEAST: &str = "[source]\nkind = \"dms\"\nurl = \"raw\"\n[lake]\nurl = \"lake\"\n";

    #[test]
    fn an_unknown_key_is_an_error_that_shows_its_line() {
        let error = parse(&LEAST.replace("[lake]", "[lake]\ntabel_type = 1")).unwrap_err().to_string();
        assert!(error.contains("tabel_type") && error.contains("line 5"), "{error}");
    }

    #[test]
    fn a_password_is_percent_encoded_in_a_url_and_nowhere_else() {
        let config =
            parse(&format!("{LEAST}[mysql]\nurl = \"mysql://me:${{PW}}@host/\"\n[[table]]\nname = \"a.${{PW}}\""));
        let config = config.unwrap();
        assert_eq!(config.mysql.unwrap().url, "mysql://me:p%40ss%2Fword@host/");
        assert_eq!(config.tables[0].name, "a.p@ss/word");
    }

    #[test]
    fn a_word_may_come_from_a_variable() {
        let expanded = |word: &str| {
            let text = LEAST.replace("[lake]", "[lake]\ntable_type = \"${TYPE}\"");
            Config::parse(&text, PathBuf::from("."), |_| Some(word.to_string()))
        };
        assert!(expanded("merge-on-read").is_ok());
        let error = expanded("mor").unwrap_err().to_string();
        assert!(error.contains("`mor`"), "{error}");
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = parse(&LEAST.replace("\"lake\"", "\"${NOWHERE}\"")).unwrap_err().to_string();
        assert!(error.contains("NOWHERE is not set"), "{error}");
    }
}
