//! Why something was not done, and who is at fault. `rest/reply.rs` turns it into status and body,
//! `agentapi` into a DRPC error, `cli` into text and exit code: one match each.

use std::fmt;

use crate::store;

/// Who is at fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The request makes no sense.
    Invalid,
    /// No or no good credentials.
    Unauthenticated,
    /// Known, but not allowed.
    Forbidden,
    /// It does not exist, or not for this caller.
    NotFound,
    /// It clashes with something that exists.
    Conflict,
    /// More than a limit allows.
    TooLarge,
    /// More often than a limit allows.
    TooMany,
    /// A machine that it needs cannot be reached.
    Unreachable,
    /// The disk is full: reads go on, writes do not.
    StorageFull,
    /// Too much to do at present.
    Overloaded,
    /// Not something that this server does.
    Unimplemented,
    /// Our own fault.
    Internal,
}

/// One field that was not accepted.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Field {
    /// JSON or parameter name.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Field {
    /// Says what is wrong with a field.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Field {
        Field { field: field.into(), detail: detail.into() }
    }
}

/// A refusal or failure: a sentence that stands alone, and what helps to mend it.
#[derive(Clone, Debug)]
pub struct Error {
    /// Who is at fault.
    pub fault: Fault,
    /// A full sentence, shown to people.
    pub message: String,
    /// More for those who look closer; may be empty.
    pub detail: String,
    /// The fields that were not accepted.
    pub fields: Vec<Field>,
}

impl Error {
    /// A refusal without detail.
    pub fn new(fault: Fault, message: impl Into<String>) -> Error {
        Error { fault, message: message.into(), detail: String::new(), fields: Vec::new() }
    }

    /// Adds detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Error {
        self.detail = detail.into();
        self
    }

    /// Adds a field that was not accepted.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, detail: impl Into<String>) -> Error {
        self.fields.push(Field::new(field, detail));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        for field in &self.fields {
            write!(f, "\n  {}: {}", field.field, field.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        match error {
            store::Error::DiskFull => {
                Error::new(Fault::StorageFull, "The server's disk is full; nothing of this request was stored.")
            }
            store::Error::Overloaded
            | store::Error::NoReader
            | store::Error::Busy
            | store::Error::TooSlow
            | store::Error::Closed => Error::new(Fault::Overloaded, "The server is overloaded or stopping; try again."),
            other => {
                log::error!("store: {other}");
                Error::new(Fault::Internal, "The store failed.").detail(other.to_string())
            }
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        store::Error::from(error).into()
    }
}
