//! The life of an agent's connection: presence, several at once, loss, revocation, overload, the end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use moorline::model::Timestamp;
use moorline::ops::hub::Topic;
use moorline::store::agents::{self, Lifecycle};
use moorline::streams::rpc;
use moorline::wire::drpc::Packet;
use moorline::wire::proto::agent::*;
use moorline::wire::proto::google;
use moorline::wire::proto::methods;
use prost::Message;

use super::agent::{Agent, Reply};
use super::driver::{BINARY, CLOSE, Frame, Line, SOON, Server, TEXT, frames, masked};

fn connected(server: &Server) {
    server.until("connected", |server| server.row().last_connected_at);
}

fn ready() -> Vec<u8> {
    let changed_at = Some(google::Timestamp { seconds: 5, nanos: 0 });
    UpdateLifecycleRequest { lifecycle: Some(moorline::wire::proto::agent::Lifecycle { state: 5, changed_at }) }
        .encode_to_vec()
}

#[test]
fn a_connection_is_written_when_it_begins_and_ends_and_not_between() {
    let server = Server::start();
    let mut agent = server.connect();
    connected(&server);
    let row = server.row();
    assert_eq!(row.first_connected_at, row.last_connected_at);
    let size = server.written();
    agent.pass(Duration::from_secs(3_600));
    assert_eq!(agent.closed, None, "pings are answered, so it lives");
    assert_eq!(server.written(), size, "a heartbeat is not a write");
    assert_eq!(server.app.presence.of(server.agent).unwrap().connections, 1);
    agent.line.close();
    let ended = server.until("disconnected", |server| server.row().disconnected_at);
    assert!(server.row().last_connected_at.unwrap() <= ended);
    assert_eq!(server.app.presence.count(), 0);
    let actions: Vec<_> = server.audit().into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, ["agent.connect", "agent.disconnect"]);
    // And again: the end is cleared, the first connection stays.
    let first = server.row().first_connected_at;
    let _again = server.connect();
    server.until("back", |server| server.row().disconnected_at.is_none().then_some(()));
    assert_eq!(server.row().first_connected_at, first);
}

#[test]
fn an_agent_that_a_stopping_server_cuts_off_is_not_written_down_as_gone() {
    let server = Server::start();
    let mut agent = server.connect();
    connected(&server);
    server.app.presence.stop();
    agent.line.close();
    server.until("two rows", |server| (server.audit().len() == 2).then_some(()));
    assert_eq!(server.row().disconnected_at, None);
    assert!(server.row().last_connected_at.unwrap() >= server.row().first_connected_at.unwrap());
}

#[test]
fn two_connections_of_one_token_coexist() {
    let server = Server::start();
    let (mut one, mut two) = (server.connect(), server.connect());
    connected(&server);
    one.call::<UpdateStatsResponse>(methods::UPDATE_STATS, &UpdateStatsRequest::default());
    two.call::<UpdateStatsResponse>(methods::UPDATE_STATS, &UpdateStatsRequest::default());
    one.line.close();
    server.until("three rows", |server| (server.audit().len() == 3).then_some(()));
    assert_eq!(server.row().disconnected_at, None, "the other one lives");
    assert_eq!(server.app.presence.of(server.agent).unwrap().connections, 1);
    two.line.close();
    server.until("disconnected", |server| server.row().disconnected_at);
}

#[test]
fn a_log_shippers_connection_does_not_count() {
    let server = Server::start();
    let mut shipper = server.connect_as(false);
    shipper.call::<UpdateStatsResponse>(methods::UPDATE_STATS, &UpdateStatsRequest::default());
    let reply = shipper.call_raw(methods::UPDATE_LIFECYCLE, &ready());
    assert!(matches!(reply, Reply::Message(_)), "its calls are served");
    shipper.line.close();
    server.write(|_| Ok(()));
    assert_eq!((server.row().first_connected_at, server.row().disconnected_at), (None, None));
    assert_eq!((server.app.presence.count(), server.audit()), (0, Vec::new()));
    assert_eq!(server.app.metrics.agent_connections.get(), 0);
}

#[test]
fn silence_ends_the_connection_after_thirty_seconds() {
    let server = Server::start();
    let mut agent = server.connect();
    agent.pass(Duration::from_secs(20));
    agent.alive = false;
    agent.pass(Duration::from_secs(24));
    assert_eq!(agent.closed, None, "the last answer is not 30 s old");
    agent.pass(Duration::from_secs(2));
    assert_eq!(agent.closed, Some((1011, "ping timeout".into())));
    agent.line.close();
    server.until("the reason", |server| server.audit().into_iter().find(|(_, detail)| detail == "ping timeout"));
}

