//! Table `agents`.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::columns::{IdList, json_at, words};
use super::instances::Cloud;
use crate::model::{AgentId, Timestamp, UserId, WorkspaceId};

words!(
    /// What an agent says about its own life.
    Lifecycle {
        /// Declared, never started.
        Created = "created",
        /// Start scripts run.
        Starting = "starting",
        /// A start script took too long.
        StartTimeout = "start_timeout",
        /// A start script failed.
        StartError = "start_error",
        /// All start scripts ended well.
        Ready = "ready",
        /// Stop scripts run.
        ShuttingDown = "shutting_down",
        /// A stop script took too long.
        ShutdownTimeout = "shutdown_timeout",
        /// A stop script failed.
        ShutdownError = "shutdown_error",
        /// Ended.
        Off = "off",
    }
);

/// A living agent of a living workspace.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Stable id; also the peer id in the tailnet.
    pub id: AgentId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The agent that declared it, for a sub-agent.
    pub parent_id: Option<AgentId>,
    /// Unique in the workspace, ignoring case.
    pub name: String,
    /// SHA-256 of the 16 bytes of its token.
    pub token_hash: Vec<u8>,
    /// The 16 bytes of its token, sealed.
    pub token_sealed: Vec<u8>,
    /// `linux`, `darwin` or `windows`.
    pub operating_system: String,
    /// `amd64`, `arm64` or `armv7`.
    pub architecture: String,
    /// Working directory as declared.
    pub directory: String,
    /// Declared environment.
    pub environment: BTreeMap<String, String>,
    /// Message-of-the-day file inside the machine.
    pub motd_file: String,
    /// Shown when it does not connect.
    pub troubleshooting_url: String,
    /// 0: never times out.
    pub connection_timeout_seconds: i64,
    /// Words of the closed set of display apps.
    pub display_apps: Vec<String>,
    /// Cloud instance that it is bound to, as that cloud names it; empty: none.
    pub instance_id: String,
    /// Which cloud that is.
    pub instance_cloud: Option<Cloud>,
    /// Build version as reported; empty before the first start-up report.
    pub version: String,
    /// `version` of its RPC connection, stored with the start-up report.
    pub api_version: String,
    /// Working directory as the agent resolved it.
    pub expanded_directory: String,
    /// `envbox`, `envbuilder`, `exectrace`; sorted.
    pub subsystems: Vec<String>,
    /// As reported.
    pub lifecycle_state: Lifecycle,
    /// Start of the start scripts.
    pub started_at: Option<Timestamp>,
    /// End of the start scripts.
    pub ready_at: Option<Timestamp>,
    /// First connection ever.
    pub first_connected_at: Option<Timestamp>,
    /// Last time it was known to be connected, as stored; see `domain::presence` for the live value.
    pub last_connected_at: Option<Timestamp>,
    /// End of the last connection.
    pub disconnected_at: Option<Timestamp>,
    /// Bytes of all accepted log lines.
    pub logs_length: i64,
    /// Whether a batch was refused for size.
    pub logs_overflowed: bool,
    /// Declared at.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

