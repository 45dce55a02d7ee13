//! Tables and their types from a dump: the `CREATE TABLE` statements of `mysqldump` and `mariadb-dump` output.
//!
//! A dump is gigabytes of `INSERT`s around a few definitions, and sqlparser as a reader of whole files refuses real
//! ones (`DISABLE KEYS`, `zerofill`, `PARTITION BY`). So its statements are split as a stream and only definitions are
//! kept; of these only the columns with their types and the primary key are read, and the rest is passed over.

mod statements;
mod table;
pub(crate) mod types;

use std::io::{Cursor, Read};

use crate::name::TableName;
use crate::schema::TableSchema;
use statements::{Statement, Statements};
use table::{Change, Meaning, Qualified};

/// One `CREATE TABLE` statement of a dump.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateTable {
    /// The schema that qualifies the name, else that of the last `USE`.
    pub schema: Option<String>,
    /// The table's own name.
    pub table: String,
    /// The columns and the key, or why they cannot be read; the other tables of the file can be used all the same.
    pub definition: Result<TableSchema, String>,
    /// The generated columns: a full load of DMS has their values, its change files do not (DMS, "Using a
    /// MySQL-compatible database as a source", limitations).
    pub generated: Vec<String>,
    /// The `CHAR` columns, whose values MySQL gives without the spaces at their end.
    pub chars: Vec<String>,
    /// The columns that DMS treats as LOBs: of their values there are no before images.
    pub lobs: Vec<String>,
    /// The tables whose deletes or updates change rows of this one through a foreign key: of such a change the source's
    /// log has nothing (MySQL before 9.6).
    pub cascades: Vec<String>,
}

/// Why a dump does not give a table's definition.
#[derive(Debug, thiserror::Error)]
pub enum DdlError {
    /// The dump cannot be read.
    #[error("the dump cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// No statement creates the table.
    #[error("no CREATE TABLE for {name}; the file has {has}")]
    NotFound {
        /// The table that was looked for.
        name: TableName,
        /// What the file has instead, as text.
        has: String,
    },
    /// Several schemas have a table of that name, and none of them is the one that was looked for.
    #[error("several tables are named {} and none is {name}; the file has {has}", name.table)]
    Ambiguous {
        /// The table that was looked for.
        name: TableName,
        /// What the file has instead, as text.
        has: String,
    },
    /// The statement is there and its definition cannot be read.
    #[error("CREATE TABLE {name} cannot be read: {reason}")]
    Unreadable {
        /// The table that was looked for.
        name: TableName,
        /// What is wrong with its definition.
        reason: String,
    },
}

/// All tables that a dump creates, in the order of their statements; of two for one table the later one is kept.
///
/// The dump is read as a stream: only the statement at hand is in memory, and of `INSERT`s not even that. Temporary
/// tables are left out, and so are the placeholders that `mysqldump` writes for views.
///
/// # Errors
/// Only if `input` fails: whatever cannot be understood is either skipped or told in [`CreateTable::definition`].
pub fn create_tables(input: impl Read) -> Result<Vec<CreateTable>, DdlError> {
    let mut statements = Statements::new(without_mark(input)?);
    let mut current: Option<String> = None;
    let mut tables: Vec<CreateTable> = Vec::new();
    let mut dropped: Vec<Qualified> = Vec::new();
    while let Some(statement) = statements.next()? {
        match meaning(&statement) {
            Meaning::Use(schema) => current = Some(schema),
            Meaning::Create(mut created, only_if_new) => {
                let name = named((created.schema.take(), created.table.clone()), &current);
                let is_there = tables.iter().any(|known| known.is(&name)) && !dropped.contains(&name);
                if !(only_if_new && is_there) {
                    dropped.retain(|known| *known != name);
                    tables.retain(|known| !known.is(&name));
                    tables.push(CreateTable { schema: name.0, ..created });
                }
            }
            Meaning::Alter(table, changes) => {
                let mut name = named(table, &current);
                for change in changes {
                    match change {
                        Change::Name(to) => {
                            let to = named(to, &current);
                            rename(&mut tables, &mut dropped, &name, &to);
                            name = to;
                        }
                        change => {
                            tables.iter_mut().filter(|known| known.is(&name)).for_each(|known| known.alter(&change))
                        }
                    }
                }
            }
            Meaning::Rename(pairs) => {
                for (from, to) in pairs {
                    rename(&mut tables, &mut dropped, &named(from, &current), &named(to, &current));
                }
            }
            // kept all the same: migrations have what undoes them in the same file
            Meaning::Drop(names) => {
                dropped.extend(names.into_iter().map(|name| named(name, &current)));
            }
            Meaning::Other => {}
        }
    }
    Ok(tables)
}

