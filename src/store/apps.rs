//! Tables `agent_apps` and `agent_app_statuses`.

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use uuid::Uuid;

use super::columns::{IdList, words};
use crate::model::{AgentId, AppId, Timestamp};

words!(
    /// What the agent's checks say.
    Health {
        /// Not checked.
        Disabled = "disabled",
        /// Not checked yet.
        Initializing = "initializing",
        /// Answers.
        Healthy = "healthy",
        /// Does not answer.
        Unhealthy = "unhealthy",
    }
);

words!(
    /// What an app says it is doing.
    StatusState {
        /// At work.
        Working = "working",
        /// Waiting.
        Idle = "idle",
        /// Done.
        Complete = "complete",
        /// Failed.
        Failure = "failure",
    }
);

/// An app of an agent.
#[derive(Clone, PartialEq, Debug)]
pub struct App {
    /// Stable id.
    pub id: AppId,
    /// Unique in the agent.
    pub slug: String,
    /// Shown to people.
    pub display_name: String,
    /// Path or URL of an icon.
    pub icon: String,
    /// Where it listens, or where it lies if external.
    pub url: String,
    /// Run in a terminal instead of opening a URL.
    pub command: String,
    /// Position in lists.
    pub display_order: i64,
    /// Heading in lists.
    pub display_group: String,
    /// Outside of the machine.
    pub external: bool,
    /// Not listed.
    pub hidden: bool,
    /// Served under its own host name.
    pub subdomain: bool,
    /// `owner`, `authenticated`, `organization` or `public`.
    pub sharing_level: String,
    /// `slim-window` or `tab`.
    pub open_in: String,
    /// Empty: not checked.
    pub healthcheck_url: String,
    /// Seconds.
    pub healthcheck_interval: i32,
    /// Failures in a row.
    pub healthcheck_threshold: i32,
    /// As reported.
    pub health: Health,
    /// Declared at.
    pub created_at: Timestamp,
}

impl App {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<App> {
        Ok(App {
            id: row.get(0)?,
            slug: row.get(1)?,
            display_name: row.get(2)?,
            icon: row.get(3)?,
            url: row.get(4)?,
            command: row.get(5)?,
            display_order: row.get(6)?,
            display_group: row.get(7)?,
            external: row.get(8)?,
            hidden: row.get(9)?,
            subdomain: row.get(10)?,
            sharing_level: row.get(11)?,
            open_in: row.get(12)?,
            healthcheck_url: row.get(13)?,
            healthcheck_interval: row.get(14)?,
            healthcheck_threshold: row.get(15)?,
            health: row.get(16)?,
            created_at: row.get(17)?,
        })
    }
}

/// What [`App::from_row`] reads, then the agent; by position, because lists have many rows.
const COLUMNS: &str = "id, slug, display_name, icon, url, command, display_order, display_group, external, hidden, \
    subdomain, sharing_level, open_in, healthcheck_url, healthcheck_interval, healthcheck_threshold, health, \
    created_at, agent_id";

/// Apps of an agent by display order, display name, slug.
pub fn of_agent(conn: &Connection, agent: AgentId) -> rusqlite::Result<Vec<App>> {
    conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM agent_apps WHERE agent_id = ? ORDER BY display_order, display_name, slug"
    ))?
    .query_map([agent], App::from_row)?
    .collect()
}

/// Apps of these agents, in the order of [`of_agent`] within each.
pub fn of_agents(conn: &Connection, agents: &[AgentId]) -> rusqlite::Result<Vec<(AgentId, App)>> {
    conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM agent_apps WHERE agent_id IN (SELECT unhex(value) FROM json_each(?))
         ORDER BY display_order, display_name, slug"
    ))?
    .query_map([IdList::of(agents.iter().map(AgentId::as_bytes))], |row| Ok((row.get(18)?, App::from_row(row)?)))?
    .collect()
}

/// Adds an app. A slug in use breaks a UNIQUE index.
pub fn insert(conn: &Connection, agent: AgentId, app: &App) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO agent_apps (id, agent_id, slug, display_name, icon, url, command, display_order, display_group, external,
             hidden, subdomain, sharing_level, open_in, healthcheck_url, healthcheck_interval, healthcheck_threshold, health, created_at)
         VALUES (:id, :agent, :slug, :display_name, :icon, :url, :command, :display_order, :display_group, :external,
             :hidden, :subdomain, :sharing_level, :open_in, :check_url, :check_interval, :check_threshold, :health, :created_at)",
    )?
    .execute(named_params! {
        ":id": app.id, ":agent": agent, ":slug": app.slug, ":display_name": app.display_name, ":icon": app.icon,
        ":url": app.url, ":command": app.command, ":display_order": app.display_order,
        ":display_group": app.display_group, ":external": app.external, ":hidden": app.hidden,
        ":subdomain": app.subdomain, ":sharing_level": app.sharing_level, ":open_in": app.open_in,
        ":check_url": app.healthcheck_url, ":check_interval": app.healthcheck_interval,
        ":check_threshold": app.healthcheck_threshold, ":health": app.health, ":created_at": app.created_at,
    })?;
    Ok(())
}