impl Agent {
    /// One of which nothing is declared yet but its place, its name and its token (SHA-256, sealed).
    pub fn blank(
        id: AgentId,
        workspace_id: WorkspaceId,
        name: String,
        token: (Vec<u8>, Vec<u8>),
        at: Timestamp,
    ) -> Agent {
        let (token_hash, token_sealed) = token;
        Agent {
            id,
            workspace_id,
            parent_id: None,
            name,
            token_hash,
            token_sealed,
            operating_system: String::new(),
            architecture: String::new(),
            directory: String::new(),
            environment: BTreeMap::new(),
            motd_file: String::new(),
            troubleshooting_url: String::new(),
            connection_timeout_seconds: 0,
            display_apps: Vec::new(),
            instance_id: String::new(),
            instance_cloud: None,
            version: String::new(),
            api_version: String::new(),
            expanded_directory: String::new(),
            subsystems: Vec::new(),
            lifecycle_state: Lifecycle::Created,
            started_at: None,
            ready_at: None,
            first_connected_at: None,
            last_connected_at: None,
            disconnected_at: None,
            logs_length: 0,
            logs_overflowed: false,
            created_at: at,
            updated_at: at,
        }
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Agent> {
        Ok(Agent {
            id: row.get(0)?,
            workspace_id: row.get(1)?,
            parent_id: row.get(2)?,
            name: row.get(3)?,
            token_hash: row.get(4)?,
            token_sealed: row.get(5)?,
            operating_system: row.get(6)?,
            architecture: row.get(7)?,
            directory: row.get(8)?,
            environment: json_at(row, 9)?,
            motd_file: row.get(10)?,
            troubleshooting_url: row.get(11)?,
            connection_timeout_seconds: row.get(12)?,
            display_apps: json_at(row, 13)?,
            instance_id: row.get(14)?,
            version: row.get(15)?,
            api_version: row.get(16)?,
            expanded_directory: row.get(17)?,
            subsystems: json_at(row, 18)?,
            lifecycle_state: row.get(19)?,
            started_at: row.get(20)?,
            ready_at: row.get(21)?,
            first_connected_at: row.get(22)?,
            last_connected_at: row.get(23)?,
            disconnected_at: row.get(24)?,
            logs_length: row.get(25)?,
            logs_overflowed: row.get(26)?,
            created_at: row.get(27)?,
            updated_at: row.get(28)?,
            instance_cloud: row.get(29)?,
        })
    }
}

/// The columns in the order in which [`Agent::from_row`] reads them; by position, because it runs per
/// request and a look-up by name costs a comparison with every other one.
macro_rules! columns {
    () => {
        "a.id, a.workspace_id, a.parent_id, a.name, a.token_hash, a.token_sealed, a.operating_system, \
    a.architecture, a.directory, a.environment, a.motd_file, a.troubleshooting_url, \
    a.connection_timeout_seconds, a.display_apps, a.instance_id, a.version, a.api_version, \
    a.expanded_directory, a.subsystems, a.lifecycle_state, a.started_at, a.ready_at, \
    a.first_connected_at, a.last_connected_at, a.disconnected_at, a.logs_length, a.logs_overflowed, \
    a.created_at, a.updated_at, a.instance_cloud"
    };
}

/// Living agents only; an agent of a removed workspace is removed with it.
const SELECT: &str = concat!("SELECT ", columns!(), " FROM agents a WHERE a.deleted_at IS NULL");

/// The living agent with this id.
pub fn by_id(conn: &Connection, id: AgentId) -> rusqlite::Result<Option<Agent>> {
    conn.prepare_cached(&format!("{SELECT} AND id = ?"))?.query_row([id], Agent::from_row).optional()
}

/// The living agent whose token hashes to this.
pub fn by_token_hash(conn: &Connection, hash: &[u8]) -> rusqlite::Result<Option<Agent>> {
    conn.prepare_cached(&format!("{SELECT} AND token_hash = ?"))?.query_row([hash], Agent::from_row).optional()
}

/// Living agents of a workspace, parents first, by name.
pub fn of_workspace(conn: &Connection, workspace: WorkspaceId) -> rusqlite::Result<Vec<Agent>> {
    conn.prepare_cached(&format!("{SELECT} AND workspace_id = ? ORDER BY parent_id IS NOT NULL, lower(name)"))?
        .query_map([workspace], Agent::from_row)?
        .collect()
}

/// Living agents of these workspaces, in the order of [`of_workspace`] within each.
pub fn of_workspaces(conn: &Connection, workspaces: &[WorkspaceId]) -> rusqlite::Result<Vec<Agent>> {
    let list = IdList::of(workspaces.iter().map(WorkspaceId::as_bytes));
    conn.prepare_cached(&format!(
        "{SELECT} AND workspace_id IN (SELECT unhex(value) FROM json_each(?))
         ORDER BY workspace_id, parent_id IS NOT NULL, lower(name)"
    ))?
    .query_map([list], Agent::from_row)?
    .collect()
}

/// Living sub-agents of an agent.
pub fn of_parent(conn: &Connection, parent: AgentId) -> rusqlite::Result<Vec<Agent>> {
    conn.prepare_cached(&format!("{SELECT} AND parent_id = ? ORDER BY created_at, id"))?
        .query_map([parent], Agent::from_row)?
        .collect()
}

/// The owner of an agent's workspace, if both live.
pub fn owner(conn: &Connection, id: AgentId) -> rusqlite::Result<Option<UserId>> {
    conn.prepare_cached(
        "SELECT w.owner_id FROM agents a JOIN workspaces w ON w.id = a.workspace_id
         WHERE a.id = ? AND a.deleted_at IS NULL AND w.deleted_at IS NULL",
    )?
    .query_row([id], |row| row.get(0))
    .optional()
}

fn to_json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Adds an agent with its declared columns; what an agent reports begins empty.
pub fn insert(conn: &Connection, agent: &Agent) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO agents (id, workspace_id, parent_id, name, token_hash, token_sealed, operating_system, architecture,
             directory, environment, motd_file, troubleshooting_url, connection_timeout_seconds, display_apps, instance_id,
             instance_cloud, instance_bound_at, created_at, updated_at)
         VALUES (:id, :workspace_id, :parent_id, :name, :token_hash, :token_sealed, :operating_system, :architecture,
             :directory, :environment, :motd_file, :troubleshooting_url, :timeout, :display_apps, :instance_id,
             :cloud, iif(:cloud IS NULL, NULL, :created_at), :created_at, :updated_at)",
    )?
    .execute(named_params! {
        ":id": agent.id, ":workspace_id": agent.workspace_id, ":parent_id": agent.parent_id, ":name": agent.name,
        ":token_hash": agent.token_hash, ":token_sealed": agent.token_sealed,
        ":operating_system": agent.operating_system, ":architecture": agent.architecture, ":directory": agent.directory,
        ":environment": to_json(&agent.environment)?, ":motd_file": agent.motd_file,
        ":troubleshooting_url": agent.troubleshooting_url, ":timeout": agent.connection_timeout_seconds,
        ":display_apps": to_json(&agent.display_apps)?, ":instance_id": agent.instance_id,
        ":cloud": agent.instance_cloud,
        ":created_at": agent.created_at, ":updated_at": agent.updated_at,
    })?;
    Ok(())
}

