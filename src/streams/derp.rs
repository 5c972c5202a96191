//! A connection of the relay: its greeting, its frames, its life signs.
//!
//! ```text
//! Greeting ── ClientInfo ──► Open (key unknown: a stranger, for a while) ──► ended
//!     └────── late, wrong ──────────────────────────────────────────────────┘
//! ```

mod carrier;
mod frames;
mod rate;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use self::carrier::{Carrier, Ended};
use self::frames::{Fault, Frames};
use self::rate::Rate;
use super::socket::RESTART;
use super::{Out, Stream};
use crate::config::limits::RELAY_STRANGER_STAY;
use crate::ops::mail::{Address, Mail};
use crate::ops::metrics::relay::End;
use crate::ops::places::Place;
use crate::tailnet::derp::{PortId, Switch, Turn};
use crate::wire::derp::{self, Pieces, kind};

/// Time for a client's greeting (derp/derp_server.go accept).
const GREETING_WITHIN: Duration = Duration::from_secs(10);
/// Time between two signs of life. A client hangs up after 120 s without any, and the real server sends one a
/// minute (derp/derp_server.go); proxies cut idle sockets after as little as 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// Up to this much is added, so that connections of the same moment do not stay in step, milliseconds.
const JITTER_MILLIS: u64 = 3_000;
/// A connection from which nothing was heard for this long is gone: its client was pinged six times.
const SILENT: Duration = Duration::from_secs(180);
/// Time between two looks at whether the key is still known.
const LOOK: Duration = Duration::from_secs(10);
/// Bytes that the client has not taken at which it is not read from: what it sends makes answers.
const HIGH_WATER: usize = 256 * 1024;

/// How a connection is carried.
pub enum By {
    /// Its frames follow the head of an answer, if there is one.
    Upgrade {
        /// The request asked for none (`Derp-Fast-Start`).
        fast_start: bool,
    },
    /// Binary messages of a WebSocket.
    WebSocket,
}

/// A connection of the relay. `place` is its address's place among those whose keys are not known;
/// `bytes_per_second` is what its client may send, 0 for any amount.
pub fn connection(relay: Switch, by: By, place: Place<IpAddr>, bytes_per_second: u64) -> Box<dyn Stream> {
    let now = Instant::now();
    Box::new(Connection {
        carrier: Carrier::new(by),
        pieces: Pieces::default(),
        peer: Peer {
            relay,
            address: None,
            port: None,
            place: Some(place),
            stranger_since: Some(now),
            rate: Rate::new(bytes_per_second, now),
            keep_alive: now + KEEP_ALIVE,
            ended: false,
        },
        heard: now,
        opened: now,
        look: now + LOOK,
        full: false,
    })
}

struct Connection {
    carrier: Carrier,
    pieces: Pieces,
    peer: Peer,
    opened: Instant,
    /// When its client last said anything.
    heard: Instant,
    /// When to look next whether its key is known.
    look: Instant,
    /// It has not taken much of what it was given.
    full: bool,
}

/// What frames act on.
struct Peer {
    relay: Switch,
    address: Option<Address>,
    /// Present once it has proven its key.
    port: Option<PortId>,
    /// Held while its key is not known.
    place: Option<Place<IpAddr>>,
    stranger_since: Option<Instant>,
    rate: Rate,
    keep_alive: Instant,
    /// It is being ended, and why was counted.
    ended: bool,
}

impl Peer {
    /// Notes whether its key is known by now; `false` when it has been unknown for too long.
    fn is_welcome(&mut self, now: Instant, turn: &mut Turn<'_>) -> bool {
        if self.port.is_some_and(|port| turn.is_known(port)) {
            self.stranger_since = None;
            self.place = None;
        } else if self.stranger_since.is_none() {
            self.stranger_since = Some(now);
        }
        self.stranger_since.is_none_or(|since| now.saturating_duration_since(since) < RELAY_STRANGER_STAY)
    }

    /// Ends the connection. What is unwritten goes with it: who it is for does not read, or has broken the rules.
    fn end(&mut self, why: End, text: &str, out: &mut Out) {
        out.abort = true;
        if !std::mem::replace(&mut self.ended, true) {
            self.relay.metrics().ended(why);
            log::debug!("a relay connection is ended: {text}");
        }
    }
}

