//! The interactive shell: reads statements from a person, keeps going after an error.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Editor, Helper};

use super::output::Output;
use super::{Desk, QueryError};

const PROMPT: &str = "lakemerge> ";
const HELP: &str = "\
Statements end with ; and may span lines.
  \\d               the tables of the lake
  \\d schema.table  the columns of a table
  \\q               leave (also exit, quit, Ctrl-D)
Ctrl-C drops the line, or stops the running statement.";

/// Reads and answers until the person leaves.
pub async fn run(desk: &Desk, output: &mut Output) -> Result<(), QueryError> {
    let history = history_file();
    let mut editor = editor(history.as_ref())?;
    loop {
        let (back, line) = ask(editor).await?;
        editor = back;
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(failed(error)),
        };
        let _ = editor.add_history_entry(line.trim());
        match Entry::of(&line) {
            Entry::Nothing => {}
            Entry::Leave => break,
            Entry::Help => tell(HELP),
            Entry::Sql(sql) => answer(desk, &sql, output).await?,
        }
    }
    if let Some(history) = history {
        // Losing the history is no reason to fail.
        let _ = editor.save_history(&history);
    }
    Ok(())
}

/// Answers, or says why not; only the end of our own output ends the shell.
async fn answer(desk: &Desk, sql: &str, output: &mut Output) -> Result<(), QueryError> {
    let start = Instant::now();
    let answered = tokio::select! {
        answered = desk.answer_all(sql, output) => answered,
        _ = tokio::signal::ctrl_c() => {
            tell("stopped");
            return Ok(());
        }
    };
    match answered {
        Ok(rows) => {
            let plural = if rows == 1 { "" } else { "s" };
            let seconds = start.elapsed().as_secs_f64();
            tell(&format!("{rows} row{plural} in {seconds:.3} s"));
            Ok(())
        }
        Err(error @ QueryError::Io { .. }) => Err(error),
        Err(error) => {
            tell(&format!("error: {error}"));
            Ok(())
        }
    }
}

fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

type Lines = Editor<Shell, FileHistory>;

/// Waits for a person on a thread of its own, so that the runtime goes on.
async fn ask(mut editor: Lines) -> Result<(Lines, rustyline::Result<String>), QueryError> {
    let asked = tokio::task::spawn_blocking(move || {
        let line = editor.readline(PROMPT);
        (editor, line)
    });
    asked.await.map_err(|error| failed(ReadlineError::Io(io::Error::other(error))))
}

fn editor(history: Option<&PathBuf>) -> Result<Lines, QueryError> {
    let config = Config::builder().auto_add_history(false).build();
    let mut editor = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Shell));
    if let Some(history) = history {
        let _ = editor.load_history(history);
    }
    Ok(editor)
}

fn failed(error: ReadlineError) -> QueryError {
    QueryError::io("cannot read from the terminal", io::Error::other(error))
}

/// Where the history lies: with the user's state, never in the working directory.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    let folder = state.join("lakemerge");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

/// What was entered.
#[derive(Debug, PartialEq)]
enum Entry {
    Nothing,
    Leave,
    Help,
    Sql(String),
}

impl Entry {
    fn of(line: &str) -> Self {
        let line = line.trim();
        match line.trim_end_matches(';').trim().to_lowercase().as_str() {
            "" => return Self::Nothing,
            "\\q" | "exit" | "quit" => return Self::Leave,
            "\\?" | "\\h" | "?" | "help" => return Self::Help,
            "\\d" | "\\dt" => return Self::Sql("SHOW TABLES".into()),
            _ => {}
        }
        match line.strip_prefix("\\d ") {
            Some(table) => Self::Sql(format!("DESCRIBE {}", table.trim_end_matches(';').trim())),
            None if line.starts_with('\\') => Self::Help,
            None => Self::Sql(line.to_owned()),
        }
    }

    fn is_command(line: &str) -> bool {
        !matches!(Self::of(line), Self::Sql(_)) || line.trim_start().starts_with('\\')
    }
}

/// A statement is complete at a semicolon that is in no string and no comment.
fn is_complete(text: &str) -> bool {
    if Entry::is_command(text) {
        return true;
    }
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize() else {
        return false;
    };
    let mut meaningful = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_)));
    meaningful.next_back() == Some(&Token::SemiColon)
}

/// What rustyline asks of us.
struct Shell;

impl Helper for Shell {}

impl Completer for Shell {
    type Candidate = String;
}

impl Hinter for Shell {
    type Hint = String;
}

impl Highlighter for Shell {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Borrowed(hint)
    }
}

impl Validator for Shell {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(context.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_goes_on_until_its_semicolon() {
        for open in ["select 1", "select ';'", "select 1 -- ;", "select 'a", "/* ;"] {
            assert!(!is_complete(open), "{open}");
        }
        for whole in ["select 1;", "select ';';", "select 1; -- done", "select\n1\n; "] {
            assert!(is_complete(whole), "{whole}");
        }
    }

    #[test]
    fn commands_need_no_semicolon() {
        for command in ["\\q", "exit", "QUIT;", "help", "\\d", "\\d fossil.coal_prod", ""] {
            assert!(is_complete(command), "{command}");
        }
        assert_eq!(Entry::of("\\q"), Entry::Leave);
        let describe = Entry::Sql("DESCRIBE fossil.coal_prod".into());
        assert_eq!(Entry::of("\\d fossil.coal_prod;"), describe);
    }
}
