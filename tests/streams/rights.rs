//! What happens to coordination when somebody may not have it: never, or not any more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::{Duration, Instant};

use moorline::domain::credential::Credential;
use moorline::model::{AgentId, NodeKey, Timestamp, UserId, WorkspaceId};
use moorline::ops::hub::Topic;
use moorline::store::users::Status;
use moorline::store::{agents, keys, users, workspaces};
use moorline::streams::rpc;
use moorline::wire::drpc::{Encoder, Packet};
use moorline::wire::proto::methods;
use moorline::wire::proto::tailnet::coordinate_response::peer_update::Kind;
use prost::Message;

use super::driver::{Server, a_key, an_agent};
use super::peers::{Peer, announce, disconnect, no_tunnel, somewhere, tunnel};

const VAGUE: &str = "authorization: workspace agent not found or you do not have permission";

/// Another user with a workspace and an agent.
fn stranger(server: &Server, admin: bool) -> (Credential, AgentId) {
    let (user, workspace, agent) = (UserId::random(), WorkspaceId::random(), AgentId::random());
    let key = a_key(user);
    let credential = Credential { user, key: key.id.clone(), as_admin: admin };
    let (of, like) = (server.user, server.workspace);
    server.write(move |write| {
        let row = users::User {
            id: user,
            username: "bob".into(),
            email: "bob@example.com".into(),
            is_admin: admin,
            ..users::by_id(write, of)?.unwrap()
        };
        users::insert(write, &row)?;
        keys::insert(write, &key)?;
        let row = workspaces::by_id(write, like)?.unwrap();
        workspaces::insert(write, &workspaces::Workspace { id: workspace, owner_id: user, ..row })?;
        agents::insert(write, &an_agent(agent, workspace, "main"))
    });
    (credential, agent)
}

/// A client with a tunnel that the agent knows.
fn linked(server: &Server, agent: &mut Peer, key: u8, mut client: Peer) -> Peer {
    client.say(tunnel(*server.agent.as_bytes()));
    client.say(announce(key, 999, &somewhere(key)));
    assert_eq!(client.hear(), (server.agent.0, Kind::Node));
    assert_eq!(agent.hear(), (client.id, Kind::Node));
    assert!(server.app.keys.knows(&NodeKey([key; 32])));
    client
}

#[test]
fn each_tunnel_is_looked_up_and_strangers_learn_nothing() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let (bob, theirs) = stranger(&server, false);
    let mut own = linked(&server, &mut agent, 7, server.join_all(server.credential()));
    for id in [theirs, AgentId::random()] {
        let mut client = server.join_all(server.credential());
        client.say(tunnel(*id.as_bytes()));
        assert_eq!(client.refused(), VAGUE);
    }
    let mut client = server.join_all(bob);
    client.say(announce(8, 999, &somewhere(8)));
    client.say(tunnel(*server.agent.as_bytes()));
    assert_eq!(client.refused(), VAGUE);
    assert!(agent.is_quiet() && own.is_quiet());
    let mut client = server.join_all(server.credential());
    client.line.message(client.stream, &[0x1a, 0x03, 0x0a, 0x01, 0x01]);
    client.line.exchange();
    assert_eq!(client.refused(), "authorization: parse add tunnel id: invalid UUID (got 1 bytes)");
}

#[test]
fn administrators_reach_every_agent_until_they_are_none() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let (bob, _) = stranger(&server, true);
    let mut client = linked(&server, &mut agent, 7, server.join_all(bob.clone()));
    let user = bob.user;
    server.write(move |write| {
        users::update(write, &users::User { is_admin: false, ..users::by_id(write, user)?.unwrap() })?;
        write.publish(Topic::UserRevoked(user));
        Ok(())
    });
    assert_eq!(client.line.until_closed(), (1008, "the session has ended".into()));
    assert_eq!(agent.hear(), (client.id, Kind::Disconnected));
    let mut again = server.join_all(Credential { as_admin: false, ..bob });
    again.say(tunnel(*server.agent.as_bytes()));
    assert_eq!(again.refused(), VAGUE);
}

