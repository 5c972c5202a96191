//! One agent as the server's own peer sees it: its node, the tunnel to it, and the connections through that.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::conduit::End;
use super::door::Dial;
use super::identity::{Own, Remote};
use super::stack::{Line, Reading, Stack};
use super::tunnel::{Boring, Tunnel};
use crate::model::{AgentId, NodeKey};
use crate::tailnet::admission;
use crate::wire::disco::Seal;

/// Time that an agent gets to say that it is ready for the handshake; the real clients wait as long
/// (tailnet/configmaps.go, v2.24.0).
const READY_WITHIN: Duration = Duration::from_secs(5);
/// Time between two looks at the tunnel's timers, while it has connections and while it has none.
const TICK: Duration = Duration::from_millis(250);
const IDLE_TICK: Duration = Duration::from_secs(1);
/// Time that the agent gets to take what is left when the user has closed a connection.
const LINGER: Duration = Duration::from_secs(5);
/// Rounds of one turn: the other agents have theirs.
const ROUNDS: usize = 8;

/// Messages for the relay: whom for, and how long; the bytes one behind the other.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    pub(super) messages: Vec<(NodeKey, usize)>,
}

impl Outbox {
    pub(super) fn push(&mut self, to: NodeKey, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.messages.push((to, message.len()));
    }
}

struct Call {
    pipe: End,
    port: u16,
    /// When it must be open.
    deadline: Option<Instant>,
    /// When it must be over, if ever.
    over: Option<Instant>,
    line: Option<Line>,
    /// The user is gone; until then the agent may take what is left.
    linger: Option<Instant>,
}

/// See above.
pub(super) struct Link {
    remote: Option<Remote>,
    seal: Option<Seal>,
    /// From when on a handshake may begin, whatever the agent says.
    ready_at: Option<Instant>,
    tunnel: Option<Boring>,
    stack: Stack,
    /// The agent's address, the only one for which it may speak.
    address: Ipv6Addr,
    calls: BTreeMap<u64, Call>,
    /// Connections that are to be forgotten once their last packets are made.
    over: Vec<u64>,
    /// Connections that were forgotten since somebody asked.
    ended: Vec<u64>,
    /// It has announced what belongs to another, and that was said.
    pub(super) is_accused: bool,
    /// The relay could not pass on what was sent last: the agent has no connection to it at present.
    pub(super) is_unheard: bool,
    /// Since when there have been no connections.
    pub(super) idle_since: Instant,
    tick_at: Instant,
    index: u32,
}

impl Link {
    pub(super) fn new(agent: AgentId, own: &Own, index: u32, seed: u64, now: Instant) -> Link {
        let [address, ..] = admission::addresses(agent);
        Link {
            remote: None,
            seal: None,
            ready_at: None,
            tunnel: None,
            stack: Stack::new(own.address, address, seed, now),
            address,
            calls: BTreeMap::new(),
            over: Vec::new(),
            ended: Vec::new(),
            is_accused: false,
            is_unheard: false,
            idle_since: now,
            tick_at: now + TICK,
            index,
        }
    }

    pub(super) fn key(&self) -> Option<NodeKey> {
        self.remote.as_ref().map(|remote| remote.key)
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Connections that are no more.
    pub(super) fn ended(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.ended)
    }

    /// A user dials.
    pub(super) fn dial(&mut self, dial: Dial) {
        let Dial { port, within, pipe, .. } = dial;
        let call = Call { pipe, port, deadline: Some(within.open), over: within.over, line: None, linger: None };
        self.calls.insert(call.pipe.id, call);
    }

    /// The agent has announced itself. With another key it is another process: what went through the old
    /// tunnel is gone.
    pub(super) fn announced(&mut self, remote: Remote, own: &Own, now: Instant) {
        let same = self.key() == Some(remote.key);
        self.seal = Some(Seal::new(&own.disco, remote.disco));
        if !same {
            self.tunnel = Some(Boring::new(&own.secret, remote.key, self.index));
            self.ready_at = Some(now + READY_WITHIN);
            self.end_begun("the agent was restarted");
        }
        self.remote = Some(remote);
    }

