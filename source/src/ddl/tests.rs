//! Dumps in, tables out.

use super::*;
use proptest::prelude::*;

/// The tables of a dump as `schema.table(column TYPE!, ...) key`, where `!` means NOT NULL.
fn told(dump: &[u8]) -> Vec<String> {
    let tables = create_tables(dump).unwrap();
    tables.iter().map(tell).collect()
}

fn tell(table: &CreateTable) -> String {
    let schema = table.schema.as_ref().map(|s| format!("{s}.")).unwrap_or_default();
    let body = match &table.definition {
        Ok(definition) => {
            let column =
                |c: &crate::schema::Column| format!("{} {}{}", c.name, c.sql_type, if c.nullable { "" } else { "!" });
            let columns: Vec<_> = definition.columns.iter().map(column).collect();
            format!("({}) [{}]", columns.join(", "), definition.primary_key.join(", "))
        }
        Err(reason) => format!(": {reason}"),
    };
    format!("{schema}{}{body}", table.table)
}

fn check(dump: &str, expected: &[&str]) {
    assert_eq!(told(dump.as_bytes()), expected, "{dump}");
}

#[test]
fn a_table_of_a_dump_is_read_with_its_types_and_key() {
    check(
        "CREATE TABLE `orders` (\n  `id` int(11) NOT NULL AUTO_INCREMENT,\n  `total` decimal(10,2) DEFAULT '0.00',\n  \
         `note` varchar(50) COLLATE utf8_bin DEFAULT 'it''s; \\'so\\'' COMMENT \"a, b\",\n  PRIMARY KEY (`id`),\n  \
         KEY `by_total` (`total`,`note`(10)) USING BTREE,\n  FULLTEXT KEY `f` (`note`) WITH PARSER ngram,\n  \
         CONSTRAINT `c` FOREIGN KEY (`id`) REFERENCES `other` (`id`) ON DELETE CASCADE\n) ENGINE=InnoDB \
         AUTO_INCREMENT=5 DEFAULT CHARSET=latin1\n/*!50100 PARTITION BY HASH (id) PARTITIONS 4 */;\n",
        &["orders(id INT!, total DECIMAL(10,2), note TEXT) [id]"],
    );
}

#[test]
fn keys_are_found_wherever_they_stand() {
    check(
        "create table a (x int primary key, y int unique key); create table b (x int key);
         create table c (x varchar(10), y int, z int, constraint pk primary key using btree (y, x(4) desc));
         create table d (id serial, `key` int, `primary` int);",
        &[
            "a(x INT!, y INT) [x]",
            "b(x INT!) [x]",
            "c(x TEXT!, y INT!, z INT) [y, x]",
            "d(id BIGINT UNSIGNED!, key INT, primary INT) []",
        ],
    );
}

#[test]
fn generated_columns_are_columns_and_are_named() {
    let dump = "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a + 1) VIRTUAL NOT NULL,
        c int AS (concat(a, 'KEY')) STORED)";
    let tables = create_tables(dump.as_bytes()).unwrap();
    assert_eq!(tell(&tables[0]), "t(a INT, b INT!, c INT) []");
    assert_eq!(tables[0].generated, ["b", "c"]);
}

#[test]
fn columns_that_are_padded_and_columns_that_are_lobs_are_named() {
    let dump = "CREATE TABLE t (a char(3), b character varying(3), c national char(3), d varchar(3), e text,
        f mediumtext, g json, h blob, i longblob, j point)";
    let tables = create_tables(dump.as_bytes()).unwrap();
    assert_eq!(tables[0].chars, ["a", "c"]);
    assert_eq!(tables[0].lobs, ["f", "g", "i", "j"]);
}

#[test]
fn foreign_keys_that_change_rows_are_named() {
    let dump = "CREATE TABLE t (a int, b int, c int, d int,
        CONSTRAINT `x` FOREIGN KEY (`a`) REFERENCES `p` (`id`) ON DELETE CASCADE,
        FOREIGN KEY fk (b) REFERENCES shop.q (id) ON DELETE NO ACTION ON UPDATE SET NULL,
        CONSTRAINT FOREIGN KEY (c) REFERENCES r (id) ON DELETE RESTRICT,
        FOREIGN KEY (d) REFERENCES p (id) ON UPDATE CASCADE)";
    let tables = create_tables(dump.as_bytes()).unwrap();
    assert_eq!(tell(&tables[0]), "t(a INT, b INT, c INT, d INT) []");
    assert_eq!(tables[0].cascades, ["p", "shop.q"]);
    let behind = "CREATE TABLE t (a int); ALTER TABLE t ADD KEY (a), ADD CONSTRAINT x FOREIGN KEY (a) REFERENCES p (id)
        ON DELETE CASCADE;";
    assert_eq!(create_tables(behind.as_bytes()).unwrap()[0].cascades, ["p"]);
}

