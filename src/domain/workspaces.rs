//! Workspaces and their agents: how they are added, shown, removed, and given new tokens.

use rusqlite::Connection;
use serde_json::{Value, json};
use uuid::Uuid;

use super::declare::{self, DeclaredAgent};
use super::users::{find, note};
use super::{Error, Fault, clones, instance, names, tokens};
use crate::model::{AgentId, Timestamp, WorkspaceId};
use crate::ops::hub::Topic;
use crate::store::agents::Agent;
use crate::store::audit::By;
use crate::store::workspaces::Workspace;
use crate::store::{self, Store, Write};

/// An agent with its token in the clear; shown once.
pub struct Issued {
    /// The agent's id.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// What the machine sends.
    pub token: Uuid,
}

/// Adds a workspace with one agent.
pub fn add(
    store: &Store,
    by: &By,
    owner: &str,
    name: &str,
    agent: &DeclaredAgent,
) -> Result<(WorkspaceId, Issued), Error> {
    let mut error = Error::new(Fault::Invalid, format!("Workspace {owner}/{name} was not added."));
    if let Err(why) = names::check(name) {
        error = error.field("name", why);
    }
    for (field, why) in declare::check_agent(agent) {
        error = error.field(field, why);
    }
    if !error.fields.is_empty() {
        return Err(error);
    }
    let (handle, by, agent) = (store.clone(), by.clone(), agent.clone());
    let (owner, name) = (owner.to_owned(), name.to_owned());
    store.write(move |write| {
        let now = Timestamp::now();
        let owner = find(write, &owner)?;
        if let Some(other) = store::workspaces::by_name(write, owner.id, &name)? {
            return Err(Error::new(
                Fault::Conflict,
                format!("There is a workspace {}/{} already.", owner.username, other.name),
            ));
        }
        let workspace = Workspace {
            id: WorkspaceId::random(),
            owner_id: owner.id,
            owner_name: owner.username,
            name,
            created_at: now,
            updated_at: now,
            last_used_at: now,
        };
        insert_in(write, &by, &workspace, now)?;
        let issued = insert_agent_in(write, &handle, &workspace, &agent, now)?;
        Ok((workspace.id, issued))
    })
}

/// Adds the row of a workspace, inside a write.
pub(super) fn insert_in(
    write: &Write<'_>,
    by: impl Into<By>,
    workspace: &Workspace,
    now: Timestamp,
) -> Result<(), Error> {
    store::workspaces::insert(write, workspace)?;
    write.publish(Topic::Workspace(workspace.id));
    write.publish(Topic::WorkspacesOf(workspace.owner_id));
    note(write, now, by, "workspace.create", &title(workspace), "")
}

/// Adds an agent with everything that was declared for it, inside a write.
pub(super) fn insert_agent_in(
    write: &Write<'_>,
    store: &Store,
    workspace: &Workspace,
    declared: &DeclaredAgent,
    now: Timestamp,
) -> Result<Issued, Error> {
    let id = AgentId::random();
    let token = tokens::mint_agent_token(store.sealer(), id)?;
    let mut agent = Agent::blank(id, workspace.id, declared.name.clone(), (token.hash, token.sealed), now);
    declare::fill(&mut agent, declared);
    store::agents::insert(write, &agent)?;
    let none = declare::Parts::default();
    none.changed(declared, now).write(write, id, &none, now)?;
    Ok(Issued { id, name: agent.name, token: token.token })
}

/// Removes a workspace with its agents; their connections end.
pub fn remove(store: &Store, by: &By, full_name: &FullName) -> Result<Workspace, Error> {
    let (full_name, by) = (full_name.clone(), by.clone());
    store.write(move |write| {
        let workspace = locate(write, &full_name)?;
        remove_in(write, &by, &workspace, Timestamp::now())?;
        Ok(workspace)
    })
}

