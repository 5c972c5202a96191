//! What agents may do to the server's own peer, and what it must not lead to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use mio::Poll;
use uuid::Uuid;

use super::conduit::{Conduit, End, Pipe, State};
use super::door::{Dial, Door, Order, Within};
use super::node::{Node, Surroundings};
use super::stack::Stack;
use super::tests::{AGENT, Dice, OWN};
use crate::model::{AgentId, NodeKey};
use crate::ops::mail::{Address, ConnId, Mailbox};
use crate::ops::metrics::{Metrics, PeerMetrics};
use crate::tailnet::derp::{Sent, Switch};
use crate::tailnet::keys::Keys;
use crate::tailnet::{Seat, Tailnet, Who};
use crate::wire::derp::{HEAD_BYTES, kind, peek};
use crate::wire::proto::tailnet::Node as Announced;

/// A node without a thread: the test gives it its rounds.
struct Place {
    tailnet: Tailnet,
    node: Node,
    door: Door,
    pipes: Vec<Arc<Pipe>>,
}

/// Somebody whose letters nobody reads.
fn nobody() -> (Address, Poll) {
    let poll = Poll::new().unwrap();
    let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
    let (sender, _) = sync_channel(1);
    (Address { mailbox: Mailbox::new(sender, waker), conn: ConnId { slot: 0, generation: 0 } }, poll)
}

impl Place {
    fn new() -> Place {
        let keys = Keys::default();
        let tailnet = Tailnet::new(keys.clone());
        let relay = Switch::new(keys, Metrics::new().relay.clone(), 8);
        let around = Surroundings { tailnet: tailnet.clone(), relay, region: 999, metrics: PeerMetrics::default() };
        let (node, door) = Node::new(around).unwrap();
        Place { tailnet, node, door, pipes: Vec::new() }
    }

    fn dial(&mut self, agent: AgentId) -> Arc<Pipe> {
        let pipe = Arc::new(Pipe::new(u64::try_from(self.pipes.len()).unwrap(), Vec::new(), Box::new(|| true)));
        self.pipes.push(Arc::clone(&pipe));
        let within = Within { open: Instant::now() + Duration::from_secs(10), over: None };
        self.door.order(Order::Dial(Dial { agent, port: 2, within, pipe: End::of(&pipe) }));
        pipe
    }

    fn agent(&self, agent: AgentId) -> Seat {
        self.tailnet.join(agent.0, Who::Agent(agent), nobody().0, 0)
    }

    fn announce(&self, seat: &Seat, key: NodeKey) {
        let key = [b"np".as_slice(), &key.0].concat();
        let disco = format!("discokey:{}", "0a".repeat(32));
        let node = Announced { key, disco, preferred_derp: 999, ..Announced::default() };
        self.tailnet.update(seat, node).unwrap();
    }

    fn round(&mut self) {
        assert!(self.node.round().is_ok());
    }
}

#[test]
fn many_agents_that_go_at_once_cost_the_peer_nothing() {
    let key = |number: u16| {
        let mut key = [1; 32];
        key[..2].copy_from_slice(&number.to_be_bytes());
        NodeKey(key)
    };
    let keys = Keys::default();
    (0..=1_000).for_each(|number| keys.announce(Uuid::from_u128(number.into()), key(number)));
    let relay = Switch::new(keys, Metrics::new().relay.clone(), 8);
    let (now, address) = (Instant::now(), nobody().0);
    let mut turn = relay.turn();
    let own = turn.join(key(0), address.clone(), now);
    turn.host(own);
    for number in 1..=1_000 {
        let agent = turn.join(key(number), address.clone(), now);
        assert_eq!(turn.send(agent, &key(0), b"packet", now), Sent::Forwarded);
        turn.leave(agent);
    }
    let mut frames = Vec::new();
    assert!(turn.take(own, false, &mut frames));
    let mut count = 0;
    while let Some((kind::RECV_PACKET, length)) = peek(&frames) {
        frames.drain(..HEAD_BYTES + length);
        count += 1;
    }
    assert_eq!((count, frames.len()), (1_000, 0));
}

