//! Values of a column whose type was changed at the source (MySQL, *ALTER TABLE*, `MODIFY`).
//!
//! MySQL converts every value in its own way, and rounds, pads or cuts where it must. DMS writes none of that, so only
//! values that are exactly the same afterwards are taken over: two of them can then never become one, in a key.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, TimestampMicrosecondType};
use arrow::error::ArrowError;

use super::converted::{Mismatch, converted};
use crate::dms::records::Operation;
use crate::dms::values::ColumnValues;
use crate::schema::{Column, DatetimeAs, SqlType};

/// Whether every value of `old` is one of `new` as it stands in a table, if both are stored alike.
pub fn stays(old: &SqlType, new: &SqlType) -> bool {
    use SqlType::{Binary, Bytes, DateTime, Decimal, SmallInt, Text, Time, Timestamp, Year};
    match (old, new) {
        (Binary(had), Binary(has)) => had == has,
        (Bytes, Binary(_)) | (SmallInt { .. }, Year) => false,
        (DateTime(had), DateTime(has)) | (Timestamp(had), Timestamp(has)) => had <= has,
        // a text with the digits that were written
        (Time(had), Time(has)) => had == has,
        // their readings of the clock differ by a time zone
        (DateTime(_), Timestamp(_)) | (Timestamp(_), DateTime(_)) => false,
        // as texts
        (Decimal { scale: had, .. }, Decimal { scale: has, .. }) => had == has,
        (Text, Decimal { .. } | Time(_)) => false,
        _ => true,
    }
}

/// Whether values of `old` can be made values of `new` at all, as far as these are exactly the same.
pub fn may_become(old: &SqlType, new: &SqlType) -> bool {
    use SqlType::{Binary, Bytes, Date, DateTime, Decimal, Double, Float, Text, Time, Timestamp, Year};
    let is_number = |sql_type: &SqlType| {
        !matches!(sql_type, Date | DateTime(_) | Timestamp(_) | Time(_) | Text | Binary(_) | Bytes)
    };
    let is_float = |sql_type: &SqlType| matches!(sql_type, Float | Double);
    match (old, new) {
        (old, new) if is_float(old) => is_float(new),
        // a text, which has the digits that were written
        (old, Decimal { precision: 39.., scale }) => matches!(old, Decimal { scale: had, .. } if had == scale),
        // two digits are a year of another century
        (_, Year) | (SqlType::Bit(_), Text) => false,
        (Text, Bytes | Binary(_)) | (Bytes | Binary(_), Text | Bytes | Binary(_)) => true,
        (Text, Date | Time(_) | Text) | (Date | Time(_), Text) => true,
        (DateTime(_) | Date, DateTime(_)) | (Timestamp(_), Timestamp(_)) => true,
        (old, Text) => is_number(old),
        (Text, new) => is_number(new),
        (old, new) => is_number(old) && is_number(new),
    }
}

/// `values` of the column `old` as values of `new`.
///
/// # Errors
/// At a value that has no equal there, in words.
pub fn retyped(old: &Column, new: &Column, datetime: DatetimeAs, values: &ArrayRef) -> Result<ArrayRef, String> {
    let column = |column: &Column| ColumnValues::new(&Column { nullable: true, ..column.clone() }, datetime);
    let operations = vec![Operation::Insert; values.len()];
    let unequal = |text: Option<String>| {
        let text = text.map_or("a value".to_owned(), |text| format!("\"{text}\""));
        format!(
            "{text} is no {} that is exactly the same, so MySQL has changed it, which the files do not tell; have the task \
             load the table again and run with --reload TABLE",
            new.sql_type
        )
    };
    let shown = |row: usize| text(values, row).unwrap_or_default();
    let convert = |into: &Column, values: &ArrayRef| {
        let to = into.sql_type.arrow(datetime);
        if *values.data_type() == DataType::Date32 && matches!(to, DataType::Timestamp(..)) {
            return Ok((cast(values, &to)?, 0));
        }
        let whole = without_fraction(&into.sql_type, values)?;
        converted(column(into), datetime, &whole, &operations)
    };
    let (becomes, _) = convert(new, values).map_err(|mismatch| match mismatch {
        Mismatch::Value { row, .. } => unequal(Some(shown(row))),
        Mismatch::Type(error) => error.to_string(),
    })?;
    if let Some(row) = cut_fraction(&new.sql_type, &becomes) {
        return Err(unequal(Some(shown(row))));
    }
    let is_padded = matches!((&old.sql_type, &new.sql_type), (SqlType::Binary(had), SqlType::Binary(has)) if had < has);
    if !is_padded {
        let was = match becomes.data_type().is_floating() || becomes.data_type().is_temporal() {
            true => cast(&becomes, values.data_type()).ok(),
            false => convert(old, &becomes).map(|(was, _)| was).ok(),
        };
        let same = |row: &usize| was.as_ref().is_some_and(|was| was.slice(*row, 1) == values.slice(*row, 1));
        let all = was.as_ref().is_some_and(|was| was == values);
        if let Some(row) = (0..values.len()).find(|row| !all && !same(row)) {
            return Err(unequal(Some(shown(row))));
        }
    }
    Ok(becomes)
}

