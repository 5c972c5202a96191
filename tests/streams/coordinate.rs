//! An agent's place in the tailnet.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use moorline::wire::drpc::Packet;
use moorline::wire::proto::methods::COORDINATE;
use moorline::wire::proto::tailnet::{CoordinateRequest, coordinate_request};
use prost::Message;

use super::driver::Server;
use super::peers::{announce, disconnect, error, own, ready, say, tunnel};

#[test]
fn the_node_is_kept_while_the_stream_lives() {
    let server = Server::start();
    let mut agent = server.connect();
    // Invoke may come alone: the agent reads before it speaks.
    let id = agent.invoke(COORDINATE);
    agent.exchange();
    assert_eq!(server.node(), None);
    say(&mut agent, id, announce(1, 999, &own(&server)));
    let found = server.app.tailnet.node_of(server.agent).unwrap();
    assert_eq!((found.preferred_derp, found.derp_latency["999-v4"]), (999, 0.01));
    say(&mut agent, id, announce(1, 1_000, &own(&server)));
    assert_eq!(server.node(), Some(1_000));
    agent.pass(std::time::Duration::from_secs(600));
    assert_eq!(agent.packets.get(&id), None, "nothing ends it");
    agent.line.close();
    assert_eq!(server.node(), None);
}

#[test]
fn a_disconnect_is_answered_with_close_at_once() {
    let server = Server::start();
    let mut agent = server.connect();
    let id = agent.invoke(COORDINATE);
    say(&mut agent, id, announce(1, 999, &own(&server)));
    let ready_for_handshake = vec![coordinate_request::ReadyForHandshake { id: vec![1; 16] }];
    say(&mut agent, id, CoordinateRequest { ready_for_handshake, ..disconnect() });
    assert_eq!(agent.packets[&id], [Packet::Close], "or each shutdown of an agent takes 5 s longer");
    assert_eq!(server.node(), None);
    agent.mux.finish(id);
    agent.exchange();
    assert!(agent.finished.contains(&id));
    assert_eq!(agent.closed, None, "the other calls live on");
}

#[test]
fn refusals_are_told_and_end_the_stream_only() {
    let server = Server::start();
    let mut agent = server.connect();
    for (request, text) in [
        (tunnel([1; 16]), "authorization: agents cannot open tunnels"),
        (announce(1, 999, &["fd7a::1/128".into()]), "authorization: invalid node address, got fd7a::1"),
        (announce(1, 999, &["fd7a::1/64".into()]), "authorization: invalid address bits, expected 128, got 64"),
    ] {
        let id = agent.invoke(COORDINATE);
        say(&mut agent, id, request);
        assert_eq!(error(agent.next(id)), text);
        assert_eq!(agent.next(id), Packet::Close);
        assert_eq!(server.node(), None);
    }
    assert_eq!(agent.closed, None);
}

#[test]
fn a_handshake_without_a_tunnel_is_an_error_and_on_it_goes() {
    let server = Server::start();
    let mut agent = server.connect();
    let id = agent.invoke(COORDINATE);
    say(&mut agent, id, ready([0x11; 16]));
    assert_eq!(
        error(agent.next(id)),
        "ready for handshake error: you do not share a tunnel with \"11111111-1111-1111-1111-111111111111\""
    );
    say(&mut agent, id, announce(1, 999, &own(&server)));
    assert!(server.node().is_some());
}

#[test]
fn what_is_no_request_ends_the_stream_with_an_error() {
    let server = Server::start();
    let mut agent = server.connect();
    let short = Some(coordinate_request::Tunnel { id: vec![1; 3] });
    let remove = CoordinateRequest { remove_tunnel: short, ..CoordinateRequest::default() };
    let handshake = CoordinateRequest {
        ready_for_handshake: vec![coordinate_request::ReadyForHandshake { id: vec![1; 17] }],
        ..CoordinateRequest::default()
    };
    for body in [remove.encode_to_vec(), handshake.encode_to_vec(), vec![0xff; 9]] {
        let id = agent.invoke(COORDINATE);
        say(&mut agent, id, announce(1, 999, &own(&server)));
        agent.message(id, &body);
        agent.exchange();
        assert!(matches!(agent.next(id), Packet::Error { code: 0, .. }));
        assert_eq!(server.node(), None);
    }
    assert_eq!(agent.closed, None);
}

#[test]
fn a_newer_stream_overwrites_the_older_one() {
    let server = Server::start();
    let (mut old, mut new) = (server.connect(), server.connect());
    let first = old.invoke(COORDINATE);
    say(&mut old, first, announce(1, 1, &own(&server)));
    let second = new.invoke(COORDINATE);
    say(&mut new, second, announce(1, 2, &own(&server)));
    assert_eq!(error(old.next(first)), "peer ID overwritten by new connection");
    assert_eq!(old.next(first), Packet::Close);
    assert_eq!(server.node(), Some(2));
    // The end of the older one takes nothing away.
    old.line.close();
    assert_eq!(server.node(), Some(2));
    // On one connection, too.
    let third = new.invoke(COORDINATE);
    say(&mut new, third, announce(1, 3, &own(&server)));
    assert_eq!(error(new.next(second)), "peer ID overwritten by new connection");
    assert_eq!(server.node(), Some(3));
}

#[test]
fn the_end_of_the_request_side_is_answered_with_close() {
    let server = Server::start();
    let mut agent = server.connect();
    let id = agent.begin(COORDINATE, &announce(1, 999, &own(&server)).encode_to_vec());
    assert_eq!(agent.next(id), Packet::Close);
    assert_eq!(server.node(), None);
}
