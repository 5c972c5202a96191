//! The coordinator: who is told what about whom. A state machine without I/O, clock or lock.
//!
//! A peer is told about those with which it shares a tunnel, in either direction, and about nobody
//! else. The rules are those of the real server (tailnet/coordinator.go, v2.24.0), but for this:
//!
//! - Updates that a peer has not read yet are coalesced (`inbox`), so a peer that does not read
//!   makes nobody wait and need not be removed for it.
//! - The tunnels of a peer that is lost are kept for [`LOST_KEPT`]: when it comes back with the same id,
//!   little changes for its partners, and until then the relay serves its key.
//! - The new stream must ask for them again, which clients do first of all, and is authorised again. Until
//!   then it sees nothing through them; after [`TUNNELS_KEPT`] they are gone.
//! - A client that is not back in time is withdrawn from its partners, which would keep it
//!   for as long as it shakes hands with them: its user may have been suspended meanwhile.
//! - A client may not take the address of another peer (`addresses`).
//!
//! Every operation costs as much as the peer has tunnels.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use self::peer::{Open, Peer};
use super::addresses::Addresses;
use super::admission;
use super::inbox::Inbox;
use super::keys::Keys;
use super::seat::{Counts, NodeInfo, Seat, Who};
use super::tunnels::{TooMany, Tunnels};
use crate::model::{AgentId, NodeKey};
use crate::wire::proto::tailnet::{CoordinateResponse, Node};

mod peer;

#[cfg(test)]
mod crowds;
#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reader;
#[cfg(test)]
mod returns;
#[cfg(test)]
mod tests;

/// How long a peer that went without a goodbye is remembered: as long as clients and agents keep a lost
/// peer after its last handshake (tailnet/configmaps.go lostTimeout, v2.24.0).
pub const LOST_KEPT: Duration = Duration::from_secs(15 * 60);
/// How long the tunnels of an earlier stream wait for the newer one to ask for them.
pub const TUNNELS_KEPT: Duration = Duration::from_secs(30);
/// Lost peers that are remembered; beyond it the longest lost is given up early. About 300 bytes each
/// besides its tunnels: 3 MiB. As many as there can be connections, so that all may break at once.
pub const LOST_PEERS: usize = crate::config::limits::CONNECTIONS;

/// What the owner of the state machine has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Tell this stream that there is something to [`Coordinator::take`].
    Mail(Seat),
    /// Tell this stream that a newer one has taken its place. It counts no longer.
    Superseded(Seat),
    /// End this stream: the server withdraws the peer. It counts no longer.
    Withdrawn(Seat),
}

/// The state machine.
pub struct Coordinator {
    keys: Keys,
    peers: HashMap<Uuid, Peer>,
    tunnels: Tunnels,
    addresses: Addresses,
    /// Peers without a stream, longest lost first.
    lost: BTreeSet<(Instant, Uuid)>,
    /// Peers with tunnels of an earlier stream, by the end of their time for it.
    regains: BTreeSet<(Instant, Uuid)>,
    /// Connected agents.
    agents: usize,
    serial: u64,
    effects: Vec<Effect>,
}

impl Coordinator {
    /// Nobody is there. `keys` is told which node keys are known.
    pub fn new(keys: Keys) -> Coordinator {
        Coordinator {
            keys,
            peers: HashMap::new(),
            tunnels: Tunnels::default(),
            addresses: Addresses::default(),
            lost: BTreeSet::new(),
            regains: BTreeSet::new(),
            agents: 0,
            serial: 0,
            effects: Vec::new(),
        }
    }

    /// What has to be done after what was called since the last time.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// A stream of `peer` begins. It takes the place of an older one, of which partners notice nothing,
    /// and is told of all that have a tunnel to it and have announced a node.
    pub fn join(&mut self, peer: Uuid, who: Who, now: Instant) -> Seat {
        self.serial += 1;
        let seat = Seat { peer, serial: self.serial };
        let mut announced = false;
        if let Some(older) = self.peers.remove(&peer) {
            announced = older.announced;
            self.unseat(peer, &older);
            if let Some(open) = older.seat {
                self.effects.push(Effect::Superseded(open.seat));
            }
        }
        if let Who::Agent(agent) = who {
            self.agents += 1;
            let [tailscale, coder, _] = admission::addresses(agent);
            self.addresses.set(peer, vec![tailscale, coder]);
        }
        let regain_until = self.tunnels.set_aside(peer).then(|| now + TUNNELS_KEPT);
        self.regains.extend(regain_until.map(|until| (until, peer)));
        let mut inbox = Inbox::default();
        for partner in self.in_sight(peer) {
            if let Some(node) = self.peers.get(&partner).and_then(|partner| partner.node.as_ref()) {
                inbox.node(partner, node, "init");
            }
        }
        let told = !inbox.is_empty();
        if told {
            self.effects.push(Effect::Mail(seat.clone()));
        }
        let open = Open { seat: seat.clone(), inbox, told };
        let joined = Peer { who, seat: Some(open), lost_at: None, regain_until, node: None, announced };
        self.peers.insert(peer, joined);
        seat
    }

