//! Raw AWS DMS files: which there are, which of them are to be merged next, and their rows.

pub mod changes;
mod range;
pub mod listing;
pub mod metadata;
pub mod next;
pub mod content;
pub mod parquet;
mod pieces;
mod rows;
pub mod progress;
pub mod reading;
