//! An edge, an application behind it, and a client that speaks HTTP byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moorline::edge::{self, Config, Counters, Edge, Limits};
use moorline::streams::{Arrivals, Start};
use uuid::Uuid;

/// Longest wait for anything that must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const SECRET: &str = "5ec2e7";

/// Waits until something is so.
pub(super) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < until, "it did not happen in time: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A request as the application saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

type MakeStream = Box<dyn Fn(Uuid) -> Start + Send + Sync>;

/// State that tests and workers share.
#[derive(Default)]
pub(super) struct Desk {
    seen: Mutex<Vec<Seen>>,
    /// Requests to `/gate` wait until this is opened.
    open: Mutex<bool>,
    opened: Condvar,
    at_gate: Mutex<usize>,
    trials: Mutex<usize>,
    make_stream: Mutex<Option<MakeStream>>,
}

impl Desk {
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn open_gate(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub(super) fn at_gate(&self) -> usize {
        *self.at_gate.lock().unwrap()
    }

    /// How many private connections have passed their trial.
    pub(super) fn trials(&self) -> usize {
        *self.trials.lock().unwrap()
    }

    fn wait_at_gate(&self) {
        *self.at_gate.lock().unwrap() += 1;
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
    }
}

pub(super) struct Rig {
    pub(super) edge: Option<Edge>,
    pub(super) address: SocketAddr,
    pub(super) admin: Option<PathBuf>,
    pub(super) desk: Arc<Desk>,
    server: Arc<tiny_http::Server>,
    workers: Vec<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

/// How a rig differs from the ordinary one.
pub(super) struct Plan {
    pub(super) limits: Limits,
    pub(super) trusted: Vec<moorline::config::IpRange>,
    pub(super) tls: Option<edge::tls::Tls>,
    pub(super) admin: bool,
    pub(super) workers: usize,
    pub(super) connections: usize,
    pub(super) loops: usize,
    pub(super) bind: &'static str,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            limits: Limits::default(),
            trusted: Vec::new(),
            tls: None,
            admin: false,
            workers: 2,
            connections: 4,
            loops: 2,
            bind: "127.0.0.1:0",
        }
    }
}

