//! A server without sockets, and what a loop does for one stream.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use moorline::domain::credential::Credential;
use moorline::domain::{Shared, tokens};
use moorline::model::{AgentId, LogSourceId, Timestamp, UserId, WorkspaceId};
use moorline::ops::hub::Topic;
use moorline::ops::jobs::Jobs;
use moorline::ops::mail::{Address, ConnId, MAILBOX_LETTERS, Mail, Mailbox};
use moorline::store::agents::{Agent, Lifecycle};
use moorline::store::keys::{ApiKey, LoginType, Scope};
use moorline::store::scripts::Script;
use moorline::store::users::{Status, User};
use moorline::store::workspaces::Workspace;
use moorline::store::{Error, agents, keys, metadata, scripts, users, workspaces};
use moorline::streams::{Out, Stream, Visitor};

use crate::harness;

/// Longest wait for a thread.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A server with one user, one workspace and one agent.
pub(crate) struct Server {
    pub(crate) app: Shared,
    pub(crate) user: UserId,
    pub(crate) workspace: WorkspaceId,
    pub(crate) agent: AgentId,
    folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::with_pool(2, 4_096)
    }

    /// A server whose pool has so many threads and so long a queue.
    pub(crate) fn with_pool(threads: usize, depth: usize) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let (jobs, _workers) = Jobs::start("rpc", threads, depth).unwrap();
        let app = open(folder.path(), jobs);
        let (user, workspace, agent) = (UserId::random(), WorkspaceId::random(), AgentId::random());
        let server = Server { app, user, workspace, agent, folder };
        server.write(move |write| {
            users::insert(write, &a_user(user))?;
            keys::insert(write, &a_key(user))?;
            workspaces::insert(write, &a_workspace(workspace, user))?;
            agents::insert(write, &an_agent(agent, workspace, "main"))
        });
        server
    }

    /// The same file, opened anew as after a crash: nothing in memory is kept.
    pub(crate) fn reopened(self) -> Server {
        let Server { app, user, workspace, agent, folder } = self;
        let waiting = Instant::now();
        // Jobs may hold the app for a moment longer.
        let mut app = Some(app);
        while app.as_ref().is_some_and(|app| Arc::strong_count(app) > 1) {
            assert!(waiting.elapsed() < SOON, "somebody keeps the server");
            std::thread::yield_now();
        }
        drop(app.take());
        let (jobs, _workers) = Jobs::start("rpc", 2, 64).unwrap();
        let app = open(folder.path(), jobs);
        Server { app, user, workspace, agent, folder }
    }

    /// The user's token.
    pub(crate) fn credential(&self) -> Credential {
        Credential { user: self.user, key: a_key(self.user).id, as_admin: false }
    }

    /// The user as one who watches their agent.
    pub(crate) fn visitor(&self) -> Visitor {
        Visitor::admit(&self.app, self.credential(), self.agent.0).unwrap()
    }

    /// Deletes the user's token, as revoking it does.
    pub(crate) fn revoke(&self) {
        let credential = self.credential();
        self.app
            .store
            .write(move |write| {
                keys::delete(write, &credential.key)?;
                write.publish(Topic::UserRevoked(credential.user));
                Ok::<(), Error>(())
            })
            .unwrap();
    }

    pub(crate) fn write(&self, f: impl FnOnce(&moorline::store::Write<'_>) -> rusqlite::Result<()> + Send + 'static) {
        self.app.store.write(move |write| f(write).map_err(Error::from)).unwrap();
    }

    pub(crate) fn read<T>(&self, f: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>) -> T {
        self.app.store.read(|conn| f(conn).map_err(Error::from)).unwrap()
    }

    /// The agent's row.
    pub(crate) fn row(&self) -> Agent {
        self.read(|conn| agents::by_id(conn, self.agent)).expect("the agent lives")
    }

    /// Waits for what another thread writes.
    pub(crate) fn until<T>(&self, what: &str, mut check: impl FnMut(&Server) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = check(self) {
                return found;
            }
            assert!(start.elapsed() < SOON, "waited in vain: {what}");
            std::thread::yield_now();
        }
    }

    /// `(action, detail)` of all audit rows.
    pub(crate) fn audit(&self) -> Vec<(String, String)> {
        self.read(|conn| {
            conn.prepare("SELECT action, detail FROM audit_log ORDER BY id")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// Counts rows by a query.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.read(|conn| conn.query_row(sql, [], |row| row.get(0)))
    }

    /// Bytes of the write-ahead log: grows with every commit that changed something.
    pub(crate) fn written(&self) -> u64 {
        std::fs::metadata(self.folder.path().join("moorline.db-wal")).map_or(0, |wal| wal.len())
    }

    pub(crate) fn declare_metadata(&self, keys: &[(&str, i64)]) {
        let agent = self.agent;
        let rows: Vec<_> = keys
            .iter()
            .map(|(key, order)| metadata::Metadata {
                key: (*key).into(),
                display_order: *order,
                display_name: key.to_uppercase(),
                script: format!("echo {key}"),
                interval_seconds: 10,
                timeout_seconds: 5,
                value: String::new(),
                error: String::new(),
                collected_at: None,
            })
            .collect();
        self.write(move |write| metadata::replace(write, agent, &rows));
    }

    pub(crate) fn declare_script(&self) -> Script {
        let script = Script {
            id: moorline::model::ScriptId::random(),
            log_source_id: LogSourceId::random(),
            display_name: "Start".into(),
            icon: String::new(),
            script: "echo hello".into(),
            cron: String::new(),
            log_path: String::new(),
            run_on_start: true,
            run_on_stop: false,
            start_blocks_login: true,
            timeout_seconds: 60,
            created_at: Timestamp(1),
        };
        let (agent, scripts) = (self.agent, vec![script.clone()]);
        self.write(move |write| scripts::replace(write, agent, &scripts));
        script
    }
}

fn open(folder: &std::path::Path, jobs: Jobs) -> Shared {
    let settings = harness::app::settings(folder, &[("disable_direct_connections", "true")]);
    Arc::new(harness::app::app(settings, "https://coder.example.com", jobs))
}

fn a_user(id: UserId) -> User {
    User {
        id,
        username: "alice".into(),
        email: "alice@example.com".into(),
        full_name: String::new(),
        password_hash: None,
        is_admin: false,
        status: Status::Active,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
        last_seen_at: None,
    }
}

/// A token of that user, good for a day.
pub(crate) fn a_key(user: UserId) -> ApiKey {
    let now = Timestamp::now();
    let day = Duration::from_secs(86_400);
    ApiKey {
        id: user.0.simple().to_string()[..10].to_owned(),
        user_id: user,
        secret_hash: vec![7; 32],
        login_type: LoginType::Password,
        token_name: String::new(),
        scope: Scope::All,
        lifetime_seconds: 86_400,
        ip: String::new(),
        created_at: now,
        updated_at: now,
        last_used_at: now,
        expires_at: now.plus(day),
    }
}

fn a_workspace(id: WorkspaceId, owner_id: UserId) -> Workspace {
    Workspace {
        id,
        owner_id,
        owner_name: "alice".into(),
        name: "dev".into(),
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
        last_used_at: Timestamp(1),
    }
}

pub(crate) fn an_agent(id: AgentId, workspace_id: WorkspaceId, name: &str) -> Agent {
    Agent {
        id,
        workspace_id,
        parent_id: None,
        name: name.into(),
        token_hash: tokens::agent_token_hash(id.0),
        token_sealed: vec![1],
        operating_system: "linux".into(),
        architecture: "amd64".into(),
        directory: "/home/alice".into(),
        environment: [("GREETING".to_owned(), "hello".to_owned())].into(),
        motd_file: String::new(),
        troubleshooting_url: "https://help.example.com".into(),
        connection_timeout_seconds: 120,
        display_apps: Vec::new(),
        instance_id: String::new(),
        instance_cloud: None,
        version: String::new(),
        api_version: String::new(),
        expanded_directory: String::new(),
        subsystems: Vec::new(),
        lifecycle_state: Lifecycle::Created,
        started_at: None,
        ready_at: None,
        first_connected_at: None,
        last_connected_at: None,
        disconnected_at: None,
        logs_length: 0,
        logs_overflowed: false,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    }
}

/// One stream and its loop.
pub(crate) struct Line {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) out: Out,
    pub(crate) now: Instant,
    /// The client takes nothing: what is written stays.
    pub(crate) stalled: bool,
    /// Bytes that the client has taken and the test not looked at.
    pub(crate) taken: Vec<u8>,
    mail: Receiver<(ConnId, Mail)>,
    _poll: mio::Poll,
    closed: bool,
}