/// Removes a workspace with its agents, inside a write.
pub(super) fn remove_in(
    write: &Write<'_>,
    by: impl Into<By>,
    workspace: &Workspace,
    now: Timestamp,
) -> Result<(), Error> {
    for agent in store::agents::of_workspace(write, workspace.id)? {
        write.publish(Topic::AgentRevoked(agent.id));
        write.publish(Topic::Agent(agent.id));
    }
    store::workspaces::remove(write, workspace.id, now)?;
    write.publish(Topic::Workspace(workspace.id));
    write.publish(Topic::WorkspacesOf(workspace.owner_id));
    note(write, now, by, "workspace.remove", &title(workspace), "")
}

/// Replaces the token of one agent or of all agents of a workspace; the old ones are refused from
/// the commit on. Sub-agents get new tokens with their parent: whoever had the parent's token could
/// ask for theirs. Only declared agents are given back.
pub fn rotate_tokens(store: &Store, by: &By, full_name: &FullName) -> Result<(WorkspaceId, Vec<Issued>), Error> {
    let (handle, full_name, by) = (store.clone(), full_name.clone(), by.clone());
    store.write(move |write| {
        let now = Timestamp::now();
        let workspace = locate(write, &full_name)?;
        let agents = store::agents::of_workspace(write, workspace.id)?;
        let chosen: Vec<&Agent> = match &full_name.agent {
            None => agents.iter().filter(|agent| agent.parent_id.is_none()).collect(),
            Some(name) => agents.iter().filter(|agent| agent.name.eq_ignore_ascii_case(name)).collect(),
        };
        if chosen.is_empty() {
            let has: Vec<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
            let has = if has.is_empty() { "It has none.".into() } else { format!("It has: {}.", has.join(", ")) };
            let asked = full_name.agent.as_deref().unwrap_or("main");
            return Err(
                Error::new(Fault::NotFound, format!("{} has no agent `{asked}`.", title(&workspace))).detail(has)
            );
        }
        let mut issued = Vec::with_capacity(chosen.len());
        for agent in chosen {
            let token = renew(write, &handle, agent, now)?;
            // Whoever it was has to prove itself anew.
            store::clones::remove(write, agent.id)?;
            for child in agents.iter().filter(|child| child.parent_id == Some(agent.id)) {
                renew(write, &handle, child, now)?;
            }
            let target = format!("{}.{}", title(&workspace), agent.name);
            note(write, now, &by, "agent.rotate_token", &target, "")?;
            issued.push(Issued { id: agent.id, name: agent.name.clone(), token });
        }
        write.publish(Topic::Workspace(workspace.id));
        Ok((workspace.id, issued))
    })
}

fn renew(write: &Write<'_>, store: &Store, agent: &Agent, now: Timestamp) -> Result<Uuid, Error> {
    let token = tokens::mint_agent_token(store.sealer(), agent.id)?;
    store::agents::set_token(write, agent.id, &token.hash, &token.sealed, now)?;
    write.publish(Topic::AgentRevoked(agent.id));
    Ok(token.token)
}

/// `OWNER/NAME` or `OWNER/NAME.AGENT`, as clients write it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct FullName {
    /// The person's name.
    pub owner: String,
    /// The workspace's name.
    pub workspace: String,
    /// The agent's name, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

impl std::str::FromStr for FullName {
    type Err = String;

    fn from_str(text: &str) -> Result<FullName, String> {
        let (owner, rest) = text.split_once('/').ok_or_else(|| format!("`{text}` is not of the form OWNER/NAME"))?;
        let (workspace, agent) = match rest.split_once('.') {
            None => (rest, None),
            Some((workspace, agent)) => (workspace, Some(agent)),
        };
        for part in [Some(owner), Some(workspace), agent].into_iter().flatten() {
            names::check(part)?;
        }
        Ok(FullName { owner: owner.into(), workspace: workspace.into(), agent: agent.map(str::to_owned) })
    }
}

impl std::fmt::Display for FullName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.workspace)?;
        self.agent.as_ref().map_or(Ok(()), |agent| write!(f, ".{agent}"))
    }
}

