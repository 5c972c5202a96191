//! The life of a connection that carries calls: bytes in and out, pings, silence, how it ends.

use std::time::{Duration, Instant};

use super::super::socket::{FAILURE, POLICY, RESTART};
use super::super::{Out, Stream};
use super::calls::Calls;
use super::coordination::Gone;
use super::side::{Heard, Side};
use crate::config::limits::{AGENT_INACTIVE, PING_PERIOD, STREAM_HIGH_WATER, STREAM_MESSAGE_BYTES};
use crate::ops::mail::{Address, Mail};
use crate::wire::websocket::{self, WebSocket};
use crate::wire::yamux;

/// How long a stopping server waits for the calls that are under way, and for the agent to let go of them:
/// an agent whose connection ends between an answer and its own end of the call asks again, and a log
/// line would be stored twice.
const LAST_CALLS: Duration = Duration::from_secs(2);
/// Close code for text where only bytes are spoken.
const NOT_BINARY: u16 = 1003;

/// What the peer is told when the server stops, and how the connection's end is noted.
const STOPPED: &str = "server stopped";

/// A connection.
pub(super) struct Connection {
    socket: WebSocket,
    calls: Calls,
    opened: bool,
    pings: u32,
    next_ping: Instant,
    last_pong: Instant,
    stage: Stage,
    /// Why the connection ended, for the audit log.
    reason: &'static str,
    /// How its peer leaves the tailnet.
    gone: Gone,
    /// Bytes that the client has not taken, as of the last call.
    backlog: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The server stops: calls under way are answered until this instant, then comes the goodbye.
    Leaving(Instant),
    Over,
}

impl Connection {
    /// A connection with `side` at its other end.
    pub(super) fn start(side: Side) -> Box<dyn Stream> {
        let now = Instant::now();
        Box::new(Connection {
            socket: WebSocket::server(side.may_hold().1),
            calls: Calls::new(side),
            opened: false,
            pings: 0,
            next_ping: now + PING_PERIOD,
            last_pong: now,
            stage: Stage::Open,
            reason: "",
            gone: Gone::Lost,
            backlog: 0,
        })
    }

    fn over(&mut self, reason: &'static str, out: &mut Out) {
        if self.stage != Stage::Over {
            self.stage = Stage::Over;
            self.reason = reason;
            out.finish = true;
        }
    }

    fn close(&mut self, code: u16, text: &str, reason: &'static str, out: &mut Out) {
        self.flush(out);
        self.socket.close(code, text, &mut out.bytes);
        self.over(reason, out);
    }

    /// Hands the multiplexer's bytes to the WebSocket. Message borders mean nothing to the peer, but
    /// older builds take no message above 32 KiB.
    fn flush(&mut self, out: &mut Out) {
        let mut bytes = Vec::new();
        self.calls.mux.take_output(&mut bytes);
        for chunk in bytes.chunks(STREAM_MESSAGE_BYTES) {
            self.socket.binary(chunk, &mut out.bytes);
        }
        self.measure(out);
    }

    fn measure(&mut self, out: &Out) {
        self.backlog = out.backlog + out.bytes.len();
        self.calls.held = self.backlog > STREAM_HIGH_WATER;
    }

    fn multiplexed(&mut self, now: Instant, bytes: &[u8], out: &mut Out) {
        match self.calls.receive(now, bytes) {
            Ok(true) => self.heard(now),
            Ok(false) => {}
            Err(error) => self.close(FAILURE, &error.to_string(), "protocol error", out),
        }
    }

    /// A sign of life.
    fn heard(&mut self, now: Instant) {
        self.last_pong = now;
        self.calls.side.seen();
    }

    /// The peer may not be here any more: its partners are told at once, so that tunnels end, too.
    fn withdrawn(&mut self, text: &'static str, out: &mut Out) {
        self.gone = Gone::Withdrawn;
        self.close(POLICY, text, "token withdrawn", out);
        self.calls.close(Gone::Withdrawn);
    }

    fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving(_))
    }

    /// What every call from the loop ends with.
    fn settle(&mut self, now: Instant, out: &mut Out) {
        if self.stage == Stage::Over {
            return self.measure(out);
        }
        self.measure(out);
        self.calls.settle(now, self.is_leaving());
        match self.stage {
            Stage::Leaving(until) if self.calls.is_idle() || now >= until => {
                self.gone = Gone::Stopping;
                self.close(RESTART, "the server is restarting", STOPPED, out);
            }
            _ => self.flush(out),
        }
    }
}

impl Stream for Connection {
    fn open(&mut self, now: Instant, address: Address, out: &mut Out) {
        self.opened = true;
        self.calls.open(now, address);
        self.next_ping = now + PING_PERIOD;
        self.last_pong = now;
        self.settle(now, out);
    }

    fn receive(&mut self, now: Instant, bytes: &[u8], out: &mut Out) {
        if self.stage == Stage::Over {
            return;
        }
        let mut events = Vec::new();
        let result = self.socket.receive(bytes, &mut out.bytes, &mut events);
        for event in events {
            if self.stage == Stage::Over {
                return;
            }
            match event {
                websocket::Event::Binary(bytes) => self.multiplexed(now, &bytes, out),
                websocket::Event::Text(_) => {
                    self.close(NOT_BINARY, "this stream carries binary messages", "protocol error", out);
                }
                websocket::Event::Pong(_) => self.heard(now),
                websocket::Event::Closed { .. } => self.over("closed by the agent", out),
            }
        }
        if result.is_err() {
            // The codec has said why in its close frame.
            self.over("protocol error", out);
        }
        self.settle(now, out);
    }

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        if self.stage == Stage::Over {
            return;
        }
        match self.calls.side.mail(now, mail) {
            Heard::Withdrawn(text) => self.withdrawn(text, out),
            Heard::Nothing => {}
            Heard::Other(Mail::Close { code, reason }) => self.close(code, reason, reason, out),
            Heard::Other(mail) => self.calls.mail(now, mail),
        }
        self.settle(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        let until = match self.stage {
            Stage::Over => return None,
            Stage::Leaving(until) => Some(until),
            Stage::Open => None,
        };
        let pings = self.next_ping.min(self.last_pong + AGENT_INACTIVE);
        Some([until, self.calls.deadline(self.is_leaving())].into_iter().flatten().fold(pings, Instant::min))
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        if self.stage == Stage::Over {
            return;
        }
        let silent = now.duration_since(self.last_pong) >= AGENT_INACTIVE;
        if silent || self.calls.is_stuck(now) {
            let text = if silent { "ping timeout" } else { "the peer does not read" };
            self.close(FAILURE, text, text, out);
            // Nobody reads there: what cannot be written at once is not waited for.
            out.abort = out.backlog > 0;
            return;
        }
        self.calls.side.tick(now);
        if now >= self.next_ping {
            self.next_ping = now + PING_PERIOD;
            self.calls.mux.ping(self.pings);
            self.pings = self.pings.wrapping_add(1);
            if self.calls.side.wants_websocket_pings() {
                // Payloads count up in ASCII (coder/websocket v1.8.13 conn.go Ping).
                self.socket.ping(self.pings.to_string().as_bytes(), &mut out.bytes);
            }
            self.calls.check_place();
            if let Some(address) = &self.calls.address {
                self.calls.side.mend(address);
            }
        }
        self.settle(now, out);
    }

    fn drained(&mut self, now: Instant, out: &mut Out) {
        self.settle(now, out);
    }

    fn wants_input(&self) -> bool {
        self.backlog <= STREAM_HIGH_WATER
    }

    fn shutdown(&mut self, now: Instant, out: &mut Out) {
        if self.stage != Stage::Open {
            return;
        }
        // The agent's next call fails and it dials again; calls that were begun are answered first, so
        // that it does not repeat what is stored.
        self.calls.mux.go_away(yamux::NORMAL);
        self.stage = Stage::Leaving(now + LAST_CALLS);
        self.settle(now, out);
    }

    fn closed(&mut self) {
        if !std::mem::take(&mut self.opened) {
            return;
        }
        // A server that stops tells nobody of anybody: all of them come back.
        let gone = if self.is_leaving() { Gone::Stopping } else { self.gone };
        self.calls.close(gone);
        self.calls.side.closed(if self.reason.is_empty() { "connection lost" } else { self.reason });
    }
}
