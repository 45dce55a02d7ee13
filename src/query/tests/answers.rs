//! What is answered, in which form, and what is not.

use super::*;

#[tokio::test]
async fn decimals_are_found_by_their_digits() {
    for (sql, count) in [
        ("coal_prod where production = 12345678.91", "1"),
        ("coal_prod where production = 2845.66", "1"),
        ("coal_prod where production = '2845.66'", "1"),
        ("coal_prod where production = '2845.664'", "0"),
        ("coal_prod where production < '2845.664'", "2"),
        ("coal_prod where '2845.664' < production", "1"),
        ("coal_prod where production in ('2845.664', '0.001')", "0"),
        ("coal_prod where production in ('2845.66', '0')", "2"),
        ("coal_prod where production between '2845.661' and '2845.664'", "0"),
        ("coal_prod where production is not distinct from '2845.664'", "0"),
        ("orders where id = 18446744073709551615", "1"),
        ("orders where id = '18446744073709551615'", "1"),
        ("orders where id = '18446744073709551615.4'", "0"),
        ("orders where id = 9007199254740993", "1"),
        ("orders where id = 9007199254740992", "0"),
        ("orders where total = 12345678901234.5678", "1"),
        ("orders where total = 12345678901234.5679", "0"),
        ("orders where big = 9007199254740993", "1"),
        ("orders where big = -9223372036854775808", "1"),
        ("orders where big < 18446744073709551615", "2"),
        ("orders where id in (18446744073709551615, 1)", "1"),
        ("orders where id > 99999999999999999999999", "0"),
    ] {
        let sql = format!("select count(*) from {sql}");
        assert_eq!(rows(&sql).await, count, "{sql}");
    }
    assert_eq!(rows("select production + 0.1 from coal_prod where year = 2014").await, "0.10");
}

#[tokio::test]
async fn integers_do_not_wrap_around() {
    for (expression, expected) in [
        ("cast(100000 as int) * cast(100000 as int)", "10000000000"),
        ("sum(cast(year as int) * 2000000)", "4028000000"),
        ("max(arrow_cast(127, 'Int8') + arrow_cast(1, 'Int8'))", "128"),
        ("max(arrow_cast(-128, 'Int8') - year)", "-2142"),
        ("coalesce(1 + null, 3)", "3"),
    ] {
        assert_eq!(
            rows(&format!("select {expression} from coal_prod where year = 2014")).await.lines().next(),
            Some(expected),
            "{expression}"
        );
    }
    assert_eq!(header("select year*2 - 1, year + year as twice from coal_prod").await, "year * 2 - 1,twice");
    assert_eq!(
        rows("select year - 1 from coal_prod where year + 1 = 2015 group by year - 1 order by year - 1").await,
        "2013"
    );
    let sql = "select sum((year + 1) * 2) as a, sum(year + 1 * 2) as b from coal_prod where year = 2014";
    assert_eq!(rows(sql).await, "4030,2016");
    let numbers = "row_number() over (order by barrels)";
    let sql = format!("select {numbers} - 2 as a, {numbers} - 2 * {numbers} as b from oil_prod order by a");
    assert_eq!(rows(&sql).await, "-1,-1\n0,-2\n1,-3");
    assert_eq!(
        rows("select 18446744073709551615 + barrels from oil_prod where barrels = 1").await,
        "18446744073709551616"
    );
    let halves = "(values (9223372036854775807, 'a'), (-9223372036854775807, 'a'), (7, 'b')) v (n, name)";
    let sql = format!("select name, sum(n), count(*) from {halves} group by name having sum(n) < 8 order by sum(n)");
    assert_eq!(rows(&sql).await, "a,0,2\nb,7,1");
    assert_eq!(rows(&format!("select sum(distinct n) - 1 as s, arrow_typeof(sum(n)) from {halves}")).await, "6,Int64");
    let sql = format!("select grouping(name) as g, name, sum(n) from {halves} group by rollup(name) order by g, name");
    assert_eq!(rows(&sql).await, "0,a,0\n0,b,7\n1,,7");
    let sql = format!("select name, sum(n) from {halves} group by rollup(name) order by name");
    assert_eq!(rows(&sql).await, "a,0\nb,7\n,7");
    let error = error("select big + 9223372036854775807 from orders where big > 0").await;
    assert!(error.contains("verflow"), "{error}");
    let running = |frame| format!("select sum(n) over (order by n {frame}) as s from {halves} order by s");
    assert_eq!(rows(&running("")).await, "-9223372036854775807\n-9223372036854775800\n7");
    let digits = "cast(99999999999999999999999999999999999999 as decimal(38, 0))";
    let decimals =
        |last: &str| format!("select sum(n) from (values ({digits}), ({digits}), (-{digits}), ({last})) v (n)");
    assert_eq!(rows(&decimals("0")).await, "9".repeat(38));
    for sql in [&running("rows 1 preceding"), &decimals(digits)] {
        let error = self::error(sql).await;
        assert!(error.contains("223372036854775814") || error.contains("199999999999999999"), "{error}");
    }
    let error = self::error("select sum(n) from (values (9223372036854775807), (1)) v (n)").await;
    assert!(error.contains("9223372036854775808"), "{error}");
}

