//! Workspaces and agents as one sees them: rows from the store with everything that belongs to them,
//! and the present laid over them. However many there are, it is a handful of statements.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::Connection;

use super::search::Search;
use super::shown::agents::{AppStatus, Parts};
use super::shown::{agents as shown_agents, workspaces as shown_workspaces};
use super::synthetic::Ids;
use super::{App, Error, Fault, agents};
use crate::config::limits;
use crate::model::{AgentId, Timestamp, UserId, WorkspaceId};
use crate::store::agents::Agent;
use crate::store::logs::Source;
use crate::store::scripts::{NamedTiming, Script};
use crate::store::users::User;
use crate::store::workspaces::Workspace;
use crate::store::{self, apps, favorites, logs, scripts};

/// An agent with what belongs to it.
pub struct Furnished {
    /// Its row.
    pub agent: Agent,
    /// In the order of their display.
    pub apps: Vec<apps::App>,
    /// What its apps said, newest first.
    pub statuses: Vec<apps::Status>,
    /// Oldest first.
    pub sources: Vec<Source>,
    /// In the order of their declaration.
    pub scripts: Vec<Script>,
}

/// A workspace with its agents.
pub struct Machine {
    /// Its row.
    pub workspace: Workspace,
    /// Parents first, by name.
    pub agents: Vec<Furnished>,
    /// Whether the one who looks wants it first.
    pub favorite: bool,
}

/// Whether `viewer` may see and use what belongs to `owner`.
pub fn may_see(viewer: &User, owner: UserId) -> bool {
    viewer.is_admin || viewer.id == owner
}

/// The living workspace with this id, if `viewer` may see it.
pub fn find(conn: &Connection, viewer: &User, id: WorkspaceId) -> Result<Option<Workspace>, Error> {
    Ok(store::workspaces::by_id(conn, id)?.filter(|workspace| may_see(viewer, workspace.owner_id)))
}

/// A workspace as `viewer` sees it.
pub fn machine(conn: &Connection, viewer: &User, workspace: Workspace) -> Result<Machine, Error> {
    let favorite = favorites::has(conn, viewer.id, workspace.id)?;
    let agents = furnish_all(conn, store::agents::of_workspace(conn, workspace.id)?)?;
    Ok(Machine { workspace, agents, favorite })
}

/// What was found, and how many there are besides.
pub struct Found {
    /// The workspaces of the page.
    pub machines: Vec<Machine>,
    /// How many there are in all.
    pub count: usize,
}

/// The workspaces that `viewer` may see and that `search` finds: favourites first, then by owner and
/// name, as the real server sorts them; without the first `offset`, and at most `limit`.
pub fn search(
    conn: &Connection,
    look: &Look<'_>,
    viewer: &User,
    search: &Search,
    offset: usize,
    limit: Option<usize>,
) -> Result<Found, Error> {
    let none = || Ok(Found { machines: Vec::new(), count: 0 });
    let owner = match search.owner.as_deref() {
        None => (!viewer.is_admin).then_some(viewer.id),
        Some("me") => Some(viewer.id),
        Some(name) => match store::users::by_username(conn, name)? {
            Some(user) if may_see(viewer, user.id) => Some(user.id),
            _ => return none(),
        },
    };
    if !search.can_match(&look.ids) {
        return none();
    }
    let mut rows = store::workspaces::list(conn, owner)?;
    rows.retain(|row| search.takes(row));
    if search.asks_for_agents() {
        let ids: Vec<WorkspaceId> = rows.iter().map(|row| row.id).collect();
        let mut agents: HashMap<WorkspaceId, Vec<Agent>> = HashMap::new();
        for agent in store::agents::of_workspaces(conn, &ids)? {
            agents.entry(agent.workspace_id).or_default().push(agent);
        }
        rows.retain(|row| {
            let states: Vec<_> = agents.get(&row.id).into_iter().flatten().map(|agent| look.state(agent)).collect();
            search.takes_agents(&states)
        });
    }
    let favorites = favorites::of_user(conn, viewer.id)?;
    // The sort is stable: among equals the order of the store stays.
    rows.sort_by_key(|row| !favorites.contains(&row.id));
    let count = rows.len();
    let rows: Vec<Workspace> = rows.into_iter().skip(offset).take(limit.unwrap_or(usize::MAX)).collect();
    Ok(Found { machines: machines(conn, rows, &favorites)?, count })
}

fn machines(conn: &Connection, rows: Vec<Workspace>, favorites: &HashSet<WorkspaceId>) -> Result<Vec<Machine>, Error> {
    let ids: Vec<WorkspaceId> = rows.iter().map(|row| row.id).collect();
    let mut agents: HashMap<WorkspaceId, Vec<Furnished>> = HashMap::new();
    for furnished in furnish_all(conn, store::agents::of_workspaces(conn, &ids)?)? {
        agents.entry(furnished.agent.workspace_id).or_default().push(furnished);
    }
    let machine = |workspace: Workspace| Machine {
        agents: agents.remove(&workspace.id).unwrap_or_default(),
        favorite: favorites.contains(&workspace.id),
        workspace,
    };
    Ok(rows.into_iter().map(machine).collect())
}

/// An agent with what belongs to it.
pub fn furnish(conn: &Connection, agent: Agent) -> Result<Furnished, Error> {
    Ok(Belongings::of(conn, &[agent.id])?.give(agent))
}

fn furnish_all(conn: &Connection, agents: Vec<Agent>) -> Result<Vec<Furnished>, Error> {
    let ids: Vec<AgentId> = agents.iter().map(|agent| agent.id).collect();
    let mut belongings = Belongings::of(conn, &ids)?;
    Ok(agents.into_iter().map(|agent| belongings.give(agent)).collect())
}

