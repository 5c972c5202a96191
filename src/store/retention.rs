//! Retention: which rows go, and when.
//!
//! Everything is removed in small writes, so that others come in between. A pass that finds nothing
//! to remove writes nothing to the disk.

use std::time::Duration;

use rusqlite::{Connection, named_params};

use super::{Error, Store};
use crate::model::{AgentId, Timestamp};

/// How long rows are kept; zero keeps for ever.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Log lines of removed agents, and of agents that have been away for this long. What a removed
    /// agent was declared with goes at the same time.
    pub logs: Duration,
    /// Hourly traffic, timings of script runs, past app statuses.
    pub stats: Duration,
    /// Audit rows. Removed agents and workspaces themselves are kept as long, because audit rows
    /// name them.
    pub audit: Duration,
    /// Sessions inside machines, and tunnels to them.
    pub connections: Duration,
    /// Requests that were made for plugins.
    pub egress: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        Retention { logs: 7 * DAY, stats: 180 * DAY, audit: 365 * DAY, connections: 90 * DAY, egress: 90 * DAY }
    }
}

/// How long an expired session token is still listed, so that its owner can see why it failed.
const EXPIRED_KEYS: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How long what plugins had kept stays when it is too old for them: nothing reads it any more.
const EXPIRED_CACHE: Duration = Duration::from_secs(3_600);

/// Rows removed by one write: some 10 ms with their index entries.
const BATCH: usize = 500;

impl Retention {
    /// Removes what is older at `now` than it should become, and says how many rows that were. Ends
    /// early when `stop` says so.
    pub fn sweep(&self, store: &Store, now: Timestamp, stop: &dyn Fn() -> bool) -> Result<usize, Error> {
        let mut removed = 0;
        for (sql, keep) in self.rules() {
            if keep.is_zero() {
                continue;
            }
            removed += in_batches(store, stop, move |conn| delete(conn, sql, now.minus(keep)))?;
        }
        if !self.logs.is_zero() {
            removed += self.sweep_agents(store, now, stop)?;
        }
        if !self.audit.is_zero() {
            let before = now.minus(self.audit);
            removed += in_batches(store, stop, move |conn| delete(conn, AGENTS, before))?;
            removed += in_batches(store, stop, move |conn| delete(conn, WORKSPACES, before))?;
        }
        Ok(removed)
    }

    fn rules(&self) -> [(&'static str, Duration); 9] {
        [
            (API_KEYS, EXPIRED_KEYS),
            (STATS, self.stats),
            (TIMINGS, self.stats),
            (APP_STATUSES, self.stats),
            (CONNECTIONS, self.connections),
            (TUNNELS, self.connections),
            (AUDIT, self.audit),
            (EGRESS, self.egress),
            (PLUGIN_CACHE, EXPIRED_CACHE),
        ]
    }

    /// Log lines of agents that are gone or away, and what gone ones were declared with.
    fn sweep_agents(&self, store: &Store, now: Timestamp, stop: &dyn Fn() -> bool) -> Result<usize, Error> {
        let before = now.minus(self.logs);
        let mut removed = 0;
        for agent in store.read(|conn| Ok::<_, Error>(agents(conn, AGENTS_WITH_OLD_LOGS, before)?))? {
            removed += in_batches(store, stop, move |conn| delete_logs(conn, agent, before, now))?;
        }
        for agent in store.read(|conn| Ok::<_, Error>(agents(conn, REMOVED_AGENTS_WITH_ROWS, before)?))? {
            if stop() {
                break;
            }
            removed += store.write(move |write| Ok::<_, Error>(delete_declaration(write, agent)?))?;
        }
        Ok(removed)
    }
}

/// Repeats `delete`, each time in a write of its own, until it removes less than a full batch.
fn in_batches(
    store: &Store,
    stop: &dyn Fn() -> bool,
    delete: impl Fn(&Connection) -> rusqlite::Result<usize> + Clone + Send + 'static,
) -> Result<usize, Error> {
    let mut removed = 0;
    while !stop() {
        let delete = delete.clone();
        let batch = store.write(move |write| Ok::<_, Error>(delete(write)?))?;
        removed += batch;
        if batch < BATCH {
            break;
        }
    }
    Ok(removed)
}

const API_KEYS: &str = "DELETE FROM api_keys WHERE rowid IN
    (SELECT rowid FROM api_keys WHERE expires_at < :before LIMIT :batch)";

const TIMINGS: &str = "DELETE FROM agent_script_timings WHERE id IN
    (SELECT id FROM agent_script_timings WHERE ended_at < :before LIMIT :batch)";

// The next two tables are indexed by agent, then time.
const STATS: &str = "DELETE FROM agent_stats WHERE rowid IN (SELECT s.rowid FROM agents AS a
    CROSS JOIN agent_stats AS s ON s.agent_id = a.id AND s.hour < :before LIMIT :batch)";

// An app's last status is what it does at present, however old.
const APP_STATUSES: &str = "DELETE FROM agent_app_statuses WHERE rowid IN (SELECT s.rowid FROM agents AS a
    CROSS JOIN agent_app_statuses AS s ON s.agent_id = a.id AND s.created_at < :before
    WHERE EXISTS (SELECT 1 FROM agent_app_statuses AS later
        WHERE later.app_id = s.app_id AND later.created_at > s.created_at) LIMIT :batch)";

