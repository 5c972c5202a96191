//! Watching a workspace, by server-sent events and over a WebSocket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use moorline::config::limits::{WATCHERS_OF_ONE, WATCHERS_PER_USER};
use moorline::domain::Fault;
use moorline::model::Timestamp;
use moorline::ops::hub::Topic;
use moorline::store::{agents, users, workspaces};
use moorline::streams::{Form, Visitor, workspace};
use serde_json::Value;

use super::driver::{Frame, Line, SOON, Server, TEXT, frames, masked};
use super::watch::chunks;

fn open(server: &Server, form: Form) -> Line {
    let visitor = Visitor::admit(&server.app, server.credential(), server.workspace.0).unwrap();
    Line::open_settled(workspace::watch(server.app.clone(), server.workspace, visitor, form))
}

/// The chunks that have come, and the workspaces among them.
fn events(line: &mut Line) -> (Vec<String>, Vec<Value>) {
    let chunks = chunks(&line.take());
    let data = |chunk: &String| {
        let json = chunk.strip_prefix("event: data\ndata: ")?.strip_suffix("\n\n").unwrap();
        assert!(!json.contains('\n'));
        Some(serde_json::from_str(json).unwrap())
    };
    let shown = chunks.iter().filter_map(data).collect();
    (chunks, shown)
}

/// The one workspace that comes after a change.
fn next(line: &mut Line) -> Value {
    let until = std::time::Instant::now() + SOON;
    loop {
        line.letters();
        let (_, mut shown) = events(line);
        if let Some(one) = shown.pop() {
            assert!(shown.is_empty(), "changes are folded");
            return one;
        }
        assert!(std::time::Instant::now() < until, "nothing came");
        std::thread::yield_now();
    }
}

fn agent_status(workspace: &Value) -> &str {
    workspace["latest_build"]["resources"][0]["agents"][0]["status"].as_str().unwrap()
}

/// What an agent's lifecycle report does.
fn set_lifecycle(server: &Server, state: agents::Lifecycle) {
    let (agent, workspace) = (server.agent, server.workspace);
    server.write(move |write| {
        agents::set_lifecycle(write, agent, state, Some(Timestamp(1)), None, Timestamp::now())?;
        write.publish(Topic::Agent(agent));
        write.publish(Topic::Workspace(workspace));
        Ok(())
    });
}

fn lifecycle(workspace: &Value) -> &str {
    workspace["latest_build"]["resources"][0]["agents"][0]["lifecycle_state"].as_str().unwrap()
}

#[test]
fn events_begin_with_a_ping_and_the_workspace() {
    let server = Server::start();
    let mut line = open(&server, Form::Events);
    let (chunks, shown) = events(&mut line);
    assert_eq!((chunks.len(), chunks[0].as_str(), shown.len()), (2, "event: ping\n\n", 1));
    assert_eq!((&shown[0]["name"], &shown[0]["owner_name"]), (&Value::from("dev"), &Value::from("alice")));
    assert_eq!(shown[0]["latest_build"]["status"], "running");
    assert_eq!(shown[0]["id"], server.workspace.to_string());
}

#[test]
fn the_websocket_begins_with_the_workspace() {
    let server = Server::start();
    let mut line = open(&server, Form::WebSocket);
    let found = frames(&line.take());
    let [Frame::Text(text)] = &found[..] else { panic!("{found:?}") };
    let message: Value = serde_json::from_str(text).unwrap();
    assert_eq!((&message["type"], &message["data"]["name"]), (&Value::from("data"), &Value::from("dev")));
    line.feed(&masked(TEXT, b"x"));
    assert!(matches!(frames(&line.take())[..], [Frame::Close(1002, _)]));
}

#[test]
fn a_change_comes_at_once_and_several_come_together() {
    let server = Server::start();
    let mut line = open(&server, Form::Events);
    line.take();
    line.pass(Duration::from_secs(1));
    set_lifecycle(&server, agents::Lifecycle::Starting);
    assert_eq!(lifecycle(&next(&mut line)), "starting");
    for state in [agents::Lifecycle::StartError, agents::Lifecycle::Ready, agents::Lifecycle::Off] {
        set_lifecycle(&server, state);
    }
    line.letters();
    assert_eq!(events(&mut line).1.len(), 0, "the last event is not a quarter of a second old");
    line.pass(Duration::from_millis(250));
    assert_eq!(lifecycle(&next(&mut line)), "off");
}

#[test]
fn an_idle_watcher_reads_nothing_writes_nothing_and_pings() {
    let server = Server::start();
    // The agent never came and is long late: nothing changes by the clock any more.
    let mut line = open(&server, Form::Events);
    let (_, shown) = events(&mut line);
    assert_eq!(agent_status(&shown[0]), "timeout");
    let size = server.written();
    line.pass(Duration::from_secs(15 * 60));
    assert_eq!(line.letters(), 0);
    assert_eq!(server.written(), size);
    let (chunks, shown) = events(&mut line);
    assert_eq!((chunks.len(), shown.len()), (60, 0));
}

#[test]
fn an_announcement_without_a_change_says_nothing() {
    let server = Server::start();
    let mut line = open(&server, Form::Events);
    line.take();
    line.pass(Duration::from_secs(1));
    server.app.hub.publish(Topic::Workspace(server.workspace));
    assert!(line.letter() && line.letter(), "it is told, and looks");
    assert_eq!(events(&mut line).0, Vec::<String>::new());
}

