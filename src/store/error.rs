//! Why the store could not do what was asked.

use std::cell::RefCell;
use std::fmt;

use rusqlite::{ErrorCode, ffi};

/// A failure of the store itself; a broken rule of the domain is not one.
#[derive(Debug)]
pub enum Error {
    /// No space left, or a write to the disk failed. Nothing of this write was kept.
    DiskFull,
    /// The writer's queue is full: the server is overloaded.
    Overloaded,
    /// Another program held the file's write lock for too long.
    Busy,
    /// The file is damaged; writes have stopped.
    Corrupt(String),
    /// The store is closing.
    Closed,
    /// A read took longer than reads may, and was stopped.
    TooSlow,
    /// The closure of this write panicked; nothing of it was kept.
    Panicked,
    /// Anything else SQLite says.
    Sqlite(rusqlite::Error),
    /// A sealed value could not be opened with the key at hand.
    Unsealable,
    /// No reader became free in time.
    NoReader,
}

impl Error {
    /// The same failure for the next of several writes that were lost together.
    pub(super) fn again(&self) -> Error {
        match self {
            Error::DiskFull => Error::DiskFull,
            Error::Overloaded => Error::Overloaded,
            Error::Busy => Error::Busy,
            Error::Corrupt(what) => Error::Corrupt(what.clone()),
            Error::Closed => Error::Closed,
            Error::TooSlow => Error::TooSlow,
            Error::Panicked => Error::Panicked,
            Error::Sqlite(error) => Error::Sqlite(rusqlite::Error::SqliteFailure(
                error.sqlite_error().copied().unwrap_or(ffi::Error::new(ffi::SQLITE_ERROR)),
                Some(error.to_string()),
            )),
            Error::Unsealable => Error::Unsealable,
            Error::NoReader => Error::NoReader,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::DiskFull => f.write_str("the disk that holds the file is full"),
            Error::Overloaded => f.write_str("too many writes are waiting"),
            Error::Busy => f.write_str("another program keeps the file locked"),
            Error::Corrupt(what) => write!(f, "the file is damaged: {what}"),
            Error::Closed => f.write_str("the store is closed"),
            Error::TooSlow => f.write_str("the read was stopped because it took too long"),
            Error::Panicked => f.write_str("the write was stopped by a fault in the program"),
            Error::Sqlite(error) => write!(f, "SQLite: {error}"),
            Error::Unsealable => f.write_str("a sealed value does not open with this key"),
            Error::NoReader => f.write_str("no reader became free in time"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Sqlite(error) => Some(error),
            _ => None,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Error::DiskFull,
            Some(ErrorCode::SystemIoFailure) if !is_failed_read(&error) => Error::DiskFull,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                let what = error.to_string();
                NOTED.with_borrow_mut(|noted| *noted = Some(what.clone()));
                Error::Corrupt(what)
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy,
            Some(ErrorCode::OperationInterrupted) => Error::TooSlow,
            _ => Error::Sqlite(error),
        }
    }
}

/// Whether SQLite refused a row because it breaks a UNIQUE constraint.
pub fn is_unique_violation(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::SqliteFailure(inner, _)
            if inner.extended_code == ffi::SQLITE_CONSTRAINT_UNIQUE
                || inner.extended_code == ffi::SQLITE_CONSTRAINT_PRIMARYKEY
    )
}

thread_local! {
    // A closure turns SQLite's errors into its own error type, which the store cannot look into; but
    // every such conversion passes through `From` above, on the thread that runs the closure.
    static NOTED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The damage that SQLite has reported on this thread since the last call.
pub(super) fn take_noted_damage() -> Option<String> {
    NOTED.take()
}

fn is_failed_read(error: &rusqlite::Error) -> bool {
    error.sqlite_extended_error_code().is_some_and(|code| {
        [ffi::SQLITE_IOERR_READ, ffi::SQLITE_IOERR_SHORT_READ, ffi::SQLITE_IOERR_CORRUPTFS, ffi::SQLITE_IOERR_DATA]
            .contains(&code)
    })
}