/// A table's name with the schema of the last `USE`, if it has none of its own.
fn named((schema, table): Qualified, current: &Option<String>) -> Qualified {
    (schema.or_else(|| current.clone()), table)
}

/// Gives the table `from`, if it is known, the name `to`, which no other has from then on.
fn rename(tables: &mut Vec<CreateTable>, dropped: &mut Vec<Qualified>, from: &Qualified, to: &Qualified) {
    let Some(mut renamed) = tables.iter().position(|known| known.is(from)).map(|at| tables.remove(at)) else { return };
    tables.retain(|known| !known.is(to));
    dropped.retain(|known| known != to);
    (renamed.schema, renamed.table) = to.clone();
    tables.push(renamed);
}

/// The input without the byte order mark that editors of Windows put before it.
fn without_mark<R: Read>(mut input: R) -> std::io::Result<impl Read> {
    let mut beginning = Vec::new();
    input.by_ref().take(3).read_to_end(&mut beginning)?;
    if beginning == "\u{feff}".as_bytes() {
        beginning.clear();
    }
    Ok(Cursor::new(beginning).chain(input))
}

const ALTERED: &str =
    "an ALTER TABLE behind it changes its columns; give the CREATE TABLE as it is now (SHOW CREATE TABLE)";

fn meaning(statement: &Statement) -> Meaning {
    let mut meaning = table::read(&String::from_utf8_lossy(&statement.text));
    if let (Meaning::Create(created, _), false) = (&mut meaning, statement.whole) {
        created.definition = Err(format!("the statement is longer than {} bytes", statements::LONGEST));
    }
    meaning
}

/// The definition of `name`: of the table with its schema and name, else of the only table with its name alone, since
/// a dump may come from a database of another name or say nothing about it.
///
/// # Errors
/// If there is none, more than one, or it cannot be read; the error lists what the file has.
pub fn find<'a>(tables: &'a [CreateTable], name: &TableName) -> Result<&'a TableSchema, DdlError> {
    find_statement(tables, name)?.schema_of(name)
}

/// The statement that [`find`] takes for `name`, whether or not its definition can be read.
///
/// # Errors
/// If there is none, or more than one; the error lists what the file has.
pub fn find_statement<'a>(tables: &'a [CreateTable], name: &TableName) -> Result<&'a CreateTable, DdlError> {
    let exact = tables.iter().find(|t| t.table == name.table && t.schema.as_ref() == Some(&name.schema));
    let mut alike = tables.iter().filter(|t| t.table == name.table);
    match (exact, alike.next(), alike.next()) {
        (Some(table), _, _) | (None, Some(table), None) => Ok(table),
        (None, Some(_), Some(_)) => Err(DdlError::Ambiguous { name: name.clone(), has: list(tables) }),
        (None, None, _) => Err(DdlError::NotFound { name: name.clone(), has: list(tables) }),
    }
}

impl CreateTable {
    fn is(&self, name: &Qualified) -> bool {
        (&self.schema, &self.table) == (&name.0, &name.1)
    }

    fn alter(&mut self, change: &Change) {
        let Ok(definition) = &mut self.definition else { return };
        match change {
            Change::Columns => self.definition = Err(ALTERED.to_owned()),
            Change::Key(key) => {
                definition.primary_key.clone_from(key);
                // a column that is not there is an invisible one, which DMS leaves out
                if table::resolve_key(&mut definition.columns, &mut definition.primary_key).is_err() {
                    definition.primary_key.clear();
                }
            }
            Change::Cascade(table) if !self.cascades.contains(table) => self.cascades.push(table.clone()),
            Change::Cascade(_) | Change::Name(_) => {}
        }
    }

    /// The columns and the key of the table, which is looked for as `name`.
    ///
    /// # Errors
    /// If the definition cannot be read.
    pub fn schema_of(&self, name: &TableName) -> Result<&TableSchema, DdlError> {
        let unreadable = |reason: &String| DdlError::Unreadable { name: name.clone(), reason: reason.clone() };
        self.definition.as_ref().map_err(unreadable)
    }
}

/// At most this many tables are listed in an error.
const LISTED: usize = 20;

fn list(tables: &[CreateTable]) -> String {
    let named = |t: &CreateTable| match &t.schema {
        Some(schema) => TableName::new(schema, &t.table).to_string(),
        None => t.table.clone(),
    };
    let names: Vec<_> = tables.iter().take(LISTED).map(named).collect();
    match tables.len() {
        0 => "no CREATE TABLE at all".to_owned(),
        n if n > LISTED => format!("{} and {} more", names.join(", "), n - LISTED),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests;
