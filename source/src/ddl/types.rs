//! Column types as MySQL and MariaDB write them.
//!
//! The few tokens of a type are read here and not by sqlparser's `parse_data_type`, which refuses what real dumps have
//! (`int(5) unsigned zerofill`, `long varchar`, `serial`), and two readers of types would be one too many.

use sqlparser::dialect::MySqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::schema::SqlType;

/// Tokens without white space and comments.
pub(super) fn tokenize(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Tokenizer::new(&MySqlDialect {}, text).tokenize().map_err(|error| error.to_string())?;
    tokens.retain(|token| !matches!(token, Token::Whitespace(_) | Token::EOF));
    Ok(tokens)
}

/// The type that is all of `text`.
pub(crate) fn parse(text: &str) -> Result<SqlType, String> {
    let tokens = tokenize(text)?;
    match read(&tokens)? {
        (sql_type, used) if used == tokens.len() => Ok(sql_type),
        _ => Err(format!("{text:?} is not a column type alone")),
    }
}

/// The type at the beginning of `tokens`, and how many of them it takes.
///
/// Lengths are MySQL's own (manual, "Data Types"); whatever they do not tell apart in values is dropped.
pub(super) fn read(tokens: &[Token]) -> Result<(SqlType, usize), String> {
    let mut words = Words { tokens, at: 0 };
    let name = words.next().ok_or("it has no type")?.to_ascii_uppercase();
    words.second_word(&name)?;
    let numbers = words.arguments()?;
    let unsigned = words.unsigned();
    let sql_type = match name.as_str() {
        "TINYINT" | "INT1" => SqlType::TinyInt { unsigned },
        "BOOL" | "BOOLEAN" => SqlType::TinyInt { unsigned: false },
        "SMALLINT" | "INT2" => SqlType::SmallInt { unsigned },
        "MEDIUMINT" | "MIDDLEINT" | "INT3" => SqlType::MediumInt { unsigned },
        "INT" | "INTEGER" | "INT4" => SqlType::Int { unsigned },
        "BIGINT" | "INT8" => SqlType::BigInt { unsigned },
        "SERIAL" => SqlType::BigInt { unsigned: true },
        "DECIMAL" | "DEC" | "NUMERIC" | "FIXED" => decimal(&numbers)?,
        // FLOAT(p) is a DOUBLE from 25 bits on; FLOAT(m,d) is a FLOAT whatever m is.
        "FLOAT" if numbers.len() == 1 && numbers[0] > 24 => SqlType::Double,
        "FLOAT" | "FLOAT4" => SqlType::Float,
        "DOUBLE" | "REAL" | "FLOAT8" => SqlType::Double,
        "BIT" => SqlType::Bit(at_most(64, &numbers, 1)?.max(1)),
        "DATE" => SqlType::Date,
        "DATETIME" => SqlType::DateTime(at_most(6, &numbers, 0)?),
        "TIMESTAMP" => SqlType::Timestamp(at_most(6, &numbers, 0)?),
        "TIME" => SqlType::Time(at_most(6, &numbers, 0)?),
        "YEAR" => SqlType::Year,
        "CHAR" | "CHARACTER" | "VARCHAR" | "VARCHARACTER" | "NCHAR" | "NVARCHAR" | "NATIONAL" | "TINYTEXT" | "TEXT"
        | "MEDIUMTEXT" | "LONGTEXT" | "ENUM" | "SET" | "JSON" | "UUID" | "INET4" | "INET6" => SqlType::Text,
        "LONG" if words.last_is("VARBINARY") => SqlType::Bytes,
        "LONG" => SqlType::Text,
        "BINARY" => SqlType::Binary(at_most(255, &numbers, 1)?.into()),
        "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" | "GEOMETRY" | "POINT" | "LINESTRING"
        | "POLYGON" | "MULTIPOINT" | "MULTILINESTRING" | "MULTIPOLYGON" | "GEOMETRYCOLLECTION" | "GEOMCOLLECTION"
        | "VECTOR" => SqlType::Bytes,
        _ => return Err(format!("its type {name} is not known")),
    };
    Ok((sql_type, words.at))
}

/// What DMS makes of a type beyond what its values are.
pub(super) enum Kind {
    /// `CHAR`, filled up with spaces if the endpoint says so.
    Char,
    /// A LOB (DMS, "Using a MySQL-compatible database as a source", data types); `TEXT` and `BLOB` are none.
    Lob,
}

/// What the type that is all of `tokens` is to DMS.
pub(super) fn kind(tokens: &[Token]) -> Option<Kind> {
    let mut words = Words { tokens, at: 0 };
    match words.next()?.to_ascii_uppercase().as_str() {
        "CHAR" | "CHARACTER" | "NCHAR" => (!words.take(&["VARYING", "VARCHAR", "VARCHARACTER"])).then_some(Kind::Char),
        "NATIONAL" => (words.take(&["CHAR", "CHARACTER"]) && !words.take(&["VARYING"])).then_some(Kind::Char),
        "MEDIUMTEXT" | "LONGTEXT" | "MEDIUMBLOB" | "LONGBLOB" | "LONG" | "JSON" | "GEOMETRY" | "POINT"
        | "LINESTRING" | "POLYGON" | "MULTIPOINT" | "MULTILINESTRING" | "MULTIPOLYGON" | "GEOMETRYCOLLECTION"
        | "GEOMCOLLECTION" | "VECTOR" => Some(Kind::Lob),
        _ => None,
    }
}

fn decimal(numbers: &[u64]) -> Result<SqlType, String> {
    let precision = at_most(65, numbers, 10)?;
    let scale = at_most(30, numbers.get(1..).unwrap_or_default(), 0)?;
    // The manual: DECIMAL(0) is DECIMAL, and that is DECIMAL(10).
    let precision = if precision == 0 { 10 } else { precision };
    if scale > precision {
        return Err(format!("a DECIMAL({precision},{scale}) has more digits after its point than it has"));
    }
    Ok(SqlType::Decimal { precision, scale })
}

