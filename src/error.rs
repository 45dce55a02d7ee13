//! Errors, sorted by who must act: the person who wrote the configuration, a person who looks at the data, or nobody
//! (run again).

use std::fmt;

use buoyant_kernel::Error as KernelError;
use datafusion::error::DataFusionError;
use deltalake::DeltaTableError;

use crate::query::QueryError;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who must act on an error. Its order is the precedence of exit codes when several tables fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing to mend: the same command succeeds later (exit code 75).
    Transient,
    /// The command line, the configuration or a mapping asks for something impossible (exit code 2).
    Usage,
    /// Source, lake or data are not as they should be, and a person must look (exit code 1).
    Definite,
}

impl Kind {
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Transient => 75,
            Kind::Usage => 2,
            Kind::Definite => 1,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Transient => "transient",
            Kind::Usage => "usage",
            Kind::Definite => "definite",
        }
    }
}

/// One error: what was tried, where, what was found, and the way out.
#[derive(Debug, Clone)]
pub struct Error {
    pub kind: Kind,
    message: String,
}

impl Error {
    pub fn usage(message: impl fmt::Display) -> Self {
        Error { kind: Kind::Usage, message: message.to_string() }
    }

    pub fn definite(message: impl fmt::Display) -> Self {
        Error { kind: Kind::Definite, message: message.to_string() }
    }

    pub fn transient(message: impl fmt::Display) -> Self {
        Error { kind: Kind::Transient, message: message.to_string() }
    }

