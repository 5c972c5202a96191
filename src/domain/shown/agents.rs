//! Agents and what belongs to them (coder v2.24.0 codersdk/workspaceagents.go, workspaceapps.go).

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use crate::domain::agents::{Connection, Health, Latency, Status};
use crate::model::{AgentId, AppId, LogSourceId, ScriptId, Timestamp, WorkspaceId};
use crate::store::agents;
use crate::store::agents::Lifecycle;
use crate::store::apps::{self, StatusState};
use crate::store::logs::{Level, Line, Source};
use crate::store::scripts::Script;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Everything an agent's object is made of.
pub struct Parts<'a> {
    /// Its row.
    pub agent: &'a agents::Agent,
    /// The name of its workspace.
    pub workspace_name: &'a str,
    /// The name of its workspace's owner.
    pub owner_name: &'a str,
    /// Whether it is connected.
    pub connection: Connection,
    /// Whether it is well.
    pub health: Health,
    /// Round trips to relay regions, by name.
    pub latency: BTreeMap<String, Latency>,
    /// In the order of their display.
    pub apps: &'a [apps::App],
    /// Newest first.
    pub statuses: &'a [apps::Status],
    /// Oldest first.
    pub sources: &'a [Source],
    /// In the order of their declaration.
    pub scripts: &'a [Script],
    /// `blocking` or `non-blocking`.
    pub startup_script_behavior: &'static str,
    /// Shown when the agent has none of its own.
    pub troubleshooting_url: &'a str,
}

/// An agent.
#[derive(Serialize)]
pub struct Agent<'a> {
    id: AgentId,
    parent_id: Option<AgentId>,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_connected_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_connected_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnected_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_at: Option<Timestamp>,
    status: Status,
    lifecycle_state: Lifecycle,
    name: &'a str,
    resource_id: WorkspaceId,
    #[serde(skip_serializing_if = "str::is_empty")]
    instance_id: &'a str,
    architecture: &'a str,
    /// `null` when there is none, as Go writes a nil map.
    environment_variables: Option<&'a BTreeMap<String, String>>,
    operating_system: &'a str,
    logs_length: i64,
    logs_overflowed: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    directory: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    expanded_directory: &'a str,
    version: &'a str,
    api_version: &'a str,
    apps: Vec<App<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    latency: BTreeMap<String, Latency>,
    connection_timeout_seconds: i64,
    troubleshooting_url: &'a str,
    subsystems: &'a [String],
    health: Health,
    display_apps: Vec<&'a str>,
    log_sources: Vec<LogSource<'a>>,
    scripts: Vec<ScriptJson<'a>>,
    startup_script_behavior: &'static str,
}

impl<'a> Agent<'a> {
    /// From its parts.
    pub fn of(parts: Parts<'a>) -> Agent<'a> {
        let Parts { agent, connection, .. } = parts;
        let apps = parts.apps.iter().map(|app| App::of(app, &parts)).collect();
        Agent {
            id: agent.id,
            parent_id: agent.parent_id,
            created_at: agent.created_at,
            updated_at: connection.updated_at,
            first_connected_at: connection.first_connected_at,
            last_connected_at: connection.last_connected_at,
            disconnected_at: connection.disconnected_at,
            started_at: agent.started_at,
            ready_at: agent.ready_at,
            status: connection.status,
            lifecycle_state: agent.lifecycle_state,
            name: &agent.name,
            // One resource per workspace, so the workspace's id serves.
            resource_id: agent.workspace_id,
            instance_id: &agent.instance_id,
            architecture: &agent.architecture,
            environment_variables: (!agent.environment.is_empty()).then_some(&agent.environment),
            operating_system: &agent.operating_system,
            logs_length: agent.logs_length,
            logs_overflowed: agent.logs_overflowed,
            directory: &agent.directory,
            expanded_directory: &agent.expanded_directory,
            version: &agent.version,
            api_version: &agent.api_version,
            apps,
            latency: parts.latency,
            connection_timeout_seconds: agent.connection_timeout_seconds,
            troubleshooting_url: match agent.troubleshooting_url.as_str() {
                "" => parts.troubleshooting_url,
                own => own,
            },
            subsystems: &agent.subsystems,
            health: parts.health,
            display_apps: agent
                .display_apps
                .iter()
                .map(String::as_str)
                .filter(|app| crate::domain::agents::DISPLAY_APPS.contains(app))
                .collect(),
            log_sources: parts.sources.iter().map(|source| LogSource::of(agent.id, source)).collect(),
            scripts: parts.scripts.iter().map(ScriptJson::of).collect(),
            startup_script_behavior: parts.startup_script_behavior,
        }
    }
}

impl Agent<'_> {
    /// Its id.
    pub fn id(&self) -> AgentId {
        self.id
    }

