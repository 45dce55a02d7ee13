//! Which names a statement may use, and what it hears about the others.

use super::*;

#[tokio::test]
async fn names_are_found_ignoring_case() {
    for sql in [
        "select entity from FOSSIL.Coal_Prod where YEAR = 2014",
        "select Entity from fossil.coal_prod where Year = 2014",
        "select ENTITY from coal_prod where year = 2014",
        "select lake.entity from coal_prod as lake where lake.YEAR = 2014",
        "select Coal_Prod.entity from COAL_PROD where coal_prod.year = 2014",
        "select fossil.coal_prod.entity from fossil.coal_prod where Fossil.Coal_Prod.year = 2014",
        "select `entity` from `fossil`.`COAL_PROD` where \"YEAR\" = 2014",
        "select C.entity from coal_prod c where C.YEAR = 2014",
        "select entity from (select entity, YEAR from coal_prod) s where S.year = 2014",
        "with Coal as (select ENTITY, year from coal_prod) select entity from COAL where Year = 2014",
        "with coal_prod as (select entity E, year from coal_prod) select e from Coal_Prod where YEAR = 2014",
        "select max(entity) from coal_prod where year = 2014 group by YEAR having max(YEAR) = 2014",
        "select entity from coal_prod c where exists (select 1 from oil_prod o where O.entity = C.entity) and year = 2014",
        "select entity from coal_prod where exists (select 1 from oil_prod where oil_prod.entity = coal_prod.entity and barrels = YEAR - 2011 and barrels = 3)",
        "select coal_prod.entity from coal_prod join oil_prod on coal_prod.entity = oil_prod.entity where year = 2014",
        "select entity from coal_prod where entity in (select entity from oil_prod where BARRELS = 3)",
        "select entity from coal_prod order by YEAR desc limit 1",
        "select case when YEAR = 2014 then entity end from coal_prod where year = 2014",
        "select entity from (select entity, row_number() over (partition by YEAR order by ENTITY) as N, year from coal_prod) where n = 1 and YEAR = 2014",
        "select entity from coal_prod where year = 2013 and false union all select ENTITY from coal_prod where YEAR = 2014",
    ] {
        assert_eq!(rows(sql).await, "Chad", "{sql}");
    }
}

#[tokio::test]
async fn wildcards_and_using_are_names_too() {
    assert_eq!(rows("select C.* from coal_prod c where year = 2014").await, "Chad,,2014,0.00");
    assert_eq!(rows("select Coal_Prod.* from fossil.coal_prod where year = 2014").await, "Chad,,2014,0.00");
    let sql =
        "select oil_prod.*, c.Year from oil_prod join coal_prod c on c.entity = oil_prod.entity where year = 2014";
    assert_eq!(rows(sql).await, "Chad,3,2014");
    let sql = "select * except (code, YEAR) from coal_prod where year = 2014";
    assert_eq!(rows(sql).await, "Chad,0.00");
    let sql = "select barrels from oil_prod join (select Entity as ENTITY, year from coal_prod) c using (entity) where year = 2014";
    assert_eq!(rows(sql).await, "3");
}

#[tokio::test]
async fn a_subquery_reads_its_own_columns_first() {
    let sql =
        "select count(*) from coal_prod where exists (select 1 from oil_prod where Entity = 'Chad' and barrels = 1)";
    assert_eq!(rows(sql).await, "0");
    let own = [
        "with recent as (select * from oil_prod where barrels > 2) select count(*) from coal_prod where exists (select 1 from recent where Entity = 'India')",
        "with recent as (select entity, barrels b from oil_prod where barrels > 2) select count(*) from coal_prod where exists (select 1 from recent where Entity = 'India')",
        "select count(*) from coal_prod where exists (select 1 from (select * from oil_prod where barrels > 2) r where Entity = 'India')",
        "select count(*) from coal_prod where exists (select 1 from oil_prod o join (select 1 as one) r on one = 1 where barrels > 2 and Entity = 'India')",
    ];
    for sql in own {
        assert_eq!(rows(sql).await, "0", "{sql}");
    }
    // an alias that GROUP BY and HAVING know
    let grouped = "select count(*) from (select substr(Entity, 1, 2) as entity, count(*) as barrels from coal_prod group by entity having barrels > 1) t";
    assert_eq!(rows(grouped).await, "1");
    let sql = "select count(*) from coal_prod where exists (select barrels as production from oil_prod where barrels < Production)";
    assert_eq!(rows(sql).await, "2");
    let sql = "select Entity from coal_prod where Entity in (select Entity from oil_prod where barrels = 3)";
    assert_eq!(rows(sql).await, "Chad");
    let sql = "select Entity from coal_prod where exists (select 1 from oil_prod where barrels = 3 and Year = 2014)";
    assert_eq!(rows(sql).await, "Chad");
    let sql = "with OIL_PROD as (select * from Oil_Prod where barrels > 2) select count(*) from Oil_Prod";
    assert_eq!(rows(sql).await, "1");
}

