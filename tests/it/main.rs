//! The integration tests: they run the `lakemerge` binary as its users do, on folders and on a real S3 server.
//!
//! One binary, since each further one would link DataFusion once more. `journey` is the first five minutes;
//! `properties`, `laws`, `races` and `kill` hold the design's promises against an independent model
//! ([`support::model`]); the rest is named after what it looks at. `./test` installs what they need.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that meets something unexpected has failed"
)]

mod support;

mod added_columns;
mod bad_input;
mod check;
mod evolution;
mod folders;
mod foreign;
mod history;
mod journey;
mod kill;
mod large_files;
mod laws;
mod load;
mod parquet;
mod partial;
mod plan;
mod probe;
mod properties;
mod quarantine;
mod races;
mod settings;
mod resumed;
mod s3;
mod skipping;
mod statistics;
mod table_types;
mod tidy;
mod transformations;
mod transactions;
mod upkeep;
mod vanished;
mod wide;
