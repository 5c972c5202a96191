//! Table `favorites`.

use std::collections::HashSet;

use rusqlite::Connection;

use crate::model::{Timestamp, UserId, WorkspaceId};

/// What a person wants to see first.
pub fn of_user(conn: &Connection, user: UserId) -> rusqlite::Result<HashSet<WorkspaceId>> {
    conn.prepare_cached("SELECT workspace_id FROM favorites WHERE user_id = ?")?
        .query_map([user], |row| row.get(0))?
        .collect()
}

/// Whether a person wants to see this workspace first.
pub fn has(conn: &Connection, user: UserId, workspace: WorkspaceId) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM favorites WHERE user_id = ? AND workspace_id = ?")?.exists((user, workspace))
}

/// Adds one; does nothing when it is there. Says whether it is new.
pub fn insert(conn: &Connection, user: UserId, workspace: WorkspaceId, at: Timestamp) -> rusqlite::Result<bool> {
    let added = conn
        .prepare_cached(
            "INSERT INTO favorites (user_id, workspace_id, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )?
        .execute((user, workspace, at))?;
    Ok(added > 0)
}

/// Removes one; says whether it was there.
pub fn delete(conn: &Connection, user: UserId, workspace: WorkspaceId) -> rusqlite::Result<bool> {
    let removed = conn
        .prepare_cached("DELETE FROM favorites WHERE user_id = ? AND workspace_id = ?")?
        .execute((user, workspace))?;
    Ok(removed > 0)
}
