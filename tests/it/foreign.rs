//! What other writers leave in a table: paths, files and properties that lakemerge itself would write otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::data_type::{Int32Type, Int96, Int96Type};
use deltalake::parquet::file::properties::{EnabledStatistics, WriterProperties};
use deltalake::parquet::file::writer::SerializedFileWriter;
use deltalake::parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use crate::support::dms::{delete, insert, update};
use crate::support::model::assert_same;
use crate::support::readers;
use crate::support::site::Site;
use crate::support::table::{Row, Table, row};
use crate::support::workload::stamp;

const TYPES: [&str; 2] = ["merge-on-read", "copy-on-write"];

fn site(table: &Table, table_type: &str) -> Site {
    let site = Site::local();
    site.declare(&[table]);
    site.edit("lakemerge.toml", "[lake]\n", &format!("[lake]\ntable_type = \"{table_type}\"\n"));
    site
}

fn folder(site: &Site, table: &Table) -> PathBuf {
    PathBuf::from(site.table_uri(table).trim_start_matches("file://"))
}

/// Changes each action of the table's first version, as if another writer had written it.
fn edit_first_version(folder: &Path, edit: impl Fn(&mut Value)) {
    let entry = folder.join("_delta_log/00000000000000000000.json");
    let text = fs::read_to_string(&entry).unwrap();
    let edited = text.lines().map(|line| {
        let mut action: Value = serde_json::from_str(line).unwrap();
        edit(&mut action);
        action.to_string()
    });
    fs::write(&entry, edited.collect::<Vec<_>>().join("\n")).unwrap();
}

/// Takes away what tells that an action is ours.
fn of_another_writer(action: &mut Value) {
    for of_ours in ["txn", "commitInfo"] {
        if action.get(of_ours).is_some() {
            *action = json!({"commitInfo": {"operation": "WRITE"}});
        }
    }
    if let Some(configuration) = action.pointer_mut("/metaData/configuration") {
        *configuration = json!({});
    }
}

/// Puts `content` in the place of the table's only data file.
fn put_file(folder: &Path, content: &[u8]) {
    edit_first_version(folder, |action| {
        if let Some(path) = action.pointer("/add/path").and_then(Value::as_str).map(|path| folder.join(path)) {
            fs::write(path, content).unwrap();
            action["add"]["size"] = json!(content.len());
        }
    });
}

fn by_all(site: &Site, table: &Table, expected: &[Row], what: &str) {
    by_all_but("", site, table, expected, what);
}

fn by_all_but(but: &str, site: &Site, table: &Table, expected: &[Row], what: &str) {
    assert_same(&site.rows(table), expected, &format!("{what}, by lakemerge"));
    for (engine, rows) in readers::rows(site, table).into_iter().filter(|(engine, _)| engine != but) {
        assert_same(&rows, expected, &format!("{what}, by {engine}"));
    }
}

#[test]
fn a_file_whose_path_is_spelled_as_spark_does_is_replaced_and_not_doubled() {
    for table_type in TYPES {
        let towns =
            Table::new("geo.towns", &[("id", "int(11) NOT NULL"), ("land", "varchar(20)"), ("name", "varchar(20)")]);
        let site = site(&towns, table_type);
        site.edit("lakemerge.toml", "name = \"geo.towns\"\n", "name = \"geo.towns\"\npartition_by = [\"land\"]\n");
        site.load(
            &towns,
            1,
            &[row(["1", "España", "Vigo"]), row(["2", "España", "Ávila"]), row(["3", "Peru", "Lima"])],
        );
        site.run();
        let folder = folder(&site, &towns);
        edit_first_version(&folder, |action| {
            let Some(path) = action.pointer_mut("/add/path") else { return };
            let spelled = path.as_str().unwrap().replace("Espa%25C3%25B1a", "España");
            if *path != json!(spelled) {
                fs::create_dir_all(folder.join("land=España")).unwrap();
                let name = spelled.rsplit('/').next().unwrap();
                fs::rename(folder.join("land=Espa%C3%B1a").join(name), folder.join(&spelled)).unwrap();
                *path = json!(spelled);
            }
        });
        assert!(folder.join("land=España").exists());
        site.changes(&towns, &stamp(0), &[update(["1", "España", "VIGO"]), insert(["4", "España", "León"])]);
        site.run();
        let expected = [
            row(["1", "España", "VIGO"]),
            row(["2", "España", "Ávila"]),
            row(["3", "Peru", "Lima"]),
            row(["4", "España", "León"]),
        ];
        // Polars does not find the vector of a file whose path has letters beyond ASCII
        by_all_but("polars", &site, &towns, &expected, table_type);
        site.changes(&towns, &stamp(1), &[delete(["2", "", ""])]);
        site.run();
        site.command(&["maintain"]).exits(0);
        by_all_but(
            "polars",
            &site,
            &towns,
            &[&expected[..1], &expected[2..]].concat(),
            &format!("{table_type}, maintained"),
        );
    }
}