#[tokio::test]
async fn distinct_from_ends_before_and() {
    let sql = "select count(*) from kinds where text is distinct from 'x' and price > 0";
    assert_eq!(rows(sql).await, "1");
    assert_eq!(rows("select false is not distinct from true or true").await, "true");
}

#[tokio::test]
async fn json_keeps_every_column_and_digit() {
    let lake = Arc::new(lake());
    let text = ask_of(lake, "select * from kinds", Format::Ndjson).await.unwrap();
    let expected = r#"{"text":"a,\"b\"\nc","bytes":"00ff","real":null,"price":-0.05,"day":"2020-01-01","naive":"2020-01-01T00:00:00.000001","utc":"2020-01-01T00:00:00Z"}
{"text":null,"bytes":null,"real":null,"price":12345678.91,"day":null,"naive":"1970-01-01T00:00:00","utc":"1970-01-01T00:00:00Z"}
"#;
    assert_eq!(text, expected);
}

#[tokio::test]
async fn json_is_one_array_even_when_empty() {
    let lake = Arc::new(lake());
    let ask = |sql| ask_of(Arc::clone(&lake), sql, Format::Json);
    let text = ask("select barrels from oil_prod order by 1 limit 2").await.unwrap();
    assert_eq!(text, "[{\"barrels\":1},{\"barrels\":2}]\n");
    assert_eq!(ask("select 1 where false").await.unwrap(), "[]\n");
    let error = ask("select a.x, b.x from a.same a, b.same b").await.unwrap_err();
    assert!(error.to_string().contains("name one with AS"), "{error}");
}

#[tokio::test]
async fn csv_quotes_what_needs_it() {
    let text = ask_of(Arc::new(lake()), "select text, bytes, price from kinds", Format::Csv).await;
    assert_eq!(text.unwrap(), "text,bytes,price\n\"a,\"\"b\"\"\nc\",00ff,-0.05\n,,12345678.91\n");
    assert_eq!(rows("select [1, 2] as list").await, "\"[1, 2]\"");
    assert_eq!(header("select barrels from oil_prod where false").await, "barrels");
}

#[tokio::test]
async fn a_box_says_nothing_to_the_terminal() {
    let ask = ask_of(Arc::new(lake()), "select chr(27) || '[31m' || chr(9) || 'é' as text", Format::Table);
    let text = ask.await.unwrap();
    assert!(text.contains("| \\u{1b}[31m\\té"), "{text}");
}

#[tokio::test]
async fn a_box_shows_nulls_and_loses_no_row() {
    let lake = Arc::new(lake());
    let ask = |sql| ask_of(Arc::clone(&lake), sql, Format::Table);
    let text = ask("select code from coal_prod where year = 2014").await.unwrap();
    assert_eq!(text, "+------+\n| Code |\n+------+\n| NULL |\n+------+\n");
    let text = ask("select code from coal_prod where false").await.unwrap();
    assert_eq!(text, "+------+\n| Code |\n+------+\n+------+\n");
    let text = ask("select * from generate_series(1, 25000)").await.unwrap();
    let shown = text.lines().filter(|line| line.starts_with("| ") && !line.contains("value"));
    assert_eq!(shown.count(), 25_000);
}

#[tokio::test]
async fn statements_run_in_order_and_names_are_listed_once() {
    let lake = Arc::new(lake());
    let sql = "select entity from coal_prod limit 1; select 2 as two; show schemas;";
    let text = ask_of(Arc::clone(&lake), sql, Format::Csv).await.unwrap();
    assert_eq!(text, "Entity\nIndia\ntwo\n2\nschema\na\nb\nfossil\nshop\n");
    assert_eq!(lake.listed.load(Ordering::Relaxed), 1);
    assert_eq!(*lake.opened.lock().unwrap(), ["fossil.coal_prod"]);
}