fn at_most(limit: u8, numbers: &[u64], default: u8) -> Result<u8, String> {
    let Some(&number) = numbers.first() else { return Ok(default) };
    match u8::try_from(number) {
        Ok(number) if number <= limit => Ok(number),
        _ => Err(format!("its type has the length {number}, and at most {limit} is allowed")),
    }
}

/// A cursor over tokens that sees unquoted words.
struct Words<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        match self.tokens.get(self.at) {
            Some(Token::Word(word)) if word.quote_style.is_none() => Some(&word.value),
            _ => None,
        }
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.at += 1;
        Some(word)
    }

    fn take(&mut self, any_of: &[&str]) -> bool {
        let found = self.peek().is_some_and(|word| any_of.iter().any(|wanted| word.eq_ignore_ascii_case(wanted)));
        self.at += usize::from(found);
        found
    }

    fn last_is(&self, wanted: &str) -> bool {
        matches!(self.tokens.get(self.at.wrapping_sub(1)), Some(Token::Word(w)) if w.value.eq_ignore_ascii_case(wanted))
    }

    /// The names of types that are more than one word.
    fn second_word(&mut self, first: &str) -> Result<(), String> {
        match first {
            "DOUBLE" => {
                self.take(&["PRECISION"]);
            }
            "CHAR" | "CHARACTER" | "NCHAR" => {
                self.take(&["VARYING", "VARCHAR", "VARCHARACTER"]);
            }
            "NATIONAL" => {
                if !self.take(&["CHAR", "CHARACTER", "VARCHAR", "VARCHARACTER"]) {
                    return Err("its type NATIONAL names no kind of character".to_owned());
                }
                self.take(&["VARYING"]);
            }
            "LONG" if self.take(&["CHAR", "CHARACTER"]) => {
                self.take(&["VARYING"]);
            }
            "LONG" => {
                self.take(&["VARCHAR", "VARCHARACTER", "VARBINARY"]);
            }
            _ => {}
        }
        Ok(())
    }

    /// The numbers in the parentheses that may follow; the labels of an ENUM or SET are none.
    fn arguments(&mut self) -> Result<Vec<u64>, String> {
        if self.tokens.get(self.at) != Some(&Token::LParen) {
            return Ok(Vec::new());
        }
        let Some(length) = self.tokens[self.at..].iter().position(|token| *token == Token::RParen) else {
            return Err("its type has an open parenthesis".to_owned());
        };
        let inner = &self.tokens[self.at + 1..self.at + length];
        self.at += length + 1;
        let number = |text: &String| text.parse().map_err(|_| format!("its type has the length {text}"));
        inner
            .iter()
            .filter_map(|token| if let Token::Number(text, _) = token { Some(number(text)) } else { None })
            .collect()
    }

    fn unsigned(&mut self) -> bool {
        let mut unsigned = false;
        while let Some(word) = self.peek() {
            match () {
                // A column with ZEROFILL is UNSIGNED, said or not.
                () if word.eq_ignore_ascii_case("unsigned") || word.eq_ignore_ascii_case("zerofill") => unsigned = true,
                () if word.eq_ignore_ascii_case("signed") => {}
                () => break,
            }
            self.at += 1;
        }
        unsigned
    }
}

#[cfg(test)]
mod tests {
    fn check(text: &str, expected: &str) {
        assert_eq!(super::parse(text).unwrap().to_string(), expected, "{text}");
    }

    #[test]
    fn every_way_to_write_a_number_is_understood() {
        check("int(11)", "INT");
        check("int(5) unsigned zerofill", "INT UNSIGNED");
        check("INT ZEROFILL", "INT UNSIGNED");
        check("int3", "MEDIUMINT");
        check("tinyint(1)", "TINYINT");
        check("boolean", "TINYINT");
        check("serial", "BIGINT UNSIGNED");
        check("double precision", "DOUBLE");
        check("double(10,2) unsigned", "DOUBLE");
        check("real", "DOUBLE");
        check("float(7,3)", "FLOAT");
        check("float(24)", "FLOAT");
        check("float(53)", "DOUBLE");
        check("dec", "DECIMAL(10,0)");
        check("numeric(12, 4) unsigned", "DECIMAL(12,4)");
        check("fixed(65,30)", "DECIMAL(65,30)");
        check("bit", "BIT(1)");
    }

    #[test]
    fn every_way_to_write_text_is_text() {
        for text in [
            "char(3)",
            "character varying(20)",
            "national varchar(20)",
            "national character varying(5)",
            "nvarchar(7)",
            "nchar varchar(7)",
            "long varchar",
            "long",
            "longtext",
            "enum('a','b)','it''s')",
            "set('x','y')",
            "json",
        ] {
            check(text, "TEXT");
        }
    }

    #[test]
    fn bytes_and_shapes_are_bytes() {
        for text in ["varbinary(16)", "long varbinary", "mediumblob", "point", "geometrycollection"] {
            check(text, "VARBINARY");
        }
        check("binary", "BINARY(1)");
        check("binary(16)", "BINARY(16)");
    }

    #[test]
    fn times_keep_their_digits() {
        check("datetime(6)", "DATETIME(6)");
        check("timestamp", "TIMESTAMP");
        check("time(3)", "TIME(3)");
        check("year(4)", "YEAR");
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for text in
            ["", "`int`", "money", "decimal(70,2)", "decimal(4,5)", "datetime(7)", "bit(65)", "int not null", "char("]
        {
            assert!(super::parse(text).is_err(), "{text}");
        }
    }
}
