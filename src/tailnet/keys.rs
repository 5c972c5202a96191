//! Which node keys the coordinator knows: the relay serves these and no others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::model::NodeKey;

#[derive(Default)]
struct Table {
    /// The key of each peer that has announced a node and is not gone.
    of_peer: HashMap<Uuid, NodeKey>,
    /// The peers that have announced a key, the first one first.
    peers: HashMap<NodeKey, Vec<Uuid>>,
}

/// The table of known keys. Cloning gives another handle to the same table.
#[derive(Clone, Default)]
pub struct Keys {
    table: Arc<Mutex<Table>>,
    revision: Arc<AtomicU64>,
}

impl Keys {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `peer` has announced a node with `key`, in place of what it announced before.
    pub fn announce(&self, peer: Uuid, key: NodeKey) {
        let mut table = self.lock();
        if table.of_peer.get(&peer) == Some(&key) {
            return;
        }
        table.forget(peer);
        table.of_peer.insert(peer, key);
        table.peers.entry(key).or_default().push(peer);
        self.revision.fetch_add(1, Ordering::Release);
    }

    /// `peer` is gone for good.
    pub fn forget(&self, peer: Uuid) {
        let mut table = self.lock();
        table.forget(peer);
        self.revision.fetch_add(1, Ordering::Release);
    }

    /// Changes whenever [`Keys::knows`] may have another answer, so that the relay need not ask for every
    /// packet. Read it before asking.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Whether `one` has announced `key` before `other`: keys are made anew with each process, and known to
    /// nobody before they are announced, so whoever comes later has it from there.
    pub fn was_first(&self, key: &NodeKey, one: Uuid, other: Uuid) -> bool {
        let table = self.lock();
        let first = table.peers.get(key).and_then(|peers| peers.iter().find(|peer| [one, other].contains(peer)));
        first == Some(&one)
    }

    /// Whether a peer that is not gone has announced `key`.
    pub fn knows(&self, key: &NodeKey) -> bool {
        self.lock().peers.contains_key(key)
    }
}

impl Table {
    fn forget(&mut self, peer: Uuid) {
        let Some(key) = self.of_peer.remove(&peer) else { return };
        if let Some(peers) = self.peers.get_mut(&key) {
            peers.retain(|holder| *holder != peer);
            if peers.is_empty() {
                self.peers.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_key_as_long_as_one_peer_has_it() {
        let (keys, one, other) = (Keys::default(), Uuid::new_v4(), Uuid::new_v4());
        let (first, second) = (NodeKey([1; 32]), NodeKey([2; 32]));
        keys.announce(one, first);
        keys.announce(other, first);
        let before = keys.revision();
        keys.announce(one, second);
        assert_ne!(keys.revision(), before);
        assert!(keys.knows(&first) && keys.knows(&second));
        keys.announce(one, first);
        assert!(keys.was_first(&first, other, one) && !keys.was_first(&first, one, other));
        keys.announce(one, second);
        keys.forget(other);
        assert!(!keys.knows(&first) && keys.knows(&second));
        keys.forget(one);
        assert!(!keys.knows(&second));
    }
}
