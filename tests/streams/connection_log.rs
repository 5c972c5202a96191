//! What tunnels leave in the connection log, and how it is read together with the sessions of agents.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use moorline::domain::connection_log::{self, Caller, Journal, Part};
use moorline::model::Timestamp;
use moorline::store::connections::{self, Kind};
use moorline::store::tunnels::{self, Ending};
use moorline::wire::proto::tailnet::Node;
use serde_json::{Value, json};
use uuid::Uuid;

use super::driver::Server;

const ADDRESS: &str = "fd7a:115c:a1e0:4ccc:8ddd:eeee:eeee:eee1";

fn caller(server: &Server, peer: Uuid) -> Caller {
    Caller { peer, user: server.user, ip: "203.0.113.7".into(), program: "coder ssh".into() }
}

fn journal(server: &Server, peer: Uuid) -> Journal {
    Journal::new(server.app.clone(), caller(server, peer))
}

fn node(addresses: &[&str]) -> Node {
    Node { addresses: addresses.iter().map(|one| (*one).to_owned()).collect(), ..Node::default() }
}

/// Waits for what was written before: writes are done in their order.
fn settle(server: &Server) {
    server.write(|_| Ok(()));
}

fn view(server: &Server) -> Vec<Value> {
    settle(server);
    let part = Part { workspace: None, since_seconds: None, limit: 100 };
    let view = server.app.store.read(|conn| connection_log::view(conn, part)).unwrap();
    view["connections"].as_array().unwrap().clone()
}

fn rows(server: &Server) -> i64 {
    settle(server);
    server.count("SELECT count(*) FROM tunnels")
}

fn changes(server: &Server) -> i64 {
    server
        .app
        .store
        .write(|write| {
            Ok::<_, moorline::store::Error>(write.query_row("SELECT total_changes()", [], |row| row.get(0))?)
        })
        .unwrap()
}

fn session(server: &Server, id: Uuid, kind: Kind, ip: &str, at: Timestamp) {
    let (agent, ip) = (server.agent, ip.to_owned());
    server.write(move |write| connections::begin(write, agent, id, kind, "", &ip, at));
}

#[test]
fn a_tunnel_is_two_writes() {
    let server = Server::start();
    let mut journal = journal(&server, Uuid::new_v4());
    let before = changes(&server);
    journal.tunnel_opened(server.agent);
    assert_eq!(rows(&server), 0, "nothing can come through it before the client has said where it is");
    journal.announced(&node(&[&format!("{ADDRESS}/128")]));
    for port in 0..50 {
        let endpoints = vec![format!("192.0.2.1:{port}")];
        journal.announced(&Node { endpoints, ..node(&["fd7a:115c:a1e0::77/128"]) });
        journal.tunnel_opened(server.agent);
    }
    let shown = view(&server);
    assert_eq!(shown.len(), 1);
    assert_eq!((&shown[0]["ended_at"], &shown[0]["end"]), (&Value::Null, &Value::Null));
    journal.tunnel_closed(server.agent, Ending::Closed);
    drop(journal);
    let shown = view(&server);
    for (key, value) in [
        ("user", "alice"),
        ("ip", "203.0.113.7"),
        ("owner", "alice"),
        ("workspace", "dev"),
        ("agent", "main"),
        ("program", "coder ssh"),
        ("by", "ssh"),
        ("known_from", "client"),
        ("end", "closed"),
        ("tailnet_ip", ADDRESS),
    ] {
        assert_eq!(shown[0][key], value, "{key}");
    }
    assert_eq!(changes(&server) - before, 2);
}

#[test]
fn a_tunnel_without_an_address_is_written_at_its_end() {
    let server = Server::start();
    let mut journal = journal(&server, Uuid::new_v4());
    journal.tunnel_opened(server.agent);
    drop(journal);
    let shown = view(&server);
    assert_eq!((shown.len(), &shown[0]["end"], &shown[0]["tailnet_ip"]), (1, &json!("lost"), &json!("")));
}

#[test]
fn the_address_of_command_lines_is_preferred() {
    let server = Server::start();
    for (announced, kept) in [
        (vec!["fd60:627a:a42b::1/128", "fd7a:115c:a1e0::2/128"], "fd7a:115c:a1e0::2"),
        (vec!["fd60:627a:a42b::3/128"], "fd60:627a:a42b::3"),
        (vec!["nonsense", "FD7A:115C:A1E0:0::4/128"], "fd7a:115c:a1e0::4"),
    ] {
        let mut journal = journal(&server, Uuid::new_v4());
        journal.announced(&node(&announced));
        journal.tunnel_opened(server.agent);
        drop(journal);
        assert_eq!(view(&server)[0]["tailnet_ip"], kept);
        server.write(|write| write.execute("DELETE FROM tunnels", []).map(drop));
    }
}

