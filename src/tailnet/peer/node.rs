//! The thread of the server's own peer: its place in the coordinator and at the relay, and what comes from
//! there for its links.

use std::collections::HashMap;
use std::io;
use std::net::Ipv6Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;

use super::door::{Dial, Door, Order};
use super::identity::{Own, announcement, own, remote};
use super::link::{Link, Outbox};
use crate::config::limits::{INNER_CONNECTIONS, REACHED_AGENTS};
use crate::model::{AgentId, NodeKey};
use crate::ops::mail::{Address, ConnId, Mail, Mailbox};
use crate::ops::metrics::PeerMetrics;
use crate::tailnet::derp::{PortId, Sent, Switch};
use crate::tailnet::{Seat, Tailnet, Who, admission};
use crate::wire::derp::{KEY_BYTES, is_disco, kind, peek};
use crate::wire::disco;
use crate::wire::proto::tailnet::coordinate_response::PeerUpdate;
use crate::wire::proto::tailnet::coordinate_response::peer_update::Kind;

/// An agent without connections is kept in reach for this long, so that the next one needs no handshake.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// Letters from coordinator and relay that wait; either has one in flight at most.
const LETTERS: usize = 16;
/// Memory of a burst of packets, in or out, that is kept for the next, bytes.
const BURST_BYTES: usize = 64 * 1024;
/// A round that takes this much from the relay, bytes, is one of bulk output and not of keys: one full packet.
const BULK_BYTES: usize = 1_024;
/// So many such rounds one behind the other, and the next ones wait for [`PACE`].
const BULK_ROUNDS: u32 = 4;
/// A pause as long as this ends it.
const BULK_PAUSE: Duration = Duration::from_millis(2);
/// Time between two rounds of bulk output. Each packet by itself would wake this thread, the browser's loop and,
/// with its acknowledgement, the agent; what comes in this time is handled at once. Keys on other terminals wait for it
/// meanwhile, too.
const PACE: Duration = Duration::from_micros(250);
/// Longest sleep, so that nothing is overlooked for ever if a wake-up is.
const SLEEP: Duration = Duration::from_secs(1);

/// Where letters of the coordinator and of the relay arrive.
const COORDINATOR: ConnId = ConnId { slot: 0, generation: 0 };
const RELAY: ConnId = ConnId { slot: 1, generation: 0 };

/// What the thread stands between.
pub(super) struct Surroundings {
    pub(super) tailnet: Tailnet,
    pub(super) relay: Switch,
    /// The relay's region.
    pub(super) region: u16,
    /// Where it is counted what there is.
    pub(super) metrics: PeerMetrics,
}

/// The thread's state.
pub(super) struct Node {
    around: Surroundings,
    own: Own,
    poll: Poll,
    events: Events,
    letters: Receiver<(ConnId, Mail)>,
    mailbox: Mailbox,
    orders: Receiver<Order>,
    /// Its places, taken when somebody dials for the first time.
    places: Option<(Seat, PortId)>,
    links: HashMap<AgentId, Link>,
    by_key: HashMap<NodeKey, AgentId>,
    by_call: HashMap<u64, AgentId>,
    /// Links with something to do, and when.
    due: HashMap<AgentId, Instant>,
    outbox: Outbox,
    /// Frames from the relay.
    inbox: Vec<u8>,
    /// Rounds of bulk output one behind the other.
    bulk: u32,
    random: SystemRandom,
    next_index: u32,
}

/// Why the thread ends.
pub(super) struct Stopped;

