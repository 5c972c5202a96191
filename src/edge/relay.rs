//! The private connections to the workers.
//!
//! Each loop has a fixed set of Unix-socket connections to tiny_http and puts one request at a time
//! on each, so a worker is never faster than its reader: the answer is taken off as quickly as it
//! is written, whatever the client's link. What finds no free connection waits in a bounded queue.
//!
//! A new connection is first tried with a request of our own. tiny_http 0.12 gives each connection
//! to a thread, and its pool can leave one behind that thread's present one for as long as that lives
//! (`util/task_pool.rs`: two arrivals may count on the same waiting thread). A client's request must
//! not end there, so a connection that does not answer in time is dropped and made again.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::{Interest, Registry};
use uuid::Uuid;

use super::slab::other_token;
use super::transport::retry;
use super::upstream::{Body, State, Upstream};
use crate::ops::budget::{Budget, Held};
use crate::ops::mail::ConnId;

/// Time for the answer to the trial request. Workers may all be busy, so not too short.
const TRIAL: Duration = Duration::from_secs(2);
/// Pause before a private connection is made again.
const RETRY: Duration = Duration::from_millis(20);
/// File descriptors that must be free before a private connection is made: one here, two at tiny_http,
/// and some for those who open files at the same moment.
const SPARE_FILES: usize = 8;

/// A request on its way to a worker.
pub(super) struct Request {
    pub(super) conn: ConnId,
    pub(super) id: Uuid,
    /// The head, and the body if it is not in `body`.
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// The answer has no body.
    pub(super) head_only: bool,
    pub(super) held: Held,
}

/// What came of a request.
pub(super) struct Answer {
    pub(super) conn: ConnId,
    pub(super) id: Uuid,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    /// The worker's answer: its head, then its body.
    Whole { head: Vec<u8>, body: Vec<u8>, held: Held },
    /// The worker ended, or wrote nonsense.
    Died,
    /// There was no memory for the answer.
    Overload,
}

/// The pool of one loop.
pub(super) struct Relay {
    path: PathBuf,
    secret: String,
    first_token: usize,
    upstreams: Vec<Upstream>,
    /// Free connections, the last used on top: its thread is warm.
    idle: Vec<usize>,
    queue: VecDeque<Request>,
    queue_limit: usize,
    budget: Budget,
    registry: Registry,
    scratch: Box<[u8]>,
    /// When a connection must be looked at again.
    due: Option<Instant>,
    /// What has been answered and not been taken yet.
    pub(super) answers: Vec<Answer>,
}

/// The queue is full.
pub(super) struct Full;

impl Relay {
    pub(super) fn new(
        path: PathBuf,
        secret: String,
        connections: usize,
        queue_limit: usize,
        first_token: usize,
        budget: Budget,
        registry: Registry,
    ) -> Relay {
        let now = Instant::now();
        let upstreams = (0..connections.max(1)).map(|_| Upstream {
            socket: None,
            state: State::Down { retry: now },
            output: Vec::new(),
            second: Vec::new(),
            written: 0,
            waits_to_write: false,
            input: Vec::new(),
            head: 0,
            body: Body::Unknown,
            keep_alive: true,
            held: budget.hold(),
            answered: false,
        });
        Relay {
            path,
            secret,
            first_token,
            upstreams: upstreams.collect(),
            idle: Vec::new(),
            queue: VecDeque::new(),
            queue_limit,
            budget,
            registry,
            scratch: vec![0; 64 * 1024].into(),
            due: Some(now),
            answers: Vec::new(),
        }
    }

    /// Hands a request to a worker, or queues it.
    pub(super) fn submit(&mut self, request: Request, now: Instant) -> Result<(), Full> {
        if let Some(index) = self.idle.pop() {
            self.start(index, request, now);
            return Ok(());
        }
        if self.queue.len() >= self.queue_limit {
            return Err(Full);
        }
        self.queue.push_back(request);
        Ok(())
    }

