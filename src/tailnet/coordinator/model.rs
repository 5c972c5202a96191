//! A plain model of the coordinator, which queues every update as the real server does and coalesces
//! nothing. Each operation is done to both, and what streams read is compared.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use super::reader::{Stream, Told};
use super::*;
use crate::model::NodeKey;
use crate::wire::proto::tailnet::coordinate_response::peer_update::Kind;

/// Peers below this number are agents.
pub(super) const AGENTS: usize = 2;
/// So few that every pair meets often.
pub(super) const PEERS: usize = 4;

/// What can happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Join(usize),
    Update(usize, i32),
    Add(usize, usize),
    Remove(usize, usize),
    Ready(usize, usize),
    Disconnect(usize),
    Lose(usize),
    Drop(usize),
    Take(usize),
    /// All that an overwritten or ended stream could still ask.
    Stale(usize),
    Seconds(u64),
}

fn id(peer: usize) -> Uuid {
    Uuid::from_u128(0x1000 + peer as u128)
}

fn key(peer: usize, version: i32) -> NodeKey {
    let mut key = [1; 32];
    (key[0], key[1]) = (u8::try_from(peer).unwrap(), u8::try_from(version).unwrap());
    NodeKey(key)
}

fn node(peer: usize, version: i32) -> Node {
    Node { preferred_derp: version, key: [b"np".as_slice(), &key(peer, version).0].concat(), ..Node::default() }
}

/// The coordinator beside the model of it.
pub(super) struct World {
    coordinator: Coordinator,
    keys: Keys,
    now: Instant,
    seats: Vec<Option<Seat>>,
    stale: Vec<Seat>,
    streams: Vec<Option<Stream>>,
    /// Those lost, since when.
    lost: BTreeMap<usize, Instant>,
    tunnels: BTreeSet<(usize, usize)>,
    /// Those that an earlier stream asked for.
    aside: BTreeSet<(usize, usize)>,
    /// When they are given up, by the peer that asked for them.
    regains: BTreeMap<usize, Instant>,
    /// The key that each peer has announced and that is still known.
    announced: BTreeMap<usize, NodeKey>,
    /// Streams with a letter in flight.
    letters: BTreeSet<usize>,
}

impl World {
    pub(super) fn new() -> World {
        let keys = Keys::default();
        World {
            coordinator: Coordinator::new(keys.clone()),
            keys,
            now: Instant::now(),
            seats: vec![None; PEERS],
            stale: Vec::new(),
            streams: (0..PEERS).map(|_| None).collect(),
            lost: BTreeMap::new(),
            tunnels: BTreeSet::new(),
            aside: BTreeSet::new(),
            regains: BTreeMap::new(),
            announced: BTreeMap::new(),
            letters: BTreeSet::new(),
        }
    }

    fn tied(&self, one: usize, other: usize) -> bool {
        self.tunnels.contains(&(one, other)) || self.tunnels.contains(&(other, one))
    }

    fn in_sight(&self, one: usize, other: usize) -> bool {
        [(one, other), (other, one)].iter().any(|pair| self.tunnels.contains(pair) && !self.aside.contains(pair))
    }

    fn tell_node(&mut self, to: usize, about: usize, version: i32) {
        if let Some(stream) = &mut self.streams[to]
            && stream.sent.insert(about, version) != Some(version)
        {
            stream.queue.entry(about).or_default().push(Told::Node(version));
        }
    }

    fn tell_gone(&mut self, to: usize, about: usize, told: Told, for_good: bool) {
        let Some(stream) = &mut self.streams[to] else { return };
        let queue = stream.queue.entry(about).or_default();
        let was_sent = stream.sent.remove(&about).is_some();
        let as_lost = queue.last() == Some(&Told::Lost) || (queue.is_empty() && stream.known.contains_key(&about));
        if was_sent || (for_good && as_lost) {
            queue.push(told);
        }
        if told == Told::Disconnected || !stream.known.contains_key(&about) && was_sent {
            stream.ready.remove(&about);
        }
    }

