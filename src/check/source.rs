//! Hazards in the raw files that are there, by their names and times.

use lakemerge_source::name::TableName;
use serde_json::Value;

use super::{Finding, Look, Severity, Subject, some_of};
use crate::dms::listing::{Listing, RawFile};

/// How much earlier than the file before it a LOAD file of one load may have been written, in milliseconds: they are
/// written in parallel.
const ONE_LOAD: i64 = 60 * 60 * 1000;

pub fn hazards(look: &Look) -> Vec<Finding> {
    [selection(look), loads(look), others(look)].into_iter().flatten().collect()
}

/// Folders without a rule, and tables without a folder.
fn selection(look: &Look) -> Vec<Finding> {
    let mut found = vec![];
    let unselected: Vec<_> = look.raw.iter().filter(|name| !look.job.selects(name)).collect();
    if !unselected.is_empty() {
        let finding = format!("no rule selects {}", some_of(unselected.iter().map(ToString::to_string)));
        found.push(
            Finding::new(Severity::Note, "folders-not-selected", "source.table_mappings")
                .of(unselected)
                .found(finding)
                .so("their files are left alone")
                .mend("if the task brings them, give its table mappings as they are now; else nothing"),
        );
    }
    let exact: Vec<_> = exactly_included(&look.mappings).iter().map(|name| look.job.mappings.target(name)).collect();
    let named = look.tables.iter().map(|table| &table.name).chain(&exact);
    let mut empty: Vec<_> = named.filter(|name| look.job.selects(name) && !look.raw.contains(name)).collect();
    empty.sort();
    empty.dedup();
    if !empty.is_empty() {
        let finding = format!("there are no files of {}", some_of(empty.iter().map(ToString::to_string)));
        found.push(
            Finding::new(Severity::Note, "no-data-yet", "source.url")
                .of(empty)
                .found(finding)
                .so("DMS writes no file for a table without rows; nothing is merged until one comes")
                .mend("if the source has rows of it, see that the task runs and the name is spelled as there"),
        );
    }
    let filtered = look.those(|table| look.job.mappings.filters(&table.meant.source));
    if !filtered.is_empty() {
        let finding =
            format!("the task brings only some rows of {}", some_of(filtered.iter().map(ToString::to_string)));
        found.push(
            Finding::new(Severity::Risk, "rows-filtered", "source.table_mappings")
                .of(filtered)
                .found(finding)
                .so("a row that comes to fit the filter after the full load may be missing, and one that no longer fits may \
                     stay: DMS looks at the values that the change has")
                .mend("filter by columns that never change only, or reload the tables regularly"),
        );
    }
    found
}

/// The tables of the source that the rules include by their full names.
fn exactly_included(mappings: &Value) -> Vec<TableName> {
    let rules = mappings.get("rules").and_then(Value::as_array).into_iter().flatten();
    let name = |rule: &Value| {
        let action = rule.get("rule-action")?.as_str()?;
        let of = |member: &str| rule.pointer(member)?.as_str().map(str::to_owned);
        let (schema, table) = (of("/object-locator/schema-name")?, of("/object-locator/table-name")?);
        let plain = |text: &String| action == "explicit" || !text.contains(['%', '_', '[']);
        (matches!(action, "include" | "explicit") && plain(&schema) && plain(&table))
            .then(|| TableName::new(schema, table))
    };
    rules.filter(|rule| rule.get("rule-type").and_then(Value::as_str) == Some("selection")).filter_map(name).collect()
}