#[test]
fn requests_are_done_in_their_order_though_one_is_looked_up() {
    let server = Server::with_pool(1, 16);
    let mut agent = server.join_agent();
    let mut client = server.join_all(server.credential());
    let client_id = client.id;
    let (release, busy) = std::sync::mpsc::channel::<()>();
    server.app.jobs.try_submit(move || busy.recv().unwrap_or(())).unwrap();
    client.say(tunnel(*server.agent.as_bytes()));
    client.say(announce(7, 999, &somewhere(7)));
    client.say(no_tunnel(*server.agent.as_bytes()));
    client.say(tunnel(*server.agent.as_bytes()));
    assert!(client.is_quiet() && agent.is_quiet());
    assert!(!server.app.keys.knows(&NodeKey([7; 32])), "the node waits for the tunnel before it");
    drop(release);
    client.until("the tunnel is there again", || server.app.keys.knows(&NodeKey([7; 32])).then_some(()));
    client.until("looked up", || (server.app.tailnet.partners(client_id) == [server.agent.0]).then_some(()));
    assert_eq!(agent.hear(), (client.id, Kind::Node));
    client.say(tunnel(*server.agent.as_bytes()));
    client.say(disconnect());
    let mut last = client.line.next(client.stream);
    while last != Packet::Close {
        last = client.line.next(client.stream);
    }
    assert!(server.app.tailnet.partners(client.id).is_empty());
    assert_eq!(agent.hear(), (client.id, Kind::Disconnected));
}

#[test]
fn a_flood_of_requests_is_held_back_by_the_window() {
    let server = Server::with_pool(1, 16);
    let mut client = server.join_all(server.credential());
    let (release, busy) = std::sync::mpsc::channel::<()>();
    server.app.jobs.try_submit(move || busy.recv().unwrap_or(())).unwrap();
    client.say(tunnel(*server.agent.as_bytes()));
    let request = announce(7, 999, &somewhere(7)).encode_to_vec();
    let most = 2 * 256 * 1024 / request.len();
    for _ in 0..2 * most {
        client.line.message(client.stream, &request);
        client.line.exchange();
    }
    assert!(client.line.mux.queued(client.stream) > 100_000, "the client must wait, too");
    client.line.pass(Duration::from_secs(45));
    assert_eq!(client.line.closed, None, "and its connection lives");
    drop(release);
    client.until("all done", || server.app.keys.knows(&NodeKey([7; 32])).then_some(()));
    let start = Instant::now();
    while client.line.mux.queued(client.stream) > 0 {
        assert!(start.elapsed() < super::driver::SOON);
        client.line.line.letters();
        client.line.exchange();
    }
}

/// A stream number that comes again must not get the answer that was meant for its former owner: it let
/// one admitted tunnel admit another.
#[test]
fn an_answer_for_a_former_stream_of_the_same_number_admits_nothing() {
    let server = Server::with_pool(1, 16);
    let (_, theirs) = stranger(&server, false);
    let mut client = server.join_all(server.credential());
    let (release, busy) = std::sync::mpsc::channel::<()>();
    server.app.jobs.try_submit(move || busy.recv().unwrap_or(())).unwrap();
    // A tunnel to the own agent is being looked up; the stream is reset, and its number used again for one
    // to somebody else's.
    client.say(tunnel(*server.agent.as_bytes()));
    let id = client.stream;
    client.line.mux.reset(id);
    client.line.exchange();
    let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
    encoder.invoke(methods::COORDINATE, &mut bytes);
    encoder.message(&tunnel(*theirs.as_bytes()).encode_to_vec(), &mut bytes);
    client.line.reopen(id, &bytes);
    drop(release);
    assert_eq!(client.refused(), VAGUE);
    assert!(server.app.tailnet.partners(client.id).is_empty());
}