impl Node {
    /// A node with fresh keys that nobody knows yet.
    pub(super) fn new(around: Surroundings) -> io::Result<(Node, Door)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Token(0))?);
        let (sender, letters) = sync_channel(LETTERS);
        let (door, orders) = Door::new(Arc::clone(&waker));
        let random = SystemRandom::new();
        let [address, ..] = admission::addresses(AgentId(Uuid::new_v4()));
        let own = own(&random, around.region, address)?;
        let node = Node {
            around,
            own,
            poll,
            events: Events::with_capacity(1),
            letters,
            mailbox: Mailbox::new(sender, waker),
            orders,
            places: None,
            links: HashMap::new(),
            by_key: HashMap::new(),
            by_call: HashMap::new(),
            due: HashMap::new(),
            outbox: Outbox::default(),
            inbox: Vec::new(),
            bulk: 0,
            random,
            next_index: 1,
        };
        Ok((node, door))
    }

    /// Its address in the tailnet.
    pub(super) fn address(&self) -> Ipv6Addr {
        self.own.address
    }

    /// Gives up everything that a fault may have left half done: connections end, and the next one finds a
    /// fresh node.
    pub(super) fn start_over(&mut self) -> io::Result<()> {
        self.leave("the server's peer had to start over");
        self.own = own(&self.random, self.around.region, self.own.address)?;
        self.outbox = Outbox::default();
        self.inbox = Vec::new();
        Ok(())
    }

    /// Waits for something to do and does it.
    pub(super) fn round(&mut self) -> Result<(), Stopped> {
        if self.bulk >= BULK_ROUNDS {
            std::thread::sleep(PACE);
        }
        let now = Instant::now();
        let next = self.due.values().min().map_or(SLEEP, |at| at.saturating_duration_since(now).min(SLEEP));
        if let Err(error) = self.poll.poll(&mut self.events, Some(next))
            && error.kind() != io::ErrorKind::Interrupted
        {
            log::error!("the tailnet's own peer cannot wait: {error}");
            std::thread::sleep(SLEEP);
        }
        let slept = now.elapsed();
        if slept >= BULK_PAUSE {
            self.bulk = 0;
        }
        let now = Instant::now();
        let (mut told, mut withdrawn) = (false, false);
        while let Ok((to, mail)) = self.letters.try_recv() {
            match mail {
                Mail::Inbox { .. } => told |= to == COORDINATOR,
                Mail::Close { .. } | Mail::Superseded { .. } => withdrawn = true,
                _ => {}
            }
        }
        if withdrawn {
            self.leave("the server's peer lost its place in the tailnet");
        }
        loop {
            match self.orders.try_recv() {
                Ok(Order::Dial(dial)) => {
                    told = true;
                    self.dial(dial, now);
                }
                Ok(Order::Poke(id)) => self.poked(id, now),
                Ok(Order::Stop) => {
                    self.leave("the server is stopping");
                    return Err(Stopped);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(Stopped),
            }
        }
        if told {
            self.updates(now);
        }
        self.packets(now);
        self.turns(now);
        self.post(now);
        self.around.metrics.agents.set(i64::try_from(self.links.len()).unwrap_or(i64::MAX));
        self.around.metrics.connections.set(i64::try_from(self.by_call.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// The places at coordinator and relay, taken if there are none.
    fn places(&mut self, now: Instant) -> (Seat, PortId) {
        if let Some((seat, port)) = &self.places {
            return (seat.clone(), *port);
        }
        let address = |conn| Address { mailbox: self.mailbox.clone(), conn };
        let seat = self.around.tailnet.join(Uuid::new_v4(), Who::Client, address(COORDINATOR), 0);
        if let Err(text) = self.around.tailnet.update(&seat, announcement(&self.own)) {
            log::error!("the server's peer cannot announce itself: {text}");
        }
        let mut turn = self.around.relay.turn();
        let port = turn.join(self.own.key, address(RELAY), now);
        turn.host(port);
        turn.prefer(port, true);
        turn.end_with_mail();
        self.places = Some((seat.clone(), port));
        (seat, port)
    }

    /// Ends all connections and gives the places up.
    fn leave(&mut self, why: &str) {
        for link in self.links.values_mut() {
            link.end(why);
        }
        self.links.clear();
        self.by_key.clear();
        self.by_call.clear();
        self.due.clear();
        if let Some((seat, port)) = self.places.take() {
            self.around.tailnet.disconnect(&seat);
            let mut turn = self.around.relay.turn();
            turn.leave(port);
            turn.end_with_mail();
        }
    }

    fn dial(&mut self, dial: Dial, now: Instant) {
        let (agent, pipe) = (dial.agent, &dial.pipe);
        if self.by_call.len() >= INNER_CONNECTIONS {
            return pipe
                .end(Some(format!("dial: the server holds {INNER_CONNECTIONS} connections to agents and no more")));
        }
        if !self.links.contains_key(&agent)
            && let Err(why) = self.reach(agent, now)
        {
            return pipe.end(Some(format!("dial workspace agent: {why}")));
        }
        if let Some(link) = self.links.get_mut(&agent) {
            self.by_call.insert(pipe.id, agent);
            link.dial(dial);
            self.due.insert(agent, now);
        }
    }

    /// Opens the tunnel to an agent.
    fn reach(&mut self, agent: AgentId, now: Instant) -> Result<(), String> {
        if self.links.len() >= REACHED_AGENTS {
            let idle = self.links.iter().filter(|(_, link)| link.calls() == 0).min_by_key(|(_, link)| link.idle_since);
            match idle.map(|(agent, _)| *agent) {
                Some(agent) => self.forget(agent),
                None => return Err(format!("the server holds connections to {REACHED_AGENTS} agents and no more")),
            }
        }
        let (seat, _) = self.places(now);
        self.around.tailnet.add_tunnel(&seat, agent.0).map_err(|refused| refused.to_string())?;
        let mut seed = [0; 8];
        self.random.fill(&mut seed).map_err(|_| "the system has no randomness".to_owned())?;
        // Of the 32 bits, boringtun takes the lower 8 to tell its sessions apart.
        let index = self.next_index & 0x00ff_ffff;
        self.next_index = self.next_index.wrapping_add(1);
        self.links.insert(agent, Link::new(agent, &self.own, index, u64::from_le_bytes(seed), now));
        Ok(())
    }

    fn forget(&mut self, agent: AgentId) {
        if let Some(key) = self.links.remove(&agent).and_then(|link| link.key()) {
            self.unclaim(&key, agent);
        }
        self.due.remove(&agent);
        if let Some((seat, _)) = &self.places {
            self.around.tailnet.remove_tunnel(seat, agent.0);
        }
    }

    fn poked(&mut self, id: u64, now: Instant) {
        let Some(agent) = self.by_call.get(&id) else { return };
        if let Some(link) = self.links.get_mut(agent) {
            link.poked(id, now);
            self.due.insert(*agent, now);
        }
    }

    /// What the coordinator has to tell.
    fn updates(&mut self, now: Instant) {
        let Some((seat, _)) = &self.places else { return };
        for response in self.around.tailnet.take(seat) {
            if !response.error.is_empty() {
                log::warn!("the coordinator refuses the server's peer: {}", response.error);
            }
            for update in response.peer_updates {
                self.update(&update, now);
            }
        }
    }

    fn update(&mut self, update: &PeerUpdate, now: Instant) {
        let Some(agent) = AgentId::from_slice(&update.id) else { return };
        let Some(link) = self.links.get_mut(&agent) else { return };
        match update.kind() {
            Kind::Node => {
                let Some(remote) = update.node.as_ref().and_then(remote) else {
                    return log::warn!("agent {agent} announces a node that cannot be read");
                };
                if !self.claim(remote.key, agent, now) {
                    self.accuse(agent);
                } else if let Some(link) = self.links.get_mut(&agent) {
                    link.announced(remote, &self.own, now);
                }
            }
            Kind::ReadyForHandshake => link.ready(now),
            Kind::Disconnected => self.release(agent),
            // Its control connection is lost; the relay may still lead there.
            Kind::Lost | Kind::Unspecified => {}
        }
        self.due.insert(agent, now);
    }

    /// Notes whose packets come with this key from now on. An agent may announce what is another's: then
    /// it is the other's, and the claimant is out of reach.
    fn claim(&mut self, key: NodeKey, agent: AgentId, now: Instant) -> bool {
        let holder = self.by_key.get(&key).copied().filter(|holder| *holder != agent);
        let is_rightful = holder.is_none_or(|holder| self.around.tailnet.was_first(&key, agent, holder));
        if key == self.own.key || !is_rightful {
            self.release(agent);
            return false;
        }
        if let Some(holder) = holder {
            self.accuse(holder);
            self.release(holder);
            self.due.insert(holder, now);
        }
        if let Some(old) = self.links.get(&agent).and_then(Link::key).filter(|old| *old != key) {
            self.unclaim(&old, agent);
        }
        self.by_key.insert(key, agent);
        true
    }

    /// Its node key.
    #[cfg(test)]
    pub(super) fn key(&self) -> NodeKey {
        self.own.key
    }

    /// Whose packets come with this key.
    #[cfg(test)]
    pub(super) fn holder(&self, key: &NodeKey) -> Option<AgentId> {
        self.by_key.get(key).copied()
    }

    /// Says once what an agent has done, however often it does it.
    fn accuse(&mut self, agent: AgentId) {
        if self.links.get_mut(&agent).is_some_and(|link| !std::mem::replace(&mut link.is_accused, true)) {
            log::warn!("agent {agent} has announced the key of another peer, so it is not reached");
        }
    }

    fn unclaim(&mut self, key: &NodeKey, agent: AgentId) {
        if self.by_key.get(key) == Some(&agent) {
            self.by_key.remove(key);
        }
    }

    /// The node of an agent counts no longer.
    fn release(&mut self, agent: AgentId) {
        let Some(link) = self.links.get_mut(&agent) else { return };
        let key = link.key();
        link.gone();
        if let Some(key) = key {
            self.unclaim(&key, agent);
        }
    }

    /// What the relay has for this node.
    fn packets(&mut self, now: Instant) {
        let Some((_, port)) = self.places else { return };
        let mut inbox = std::mem::take(&mut self.inbox);
        let goes_on = {
            let mut turn = self.around.relay.turn();
            let goes_on = turn.take(port, false, &mut inbox);
            turn.end_with_mail();
            goes_on
        };
        if !goes_on {
            log::error!("the relay has too much news for the server's peer");
            self.leave("the server's peer lost its place at the relay");
        }
        match inbox.len() {
            // Somebody else has woken this thread.
            0 => {}
            length if length >= BULK_BYTES => self.bulk = self.bulk.saturating_add(1).min(2 * BULK_ROUNDS),
            // The last part of a line, or a key.
            _ => self.bulk /= 2,
        }
        let mut rest = inbox.as_slice();
        while let Some((frame, length)) = peek(rest) {
            let Some((payload, after)) =
                rest.get(crate::wire::derp::HEAD_BYTES..).and_then(|body| body.split_at_checked(length))
            else {
                break;
            };
            rest = after;
            if frame == kind::RECV_PACKET
                && let Some((key, packet)) = payload.split_first_chunk::<KEY_BYTES>()
            {
                self.packet(NodeKey(*key), packet, now);
            }
        }
        inbox.clear();
        inbox.shrink_to(BURST_BYTES);
        self.inbox = inbox;
    }

    fn packet(&mut self, from: NodeKey, packet: &[u8], now: Instant) {
        let Some(agent) = self.by_key.get(&from).copied() else { return };
        if is_disco(packet) {
            let mut nonce = [0; disco::NONCE_BYTES];
            if self.random.fill(&mut nonce).is_ok() {
                self.confined(agent, |link, own, outbox| link.probed(packet, own, nonce, outbox));
            }
            return;
        }
        if self.confined(agent, |link, _, outbox| link.receive(packet, now, outbox)).is_some() {
            self.due.insert(agent, now);
        }
    }

    /// Gives a link something to do, if it is there. A fault of the libraries that an agent's packets have
    /// led to costs this agent its link, and the others nothing.
    pub(super) fn confined<T>(
        &mut self,
        agent: AgentId,
        act: impl FnOnce(&mut Link, &Own, &mut Outbox) -> T,
    ) -> Option<T> {
        let (link, own, outbox) = (self.links.get_mut(&agent)?, &self.own, &mut self.outbox);
        if let Ok(result) = catch_unwind(AssertUnwindSafe(|| act(link, own, outbox))) {
            return Some(result);
        }
        log::error!("the connections to agent {agent} end: something that it sent cannot be handled");
        link.end("the connection to the agent has failed");
        self.by_call.retain(|_, of| *of != agent);
        self.forget(agent);
        None
    }

    /// Gives the links that are due their turn.
    fn turns(&mut self, now: Instant) {
        let due: Vec<AgentId> = self.due.iter().filter(|(_, at)| **at <= now).map(|(agent, _)| *agent).collect();
        for agent in due {
            let more = self.confined(agent, |link, own, outbox| link.turn(own, now, outbox));
            let (Some(more), Some(link)) = (more, self.links.get_mut(&agent)) else {
                self.due.remove(&agent);
                continue;
            };
            for id in link.ended() {
                self.by_call.remove(&id);
            }
            let next = if more { now } else { link.due(now) };
            if link.calls() == 0 && now.saturating_duration_since(link.idle_since) >= IDLE {
                self.forget(agent);
            } else {
                self.due.insert(agent, next);
            }
        }
    }

    /// Hands the relay what is for agents.
    fn post(&mut self, now: Instant) {
        if self.outbox.messages.is_empty() {
            return;
        }
        let Some((_, port)) = self.places else { return };
        let mut turn = self.around.relay.turn();
        let mut rest = self.outbox.bytes.as_slice();
        for (to, length) in self.outbox.messages.drain(..) {
            let Some((message, after)) = rest.split_at_checked(length) else { break };
            let sent = turn.send(port, &to, message, now);
            if let Some(link) = self.by_key.get(&to).and_then(|agent| self.links.get_mut(agent)) {
                link.is_unheard = sent != Sent::Forwarded;
            }
            rest = after;
        }
        turn.end_with_mail();
        self.outbox.bytes.clear();
        self.outbox.bytes.shrink_to(BURST_BYTES);
    }
}