// A session whose end was never reported ended with its agent; one that lasts this long is none.
const CONNECTIONS: &str = "DELETE FROM connections WHERE rowid IN (SELECT rowid FROM connections
    WHERE connected_at < :before AND ifnull(disconnected_at, 0) < :before LIMIT :batch)";

const TUNNELS: &str = "DELETE FROM tunnels WHERE id IN (SELECT id FROM tunnels
    WHERE opened_at < :before AND closed_at < :before LIMIT :batch)";

const AUDIT: &str = "DELETE FROM audit_log WHERE id IN
    (SELECT id FROM audit_log WHERE at < :before ORDER BY at LIMIT :batch)";

const EGRESS: &str = "DELETE FROM egress WHERE id IN
    (SELECT id FROM egress WHERE at < :before ORDER BY at LIMIT :batch)";

// A few entries for each provider, also for those that are not configured any more.
const PLUGIN_CACHE: &str = "DELETE FROM plugin_cache WHERE rowid IN
    (SELECT rowid FROM plugin_cache WHERE until < :before LIMIT :batch)";

// The little of theirs that is left goes with them (ON DELETE CASCADE), but what has a rule of its own
// keeps them. Sub-agents first.
const AGENTS: &str = "DELETE FROM agents WHERE id IN (SELECT id FROM agents AS a WHERE deleted_at < :before
    AND NOT EXISTS (SELECT 1 FROM agents AS child WHERE child.parent_id = a.id)
    AND NOT EXISTS (SELECT 1 FROM agent_logs AS l WHERE l.agent_id = a.id)
    AND NOT EXISTS (SELECT 1 FROM agent_stats AS s WHERE s.agent_id = a.id)
    AND NOT EXISTS (SELECT 1 FROM agent_script_timings AS t WHERE t.agent_id = a.id)
    AND NOT EXISTS (SELECT 1 FROM connections AS c WHERE c.agent_id = a.id)
    AND NOT EXISTS (SELECT 1 FROM tunnels AS t WHERE t.agent_id = a.id) LIMIT :batch)";

const WORKSPACES: &str = "DELETE FROM workspaces WHERE id IN (SELECT id FROM workspaces AS w WHERE deleted_at < :before
    AND NOT EXISTS (SELECT 1 FROM agents AS a WHERE a.workspace_id = w.id) LIMIT :batch)";

// An agent without `disconnected_at` is connected, or has never been.
const AGENTS_WITH_OLD_LOGS: &str = "SELECT id FROM agents AS a
    WHERE (deleted_at < :before OR (deleted_at IS NULL AND disconnected_at < :before))
    AND EXISTS (SELECT 1 FROM agent_logs AS l WHERE l.agent_id = a.id)";

const REMOVED_AGENTS_WITH_ROWS: &str = "SELECT id FROM agents AS a WHERE deleted_at < :before AND (
    EXISTS (SELECT 1 FROM agent_scripts AS t WHERE t.agent_id = a.id)
    OR EXISTS (SELECT 1 FROM agent_metadata AS t WHERE t.agent_id = a.id)
    OR EXISTS (SELECT 1 FROM agent_apps AS t WHERE t.agent_id = a.id)
    OR EXISTS (SELECT 1 FROM agent_log_sources AS t WHERE t.agent_id = a.id)
    OR EXISTS (SELECT 1 FROM agent_resources AS t WHERE t.agent_id = a.id))";

fn delete(conn: &Connection, sql: &str, before: Timestamp) -> rusqlite::Result<usize> {
    conn.prepare(sql)?.execute(named_params! { ":before": before, ":batch": batch() })
}

fn agents(conn: &Connection, sql: &str, before: Timestamp) -> rusqlite::Result<Vec<AgentId>> {
    conn.prepare(sql)?.query_map(named_params! { ":before": before }, |row| row.get(0))?.collect()
}

/// One batch of log lines; looks again whether the agent is still gone or away. `logs_length` stays:
/// it bounds what an agent may ever send.
fn delete_logs(conn: &Connection, agent: AgentId, before: Timestamp, now: Timestamp) -> rusqlite::Result<usize> {
    let removed = conn
        .prepare(
            "DELETE FROM agent_logs WHERE id IN (SELECT l.id FROM agents AS a CROSS JOIN agent_logs AS l ON l.agent_id = a.id
                 WHERE a.id = :agent AND (a.deleted_at < :before OR a.disconnected_at < :before) ORDER BY l.id LIMIT :batch)",
        )?
        .execute(named_params! { ":agent": agent, ":before": before, ":batch": batch() })?;
    if removed > 0 {
        conn.prepare("UPDATE agents SET logs_purged_at = ? WHERE id = ?")?.execute((now, agent))?;
    }
    Ok(removed)
}

fn delete_declaration(conn: &Connection, agent: AgentId) -> rusqlite::Result<usize> {
    let mut removed = 0;
    for table in ["agent_scripts", "agent_metadata", "agent_apps", "agent_log_sources", "agent_resources"] {
        removed += conn.prepare(&format!("DELETE FROM {table} WHERE agent_id = ?"))?.execute([agent])?;
    }
    Ok(removed)
}

fn batch() -> i64 {
    i64::try_from(BATCH).unwrap_or(i64::MAX)
}
