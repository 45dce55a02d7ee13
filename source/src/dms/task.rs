//! The settings of a DMS task, as far as they decide what of the source reaches its files.
//!
//! They change nothing in how files are read, so nothing here is refused: what loses rows or values is for a person to
//! know.

use serde_json::Value;

/// What a task's settings say of its files (DMS, "Specifying task settings").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskSettings {
    /// TargetMetadata: what becomes of LOB columns.
    pub lobs: Lobs,
    /// TargetMetadata.BatchApplyEnabled.
    pub batch_apply: bool,
    /// FullLoadSettings.TargetTablePrepMode is DO_NOTHING: a load leaves the files of an earlier one where they are.
    pub keeps_old_files: bool,
    /// ChangeProcessingDdlHandlingPolicy.HandleSourceTableTruncated: a TRUNCATE deletes the table's files.
    pub hands_on_truncates: bool,
    /// ChangeProcessingDdlHandlingPolicy.HandleSourceTableDropped: a DROP TABLE deletes the table's files.
    pub hands_on_drops: bool,
    /// ChangeProcessingDdlHandlingPolicy.HandleSourceTableAltered: columns that the source adds come to the files.
    pub hands_on_alters: bool,
    /// The members of ErrorBehavior that leave out a record which DMS cannot handle.
    pub ignored_errors: Vec<&'static str>,
}

/// What becomes of the values of LOB columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lobs {
    /// They are left out.
    LeftOut,
    /// They are cut at this many KB.
    Limited(u64),
    /// They come whole, in full LOB mode, which an S3 target does not support.
    Full,
}

/// Why task settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The text is no JSON.
    #[error("the task settings are not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The JSON is no object of task settings.
    #[error("the task settings are not the JSON of one task's settings; give them as DMS prints them")]
    Shape,
    /// A member has a value that DMS does not allow.
    #[error("task setting {member} = {value}: it must be {wanted}")]
    Value {
        /// The member's name with its section.
        member: String,
        /// Its value as JSON.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

/// LobMaxSize where the settings do not say it, in KB.
pub const LOB_MAX_SIZE: u64 = 32;

/// The sections that settings have, of which something is read or the presence tells that they are settings.
const SECTIONS: [&str; 14] = [
    "TargetMetadata",
    "FullLoadSettings",
    "Logging",
    "ControlTablesSettings",
    "StreamBufferSettings",
    "ChangeProcessingDdlHandlingPolicy",
    "ErrorBehavior",
    "ChangeProcessingTuning",
    "ValidationSettings",
    "CharacterSetSettings",
    "BeforeImageSettings",
    "PostProcessingRules",
    "LoopbackPreventionSettings",
    "TTSettings",
];

impl TaskSettings {
    /// Reads a task's settings, alone or as `aws dms describe-replication-tasks` prints them, where they are a string
    /// of JSON. What is not said has DMS's default.
    ///
    /// # Errors
    /// If the text is no such JSON, or a member that matters has a value of another kind.
    pub fn parse(json: &str) -> Result<Self, TaskError> {
        let value: Value = serde_json::from_str(json)?;
        let settings = member_of_task(&value, "ReplicationTaskSettings")?.ok_or(TaskError::Shape)?;
        let sections = settings.as_object().ok_or(TaskError::Shape)?;
        if !sections.is_empty() && !SECTIONS.iter().any(|section| sections.contains_key(*section)) {
            return Err(TaskError::Shape);
        }
        let of = |section, member| Member { section, member, value: settings.get(section).and_then(|s| s.get(member)) };
        let (metadata, ddl) = ("TargetMetadata", "ChangeProcessingDdlHandlingPolicy");
        let lobs = if !of(metadata, "SupportLobs").boolean(true)? {
            Lobs::LeftOut
        } else if of(metadata, "FullLobMode").boolean(false)? {
            Lobs::Full
        } else {
            Lobs::Limited(of(metadata, "LobMaxSize").number(LOB_MAX_SIZE)?)
        };
        let ignores = |member: &&'static str| of("ErrorBehavior", member).is("IGNORE_RECORD");
        let prepares = of("FullLoadSettings", "TargetTablePrepMode");
        Ok(Self {
            lobs,
            batch_apply: of(metadata, "BatchApplyEnabled").boolean(false)?,
            keeps_old_files: prepares.value.is_none() || prepares.is("DO_NOTHING"),
            hands_on_truncates: of(ddl, "HandleSourceTableTruncated").boolean(true)?,
            hands_on_drops: of(ddl, "HandleSourceTableDropped").boolean(true)?,
            hands_on_alters: of(ddl, "HandleSourceTableAltered").boolean(true)?,
            ignored_errors: ["DataErrorPolicy", "DataTruncationErrorPolicy"].into_iter().filter(ignores).collect(),
        })
    }
}

/// What DMS answered about a task, or the `member` of it alone: in answers it is a string of JSON. `None` if the answer is
/// about several tasks.
pub(super) fn member_of_task(answer: &Value, member: &str) -> Result<Option<Value>, serde_json::Error> {
    let one = |name: &str| answer.get(name);
    let task = match one("ReplicationTasks").or_else(|| one("ReplicationConfigs")) {
        Some(several) => several.as_array().filter(|tasks| tasks.len() == 1).and_then(|tasks| tasks.first()),
        None => Some(one("ReplicationTask").or_else(|| one("ReplicationConfig")).unwrap_or(answer)),
    };
    let Some(task) = task else { return Ok(None) };
    // of DMS Serverless
    let other_name = if member == "ReplicationTaskSettings" { "ReplicationSettings" } else { member };
    match task.get(member).or_else(|| task.get(other_name)).unwrap_or(task) {
        Value::String(text) => serde_json::from_str(text).map(Some),
        value => Ok(Some(value.clone())),
    }
}

/// One member of a section, if it is there.
struct Member<'a> {
    section: &'a str,
    member: &'a str,
    value: Option<&'a Value>,
}