    /// Whether it is well.
    pub fn is_healthy(&self) -> bool {
        self.health.healthy
    }
}

#[derive(Serialize)]
struct App<'a> {
    id: AppId,
    #[serde(skip_serializing_if = "str::is_empty")]
    url: &'a str,
    external: bool,
    slug: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    display_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    command: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    icon: &'a str,
    subdomain: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    subdomain_name: String,
    sharing_level: &'a str,
    healthcheck: HealthCheck<'a>,
    health: apps::Health,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: &'a str,
    hidden: bool,
    open_in: &'a str,
    statuses: Vec<AppStatus<'a>>,
}

#[derive(Serialize)]
struct HealthCheck<'a> {
    url: &'a str,
    interval: i32,
    threshold: i32,
}

/// What an app said it was doing.
#[derive(Serialize)]
pub struct AppStatus<'a> {
    id: Uuid,
    created_at: Timestamp,
    workspace_id: WorkspaceId,
    agent_id: AgentId,
    app_id: AppId,
    state: StatusState,
    message: &'a str,
    uri: &'a str,
    icon: &'static str,
    needs_user_attention: bool,
}

impl<'a> AppStatus<'a> {
    /// From its row.
    pub fn of(status: &'a apps::Status, agent: &agents::Agent) -> AppStatus<'a> {
        AppStatus {
            id: status.id,
            created_at: status.created_at,
            workspace_id: agent.workspace_id,
            agent_id: agent.id,
            app_id: status.app_id,
            state: status.state,
            message: &status.message,
            uri: &status.uri,
            icon: "",
            needs_user_attention: false,
        }
    }
}

impl<'a> App<'a> {
    fn of(app: &'a apps::App, parts: &Parts<'a>) -> App<'a> {
        let agent = parts.agent;
        let subdomain_name = if app.subdomain {
            format!("{}--{}--{}--{}", app.slug, agent.name, parts.workspace_name, parts.owner_name)
        } else {
            String::new()
        };
        let statuses = parts.statuses.iter().rev().filter(|status| status.app_id == app.id);
        App {
            id: app.id,
            url: &app.url,
            external: app.external,
            slug: &app.slug,
            display_name: &app.display_name,
            command: &app.command,
            icon: &app.icon,
            subdomain: app.subdomain,
            subdomain_name,
            sharing_level: &app.sharing_level,
            healthcheck: HealthCheck {
                url: &app.healthcheck_url,
                interval: app.healthcheck_interval,
                threshold: app.healthcheck_threshold,
            },
            health: app.health,
            group: &app.display_group,
            hidden: app.hidden,
            open_in: &app.open_in,
            statuses: statuses.map(|status| AppStatus::of(status, agent)).collect(),
        }
    }
}

#[derive(Serialize)]
struct ScriptJson<'a> {
    id: ScriptId,
    log_source_id: LogSourceId,
    log_path: &'a str,
    script: &'a str,
    cron: &'a str,
    run_on_start: bool,
    run_on_stop: bool,
    start_blocks_login: bool,
    /// Nanoseconds.
    timeout: i64,
    display_name: &'a str,
}

impl<'a> ScriptJson<'a> {
    fn of(script: &'a Script) -> ScriptJson<'a> {
        ScriptJson {
            id: script.id,
            log_source_id: script.log_source_id,
            log_path: &script.log_path,
            script: &script.script,
            cron: &script.cron,
            run_on_start: script.run_on_start,
            run_on_stop: script.run_on_stop,
            start_blocks_login: script.start_blocks_login,
            timeout: script.timeout_seconds.saturating_mul(NANOS_PER_SECOND),
            display_name: &script.display_name,
        }
    }
}

/// A source of log lines.
#[derive(Serialize)]
pub struct LogSource<'a> {
    workspace_agent_id: AgentId,
    id: LogSourceId,
    created_at: Timestamp,
    display_name: &'a str,
    icon: &'a str,
}

impl<'a> LogSource<'a> {
    /// From its row.
    pub fn of(agent: AgentId, source: &'a Source) -> LogSource<'a> {
        LogSource {
            workspace_agent_id: agent,
            id: source.id,
            created_at: source.created_at,
            display_name: &source.display_name,
            icon: &source.icon,
        }
    }
}

/// A log line.
#[derive(Serialize)]
pub struct LogLine<'a> {
    id: i64,
    created_at: Timestamp,
    output: &'a str,
    level: Level,
    source_id: LogSourceId,
}

impl<'a> LogLine<'a> {
    /// From its row.
    pub fn of(line: &'a Line) -> LogLine<'a> {
        LogLine {
            id: line.id,
            created_at: line.created_at,
            output: &line.output,
            level: line.level,
            source_id: line.source_id,
        }
    }
}