#[test]
fn a_fault_costs_the_agent_that_led_to_it_its_connections_only() {
    let mut place = Place::new();
    let agents = [AgentId::random(), AgentId::random()];
    let pipes = agents.map(|agent| place.dial(agent));
    place.round();
    assert!(place.node.confined::<()>(agents[0], |_, _, _| panic!("as it may be in a library")).is_none());
    place.round();
    let states = pipes.map(|pipe| Conduit::new(pipe, place.door.clone()).read(&mut Vec::new()));
    assert!(matches!(&states, [State::Failed(_), State::Dialing]), "{states:?}");
    // The next one finds a fresh link.
    let again = place.dial(agents[0]);
    place.round();
    assert_eq!(Conduit::new(again, place.door.clone()).read(&mut Vec::new()), State::Dialing);
}

#[test]
fn who_reads_nothing_is_told_of_room_all_the_same() {
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let notify = Box::new(move || count.fetch_add(1, Ordering::Relaxed) < usize::MAX);
    let (place, pipe) = (Place::new(), Arc::new(Pipe::new(1, Vec::new(), notify)));
    let mut conduit = Conduit::new(Arc::clone(&pipe), place.door);
    pipe.opened();
    pipe.give(|_, bytes| {
        bytes.extend_from_slice(b"unread");
        false
    });
    assert_eq!(told.load(Ordering::Relaxed), 1, "once for what was not looked at");
    let typed = vec![b'k'; 100_000];
    assert!(conduit.write(&typed) < typed.len());
    pipe.take(<[u8]>::len);
    assert_eq!(told.load(Ordering::Relaxed), 2);
}

#[test]
fn whoever_dials_while_the_peer_stops_is_told() {
    let mut place = Place::new();
    let before = place.dial(AgentId::random());
    place.door.order(Order::Stop);
    let behind = place.dial(AgentId::random());
    assert!(place.node.round().is_err());
    let Place { node, door, .. } = place;
    drop(node);
    for pipe in [before, behind] {
        let state = Conduit::new(pipe, door.clone()).read(&mut Vec::new());
        assert!(matches!(&state, State::Failed(_)), "{state:?}");
    }
}

#[test]
fn a_key_stays_with_the_agent_that_announced_it_first() {
    let mut place = Place::new();
    let (one, thief) = (AgentId::random(), AgentId::random());
    let (own, foreign) = (place.agent(one), place.agent(thief));
    let (key, other) = (NodeKey([1; 32]), NodeKey([2; 32]));
    place.announce(&own, key);
    place.announce(&foreign, key);
    // The thief is dialled first, and holds the key until the other is.
    place.dial(thief);
    place.round();
    assert_eq!(place.node.holder(&key), Some(thief));
    place.dial(one);
    place.round();
    assert_eq!(place.node.holder(&key), Some(one));
    // Whatever the thief does then takes nothing away.
    place.announce(&foreign, other);
    place.round();
    place.announce(&foreign, key);
    place.round();
    // The server's own is nobody else's.
    place.announce(&foreign, place.node.key());
    place.round();
    assert_eq!(place.node.holder(&place.node.key()), None);
    assert_eq!(place.node.holder(&key), Some(one));
    place.tailnet.disconnect(&foreign);
    place.round();
    assert_eq!(place.node.holder(&key), Some(one));
    place.tailnet.disconnect(&own);
    place.round();
    assert_eq!(place.node.holder(&key), None);
}