#[test]
fn use_names_the_schema_of_what_follows_and_a_qualified_name_wins() {
    check(
        "CREATE TABLE a (x int); CREATE DATABASE /*!32312 IF NOT EXISTS*/ `one`; USE `one`; CREATE TABLE b (x int);
         use two\nCREATE TABLE c (x int); CREATE TABLE `three`.`d` (x int);",
        &["a(x INT) []", "one.b(x INT) []", "two.c(x INT) []", "three.d(x INT) []"],
    );
}

#[test]
fn what_follows_a_definition_and_changes_its_columns_is_not_passed_over() {
    let of = |alter: &str| {
        let dump = format!("CREATE TABLE a (x int, y int); CREATE TABLE b (x int); {alter};");
        let tables = create_tables(dump.as_bytes()).unwrap();
        assert!(tables[1].definition.is_ok(), "{alter}");
        tables[0].definition.is_ok()
    };
    for alter in [
        "ALTER TABLE a ADD z int FIRST",
        "alter table `a` add column z int, ENGINE=InnoDB",
        "ALTER TABLE a COMMENT 'x', DROP COLUMN y",
        "ALTER TABLE a MODIFY x bigint",
        "ALTER TABLE a CHANGE x z int",
        "ALTER TABLE a RENAME COLUMN x TO z",
    ] {
        assert!(!of(alter), "{alter}");
    }
    for alter in [
        "/*!40000 ALTER TABLE `a` DISABLE KEYS */",
        "ALTER TABLE a ADD PRIMARY KEY (x), ADD KEY k (y)",
        "ALTER TABLE a MODIFY x int NOT NULL AUTO_INCREMENT, AUTO_INCREMENT=7",
        "ALTER TABLE a ADD CONSTRAINT c FOREIGN KEY (y) REFERENCES b (x) ON DELETE CASCADE",
        "ALTER TABLE other ADD z int",
    ] {
        assert!(of(alter), "{alter}");
    }
    for (alter, expected) in [
        ("ALTER TABLE a DROP PRIMARY KEY, ADD PRIMARY KEY (`X`, y)", "a(x INT!, y INT!) [x, y]"),
        ("ALTER TABLE a DROP PRIMARY KEY", "a(x INT!, y INT) []"),
        ("ALTER TABLE a DROP PRIMARY KEY, ADD CONSTRAINT `c` PRIMARY KEY USING BTREE (y)", "a(x INT!, y INT!) [y]"),
        ("ALTER TABLE a ADD UNIQUE KEY (y)", "a(x INT!, y INT) [x]"),
    ] {
        check(&format!("CREATE TABLE a (x int PRIMARY KEY, y int); {alter};"), &[expected]);
    }
    check("CREATE TABLE a (x int); CREATE TABLE IF NOT EXISTS a (y int);", &["a(x INT) []"]);
    check("CREATE TABLE a (x int); DROP TABLE IF EXISTS b, a; CREATE TABLE IF NOT EXISTS a (y int);", &["a(y INT) []"]);
    check("CREATE TABLE a (x int); DROP TABLE a;", &["a(x INT) []"]);
}

#[test]
fn a_table_that_takes_the_place_of_another_has_its_name() {
    let swapped = "CREATE TABLE a (x int); CREATE TABLE n (y int); ";
    check(&format!("{swapped} RENAME TABLE a TO old, n TO a;"), &["old(x INT) []", "a(y INT) []"]);
    check(&format!("{swapped} DROP TABLE a; ALTER TABLE n RENAME TO a;"), &["a(y INT) []"]);
    check(&format!("{swapped} DROP TABLE a; ALTER TABLE n RENAME a, ADD KEY (y);"), &["a(y INT) []"]);
    let changed = create_tables("CREATE TABLE n (y int); ALTER TABLE n RENAME TO a, ADD z int;".as_bytes()).unwrap();
    assert!(changed[0].table == "a" && changed[0].definition.as_ref().unwrap_err().contains("ALTER TABLE"));
    check("CREATE TABLE a (x int); RENAME TABLE other TO a;", &["a(x INT) []"]);
    check("CREATE TABLE a (x int); ALTER TABLE a RENAME INDEX i TO a;", &["a(x INT) []"]);
    check("CREATE TABLE a (i int INVISIBLE, x int); ALTER TABLE a ADD PRIMARY KEY (i);", &["a(x INT) []"]);
    check("\u{feff}CREATE TABLE a (x int);", &["a(x INT) []"]);
    check("CREATE TABLE a (x int); CREATE TABLE a (y int);", &["a(y INT) []"]);
}