#[test]
fn a_withdrawn_token_ends_all_connections() {
    let server = Server::start();
    let (mut one, mut two) = (server.connect(), server.connect_as(false));
    let agent = server.agent;
    server
        .app
        .store
        .write(move |write| {
            agents::set_token(write, agent, &[9; 32], &[1], Timestamp::now())?;
            write.publish(Topic::AgentRevoked(agent));
            Ok::<(), moorline::store::Error>(())
        })
        .unwrap();
    for line in [&mut one, &mut two] {
        assert_eq!(line.until_closed(), (1008, "the agent's token was withdrawn".into()));
    }
}

#[test]
fn a_token_withdrawn_before_the_stream_could_hear_of_it_is_noticed() {
    let server = Server::start();
    let admitted = server.row();
    let agent = server.agent;
    server.write(move |write| agents::set_token(write, agent, &[9; 32], &[1], Timestamp::now()));
    for monitored in [true, false] {
        let stream = rpc::agent(server.app.clone(), admitted.clone(), "2.6".into(), monitored, "192.0.2.7".into());
        let mut late = Agent::on(Line::open(stream));
        assert_eq!(late.until_closed().0, 1008);
    }
    assert_eq!(server.row().first_connected_at, None);
}

#[test]
fn text_is_refused_and_broken_frames_end_the_session() {
    let server = Server::start();
    for (frame, code) in [
        (masked(TEXT, b"hello"), 1003),
        (masked(BINARY, &[1; 12]), 1011),
        (vec![0x82, 0x01, 0x00], 1002),
        (masked(BINARY, &[]).into_iter().chain(masked(3, b"")).collect(), 1002),
    ] {
        let stream = rpc::agent(server.app.clone(), server.row(), "2.6".into(), true, String::new());
        let mut line = Line::open(stream);
        line.feed(&frame);
        let frames = frames(&line.take());
        assert!(matches!(frames.last(), Some(Frame::Close(found, _)) if *found == code), "{frames:?}");
        assert!(line.out.finish);
        assert_eq!(line.stream.deadline(), None);
    }
}

#[test]
fn a_clients_close_is_answered_in_kind() {
    let server = Server::start();
    let mut agent = server.connect();
    let mut payload = 1000_u16.to_be_bytes().to_vec();
    payload.extend(b"bye");
    agent.line.feed(&masked(CLOSE, &payload));
    agent.exchange();
    assert_eq!(agent.closed.as_ref().unwrap().0, 1000);
    assert!(agent.line.out.finish);
}

#[test]
fn calls_run_at_once_and_each_gets_its_own_answer() {
    let server = Server::start();
    let mut agent = server.connect();
    let ids: Vec<u32> = (0..100)
        .map(|n| {
            let log = Log { created_at: None, output: format!("line {n}"), level: 3 };
            let request = BatchCreateLogsRequest { log_source_id: vec![7; 16], logs: vec![log] };
            agent.begin(methods::BATCH_CREATE_LOGS, &request.encode_to_vec())
        })
        .collect();
    for id in ids {
        assert!(matches!(agent.reply(id), Reply::Message(_)));
    }
    assert_eq!(server.count("SELECT count(*) FROM agent_logs"), 100);
    assert_eq!(agent.mux.streams(), 0, "nothing is left behind");
}

#[test]
fn a_full_queue_delays_calls_and_fails_none() {
    let server = Server::with_pool(1, 1);
    // The only thread is busy until the test says so.
    let (release, busy) = std::sync::mpsc::channel::<()>();
    server.app.jobs.try_submit(move || busy.recv().unwrap_or(())).unwrap();
    let mut agent = server.connect();
    let ids: Vec<u32> = (0..50).map(|_| agent.begin(methods::GET_MANIFEST, &[])).collect();
    agent.pass(Duration::from_secs(10));
    assert!(server.app.metrics.agent_calls_delayed.get() > 0);
    assert_eq!(agent.closed, None);
    drop(release);
    for id in ids {
        assert!(matches!(agent.reply(id), Reply::Message(_)));
    }
}

#[test]
fn a_call_given_up_gets_no_answer_and_its_stream_is_finished() {
    let server = Server::with_pool(1, 10);
    let (release, busy) = std::sync::mpsc::channel::<()>();
    server.app.jobs.try_submit(move || busy.recv().unwrap_or(())).unwrap();
    let mut agent = server.connect();
    let id = agent.begin(methods::GET_MANIFEST, &[]);
    agent.mux.finish(id);
    agent.exchange();
    assert!(agent.finished.contains(&id));
    drop(release);
    assert!(agent.line.letter(), "the job ends all the same");
    agent.exchange();
    assert_eq!(agent.packets.get(&id), None);
    assert_eq!(agent.mux.streams(), 0);
}