#[tokio::test]
async fn an_answer_is_headed_as_the_table_or_the_alias_is_spelled() {
    let sql = "select entity, year as YeaR, count(*) as \"Rows\" from coal_prod group by entity, YeaR order by ROWS";
    assert_eq!(header(sql).await, "Entity,YeaR,Rows");
}

#[tokio::test]
async fn an_exact_name_wins_and_an_ambiguous_one_is_refused() {
    assert_eq!(header("select name from twins").await, "name");
    assert_eq!(header("select \"NAME\" from twins").await, "NAME");
    assert_eq!(error("select Name from twins").await, "Name could be \"NAME\" or \"name\"; write the one you mean");
    assert_eq!(
        error("select x from same").await,
        "same could be \"a\".\"same\" or \"b\".\"same\"; write the one you mean"
    );
    assert_eq!(
        error("select entity from coal_prod a join coal_prod b on a.year = b.year").await,
        "Entity is a column of more than one table here; write the table's name before it"
    );
}

#[tokio::test]
async fn text_in_double_quotes_is_told_from_a_column() {
    assert_eq!(
        error("select *\nfrom coal_prod where Entity = \"India\"").await,
        "line 2, column 31: \"India\" is no column; if it is text, write 'India' in single quotes"
    );
    assert_eq!(
        error("select * from coal_prod where Entity = India").await,
        "line 1, column 40: India is no column; if it is text, write 'India' in single quotes; \
         the columns are Entity, Code, Year, Production"
    );
    assert_eq!(
        error("select Entitty from coal_prod").await,
        "line 1, column 8: Entitty is no column; did you mean Entity?; \
         the columns are Entity, Code, Year, Production"
    );
}

#[tokio::test]
async fn an_unknown_table_shows_what_there_is() {
    assert_eq!(
        error("select 1 from fossil.coal").await,
        "no table coal in schema fossil; did you mean coal_prod?; its tables are Oil_Prod, coal_prod"
    );
    assert_eq!(
        error("select 1 from foss.coal").await,
        "no schema foss in the lake; did you mean fossil?; the schemas are a, b, fossil, shop"
    );
    assert!(error("select 1 from nothing").await.starts_with("no table nothing in any schema; the tables are a.same"));
    assert!(error("select 1 from \"x.parquet\"").await.contains("no files"));
    assert!(error("select 1 from x.parquet").await.contains("no files"));
}

#[tokio::test]
async fn a_computed_column_is_headed_as_it_was_typed() {
    assert_eq!(header("select COUNT(*) from coal_prod").await, "COUNT(*)");
    assert_eq!(header("select production + 0.1, 'a' from coal_prod").await, "production + 0.1,'a'");
    for sql in [
        "select distinct year + 1 from coal_prod order by 1",
        "select year + 1 from coal_prod group by year + 1 order by YEAR + 1",
        "select max(year) + 1 from coal_prod group by year order by max(year) + 1",
        "select distinct max(year) + 1 from coal_prod group by year order by max(year) + 1",
        "select year + 1 from coal_prod group by 1 order by 1",
        "select year + 1 from coal_prod union select 2014 order by 1",
    ] {
        assert_eq!(rows(sql).await, "2014\n2015", "{sql}");
    }
}

#[tokio::test]
async fn a_join_by_names_that_are_spelled_in_two_ways_is_refused() {
    for sql in [
        "select count(*) from coal_prod natural join oil_prod",
        "select count(*) from coal_prod join oil_prod using (entity)",
        "with o as (select * from oil_prod) select count(*) from coal_prod natural join o",
        "select count(*) from (coal_prod natural join oil_prod)",
    ] {
        let text = error(sql).await;
        assert!(text.contains("spell Entity and ENTITY") && text.contains("write ON"), "{sql}: {text}");
    }
    for sql in [
        "select count(*) from coal_prod a natural join (select Entity, Year from coal_prod) b",
        "select count(*) from coal_prod a join coal_prod b using (entity)",
        "select count(*) from coal_prod a join oil_prod o on a.entity = o.entity natural join (select Entity from coal_prod) c",
    ] {
        assert_eq!(rows(sql).await, "3", "{sql}");
    }
}

#[tokio::test]
async fn a_name_that_is_typed_often_is_found_each_time() {
    assert_eq!(rows("select -year, year from coal_prod order by 2 limit 1").await, "-2013,2013");
    assert_eq!(
        rows("select not (code = \'x\'), code from coal_prod where code is not null order by 2").await,
        "true,CHN\ntrue,IND"
    );
    let many = vec!["year"; 300].join(", ");
    assert_eq!(rows(&format!("select count(*) from coal_prod where greatest({many}) = 2014")).await, "1");
}
