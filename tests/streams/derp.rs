//! The relay's rules, connection by connection, with time that moves when the test says so.

use std::net::IpAddr;
use std::time::Duration;

use moorline::ops::metrics::Metrics;
use moorline::ops::metrics::relay::{Drop, End};
use moorline::streams::derp::{By, connection};
use moorline::tailnet::derp::Switch;
use moorline::tailnet::keys::Keys;
use moorline::wire::derp::{self, Greeting, kind};
use uuid::Uuid;

use super::driver::{self, Line};
use crate::harness::derp::key;

pub(super) const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A relay whose coordinator is the test.
pub(super) struct Relay {
    pub(super) keys: Keys,
    pub(super) metrics: Metrics,
    pub(super) switch: Switch,
}

impl Relay {
    pub(super) fn new() -> Relay {
        Relay::with(100)
    }

    pub(super) fn with(strangers: usize) -> Relay {
        let (keys, metrics) = (Keys::default(), Metrics::new());
        let switch = Switch::new(keys.clone(), metrics.relay.clone(), strangers);
        Relay { keys, metrics, switch }
    }

    pub(super) fn know(&self, number: u32) {
        self.keys.announce(peer(number), key(number).public());
    }

    pub(super) fn forget(&self, number: u32) {
        self.keys.forget(peer(number));
    }

    /// A connection that has sent nothing yet.
    pub(super) fn line(&self, bytes_per_second: u64) -> Line {
        let place = self.switch.admit(ADDRESS).unwrap();
        let by = By::Upgrade { fast_start: true };
        let mut line = Line::open(connection(self.switch.clone(), by, place, bytes_per_second));
        let frames = frames(&line.take());
        assert_eq!(frames[0].0, kind::SERVER_KEY);
        line
    }

    pub(super) fn hello(&self, number: u32) -> Vec<u8> {
        let mut hello = Vec::new();
        Greeting::client_info(key(number), &self.switch.secret().public(), [3; 24], b"{\"version\":2}", &mut hello);
        hello
    }

    /// A connection of this key, greeted.
    pub(super) fn join(&self, number: u32) -> Line {
        let mut line = self.line(0);
        line.feed(&self.hello(number));
        assert_eq!(frames(&line.take())[0].0, kind::SERVER_INFO);
        line
    }

    pub(super) fn dropped(&self, why: Drop) -> u64 {
        self.metrics.relay.count_dropped(why)
    }

    pub(super) fn ended(&self, why: End) -> u64 {
        self.metrics.relay.count_ended(why)
    }
}

pub(super) fn peer(number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

pub(super) fn packet(to: u32, packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    derp::send_packet(&key(to).public(), packet, &mut frame);
    frame
}

pub(super) fn disco() -> Vec<u8> {
    [&derp::DISCO_MAGIC[..], &[1; 60]].concat()
}

pub(super) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    derp::frame(kind, payload, &mut frame);
    frame
}

/// Whole frames off some bytes.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((kind, length)) = derp::peek(bytes) {
        frames.push((kind, bytes[5..5 + length].to_vec()));
        bytes = &bytes[5 + length..];
    }
    assert!(bytes.is_empty(), "half a frame was written: {bytes:02x?}");
    frames
}

/// What a connection has got: packets as source and content, other frames as they are.
pub(super) fn got(line: &mut Line) -> Vec<(u8, Vec<u8>)> {
    line.letters();
    frames(&line.take())
}

pub(super) fn received(from: u32, packet: &[u8]) -> (u8, Vec<u8>) {
    (kind::RECV_PACKET, [&key(from).public().0[..], packet].concat())
}

pub(super) fn gone(whom: u32, reason: u8) -> (u8, Vec<u8>) {
    (kind::PEER_GONE, [&key(whom).public().0[..], &[reason]].concat())
}