impl Connection {
    /// Bytes from the client.
    fn take(&mut self, now: Instant, bytes: &[u8], out: &mut Out) {
        self.full = out.backlog > HIGH_WATER;
        let relay = self.peer.relay.clone();
        let mut turn = relay.turn();
        let mut control = turn.spare().take();
        if let Some(port) = self.peer.port {
            turn.heard(port);
        }
        let mut frames = Frames::new(&mut self.peer, &mut turn, &mut control, now);
        let result = self.carrier.receive(bytes, &mut self.pieces, &mut frames, &mut out.bytes);
        self.carrier.write(&control, out);
        turn.spare().give(control);
        if self.peer.stranger_since.is_some() {
            self.peer.is_welcome(now, &mut turn);
        }
        self.end_turn(turn, out);
        match result {
            Ok(()) => {}
            Err(Ended::Closed) => out.finish = true,
            Err(Ended::WebSocket(error)) => {
                log::debug!("a relay connection is ended: {error}");
                self.peer.relay.metrics().ended(End::Protocol);
                out.finish = true;
            }
            Err(Ended::Fault(Fault(text))) => {
                let why = if self.peer.port.is_none() { End::Greeting } else { End::Protocol };
                self.peer.end(why, &text, out);
            }
        }
    }

    /// Gives the client what waits for it.
    fn give(&mut self, out: &mut Out) {
        let Some(port) = self.peer.port else { return };
        let relay = self.peer.relay.clone();
        let blocked = out.backlog > 0;
        let mut turn = relay.turn();
        if !self.carrier.write_taken(&mut turn, out, |turn, bytes| turn.take(port, blocked, bytes)) {
            self.peer.end(End::Overrun, "it takes nothing of what it is told", out);
        }
    }

    fn end_turn(&self, turn: Turn<'_>, out: &mut Out) {
        out.packets = turn.packets();
        match &self.peer.address {
            Some(own) => turn.end(own, &mut out.wake),
            None => turn.end_with_mail(),
        }
    }
}

impl Stream for Connection {
    fn open(&mut self, now: Instant, address: Address, out: &mut Out) {
        self.opened = now;
        self.heard = now;
        self.peer.stranger_since = Some(now);
        self.peer.address = Some(address);
        self.carrier.open(self.peer.relay.secret(), out);
    }

    fn receive(&mut self, now: Instant, bytes: &[u8], out: &mut Out) {
        self.heard = now;
        self.take(now, bytes, out);
    }

    fn mail(&mut self, _now: Instant, mail: Mail, out: &mut Out) {
        match mail {
            Mail::Inbox { .. } => self.give(out),
            Mail::Close { code, reason } => {
                self.carrier.close(code, reason, out);
                out.finish = true;
            }
            _ => {}
        }
    }

    fn woken(&mut self, _now: Instant, out: &mut Out) {
        self.give(out);
    }

    fn drained(&mut self, _now: Instant, out: &mut Out) {
        self.full = false;
        self.give(out);
    }

    fn deadline(&self) -> Option<Instant> {
        if self.peer.ended {
            return None;
        }
        if self.peer.port.is_none() {
            return Some(self.opened + GREETING_WITHIN);
        }
        let stay = self.peer.stranger_since.map(|since| since + RELAY_STRANGER_STAY);
        Some(stay.into_iter().fold(self.look.min(self.peer.keep_alive), Instant::min))
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        if self.peer.port.is_none() {
            if now >= self.opened + GREETING_WITHIN {
                self.peer.end(End::Greeting, "its greeting is late", out);
            }
            return;
        }
        if now >= self.look {
            self.look = now + LOOK;
        }
        let relay = self.peer.relay.clone();
        let welcome = self.peer.is_welcome(now, &mut relay.turn());
        if !welcome {
            return self.peer.end(End::Stranger, "the coordinator does not know its key", out);
        }
        if now >= self.peer.keep_alive {
            self.peer.keep_alive = now + KEEP_ALIVE;
            if now.saturating_duration_since(self.heard) >= SILENT {
                return self.peer.end(End::Silent, "nothing is heard of it", out);
            }
            let mut signs = Vec::new();
            derp::frame(kind::KEEP_ALIVE, &[], &mut signs);
            if now.saturating_duration_since(self.heard) >= KEEP_ALIVE {
                derp::frame(kind::PING, &[0; derp::PONG_BYTES], &mut signs);
            }
            self.carrier.write(&signs, out);
        }
        self.give(out);
    }

    fn wants_input(&self) -> bool {
        !self.full
    }

    fn gathers(&self) -> bool {
        true
    }

    /// Clients come back within five seconds; a sign of their own for it is not among the frames that they obey.
    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        self.carrier.close(RESTART, "the server is restarting", out);
        out.finish = true;
    }

    fn closed(&mut self) {
        let mut turn = self.peer.relay.turn();
        self.pieces.end(turn.spare());
        if let Some(port) = self.peer.port.take() {
            turn.leave(port);
        }
        turn.end_with_mail();
    }
}
