//! Connections that become streams.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moorline::edge::{Limits, Reason};
use moorline::ops::mail::{Address, Mail, Outcome};
use moorline::streams::{Out, Start, Stream};

use super::rig::{Client, Rig, eventually};

/// What a stream was told, for the test to see.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    address: Mutex<Option<Address>>,
}

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.lines.lock().unwrap().push(line.into());
    }

    fn count(&self, line: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|found| *found == line).count()
    }

    fn address(&self) -> Address {
        self.address.lock().unwrap().clone().unwrap()
    }
}

/// Sends back what it gets; obeys a few words.
struct Echo {
    log: Arc<Log>,
    tick: Option<Instant>,
    deaf: bool,
    more: usize,
}

impl Echo {
    fn start(log: &Arc<Log>) -> Box<dyn Stream> {
        Box::new(Echo { log: Arc::clone(log), tick: None, deaf: false, more: 0 })
    }
}

impl Stream for Echo {
    fn open(&mut self, _: Instant, address: Address, out: &mut Out) {
        *self.log.address.lock().unwrap() = Some(address);
        self.log.add("open");
        out.bytes.extend_from_slice(b"[open]");
    }

    fn receive(&mut self, now: Instant, bytes: &[u8], out: &mut Out) {
        match bytes {
            b"finish" => {
                out.bytes.extend_from_slice(b"[bye]");
                out.finish = true;
            }
            b"abort" => out.abort = true,
            b"panic" => panic!("a stream panics on purpose"),
            b"tick" => self.tick = Some(now + Duration::from_millis(20)),
            b"flood" => out.bytes.resize(4_000_000, b'f'),
            b"deaf" => {
                self.deaf = true;
                self.log.add("deaf");
            }
            b"more" => {
                self.more = 20;
                out.bytes.extend_from_slice(b"[more]");
            }
            other => out.bytes.extend_from_slice(other),
        }
    }

    fn mail(&mut self, _: Instant, mail: Mail, out: &mut Out) {
        self.deaf = false;
        match mail {
            Mail::Done { outcome: Outcome::Bytes(bytes), .. } => out.bytes.extend_from_slice(&bytes),
            other => panic!("unexpected mail: {other:?}"),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.tick
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        assert!(self.tick.unwrap() <= now);
        self.tick = None;
        out.bytes.extend_from_slice(b"[tick]");
    }

    fn drained(&mut self, _: Instant, out: &mut Out) {
        if self.more > 0 {
            self.more -= 1;
            out.bytes.extend_from_slice(b"+");
        }
    }

    fn wants_input(&self) -> bool {
        !self.deaf
    }

    fn shutdown(&mut self, _: Instant, out: &mut Out) {
        self.log.add("shutdown");
        out.bytes.extend_from_slice(b"[shutdown]");
        out.finish = true;
    }

    fn closed(&mut self) {
        self.log.add("closed");
    }
}

fn echo(limits: Limits) -> (Rig, Arc<Log>) {
    let rig = Rig::with_limits(limits);
    let log = Arc::new(Log::default());
    let for_streams = Arc::clone(&log);
    rig.on_stream(move |_| Start::WebSocket(Echo::start(&for_streams)));
    (rig, log)
}

const UPGRADE: &str = "GET /stream HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn open(rig: &Rig) -> Client {
    let mut client = rig.client();
    client.send(UPGRADE);
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(client.take(6), b"[open]");
    client
}

fn closed_once(log: &Log) {
    eventually("the stream is closed", || log.count("closed") > 0);
    assert_eq!(log.count("closed"), 1);
}

#[test]
fn an_answer_can_hand_the_connection_over() {
    let (rig, log) = echo(Limits::default());
    let mut client = rig.client();
    client.send(UPGRADE);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"));
    assert!(head.contains("Sec-WebSocket-Accept: accepted\r\n"), "{head}");
    assert!(!head.contains("X-Moorline") && !head.contains("Content-Length") && !head.contains("Server"), "{head}");
    assert_eq!(client.take(6), b"[open]");
    assert_eq!(rig.desk.seen()[0].header("X-Moorline-Upgrade"), Some("websocket"));
    for piece in ["one", "two", "three"] {
        client.send(piece);
        assert_eq!(client.take(piece.len()), piece.as_bytes());
    }
    assert_eq!(rig.counters().streams, 1);
    drop(client);
    closed_once(&log);
    eventually("the connection is gone", || rig.counters().open == 0 && rig.counters().streams == 0);
}

#[test]
fn bytes_that_came_early_are_the_streams_first() {
    let (rig, log) = echo(Limits::default());
    let mut client = rig.client();
    client.send(format!("{}early", UPGRADE.replace("/stream", "/stream?gate")));
    eventually("the worker has it", || rig.desk.at_gate() == 1);
    client.send(" birds");
    rig.desk.open_gate();
    client.head();
    assert_eq!(client.take(17), b"[open]early birds");
    drop(client);
    closed_once(&log);
}

