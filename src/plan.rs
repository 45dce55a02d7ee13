//! What a run would do, for scripts (`plan --format json`) and for people (a line a table, its steps below).

use std::io::Write;

use indicatif::HumanBytes;
use serde::Serialize;

use crate::dms::listing::RawFile;
use crate::error::{Error, Kind, Result};
use crate::report::State;

/// The whole plan; its fields are listed in the README.
#[derive(Debug, Serialize)]
pub struct Plan {
    pub schema: u32,
    pub command: &'static str,
    /// How the run would end.
    pub exit_code: u8,
    /// True if the files were read as well.
    pub deep: bool,
    pub tables: Vec<TablePlan>,
}

/// What a run would do to one table; the words are those of its report.
#[derive(Debug, Serialize)]
pub struct TablePlan {
    pub table: String,
    /// What the run would report.
    pub state: State,
    /// What the run would stop at, after the steps before it.
    pub error: Option<String>,
    pub error_kind: Option<&'static str>,
    /// The last change file merged so far, as in its name.
    pub position: Option<String>,
    /// The same after the run.
    pub reaches: Option<String>,
    /// The table's Delta version now.
    pub version: Option<u64>,
    /// One for each commit, in order.
    pub steps: Vec<Step>,
    pub load_files: u64,
    pub change_files: u64,
    /// Raw bytes to read.
    pub bytes: u64,
    /// Sums over what the steps' files hold; null unless the plan is deep.
    pub read: Option<u64>,
    pub netted_away: Option<u64>,
    pub zero_dates: Option<u64>,
    /// What becomes of the table's columns; nothing where they stay.
    pub schema_changes: Vec<String>,
    /// What a person should know although nothing would fail.
    pub notes: Vec<String>,
    #[serde(skip)]
    kind: Option<Kind>,
}

/// One commit's worth of work.
#[derive(Debug, Serialize)]
pub struct Step {
    pub step: StepKind,
    pub files: Vec<StepFile>,
    pub bytes: u64,
    /// The position that the commit would hold.
    pub reaches: Option<String>,
    /// What the files hold; null unless the plan is deep, and where nothing is read.
    pub contents: Option<Contents>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum StepKind {
    #[serde(rename = "load")]
    Load,
    #[serde(rename = "continue load")]
    ContinueLoad,
    #[serde(rename = "changes")]
    Changes,
    /// A table whose merged files are gone is emptied, and the files are merged into it.
    #[serde(rename = "empty")]
    Empty,
    /// LOAD files that were written again are compared with what was read.
    #[serde(rename = "compare load")]
    CompareLoad,
    #[serde(rename = "accept load")]
    AcceptLoad,
    #[serde(rename = "complete load")]
    CompleteLoad,
    /// The table gets the columns that are configured now.
    #[serde(rename = "evolve")]
    Evolve,
}

#[derive(Debug, Serialize)]
pub struct StepFile {
    /// Its path from `source.url` on.
    pub file: String,
    pub bytes: u64,
}

/// What the files of a step hold.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Contents {
    /// Records, which are `inserts + updates + deletes + bad`.
    pub read: u64,
    pub inserts: u64,
    pub updates: u64,
    pub deletes: u64,
    /// Records for the quarantine.
    pub bad: u64,
    /// Records that a later one of the same row outdates.
    pub netted_away: u64,
    pub zero_dates: u64,
    /// Where their rows lie in the table as it is now; null where a run would make or replace it first.
    pub touched: Option<Touched>,
}

/// What a step finds in the table as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Touched {
    pub rows: u64,
    /// Data files to rewrite, or to mark rows of.
    pub files: u64,
    pub bytes: u64,
}

impl Plan {
    pub fn new(deep: bool, tables: Vec<TablePlan>) -> Plan {
        let worst = tables.iter().filter_map(|table| table.kind).max();
        Plan { schema: 1, command: "plan", exit_code: worst.map_or(0, Kind::exit_code), deep, tables }
    }

    /// A line for each table, and its steps.
    pub fn write_table(&self, out: &mut impl Write) -> Result<()> {
        let width = self.tables.iter().map(|table| table.table.chars().count()).max().unwrap_or_default();
        for table in &self.tables {
            table.write(width, out).map_err(Error::definite)?;
        }
        Ok(())
    }
}

impl TablePlan {
    pub fn new(table: String) -> TablePlan {
        TablePlan {
            table,
            state: State::Unchanged,
            error: None,
            error_kind: None,
            position: None,
            reaches: None,
            version: None,
            steps: vec![],
            load_files: 0,
            change_files: 0,
            bytes: 0,
            read: None,
            netted_away: None,
            zero_dates: None,
            schema_changes: vec![],
            notes: vec![],
            kind: None,
        }
    }