/// Decimals that are to be integers, without the zeros behind their point.
fn without_fraction(sql_type: &SqlType, values: &ArrayRef) -> Result<ArrayRef, Mismatch> {
    use SqlType::{BigInt, Bit, Int, MediumInt, SmallInt, TinyInt, Year};
    let (
        DataType::Decimal128(precision, scale @ 1..),
        TinyInt { .. } | SmallInt { .. } | MediumInt { .. } | Int { .. } | BigInt { .. } | Bit(_) | Year,
    ) = (values.data_type(), sql_type)
    else {
        return Ok(ArrayRef::clone(values));
    };
    let (decimals, unit) = (values.as_primitive::<Decimal128Type>(), 10_i128.pow(u32::from(scale.unsigned_abs())));
    if let Some(row) = decimals.iter().position(|value| value.is_some_and(|value| value % unit != 0)) {
        return Err(Mismatch::Value { row, value: None, reason: String::new() });
    }
    Ok(Arc::new(decimals.unary::<_, Decimal128Type>(|value| value / unit).with_precision_and_scale(*precision, 0)?))
}

/// The first value with digits of a fraction that its type does not have.
fn cut_fraction(sql_type: &SqlType, values: &ArrayRef) -> Option<usize> {
    let (SqlType::DateTime(digits) | SqlType::Timestamp(digits)) = sql_type else { return None };
    let unit = 10_i64.pow(6_u32.saturating_sub(u32::from(*digits)));
    let times = values.as_primitive_opt::<TimestampMicrosecondType>()?;
    times.iter().position(|time| time.is_some_and(|time| time % unit != 0))
}

fn text(values: &ArrayRef, row: usize) -> Result<String, ArrowError> {
    arrow::util::display::array_value_to_string(values, row)
}

#[cfg(test)]
mod tests {
    use super::*;

    use arrow::array::{
        BinaryArray, Date32Array, Decimal128Array, Float32Array, Int32Array, StringArray, TimestampMicrosecondArray,
    };

    fn column(sql_type: &str) -> Column {
        Column { name: "c".into(), sql_type: sql_type.parse().unwrap(), nullable: true }
    }

    fn become_(old: &str, new: &str, values: impl Array + 'static) -> Result<Vec<String>, String> {
        let (old, new, values) = (column(old), column(new), Arc::new(values) as ArrayRef);
        assert!(may_become(&old.sql_type, &new.sql_type), "{} {}", old.sql_type, new.sql_type);
        let becomes = retyped(&old, &new, DatetimeAs::default(), &values)?;
        assert_eq!(*becomes.data_type(), new.sql_type.arrow(DatetimeAs::default()));
        Ok((0..becomes.len()).map(|row| text(&becomes, row).unwrap()).collect())
    }

    fn check(old: &str, new: &str, values: impl Array + 'static, expected: &[&str]) {
        assert_eq!(become_(old, new, values).unwrap(), expected, "{old} to {new}");
    }

