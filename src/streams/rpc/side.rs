//! Who is at the other end of a connection: an agent or a person's client.

use std::time::Instant;

use uuid::Uuid;

use super::agent::AgentSide;
use super::client::ClientSide;
use super::coordination::Rule;
use crate::config::limits::{AGENT_HELD_BYTES, AGENT_MESSAGE_BYTES, CLIENT_HELD_BYTES};
use crate::domain::connection_log::Journal;
use crate::domain::{Error, Shared};
use crate::model::UserId;
use crate::ops::mail::{Address, Mail};
use crate::tailnet::Who;

/// One of the two.
pub(super) enum Side {
    /// Agent service and tailnet service.
    Agent(AgentSide),
    /// Tailnet service only.
    Client(Box<ClientSide>),
}

/// What came of a letter.
pub(super) enum Heard {
    /// It was not about the right to be here.
    Other(Mail),
    /// All is well.
    Nothing,
    /// That right was withdrawn: what the peer is told.
    Withdrawn(&'static str),
}

impl Side {
    pub(super) fn app(&self) -> &Shared {
        match self {
            Side::Agent(agent) => &agent.session().app,
            Side::Client(client) => client.app(),
        }
    }

    pub(super) fn open(&mut self, now: Instant, address: &Address) {
        match self {
            Side::Agent(agent) => agent.open(address),
            Side::Client(client) => client.open(now, address),
        }
    }

    pub(super) fn mail(&mut self, now: Instant, mail: Mail) -> Heard {
        match self {
            Side::Agent(agent) => agent.mail(mail),
            Side::Client(client) => client.mail(now, mail),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Side::Agent(_) => None,
            Side::Client(client) => client.deadline(),
        }
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if let Side::Client(client) = self {
            client.tick(now);
        }
    }

    /// A sign of life.
    pub(super) fn seen(&self) {
        if let Side::Agent(agent) = self {
            agent.seen();
        }
    }

    /// Once in each period of pings.
    pub(super) fn mend(&self, address: &Address) {
        if let Side::Agent(agent) = self {
            agent.mend(address);
        }
    }

    /// Clients are pinged on the WebSocket, too; agents are not (coderd/workspaceagentsrpc.go, v2.24.0).
    pub(super) fn wants_websocket_pings(&self) -> bool {
        matches!(self, Side::Client(_))
    }

    /// Answers calls that need no store. `None`: the call is for the pool.
    pub(super) fn at_once(&self, method: &str, body: &[u8]) -> Option<Result<Vec<u8>, Error>> {
        match self {
            Side::Agent(agent) => agent.at_once(method, body),
            Side::Client(client) => Some(client.answer(method)),
        }
    }

    /// Bytes of requests that it may have here, and of one message.
    pub(super) fn may_hold(&self) -> (usize, usize) {
        match self {
            Side::Agent(_) => (AGENT_HELD_BYTES, AGENT_MESSAGE_BYTES),
            Side::Client(_) => (CLIENT_HELD_BYTES, CLIENT_HELD_BYTES),
        }
    }

    /// What it is in the tailnet.
    pub(super) fn peer(&self) -> (Uuid, Who) {
        match self {
            Side::Agent(agent) => (agent.session().agent.0, Who::Agent(agent.session().agent)),
            Side::Client(client) => (client.peer(), Who::Client),
        }
    }

    /// What it may ask of the coordinator.
    pub(super) fn rule(&self) -> Rule {
        match self {
            Side::Agent(agent) => agent.rule(),
            Side::Client(client) => client.rule(),
        }
    }

    /// Where its tunnels are written down.
    pub(super) fn journal(&self) -> Option<Journal> {
        match self {
            Side::Agent(_) => None,
            Side::Client(client) => Some(client.journal()),
        }
    }

    /// Whose workspaces it may watch.
    pub(super) fn watches(&self) -> Option<UserId> {
        match self {
            Side::Agent(_) => None,
            Side::Client(client) => client.watches(),
        }
    }

    pub(super) fn closed(&mut self, reason: &'static str) {
        match self {
            Side::Agent(agent) => agent.closed(reason),
            Side::Client(client) => client.closed(),
        }
    }
}
