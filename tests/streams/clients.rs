//! Clients on their coordination connections: tunnels, handshakes, loss, resuming, slow readers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use moorline::model::{AgentId, NodeKey, Timestamp};
use moorline::ops::hub::Topic;
use moorline::streams::rpc::Client;
use moorline::wire::drpc::Packet;
use moorline::wire::proto::methods;
use moorline::wire::proto::tailnet::coordinate_response::peer_update::Kind;
use moorline::wire::proto::tailnet::{
    CoordinateRequest, DerpMap, RefreshResumeTokenRequest, RefreshResumeTokenResponse, StreamDerpMapsRequest,
    TelemetryRequest, TelemetryResponse,
};
use prost::Message;

use super::agent::Reply;
use super::driver::Server;
use super::peers::{announce, disconnect, no_tunnel, ready, somewhere, tunnel};

/// As recorded from the real client: a tunnel, the agent's node, the own node, the handshake.
#[test]
fn a_client_meets_the_agent_in_the_recorded_order() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let mut client = server.join_one();
    client.say(tunnel(*server.agent.as_bytes()));
    let (id, kind, update) = client.hear_all();
    assert_eq!((id, kind), (server.agent.0, Kind::Node));
    assert_eq!(update.node.unwrap().preferred_derp, 999);
    assert!(agent.is_quiet(), "the client has no node yet");
    client.say(announce(7, 999, &somewhere(7)));
    assert_eq!(agent.hear(), (client.id, Kind::Node));
    assert!(server.app.keys.knows(&NodeKey([7; 32])));
    agent.say(ready(*client.id.as_bytes()));
    assert_eq!(client.hear(), (server.agent.0, Kind::ReadyForHandshake));
    client.say(no_tunnel(*server.agent.as_bytes()));
    assert_eq!(client.hear(), (server.agent.0, Kind::Disconnected));
    assert_eq!(agent.hear(), (client.id, Kind::Disconnected));
    client.say(disconnect());
    assert_eq!(client.line.next(client.stream), Packet::Close, "or each command takes a second longer");
    assert!(agent.is_quiet(), "they share no tunnel any more");
    assert!(!server.app.keys.knows(&NodeKey([7; 32])));
}

#[test]
fn a_client_that_was_first_is_told_of_the_agent_when_it_comes() {
    let server = Server::start();
    let mut client = server.join_one();
    client.say(tunnel(*server.agent.as_bytes()));
    client.say(announce(7, 999, &somewhere(7)));
    assert!(client.is_quiet());
    let mut agent = server.join_agent();
    assert_eq!(agent.hear(), (client.id, Kind::Node), "before it has said anything");
    assert_eq!(client.hear(), (server.agent.0, Kind::Node));
}

#[test]
fn one_message_may_ask_several_things() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let mut client = server.join_one();
    let request = CoordinateRequest {
        add_tunnel: tunnel(*server.agent.as_bytes()).add_tunnel,
        ..announce(7, 999, &somewhere(7))
    };
    client.say(request);
    assert_eq!((client.hear(), agent.hear()), ((server.agent.0, Kind::Node), (client.id, Kind::Node)));
    // A refused part refuses the whole, and the partners mark the client lost.
    let request = CoordinateRequest { add_tunnel: tunnel([9; 16]).add_tunnel, ..announce(8, 999, &somewhere(8)) };
    client.say(request);
    let expected =
        format!("authorization: invalid agent id, expected {}, got 09090909-0909-0909-0909-090909090909", server.agent);
    assert_eq!(client.refused(), expected);
    assert_eq!(agent.hear(), (client.id, Kind::Lost));
    assert!(!server.app.keys.knows(&NodeKey([8; 32])));
}

#[test]
fn clients_may_not_do_what_agents_may() {
    let server = Server::start();
    let addresses = super::peers::own(&server);
    for (request, text) in [
        (ready([1; 16]), "authorization: clients may not send ready_for_handshake"),
        (announce(7, 999, &["10.0.0.1/32".into()]), "authorization: invalid address bits, expected 128, got 32"),
        (announce(7, 999, &["2001:db8::1/128".into()]), "authorization: invalid node address, got 2001:db8::1"),
    ] {
        let mut client = server.join_one();
        client.say(request);
        assert_eq!(client.refused(), text);
    }
    // Another peer's address, when that peer is there.
    let _agent = server.join_agent();
    let mut client = server.join_one();
    client.say(announce(7, 999, &addresses[..1]));
    assert!(client.refused().starts_with("authorization: "));
    let mut client = server.join_one();
    for method in [methods::GET_MANIFEST, methods::UPDATE_STATS, methods::BATCH_CREATE_LOGS, "/x.y/Z"] {
        assert!(matches!(client.line.call_raw(method, &[]), Reply::Error(12, _)), "{method}");
    }
}

