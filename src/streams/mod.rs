//! Long-lived sockets: what happens on a connection after its request was answered with an upgrade
//! or with an endless body.
//!
//! A stream is a state machine that the loop owning its socket drives: bytes, mail and time in,
//! bytes out. It never waits; work that may wait goes to the `rpc` pool and comes back as mail.

pub mod containers;
pub mod derp;
pub mod derp_map;
pub mod echo;
pub mod ended;
pub mod file;
pub mod later;
pub mod listen;
pub mod logs;
pub mod metadata;
pub mod reinit;
pub mod rpc;
pub mod terminal;
pub mod workspace;

mod errand;
mod events;
mod line;
mod signed_in;
mod socket;
mod watching;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use uuid::Uuid;

pub use line::Form;
pub use watching::Visitor;

use crate::ops::mail::{Address, ConnId, Mail};

/// What a stream writes, and what it asks of its loop.
#[derive(Default)]
pub struct Out {
    /// Bytes for the client, appended by the stream and drained by the loop (after TLS, if any).
    pub bytes: Vec<u8>,
    /// Set to end the connection once `bytes` is written.
    pub finish: bool,
    /// Set to drop the connection at once, unwritten bytes included.
    pub abort: bool,
    /// Bytes of earlier rounds that the client has not taken yet; set by the loop before each call.
    pub backlog: usize,
    /// Other sockets of the same loop for which this turn has left something: each gets a
    /// [`Stream::woken`] in the same round.
    pub wake: Vec<ConnId>,
    /// Packets that this turn has left for other sockets; the loop takes many of them together.
    pub packets: u64,
}

/// A long-lived connection.
pub trait Stream: Send {
    /// Called once, after the response head was queued. `address` is where mail for this stream goes.
    fn open(&mut self, now: Instant, address: Address, out: &mut Out);

    /// Bytes from the client.
    fn receive(&mut self, now: Instant, bytes: &[u8], out: &mut Out);

    /// Mail from other threads.
    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out);

    /// Another socket of the same loop has left something for this one: see [`Out::wake`].
    fn woken(&mut self, now: Instant, out: &mut Out) {
        let _ = (now, out);
    }

    /// Whether streams of this kind leave things for each other all the time, so that all of them
    /// should live on one loop.
    fn gathers(&self) -> bool {
        false
    }

    /// When [`Stream::tick`] is due; asked after every call.
    fn deadline(&self) -> Option<Instant>;

    /// The deadline has passed.
    fn tick(&mut self, now: Instant, out: &mut Out);

    /// The client has taken all that was written. A stream that held back more may go on.
    fn drained(&mut self, now: Instant, out: &mut Out) {
        let _ = (now, out);
    }

    /// Whether the loop should read from the client. `false` pushes back through TCP.
    fn wants_input(&self) -> bool {
        true
    }

    /// The server is stopping: say goodbye in a way that makes the client come back (1012, or
    /// dropping the connection), and set [`Out::finish`]: at once, or, to answer what is under way first,
    /// in a later turn within the grace of the stop (`limits::SHUTDOWN_GRACE`), which ends the
    /// connection in any case.
    fn shutdown(&mut self, now: Instant, out: &mut Out);

    /// The connection is gone, for whatever reason. Called exactly once, last.
    fn closed(&mut self);
}

/// How the connection is answered before its stream takes over.
pub enum Start {
    /// `101 Switching Protocols` to WebSocket; the handler has checked the handshake.
    WebSocket(Box<dyn Stream>),
    /// `200` with an endless `text/event-stream` body; the stream writes HTTP chunks.
    Events(Box<dyn Stream>),
    /// Nothing is written for it: the stream's own first bytes answer the request.
    Raw(Box<dyn Stream>),
}

impl Start {
    /// The stream, however it begins.
    pub fn into_stream(self) -> Box<dyn Stream> {
        match self {
            Start::WebSocket(stream) | Start::Events(stream) | Start::Raw(stream) => stream,
        }
    }
}

/// Streams that a handler has made and whose connection the edge has not handed over yet, by
/// request id. A request has one at most, and the edge takes it with the response, so the table
/// holds no more than the requests being answered. Cloning gives another handle to the same table.
#[derive(Clone, Default)]
pub struct Arrivals {
    waiting: Arc<Mutex<HashMap<Uuid, Start>>>,
}

impl Arrivals {
    /// Leaves a stream for the edge to take when it sees the response to `request`.
    pub fn put(&self, request: Uuid, start: Start) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(request, start);
    }

    /// Takes the stream of `request`.
    pub fn take(&self, request: Uuid) -> Option<Start> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&request)
    }
}