impl Line {
    /// A loop of its own for `stream`.
    pub(crate) fn open(stream: Box<dyn Stream>) -> Line {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let (sender, mail) = sync_channel(MAILBOX_LETTERS);
        let address = Address { mailbox: Mailbox::new(sender, waker), conn: ConnId { slot: 1, generation: 1 } };
        let mut line = Line {
            stream,
            out: Out::default(),
            now: Instant::now(),
            stalled: false,
            taken: Vec::new(),
            mail,
            _poll: poll,
            closed: false,
        };
        line.call(|stream, now, out| stream.open(now, address, out));
        line
    }

    /// The stream of a user, after its first look at its session and its first read.
    pub(crate) fn open_settled(stream: Box<dyn Stream>) -> Line {
        let mut line = Line::open(stream);
        assert!(line.letter() && line.letter());
        line
    }

    fn call(&mut self, f: impl FnOnce(&mut dyn Stream, Instant, &mut Out)) {
        f(self.stream.as_mut(), self.now, &mut self.out);
        // The only neighbour on this loop is the stream itself.
        while self.out.wake.pop().is_some() {
            self.stream.woken(self.now, &mut self.out);
        }
        if self.stalled {
            self.out.backlog += self.out.bytes.len();
            self.taken.append(&mut self.out.bytes);
            return;
        }
        // A loop tells of an empty socket only if there was something in it.
        for _ in 0..10_000 {
            if self.out.bytes.is_empty() && self.out.backlog == 0 {
                return;
            }
            self.taken.append(&mut self.out.bytes);
            self.out.backlog = 0;
            self.stream.drained(self.now, &mut self.out);
        }
        panic!("a stream writes without end");
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.call(|stream, now, out| stream.receive(now, bytes, out));
    }

