//! The relay's switch: which connection a node key is reached by, and what waits for each.
//!
//! Packets pass only between keys that [`Keys`] knows. Whoever proves another key may stay for a while,
//! since peers connect before they have announced themselves, but nothing passes to or from it.
//!
//! The switch does no I/O. A connection's stream takes a [`Turn`], gives it packets, and learns
//! from it which other connections now have something to take; the loop gives those their own turn. So
//! the one lock is held while bytes move in memory and never across a write. All relay connections
//! live on one loop, which makes it a lock that nobody else wants.

mod port;
mod queue;
mod turn;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use self::port::Port;
pub use self::port::PortId;
pub use self::turn::{Sent, Turn};
use super::keys::Keys;
use crate::model::{NodeKey, network};
use crate::ops::metrics::relay::RelayMetrics;
use crate::ops::places::{Place, Places};
use crate::ops::spare::Spare;
use crate::wire::derp::SecretKey;

/// The switch. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Switch {
    shared: Arc<Shared>,
}

struct Shared {
    keys: Keys,
    secret: SecretKey,
    strangers: Places<IpAddr>,
    most_strangers: usize,
    metrics: RelayMetrics,
    table: Mutex<Table>,
}

/// Who is connected.
#[derive(Default)]
struct Table {
    ports: Vec<Slot>,
    free: Vec<u32>,
    /// The connections of each key, the one that was last heard of first.
    of_key: HashMap<NodeKey, Vec<u32>>,
    /// Counts joins, leaves, and changes of who was last heard of: what a port remembers of others holds
    /// only as long as this stays.
    epoch: u64,
    /// Ports that have something to take and were not told yet.
    woken: Vec<u32>,
    /// Bytes in all queues.
    queued: usize,
    spare: Spare,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    port: Option<Port>,
}

impl Switch {
    /// A switch with nobody connected, under a key of its own: clients do not remember it.
    pub fn new(keys: Keys, metrics: RelayMetrics, most_strangers: usize) -> Switch {
        Switch {
            shared: Arc::new(Shared {
                keys,
                secret: SecretKey::new(&random_bytes()),
                strangers: Places::default(),
                most_strangers,
                metrics,
                table: Mutex::default(),
            }),
        }
    }

    /// The relay's own key.
    pub fn secret(&self) -> &SecretKey {
        &self.shared.secret
    }

    /// What the relay counts.
    pub fn metrics(&self) -> &RelayMetrics {
        &self.shared.metrics
    }

    /// A place among the connections from `address` whose keys are not known, unless all are taken.
    pub fn admit(&self, address: IpAddr) -> Option<Place<IpAddr>> {
        self.shared.strangers.take(network(address), self.shared.most_strangers)
    }

    /// Begins a turn.
    pub fn turn(&self) -> Turn<'_> {
        Turn::new(&self.shared, self.shared.table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A fresh private key. Only a machine that is just booting has no randomness, and that passes.
fn random_bytes() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    while SystemRandom::new().fill(bytes.as_mut()).is_err() {
        log::error!("the system has no randomness for the relay's key; trying again");
        std::thread::sleep(Duration::from_secs(1));
    }
    bytes
}