#[test]
fn packets_pass_between_known_keys_in_order() {
    let relay = Relay::new();
    relay.know(1);
    relay.know(2);
    let (mut one, mut two) = (relay.join(1), relay.join(2));
    one.feed(&[packet(2, b"a"), packet(2, b"b"), packet(1, b"self")].concat());
    two.feed(&packet(1, b"c"));
    assert_eq!(got(&mut two), [received(1, b"a"), received(1, b"b")]);
    assert_eq!(got(&mut one), [received(1, b"self"), received(2, b"c")]);
    let metrics = &relay.metrics.relay;
    assert_eq!((metrics.packets.get(), metrics.bytes.get(), metrics.connections.get()), (4, 7, 2));
    assert!(relay.metrics.encode().contains("moorline_relay_packets_total 4"));
}

#[test]
fn discovery_passes_before_data_and_its_order_stays() {
    let relay = Relay::new();
    (1..=2).for_each(|number| relay.know(number));
    let (mut one, mut two) = (relay.join(1), relay.join(2));
    one.feed(&[packet(2, b"a"), packet(2, &disco()), packet(2, b"b")].concat());
    assert_eq!(got(&mut two), [received(1, &disco()), received(1, b"a"), received(1, b"b")]);
}

#[test]
fn nothing_passes_to_or_from_a_stranger_until_it_is_announced() {
    let relay = Relay::new();
    relay.know(1);
    let (mut known, mut stranger) = (relay.join(1), relay.join(2));
    stranger.feed(&packet(1, b"x"));
    known.feed(&packet(2, b"y"));
    assert_eq!((got(&mut known), got(&mut stranger)), (vec![], vec![]));
    assert_eq!(relay.dropped(Drop::Stranger), 2);
    relay.know(2);
    stranger.feed(&packet(1, b"x"));
    known.feed(&packet(2, b"y"));
    assert_eq!((got(&mut known), got(&mut stranger)), (vec![received(2, b"x")], vec![received(1, b"y")]));
    // Known in time: it stays.
    stranger.pass(100 * SECOND);
    assert!(!stranger.out.abort);
}

#[test]
fn a_destination_that_is_not_here_is_told_of_for_discovery_only_and_seldom() {
    let relay = Relay::new();
    relay.know(1);
    let mut one = relay.join(1);
    one.feed(&packet(2, b"data"));
    assert_eq!(got(&mut one), []);
    for _ in 0..10 {
        one.feed(&packet(2, &disco()));
    }
    assert_eq!(got(&mut one), vec![gone(2, 1); 3]);
    one.now += SECOND;
    one.feed(&[packet(2, &disco()), packet(2, &disco())].concat());
    assert_eq!(got(&mut one), [gone(2, 1)]);
    assert_eq!(relay.dropped(Drop::NotHere), 13);
}

#[test]
fn who_had_packets_from_a_leaver_is_told_and_nobody_else() {
    let relay = Relay::new();
    (1..=3).for_each(|number| relay.know(number));
    let (mut one, mut two, mut three) = (relay.join(1), relay.join(2), relay.join(3));
    one.feed(&packet(2, b"a"));
    three.feed(&packet(1, b"b"));
    got(&mut two);
    one.close();
    assert_eq!((got(&mut two), got(&mut three)), (vec![gone(1, 0)], vec![]));
    // The key is free at once.
    let mut again = relay.join(1);
    three.feed(&packet(1, b"c"));
    assert_eq!(got(&mut again), [received(3, b"c")]);
}

#[test]
fn of_two_connections_of_a_key_the_one_last_heard_gets_the_packets() {
    let relay = Relay::new();
    (1..=2).for_each(|number| relay.know(number));
    let mut two = relay.join(2);
    let (mut older, mut newer) = (relay.join(1), relay.join(1));
    two.feed(&packet(1, b"a"));
    older.feed(&frame(kind::NOTE_PREFERRED, &[1]));
    two.feed(&packet(1, b"b"));
    assert_eq!((got(&mut newer), got(&mut older)), (vec![received(2, b"a")], vec![received(2, b"b")]));
    // The key has a connection left: nobody is told.
    older.feed(&packet(2, b"c"));
    older.close();
    two.feed(&packet(1, b"d"));
    assert_eq!((got(&mut newer), got(&mut two)), (vec![received(2, b"d")], vec![received(1, b"c")]));
    newer.close();
    assert_eq!(got(&mut two), [gone(1, 0)]);
}

