//! The agent's side: its token, its presence, its own service.

use std::sync::Arc;

use super::coordination::Rule;
use super::monitor::Monitor;
use super::side::Heard;
use crate::agentapi::{self, Session};
use crate::domain::{Error, Shared};
use crate::ops::hub::{Subscription, Topic};
use crate::ops::mail::{Address, Mail};
use crate::store::agents::Agent;

/// What the agent is told when its token is no longer good.
pub(in crate::streams) const WITHDRAWN: &str = "the agent's token was withdrawn";

/// An agent at the other end.
pub(super) struct AgentSide {
    session: Arc<Session>,
    monitor: Monitor,
    revoked: Option<Subscription>,
}

impl AgentSide {
    pub(super) fn new(app: Shared, agent: Agent, api_version: String, monitored: bool, peer: String) -> AgentSide {
        let session = Arc::new(Session {
            app,
            agent: agent.id,
            workspace: agent.workspace_id,
            parent: agent.parent_id,
            name: agent.name,
            api_version,
            peer,
        });
        let monitor = Monitor::new(Arc::clone(&session), agent.token_hash, monitored);
        AgentSide { session, monitor, revoked: None }
    }

    pub(super) fn rule(&self) -> Rule {
        Rule::Agent(self.session.agent, self.monitor.token_hash().to_vec())
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(super) fn open(&mut self, address: &Address) {
        let app = &self.session.app;
        app.metrics.agent_connections.inc();
        self.revoked = Some(app.hub.subscribe(Topic::AgentRevoked(self.session.agent), address.clone()));
        self.monitor.begin(address);
    }

    pub(super) fn mail(&self, mail: Mail) -> Heard {
        match mail {
            Mail::Changed(Topic::AgentRevoked(_)) => Heard::Withdrawn(WITHDRAWN),
            other => Heard::Other(other),
        }
    }

    pub(super) fn seen(&self) {
        self.monitor.seen();
    }

    pub(super) fn mend(&self, address: &Address) {
        self.monitor.mend(address);
    }

    pub(super) fn at_once(&self, method: &str, body: &[u8]) -> Option<Result<Vec<u8>, Error>> {
        agentapi::at_once(&self.session, method, body)
    }

    pub(super) fn closed(&mut self, reason: &'static str) {
        self.revoked = None;
        self.session.app.metrics.agent_connections.dec();
        self.monitor.end(reason);
    }
}