#[test]
fn endless_answers_are_chunked_by_their_stream() {
    let (rig, log) = echo(Limits::default());
    let for_streams = Arc::clone(&log);
    rig.on_stream(move |_| Start::Events(Echo::start(&for_streams)));
    let mut client = rig.client();
    client.send("GET /events HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
    assert_eq!(client.take(6), b"[open]");
    // HTTP/1.0 knows no chunks.
    assert_eq!(rig.ask("GET /events HTTP/1.0\r\n\r\n").status, 426);
    eventually("that stream is closed", || log.count("closed") == 1);
    drop(client);
    eventually("both streams are closed", || log.count("closed") == 2);
}

#[test]
fn mail_reaches_the_stream_in_order() {
    let (rig, log) = echo(Limits::default());
    let mut client = open(&rig);
    let address = log.address();
    let mut expected = Vec::new();
    for index in 0..1000u32 {
        let bytes = format!("<{index}>").into_bytes();
        expected.extend_from_slice(&bytes);
        address.post(Mail::Done { tag: 0, outcome: Outcome::Bytes(bytes) });
    }
    assert_eq!(client.take(expected.len()), expected);
    drop(client);
    closed_once(&log);
    // Mail to a socket that is gone, or whose slot has another owner, goes nowhere.
    let mut other = open(&rig);
    address.post(Mail::Done { tag: 0, outcome: Outcome::Bytes(b"stray".to_vec()) });
    other.send("x");
    assert_eq!(other.take(1), b"x");
}

#[test]
fn deadlines_are_kept() {
    let (rig, _log) = echo(Limits::default());
    let mut client = open(&rig);
    for _ in 0..3 {
        client.send("tick");
        assert_eq!(client.take(6), b"[tick]");
    }
}

#[test]
fn a_stream_may_go_on_when_everything_was_taken() {
    let (rig, _log) = echo(Limits::default());
    let mut client = open(&rig);
    client.send("more");
    assert_eq!(client.take(26), b"[more]++++++++++++++++++++");
}

#[test]
fn a_stream_that_wants_no_input_gets_none_until_it_does() {
    let (rig, log) = echo(Limits::default());
    let mut client = open(&rig);
    client.send("deaf");
    eventually("it is deaf", || log.count("deaf") == 1);
    client.send("unheard");
    log.address().post(Mail::Done { tag: 0, outcome: Outcome::Bytes(b"[mail]".to_vec()) });
    // The mail ends the deafness; what was sent meanwhile is still there.
    assert_eq!(client.take(13), b"[mail]unheard");
}

#[test]
fn a_stream_ends_as_it_wishes() {
    let (rig, log) = echo(Limits::default());
    let mut client = open(&rig);
    client.send("finish");
    assert_eq!(client.take(5), b"[bye]");
    client.expect_end();
    closed_once(&log);
    drop(client);
    let mut client = open(&rig);
    client.send("abort");
    client.expect_end();
    eventually("the second is closed", || log.count("closed") == 2);
}

#[test]
fn a_stream_that_panics_ends_alone() {
    let (rig, log) = echo(Limits::default());
    let mut other = open(&rig);
    let mut client = open(&rig);
    client.send("panic");
    client.expect_end();
    closed_once(&log);
    other.send("fine");
    assert_eq!(other.take(4), b"fine");
}

#[test]
fn a_client_that_ends_its_direction_ends_its_stream() {
    let (rig, log) = echo(Limits::default());
    let mut client = open(&rig);
    client.send("last");
    client.socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.take(4), b"last");
    client.expect_end();
    closed_once(&log);
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let (rig, log) = echo(Limits { stream_backlog: 1_000_000, ..Limits::default() });
    let mut client = open(&rig);
    for _ in 0..20 {
        if std::io::Write::write_all(&mut client.socket, b"flood").is_err() {
            break;
        }
        let dropped = Instant::now() + Duration::from_millis(200);
        while log.count("closed") == 0 && Instant::now() < dropped {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
    closed_once(&log);
    assert_eq!(rig.counters().refused(Reason::Backlog), 1);
}

#[test]
fn a_client_that_stops_reading_is_dropped_after_a_while() {
    let limits = Limits { write_stall: Duration::from_millis(200), ..Limits::default() };
    let (rig, log) = echo(limits);
    let mut client = open(&rig);
    for _ in 0..2 {
        client.send("flood");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    closed_once(&log);
    assert_eq!(rig.counters().refused(Reason::Stalled), 1);
}

#[test]
fn a_large_stream_arrives_whole() {
    let (rig, _log) = echo(Limits::default());
    let mut client = open(&rig);
    client.send("flood");
    assert!(client.take(4_000_000).iter().all(|byte| *byte == b'f'));
}

#[test]
fn a_stream_whose_client_left_is_closed_without_having_been_opened() {
    let (rig, log) = echo(Limits::default());
    let mut client = rig.client();
    let upgrade = UPGRADE.replace("/stream", "/stream?gate");
    client.send(format!("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n{upgrade}"));
    eventually("the worker has it", || rig.desk.at_gate() == 1);
    drop(client);
    eventually("the client is gone", || rig.counters().open == 0);
    rig.desk.open_gate();
    closed_once(&log);
    assert_eq!(log.count("open"), 0);
}

#[test]
fn a_stream_whose_worker_died_is_closed_and_the_client_told() {
    let (rig, log) = echo(Limits::default());
    assert_eq!(rig.ask(&UPGRADE.replace("/stream", "/stream?die")).status, 500);
    closed_once(&log);
    assert_eq!(log.count("open"), 0);
}

#[test]
fn a_takeover_without_a_stream_is_a_500() {
    let (rig, _log) = echo(Limits::default());
    assert_eq!(rig.ask(&UPGRADE.replace("/stream", "/lost")).status, 500);
}

#[test]
fn streams_are_told_that_the_server_stops() {
    let (mut rig, log) = echo(Limits { linger: Duration::from_millis(100), ..Limits::default() });
    let mut client = open(&rig);
    let edge = rig.edge.take().unwrap();
    let stopping = std::thread::spawn(move || edge.shutdown(Duration::from_secs(10)));
    assert_eq!(client.take(10), b"[shutdown]");
    client.expect_end();
    drop(client);
    stopping.join().unwrap();
    assert_eq!((log.count("shutdown"), log.count("closed")), (1, 1));
}
