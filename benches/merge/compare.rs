//! Both sides in turn on copies of the same table, and the result of every run checked.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::changes::ChangeSet;
use crate::data::{Data, Writer, say};
use crate::least::Least;
use crate::process::Measured;
use crate::report::{Compared, Report, Target};
use crate::site::{Site, TableType, files, fresh_copy, remove};
use crate::state::{Model, State};
use crate::theirs;

/// One set of changes, merged into tables of one or two writers by one or two kinds of lakemerge, and by deltalake.
pub struct Comparison<'a> {
    pub name: &'static str,
    data: &'a Data,
    work: String,
    changes: ChangeSet,
    cases: Vec<Case>,
}

/// A table to start from, and the table types with what is to be reached on it.
struct Case {
    writer: Writer,
    types: Vec<(TableType, Target)>,
}

use TableType::{CopyOnWrite, MergeOnRead};

pub fn comparisons<'a>(orders: &'a Data, documents: &'a Data, events: &'a Data) -> [Comparison<'a>; 7] {
    let rows = orders.rows;
    let changes = uniform(rows).len();
    let case = |writer, types: &[(TableType, Target)]| Case { writer, types: types.to_vec() };
    let on_both = |types: &[(TableType, Target)]| vec![case(Writer::Deltalake, types), case(Writer::Lakemerge, types)];
    let (newest, inserts, few) = (rows - rows / 50..rows, rows / 10, 110);
    [
        Comparison {
            name: "uniform",
            data: orders,
            work: format!("{} uniform changes", grouped(changes)),
            changes: uniform(rows),
            cases: on_both(&[(MergeOnRead, Target::of(20.0).third()), (CopyOnWrite, Target::of(3.0).third())]),
        },
        Comparison {
            name: "newest",
            data: orders,
            work: format!("{} changes in the newest 2 % of the keys", grouped(changes)),
            changes: ChangeSet::mixed("newest", changes, newest),
            cases: vec![
                case(Writer::Lakemerge, &[(MergeOnRead, Target::of(20.0)), (CopyOnWrite, Target::of(20.0))]),
                case(Writer::Deltalake, &[(MergeOnRead, Target::of(10.0)), (CopyOnWrite, Target::of(10.0))]),
            ],
        },
        Comparison {
            name: "inserts",
            data: orders,
            work: format!("{} inserts only, beyond the keys that are there", grouped(inserts)),
            changes: ChangeSet::inserts("inserts", inserts),
            cases: on_both(&[(MergeOnRead, Target::of(10.0)), (CopyOnWrite, Target::of(10.0))]),
        },
        Comparison {
            name: "inserts",
            data: documents,
            work: format!("{} inserts only, among the keys that are there (2 × 20 characters)", grouped(inserts)),
            changes: ChangeSet::inserts("inserts", inserts),
            cases: vec![case(Writer::Deltalake, &[(MergeOnRead, Target::of(10.0)), (CopyOnWrite, Target::of(10.0))])],
        },
        Comparison {
            name: "small",
            data: orders,
            work: format!("{few} uniform changes"),
            changes: ChangeSet::mixed("small", few, 0..rows),
            cases: on_both(&[(MergeOnRead, Target::of(40.0)), (CopyOnWrite, Target::none())]),
        },
        Comparison {
            name: "composite",
            data: documents,
            work: format!("{} uniform changes, a key of 2 × 20 characters", grouped(changes)),
            changes: uniform(rows),
            cases: vec![case(Writer::Deltalake, &[(MergeOnRead, Target::of(10.0))])],
        },
        Comparison {
            name: "overlap",
            data: events,
            work: format!("{few} uniform changes, UUIDs as keys, every key in the range of five files"),
            changes: ChangeSet::mixed("small", few, 0..rows),
            cases: on_both(&[(MergeOnRead, Target::none())]),
        },
    ]
}

/// 1.1 % of the rows, and never more than 110,000.
pub fn uniform(rows: u64) -> ChangeSet {
    ChangeSet::mixed("uniform", rows.min(10_000_000) / 1000 * 11, 0..rows)
}

