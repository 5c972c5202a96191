//! Table `tunnels`: whose client was let through to which agent.

use rusqlite::{Connection, named_params};
use uuid::Uuid;

use super::columns::words;
use crate::model::{AgentId, Timestamp, UserId};

words!(
    /// How a tunnel ended.
    Ending {
        /// By the client.
        Closed = "closed",
        /// The client's connection broke; it may come back.
        Lost = "lost",
        /// Its user or agent lost the right to it.
        Revoked = "revoked",
        /// It was open when the server died, and has not come back.
        Restart = "restart",
    }
);

/// What is known of a tunnel that is open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// The client's id in the tailnet.
    pub peer: Uuid,
    /// Where it leads.
    pub agent: AgentId,
    /// Whose client.
    pub user: UserId,
    /// Where the client's connection to the server comes from.
    pub ip: String,
    /// What the client says that it is.
    pub program: String,
    /// Its address inside the tailnet; empty if it never announced one.
    pub address: String,
    /// Since when.
    pub opened_at: Timestamp,
}

/// A tunnel begins, or goes on: a client that comes back has its row opened again.
pub fn open(conn: &Connection, tunnel: &Tunnel) -> rusqlite::Result<()> {
    let resumed = conn
        .prepare_cached(
            "UPDATE tunnels SET closed_at = NULL, ending = NULL, ip = :ip, address = :address
             WHERE peer_id = :peer AND agent_id = :agent AND user_id = :user
                 AND (closed_at IS NULL OR ending IN ('lost', 'restart'))",
        )?
        .execute(named_params! {
            ":peer": tunnel.peer.as_bytes().as_slice(), ":agent": tunnel.agent, ":user": tunnel.user,
            ":ip": tunnel.ip, ":address": tunnel.address,
        })?;
    if resumed == 0 { insert(conn, tunnel, None) } else { Ok(()) }
}

/// A tunnel ends. One whose beginning was not written is written whole.
pub fn close(conn: &Connection, tunnel: &Tunnel, at: Timestamp, ending: Ending) -> rusqlite::Result<()> {
    let closed = conn
        .prepare_cached(
            "UPDATE tunnels SET closed_at = max(opened_at, :at), ending = :ending
             WHERE peer_id = :peer AND agent_id = :agent AND closed_at IS NULL",
        )?
        .execute(named_params! {
            ":peer": tunnel.peer.as_bytes().as_slice(), ":agent": tunnel.agent, ":at": at, ":ending": ending,
        })?;
    if closed == 0 { insert(conn, tunnel, Some((at.max(tunnel.opened_at), ending))) } else { Ok(()) }
}

/// Ends whatever is still open of a client.
pub fn close_all(conn: &Connection, peer: Uuid, at: Timestamp, ending: Ending) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE tunnels SET closed_at = max(opened_at, ?), ending = ? WHERE peer_id = ? AND closed_at IS NULL",
    )?
    .execute((at, ending, peer.as_bytes().as_slice()))?;
    Ok(())
}

fn insert(conn: &Connection, tunnel: &Tunnel, end: Option<(Timestamp, Ending)>) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO tunnels (peer_id, agent_id, user_id, ip, program, address, opened_at, closed_at, ending)
         VALUES (:peer, :agent, :user, :ip, :program, :address, :opened, :closed, :ending)",
    )?
    .execute(named_params! {
        ":peer": tunnel.peer.as_bytes().as_slice(), ":agent": tunnel.agent, ":user": tunnel.user, ":ip": tunnel.ip,
        ":program": tunnel.program, ":address": tunnel.address, ":opened": tunnel.opened_at,
        ":closed": end.map(|(at, _)| at), ":ending": end.map(|(_, ending)| ending),
    })?;
    Ok(())
}

/// Closes what was open when the server died; a client that comes back has its row opened again.
pub fn settle(conn: &Connection, at: Timestamp) -> rusqlite::Result<usize> {
    conn.execute("UPDATE tunnels SET closed_at = max(opened_at, ?), ending = 'restart' WHERE closed_at IS NULL", [at])
}

/// The newest open tunnel of a person to an agent that came from `ip` and of which nobody has said yet
/// what it is used for.
pub fn without_app(conn: &Connection, user: UserId, agent: AgentId, ip: &str) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached(
        "SELECT max(id) FROM tunnels
         WHERE user_id = ? AND agent_id = ? AND ip = ? AND closed_at IS NULL AND app = ''",
    )?
    .query_row((user, agent, ip), |row| row.get(0))
}

/// Writes down what a tunnel is used for, unless that is known.
pub fn set_app(conn: &Connection, id: i64, app: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE tunnels SET app = ? WHERE id = ? AND app = ''")?.execute((app, id))?;
    Ok(())
}
