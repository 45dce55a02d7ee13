//! A table's columns: their MySQL types, and the one Arrow type each of them is read into.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ddl::types;

/// The type of a MySQL column, as far as it decides how values are written and read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SqlType {
    /// `TINYINT`, one byte; also `BOOL` and `BOOLEAN`.
    #[allow(missing_docs)]
    TinyInt { unsigned: bool },
    /// `SMALLINT`, two bytes.
    #[allow(missing_docs)]
    SmallInt { unsigned: bool },
    /// `MEDIUMINT`, three bytes.
    #[allow(missing_docs)]
    MediumInt { unsigned: bool },
    /// `INT`, four bytes.
    #[allow(missing_docs)]
    Int { unsigned: bool },
    /// `BIGINT`, eight bytes.
    #[allow(missing_docs)]
    BigInt { unsigned: bool },
    /// `DECIMAL`: `precision` digits (1 to 65) of which `scale` (0 to 30) follow the point.
    #[allow(missing_docs)]
    Decimal { precision: u8, scale: u8 },
    /// `FLOAT`, four bytes.
    Float,
    /// `DOUBLE`, eight bytes.
    Double,
    /// `BIT` of 1 to 64 bits.
    Bit(u8),
    /// `DATE`.
    Date,
    /// `DATETIME` with this many digits of fraction (0 to 6); a wall clock without zone.
    DateTime(u8),
    /// `TIMESTAMP` with this many digits of fraction (0 to 6); a moment, which DMS writes in UTC.
    Timestamp(u8),
    /// `TIME` with this many digits of fraction (0 to 6); a length of time between -838:59:59 and 838:59:59.
    Time(u8),
    /// `YEAR`.
    Year,
    /// `CHAR`, `VARCHAR`, every `TEXT`, `ENUM`, `SET` and `JSON`.
    Text,
    /// `BINARY` of exactly this many bytes (0 to 255).
    Binary(u32),
    /// `VARBINARY`, every `BLOB`, and the spatial types.
    Bytes,
}

/// What a `DATETIME` becomes: it has no zone, and not every reader of Delta tables knows a time without one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DatetimeAs {
    /// A timestamp without time zone.
    #[default]
    TimestampNtz,
    /// A timestamp in UTC, as if the wall clock had stood there.
    Timestamp,
}

/// One column of a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Column {
    /// The name as the source spells it.
    pub name: String,
    /// The MySQL type; stored as its text, such as `DECIMAL(10,2)`.
    pub sql_type: SqlType,
    /// Whether the source allows NULL.
    pub nullable: bool,
}

/// A table's columns in their order, and the names of those that make its primary key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableSchema {
    /// The columns in the table's order.
    pub columns: Vec<Column>,
    /// The columns of the primary key in the key's order; empty if there is none.
    pub primary_key: Vec<String>,
}

impl TableSchema {
    /// The Arrow schema in which the table's rows are read.
    ///
    /// Every field is nullable: a delete may carry only its key, and a zero date leaves a hole.
    pub fn arrow(&self, datetime: DatetimeAs) -> SchemaRef {
        arrow_schema(&self.columns, datetime)
    }

    /// The place of the column `name`: the one spelled exactly so, else the only one equal but for ASCII case.
    pub fn position_of(&self, name: &str) -> Option<usize> {
        position_of(&self.columns, name)
    }
}