pub async fn run(comparison: &Comparison<'_>, pairs: usize, report: &mut Report) -> Result<()> {
    let Comparison { data, changes, .. } = comparison;
    let mut model = Model::new(data.kind, data.rows);
    let (applied, dms, net) = data.changes(changes)?;
    model.apply(&applied);
    let expected = model.state();
    let mut least = None;
    for case in &comparison.cases {
        let table = data.table(case.writer).await?;
        let mut ours = vec![(vec![], vec![]); case.types.len()];
        let mut theirs = vec![];
        for _ in 0..pairs {
            for ((table_type, _), (runs, replaced)) in case.types.iter().zip(&mut ours) {
                let site = site(data, "lakemerge", case.writer, *table_type, &table)?.with_changes(&dms, 0)?;
                runs.push(merge(&site, *table_type, &expected).await?);
                *replaced = replaced_files(&table, &site.table()).await?;
            }
            theirs.push(merge_by_deltalake(data, &table, &net, &expected).await?);
        }
        for ((table_type, target), (runs, replaced)) in case.types.iter().zip(&ours) {
            let compared = Compared {
                work: format!("{}, {}", comparison.work, table_type.name()),
                writer: case.writer.name(),
                ours: Measured::of_many(runs),
                theirs: Measured::of_many(&theirs),
                target: *target,
            };
            if compared.misses_its_speed() {
                let steps = match least {
                    Some(steps) => steps,
                    None => *least.insert(Least::of(data.kind, &dms, &net)?),
                };
                let replaced = if *table_type == CopyOnWrite { &replaced[..] } else { &[] };
                report.least(&compared, steps.replacing(replaced)?);
            }
            report.compared(compared);
        }
    }
    Ok(())
}

async fn merge(site: &Site, table_type: TableType, expected: &State) -> Result<Measured> {
    let measured = site.run()?;
    expected.check(&site.table(), "lakemerge").await?;
    say(&format!("  lakemerge {}: {measured}", table_type.name()));
    Ok(measured)
}

/// The data files of the table `before` that are none of the table `after`.
async fn replaced_files(before: &Path, after: &Path) -> Result<Vec<PathBuf>> {
    let files = async |folder: &Path| -> Result<Vec<String>> {
        let table = deltalake::open_table(theirs::url(folder)?).await?;
        let names = table.get_file_uris()?.filter_map(|uri| Some(uri.rsplit('/').next()?.to_string()));
        Ok(names.collect())
    };
    let kept = files(after).await?;
    let replaced = files(before).await?.into_iter().filter(|name| !kept.contains(name));
    Ok(replaced.map(|name| before.join(name)).collect())
}

async fn merge_by_deltalake(data: &Data, table: &Path, net: &Path, expected: &State) -> Result<Measured> {
    let copy = data.work("deltalake");
    fresh_copy(table, &copy)?;
    let measured = theirs::measure_merge(data.kind, &copy, net)?;
    expected.check(&copy, "deltalake").await?;
    say(&format!("  deltalake: {measured}"));
    Ok(measured)
}

/// A site with a copy of the table in `table`, and with the raw files that belong to it.
pub fn site(data: &Data, name: &str, writer: Writer, table_type: TableType, table: &Path) -> Result<Site> {
    let site = Site::new(&data.work(name), data.kind, table_type)?.with_table(table)?;
    match writer {
        Writer::Lakemerge => site.with_loads(&data.loads()?),
        Writer::Deltalake => Ok(site),
    }
}

/// The batch once more when it is merged already. lakemerge's runs have no data file to open: all of them are gone.
pub async fn again(data: &Data, pairs: usize, report: &mut Report) -> Result<()> {
    let changes = uniform(data.rows);
    let (applied, dms, net) = data.changes(&changes)?;
    let mut model = Model::new(data.kind, data.rows);
    model.apply(&applied);
    let expected = model.state();
    let table = data.table(Writer::Deltalake).await?;
    let site = site(data, "lakemerge", Writer::Deltalake, MergeOnRead, &table)?.with_changes(&dms, 0)?;
    site.run()?;
    let is_data = |file: &&PathBuf| !file.components().any(|part| part.as_os_str() == "_delta_log");
    for file in files(&site.table(), ".parquet")?.iter().filter(is_data) {
        fs::remove_file(file)?;
    }
    let copy = data.work("deltalake");
    fresh_copy(&table, &copy)?;
    theirs::measure_merge(data.kind, &copy, &net)?;
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..pairs {
        ours.push(site.run()?);
        theirs.push(theirs::measure_merge(data.kind, &copy, &net)?);
    }
    expected.check(&copy, "deltalake").await?;
    remove(&copy)?;
    report.compared(Compared {
        work: format!("the {} uniform changes again", grouped(changes.len())),
        writer: Writer::Deltalake.name(),
        ours: Measured::of_many(&ours),
        theirs: Measured::of_many(&theirs),
        target: Target::none(),
    });
    report.alone("the batch again", "no data file opened (they were removed before)".into(), "none opened", Some(true));
    Ok(())
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
