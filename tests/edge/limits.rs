//! Slow clients, large heads and bodies, too many connections, no file descriptors, memory.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use moorline::edge::{Limits, Reason};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::rig::{Client, PATIENCE, Plan, Rig, eventually};

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

fn soon() -> Duration {
    Duration::from_millis(150)
}

#[test]
fn a_slow_head_is_a_408() {
    let rig = Rig::with_limits(Limits { head_deadline: soon(), ..Limits::default() });
    let mut client = rig.client();
    client.send(GET);
    assert_eq!(client.answer().status, 200);
    let started = Instant::now();
    client.send("GET /slow HTTP/1.1\r\nX: ");
    // Bytes that trickle in buy no time.
    while client.socket.write_all(b"x").is_ok() && started.elapsed() < soon() {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("Connection")), (408, Some("close")));
    client.expect_end();
    assert_eq!(rig.counters().refused(Reason::Slow), 1);
}

#[test]
fn a_client_that_says_nothing_is_dropped_without_a_word() {
    let rig = Rig::with_limits(Limits { head_deadline: soon(), ..Limits::default() });
    rig.client().expect_end();
    assert_eq!(rig.counters().refused(Reason::Slow), 0);
}

#[test]
fn a_slow_body_is_a_408() {
    let rig = Rig::with_limits(Limits { body_deadline: soon(), ..Limits::default() });
    for request in [
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nx",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nx",
    ] {
        let mut client = rig.client();
        client.send(request);
        assert_eq!(client.answer().status, 408);
        client.expect_end();
    }
    assert_eq!(rig.desk.seen().len(), 0);
}

#[test]
fn a_slow_worker_is_not_the_clients_fault() {
    let limits = Limits { head_deadline: soon(), body_deadline: soon(), idle: soon(), ..Limits::default() };
    let rig = Rig::with_limits(limits);
    let mut client = rig.client();
    client.send("GET /gate HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("a worker has it", || rig.desk.at_gate() == 1);
    std::thread::park_timeout(3 * soon());
    rig.desk.open_gate();
    assert_eq!(client.answer().body, "through");
    client.expect_end();
}

#[test]
fn an_idle_connection_is_closed() {
    let rig = Rig::with_limits(Limits { idle: soon(), ..Limits::default() });
    let mut client = rig.client();
    client.send(GET);
    assert_eq!(client.answer().status, 200);
    client.expect_end();
}

#[test]
fn a_slow_reader_is_dropped_only_when_it_takes_nothing() {
    let rig = Rig::with_limits(Limits { write_stall: Duration::from_millis(300), ..Limits::default() });
    let request = "GET /big?20000000 HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut patient = rig.client();
    patient.send(request);
    let mut stuck = rig.client();
    stuck.send(request);
    eventually("the stuck one is dropped", || {
        if patient.buffer.len() < 10_000_000 {
            patient.more();
        }
        rig.counters().refused(Reason::Stalled) == 1
    });
    assert_eq!(patient.answer().body.len(), 20_000_000);
    // Many times the stall in all, but something is taken all the time.
    patient.send(request);
    patient.head();
    for _ in 0..20 {
        patient.take(1_000_000);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    patient.send(GET);
    assert_eq!(patient.answer().status, 200);
    assert_eq!(rig.counters().refused(Reason::Stalled), 1);
}

#[test]
fn large_heads_and_bodies_are_refused_by_name() {
    let rig = Rig::plain();
    let line = |count: usize| format!("X-A: {}\r\n", "a".repeat(count));
    let cases = [
        (format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(33_000)), 414),
        (format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", line(33_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: h\r\n{}", line(1_000).repeat(40)), 431),
        (format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", line(1).repeat(100)), 431),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\n\r\n".into(), 413),
        ("PATCH /api/v2/workspaceagents/me/logs HTTP/1.1\r\nHost: h\r\nContent-Length: 2097153\r\n\r\n".into(), 413),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n".into(), 413),
    ];
    for (request, status) in cases {
        let mut client = rig.client();
        client.send(&request);
        assert_eq!(client.answer().status, status, "{}", &request[..80.min(request.len())]);
        client.expect_end();
    }
    assert_eq!(rig.desk.seen().len(), 0);
    let fits = format!("GET /fits HTTP/1.1\r\nHost: h\r\n{}{}\r\n", line(1).repeat(98), line(30_000));
    assert_eq!(rig.ask(&fits).status, 200);
    let logs = "PATCH /api/v2/workspaceagents/me/logs HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n";
    assert_eq!(rig.ask(&format!("{logs}{}", "l".repeat(2_097_152))).status, 200);
}

