//! The `stats` of a data file, from its Parquet footer (Delta protocol, *Per-file Statistics*).
//!
//! Bounds are exact or wider, never narrower: time stamps are widened to whole milliseconds, as the protocol keeps
//! them; a text that Parquet cut has none; and one row group without a bound leaves the file without it (E-2).
//!
//! What another writer's statistics say is changed member by member, to the letter: a double that went through a JSON
//! parser may come out as its neighbour, and a bound would be narrower than the data.

use std::sync::Arc;

use chrono::Datelike;
use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::scalar::ScalarValue;
use deltalake::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use deltalake::parquet::file::metadata::ParquetMetaData;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Deserializer, Map, Value, json};

use crate::error::{Error, Result};

/// Parquet cuts the bounds of longer texts to this many bytes (the writer's `statistics_truncate_length`).
pub const TRUNCATED_AT: usize = 64;

/// Parquet cuts before a character that does not fit, so that a cut text may have a few bytes less.
const LONGEST_CHARACTER: usize = 4;

/// Decimals of more digits go through a double in other writers' and readers' statistics (T-A1).
const EXACT_DIGITS: u8 = 15;

/// True for the types whose bounds other writers get wrong, and readers with them.
pub fn has_misleading_bounds(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(precision, _) if *precision > EXACT_DIGITS)
}

/// True for the types whose smallest and largest value every reader takes as they are meant.
pub fn has_sound_bounds(data_type: &DataType) -> bool {
    match data_type {
        DataType::Decimal128(..) => !has_misleading_bounds(data_type),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => true,
        DataType::Float32 | DataType::Float64 | DataType::Utf8 | DataType::Date32 => true,
        DataType::Timestamp(unit, _) => *unit == TimeUnit::Microsecond,
        _ => false,
    }
}

/// The JSON text of a file's statistics over `columns`.
pub fn of_file(footer: &ParquetMetaData, schema: &Schema, columns: &[&str]) -> Result<String> {
    let descriptor = footer.file_metadata().schema_descr();
    let groups: Vec<_> = footer.row_groups().iter().collect();
    let (mut least, mut most, mut nulls) = (Map::new(), Map::new(), Map::new());
    for column in columns {
        let converter = StatisticsConverter::try_new(column, schema, descriptor)?;
        let counts = converter.row_group_null_counts(groups.iter().copied())?;
        if counts.null_count() > 0 {
            continue;
        }
        let null_count: u64 = counts.values().iter().sum();
        nulls.insert((*column).to_string(), json!(null_count));
        // a row group of NULLs alone has no bounds and needs none
        let empty: Vec<bool> = groups
            .iter()
            .zip(counts.values())
            .map(|(group, nulls)| u64::try_from(group.num_rows()).is_ok_and(|n| n == *nulls))
            .collect();
        let mins = converter.row_group_mins(groups.iter().copied())?;
        let maxes = converter.row_group_maxes(groups.iter().copied())?;
        if let Some(bound) = extreme(&mins, &empty, std::cmp::Ordering::Less)?.and_then(|v| as_json(&v, Round::Down)) {
            least.insert((*column).to_string(), bound);
        }
        if let Some(bound) = extreme(&maxes, &empty, std::cmp::Ordering::Greater)?.and_then(|v| as_json(&v, Round::Up))
        {
            most.insert((*column).to_string(), bound);
        }
    }
    let rows: i64 = groups.iter().map(|group| group.num_rows()).sum();
    let stats = json!({ "numRecords": rows, "minValues": least, "maxValues": most, "nullCount": nulls });
    Ok(stats.to_string())
}

/// The value that is `wanted` of all others, or `None` if a row group with values says nothing.
fn extreme(bounds: &Arc<dyn Array>, empty: &[bool], wanted: std::cmp::Ordering) -> Result<Option<ScalarValue>> {
    let mut found: Option<ScalarValue> = None;
    for (i, empty) in empty.iter().enumerate() {
        if *empty {
            continue;
        }
        if bounds.is_null(i) {
            return Ok(None);
        }
        let bound = ScalarValue::try_from_array(bounds, i)?;
        if found.as_ref().is_none_or(|f| bound.partial_cmp(f) == Some(wanted)) {
            found = Some(bound);
        }
    }
    Ok(found)
}

#[derive(Clone, Copy)]
enum Round {
    Down,
    Up,
}

fn as_json(bound: &ScalarValue, round: Round) -> Option<Value> {
    match bound {
        ScalarValue::Int8(Some(v)) => Some(json!(v)),
        ScalarValue::Int16(Some(v)) => Some(json!(v)),
        ScalarValue::Int32(Some(v)) => Some(json!(v)),
        ScalarValue::Int64(Some(v)) => Some(json!(v)),
        ScalarValue::Float32(Some(v)) if v.is_finite() => Some(json!(v)),
        ScalarValue::Float64(Some(v)) if v.is_finite() => Some(json!(v)),
        // up to 15 digits the nearest double prints as the decimal itself
        ScalarValue::Decimal128(Some(_), ..) => bound.to_string().parse::<f64>().ok().map(|v| json!(v)),
        ScalarValue::Utf8(Some(text)) => (text.len() + LONGEST_CHARACTER <= TRUNCATED_AT).then(|| json!(text)),
        ScalarValue::Date32(Some(days)) => {
            let date = chrono::NaiveDate::from_epoch_days(*days)?;
            Some(json!(date.format("%Y-%m-%d").to_string()))
        }
        ScalarValue::TimestampMicrosecond(Some(micros), zone) => {
            let millis = match round {
                Round::Down => micros.div_euclid(1000),
                Round::Up => micros.checked_add(999)?.div_euclid(1000),
            };
            // a year of five digits is no form that readers know
            let time =
                chrono::DateTime::from_timestamp_millis(millis).filter(|time| (0..=9999).contains(&time.year()))?;
            let zone = if zone.is_some() { "Z" } else { "" };
            Some(json!(format!("{}{zone}", time.format("%Y-%m-%dT%H:%M:%S%.3f"))))
        }
        _ => None,
    }
}

