//! A connection of the relay: its greeting, its frames, its life signs.
//!
//! ```text
//! Greeting ── ClientInfo ──► Open (key unknown: a stranger, for a while) ──► ended
//!     └────── late, wrong ──────────────────────────────────────────────────┘
//! ```

mod carrier;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

use self::carrier::{Carrier, Ended};
use super::socket::RESTART;
use super::{Out, Stream};
use crate::model::NodeKey;
use crate::ops::mail::{Address, Mail};
use crate::ops::metrics::relay::{Drop as Cause, End};
use crate::ops::places::Place;
use crate::ops::spare::Spare;
use crate::tailnet::derp::{PortId, STRANGER_STAY, Sent, Switch, Turn};
use crate::wire::derp::{self, Gone, Pieces, Sink, TooLong, kind};

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
/// Pings answered of one read; a client has one under way.
const PONGS: u32 = 4;
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
            rate: Rate { bytes_per_second, left: bytes_per_second, at: now },
            keep_alive: now + KEEP_ALIVE,
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
}

/// What a client may send.
struct Rate {
    bytes_per_second: u64,
    left: u64,
    at: Instant,
}

impl Rate {
    /// Whether so many more bytes are within the rate: a second's worth may come at once, and one packet always.
    fn allows(&mut self, bytes: usize, now: Instant) -> bool {
        if self.bytes_per_second == 0 {
            return true;
        }
        let passed = u64::try_from(now.saturating_duration_since(self.at).as_micros()).unwrap_or(u64::MAX);
        let more = u128::from(passed) * u128::from(self.bytes_per_second) / 1_000_000;
        if more > 0 {
            let most = self.burst();
            self.left = u64::try_from(more).unwrap_or(most).saturating_add(self.left).min(most);
            self.at = now;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let allows = self.left >= bytes;
        if allows {
            self.left -= bytes;
        }
        allows
    }

    fn burst(&self) -> u64 {
        if self.bytes_per_second == 0 {
            return 0;
        }
        self.bytes_per_second.max(u64::try_from(derp::PACKET_BYTES).unwrap_or(u64::MAX))
    }
}

/// Why a connection is ended in the middle of its bytes.
enum Fault {
    Greeting(String),
    Protocol(String),
}

impl From<TooLong> for Fault {
    fn from(TooLong { kind, length }: TooLong) -> Fault {
        let text = format!("A frame of kind {kind:#04x} claims {length} bytes.");
        if kind == kind::CLIENT_INFO { Fault::Greeting(text) } else { Fault::Protocol(text) }
    }
}

/// One read's frames on their way to the switch.
struct Frames<'a, 't> {
    peer: &'a mut Peer,
    turn: &'a mut Turn<'t>,
    control: &'a mut Vec<u8>,
    now: Instant,
    pongs: u32,
}

impl Sink for Frames<'_, '_> {
    type Fault = Fault;

    fn spare(&mut self) -> &mut Spare {
        self.turn.spare()
    }

    fn most(&self, kind: u8) -> Option<usize> {
        match kind {
            kind::CLIENT_INFO => Some(derp::CLIENT_INFO_BYTES),
            // Whatever it is, it is no greeting.
            _ if self.peer.port.is_none() => Some(0),
            kind::SEND_PACKET => Some(derp::KEY_BYTES + derp::PACKET_BYTES),
            kind::PING => Some(derp::PING_BYTES),
            kind::NOTE_PREFERRED => Some(1),
            kind::WATCH_CONNS | kind::CLOSE_PEER | kind::FORWARD_PACKET => Some(0),
            _ => None,
        }
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), Fault> {
        let Some(port) = self.peer.port else { return self.greet(kind, payload) };
        match kind {
            kind::SEND_PACKET => {
                let Some((to, packet)) = payload.split_first_chunk::<{ derp::KEY_BYTES }>() else {
                    return Err(Fault::Protocol("A packet has no destination.".into()));
                };
                let to = NodeKey(*to);
                if !self.peer.rate.allows(packet.len(), self.now) {
                    self.turn.dropped(Cause::Rate);
                } else if self.turn.send(port, &to, packet, self.now) == Sent::NotHere {
                    derp::peer_gone(&to, Gone::NotHere, self.control);
                }
                Ok(())
            }
            kind::PING => {
                let Some(data) = payload.first_chunk::<{ derp::PONG_BYTES }>() else {
                    return Err(Fault::Protocol("A ping has fewer than eight bytes.".into()));
                };
                if self.pongs < PONGS {
                    self.pongs += 1;
                    derp::frame(kind::PONG, data, self.control);
                }
                Ok(())
            }
            kind::NOTE_PREFERRED => {
                let [home] = payload else {
                    return Err(Fault::Protocol("A note about the home region is not one byte.".into()));
                };
                self.turn.prefer(port, *home != 0);
                Ok(())
            }
            kind::CLIENT_INFO => Err(Fault::Protocol("A second greeting came.".into())),
            _ => Err(Fault::Protocol("Meshes of relays are not served here.".into())),
        }
    }
}

impl Frames<'_, '_> {
    /// The first frame says who the client is, and proves it.
    fn greet(&mut self, kind: u8, payload: &[u8]) -> Result<(), Fault> {
        if kind != kind::CLIENT_INFO {
            return Err(Fault::Greeting(format!("The first frame is of kind {kind:#04x}, which is no greeting.")));
        }
        let peer = &mut *self.peer;
        let client = peer.relay.secret().open(payload).map_err(|error| Fault::Greeting(error.to_string()))?;
        let mut nonce = [0; 24];
        let random = SystemRandom::new().fill(&mut nonce);
        let (Ok(()), Some(address)) = (random, peer.address.clone()) else {
            return Err(Fault::Greeting("The greeting cannot be answered.".into()));
        };
        let rate = &peer.rate;
        client.greeting.server_info(nonce, rate.bytes_per_second, rate.burst(), self.control);
        let spread = nonce.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        peer.keep_alive = self.now + KEEP_ALIVE + Duration::from_millis(spread % JITTER_MILLIS);
        peer.port = Some(self.turn.join(client.key, address, self.now));
        Ok(())
    }
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
        self.stranger_since.is_none_or(|since| now.saturating_duration_since(since) < STRANGER_STAY)
    }

    /// Ends the connection. What is unwritten goes with it: who it is for does not read, or has broken the rules.
    fn end(&self, why: End, text: &str, out: &mut Out) {
        self.relay.metrics().ended(why);
        log::debug!("a relay connection is ended: {text}");
        out.abort = true;
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
        let mut frames = Frames { peer: &mut self.peer, turn: &mut turn, control: &mut control, now, pongs: 0 };
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
            Err(Ended::Fault(Fault::Greeting(text))) => self.peer.end(End::Greeting, &text, out),
            Err(Ended::Fault(Fault::Protocol(text))) => self.peer.end(End::Protocol, &text, out),
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
        if self.peer.port.is_none() {
            return Some(self.opened + GREETING_WITHIN);
        }
        let stay = self.peer.stranger_since.map(|since| since + STRANGER_STAY);
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
