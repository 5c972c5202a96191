//! Table `agent_metadata`.

use rusqlite::{Connection, Row, named_params};

use super::columns::IdList;
use crate::model::{AgentId, Timestamp};

/// A declared piece of metadata with the value last collected.
#[derive(Clone, PartialEq, Debug)]
pub struct Metadata {
    /// Unique in the agent.
    pub key: String,
    /// Position in lists, before the key.
    pub display_order: i64,
    /// Shown to people.
    pub display_name: String,
    /// Text given to a shell.
    pub script: String,
    /// Seconds; 0: once per connection.
    pub interval_seconds: i64,
    /// Seconds; 0: the interval, or 3.
    pub timeout_seconds: i64,
    /// Last value.
    pub value: String,
    /// Last error.
    pub error: String,
    /// `None`: never collected.
    pub collected_at: Option<Timestamp>,
}

impl Metadata {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Metadata> {
        Ok(Metadata {
            key: row.get("key")?,
            display_order: row.get("display_order")?,
            display_name: row.get("display_name")?,
            script: row.get("script")?,
            interval_seconds: row.get("interval_seconds")?,
            timeout_seconds: row.get("timeout_seconds")?,
            value: row.get("value")?,
            error: row.get("error")?,
            collected_at: row.get("collected_at")?,
        })
    }
}

/// Metadata of an agent in the order of its declaration.
pub fn of_agent(conn: &Connection, agent: AgentId) -> rusqlite::Result<Vec<Metadata>> {
    conn.prepare_cached("SELECT * FROM agent_metadata WHERE agent_id = ? ORDER BY position")?
        .query_map([agent], Metadata::from_row)?
        .collect()
}

/// Metadata of some agents, by display order and key.
pub fn of_agents(conn: &Connection, agents: &[AgentId]) -> rusqlite::Result<Vec<(AgentId, Metadata)>> {
    conn.prepare_cached(
        "SELECT * FROM agent_metadata WHERE agent_id IN (SELECT unhex(value) FROM json_each(?))
         ORDER BY display_order, key",
    )?
    .query_map([IdList::of(agents.iter().map(AgentId::as_bytes))], |row| {
        Ok((row.get("agent_id")?, Metadata::from_row(row)?))
    })?
    .collect()
}

/// Makes the declarations of an agent those of `metadata`; values of keys that stay are kept.
pub fn replace(conn: &Connection, agent: AgentId, metadata: &[Metadata]) -> rusqlite::Result<()> {
    let keys = serde_json::to_string(&metadata.iter().map(|m| m.key.as_str()).collect::<Vec<_>>())
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    conn.prepare_cached(
        "DELETE FROM agent_metadata WHERE agent_id = ? AND key NOT IN (SELECT value FROM json_each(?))",
    )?
    .execute((agent, keys))?;
    let mut upsert = conn.prepare_cached(
        "INSERT INTO agent_metadata (agent_id, key, position, display_order, display_name, script, interval_seconds, timeout_seconds)
         VALUES (:agent, :key, :position, :display_order, :display_name, :script, :interval, :timeout)
         ON CONFLICT (agent_id, key) DO UPDATE SET position = excluded.position, display_order = excluded.display_order,
             display_name = excluded.display_name, script = excluded.script,
             interval_seconds = excluded.interval_seconds, timeout_seconds = excluded.timeout_seconds",
    )?;
    for (position, one) in (0_i64..).zip(metadata) {
        upsert.execute(named_params! {
            ":agent": agent, ":key": one.key, ":position": position, ":display_order": one.display_order,
            ":display_name": one.display_name, ":script": one.script, ":interval": one.interval_seconds,
            ":timeout": one.timeout_seconds,
        })?;
    }
    Ok(())
}

/// Records a collected value; an unknown key is ignored. Says whether the key is declared.
pub fn set_value(
    conn: &Connection,
    agent: AgentId,
    key: &str,
    value: &str,
    error: &str,
    at: Timestamp,
) -> rusqlite::Result<bool> {
    let changed = conn
        .prepare_cached(
            "UPDATE agent_metadata SET value = ?, error = ?, collected_at = ? WHERE agent_id = ? AND key = ?",
        )?
        .execute((value, error, at, agent, key))?;
    Ok(changed > 0)
}

/// Records that a value was collected again, unchanged; an older instant than the stored one is ignored.
pub fn set_collected(conn: &Connection, agent: AgentId, key: &str, at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE agent_metadata SET collected_at = ?1 WHERE agent_id = ?2 AND key = ?3 AND collected_at < ?1",
    )?
    .execute((at, agent, key))?;
    Ok(())
}