#[test]
fn files_of_unknown_length_are_no_table_to_go_on_with() {
    let table = Table::new("shop.rows", &[("id", "int(11) NOT NULL"), ("text", "varchar(50) DEFAULT NULL")]);
    let site = site(&table, "merge-on-read");
    site.load(&table, 1, &[row(["1", "one"])]);
    site.run();
    edit_first_version(&folder(&site, &table), |action| {
        if let Some(add) = action.get_mut("add").and_then(Value::as_object_mut) {
            add.remove("stats");
        }
        of_another_writer(action);
    });
    let says = "does not say how many rows the file has; have its writer rewrite the files";
    site.command(&["run", "--adopt", "shop.rows"]).exits(1).says(&[says]);
    assert_eq!(site.version(&table), Some(0), "it is as it was");
}

#[test]
fn bounds_that_another_writer_got_wrong_mislead_no_reader_of_a_table_that_was_taken_over() {
    let columns = [("id", "int(11) NOT NULL"), ("n", "bigint(20) unsigned DEFAULT NULL"), ("t", "varchar(9)")];
    let table = Table::new("shop.rows", &columns);
    let site = site(&table, "merge-on-read");
    let rows = [row(["1", "18446744073709551615", "one"]), row(["2", "7", "two"])];
    site.load(&table, 1, &rows);
    site.run();
    edit_first_version(&folder(&site, &table), |action| {
        if let Some(add) = action.get_mut("add") {
            // what deltalake 1.6.6 says of such a column
            let mut stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
            stats["minValues"]["n"] = json!(7);
            stats["maxValues"]["n"] = json!(i64::MAX);
            add["stats"] = json!(stats.to_string());
        }
        of_another_writer(action);
    });
    let found = || readers::find(&site, &table, "n", "18446744073709551615");
    assert!(found().values().any(Vec::is_empty), "no reader is misled, and the test shows nothing");
    site.command(&["run", "--adopt", "shop.rows"]).exits(0);
    for what in ["taken over", "changed", "compacted by another writer"] {
        found().into_iter().for_each(|(engine, found)| assert_same(&found, &rows[..1], &format!("{engine}: {what}")));
        match what {
            "taken over" => {
                site.changes(&table, &stamp(0), &[delete(["2", "", ""]), insert(["3", "9", "three"])]);
                site.run();
            }
            _ => readers::compact(&site, &table),
        }
    }
}

#[test]
fn a_table_whose_files_have_other_names_for_its_columns_is_not_read() {
    let goods = Table::new("shop.goods", &[("id", "int(11) NOT NULL"), ("name", "varchar(20)")]);
    let site = site(&goods, TYPES[0]);
    site.load(&goods, 1, &[row(["1", "one"])]);
    site.run();
    edit_first_version(&folder(&site, &goods), |action| {
        if let Some(configuration) = action.pointer_mut("/metaData/configuration") {
            configuration["delta.columnMapping.mode"] = json!("name");
        }
    });
    site.command(&["query", "SELECT * FROM shop.goods"]).exits(1).says(&["delta.columnMapping.mode"]);
    site.changes(&goods, &stamp(0), &[update(["1", "uno"])]);
    site.command(&["run"]).exits(1).says(&["delta.columnMapping.mode"]);
}

