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

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const SECOND: Duration = Duration::from_secs(1);

/// A relay whose coordinator is the test.
struct Relay {
    keys: Keys,
    metrics: Metrics,
    switch: Switch,
}

impl Relay {
    fn new() -> Relay {
        Relay::with(100)
    }

    fn with(strangers: usize) -> Relay {
        let (keys, metrics) = (Keys::default(), Metrics::new());
        let switch = Switch::new(keys.clone(), metrics.relay.clone(), strangers);
        Relay { keys, metrics, switch }
    }

    fn know(&self, number: u32) {
        self.keys.announce(peer(number), key(number).public());
    }

    fn forget(&self, number: u32) {
        self.keys.forget(peer(number));
    }

    /// A connection that has sent nothing yet.
    fn line(&self, bytes_per_second: u64) -> Line {
        let place = self.switch.admit(ADDRESS).unwrap();
        let by = By::Upgrade { fast_start: true };
        let mut line = Line::open(connection(self.switch.clone(), by, place, bytes_per_second));
        let frames = frames(&line.take());
        assert_eq!(frames[0].0, kind::SERVER_KEY);
        line
    }

    fn hello(&self, number: u32) -> Vec<u8> {
        let mut hello = Vec::new();
        Greeting::client_info(key(number), &self.switch.secret().public(), [3; 24], b"{\"version\":2}", &mut hello);
        hello
    }

    /// A connection of this key, greeted.
    fn join(&self, number: u32) -> Line {
        let mut line = self.line(0);
        line.feed(&self.hello(number));
        assert_eq!(frames(&line.take())[0].0, kind::SERVER_INFO);
        line
    }

    fn dropped(&self, why: Drop) -> u64 {
        self.metrics.relay.count_dropped(why)
    }

    fn ended(&self, why: End) -> u64 {
        self.metrics.relay.count_ended(why)
    }
}

fn peer(number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

fn packet(to: u32, packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    derp::send_packet(&key(to).public(), packet, &mut frame);
    frame
}

fn disco() -> Vec<u8> {
    [&derp::DISCO_MAGIC[..], &[1; 60]].concat()
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    derp::frame(kind, payload, &mut frame);
    frame
}

/// Whole frames off some bytes.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((kind, length)) = derp::peek(bytes) {
        frames.push((kind, bytes[5..5 + length].to_vec()));
        bytes = &bytes[5 + length..];
    }
    assert!(bytes.is_empty(), "half a frame was written: {bytes:02x?}");
    frames
}

/// What a connection has got: packets as source and content, other frames as they are.
fn got(line: &mut Line) -> Vec<(u8, Vec<u8>)> {
    line.letters();
    frames(&line.take())
}

fn received(from: u32, packet: &[u8]) -> (u8, Vec<u8>) {
    (kind::RECV_PACKET, [&key(from).public().0[..], packet].concat())
}