impl Member<'_> {
    fn boolean(&self, default: bool) -> Result<bool, TaskError> {
        match self.value {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(other) => Err(self.wrong(other, "true or false")),
        }
    }

    fn number(&self, default: u64) -> Result<u64, TaskError> {
        match self.value {
            None | Some(Value::Null) => Ok(default),
            Some(value) => {
                let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
                number.ok_or_else(|| self.wrong(value, "a whole number"))
            }
        }
    }

    fn is(&self, word: &str) -> bool {
        self.value.and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case(word))
    }

    fn wrong(&self, value: &Value, wanted: &'static str) -> TaskError {
        TaskError::Value { member: format!("{}.{}", self.section, self.member), value: value.to_string(), wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_said_is_the_default() {
        let expected = TaskSettings {
            lobs: Lobs::Limited(32),
            batch_apply: false,
            keeps_old_files: true,
            hands_on_truncates: true,
            hands_on_drops: true,
            hands_on_alters: true,
            ignored_errors: vec![],
        };
        assert_eq!(TaskSettings::parse("{}").unwrap(), expected);
    }

    const SETTINGS: &str = r#"{"TargetMetadata": {"SupportLobs": true, "LobMaxSize": "64", "BatchApplyEnabled": true},
        "FullLoadSettings": {"TargetTablePrepMode": "DROP_AND_CREATE"},
        "ChangeProcessingDdlHandlingPolicy": {"HandleSourceTableTruncated": false, "HandleSourceTableAltered": "false"},
        "ErrorBehavior": {"DataErrorPolicy": "IGNORE_RECORD", "DataTruncationErrorPolicy": "LOG_ERROR"}}"#;

    #[test]
    fn what_dms_prints_is_read_in_any_wrapping() {
        let expected = TaskSettings {
            lobs: Lobs::Limited(64),
            batch_apply: true,
            keeps_old_files: false,
            hands_on_truncates: false,
            hands_on_drops: true,
            hands_on_alters: false,
            ignored_errors: vec!["DataErrorPolicy"],
        };
        let text = serde_json::to_string(SETTINGS).unwrap();
        for wrapped in [
            SETTINGS.to_owned(),
            format!(r#"{{"ReplicationTaskSettings": {text}}}"#),
            format!(r#"{{"ReplicationTasks": [{{"Status": "running", "ReplicationTaskSettings": {text}}}]}}"#),
            format!(r#"{{"ReplicationConfigs": [{{"ReplicationSettings": {text}, "TableMappings": "{{}}"}}]}}"#),
        ] {
            assert_eq!(TaskSettings::parse(&wrapped).unwrap(), expected, "{wrapped}");
        }
    }

    #[test]
    fn lobs_come_whole_cut_or_not_at_all() {
        let lobs = |metadata: &str| TaskSettings::parse(&format!(r#"{{"TargetMetadata": {metadata}}}"#)).unwrap().lobs;
        assert_eq!(lobs(r#"{"SupportLobs": false, "FullLobMode": true}"#), Lobs::LeftOut);
        assert_eq!(lobs(r#"{"SupportLobs": true, "FullLobMode": true, "LobMaxSize": 8}"#), Lobs::Full);
        assert_eq!(lobs(r#"{"LimitedSizeLobMode": true, "LobMaxSize": 8}"#), Lobs::Limited(8));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, expected) in [
            ("[]", "not the JSON of one task's settings"),
            ("{", "not JSON"),
            (r#"{"rules": []}"#, "not the JSON of one task's settings"),
            (r#"{"ReplicationTasks": [{}, {}]}"#, "not the JSON of one task's settings"),
            (
                r#"{"TargetMetadata": {"LobMaxSize": true}}"#,
                "TargetMetadata.LobMaxSize = true: it must be a whole number",
            ),
            (r#"{"TargetMetadata": {"SupportLobs": 1}}"#, "TargetMetadata.SupportLobs = 1: it must be true or false"),
        ] {
            let error = TaskSettings::parse(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_settings_or_an_error(text in ".*|\\{\"TargetMetadata\": .*\\}") {
            let _ = TaskSettings::parse(&text);
        }
    }
}
