//! Which agents are bound to which cloud instance.

use rusqlite::Connection;

use super::agents::{self, Agent, Place};
use super::columns::words;
use crate::model::{AgentId, Timestamp};

words!(
    /// A cloud whose machines can prove who they are.
    Cloud {
        /// Amazon EC2.
        Aws = "aws",
        /// Microsoft Azure.
        Azure = "azure",
        /// Google Compute Engine.
        Google = "google",
    }
);

/// The living agents that are bound to an instance, the newest binding first.
pub fn bound(conn: &Connection, cloud: Cloud, id: &str) -> rusqlite::Result<Vec<(Agent, Place)>> {
    let ids: Vec<AgentId> = conn
        .prepare_cached(
            "SELECT id FROM agents WHERE instance_cloud = ? AND instance_id = ? AND deleted_at IS NULL
             ORDER BY instance_bound_at DESC, created_at DESC, id DESC",
        )?
        .query_map((cloud, id), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    ids.into_iter().filter_map(|id| agents::with_place(conn, id).transpose()).collect()
}

/// Binds an agent to an instance from `at` on, also when it was bound to it before.
pub fn bind(conn: &Connection, agent: AgentId, cloud: Cloud, id: &str, at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE agents SET instance_cloud = ?1, instance_id = ?2, instance_bound_at = ?3, updated_at = ?3 WHERE id = ?4",
    )?
    .execute((cloud, id, at, agent))?;
    Ok(())
}

/// Binds an agent to no instance.
pub fn unbind(conn: &Connection, agent: AgentId, at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE agents SET instance_cloud = NULL, instance_id = '', instance_bound_at = NULL, updated_at = ? WHERE id = ?",
    )?
    .execute((at, agent))?;
    Ok(())
}