#[test]
fn a_client_that_goes_on_sending_still_reads_its_refusal() {
    let rig = Rig::plain();
    let mut client = rig.client();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n");
    client.send(vec![b'x'; 3_000_000]);
    assert_eq!(client.answer().status, 413);
    client.socket.shutdown(std::net::Shutdown::Write).unwrap();
    client.expect_end();
}

#[test]
fn connections_are_limited_in_all() {
    let rig = Rig::with_limits(Limits { connections: 3, ..Limits::default() });
    let mut clients = [rig.client(), rig.client(), rig.client()];
    for client in &mut clients {
        client.send(GET);
        assert_eq!(client.answer().status, 200);
    }
    rig.client().expect_end();
    eventually("it is counted", || rig.counters().refused(Reason::Connections) == 1);
    drop(clients);
    eventually("there is room", || rig.counters().open == 0);
    assert_eq!(rig.ask(GET).status, 200);
}

/// An address of this machine that is neither loopback nor trusted.
fn own_address() -> Option<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: this only asks the routing table.
    socket.connect("192.0.2.1:9").ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) if !address.ip().is_loopback() && !address.ip().is_unspecified() => Some(*address.ip()),
        _ => None,
    }
}

#[test]
fn connections_are_limited_by_address_but_not_from_here_nor_from_proxies() {
    let limits = Limits { connections_per_address: 2, ..Limits::default() };
    let rig = Rig::start(Plan { limits: limits.clone(), bind: "0.0.0.0:0", ..Plan::default() });
    let from_here: Vec<Client> =
        (0..5).map(|_| Client::new(TcpStream::connect((Ipv4Addr::LOCALHOST, rig.address.port())).unwrap())).collect();
    eventually("all are in", || rig.counters().open == from_here.len());
    let Some(own) = own_address() else {
        println!("this machine has no address beside loopback: the other half is not tested");
        return;
    };
    let connect = |rig: &Rig| Client::new(TcpStream::connect((own, rig.address.port())).unwrap());
    let (mut one, two) = (connect(&rig), connect(&rig));
    one.send(GET);
    assert_eq!(one.answer().status, 200);
    connect(&rig).expect_end();
    eventually("it is counted", || rig.counters().refused(Reason::Address) == 1);
    drop(two);
    eventually("one is gone", || rig.counters().open == 6);
    let mut again = connect(&rig);
    again.send(GET);
    assert_eq!(again.answer().status, 200);

    let trusted = vec![moorline::config::IpRange { base: own.into(), bits: 32 }];
    let rig = Rig::start(Plan { limits, trusted, bind: "0.0.0.0:0", ..Plan::default() });
    let proxied: Vec<Client> = (0..5).map(|_| connect(&rig)).collect();
    eventually("all are in", || rig.counters().open == proxied.len());
}

/// Runs an ignored test of this file in a process of its own, where it may change process limits.
struct Elsewhere {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Elsewhere {
    fn start(test: &str) -> Elsewhere {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("edge::limits::{test}"), "--ignored", "--nocapture", "--test-threads=1"])
            .env("MOORLINE_TEST_ELSEWHERE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Elsewhere { child, lines }
    }

    /// Says a word and reads what comes back after `mark`.
    fn ask(&mut self, word: &str, mark: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{word}").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the other process has ended");
            if let Some((_, rest)) = line.split_once(mark) {
                return rest.trim().to_owned();
            }
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn allow_files(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum: limit.maximum }).unwrap();
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Obeys words on standard input for as long as there are any.
fn obey(mut act: impl FnMut(&str) -> String) {
    if std::env::var_os("MOORLINE_TEST_ELSEWHERE").is_none() {
        return;
    }
    for word in std::io::stdin().lines() {
        let answer = act(word.unwrap().trim());
        println!("answer={answer}");
    }
}

