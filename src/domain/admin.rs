//! Stand-in.
use serde::Deserialize;

use super::{Error, Fault};
use crate::store::Store;

/// Stand-in.
#[derive(Clone, Debug, Deserialize)]
pub struct Command(serde_json::Value);

/// Stand-in.
pub fn run(_store: &Store, _operator: &str, command: Command) -> Result<serde_json::Value, Error> {
    let _ = command.0;
    Err(Error::new(Fault::Unimplemented, "This server has no verbs yet."))
}