/// `stats` without the bounds of some `columns`; `None` where it has no such bound.
pub fn without_bounds(stats: &str, columns: &[&str]) -> Result<Option<String>> {
    let (mut kept, mut is_less) = (vec![], false);
    for (name, value) in members(stats)? {
        if !["minValues", "maxValues"].contains(&name.as_str()) || !value.starts_with('{') {
            kept.push((name, value.to_string()));
            continue;
        }
        let (lost, bounds): (Vec<_>, Vec<_>) =
            members(value)?.into_iter().partition(|(column, _)| columns.contains(&column.as_str()));
        is_less |= !lost.is_empty();
        kept.push((name, object(&bounds)));
    }
    Ok(is_less.then(|| object(&kept)))
}

/// `stats` of a file of so many `records` whose bounds are wide from now on: the row that held one may be dead.
pub fn widened(stats: &str, records: u64) -> Result<String> {
    let records = records.to_string();
    let mut all = members(stats)?;
    all.retain(|(name, _)| name != "tightBounds");
    if all.iter().all(|(name, _)| name != "numRecords") {
        all.push(("numRecords".into(), &records));
    }
    all.push(("tightBounds".into(), "false"));
    Ok(object(&all))
}

/// The members of a JSON object, with their values as they are written.
fn members(object: &str) -> Result<Vec<(String, &str)>> {
    let no_object = || Error::definite(format!("statistics that are no JSON object: {object}"));
    let mut rest = object.trim_ascii_start().strip_prefix('{').ok_or_else(no_object)?.trim_ascii_start();
    let mut members = vec![];
    while !rest.starts_with('}') {
        let (name, value) = first::<String>(rest).ok_or_else(no_object)?;
        let value = value.trim_ascii_start().strip_prefix(':').ok_or_else(no_object)?.trim_ascii_start();
        let (_, after) = first::<IgnoredAny>(value).ok_or_else(no_object)?;
        members.push((name, &value[..value.len() - after.len()]));
        let after = after.trim_ascii_start();
        rest = after.strip_prefix(',').unwrap_or(after).trim_ascii_start();
    }
    Ok(members)
}

/// The first JSON value of a text, and what follows it.
fn first<'a, T: Deserialize<'a>>(text: &'a str) -> Option<(T, &'a str)> {
    let mut values = Deserializer::from_str(text).into_iter();
    let value = values.next()?.ok()?;
    Some((value, text.get(values.byte_offset()..)?))
}

fn object(members: &[(String, impl AsRef<str>)]) -> String {
    let members = members.iter().map(|(name, value)| format!("{}:{}", json!(name), value.as_ref()));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_wide_and_otherwise_as_they_were() {
        let widened = |stats| widened(stats, 7).unwrap();
        assert_eq!(
            widened(r#"{"minValues":{"x":-998360851.0636133},"numRecords":9}"#),
            r#"{"minValues":{"x":-998360851.0636133},"numRecords":9,"tightBounds":false}"#
        );
        assert_eq!(
            widened(r#" { "tightBounds" : true , "numRecords" : 9 } "#),
            r#"{"numRecords":9,"tightBounds":false}"#
        );
        assert_eq!(widened("{}"), r#"{"numRecords":7,"tightBounds":false}"#);
    }

    #[test]
    fn bounds_of_some_columns_go_and_the_others_stay_to_the_letter() {
        let stats = r#"{"numRecords":9, "minValues":{"u":0,"x":-998360851.0636133,"\u00e9, \"u":"a,b}"},
            "maxValues":{"x":1e300, "u":9223372036854775807},"nullCount":{"u":0}}"#;
        assert_eq!(
            without_bounds(stats, &["u"]).unwrap().unwrap(),
            r#"{"numRecords":9,"minValues":{"x":-998360851.0636133,"é, \"u":"a,b}"},"maxValues":{"x":1e300},"nullCount":{"u":0}}"#
        );
        assert_eq!(without_bounds(stats, &["numRecords", "v"]).unwrap(), None);
        assert_eq!(without_bounds(r#"{"minValues":null}"#, &["u"]).unwrap(), None);
        for damaged in ["", "7", "{", r#"{"minValues":{"u":}}"#] {
            assert!(without_bounds(damaged, &["u"]).is_err(), "{damaged}");
        }
    }

    #[test]
    fn time_stamps_are_widened_to_whole_milliseconds() {
        let micros = ScalarValue::TimestampMicrosecond(Some(1_577_836_800_123_456), None);
        assert_eq!(as_json(&micros, Round::Down), Some(json!("2020-01-01T00:00:00.123")));
        assert_eq!(as_json(&micros, Round::Up), Some(json!("2020-01-01T00:00:00.124")));
    }

    #[test]
    fn a_decimal_is_written_digit_by_digit() {
        let decimal = ScalarValue::Decimal128(Some(284_566), 10, 2);
        assert_eq!(as_json(&decimal, Round::Up).unwrap().to_string(), "2845.66");
    }

    #[test]
    fn a_text_that_may_be_cut_has_no_bound() {
        assert_eq!(as_json(&ScalarValue::Utf8(Some("x".repeat(64))), Round::Up), None);
    }
}
