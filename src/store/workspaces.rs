//! Table `workspaces`.

use rusqlite::{Connection, OptionalExtension, Row};

use crate::model::{Timestamp, UserId, WorkspaceId};

/// A declared workspace.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Stable id.
    pub id: WorkspaceId,
    /// Whose.
    pub owner_id: UserId,
    /// The owner's name at the time of the query.
    pub owner_name: String,
    /// Unique among the owner's living workspaces, ignoring case.
    pub name: String,
    /// Declared at.
    pub created_at: Timestamp,
    /// Last change of the declaration.
    pub updated_at: Timestamp,
    /// Last use by a person.
    pub last_used_at: Timestamp,
}

const SELECT: &str = "SELECT w.*, u.username AS owner_name FROM workspaces w JOIN users u ON u.id = w.owner_id
    WHERE w.deleted_at IS NULL";

impl Workspace {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Workspace> {
        Ok(Workspace {
            id: row.get("id")?,
            owner_id: row.get("owner_id")?,
            owner_name: row.get("owner_name")?,
            name: row.get("name")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            last_used_at: row.get("last_used_at")?,
        })
    }
}

/// The living workspace with this id.
pub fn by_id(conn: &Connection, id: WorkspaceId) -> rusqlite::Result<Option<Workspace>> {
    conn.prepare_cached(&format!("{SELECT} AND w.id = ?"))?.query_row([id], Workspace::from_row).optional()
}

/// A person's living workspace with this name, ignoring case.
pub fn by_name(conn: &Connection, owner: UserId, name: &str) -> rusqlite::Result<Option<Workspace>> {
    conn.prepare_cached(&format!("{SELECT} AND w.owner_id = ? AND lower(w.name) = lower(?)"))?
        .query_row((owner, name), Workspace::from_row)
        .optional()
}

/// Living workspaces of one person, or of all, by owner and name.
pub fn list(conn: &Connection, owner: Option<UserId>) -> rusqlite::Result<Vec<Workspace>> {
    // One statement each: `?1 IS NULL OR w.owner_id = ?1` would read every row for one person.
    const ORDER: &str = "ORDER BY lower(u.username), lower(w.name)";
    match owner {
        Some(owner) => conn
            .prepare_cached(&format!("{SELECT} AND w.owner_id = ? {ORDER}"))?
            .query_map([owner], Workspace::from_row)?
            .collect(),
        None => conn.prepare_cached(&format!("{SELECT} {ORDER}"))?.query_map([], Workspace::from_row)?.collect(),
    }
}

/// How many people have a living workspace.
pub fn owners(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("SELECT count(DISTINCT owner_id) FROM workspaces WHERE deleted_at IS NULL")?
        .query_row([], |row| row.get(0))
}

/// Adds a workspace. A name in use breaks a UNIQUE index.
pub fn insert(conn: &Connection, workspace: &Workspace) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO workspaces (id, owner_id, name, created_at, updated_at, last_used_at) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute((
        workspace.id,
        workspace.owner_id,
        &workspace.name,
        workspace.created_at,
        workspace.updated_at,
        workspace.last_used_at,
    ))?;
    Ok(())
}

/// Records that the declaration changed.
pub fn touch(conn: &Connection, id: WorkspaceId, at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE workspaces SET updated_at = ? WHERE id = ?")?.execute((at, id))?;
    Ok(())
}

/// Records that a person used it.
pub fn used(conn: &Connection, id: WorkspaceId, at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE workspaces SET last_used_at = max(last_used_at, ?) WHERE id = ?")?.execute((at, id))?;
    Ok(())
}

/// Removes a workspace and all of its agents, keeping the rows; says whether it existed.
pub fn remove(conn: &Connection, id: WorkspaceId, at: Timestamp) -> rusqlite::Result<bool> {
    let removed = conn
        .prepare_cached("UPDATE workspaces SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL")?
        .execute((at, id))?;
    conn.prepare_cached("UPDATE agents SET deleted_at = ? WHERE workspace_id = ? AND deleted_at IS NULL")?
        .execute((at, id))?;
    Ok(removed > 0)
}

/// Writes a name in the letter case of its declaration.
pub fn rename(conn: &Connection, id: WorkspaceId, name: &str, at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE workspaces SET name = ?, updated_at = ? WHERE id = ?")?.execute((name, at, id))?;
    Ok(())
}
