//! Why the store could not do what was asked.

use std::fmt;

/// A failure of the store itself; a broken rule of the domain is not one.
#[derive(Debug)]
pub enum Error {
    /// No space left, or a write to the disk failed. Nothing of this write was kept.
    DiskFull,
    /// The writer's queue is full: the server is overloaded.
    Overloaded,
    /// The file is damaged; writes have stopped.
    Corrupt(String),
    /// The store is closing.
    Closed,
    /// Anything else SQLite says.
    Sqlite(rusqlite::Error),
    /// A sealed value could not be opened with the key at hand.
    Unsealable,
    /// No reader became free in time.
    NoReader,
}

impl Error {
    /// The same failure for the next of several writes that were lost together.
    pub(super) fn again(&mut self) -> Error {
        match self {
            Error::DiskFull => Error::DiskFull,
            Error::Overloaded => Error::Overloaded,
            Error::Corrupt(what) => Error::Corrupt(what.clone()),
            Error::Closed => Error::Closed,
            Error::Sqlite(error) => Error::Sqlite(rusqlite::Error::SqliteFailure(
                error.sqlite_error().copied().unwrap_or(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR)),
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
            Error::Corrupt(what) => write!(f, "the file is damaged: {what}"),
            Error::Closed => f.write_str("the store is closed"),
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
            Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::SystemIoFailure) => Error::DiskFull,
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Error::Corrupt(error.to_string())
            }
            _ => Error::Sqlite(error),
        }
    }
}

/// Whether SQLite refused a row because it breaks a UNIQUE constraint.
pub(crate) fn is_unique_violation(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::SqliteFailure(inner, _)
            if inner.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE
                || inner.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
    )
}
