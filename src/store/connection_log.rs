//! What `connections` and `tunnels` say together: the connection log, newest first.

use rusqlite::{Connection, Row, named_params};

use super::connections::Kind;
use super::tunnels::Ending;
use crate::model::{AgentId, Timestamp};

/// Which entries.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Name of the workspace's owner.
    pub owner: Option<String>,
    /// Name of the workspace.
    pub workspace: Option<String>,
    /// Name of the agent.
    pub agent: Option<String>,
    /// Begun since then, or still open.
    pub since: Option<Timestamp>,
    /// So many at most.
    pub limit: u32,
}

/// Who came, and from where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The person's name.
    pub user: String,
    /// Address of the client.
    pub ip: String,
    /// What the client says that it is.
    pub program: String,
    /// What it says that it is used for.
    pub app: String,
    /// How the tunnel ended, if it has.
    pub ending: Option<Ending>,
}

/// A session inside a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// By what, as its agent says.
    pub kind: Kind,
    /// The app's name, from agents that say it.
    pub app_name: String,
    /// Exit code.
    pub status_code: Option<i32>,
    /// Why it ended, if the agent says it.
    pub reason: Option<String>,
}

/// An entry: a session, or a tunnel through which no session came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Name of the workspace's owner.
    pub owner: String,
    /// Name of the workspace.
    pub workspace: String,
    /// Name of the agent.
    pub agent: String,
    /// The agent.
    pub agent_id: AgentId,
    /// `None`: no tunnel is known from which the session can have come.
    pub origin: Option<Origin>,
    /// `None`: nothing was reported of what came through the tunnel.
    pub session: Option<Session>,
    /// The client's address inside the tailnet.
    pub tailnet_ip: String,
    /// Begin.
    pub started_at: Timestamp,
    /// End; that of the tunnel for a session whose end was not reported.
    pub ended_at: Option<Timestamp>,
}

/// The newest entries that the filter lets through.
pub fn newest(conn: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Entry>> {
    let mut entries = sessions(conn, filter)?;
    entries.extend(tunnels(conn, filter)?);
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.started_at));
    entries.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
    Ok(entries)
}

/// Names of the workspace, whether it lives or was removed.
const PLACE: &str = "JOIN workspaces AS w ON w.id = a.workspace_id JOIN users AS o ON o.id = w.owner_id
    WHERE (:owner IS NULL OR lower(o.username) = lower(:owner))
        AND (:workspace IS NULL OR lower(w.name) = lower(:workspace))
        AND (:agent IS NULL OR lower(a.name) = lower(:agent))";

fn sessions(conn: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Entry>> {
    // The newest tunnel that was there before the session is the one it came through; an agent's clock may
    // be slow, so a later one is better than none.
    let sql = format!(
        "SELECT o.username, w.name, a.name, a.id, u.username, t.ip, t.program, t.app, t.ending,
             c.kind, c.app_name, c.status_code, c.reason, c.ip, c.connected_at,
             ifnull(c.disconnected_at, max(t.closed_at, c.connected_at))
         FROM connections AS c JOIN agents AS a ON a.id = c.agent_id
         LEFT JOIN tunnels AS t ON t.id = (SELECT x.id FROM tunnels AS x
             WHERE x.agent_id = c.agent_id AND x.address = c.ip AND c.ip <> ''
             ORDER BY x.opened_at > c.connected_at, x.opened_at DESC LIMIT 1)
         LEFT JOIN users AS u ON u.id = t.user_id
         {PLACE} AND (:since IS NULL OR c.connected_at >= :since
             OR (c.disconnected_at IS NULL AND t.closed_at IS NULL AND t.id IS NOT NULL))
         ORDER BY c.connected_at DESC LIMIT :limit"
    );
    query(conn, &sql, filter, |row| {
        Ok(Some(Session { kind: row.get(9)?, app_name: row.get(10)?, status_code: row.get(11)?, reason: row.get(12)? }))
    })
}

fn tunnels(conn: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Entry>> {
    // All terminals of one start of the server have its address: there a session hides the one of its time
    // only, and nobody's visit is missing because somebody else came before.
    let sql = format!(
        "SELECT o.username, w.name, a.name, a.id, u.username, t.ip, t.program, t.app, t.ending,
             NULL, NULL, NULL, NULL, t.address, t.opened_at, t.closed_at
         FROM tunnels AS t JOIN agents AS a ON a.id = t.agent_id JOIN users AS u ON u.id = t.user_id
         {PLACE} AND (:since IS NULL OR t.opened_at >= :since OR t.closed_at IS NULL)
             AND NOT EXISTS (SELECT 1 FROM connections AS c
                 WHERE c.agent_id = t.agent_id AND c.ip = t.address AND c.ip <> ''
                     AND (c.connected_at BETWEEN t.opened_at AND ifnull(t.closed_at, c.connected_at)
                         OR NOT EXISTS (SELECT 1 FROM tunnels AS x
                             WHERE x.agent_id = t.agent_id AND x.address = t.address AND x.id <> t.id)))
         ORDER BY t.opened_at DESC LIMIT :limit"
    );
    query(conn, &sql, filter, |_| Ok(None))
}

fn query(
    conn: &Connection,
    sql: &str,
    filter: &Filter,
    session: impl Fn(&Row<'_>) -> rusqlite::Result<Option<Session>>,
) -> rusqlite::Result<Vec<Entry>> {
    let values = named_params! {
        ":owner": filter.owner, ":workspace": filter.workspace, ":agent": filter.agent, ":since": filter.since,
        ":limit": filter.limit,
    };
    conn.prepare(sql)?.query_map(values, |row| entry(row, session(row)?))?.collect()
}

fn entry(row: &Row<'_>, session: Option<Session>) -> rusqlite::Result<Entry> {
    let user: Option<String> = row.get(4)?;
    let origin = match user {
        None => None,
        Some(user) => {
            Some(Origin { user, ip: row.get(5)?, program: row.get(6)?, app: row.get(7)?, ending: row.get(8)? })
        }
    };
    Ok(Entry {
        owner: row.get(0)?,
        workspace: row.get(1)?,
        agent: row.get(2)?,
        agent_id: row.get(3)?,
        origin,
        session,
        tailnet_ip: row.get(13)?,
        started_at: row.get(14)?,
        ended_at: row.get(15)?,
    })
}

/// Whether there is or was a workspace of that name.
pub fn knows_workspace(conn: &Connection, owner: &str, workspace: &str) -> rusqlite::Result<bool> {
    conn.prepare(
        "SELECT 1 FROM workspaces AS w JOIN users AS o ON o.id = w.owner_id
         WHERE lower(o.username) = lower(?) AND lower(w.name) = lower(?)",
    )?
    .exists([owner, workspace])
}