/// The living workspace of that name.
pub(super) fn locate(conn: &Connection, full_name: &FullName) -> Result<Workspace, Error> {
    let owner = find(conn, &full_name.owner)?;
    store::workspaces::by_name(conn, owner.id, &full_name.workspace)?.ok_or_else(|| {
        Error::new(Fault::NotFound, format!("User `{}` has no workspace `{}`.", owner.username, full_name.workspace))
    })
}

pub(super) fn title(workspace: &Workspace) -> String {
    format!("{}/{}", workspace.owner_name, workspace.name)
}

/// How `workspace list` shows a workspace.
pub(super) fn view(conn: &Connection, workspace: &Workspace) -> Result<Value, Error> {
    let agents: Vec<Value> = store::agents::of_workspace(conn, workspace.id)?
        .iter()
        .map(|agent| {
            Ok(json!({
                "id": agent.id, "name": agent.name, "operating_system": agent.operating_system,
                "architecture": agent.architecture, "lifecycle_state": agent.lifecycle_state,
                "first_connected_at": agent.first_connected_at, "last_connected_at": agent.last_connected_at,
                "disconnected_at": agent.disconnected_at, "clones": clones::view(conn, agent.id)?,
            }))
        })
        .collect::<Result<_, Error>>()?;
    Ok(json!({
        "id": workspace.id, "owner": workspace.owner_name, "name": workspace.name,
        "created_at": workspace.created_at, "updated_at": workspace.updated_at,
        "last_used_at": workspace.last_used_at, "agents": agents,
    }))
}

/// How `workspace show` shows a workspace: with all that was declared and reported, without tokens.
pub(super) fn full_view(conn: &Connection, workspace: &Workspace) -> Result<Value, Error> {
    let mut view = view(conn, workspace)?;
    let agents = store::agents::of_workspace(conn, workspace.id)?
        .iter()
        .map(|agent| full_agent_view(conn, agent))
        .collect::<Result<Vec<Value>, Error>>()?;
    if let Some(object) = view.as_object_mut() {
        object.insert("agents".into(), Value::Array(agents));
    }
    Ok(view)
}

fn full_agent_view(conn: &Connection, agent: &Agent) -> Result<Value, Error> {
    let scripts: Vec<Value> = store::scripts::of_agent(conn, agent.id)?
        .iter()
        .map(|script| {
            json!({
                "id": script.id, "display_name": script.display_name, "cron": script.cron,
                "run_on_start": script.run_on_start, "run_on_stop": script.run_on_stop,
                "start_blocks_login": script.start_blocks_login, "timeout_seconds": script.timeout_seconds,
            })
        })
        .collect();
    let metadata: Vec<Value> = store::metadata::of_agent(conn, agent.id)?
        .iter()
        .map(|one| {
            json!({
                "key": one.key, "display_name": one.display_name, "interval": one.interval_seconds,
                "value": one.value, "error": one.error, "collected_at": one.collected_at,
            })
        })
        .collect();
    let apps: Vec<Value> = store::apps::of_agent(conn, agent.id)?
        .iter()
        .map(|app| json!({"id": app.id, "slug": app.slug, "display_name": app.display_name, "health": app.health}))
        .collect();
    Ok(json!({
        "id": agent.id, "name": agent.name, "parent_id": agent.parent_id,
        "operating_system": agent.operating_system, "architecture": agent.architecture,
        "directory": agent.directory, "environment": agent.environment, "motd_file": agent.motd_file,
        "troubleshooting_url": agent.troubleshooting_url,
        "connection_timeout_seconds": agent.connection_timeout_seconds, "display_apps": agent.display_apps,
        "instance": instance::view(conn, agent)?, "clones": clones::view(conn, agent.id)?, "version": agent.version, "lifecycle_state": agent.lifecycle_state,
        "started_at": agent.started_at, "ready_at": agent.ready_at,
        "first_connected_at": agent.first_connected_at, "last_connected_at": agent.last_connected_at,
        "disconnected_at": agent.disconnected_at, "logs_length": agent.logs_length,
        "logs_overflowed": agent.logs_overflowed, "scripts": scripts, "metadata": metadata, "apps": apps,
    }))
}
