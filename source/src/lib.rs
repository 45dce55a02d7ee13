//! What lakemerge knows about its sources, without any query engine, any `async` and any I/O but [`std::io::Read`].
//!
//! The modules stand in the order in which the data travels:
//!
//! 1. [`name`]: a table is a schema and a table name,
//! 2. [`position`]: how far a table has been read is the stamp in a change file's name,
//! 3. [`schema`]: its columns have MySQL types, and each of them has one Arrow type,
//! 4. [`ddl`]: they are read from the `CREATE TABLE` statements of a dump,
//! 5. [`dms`]: the endpoint's settings, the task's table mappings, the names of the files, their records and values,
//! 6. [`infer`]: and where there is no dump, the types are guessed from all values of the full load.
#![warn(missing_docs)]

pub mod name;
pub mod position;
pub mod schema;
pub mod ddl;
pub mod dms;
pub mod infer;
