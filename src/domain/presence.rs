//! Which agents are connected at present, and what they repeated. Kept in memory: neither a heartbeat
//! nor an unchanged value is a write.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::model::{AgentId, Timestamp};
use crate::ops::lock::lock;

/// Live connections of agents. Cloning gives another handle to the same table.
#[derive(Clone, Default)]
pub struct Presence {
    agents: Arc<Mutex<HashMap<AgentId, Live>>>,
    /// Instants at which a metadata script gave the same again as is stored. Only declared keys are
    /// entered, so the table is bounded by the declarations: about 100 bytes per key.
    collected: Arc<Mutex<HashMap<AgentId, HashMap<String, Timestamp>>>>,
    stopping: Arc<AtomicBool>,
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
        lock(&self.agents).get(&agent).copied()
    }

    /// Agents that are connected.
    pub fn count(&self) -> usize {
        lock(&self.agents).len()
    }

    /// The server stops: connections that end from now on end with it, and their agents come back.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the server stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// A monitored connection begins; says whether it is the only one.
    pub fn joined(&self, agent: AgentId, at: Timestamp) -> bool {
        let mut agents = lock(&self.agents);
        let live = agents.entry(agent).or_insert(Live { connections: 0, last_seen: at });
        live.connections += 1;
        live.last_seen = live.last_seen.max(at);
        live.connections == 1
    }

    /// A sign of life.
    pub fn seen(&self, agent: AgentId, at: Timestamp) {
        if let Some(live) = lock(&self.agents).get_mut(&agent) {
            live.last_seen = live.last_seen.max(at);
        }
    }

    /// A monitored connection ends; gives the last sign of life when it was the last one.
    pub fn left(&self, agent: AgentId) -> Option<Timestamp> {
        let mut agents = lock(&self.agents);
        let live = agents.get_mut(&agent)?;
        live.connections = live.connections.saturating_sub(1);
        if live.connections > 0 {
            return None;
        }
        agents.remove(&agent).map(|live| live.last_seen)
    }

    /// A metadata script of `agent` gave the same again.
    pub fn collected(&self, agent: AgentId, key: &str, at: Timestamp) {
        let mut collected = lock(&self.collected);
        let keys = collected.entry(agent).or_default();
        match keys.get_mut(key) {
            Some(last) => *last = at.max(*last),
            None => {
                keys.insert(key.to_owned(), at);
            }
        }
    }

    /// When a metadata script of `agent` last gave the same again, if it did since it was written.
    pub fn last_collected(&self, agent: AgentId, key: &str) -> Option<Timestamp> {
        lock(&self.collected).get(&agent)?.get(key).copied()
    }

    /// Forgets the instants of an agent and gives them, to be written with the end of its connection.
    pub fn take_collected(&self, agent: AgentId) -> Vec<(String, Timestamp)> {
        lock(&self.collected).remove(&agent).map(|keys| keys.into_iter().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_connected_until_the_last_connection_leaves() {
        let (presence, agent) = (Presence::default(), AgentId::random());
        assert!(presence.joined(agent, Timestamp(1)));
        assert!(!presence.joined(agent, Timestamp(2)));
        presence.seen(agent, Timestamp(5));
        presence.seen(agent, Timestamp(3));
        assert_eq!(presence.left(agent), None);
        assert_eq!(presence.count(), 1);
        assert_eq!(presence.left(agent), Some(Timestamp(5)));
        assert_eq!(presence.left(agent), None);
        assert_eq!(presence.count(), 0);
    }

    #[test]
    fn keeps_the_newest_instant_of_a_repeated_value() {
        let (presence, agent) = (Presence::default(), AgentId::random());
        presence.collected(agent, "load", Timestamp(7));
        presence.collected(agent, "load", Timestamp(6));
        assert_eq!(presence.last_collected(agent, "load"), Some(Timestamp(7)));
        assert_eq!(presence.take_collected(agent), [("load".to_owned(), Timestamp(7))]);
        assert_eq!(presence.last_collected(agent, "load"), None);
    }
}