/// Writes the declared columns of an agent.
pub fn update_declaration(conn: &Connection, agent: &Agent) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE agents SET operating_system = :operating_system, architecture = :architecture, directory = :directory,
             environment = :environment, motd_file = :motd_file, troubleshooting_url = :troubleshooting_url,
             connection_timeout_seconds = :timeout, display_apps = :display_apps,
             instance_bound_at = CASE WHEN :cloud IS NULL THEN NULL
                 WHEN instance_cloud IS :cloud AND instance_id = :instance_id THEN instance_bound_at ELSE :updated_at END,
             instance_id = :instance_id, instance_cloud = :cloud, updated_at = :updated_at
         WHERE id = :id",
    )?
    .execute(named_params! {
        ":id": agent.id, ":operating_system": agent.operating_system, ":architecture": agent.architecture,
        ":directory": agent.directory, ":environment": to_json(&agent.environment)?, ":motd_file": agent.motd_file,
        ":troubleshooting_url": agent.troubleshooting_url, ":timeout": agent.connection_timeout_seconds,
        ":display_apps": to_json(&agent.display_apps)?, ":instance_id": agent.instance_id,
        ":cloud": agent.instance_cloud,
        ":updated_at": agent.updated_at,
    })?;
    Ok(())
}

/// Replaces an agent's token.
pub fn set_token(conn: &Connection, id: AgentId, hash: &[u8], sealed: &[u8], at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE agents SET token_hash = ?, token_sealed = ?, updated_at = ? WHERE id = ?")?
        .execute((hash, sealed, at, id))?;
    Ok(())
}

