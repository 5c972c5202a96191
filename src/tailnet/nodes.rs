//! The node that each connected agent last announced, and the stream on which it did.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use super::seat::NodeInfo;
use crate::model::AgentId;
use crate::ops::mail::Address;

/// The coordination stream of an agent: the newest one that it opened counts.
#[derive(Clone)]
pub struct Peer {
    /// The connection that carries it.
    pub address: Address,
    /// Its mark on that connection.
    pub tag: u64,
}

impl Peer {
    fn is(&self, other: &Peer) -> bool {
        self.tag == other.tag && self.address.is(&other.address)
    }
}

#[derive(Default)]
struct Entry {
    peer: Option<Peer>,
    node: Option<NodeInfo>,
}

/// The table of nodes. Cloning gives another handle to the same table.
#[derive(Clone, Default)]
pub struct Nodes {
    entries: Arc<Mutex<HashMap<AgentId, Entry>>>,
}

impl Nodes {
    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node of `agent`, if it has announced one on an open stream.
    pub fn of(&self, agent: AgentId) -> Option<NodeInfo> {
        self.lock().get(&agent)?.node.clone()
    }

    /// A coordination stream begins, without a node; gives the older stream of the agent, which is
    /// overwritten by it and must end.
    pub fn join(&self, agent: AgentId, peer: Peer) -> Option<Peer> {
        self.lock().insert(agent, Entry { peer: Some(peer), node: None })?.peer
    }

    /// Whether `peer` is still the stream of `agent`.
    pub fn is_current(&self, agent: AgentId, peer: &Peer) -> bool {
        self.lock().get(&agent).and_then(|entry| entry.peer.as_ref()).is_some_and(|current| current.is(peer))
    }

    /// The agent announces a node; ignored when `peer` was overwritten meanwhile.
    pub fn announce(&self, agent: AgentId, peer: &Peer, node: NodeInfo) {
        if let Some(entry) = self.lock().get_mut(&agent)
            && entry.peer.as_ref().is_some_and(|current| current.is(peer))
        {
            entry.node = Some(node);
        }
    }

    /// A coordination stream ends. A newer one of the same agent stays.
    pub fn leave(&self, agent: AgentId, peer: &Peer) {
        let mut entries = self.lock();
        if entries.get(&agent).and_then(|entry| entry.peer.as_ref()).is_some_and(|current| current.is(peer)) {
            entries.remove(&agent);
        }
    }
}
