//! Time stamps beyond the years that nanoseconds reach.

use super::*;

/// `id` 1 is of 2020, 2 of the year 1, and 3 lasts until further notice.
fn calendar() -> Lake {
    let times = vec![1_577_836_800_000_001, -62_135_596_800_000_000, 253_402_300_799_999_999];
    let days = vec![18_262, -719_162, 2_932_896];
    Lake::default()
        .with(
            "shop.spans",
            [
                ("id", Arc::new(Int32Array::from(vec![1, 2, 3]))),
                ("dt", Arc::new(TimestampMicrosecondArray::from(times.clone()))),
                ("utc", Arc::new(TimestampMicrosecondArray::from(times.clone()).with_timezone("UTC"))),
                ("day", Arc::new(Date32Array::from(days))),
                ("secs", Arc::new(Int64Array::from(times.iter().map(|time| time / 1_000_000).collect::<Vec<_>>()))),
                ("text", words(&[Some("2020-01-01"), Some("0001-01-01 00:00:00"), Some("9999-12-31 23:59:59.999999")])),
            ],
        )
        .with(
            "shop.ends",
            [("end", Arc::new(TimestampMicrosecondArray::from(vec![253_402_300_799_999_999])) as ArrayRef)],
        )
}

/// The rows of a statement over the [`calendar`], on one line.
async fn told(sql: &str) -> String {
    let text = ask_of(Arc::new(calendar()), sql, Format::Csv).await;
    let text = text.unwrap_or_else(|error| panic!("{sql}: {error}"));
    text.lines().skip(1).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn any_comparison_finds_the_year_9999() {
    for condition in [
        "dt >= '9999-12-31'",
        "dt > '2262-04-12'",
        "'9999-12-31' <= dt",
        "dt = '9999-12-31 23:59:59.999999'",
        "dt = timestamp '9999-12-31 23:59:59.999999'",
        "dt = timestamp(6) '9999-12-31 23:59:59.999999'",
        "dt is not distinct from timestamp '9999-12-31 23:59:59.999999'",
        "dt >= date '9999-12-31'",
        "dt > now()",
        "dt > current_timestamp",
        "dt > current_date",
        "now() < dt and now() > '2020-01-01'",
        "dt = cast('9999-12-31 23:59:59.999999' as timestamp)",
        "dt = '9999-12-31 23:59:59.999999'::timestamp",
        "dt = try_cast('9999-12-31 23:59:59.999999' as timestamp)",
        "dt = arrow_cast('9999-12-31 23:59:59.999999', 'Timestamp(Microsecond, None)')",
        "dt = cast(text as timestamp) and id > 2",
        "dt >= day and id = 3",
        "day = dt::date and id = 3",
        "dt between '9999-01-01' and '9999-12-31 23:59:59.999999'",
        "dt between date '9999-01-01' and timestamp '9999-12-31 23:59:59.999999'",
        "dt not between '0001-01-01' and date '2030-01-01'",
        "dt in ('9999-12-31 23:59:59.999999', '2030-01-01')",
        "dt in (timestamp '9999-12-31 23:59:59.999999')",
        "dt not in (timestamp '2020-01-01 00:00:00.000001', '0001-01-01')",
        "dt in (select cast(text as timestamp) from spans where id = 3)",
        "dt = (select max(end) from ends)",
        "dt >= (select cast('9999-01-01' as timestamp))",
        "dt > any (select timestamp '9999-01-01')",
        "exists (select 1 from ends where end = dt)",
        "exists (select 1 from (select timestamp '9999-12-31' as a) where a < dt)",
        "case dt when '9999-12-31 23:59:59.999999' then true else false end",
        "case when id = 3 then dt else timestamp '2020-01-01' end > '2030-01-01'",
        "coalesce(null, dt) > '9999-12-31'",
        "nullif(dt, timestamp '9999-12-31 23:59:59.999999') is null",
        "greatest(dt, timestamp '9999-12-31') = dt",
        "utc >= '9999-12-31'",
        "utc = '9999-12-31T23:59:59.999999Z'",
        "utc = timestamp '9999-12-31 23:59:59.999999'",
        "utc > timestamp with time zone '9999-12-31 00:00:00'",
        "utc >= date '9999-12-31'",
        "utc > now()",
        "utc = dt and id = 3",
        "utc = to_timestamp(text) and id = 3",
        "dt at time zone 'UTC' > '9999-12-31'",
        "dt = to_timestamp('9999-12-31 23:59:59.999999')",
        "dt = to_timestamp_micros(253402300799999999)",
        "dt >= to_timestamp(253402300799)",
        "dt >= to_timestamp(secs) and id = 3",
        "dt >= cast(253402300799 as timestamp)",
        "dt - interval '1 day' > '9999-12-30'",
        "dt >= '9999-12-30'::timestamp + interval '1 day'",
        "dt - now() > arrow_cast(0, 'Duration(Nanosecond)')",
        "now() + (dt - now()) = dt and id = 3",
        "date_part('year', dt) = 9999",
        "date_trunc('day', dt) = '9999-12-31'",
        "extract(year from timestamp '9999-12-31') = date_part('year', dt)",
        "to_char(dt, '%Y') = '9999'",
        "array_has([dt], timestamp '9999-12-31 23:59:59.999999')",
    ] {
        let sql = format!("select id from spans where {condition}");
        assert_eq!(told(&sql).await, "3", "{sql}");
    }
}

#[tokio::test]
async fn the_year_1_is_before_all() {
    for condition in
        ["dt < '1677-01-01'", "dt = '0001-01-01'", "dt <= date '0001-01-01'", "utc < timestamp '0001-01-02'"]
    {
        let sql = format!("select id from spans where {condition}");
        assert_eq!(told(&sql).await, "2", "{sql}");
    }
    assert_eq!(told("select id from spans where dt < date '9999-12-31' order by 1").await, "1 2");
}

#[tokio::test]
async fn whatever_a_query_is_made_of_meets_in_microseconds() {
    for (sql, answer) in [
        ("select id from spans join ends on dt = end", "3"),
        ("select id from spans join ends on date_trunc('day', dt) = end::date", "3"),
        ("select a.id from spans a join spans b on a.dt = b.text where a.id > 1 order by 1", "2 3"),
        ("select a.id from spans a join spans b on a.dt >= b.day and a.id = b.id order by 1", "1 2 3"),
        (
            "select a.id from spans a join (select cast(text as timestamp) as dt from spans) b using (dt) order by 1",
            "2 3",
        ),
        ("select dt from spans where id = 3 union select '9999-12-31 23:59:59.999999'", "9999-12-31T23:59:59.999999"),
        ("select count(*) from (select now() as t union all select dt from spans) where t > '9999-01-01'", "1"),
        (
            "select a from (values (timestamp '9999-12-31'), (timestamp '2020-01-01')) v(a) where a > '2021-01-01'",
            "9999-12-31T00:00:00",
        ),
        ("select count(*) from (values (now())) v(a), spans where a < dt", "1"),
        ("select max(timestamp '9999-12-31') over () from ends", "9999-12-31T00:00:00"),
        (
            "select lead(dt, 1, timestamp '9999-12-31') over (order by dt) from spans where id = 3",
            "9999-12-31T00:00:00",
        ),
        (
            "select count(*) from spans group by cast(text as timestamp) having cast(text as timestamp) > '9999-01-01'",
            "1",
        ),
        (
            "select t from (select distinct to_timestamp(text) as t from spans) order by t desc limit 1",
            "9999-12-31T23:59:59.999999",
        ),
        (
            "with s as (select now() as t) \
             select count(*) from s, spans where exists (select 1 from ends where end > t)",
            "3",
        ),
        (
            "select value from generate_series(date '2020-01-01', date '2020-01-03', interval '1 day') \
             where value < (select max(dt) from spans) order by 1",
            "2020-01-01T00:00:00 2020-01-02T00:00:00 2020-01-03T00:00:00",
        ),
        (
            "select g.value from generate_series(timestamp '2020-01-01', timestamp '2020-01-01', interval '1 day') \
             g join spans on g.value < dt",
            "2020-01-01T00:00:00 2020-01-01T00:00:00",
        ),
        (
            "select unnest(range(timestamp '2020-01-01', timestamp '2020-01-02', interval '1 day')) as t",
            "2020-01-01T00:00:00",
        ),
        (
            "with recursive r as (select timestamp '9998-12-31' as t \
             union all select t + interval '1 year' from r where t < '9999-01-01') select t from r order by t",
            "9998-12-31T00:00:00 9999-12-31T00:00:00",
        ),
        (
            "with recursive r as (select now() as t \
             union all select t + interval '1 year' from r where t < '2020-01-01') select count(*) from r",
            "1",
        ),
        ("select cast(1577836800 as timestamp), to_timestamp(1.5)", "2020-01-01T00:00:00,1970-01-01T00:00:01.500"),
        ("select date '2020-01-01' + time '12:00'", "2020-01-01T12:00:00"),
    ] {
        assert_eq!(told(sql).await, answer, "{sql}");
    }
}

#[tokio::test]
async fn a_column_is_compared_as_it_is_stored() {
    // Else neither files nor pages could be skipped.
    let plan = told("explain select id from spans where dt >= '9999-12-31' and dt < date '9999-12-31'").await;
    assert!(plan.contains("dt@1 >= 253402214400000000"), "{plan}");
    assert!(!plan.contains("CAST"), "{plan}");
}

#[tokio::test]
async fn a_heading_stays_as_it_was_typed() {
    let sql = "select cast(text as timestamp), to_timestamp(text), now() > dt, spans.dt::timestamp from spans limit 1";
    let text = ask_of(Arc::new(calendar()), sql, Format::Csv).await.unwrap();
    let heading = text.lines().next().unwrap();
    assert_eq!(heading, "CAST(text AS TIMESTAMP),to_timestamp(text),now() > dt,spans.dt::TIMESTAMP");
}