    /// The agent waits for the handshake.
    pub(super) fn ready(&mut self, now: Instant) {
        self.ready_at = self.ready_at.map(|_| now);
    }

    /// The agent is gone for good, or may not be reached any more.
    pub(super) fn gone(&mut self) {
        self.remote = None;
        self.seal = None;
        self.tunnel = None;
        self.ready_at = None;
        self.end_begun("the agent is gone");
    }

    /// What went through the tunnel is gone: ends the connections that were open. The others begin anew.
    fn end_begun(&mut self, why: &str) {
        let (stack, ended) = (&mut self.stack, &mut self.ended);
        self.calls.retain(|id, call| {
            let Some(line) = call.line.take() else { return true };
            stack.abort(&line);
            stack.remove(line);
            if call.deadline.is_some() && call.linger.is_none() {
                return true;
            }
            ended.push(*id);
            call.pipe.end(Some(why.to_owned()));
            false
        });
    }

    /// Ends everything.
    pub(super) fn end(&mut self, why: &str) {
        for (_, call) in std::mem::take(&mut self.calls) {
            call.pipe.end(Some(why.to_owned()));
        }
    }

    /// A packet from the agent.
    pub(super) fn receive(&mut self, packet: &[u8], now: Instant, out: &mut Outbox) {
        let (Some(remote), Some(tunnel)) = (&self.remote, &mut self.tunnel) else { return };
        let (key, stack, peer) = (remote.key, &mut self.stack, self.address);
        tunnel.open(packet, &mut |message| out.push(key, message), &mut |inner| {
            // As with allowed IPs: an agent speaks for no address but its own.
            if source(inner) == Some(peer) {
                stack.receive(now, inner);
            }
        });
    }

    /// A packet of the discovery protocol: pings are answered, everything else is for peers that have paths
    /// beside the relay.
    pub(super) fn probed(&self, packet: &[u8], own: &Own, nonce: [u8; 24], out: &mut Outbox) {
        let (Some(remote), Some(seal)) = (&self.remote, &self.seal) else { return };
        if let Some(tx) = seal.ping(packet) {
            let mut pong = Vec::new();
            seal.pong(tx, own.region, nonce, &mut pong);
            out.push(remote.key, &pong);
        }
    }