    fn refuse(old: &str, new: &str, values: impl Array + 'static, value: &str) {
        let error = become_(old, new, values).unwrap_err();
        assert!(error.starts_with(&format!("\"{value}\" is no ")), "{old} to {new}: {error}");
    }

    fn prices(values: Vec<i128>) -> Decimal128Array {
        Decimal128Array::from(values).with_precision_and_scale(6, 2).unwrap()
    }

    #[test]
    fn values_that_are_exactly_the_same_are_taken_over() {
        check("INT", "BIGINT", Int32Array::from(vec![Some(-5), None]), &["-5", ""]);
        check("INT", "DECIMAL(12,2)", Int32Array::from(vec![7]), &["7.00"]);
        check("INT", "TEXT", Int32Array::from(vec![-7]), &["-7"]);
        check("INT", "DOUBLE", Int32Array::from(vec![1]), &["1.0"]);
        check("DECIMAL(6,2)", "DECIMAL(40,2)", prices(vec![110]), &["1.10"]);
        check("DECIMAL(6,2)", "DECIMAL(12,4)", prices(vec![110]), &["1.1000"]);
        check("DECIMAL(6,2)", "INT", prices(vec![200]), &["2"]);
        check("FLOAT", "DOUBLE", Float32Array::from(vec![0.5]), &["0.5"]);
        check("TEXT", "INT", StringArray::from(vec![Some("12"), None]), &["12", ""]);
        check("TEXT", "DATE", StringArray::from(vec!["2024-01-02"]), &["2024-01-02"]);
        check("BINARY(2)", "BINARY(4)", BinaryArray::from_vec(vec![b"\x01\x02"]), &["01020000"]);
        let day = || TimestampMicrosecondArray::from(vec![86_400_000_000]);
        check("DATE", "DATETIME", Date32Array::from(vec![1]), &["1970-01-02T00:00:00"]);
        check("DATETIME(6)", "DATETIME", day(), &["1970-01-02T00:00:00"]);
    }

    #[test]
    fn values_that_mysql_would_change_are_named() {
        refuse("DECIMAL(6,2)", "INT", prices(vec![200, 155]), "1.55");
        refuse("INT", "BIGINT UNSIGNED", Int32Array::from(vec![-5]), "-5");
        refuse("TEXT", "INT", StringArray::from(vec!["1", "01"]), "01");
        refuse("TEXT", "DATE", StringArray::from(vec!["2024-1-1"]), "2024-1-1");
        refuse("TEXT", "DATE", StringArray::from(vec!["0000-00-00"]), "0000-00-00");
        refuse("TEXT", "BIT(1)", StringArray::from(vec!["yes"]), "yes");
        refuse("VARBINARY(9)", "BINARY(4)", BinaryArray::from_vec(vec![b"\x01\x02"]), "0102");
        refuse("DATETIME(6)", "DATETIME", TimestampMicrosecondArray::from(vec![1]), "1970-01-01T00:00:00.000001");
    }

    #[test]
    fn some_types_have_no_values_in_common_and_some_keep_all() {
        let types = |old: &str, new: &str| (column(old).sql_type, column(new).sql_type);
        for (old, new) in [
            ("INT", "TIME"),
            ("DOUBLE", "INT"),
            ("INT", "YEAR"),
            ("DATETIME", "DATE"),
            ("INT", "DECIMAL(40,2)"),
            ("DATETIME", "TEXT"),
            ("TIMESTAMP", "DATETIME"),
        ] {
            let (old, new) = types(old, new);
            assert!(!may_become(&old, &new), "{old} {new}");
        }
        for (old, new, expected) in [
            ("BINARY(2)", "BINARY(4)", false),
            ("DATETIME(6)", "DATETIME", false),
            ("DATETIME", "DATETIME(6)", true),
            ("MEDIUMINT", "INT", true),
            ("BINARY(2)", "VARBINARY(9)", true),
            ("DECIMAL(50,2)", "DECIMAL(60,2)", true),
            ("DECIMAL(50,2)", "DECIMAL(60,4)", false),
            ("TIMESTAMP", "DATETIME", false),
        ] {
            let (old, new) = types(old, new);
            assert_eq!(stays(&old, &new), expected, "{old} {new}");
        }
    }
}