/// What belongs to some agents.
struct Belongings {
    apps: HashMap<AgentId, Vec<apps::App>>,
    statuses: HashMap<AgentId, Vec<apps::Status>>,
    sources: HashMap<AgentId, Vec<Source>>,
    scripts: HashMap<AgentId, Vec<Script>>,
}

impl Belongings {
    fn of(conn: &Connection, agents: &[AgentId]) -> Result<Belongings, Error> {
        let apps = grouped(apps::of_agents(conn, agents)?);
        Ok(Belongings {
            statuses: if apps.is_empty() { HashMap::new() } else { grouped(apps::statuses(conn, agents)?) },
            apps,
            sources: grouped(logs::sources(conn, agents)?),
            scripts: grouped(scripts::of_agents(conn, agents)?),
        })
    }

    fn give(&mut self, agent: Agent) -> Furnished {
        Furnished {
            apps: self.apps.remove(&agent.id).unwrap_or_default(),
            statuses: self.statuses.remove(&agent.id).unwrap_or_default(),
            sources: self.sources.remove(&agent.id).unwrap_or_default(),
            scripts: self.scripts.remove(&agent.id).unwrap_or_default(),
            agent,
        }
    }
}

fn grouped<T>(rows: Vec<(AgentId, T)>) -> HashMap<AgentId, Vec<T>> {
    let mut groups: HashMap<AgentId, Vec<T>> = HashMap::new();
    for (agent, row) in rows {
        groups.entry(agent).or_default().push(row);
    }
    groups
}

/// The agents of a workspace and what their scripts did.
pub struct Runs {
    /// Parents first, by name.
    pub agents: Vec<Agent>,
    /// Newest first; of scripts that are still declared.
    pub scripts: Vec<NamedTiming>,
}

/// What the scripts of a workspace did.
pub fn runs(conn: &Connection, workspace: WorkspaceId) -> Result<Runs, Error> {
    let agents = store::agents::of_workspace(conn, workspace)?;
    let ids: Vec<AgentId> = agents.iter().map(|agent| agent.id).collect();
    let scripts = scripts::named_timings(conn, &ids, limits::SCRIPT_TIMINGS)?;
    Ok(Runs { agents, scripts })
}

/// The present, as it is laid over rows: what is connected, from where, and when one looks.
pub struct Look<'a> {
    app: &'a App,
    /// The ids of what nobody made.
    pub ids: Ids,
    regions: HashMap<i32, String>,
    now: Timestamp,
}

impl<'a> Look<'a> {
    /// Now.
    pub fn new(app: &'a App) -> Look<'a> {
        Look { app, ids: app.ids(), regions: app.derp_map.now().region_names(), now: Timestamp::now() }
    }

    /// Whether an agent is connected and well.
    pub fn state(&self, agent: &Agent) -> (agents::Status, agents::Health) {
        let status = self.connection(agent).status;
        (status, agents::health(status, agent.lifecycle_state))
    }

    fn connection(&self, agent: &Agent) -> agents::Connection {
        agents::connection(agent, self.app.presence.of(agent.id), self.app.started_at, self.now)
    }

    /// An agent of the workspace `workspace` of `owner`.
    pub fn agent<'f>(
        &'f self,
        furnished: &'f Furnished,
        workspace_name: &'f str,
        owner_name: &'f str,
    ) -> shown_agents::Agent<'f> {
        let agent = &furnished.agent;
        let connection = self.connection(agent);
        shown_agents::Agent::of(Parts {
            agent,
            workspace_name,
            owner_name,
            connection,
            health: agents::health(connection.status, agent.lifecycle_state),
            latency: match self.app.tailnet.node_of(agent.id) {
                Some(node) => agents::latency(&node, &self.regions),
                None => BTreeMap::new(),
            },
            apps: &furnished.apps,
            statuses: &furnished.statuses,
            sources: &furnished.sources,
            scripts: &furnished.scripts,
            startup_script_behavior: agents::startup_script_behavior(&furnished.scripts),
            troubleshooting_url: &self.app.settings.troubleshooting_url,
        })
    }

    /// A workspace.
    pub fn workspace<'f>(&'f self, machine: &'f Machine) -> shown_workspaces::Workspace<'f> {
        let row = &machine.workspace;
        let agents = machine.agents.iter().map(|agent| self.agent(agent, &row.name, &row.owner_name)).collect();
        let said = machine
            .agents
            .iter()
            .filter_map(|furnished| Some((furnished.statuses.first()?, &furnished.agent)))
            .max_by_key(|(status, _)| status.created_at)
            .map(|(status, agent)| AppStatus::of(status, agent));
        shown_workspaces::Workspace::of(&self.ids, row, agents, said, machine.favorite)
    }
}

/// One workspace as JSON, as `viewer` sees it; `None`: it does not exist, or not for `viewer`.
pub fn one(app: &App, conn: &Connection, viewer: UserId, id: WorkspaceId) -> Result<Option<Vec<u8>>, Error> {
    let Some(viewer) = store::users::by_id(conn, viewer)? else { return Ok(None) };
    let Some(workspace) = find(conn, &viewer, id)? else { return Ok(None) };
    let machine = machine(conn, &viewer, workspace)?;
    let json = serde_json::to_vec(&Look::new(app).workspace(&machine));
    json.map(Some).map_err(|error| {
        Error::new(Fault::Internal, "The workspace cannot be written as JSON.").detail(error.to_string())
    })
}
