//! Table `clones`: agents that two machines seem to be at the same time.

use rusqlite::{Connection, OptionalExtension};

use crate::model::{AgentId, Timestamp};

/// The newest such event of an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// Where one machine is.
    pub first_ip: String,
    /// Where the other is.
    pub second_ip: String,
    /// When that was noticed.
    pub seen_at: Timestamp,
}

/// Writes an event down.
pub fn put(conn: &Connection, agent: AgentId, sighting: &Sighting) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO clones (agent_id, first_ip, second_ip, seen_at) VALUES (?, ?, ?, ?)")?
        .execute((agent, &sighting.first_ip, &sighting.second_ip, sighting.seen_at))?;
    Ok(())
}

/// The event of an agent, if there is one that the operator has not dealt with.
pub fn of(conn: &Connection, agent: AgentId) -> rusqlite::Result<Option<Sighting>> {
    conn.prepare_cached("SELECT first_ip, second_ip, seen_at FROM clones WHERE agent_id = ?")?
        .query_row([agent], |row| Ok(Sighting { first_ip: row.get(0)?, second_ip: row.get(1)?, seen_at: row.get(2)? }))
        .optional()
}

/// The operator has dealt with it.
pub fn remove(conn: &Connection, agent: AgentId) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM clones WHERE agent_id = ?")?.execute([agent])?;
    Ok(())
}
