//! Table `trust_anchors`: certificates and key sets that the operator has imported.

use rusqlite::Connection;

use crate::model::Timestamp;

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// `aws/…`, `azure/…`, `google/…`.
    pub name: String,
    /// What it is trusted for.
    pub role: String,
    /// DER of a certificate, or a JWK set.
    pub data: Vec<u8>,
    /// When it ends, if it does.
    pub not_after: Option<Timestamp>,
    /// When it came.
    pub imported_at: Timestamp,
}

/// All of them, by name.
pub fn list(conn: &Connection) -> rusqlite::Result<Vec<Anchor>> {
    conn.prepare_cached("SELECT name, role, data, not_after, imported_at FROM trust_anchors ORDER BY name")?
        .query_map([], |row| {
            Ok(Anchor {
                name: row.get(0)?,
                role: row.get(1)?,
                data: row.get(2)?,
                not_after: row.get(3)?,
                imported_at: row.get(4)?,
            })
        })?
        .collect()
}

/// Adds one, or replaces the one of the same name.
pub fn put(conn: &Connection, anchor: &Anchor) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO trust_anchors (name, role, data, not_after, imported_at) VALUES (?, ?, ?, ?, ?)",
    )?
    .execute((&anchor.name, &anchor.role, &anchor.data, anchor.not_after, anchor.imported_at))?;
    Ok(())
}

/// Removes one; says whether it was there.
pub fn remove(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    Ok(conn.prepare_cached("DELETE FROM trust_anchors WHERE name = ?")?.execute([name])? > 0)
}
