//! The store: one SQLite file, one writer, many readers.
//!
//! [`Store::write`] sends a closure to the writer thread, the only connection that writes. It runs
//! many closures in one IMMEDIATE transaction, each in its own savepoint, commits once
//! (`synchronous=FULL`), and answers after the commit: what was acknowledged is in the file.
//! [`Store::read`] runs on a pooled read-only connection and sees the last commit (WAL).
//!
//! The SQL of a table stands beside its row type, one file per group of tables.

pub mod agents;
pub mod apps;
pub mod audit;
pub mod connections;
pub mod keys;
pub mod logs;
pub mod metadata;
pub mod scripts;
pub mod stats;
pub mod users;
pub mod workspaces;

mod columns;
mod error;
mod keeper;
mod migrate;
mod open;
mod seal;
mod writer;

pub use error::Error;
pub use keeper::{Keeper, Retention};
pub use open::{OpenError, Options, Store};
pub use seal::{Key, SealError, Sealer};
pub use writer::Write;