    /// The peer announces its node, which [`admission`] has looked at; its partners are told. A client
    /// that announces the address of another peer is refused with a text for it; the owner ends its
    /// stream.
    pub fn update(&mut self, seat: &Seat, node: Node) -> Result<(), String> {
        let Some(peer) = self.current(seat) else { return Ok(()) };
        if peer.who == Who::Client {
            let addresses = admission::inner_addresses(&node);
            if let Some(taken) = addresses.iter().find(|address| self.is_taken(**address, seat.peer, &node)) {
                return Err(format!("invalid node address, got {taken}"));
            }
            self.addresses.set(seat.peer, addresses);
        }
        match admission::node_key(&node) {
            Some(key) => self.keys.announce(seat.peer, key),
            None => self.keys.forget(seat.peer),
        }
        let node = Arc::new(node);
        if let Some(peer) = self.peers.get_mut(&seat.peer) {
            peer.node = Some(Arc::clone(&node));
            peer.announced = true;
        }
        for partner in self.in_sight(seat.peer) {
            self.tell(partner, |inbox| inbox.node(seat.peer, &node, "node update"));
        }
        Ok(())
    }

    /// The peer, which may, opens a tunnel to `to`, which need not be there yet.
    pub fn add_tunnel(&mut self, seat: &Seat, to: Uuid) -> Result<(), TooMany> {
        if self.current(seat).is_none() || seat.peer == to {
            return Ok(());
        }
        self.tunnels.add(seat.peer, to)?;
        let node_of = |peer: Uuid| self.peers.get(&peer).and_then(|peer| peer.node.clone());
        let (own, other) = (node_of(seat.peer), node_of(to));
        if let Some(node) = other {
            self.tell(seat.peer, |inbox| inbox.node(to, &node, "add tunnel"));
        }
        if let Some(node) = own {
            self.tell(to, |inbox| inbox.node(seat.peer, &node, "add tunnel"));
        }
        Ok(())
    }

    /// The peer gives up its tunnel to `to`; both lose sight of each other.
    pub fn remove_tunnel(&mut self, seat: &Seat, to: Uuid) {
        if self.current(seat).is_some() && self.tunnels.remove(seat.peer, to) {
            self.part(seat.peer, to, Inbox::disconnected);
        }
    }

    /// The peer is ready for the handshake of `of`.
    pub fn ready(&mut self, seat: &Seat, of: Uuid) {
        if self.current(seat).is_none() {
            return;
        }
        if self.tunnels.in_sight(seat.peer, of) {
            self.tell(of, |inbox| inbox.ready(seat.peer));
        } else {
            self.tell(seat.peer, |inbox| inbox.not_shared(of));
        }
    }

    /// The peer says goodbye.
    pub fn disconnect(&mut self, seat: &Seat) {
        if self.current(seat).is_some() {
            self.remove(seat.peer, |inbox, peer| inbox.disconnected(peer, "graceful disconnect"));
        }
    }

    /// The stream ended without a goodbye. The peer is remembered for [`LOST_KEPT`] if anybody can know it,
    /// which is what is returned.
    pub fn lose(&mut self, seat: &Seat, now: Instant) -> bool {
        if self.current(seat).is_none() {
            return false;
        }
        let peer = seat.peer;
        for partner in self.tunnels.partners(peer) {
            self.tell(partner, |inbox| inbox.lost(peer, "lost"));
        }
        let Some(mut lost) = self.peers.remove(&peer) else { return false };
        self.unseat(peer, &lost);
        if !lost.announced && !self.tunnels.has_from(peer) {
            return false;
        }
        if let Who::Agent(_) = lost.who {
            // Still not for others to take; `unseat` has given up what a client had.
            let [tailscale, coder, _] = admission::addresses(AgentId(peer));
            self.addresses.set(peer, vec![tailscale, coder]);
        }
        (lost.seat, lost.node, lost.lost_at, lost.regain_until) = (None, None, Some(now), None);
        self.lost.insert((now, peer));
        self.peers.insert(peer, lost);
        true
    }

    /// The server withdraws the peer, connected or lost.
    pub fn drop_peer(&mut self, peer: Uuid) {
        if let Some(seat) = self.peers.get(&peer).and_then(|peer| peer.seat.as_ref()).map(|open| open.seat.clone()) {
            self.effects.push(Effect::Withdrawn(seat));
        }
        self.remove(peer, |inbox, peer| inbox.withdrawn(peer, "withdrawn"));
    }