#[test]
fn an_agent_that_stays_away_is_late_when_its_time_is_over() {
    let server = Server::start();
    let agent = server.agent;
    let soon = Timestamp::now().minus(Duration::from_secs(120)).plus(Duration::from_millis(300));
    server.write(move |write| {
        write.execute("UPDATE agents SET created_at = ? WHERE id = ?", (soon, agent))?;
        Ok(())
    });
    let mut line = open(&server, Form::Events);
    assert_eq!(agent_status(&events(&mut line).1[0]), "connecting");
    let due = line.stream.deadline().unwrap().saturating_duration_since(line.now);
    assert!(due <= Duration::from_millis(301), "{due:?}");
    // The status follows the real clock, which the driver cannot move.
    server.until("the time to be over", |_| (Timestamp::now().since(soon) > Duration::from_secs(120)).then_some(()));
    line.pass(due);
    assert_eq!(agent_status(&next(&mut line)), "timeout");
}

#[test]
fn ends_with_the_session_and_with_the_workspace() {
    let server = Server::start();
    let (mut one, mut two) = (open(&server, Form::Events), open(&server, Form::WebSocket));
    one.take();
    two.take();
    one.pass(Duration::from_secs(1));
    two.pass(Duration::from_secs(1));
    let workspace = server.workspace;
    server.write(move |write| {
        workspaces::remove(write, workspace, Timestamp::now())?;
        write.publish(Topic::Workspace(workspace));
        Ok(())
    });
    assert!(one.letter() && one.letter() && two.letter() && two.letter());
    assert_eq!(one.take(), b"0\r\n\r\n");
    assert_eq!(frames(&two.take()), [Frame::Close(1000, "Connection closed".into())]);

    let server = Server::start();
    let mut line = open(&server, Form::WebSocket);
    line.take();
    server.revoke();
    assert!(line.letter() && line.letter());
    assert_eq!(frames(&line.take()), [Frame::Close(1008, "the session has ended".into())]);
    assert!(line.out.finish);
}

#[test]
fn an_administrator_who_is_none_any_more_sees_no_more() {
    let server = Server::start();
    let other = moorline::model::UserId::random();
    let workspace = server.workspace;
    server.write(move |write| {
        let owner = users::list(write)?.remove(0);
        let other =
            users::User { id: other, username: "bob".into(), email: "b@example.com".into(), is_admin: true, ..owner };
        users::insert(write, &other)?;
        write.execute("UPDATE workspaces SET owner_id = ?1 WHERE id = ?2", (other.id, workspace))?;
        write.execute("UPDATE users SET is_admin = 1 WHERE username = 'alice'", [])?;
        Ok(())
    });
    let mut line = open(&server, Form::Events);
    assert_eq!(events(&mut line).1.len(), 1);
    line.pass(Duration::from_secs(1));
    server.write(move |write| {
        write.execute("UPDATE users SET is_admin = 0 WHERE username = 'alice'", [])?;
        write.publish(Topic::Workspace(workspace));
        Ok(())
    });
    assert!(line.letter() && line.letter());
    assert_eq!(line.take(), b"0\r\n\r\n");
}

#[test]
fn a_client_that_reads_nothing_gets_the_newest_once_it_reads() {
    let server = Server::start();
    let mut line = open(&server, Form::Events);
    line.take();
    line.pass(Duration::from_secs(1));
    line.stalled = true;
    line.out.backlog = 1 << 20;
    set_lifecycle(&server, agents::Lifecycle::Starting);
    assert!(line.letter());
    line.pass(Duration::from_secs(5));
    assert_eq!(line.letters(), 0, "nothing is read for it");
    set_lifecycle(&server, agents::Lifecycle::Ready);
    line.letters();
    line.unstall();
    line.pass(Duration::from_secs(1));
    assert_eq!(lifecycle(&next(&mut line)), "ready");
}

#[test]
fn streams_of_one_person_and_about_one_thing_are_bounded() {
    let server = Server::start();
    let admit = |about| Visitor::admit(&server.app, server.credential(), about);
    let mut kept: Vec<Visitor> = (0..WATCHERS_OF_ONE).map(|_| admit(server.workspace.0).unwrap()).collect();
    let refused = admit(server.workspace.0).err().unwrap();
    assert_eq!(refused.fault, Fault::TooMany);
    let rest = WATCHERS_PER_USER - WATCHERS_OF_ONE;
    kept.extend((0..rest).map(|_| admit(uuid::Uuid::new_v4()).unwrap()));
    assert_eq!(admit(uuid::Uuid::new_v4()).err().unwrap().fault, Fault::TooMany);
    let line = workspace::watch(server.app.clone(), server.workspace, kept.remove(0), Form::Events);
    let mut line = Line::open(line);
    line.close();
    drop(line);
    admit(server.workspace.0).unwrap();
}

#[test]
fn a_stopping_server_ends_it_so_that_the_client_returns() {
    let server = Server::start();
    let (mut one, mut two) = (open(&server, Form::Events), open(&server, Form::WebSocket));
    one.take();
    two.take();
    one.shutdown();
    two.shutdown();
    assert_eq!(one.take(), b"0\r\n\r\n");
    assert!(matches!(frames(&two.take())[..], [Frame::Close(1012, _)]));
}