#[test]
fn silence_and_broken_connections_are_told_as_lost() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let mut client = server.join_one();
    client.say(tunnel(*server.agent.as_bytes()));
    client.say(announce(7, 999, &somewhere(7)));
    assert_eq!(agent.hear(), (client.id, Kind::Node));
    client.line.pass(Duration::from_secs(61));
    assert_eq!(client.line.pings, ["1", "2", "3", "4"], "on the WebSocket, too");
    assert_eq!(client.line.closed, None);
    assert!(agent.is_quiet());
    client.line.alive = false;
    client.line.pass(Duration::from_secs(31));
    assert_eq!(client.line.closed, Some((1011, "ping timeout".into())));
    client.line.line.close();
    assert_eq!(agent.hear(), (client.id, Kind::Lost));
    assert!(server.app.keys.knows(&NodeKey([7; 32])), "it may come back, and its packets come meanwhile");

    // The stream alone may end, too.
    let mut client = server.join_one();
    client.say(tunnel(*server.agent.as_bytes()));
    client.say(announce(8, 999, &somewhere(8)));
    assert_eq!(agent.hear(), (client.id, Kind::Node));
    client.line.mux.reset(client.stream);
    client.line.exchange();
    assert_eq!(agent.hear(), (client.id, Kind::Lost));
}

#[test]
fn a_client_that_resumes_keeps_its_tunnels_and_partners_notice_nothing() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let mut client = server.join_one();
    client.say(tunnel(*server.agent.as_bytes()));
    client.say(announce(7, 999, &somewhere(7)));
    assert_eq!(agent.hear(), (client.id, Kind::Node));
    let token: RefreshResumeTokenResponse =
        client.line.call(methods::REFRESH_RESUME_TOKEN, &RefreshResumeTokenRequest {});
    assert!(token.refresh_in.unwrap().seconds > 0);
    assert!(token.expires_at.unwrap().seconds > Timestamp::now().to_parts().0 + 3_600);
    let now = Timestamp::now();
    let peer = server.app.resume.verify(&token.token, server.user, now).unwrap().unwrap();
    assert_eq!(peer, client.id);
    assert!(server.app.resume.verify(&token.token, moorline::model::UserId::random(), now).is_err());

    // Before the old connection is found to be dead.
    let mut again = server.join(Client { peer, ..server.admitted() });
    again.say(tunnel(*server.agent.as_bytes()));
    assert_eq!(again.hear(), (server.agent.0, Kind::Node));
    assert_eq!(super::peers::error(next_error(&mut client)), "peer ID overwritten by new connection");
    client.line.line.close();
    again.say(announce(7, 999, &somewhere(7)));
    assert!(agent.is_quiet(), "nothing has changed for the agent");
    // And after.
    again.line.line.close();
    assert_eq!(agent.hear(), (peer, Kind::Lost));
    let mut third = server.join(Client { peer, ..server.admitted() });
    third.say(tunnel(*server.agent.as_bytes()));
    assert_eq!(third.hear(), (server.agent.0, Kind::Node));
    third.say(announce(7, 999, &somewhere(7)));
    assert_eq!(agent.hear(), (peer, Kind::Node));
}

/// Passes over updates.
fn next_error(peer: &mut super::peers::Peer) -> Packet {
    loop {
        let packet = peer.line.next(peer.stream);
        if matches!(&packet, Packet::Message(message) if message.starts_with(&[0x12])) {
            return packet;
        }
    }
}

#[test]
fn telemetry_is_taken_and_maps_come_again_when_they_change() {
    let server = Server::start();
    let mut client = server.join_one();
    client.line.call::<TelemetryResponse>(methods::POST_TELEMETRY, &TelemetryRequest::default());
    let id = client.line.begin(methods::STREAM_DERP_MAPS, &StreamDerpMapsRequest {}.encode_to_vec());
    let map = |packet| match packet {
        Packet::Message(message) => DerpMap::decode(message.as_slice()).unwrap(),
        other => panic!("{other:?}"),
    };
    let first = map(client.line.next(id));
    assert!(first.home_params.is_some(), "clients crash without it");
    server.app.hub.publish(Topic::DerpMap);
    client.line.pass(Duration::from_secs(60));
    assert!(client.line.packets[&id].is_empty(), "the same map is not sent again");
    let folder = tempfile::tempdir().unwrap();
    let settings = crate::harness::app::settings(folder.path(), &[]);
    let changed = moorline::tailnet::derp_map::DerpMap::of("https://other.example.com", &settings);
    assert!(server.app.derp_map.set(changed));
    server.app.hub.publish(Topic::DerpMap);
    assert_ne!(map(client.line.next(id)), first);
    assert_eq!(client.line.closed, None);
}