/// Full loads that are not whole, or not one.
fn loads(look: &Look) -> Vec<Finding> {
    let mut found = vec![];
    let of = |what: &dyn Fn(&Listing) -> Vec<String>| {
        look.columns(|table| table.listing.as_ref().map(what).unwrap_or_default())
    };
    if let Some((tables, files)) = of(&Listing::gaps) {
        found.push(
            Finding::new(Severity::Risk, "load-with-gaps", "source.url")
                .of(tables)
                .found(format!("LOAD files are missing between others: {files}"))
                .so("their rows are not loaded")
                .mend("bring the files back, or reload the tables in the task and run with --reload TABLE"),
        );
    }
    if let Some((tables, files)) = of(&mixed) {
        found.push(
            Finding::new(Severity::Risk, "loads-mixed", "source.url")
                .of(tables)
                .found(format!("LOAD files are much older than those before them: {files}"))
                .so("they may be left over from an earlier load, and then rows that the source deleted before the last load \
                     are loaded too")
                .mend("empty the tables' folders, reload the tables in the task and run with --reload TABLE"),
        );
    }
    let without = look.those(|table| {
        let has_no_load = table.listing.as_ref().is_some_and(|listing| listing.loads.is_empty());
        table.table.is_none() && table.has_changes && has_no_load
    });
    if !without.is_empty() {
        let finding =
            format!("there are changes and no LOAD file of {}", some_of(without.iter().map(ToString::to_string)));
        found.push(
            Finding::new(Severity::Risk, "no-load", "source.url")
                .of(without)
                .found(finding)
                .so("the tables get only rows that have changed since the changes began")
                .mend("let the task do a full load as well (migration type full-load-and-cdc), unless the tables were empty"),
        );
    }
    found
}

/// LOAD files that were written long before the one that stands before them.
fn mixed(listing: &Listing) -> Vec<String> {
    if listing.times_mean_nothing {
        return vec![];
    }
    let older = |pair: &&[RawFile]| pair[1].modified + ONE_LOAD < pair[0].modified;
    let segments = listing.loads.chunk_by(|a, b| a.segment() == b.segment());
    segments.flat_map(|files| files.windows(2)).filter(older).map(|pair| pair[1].name.clone()).collect()
}

/// Files that are left out.
fn others(look: &Look) -> Vec<Finding> {
    let mut found = vec![];
    let strangers = |table: &Subject| table.listing.as_ref().map(|l| l.strangers.clone()).unwrap_or_default();
    if let Some((tables, files)) = look.columns(strangers) {
        found.push(
            Finding::new(Severity::Note, "strangers", "source.url")
                .of(tables)
                .found(format!("there are files whose names are not of DMS's form: {files}"))
                .so("they are left alone")
                .mend(
                    "remove them, or see what writes them: other programs' files may mean that the folder is not DMS's \
                       alone",
                ),
        );
    }
    let older = |table: &Subject| match table.older_changes {
        0 => vec![],
        count => vec![count.to_string()],
    };
    if let Some((tables, counts)) = look.columns(older) {
        found.push(
            Finding::new(Severity::Note, "changes-before-load", "source.url")
                .of(tables)
                .found(format!("there are change files that are older than the full load: {counts}"))
                .so("a load leaves them out, since it has what they say or something newer")
                .mend(
                    "nothing, if the tables were reloaded in the task; an emptied folder before a reload avoids them. If the \
                     LOAD files were mended or copied since, run with --reload TABLE --changes-from and the stamp of the \
                     first change file",
                ),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(loads: &[(&str, i64)]) -> Listing {
        let file = |(name, minutes): &(&str, i64)| RawFile { modified: minutes * 60 * 1000, ..RawFile::of(name, 10) };
        Listing { loads: loads.iter().map(file).collect(), ..Listing::default() }
    }

    #[test]
    fn what_is_missing_between_load_files_is_a_gap() {
        assert!(Listing::gaps(&listing(&[("LOAD00000001.csv", 0), ("LOAD00000002.csv", 0)])).is_empty());
        let found = Listing::gaps(&listing(&[("LOAD00000002.csv", 0), ("LOAD0000000A.csv", 0)]));
        assert_eq!(found, ["LOAD00000001", "LOAD00000003 to LOAD00000009"]);
        let segments = ["SEGMENT1_LOAD00000001.csv", "SEGMENT2_LOAD00000001.csv", "SEGMENT2_LOAD00000003.csv"];
        assert_eq!(Listing::gaps(&listing(&segments.map(|name| (name, 0)))), ["SEGMENT2_LOAD00000002"]);
    }

    #[test]
    fn a_load_file_of_long_before_the_one_before_it_is_of_another_load() {
        let files = [("LOAD00000001.csv", 100), ("LOAD00000002.csv", 90), ("LOAD00000003.csv", 20)];
        assert_eq!(mixed(&listing(&files)), ["LOAD00000003.csv"]);
        let copied = Listing { times_mean_nothing: true, ..listing(&files) };
        assert!(mixed(&copied).is_empty());
    }
}