    /// A tunnel is no more: what was lost over it is forgotten.
    fn untie(&mut self, to: usize, about: usize) {
        let Some(stream) = &mut self.streams[to] else { return };
        let queue = stream.queue.entry(about).or_default();
        match queue.last() {
            Some(Told::Lost) => queue.push(Told::Disconnected),
            Some(_) => {}
            None => {
                stream.known.remove(&about);
            }
        }
    }

    fn leave(&mut self, peer: usize, told: Told, for_good: bool, keep_tunnels: bool, silent: bool) {
        let partners: Vec<usize> = (0..PEERS).filter(|other| self.tied(peer, *other)).collect();
        if !keep_tunnels {
            self.tunnels.retain(|(from, _)| *from != peer);
            self.aside.retain(|(from, _)| *from != peer);
        }
        for partner in partners {
            if !silent {
                self.tell_gone(partner, peer, told, for_good);
            }
            if !self.tied(peer, partner) {
                self.untie(partner, peer);
            }
        }
        self.stale.extend(self.seats[peer].take());
        self.streams[peer] = None;
        self.letters.remove(&peer);
        self.regains.remove(&peer);
        if !keep_tunnels {
            self.announced.remove(&peer);
            self.lost.remove(&peer);
        }
    }

    /// Does it to both, and checks what holds at every moment.
    pub(super) fn run(&mut self, op: Op) {
        match op {
            Op::Join(peer) => {
                let who = if peer < AGENTS { Who::Agent(AgentId(id(peer))) } else { Who::Client };
                let seat = self.coordinator.join(id(peer), who, self.now);
                let older = self.seats[peer].replace(seat);
                self.streams[peer] = Some(Stream::default());
                self.letters.remove(&peer);
                self.lost.remove(&peer);
                self.aside.extend(self.tunnels.iter().filter(|(from, _)| *from == peer));
                self.regains.insert(peer, self.now + TUNNELS_KEPT);
                let effects = self.effects();
                let superseded = effects.into_iter().find(|effect| matches!(effect, Effect::Superseded(_)));
                assert_eq!(superseded, older.clone().map(Effect::Superseded));
                self.stale.extend(older);
                for other in 0..PEERS {
                    if self.in_sight(peer, other)
                        && let Some(version) = self.streams[other].as_ref().and_then(|stream| stream.node)
                    {
                        self.tell_node(peer, other, version);
                    }
                }
            }
            Op::Update(peer, version) => {
                let Some(seat) = self.seats[peer].clone() else { return };
                self.coordinator.update(&seat, node(peer, version)).unwrap();
                self.streams[peer].as_mut().unwrap().node = Some(version);
                self.announced.insert(peer, key(peer, version));
                for other in 0..PEERS {
                    if self.in_sight(peer, other) {
                        self.tell_node(other, peer, version);
                    }
                }
            }
            Op::Add(from, to) => {
                let Some(seat) = self.seats[from].clone() else { return };
                self.coordinator.add_tunnel(&seat, id(to)).unwrap();
                if from == to {
                    return;
                }
                self.tunnels.insert((from, to));
                self.aside.remove(&(from, to));
                for (receiver, subject) in [(from, to), (to, from)] {
                    if let Some(version) = self.streams[subject].as_ref().and_then(|stream| stream.node) {
                        self.tell_node(receiver, subject, version);
                    }
                }
            }
            Op::Remove(from, to) => {
                let Some(seat) = self.seats[from].clone() else { return };
                self.coordinator.remove_tunnel(&seat, id(to));
                self.aside.remove(&(from, to));
                if self.tunnels.remove(&(from, to)) && !self.tied(from, to) {
                    for (receiver, subject) in [(from, to), (to, from)] {
                        self.tell_gone(receiver, subject, Told::Disconnected, false);
                        self.untie(receiver, subject);
                    }
                }
            }
            Op::Ready(from, of) => {
                let Some(seat) = self.seats[from].clone() else { return };
                self.coordinator.ready(&seat, id(of));
                if !self.in_sight(from, of) {
                    self.streams[from].as_mut().unwrap().errors.insert(of);
                } else if let Some(stream) = &mut self.streams[of] {
                    stream.ready.insert(from);
                }
            }
            Op::Disconnect(peer) => {
                let Some(seat) = self.seats[peer].clone() else { return };
                self.coordinator.disconnect(&seat);
                self.leave(peer, Told::Disconnected, false, false, false);
            }
            Op::Lose(peer) => {
                let Some(seat) = self.seats[peer].clone() else { return };
                self.coordinator.lose(&seat, self.now);
                self.leave(peer, Told::Lost, false, true, false);
                self.lost.insert(peer, self.now);
            }
            Op::Drop(peer) => {
                self.coordinator.drop_peer(id(peer));
                let was = self.seats[peer].clone();
                let effects = self.effects();
                let withdrawn = effects.into_iter().find(|effect| matches!(effect, Effect::Withdrawn(_)));
                assert_eq!(withdrawn, was.map(Effect::Withdrawn));
                self.leave(peer, Told::Disconnected, true, false, false);
            }
            Op::Take(peer) => self.take(peer),
            Op::Stale(at) => {
                if self.stale.is_empty() {
                    return;
                }
                let seat = self.stale[at % self.stale.len()].clone();
                assert!(!self.coordinator.is_current(&seat));
                self.coordinator.update(&seat, node(at, 9)).unwrap();
                self.coordinator.add_tunnel(&seat, id((at + 1) % PEERS)).unwrap();
                self.coordinator.remove_tunnel(&seat, id((at + 1) % PEERS));
                self.coordinator.ready(&seat, id((at + 1) % PEERS));
                self.coordinator.disconnect(&seat);
                self.coordinator.lose(&seat, self.now);
                assert_eq!(self.coordinator.take(&seat), Vec::new());
                assert_eq!(self.effects(), Vec::new(), "nothing follows from it");
            }
            Op::Seconds(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.coordinator.expire(self.now);
                let due: Vec<usize> = self.regains.keys().copied().collect();
                for peer in due.into_iter().filter(|peer| self.regains[peer] <= self.now).collect::<Vec<_>>() {
                    self.regains.remove(&peer);
                    for other in 0..PEERS {
                        if self.aside.remove(&(peer, other))
                            && self.tunnels.remove(&(peer, other))
                            && !self.tied(peer, other)
                        {
                            for (receiver, subject) in [(peer, other), (other, peer)] {
                                self.tell_gone(receiver, subject, Told::Disconnected, true);
                                self.untie(receiver, subject);
                            }
                        }
                    }
                }
                let due: Vec<usize> = self.lost.keys().copied().collect();
                for peer in due {
                    if self.now - self.lost[&peer] >= LOST_KEPT {
                        self.leave(peer, Told::Disconnected, true, false, peer < AGENTS);
                    }
                }
            }
        }
        self.effects();
        self.check();
    }