#[test]
fn a_revoked_token_ends_the_coordination_and_the_agent_drops_the_tunnel() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let clients = [server.join_one(), server.join_all(server.credential())];
    let mut key = 7;
    let mut clients = clients.map(|client| {
        key += 1;
        linked(&server, &mut agent, key, client)
    });
    // Another of the user's tokens: that is none of theirs.
    server.app.hub.publish(Topic::UserRevoked(server.user));
    std::thread::sleep(Duration::from_millis(50));
    assert!(clients.iter_mut().all(Peer::is_quiet) && agent.is_quiet());
    assert!(clients.iter().all(|client| client.line.closed.is_none()));
    let start = Instant::now();
    server.revoke();
    for client in &mut clients {
        assert_eq!(client.line.until_closed(), (1008, "the session has ended".into()));
        assert_eq!(agent.hear(), (client.id, Kind::Disconnected));
    }
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(!server.app.keys.knows(&NodeKey([8; 32])) && !server.app.keys.knows(&NodeKey([9; 32])));
    server.until("noted", |server| {
        (server.count("SELECT count(*) FROM tunnels WHERE ending = 'revoked'") == 2).then_some(())
    });
}

#[test]
fn a_suspended_user_and_an_expired_token_end_it_likewise() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let mut client = linked(&server, &mut agent, 7, server.join_one());
    let user = server.user;
    let set = move |status| {
        move |write: &moorline::store::Write<'_>| {
            users::update(write, &users::User { status, ..users::by_id(write, user)?.unwrap() })?;
            write.publish(Topic::UserRevoked(user));
            Ok(())
        }
    };
    server.write(set(Status::Suspended));
    assert_eq!(client.line.until_closed().0, 1008);
    assert_eq!(agent.hear(), (client.id, Kind::Disconnected));
    server.write(set(Status::Active));
    let key = server.credential().key;
    let soon = Timestamp::now().plus(Duration::from_millis(400));
    server.write(move |write| keys::touch(write, &key, "", Timestamp::now(), soon));
    let mut client = linked(&server, &mut agent, 8, server.join_all(server.credential()));
    client.line.line.letters();
    std::thread::sleep(Duration::from_millis(450));
    client.line.pass(Duration::from_millis(500));
    assert_eq!(client.line.until_closed().0, 1008);
    assert_eq!(agent.hear(), (client.id, Kind::Disconnected));
}

#[test]
fn a_client_that_was_revoked_before_its_stream_began_is_closed() {
    let server = Server::start();
    let client = server.admitted();
    server.revoke();
    assert_eq!(server.join(client).line.until_closed().0, 1008);
}

#[test]
fn a_removed_agent_takes_its_clients_along() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let mut one = linked(&server, &mut agent, 7, server.join_one());
    let mut all = linked(&server, &mut agent, 8, server.join_all(server.credential()));
    let id = server.agent;
    server.write(move |write| {
        agents::remove(write, id, Timestamp::now())?;
        write.publish(Topic::AgentRevoked(id));
        Ok(())
    });
    assert_eq!(agent.line.until_closed(), (1008, "the agent's token was withdrawn".into()));
    assert_eq!(all.hear(), (server.agent.0, Kind::Disconnected));
    assert_eq!(all.line.closed, None, "it may reach others");
    assert_eq!(one.line.until_closed(), (1008, "the session has ended".into()));
    assert!(!server.app.keys.knows(&NodeKey([200; 32])));
}

#[test]
fn a_new_token_of_the_agent_drops_the_old_process_only() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let mut client = linked(&server, &mut agent, 7, server.join_one());
    let id = server.agent;
    server.write(move |write| {
        agents::set_token(write, id, &[9; 32], &[1], Timestamp::now())?;
        write.publish(Topic::AgentRevoked(id));
        Ok(())
    });
    assert_eq!(agent.line.until_closed().0, 1008);
    assert_eq!(client.hear(), (server.agent.0, Kind::Disconnected));
    let mut anew = server.join_agent();
    assert_eq!(anew.hear(), (client.id, Kind::Node), "its tunnel has waited");
    assert_eq!(client.hear(), (server.agent.0, Kind::Node));
    assert_eq!(client.line.closed, None);
}

