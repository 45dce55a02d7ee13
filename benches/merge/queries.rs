//! Queries on a table with vectors on every file, against the same rows without vectors.

use std::path::Path;

use crate::Result;
use crate::compare::{site, uniform};
use crate::data::{Data, Writer};
use crate::process::median;
use crate::report::Report;
use crate::rows::hash;
use crate::site::{Site, TableType};

/// A kind of statement, and how often it is asked in one process.
struct Question {
    name: &'static str,
    times: u64,
    statement: fn(u64, u64) -> String,
    /// True if the ratio of the issue stands for it.
    has_target: bool,
}

const QUESTIONS: [Question; 3] = [
    Question { name: "point query, 8 columns of one row", times: 100, statement: point, has_target: true },
    Question { name: "range query, two sums over 1 % of the keys", times: 40, statement: range, has_target: true },
    Question { name: "all rows, grouped by status", times: 5, statement: all, has_target: false },
];

/// What a query may take on a table with vectors, compared with one without.
const AT_MOST: f64 = 1.5;

/// The table with vectors and the one without come from the same changes, one merge-on-read and one copy-on-write.
pub async fn run(data: &Data, pairs: usize, report: &mut Report) -> Result<()> {
    let (_, dms, _) = data.changes(&uniform(data.rows))?;
    let table = data.table(Writer::Lakemerge).await?;
    let merged = |name: &str, table_type| -> Result<Site> {
        let site = site(data, name, Writer::Lakemerge, table_type, &table)?.with_changes(&dms, 0)?;
        site.run()?;
        Ok(site)
    };
    let with_vectors = merged("vectors", TableType::MergeOnRead)?;
    let compacted = merged("compacted", TableType::CopyOnWrite)?;
    for question in &QUESTIONS {
        let (mut slow, mut fast, mut process) = (vec![], vec![], vec![]);
        for _ in 0..pairs {
            slow.push(seconds(&with_vectors, question, data.rows)?.each);
            let times = seconds(&compacted, question, data.rows)?;
            fast.push(times.each);
            process.push(times.process);
        }
        let (slow, fast) = (median(slow), median(fast));
        let measured = format!(
            "{:.1} ms with vectors, {:.1} ms without: {:.2}× (and a process with one such query takes {:.0} ms)",
            slow * 1e3,
            fast * 1e3,
            slow / fast,
            median(process) * 1e3
        );
        let reached = question.has_target.then_some(slow <= AT_MOST * fast);
        report.alone(question.name, measured, if question.has_target { "≤ 1.5×" } else { "" }, reached);
    }
    Ok(())
}

/// The time of a whole process that answers one statement, and of each further statement of a process.
struct Times {
    process: f64,
    each: f64,
}

fn seconds(site: &Site, question: &Question, rows: u64) -> Result<Times> {
    let statements = |times| (0..times).map(|nth| (question.statement)(hash(nth), rows)).collect::<Vec<_>>();
    let once = site.query(&statements(1))?.seconds;
    let often = site.query(&statements(1 + question.times))?.seconds;
    Ok(Times { process: once, each: (often - once) / question.times as f64 })
}

/// The mean time of a point query when the process is started and the table open.
pub fn point_seconds(site: &Site, rows: u64) -> Result<f64> {
    Ok(seconds(site, &QUESTIONS[0], rows)?.each)
}

/// All columns of one row.
pub fn point(random: u64, rows: u64) -> String {
    format!("SELECT * FROM bench.orders WHERE id = {}", random % rows)
}

fn range(random: u64, rows: u64) -> String {
    let (length, from) = (rows / 100, random % (rows - rows / 100));
    format!("SELECT sum(amount), sum(quantity) FROM bench.orders WHERE id BETWEEN {from} AND {}", from + length)
}

fn all(_: u64, _: u64) -> String {
    "SELECT status, count(*), sum(amount) FROM bench.orders GROUP BY status".to_string()
}

/// Bytes of all files below `folder`.
pub fn bytes(folder: &Path) -> Result<u64> {
    crate::site::files(folder, "")?.iter().map(|file| Ok(std::fs::metadata(file)?.len())).sum()
}
