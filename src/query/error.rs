//! What can go wrong with a query, sorted by who must act, and said in one clear message.

use std::error::Error;
use std::fmt;
use std::io;

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

/// Why a query gave no answer.
#[derive(Debug)]
pub enum QueryError {
    /// The statement is wrong, refused, or its values do not compute: whoever wrote it must look.
    Sql(String),
    /// A file of ours, standard input or standard output failed.
    Io { what: String, source: io::Error },
    /// Something beneath the statement failed: storage, a table, memory. The caller, who knows its
    /// storage, tells the transient from the rest.
    DataFusion(DataFusionError),
}

impl QueryError {
    pub(super) fn sql(text: impl Into<String>) -> Self {
        Self::Sql(text.into())
    }

    pub(super) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    /// Whoever read our output has seen enough (`| head`): no failure.
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql(text) => f.write_str(text),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
            Self::DataFusion(error) => f.write_str(&message(error)),
        }
    }
}

impl Error for QueryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Sql(_) => None,
            Self::Io { source, .. } => Some(source),
            Self::DataFusion(error) => Some(error),
        }
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        if is_about_the_statement(&error) { Self::Sql(message(&error)) } else { Self::DataFusion(error) }
    }
}

impl From<ArrowError> for QueryError {
    fn from(error: ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

fn is_about_the_statement(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => is_about_the_statement(inner),
        DataFusionError::Collection(errors) => errors.iter().all(is_about_the_statement),
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Execution(_) => true,
        DataFusionError::ArrowError(error, _) => matches!(
            error.as_ref(),
            ArrowError::CastError(_)
                | ArrowError::ComputeError(_)
                | ArrowError::DivideByZero
                | ArrowError::ArithmeticOverflow(_)
                | ArrowError::InvalidArgumentError(_)
                | ArrowError::ParseError(_)
        ),
        _ => false,
    }
}

/// The words of the innermost error: DataFusion's layers name its own passes, not the reader's
/// statement.
fn message(error: &DataFusionError) -> String {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => message(inner),
        DataFusionError::Shared(inner) => message(inner),
        DataFusionError::Collection(errors) => errors.first().map(message).unwrap_or_default(),
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::AmbiguousReference { field } => {
                format!("{} is a column of more than one table here; write the table's name before it", field.name)
            }
            other => tidy(&other.to_string()),
        },
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => tidy(text),
            ParserError::RecursionLimitExceeded => "the statement is nested too deeply".into(),
        },
        other => tidy(&other.message()),
    }
}

/// Strips what DataFusion says about itself, and the form of a sentence.
fn tidy(text: &str) -> String {
    const NOISE: [&str; 8] = [
        "Error during planning: ",
        "Execution error: ",
        "External error: ",
        "Arrow error: ",
        "Invalid argument error: ",
        "Compute error: ",
        "Internal error: ",
        "Column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, ",
    ];
    const ENDS: [&str; 3] = ["\n\nbacktrace: ", "\nThis issue was likely caused by a bug", ", errors: "];
    let mut text = ENDS.iter().fold(text, |text, end| text.split(end).next().unwrap_or(text)).to_owned();
    for noise in NOISE {
        text = text.replace(noise, "");
    }
    let text = text.replace(".\nDid you mean", "; did you mean");
    let text = text.trim().trim_end_matches('.');
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planning_error_loses_its_layers() {
        let inner = DataFusionError::Plan("Invalid function 'foo'.".into());
        let error = DataFusionError::Context("type_coercion".into(), Box::new(inner));
        let error = QueryError::from(error);
        assert!(matches!(error, QueryError::Sql(_)));
        assert_eq!(error.to_string(), "invalid function 'foo'");
    }

    #[test]
    fn what_storage_says_is_left_for_the_caller_to_sort() {
        let source = io::Error::other("connection reset");
        let error = DataFusionError::Context("scan".into(), Box::new(source.into()));
        assert!(matches!(QueryError::from(error), QueryError::DataFusion(_)));
    }
}
