//! One run of one side: its time and its peak memory, both of the whole process.

use std::fmt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Result;

#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub seconds: f64,
    /// Seconds of all its threads on a core, which other work on the machine hardly changes.
    pub cpu: f64,
    /// `VmHWM`, in bytes.
    pub peak: u64,
}

impl Measured {
    /// The median times, and the largest memory, of runs of the same work.
    pub fn of_many(runs: &[Measured]) -> Measured {
        let seconds = median(runs.iter().map(|run| run.seconds).collect());
        let cpu = median(runs.iter().map(|run| run.cpu).collect());
        Measured { seconds, cpu, peak: runs.iter().map(|run| run.peak).max().unwrap_or_default() }
    }

    pub fn megabytes(&self) -> f64 {
        self.peak as f64 / 1e6
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s ({:.2} CPU), {:.0} MB", self.seconds, self.cpu, self.megabytes())
    }
}

pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How often the memory of a process is looked at.
const EVERY: Duration = Duration::from_millis(4);

/// Runs `command` to its end.
///
/// Memory is looked at while it runs, since what `wait` tells begins at the memory of the parent.
///
/// # Errors
/// If it fails, with what it said.
pub fn measure(mut command: Command) -> Result<Measured> {
    // what an earlier run wrote is not to be written to the disk during this one
    Command::new("sync").status()?;
    let cpu_before = cpu_of_children()?;
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.map_err(|e| format!("{command:?}: {e}"))?;
    let status = format!("/proc/{}/status", child.id());
    let ended = AtomicBool::new(false);
    let (output, seconds, peak) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(high_water(&status).unwrap_or_default());
                std::thread::sleep(EVERY);
            }
            peak
        });
        let output = child.wait_with_output();
        let seconds = start.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        (output, seconds, watch.join().unwrap_or_default())
    });
    let output = output?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} ended with {}:\n{said}", output.status).into());
    }
    Ok(Measured { seconds, cpu: cpu_of_children()? - cpu_before, peak })
}

/// What all ended children have used, in seconds.
fn cpu_of_children() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // the fields after the name, which is in parentheses: from the 14th on, user and system ticks of children
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / TICKS)
}

/// Ticks of a second as `/proc` counts, on every Linux of today.
const TICKS: f64 = 100.0;

fn high_water(status: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