    /// Gives up those that have been lost for too long, and tunnels that a newer stream has not asked for
    /// in time. To be called now and then.
    pub fn expire(&mut self, now: Instant) {
        while let Some((until, peer)) = self.regains.first().copied()
            && now >= until
        {
            self.regains.remove(&(until, peer));
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.regain_until = None;
            }
            for other in self.tunnels.remove_aside(peer) {
                self.part(peer, other, Inbox::withdrawn);
            }
        }
        while let Some((since, peer)) = self.lost.first().copied()
            && (self.lost.len() > LOST_PEERS || now.saturating_duration_since(since) >= LOST_KEPT)
        {
            let is_client = self.peers.get(&peer).is_some_and(|peer| peer.who == Who::Client);
            self.remove(peer, |inbox, peer| {
                if is_client {
                    inbox.withdrawn(peer, "lost");
                }
            });
            self.lost.remove(&(since, peer));
        }
    }

    /// Empties the inbox of a stream.
    pub fn take(&mut self, seat: &Seat) -> Vec<CoordinateResponse> {
        let Some(open) = self.open(seat) else { return Vec::new() };
        open.told = false;
        open.inbox.take()
    }

    /// The letter of an [`Effect::Mail`] could not be delivered: the next news make another.
    pub fn undelivered(&mut self, seat: &Seat) {
        if let Some(open) = self.open(seat) {
            open.told = false;
        }
    }

    /// Whether this is the stream of its peer.
    pub fn is_current(&self, seat: &Seat) -> bool {
        self.current(seat).is_some()
    }

    /// The node of `agent`, if it has announced one on its stream.
    pub fn node_of(&self, agent: AgentId) -> Option<NodeInfo> {
        let node = self.peers.get(&agent.0)?.node.as_ref()?;
        Some(NodeInfo { preferred_derp: node.preferred_derp, derp_latency: node.derp_latency.clone() })
    }

    /// Whether `one` has announced this key before `other`.
    pub fn was_first(&self, key: &NodeKey, one: AgentId, other: AgentId) -> bool {
        self.keys.was_first(key, one.0, other.0)
    }

    /// Those at the other ends of the peer's tunnels, whether or not they are connected.
    pub fn partners(&self, peer: Uuid) -> Vec<Uuid> {
        self.tunnels.partners(peer)
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        let connected = self.peers.len() - self.lost.len();
        Counts {
            agents: self.agents,
            clients: connected - self.agents,
            lost: self.lost.len(),
            tunnels: self.tunnels.count(),
        }
    }

    /// The peers that `peer` may see and that may see it.
    fn in_sight(&self, peer: Uuid) -> Vec<Uuid> {
        let mut partners = self.tunnels.partners(peer);
        partners.retain(|partner| self.tunnels.in_sight(peer, *partner));
        partners
    }

    fn current(&self, seat: &Seat) -> Option<&Peer> {
        self.peers.get(&seat.peer).filter(|peer| peer.seat.as_ref().is_some_and(|open| open.seat == *seat))
    }

    fn open(&mut self, seat: &Seat) -> Option<&mut Open> {
        self.peers.get_mut(&seat.peer)?.seat.as_mut().filter(|open| open.seat == *seat)
    }

    /// Changes the inbox of `peer`, if it has a stream, and has it told when there is news.
    fn tell(&mut self, peer: Uuid, change: impl FnOnce(&mut Inbox)) {
        let Some(open) = self.peers.get_mut(&peer).and_then(|peer| peer.seat.as_mut()) else { return };
        change(&mut open.inbox);
        if !open.told && !open.inbox.is_empty() {
            open.told = true;
            self.effects.push(Effect::Mail(open.seat.clone()));
        }
    }

    /// A tunnel between two peers is gone; without another one they lose sight of each other.
    fn part(&mut self, one: Uuid, other: Uuid, goodbye: fn(&mut Inbox, Uuid, &'static str)) {
        if self.tunnels.between(one, other) {
            return;
        }
        for (receiver, subject) in [(one, other), (other, one)] {
            self.tell(receiver, |inbox| {
                goodbye(inbox, subject, "remove tunnel");
                inbox.untie(subject);
            });
        }
    }

    /// A peer is gone for good: its partners are told, the tunnels that it asked for are forgotten, those
    /// to it are kept.
    fn remove(&mut self, peer: Uuid, goodbye: impl Fn(&mut Inbox, Uuid)) {
        let partners = self.tunnels.partners(peer);
        self.tunnels.remove_from(peer);
        for partner in partners {
            let tied = self.tunnels.between(peer, partner);
            self.tell(partner, |inbox| {
                goodbye(inbox, peer);
                if !tied {
                    inbox.untie(peer);
                }
            });
        }
        if let Some(gone) = self.peers.remove(&peer) {
            self.unseat(peer, &gone);
        }
        self.keys.forget(peer);
    }

    /// Takes out of the books what hangs on the peer's being connected or lost.
    fn unseat(&mut self, peer: Uuid, was: &Peer) {
        self.addresses.remove(peer);
        if let Some(until) = was.regain_until {
            self.regains.remove(&(until, peer));
        }
        if let Some(since) = was.lost_at {
            self.lost.remove(&(since, peer));
        } else if let Who::Agent(_) = was.who {
            self.agents -= 1;
        }
    }

    /// Whether another peer holds the address: an agent, or a connected client that is not the same
    /// process under another peer id (which has the same node key: its older stream may still seem alive
    /// after its network broke).
    fn is_taken(&self, address: Ipv6Addr, by: Uuid, node: &Node) -> bool {
        self.addresses.others(address, by).any(|holder| {
            self.peers.get(&holder).is_some_and(|holder| match holder.who {
                Who::Agent(_) => true,
                Who::Client => holder.node.as_ref().is_some_and(|held| held.key != node.key),
            })
        })
    }
}
