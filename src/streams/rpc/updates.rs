//! WorkspaceUpdates: a person's workspaces and agents, first all of them, then what has changed. Coder
//! Desktop shows them. The end of the stream would end the client's session (tailnet/controllers.go,
//! v2.24.0), so whoever may see nothing gets an empty picture and the stream stays open.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost::Message;
use rusqlite::Connection;

use super::super::errand;
use super::call::{Call, State};
use super::calls::Calls;
use crate::domain::Error;
use crate::model::{AgentId, UserId, WorkspaceId};
use crate::ops::hub::{Subscription, Topic};
use crate::ops::mail::Outcome;
use crate::store::{agents, workspaces};
use crate::wire::proto::tailnet::workspace::Status;
use crate::wire::proto::tailnet::{Agent, Workspace, WorkspaceUpdate, WorkspaceUpdatesRequest};

/// Two reads are at least this far apart: what changes meanwhile comes with the next one.
const AT_MOST_EVERY: Duration = Duration::from_millis(250);
/// Streams of one connection; clients open one. Each keeps what it has told: 100 bytes per workspace.
const STREAMS: usize = 4;

/// One stream of updates.
pub(super) struct Updates {
    owner: UserId,
    changes: Subscription,
    /// What the client knows; `None` before the first picture.
    known: Option<Picture>,
    /// The mark of the read in the pool.
    reading: Option<u64>,
    /// A read is wanted, not before this instant.
    read_at: Option<Instant>,
    read_last: Option<Instant>,
}

/// A person's workspaces.
type Picture = BTreeMap<WorkspaceId, Shown>;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Shown {
    name: String,
    agents: BTreeMap<AgentId, String>,
}

impl Calls {
    pub(super) fn watch_workspaces(&mut self, now: Instant, id: u32, body: &[u8]) {
        let streams = self.table.values().filter(|call| matches!(call.state, State::Updates(_))).count();
        let (watches, app) = (self.side.watches(), self.side.app().clone());
        let (Some(address), Some(call)) = (self.address.clone(), self.table.get_mut(&id)) else { return };
        let owner = WorkspaceUpdatesRequest::decode(body)
            .ok()
            .and_then(|request| UserId::from_slice(&request.workspace_owner_id));
        let bytes = match (watches, owner) {
            (None, _) => {
                let bytes = call.message(&WorkspaceUpdate::default().encode_to_vec());
                call.state = State::NoUpdates;
                bytes
            }
            (Some(_), None) => call.fail(0, "parse workspace owner ID: A user's id has 16 bytes."),
            (Some(user), Some(owner)) if user != owner => {
                call.fail(0, "subscribe to workspace updates: You may watch your own workspaces only.")
            }
            (Some(_), Some(_)) if streams >= STREAMS => {
                call.fail(0, "subscribe to workspace updates: This connection watches them often enough.")
            }
            (Some(_), Some(owner)) => {
                let changes = app.hub.subscribe(Topic::WorkspacesOf(owner), address);
                let updates =
                    Updates { owner, changes, known: None, reading: None, read_at: Some(now), read_last: None };
                call.state = State::Updates(Box::new(updates));
                Vec::new()
            }
        };
        self.mux.send(id, &bytes);
        self.start_reads(now);
    }

    /// Something has changed for the person.
    pub(super) fn workspaces_changed(&mut self, now: Instant) {
        for updates in self.table.values_mut().filter_map(updates) {
            updates.changes.acknowledge();
            let due = updates.read_last.map_or(now, |last| last + AT_MOST_EVERY).max(now);
            updates.read_at = Some(updates.read_at.map_or(due, |at| at.min(due)));
        }
    }

    /// Gives reads that are due to the pool. A client that has no room for more gets them later.
    pub(super) fn start_reads(&mut self, now: Instant) {
        let Some(address) = self.address.clone() else { return };
        let app = self.side.app().clone();
        for id in self.readable() {
            let tag = self.serial();
            let Some(updates) = self.table.get_mut(&id).and_then(updates) else { continue };
            if updates.read_at.is_none_or(|at| at > now) {
                continue;
            }
            let (job_app, owner) = (app.clone(), updates.owner);
            let work = move || job_app.store.read(|conn| picture(conn, owner));
            match errand::submit(&app.jobs, &address, tag, work) {
                Ok(()) => (updates.reading, updates.read_at, updates.read_last) = (Some(tag), None, Some(now)),
                Err(_) => updates.read_at = Some(now + errand::QUEUE_PAUSE),
            }
        }
    }