fn gone(whom: u32, reason: u8) -> (u8, Vec<u8>) {
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
fn a_stranger_is_ended_after_its_stay_and_counted() {
    let relay = Relay::new();
    let mut stranger = relay.join(2);
    stranger.pass(29 * SECOND);
    assert!(!stranger.out.abort);
    stranger.pass(2 * SECOND);
    assert!(stranger.out.abort);
    assert_eq!(relay.ended(End::Stranger), 1);
}

#[test]
fn a_key_that_becomes_unknown_is_cut_off_at_once_and_ended_after_the_same_stay() {
    let relay = Relay::new();
    (1..=2).for_each(|number| relay.know(number));
    let (mut one, mut two) = (relay.join(1), relay.join(2));
    one.pass(15 * SECOND);
    relay.forget(1);
    one.feed(&packet(2, b"x"));
    assert_eq!((got(&mut two), relay.dropped(Drop::Stranger)), (vec![], 1));
    one.pass(29 * SECOND);
    assert!(!one.out.abort);
    one.pass(12 * SECOND);
    assert!(one.out.abort);
    // One that comes back in time is no stranger any more.
    relay.forget(2);
    two.pass(25 * SECOND);
    relay.know(2);
    two.pass(100 * SECOND);
    assert!(!two.out.abort);
}

#[test]
fn strangers_of_an_address_are_limited_and_a_known_key_gives_its_place_back() {
    let relay = Relay::with(2);
    let mut first = relay.line(0);
    let second = relay.join(2);
    assert!(relay.switch.admit(ADDRESS).is_none());
    assert!(relay.switch.admit("10.0.0.2".parse().unwrap()).is_some(), "another address has places of its own");
    relay.know(1);
    first.feed(&relay.hello(1));
    assert!(relay.switch.admit(ADDRESS).is_some());
    drop(second);
    let held = [relay.switch.admit(ADDRESS), relay.switch.admit(ADDRESS)];
    assert!(held.iter().all(Option::is_some) && relay.switch.admit(ADDRESS).is_none());
    // A host has a whole /64.
    let v6 = |text: &str| relay.switch.admit(text.parse().unwrap());
    let held = [v6("2001:db8::1"), v6("2001:db8::2")];
    assert!(held.iter().all(Option::is_some) && v6("2001:db8::3").is_none() && v6("2001:db8:0:1::1").is_some());
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
fn a_connection_that_takes_no_news_at_all_is_ended() {
    let relay = Relay::new();
    relay.know(1);
    let mut slow = relay.join(1);
    slow.stalled = true;
    for number in 2..500 {
        relay.know(number);
        let mut other = relay.join(number);
        other.feed(&packet(1, b"x"));
        slow.letters();
        other.close();
        slow.letters();
    }
    assert!(slow.out.abort);
    assert_eq!(relay.ended(End::Overrun), 1);
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
fn answers_pings_and_keeps_itself_alive() {
    let relay = Relay::new();
    relay.know(1);
    let mut one = relay.join(1);
    one.feed(&frame(kind::PING, b"12345678 and more"));
    assert_eq!(got(&mut one), [(kind::PONG, b"12345678".to_vec())]);
    one.feed(&frame(kind::PING, b"12345678").repeat(50));
    assert!((1..=4).contains(&got(&mut one).len()));
    one.pass(29 * SECOND);
    assert_eq!(got(&mut one), [(kind::KEEP_ALIVE, vec![]), (kind::PING, vec![0; 8])]);
    // Whoever answers stays, whoever is silent goes.
    one.feed(&frame(kind::PONG, &[0; 8]));
    one.pass(170 * SECOND);
    assert!(!one.out.abort);
    one.pass(40 * SECOND);
    assert!(one.out.abort);
    assert_eq!(relay.ended(End::Silent), 1);
}

#[test]
fn the_greeting_is_due_and_must_be_right() {
    let relay = Relay::new();
    let mut late = relay.line(0);
    late.pass(9 * SECOND);
    assert!(!late.out.abort);
    late.pass(2 * SECOND);
    assert!(late.out.abort);
    let mut huge = vec![kind::CLIENT_INFO];
    huge.extend(8_193_u32.to_be_bytes());
    let mut forged = relay.hello(1);
    forged[40] ^= 1;
    let bad = [huge, forged, frame(kind::PING, &[0; 8]), packet(1, b"x"), frame(kind::CLIENT_INFO, &[0; 10])];
    for bytes in &bad {
        let mut line = relay.line(0);
        line.feed(bytes);
        assert!(line.out.abort, "{bytes:02x?}");
        assert!(line.take().is_empty(), "not a word");
    }
    assert_eq!(relay.ended(End::Greeting), 6);
    assert_eq!(relay.metrics.relay.connections.get(), 0);
}

#[test]
fn who_breaks_the_rules_is_ended_and_unknown_frames_are_skipped() {
    let relay = Relay::new();
    relay.know(1);
    let mut oversize = vec![kind::SEND_PACKET];
    oversize.extend((32 + 65_537_u32).to_be_bytes());
    for bytes in [
        frame(kind::SEND_PACKET, &[0; 31]),
        oversize,
        frame(kind::WATCH_CONNS, &[]),
        frame(kind::CLOSE_PEER, &[0; 32]),
        frame(kind::FORWARD_PACKET, &[0; 64]),
        frame(kind::NOTE_PREFERRED, &[]),
        frame(kind::NOTE_PREFERRED, &[1, 1]),
        frame(kind::PING, &[0; 7]),
        frame(kind::PING, &[0; 1_001]),
        relay.hello(1),
    ] {
        let mut line = relay.join(1);
        line.feed(&bytes);
        assert!(line.out.abort, "{bytes:02x?}");
    }
    assert_eq!(relay.ended(End::Protocol), 10);
    let mut line = relay.join(1);
    line.feed(&[frame(0x7f, &[0; 100_000]), frame(kind::PONG, &[1; 8]), frame(kind::PING, &[1; 8])].concat());
    assert_eq!(got(&mut line), [(kind::PONG, vec![1; 8])]);
    assert!(!line.out.abort);
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
fn a_stopping_relay_ends_the_connection_and_says_so_by_websocket() {
    let relay = Relay::new();
    let mut plain = relay.line(0);
    plain.shutdown();
    assert!(plain.out.finish);
    let place = relay.switch.admit(ADDRESS).unwrap();
    let mut socket = Line::open(connection(relay.switch.clone(), By::WebSocket, place, 0));
    socket.take();
    socket.shutdown();
    assert!(socket.out.finish);
    let [driver::Frame::Close(1012, _)] = &driver::frames(&socket.take())[..] else { panic!("no close") };
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
