//! A REST server in this process, without the edge: the test speaks to its private socket and says
//! what the edge would say.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moorline::config::providers::ProviderConfig;
use moorline::domain::{Shared, tokens};
use moorline::model::{AgentId, Timestamp, UserId, WorkspaceId};
use moorline::ops::jobs::{Jobs, Workers};
use moorline::ops::mail::{Address, ConnId, Mailbox};
use moorline::rest::{self, Rest};
use moorline::store::agents::Agent;
use moorline::store::keys::{ApiKey, LoginType, Scope};
use moorline::store::users::{Status, User};
use moorline::store::workspaces::Workspace;
use moorline::store::{agents, keys, users, workspaces};
use moorline::streams::{Arrivals, Out, Start};
use uuid::Uuid;

use crate::harness;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(40);

const SECRET: &str = "5ec2e7";

/// The one program that it hands out.
pub const PROGRAM: &[u8] = b"#!/bin/sh\necho Coder v2.24.0\n";

/// A server and a connection to it.
pub struct Rig {
    pub app: Shared,
    pub arrivals: Arrivals,
    rest: Option<Rest>,
    workers: Option<Workers>,
    socket: PathBuf,
    connection: Option<BufReader<UnixStream>>,
    dir: Option<tempfile::TempDir>,
}

/// A request; what is not set is left out.
#[derive(Clone, Default)]
pub struct Ask {
    pub method: String,
    /// With query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Client address; default: loopback.
    pub peer: Option<String>,
    pub operator: Option<String>,
    /// Over TLS.
    pub secure: bool,
    /// How long an answer that comes later is waited for.
    pub patience: Option<Duration>,
}

