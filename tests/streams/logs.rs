//! Following logs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use moorline::domain::agent_logs;
use moorline::model::{LogSourceId, Timestamp};
use moorline::ops::hub::Topic;
use moorline::store::logs::Level;
use moorline::store::users::Status;
use moorline::store::{agents, keys, users};
use moorline::streams::logs::follow;
use serde_json::Value;

use super::driver::{BINARY, Frame, Line, PONG, SOON, Server, TEXT, frames, masked};

fn append(server: &Server, lines: &[&str]) {
    let agent = server.agent;
    let lines = lines.iter().map(|line| (Level::Info, (*line).to_owned())).collect();
    server
        .app
        .store
        .write(move |write| agent_logs::append(write, agent, Some(LogSourceId::random()), lines, Timestamp::now()))
        .unwrap();
}

fn open(server: &Server, after: i64) -> Line {
    Line::open_settled(follow(server.app.clone(), server.agent, after, server.visitor()))
}

/// The next text messages, waiting for at least one.
fn messages(line: &mut Line) -> Vec<String> {
    let start = std::time::Instant::now();
    loop {
        let texts: Vec<String> = frames(&line.take())
            .into_iter()
            .filter_map(|frame| match frame {
                Frame::Text(text) => Some(text),
                Frame::Ping(_) => None,
                other => panic!("{other:?}"),
            })
            .collect();
        if !texts.is_empty() {
            return texts;
        }
        assert!(start.elapsed() < SOON, "no message");
        line.letters();
        std::thread::yield_now();
    }
}

fn outputs(messages: &[String]) -> Vec<String> {
    let arrays = messages.iter().map(|message| serde_json::from_str::<Vec<Value>>(message).unwrap());
    arrays.flatten().map(|line| line["output"].as_str().unwrap().to_owned()).collect()
}

fn closed(line: &mut Line) -> (u16, String) {
    let start = std::time::Instant::now();
    let mut taken = Vec::new();
    loop {
        taken.extend(line.take());
        if let Some(Frame::Close(code, reason)) = frames(&taken).last() {
            assert!(line.out.finish);
            return (*code, reason.clone());
        }
        assert!(start.elapsed() < SOON, "not closed");
        line.letters();
        std::thread::yield_now();
    }
}

#[test]
fn the_first_message_comes_at_once_even_if_there_is_nothing() {
    let server = Server::start();
    let mut line = open(&server, 0);
    assert_eq!(messages(&mut line), ["[]\n"]);
    append(&server, &["one", "two"]);
    let found = messages(&mut line);
    assert!(found[0].ends_with("]\n"));
    assert_eq!(outputs(&found), ["one", "two"]);
    // Later ones are never empty, however often is looked.
    line.pass(Duration::from_secs(300));
    server.app.hub.publish(Topic::AgentLogs(server.agent));
    line.letter();
    line.letter();
    assert!(!frames(&line.take()).iter().any(|frame| matches!(frame, Frame::Text(_))));
}

#[test]
fn only_lines_after_the_given_id_come() {
    let server = Server::start();
    append(&server, &["one", "two", "three"]);
    let second = server.count("SELECT id FROM agent_logs WHERE output = 'two'");
    assert_eq!(outputs(&messages(&mut open(&server, second))), ["three"]);
    assert_eq!(messages(&mut open(&server, 999_999)), ["[]\n"]);
}

