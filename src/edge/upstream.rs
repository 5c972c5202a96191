//! One private connection to the workers: its request, and the answer as it comes in.

use std::io::{self, ErrorKind, Write};
use std::time::Instant;

use mio::net::UnixStream;
use uuid::Uuid;

use super::relay::Outcome;
use super::transport::retry;
use crate::ops::budget::Held;
use crate::ops::mail::ConnId;
use crate::wire::chunked::Decoder;
use crate::wire::http::{Framing, parse_response_head};

/// Largest head of a worker's answer, bytes; ours, so this only catches a fault.
const ANSWER_HEAD_BYTES: usize = 256 * 1024;

/// What it is at.
pub(super) enum State {
    Down { retry: Instant },
    Trial { until: Instant },
    Idle,
    Busy { conn: ConnId, id: Uuid, head_only: bool },
}

/// What is known of the answer's body.
pub(super) enum Body {
    /// The head is not complete yet.
    Unknown,
    Length(u64),
    Chunked(Box<Decoder>, Vec<u8>),
}

/// See above.
pub(super) struct Upstream {
    pub(super) socket: Option<UnixStream>,
    pub(super) state: State,
    pub(super) output: Vec<u8>,
    /// A large body, written after `output` without having been copied behind it.
    pub(super) second: Vec<u8>,
    pub(super) written: usize,
    pub(super) waits_to_write: bool,
    pub(super) input: Vec<u8>,
    pub(super) head: usize,
    pub(super) body: Body,
    pub(super) keep_alive: bool,
    pub(super) held: Held,
    /// The answer came before the request was written.
    pub(super) answered: bool,
}

impl Upstream {
    /// Writes what the socket takes. Afterwards `output` is empty if and only if all was written.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let Some(socket) = self.socket.as_mut() else { return Ok(()) };
        while !self.output.is_empty() {
            let first = self.output.get(self.written..).unwrap_or_default();
            let second = self.second.get(self.written.saturating_sub(self.output.len())..).unwrap_or_default();
            let parts = [io::IoSlice::new(first), io::IoSlice::new(second)];
            let result = retry(|| match (first.is_empty(), second.is_empty()) {
                (false, true) => socket.write(first),
                (true, _) => socket.write(second),
                (false, false) => socket.write_vectored(&parts),
            });
            match result {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => self.written += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.written >= self.output.len() + self.second.len() {
                self.output = Vec::new();
                self.second = Vec::new();
                self.written = 0;
            }
        }
        Ok(())
    }

    /// Takes bytes of an answer; says whether it is complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<bool, Outcome> {
        let head_only = match self.state {
            State::Busy { head_only, .. } if !self.answered => head_only,
            State::Trial { .. } => false,
            // Nobody asked.
            _ => return Err(Outcome::Died),
        };
        if let Body::Chunked(decoder, body) = &mut self.body {
            let used = decoder.decode(bytes, body).map_err(|_| Outcome::Died)?;
            if !self.held.cover(self.head + body.len()) {
                return Err(Outcome::Overload);
            }
            return whole(decoder.is_done(), used == bytes.len());
        }
        self.input.extend_from_slice(bytes);
        if !self.held.cover(self.input.len()) {
            return Err(Outcome::Overload);
        }
        if let Body::Unknown = self.body {
            let Some(head) = parse_response_head(&self.input).map_err(|_| Outcome::Died)? else {
                return if self.input.len() > ANSWER_HEAD_BYTES { Err(Outcome::Died) } else { Ok(false) };
            };
            self.head = head.size;
            self.keep_alive = head.keep_alive;
            let no_body = head_only || matches!(head.status, 204 | 304);
            match head.framing {
                _ if no_body => self.body = Body::Length(0),
                Framing::Length(length) => self.body = Body::Length(length),
                // An answer that ends with the connection cannot be told from one cut short.
                Framing::None => return Err(Outcome::Died),
                Framing::Chunked => {
                    let mut decoder = Box::new(Decoder::new(u64::MAX));
                    let mut body = Vec::new();
                    let start = self.input.get(self.head..).unwrap_or_default();
                    let used = decoder.decode(start, &mut body).map_err(|_| Outcome::Died)?;
                    let complete = used == start.len();
                    self.input.truncate(self.head);
                    let done = decoder.is_done();
                    self.body = Body::Chunked(decoder, body);
                    return whole(done, complete);
                }
            }
        }
        let Body::Length(length) = self.body else { return Ok(false) };
        let have = u64::try_from(self.input.len().saturating_sub(self.head)).unwrap_or(u64::MAX);
        if have > length { Err(Outcome::Died) } else { Ok(have == length) }
    }
}

/// A complete answer is followed by nothing: there was one request.
fn whole(done: bool, all_used: bool) -> Result<bool, Outcome> {
    if all_used { Ok(done) } else { Err(Outcome::Died) }
}
