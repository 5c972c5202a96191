//! The server's own place in the tailnet: how it reaches ports inside of machines.
//!
//! One thread holds one node: a WireGuard key, a disco key and an address, new with each start of the
//! server. It meets agents through the coordinator like any client, and its packets take the relay's switch
//! inside the process. For each agent that somebody dials there is a [`link`]: a WireGuard tunnel
//! ([`tunnel`]) and the TCP in it ([`stack`]), both without I/O. Users hold a [`Conduit`], which never waits.
//!
//! ```text
//! user ─ Conduit ─ link (TCP ─ WireGuard) ─ node ─ relay's switch ─ agent
//!                                            └──── coordinator: whose key, when ready
//! ```

mod conduit;
mod door;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod hostile;
mod identity;
mod link;
mod node;
mod stack;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests;
mod tunnel;

use std::io;
use std::net::Ipv6Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use conduit::{Conduit, Notify, State};

use self::conduit::{End, Pipe};
pub use self::door::Within;
use self::door::{Dial, Door, Order};
use self::node::{Node, Surroundings};
use super::Tailnet;
use super::derp::Switch;
use crate::model::AgentId;
use crate::ops::metrics::PeerMetrics;

/// The handle to the thread. Cloning gives another one to the same thread.
#[derive(Clone)]
pub struct Peer {
    door: Door,
    next: Arc<AtomicU64>,
    address: Ipv6Addr,
}

impl Peer {
    /// Starts the thread. It takes its places in the tailnet when somebody dials for the first time. `region`
    /// is that of the relay.
    pub fn start(tailnet: Tailnet, relay: Switch, region: u16, metrics: PeerMetrics) -> io::Result<Peer> {
        let (node, door) = Node::new(Surroundings { tailnet, relay, region, metrics })?;
        let address = node.address();
        std::thread::Builder::new().name("peer".into()).spawn(move || run(node))?;
        Ok(Peer { door, next: Arc::new(AtomicU64::new(1)), address })
    }

    /// Its address in the tailnet, from which agents see connections come.
    pub fn address(&self) -> Ipv6Addr {
        self.address
    }

    /// Connects to a port of an agent; never waits. `first` is what the agent is told first, in one segment
    /// if it fits into one. Whoever may reach the agent is for the caller to decide. `notify` is called, on the
    /// peer's thread, when there is something to look at: bytes, room for bytes, or another state.
    pub fn dial(&self, agent: AgentId, port: u16, first: Vec<u8>, within: Within, notify: Notify) -> Conduit {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let pipe = Arc::new(Pipe::new(id, first, notify));
        self.door.order(Order::Dial(Dial { agent, port, within, pipe: End::of(&pipe) }));
        Conduit::new(pipe, self.door.clone())
    }

    /// Ends all connections, and the thread.
    pub fn stop(&self) {
        self.door.order(Order::Stop);
    }
}

/// The thread. A fault that packets may have led to costs the connections that there are, not the next ones.
fn run(mut node: Node) {
    loop {
        match catch_unwind(AssertUnwindSafe(|| node.round())) {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                log::error!("the tailnet's own peer has failed and starts over");
                if let Err(error) = node.start_over() {
                    return log::error!("the tailnet's own peer cannot start over: {error}");
                }
            }
        }
    }
}
