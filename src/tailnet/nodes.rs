//! The node that each connected agent last announced.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::AgentId;

/// What others need of an agent's node at present.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// Region it prefers.
    pub preferred_derp: i32,
    /// `<region>-v4` or `<region>-v6` → seconds.
    pub derp_latency: BTreeMap<String, f64>,
}

/// The table of nodes. Cloning gives another handle to the same table.
#[derive(Clone, Default)]
pub struct Nodes {
    nodes: Arc<Mutex<HashMap<AgentId, NodeInfo>>>,
}

impl Nodes {
    /// The node of `agent`, if it has announced one on an open connection.
    pub fn of(&self, agent: AgentId) -> Option<NodeInfo> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).get(&agent).cloned()
    }

    /// Replaces an agent's node.
    pub fn set(&self, agent: AgentId, node: NodeInfo) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).insert(agent, node);
    }

    /// Forgets an agent's node.
    pub fn forget(&self, agent: AgentId) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(&agent);
    }
}
