//! The handle to the coordinator that streams share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use uuid::Uuid;

use super::coordinator::{Coordinator, Effect};
use super::keys::Keys;
use super::seat::{Counts, NodeInfo, Seat, Who};
use super::tunnels::TooMany;
use crate::model::{AgentId, NodeKey};
use crate::ops::mail::{Address, Mail};
use crate::wire::proto::tailnet::{CoordinateResponse, Node};

/// WebSocket close code for a peer that the server withdraws: policy violation.
const POLICY: u16 = 1008;

/// The coordinator. Cloning gives another handle to the same one.
///
/// All methods may be called on a loop: the one lock is held for a time that goes with the peer's
/// tunnels, and never while mail is posted. Calls with a seat that is not current do nothing.
#[derive(Clone)]
pub struct Tailnet {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    coordinator: Coordinator,
    /// Where the stream of a seat is reached, by the seat's serial.
    links: HashMap<u64, Link>,
}

#[derive(Clone)]
struct Link {
    address: Address,
    tag: u64,
}

impl Tailnet {
    /// Nobody is there. `keys` is told which node keys are known.
    pub fn new(keys: Keys) -> Tailnet {
        let inner = Inner { coordinator: Coordinator::new(keys), links: HashMap::new() };
        Tailnet { inner: Arc::new(Mutex::new(inner)) }
    }

    /// A coordination stream of `peer` begins; it is reached at `address` and known there by `tag`. An
    /// older stream of the same peer gets [`Mail::Superseded`] and counts no longer. Tunnels that earlier
    /// streams have opened come alive as this one opens them again.
    pub fn join(&self, peer: Uuid, who: Who, address: Address, tag: u64) -> Seat {
        self.run(|inner| {
            let now = Instant::now();
            inner.coordinator.expire(now);
            let seat = inner.coordinator.join(peer, who, now);
            inner.links.insert(seat.serial, Link { address, tag });
            seat
        })
    }

    /// The peer announces its node, which [`super::admission`] has looked at. A client that announces the
    /// address of another peer is refused here: treat the text like one of `admission`.
    pub fn update(&self, seat: &Seat, node: Node) -> Result<(), String> {
        self.run(|inner| inner.coordinator.update(seat, node))
    }

    /// The peer opens a tunnel to `to`, as it may. The refusal is a sentence for the peer.
    pub fn add_tunnel(&self, seat: &Seat, to: Uuid) -> Result<(), TooMany> {
        self.run(|inner| inner.coordinator.add_tunnel(seat, to))
    }

    /// The peer gives up its tunnel to `to`.
    pub fn remove_tunnel(&self, seat: &Seat, to: Uuid) {
        self.run(|inner| inner.coordinator.remove_tunnel(seat, to));
    }

    /// The peer is ready for the handshake of `of`, which is told; or there is no tunnel to it, and the
    /// peer is told that.
    pub fn ready(&self, seat: &Seat, of: Uuid) {
        self.run(|inner| inner.coordinator.ready(seat, of));
    }

    /// The peer says goodbye: it is gone for its partners at once.
    pub fn disconnect(&self, seat: &Seat) {
        self.run(|inner| {
            inner.coordinator.disconnect(seat);
            inner.links.remove(&seat.serial);
        });
    }

    /// The stream ended without a goodbye: its partners mark the peer lost. Says whether the peer is
    /// remembered, so that somebody has to hear of it when its rights are withdrawn.
    pub fn lose(&self, seat: &Seat) -> bool {
        self.run(|inner| {
            let now = Instant::now();
            let is_remembered = inner.coordinator.lose(seat, now);
            inner.coordinator.expire(now);
            inner.links.remove(&seat.serial);
            is_remembered
        })
    }

    /// The server withdraws the peer, connected or lost: it is gone for its partners and the relay at
    /// once, and its stream gets [`Mail::Close`].
    pub fn drop_peer(&self, peer: Uuid) {
        self.run(|inner| inner.coordinator.drop_peer(peer));
    }

    /// What the stream has yet to be told. To be called after [`Mail::Inbox`], and at each ping in case
    /// that the letter could not be posted.
    pub fn take(&self, seat: &Seat) -> Vec<CoordinateResponse> {
        self.run(|inner| {
            inner.coordinator.expire(Instant::now());
            inner.coordinator.take(seat)
        })
    }

    /// Whether this is the stream of its peer.
    pub fn is_current(&self, seat: &Seat) -> bool {
        self.lock().coordinator.is_current(seat)
    }

    /// The node of `agent`, if it has announced one on its stream.
    pub fn node_of(&self, agent: AgentId) -> Option<NodeInfo> {
        self.lock().coordinator.node_of(agent)
    }

    /// Whether `one` has announced this key before `other`.
    pub fn was_first(&self, key: &NodeKey, one: AgentId, other: AgentId) -> bool {
        self.lock().coordinator.was_first(key, one, other)
    }

