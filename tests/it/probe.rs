//! A store on which two runs could both commit is found before a lake lies on it.

use crate::support::lenient::Lenient;
use crate::support::site::Site;
use crate::support::table::{Table, row};

fn things() -> Table {
    Table::new("shop.things", &[("id", "int(11) NOT NULL")])
}

#[test]
fn an_endpoint_that_lets_several_writers_win_is_refused_before_the_first_table() {
    let (table, endpoint) = (things(), Lenient::start());
    let mut site = Site::local();
    site.declare(&[&table]);
    site.load(&table, 1, &[row(["1"])]);
    site.move_lake("s3://lenient/lake");
    site.extra_env = endpoint.env();
    let (outcome, report) = site.run_exits(1, &[]);
    outcome.says(&[&endpoint.endpoint(), "s3://lenient/lake/", "If-None-Match", "8 were told", "nothing was merged"]);
    assert!(report.0["error"].as_str().is_some_and(|error| error.contains("If-None-Match")), "{:#}", report.0);

    let written = endpoint.asked("PUT");
    assert_eq!(written.len(), 8, "{written:?}");
    assert!(written.iter().all(|path| path.starts_with("/lenient/lake/_lakemerge/probe/") && *path == written[0]));
    assert_eq!(endpoint.asked("POST").len(), 1, "the probe is deleted");
}

#[test]
fn a_store_that_honours_conditional_writes_is_left_as_it_was() {
    let table = things();
    let site = Site::s3();
    site.declare(&[&table]);
    site.load(&table, 1, &[row(["1"])]);
    site.run();
    assert_eq!(site.version(&table), Some(0));
    assert!(site.lake_files().keys().all(|path| path.starts_with("lake/shop/things/")));
}

#[test]
fn an_environment_that_turns_conditional_writes_off_is_wrong_usage() {
    for name in ["AWS_S3_ALLOW_UNSAFE_RENAME", "aws_s3_allow_unsafe_rename"] {
        let table = things();
        let mut site = Site::s3();
        site.declare(&[&table]);
        site.load(&table, 1, &[row(["1"])]);
        site.extra_env = vec![(name.to_owned(), "true".to_owned())];
        site.command(&["run"]).exits(2).says(&[name]);
        assert_eq!(site.version(&table), None);
    }
}