/// Its agents keep a lost client for as long as it shakes hands with them, so they must be told.
#[test]
fn a_client_that_is_lost_when_its_token_is_revoked_is_dropped_too() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let mut client = linked(&server, &mut agent, 7, server.join_one());
    client.line.line.close();
    assert_eq!(agent.hear(), (client.id, Kind::Lost));
    server.app.hub.publish(Topic::UserRevoked(server.user));
    std::thread::sleep(Duration::from_millis(50));
    assert!(agent.is_quiet(), "its own token is still good");
    assert_eq!(server.app.absent.count(), 1);
    server.revoke();
    assert_eq!(agent.hear(), (client.id, Kind::Disconnected));
    assert!(!server.app.keys.knows(&NodeKey([7; 32])));
    assert_eq!(server.app.absent.count(), 0);
    // And one whose token was revoked as it went.
    let mut second = server.join_one();
    second.say(tunnel(*server.agent.as_bytes()));
    second.say(announce(8, 999, &somewhere(8)));
    second.line.line.close();
    agent.until("withdrawn", || (!server.app.keys.knows(&NodeKey([8; 32]))).then_some(()));
}

/// A machine that was stolen need only keep away from the coordinator before its token is replaced.
#[test]
fn an_agent_that_is_lost_when_its_token_is_replaced_is_dropped_too() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let mut all = linked(&server, &mut agent, 7, server.join_all(server.credential()));
    agent.line.line.close();
    assert_eq!(all.hear(), (server.agent.0, Kind::Lost));
    assert!(server.app.keys.knows(&NodeKey([200; 32])), "it may come back");
    let id = server.agent;
    server.app.hub.publish(Topic::AgentRevoked(id));
    std::thread::sleep(Duration::from_millis(50));
    assert!(all.is_quiet(), "its token is still good");
    server.write(move |write| {
        agents::set_token(write, id, &[9; 32], &[1], Timestamp::now())?;
        write.publish(Topic::AgentRevoked(id));
        Ok(())
    });
    assert_eq!(all.hear(), (server.agent.0, Kind::Disconnected));
    assert!(!server.app.keys.knows(&NodeKey([200; 32])));
    assert_eq!((server.app.absent.count(), all.line.closed.clone()), (0, None));
    let mut anew = server.join_agent();
    assert_eq!(anew.hear(), (all.id, Kind::Node), "with the new token it is welcome");
}

#[test]
fn a_client_that_comes_back_with_fewer_rights_keeps_only_what_it_may() {
    let server = Server::start();
    let mut agent = server.join_agent();
    let (bob, theirs) = stranger(&server, true);
    let mut client = linked(&server, &mut agent, 7, server.join_all(bob.clone()));
    client.say(tunnel(*theirs.as_bytes()));
    let id = client.id;
    client.until("two", || (server.app.tailnet.partners(id).len() == 2).then_some(()));
    let user = bob.user;
    // Nobody is told: the new stream comes before the news.
    server.write(move |write| {
        users::update(write, &users::User { is_admin: false, ..users::by_id(write, user)?.unwrap() })
    });
    let credential = Credential { as_admin: false, ..bob };
    let mut again = server.join(rpc::Client { credential, peer: id, only: None, ..server.admitted() });
    again.say(tunnel(*theirs.as_bytes()));
    again.say(announce(7, 5, &somewhere(7)));
    assert!(again.is_quiet() && agent.is_quiet(), "neither is told of the other");
    again.say(tunnel(*server.agent.as_bytes()));
    assert_eq!(again.refused(), VAGUE);
}