impl Ask {
    pub fn new(method: &str, path: &str) -> Ask {
        Ask { method: method.into(), path: path.into(), ..Ask::default() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Ask {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn token(self, token: &str) -> Ask {
        self.header("Coder-Session-Token", token)
    }

    pub fn json(mut self, body: &serde_json::Value) -> Ask {
        self.body = body.to_string().into_bytes();
        self
    }

    pub fn websocket(self) -> Ask {
        self.header("X-Moorline-Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    }
}

/// An answer.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The request id that was sent.
    pub id: Uuid,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Rig {
    pub fn start() -> Rig {
        Rig::with(&[])
    }

    /// A server with some other settings.
    pub fn with(changed: &[(&'static str, &str)]) -> Rig {
        Rig::with_providers(changed, Vec::new())
    }

    /// A server with some other settings and these providers.
    pub fn with_providers(changed: &[(&'static str, &str)], providers: Vec<Arc<ProviderConfig>>) -> Rig {
        let dir = tempfile::Builder::new().prefix("moor").tempdir().unwrap();
        let programs = dir.path().join("bin");
        std::fs::create_dir(&programs).unwrap();
        std::fs::write(programs.join("coder-linux-amd64"), PROGRAM).unwrap();
        let usual = [
            ("bin_dir", programs.to_str().unwrap()),
            ("stats_interval", "30s"),
            ("troubleshooting_url", "http://127.0.0.1:13000/trouble"),
            ("hostname_suffix", "moor"),
        ];
        let mut settings = harness::app::settings(dir.path(), &[&usual, changed].concat());
        settings.providers = providers;
        let (jobs, workers) = Jobs::start("rpc", 1, 16).unwrap();
        let app = Arc::new(harness::app::app(settings, "http://127.0.0.1:13000", jobs));
        let arrivals = Arrivals::default();
        let socket = dir.path().join("rest.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let rest = rest::start(Arc::clone(&app), arrivals.clone(), listener, SECRET.into(), 2).unwrap();
        Rig { app, arrivals, rest: Some(rest), workers: Some(workers), socket, connection: None, dir: Some(dir) }
    }

    /// Another connection to the same server, for a thread of its own.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Asks over the kept connection.
    pub fn ask(&mut self, ask: &Ask) -> Got {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.socket),
        };
        let mut connection = connection;
        let got = exchange(&mut connection, ask, SECRET);
        self.connection = Some(connection);
        follow(&self.arrivals, got, ask.patience.unwrap_or(PATIENCE))
    }

    /// Asks with another secret than the edge's.
    pub fn ask_as_stranger(&self, ask: &Ask) -> Got {
        exchange(&mut connect(&self.socket), ask, "5ec2e8")
    }

    /// Adds a person with a session token.
    pub fn person(&self, name: &str, admin: bool, password: Option<&str>, token: Option<&str>) -> User {
        let now = Timestamp::now();
        let user = User {
            id: UserId::random(),
            username: name.into(),
            email: format!("{name}@example.test"),
            full_name: if admin { format!("{name} the first") } else { String::new() },
            password_hash: password.map(|password| moorline::domain::passwords::hash(password).unwrap()),
            is_admin: admin,
            status: Status::Active,
            created_at: now,
            updated_at: now,
            last_seen_at: None,
        };
        let key = moorline::domain::git_key::generate(self.app.store.sealer(), user.id, now).unwrap();
        let row = user.clone();
        self.app
            .store
            .write(move |write| -> Result<(), moorline::store::Error> {
                users::insert(write, &row)?;
                users::put_git_ssh_key(write, &key)?;
                Ok(())
            })
            .unwrap();
        if let Some(token) = token {
            self.key(&user, token, "", Duration::from_secs(24 * 3_600));
        }
        user
    }

    /// Adds a session token with this text.
    pub fn key(&self, user: &User, token: &str, name: &str, life: Duration) {
        let parsed = tokens::SessionToken::parse(token).expect("10 and 22 characters");
        let now = Timestamp::now();
        let key = ApiKey {
            id: parsed.id.clone(),
            user_id: user.id,
            secret_hash: parsed.secret_hash(),
            login_type: if name.is_empty() { LoginType::Password } else { LoginType::Token },
            token_name: name.into(),
            scope: Scope::All,
            lifetime_seconds: life.as_secs() as i64,
            ip: String::new(),
            created_at: now,
            updated_at: now,
            last_used_at: now,
            expires_at: now.plus(life),
        };
        self.app.store.write(move |write| keys::insert(write, &key).map_err(moorline::store::Error::from)).unwrap();
    }

    /// Adds a workspace with one agent, declared `age` ago.
    pub fn workspace(&self, owner: &User, name: &str, agent: u128, token: &str, age: Duration) -> Agent {
        let at = Timestamp::now().minus(age);
        let workspace = Workspace {
            id: WorkspaceId(Uuid::from_u128(agent ^ (0x1 << 124))),
            owner_id: owner.id,
            owner_name: owner.username.clone(),
            name: name.into(),
            created_at: at,
            updated_at: at,
            last_used_at: at,
        };
        let token = Uuid::parse_str(token).unwrap();
        let id = AgentId(Uuid::from_u128(agent));
        let sealed = self.app.store.sealer().seal("agents", "token_sealed", id.as_bytes(), token.as_bytes()).unwrap();
        let agent = Agent {
            id,
            workspace_id: workspace.id,
            parent_id: None,
            name: "main".into(),
            token_hash: tokens::agent_token_hash(token),
            token_sealed: sealed,
            operating_system: "linux".into(),
            architecture: "amd64".into(),
            directory: "/home/dev".into(),
            environment: std::collections::BTreeMap::new(),
            motd_file: String::new(),
            troubleshooting_url: String::new(),
            connection_timeout_seconds: 120,
            display_apps: ["vscode", "ssh_helper", "port_forwarding_helper", "web_terminal"]
                .map(str::to_owned)
                .to_vec(),
            instance_id: String::new(),
            instance_cloud: None,
            version: String::new(),
            api_version: String::new(),
            expanded_directory: String::new(),
            subsystems: Vec::new(),
            lifecycle_state: agents::Lifecycle::Created,
            started_at: None,
            ready_at: None,
            first_connected_at: None,
            last_connected_at: None,
            disconnected_at: None,
            logs_length: 0,
            logs_overflowed: false,
            created_at: at,
            updated_at: at,
        };
        let row = agent.clone();
        self.app
            .store
            .write(move |write| -> Result<(), moorline::store::Error> {
                workspaces::insert(write, &workspace)?;
                agents::insert(write, &row)?;
                Ok(())
            })
            .unwrap();
        agent
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.connection = None;
        self.app.links.stop();
        self.app.plugins.stop();
        if let Some(rest) = self.rest.take() {
            rest.stop();
        }
        drop(self.workers.take());
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("kept: {}", dir.keep().display());
        }
    }
}

/// A connection as the edge keeps it.
pub fn connect(socket: &std::path::Path) -> BufReader<UnixStream> {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    BufReader::new(stream)
}

/// One request and its answer.
pub fn exchange_as_edge(connection: &mut BufReader<UnixStream>, ask: &Ask) -> Got {
    exchange(connection, ask, SECRET)
}

/// Asks over a connection of its own, as the edge would.
pub fn ask_alone(socket: &std::path::Path, arrivals: &Arrivals, ask: &Ask) -> Got {
    let got = exchange(&mut connect(socket), ask, SECRET);
    follow(arrivals, got, ask.patience.unwrap_or(PATIENCE))
}

/// What a client gets whose answer is written by a stream: does for that stream what a loop does. Status 0: nothing in
/// time.
fn follow(arrivals: &Arrivals, got: Got, patience: Duration) -> Got {
    if got.header("X-Moorline-Takeover") != Some("raw") {
        return got;
    }
    let Some(Start::Raw(mut stream)) = arrivals.take(got.id) else { panic!("no stream was left") };
    let poll = mio::Poll::new().unwrap();
    let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
    let (sender, letters) = std::sync::mpsc::sync_channel(1_024);
    let address = Address { mailbox: Mailbox::new(sender, Arc::new(waker)), conn: ConnId { slot: 0, generation: 0 } };
    let until = Instant::now() + patience;
    let (mut out, mut bytes) = (Out::default(), Vec::new());
    stream.open(Instant::now(), address, &mut out);
    // After 101 come the bytes of another protocol, which are not for here.
    let switched =
        |bytes: &[u8]| bytes.starts_with(b"HTTP/1.1 101") && bytes.windows(4).any(|four| four == b"\r\n\r\n");
    while !out.finish && !out.abort && Instant::now() < until && !switched(&bytes) {
        if !out.bytes.is_empty() {
            bytes.append(&mut out.bytes);
            stream.drained(Instant::now(), &mut out);
            continue;
        }
        let due = stream.deadline().map_or(until, |due| due.min(until));
        match letters.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok((_, mail)) => stream.mail(Instant::now(), mail, &mut out),
            Err(_) => stream.tick(Instant::now(), &mut out),
        }
    }
    bytes.append(&mut out.bytes);
    stream.closed();
    if switched(&bytes) {
        return got;
    }
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Got { status: 0, headers: Vec::new(), body: Vec::new(), id: got.id };
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap()).map(|(name, value)| (name.into(), value.into()));
    Got { status, headers: headers.collect(), body: bytes[end + 4..].to_vec(), id: got.id }
}

fn exchange(connection: &mut BufReader<UnixStream>, ask: &Ask, secret: &str) -> Got {
    let id = Uuid::new_v4();
    let mut head = format!("{} {} HTTP/1.1\r\nHost: moor.example.test\r\n", ask.method, ask.path);
    let peer = ask.peer.as_deref().unwrap_or("127.0.0.1");
    let scheme = if ask.secure { "https" } else { "http" };
    head += &format!("X-Moorline-Secret: {secret}\r\nX-Moorline-Request-Id: {id}\r\nX-Moorline-Scheme: {scheme}\r\n");
    match &ask.operator {
        Some(operator) => head += &format!("X-Moorline-Operator: {operator}\r\nX-Moorline-Peer: \r\n"),
        None => head += &format!("X-Moorline-Peer: {peer}\r\n"),
    }
    for (name, value) in &ask.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", ask.body.len());
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&ask.body);
    connection.get_mut().write_all(&bytes).unwrap();

    let mut line = String::new();
    connection.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {line:?}")).parse().unwrap();
    let mut headers = Vec::new();
    loop {
        line.clear();
        connection.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut got = Got { status, headers, body: Vec::new(), id };
    let length = got.header("Content-Length").map_or(0, |length| length.parse().unwrap());
    if ask.method != "HEAD" {
        got.body = vec![0; length];
        connection.read_exact(&mut got.body).unwrap();
    }
    got
}
