//! The server's end of a WebSocket on which only the server speaks: pings, and how it ends.

use std::time::{Duration, Instant};

use super::Out;
use crate::config::limits::PING_PERIOD;
use crate::wire::websocket::{Event, WebSocket};

/// Largest message taken from a client that has nothing to say, bytes.
const CLIENT_MESSAGE_BYTES: usize = 4 * 1024;

/// The close code that tells a client to come back: the server restarts. Not 1000 or 1001, which read
/// as the orderly end of the data (codersdk/websocket.go, v2.24.0).
pub(super) const RESTART: u16 = 1012;
/// The close code for clients that may not have this any more, or send what they should not.
pub(super) const POLICY: u16 = 1008;
/// The close code of an orderly end.
pub(super) const NORMAL: u16 = 1000;
/// The close code of a failure on this side.
pub(super) const FAILURE: u16 = 1011;

/// A WebSocket that carries messages to a client.
pub(super) struct OneWay {
    socket: WebSocket,
    /// Close code for a data message from the client.
    on_data: u16,
    /// How long a pong may take; `None`: only a broken connection ends the socket.
    pong_within: Option<Duration>,
    pong_due: Option<Instant>,
    next_ping: Instant,
    pings: u64,
    ended: bool,
}

impl OneWay {
    pub(super) fn new(now: Instant, on_data: u16, pong_within: Option<Duration>) -> OneWay {
        OneWay {
            socket: WebSocket::server(CLIENT_MESSAGE_BYTES),
            on_data,
            pong_within,
            pong_due: None,
            next_ping: now + PING_PERIOD,
            pings: 0,
            ended: false,
        }
    }

    pub(super) fn text(&mut self, message: &str, out: &mut Out) {
        self.socket.text(message, &mut out.bytes);
    }

    pub(super) fn binary(&mut self, message: &[u8], out: &mut Out) {
        self.socket.binary(message, &mut out.bytes);
    }

    /// Nothing more will be said.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Closes the socket; the connection ends once that is written.
    pub(super) fn end(&mut self, code: u16, reason: &str, out: &mut Out) {
        self.socket.close(code, reason, &mut out.bytes);
        self.ended = true;
        out.finish = true;
    }

    pub(super) fn receive(&mut self, bytes: &[u8], out: &mut Out) {
        if self.ended {
            return;
        }
        let mut events = Vec::new();
        let result = self.socket.receive(bytes, &mut out.bytes, &mut events);
        for event in events {
            match event {
                Event::Pong(payload) if payload == self.pings.to_string().as_bytes() => self.pong_due = None,
                Event::Pong(_) => {}
                Event::Binary(_) | Event::Text(_) => self.end(self.on_data, "no messages are taken here", out),
                Event::Closed { .. } => {
                    self.ended = true;
                    out.finish = true;
                }
            }
        }
        if result.is_err() {
            // The codec has said why in its close frame.
            self.ended = true;
            out.finish = true;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.ended).then(|| self.pong_due.map_or(self.next_ping, |due| due.min(self.next_ping)))
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut Out) {
        if self.ended {
            return;
        }
        if self.pong_due.is_some_and(|due| now >= due) {
            return self.end(1001, "ping failed", out);
        }
        if now >= self.next_ping {
            self.next_ping = now + PING_PERIOD;
            // Payloads count up in ASCII (coder/websocket v1.8.13 conn.go Ping).
            self.pings += 1;
            self.socket.ping(self.pings.to_string().as_bytes(), &mut out.bytes);
            if self.pong_due.is_none() {
                self.pong_due = self.pong_within.map(|within| now + within);
            }
        }
    }

    /// The server stops: the client should come back.
    pub(super) fn shutdown(&mut self, out: &mut Out) {
        if !self.ended {
            self.end(RESTART, "the server is restarting", out);
        }
    }
}
