//! Shutting down.

use std::time::{Duration, Instant};

use super::rig::{Plan, Rig, eventually};

#[test]
fn idle_connections_end_at_once_and_requests_are_answered() {
    let mut rig = Rig::start(Plan { admin: true, ..Plan::default() });
    let (mut idle, mut fresh, mut busy, mut half) = (rig.client(), rig.client(), rig.client(), rig.client());
    idle.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(idle.answer().status, 200);
    busy.send("GET /gate HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("a worker has it", || rig.desk.at_gate() == 1);
    half.send("POST /half HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na");
    eventually("all are in", || rig.counters().open == 4);
    let edge = rig.edge.take().unwrap();
    let stopping = std::thread::spawn(move || edge.shutdown(Duration::from_secs(15)));
    idle.expect_end();
    fresh.expect_end();
    assert!(std::net::TcpStream::connect(rig.address).is_err() || !stopping.is_finished());
    half.send("b");
    let answer = half.answer();
    assert_eq!((answer.body.as_str(), answer.header("Connection")), ("POST /half ab", Some("close")));
    rig.desk.open_gate();
    let answer = busy.answer();
    assert_eq!((answer.body.as_str(), answer.header("Connection")), ("through", Some("close")));
    busy.expect_end();
    half.expect_end();
    drop((busy, half));
    stopping.join().unwrap();
    assert!(std::net::TcpStream::connect(rig.address).is_err(), "the listener is closed");
}

#[test]
fn what_does_not_end_within_the_grace_is_dropped() {
    let mut rig = Rig::plain();
    let mut busy = rig.client();
    busy.send("GET /gate HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("a worker has it", || rig.desk.at_gate() == 1);
    let started = Instant::now();
    rig.edge.take().unwrap().shutdown(Duration::from_millis(200));
    assert!(started.elapsed() >= Duration::from_millis(190) && started.elapsed() < Duration::from_secs(5));
    busy.expect_end();
}

#[test]
fn an_edge_that_is_dropped_stops() {
    let mut rig = Rig::plain();
    let mut client = rig.client();
    client.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    drop(rig.edge.take());
    client.expect_end();
}