    /// Delivers one letter, waiting for it.
    pub(crate) fn letter(&mut self) -> bool {
        match self.mail.recv_timeout(SOON) {
            Ok((_, mail)) => {
                self.call(|stream, now, out| stream.mail(now, mail, out));
                true
            }
            Err(_) => false,
        }
    }

    /// Delivers the letters that are there.
    pub(crate) fn letters(&mut self) -> usize {
        let mut count = 0;
        while let Ok((_, mail)) = self.mail.try_recv() {
            self.call(|stream, now, out| stream.mail(now, mail, out));
            count += 1;
        }
        count
    }

    /// Lets time pass, with every tick that falls due on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..10_000 {
            match self.stream.deadline().filter(|due| *due <= until) {
                None => {
                    self.now = until;
                    return;
                }
                Some(due) => {
                    self.now = self.now.max(due);
                    self.call(|stream, now, out| stream.tick(now, out));
                }
            }
        }
        panic!("a stream ticks without end");
    }

    /// The client takes what was written meanwhile, and everything from now on.
    pub(crate) fn unstall(&mut self) {
        self.stalled = false;
        self.out.backlog = 0;
        self.call(|stream, now, out| stream.drained(now, out));
    }

    pub(crate) fn shutdown(&mut self) {
        self.call(|stream, now, out| stream.shutdown(now, out));
    }

    pub(crate) fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.stream.closed();
        }
    }

    /// What the client has taken since the last look.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.taken)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.close();
    }
}

/// A frame of the server.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Frame {
    Binary(Vec<u8>),
    Text(String),
    Ping(String),
    Close(u16, String),
}

/// Reads whole server frames off `bytes`.
pub(crate) fn frames(bytes: &[u8]) -> Vec<Frame> {
    let (mut frames, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (length, head) = match rest[1] {
            126 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
            127 => (usize::try_from(u64::from_be_bytes(rest[2..10].try_into().unwrap())).unwrap(), 10),
            short => (usize::from(short), 2),
        };
        assert!(rest[1] < 128, "servers do not mask");
        let payload = rest[head..head + length].to_vec();
        frames.push(match rest[0] {
            0x81 => Frame::Text(String::from_utf8(payload).unwrap()),
            0x82 => Frame::Binary(payload),
            0x88 => Frame::Close(
                u16::from_be_bytes([payload[0], payload[1]]),
                String::from_utf8(payload[2..].to_vec()).unwrap(),
            ),
            0x89 => Frame::Ping(String::from_utf8(payload).unwrap()),
            other => panic!("frame {other:x}"),
        });
        rest = &rest[head + length..];
    }
    frames
}

/// A client's frame.
pub(crate) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | u8::try_from(short).unwrap()),
        medium @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PONG: u8 = 10;
