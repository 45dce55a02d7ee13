//! The results as Markdown, beside what was to be reached.

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::compare::grouped;
use crate::data::say;
use crate::least::Least;
use crate::process::Measured;

/// What is to be reached against the other side.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    times_faster: Option<f64>,
    a_third_of_memory: bool,
}

impl Target {
    pub fn none() -> Target {
        Target { times_faster: None, a_third_of_memory: false }
    }

    pub fn of(times_faster: f64) -> Target {
        Target { times_faster: Some(times_faster), ..Target::none() }
    }

    pub fn third(self) -> Target {
        Target { a_third_of_memory: true, ..self }
    }
}

/// Both sides of the same work.
pub struct Compared {
    pub work: String,
    /// Who wrote the table that both start from.
    pub writer: &'static str,
    pub ours: Measured,
    pub theirs: Measured,
    pub target: Target,
}

impl Compared {
    fn times_faster(&self) -> f64 {
        self.theirs.seconds / self.ours.seconds
    }

    pub fn misses_its_speed(&self) -> bool {
        self.target.times_faster.is_some_and(|times| self.times_faster() < times)
    }
}

struct Alone {
    work: String,
    measured: String,
    target: &'static str,
    reached: Option<bool>,
}

pub struct Report {
    rows: u64,
    pairs: usize,
    compared: Vec<Compared>,
    /// Rows of what work takes at the least, where a target was missed.
    least: Vec<String>,
    alone: Vec<Alone>,
}

impl Report {
    pub fn new(rows: u64, pairs: usize) -> Report {
        Report { rows, pairs, compared: vec![], least: vec![], alone: vec![] }
    }

    pub fn compared(&mut self, compared: Compared) {
        say(&compared.to_string());
        self.compared.push(compared);
    }

    pub fn least(&mut self, compared: &Compared, least: Least) {
        let Least { read, encoded, unpacked } = least;
        let Compared { work, writer, ours, theirs, .. } = compared;
        let row = format!(
            "| {work} | {writer} | {read:.2} s | {encoded:.2} s | {unpacked:.2} s | {:.2} s | {:.2} s | {:.1}× |",
            least.seconds(),
            ours.seconds,
            theirs.seconds / least.seconds()
        );
        say(&row);
        self.least.push(row);
    }

    pub fn alone(&mut self, work: &str, measured: String, target: &'static str, reached: Option<bool>) {
        let alone = Alone { work: work.to_string(), measured, target, reached };
        say(&alone.to_string());
        self.alone.push(alone);
    }

    /// Writes `benches/RESULTS.md`.
    pub fn record(&self) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/RESULTS.md");
        std::fs::write(&path, self.to_string())?;
        say(&format!("wrote {}", path.display()));
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Benchmarks\n")?;
        writeln!(
            f,
            "`cargo bench --bench merge`, {} rows of 8 columns, medians of {}, page cache warm; time and peak memory are \
             of the whole process. lakemerge reads the change file of DMS; deltalake's MERGE has the net changes ready.\n",
            grouped(self.rows),
            self.pairs
        )?;
        writeln!(f, "{}\n", machine())?;
        if !self.compared.is_empty() {
            writeln!(f, "| work | table written by | lakemerge | deltalake | ratio | to reach |")?;
            writeln!(f, "|---|---|---|---|---|---|")?;
            self.compared.iter().try_for_each(|compared| writeln!(f, "{compared}"))?;
            writeln!(f)?;
        }
        if !self.least.is_empty() {
            writeln!(
                f,
                "Where a number was missed, this is what the work takes at the least with the same libraries, on all cores: \
                 the change file read by arrow-csv, the new rows encoded by parquet's writer, and for copy-on-write the \
                 pages of the files that change unpacked by Snappy. Nothing is netted, located, compressed or written to a \
                 disk in that.\n"
            )?;
            writeln!(
                f,
                "| work | table written by | read | encoded | unpacked | together | lakemerge | deltalake's time is |"
            )?;
            writeln!(f, "|---|---|---|---|---|---|---|---|")?;
            self.least.iter().try_for_each(|row| writeln!(f, "{row}"))?;
            writeln!(f)?;
        }
        if !self.alone.is_empty() {
            writeln!(f, "| lakemerge alone | measured | to reach |")?;
            writeln!(f, "|---|---|---|")?;
            self.alone.iter().try_for_each(|alone| writeln!(f, "{alone}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compared { work, writer, ours, theirs, target } = self;
        let (faster, memory) = (self.times_faster(), ours.peak as f64 / theirs.peak as f64);
        let mut targets = vec![];
        if let Some(times) = target.times_faster {
            targets.push(format!("≥ {times}× {}", word(faster >= times)));
        }
        if target.a_third_of_memory {
            targets.push(format!("memory ≤ 0.33 {}", word(memory <= 1.0 / 3.0)));
        }
        write!(
            f,
            "| {work} | {writer} | {ours} | {theirs} | {faster:.1}×, memory {memory:.2} | {} |",
            targets.join(", ")
        )
    }
}

impl fmt::Display for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reached = self.reached.map_or("", word);
        write!(f, "| {} | {} | {} |", self.work, self.measured, format!("{} {reached}", self.target).trim())
    }
}

fn word(reached: bool) -> &'static str {
    if reached { "(reached)" } else { "(**missed**)" }
}

/// Machine, versions and date.
fn machine() -> String {
    let of = |file: &str, key: &str| -> Option<String> {
        let text = std::fs::read_to_string(file).ok()?;
        Some(text.lines().find(|line| line.starts_with(key))?.split_once(':')?.1.trim().to_string())
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = of("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let mut git = Command::new("git");
    git.args(["rev-parse", "--short", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    format!(
        "{}; {cores} cores ({}), {:.0} GB; lakemerge {} at {}, deltalake {}, DataFusion {}.",
        chrono::Utc::now().format("%Y-%m-%d"),
        of("/proc/cpuinfo", "model name").unwrap_or_default(),
        memory.unwrap_or_default() / 1e6,
        env!("CARGO_PKG_VERSION"),
        said(&mut git),
        deltalake::crate_version(),
        datafusion::DATAFUSION_VERSION,
    )
}

/// The first line of what a command says, or `?`.
fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    output.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "?".to_string())
}