#[tokio::test]
async fn nothing_runs_when_a_later_statement_is_refused() {
    let lake = Arc::new(lake());
    let error = ask_of(Arc::clone(&lake), "select 1; drop table orders", Format::Csv).await;
    assert!(error.unwrap_err().to_string().starts_with("query only reads: DROP"));
    assert_eq!(lake.listed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_catalog_is_shown_without_opening_a_table() {
    let lake = Arc::new(lake());
    let ask = |sql| ask_of(Arc::clone(&lake), sql, Format::Csv);
    let text = ask("show tables from FOSSIL like 'c%'").await.unwrap();
    assert_eq!(text, "schema,table\nfossil,coal_prod\n");
    let sql = "select count(*) from information_schema.tables where table_schema = 'fossil'";
    assert_eq!(ask(sql).await.unwrap(), "count(*)\n2\n");
    assert!(lake.opened.lock().unwrap().is_empty());
    let text = ask("describe Coal_prod; explain select 1").await.unwrap();
    assert!(text.starts_with(
        "column,type,nullable\nEntity,string,true\nCode,string,true\nYear,int,true\n\
         Production,\"decimal(10,2)\",true\nplan_type,plan\n"
    ));
    assert_eq!(*lake.opened.lock().unwrap(), ["fossil.coal_prod"]);
}

#[tokio::test]
async fn messages_say_nothing_about_the_engine() {
    for sql in [
        "selec 1",
        "select from",
        "select nosuch(1)",
        "select 1/0",
        "select cast('x' as int)",
        "select entity from coal_prod group by year",
        "select sum(entity) from coal_prod",
        "select 1 + 'x'",
        "select * from coal_prod where entity > array[1]",
        "select nosuch.entity from coal_prod",
        "select nosuch.* from coal_prod",
        "select * from coal_prod limit 'a'",
        "select 1 union select 1, 2",
        "",
    ] {
        let text = error(sql).await;
        for noise in ["Error", "caused by", "DataFusion", "backtrace", "datafusion"] {
            assert!(!text.contains(noise), "{sql}: {text}");
        }
    }
}

#[tokio::test]
async fn a_file_appears_only_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answer.csv");
    let ask = |sql: &str| {
        let request = Request { input: Input::Sql(sql.into()), format: Format::Csv, output: Some(path.clone()) };
        run(SessionContext::new(), Arc::new(lake()), request)
    };
    ask("select 1 as a; select nosuch").await.unwrap_err();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    ask("select 1 as a").await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "a\n1\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_closed_pipe_is_no_failure() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for format in [Format::Table, Format::Csv, Format::Json, Format::Ndjson] {
        let mut output = Output::writer(Destination::Writer(Box::new(Closed)), format);
        let desk = Desk { session: SessionContext::new(), tables: Arc::new(lake()) };
        let error = desk.answer_all("select 1", &mut output).await.unwrap_err();
        assert!(error.is_closed_pipe(), "{error}");
    }
}

#[tokio::test]
async fn a_join_whose_sides_do_not_fit_into_the_memory_sorts_them() {
    let keys: Vec<i64> = (0..60_000).map(|i| i * 7919 % 60_000).collect();
    let texts: Vec<_> = keys.iter().map(|key| format!("{key:0100}")).collect();
    let column = |name| (name, Arc::new(StringArray::from(texts.clone())) as ArrayRef);
    let lake = Arc::new(Lake::default().with("a.l", [column("x")]).with("a.r", [column("y")]));
    let sql = "SELECT count(*), max(x) = min(x) FROM a.l JOIN a.r ON x = y";
    for (megabytes, partitions) in [(100, 2), (5, 1), (5, 2)] {
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(QueryPool::new(megabytes << 20)));
        let config = SessionConfig::new().with_target_partitions(partitions);
        let config = config.with_batch_size(256).with_sort_spill_reservation_bytes(64 << 10);
        let session = SessionContext::new_with_config_rt(config, runtime.build_arc().unwrap());
        let page = Page::default();
        let mut output = Output::writer(Destination::Writer(Box::new(page.clone())), Format::Csv);
        Desk { session, tables: Arc::clone(&lake) as _ }.answer_all(sql, &mut output).await.unwrap();
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().nth(1), Some("60000,false"), "{megabytes} MB");
    }
}

