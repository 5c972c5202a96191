//! The store: one SQLite file, one writer, many readers.
//!
//! [`Store::write`] sends a closure to the writer thread, the only connection that writes. It runs
//! many closures in one IMMEDIATE transaction, each in its own savepoint, commits once
//! (`synchronous=FULL`), and answers after the commit: what was acknowledged is in the file.
//! [`Store::read`] runs on a pooled read-only connection and sees the last commit (WAL), so nobody
//! ever waits for a lock, unless another program holds one.
//!
//! When the disk is full, writes fail with [`Error::DiskFull`] and reads go on; the next write tries
//! again. When the file is found damaged, writes stop until the next start.
//!
//! Beside FILE lie: `FILE-wal` and `FILE-shm` (SQLite's), `FILE.lock` (holds the process id),
//! `FILE.key` (the sealing key, unless configured elsewhere) and `FILE.before-NNNN` (copies made
//! before migrations).
//!
//! The SQL of a table stands beside its row type, one file per group of tables.

pub mod agents;
pub mod apps;
pub mod anchors;
pub mod audit;
pub mod clones;
pub mod connection_log;
pub mod connections;
pub mod egress;
pub mod external_auth;
pub mod favorites;
pub mod instances;
pub mod keys;
pub mod lock;
pub mod logs;
pub mod metadata;
pub mod plugin_cache;
pub mod scripts;
pub mod stats;
pub mod tunnels;
pub mod users;
pub mod workspaces;

mod check;
mod columns;
mod create;
mod error;
mod handle;
mod header;
mod health;
mod keeper;
mod meta;
mod migrate;
mod open;
mod place;
mod readers;
mod retention;
mod seal;
mod shape;
mod writer;

pub use error::{Error, is_unique_violation};
pub use handle::{Room, Size, Store};
pub use keeper::Keeper;
pub use open::{OpenError, Options, default_key_file};
pub use readers::READ_DEADLINE;
pub use retention::Retention;
pub use seal::{Key, SealError, Sealer};
pub use writer::Write;