    /// The user of a connection has done something, or is gone.
    pub(super) fn poked(&mut self, id: u64, now: Instant) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.pipe.look() || call.linger.is_some() {
            return;
        }
        match call.line {
            Some(_) => call.linger = Some(now + LINGER),
            None => {
                self.calls.remove(&id);
                self.ended.push(id);
            }
        }
    }

    /// Does what is due; says whether there is more at once.
    pub(super) fn turn(&mut self, own: &Own, now: Instant, out: &mut Outbox) -> bool {
        if now >= self.tick_at {
            self.tick_at = now + if self.calls.is_empty() { IDLE_TICK } else { TICK };
            if let (Some(remote), Some(tunnel)) = (&self.remote, &mut self.tunnel) {
                let key = remote.key;
                // After a restart of the server the agent may be back at the coordinator before it is back at
                // the relay; the protocol's own next try would be 5 s later.
                if self.is_unheard && !self.calls.is_empty() {
                    tunnel.retry(&mut |message| out.push(key, message));
                }
                tunnel.tick(&mut |message| out.push(key, message));
            }
        }
        if self.ready_at.is_some_and(|at| now >= at) {
            self.begin();
        }
        let mut more = true;
        for _ in 0..ROUNDS {
            if !more {
                break;
            }
            self.exchange(own, now);
            more = self.flush(now, out);
        }
        if !self.calls.is_empty() {
            self.idle_since = now;
        }
        more
    }

    /// Begins the connections that wait for the tunnel.
    fn begin(&mut self) {
        let (stack, ended) = (&mut self.stack, &mut self.ended);
        self.calls.retain(|id, call| {
            if call.line.is_none() {
                call.line = stack.connect(call.port);
                if call.line.is_none() {
                    ended.push(*id);
                    call.pipe.end(Some("dial: there are too many connections with the agent".into()));
                }
            }
            call.line.is_some()
        });
    }

    /// Moves bytes between users and stack.
    fn exchange(&mut self, own: &Own, now: Instant) {
        let (stack, over) = (&mut self.stack, &mut self.over);
        let state = (self.remote.as_ref(), self.tunnel.as_ref().is_some_and(Tunnel::is_established));
        for (id, call) in &mut self.calls {
            let Some(line) = &call.line else {
                if call.deadline.is_some_and(|at| now >= at) {
                    call.pipe.end(Some(unreached(state, own, call.port)));
                    over.push(*id);
                }
                continue;
            };
            if let Some(until) = call.linger {
                let mut rest = Vec::new();
                stack.read(line, usize::MAX, &mut rest);
                // What the user said last is sent all the same.
                call.pipe.take(|bytes| stack.write(line, bytes));
                if call.pipe.is_drained() {
                    stack.close(line);
                }
                if now >= until {
                    stack.abort(line);
                }
                if now >= until || stack.is_over(line) {
                    over.push(*id);
                }
                continue;
            }
            let mut reading = Reading::Empty;
            call.pipe.give(|room, buffer| {
                reading = stack.read(line, room, buffer);
                reading == Reading::More
            });
            match reading {
                Reading::Dialing => {
                    if call.deadline.is_some_and(|at| now >= at) {
                        call.pipe.end(Some(unreached(state, own, call.port)));
                        stack.abort(line);
                        over.push(*id);
                    }
                }
                Reading::Empty | Reading::More if call.over.is_some_and(|at| now >= at) => {
                    call.pipe.end(Some("the agent takes too long to answer".into()));
                    stack.abort(line);
                    over.push(*id);
                }
                Reading::Empty | Reading::More => {
                    if call.deadline.take().is_some() {
                        call.pipe.opened();
                    }
                    call.pipe.take(|bytes| stack.write(line, bytes));
                }
                Reading::Ended => {
                    call.pipe.end(None);
                    stack.close(line);
                    call.linger = Some(now + LINGER);
                }
                Reading::Broken => {
                    call.pipe.end(Some(match call.deadline {
                        Some(_) => format!("dial: the agent refuses connections to its port {}", call.port),
                        None => "the connection to the agent broke".into(),
                    }));
                    over.push(*id);
                }
            }
        }
    }

    /// Sends what the stack has to say; says whether there is more.
    fn flush(&mut self, now: Instant, out: &mut Outbox) -> bool {
        let mut more = false;
        if let (Some(remote), Some(tunnel)) = (&self.remote, &mut self.tunnel) {
            let key = remote.key;
            more = self.stack.transmit(now, |packet| tunnel.seal(packet, &mut |message| out.push(key, message)));
        }
        for id in std::mem::take(&mut self.over) {
            if let Some(Call { line: Some(line), .. }) = self.calls.remove(&id) {
                self.stack.remove(line);
            }
            self.ended.push(id);
        }
        more
    }

    /// When [`Link::turn`] is due.
    pub(super) fn due(&mut self, now: Instant) -> Instant {
        let mut due = self.tick_at;
        if let Some(delay) = self.stack.delay(now) {
            due = due.min(now + delay);
        }
        for call in self.calls.values() {
            let begin = self.ready_at.filter(|_| call.line.is_none());
            let times = match call.linger {
                Some(until) => [Some(until), None, None],
                None => [begin, call.deadline, call.over],
            };
            due = times.into_iter().flatten().fold(due, Instant::min);
        }
        due
    }
}

/// Why an agent was not reached in time.
fn unreached((remote, established): (Option<&Remote>, bool), own: &Own, port: u16) -> String {
    match remote {
        None => "dial workspace agent: it has no connection to the coordinator at present".into(),
        Some(_) if established => format!("dial: port {port} of the agent does not answer"),
        Some(remote) if remote.region != i32::from(own.region) => format!(
            "dial workspace agent: its home is relay region {}, and the server reaches agents through its own only",
            remote.region
        ),
        Some(_) => "dial workspace agent: nothing came back from it through the relay".into(),
    }
}

/// Where an inner packet comes from, if it is one of IPv6.
fn source(packet: &[u8]) -> Option<Ipv6Addr> {
    let (version, address) = (packet.first()? >> 4, packet.get(8..24)?);
    (version == 6).then(|| address.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes))).flatten()
}
