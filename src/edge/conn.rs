//! One public connection, from accept to close.
//!
//! ```text
//!        ┌───────────── answer queued, keep-alive ──────────────┐
//!        ▼                                                      │
//!      Head ──► Body ──► Waiting ──► (worker's answer) ─────────┤
//!        │        │         └──► takeover ──► Stream            │
//!        └────────┴── refused ──► Closing ◄── last answer ──────┘
//! ```
//! A pipelined request is read only when the answer before it was taken by the socket, so a client
//! costs one answer at most.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use uuid::Uuid;

use super::Shared;
use super::answer::{self, Asked};
use super::budget::Held;
use super::counters::Reason;
use super::door;
use super::driven::{Driven, Turn};
use super::forwarded;
use super::listener::{Admission, Peer};
use super::relay::{Answer, Outcome, Relay, Request};
use super::request::{self, Origin};
use super::transport::{Received, Scratch, Transport};
use crate::ops::mail::{Address, ConnId, Mail, Mailbox};
use crate::streams::{Out, Start, Stream};
use crate::wire::chunked::{ChunkError, Decoder};
use crate::wire::http::{Framing, HeadError, ResponseHead, Scanner, parse_response_head, parse_whole_head};

/// Bytes read from one connection in a round; then the others have their turn.
const ROUND_BYTES: usize = 256 * 1024;
/// Bytes of a refused request that are read over before its connection is closed hard.
const LINGER_BYTES: usize = 4 * 1024 * 1024;
/// Times that a stream may go on writing in one round because everything was taken.
const ROUND_DRAINS: usize = 8;

/// What a connection needs of its loop.
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) relay: Relay,
    pub(super) scratch: Scratch,
    pub(super) out: Out,
    pub(super) mailbox: Mailbox,
    /// The time of this round.
    pub(super) now: Instant,
    pub(super) stopping: bool,
}

/// What becomes of a connection after its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It waits for an event.
    Stay,
    /// It has more to do, after the others.
    Again,
    /// It is to be closed.
    Gone,
}

pub(super) struct Conn {
    id: ConnId,
    io: Transport,
    peer: Peer,
    state: State,
    /// Bytes received and not used yet: a part of a head, or what was sent too early.
    input: Vec<u8>,
    /// `input` may hold a whole request: the answer that it had to wait for was queued.
    look_again: bool,
    /// When the present state has lasted long enough.
    patience: Option<Instant>,
    /// Since when the client has taken nothing, and how much it had taken by then.
    stalled: Option<(Instant, u64)>,
    /// The memory of an answer that the socket has not taken yet.
    held: Option<Held>,
    /// See [`super::timers::Timers::arm`].
    pub(super) armed: Option<Instant>,
    /// Has mail of this round and waits for its turn.
    pub(super) in_line: bool,
    _admission: Admission,
}

enum State {
    Head { scanner: Scanner, begun: bool },
    Body(Box<Upload>),
    Waiting { id: Uuid, asked: Asked },
    Stream(Driven),
    Closing { ended: bool, discarded: usize },
}

/// A request whose body is on its way.
struct Upload {
    id: Uuid,
    asked: Asked,
    head: Vec<u8>,
    body: Vec<u8>,
    rest: Rest,
    held: Held,
}

enum Rest {
    Length(usize),
    Chunked(Decoder),
}

