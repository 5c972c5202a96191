//! WorkspaceUpdates, which Coder Desktop listens to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use moorline::model::{AgentId, Timestamp, UserId, WorkspaceId};
use moorline::ops::hub::Topic;
use moorline::store::{agents, workspaces};
use moorline::wire::drpc::Packet;
use moorline::wire::proto::methods::WORKSPACE_UPDATES;
use moorline::wire::proto::tailnet::workspace::Status;
use moorline::wire::proto::tailnet::{WorkspaceUpdate, WorkspaceUpdatesRequest};
use prost::Message;

use super::agent::Agent;
use super::driver::{Server, an_agent};

fn watch(peer: &mut Agent, owner: &[u8]) -> u32 {
    let request = WorkspaceUpdatesRequest { workspace_owner_id: owner.to_vec() };
    peer.begin(WORKSPACE_UPDATES, &request.encode_to_vec())
}

fn update(packet: Packet) -> WorkspaceUpdate {
    let Packet::Message(message) = packet else { panic!("{packet:?}") };
    WorkspaceUpdate::decode(message.as_slice()).unwrap()
}

/// Another workspace of the user, with an agent.
fn add(server: &Server, name: &'static str) -> (WorkspaceId, AgentId) {
    let (workspace, agent, like, user) = (WorkspaceId::random(), AgentId::random(), server.workspace, server.user);
    server.write(move |write| {
        let row = workspaces::by_id(write, like)?.unwrap();
        workspaces::insert(write, &workspaces::Workspace { id: workspace, name: name.into(), ..row })?;
        agents::insert(write, &an_agent(agent, workspace, "main"))?;
        write.publish(Topic::WorkspacesOf(user));
        Ok(())
    });
    (workspace, agent)
}

#[test]
fn the_whole_comes_first_and_then_what_has_changed() {
    let server = Server::start();
    let mut client = server.join_all(server.credential()).line;
    let id = watch(&mut client, server.user.as_bytes());
    let first = update(client.next(id));
    assert_eq!(first.upserted_workspaces.len(), 1);
    let shown = &first.upserted_workspaces[0];
    assert_eq!((shown.id.as_slice(), shown.name.as_str()), (server.workspace.as_bytes().as_slice(), "dev"));
    assert_eq!(shown.status(), Status::Running);
    assert_eq!(first.upserted_agents.len(), 1);
    assert_eq!(first.upserted_agents[0].id, server.agent.as_bytes());
    assert_eq!(first.upserted_agents[0].workspace_id, server.workspace.as_bytes());

    let (second, agent) = add(&server, "box");
    assert!(client.line.letter());
    client.pass(Duration::from_secs(1));
    let found = update(client.next(id));
    assert_eq!((found.upserted_workspaces.len(), found.upserted_agents.len()), (1, 1));
    assert_eq!(found.upserted_agents[0].id, agent.as_bytes());
    assert_eq!((found.deleted_workspaces.len(), found.deleted_agents.len()), (0, 0));

    // Several changes at once come as one.
    let (user, first_workspace) = (server.user, server.workspace);
    server.write(move |write| {
        workspaces::rename(write, first_workspace, "renamed", Timestamp::now())?;
        workspaces::remove(write, second, Timestamp::now())?;
        write.publish(Topic::WorkspacesOf(user));
        Ok(())
    });
    assert!(client.line.letter());
    client.pass(Duration::from_secs(1));
    let found = update(client.next(id));
    assert_eq!(found.upserted_workspaces[0].name, "renamed");
    assert_eq!(found.upserted_agents, []);
    assert_eq!(found.deleted_workspaces[0].id, second.as_bytes());
    assert_eq!(found.deleted_agents[0].id, agent.as_bytes());
    // An announcement without a change is nothing.
    server.app.hub.publish(Topic::WorkspacesOf(server.user));
    assert!(client.line.letter());
    client.pass(Duration::from_secs(1));
    assert!(client.line.letter());
    client.pass(Duration::from_secs(100));
    assert!(client.packets[&id].is_empty());
    assert_eq!(client.closed, None, "and nothing ends it");
}

#[test]
fn many_changes_cost_few_reads() {
    let server = Server::start();
    let mut client = server.join_all(server.credential()).line;
    let id = watch(&mut client, server.user.as_bytes());
    update(client.next(id));
    for name in ["a1", "a2", "a3", "a4", "a5"] {
        add(&server, name);
        client.line.letters();
    }
    client.pass(Duration::from_millis(300));
    let found = update(client.next(id));
    assert_eq!(found.upserted_workspaces.len(), 5);
    assert!(client.packets[&id].is_empty());
}

#[test]
fn only_the_own_workspaces_are_shown() {
    let server = Server::start();
    let mut client = server.join_all(server.credential()).line;
    for owner in [UserId::random().as_bytes().as_slice(), &[1; 3], &[]] {
        let id = watch(&mut client, owner);
        assert!(matches!(client.next(id), Packet::Error { code: 0, .. }));
    }
    // Those who may see none are told so, and their stream stays open.
    for mut peer in [server.join_one().line, server.join_agent().line] {
        let id = watch(&mut peer, server.user.as_bytes());
        assert_eq!(update(peer.next(id)), WorkspaceUpdate::default());
        add(&server, if server.count("SELECT count(*) FROM workspaces") == 1 { "x1" } else { "x2" });
        peer.line.letters();
        peer.pass(Duration::from_secs(100));
        assert!(peer.packets[&id].is_empty());
    }
}

#[test]
fn one_connection_has_few_such_streams() {
    let server = Server::start();
    let mut client = server.join_all(server.credential()).line;
    let ids: Vec<u32> = (0..5).map(|_| watch(&mut client, server.user.as_bytes())).collect();
    for id in &ids[..4] {
        update(client.next(*id));
    }
    assert!(matches!(client.next(ids[4]), Packet::Error { code: 0, .. }));
    // One that is given up makes room.
    client.mux.finish(ids[0]);
    client.exchange();
    let id = watch(&mut client, server.user.as_bytes());
    update(client.next(id));
}
