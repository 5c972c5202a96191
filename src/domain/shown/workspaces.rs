//! Workspaces, their one build and its one resource (coder v2.24.0 codersdk/workspaces.go,
//! workspacebuilds.go, provisionerdaemons.go).

use serde::Serialize;
use uuid::Uuid;

use super::agents::{Agent, AppStatus};
use crate::domain::synthetic::{self, Ids};
use crate::model::{AgentId, Timestamp, UserId, WorkspaceId};
use crate::store::workspaces as rows;

/// A workspace.
#[derive(Serialize)]
pub struct Workspace<'a> {
    id: WorkspaceId,
    created_at: Timestamp,
    updated_at: Timestamp,
    owner_id: UserId,
    owner_name: &'a str,
    owner_avatar_url: &'static str,
    organization_id: Uuid,
    organization_name: &'static str,
    template_id: Uuid,
    template_name: &'static str,
    template_display_name: &'static str,
    template_icon: &'static str,
    template_allow_user_cancel_workspace_jobs: bool,
    template_active_version_id: Uuid,
    template_require_active_version: bool,
    template_use_classic_parameter_flow: bool,
    latest_build: Build<'a>,
    latest_app_status: Option<AppStatus<'a>>,
    outdated: bool,
    name: &'a str,
    last_used_at: Timestamp,
    deleting_at: Option<Timestamp>,
    dormant_at: Option<Timestamp>,
    health: Health,
    automatic_updates: &'static str,
    allow_renames: bool,
    favorite: bool,
    next_start_at: Option<Timestamp>,
}

/// Whether all agents are well.
#[derive(Serialize)]
struct Health {
    healthy: bool,
    failing_agents: Vec<AgentId>,
}

impl<'a> Workspace<'a> {
    /// From its row, its agents as they are shown, the last word of its apps, and whether the one who
    /// looks wants it first.
    pub fn of(
        ids: &Ids,
        row: &'a rows::Workspace,
        agents: Vec<Agent<'a>>,
        latest_app_status: Option<AppStatus<'a>>,
        favorite: bool,
    ) -> Workspace<'a> {
        let failing: Vec<AgentId> = agents.iter().filter(|agent| !agent.is_healthy()).map(Agent::id).collect();
        Workspace {
            id: row.id,
            created_at: row.created_at,
            updated_at: row.updated_at,
            owner_id: row.owner_id,
            owner_name: &row.owner_name,
            owner_avatar_url: "",
            organization_id: ids.organization,
            organization_name: synthetic::ORGANIZATION,
            template_id: ids.template,
            template_name: synthetic::TEMPLATE,
            template_display_name: synthetic::TEMPLATE_TITLE,
            template_icon: "",
            template_allow_user_cancel_workspace_jobs: false,
            template_active_version_id: ids.template_version,
            template_require_active_version: false,
            template_use_classic_parameter_flow: true,
            latest_build: Build::of(ids, row, agents),
            latest_app_status,
            outdated: false,
            name: &row.name,
            last_used_at: row.last_used_at,
            deleting_at: None,
            dormant_at: None,
            health: Health { healthy: failing.is_empty(), failing_agents: failing },
            automatic_updates: "never",
            allow_renames: false,
            favorite,
            next_start_at: None,
        }
    }

    /// Its build.
    pub fn into_build(self) -> Build<'a> {
        self.latest_build
    }
}

/// The build of a workspace: a start that succeeded. Anything else would set the build machinery of
/// clients going, which waits for logs of a job (v2.24.0 cli/cliui/provisionerjob.go).
#[derive(Serialize)]
pub struct Build<'a> {
    id: Uuid,
    created_at: Timestamp,
    updated_at: Timestamp,
    workspace_id: WorkspaceId,
    workspace_name: &'a str,
    workspace_owner_id: UserId,
    workspace_owner_name: &'a str,
    template_version_id: Uuid,
    template_version_name: &'static str,
    build_number: i64,
    transition: &'static str,
    initiator_id: UserId,
    initiator_name: &'a str,
    job: Job,
    reason: &'static str,
    resources: [Resource<'a>; 1],
    deadline: Option<Timestamp>,
    max_deadline: Option<Timestamp>,
    status: &'static str,
    daily_cost: i32,
    template_version_preset_id: Option<Uuid>,
}