pub(crate) fn arrow_schema(columns: &[Column], datetime: DatetimeAs) -> SchemaRef {
    let field = |column: &Column| Field::new(&column.name, column.sql_type.arrow(datetime), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

pub(crate) fn position_of(columns: &[Column], name: &str) -> Option<usize> {
    if let Some(exact) = columns.iter().position(|column| column.name == name) {
        return Some(exact);
    }
    let mut alike = (0..columns.len()).filter(|&i| columns[i].name.eq_ignore_ascii_case(name));
    alike.next().filter(|_| alike.next().is_none())
}

impl SqlType {
    /// The Arrow type that holds every value of this type exactly.
    ///
    /// `BIGINT UNSIGNED` does not fit 64 signed bits and is `Decimal128(20, 0)`; a `DECIMAL` of more than 38 digits
    /// fits no decimal of Delta and stays text, as does `TIME`, which is a length of time and not a time of day.
    pub fn arrow(&self, datetime: DatetimeAs) -> DataType {
        let utc = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        match *self {
            Self::TinyInt { unsigned: false } => DataType::Int8,
            Self::TinyInt { unsigned: true } | Self::SmallInt { unsigned: false } | Self::Year => DataType::Int16,
            Self::SmallInt { unsigned: true } | Self::MediumInt { .. } | Self::Int { unsigned: false } => {
                DataType::Int32
            }
            Self::Int { unsigned: true } | Self::BigInt { unsigned: false } => DataType::Int64,
            Self::BigInt { unsigned: true } => DataType::Decimal128(20, 0),
            Self::Decimal { precision, scale } => decimal(precision, scale),
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Bit(0 | 1) => DataType::Boolean,
            Self::Bit(2..=63) => DataType::Int64,
            Self::Bit(_) | Self::Binary(_) | Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::DateTime(_) if datetime == DatetimeAs::TimestampNtz => {
                DataType::Timestamp(TimeUnit::Microsecond, None)
            }
            Self::DateTime(_) | Self::Timestamp(_) => utc(),
            Self::Time(_) | Self::Text => DataType::Utf8,
        }
    }
}

fn decimal(precision: u8, scale: u8) -> DataType {
    match i8::try_from(scale) {
        Ok(signed) if (1..=38).contains(&precision) && scale <= precision => DataType::Decimal128(precision, signed),
        _ => DataType::Utf8,
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut integer = |name: &str, unsigned: bool| {
            f.write_str(name)?;
            if unsigned { f.write_str(" UNSIGNED") } else { Ok(()) }
        };
        match *self {
            Self::TinyInt { unsigned } => integer("TINYINT", unsigned),
            Self::SmallInt { unsigned } => integer("SMALLINT", unsigned),
            Self::MediumInt { unsigned } => integer("MEDIUMINT", unsigned),
            Self::Int { unsigned } => integer("INT", unsigned),
            Self::BigInt { unsigned } => integer("BIGINT", unsigned),
            Self::Decimal { precision, scale } => write!(f, "DECIMAL({precision},{scale})"),
            Self::Float => f.write_str("FLOAT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Bit(bits) => write!(f, "BIT({bits})"),
            Self::Date => f.write_str("DATE"),
            Self::DateTime(0) => f.write_str("DATETIME"),
            Self::DateTime(digits) => write!(f, "DATETIME({digits})"),
            Self::Timestamp(0) => f.write_str("TIMESTAMP"),
            Self::Timestamp(digits) => write!(f, "TIMESTAMP({digits})"),
            Self::Time(0) => f.write_str("TIME"),
            Self::Time(digits) => write!(f, "TIME({digits})"),
            Self::Year => f.write_str("YEAR"),
            Self::Text => f.write_str("TEXT"),
            Self::Binary(bytes) => write!(f, "BINARY({bytes})"),
            Self::Bytes => f.write_str("VARBINARY"),
        }
    }
}

/// Why a text is no column type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TypeError(String);

impl FromStr for SqlType {
    type Err = TypeError;

    /// Reads any type as a `CREATE TABLE` may write it, so `int(11) unsigned` as well as `INT UNSIGNED`.
    fn from_str(text: &str) -> Result<Self, TypeError> {
        types::parse(text).map_err(TypeError)
    }
}

impl Serialize for SqlType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SqlType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_sql_type() -> impl Strategy<Value = SqlType> {
        prop_oneof![
            any::<bool>().prop_map(|unsigned| SqlType::TinyInt { unsigned }),
            any::<bool>().prop_map(|unsigned| SqlType::SmallInt { unsigned }),
            any::<bool>().prop_map(|unsigned| SqlType::MediumInt { unsigned }),
            any::<bool>().prop_map(|unsigned| SqlType::Int { unsigned }),
            any::<bool>().prop_map(|unsigned| SqlType::BigInt { unsigned }),
            (1u8..=65, 0u8..=30).prop_map(|(p, s)| SqlType::Decimal { precision: p, scale: s.min(p) }),
            Just(SqlType::Float),
            Just(SqlType::Double),
            (1u8..=64).prop_map(SqlType::Bit),
            Just(SqlType::Date),
            (0u8..=6).prop_map(SqlType::DateTime),
            (0u8..=6).prop_map(SqlType::Timestamp),
            (0u8..=6).prop_map(SqlType::Time),
            Just(SqlType::Year),
            Just(SqlType::Text),
            (0u32..=255).prop_map(SqlType::Binary),
            Just(SqlType::Bytes),
        ]
    }

    fn check(text: &str, expected: DataType) {
        let sql_type: SqlType = text.parse().unwrap();
        assert_eq!(sql_type.to_string(), text);
        assert_eq!(sql_type.arrow(DatetimeAs::TimestampNtz), expected, "{text}");
    }

    #[test]
    fn every_integer_fits_its_arrow_type() {
        check("TINYINT", DataType::Int8);
        check("TINYINT UNSIGNED", DataType::Int16);
        check("SMALLINT UNSIGNED", DataType::Int32);
        check("MEDIUMINT UNSIGNED", DataType::Int32);
        check("INT UNSIGNED", DataType::Int64);
        check("BIGINT", DataType::Int64);
        check("BIGINT UNSIGNED", DataType::Decimal128(20, 0));
    }

    #[test]
    fn a_decimal_beyond_38_digits_stays_text() {
        check("DECIMAL(38,2)", DataType::Decimal128(38, 2));
        check("DECIMAL(39,2)", DataType::Utf8);
    }

    #[test]
    fn a_datetime_has_no_zone_unless_asked_for() {
        check("DATETIME(6)", DataType::Timestamp(TimeUnit::Microsecond, None));
        check("TIMESTAMP", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        let utc = SqlType::DateTime(0).arrow(DatetimeAs::Timestamp);
        assert_eq!(utc, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    }

    #[test]
    fn a_column_is_found_exactly_or_by_its_only_likeness() {
        let column = |name: &str| Column { name: name.into(), sql_type: SqlType::Text, nullable: true };
        let schema = TableSchema { columns: vec![column("id"), column("Name"), column("NAME")], primary_key: vec![] };
        assert_eq!(schema.position_of("ID"), Some(0));
        assert_eq!(schema.position_of("NAME"), Some(2));
        assert_eq!(schema.position_of("name"), None);
    }

    #[test]
    fn a_type_is_stored_as_its_text() {
        let column = Column { name: "a".into(), sql_type: SqlType::BigInt { unsigned: true }, nullable: false };
        let json = serde_json::to_string(&column).unwrap();
        assert_eq!(json, r#"{"name":"a","sql_type":"BIGINT UNSIGNED","nullable":false}"#);
        assert_eq!(serde_json::from_str::<Column>(&json).unwrap(), column);
    }

    proptest! {
        #[test]
        fn a_type_survives_its_text(sql_type in any_sql_type()) {
            prop_assert_eq!(sql_type.to_string().parse(), Ok(sql_type));
        }

        #[test]
        fn any_text_gives_a_type_or_an_error(text in any::<String>()) {
            let _ = text.parse::<SqlType>();
        }
    }
}