#[test]
fn packets_out_of_place_reset_only_their_stream() {
    let server = Server::start();
    let mut agent = server.connect();
    // A second call on one stream.
    let id = agent.begin(methods::STREAM_DERP_MAPS, &[]);
    assert!(matches!(agent.next(id), Packet::Message(_)));
    let mut bytes = Vec::new();
    moorline::wire::drpc::Encoder::new().invoke(methods::GET_MANIFEST, &mut bytes);
    bytes[2] = 9; // a later message id
    agent.mux.send(id, &bytes);
    agent.exchange();
    assert!(agent.resets.contains(&id));
    agent.call::<UpdateStatsResponse>(methods::UPDATE_STATS, &UpdateStatsRequest::default());
}

#[test]
fn more_than_the_limit_of_held_bytes_resets_the_stream_that_goes_beyond() {
    let server = Server::start();
    let mut agent = server.connect();
    // Three packets of 3 MiB that are never completed: 8 MiB are held at most.
    let ids: Vec<u32> = (0..3)
        .map(|_| {
            let id = agent.invoke(methods::BATCH_CREATE_LOGS);
            agent.begin_message(id, &vec![0; 3 * 1024 * 1024]);
            id
        })
        .collect();
    assert_eq!(agent.resets.iter().copied().collect::<Vec<_>>(), ids[2..]);
    assert_eq!(agent.closed, None);
    agent.call::<UpdateStatsResponse>(methods::UPDATE_STATS, &UpdateStatsRequest::default());
    // Their room is free again once they are given up.
    for id in &ids[..2] {
        agent.mux.reset(*id);
    }
    let id = agent.invoke(methods::BATCH_CREATE_LOGS);
    agent.begin_message(id, &vec![0; 3 * 1024 * 1024]);
    assert!(!agent.resets.contains(&id));
}

/// Lets the file grow to its present size only, or without limit.
fn limit_pages(server: &Server, full: bool) {
    server.write(move |write| {
        let pages: i64 = match full {
            true => write.query_row("PRAGMA page_count", [], |row| row.get(0))?,
            false => 1 << 30,
        };
        write.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    });
}

#[test]
fn a_full_disk_fails_no_call() {
    let server = Server::start();
    let mut agent = server.connect();
    server.until("connected", |server| server.row().last_connected_at);
    limit_pages(&server, true);
    // What repeats itself is acknowledged and dropped: an error would end the session again and again.
    let volume = |n| push_resources_monitoring_usage_request::datapoint::VolumeUsage {
        volume: format!("{n}{}", "/".repeat(5_000)),
        ..Default::default()
    };
    let point = push_resources_monitoring_usage_request::Datapoint {
        collected_at: None,
        memory: None,
        volumes: (0..60).map(volume).collect(),
    };
    let usage = PushResourcesMonitoringUsageRequest { datapoints: vec![point] };
    agent.call::<PushResourcesMonitoringUsageResponse>(methods::PUSH_RESOURCES_MONITORING_USAGE, &usage);
    assert_eq!(server.app.metrics.agent_reports_dropped.get(), 1);
    assert_eq!(server.count("SELECT count(*) FROM agent_resources"), 0);
    // What is sent once waits until there is room.
    let log = |n| Log { created_at: None, output: format!("{n}{}", "x".repeat(1_000)), level: 3 };
    let request = BatchCreateLogsRequest { log_source_id: vec![7; 16], logs: (0..300).map(log).collect() };
    let id = agent.begin(methods::BATCH_CREATE_LOGS, &request.encode_to_vec());
    let delayed = server.app.metrics.agent_calls_delayed.get();
    for times in 1..4 {
        server.until("put back", |_| {
            agent.line.letters();
            agent.pass(Duration::from_secs(1));
            (server.app.metrics.agent_calls_delayed.get() >= delayed + times).then_some(())
        });
    }
    assert_eq!(agent.packets.get(&id), None, "not answered");
    assert_eq!(agent.closed, None, "but alive");
    let _: Manifest = agent.call(methods::GET_MANIFEST, &GetManifestRequest {});
    limit_pages(&server, false);
    assert!(matches!(agent.reply(id), Reply::Message(_)));
    assert_eq!(server.count("SELECT count(*) FROM agent_logs"), 300);
}