#[tokio::test]
async fn rows_of_many_columns_come_fewer_at_a_time() {
    let names: Vec<_> = (0..4 * COLUMNS).map(|i| format!("c{i}")).collect();
    let column = |name| (name, Arc::new(Int32Array::from_iter_values(0..10)) as ArrayRef);
    let wide = RecordBatch::try_from_iter(names.iter().map(column)).unwrap();
    let session = SessionContext::new();
    session.register_batch("wide", wide).unwrap();
    for (sql, part) in [("select 1", 1), ("select c1, c2 from wide", 1), ("select * from wide order by c7", 4)] {
        let plan = session.sql(sql).await.unwrap().into_unoptimized_plan();
        let of_plan = few_values_at_a_time(&session, &plan).unwrap();
        assert_eq!(of_plan.copied_config().batch_size(), session.copied_config().batch_size() / part, "{sql}");
    }
}

#[tokio::test]
async fn a_filter_over_a_join_asks_each_side_for_its_own_columns() {
    let sides = "(values (6, 3, 3)) o(id, k, q) right join (values (5, 3, 1)) p(id, k, q) on o.k = p.k";
    assert_eq!(rows(&format!("select count(*) from {sides} where (o.q = 1 and p.k > 0) or p.q = 2")).await, "0");
    assert_eq!(rows(&format!("select count(*) from {sides} where (o.q = 3 and p.k > 0) or p.q = 2")).await, "1");
}

#[tokio::test]
async fn a_double_is_compared_as_one() {
    for (sql, expected) in [
        ("0.1e0 + 0.2e0 = 0.3", "false"),
        ("1e-17 > 0.0", "true"),
        ("1e300 > 99.5", "true"),
        ("1e-17 between 0.0 and 0.5", "true"),
        ("1e300 in (1.5, 1e300)", "true"),
        ("coalesce(1e-17, 0.5)", "1e-17"),
        ("greatest(1e300, 0.5)", "1e300"),
        ("case when true then 1e-17 else 0.5 end", "1e-17"),
        ("nullif(1e-17, 0.0)", "1e-17"),
        ("round(1e3)", "1000.0"),
        ("1e9/1e6", "1000.0"),
        ("cast(1e15 as double) = 1000000000000000", "true"),
        ("count(*)/1e3", "0.001"),
        ("1.7976931348623157e308 > 1", "true"),
        ("0.1 + 0.2 = 0.3", "true"),
    ] {
        assert_eq!(rows(&format!("select {sql}")).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_subquery_with_nulls_is_refused_where_they_would_be_forgotten() {
    let (v, w) = ("(values (1), (2), (null)) v(x)", "(select * from (values (1), (null)) w(y))");
    for condition in
        [format!("x not in {w} or x = 5"), format!("(x in {w}) is null"), format!("(x not in {w}) is not false")]
    {
        let error = super::error(&format!("select x from {v} where {condition}")).await;
        assert!(error.contains("EXISTS"), "{condition}: {error}");
    }
    for (condition, count) in [
        (format!("x not in {w}"), "0"),
        (format!("not x in {w}"), "0"),
        (format!("x in {w} or x = 2"), "2"),
        ("x not in (select 1) and x > 0".to_owned(), "1"),
    ] {
        assert_eq!(rows(&format!("select count(*) from {v} where {condition}")).await, count, "{condition}");
    }
}

#[tokio::test]
async fn what_would_be_passed_over_is_refused() {
    for (sql, named) in [
        ("select entity, count(*) from coal_prod group by entity with rollup", "WITH ROLLUP"),
        ("select sum(year) over (w) from coal_prod window w as (order by year)", "OVER (w)"),
        ("select sum(year) over v from coal_prod window w as (order by year), v as (w)", "WINDOW v"),
        ("select * from coal_prod tablesample (10 percent)", "TABLESAMPLE"),
        ("select * from coal_prod partition (p1)", "PARTITION"),
        ("select 1 except all select 1", "EXCEPT ALL"),
        ("select * from (select 1 intersect all select 1) t", "INTERSECT ALL"),
    ] {
        let error = super::error(sql).await;
        assert!(error.contains(named) && error.contains("is not carried out"), "{sql}: {error}");
    }
    assert_eq!(rows("select sum(year) over w from coal_prod window w as (order by year) limit 1").await, "4026");
}