impl<'a> Build<'a> {
    fn of(ids: &Ids, row: &'a rows::Workspace, agents: Vec<Agent<'a>>) -> Build<'a> {
        Build {
            id: ids.build(row.id),
            created_at: row.created_at,
            updated_at: row.updated_at,
            workspace_id: row.id,
            workspace_name: &row.name,
            workspace_owner_id: row.owner_id,
            workspace_owner_name: &row.owner_name,
            template_version_id: ids.template_version,
            template_version_name: synthetic::TEMPLATE_VERSION,
            build_number: synthetic::BUILD_NUMBER,
            transition: "start",
            initiator_id: row.owner_id,
            initiator_name: &row.owner_name,
            job: Job::of_build(ids, row),
            reason: "initiator",
            resources: [Resource::of(ids, row, agents)],
            deadline: None,
            max_deadline: None,
            status: "running",
            daily_cost: 0,
            template_version_preset_id: None,
        }
    }

    /// What it made.
    pub fn into_resources(self) -> [Resource<'a>; 1] {
        self.resources
    }
}

/// A job that has succeeded.
#[derive(Serialize)]
pub struct Job {
    id: Uuid,
    created_at: Timestamp,
    started_at: Timestamp,
    completed_at: Timestamp,
    status: &'static str,
    /// There is no file; clients skip the nil id.
    file_id: Uuid,
    tags: Tags,
    queue_position: i64,
    queue_size: i64,
    organization_id: Uuid,
    input: Input,
    #[serde(rename = "type")]
    kind: &'static str,
    metadata: Metadata,
}

/// No tags: `{}`.
#[derive(Serialize)]
struct Tags {}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Input {
    TemplateVersionId(Uuid),
    WorkspaceBuildId(Uuid),
}

#[derive(Serialize)]
struct Metadata {
    template_version_name: &'static str,
    template_id: Uuid,
    template_name: &'static str,
    template_display_name: &'static str,
    template_icon: &'static str,
}

impl Job {
    fn of_build(ids: &Ids, row: &rows::Workspace) -> Job {
        Job::done(ids, ids.job(row.id), row.created_at, Input::WorkspaceBuildId(ids.build(row.id)), "workspace_build")
    }

    /// The job of the template's version.
    pub(super) fn of_import(ids: &Ids, at: Timestamp) -> Job {
        Job::done(ids, ids.import_job, at, Input::TemplateVersionId(ids.template_version), "template_version_import")
    }

    fn done(ids: &Ids, id: Uuid, at: Timestamp, input: Input, kind: &'static str) -> Job {
        Job {
            id,
            created_at: at,
            started_at: at,
            completed_at: at,
            status: "succeeded",
            file_id: Uuid::nil(),
            tags: Tags {},
            queue_position: 0,
            queue_size: 0,
            organization_id: ids.organization,
            input,
            kind,
            metadata: Metadata {
                template_version_name: synthetic::TEMPLATE_VERSION,
                template_id: ids.template,
                template_name: synthetic::TEMPLATE,
                template_display_name: synthetic::TEMPLATE_TITLE,
                template_icon: "",
            },
        }
    }
}

/// The machine.
#[derive(Serialize)]
pub struct Resource<'a> {
    /// One resource per workspace, so the workspace's id serves.
    id: WorkspaceId,
    created_at: Timestamp,
    job_id: Uuid,
    workspace_transition: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    hide: bool,
    icon: &'static str,
    agents: Vec<Agent<'a>>,
    daily_cost: i32,
}

impl<'a> Resource<'a> {
    fn of(ids: &Ids, row: &'a rows::Workspace, agents: Vec<Agent<'a>>) -> Resource<'a> {
        Resource {
            id: row.id,
            created_at: row.created_at,
            job_id: ids.job(row.id),
            workspace_transition: "start",
            kind: "machine",
            name: &row.name,
            hide: false,
            icon: "",
            agents,
            daily_cost: 0,
        }
    }
}
