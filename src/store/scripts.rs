//! Tables `agent_scripts` and `agent_script_timings`.

use rusqlite::{Connection, Row, named_params};

use super::columns::{IdList, words};
use crate::model::{AgentId, LogSourceId, ScriptId, Timestamp};

/// A declared script.
#[derive(Clone, PartialEq, Debug)]
pub struct Script {
    /// Stable id.
    pub id: ScriptId,
    /// Its lines carry this source.
    pub log_source_id: LogSourceId,
    /// Shown to people.
    pub display_name: String,
    /// Path or URL of an icon.
    pub icon: String,
    /// Text given to the user's shell.
    pub script: String,
    /// Six fields, seconds first; empty: never by time.
    pub cron: String,
    /// Extra local log file; empty: the agent's default.
    pub log_path: String,
    /// Run when the agent starts.
    pub run_on_start: bool,
    /// Run when the agent stops.
    pub run_on_stop: bool,
    /// Clients wait for it before logging in.
    pub start_blocks_login: bool,
    /// 0: none.
    pub timeout_seconds: i64,
    /// Declared at.
    pub created_at: Timestamp,
}

impl Script {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Script> {
        Ok(Script {
            id: row.get(0)?,
            log_source_id: row.get(1)?,
            display_name: row.get(2)?,
            icon: row.get(3)?,
            script: row.get(4)?,
            cron: row.get(5)?,
            log_path: row.get(6)?,
            run_on_start: row.get(7)?,
            run_on_stop: row.get(8)?,
            start_blocks_login: row.get(9)?,
            timeout_seconds: row.get(10)?,
            created_at: row.get(11)?,
        })
    }
}

/// What [`Script::from_row`] reads, then the agent; by position, because lists have many rows.
const COLUMNS: &str = "id, log_source_id, display_name, icon, script, cron, log_path, run_on_start, run_on_stop, \
    start_blocks_login, timeout_seconds, created_at, agent_id";

/// Scripts of an agent in the order of their declaration.
pub fn of_agent(conn: &Connection, agent: AgentId) -> rusqlite::Result<Vec<Script>> {
    conn.prepare_cached(&format!("SELECT {COLUMNS} FROM agent_scripts WHERE agent_id = ? ORDER BY position"))?
        .query_map([agent], Script::from_row)?
        .collect()
}

/// Scripts of these agents, in the order of their declaration within each.
pub fn of_agents(conn: &Connection, agents: &[AgentId]) -> rusqlite::Result<Vec<(AgentId, Script)>> {
    conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM agent_scripts WHERE agent_id IN (SELECT unhex(value) FROM json_each(?))
         ORDER BY agent_id, position"
    ))?
    .query_map([IdList::of(agents.iter().map(AgentId::as_bytes))], |row| Ok((row.get(12)?, Script::from_row(row)?)))?
    .collect()
}

/// Replaces all scripts of an agent.
pub fn replace(conn: &Connection, agent: AgentId, scripts: &[Script]) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM agent_scripts WHERE agent_id = ?")?.execute([agent])?;
    let mut insert = conn.prepare_cached(
        "INSERT INTO agent_scripts (id, agent_id, position, log_source_id, display_name, icon, script, cron, log_path,
             run_on_start, run_on_stop, start_blocks_login, timeout_seconds, created_at)
         VALUES (:id, :agent, :position, :source, :display_name, :icon, :script, :cron, :log_path,
             :run_on_start, :run_on_stop, :start_blocks_login, :timeout, :created_at)",
    )?;
    for (position, script) in (0_i64..).zip(scripts) {
        insert.execute(named_params! {
            ":id": script.id, ":agent": agent, ":position": position, ":source": script.log_source_id,
            ":display_name": script.display_name, ":icon": script.icon, ":script": script.script, ":cron": script.cron,
            ":log_path": script.log_path, ":run_on_start": script.run_on_start, ":run_on_stop": script.run_on_stop,
            ":start_blocks_login": script.start_blocks_login, ":timeout": script.timeout_seconds,
            ":created_at": script.created_at,
        })?;
    }
    Ok(())
}

words!(
    /// When a script ran.
    Stage {
        /// At start.
        Start = "start",
        /// At stop.
        Stop = "stop",
        /// By time.
        Cron = "cron",
    }
);

words!(
    /// How a run ended.
    TimingStatus {
        /// Well.
        Ok = "ok",
        /// With an exit code other than 0.
        ExitFailure = "exit_failure",
        /// By its time limit.
        TimedOut = "timed_out",
        /// A child kept its output open.
        PipesLeftOpen = "pipes_left_open",
    }
);

/// One finished run.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Which script.
    pub script_id: ScriptId,
    /// Began.
    pub started_at: Timestamp,
    /// Ended.
    pub ended_at: Timestamp,
    /// 255: could not run.
    pub exit_code: i32,
    /// When it ran.
    pub stage: Stage,
    /// How it ended.
    pub status: TimingStatus,
}

/// Adds a finished run.
pub fn insert_timing(conn: &Connection, agent: AgentId, timing: &Timing) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO agent_script_timings (agent_id, script_id, started_at, ended_at, exit_code, stage, status)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute((
        agent,
        timing.script_id,
        timing.started_at,
        timing.ended_at,
        timing.exit_code,
        timing.stage,
        timing.status,
    ))?;
    Ok(())
}

/// Finished runs of an agent, oldest first.
pub fn timings(conn: &Connection, agent: AgentId) -> rusqlite::Result<Vec<Timing>> {
    conn.prepare_cached("SELECT * FROM agent_script_timings WHERE agent_id = ? ORDER BY id")?
        .query_map([agent], |row| {
            Ok(Timing {
                script_id: row.get("script_id")?,
                started_at: row.get("started_at")?,
                ended_at: row.get("ended_at")?,
                exit_code: row.get("exit_code")?,
                stage: row.get("stage")?,
                status: row.get("status")?,
            })
        })?
        .collect()
}

/// A finished run with the names that people know.
#[derive(Clone, Debug)]
pub struct NamedTiming {
    /// Whose script.
    pub agent_id: AgentId,
    /// The script's name.
    pub display_name: String,
    /// The run.
    pub timing: Timing,
}

/// Finished runs of the scripts that these agents have at present, newest first, at most `limit`.
pub fn named_timings(conn: &Connection, agents: &[AgentId], limit: u32) -> rusqlite::Result<Vec<NamedTiming>> {
    conn.prepare_cached(
        "SELECT t.agent_id, s.display_name, t.script_id, t.started_at, t.ended_at, t.exit_code, t.stage, t.status
         FROM agent_script_timings t JOIN agent_scripts s ON s.id = t.script_id AND s.agent_id = t.agent_id
         WHERE t.agent_id IN (SELECT unhex(value) FROM json_each(?)) ORDER BY t.id DESC LIMIT ?",
    )?
    .query_map((IdList::of(agents.iter().map(AgentId::as_bytes)), limit), |row| {
        let timing = Timing {
            script_id: row.get(2)?,
            started_at: row.get(3)?,
            ended_at: row.get(4)?,
            exit_code: row.get(5)?,
            stage: row.get(6)?,
            status: row.get(7)?,
        };
        Ok(NamedTiming { agent_id: row.get(0)?, display_name: row.get(1)?, timing })
    })?
    .collect()
}

/// Removes all but the newest `keep` finished runs of an agent.
pub fn prune_timings(conn: &Connection, agent: AgentId, keep: u32) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "DELETE FROM agent_script_timings WHERE agent_id = ?1 AND id <=
             (SELECT id FROM agent_script_timings WHERE agent_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )?
    .execute((agent, keep))?;
    Ok(())
}