/// Why a request is refused.
struct Refusal(u16, &'static str, Reason);

/// The stream or its client wants the connection closed; no fault of the socket.
fn gone() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl Conn {
    pub(super) fn new(id: ConnId, io: Transport, peer: Peer, admission: Admission, cx: &Context) -> Conn {
        Conn {
            id,
            io,
            peer,
            state: State::Head { scanner: Scanner::default(), begun: false },
            input: Vec::new(),
            look_again: false,
            // The first head is due from accept on, handshake included.
            patience: Some(cx.now + cx.shared.limits.head_deadline),
            stalled: None,
            held: None,
            armed: None,
            in_line: false,
            _admission: admission,
        }
    }

    /// Whether a worker is busy with its request, or will be.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// The socket has changed.
    pub(super) fn on_event(&mut self, event: &mio::event::Event, cx: &mut Context) -> Fate {
        self.io.on_event(event);
        // While a worker is busy nothing is read, so this is how a client that is gone shows.
        if self.is_waiting() && (event.is_error() || event.is_write_closed()) {
            return Fate::Gone;
        }
        self.run(cx)
    }

    /// Mail for the stream. What it writes goes out when the connection runs.
    pub(super) fn on_mail(&mut self, mail: Mail, cx: &mut Context) -> Fate {
        let now = cx.now;
        match self.drive(cx, |stream, out| stream.mail(now, mail, out)) {
            Ok(()) => Fate::Stay,
            Err(_) => Fate::Gone,
        }
    }

    /// A worker is done with the request.
    pub(super) fn on_answer(&mut self, answer: Answer, cx: &mut Context) -> Fate {
        match self.state {
            State::Waiting { id, asked } if id == answer.id => {
                if self.answered(answer, asked, cx).is_err() {
                    return Fate::Gone;
                }
                self.run(cx)
            }
            _ => Fate::Stay,
        }
    }

    /// A deadline may have passed.
    pub(super) fn on_time(&mut self, cx: &mut Context) -> Fate {
        let now = cx.now;
        let limits = &cx.shared.limits;
        if let Some((since, sent)) = self.stalled
            && since + limits.write_stall <= now
        {
            // The kernel tells of room only when a third of its buffer is free, which takes a slow link
            // longer than this: asking shows whether anything at all was taken.
            if self.io.try_again().is_err() || self.io.sent == sent {
                cx.shared.tally.refuse(Reason::Stalled);
                return Fate::Gone;
            }
            return self.run(cx);
        }
        if let State::Stream(driven) = &self.state {
            if driven.deadline().is_none_or(|due| due > now) {
                return Fate::Stay;
            }
            if self.drive(cx, |stream, out| stream.tick(now, out)).is_err() {
                return Fate::Gone;
            }
            return self.run(cx);
        }
        if self.patience.is_none_or(|patience| patience > now) {
            return Fate::Stay;
        }
        let message = match self.state {
            State::Head { begun: true, .. } => "The request head did not arrive in time.",
            State::Body(_) => "The request body did not arrive in time.",
            _ => return Fate::Gone,
        };
        match self.refuse(Refusal(408, message, Reason::Slow), cx) {
            Ok(()) => self.run(cx),
            Err(_) => Fate::Gone,
        }
    }

    /// The server stops.
    pub(super) fn on_stop(&mut self, cx: &mut Context) -> Fate {
        let now = cx.now;
        match &mut self.state {
            State::Head { begun: false, .. } if self.io.pending() == 0 => {
                self.io.end_output();
                return Fate::Gone;
            }
            State::Head { begun: false, .. } => self.close_when_written(),
            State::Stream(_) => {
                let told = self.drive(cx, |stream, out| stream.shutdown(now, out));
                if told.is_err() {
                    return Fate::Gone;
                }
            }
            _ => {}
        }
        self.run(cx)
    }

    /// When [`Conn::on_time`] is due.
    pub(super) fn deadline(&self, shared: &Shared) -> Option<Instant> {
        let of_state = match &self.state {
            State::Stream(driven) => driven.deadline(),
            _ => self.patience,
        };
        let of_writing = self.stalled.map(|(since, _)| since + shared.limits.write_stall);
        of_state.into_iter().chain(of_writing).min()
    }

    /// Does everything that can be done now.
    pub(super) fn run(&mut self, cx: &mut Context) -> Fate {
        let fate = self.try_run(cx).unwrap_or_else(|error| {
            if error.kind() == io::ErrorKind::InvalidData {
                log::debug!("a TLS connection was dropped: {error}");
                cx.shared.tally.refuse(Reason::Tls);
            }
            Fate::Gone
        });
        self.stalled = match (self.io.pending(), self.stalled) {
            (0, _) => {
                self.held = None;
                None
            }
            (_, Some((since, sent))) if sent == self.io.sent => Some((since, sent)),
            _ => Some((cx.now, self.io.sent)),
        };
        fate
    }

    fn try_run(&mut self, cx: &mut Context) -> io::Result<Fate> {
        let mut room = ROUND_BYTES;
        loop {
            self.io.flush()?;
            if self.is_settled(cx)? {
                return Ok(Fate::Gone);
            }
            if matches!(&self.state, State::Stream(driven) if driven.wrote && self.io.pending() == 0) {
                return Ok(Fate::Again);
            }
            if !self.wants_input() {
                return Ok(Fate::Stay);
            }
            if std::mem::take(&mut self.look_again) {
                let input = std::mem::take(&mut self.input);
                self.take(&input, cx)?;
                continue;
            }
            if !self.io.readable {
                return Ok(Fate::Stay);
            }
            if room == 0 {
                return Ok(Fate::Again);
            }
            let mut scratch = std::mem::take(&mut cx.scratch);
            let received = self.io.receive(&mut scratch);
            let result = match received {
                Ok(Received::Bytes(got)) => {
                    room = room.saturating_sub(got);
                    self.receive(scratch.plain.get(..got).unwrap_or_default(), cx)
                }
                Ok(Received::Nothing) => Ok(()),
                // The last answer is still due to a client that has only ended its own direction.
                Ok(Received::End) if matches!(self.state, State::Closing { ended: false, .. }) => Ok(()),
                // Half a request, an idle connection or a stream: all end here.
                Ok(Received::End) => Err(gone()),
                Err(error) => Err(error),
            };
            cx.scratch = scratch;
            result?;
        }
    }

    /// What to do when the socket has taken everything. Says whether the connection is over.
    fn is_settled(&mut self, cx: &mut Context) -> io::Result<bool> {
        for _ in 0..ROUND_DRAINS {
            if self.io.pending() > 0 {
                return Ok(false);
            }
            let now = cx.now;
            match &mut self.state {
                State::Stream(driven) if driven.finish => self.close_when_written(),
                State::Stream(driven) if driven.wrote => {
                    driven.wrote = false;
                    self.drive(cx, |stream, out| stream.drained(now, out))?;
                    self.io.flush()?;
                }
                State::Closing { ended, .. } if !*ended => {
                    *ended = true;
                    self.io.end_output();
                    self.patience = Some(now + cx.shared.limits.linger);
                    return Ok(self.io.half_closed && !self.io.readable);
                }
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    fn wants_input(&self) -> bool {
        match &self.state {
            State::Head { .. } => self.io.pending() == 0,
            State::Body(_) | State::Closing { .. } => true,
            State::Waiting { .. } => false,
            State::Stream(driven) => driven.wants_input(),
        }
    }

    /// Bytes from the client.
    fn receive(&mut self, bytes: &[u8], cx: &mut Context) -> io::Result<()> {
        if self.input.is_empty() {
            return self.take(bytes, cx);
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        self.take(&input, cx)
    }

    /// Uses as much as the state allows and keeps the rest.
    fn take(&mut self, mut bytes: &[u8], cx: &mut Context) -> io::Result<()> {
        loop {
            match &mut self.state {
                State::Head { scanner, begun } => {
                    if bytes.is_empty() {
                        return Ok(());
                    }
                    if self.io.pending() > 0 {
                        self.look_again = true;
                        break;
                    }
                    match scanner.scan(bytes, cx.shared.limits.head()) {
                        Ok(Some(end)) => {
                            let (head, rest) = bytes.split_at(end.min(bytes.len()));
                            bytes = rest;
                            if let Err(refusal) = self.request(head, !rest.is_empty(), cx)? {
                                self.refuse(refusal, cx)?;
                            }
                        }
                        Ok(None) => {
                            if !std::mem::replace(begun, true) {
                                let due = cx.now + cx.shared.limits.head_deadline;
                                self.patience = Some(self.patience.map_or(due, |patience| patience.min(due)));
                            }
                            break;
                        }
                        Err(error) => self.refuse(error.into(), cx)?,
                    }
                }
                State::Body(upload) => match upload.take(bytes) {
                    Ok((used, done)) => {
                        bytes = bytes.get(used..).unwrap_or_default();
                        if !done {
                            return Ok(());
                        }
                        self.submit(cx)?;
                    }
                    Err(refusal) => self.refuse(refusal, cx)?,
                },
                State::Waiting { .. } => break,
                State::Stream(_) => {
                    let now = cx.now;
                    if bytes.is_empty() {
                        return Ok(());
                    }
                    return self.drive(cx, |stream, out| stream.receive(now, bytes, out));
                }
                State::Closing { discarded, .. } => {
                    *discarded += bytes.len();
                    return if *discarded > LINGER_BYTES { Err(gone()) } else { Ok(()) };
                }
            }
        }
        self.input.extend_from_slice(bytes);
        Ok(())
    }

    /// A complete head. `Ok(Err(…))` is a request that is refused.
    fn request(&mut self, head: &[u8], has_more: bool, cx: &mut Context) -> io::Result<Result<(), Refusal>> {
        let shared = Arc::clone(&cx.shared);
        let limits = &shared.limits;
        let head = match parse_whole_head(head, limits.head()) {
            Ok(head) => head,
            Err(error) => return Ok(Err(error.into())),
        };
        let id = Uuid::new_v4();
        let asked =
            Asked { head_only: head.method == "HEAD", old: head.old, keep_alive: head.keep_alive && !cx.stopping };
        if head.target == "*" {
            if head.framing != Framing::None && head.framing != Framing::Length(0) {
                return Ok(Err(Refusal(400, "This request may have no body.", Reason::Head)));
            }
            let mut out = Vec::new();
            answer::empty(&shared.version, id, asked, &mut out);
            return self.answer_with(out, asked, cx).map(Ok);
        }
        let limit = match &self.peer {
            Peer::Client(_) => door::body_limit(head.method, head.target, limits),
            Peer::Operator(_) => limits.admin_body_bytes,
        };
        let rest = match head.framing {
            Framing::None => Rest::Length(0),
            Framing::Length(length) => match usize::try_from(length).ok().filter(|length| *length <= limit) {
                Some(length) => Rest::Length(length),
                None => return Ok(Err(ChunkError::TooLarge.into())),
            },
            Framing::Chunked => Rest::Chunked(Decoder::new(u64::try_from(limit).unwrap_or(u64::MAX))),
        };

        let (peer, secure, operator) = match &self.peer {
            Peer::Client(peer) => {
                let (client, secure) =
                    forwarded::client(*peer, self.io.is_secure(), &head.fields, &shared.trusted_proxies);
                (Some(client), secure, None)
            }
            Peer::Operator(name) => (None, false, Some(&**name)),
        };
        let origin = Origin { secret: &shared.secret, id, peer, secure, operator };
        let mut out = Vec::new();
        request::begin_head(&head, &origin, &mut out);
        if let Rest::Length(length) = rest {
            request::end_head(head.framing, length, &mut out);
        }
        let is_whole = matches!(rest, Rest::Length(0));
        let upload = Upload { id, asked, head: out, body: Vec::new(), rest, held: shared.budget.hold() };
        self.state = State::Body(Box::new(upload));
        if is_whole {
            return self.submit(cx).map(Ok);
        }
        self.patience = Some(cx.now + limits.body_deadline);
        if head.expects_continue && !has_more {
            self.io.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        Ok(Ok(()))
    }

    /// A complete request: off to a worker.
    fn submit(&mut self, cx: &mut Context) -> io::Result<()> {
        let State::Body(upload) = &mut self.state else { return Ok(()) };
        let (id, asked) = (upload.id, upload.asked);
        let request = Request {
            conn: self.id,
            id,
            head: std::mem::take(&mut upload.head),
            body: std::mem::take(&mut upload.body),
            head_only: asked.head_only,
            held: std::mem::replace(&mut upload.held, cx.shared.budget.hold()),
        };
        self.patience = None;
        self.state = State::Waiting { id, asked };
        match cx.relay.submit(request, cx.now) {
            Ok(()) => {
                cx.shared.tally.requests.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(super::relay::Full) => self.fail(
                503,
                "The server has more requests than it can take. Try again soon.",
                Reason::Overload,
                id,
                asked,
                cx,
            ),
        }
    }

    fn answered(&mut self, answer: Answer, asked: Asked, cx: &mut Context) -> io::Result<()> {
        let asked = Asked { keep_alive: asked.keep_alive && !cx.stopping, ..asked };
        let id = answer.id;
        let died = "The server failed while it worked on this request.";
        let (head, body, held) = match answer.outcome {
            Outcome::Whole { head, body, held } => (head, body, held),
            Outcome::Died => return self.fail(500, died, Reason::Worker, id, asked, cx),
            Outcome::Overload => {
                let message = "The server has no memory left for this answer. Try again soon.";
                return self.fail(503, message, Reason::Overload, id, asked, cx);
            }
        };
        let Ok(Some(head)) = parse_response_head(&head) else {
            return self.fail(500, died, Reason::Worker, id, asked, cx);
        };
        if head.fields.iter().any(|field| field.is("x-moorline-takeover")) {
            return self.take_over(&head, id, asked, cx);
        }
        // tiny_http's own words for a request that its worker dropped.
        if head.status == 500 && body.is_empty() && !head.fields.iter().any(|field| field.is("content-type")) {
            return self.fail(500, died, Reason::Worker, id, asked, cx);
        }
        let mut out = Vec::new();
        answer::relay(&head, &body, asked, &mut out);
        drop(body);
        self.held = Some(held);
        self.answer_with(out, asked, cx)
    }

    /// The answer makes this a long-lived connection.
    fn take_over(&mut self, head: &ResponseHead<'_>, id: Uuid, asked: Asked, cx: &mut Context) -> io::Result<()> {
        let mut out = Vec::new();
        let stream = match cx.shared.arrivals.take(id) {
            Some(Start::WebSocket(stream)) => {
                answer::websocket(head, &mut out);
                stream
            }
            Some(Start::Events(stream)) => {
                answer::events(head, &mut out);
                stream
            }
            None => {
                let message = "The server failed while it worked on this request.";
                return self.fail(500, message, Reason::Worker, id, asked, cx);
            }
        };
        let driven = Driven::new(stream, Arc::clone(&cx.shared));
        if asked.old {
            drop(driven);
            return self.fail(426, "This needs HTTP/1.1.", Reason::Head, id, asked, cx);
        }
        self.io.queue(&out);
        self.state = State::Stream(driven);
        self.patience = None;
        let now = cx.now;
        let address = Address { mailbox: cx.mailbox.clone(), conn: self.id };
        self.drive(cx, |stream, out| stream.open(now, address, out))?;
        if cx.stopping {
            self.drive(cx, |stream, out| stream.shutdown(now, out))?;
        }
        let early = std::mem::take(&mut self.input);
        if early.is_empty() { Ok(()) } else { self.drive(cx, |stream, out| stream.receive(now, &early, out)) }
    }

    /// Gives the stream, if this is one, a turn. What it writes is queued.
    fn drive(&mut self, cx: &mut Context, call: impl FnOnce(&mut dyn Stream, &mut Out)) -> io::Result<()> {
        let State::Stream(driven) = &mut self.state else { return Ok(()) };
        let turn = driven.turn(self.io.pending(), &mut cx.out, call);
        if turn == Turn::Aborts {
            return Err(gone());
        }
        self.io.queue(&cx.out.bytes);
        if self.io.pending() > cx.shared.limits.stream_backlog {
            self.io.flush()?;
            if self.io.pending() > cx.shared.limits.stream_backlog {
                cx.shared.tally.refuse(Reason::Backlog);
                return Err(gone());
            }
        }
        Ok(())
    }

    /// Answers with an error after a request that was read completely.
    fn fail(
        &mut self,
        status: u16,
        message: &str,
        reason: Reason,
        id: Uuid,
        asked: Asked,
        cx: &mut Context,
    ) -> io::Result<()> {
        // A stream that was made for this request has nobody to talk to.
        if let Some(Start::WebSocket(stream) | Start::Events(stream)) = cx.shared.arrivals.take(id) {
            drop(Driven::new(stream, Arc::clone(&cx.shared)));
        }
        cx.shared.tally.refuse(reason);
        let mut out = Vec::new();
        answer::error(status, message, &cx.shared.version, id, asked, &mut out);
        self.answer_with(out, asked, cx)
    }

    /// Answers with an error and closes: where the next request would begin is unknown.
    fn refuse(&mut self, Refusal(status, message, reason): Refusal, cx: &mut Context) -> io::Result<()> {
        cx.shared.tally.refuse(reason);
        let asked = Asked { head_only: false, old: false, keep_alive: false };
        let mut out = Vec::new();
        answer::error(status, message, &cx.shared.version, Uuid::new_v4(), asked, &mut out);
        self.answer_with(out, asked, cx)
    }

    fn answer_with(&mut self, out: Vec<u8>, asked: Asked, cx: &mut Context) -> io::Result<()> {
        self.io.send_all(out)?;
        if asked.keep_alive {
            self.state = State::Head { scanner: Scanner::default(), begun: false };
            self.patience = Some(cx.now + cx.shared.limits.idle);
            self.look_again = !self.input.is_empty();
        } else {
            self.close_when_written();
        }
        Ok(())
    }

    fn close_when_written(&mut self) {
        self.state = State::Closing { ended: false, discarded: 0 };
        // Until all is written, only the client's patience counts: see `stalled`.
        self.patience = None;
        self.input = Vec::new();
        self.look_again = false;
    }
}

impl Upload {
    /// Takes bytes of the body; says how many, and whether it is complete.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Refusal> {
        let (used, done) = match &mut self.rest {
            Rest::Length(left) => {
                let used = bytes.len().min(*left);
                self.body.extend_from_slice(bytes.get(..used).unwrap_or_default());
                *left -= used;
                (used, *left == 0)
            }
            Rest::Chunked(decoder) => {
                let used = decoder.decode(bytes, &mut self.body)?;
                if decoder.is_done() {
                    request::end_head(Framing::Chunked, self.body.len(), &mut self.head);
                }
                (used, decoder.is_done())
            }
        };
        if !self.held.cover(self.body.capacity()) {
            return Err(Refusal(
                503,
                "The server has no memory left for this request. Try again soon.",
                Reason::Overload,
            ));
        }
        Ok((used, done))
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Refusal {
        Refusal(error.status(), error.sentence(), Reason::Head)
    }
}

impl From<ChunkError> for Refusal {
    fn from(error: ChunkError) -> Refusal {
        let status = if error == ChunkError::TooLarge { 413 } else { 400 };
        Refusal(status, error.sentence(), Reason::Body)
    }
}
