//! The words of the coordinator: peers, their streams, and what is told about them.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::model::AgentId;

/// What a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// An agent; its peer id is its own.
    Agent(AgentId),
    /// A client; the server chose its peer id.
    Client,
}

/// One coordination stream of one peer. A peer that opens another one gets another seat, and only its
/// newest counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seat {
    pub(super) peer: Uuid,
    /// Never used twice.
    pub(super) serial: u64,
}

impl Seat {
    /// Whose stream it is.
    pub fn peer(&self) -> Uuid {
        self.peer
    }
}

/// What others need of an agent's node at present.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NodeInfo {
    /// Region it prefers.
    pub preferred_derp: i32,
    /// `<region>-v4` or `<region>-v6` → seconds.
    pub derp_latency: BTreeMap<String, f64>,
}

/// How many there are at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Agents with a coordination stream.
    pub agents: usize,
    /// Clients with a coordination stream.
    pub clients: usize,
    /// Peers of either kind that are gone without a goodbye and may come back.
    pub lost: usize,
    /// Tunnels, each from a client to an agent.
    pub tunnels: usize,
}