/// Removes an agent and its sub-agents, keeping the rows; says whether it existed.
pub fn remove(conn: &Connection, id: AgentId, at: Timestamp) -> rusqlite::Result<bool> {
    let removed = conn
        .prepare_cached("UPDATE agents SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL")?
        .execute((at, id))?;
    conn.prepare_cached("UPDATE agents SET deleted_at = ? WHERE parent_id = ? AND deleted_at IS NULL")?
        .execute((at, id))?;
    Ok(removed > 0)
}

/// A connection begins: first and last connection are `at`, the end of an older one is cleared.
pub fn connected(conn: &Connection, id: AgentId, at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE agents SET first_connected_at = ifnull(first_connected_at, ?1), last_connected_at = ?1,
             disconnected_at = NULL, updated_at = ?1 WHERE id = ?2",
    )?
    .execute((at, id))?;
    Ok(())
}

/// The last connection ends.
pub fn disconnected(conn: &Connection, id: AgentId, last_seen: Timestamp, at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE agents SET last_connected_at = ?1, disconnected_at = ?2, updated_at = ?2 WHERE id = ?3",
    )?
    .execute((last_seen, at, id))?;
    Ok(())
}

/// The last sign of life on a connection that had not ended when the server stopped.
pub fn alive_until(conn: &Connection, id: AgentId, last_seen: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE agents SET last_connected_at = max(ifnull(last_connected_at, ?1), ?1), updated_at = max(updated_at, ?1) WHERE id = ?2")?
        .execute((last_seen, id))?;
    Ok(())
}

/// The start-up report.
pub fn set_startup(
    conn: &Connection,
    id: AgentId,
    version: &str,
    api_version: &str,
    expanded_directory: &str,
    subsystems: &[String],
    at: Timestamp,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE agents SET version = ?, api_version = ?, expanded_directory = ?, subsystems = ?, updated_at = ? WHERE id = ?",
    )?
    .execute((version, api_version, expanded_directory, to_json(&subsystems)?, at, id))?;
    Ok(())
}

/// The lifecycle and the instants that go with it.
pub fn set_lifecycle(
    conn: &Connection,
    id: AgentId,
    state: Lifecycle,
    started_at: Option<Timestamp>,
    ready_at: Option<Timestamp>,
    at: Timestamp,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE agents SET lifecycle_state = ?, started_at = ?, ready_at = ?, updated_at = ? WHERE id = ?",
    )?
    .execute((state, started_at, ready_at, at, id))?;
    Ok(())
}

/// Where an agent stands: its workspace and that one's owner.
#[derive(Clone, Debug)]
pub struct Place {
    /// Who may see it.
    pub owner_id: UserId,
    /// The owner's name.
    pub owner_name: String,
    /// The workspace's name.
    pub workspace_name: String,
}

/// The living agent with this id and its place.
pub fn with_place(conn: &Connection, id: AgentId) -> rusqlite::Result<Option<(Agent, Place)>> {
    conn.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        ", w.owner_id, u.username, w.name
         FROM agents a JOIN workspaces w ON w.id = a.workspace_id JOIN users u ON u.id = w.owner_id
         WHERE a.id = ? AND a.deleted_at IS NULL AND w.deleted_at IS NULL"
    ))?
    .query_row([id], |row| {
        let place = Place { owner_id: row.get(30)?, owner_name: row.get(31)?, workspace_name: row.get(32)? };
        Ok((Agent::from_row(row)?, place))
    })
    .optional()
}

/// Writes a name in the letter case of its declaration.
pub fn rename(conn: &Connection, id: AgentId, name: &str, at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE agents SET name = ?, updated_at = ? WHERE id = ?")?.execute((name, at, id))?;
    Ok(())
}

/// Agents whose last connection has no end.
pub fn dangling(conn: &Connection) -> rusqlite::Result<Vec<AgentId>> {
    conn.prepare_cached(
        "SELECT id FROM agents WHERE last_connected_at IS NOT NULL AND disconnected_at IS NULL AND deleted_at IS NULL",
    )?
    .query_map([], |row| row.get(0))?
    .collect()
}

/// Ends the last connection at the last sign of life that is known.
pub fn settle(conn: &Connection, id: AgentId) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE agents SET disconnected_at = last_connected_at WHERE id = ?")?.execute([id])?;
    Ok(())
}