    pub(super) fn reads_deadline(&self) -> Option<Instant> {
        let wanted = |id| match self.table.get(&id) {
            Some(Call { state: State::Updates(updates), .. }) => updates.read_at,
            _ => None,
        };
        self.readable().into_iter().filter_map(wanted).min()
    }

    /// What was read; ignored if it is for nobody any more.
    pub(super) fn workspaces_read(&mut self, now: Instant, tag: u64, outcome: Outcome) {
        let mut calls = self.table.iter_mut();
        let Some((id, call)) = calls.find(|(_, call)| match &call.state {
            State::Updates(updates) => updates.reading == Some(tag),
            _ => false,
        }) else {
            return;
        };
        let Some(updates) = updates(call) else { return };
        updates.reading = None;
        let bytes = match outcome {
            Outcome::Value(value) => match value.downcast::<Picture>() {
                Ok(present) => {
                    let update = match &updates.known {
                        None => Some(difference(&Picture::new(), &present)),
                        Some(known) if *known != *present => Some(difference(known, &present)),
                        Some(_) => None,
                    };
                    updates.known = Some(*present);
                    update.map(|update| call.message(&update.encode_to_vec())).unwrap_or_default()
                }
                Err(_) => return,
            },
            Outcome::Busy(pause) => {
                updates.read_at = Some(now + pause);
                return;
            }
            Outcome::Bytes(_) | Outcome::Failed { .. } => {
                call.fail(0, "The server could not read your workspaces; its log says why.")
            }
        };
        self.mux.send(*id, &bytes);
    }

    /// Streams of updates that read nothing at present and have room for more.
    fn readable(&self) -> Vec<u32> {
        let free = |id: &u32, call: &Call| match &call.state {
            State::Updates(updates) => updates.reading.is_none() && !self.held && self.mux.queued(*id) == 0,
            _ => false,
        };
        self.table.iter().filter(|(id, call)| free(id, call)).map(|(id, _)| *id).collect()
    }
}

fn updates(call: &mut Call) -> Option<&mut Updates> {
    match &mut call.state {
        State::Updates(updates) => Some(updates),
        _ => None,
    }
}

fn picture(conn: &Connection, owner: UserId) -> Result<Picture, Error> {
    let mut picture = Picture::new();
    for workspace in workspaces::list(conn, Some(owner))? {
        let agents = agents::of_workspace(conn, workspace.id)?.into_iter().map(|agent| (agent.id, agent.name));
        picture.insert(workspace.id, Shown { name: workspace.name, agents: agents.collect() });
    }
    Ok(picture)
}

/// What turns one picture into the other. A declared workspace is always running.
fn difference(old: &Picture, new: &Picture) -> WorkspaceUpdate {
    let mut update = WorkspaceUpdate::default();
    let nobody = BTreeMap::new();
    for (id, shown) in new {
        let before = old.get(id);
        if before.is_none_or(|before| before.name != shown.name) {
            update.upserted_workspaces.push(workspace(*id, shown));
        }
        let agents_before = before.map_or(&nobody, |before| &before.agents);
        for (agent_id, name) in &shown.agents {
            if agents_before.get(agent_id) != Some(name) {
                update.upserted_agents.push(agent(*id, *agent_id, name));
            }
        }
        for (agent_id, name) in agents_before {
            if !shown.agents.contains_key(agent_id) {
                update.deleted_agents.push(agent(*id, *agent_id, name));
            }
        }
    }
    for (id, gone) in old.iter().filter(|(id, _)| !new.contains_key(id)) {
        update.deleted_workspaces.push(workspace(*id, gone));
        update.deleted_agents.extend(gone.agents.iter().map(|(agent_id, name)| agent(*id, *agent_id, name)));
    }
    update
}

fn workspace(id: WorkspaceId, shown: &Shown) -> Workspace {
    Workspace { id: id.as_bytes().to_vec(), name: shown.name.clone(), status: Status::Running.into() }
}

fn agent(workspace: WorkspaceId, id: AgentId, name: &str) -> Agent {
    Agent { id: id.as_bytes().to_vec(), name: name.to_owned(), workspace_id: workspace.as_bytes().to_vec() }
}