    /// Adds a step that a run would take.
    pub fn takes(&mut self, step: Step) {
        self.state = State::Merged;
        match step.step {
            StepKind::Load | StepKind::ContinueLoad => self.load_files += step.files.len() as u64,
            StepKind::Changes | StepKind::Empty => self.change_files += step.files.len() as u64,
            StepKind::CompareLoad | StepKind::AcceptLoad | StepKind::CompleteLoad | StepKind::Evolve => {}
        }
        if !matches!(step.step, StepKind::CompareLoad | StepKind::AcceptLoad) {
            self.bytes += step.bytes;
        }
        if let Some(contents) = &step.contents {
            *self.read.get_or_insert_default() += contents.read;
            *self.netted_away.get_or_insert_default() += contents.netted_away;
            *self.zero_dates.get_or_insert_default() += contents.zero_dates;
        }
        self.reaches.clone_from(&step.reaches);
        self.steps.push(step);
    }

    pub fn fail(&mut self, error: &Error) {
        self.state = State::Failed;
        self.kind = Some(error.kind);
        self.error_kind = Some(error.kind.name());
        self.error = Some(error.to_string());
    }

    fn write(&self, width: usize, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{:<width$}  {}", self.table, self.summary())?;
        for change in &self.schema_changes {
            writeln!(out, "  columns: {change}")?;
        }
        for step in &self.steps {
            writeln!(out, "  {}", step.line())?;
        }
        if let Some(error) = &self.error {
            writeln!(out, "  stop: {error}")?;
        }
        for note in &self.notes {
            writeln!(out, "  note: {note}")?;
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let at = self.position.as_ref().map_or(String::new(), |position| format!(", at {position}"));
        let to = self.reaches.as_ref().filter(|to| Some(*to) != self.position.as_ref());
        let to = to.map_or(String::new(), |position| format!(", to {position}"));
        let files = self.load_files + self.change_files;
        match self.state {
            State::NoDataYet => "no data yet".to_string(),
            State::Unchanged => format!("nothing new{at}"),
            State::Failed if self.steps.is_empty() => format!("stops at once{at}"),
            State::Loading if self.steps.is_empty() => "loading, nothing new".to_string(),
            state => {
                let how = match state {
                    State::Failed => " and then stops",
                    State::Loading => " (loading)",
                    _ => "",
                };
                let records = self.read.map_or(String::new(), |read| format!(", {read} records"));
                format!("{}, {}{records}{at}{to}{how}", counted(files, "file"), HumanBytes(self.bytes))
            }
        }
    }
}

impl Step {
    pub fn new(step: StepKind, files: &[RawFile]) -> Step {
        Step {
            step,
            bytes: files.iter().map(|file| file.size).sum(),
            files: files.iter().map(|file| StepFile { file: file.shown.clone(), bytes: file.size }).collect(),
            reaches: None,
            contents: None,
        }
    }

    fn line(&self) -> String {
        let what = match self.step {
            StepKind::Load => "load",
            StepKind::ContinueLoad => "continue the load with",
            StepKind::Changes => "merge",
            StepKind::Empty => "empty the table and merge",
            StepKind::CompareLoad => "compare with what was loaded",
            StepKind::AcceptLoad => "take as loaded",
            StepKind::CompleteLoad => return "note that the load is complete".to_string(),
            StepKind::Evolve => return "change the table's columns".to_string(),
        };
        let files = match self.files.as_slice() {
            [] => "no file".to_string(),
            [one] => format!("{}, {}", one.file, HumanBytes(self.bytes)),
            [first, .., last] => {
                let last = last.file.rsplit('/').next().unwrap_or_default();
                format!("{} files, {} to {last}, {}", self.files.len(), first.file, HumanBytes(self.bytes))
            }
        };
        format!("{what} {files}{}", self.contents.as_ref().map_or(String::new(), Contents::text))
    }
}

impl Contents {
    fn text(&self) -> String {
        let mut parts = vec![format!(
            "{} ({} inserts, {} updates, {} deletes)",
            counted(self.read, "record"),
            self.inserts,
            self.updates,
            self.deletes
        )];
        if self.netted_away > 0 {
            parts.push(format!("{} netted away", self.netted_away));
        }
        if self.bad > 0 {
            parts.push(format!("{} for the quarantine", self.bad));
        }
        if self.zero_dates > 0 {
            parts.push(counted(self.zero_dates, "zero date"));
        }
        if let Some(Touched { rows, files, bytes }) = self.touched {
            let (rows, files) = (counted(rows, "row"), counted(files, "data file"));
            parts.push(format!("{rows} in {files} of {}", HumanBytes(bytes)));
        }
        format!(": {}", parts.join(", "))
    }
}

fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