#[test]
fn a_slow_reader_gets_the_present_state_and_one_that_never_reads_is_closed() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let mut slow = server.join_one();
    slow.say(tunnel(*server.agent.as_bytes()));
    assert_eq!(slow.hear(), (server.agent.0, Kind::Node));
    // Above the high-water mark nothing is taken out of the inbox, where a hundred updates become one.
    slow.line.line.stalled = true;
    slow.line.line.out.backlog = 1024 * 1024;
    slow.line.line.pass(Duration::from_millis(1));
    slow.line.line.pass(Duration::from_secs(15));
    let held = slow.line.line.out.backlog;
    for region in 1..=100 {
        agent.say(announce(200, region, &super::peers::own(&server)));
        slow.line.line.letters();
    }
    assert_eq!(slow.line.line.out.backlog, held);
    slow.line.line.unstall();
    slow.line.line.letters();
    let (_, _, update) = slow.hear_all();
    assert_eq!(update.node.unwrap().preferred_derp, 100);
    assert!(slow.is_quiet());

    // A client that reads the socket but gives its stream no window: it answers pings all the while.
    let mut stuck = server.join_one();
    stuck.say(tunnel(*server.agent.as_bytes()));
    stuck.hear();
    stuck.line.withholds = true;
    for region in 1..=2_000 {
        agent.say(announce(200, region, &super::peers::own(&server)));
        stuck.line.line.letters();
        stuck.line.exchange();
    }
    stuck.line.pass(Duration::from_secs(40));
    assert_eq!(stuck.line.closed, Some((1011, "the peer does not read".into())));
    assert!(agent.line.closed.is_none() && slow.line.closed.is_none(), "the others never wait");
}

#[test]
fn what_a_client_opens_and_closes_is_in_the_connection_log() {
    let server = Server::start();
    let _agent = server.join_agent();
    let mut client = server.join_one();
    client.say(tunnel(*server.agent.as_bytes()));
    client.say(announce(7, 999, &somewhere(7)));
    let row = |sql: &'static str| server.count(&format!("SELECT count(*) FROM tunnels WHERE {sql}"));
    server.until("opened", |_| (row("closed_at IS NULL AND ip = '198.51.100.7'") == 1).then_some(()));
    client.line.line.close();
    server.until("lost", |_| (row("ending = 'lost'") == 1).then_some(()));
    let mut again = server.join(Client { peer: client.id, ..server.admitted() });
    again.say(announce(7, 999, &somewhere(7)));
    again.say(tunnel(*server.agent.as_bytes()));
    server.until("open again", |_| (row("closed_at IS NULL") == 1).then_some(()));
    again.say(disconnect());
    server.until("closed", |_| (row("ending = 'closed'") == 1).then_some(()));
    assert_eq!(row("TRUE"), 1);
}

#[test]
fn a_stopping_server_tells_nobody_of_anybody() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let mut client = server.join_one();
    client.say(tunnel(*server.agent.as_bytes()));
    client.say(announce(7, 999, &somewhere(7)));
    client.hear();
    assert_eq!(agent.hear(), (client.id, Kind::Node));
    client.line.line.shutdown();
    client.line.exchange();
    assert_eq!(client.line.closed, Some((1012, "the server is restarting".into())));
    client.line.line.close();
    assert!(agent.is_quiet(), "the client comes back, and so its tunnel must stay");
    agent.line.line.shutdown();
    agent.line.exchange();
    assert_eq!(agent.line.closed.as_ref().unwrap().0, 1012);
}

#[test]
fn an_unknown_agent_id_is_nobody() {
    let server = Server::start();
    let mut client = server.join_one();
    client.say(tunnel(*AgentId::random().as_bytes()));
    assert!(client.refused().starts_with("authorization: invalid agent id, expected "));
}

#[test]
fn a_client_may_hold_less_than_an_agent() {
    let server = Server::start();
    let mut client = server.join_one();
    // Two messages of 600 KiB that are never completed: 1 MiB is held at most.
    let ids: Vec<u32> = (0..2)
        .map(|_| {
            let id = client.line.invoke(methods::POST_TELEMETRY);
            client.line.begin_message(id, &vec![0; 600 * 1024]);
            id
        })
        .collect();
    assert_eq!(client.line.resets.iter().copied().collect::<Vec<_>>(), ids[1..]);
    assert_eq!(client.line.closed, None);
}
