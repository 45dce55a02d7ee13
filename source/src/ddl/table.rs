//! One statement's meaning: a `USE`, or a `CREATE TABLE` of which the columns and the primary key are read.

use sqlparser::tokenizer::Token;

use super::CreateTable;
use super::types::{self, Kind, tokenize};
use crate::schema::{Column, TableSchema, position_of};

pub(super) enum Meaning {
    Use(String),
    /// The statement, and whether it means nothing if the table is there (`IF NOT EXISTS`).
    Create(CreateTable, bool),
    /// What becomes of a table, one after the other.
    Alter(Qualified, Vec<Change>),
    /// These tables are no more.
    Drop(Vec<Qualified>),
    /// Tables with their new names.
    Rename(Vec<(Qualified, Qualified)>),
    Other,
}

/// A table with its schema, if that is told.
pub(super) type Qualified = (Option<String>, String);

/// What an `ALTER TABLE` does that matters here.
pub(super) enum Change {
    Columns,
    /// This is the primary key now; none, if it is empty.
    Key(Vec<String>),
    /// Deletes or updates of this table change rows, too ([`CreateTable::cascades`]).
    Cascade(String),
    Name(Qualified),
}

/// What `text`, one statement without comments, means.
pub(super) fn read(text: &str) -> Meaning {
    let (tokens, broken) = match tokenize(text) {
        Ok(tokens) => (tokens, None),
        // The name of the table stands before the parenthesis in which the trouble is.
        Err(reason) => (tokenize(text.split('(').next().unwrap_or_default()).unwrap_or_default(), Some(reason)),
    };
    let mut rest = tokens.as_slice();
    if take_words(&mut rest, &["USE"]) {
        return name_at(rest).map_or(Meaning::Other, |schema| Meaning::Use(schema.to_owned()));
    }
    if take_words(&mut rest, &["ALTER", "TABLE"]) {
        let Some(table) = qualified(&mut rest) else { return Meaning::Other };
        return Meaning::Alter(table, split(rest).flat_map(changes).collect());
    }
    if take_words(&mut rest, &["RENAME", "TABLE"]) {
        let renamed = |mut pair: &[Token]| {
            let from = qualified(&mut pair)?;
            take_words(&mut pair, &["TO"]).then(|| qualified(&mut pair)).flatten().map(|to| (from, to))
        };
        return Meaning::Rename(split(rest).filter_map(renamed).collect());
    }
    if take_words(&mut rest, &["DROP", "TABLE"]) {
        take_words(&mut rest, &["IF", "EXISTS"]);
        return Meaning::Drop(split(rest).filter_map(|mut name| qualified(&mut name)).collect());
    }
    let only_if_new = text.to_ascii_uppercase().contains("EXISTS") && is_only_if_new(rest);
    // A TEMPORARY table ends with its session: it is no table of the database.
    let Some((schema, table)) = create_table(&mut rest) else { return Meaning::Other };
    let (definition, read) = match broken.map_or_else(|| definition(rest), Err) {
        Ok((schema, read)) => (Ok(schema), read),
        Err(reason) => (Err(reason), Reader::default()),
    };
    let Reader { generated, chars, lobs, cascades, .. } = read;
    Meaning::Create(CreateTable { schema, table, definition, generated, chars, lobs, cascades }, only_if_new)
}

/// Whether `CREATE TABLE` is followed by `IF NOT EXISTS`.
fn is_only_if_new(mut rest: &[Token]) -> bool {
    take_words(&mut rest, &["CREATE", "TABLE", "IF", "NOT", "EXISTS"])
}

/// What a part of an `ALTER TABLE` changes.
fn changes(part: &[Token]) -> Vec<Change> {
    if let Some(name) = renamed_by(part) {
        return vec![Change::Name(name)];
    }
    if changes_columns(part) {
        return vec![Change::Columns];
    }
    let key = key_of(part).map(Change::Key).into_iter();
    key.chain(cascades_of(part).into_iter().map(Change::Cascade)).collect()
}

/// Whether a part of an `ALTER TABLE` is about columns. What phpMyAdmin writes behind a `CREATE TABLE` is not: keys, and
/// columns that become AUTO_INCREMENT.
fn changes_columns(mut part: &[Token]) -> bool {
    const OTHERS: [&str; 11] = [
        "INDEX",
        "KEY",
        "UNIQUE",
        "PRIMARY",
        "CONSTRAINT",
        "FULLTEXT",
        "SPATIAL",
        "FOREIGN",
        "CHECK",
        "PARTITION",
        "PERIOD",
    ];
    if is_word(part.first(), "MODIFY") {
        return !part.iter().any(|token| is_word(Some(token), "AUTO_INCREMENT"));
    }
    let is_about = ["ADD", "DROP", "CHANGE", "RENAME"].into_iter().any(|word| take_words(&mut part, &[word]));
    is_about && !OTHERS.iter().any(|word| is_word(part.first(), word))
}

