//! Server-sent events in an endless chunked body.
//!
//! Go's reader takes nothing but `event: NAME` lines, each followed by one `data: ` line unless it is a
//! ping (codersdk/serversentevents.go ServerSentEventReader, v2.24.0): no comments, ids or retry times.

use std::io::Write;
use std::time::Instant;

use super::Out;
use crate::config::limits::PING_PERIOD;

/// An event stream to a client.
pub(super) struct Events {
    next_ping: Instant,
    ended: bool,
}

impl Events {
    pub(super) fn new(now: Instant) -> Events {
        Events { next_ping: now + PING_PERIOD, ended: false }
    }

    /// `json` is one line.
    pub(super) fn data(&mut self, json: &str, out: &mut Out) {
        self.chunk(&["event: data\ndata: ", json, "\n\n"], out);
    }

    /// Says that the stream is alive.
    pub(super) fn ping(&self, out: &mut Out) {
        self.chunk(&["event: ping\n\n"], out);
    }

    pub(super) fn error(&mut self, json: &str, out: &mut Out) {
        self.chunk(&["event: error\ndata: ", json, "\n\n"], out);
    }

    /// Nothing more will be said.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Ends the body; the connection ends once that is written.
    pub(super) fn end(&mut self, out: &mut Out) {
        if !self.ended {
            out.bytes.extend_from_slice(b"0\r\n\r\n");
            self.ended = true;
            out.finish = true;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.ended).then_some(self.next_ping)
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut Out) {
        if now >= self.next_ping {
            self.next_ping = now + PING_PERIOD;
            // A client that takes nothing needs no further pings to find out that it is there.
            if out.backlog == 0 {
                self.ping(out);
            }
        }
    }

    fn chunk(&self, parts: &[&str], out: &mut Out) {
        if self.ended {
            return;
        }
        let length: usize = parts.iter().map(|part| part.len()).sum();
        // Writing to memory does not fail.
        let _ = write!(out.bytes, "{length:x}\r\n");
        for part in parts {
            out.bytes.extend_from_slice(part.as_bytes());
        }
        out.bytes.extend_from_slice(b"\r\n");
    }
}