#[test]
fn a_client_that_comes_back_goes_on_with_its_row() {
    let server = Server::start();
    let peer = Uuid::new_v4();
    let open = |server: &Server| {
        let mut journal = journal(server, peer);
        journal.announced(&node(&[&format!("{ADDRESS}/128")]));
        journal.tunnel_opened(server.agent);
        journal
    };
    // Its connection breaks.
    drop(open(&server));
    assert_eq!(view(&server)[0]["end"], "lost");
    let mut second = open(&server);
    assert_eq!((rows(&server), &view(&server)[0]["ended_at"]), (1, &Value::Null));
    // A newer stream takes over before the older one has ended.
    let third = open(&server);
    second.superseded();
    drop(second);
    assert_eq!((rows(&server), &view(&server)[0]["ended_at"]), (1, &Value::Null));
    // One that does not ask for its tunnel again leaves it open no longer than it lives itself.
    let mut idle = journal(&server, peer);
    idle.end(Ending::Closed);
    drop(idle);
    assert_eq!((rows(&server), &view(&server)[0]["end"]), (1, &json!("closed")));
    server.write(|write| write.execute("UPDATE tunnels SET closed_at = NULL, ending = NULL", []).map(drop));
    // The server is killed: nothing is written, and the next start ends what was open.
    let mut third = third;
    third.superseded();
    drop(third);
    let server = server.reopened();
    let settled =
        server.app.store.write(|write| Ok::<_, moorline::store::Error>(tunnels::settle(write, Timestamp::now())?));
    assert_eq!(settled.unwrap(), 1);
    assert_eq!(view(&server)[0]["end"], "restart");
    let mut fourth = open(&server);
    assert_eq!((rows(&server), &view(&server)[0]["ended_at"]), (1, &Value::Null));
    // After a goodbye, the same client begins anew.
    fourth.end(Ending::Closed);
    drop(fourth);
    drop(open(&server));
    assert_eq!(rows(&server), 2);
}

#[test]
fn another_person_never_goes_on_with_a_row() {
    let server = Server::start();
    let peer = Uuid::new_v4();
    let mut first = journal(&server, peer);
    first.announced(&node(&[&format!("{ADDRESS}/128")]));
    first.tunnel_opened(server.agent);
    drop(first);
    let bob = moorline::model::UserId::random();
    server.write(move |write| {
        let alice = moorline::store::users::list(write)?.remove(0);
        let bob = moorline::store::users::User { id: bob, username: "bob".into(), email: "b@x.y".into(), ..alice };
        moorline::store::users::insert(write, &bob)
    });
    let mut second = Journal::new(server.app.clone(), Caller { user: bob, ..caller(&server, peer) });
    second.announced(&node(&[&format!("{ADDRESS}/128")]));
    second.tunnel_opened(server.agent);
    let users: Vec<Value> = view(&server).iter().map(|one| one["user"].clone()).collect();
    assert_eq!(users, ["bob", "alice"]);
}

