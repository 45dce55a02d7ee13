//! Hazards in the settings of the DMS task.

use lakemerge_source::dms::task::{LOB_MAX_SIZE, Lobs, TaskSettings};
use lakemerge_source::name::TableName;
use serde_json::Value;

use super::{Finding, Look, Severity, Subject};

pub fn hazards(look: &Look) -> Vec<Finding> {
    let mut found = lobs(look);
    match &look.job.task {
        Some(task) => found.extend(ddl(task).into_iter().chain(writing(task))),
        None => found.push(
            Finding::new(Severity::Note, "task-settings-unknown", "source.task_settings")
                .found("the task's settings are not given")
                .so("whether DMS hands truncates on, cuts large values or leaves records out cannot be told")
                .mend("save what `aws dms describe-replication-tasks` prints for the task and name the file"),
        ),
    }
    found
}

/// What becomes of statements of the source that are no changes of rows.
fn ddl(task: &TaskSettings) -> Vec<Finding> {
    let place = |member: &str| format!("task setting ChangeProcessingDdlHandlingPolicy.{member}");
    let mut found = vec![];
    if !task.hands_on_truncates {
        found.push(
            Finding::new(Severity::Loss, "truncates-not-handed-on", place("HandleSourceTableTruncated"))
                .found("DMS does not hand truncates on")
                .so("a TRUNCATE of the source leaves no trace in the files, and its rows stay")
                .mend("set it to true; after a TRUNCATE reload the table in the task and run with --reload TABLE"),
        );
    }
    if !task.hands_on_alters {
        found.push(
            Finding::new(Severity::Risk, "alters-not-handed-on", place("HandleSourceTableAltered"))
                .found("DMS does not hand changes of columns on")
                .so("columns that the source adds do not come to the files, and their values are missing")
                .mend("set it to true; after an ALTER reload the table in the task and run with --reload TABLE"),
        );
    }
    if !task.hands_on_drops {
        found.push(
            Finding::new(Severity::Note, "drops-not-handed-on", place("HandleSourceTableDropped"))
                .found("DMS does not hand on that a table is dropped")
                .so("a table that the source drops, or drops and creates again, keeps its rows in the lake")
                .mend("after a DROP TABLE reload the table in the task and run with --reload TABLE"),
        );
    }
    found
}

/// How the task writes.
fn writing(task: &TaskSettings) -> Vec<Finding> {
    let mut found = vec![];
    if task.batch_apply {
        found.push(
            Finding::new(Severity::Loss, "batch-apply", "task setting TargetMetadata.BatchApplyEnabled")
                .found("changes are applied in batches, which DMS does not support for S3")
                .so("changes get lost")
                .mend("set it to false, reload the tables in the task, and run with --reload TABLE"),
        );
    }
    for member in &task.ignored_errors {
        found.push(
            Finding::new(Severity::Loss, "records-ignored", format!("task setting ErrorBehavior.{member}"))
                .found("it is IGNORE_RECORD")
                .so("a record that DMS cannot handle is left out of the files without a trace")
                .mend("set it to SUSPEND_TABLE or STOP_TASK"),
        );
    }
    if task.keeps_old_files {
        found.push(
            Finding::new(Severity::Risk, "old-files-kept", "task setting FullLoadSettings.TargetTablePrepMode")
                .found("it is DO_NOTHING, which is the default")
                .so("a load that is started again leaves LOAD and change files of the former one beside its own, and their \
                     rows are loaded too")
                .mend("set it to DROP_AND_CREATE or TRUNCATE_BEFORE_LOAD, or empty a table's folder before each reload"),
        );
    }
    found
}

/// LOB columns and what becomes of their values, by table: a rule of its own comes before what is said of all.
fn lobs(look: &Look) -> Vec<Finding> {
    let of_all = look.job.task.as_ref().map(|task| task.lobs);
    let outcome = |table: &Subject| of_table(&look.mappings, &table.meant.source).or(of_all);
    let place = "task setting TargetMetadata, lob-settings";
    let of = |wanted: &dyn Fn(Option<Lobs>) -> bool| {
        look.columns(|table| if wanted(outcome(table)) { table.columns(|s| &s.lobs) } else { vec![] })
    };
    let mut found = vec![];
    if let Some((tables, columns)) = of(&|lobs| lobs == Some(Lobs::LeftOut)) {
        found.push(
            Finding::new(Severity::Loss, "lobs-left-out", place)
                .of(tables)
                .found(format!("LOB columns are not migrated: {columns}"))
                .so("these columns are missing in the files")
                .mend("set SupportLobs to true with a LobMaxSize (KB) above the longest value, and reload the tables"),
        );
    }
    if let Some((tables, columns)) = of(&|lobs| lobs == Some(Lobs::Full)) {
        found.push(
            Finding::new(Severity::Loss, "lobs-in-full-mode", place)
                .of(tables)
                .found(format!("full LOB mode, which DMS does not support for S3: {columns}"))
                .so("values of these columns do not come as they are")
                .mend("use limited LOB mode with a LobMaxSize (KB) above the longest value, and reload the tables"),
        );
    }
    // nobody has chosen the limit that is the default
    let chosen = |limit: u64| if limit > LOB_MAX_SIZE { Severity::Risk } else { Severity::Loss };
    for severity in [Severity::Loss, Severity::Risk] {
        let cut = look.columns(|table| match outcome(table) {
            Some(Lobs::Limited(limit)) if chosen(limit) == severity => {
                table.columns(|s| &s.lobs).iter().map(|name| format!("{name} at {limit} KB")).collect()
            }
            _ => vec![],
        });
        let Some((tables, columns)) = cut else { continue };
        found.push(
            Finding::new(severity, "lobs-cut", place)
                .of(tables)
                .found(format!("limited LOB mode cuts the values of LOB columns: {columns}"))
                .so("a longer value is cut without an error, here and in every later use")
                .mend(
                    "set LobMaxSize (KB) above the longest value (SELECT MAX(LENGTH(column))), and reload the tables",
                ),
        );
    }
    if let Some((tables, columns)) = of(&|lobs| lobs.is_none()) {
        found.push(
            Finding::new(Severity::Risk, "lobs-unknown", "source.task_settings")
                .of(tables)
                .found(format!("there are LOB columns, and the task's settings are not given: {columns}"))
                .so("DMS cuts their values at LobMaxSize, 32 KB by default, or leaves them out")
                .mend("name the file of the task's settings in source.task_settings and check again"),
        );
    }
    found
}

/// What the mappings' `table-settings` rule for a table of the source says of its LOBs; such rules name tables exactly.
fn of_table(mappings: &Value, name: &TableName) -> Option<Lobs> {
    let is = |rule: &Value, member: &str, text: &str| rule.pointer(member).and_then(Value::as_str) == Some(text);
    let rule = mappings.get("rules")?.as_array()?.iter().find(|rule| {
        is(rule, "/rule-type", "table-settings")
            && is(rule, "/object-locator/schema-name", &name.schema)
            && is(rule, "/object-locator/table-name", &name.table)
    })?;
    let lobs = rule.get("lob-settings")?;
    match lobs.get("mode")?.as_str()? {
        "limited" => {
            let limit = lobs.get("bulk-max-size")?;
            Some(Lobs::Limited(limit.as_u64().or_else(|| limit.as_str()?.parse().ok())?))
        }
        "unlimited" => Some(Lobs::Full),
        "none" => Some(Lobs::LeftOut),
        _ => None,
    }
}