    /// Those at the other ends of the peer's tunnels, whether or not they are connected.
    pub fn partners(&self, peer: Uuid) -> Vec<Uuid> {
        self.lock().coordinator.partners(peer)
    }

    /// How many there are, for the metrics.
    pub fn counts(&self) -> Counts {
        self.lock().coordinator.counts()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `call` under the lock, and without it delivers what follows.
    fn run<T>(&self, call: impl FnOnce(&mut Inner) -> T) -> T {
        let (result, letters) = {
            let mut inner = self.lock();
            let result = call(&mut inner);
            let effects = inner.coordinator.effects();
            let letters: Vec<_> =
                effects.into_iter().filter_map(|effect| Some((inner.link(&effect)?, effect))).collect();
            (result, letters)
        };
        for (link, effect) in letters {
            let tag = link.tag;
            // A letter that finds no room is made up for at the stream's next ping.
            match effect {
                Effect::Mail(seat) => {
                    if !link.address.try_post(Mail::Inbox { tag }) {
                        self.lock().coordinator.undelivered(&seat);
                    }
                }
                Effect::Superseded(_) => {
                    link.address.try_post(Mail::Superseded { tag });
                }
                Effect::Withdrawn(_) => {
                    link.address.try_post(Mail::Close { code: POLICY, reason: "access was withdrawn" });
                }
            }
        }
        result
    }
}

impl Inner {
    /// Where an effect goes; what counts no longer is forgotten.
    fn link(&mut self, effect: &Effect) -> Option<Link> {
        match effect {
            Effect::Mail(seat) => self.links.get(&seat.serial).cloned(),
            Effect::Superseded(seat) | Effect::Withdrawn(seat) => self.links.remove(&seat.serial),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::ops::mail::{ConnId, Mailbox};

    /// A loop of which nobody turns the handle: its mailbox has room for `letters`.
    fn mailbox(letters: usize) -> (Address, Receiver<(ConnId, Mail)>, mio::Poll) {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let (sender, receiver) = sync_channel(letters);
        let conn = ConnId { slot: 1, generation: 1 };
        (Address { mailbox: Mailbox::new(sender, waker), conn }, receiver, poll)
    }

    fn arrived(receiver: &Receiver<(ConnId, Mail)>) -> Vec<String> {
        receiver.try_iter().map(|(_, mail)| format!("{mail:?}")).collect()
    }

    fn node(region: i32) -> Node {
        Node { preferred_derp: region, ..Node::default() }
    }

    #[test]
    fn streams_are_told_by_their_own_marks() {
        let (address, letters, _poll) = mailbox(16);
        let tailnet = Tailnet::new(Keys::default());
        let (agent, client) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = tailnet.join(client, Who::Client, address.clone(), 20);
        tailnet.add_tunnel(&first, agent).unwrap();
        let agent = tailnet.join(agent, Who::Agent(AgentId(agent)), address.clone(), 10);
        tailnet.update(&agent, node(1)).unwrap();
        tailnet.update(&agent, node(2)).unwrap();
        assert_eq!(arrived(&letters), ["Inbox { tag: 20 }"]);
        assert_eq!(tailnet.take(&first).len(), 1);
        let second = tailnet.join(client, Who::Client, address, 21);
        assert_eq!(arrived(&letters), ["Superseded { tag: 20 }"]);
        tailnet.add_tunnel(&second, agent.peer()).unwrap();
        assert_eq!(arrived(&letters), ["Inbox { tag: 21 }"]);
        assert!(second != first && !tailnet.is_current(&first));
        assert!(tailnet.take(&first).is_empty());
        tailnet.drop_peer(client);
        assert_eq!(arrived(&letters), ["Close { code: 1008, reason: \"access was withdrawn\" }"]);
        tailnet.disconnect(&agent);
        assert_eq!(tailnet.lock().links.len(), 0, "nothing is left");
    }

    #[test]
    fn a_letter_that_finds_no_room_is_followed_by_another() {
        let (address, letters, _poll) = mailbox(1);
        let tailnet = Tailnet::new(Keys::default());
        let (agent, client) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let client = tailnet.join(client, Who::Client, address.clone(), 20);
        tailnet.add_tunnel(&client, agent).unwrap();
        let agent = tailnet.join(agent, Who::Agent(AgentId(agent)), address.clone(), 10);
        assert!(address.try_post(Mail::Inbox { tag: 0 }));
        tailnet.update(&agent, node(1)).unwrap();
        assert_eq!(arrived(&letters), ["Inbox { tag: 0 }"], "it was full");
        tailnet.update(&agent, node(2)).unwrap();
        assert_eq!(arrived(&letters), ["Inbox { tag: 20 }"]);
        let last = tailnet.take(&client);
        let region =
            |message: &CoordinateResponse| message.peer_updates.first()?.node.as_ref().map(|node| node.preferred_derp);
        assert_eq!(last.iter().filter_map(region).collect::<Vec<_>>(), [2]);
    }
}
