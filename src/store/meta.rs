//! Table `meta`: facts about the file itself.

use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::Sealer;

const DEPLOYMENT_ID: &str = "deployment_id";
const SEAL_CHECK: &str = "seal_check";

/// What `seal_check` opens to.
const SEAL_CHECK_TEXT: &[u8] = b"moorline";

/// Writes the facts of a new file.
pub(super) fn insert(conn: &Connection, sealer: &Sealer) -> Result<(), String> {
    let check =
        sealer.seal("meta", "value", SEAL_CHECK.as_bytes(), SEAL_CHECK_TEXT).map_err(|error| error.to_string())?;
    let mut insert = conn.prepare("INSERT INTO meta (key, value) VALUES (?, ?)").map_err(|error| error.to_string())?;
    let facts = [(DEPLOYMENT_ID, Uuid::new_v4().as_bytes().to_vec()), (SEAL_CHECK, check)];
    for fact in facts {
        insert.execute(fact).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The id that was drawn when the file was made.
pub(super) fn deployment_id(conn: &Connection) -> Result<Uuid, String> {
    match value(conn, DEPLOYMENT_ID)? {
        Some(bytes) => Uuid::from_slice(&bytes).map_err(|error| format!("its deployment id is damaged: {error}")),
        None => Err("it has no deployment id".into()),
    }
}

/// Whether the key of `sealer` is the one with which the file was made.
pub(super) fn is_key_right(conn: &Connection, sealer: &Sealer) -> Result<bool, String> {
    match value(conn, SEAL_CHECK)? {
        Some(sealed) => Ok(sealer
            .open_sealed("meta", "value", SEAL_CHECK.as_bytes(), &sealed)
            .is_ok_and(|text| text.as_slice() == SEAL_CHECK_TEXT)),
        None => Err("it has no proof of its key".into()),
    }
}

fn value(conn: &Connection, key: &str) -> Result<Option<Vec<u8>>, String> {
    conn.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0))
        .optional()
        .map_err(|error| error.to_string())
}
