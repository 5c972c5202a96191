//! Tables `agent_log_sources` and `agent_logs`.

use rusqlite::{Connection, OptionalExtension, Row, Statement};

use super::columns::{IdList, words};
use crate::model::{AgentId, LogSourceId, Timestamp};

words!(
    /// Severity of a line.
    Level {
        /// Finest.
        Trace = "trace",
        /// For debugging.
        Debug = "debug",
        /// Ordinary.
        Info = "info",
        /// Odd.
        Warn = "warn",
        /// Wrong.
        Error = "error",
    }
);

/// Where lines come from.
#[derive(Clone, PartialEq, Debug)]
pub struct Source {
    /// Unique in the agent.
    pub id: LogSourceId,
    /// Shown to people.
    pub display_name: String,
    /// Path or URL of an icon.
    pub icon: String,
    /// First seen.
    pub created_at: Timestamp,
}

/// Sources of these agents, oldest first.
pub fn sources(conn: &Connection, agents: &[AgentId]) -> rusqlite::Result<Vec<(AgentId, Source)>> {
    conn.prepare_cached(
        "SELECT agent_id, id, display_name, icon, created_at FROM agent_log_sources
         WHERE agent_id IN (SELECT unhex(value) FROM json_each(?)) ORDER BY created_at, id",
    )?
    .query_map([IdList::of(agents.iter().map(AgentId::as_bytes))], |row| {
        let source = Source { id: row.get(1)?, display_name: row.get(2)?, icon: row.get(3)?, created_at: row.get(4)? };
        Ok((row.get(0)?, source))
    })?
    .collect()
}

/// Adds a source unless the agent has one with this id already.
pub fn ensure_source(conn: &Connection, agent: AgentId, source: &Source) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO agent_log_sources (agent_id, id, display_name, icon, created_at) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (agent_id, id) DO NOTHING",
    )?
    .execute((agent, source.id, &source.display_name, &source.icon, source.created_at))?;
    Ok(())
}

/// A declared script's source: added, or renamed when the script was.
pub fn declare_source(conn: &Connection, agent: AgentId, source: &Source) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO agent_log_sources (agent_id, id, display_name, icon, created_at) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (agent_id, id) DO UPDATE SET display_name = excluded.display_name, icon = excluded.icon",
    )?
    .execute((agent, source.id, &source.display_name, &source.icon, source.created_at))?;
    Ok(())
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Ascending over the whole server.
    pub id: i64,
    /// Where it comes from.
    pub source_id: LogSourceId,
    /// When the server took it.
    pub created_at: Timestamp,
    /// Severity.
    pub level: Level,
    /// Without a newline at the end.
    pub output: String,
}

const LINE: &str = "SELECT id, source_id, created_at, level, output FROM agent_logs WHERE agent_id = ?";

impl Line {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Line> {
        Ok(Line {
            id: row.get(0)?,
            source_id: row.get(1)?,
            created_at: row.get(2)?,
            level: row.get(3)?,
            output: row.get(4)?,
        })
    }
}

/// Lines of an agent with `after < id < before`, in id order, at most `limit`.
pub fn lines(conn: &Connection, agent: AgentId, after: i64, before: i64, limit: i64) -> rusqlite::Result<Vec<Line>> {
    conn.prepare_cached(&format!("{LINE} AND id > ? AND id < ? ORDER BY id LIMIT ?"))?
        .query_map((agent, after, before, limit), Line::from_row)?
        .collect()
}

/// The newest `limit` lines of an agent, in id order.
pub fn newest(conn: &Connection, agent: AgentId, limit: i64) -> rusqlite::Result<Vec<Line>> {
    let mut lines: Vec<Line> = conn
        .prepare_cached(&format!("{LINE} ORDER BY id DESC LIMIT ?"))?
        .query_map((agent, limit), Line::from_row)?
        .collect::<rusqlite::Result<_>>()?;
    lines.reverse();
    Ok(lines)
}

/// `(logs_length, logs_overflowed)` of an agent.
pub fn usage(conn: &Connection, agent: AgentId) -> rusqlite::Result<Option<(i64, bool)>> {
    conn.prepare_cached("SELECT logs_length, logs_overflowed FROM agents WHERE id = ?")?
        .query_row([agent], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Marks that a batch was refused for size.
pub fn set_overflowed(conn: &Connection, agent: AgentId) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE agents SET logs_overflowed = 1 WHERE id = ?")?.execute([agent])?;
    Ok(())
}

/// Lines per statement: what a statement costs once (the sequence of ids among it) is three times what
/// a line costs.
const CHUNK: usize = 25;

/// Adds a batch of lines, all at one instant, and `bytes` to the agent's sum.
pub fn insert(
    conn: &Connection,
    agent: AgentId,
    source: LogSourceId,
    at: Timestamp,
    batch: &[(Level, String)],
    bytes: i64,
) -> rusqlite::Result<()> {
    let (chunks, rest) = batch.as_chunks::<CHUNK>();
    if !chunks.is_empty() {
        let mut insert = conn.prepare_cached(&insert_of(CHUNK))?;
        for chunk in chunks {
            insert_rows(&mut insert, agent, source, at, chunk)?;
        }
    }
    if !rest.is_empty() {
        let mut insert = conn.prepare_cached(&insert_of(1))?;
        for line in rest.chunks(1) {
            insert_rows(&mut insert, agent, source, at, line)?;
        }
    }
    conn.prepare_cached("UPDATE agents SET logs_length = logs_length + ? WHERE id = ?")?.execute((bytes, agent))?;
    Ok(())
}

fn insert_of(rows: usize) -> String {
    let mut sql = String::from("INSERT INTO agent_logs (agent_id, source_id, created_at, level, output) VALUES ");
    for row in 0..rows {
        let comma = if row == 0 { "" } else { ", " };
        sql.push_str(&format!("{comma}(?1, ?2, ?3, ?{}, ?{})", 4 + 2 * row, 5 + 2 * row));
    }
    sql
}

fn insert_rows(
    insert: &mut Statement<'_>,
    agent: AgentId,
    source: LogSourceId,
    at: Timestamp,
    lines: &[(Level, String)],
) -> rusqlite::Result<()> {
    insert.raw_bind_parameter(1, agent)?;
    insert.raw_bind_parameter(2, source)?;
    insert.raw_bind_parameter(3, at)?;
    for (row, (level, output)) in lines.iter().enumerate() {
        insert.raw_bind_parameter(4 + 2 * row, level)?;
        insert.raw_bind_parameter(5 + 2 * row, output)?;
    }
    insert.raw_execute().map(drop)
}

/// When retention last removed lines of an agent; `None`: never, so that an empty log was always empty.
pub fn purged_at(conn: &Connection, agent: AgentId) -> rusqlite::Result<Option<Timestamp>> {
    conn.prepare_cached("SELECT logs_purged_at FROM agents WHERE id = ?")?
        .query_row([agent], |row| row.get(0))
        .optional()
        .map(Option::flatten)
}