/// The name that a part of an `ALTER TABLE` gives the table.
fn renamed_by(mut part: &[Token]) -> Option<Qualified> {
    let parts_of_it = ["COLUMN", "INDEX", "KEY"];
    if !take_words(&mut part, &["RENAME"]) || parts_of_it.iter().any(|word| is_word(part.first(), word)) {
        return None;
    }
    let _ = take_words(&mut part, &["TO"]) || take_words(&mut part, &["AS"]);
    qualified(&mut part)
}

/// The primary key that a part of an `ALTER TABLE` gives the table; an empty one, if it takes the key away.
fn key_of(mut part: &[Token]) -> Option<Vec<String>> {
    if take_words(&mut part, &["DROP", "PRIMARY", "KEY"]) {
        return Some(vec![]);
    }
    let mut reader = Reader::default();
    let is_key = take_words(&mut part, &["ADD"]) && reader.item(part).is_ok();
    (is_key && reader.columns.is_empty() && !reader.primary_key.is_empty()).then_some(reader.primary_key)
}

/// The tables that a part of an `ALTER TABLE` lets change rows of this one.
fn cascades_of(mut part: &[Token]) -> Vec<String> {
    let mut reader = Reader::default();
    let is_clause = take_words(&mut part, &["ADD"]) && reader.item(part).is_ok();
    if is_clause { reader.cascades } else { vec![] }
}

/// Spells the columns of a primary key as the table does; none of them may be NULL.
pub(super) fn resolve_key(columns: &mut [Column], key: &mut [String]) -> Result<(), String> {
    for name in key {
        let place =
            position_of(columns, name).ok_or_else(|| format!("its primary key names {name}, which is no column"))?;
        columns[place].nullable = false;
        name.clone_from(&columns[place].name);
    }
    Ok(())
}

/// Moves `rest` past `CREATE TABLE name` and gives the name.
fn create_table(rest: &mut &[Token]) -> Option<Qualified> {
    if !take_words(rest, &["CREATE"]) {
        return None;
    }
    take_words(rest, &["OR", "REPLACE"]);
    if !take_words(rest, &["TABLE"]) {
        return None;
    }
    take_words(rest, &["IF", "NOT", "EXISTS"]);
    qualified(rest)
}

/// Moves `rest` past a name and gives it.
fn qualified(rest: &mut &[Token]) -> Option<Qualified> {
    let first = name_at(rest)?.to_owned();
    *rest = &rest[1..];
    if rest.first() != Some(&Token::Period) {
        return Some((None, first));
    }
    let table = name_at(&rest[1..])?.to_owned();
    *rest = &rest[2..];
    Some((Some(first), table))
}