#[test]
#[ignore = "the other process of a_server_without_file_descriptors_recovers"]
fn without_descriptors() {
    if std::env::var_os("MOORLINE_TEST_ELSEWHERE").is_none() {
        return;
    }
    let rig = Rig::plain();
    assert_eq!(rig.ask(GET).status, 200);
    eventually("all private connections are made", || rig.desk.trials() == Plan::default().connections);
    // Opened while that is possible.
    let stat = std::fs::File::open("/proc/self/stat").unwrap();
    obey(|word| match word {
        "lower" => {
            let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
            allow_files(used + 10);
            rig.address.port().to_string()
        }
        "open" => rig.counters().open.to_string(),
        "failures" => rig.counters().refused(Reason::Accept).to_string(),
        "time" => {
            // Processor time so far, in clock ticks: a loop that spins shows.
            let mut text = [0; 1024];
            let length = stat.read_at(&mut text, 0).unwrap();
            let stat = String::from_utf8_lossy(&text[..length]);
            let columns: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
            (columns[12].parse::<u64>().unwrap() + columns[13].parse::<u64>().unwrap()).to_string()
        }
        other => panic!("unknown word {other}"),
    });
}

#[test]
fn a_server_without_file_descriptors_recovers() {
    let mut other = Elsewhere::start("without_descriptors");
    let port: u16 = other.ask("lower", "answer=").parse().unwrap();
    let connect = || Client::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
    let mut clients: Vec<Client> = (0..30).map(|_| connect()).collect();
    eventually("accepting fails", || other.ask("failures", "answer=").parse::<u64>().unwrap() >= 3);
    let before: u64 = other.ask("time", "answer=").parse().unwrap();
    std::thread::park_timeout(Duration::from_millis(500));
    let after: u64 = other.ask("time", "answer=").parse().unwrap();
    assert!(after - before <= 15, "the server spins: {} ticks in half a second", after - before);
    // Who is in is served.
    clients[0].send(GET);
    assert_eq!(clients[0].answer().status, 200);
    // Who waits is served when others leave.
    let mut last = clients.pop().unwrap();
    clients.clear();
    last.send(GET);
    assert_eq!(last.answer().status, 200);
}

#[test]
#[ignore = "the other process of ten_thousand_idle_connections_cost_little"]
fn idle_connections() {
    if std::env::var_os("MOORLINE_TEST_ELSEWHERE").is_none() {
        return;
    }
    allow_files(12_000);
    let limits = Limits { connections: 20_000, head_deadline: PATIENCE * 6, idle: PATIENCE * 6, ..Limits::default() };
    let rig = Rig::with_limits(limits);
    assert_eq!(rig.ask(GET).status, 200);
    obey(|word| match word {
        "port" => rig.address.port().to_string(),
        "open" => rig.counters().open.to_string(),
        "memory" => resident_bytes().to_string(),
        other => panic!("unknown word {other}"),
    });
}

#[test]
fn ten_thousand_idle_connections_cost_little() {
    const COUNT: usize = 10_000;
    // Both sides of a connection count, so the server is in a process of its own.
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < 12_000) {
        println!("this machine allows too few open files: {limit:?}");
        return;
    }
    allow_files(limit.maximum.unwrap_or(20_000).min(20_000));
    let mut other = Elsewhere::start("idle_connections");
    let port: u16 = other.ask("port", "answer=").parse().unwrap();
    let before: usize = other.ask("memory", "answer=").parse().unwrap();
    let mut clients = Vec::with_capacity(COUNT);
    for index in 0..COUNT {
        let mut client = Client::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
        // Half of them have had a request answered, and a few have begun another one.
        if index % 2 == 0 {
            client.send(GET);
            assert_eq!(client.answer().status, 200);
        }
        if index % 100 == 0 {
            client.send("GET /b HTTP/1.1\r\n");
        }
        client.buffer = Vec::new();
        clients.push(client);
    }
    eventually("all are in", || other.ask("open", "answer=").parse::<usize>().unwrap() == COUNT);
    let after: usize = other.ask("memory", "answer=").parse().unwrap();
    let each = (after - before) / COUNT;
    println!("{each} bytes for each idle connection");
    assert!(each <= 1024, "{each} bytes for each idle connection");
    // And the server answers as ever.
    let mut last = clients.pop().unwrap();
    last.send(GET);
    assert_eq!(last.answer().status, 200);
}
