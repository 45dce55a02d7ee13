//! Runs the binary under test, with a time limit.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(180);

/// A command of the binary that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub seconds: f64,
}

impl Outcome {
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "the exit code is not {code}: {self}");
        self
    }

    /// The texts all stand in what the binary told the user.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "stderr does not say {text:?}: {self}");
        }
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr, seconds } = self;
        write!(f, "exit {code:?} after {seconds:.1} s\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

/// A command of the binary that has been started.
pub struct Running {
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
    started: Instant,
}

/// Starts `lakemerge ARGS` in `folder`. No AWS setting of the surroundings reaches it.
pub fn start(folder: &Path, env: &[(String, String)], args: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakemerge"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(args)
        .current_dir(folder)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary cannot be started");
    Running {
        stdout: collect(child.stdout.take().expect("stdout is piped")),
        stderr: collect(child.stderr.take().expect("stderr is piped")),
        child,
        started: Instant::now(),
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("the output cannot be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Running {
    /// Waits for its end. A binary that hangs or panics has failed the test, whatever the test is about.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        let mut hung = false;
        while !self.ended() {
            if self.started.elapsed() > LIMIT {
                hung = true;
                self.child.kill().expect("the binary cannot be killed");
                break;
            }
            sleep(Duration::from_millis(5));
        }
        let outcome = self.outcome();
        assert!(!hung, "the binary did not end within {LIMIT:?}: {outcome}");
        assert!(!outcome.stderr.contains("panicked at"), "the binary panicked: {outcome}");
        outcome
    }

    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("the binary cannot be waited for").is_some()
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(self) -> Outcome {
        let pid = self.child.id().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill is not there");
        assert!(sent.success(), "no signal was sent");
        self.wait()
    }

    /// SIGKILL once `delay` has passed since the start; nothing when it has ended by itself.
    pub fn kill_after(mut self, delay: Duration) -> Outcome {
        while self.started.elapsed() < delay && !self.ended() {
            sleep(Duration::from_millis(1));
        }
        self.child.kill().expect("the binary cannot be killed");
        self.outcome()
    }

    fn outcome(mut self) -> Outcome {
        let status = self.child.wait().expect("the binary cannot be waited for");
        Outcome {
            code: status.code(),
            stdout: self.stdout.join().expect("stdout was not read"),
            stderr: self.stderr.join().expect("stderr was not read"),
            seconds: self.started.elapsed().as_secs_f64(),
        }
    }
}
