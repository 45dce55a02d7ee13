//! A table of nearly as many columns as MySQL allows, also in the least memory that a run may be given.

use crate::support::dms::{Change, Op};
use crate::support::model::assert_same;
use crate::support::site::Site;
use crate::support::table::{Row, Table};
use crate::support::workload::stamp;
use deltalake::parquet::file::reader::{FileReader, SerializedFileReader};
use std::collections::BTreeMap;

const COLUMNS: usize = 1000;

/// A row of a key and numbers that come again in other rows.
fn numbers(id: usize, salt: usize) -> Row {
    let number = |column| if column == 0 { id } else { (id + column * salt) % 300 };
    (0..COLUMNS).map(|column| Some(number(column).to_string())).collect()
}

#[test]
fn a_thousand_columns_are_merged_with_dictionaries_or_where_memory_is_scarce_without() {
    let names: Vec<_> = (0..COLUMNS).map(|column| format!("c{column}")).collect();
    let columns: Vec<_> = names.iter().map(|name| (name.as_str(), "int(11) NOT NULL")).collect();
    let table = Table::new("shop.wide", &columns);
    for (table_type, memory, has_dictionaries) in
        [("copy-on-write", "256MB", false), ("merge-on-read", "256MB", false), ("copy-on-write", "2GB", true)]
    {
        let mut site = Site::local();
        site.run_config = format!("memory_limit = \"{memory}\"");
        site.declare(&[&table]);
        site.edit("lakemerge.toml", "[lake]\n", &format!("[lake]\ntable_type = \"{table_type}\"\n"));
        let mut model: BTreeMap<usize, Row> = (0..300).map(|id| (id, numbers(id, 1))).collect();
        site.load(&table, 1, &model.values().cloned().collect::<Vec<_>>());
        site.run();
        let mut changes = vec![];
        for id in (0..330).step_by(3) {
            let (op, row) = (if id < 300 { Op::Update } else { Op::Insert }, numbers(id, 7));
            model.insert(id, row.clone());
            changes.push(Change { op, row });
        }
        for id in (0..300).step_by(7) {
            changes.extend(model.remove(&id).map(|row| Change { op: Op::Delete, row }));
        }
        site.changes(&table, &stamp(0), &changes);
        site.run();
        let mut expected: Vec<_> = model.into_values().collect();
        expected.sort();
        assert_same(&site.rows(&table), &expected, table_type);
        for (name, bytes) in site.lake_files().into_iter().filter(|(name, _)| name.ends_with(".parquet")) {
            let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
            let column = file.metadata().row_group(0).column(COLUMNS - 1);
            assert_eq!(column.dictionary_page_offset().is_some(), has_dictionaries, "{memory}: {name}");
        }
    }
}
