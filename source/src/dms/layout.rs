//! Which fields a record has before those of the table: `[Op], [timestamp], columns ...` (DMS S3 target, "Indicating
//! source DB operations in migrated S3 data").

use super::names::FileKind;
use super::settings::S3Settings;
use crate::schema::{Column, position_of};

/// What the header calls the operation.
const OP: &str = "Op";

/// The fields before the table's columns.
pub(crate) struct Layout {
    pub has_operation: bool,
    leading: Vec<String>,
}

impl Layout {
    pub fn of(settings: &S3Settings, kind: FileKind) -> Self {
        let has_operation = kind == FileKind::Changes || settings.include_op_for_full_load;
        let operation = has_operation.then(|| OP.to_owned());
        Self { has_operation, leading: operation.into_iter().chain(settings.timestamp_column_name.clone()).collect() }
    }

    /// How many fields stand before those of the table.
    pub fn leading(&self) -> usize {
        self.leading.len()
    }

    /// The name of a field before those of the table.
    pub fn leading_name(&self, field: usize) -> Option<&str> {
        self.leading.get(field).map(String::as_str)
    }

    /// The part of a header that names the table's columns.
    pub fn columns_of<'a>(&self, header: &'a [String]) -> Result<&'a [String], String> {
        for (place, expected) in self.leading.iter().enumerate() {
            match header.get(place) {
                Some(name) if name.eq_ignore_ascii_case(expected) => {}
                other => {
                    return Err(format!(
                        "{expected} is expected as column {} and {} stands there; do IncludeOpForFullLoad and \
                         TimestampColumnName say what the task had? the header has {}",
                        place + 1,
                        other.map_or("nothing", String::as_str),
                        header.join(", ")
                    ));
                }
            }
        }
        Ok(&header[self.leading.len()..])
    }
}

/// For each name of a header the place of its column; every column must be named once.
pub(crate) fn order(names: &[String], columns: &[Column]) -> Result<Vec<usize>, String> {
    let places: Vec<_> = names.iter().map(|name| position_of(columns, name)).collect();
    let mut wrong: Vec<String> = Vec::new();
    for (i, (name, place)) in names.iter().zip(&places).enumerate() {
        if place.is_none() {
            wrong.push(format!("{name:?} is no column of the table"));
        } else if places[..i].contains(place) {
            wrong.push(format!("{name:?} stands there twice"));
        }
    }
    let missing = columns.iter().enumerate().filter(|(place, _)| !places.contains(&Some(*place)));
    wrong.extend(missing.map(|(_, column)| format!("{:?} is missing", column.name)));
    if wrong.is_empty() {
        return Ok(places.into_iter().flatten().collect());
    }
    let of_table: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
    Err(format!("{}; the header has {}; the table has {}", wrong.join(", "), names.join(", "), of_table.join(", ")))
}