/// The columns and the key, and what else was read.
fn definition(rest: &[Token]) -> Result<(TableSchema, Reader), String> {
    let like = || "it is created LIKE another table, so it names no columns; dump its own definition".to_owned();
    if is_word(rest.first(), "LIKE") || rest.first() == Some(&Token::LParen) && is_word(rest.get(1), "LIKE") {
        return Err(like());
    }
    if rest.first() != Some(&Token::LParen) {
        return Err("it is created from a query, so it names no columns; dump its own definition".to_owned());
    }
    let (body, after) = group(rest)?;
    if after.iter().any(|token| is_word(Some(token), "SELECT")) {
        return Err("a query adds to its columns; dump its own definition".to_owned());
    }
    let mut reader = Reader::default();
    for item in split(body) {
        reader.item(item)?;
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    columns: Vec<Column>,
    primary_key: Vec<String>,
    generated: Vec<String>,
    chars: Vec<String>,
    lobs: Vec<String>,
    cascades: Vec<String>,
    /// Columns that DMS does not migrate (DMS, "Limitations on using a MySQL database as a source").
    invisible: Vec<String>,
}

impl Reader {
    fn item(&mut self, mut item: &[Token]) -> Result<(), String> {
        if take_words(&mut item, &["CONSTRAINT"]) {
            if !is_word(item.first(), "PRIMARY") {
                item = item.get(1..).unwrap_or_default();
            }
            return self.clause(item);
        }
        let clauses = ["PRIMARY", "UNIQUE", "KEY", "INDEX", "FULLTEXT", "SPATIAL", "FOREIGN", "CHECK"];
        let period = is_word(item.first(), "PERIOD") && is_word(item.get(1), "FOR");
        if period || clauses.iter().any(|clause| is_word(item.first(), clause)) {
            return self.clause(item);
        }
        self.column(item)
    }

    fn clause(&mut self, mut clause: &[Token]) -> Result<(), String> {
        if take_words(&mut clause, &["FOREIGN", "KEY"]) {
            self.cascades.extend(cascading(clause).filter(|table| !self.cascades.contains(table)));
            return Ok(());
        }
        if !take_words(&mut clause, &["PRIMARY", "KEY"]) {
            return Ok(());
        }
        let open = clause.iter().position(|token| *token == Token::LParen).ok_or("its primary key names no columns")?;
        for part in split(group(&clause[open..])?.0) {
            let name = name_at(part).ok_or("its primary key has a part that is no column")?;
            self.primary_key.push(name.to_owned());
        }
        Ok(())
    }

    fn column(&mut self, item: &[Token]) -> Result<(), String> {
        let name = name_at(item).ok_or_else(|| match item.first() {
            Some(token) => format!("{token} stands where a column is expected"),
            None => "nothing stands where a column is expected".to_owned(),
        })?;
        let (sql_type, used) = types::read(&item[1..]).map_err(|reason| format!("column {name}: {reason}"))?;
        let mut column = Column { name: name.to_owned(), sql_type, nullable: !is_word(item.get(1), "SERIAL") };
        self.attributes(&mut column, &item[1 + used..]);
        match types::kind(&item[1..1 + used]) {
            Some(Kind::Char) => self.chars.push(name.to_owned()),
            Some(Kind::Lob) => self.lobs.push(name.to_owned()),
            None => {}
        }
        if self.columns.iter().any(|known| known.name.eq_ignore_ascii_case(name)) {
            return Err(format!("column {name}: there are two of that name"));
        }
        self.columns.push(column);
        Ok(())
    }

    fn attributes(&mut self, column: &mut Column, tokens: &[Token]) {
        let mut depth = 0usize;
        for (i, token) in tokens.iter().enumerate() {
            match token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                _ => {
                    let before = i.checked_sub(1).and_then(|i| tokens.get(i));
                    if is_word(Some(token), "NULL") && is_word(before, "NOT") {
                        column.nullable = false;
                    }
                    // KEY alone means PRIMARY KEY in a column (MySQL manual, "CREATE TABLE Statement").
                    if is_word(Some(token), "KEY") && !is_word(before, "UNIQUE") {
                        self.primary_key.push(column.name.clone());
                    }
                    if is_word(Some(token), "AS") {
                        self.generated.push(column.name.clone());
                    }
                    if is_word(Some(token), "INVISIBLE") {
                        self.invisible.push(column.name.clone());
                    }
                }
            }
        }
    }

    fn finish(mut self) -> Result<(TableSchema, Self), String> {
        if self.columns.is_empty() {
            return Err("it has no columns".to_owned());
        }
        resolve_key(&mut self.columns, &mut self.primary_key)?;
        let invisible = std::mem::take(&mut self.invisible);
        if self.primary_key.iter().any(|key| invisible.contains(key)) {
            self.primary_key.clear();
        }
        for names in [&mut self.generated, &mut self.chars, &mut self.lobs] {
            names.retain(|name| !invisible.contains(name));
        }
        let mut columns = std::mem::take(&mut self.columns);
        columns.retain(|column| !invisible.contains(&column.name));
        Ok((TableSchema { columns, primary_key: std::mem::take(&mut self.primary_key) }, self))
    }
}

/// The table that a foreign key refers to, if it changes rows of its own accord.
fn cascading(clause: &[Token]) -> Option<String> {
    let at = clause.iter().position(|token| is_word(Some(token), "REFERENCES"))? + 1;
    let (first, rest) = (name_at(clause.get(at..)?)?, clause.get(at + 1..)?);
    let table = match rest.first() {
        Some(Token::Period) => format!("{first}.{}", name_at(&rest[1..])?),
        _ => first.to_owned(),
    };
    let changes = |end: &[Token]| {
        let mut action = end;
        (take_words(&mut action, &["ON", "DELETE"]) || take_words(&mut action, &["ON", "UPDATE"]))
            && (is_word(action.first(), "CASCADE") || is_word(action.first(), "SET"))
    };
    (0..rest.len()).any(|i| changes(&rest[i..])).then_some(table)
}

/// The tokens inside the parentheses that open `tokens`, and those after them.
fn group(tokens: &[Token]) -> Result<(&[Token], &[Token]), String> {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate() {
        match token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => return Ok((&tokens[1..i], &tokens[i + 1..])),
            Token::RParen => depth -= 1,
            _ => {}
        }
    }
    Err("a parenthesis is not closed".to_owned())
}

/// The parts between the commas that stand in no parentheses.
fn split(tokens: &[Token]) -> impl Iterator<Item = &[Token]> {
    let mut depth = 0usize;
    tokens.split(move |token| {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && *token == Token::Comma
    })
}

/// Moves `rest` past `words` if it begins with all of them.
fn take_words(rest: &mut &[Token], words: &[&str]) -> bool {
    let found = words.iter().enumerate().all(|(i, word)| is_word(rest.get(i), word));
    if found {
        *rest = &rest[words.len()..];
    }
    found
}

fn is_word(token: Option<&Token>, wanted: &str) -> bool {
    matches!(token, Some(Token::Word(word)) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted))
}

/// A name, in backticks, in the double quotes of ANSI mode, or in none.
fn name_at(tokens: &[Token]) -> Option<&str> {
    match tokens.first() {
        Some(Token::Word(word)) => Some(&word.value),
        Some(Token::DoubleQuotedString(text)) => Some(text),
        _ => None,
    }
}
