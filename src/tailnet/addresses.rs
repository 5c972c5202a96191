//! Who holds which inner address, so that no client takes that of another peer.
//!
//! A receiver routes an address to whoever announced it, so a client that announces the address of
//! another one would get the answers that are meant for that one. The real server leaves this gap
//! (tailnet/tunnel.go handleClientNodeRequests, v2.24.0).

use std::collections::HashMap;
use std::net::Ipv6Addr;

use uuid::Uuid;

/// The addresses of peers that are connected, and those of agents that may come back.
#[derive(Default)]
pub(super) struct Addresses {
    holders: HashMap<Ipv6Addr, Vec<Uuid>>,
    of: HashMap<Uuid, Vec<Ipv6Addr>>,
}

impl Addresses {
    /// `peer` holds these and no others.
    pub(super) fn set(&mut self, peer: Uuid, addresses: Vec<Ipv6Addr>) {
        if self.of.get(&peer) == Some(&addresses) {
            return;
        }
        self.remove(peer);
        for address in &addresses {
            let holders = self.holders.entry(*address).or_default();
            if !holders.contains(&peer) {
                holders.push(peer);
            }
        }
        self.of.insert(peer, addresses);
    }

    /// `peer` holds none.
    pub(super) fn remove(&mut self, peer: Uuid) {
        for address in self.of.remove(&peer).unwrap_or_default() {
            if let Some(holders) = self.holders.get_mut(&address) {
                holders.retain(|holder| *holder != peer);
                if holders.is_empty() {
                    self.holders.remove(&address);
                }
            }
        }
    }

    /// Who holds `address` beside `peer`.
    pub(super) fn others(&self, address: Ipv6Addr, peer: Uuid) -> impl Iterator<Item = Uuid> {
        self.holders.get(&address).into_iter().flatten().copied().filter(move |holder| *holder != peer)
    }
}
