//! The records of one table in a file that holds those of all tables (DMS S3 target, "Capturing data changes (CDC)
//! including transaction order"): `operation,table,schema,fields...`, without a header.

use std::collections::BTreeSet;
use std::io::Read;

use super::cut::{Cutter, Fields, Span};
use crate::name::TableName;

/// Takes one table's records out, in the form they have in a file of its own.
pub(crate) struct TableFilter {
    table: TableName,
    /// The tables of the other records, and the last of them.
    others: BTreeSet<TableName>,
    other: Option<TableName>,
}

impl TableFilter {
    pub fn new(table: TableName) -> Self {
        Self { table, others: BTreeSet::new(), other: None }
    }

    /// Whether the record at hand is one of the table; if so, the names are gone from its `fields`.
    pub fn take<R: Read>(&mut self, cutter: &Cutter<R>, fields: &mut Fields) -> Result<bool, String> {
        let [_, table, schema, ..] = fields.spans[..] else {
            let reason = "a record of all tables' changes begins with operation, table and schema";
            return Err(format!("it has {} fields, and {reason}", fields.count));
        };
        let is = |span: Span, name: &str| cutter.text(span, &mut Vec::new()) == name.as_bytes();
        if is(table, &self.table.table) && is(schema, &self.table.schema) {
            fields.spans.drain(1..3);
            fields.count -= 2;
            return Ok(true);
        }
        let is_last = |other: &TableName| is(table, &other.table) && is(schema, &other.schema);
        if !self.other.as_ref().is_some_and(is_last) {
            let text = |span| String::from_utf8_lossy(cutter.text(span, &mut Vec::new())).into_owned();
            let other = self.other.insert(TableName { schema: text(schema), table: text(table) });
            self.others.insert(other.clone());
        }
        Ok(false)
    }

    /// Puts the field of a time of commit that these files may lack behind the operation, if there is none and fewer
    /// fields than `expected`: whether DMS writes it here is documented nowhere.
    pub fn complete<R: Read>(cutter: &Cutter<R>, fields: &mut Fields, expected: usize) {
        let mut scratch = Vec::new();
        let is_time = |span: &Span| {
            let text = cutter.text(*span, &mut scratch);
            text.len() == 26 && text[4] == b'-' && text[10] == b' ' && text[19] == b'.'
        };
        if fields.count < expected && !fields.spans.get(1).is_some_and(is_time) {
            fields.spans.insert(1, Span::NOTHING);
            fields.count += 1;
        }
    }

    /// The tables of the records that were not taken.
    pub fn others(&self) -> &BTreeSet<TableName> {
        &self.others
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::FileKind;
    use super::super::records::{RecordReader, Rows};
    use super::super::settings::S3Settings;
    use super::super::shape::Shape;
    use super::*;
    use crate::schema::{Column, DatetimeAs, TableSchema};
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn tell(rows: &Rows) -> Vec<String> {
        let (ids, names) =
            (rows.columns.column(0).as_primitive::<Int32Type>(), rows.columns.column(1).as_string::<i32>());
        let records = rows.records.iter().flatten().enumerate();
        let line = |(i, record): (usize, &u64)| {
            let times = rows.commit_times.as_ref().map(|times| times.as_primitive::<TimestampMicrosecondType>());
            let time = times.map(|times| format!(" at {:?}", times.iter().nth(i).flatten())).unwrap_or_default();
            format!("{record} {:?} {} {}{time}", rows.operations[i], ids.value(i), names.value(i))
        };
        records.map(line).collect()
    }

    /// The rows of `shop.orders`, and the other tables.
    fn read(text: &str, settings: &str) -> Result<(Vec<String>, Vec<String>), String> {
        let column = |name: &str, sql_type: &str| Column {
            name: name.into(),
            sql_type: sql_type.parse().unwrap(),
            nullable: true,
        };
        let columns = vec![column("id", "int"), column("name", "varchar(20)")];
        let shape = Arc::new(Shape::of(TableSchema { columns, primary_key: Vec::new() }));
        let settings = S3Settings::parse(settings).unwrap();
        let reader = RecordReader::new(text.as_bytes(), &settings, FileKind::Changes, shape, DatetimeAs::default());
        let mut reader = reader.with_commit_times().of_all_tables(&TableName::new("shop", "orders"));
        let mut told = Vec::new();
        while let Some(rows) = reader.next(2).map_err(|error| error.to_string())? {
            told.extend(tell(&rows));
        }
        Ok((told, reader.other_tables().map(ToString::to_string).collect()))
    }

    #[test]
    fn the_records_of_the_table_are_taken_and_keep_their_numbers() {
        let text = "I,orders,shop,1,a\nI,things,shop,1\nD,orders,other,1,2,3\nU,orders,shop,1,b\nI,\"th,ings\",shop,2\n\
                    D,orders,shop,2,c\nI,things,shop,3\n";
        let (told, others) = read(text, "{}").unwrap();
        assert_eq!(told, ["1 Insert 1 a", "4 Update 1 b", "6 Delete 2 c"]);
        assert_eq!(others, ["other.orders", "shop.th,ings", "shop.things"]);
    }

    #[test]
    fn records_begin_with_their_operation_whatever_is_set() {
        let (told, _) = read("I,orders,shop,1,a\n", r#"{"CdcInsertsOnly": true}"#).unwrap();
        assert_eq!(told, ["1 Insert 1 a"]);
    }

    #[test]
    fn a_time_of_commit_is_there_or_not() {
        let text = "I,orders,shop,1970-01-01 00:00:00.000001,1,a\nU,orders,shop,1,b\n";
        let (told, _) = read(text, r#"{"TimestampColumnName": "at"}"#).unwrap();
        assert_eq!(told, ["1 Insert 1 a at Some(1)", "2 Update 1 b at None"]);
        // one field short, but the time is there: a column is missing
        let short = "I,orders,shop,1970-01-01 00:00:00.000001,1\n";
        assert!(read(short, r#"{"TimestampColumnName": "at"}"#).unwrap_err().starts_with("record 1: column name"));
    }

    #[test]
    fn an_error_counts_all_records() {
        let error = read("I,things,shop,1\nI,orders,shop,x,a\n", "{}").unwrap_err();
        assert!(error.starts_with("record 2: column id: \"x\""), "{error}");
        let error = read("I,things,shop,1\nI,orders\n", "{}").unwrap_err();
        assert!(error.starts_with("record 2: it has 2 fields"), "{error}");
        let error = read("I,things,shop,1\nI,ord", "{}").unwrap_err();
        assert!(error.starts_with("record 2: the file ends"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_gives_rows_or_an_error(text in "([IUD],(orders|t),shop(,[0-9a\"]{0,2}){0,3}\n|.{0,9}){0,6}") {
            let _ = read(&text, r#"{"TimestampColumnName": "at"}"#);
        }
    }
}