#[test]
fn a_long_backlog_comes_whole_in_messages_of_32_kib() {
    let server = Server::start();
    let wide = "\u{1b}".repeat(900);
    let lines: Vec<String> = (0..1_000).map(|n| format!("{n} {wide}")).collect();
    append(&server, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let mut line = open(&server, 0);
    let mut found = Vec::new();
    while outputs(&found).len() < lines.len() {
        found.extend(messages(&mut line));
    }
    assert!(found.iter().all(|message| message.len() <= 32_768));
    assert_eq!(outputs(&found), lines);
}

#[test]
fn a_slow_reader_holds_the_reading_back() {
    let server = Server::start();
    let wide = "\u{1b}".repeat(900);
    let lines: Vec<String> = (0..1_000).map(|n| format!("{n} {wide}")).collect();
    append(&server, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let mut line = Line::open(follow(server.app.clone(), server.agent, 0, server.visitor()));
    line.stalled = true;
    assert!(line.letter() && line.letter());
    // A page of 256 lines is above the mark; nothing further is read, whatever is announced.
    let held = line.out.backlog;
    for _ in 0..5 {
        server.app.hub.publish(Topic::AgentLogs(server.agent));
        line.letters();
        line.pass(Duration::from_secs(120));
    }
    assert!(held > 256 * 1024);
    assert!(line.out.backlog < held + 1_024, "pings only");
    line.unstall();
    let mut found = Vec::new();
    while outputs(&found).len() < lines.len() {
        found.extend(messages(&mut line));
    }
    assert_eq!(outputs(&found), lines);
}

#[test]
fn lines_whose_announcement_was_lost_come_within_a_minute() {
    let server = Server::start();
    let mut line = open(&server, 0);
    messages(&mut line);
    let agent = server.agent;
    server.write(move |write| {
        let lines = [(Level::Info, "quiet".to_owned())];
        moorline::store::logs::insert(write, agent, LogSourceId::random(), Timestamp::now(), &lines, 5)
    });
    line.pass(Duration::from_secs(60));
    assert_eq!(outputs(&messages(&mut line)), ["quiet"]);
}

#[test]
fn a_removed_agent_ends_the_stream_after_what_is_left() {
    let server = Server::start();
    let mut line = open(&server, 0);
    messages(&mut line);
    let agent = server.agent;
    append(&server, &["last"]);
    server
        .app
        .store
        .write(move |write| {
            agents::remove(write, agent, Timestamp::now())?;
            write.publish(Topic::AgentRevoked(agent));
            Ok::<(), moorline::store::Error>(())
        })
        .unwrap();
    assert_eq!(closed(&mut line), (1000, String::new()));
}

#[test]
fn a_rotated_token_of_the_agent_does_not_end_its_followers() {
    let server = Server::start();
    let mut line = open(&server, 0);
    messages(&mut line);
    server.app.hub.publish(Topic::AgentRevoked(server.agent));
    append(&server, &["on it goes"]);
    assert_eq!(outputs(&messages(&mut line)), ["on it goes"]);
}

#[test]
fn a_user_who_may_not_sign_in_is_cut_off() {
    let server = Server::start();
    let mut line = open(&server, 0);
    messages(&mut line);
    // Another of their tokens was revoked: that is looked at, and on it goes.
    server.app.hub.publish(Topic::UserRevoked(server.user));
    assert!(line.letter() && line.letter());
    append(&server, &["still here"]);
    assert_eq!(outputs(&messages(&mut line)), ["still here"]);
    server.revoke();
    assert_eq!(closed(&mut line), (1008, "the session has ended".into()));
    // Also when it happened before the stream could hear of it.
    assert_eq!(closed(&mut open(&server, 0)).0, 1008);
}

#[test]
fn a_suspended_user_and_an_expired_token_are_cut_off() {
    let server = Server::start();
    let user = server.user;
    let mut line = open(&server, 0);
    let suspend = |status| {
        move |write: &moorline::store::Write<'_>| {
            let mut row = users::by_id(write, user)?.unwrap();
            row.status = status;
            write.publish(Topic::UserRevoked(user));
            users::update(write, &row)
        }
    };
    messages(&mut line);
    server.write(suspend(Status::Suspended));
    assert_eq!(closed(&mut line).0, 1008);
    server.write(suspend(Status::Active));
    let key = server.credential().key;
    let soon = Timestamp::now().plus(Duration::from_millis(300));
    server.write(move |write| keys::touch(write, &key, "", Timestamp::now(), soon));
    let mut line = open(&server, 0);
    messages(&mut line);
    std::thread::sleep(Duration::from_millis(300));
    line.pass(Duration::from_millis(400));
    assert_eq!(closed(&mut line).0, 1008);
}

#[test]
fn a_workspace_that_went_to_somebody_else_is_not_followed_any_more() {
    let server = Server::start();
    let mut line = open(&server, 0);
    messages(&mut line);
    let (user, workspace) = (server.user, server.workspace);
    server.write(move |write| {
        let other = users::User { id: moorline::model::UserId::random(), ..users::by_id(write, user)?.unwrap() };
        let other = users::User { username: "bob".into(), email: "bob@example.com".into(), ..other };
        users::insert(write, &other)?;
        write.execute("UPDATE workspaces SET owner_id = ? WHERE id = ?", (other.id, workspace))?;
        write.publish(Topic::UserRevoked(user));
        Ok(())
    });
    assert_eq!(closed(&mut line).0, 1008);
}

#[test]
fn pings_count_up_and_missing_pongs_do_not_matter() {
    let server = Server::start();
    let mut line = open(&server, 0);
    messages(&mut line);
    line.pass(Duration::from_secs(46));
    let pings: Vec<_> = frames(&line.take()).into_iter().filter(|frame| matches!(frame, Frame::Ping(_))).collect();
    assert_eq!(pings, ["1", "2", "3"].map(|n| Frame::Ping(n.into())));
    line.feed(&masked(PONG, b"1"));
    assert!(!line.out.finish);
}

#[test]
fn data_from_the_client_is_refused() {
    let server = Server::start();
    for opcode in [TEXT, BINARY] {
        let mut line = open(&server, 0);
        messages(&mut line);
        line.feed(&masked(opcode, b"hello"));
        assert_eq!(closed(&mut line).0, 1008);
    }
}

#[test]
fn a_stopping_server_does_not_look_like_the_end_of_the_log() {
    let server = Server::start();
    let mut line = open(&server, 0);
    messages(&mut line);
    line.shutdown();
    assert_eq!(closed(&mut line).0, 1012);
    assert_eq!(server.app.metrics.watchers.get(), 1);
    line.close();
    assert_eq!(server.app.metrics.watchers.get(), 0);
}