/// Removes one app and its statuses.
pub fn delete(conn: &Connection, id: AppId) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM agent_apps WHERE id = ?")?.execute([id])?;
    Ok(())
}

/// Records a reported health; says whether it changed. An app of another agent is not touched.
pub fn set_health(conn: &Connection, agent: AgentId, id: AppId, health: Health) -> rusqlite::Result<bool> {
    let changed = conn
        .prepare_cached("UPDATE agent_apps SET health = ?1 WHERE id = ?2 AND agent_id = ?3 AND health <> ?1")?
        .execute((health, id, agent))?;
    Ok(changed > 0)
}

/// What an app said it was doing.
#[derive(Clone, Debug)]
pub struct Status {
    /// Stable id.
    pub id: Uuid,
    /// Which app.
    pub app_id: AppId,
    /// What it is doing.
    pub state: StatusState,
    /// At most 160 bytes.
    pub message: String,
    /// Empty: none.
    pub uri: String,
    /// When it said so.
    pub created_at: Timestamp,
}

/// Statuses of all apps of these agents, newest first.
pub fn statuses(conn: &Connection, agents: &[AgentId]) -> rusqlite::Result<Vec<(AgentId, Status)>> {
    conn.prepare_cached(
        "SELECT agent_id, id, app_id, state, message, uri, created_at FROM agent_app_statuses
         WHERE agent_id IN (SELECT unhex(value) FROM json_each(?)) ORDER BY created_at DESC, id",
    )?
    .query_map([IdList::of(agents.iter().map(AgentId::as_bytes))], |row| {
        let status = Status {
            id: Uuid::from_slice(row.get_ref(1)?.as_blob()?).unwrap_or_default(),
            app_id: row.get(2)?,
            state: row.get(3)?,
            message: row.get(4)?,
            uri: row.get(5)?,
            created_at: row.get(6)?,
        };
        Ok((row.get(0)?, status))
    })?
    .collect()
}

/// Adds a status, keeping the newest `keep` of its app; says whether the agent has an app of that slug.
pub fn insert_status(
    conn: &Connection,
    agent: AgentId,
    slug: &str,
    status: (StatusState, &str, &str),
    at: Timestamp,
    keep: u32,
) -> rusqlite::Result<bool> {
    let app: Option<AppId> = conn
        .prepare_cached("SELECT id FROM agent_apps WHERE agent_id = ? AND slug = ?")?
        .query_row((agent, slug), |row| row.get(0))
        .optional()?;
    let Some(app) = app else { return Ok(false) };
    let (state, message, uri) = status;
    conn.prepare_cached(
        "INSERT INTO agent_app_statuses (id, agent_id, app_id, state, message, uri, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute((Uuid::new_v4().as_bytes().as_slice(), agent, app, state, message, uri, at))?;
    conn.prepare_cached(
        "DELETE FROM agent_app_statuses WHERE app_id = ?1 AND rowid NOT IN
             (SELECT rowid FROM agent_app_statuses WHERE app_id = ?1 ORDER BY created_at DESC LIMIT ?2)",
    )?
    .execute((app, keep))?;
    Ok(true)
}

/// Writes every changeable column of an app.
pub fn update(conn: &Connection, agent: AgentId, app: &App) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE agent_apps SET display_name = :display_name, icon = :icon, url = :url, command = :command,
             display_order = :display_order, display_group = :display_group, external = :external, hidden = :hidden,
             subdomain = :subdomain, sharing_level = :sharing_level, open_in = :open_in, healthcheck_url = :check_url,
             healthcheck_interval = :check_interval, healthcheck_threshold = :check_threshold, health = :health
         WHERE id = :id AND agent_id = :agent",
    )?
    .execute(named_params! {
        ":id": app.id, ":agent": agent, ":display_name": app.display_name, ":icon": app.icon,
        ":url": app.url, ":command": app.command, ":display_order": app.display_order,
        ":display_group": app.display_group, ":external": app.external, ":hidden": app.hidden,
        ":subdomain": app.subdomain, ":sharing_level": app.sharing_level, ":open_in": app.open_in,
        ":check_url": app.healthcheck_url, ":check_interval": app.healthcheck_interval,
        ":check_threshold": app.healthcheck_threshold, ":health": app.health,
    })?;
    Ok(())
}
