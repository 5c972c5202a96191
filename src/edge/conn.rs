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
use std::time::Instant;

use uuid::Uuid;

use super::Shared;
use super::answer::Asked;
use super::counters::Reason;
use super::driven::{Driven, Turn};
use super::exchange::{Refusal, Upload};
use super::flow::{Flow, Flows};
use super::listener::{Admission, Peer};
use super::relay::{Answer, Relay};
use super::transport::{Received, Scratch, Transport};
use crate::ops::budget::Held;
use crate::ops::mail::{ConnId, Mail, Mailbox};
use crate::streams::{Out, Stream};
use crate::wire::http::Scanner;

/// Bytes read from one connection in a round; then the others have their turn.
const ROUND_BYTES: usize = 256 * 1024;
/// Times that a stream may go on writing in one round because everything was taken.
const ROUND_DRAINS: usize = 8;

/// What a connection needs of its loop.
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) relay: Relay,
    pub(super) scratch: Scratch,
    pub(super) out: Out,
    pub(super) mailbox: Mailbox,
    /// Streams of this loop for which others have left something in this round.
    pub(super) woken: Vec<ConnId>,
    pub(super) flows: Flows,
    /// Streams that gather do so on another loop.
    pub(super) gathers_elsewhere: bool,
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
    /// Its stream has to begin on the loop where its kind gathers.
    Elsewhere,
    /// It is to be closed.
    Gone,
}

/// See above.
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) io: Transport,
    pub(super) peer: Peer,
    pub(super) state: State,
    /// Bytes received and not used yet: a part of a head, or what was sent too early.
    pub(super) input: Vec<u8>,
    /// `input` may hold a whole request: the answer that it had to wait for was queued.
    pub(super) look_again: bool,
    /// When the present state has lasted long enough.
    pub(super) patience: Option<Instant>,
    /// Since when the client has taken nothing, and how much it had taken by then.
    stalled: Option<(Instant, u64)>,
    /// The memory of an answer that the socket has not taken yet.
    pub(super) held: Option<Held>,
    /// See [`super::timers::Timers::arm`].
    pub(super) armed: Option<Instant>,
    /// Has mail of this round and waits for its turn.
    pub(super) in_line: bool,
    /// Packets that its stream has left for others, lately.
    flow: Flow,
    /// Its stream was not opened yet: that happens on another loop.
    pub(super) leaves: bool,
    _admission: Admission,
}

/// What it is at.
pub(super) enum State {
    Head { scanner: Scanner, begun: bool },
    Body(Box<Upload>),
    Waiting { id: Uuid, asked: Asked },
    Stream(Driven),
    Closing { ended: bool, discarded: usize },
}

/// The stream or its client wants the connection closed; no fault of the socket.
pub(super) fn gone() -> io::Error {
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
            flow: Flow::default(),
            leaves: false,
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
        // While nothing is read, this is how a client that is gone shows.
        if !self.wants_input() && (event.is_error() || event.is_write_closed()) {
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

    /// Another stream has left something for this one. It goes out at once and uncopied.
    pub(super) fn on_woken(&mut self, cx: &mut Context) -> Fate {
        let now = cx.now;
        match self.drive_through(cx, |stream, out| stream.woken(now, out)) {
            Ok(()) => self.run(cx),
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
        if self.leaves {
            return Ok(Fate::Elsewhere);
        }
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
                    self.drive_through(cx, |stream, out| stream.drained(now, out))?;
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

    /// Gives the stream, if this is one, a turn. What it writes is queued.
    pub(super) fn drive(&mut self, cx: &mut Context, call: impl FnOnce(&mut dyn Stream, &mut Out)) -> io::Result<()> {
        self.turn(cx, call)?;
        self.io.queue(&cx.out.bytes);
        self.bound(cx)
    }

    /// As [`Conn::drive`], and what it writes goes out at once.
    fn drive_through(&mut self, cx: &mut Context, call: impl FnOnce(&mut dyn Stream, &mut Out)) -> io::Result<()> {
        self.turn(cx, call)?;
        self.io.send(&cx.out.bytes)?;
        self.bound(cx)
    }

    fn turn(&mut self, cx: &mut Context, call: impl FnOnce(&mut dyn Stream, &mut Out)) -> io::Result<()> {
        cx.out.bytes.clear();
        let State::Stream(driven) = &mut self.state else { return Ok(()) };
        let turn = driven.turn(self.io.pending(), &mut cx.out, call);
        cx.woken.append(&mut cx.out.wake);
        if cx.out.packets > 0 {
            cx.flows.count(&mut self.flow, cx.out.packets, cx.now);
        }
        if turn == Turn::Aborts { Err(gone()) } else { Ok(()) }
    }

    /// Drops a client that does not read.
    fn bound(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.io.pending() > cx.shared.limits.stream_backlog {
            self.io.flush()?;
            if self.io.pending() > cx.shared.limits.stream_backlog {
                cx.shared.tally.refuse(Reason::Backlog);
                return Err(gone());
            }
        }
        Ok(())
    }
}