/// What a hostile agent answers: nearly what is expected, or anything.
fn forged(heard: &[u8], dice: &mut Dice) -> Vec<u8> {
    let word = |at: usize| heard.get(at..at + 4).map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
    let near = |around: u32, dice: &mut Dice| match dice.below(8) {
        0 => around.wrapping_add(u32::try_from(dice.below(70_000)).unwrap()),
        1 => around.wrapping_sub(u32::try_from(dice.below(70_000)).unwrap()),
        2 => around.wrapping_add(1 << 31).wrapping_add(u32::try_from(dice.below(3)).unwrap()),
        3 => u32::try_from(dice.below(1 << 32)).unwrap(),
        4 => around.wrapping_add(1),
        _ => around,
    };
    let (ports, sequence, acknowledged) = (&heard[40..44], word(44), word(48));
    let mut options = Vec::new();
    for _ in 0..dice.below(3) {
        let value = u8::try_from(dice.below(256)).unwrap();
        let option: &[u8] = match dice.below(6) {
            0 => &[2, 4, 0, value],
            1 => &[3, 3, value],
            2 => &[4, 2],
            3 => &[5, 10, 0, 0, 0, value, 0, 0, 1, 0],
            4 => &[8, 10, value, 0, 0, 0, 0, 0, 0, value],
            _ => &[value, value],
        };
        options.extend_from_slice(option);
    }
    options.resize(options.len().next_multiple_of(4).min(40), 0);
    let flags = [0x12, 0x10, 0x10, 0x18, 0x11, 0x04, 0x14, 0x02, 0x00, 0x3f][usize::try_from(dice.below(10)).unwrap()];
    let window = [0, 1, 64, 65_535][usize::try_from(dice.below(4)).unwrap()];
    let payload = [0, 0, 1, 500, 1_200][usize::try_from(dice.below(5)).unwrap()];
    let length = 20 + options.len() + payload;
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, 6, 64];
    packet[4..6].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    packet.extend_from_slice(&AGENT.octets());
    packet.extend_from_slice(&OWN.octets());
    packet.extend_from_slice(&[ports[2], ports[3], ports[0], ports[1]]);
    packet.extend_from_slice(&near(if acknowledged == 0 { 7 } else { acknowledged }, dice).to_be_bytes());
    let said = sequence.wrapping_add(u32::try_from(heard.len() - 60).unwrap());
    packet.extend_from_slice(&near(said.wrapping_add(u32::from(heard[53] & 3 != 0)), dice).to_be_bytes());
    packet.extend_from_slice(&[u8::try_from((20 + options.len()) / 4 * 16).unwrap(), flags]);
    packet.extend_from_slice(&u16::to_be_bytes(window));
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(&options);
    packet.resize(packet.len() + payload, b'x');
    if dice.hits(20) {
        packet[6] = [0, 6, 17, 43, 44, 58, 59, 60][usize::try_from(dice.below(8)).unwrap()];
        packet[40..60].fill_with(|| u8::try_from(dice.below(256)).unwrap());
    }
    if dice.hits(50) {
        let at = usize::try_from(dice.below(u64::try_from(packet.len()).unwrap())).unwrap();
        packet[at] = u8::try_from(dice.below(256)).unwrap();
    }
    if dice.hits(100) {
        packet.truncate(usize::try_from(dice.below(u64::try_from(packet.len()).unwrap())).unwrap());
    }
    packet
}

#[test]
fn nothing_that_an_agent_says_stops_the_stack_or_keeps_it_busy() {
    for seed in 0..300 {
        let (began, mut dice) = (Instant::now(), Dice(seed));
        let (mut stack, mut clock) = (Stack::new(OWN, AGENT, seed, began), Duration::ZERO);
        let line = stack.connect(4).unwrap();
        let mut heard: Vec<Vec<u8>> = Vec::new();
        for step in 0..400 {
            let pause = [0, 1, 11, 300, 11_000][usize::try_from(dice.below(5)).unwrap()];
            clock += Duration::from_millis(pause);
            let now = began + clock;
            if dice.hits(3) {
                stack.write(&line, &[b'k'; 3_000]);
            }
            if dice.hits(3) {
                stack.read(&line, usize::try_from(dice.below(70_000)).unwrap(), &mut Vec::new());
            }
            if step > 300 && dice.hits(50) {
                stack.close(&line);
            }
            while stack.transmit(now, |packet| heard.push(packet.to_vec())) {}
            let idle = (0..20).all(|_| {
                let mut sent = 0;
                stack.transmit(now, |_| sent += 1);
                sent == 0 && stack.delay(now) == Some(Duration::ZERO)
            });
            assert!(!idle, "seed {seed}, step {step}: it is always due and has nothing to say");
            heard.retain(|packet| packet.len() >= 60 && packet[6] == 6);
            if heard.len() > 8 {
                heard.drain(..heard.len() - 8);
            }
            if let Some(last) = heard.last() {
                for _ in 0..dice.below(4) {
                    stack.receive(now, &forged(last, &mut dice));
                }
            }
        }
        stack.remove(line);
    }
}
