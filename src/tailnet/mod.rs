//! Who may see whom: the coordinator, the node keys it knows, the relay and the relay map.
//!
//! [`Tailnet`] is the handle that streams use. Behind its one lock is [`coordinator::Coordinator`], a
//! state machine without I/O: peers and their last nodes, the tunnels between them, and one bounded
//! inbox per stream. [`admission`] says beforehand what a peer may ask at all; [`resume`] makes and
//! checks the tokens by which a client keeps its peer id over a reconnect.

mod addresses;
pub mod admission;
pub mod coordinator;
pub mod derp;
pub mod derp_map;
mod handle;
mod inbox;
pub mod keys;
mod message;
pub mod peer;
pub mod resume;
mod seat;
mod tunnels;

pub use handle::Tailnet;
pub use seat::{Counts, NodeInfo, Seat, Who};
pub use tunnels::{TUNNELS, TUNNELS_PER_PEER, TooMany};
