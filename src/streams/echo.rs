//! A WebSocket that sends back what it gets: whether a path lets WebSockets through (coder v2.24.0
//! coderd/healthcheck/websocket.go).

use std::time::{Duration, Instant};

use super::socket::{POLICY, RESTART};
use super::watching::{News, Visitor, Watching};
use super::{Out, Stream};
use crate::config::limits::STREAM_HIGH_WATER;
use crate::domain::Shared;
use crate::ops::mail::{Address, Mail};
use crate::wire::websocket::{Event, WebSocket};

/// Largest message, bytes, as the real server reads them.
const MESSAGE_BYTES: usize = 32 * 1024;
/// How long a client may say nothing.
const QUIET: Duration = Duration::from_secs(10);
/// The close code with which the real server ends a quiet one.
const GOING_AWAY: u16 = 1001;

/// Echoes until the visitor is quiet for ten seconds, or their session ends.
pub fn echo(app: Shared, visitor: Visitor) -> Box<dyn Stream> {
    Box::new(Echo {
        watching: Watching::of(app, Vec::new(), visitor, None),
        socket: WebSocket::server(MESSAGE_BYTES),
        quiet_at: Instant::now() + QUIET,
        ended: false,
    })
}

struct Echo {
    watching: Watching,
    socket: WebSocket,
    quiet_at: Instant,
    ended: bool,
}

impl Echo {
    fn end(&mut self, code: u16, reason: &str, out: &mut Out) {
        if !self.ended {
            self.socket.close(code, reason, &mut out.bytes);
        }
        self.ended = true;
        out.finish = true;
    }
}

impl Stream for Echo {
    fn open(&mut self, now: Instant, address: Address, _out: &mut Out) {
        self.quiet_at = now + QUIET;
        self.watching.open(now, address);
    }

    fn receive(&mut self, now: Instant, bytes: &[u8], out: &mut Out) {
        if self.ended {
            return;
        }
        self.quiet_at = now + QUIET;
        let mut events = Vec::new();
        let result = self.socket.receive(bytes, &mut out.bytes, &mut events);
        for event in events {
            match event {
                Event::Binary(message) => self.socket.binary(&message, &mut out.bytes),
                Event::Text(message) => self.socket.text(&message, &mut out.bytes),
                Event::Pong(_) => {}
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
        } else if out.backlog + out.bytes.len() > STREAM_HIGH_WATER {
            self.end(POLICY, "what was sent back is not read", out);
        }
    }

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        if let News::End(code, reason) = self.watching.mail(now, mail) {
            self.end(code, reason, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let quiet_at = (!self.ended).then_some(self.quiet_at)?;
        Some(self.watching.deadline().map_or(quiet_at, |look| look.min(quiet_at)))
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        self.watching.tick(now);
        if now >= self.quiet_at {
            self.end(GOING_AWAY, "goodbye", out);
        }
    }

    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        self.end(RESTART, "the server is restarting", out);
    }

    fn closed(&mut self) {
        self.watching.close();
    }
}