#[test]
fn comments_are_skipped_and_executable_ones_count() {
    check(
        "-- CREATE TABLE no (x int);\n# CREATE TABLE no (x int);\n/* CREATE TABLE no (x int); */
         CREATE TABLE /*!32312 IF NOT EXISTS*/ a ( -- it's a comment; with a quote\n x int /* , y int */, z int--1\n);
         /*M!999999\\- enable the sandbox mode */
         CREATE TABLE b (x int /*!80023 INVISIBLE */, y int /*M!100300 INVISIBLE */, z int);",
        &["a(x INT, z INT) []", "b(z INT) []"],
    );
}

#[test]
fn columns_that_dms_does_not_migrate_are_none() {
    check(
        "CREATE TABLE t (my_row_id bigint unsigned NOT NULL AUTO_INCREMENT /*!80023 INVISIBLE */, v int, \
         PRIMARY KEY (my_row_id), KEY k (v) /*!80000 INVISIBLE */)",
        &["t(v INT) []"],
    );
}

#[test]
fn a_create_table_in_a_string_or_a_trigger_is_none() {
    check(
        "INSERT INTO t VALUES (1,'a\\'; CREATE TABLE no (x int);','\\\\'),(2,\"; CREATE TABLE no (x int);\");
         DELIMITER ;;\nCREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW
         BEGIN SET @a = 1; CREATE TABLE no (x int); END ;;
         DELIMITER ;\nCREATE TABLE yes (x int);",
        &["yes(x INT) []"],
    );
}

#[test]
fn the_placeholder_of_a_view_and_a_temporary_table_are_none() {
    check(
        "/*!50001 CREATE TABLE `v` (\n `a` tinyint NOT NULL\n) ENGINE=MyISAM */;\nCREATE TEMPORARY TABLE t (x int);",
        &[],
    );
}

#[test]
fn one_definition_that_cannot_be_read_does_not_spoil_the_others() {
    let got = told(
        b"CREATE TABLE a LIKE b; CREATE TABLE c AS SELECT 1; CREATE TABLE d (x money, y int);
        CREATE TABLE e (x int, X int); CREATE TABLE f (x int, PRIMARY KEY (y));
        CREATE TABLE g (x int) SELECT 2 AS y; CREATE TABLE h (x int; CREATE TABLE i (x int)",
    );
    let reasons = ["LIKE", "query", "MONEY", "two of that name", "names y", "query", "not closed"];
    for (told, reason) in got.iter().zip(reasons) {
        assert!(told.contains(reason), "{told}");
    }
    assert_eq!(got.last().unwrap(), "i(x INT) []");
}

#[test]
fn the_later_of_two_definitions_is_kept() {
    check("CREATE TABLE a (x int); CREATE TABLE a (y int);", &["a(y INT) []"]);
}

#[test]
fn a_statement_without_end_is_not_held_in_memory() {
    let mut dump = b"CREATE TABLE a (x int, y varchar(10) COMMENT '".to_vec();
    dump.resize(statements::LONGEST + 100, b'x');
    dump.extend_from_slice(b"'); CREATE TABLE b (x int);");
    let got = told(&dump);
    assert!(got[0].contains("longer than"), "{}", got[0]);
    assert_eq!(got[1], "b(x INT) []");
}

#[test]
fn a_table_is_found_by_its_full_name_else_by_the_only_one_alike() {
    let tables =
        create_tables(&b"USE a; CREATE TABLE t (x int); CREATE TABLE u (y int); USE b; CREATE TABLE t (z int)"[..])
            .unwrap();
    let column = |schema: &str, table: &str| {
        find(&tables, &TableName::new(schema, table)).map(|t| t.columns[0].name.clone()).map_err(|e| e.to_string())
    };
    assert_eq!(column("a", "t").unwrap(), "x");
    assert_eq!(column("b", "t").unwrap(), "z");
    assert_eq!(column("other", "u").unwrap(), "y");
    assert_eq!(
        column("other", "t").unwrap_err(),
        "several tables are named t and none is other.t; the file has a.t, a.u, b.t"
    );
    assert_eq!(column("a", "v").unwrap_err(), "no CREATE TABLE for a.v; the file has a.t, a.u, b.t");
}

/// Gives at most `step` bytes at a time.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

proptest! {
    #[test]
    fn any_bytes_give_tables_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        told(&bytes);
    }

    #[test]
    fn any_statement_gives_tables_or_none(
        text in "(CREATE TABLE|USE|DELIMITER|`a`|b|int|\\(|\\)|,|;|'|\"|`|/\\*!5|\\*/|-- |#|\n| |\\\\|\
                  PRIMARY KEY|NOT NULL|decimal|1){0,30}",
    ) {
        told(text.as_bytes());
        told(format!("CREATE TABLE t (a int, {text}").as_bytes());
    }

    #[test]
    fn the_tables_do_not_depend_on_how_the_dump_is_chunked(
        text in "(CREATE TABLE a \\(x int\\)|USE b|'|;|/\\*!50 |\\*/|-- |\n| |\\\\|DELIMITER //|//){0,20}",
        step in 1usize..5,
    ) {
        let dripped: Vec<_> = create_tables(Drip(text.as_bytes(), step)).unwrap().iter().map(tell).collect();
        prop_assert_eq!(dripped, told(text.as_bytes()));
    }
}
