//! The name of a table: its schema (in MySQL: its database) and its own name, written as `fossil.coal_prod`.

use std::fmt;
use std::str::FromStr;

/// A table's schema and name, both exactly as the source spells them.
///
/// Its text form is `schema.table`; a part that is empty or holds a dot, a double quote or white space stands in
/// double quotes, in which a double quote is doubled.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TableName {
    /// The schema; for MySQL that is the database.
    pub schema: String,
    /// The table's own name.
    pub table: String,
}

/// Why a text is no table name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a table name: {reason}; write schema.table")]
pub struct NameError {
    text: String,
    reason: &'static str,
}

impl TableName {
    /// The name of `table` in `schema`.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_part(f, &self.schema)?;
        f.write_str(".")?;
        write_part(f, &self.table)
    }
}

impl FromStr for TableName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |reason| NameError { text: text.to_owned(), reason };
        let (schema, rest) = read_part(text).map_err(refuse)?;
        let rest = rest.strip_prefix('.').ok_or_else(|| refuse("it has no dot between schema and table"))?;
        let (table, rest) = read_part(rest).map_err(refuse)?;
        if !rest.is_empty() {
            return Err(refuse("something follows the table's name"));
        }
        Ok(Self { schema, table })
    }
}

fn write_part(f: &mut fmt::Formatter<'_>, part: &str) -> fmt::Result {
    if part.is_empty() || part.contains(needs_quotes) {
        write!(f, "\"{}\"", part.replace('"', "\"\""))
    } else {
        f.write_str(part)
    }
}

fn needs_quotes(c: char) -> bool {
    c == '.' || c == '"' || c.is_whitespace()
}

/// The first part of `text` and what follows it.
fn read_part(text: &str) -> Result<(String, &str), &'static str> {
    let Some(mut quoted) = text.strip_prefix('"') else {
        let end = text.find(needs_quotes).unwrap_or(text.len());
        let (part, rest) = text.split_at(end);
        return match rest.chars().next() {
            Some('"') => Err("a double quote stands inside a part without quotes"),
            Some(c) if c.is_whitespace() => Err("white space stands outside double quotes"),
            _ if part.is_empty() => Err("a part is empty"),
            _ => Ok((part.to_owned(), rest)),
        };
    };
    let mut part = String::new();
    loop {
        let (before, after) = quoted.split_once('"').ok_or("a double quote is not closed")?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(rest) => {
                part.push('"');
                quoted = rest;
            }
            None => return Ok((part, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(schema: &str, table: &str, text: &str) {
        let name = TableName::new(schema, table);
        assert_eq!(name.to_string(), text);
        assert_eq!(text.parse(), Ok(name));
    }

    #[test]
    fn plain_parts_stand_without_quotes() {
        check("fossil", "coal_prod", "fossil.coal_prod");
        check("größe", "%", "größe.%");
    }

    #[test]
    fn a_part_with_a_dot_a_quote_or_a_space_is_quoted() {
        check("a.b", "c", "\"a.b\".c");
        check("a", "say \"hi\"", "a.\"say \"\"hi\"\"\"");
        check("", "t", "\"\".t");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, reason) in [
            ("coal_prod", "no dot"),
            ("a.b.c", "follows"),
            ("a.", "empty"),
            (".b", "empty"),
            ("\"a.b", "not closed"),
            ("a b.c", "white space"),
            ("a\"b.c", "inside a part"),
        ] {
            let error = text.parse::<TableName>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_name_survives_its_text(schema in any::<String>(), table in any::<String>()) {
            let name = TableName::new(schema, table);
            prop_assert_eq!(name.to_string().parse(), Ok(name));
        }

        #[test]
        fn any_text_gives_a_name_or_an_error(text in "[ab.\" ]{0,8}") {
            if let Ok(name) = text.parse::<TableName>() {
                prop_assert_eq!(name.to_string().parse(), Ok(name));
            }
        }
    }
}