    /// The client is gone: what still waits is not sent. What is with a worker goes on, and its answer
    /// is thrown away by whoever takes it.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.queue.retain(|request| request.conn != conn);
    }

    /// When [`Relay::tick`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Makes connections that are due, and drops those that failed their trial.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        for index in 0..self.upstreams.len() {
            match self.upstreams.get(index).map(|upstream| &upstream.state) {
                Some(State::Down { retry }) if *retry <= now && !self.is_trying() => self.connect(index, now),
                Some(State::Trial { until }) if *until <= now => {
                    log::warn!("a private connection to the workers did not answer and is made again");
                    self.reset(index, now);
                }
                _ => {}
            }
        }
        let is_trying = self.is_trying();
        self.due = self
            .upstreams
            .iter()
            .filter_map(|upstream| match upstream.state {
                State::Down { retry } if !is_trying => Some(retry),
                State::Trial { until } => Some(until),
                _ => None,
            })
            .min();
    }

    /// Whether a connection waits for its first answer. There is one such at a time: tiny_http gives a
    /// burst of connections to fewer threads than there are and leaves the rest waiting
    /// (0.12, util/task_pool.rs counts a thread as free until it has woken up).
    fn is_trying(&self) -> bool {
        self.upstreams.iter().any(|upstream| matches!(upstream.state, State::Trial { .. }))
    }

    /// The socket of connection `index` has changed.
    pub(super) fn on_event(&mut self, index: usize, event: &mio::event::Event, now: Instant) {
        if event.is_writable() {
            self.write(index, now);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index, now, event.is_read_closed() || event.is_error());
        }
    }

    fn connect(&mut self, index: usize, now: Instant) {
        let token = other_token(self.first_token + index);
        // tiny_http's accepting thread ends for good when it finds no file descriptor (0.12, lib.rs and
        // util/refined_tcp_stream.rs), so it is not made to accept unless there are some.
        let spare: Result<Vec<File>, _> = (0..SPARE_FILES).map(|_| File::open("/dev/null")).collect();
        let made = spare.and_then(|_| UnixStream::connect(&self.path)).and_then(|mut socket| {
            // Readable only: a Unix socket would report each read of the other side as writable.
            self.registry.register(&mut socket, token, Interest::READABLE)?;
            Ok(socket)
        });
        let Some(upstream) = self.upstreams.get_mut(index) else { return };
        match made {
            Ok(socket) => {
                upstream.socket = Some(socket);
                upstream.state = State::Trial { until: now + TRIAL };
                upstream.output = format!(
                    "GET /healthz HTTP/1.1\r\nHost: edge\r\nX-Moorline-Secret: {}\r\nX-Moorline-Request-Id: {}\r\n\
                     X-Moorline-Peer: 127.0.0.1\r\nX-Moorline-Scheme: http\r\nX-Moorline-Trial: 1\r\n\r\n",
                    self.secret,
                    Uuid::new_v4()
                )
                .into_bytes();
                self.note_due(now + TRIAL);
                self.write(index, now);
            }
            Err(error) => {
                // WouldBlock: the listener's queue is full of our other connections.
                if error.kind() != ErrorKind::WouldBlock {
                    log::debug!("the workers cannot be reached: {error}");
                }
                upstream.state = State::Down { retry: now + RETRY };
                self.note_due(now + RETRY);
            }
        }
    }

    fn note_due(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn start(&mut self, index: usize, request: Request, now: Instant) {
        let Some(upstream) = self.upstreams.get_mut(index) else { return };
        upstream.state = State::Busy { conn: request.conn, id: request.id, head_only: request.head_only };
        upstream.output = request.head;
        upstream.second = request.body;
        upstream.written = 0;
        upstream.held = request.held;
        upstream.answered = false;
        self.write(index, now);
    }

    fn write(&mut self, index: usize, now: Instant) {
        let Some(upstream) = self.upstreams.get_mut(index) else { return };
        match upstream.write() {
            Ok(()) => {}
            // It may have answered before it ended; reading tells.
            Err(_) => return self.read(index, now, true),
        }
        let blocked = !upstream.output.is_empty();
        if blocked != upstream.waits_to_write
            && let Some(socket) = upstream.socket.as_mut()
        {
            upstream.waits_to_write = blocked;
            let interest = if blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            let token = other_token(self.first_token + index);
            if self.registry.reregister(socket, token, interest).is_err() {
                return self.reset(index, now);
            }
        }
        if !blocked && upstream.answered {
            self.release(index, now);
        }
    }

    /// Reads what there is. A short read means that there is no more, unless the worker has closed.
    fn read(&mut self, index: usize, now: Instant, to_the_end: bool) {
        loop {
            let Some(upstream) = self.upstreams.get_mut(index) else { return };
            let Some(socket) = upstream.socket.as_mut() else { return };
            let got = match retry(|| socket.read(&mut self.scratch)) {
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => 0,
            };
            if got == 0 {
                return self.reset(index, now);
            }
            let whole = match upstream.take(self.scratch.get(..got).unwrap_or_default()) {
                Ok(whole) => whole,
                Err(outcome) => {
                    self.answer(index, outcome);
                    return self.reset(index, now);
                }
            };
            if whole {
                self.finish(index, now);
            }
            if got < self.scratch.len() && !to_the_end {
                return;
            }
        }
    }

    /// An answer is complete.
    fn finish(&mut self, index: usize, now: Instant) {
        let Some(upstream) = self.upstreams.get_mut(index) else { return };
        let mut head = std::mem::take(&mut upstream.input);
        let body = match std::mem::replace(&mut upstream.body, Body::Unknown) {
            Body::Chunked(_, body) => {
                head.truncate(upstream.head);
                body
            }
            _ => head.split_off(upstream.head.min(head.len())),
        };
        upstream.head = 0;
        let held = std::mem::replace(&mut upstream.held, self.budget.hold());
        let keep_alive = upstream.keep_alive;
        self.answer(index, Outcome::Whole { head, body, held });
        let Some(upstream) = self.upstreams.get_mut(index) else { return };
        if !keep_alive {
            self.reset(index, now);
        } else if upstream.output.is_empty() {
            self.release(index, now);
        } else {
            upstream.answered = true;
        }
    }

    fn answer(&mut self, index: usize, outcome: Outcome) {
        if let Some(upstream) = self.upstreams.get_mut(index)
            && let State::Busy { conn, id, .. } = upstream.state
            && !upstream.answered
        {
            upstream.answered = true;
            self.answers.push(Answer { conn, id, outcome });
        }
    }

    /// Gives a connection its next request.
    fn release(&mut self, index: usize, now: Instant) {
        if self.upstreams.get(index).is_some_and(|upstream| matches!(upstream.state, State::Trial { .. })) {
            self.note_due(now); // the next one's turn
        }
        if let Some(request) = self.queue.pop_front() {
            return self.start(index, request, now);
        }
        if let Some(upstream) = self.upstreams.get_mut(index) {
            upstream.state = State::Idle;
            self.idle.push(index);
        }
    }

    /// Closes a connection; whoever waits for it is told.
    fn reset(&mut self, index: usize, now: Instant) {
        self.answer(index, Outcome::Died);
        self.idle.retain(|idle| *idle != index);
        let held = self.budget.hold();
        let Some(upstream) = self.upstreams.get_mut(index) else { return };
        upstream.socket = None;
        upstream.state = State::Down { retry: now + RETRY };
        upstream.output = Vec::new();
        upstream.second = Vec::new();
        upstream.written = 0;
        upstream.waits_to_write = false;
        upstream.input = Vec::new();
        upstream.head = 0;
        upstream.body = Body::Unknown;
        upstream.held = held;
        upstream.answered = false;
        self.note_due(now + RETRY);
    }
}