    /// The same error with the place it happened at in front.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The same error with what follows from it behind.
    pub fn so(mut self, consequence: impl fmt::Display) -> Self {
        self.message = format!("{}; {consequence}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// `result.at("reading x")`: names the place on the way up.
pub trait At<T> {
    fn at<D: fmt::Display>(self, place: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> At<T> for Result<T, E> {
    fn at<D: fmt::Display>(self, place: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.into().at(place()))
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        sort(&error)
    }
}

impl Error {
    /// The same with where it leaves a table that is at this `version` and `position`, if there is one.
    pub fn unfinished(self, version: Option<u64>, position: Option<&str>) -> Error {
        let at = position.unwrap_or("its last good version");
        match version {
            Some(_) => self.so(format!("nothing more was merged, the table stays at {at}")),
            None => self.so("nothing was merged"),
        }
    }
}

impl From<DeltaTableError> for Error {
    fn from(error: DeltaTableError) -> Self {
        sort(&error)
    }
}

impl From<KernelError> for Error {
    fn from(error: KernelError) -> Self {
        sort_kernel(&error)
    }
}

impl From<deltalake::kernel::Error> for Error {
    fn from(error: deltalake::kernel::Error) -> Self {
        sort(&error)
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        sort(&error)
    }
}

impl From<datafusion::arrow::error::ArrowError> for Error {
    fn from(error: datafusion::arrow::error::ArrowError) -> Self {
        sort(&error)
    }
}

impl From<deltalake::parquet::errors::ParquetError> for Error {
    fn from(error: deltalake::parquet::errors::ParquetError) -> Self {
        sort(&error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        sort(&error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::definite(error)
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Self {
        Error::definite(format!("a worker ended early: {error}"))
    }
}

impl From<QueryError> for Error {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::DataFusion(error) => error.into(),
            // a file that was named and is not there, or may not be read or written
            QueryError::Io { ref source, .. } if is_about_a_name(source) => Error::usage(error),
            other => Error::definite(other),
        }
    }
}

fn is_about_a_name(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | PermissionDenied | IsADirectory | NotADirectory)
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

/// Finds what lies at the bottom of a library's error: an error of ours that travelled through it, a store that could
/// not be reached, memory that ran out; everything else is for a person to see.
fn sort(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut cause = Some(error);
    while let Some(this) = cause {
        if let Some(ours) = this.downcast_ref::<Error>() {
            return ours.clone();
        }
        if let Some(DataFusionError::External(inner)) = this.downcast_ref::<DataFusionError>()
            && let Some(ours) = inner.downcast_ref::<Error>()
        {
            return ours.clone();
        }
        if let Some(DataFusionError::ResourcesExhausted(text)) = this.downcast_ref::<DataFusionError>() {
            return Error::definite(format!("memory_limit is too small for this step, raise it: {text}"));
        }
        if let Some(store) = this.downcast_ref::<object_store::Error>() {
            return sort_store(store);
        }
        if let Some(DeltaTableError::KernelError(kernel)) = this.downcast_ref::<DeltaTableError>() {
            return sort_kernel(kernel);
        }
        if let Some(kernel) = this.downcast_ref::<KernelError>() {
            return sort_kernel(kernel);
        }
        // the source of such an error is the one below what it holds
        cause = match this.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(held) => Some(held),
            None => this.source(),
        };
    }
    let text = error.to_string();
    // a cause that a library tells as text alone, as of a footer that could not be fetched
    if text.contains("Generic S3 error: ") { sort_s3(text) } else { Error::definite(text) }
}

/// The kernel does not tell its cause as a source, and shows a backtrace as a part of its message.
fn sort_kernel(error: &KernelError) -> Error {
    match error {
        KernelError::Backtraced { source, .. } => sort_kernel(source),
        KernelError::ObjectStore(store) => sort_store(store),
        KernelError::Parquet(error) => sort(error),
        KernelError::Arrow(error) => sort(error),
        KernelError::IOError(error) => sort(error),
        KernelError::GenericError { source } => sort(source.as_ref()),
        other => Error::definite(other),
    }
}

/// What a store answers that no later run changes: S3 clients report these like a connection that broke.
const REFUSALS: [&str; 22] = [
    "KeyTooLongError",
    "InvalidRequest",
    "InvalidArgument",
    "EntityTooLarge",
    "QuotaExceeded",
    "405 Method Not Allowed",
    "501 Not Implemented",
    "507 Insufficient Storage",
    "NoSuchBucket",
    "InvalidBucketName",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "403 Forbidden",
    "401 Unauthorized",
    "AuthorizationHeaderMalformed",
    "without LOCATION",
    "InvalidToken",
    "<Code>KMS.",
    "invalid peer certificate",
    "UnknownIssuer",
    "invalid list response",
];

/// What the chain of credentials says where another try may help: a service that did not answer.
const HICCUPS: [&str; 8] = [
    "timed out",
    "dispatch failure",
    "response error",
    "Throttling",
    "TooManyRequests",
    "ServiceUnavailable",
    "InternalFailure",
    "IDPCommunicationError",
];

fn sort_store(error: &object_store::Error) -> Error {
    match error {
        // S3 clients give up with `Generic` after their own retries; a local file system has nothing to wait for.
        object_store::Error::Generic { store, .. } if *store != "LocalFileSystem" => sort_s3(chain(error)),
        object_store::Error::NotSupported { source } if chain(source.as_ref()).contains("credential") => {
            let text = chain(source.as_ref());
            if HICCUPS.iter().any(|hiccup| text.contains(hiccup)) {
                return Error::transient(format!("the AWS credentials could not be loaded: {text}"));
            }
            Error::definite(format!("there are no AWS credentials: {text}")).so(
                "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine or the pod a role",
            )
        }
        object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. } => {
            Error::transient(chain(error))
        }
        _ => Error::definite(chain(error)),
    }
}

/// What S3 answered, or that it did not.
fn sort_s3(text: String) -> Error {
    // whoever gave the token renews it, unless it was set by hand
    let is_over = text.contains("ExpiredToken") && std::env::var_os("AWS_SESSION_TOKEN").is_some();
    if is_over || REFUSALS.iter().any(|refusal| text.contains(refusal)) {
        return Error::definite(text)
            .so("check the bucket's name and region, the endpoint, the credentials and what they allow");
    }
    Error::transient(text)
}

/// An error with its causes, each said once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(this) = cause {
        let more = this.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = this.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use deltalake::parquet::errors::ParquetError;

    use super::*;

    fn store(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn a_store_that_may_recover_is_found_below_the_errors_of_libraries() {
        let kernel = || KernelError::ObjectStore(store("connection reset"));
        let errors: [Error; 4] = [
            store("connection reset").into(),
            std::io::Error::other(store("connection reset")).into(),
            DeltaTableError::KernelError(kernel()).into(),
            DataFusionError::External(Box::new(DeltaTableError::KernelError(kernel()))).into(),
        ];
        for error in errors {
            assert_eq!(error.kind, Kind::Transient, "{error}");
        }
        assert_eq!(Error::from(std::io::Error::other(store("403 Forbidden"))).kind, Kind::Definite);
        assert_eq!(Error::from(store("status 400: <Code>AuthorizationHeaderMalformed")).kind, Kind::Definite);
        let checkpoint = KernelError::Parquet(ParquetError::External(Box::new(store("503 SlowDown"))));
        assert_eq!(Error::from(DeltaTableError::KernelError(checkpoint)).kind, Kind::Transient);
        let footer = ParquetError::General("Failed to fetch metadata: Generic S3 error: 503 SlowDown".to_owned());
        assert_eq!(Error::from(DataFusionError::ParquetError(Box::new(footer))).kind, Kind::Transient);
        assert_eq!(Error::from(store("400 Bad Request: <Code>KeyTooLongError</Code>")).kind, Kind::Definite);
        let credentials = |text: &str| Error::from(object_store::Error::NotSupported { source: text.into() }).kind;
        assert_eq!(credentials("the credential provider was not enabled"), Kind::Definite);
        assert_eq!(credentials("the credential provider timed out"), Kind::Transient);
        assert_eq!(Error::from(std::io::Error::other("disk full")).kind, Kind::Definite);
    }
}
