//! What happens between the edge and its workers: deaths, queues, clients that leave.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use moorline::edge::{self, Limits, Reason};
use moorline::streams::Arrivals;

use super::rig::{Client, Plan, Rig, eventually};

const GET: &str = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";

fn assert_died(answer: &super::rig::Answer) {
    assert_eq!(answer.status, 500, "{answer:?}");
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert!(body["message"].is_string() && answer.header("X-Coder-Build-Version").is_some());
}

#[test]
fn a_worker_that_dies_costs_one_answer_and_nothing_else() {
    let rig = Rig::plain();
    let mut client = rig.client();
    for target in ["/die", "/panic", "/die"] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n{GET}"));
        assert_died(&client.answer());
        assert_eq!(client.answer().body, "GET /next");
    }
    assert_eq!(rig.counters().refused(Reason::Worker), 3);
}

/// A peer behind the edge that answers trials and then does as told with each request.
fn behind(
    act: impl Fn(usize, &mut std::os::unix::net::UnixStream) + Send + Sync + 'static,
) -> (edge::Edge, std::net::SocketAddr, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (act, count) = (Arc::new(act), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let (act, count) = (Arc::clone(&act), Arc::clone(&count));
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                loop {
                    match socket.read(&mut buffer) {
                        Ok(0) | Err(_) => return,
                        Ok(got) if String::from_utf8_lossy(&buffer[..got]).contains("X-Moorline-Trial") => {
                            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                        }
                        Ok(_) => {
                            let index = count.fetch_add(1, Ordering::SeqCst);
                            act(index, &mut socket);
                            if index % 2 == 0 {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let edge = edge::start(edge::Config {
        listeners: vec![listener],
        admin: None,
        tls: None,
        upstream: path,
        secret: "s".into(),
        trusted_proxies: Vec::new(),
        loops: 1,
        upstream_connections: 1,
        arrivals: Arrivals::default(),
        version_header: "v".into(),
        limits: Limits::default(),
    });
    (edge.unwrap(), address, folder)
}

#[test]
fn every_way_to_answer_badly_is_a_500_and_the_next_request_is_fine() {
    let bad: &[&[u8]] = &[
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"SSH-2.0-nonsense\r\n\r\n",
    ];
    let bad: Vec<Vec<u8>> = bad.iter().map(|bytes| bytes.to_vec()).collect();
    let rounds = bad.len();
    let (_edge, address, _folder) = behind(move |index, socket| {
        let answer =
            if index % 2 == 0 { &bad[index / 2][..] } else { b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" };
        let _ = socket.write_all(answer);
    });
    let mut client = Client::new(std::net::TcpStream::connect(address).unwrap());
    for _ in 0..rounds {
        client.send(GET);
        assert_died(&client.answer());
        client.send(GET);
        assert_eq!(client.answer().body, "ok");
    }
}

#[test]
fn a_full_queue_is_a_503_and_what_waits_is_answered() {
    let limits = Limits { waiting_requests: 2, ..Limits::default() };
    let rig = Rig::start(Plan { limits, workers: 1, connections: 1, loops: 1, ..Plan::default() });
    let mut first = rig.client();
    first.send("GET /gate HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("a worker has the first request", || rig.desk.at_gate() == 1);
    let mut waiting = [rig.client(), rig.client()];
    for client in &mut waiting {
        client.send(GET);
    }
    eventually("two requests wait", || rig.counters().requests == 3);
    let mut refused = rig.client();
    refused.send(GET);
    let answer = refused.answer();
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")));
    assert!(answer.body.starts_with("{\"message\":"));
    rig.desk.open_gate();
    assert_eq!(first.answer().body, "through");
    for client in &mut waiting {
        assert_eq!(client.answer().body, "GET /next");
    }
    // The refused client may try again on the same connection.
    refused.send(GET);
    assert_eq!(refused.answer().status, 200);
}

#[test]
fn a_client_that_leaves_takes_its_waiting_request_along() {
    let rig = Rig::start(Plan { workers: 1, connections: 1, loops: 1, ..Plan::default() });
    let mut first = rig.client();
    first.send("GET /gate HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("a worker has the first request", || rig.desk.at_gate() == 1);
    let mut second = rig.client();
    // The unread answer makes the kernel reset the connection when it is closed.
    second.send(format!("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n{}", GET.replace("next", "left")));
    eventually("the second request waits", || rig.counters().requests == 2);
    drop(second);
    eventually("the second client is gone", || rig.counters().open == 1);
    drop(first);
    rig.desk.open_gate();
    let mut third = rig.client();
    third.send(GET);
    assert_eq!(third.answer().body, "GET /next");
    assert!(rig.desk.seen().iter().all(|seen| seen.line != "GET /left"), "{:?}", rig.desk.seen());
}

#[test]
fn the_answer_of_a_client_that_left_goes_nowhere_and_its_connection_is_used_again() {
    let rig = Rig::start(Plan { workers: 1, connections: 1, loops: 1, ..Plan::default() });
    let mut first = rig.client();
    first.send("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\nGET /gate HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("a worker has the first request", || rig.desk.at_gate() == 1);
    drop(first);
    eventually("the first client is gone", || rig.counters().open == 0);
    let mut second = rig.client();
    second.send(GET);
    eventually("the second request waits", || rig.counters().requests == 2);
    rig.desk.open_gate();
    assert_eq!(second.answer().body, "GET /next");
}

#[test]
fn requests_sent_before_there_are_workers_wait_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.sock");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = edge::Config {
        listeners: vec![listener],
        admin: None,
        tls: None,
        upstream: path.clone(),
        secret: "s".into(),
        trusted_proxies: Vec::new(),
        loops: 1,
        upstream_connections: 2,
        arrivals: Arrivals::default(),
        version_header: "v".into(),
        limits: Limits::default(),
    };
    let edge = edge::start(config).unwrap();
    let mut client = Client::new(std::net::TcpStream::connect(address).unwrap());
    client.send(GET);
    eventually("the request waits", || edge.counters().requests == 1);
    let server = tiny_http::Server::http_unix(&path).unwrap();
    let worker = std::thread::spawn(move || {
        while let Ok(request) = server.recv() {
            let last = request.url() == "/next";
            request.respond(tiny_http::Response::from_string("late")).unwrap();
            if last {
                return;
            }
        }
    });
    assert_eq!(client.answer().body, "late");
    worker.join().unwrap();
}

#[test]
fn an_answer_that_memory_does_not_hold_is_a_503() {
    let rig = Rig::with_limits(Limits { body_memory: 200_000, ..Limits::default() });
    let mut client = rig.client();
    client.send("GET /big?1000000 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().status, 503);
    client.send("GET /big?100000 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    client.send(format!("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(300_000)));
    assert_eq!(client.answer().status, 503);
    client.expect_end();
    eventually("all memory is back", || {
        rig.ask("GET /big?180000 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").status == 200
    });
}
