//! AWS DMS with an S3 target: what its endpoint's settings and its task's mappings and settings mean, how its files are named, and
//! what their records hold.

pub mod settings;
pub mod folders;
pub mod mappings;
pub(crate) mod pattern;
pub mod transformations;
pub mod shape;
pub mod task;
pub mod names;
pub(crate) mod cut;
pub(crate) mod transactions;
pub(crate) mod layout;
pub(crate) mod values;
mod former;
pub mod records;
pub mod signs;
pub mod typed;
