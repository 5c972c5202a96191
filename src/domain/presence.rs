//! Which agents are connected at present. Kept in memory: a heartbeat is not a write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{AgentId, Timestamp};

/// Live connections of agents. Cloning gives another handle to the same table.
#[derive(Clone, Default)]
pub struct Presence {
    agents: Arc<Mutex<HashMap<AgentId, Live>>>,
}

/// What is known of a connected agent.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    /// Monitored connections that are open.
    pub connections: u32,
    /// Last sign of life on any of them.
    pub last_seen: Timestamp,
}

impl Presence {
    /// What is known of `agent`, if it is connected.
    pub fn of(&self, agent: AgentId) -> Option<Live> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner).get(&agent).copied()
    }

    /// Agents that are connected.
    pub fn count(&self) -> usize {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A monitored connection begins.
    pub fn joined(&self, agent: AgentId, at: Timestamp) {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let live = agents.entry(agent).or_insert(Live { connections: 0, last_seen: at });
        live.connections += 1;
        live.last_seen = live.last_seen.max(at);
    }

    /// A sign of life.
    pub fn seen(&self, agent: AgentId, at: Timestamp) {
        if let Some(live) = self.agents.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&agent) {
            live.last_seen = live.last_seen.max(at);
        }
    }

    /// A monitored connection ends; gives the last sign of life when it was the last one.
    pub fn left(&self, agent: AgentId) -> Option<Timestamp> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let live = agents.get_mut(&agent)?;
        live.connections = live.connections.saturating_sub(1);
        if live.connections > 0 {
            return None;
        }
        agents.remove(&agent).map(|live| live.last_seen)
    }
}