#[test]
fn a_peer_that_does_not_read_is_not_read_from() {
    let server = Server::start();
    let mut agent = server.connect();
    assert!(agent.line.stream.wants_input());
    agent.line.stalled = true;
    agent.line.out.backlog = 10 * 1024 * 1024;
    agent.line.pass(Duration::from_secs(16));
    assert!(!agent.line.stream.wants_input());
    agent.line.unstall();
    assert!(agent.line.stream.wants_input());
}

#[test]
fn messages_stay_small_enough_for_old_readers() {
    let server = Server::start();
    let agent_id = server.agent;
    let script = moorline::store::scripts::Script { script: "#".repeat(200_000), ..server.declare_script() };
    server.write(move |write| moorline::store::scripts::replace(write, agent_id, &[script]));
    let mut agent = server.connect();
    let manifest: Manifest = agent.call(methods::GET_MANIFEST, &GetManifestRequest {});
    assert_eq!(manifest.scripts[0].script.len(), 200_000);
    assert!(agent.messages.iter().all(|size| *size <= 32 * 1024), "{:?}", agent.messages);
}

#[test]
fn a_stopping_server_answers_what_it_stored_and_says_that_it_comes_back() {
    let server = Server::with_pool(1, 10);
    let (release, busy) = std::sync::mpsc::channel::<()>();
    server.app.jobs.try_submit(move || busy.recv().unwrap_or(())).unwrap();
    let mut agent = server.connect();
    let id = agent.begin(methods::UPDATE_LIFECYCLE, &ready());
    agent.line.shutdown();
    agent.exchange();
    assert_eq!(agent.closed, None, "a call is under way");
    drop(release);
    while !agent.packets.contains_key(&id) {
        assert!(agent.line.letter());
        agent.exchange();
    }
    assert!(matches!(agent.packets[&id][0], Packet::Message(_)));
    // The agent that has its answer but not yet done with the call would repeat it.
    agent.pass(Duration::from_millis(500));
    assert_eq!(agent.closed, None);
    agent.mux.finish(id);
    agent.exchange();
    assert_eq!(agent.closed, Some((1012, "the server is restarting".into())));
    assert_eq!(server.row().lifecycle_state, Lifecycle::Ready);
}

#[test]
fn a_stopping_server_does_not_wait_for_ever() {
    let server = Server::with_pool(1, 10);
    let (release, busy) = std::sync::mpsc::channel::<()>();
    server.app.jobs.try_submit(move || busy.recv().unwrap_or(())).unwrap();
    let (mut idle, mut caller) = (server.connect(), server.connect());
    idle.line.shutdown();
    idle.exchange();
    assert_eq!(idle.closed.as_ref().map(|closed| closed.0), Some(1012), "nothing to wait for");
    let mut keeper = server.connect();
    let kept = keeper.begin(methods::UPDATE_STATS, &UpdateStatsRequest::default().encode_to_vec());
    assert!(keeper.packets.contains_key(&kept));
    keeper.line.shutdown();
    keeper.exchange();
    assert_eq!(keeper.closed, None, "it has not let go of an answered call");
    keeper.pass(Duration::from_secs(3));
    assert_eq!(keeper.closed.as_ref().map(|closed| closed.0), Some(1012));
    caller.begin(methods::GET_MANIFEST, &[]);
    caller.line.shutdown();
    caller.pass(Duration::from_secs(3));
    assert_eq!(caller.closed.as_ref().map(|closed| closed.0), Some(1012));
    drop(release);
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash() {
    let server = Server::start();
    let mut agent = server.connect();
    agent.call_raw(methods::UPDATE_LIFECYCLE, &ready());
    let log = Log { created_at: None, output: "kept".into(), level: 3 };
    let request = BatchCreateLogsRequest { log_source_id: vec![7; 16], logs: vec![log] };
    agent.call::<BatchCreateLogsResponse>(methods::BATCH_CREATE_LOGS, &request);
    drop(agent);
    let server = server.reopened();
    assert_eq!(server.row().lifecycle_state, Lifecycle::Ready);
    assert_eq!(server.count("SELECT count(*) FROM agent_logs WHERE output = 'kept'"), 1);
}

#[test]
fn a_stream_that_never_opened_may_be_dropped() {
    let server = Server::start();
    let mut stream = rpc::agent(server.app.clone(), server.row(), "2.6".into(), true, String::new());
    stream.closed();
    assert_eq!(server.app.metrics.agent_connections.get(), 0);
    assert_eq!(server.app.presence.count(), 0);
    let _ = SOON;
}