#[test]
fn sessions_belong_to_the_tunnel_with_their_address() {
    let server = Server::start();
    let mut ours = journal(&server, Uuid::new_v4());
    ours.announced(&node(&[&format!("{ADDRESS}/128")]));
    ours.tunnel_opened(server.agent);
    settle(&server);
    let (one, two, three) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let now = Timestamp::now();
    session(&server, one, Kind::Ssh, ADDRESS, now.plus(Duration::from_secs(1)));
    session(&server, two, Kind::Vscode, ADDRESS, now.plus(Duration::from_secs(2)));
    session(&server, three, Kind::Jetbrains, "127.0.0.1", now.plus(Duration::from_secs(3)));
    let agent = server.agent;
    server.write(move |write| {
        connections::end(write, agent, one, Kind::Ssh, (7, Some("process exited")), now.plus(Duration::from_secs(9)))
    });
    let shown = view(&server);
    let told: Vec<_> = shown
        .iter()
        .map(|one| {
            (one["by"].as_str().unwrap(), one["user"].as_str(), one["ip"].as_str(), one["known_from"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("jetbrains", None, None, "agent"),
            ("vscode", Some("alice"), Some("203.0.113.7"), "agent"),
            ("ssh", Some("alice"), Some("203.0.113.7"), "agent"),
        ],
        "a tunnel with sessions is no entry of its own"
    );
    let ended = &shown[2];
    assert_eq!(
        (&ended["exit_code"], &ended["end"], &ended["seconds"]),
        (&json!(7), &json!("process exited"), &json!(8))
    );
    // A session whose end the agent could not report ends with its tunnel.
    assert_eq!(shown[1]["ended_at"], Value::Null);
    ours.end(Ending::Revoked);
    let shown = view(&server);
    assert_ne!(shown[1]["ended_at"], Value::Null);
    assert_eq!(shown[1]["end"], "revoked");
}

#[test]
fn an_address_that_is_used_again_belongs_to_who_had_it_at_the_time() {
    let server = Server::start();
    let row = |user: i64, opened: i64| {
        let (agent, owner) = (server.agent, server.user);
        server.write(move |write| {
            let program = format!("client {user}");
            let peer = Uuid::new_v4();
            write.execute(
                "INSERT INTO tunnels (peer_id, agent_id, user_id, program, address, opened_at) VALUES (?, ?, ?, ?, ?, ?)",
                (peer.as_bytes().as_slice(), agent, owner, program, ADDRESS, Timestamp(opened)),
            )?;
            Ok(())
        });
    };
    row(1, 1_000_000);
    row(2, 5_000_000);
    session(&server, Uuid::new_v4(), Kind::Ssh, ADDRESS, Timestamp(3_000_000));
    session(&server, Uuid::new_v4(), Kind::Ssh, ADDRESS, Timestamp(6_000_000));
    // An agent whose clock is slow.
    session(&server, Uuid::new_v4(), Kind::Ssh, ADDRESS, Timestamp(500_000));
    let programs: Vec<Value> = view(&server).iter().map(|one| one["program"].clone()).collect();
    assert_eq!(programs, ["client 2", "client 1", "client 2"]);
}

#[test]
fn no_visit_is_hidden_by_the_session_of_another_with_the_same_address() {
    let server = Server::start();
    let visit = |opened: i64| {
        let mut terminal = journal(&server, Uuid::new_v4());
        terminal.announced(&node(&[&format!("{ADDRESS}/128")]));
        terminal.tunnel_opened(server.agent);
        terminal.end(Ending::Lost);
        settle(&server);
        let last = "UPDATE tunnels SET opened_at = ?, closed_at = ? WHERE id = (SELECT max(id) FROM tunnels)";
        server.write(move |write| write.execute(last, [opened, opened + 1_000_000]).map(|_| ()));
    };
    visit(1_000_000);
    visit(5_000_000);
    session(&server, Uuid::new_v4(), Kind::ReconnectingPty, ADDRESS, Timestamp(1_500_000));
    let by: Vec<Value> = view(&server).iter().map(|one| one["known_from"].clone()).collect();
    assert_eq!(by, ["client", "agent"], "a visit of which no session was reported, and one with its session");
}

#[test]
fn what_a_client_says_it_is_used_for_is_written_once() {
    let server = Server::start();
    let mut ours = journal(&server, Uuid::new_v4());
    ours.announced(&node(&[&format!("{ADDRESS}/128")]));
    ours.tunnel_opened(server.agent);
    settle(&server);
    let said = |what| connection_log::used(&server.app, server.user, server.agent, "203.0.113.7", what).unwrap();
    let before = changes(&server);
    said("");
    connection_log::used(&server.app, server.user, server.agent, "198.51.100.1", "vscode").unwrap();
    assert_eq!(view(&server)[0]["by"], "ssh");
    said("jetbrains");
    settle(&server);
    for _ in 0..5 {
        said("vscode");
    }
    assert_eq!(changes(&server) - before, 1);
    session(&server, Uuid::new_v4(), Kind::Ssh, ADDRESS, Timestamp::now());
    let shown = view(&server);
    assert_eq!((&shown[0]["by"], &shown[0]["known_from"]), (&json!("jetbrains"), &json!("client")));
}

#[test]
fn a_part_of_the_log_is_chosen_by_workspace_time_and_number() {
    let server = Server::start();
    let ask = |workspace: Option<&str>, since_seconds, limit| {
        let workspace = workspace.map(|name| name.parse().unwrap());
        server.app.store.read(|conn| connection_log::view(conn, Part { workspace, since_seconds, limit }))
    };
    for age in [10, 100, 1_000] {
        let at = Timestamp::now().minus(Duration::from_secs(age));
        session(&server, Uuid::new_v4(), Kind::Ssh, "", at);
    }
    let count = |view: Value| (view["connections"].as_array().unwrap().len(), view["more"].as_bool().unwrap());
    assert_eq!(count(ask(None, None, 100).unwrap()), (3, false));
    assert_eq!(count(ask(None, None, 2).unwrap()), (2, true));
    assert_eq!(count(ask(None, Some(500), 100).unwrap()), (2, false));
    assert_eq!(count(ask(Some("ALICE/dev"), None, 100).unwrap()), (3, false));
    assert_eq!(count(ask(Some("alice/dev.main"), None, 100).unwrap()), (3, false));
    assert_eq!(count(ask(Some("alice/dev.other"), None, 100).unwrap()), (0, false));
    assert!(ask(Some("alice/nosuch"), None, 100).unwrap_err().message.contains("alice/nosuch"));
    // Removed workspaces stay in the log.
    let workspace = server.workspace;
    server.write(move |write| moorline::store::workspaces::remove(write, workspace, Timestamp::now()).map(drop));
    assert_eq!(count(ask(Some("alice/dev"), None, 100).unwrap()), (3, false));
}
