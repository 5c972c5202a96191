//! How connections of the relay end: strangers, late and wrong greetings, broken rules, silence.

use moorline::ops::metrics::relay::{Drop, End};
use moorline::streams::derp::{By, connection};
use moorline::wire::derp::kind;

use super::derp::{ADDRESS, Relay, SECOND, frame, got, packet};
use super::driver::{self, Line};

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
