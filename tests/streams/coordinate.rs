//! An agent's place in the tailnet.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use moorline::wire::drpc::Packet;
use moorline::wire::proto::methods::COORDINATE;
use moorline::wire::proto::tailnet::{CoordinateRequest, CoordinateResponse, Node, coordinate_request};
use prost::Message;

use super::agent::Agent;
use super::driver::Server;

fn node(region: i32, addresses: &[String]) -> Vec<u8> {
    let node = Node {
        key: [b"np".as_slice(), &[7; 32]].concat(),
        disco: format!("discokey:{}", "0a".repeat(32)),
        preferred_derp: region,
        derp_latency: [("999-v4".to_owned(), 0.01)].into(),
        addresses: addresses.to_vec(),
        allowed_ips: addresses.to_vec(),
        ..Node::default()
    };
    let update_self = Some(coordinate_request::UpdateSelf { node: Some(node) });
    CoordinateRequest { update_self, ..CoordinateRequest::default() }.encode_to_vec()
}

fn own(server: &Server) -> Vec<String> {
    moorline::tailnet::admission::addresses(server.agent)[..2].iter().map(|address| format!("{address}/128")).collect()
}

fn say(agent: &mut Agent, id: u32, request: &[u8]) {
    agent.message(id, request);
    agent.exchange();
}

fn error(packet: Packet) -> String {
    let Packet::Message(message) = packet else { panic!("{packet:?}") };
    CoordinateResponse::decode(message.as_slice()).unwrap().error
}

#[test]
fn the_node_is_kept_while_the_stream_lives() {
    let server = Server::start();
    let mut agent = server.connect();
    // Invoke may come alone: the agent reads before it speaks.
    let id = agent.invoke(COORDINATE);
    agent.exchange();
    assert_eq!(server.app.nodes.of(server.agent), None);
    say(&mut agent, id, &node(999, &own(&server)));
    let found = server.app.nodes.of(server.agent).unwrap();
    assert_eq!((found.preferred_derp, found.derp_latency["999-v4"]), (999, 0.01));
    say(&mut agent, id, &node(1_000, &own(&server)));
    assert_eq!(server.app.nodes.of(server.agent).unwrap().preferred_derp, 1_000);
    agent.pass(std::time::Duration::from_secs(600));
    assert_eq!(agent.packets.get(&id), None, "nothing ends it");
    agent.line.close();
    assert_eq!(server.app.nodes.of(server.agent), None);
}

#[test]
fn a_disconnect_is_answered_with_close_at_once() {
    let server = Server::start();
    let mut agent = server.connect();
    let id = agent.invoke(COORDINATE);
    say(&mut agent, id, &node(999, &own(&server)));
    let goodbye = CoordinateRequest {
        disconnect: Some(coordinate_request::Disconnect {}),
        ready_for_handshake: vec![coordinate_request::ReadyForHandshake { id: vec![1; 16] }],
        ..CoordinateRequest::default()
    };
    say(&mut agent, id, &goodbye.encode_to_vec());
    assert_eq!(agent.packets[&id], [Packet::Close], "or each shutdown of an agent takes 5 s longer");
    assert_eq!(server.app.nodes.of(server.agent), None);
    agent.mux.finish(id);
    agent.exchange();
    assert!(agent.finished.contains(&id));
    assert_eq!(agent.closed, None, "the other calls live on");
}

#[test]
fn refusals_are_told_and_end_the_stream_only() {
    let server = Server::start();
    let mut agent = server.connect();
    let tunnel = CoordinateRequest {
        add_tunnel: Some(coordinate_request::Tunnel { id: vec![1; 16] }),
        ..CoordinateRequest::default()
    };
    for (request, text) in [
        (tunnel.encode_to_vec(), "authorization: agents cannot open tunnels"),
        (node(999, &["fd7a::1/128".into()]), "authorization: invalid node address, got fd7a::1"),
        (node(999, &["fd7a::1/64".into()]), "authorization: invalid address bits, expected 128, got 64"),
    ] {
        let id = agent.invoke(COORDINATE);
        say(&mut agent, id, &request);
        assert_eq!(error(agent.next(id)), text);
        assert_eq!(agent.next(id), Packet::Close);
        assert_eq!(server.app.nodes.of(server.agent), None);
    }
    assert_eq!(agent.closed, None);
}

#[test]
fn a_handshake_without_a_tunnel_is_an_error_and_on_it_goes() {
    let server = Server::start();
    let mut agent = server.connect();
    let id = agent.invoke(COORDINATE);
    let ready = CoordinateRequest {
        ready_for_handshake: vec![coordinate_request::ReadyForHandshake { id: vec![0x11; 16] }],
        ..CoordinateRequest::default()
    };
    say(&mut agent, id, &ready.encode_to_vec());
    assert_eq!(
        error(agent.next(id)),
        "ready for handshake error: you do not share a tunnel with \"11111111-1111-1111-1111-111111111111\""
    );
    say(&mut agent, id, &node(999, &own(&server)));
    assert!(server.app.nodes.of(server.agent).is_some());
    // An id of another length ends the stream with an error.
    let broken = CoordinateRequest {
        remove_tunnel: Some(coordinate_request::Tunnel { id: vec![1; 3] }),
        ..CoordinateRequest::default()
    };
    say(&mut agent, id, &broken.encode_to_vec());
    assert!(matches!(agent.next(id), Packet::Error { code: 0, .. }));
    assert_eq!(server.app.nodes.of(server.agent), None);
}

#[test]
fn a_newer_stream_overwrites_the_older_one() {
    let server = Server::start();
    let (mut old, mut new) = (server.connect(), server.connect());
    let first = old.invoke(COORDINATE);
    say(&mut old, first, &node(1, &own(&server)));
    let second = new.invoke(COORDINATE);
    say(&mut new, second, &node(2, &own(&server)));
    assert_eq!(error(old.next(first)), "peer ID overwritten by new connection");
    assert_eq!(old.next(first), Packet::Close);
    assert_eq!(server.app.nodes.of(server.agent).unwrap().preferred_derp, 2);
    // The end of the older one takes nothing away.
    old.line.close();
    assert_eq!(server.app.nodes.of(server.agent).unwrap().preferred_derp, 2);
    // On one connection, too.
    let third = new.invoke(COORDINATE);
    say(&mut new, third, &node(3, &own(&server)));
    assert_eq!(error(new.next(second)), "peer ID overwritten by new connection");
    assert_eq!(server.app.nodes.of(server.agent).unwrap().preferred_derp, 3);
}

#[test]
fn the_end_of_the_request_side_is_answered_with_close() {
    let server = Server::start();
    let mut agent = server.connect();
    let id = agent.begin(COORDINATE, &node(999, &own(&server)));
    assert_eq!(agent.next(id), Packet::Close);
    assert_eq!(server.app.nodes.of(server.agent), None);
}