impl Rig {
    pub(super) fn start(plan: Plan) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workers.sock");
        let server = Arc::new(tiny_http::Server::http_unix(&path).unwrap());
        let desk = Arc::new(Desk::default());
        let arrivals = Arrivals::default();
        let workers = (0..plan.workers).map(|_| {
            let (server, desk, arrivals) = (Arc::clone(&server), Arc::clone(&desk), arrivals.clone());
            std::thread::spawn(move || {
                while let Ok(request) = server.recv() {
                    let (desk, arrivals) = (Arc::clone(&desk), arrivals.clone());
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(request, &desk, &arrivals)));
                }
            })
        });
        let workers = workers.collect();
        let listener = TcpListener::bind(plan.bind).unwrap();
        let address = listener.local_addr().unwrap();
        let admin_path = plan.admin.then(|| folder.path().join("admin.sock"));
        let admin = admin_path.as_ref().map(|path| std::os::unix::net::UnixListener::bind(path).unwrap());
        let edge = edge::start(Config {
            listeners: vec![listener],
            admin,
            tls: plan.tls,
            upstream: path,
            secret: SECRET.into(),
            trusted_proxies: plan.trusted,
            loops: plan.loops,
            upstream_connections: plan.connections,
            arrivals,
            version_header: "v2.24.0".into(),
            limits: plan.limits,
        })
        .unwrap();
        Rig { edge: Some(edge), address, admin: admin_path, desk, server, workers, _folder: folder }
    }

    pub(super) fn plain() -> Rig {
        Rig::start(Plan::default())
    }

    pub(super) fn with_limits(limits: Limits) -> Rig {
        Rig::start(Plan { limits, ..Plan::default() })
    }

    pub(super) fn client(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    pub(super) fn counters(&self) -> Counters {
        self.edge.as_ref().unwrap().counters()
    }

    /// Sends one request on a connection of its own and reads one answer.
    pub(super) fn ask(&self, request: &str) -> Answer {
        let mut client = self.client();
        client.send(request);
        client.answer()
    }

    pub(super) fn on_stream(&self, make: impl Fn(Uuid) -> Start + Send + Sync + 'static) {
        *self.desk.make_stream.lock().unwrap() = Some(Box::new(make));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.desk.open_gate();
        self.edge.take();
        for _ in &self.workers {
            self.server.unblock();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

fn serve(mut request: tiny_http::Request, desk: &Desk, arrivals: &Arrivals) {
    use tiny_http::{Header, Response};
    let is_trial = request.headers().iter().any(|header| header.field.equiv("X-Moorline-Trial"));
    let mut body = Vec::new();
    request.as_reader().read_to_end(&mut body).unwrap();
    if is_trial {
        let _ = request.respond(Response::empty(200));
        *desk.trials.lock().unwrap() += 1;
        return;
    }
    let headers: Vec<(String, String)> =
        request.headers().iter().map(|header| (header.field.to_string(), header.value.to_string())).collect();
    let line = format!("{} {}", request.method(), request.url());
    let seen = Seen { line: line.clone(), headers };
    let id = seen.header("X-Moorline-Request-Id").and_then(|id| id.parse::<Uuid>().ok());
    desk.seen.lock().unwrap().push(seen);
    let header = |name: &str, value: &str| Header::from_bytes(name.as_bytes(), value.as_bytes()).unwrap();
    let url = request.url().to_owned();
    let (path, query) = url.split_once('?').unwrap_or((&url, ""));
    let answered = match path {
        "/die" => {
            drop(request);
            Ok(())
        }
        "/panic" => panic!("a worker panics on purpose"),
        "/gate" => {
            desk.wait_at_gate();
            request.respond(Response::from_string("through"))
        }
        "/big" => request.respond(Response::from_data(vec![b'x'; query.parse().unwrap()])),
        "/endless-length" => {
            let data = std::io::Cursor::new(b"chunks".to_vec());
            request.respond(Response::new(200.into(), Vec::new(), data, None, None))
        }
        "/nothing" => request.respond(Response::empty(204)),
        "/headers" => request.respond(
            Response::from_string("h")
                .with_header(header("X-Moorline-Internal", "secret"))
                .with_header(header("X-Kept", "kept")),
        ),
        "/stream" | "/events" | "/lost" => {
            let kind = if path == "/events" { "events" } else { "websocket" };
            if path != "/lost"
                && let Some(make) = desk.make_stream.lock().unwrap().as_ref()
            {
                arrivals.put(id.unwrap(), make(id.unwrap()));
            }
            if query == "gate" {
                desk.wait_at_gate();
            }
            if query == "die" {
                drop(request);
                Ok(())
            } else {
                let answer = Response::empty(200)
                    .with_header(header("X-Moorline-Takeover", kind))
                    .with_header(header("Sec-WebSocket-Accept", "accepted"));
                request.respond(answer)
            }
        }
        _ => {
            let mut text = line.into_bytes();
            if !body.is_empty() {
                text.extend_from_slice(b" ");
                text.extend_from_slice(&body);
            }
            request.respond(Response::from_data(text).with_header(header("Content-Type", "text/plain")))
        }
    };
    let _ = answered;
}

/// An answer as the client reads it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

pub(super) trait Pipe: Read + Write + Send {}
impl<T: Read + Write + Send> Pipe for T {}

/// A client; what it has read and not used is kept.
pub(super) struct Client<S: Pipe = TcpStream> {
    pub(super) socket: S,
    pub(super) buffer: Vec<u8>,
}

impl Client<TcpStream> {
    pub(super) fn new(socket: TcpStream) -> Client {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Client { socket, buffer: Vec::new() }
    }
}

impl<S: Pipe> Client<S> {
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// The beginning of what was read and not used.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(500)]).into_owned()
    }

    /// Reads more; `false` at the end.
    pub(super) fn more(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match self.socket.read(&mut piece) {
            Ok(0) => false,
            Ok(got) => {
                self.buffer.extend_from_slice(&piece[..got]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => false,
            Err(error) => panic!("reading failed: {error}; so far: {:?}", self.text()),
        }
    }

    /// Reads until so many bytes are there and takes them.
    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.more(), "ended early: {:?}", self.text());
        }
        self.buffer.drain(..count).collect()
    }

    pub(super) fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                return String::from_utf8(self.take(end + 4)).unwrap();
            }
            assert!(self.more(), "ended before a head: {:?}", self.text());
        }
    }

    pub(super) fn answer(&mut self) -> Answer {
        self.answer_to(false)
    }

    pub(super) fn answer_to(&mut self, head_request: bool) -> Answer {
        let head = self.head();
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        assert!(answer.header("Transfer-Encoding").is_none());
        let length = answer.header("Content-Length").map_or(0, |length| length.parse().unwrap());
        if !head_request {
            answer.body = String::from_utf8(self.take(length)).unwrap();
        }
        answer
    }

    /// Asserts that the server has closed and had no more to say.
    pub(super) fn expect_end(&mut self) {
        while self.more() {}
        assert_eq!(String::from_utf8_lossy(&self.buffer), "", "more than one answer");
    }
}
