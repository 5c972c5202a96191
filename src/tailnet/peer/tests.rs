//! A stack and a tunnel against an agent's made of the same libraries, with packets that are lost and swapped.
//! The real agent is in the interop tests.

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use boringtun::x25519::{PublicKey, StaticSecret};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::stack::{Reading, Stack};
use super::tunnel::{Boring, MTU, Tunnel, is_worn_out};
use crate::model::NodeKey;

pub(super) const OWN: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1);
pub(super) const AGENT: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2);

/// The agent's end: it sends back what it gets.
struct Echo {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: smoltcp::iface::SocketHandle,
    wire: Wire,
    held: Vec<u8>,
}

#[derive(Default)]
struct Wire {
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

struct Incoming(Vec<u8>);
struct Outgoing<'a>(&'a mut Vec<Vec<u8>>);

impl smoltcp::phy::RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl smoltcp::phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}

impl smoltcp::phy::Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: time::Instant) -> Option<(Incoming, Outgoing<'_>)> {
        Some((Incoming(self.incoming.pop_front()?), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: time::Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> smoltcp::phy::DeviceCapabilities {
        let mut all = smoltcp::phy::DeviceCapabilities::default();
        all.medium = smoltcp::phy::Medium::Ip;
        all.max_transmission_unit = MTU;
        all
    }
}

impl Echo {
    fn new(port: u16) -> Echo {
        let mut wire = Wire::default();
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut wire, time::Instant::ZERO);
        interface.update_ip_addrs(|all| all.push(IpCidr::new(IpAddress::Ipv6(AGENT), 128)).unwrap());
        interface.routes_mut().add_default_ipv6_route(OWN).unwrap();
        let mut socket = Socket::new(SocketBuffer::new(vec![0; 65_536]), SocketBuffer::new(vec![0; 65_536]));
        socket.listen(port).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Echo { interface, sockets, handle, wire, held: Vec::new() }
    }

    fn turn(&mut self, now: time::Instant) -> Vec<Vec<u8>> {
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        while socket.can_recv() && self.held.len() < 65_536 {
            socket.recv(|bytes| (bytes.len(), self.held.extend_from_slice(bytes))).unwrap();
        }
        if socket.may_send() && !self.held.is_empty() {
            let sent = socket.send_slice(&self.held).unwrap();
            self.held.drain(..sent);
        }
        if socket.state() == smoltcp::socket::tcp::State::CloseWait && self.held.is_empty() {
            socket.close();
        }
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        std::mem::take(&mut self.wire.outgoing)
    }
}

/// A generator without a seed from outside, so that a failure comes again.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.hits(1);
        (self.0 >> 31) % limit
    }

    pub(super) fn hits(&mut self, one_in: u64) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        one_in > 0 && (self.0 >> 33).is_multiple_of(one_in)
    }
}

/// Sends so many bytes to the echo and back over a wire that loses one packet in `lost`, and holds one in
/// `swapped` back behind the next. The clock is the test's own.
fn there_and_back(total: usize, lost: u64, swapped: u64) {
    let began = Instant::now();
    let (mut stack, mut agent, mut dice) = (Stack::new(OWN, AGENT, 7, began), Echo::new(4), Dice(1));
    let line = stack.connect(4).unwrap();
    let sent: Vec<u8> = (0..total).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    let (mut given, mut got, mut clock) = (0, Vec::new(), Duration::ZERO);
    let mut late: Vec<Vec<u8>> = Vec::new();
    while got.len() < total {
        clock += Duration::from_millis(1);
        assert!(clock < Duration::from_secs(600), "{} of {total} bytes after {clock:?}", got.len());
        let now = began + clock;
        given += stack.write(&line, &sent[given..]);
        let reading = stack.read(&line, 64 * 1024, &mut got);
        assert!(
            matches!(reading, Reading::Dialing | Reading::Empty | Reading::More),
            "{reading:?} after {clock:?}, {} of {total}",
            got.len()
        );
        let mut to_agent = std::mem::take(&mut late);
        while stack.transmit(now, |packet| to_agent.push(packet.to_vec())) {}
        for packet in to_agent {
            if dice.hits(lost) {
                continue;
            }
            if dice.hits(swapped) { late.push(packet) } else { agent.wire.incoming.push_back(packet) }
        }
        let micros = i64::try_from(clock.as_micros()).unwrap();
        for packet in agent.turn(time::Instant::from_micros(micros)) {
            if !dice.hits(lost) {
                stack.receive(now, &packet);
            }
        }
    }
    assert!(got == sent, "what came back is not what was sent");
    stack.close(&line);
    for step in 0..200 {
        let now = began + clock + Duration::from_millis(step);
        while stack.transmit(now, |packet| agent.wire.incoming.push_back(packet.to_vec())) {}
        let micros = i64::try_from((clock + Duration::from_millis(step)).as_micros()).unwrap();
        for packet in agent.turn(time::Instant::from_micros(micros)) {
            stack.receive(now, &packet);
        }
        stack.read(&line, usize::MAX, &mut got);
    }
    assert!(stack.is_over(&line));
    stack.remove(line);
}

#[test]
fn bytes_come_whole_over_a_good_and_a_bad_wire() {
    there_and_back(3_000_000, 0, 0);
    there_and_back(400_000, 0, 5);
    there_and_back(300_000, 100, 0);
    there_and_back(100_000, 20, 10);
}

