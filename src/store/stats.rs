//! Tables `agent_stats` and `agent_resources`.

use rusqlite::{Connection, named_params};

use crate::model::{AgentId, MICROS_PER_SECOND, Timestamp};

const HOUR_MICROS: i64 = 3_600 * MICROS_PER_SECOND;

/// Traffic and sessions of one report, or of one hour.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Traffic {
    /// Flows.
    pub connection_count: i64,
    /// Packets from peers.
    pub rx_packets: i64,
    /// Bytes from peers.
    pub rx_bytes: i64,
    /// Packets to peers.
    pub tx_packets: i64,
    /// Bytes to peers.
    pub tx_bytes: i64,
    /// SSH sessions open.
    pub sessions_ssh: i64,
    /// VS Code sessions open.
    pub sessions_vscode: i64,
    /// JetBrains sessions open.
    pub sessions_jetbrains: i64,
    /// Terminals open.
    pub sessions_reconnecting_pty: i64,
    /// Median latency in microseconds; `None`: nobody answered.
    pub latency_us: Option<i64>,
}

impl Traffic {
    /// Whether there is anything worth keeping.
    pub fn is_idle(&self) -> bool {
        *self == Traffic { latency_us: self.latency_us, ..Traffic::default() }
    }
}

/// Folds a report into the row of its hour.
pub fn fold(conn: &Connection, agent: AgentId, at: Timestamp, traffic: &Traffic) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO agent_stats (agent_id, hour, reports, connection_count, rx_packets, rx_bytes, tx_packets, tx_bytes,
             sessions_ssh, sessions_vscode, sessions_jetbrains, sessions_reconnecting_pty, latency_us)
         VALUES (:agent, :hour, 1, :connections, :rx_packets, :rx_bytes, :tx_packets, :tx_bytes,
             :ssh, :vscode, :jetbrains, :pty, :latency)
         ON CONFLICT (agent_id, hour) DO UPDATE SET reports = reports + 1,
             connection_count = connection_count + excluded.connection_count,
             rx_packets = rx_packets + excluded.rx_packets, rx_bytes = rx_bytes + excluded.rx_bytes,
             tx_packets = tx_packets + excluded.tx_packets, tx_bytes = tx_bytes + excluded.tx_bytes,
             sessions_ssh = max(sessions_ssh, excluded.sessions_ssh),
             sessions_vscode = max(sessions_vscode, excluded.sessions_vscode),
             sessions_jetbrains = max(sessions_jetbrains, excluded.sessions_jetbrains),
             sessions_reconnecting_pty = max(sessions_reconnecting_pty, excluded.sessions_reconnecting_pty),
             latency_us = ifnull(excluded.latency_us, latency_us)",
    )?
    .execute(named_params! {
        ":agent": agent, ":hour": at.0.div_euclid(HOUR_MICROS) * HOUR_MICROS,
        ":connections": traffic.connection_count, ":rx_packets": traffic.rx_packets, ":rx_bytes": traffic.rx_bytes,
        ":tx_packets": traffic.tx_packets, ":tx_bytes": traffic.tx_bytes, ":ssh": traffic.sessions_ssh,
        ":vscode": traffic.sessions_vscode, ":jetbrains": traffic.sessions_jetbrains,
        ":pty": traffic.sessions_reconnecting_pty, ":latency": traffic.latency_us,
    })?;
    Ok(())
}

/// Traffic of all agents since the present hour began: rows are folded by the hour.
#[derive(Clone, Debug)]
pub struct Recent {
    /// When the hour began.
    pub since: Timestamp,
    /// Bytes from peers.
    pub rx_bytes: i64,
    /// Bytes to peers.
    pub tx_bytes: i64,
    /// Median latencies of the agents that have one, ascending, microseconds.
    pub latencies_us: Vec<u32>,
    /// VS Code sessions open.
    pub vscode: i64,
    /// SSH sessions open.
    pub ssh: i64,
    /// JetBrains sessions open.
    pub jetbrains: i64,
    /// Terminals open.
    pub reconnecting_pty: i64,
}

/// What went on since the hour of `now` began.
pub fn recent(conn: &Connection, now: Timestamp) -> rusqlite::Result<Recent> {
    let since = Timestamp(now.0.div_euclid(HOUR_MICROS) * HOUR_MICROS);
    let latencies_us = conn
        .prepare_cached(
            "SELECT latency_us FROM agent_stats WHERE hour = ? AND latency_us BETWEEN 0 AND 4294967295 ORDER BY 1",
        )?
        .query_map([since], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let open = |kind: &str| {
        conn.prepare_cached("SELECT count(*) FROM connections WHERE disconnected_at IS NULL AND kind = ?")?
            .query_row([kind], |row| row.get(0))
    };
    let (rx_bytes, tx_bytes) = conn
        .prepare_cached("SELECT ifnull(sum(rx_bytes), 0), ifnull(sum(tx_bytes), 0) FROM agent_stats WHERE hour = ?")?
        .query_row([since], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Recent {
        since,
        rx_bytes,
        tx_bytes,
        latencies_us,
        vscode: open("vscode")?,
        ssh: open("ssh")?,
        jetbrains: open("jetbrains")?,
        reconnecting_pty: open("reconnecting_pty")?,
    })
}

/// How many people used a machine of theirs on each day from `first` on; days begin `offset_hours` after
/// midnight UTC, and those without anybody are left out.
pub fn daily_users(conn: &Connection, first: Timestamp, offset_hours: i64) -> rusqlite::Result<Vec<(String, i64)>> {
    conn.prepare_cached(
        "SELECT date(s.hour / 1000000 + ?2 * 3600, 'unixepoch') AS day, count(DISTINCT w.owner_id)
         FROM agent_stats s JOIN agents a ON a.id = s.agent_id JOIN workspaces w ON w.id = a.workspace_id
         WHERE s.hour >= ?1 AND s.connection_count + s.sessions_ssh + s.sessions_vscode + s.sessions_jetbrains
             + s.sessions_reconnecting_pty > 0
         GROUP BY day ORDER BY day",
    )?
    .query_map((first, offset_hours), |row| Ok((row.get(0)?, row.get(1)?)))?
    .collect()
}

/// Last pushed resource usage of an agent.
#[derive(Clone, Debug)]
pub struct Resources {
    /// When the agent measured it.
    pub collected_at: Timestamp,
    /// Bytes in use and in all.
    pub memory: Option<(i64, i64)>,
    /// JSON list of `{"volume","used","total"}`.
    pub volumes: String,
}

/// Replaces the last usage.
pub fn set_resources(conn: &Connection, agent: AgentId, usage: &Resources) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO agent_resources (agent_id, collected_at, memory_used, memory_total, volumes) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (agent_id) DO UPDATE SET collected_at = excluded.collected_at, memory_used = excluded.memory_used,
             memory_total = excluded.memory_total, volumes = excluded.volumes",
    )?
    .execute((
        agent,
        usage.collected_at,
        usage.memory.map(|memory| memory.0),
        usage.memory.map(|memory| memory.1),
        &usage.volumes,
    ))?;
    Ok(())
}
