//! What the coordinator keeps of one peer.

use std::sync::Arc;
use std::time::Instant;

use crate::tailnet::inbox::Inbox;
use crate::tailnet::seat::{Seat, Who};
use crate::wire::proto::tailnet::Node;

/// A peer that is connected or may come back.
pub(super) struct Peer {
    pub(super) who: Who,
    /// The stream, while there is one.
    pub(super) seat: Option<Open>,
    /// Since when there is none.
    pub(super) lost_at: Option<Instant>,
    /// When the tunnels of its earlier streams are given up.
    pub(super) regain_until: Option<Instant>,
    /// What it announced on this stream.
    pub(super) node: Option<Arc<Node>>,
    /// Whether it has announced anything on any stream, so that others may know it.
    pub(super) announced: bool,
}

/// An open stream.
pub(super) struct Open {
    pub(super) seat: Seat,
    pub(super) inbox: Inbox,
    /// The stream was told of its inbox and has not taken it since.
    pub(super) told: bool,
}