#[test]
fn who_does_not_read_loses_its_oldest_packets_and_holds_nobody_up() {
    let relay = Relay::new();
    (1..=3).for_each(|number| relay.know(number));
    let (mut one, mut slow, mut other) = (relay.join(1), relay.join(2), relay.join(3));
    slow.stalled = true;
    one.feed(&packet(2, b"first"));
    slow.letters();
    for number in 0..600_u32 {
        one.feed(&[packet(2, &number.to_be_bytes()), packet(3, b"x")].concat());
        other.letters();
    }
    slow.letters();
    assert_eq!(frames(&other.take()).len(), 600);
    one.close();
    slow.letters();
    slow.unstall();
    let taken = frames(&slow.take());
    assert_eq!(taken[0], received(1, b"first"));
    assert_eq!(taken[1], gone(1, 0), "what must not be lost comes before what may");
    assert_eq!(taken[2], received(1, &88_u32.to_be_bytes()));
    assert_eq!(taken.len(), 2 + 512);
    assert_eq!(relay.dropped(Drop::Full), 88);
}

#[test]
fn the_rate_of_a_connection_is_told_and_kept() {
    let relay = Relay::new();
    (1..=2).for_each(|number| relay.know(number));
    let mut two = relay.join(2);
    let mut one = relay.line(100_000);
    one.feed(&relay.hello(1));
    assert!(frames(&one.take())[0].1.len() > 24 + 16 + 60, "the client is told");
    let flood = packet(2, &[0; 10_000]).repeat(20);
    one.feed(&flood);
    assert_eq!((got(&mut two).len(), relay.dropped(Drop::Rate)), (10, 10));
    one.now += SECOND / 2;
    one.feed(&flood);
    assert_eq!(got(&mut two).len(), 5);
    one.now += 100 * SECOND;
    one.feed(&flood);
    assert_eq!(got(&mut two).len(), 10, "no more than a second's worth at once");
}

#[test]
fn a_home_is_counted_once() {
    let relay = Relay::new();
    relay.know(1);
    let homes = || relay.metrics.relay.homes.get();
    let mut one = relay.join(1);
    one.feed(&frame(kind::NOTE_PREFERRED, &[1]).repeat(2));
    assert_eq!(homes(), 1);
    one.feed(&frame(kind::NOTE_PREFERRED, &[0]));
    assert_eq!(homes(), 0);
    one.feed(&frame(kind::NOTE_PREFERRED, &[1]));
    one.close();
    assert_eq!(homes(), 0);
}

#[test]
fn a_websocket_carries_the_same_bytes() {
    let relay = Relay::new();
    (1..=2).for_each(|number| relay.know(number));
    let mut two = relay.join(2);
    let place = relay.switch.admit(ADDRESS).unwrap();
    let mut one = Line::open(connection(relay.switch.clone(), By::WebSocket, place, 0));
    let payload = |line: &mut Line| -> Vec<u8> {
        line.letters();
        let mut bytes = Vec::new();
        for frame in driver::frames(&line.take()) {
            let driver::Frame::Binary(payload) = frame else { panic!("{frame:?}") };
            bytes.extend(payload);
        }
        bytes
    };
    assert_eq!(frames(&payload(&mut one))[0].0, kind::SERVER_KEY);
    let stream = [relay.hello(1), packet(2, b"a"), packet(2, &[7; 40_000])].concat();
    for piece in stream.chunks(1_111) {
        one.feed(&driver::masked(driver::BINARY, piece));
    }
    assert_eq!(frames(&payload(&mut one))[0].0, kind::SERVER_INFO);
    assert_eq!(got(&mut two), [received(1, b"a"), received(1, &[7; 40_000])]);
    two.feed(&packet(1, &[8; 40_000]));
    assert_eq!(frames(&payload(&mut one)), [received(2, &[8; 40_000])]);
    one.feed(&driver::masked(driver::TEXT, b"x"));
    assert!(one.out.finish);
    assert_eq!(relay.ended(End::Protocol), 1);
}
