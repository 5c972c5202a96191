//! Watching metadata and the relay map, and waiting for a reinit that never comes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use moorline::model::Timestamp;
use moorline::ops::hub::Topic;
use moorline::store::{agents, metadata};
use moorline::streams::{Form, derp_map, metadata as streams, reinit};
use serde_json::{Value, json};

use super::driver::{Frame, Line, PONG, SOON, Server, TEXT, frames, masked};

/// The chunks of a body, whole ones only.
pub(super) fn chunks(bytes: &[u8]) -> Vec<String> {
    let (mut chunks, mut rest) = (Vec::new(), std::str::from_utf8(bytes).unwrap());
    while !rest.is_empty() {
        let (length, body) = rest.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        chunks.push(body[..length].to_owned());
        rest = body[length..].strip_prefix("\r\n").unwrap();
    }
    chunks
}

pub(super) fn wait(line: &mut Line) -> Vec<u8> {
    let start = std::time::Instant::now();
    loop {
        let taken = line.take();
        if !taken.is_empty() {
            return taken;
        }
        assert!(start.elapsed() < SOON, "nothing came");
        line.letters();
        std::thread::yield_now();
    }
}

pub(super) fn event(line: &mut Line) -> Value {
    let chunks = chunks(&wait(line));
    assert_eq!(chunks.len(), 1, "{chunks:?}");
    let data = chunks[0].strip_prefix("event: data\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
    assert!(!data.contains('\n'));
    serde_json::from_str(data).unwrap()
}

fn set(server: &Server, key: &'static str, value: &'static str) {
    let agent = server.agent;
    server
        .app
        .store
        .write(move |write| {
            metadata::set_value(write, agent, key, value, "", Timestamp::now())?;
            write.publish(Topic::AgentMetadata(agent));
            Ok::<(), moorline::store::Error>(())
        })
        .unwrap();
}

fn events(server: &Server) -> Line {
    Line::open_settled(streams::watch(server.app.clone(), server.agent, server.visitor(), Form::Events))
}

fn socket(server: &Server) -> Line {
    Line::open_settled(streams::watch(server.app.clone(), server.agent, server.visitor(), Form::WebSocket))
}

#[test]
fn metadata_comes_at_once_sorted_and_never_null() {
    let server = Server::start();
    assert_eq!(event(&mut events(&server)), json!([]));
    server.declare_metadata(&[("zeta", 1), ("beta", 2), ("alpha", 2)]);
    let mut line = events(&server);
    let found = event(&mut line);
    let keys: Vec<_> = found.as_array().unwrap().iter().map(|one| one["description"]["key"].clone()).collect();
    assert_eq!(keys, ["zeta", "alpha", "beta"]);
    assert_eq!(
        found[0],
        json!({
            "result": {"collected_at": "0001-01-01T00:00:00Z", "age": 9_223_372_036_u64, "value": "", "error": ""},
            "description": {"display_name": "ZETA", "key": "zeta", "script": "echo zeta", "interval": 10, "timeout": 5},
        })
    );
}

#[test]
fn changes_come_at_most_once_a_second_and_something_each_five() {
    let server = Server::start();
    server.declare_metadata(&[("load", 0)]);
    let mut line = events(&server);
    event(&mut line);
    set(&server, "load", "1");
    set(&server, "load", "2");
    assert!(line.letter());
    line.pass(Duration::from_millis(900));
    assert_eq!(line.take(), b"", "the last event is not a second old");
    line.pass(Duration::from_millis(100));
    let found = event(&mut line);
    assert_eq!((&found[0]["result"]["value"], &found[0]["result"]["age"]), (&json!("2"), &json!(0)));
    let size = server.written();
    let mut refreshes = 0;
    for _ in 0..12 {
        line.pass(Duration::from_secs(5));
        refreshes += chunks(&line.take()).iter().filter(|chunk| chunk.starts_with("event: data\n")).count();
    }
    assert_eq!(refreshes, 12);
    assert_eq!(line.letters(), 0, "a refresh reads nothing");
    assert_eq!(server.written(), size, "and writes nothing");
}

#[test]
fn a_repeated_value_shows_its_newest_instant() {
    let server = Server::start();
    server.declare_metadata(&[("load", 0)]);
    let agent = server.agent;
    server.write(move |write| metadata::set_value(write, agent, "load", "1", "", Timestamp(0)).map(|_| ()));
    server.app.presence.collected(agent, "load", Timestamp(1_751_335_384_120_000));
    assert_eq!(event(&mut events(&server))[0]["result"]["collected_at"], "2025-07-01T02:03:04.12Z");
}

#[test]
fn the_websocket_twin_wraps_each_event() {
    let server = Server::start();
    let mut line = socket(&server);
    assert_eq!(frames(&wait(&mut line)), [Frame::Text(r#"{"type":"data","data":[]}"#.into())]);
    line.feed(&masked(TEXT, b"x"));
    assert!(matches!(frames(&line.take())[..], [Frame::Close(1002, _)]));
    assert!(line.out.finish);
}

#[test]
fn watchers_end_with_their_session() {
    let server = Server::start();
    let mut line = events(&server);
    event(&mut line);
    let mut other = socket(&server);
    wait(&mut other);
    server.revoke();
    assert_eq!(wait(&mut line), b"0\r\n\r\n");
    assert!(line.out.finish);
    assert_eq!(frames(&wait(&mut other)), [Frame::Close(1008, "the session has ended".into())]);
}

#[test]
fn watchers_end_with_the_agent() {
    let server = Server::start();
    let mut line = socket(&server);
    wait(&mut line);
    let agent = server.agent;
    server
        .app
        .store
        .write(move |write| {
            agents::remove(write, agent, Timestamp::now())?;
            write.publish(Topic::AgentRevoked(agent));
            Ok::<(), moorline::store::Error>(())
        })
        .unwrap();
    assert!(line.letter());
    line.pass(Duration::from_secs(1));
    let found = frames(&wait(&mut line));
    assert_eq!(found, [Frame::Close(1000, "Connection closed".into())]);
}

#[test]
fn a_stopping_server_ends_watchers_so_that_they_return() {
    let server = Server::start();
    let mut line = events(&server);
    event(&mut line);
    line.shutdown();
    assert_eq!(line.take(), b"0\r\n\r\n");
    let mut line = socket(&server);
    line.shutdown();
    assert!(matches!(frames(&line.take())[..], [Frame::Text(_), Frame::Close(1012, _)]));
}

#[test]
fn reinit_sends_nothing_but_pings() {
    let server = Server::start();
    let mut line = Line::open(reinit::wait(server.app.clone(), server.agent));
    assert_eq!(line.take(), b"");
    line.pass(Duration::from_secs(15 * 9));
    assert_eq!(chunks(&line.take()), ["event: ping\n\n"; 9]);
    line.feed(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(line.take(), b"");
    server.app.hub.publish(Topic::AgentRevoked(server.agent));
    assert!(line.letter());
    assert_eq!(line.take(), b"0\r\n\r\n");
}

#[test]
fn the_relay_map_comes_once_as_recorded() {
    let server = Server::start();
    let mut line = Line::open(derp_map::watch_as_agent(server.app.clone(), server.agent));
    let found = frames(&line.take());
    let [Frame::Binary(map)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(map.last(), Some(&b'\n'));
    let map: Value = serde_json::from_slice(map).unwrap();
    assert_eq!(
        map,
        json!({"Regions": {"999": {
            "EmbeddedRelay": true, "RegionID": 999, "RegionCode": "coder", "RegionName": "Coder Embedded Relay",
            "Nodes": [{"Name": "999b", "RegionID": 999, "HostName": "coder.example.com", "STUNPort": -1, "DERPPort": 443}],
        }}})
    );
    server.app.hub.publish(Topic::DerpMap);
    assert!(line.letter());
    assert_eq!(line.take(), b"", "the same map is not sent again");
}

#[test]
fn the_relay_map_stream_ends_with_the_right_to_it() {
    let server = Server::start();
    let mut person = Line::open(derp_map::watch(server.app.clone(), server.visitor()));
    let mut agent = Line::open(derp_map::watch_as_agent(server.app.clone(), server.agent));
    person.take();
    agent.take();
    server.revoke();
    let found = frames(&wait(&mut person));
    assert_eq!(found, [Frame::Close(1008, "the session has ended".into())]);
    server.app.hub.publish(Topic::AgentRevoked(server.agent));
    let found = frames(&wait(&mut agent));
    assert_eq!(found, [Frame::Close(1008, "the agent's token was withdrawn".into())]);
}

#[test]
fn the_relay_map_stream_ends_without_pongs() {
    let server = Server::start();
    let mut line = Line::open(derp_map::watch_as_agent(server.app.clone(), server.agent));
    line.take();
    for n in 1..5 {
        line.pass(Duration::from_secs(15));
        line.feed(&masked(PONG, n.to_string().as_bytes()));
    }
    assert!(!line.out.finish);
    line.pass(Duration::from_secs(46));
    let found = frames(&line.take());
    assert_eq!(found.last(), Some(&Frame::Close(1001, "ping failed".into())));
}
