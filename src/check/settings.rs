//! Hazards in the configuration and in the endpoint's S3Settings.

use std::path::PathBuf;

use lakemerge_source::dms::mappings;
use lakemerge_source::dms::names::DataFormat;
use lakemerge_source::schema::SqlType;
use serde_json::Value;

use super::{Finding, Look, Severity, some_of};
use crate::config::{Config, Maintenance};
use crate::dms::metadata::MetadataColumn;
use crate::dms::next::OnVanished;

/// What stands in `file`, which the job has read before.
fn text(config: &Config, file: &Option<PathBuf>) -> Option<String> {
    std::fs::read_to_string(config.folder.join(file.as_ref()?)).ok()
}

/// The task's table mappings; null if they are not given.
pub fn mappings(config: &Config) -> Value {
    let text = text(config, &config.source.table_mappings);
    text.and_then(|text| mappings::unwrapped(&text).ok()).unwrap_or_default()
}

pub fn hazards(look: &Look) -> Vec<Finding> {
    [unknown(look), files(look), places(look), policies(look)].into_iter().flatten().collect()
}

impl Look<'_> {
    /// A text member of the S3Settings that says something.
    fn text(&self, name: &str) -> Option<&str> {
        self.endpoint.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    fn is_on(&self, name: &str) -> bool {
        match self.endpoint.get(name) {
            Some(Value::Bool(value)) => *value,
            Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }

    /// Whether any files are CSV, as all tables' changes are in every case.
    fn has_csv(&self) -> bool {
        self.job.settings.data_format == DataFormat::Csv || self.job.settings.folders.cdc_path.is_some()
    }
}

/// What was not given, so that nothing can be said of it.
fn unknown(look: &Look) -> Vec<Finding> {
    let source = &look.config.source;
    let mut found = vec![];
    if source.s3_settings.is_none() {
        found.push(
            Finding::new(Severity::Risk, "s3-settings-unknown", "source.s3_settings")
                .found("the endpoint's S3Settings are not given, so DMS's defaults are assumed")
                .so("files that the endpoint writes otherwise stop their table, or are read as something else: a text for \
                     NULL as that text, changes that it leaves out as changes that never were")
                .mend("save what `aws dms describe-endpoints` prints for the endpoint and name the file"),
        );
    }
    found.extend(look.job.settings.unknown.iter().map(|unknown| {
        Finding::new(Severity::Risk, "s3-setting-not-known", "source.s3_settings")
            .found(unknown)
            .so("if the endpoint writes its files by it, they are read as something else")
            .mend("look its name up in DMS's documents, and remove it from the file if it says nothing of what is in files")
    }));
    if source.table_mappings.is_none() {
        found.push(
            Finding::new(Severity::Note, "table-mappings-unknown", "source.table_mappings")
                .found("the task's table mappings are not given, so every folder is taken for a table of the source")
                .so("columns that a rule adds, renames or removes, and tables that have no files yet, are not known of")
                .mend("save the task's table mappings and name the file"),
        );
    }
    found
}

/// What the files do not tell.
fn files(look: &Look) -> Vec<Finding> {
    let mut found = left_out(look);
    if !look.job.settings.names_columns() {
        found.push(
            Finding::new(Severity::Risk, "columns-without-names", "S3 setting AddColumnName")
                .found("the files have no header")
                .so("a column that the source drops while it adds another, or moves, leaves the number of fields as it is, \
                     and values are merged into the wrong column wherever their type allows it")
                .mend("set AddColumnName to true and reload the tables in the task"),
        );
    }
    if look.has_csv() && !look.job.settings.rfc4180 {
        found.push(
            Finding::new(Severity::Risk, "values-without-quotes", "S3 setting Rfc4180")
                .found("values are written without quotes")
                .so(
                    "a delimiter or a line break in a value makes it two, and the record stops the table or is read as \
                     another one",
                )
                .mend("set Rfc4180 to true and reload the tables in the task"),
        );
    }
    if look.has_csv() && look.job.settings.csv_null_value.is_none() {
        found.extend(empty_and_null(look));
    }
    if look.job.settings.timestamp_column_name.is_none() {
        let tables = look.those(|table| table.meant.metadata.contains(&MetadataColumn::CommitTs));
        if !tables.is_empty() {
            found.push(
                Finding::new(Severity::Risk, "commit-times-missing", "[[table]] metadata_columns")
                    .of(tables)
                    .found("_commit_ts is asked for, and the S3 settings have no TimestampColumnName")
                    .so("_commit_ts is NULL in every row")
                    .mend(
                        "set TimestampColumnName on the endpoint and reload the tables in the task, or do without it",
                    ),
            );
        }
    }
    if let Some(zone) = look.job.settings.folders.zone_with_seasons() {
        found.push(
            Finding::new(Severity::Risk, "stamps-go-backwards", "S3 setting DatePartitionTimezone")
                .found(format!("file names tell the time of {zone}"))
                .so("when that zone sets its clocks back, an hour of names comes twice; only the times in the bucket tell \
                     which one a file is of, and where it was copied since, its table stops")
                .mend("remove DatePartitionTimezone, so that names are in UTC, and reload the tables in the task"),
        );
    }
    if !look.is_on("usecsvnosupvalue") {
        found.push(
            Finding::new(Severity::Note, "row-image-unseen", "the source's binlog_row_image")
                .found("the files do not show whether the source logs whole rows")
                .so("with a binlog_row_image other than FULL an update writes the columns that it leaves alone as NULL, \
                     and they are merged as NULL")
                .mend("see that SELECT @@global.binlog_row_image gives FULL, and that no session sets another one"),
        );
    }
    found.push(
        Finding::new(Severity::Note, "ddl-without-rows", "DDL in the source")
            .found("an ALTER that changes or removes rows leaves no trace in DMS's files")
            .so(
                "the default of an added column is not in the rows that were there, values that an ALTER converts keep \
                 their old form, and rows of a dropped or truncated partition stay",
            )
            .mend("after such a statement reload the table in the task, and run with --reload TABLE"),
    );
    found
}

/// Changes that never come.
fn left_out(look: &Look) -> Vec<Finding> {
    let settings = [
        ("cdcinsertsonly", "CdcInsertsOnly", "updates and deletes", "changed or deleted"),
        ("cdcinsertsandupdates", "CdcInsertsAndUpdates", "deletes", "deleted"),
    ];
    let found = settings.into_iter().filter(|(name, ..)| look.is_on(name)).map(|(_, name, what, rows)| {
        Finding::new(Severity::Loss, "changes-left-out", format!("S3 setting {name}"))
            .found(format!("DMS writes no {what}"))
            .so(format!("rows that the source has {rows} stay as they were"))
            .mend(format!("set {name} to false, reload the tables in the task, and run with --reload TABLE"))
    });
    found.collect()
}

fn empty_and_null(look: &Look) -> Vec<Finding> {
    let texts = |in_key: bool| {
        look.columns(|table| {
            let Some(definition) = &table.definition else { return vec![] };
            let columns = definition.schema.columns.iter().enumerate();
            let wanted = columns.filter(|(at, column)| {
                column.nullable && column.sql_type == SqlType::Text && definition.key.contains(at) == in_key
            });
            wanted.map(|(_, column)| column.name.clone()).collect()
        })
    };
    let mut found = vec![];
    if let Some((tables, columns)) = texts(true) {
        found.push(
            Finding::new(Severity::Risk, "empty-is-null-in-key", "S3 setting CsvNullValue")
                .of(tables)
                .found(format!("CsvNullValue is not set, and these columns of keys may be NULL: {columns}"))
                .so("an empty text and NULL are the same bytes, so two rows that differ in this alone become one")
                .mend("set CsvNullValue to a text that no value is, and reload the tables in the task"),
        );
    }
    if let Some((tables, columns)) = texts(false) {
        found.push(
            Finding::new(Severity::Note, "empty-is-null", "S3 setting CsvNullValue")
                .of(tables)
                .found(format!("CsvNullValue is not set, and these columns may be NULL: {columns}"))
                .so("an empty text and NULL are the same bytes, and both become NULL")
                .mend("set CsvNullValue to a text that no value is, and reload the tables in the task"),
        );
    }
    found
}

/// Where things lie.
fn places(look: &Look) -> Vec<Finding> {
    let (raw, lake) = (&look.job.raw.url, &look.job.lake.url);
    let mut found = vec![];
    if lake.as_str().starts_with(raw.as_str()) {
        found.push(
            Finding::new(Severity::Loss, "lake-inside-source", "lake.url")
                .found(format!("the lake {lake} lies inside the folder of the raw files, {raw}"))
                .so(
                    "DMS deletes a table's folder when the source truncates or reloads it, and folders of the lake are \
                     taken for tables of the source",
                )
                .mend("give the lake a folder of its own and reload it"),
        );
    } else if raw.as_str().starts_with(lake.as_str()) {
        found.push(
            Finding::new(Severity::Risk, "source-inside-lake", "source.url")
                .found(format!("the raw files in {raw} lie inside the lake, {lake}"))
                .so("their folders are taken for schemas and tables of the lake")
                .mend("give the lake a folder of its own and reload it"),
        );
    }
    if let (Some(bucket), "s3") = (look.text("bucketname"), raw.scheme()) {
        let folder = look.text("bucketfolder").unwrap_or_default().trim_matches('/');
        let written = (bucket, folder);
        let read = (raw.host_str().unwrap_or_default(), raw.path().trim_matches('/'));
        if written != read {
            found.push(
                Finding::new(Severity::Risk, "source-elsewhere", "source.url")
                    .found(format!("the endpoint writes to s3://{bucket}/{folder}, and source.url is {raw}"))
                    .so("what is read is not what the task writes now, unless something copies it")
                    .mend(
                        "make source.url BucketName and BucketFolder of the endpoint, or give the settings of the \
                           endpoint that writes there",
                    ),
            );
        }
    }
    found
}

/// What the configuration takes as normal.
fn policies(look: &Look) -> Vec<Finding> {
    let mut found = vec![];
    let keep = look.those(|table| table.meant.on_vanished == OnVanished::Keep);
    if !keep.is_empty() {
        let finding = format!("files that are gone mean nothing for {}", some_of(keep.iter().map(ToString::to_string)));
        found.push(
            Finding::new(Severity::Risk, "vanished-kept", "on_vanished = \"keep\"")
                .of(keep)
                .found(finding)
                .so("a TRUNCATE of the source, which DMS tells by deleting the table's files, is not seen, and its rows \
                     stay")
                .mend("leave on_vanished at \"stop\", and set raw_retention if raw files expire"),
        );
    }
    if look.job.raw_retention > 0 {
        let retention = look.config.source.raw_retention.as_deref().unwrap_or_default();
        found.push(
            Finding::new(Severity::Risk, "vanished-expired", "source.raw_retention")
                .found(format!("missing files that are older than {retention} are taken as expired"))
                .so("a TRUNCATE of a table that has had no change for so long is not seen, and its rows stay")
                .mend("keep raw files longer than any table is idle, or reload a table after its TRUNCATE"),
        );
    }
    if look.config.run.maintenance == Some(Maintenance::Off) {
        found.push(
            Finding::new(Severity::Note, "upkeep-by-hand", "run.maintenance = \"off\"")
                .found("runs do not look after the tables they change")
                .so("small files and deleted rows make queries and merges slower, and the logs grow")
                .mend("run `lakemerge maintain` now and then"),
        );
    }
    found
}
