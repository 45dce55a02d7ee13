//! Values: the bytes of a field become a value of the column's Arrow type, or are refused.
//!
//! Arrow's own conversions take digits beyond the scale, spaces, `yes`, zones and `nan`; these kernels refuse whatever
//! MySQL cannot hold in the column, and never change a value silently except for a zero date, which is counted.

pub(crate) mod number;
pub(crate) mod time;
mod bytes;
mod column;

pub(crate) use column::{ColumnValues, Field, range};

use crate::schema::SqlType;

/// Why a field's text is no value of its column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// It is not written as such a value is.
    Form,
    /// It is one, beyond what the type holds.
    Range,
    /// It has digits after the point that the type does not hold.
    Fraction,
    /// The calendar or the clock has no such time.
    Calendar,
    /// It is no UTF-8.
    Utf8,
    /// It is empty or CsvNullValue, and it may not be NULL.
    Missing,
    /// It is written as no number is, in a column that was taken for one of numbers.
    Guess,
    /// It is a zero date in a key.
    ZeroKey,
    /// It is CsvNoSupValue, where nothing can stand in for the value.
    Untold,
}

impl Refusal {
    /// The end of a sentence that begins with the value, or with the column if the value is missing.
    pub fn reason(self, sql_type: &SqlType) -> String {
        let name = sql_type.to_string();
        match self {
            Self::Form if name.starts_with(['A', 'E', 'I', 'O']) => format!("is not an {name}"),
            Self::Form => format!("is not a {name}"),
            Self::Range => format!("does not fit {name}"),
            Self::Fraction => format!("has digits after its point that do not fit {name}"),
            Self::Calendar => format!("is not a {name} that exists"),
            Self::Utf8 => "is not UTF-8".to_owned(),
            Self::Guess => format!(
                "is no {name} as MySQL writes it; the type was inferred, so give a CREATE TABLE with the right one"
            ),
            Self::ZeroKey => {
                "is a zero date, which no calendar has, and as NULL different keys would become one; configure a \
                              key without it, or mend the value in the source"
                    .to_owned()
            }
            Self::Untold => "is CsvNoSupValue, which only an update may have, and not in its key".to_owned(),
            Self::Missing => format!("has no value and is {name} NOT NULL"),
        }
    }
}

/// A value for a message: cut at 80 characters, without control characters.
pub(crate) fn shown(value: &[u8]) -> String {
    const SHOWN: usize = 80;
    let text = String::from_utf8_lossy(&value[..value.len().min(4 * SHOWN)]);
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN {
        shown.push('…');
    }
    shown
}
