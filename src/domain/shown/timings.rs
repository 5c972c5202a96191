//! How long things took (coder v2.24.0 codersdk/workspacebuilds.go).

use serde::Serialize;

use crate::domain::inventory::Runs;
use crate::model::{AgentId, Timestamp};
use crate::store::agents::Agent;
use crate::store::scripts::{NamedTiming, Stage, TimingStatus};

/// What is known of a workspace's start; nothing was provisioned.
#[derive(Serialize)]
pub struct Timings<'a> {
    provisioner_timings: [(); 0],
    agent_script_timings: Vec<ScriptTiming<'a>>,
    agent_connection_timings: Vec<ConnectionTiming<'a>>,
}

#[derive(Serialize)]
struct ScriptTiming<'a> {
    started_at: Timestamp,
    ended_at: Timestamp,
    exit_code: i32,
    stage: Stage,
    status: TimingStatus,
    display_name: &'a str,
    workspace_agent_id: AgentId,
    workspace_agent_name: &'a str,
}

#[derive(Serialize)]
struct ConnectionTiming<'a> {
    started_at: Timestamp,
    ended_at: Timestamp,
    stage: &'static str,
    workspace_agent_id: AgentId,
    workspace_agent_name: &'a str,
}

impl<'a> Timings<'a> {
    /// From the agents of a workspace and what their scripts did.
    pub fn of(runs: &'a Runs) -> Timings<'a> {
        let script = |run: &'a NamedTiming| {
            let agent = runs.agents.iter().find(|agent| agent.id == run.agent_id)?;
            Some(ScriptTiming {
                started_at: run.timing.started_at,
                ended_at: run.timing.ended_at,
                exit_code: run.timing.exit_code,
                stage: run.timing.stage,
                status: run.timing.status,
                display_name: &run.display_name,
                workspace_agent_id: agent.id,
                workspace_agent_name: &agent.name,
            })
        };
        let connection = |agent: &'a Agent| {
            Some(ConnectionTiming {
                started_at: agent.created_at,
                ended_at: agent.first_connected_at?,
                stage: "connect",
                workspace_agent_id: agent.id,
                workspace_agent_name: &agent.name,
            })
        };
        Timings {
            provisioner_timings: [],
            agent_script_timings: runs.scripts.iter().filter_map(script).collect(),
            agent_connection_timings: runs.agents.iter().filter_map(connection).collect(),
        }
    }
}