#[test]
fn a_file_without_page_index_of_which_some_row_groups_stay_is_rewritten() {
    let goods = Table::new("shop.goods", &[("id", "int(11) NOT NULL"), ("name", "varchar(20)")]);
    for table_type in TYPES {
        let mut site = site(&goods, table_type);
        // every file is a large one
        site.extra_env = vec![("LAKEMERGE_TEST_SMALL".into(), "0".into())];
        let names: Vec<_> = (0..300).map(|id| format!("name {id}")).collect();
        let rows: Vec<_> = (0..300).map(|id: i32| row([&id.to_string(), &names[id as usize]])).collect();
        site.load(&goods, 1, &rows);
        site.run();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(100))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true);
        let columns: [(_, ArrayRef, _); 2] = [
            ("id", Arc::new(Int32Array::from_iter_values(0..300)), true),
            ("name", Arc::new(StringArray::from(names)), true),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let mut writer = ArrowWriter::try_new(vec![], batch.schema(), Some(properties.build())).unwrap();
        writer.write(&batch).unwrap();
        put_file(&folder(&site, &goods), &writer.into_inner().unwrap());
        site.changes(&goods, &stamp(0), &[delete(["150", ""]), update(["151", "changed"])]);
        site.run();
        site.command(&["maintain"]).exits(0);
        let mut expected: Vec<_> = rows.into_iter().filter(|row| row[0].as_deref() != Some("150")).collect();
        expected
            .iter_mut()
            .filter(|row| row[0].as_deref() == Some("151"))
            .for_each(|row| row[1] = Some("changed".into()));
        expected.sort();
        by_all(&site, &goods, &expected, table_type);
    }
}

/// A time stamp as Spark writes it: nanoseconds of the day, and the Julian day.
fn int96(days_since_1970: i32) -> Int96 {
    let mut value = Int96::new();
    value.set_data(0, 0, u32::try_from(days_since_1970 + 2_440_588).unwrap());
    value
}

#[test]
fn time_stamps_of_96_bits_are_read_in_any_year() {
    let terms = Table::new("shop.terms", &[("id", "int(11) NOT NULL"), ("until", "timestamp NULL")]);
    for table_type in TYPES {
        let site = site(&terms, table_type);
        let days = [("1000-01-01", -354_285), ("2024-02-29", 19_782), ("9999-12-31", 2_932_896)];
        let rows: Vec<_> =
            (0..).zip(&days).map(|(id, (day, _))| row([&id.to_string(), &format!("{day} 00:00:00.000000")])).collect();
        site.load(&terms, 1, &rows);
        site.run();
        let message = "message m { optional int32 id; optional int96 until; }";
        let schema = Arc::new(parse_message_type(message).unwrap());
        let mut writer = SerializedFileWriter::new(vec![], schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&[0, 1, 2], Some(&[1; 3]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int96Type>().write_batch(&days.map(|(_, day)| int96(day)), Some(&[1; 3]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        put_file(&folder(&site, &terms), &writer.into_inner().unwrap());
        assert_same(&site.rows(&terms), &rows, "as Spark left them");
        site.changes(&terms, &stamp(0), &[delete(["1", ""])]);
        site.run();
        site.command(&["maintain"]).exits(0);
        by_all(&site, &terms, &[rows[0].clone(), rows[2].clone()], table_type);
    }
}

#[test]
fn a_time_stamp_that_is_a_partition_says_its_zone() {
    let calls = Table::new("shop.calls", &[("id", "int(11) NOT NULL"), ("at", "timestamp NULL"), ("day", "datetime")]);
    let site = site(&calls, TYPES[0]);
    site.edit("lakemerge.toml", "name = \"shop.calls\"\n", "name = \"shop.calls\"\npartition_by = [\"at\", \"day\"]\n");
    let rows = [
        row(["1", "2024-01-01 10:00:00.000000", "2024-01-01 10:00:00.000000"]),
        row(["2", "2024-01-01 10:00:00.250000", "2024-01-01 10:00:00.250000"]),
        vec![Some("3".into()), None, None],
    ];
    site.load(&calls, 1, &rows);
    site.run();
    let entry = fs::read_to_string(folder(&site, &calls).join("_delta_log/00000000000000000000.json")).unwrap();
    assert!(
        entry.contains(r#""at":"2024-01-01T10:00:00Z""#) && entry.contains(r#""day":"2024-01-01 10:00:00""#),
        "{entry}"
    );
    by_all(&site, &calls, &rows, "loaded");
    for (engine, found) in readers::find(&site, &calls, "at", "2024-01-01 10:00:00.250000") {
        assert_same(&found, &rows[1..2], &format!("looked for by {engine}"));
    }
    site.changes(&calls, &stamp(0), &[update(["2", "2024-01-01 10:00:00.000000", "2024-01-01 10:00:00.000000"])]);
    site.run();
    assert_eq!(site.rows_where(&calls, "at = '2024-01-01 10:00:00'").len(), 2);
}