    /// A new stream has been told of nobody but those it may see by what it asked itself.
    fn check_sight(&self, peer: usize, subject: usize) {
        let gone = self.streams[subject].is_none();
        assert!(gone || self.in_sight(peer, subject) || self.aside.contains(&(subject, peer)), "{peer} of {subject}");
    }

    /// Takes the effects; a stream gets one letter at most until it reads.
    fn effects(&mut self) -> Vec<Effect> {
        let effects = self.coordinator.effects();
        for effect in &effects {
            if let Effect::Mail(seat) = effect {
                let peer = (0..PEERS).find(|peer| id(*peer) == seat.peer()).unwrap();
                if self.coordinator.is_current(seat) {
                    assert!(self.letters.insert(peer), "one letter is in flight at most");
                }
            }
        }
        effects
    }

    fn take(&mut self, peer: usize) {
        let Some(seat) = self.seats[peer].clone() else { return };
        let messages = self.coordinator.take(&seat);
        let had_letter = self.letters.remove(&peer);
        assert!(had_letter || messages.is_empty(), "what is there was announced");
        let stream = self.streams[peer].as_mut().unwrap();
        let expected = stream.expected();
        let expected_ready = std::mem::take(&mut stream.ready);
        let errors = std::mem::take(&mut stream.errors);
        let mut told: BTreeMap<usize, Vec<Told>> = BTreeMap::new();
        let mut ready = BTreeSet::new();
        for update in messages.iter().flat_map(|message| &message.peer_updates) {
            let subject = (0..PEERS).find(|peer| id(*peer).as_bytes().as_slice() == update.id).unwrap();
            let one = match update.kind() {
                Kind::Node => Told::Node(update.node.as_ref().unwrap().preferred_derp),
                Kind::Lost => Told::Lost,
                Kind::Disconnected => Told::Disconnected,
                Kind::ReadyForHandshake => {
                    assert!(ready.insert(subject), "once");
                    assert!(self.tied(peer, subject), "no readiness leaks");
                    continue;
                }
                Kind::Unspecified => panic!("{update:?}"),
            };
            if let Told::Node(_) = one {
                self.check_sight(peer, subject);
                assert!(self.tied(peer, subject), "no node leaks");
                assert!(!ready.contains(&subject), "the node comes before the readiness");
            }
            told.entry(subject).or_default().push(one);
        }
        assert_eq!(told, expected, "of {peer}");
        assert_eq!(ready, expected_ready, "of {peer}");
        let texts: Vec<&str> =
            messages.iter().map(|message| message.error.as_str()).filter(|text| !text.is_empty()).collect();
        assert_eq!(texts.len(), errors.len());
        for other in errors {
            let text = format!("ready for handshake error: you do not share a tunnel with \"{}\"", id(other));
            assert!(texts.contains(&text.as_str()));
        }
    }

