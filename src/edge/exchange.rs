//! Requests and answers of a connection: from bytes to a worker, and from a worker to bytes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::answer::{self, Asked};
use super::conn::{Conn, Context, State, gone};
use super::counters::Reason;
use super::door;
use super::driven::Driven;
use super::forwarded;
use super::listener::Peer;
use super::relay::{Answer, Full, Outcome, Request};
use super::request::{self, Origin};
use crate::ops::budget::Held;
use crate::ops::mail::Address;
use crate::streams::Start;
use crate::wire::chunked::{ChunkError, Decoder};
use crate::wire::http::{Framing, HeadError, ResponseHead, Scanner, parse_response_head, parse_whole_head};

/// Bytes of a refused request that are read over before its connection is closed hard.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// A request whose body is on its way.
pub(super) struct Upload {
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
pub(super) struct Refusal(pub(super) u16, pub(super) &'static str, pub(super) Reason);

impl Conn {
    /// Bytes from the client.
    pub(super) fn receive(&mut self, bytes: &[u8], cx: &mut Context) -> io::Result<()> {
        if self.input.is_empty() {
            return self.take(bytes, cx);
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        self.take(&input, cx)
    }

    /// Uses as much as the state allows and keeps the rest.
    pub(super) fn take(&mut self, mut bytes: &[u8], cx: &mut Context) -> io::Result<()> {
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
        let limit = door::body_limit(head.method, head.target, matches!(self.peer, Peer::Operator(_)), limits);
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
            Err(Full) => self.fail(
                503,
                "The server has more requests than it can take. Try again soon.",
                Reason::Overload,
                id,
                asked,
                cx,
            ),
        }
    }

    pub(super) fn answered(&mut self, answer: Answer, asked: Asked, cx: &mut Context) -> io::Result<()> {
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
        let start = cx.shared.arrivals.take(id);
        // Neither upgrades nor chunks are for HTTP/1.0.
        let too_old = asked.old && matches!(start, Some(Start::WebSocket(_) | Start::Events(_)));
        let stream = match start {
            Some(Start::WebSocket(stream)) => {
                answer::websocket(head, &mut out);
                stream
            }
            Some(Start::Events(stream)) => {
                answer::events(head, &mut out);
                stream
            }
            Some(Start::Raw(stream)) => stream,
            None => {
                let message = "The server failed while it worked on this request.";
                return self.fail(500, message, Reason::Worker, id, asked, cx);
            }
        };
        let driven = Driven::new(stream, Arc::clone(&cx.shared));
        if too_old {
            drop(driven);
            return self.fail(426, "This needs HTTP/1.1.", Reason::Head, id, asked, cx);
        }
        self.io.queue(&out);
        self.state = State::Stream(driven);
        self.patience = None;
        let State::Stream(driven) = &self.state else { return Ok(()) };
        if driven.gathers() && cx.gathers_elsewhere {
            self.leaves = true;
            return Ok(());
        }
        self.begin_stream(cx)
    }

    /// Opens the stream on the loop on which it will live.
    pub(super) fn begin_stream(&mut self, cx: &mut Context) -> io::Result<()> {
        let now = cx.now;
        let address = Address { mailbox: cx.mailbox.clone(), conn: self.id };
        self.drive(cx, |stream, out| stream.open(now, address, out))?;
        if cx.stopping {
            self.drive(cx, |stream, out| stream.shutdown(now, out))?;
        }
        let early = std::mem::take(&mut self.input);
        if early.is_empty() { Ok(()) } else { self.drive(cx, |stream, out| stream.receive(now, &early, out)) }
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
        if let Some(start) = cx.shared.arrivals.take(id) {
            drop(Driven::new(start.into_stream(), Arc::clone(&cx.shared)));
        }
        cx.shared.tally.refuse(reason);
        let mut out = Vec::new();
        answer::error(status, message, &cx.shared.version, id, asked, &mut out);
        self.answer_with(out, asked, cx)
    }

    /// Answers with an error and closes: where the next request would begin is unknown.
    pub(super) fn refuse(&mut self, Refusal(status, message, reason): Refusal, cx: &mut Context) -> io::Result<()> {
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

    pub(super) fn close_when_written(&mut self) {
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
