//! Table `connections`: sessions inside machines, as their agents report them.

use rusqlite::Connection;
use uuid::Uuid;

use super::columns::words;
use crate::model::{AgentId, Timestamp};

words!(
    /// By what a session was opened.
    Kind {
        /// Not said.
        Unknown = "unknown",
        /// SSH.
        Ssh = "ssh",
        /// VS Code.
        Vscode = "vscode",
        /// JetBrains.
        Jetbrains = "jetbrains",
        /// Browser terminal.
        ReconnectingPty = "reconnecting_pty",
    }
);

/// A session began. Reported twice: the first report stands.
pub fn begin(
    conn: &Connection,
    agent: AgentId,
    id: Uuid,
    kind: Kind,
    app_name: &str,
    ip: &str,
    at: Timestamp,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO connections (agent_id, id, kind, app_name, ip, connected_at) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (agent_id, id) DO NOTHING",
    )?
    .execute((agent, id.as_bytes().as_slice(), kind, app_name, ip, at))?;
    Ok(())
}

/// A session ended. One whose beginning was never reported counts as begun at the same instant.
pub fn end(
    conn: &Connection,
    agent: AgentId,
    id: Uuid,
    kind: Kind,
    end: (i32, Option<&str>),
    at: Timestamp,
) -> rusqlite::Result<()> {
    let (status_code, reason) = end;
    conn.prepare_cached(
        "INSERT INTO connections (agent_id, id, kind, connected_at, disconnected_at, status_code, reason) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6)
         ON CONFLICT (agent_id, id) DO UPDATE SET disconnected_at = excluded.disconnected_at,
             status_code = excluded.status_code, reason = excluded.reason",
    )?
    .execute((agent, id.as_bytes().as_slice(), kind, at, status_code, reason))?;
    Ok(())
}