    /// What holds at every moment.
    fn check(&self) {
        for peer in 0..PEERS {
            assert_eq!(
                self.coordinator.partners(id(peer)),
                (0..PEERS).filter(|other| self.tied(peer, *other)).map(id).collect::<Vec<_>>()
            );
            let known = (1..4).filter(|version| self.keys.knows(&key(peer, *version)));
            let announced = (1..4).filter(|version| self.announced.get(&peer) == Some(&key(peer, *version)));
            assert_eq!(known.collect::<Vec<_>>(), announced.collect::<Vec<_>>(), "keys of {peer}");
            if let Some(open) = self.coordinator.peers.get(&id(peer)).and_then(|peer| peer.seat.as_ref()) {
                let known = &self.streams[peer].as_ref().unwrap().known;
                let may = |other: &usize| known.contains_key(other) || self.tied(peer, *other);
                let bound: Vec<Uuid> = (0..PEERS).filter(may).map(id).collect();
                for subject in open.inbox.subjects() {
                    assert!(bound.contains(&subject), "an inbox holds what was read and its tunnels");
                }
            }
        }
        let counts = self.coordinator.counts();
        let seats = |peers: std::ops::Range<usize>| peers.filter(|peer| self.seats[*peer].is_some()).count();
        assert_eq!((counts.agents, counts.clients), (seats(0..AGENTS), seats(AGENTS..PEERS)));
        assert!(counts.lost <= self.lost.len(), "who left nothing behind is not remembered");
        assert_eq!(counts.tunnels, self.tunnels.len());
    }

    /// When all have read everything, each live pair with a tunnel knows the other's newest node, and
    /// nobody knows anything of others.
    pub(super) fn finish(&mut self) {
        self.run(Op::Seconds(TUNNELS_KEPT.as_secs()));
        for peer in 0..PEERS {
            self.take(peer);
            self.take(peer);
        }
        for (peer, stream) in self.streams.iter().enumerate() {
            let Some(stream) = stream else { continue };
            for other in 0..PEERS {
                let known = stream.known.get(&other).copied();
                let theirs = self.streams[other].as_ref();
                match (self.tied(peer, other), theirs.map(|theirs| theirs.node)) {
                    (false, _) => assert_eq!(known, None, "{peer} of {other}"),
                    (true, None) => assert!(!matches!(known, Some(Told::Node(_))), "{peer} of {other}"),
                    (true, Some(Some(version))) => assert_eq!(known, Some(Told::Node(version)), "{peer} of {other}"),
                    // It has opened a new stream and not announced itself on it: the old node stands.
                    (true, Some(None)) => {}
                }
            }
        }
        for peer in 0..PEERS {
            self.run(Op::Disconnect(peer));
        }
        self.run(Op::Seconds(LOST_KEPT.as_secs()));
        assert_eq!(self.coordinator.counts(), Counts::default(), "nothing is left");
        assert!(self.coordinator.peers.is_empty() && self.coordinator.regains.is_empty());
        assert!(self.coordinator.tunnels.is_blank());
    }
}