#[test]
fn a_closed_port_is_refused_and_silence_is_not() {
    let began = Instant::now();
    let (mut stack, mut agent) = (Stack::new(OWN, AGENT, 7, began), Echo::new(4));
    let (closed, silent) = (stack.connect(5).unwrap(), stack.connect(4).unwrap());
    let mut packets = Vec::new();
    while stack.transmit(began, |packet| packets.push(packet.to_vec())) {}
    assert_eq!(packets.len(), 2);
    agent.wire.incoming.push_back(packets.remove(0));
    for packet in agent.turn(time::Instant::ZERO) {
        stack.receive(began, &packet);
    }
    assert_eq!(stack.read(&closed, 10, &mut Vec::new()), Reading::Broken);
    assert_eq!(stack.read(&silent, 10, &mut Vec::new()), Reading::Dialing);
}

#[test]
fn ports_are_used_once_at_a_time() {
    let mut stack = Stack::new(OWN, AGENT, u64::MAX, Instant::now());
    let lines: Vec<_> = (0..64).map(|_| stack.connect(4).unwrap()).collect();
    let mut ports: Vec<String> = lines.iter().map(|line| format!("{line:?}")).collect();
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 64);
}

fn tunnels() -> (Boring, Boring) {
    let (a, b) = (StaticSecret::from([1; 32]), StaticSecret::from([2; 32]));
    let key = |secret: &StaticSecret| NodeKey(PublicKey::from(secret).to_bytes());
    (Boring::new(&a, key(&b), 1), Boring::new(&b, key(&a), 2))
}

/// Passes messages until there are none; says what came out at either end.
fn exchange(one: &mut Boring, other: &mut Boring, mut to_other: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut at_one, mut at_other) = (Vec::new(), Vec::new());
    while !to_other.is_empty() {
        let mut to_one = Vec::new();
        for message in to_other.drain(..) {
            other.open(&message, &mut |bytes| to_one.push(bytes.to_vec()), &mut |bytes| at_other.push(bytes.to_vec()));
        }
        for message in to_one {
            one.open(&message, &mut |bytes| to_other.push(bytes.to_vec()), &mut |bytes| at_one.push(bytes.to_vec()));
        }
    }
    (at_one, at_other)
}

/// An IPv6 packet with nothing in it.
fn packet(from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    [&[0x60, 0, 0, 0, 0, 0, 59, 64][..], &from.octets(), &to.octets()].concat()
}

#[test]
fn the_first_packet_makes_the_tunnel_and_is_not_lost() {
    let (mut one, mut other) = tunnels();
    let (there, back) = (packet(OWN, AGENT), packet(AGENT, OWN));
    let mut messages = Vec::new();
    one.seal(&there, &mut |bytes| messages.push(bytes.to_vec()));
    assert_eq!(messages.len(), 1, "a handshake");
    let (_, at_other) = exchange(&mut one, &mut other, messages);
    assert_eq!(at_other, [there]);
    assert!(one.is_established() && other.is_established());
    let mut messages = Vec::new();
    other.seal(&back, &mut |bytes| messages.push(bytes.to_vec()));
    assert_eq!(exchange(&mut other, &mut one, messages).1, [back]);
}

#[test]
fn nothing_that_an_agent_sends_stops_the_tunnel() {
    let (mut one, mut other) = tunnels();
    let mut messages = Vec::new();
    one.seal(&packet(OWN, AGENT), &mut |bytes| messages.push(bytes.to_vec()));
    let first = messages[0].clone();
    exchange(&mut one, &mut other, messages);
    let mut dice = Dice(3);
    let mut garbage: Vec<Vec<u8>> =
        vec![vec![], vec![0], vec![1, 0, 0, 0], vec![4; 65_000], vec![0; 2_048], first.clone()];
    for kind in 1..=4 {
        for length in [4, 15, 16, 31, 32, 64, 92, 148, 149, 1_312, 2_047, 2_048, 2_049] {
            let mut message = vec![0; length];
            message[0] = kind;
            message.iter_mut().skip(4).for_each(|byte| *byte = u8::from(dice.hits(2)));
            garbage.push(message);
        }
    }
    for message in &garbage {
        one.open(message, &mut |_| {}, &mut |_| panic!("nothing was sealed"));
    }
    one.seal(&vec![0; MTU + 1], &mut |_| panic!("it is too long"));
    let mut messages = Vec::new();
    one.seal(&packet(OWN, AGENT), &mut |bytes| messages.push(bytes.to_vec()));
    assert_eq!(exchange(&mut one, &mut other, messages).1.len(), 1, "it still works");
}

#[test]
fn counts_no_message_beyond_what_a_key_is_good_for() {
    let data = |counter: u64| [&[4, 0, 0, 0, 1, 0, 0, 0][..], &counter.to_le_bytes(), &[0; 16]].concat();
    assert!(is_worn_out(&data(u64::MAX)) && is_worn_out(&data(u64::MAX - (1 << 13))));
    assert!(!is_worn_out(&data(u64::MAX - (1 << 13) - 1)) && !is_worn_out(&data(0)));
    assert!(!is_worn_out(&[4, 0, 0, 0]) && !is_worn_out(&[0xff; 32]));
}

#[test]
fn a_handshake_that_nobody_heard_is_begun_again_at_once() {
    let (mut one, mut other) = tunnels();
    one.seal(&packet(OWN, AGENT), &mut |_| {});
    let mut messages = Vec::new();
    one.retry(&mut |bytes| messages.push(bytes.to_vec()));
    assert_eq!(messages.len(), 1);
    assert_eq!(exchange(&mut one, &mut other, messages).1.len(), 1, "what waited is there");
    one.retry(&mut |_| panic!("the keys are fresh"));
}
