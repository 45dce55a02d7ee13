//! lakemerge brings the changes of a MySQL database into Delta Lake tables and keeps them correct to the row.
//!
//! The journey of a change, and of this crate, in the order the data travels:
//!
//! 1. [`cli`] and [`config`] hold what was typed, [`environment`] what was set; [`job`] says what it means.
//! 2. [`storage`] opens the places where raw files and tables lie, on S3 or a local path.
//! 3. [`lake`] opens a table and reads the position that its last commit holds.
//! 4. [`dms`] lists the raw files that AWS DMS wrote, decides which are next ([`dms::next`]), and reads their rows, in CSV
//!    or Parquet. What needs no query engine (names, settings, mappings, records, values, CREATE TABLE) is the crate
//!    [`lakemerge_source`]. Records that are no rows may go to [`lake::quarantine`].
//! 5. [`merge`] nets the changes of a batch, looks for the rows they touch where bounds, Bloom filters and page indexes
//!    leave any (`merge/skipping.rs`), locates them by one join over the key columns, and writes the files that replace
//!    the touched ones: page by page where their rows only lose some (`merge/pages.rs`), column by column on all threads
//!    where they are new (`merge/data_file.rs`). What does not fit into the memory is sorted on disk (`merge/sort.rs`).
//!    [`engine`] is DataFusion with a part of the memory for each table that is worked on.
//! 6. [`lake::commit`] commits rows and position together. *There is no other state.*
//! 7. [`run`] repeats 3 to 6 for each table until nothing is left; [`report`] tells, and [`plan`] tells beforehand.
//! 8. [`maintain`] keeps tables fast: compaction, purge, clustering by key ([`lake::layers`]), checkpoints, vacuum.
//! 9. [`query`] (over the tables that [`desk`] hands it, as they are or were: [`lake::history`]) and [`status`] read what
//!    came of it; [`check`] looks for what may make it wrong.
//!
//! Where it differs from the usual way: the commit entry is written directly on the version that was read, instead of
//! by deltalake's retrying commit ([`lake::commit`] says why); and the locating join is an inner one against netted,
//! hence unique, keys, because the matched change tells an update from an insert. Keys of inserts are looked for like
//! all others wherever bounds allow them: DMS writes an insert again that the load has seen, or that a resumed task
//! repeats, and a row stays behind whose TRUNCATE, cascade or key update no file tells of.

pub mod cli;
pub mod config;
pub mod environment;
pub mod job;
pub mod storage;
pub mod dms;
pub mod allocator;
pub mod budget;
pub mod engine;
pub mod merge;
pub mod lake;
pub mod run;
pub mod destination;
pub mod report;
pub mod plan;
pub mod maintain;
pub mod query;
pub mod desk;
pub mod status;
pub mod check;
pub mod error;
