//! Table `plugin_cache`: what plugins keep for a while, sealed.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Error, SealError, Sealer};
use crate::model::Timestamp;

const TABLE: &str = "plugin_cache";
const COLUMN: &str = "value_sealed";

/// Provider and key, as the sealed value is bound to them. A provider's id holds no zero byte.
fn place(provider: &str, key: &[u8]) -> Vec<u8> {
    [provider.as_bytes(), &[0], key].concat()
}

/// Seals a value for its row.
pub fn seal(sealer: &Sealer, provider: &str, key: &[u8], value: &[u8]) -> Result<Vec<u8>, SealError> {
    sealer.seal(TABLE, COLUMN, &place(provider, key), value)
}

/// The value under a key, unless it is too old. One that does not open (another key file) is as good as gone.
pub fn get(
    conn: &Connection,
    sealer: &Sealer,
    provider: &str,
    key: &[u8],
    now: Timestamp,
) -> Result<Option<Vec<u8>>, Error> {
    let sealed: Option<Vec<u8>> = conn
        .prepare_cached("SELECT value_sealed FROM plugin_cache WHERE provider = ?1 AND key = ?2 AND until > ?3")?
        .query_row(params![provider, key, now], |row| row.get(0))
        .optional()?;
    let opened = sealed.and_then(|sealed| sealer.open_sealed(TABLE, COLUMN, &place(provider, key), &sealed).ok());
    Ok(opened.map(|value| value.to_vec()))
}

/// Keeps a sealed value; beyond `most` entries of the provider, those that end first go.
pub fn put(
    conn: &Connection,
    provider: &str,
    key: &[u8],
    sealed: &[u8],
    until: Timestamp,
    most: usize,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO plugin_cache (provider, key, value_sealed, until) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (provider, key) DO UPDATE SET value_sealed = ?3, until = ?4",
    )?
    .execute(params![provider, key, sealed, until])?;
    conn.prepare_cached(
        "DELETE FROM plugin_cache WHERE provider = ?1 AND key <> ?2 AND key NOT IN
             (SELECT key FROM plugin_cache WHERE provider = ?1 AND key <> ?2 ORDER BY until DESC LIMIT ?3)",
    )?
    .execute(params![provider, key, i64::try_from(most.saturating_sub(1)).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// Removes an entry.
pub fn remove(conn: &Connection, provider: &str, key: &[u8]) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM plugin_cache WHERE provider = ?1 AND key = ?2")?
        .execute(params![provider, key])?;
    Ok(())
}
