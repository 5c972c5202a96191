//! yamux: many streams over one byte stream, as hashicorp/yamux v0.1.2 speaks it with its default
//! settings, which is what Coder agents and clients use.
//!
//! The caller drives time: it decides when to [`Session::ping`] and what a missing answer means.
//! A session keeps no received payload (it is handed on as it arrives, even mid-frame) and is about
//! 100 bytes while no stream is open.

use std::fmt;

use self::frame::{HEADER_BYTES, Header, Kind, flags};
use self::stream::Stream;

pub mod frame;
mod stream;

/// Bytes that a side may send on a stream before it gets more credit. Not negotiated: both sides
/// start from this figure (hashicorp/yamux v0.1.2 const.go initialStreamWindow).
pub const WINDOW: u32 = 256 * 1024;
/// Streams open at once; a further one is reset. The backlog of the Go side, which holds its own
/// requests back at the same number. 80 bytes each, and what [`HELD_BYTES`] allows.
pub const STREAMS: usize = 256;
/// Bytes of all streams of a session that were received and not yet consumed by the caller; beyond
/// it the session ends. 32 full windows: an agent has about 15 calls in flight.
pub const HELD_BYTES: usize = 8 * 1024 * 1024;

/// Reason of [`Session::go_away`]: no new streams, the present ones continue.
pub const NORMAL: u32 = 0;
/// Reason of a GoAway: the peer broke the protocol.
pub const PROTOCOL_ERROR: u32 = 1;
/// Reason of a GoAway: the fault is on our side.
pub const INTERNAL_ERROR: u32 = 2;

/// What the peer did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It opened this stream, which is acknowledged already.
    Opened(u32),
    /// It sent bytes; give their credit back with [`Session::consumed`].
    Data(u32, Vec<u8>),
    /// It will send no more on this stream.
    Finished(u32),
    /// It abandoned this stream, which is forgotten already.
    Reset(u32),
    /// It answered the ping with this number.
    Pong(u32),
    /// It is leaving, for this reason; any but [`NORMAL`] ends the session.
    GoAway(u32),
}

/// Why a session ended. The GoAway that tells the peer is in the output already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// A frame of another protocol version.
    Version(u8),
    /// A frame of no known kind.
    Kind(u8),
    /// The peer opened a stream with an id from our half of the ids.
    WrongSide(u32),
    /// The peer opened a stream that is open.
    Duplicate(u32),
    /// The peer finished a stream twice.
    SecondFin(u32),
    /// The peer sent more than its window allows.
    WindowExceeded(u32),
    /// The peer gave more credit than 32 bits hold.
    CreditOverflow(u32),
    /// More than [`HELD_BYTES`] wait for the caller.
    Overloaded,
    /// The peer ended the session with this reason.
    GoneAway(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "The peer sent a yamux frame of version {version}; only 0 is known."),
            Self::Kind(kind) => write!(f, "The peer sent a yamux frame of the unknown kind {kind}."),
            Self::WrongSide(id) => write!(f, "The peer opened yamux stream {id}, an id that only this side may open."),
            Self::Duplicate(id) => write!(f, "The peer opened yamux stream {id}, which is open already."),
            Self::SecondFin(id) => write!(f, "The peer finished yamux stream {id} twice."),
            Self::WindowExceeded(id) => write!(f, "The peer sent more on yamux stream {id} than its window allows."),
            Self::CreditOverflow(id) => write!(f, "The peer gave yamux stream {id} more than 4 GiB of credit."),
            Self::Overloaded => {
                write!(f, "More than {HELD_BYTES} received bytes of one yamux session wait to be processed.")
            }
            Self::GoneAway(code) => write!(f, "The peer ended the yamux session with reason {code}."),
        }
    }
}

impl std::error::Error for Error {}

/// One end of a yamux connection.
pub struct Session {
    /// Parity of the ids that the peer opens: clients open odd ones, servers even ones.
    peer_parity: u32,
    /// The id of the next stream that we open; `None` when they are used up.
    next_id: Option<u32>,
    /// Ascending by id. A client's ids may arrive out of order (its goroutines race from taking an id
    /// to sending it: yamux v0.1.2 session.go OpenStream), so a lower id than the last is no offence.
    streams: Vec<Stream>,
    input: Input,
    output: Vec<u8>,
    /// Sum of what the streams hold; at most [`HELD_BYTES`].
    held: usize,
    /// We sent GoAway: new streams are reset.
    leaving: bool,
    /// The peer sent GoAway: we open no more streams.
    peer_leaving: bool,
    ended: Option<Error>,
}

/// What the next received byte belongs to.
enum Input {
    Header { bytes: [u8; HEADER_BYTES], have: usize },
    Body { stream: u32, left: u32, then: Then },
}

/// What becomes of a payload and its stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Deliver,
    DeliverAndFinish,
    Skip,
}

impl Input {
    const START: Self = Self::Header { bytes: [0; HEADER_BYTES], have: 0 };
}

impl Session {
    /// The side that accepted the connection.
    pub fn server() -> Self {
        Self::new(1, None)
    }

    /// The side that made the connection: simulated agents in tests and measurements.
    pub fn client() -> Self {
        Self::new(0, Some(1))
    }

    fn new(peer_parity: u32, next_id: Option<u32>) -> Self {
        Self {
            peer_parity,
            next_id,
            streams: Vec::new(),
            input: Input::START,
            output: Vec::new(),
            held: 0,
            leaving: false,
            peer_leaving: false,
            ended: None,
        }
    }

    /// Takes bytes from the peer, in pieces of any size. After an error the session is over: the
    /// output still to be written tells the peer, and every further call gives the same error.
    pub fn receive(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Error> {
        if let Some(error) = self.ended {
            return Err(error);
        }
        let result = self.receive_all(bytes, events);
        if let Err(error) = result {
            match error {
                Error::GoneAway(_) => {}
                Error::Overloaded => self.write(Kind::GoAway, 0, 0, INTERNAL_ERROR),
                _ => self.write(Kind::GoAway, 0, 0, PROTOCOL_ERROR),
            }
            self.ended = Some(error);
            self.streams = Vec::new();
            self.held = 0;
        }
        result
    }

    /// Opens a stream; `None` if the peer is leaving, or this side opens none.
    pub fn open(&mut self) -> Option<u32> {
        let id = self.next_id.filter(|_| !self.peer_leaving && self.ended.is_none())?;
        self.next_id = id.checked_add(2);
        let Err(at) = self.find(id) else { return None };
        self.streams.insert(at, Stream::new(id));
        self.write(Kind::WindowUpdate, flags::SYN, id, 0);
        Some(id)
    }

    /// Sends bytes as far as the peer's window allows and queues the rest, without limit: watch
    /// [`Session::queued`]. Ignored on a stream that is forgotten or finished by us.
    pub fn send(&mut self, id: u32, bytes: &[u8]) {
        if let Ok(at) = self.find(id)
            && let Some(stream) = self.streams.get_mut(at)
        {
            stream.send(bytes, &mut self.output);
        }
    }

    /// Finishes our direction of a stream, after what is queued. Once the peer has finished too, the
    /// stream is forgotten. Every stream must be finished or reset, or the peer keeps it for minutes.
    pub fn finish(&mut self, id: u32) {
        if let Ok(at) = self.find(id)
            && let Some(stream) = self.streams.get_mut(at)
        {
            stream.finish(&mut self.output);
            self.forget_if_over(at);
        }
    }

    /// Abandons a stream, with what is queued on it.
    pub fn reset(&mut self, id: u32) {
        if let Ok(at) = self.find(id) {
            self.forget(at);
            self.write(Kind::WindowUpdate, flags::RST, id, 0);
        }
    }

    /// Gives back the credit of `count` received bytes.
    pub fn consumed(&mut self, id: u32, count: usize) {
        if let Ok(at) = self.find(id)
            && let Some(stream) = self.streams.get_mut(at)
        {
            let count = stream.consume(count, &mut self.output);
            self.held = self.held.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        }
    }

    /// Asks for an [`Event::Pong`] with the same number.
    pub fn ping(&mut self, opaque: u32) {
        self.write(Kind::Ping, flags::SYN, 0, opaque);
    }

    /// Says that no more streams are accepted, and why.
    pub fn go_away(&mut self, code: u32) {
        self.leaving = true;
        self.write(Kind::GoAway, 0, 0, code);
    }

    /// Moves the bytes for the peer to the end of `out`.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        if out.is_empty() {
            std::mem::swap(out, &mut self.output);
        } else {
            out.extend_from_slice(&self.output);
        }
        self.output = Vec::new(); // an idle session keeps no buffer
    }

    /// Bytes of a stream that wait for the peer's window.
    pub fn queued(&self, id: u32) -> usize {
        self.find(id).ok().and_then(|at| self.streams.get(at)).map_or(0, Stream::queued)
    }

    /// Streams that are not forgotten.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes of all streams that were received and not yet consumed.
    pub fn held(&self) -> usize {
        self.held
    }

    fn receive_all(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Error> {
        while !bytes.is_empty() {
            match &mut self.input {
                Input::Header { bytes: header, have } => {
                    let taken = bytes.len().min(HEADER_BYTES - *have);
                    let (head, tail) = bytes.split_at_checked(taken).unwrap_or((bytes, &[]));
                    if let Some(room) = header.get_mut(*have..*have + head.len()) {
                        room.copy_from_slice(head);
                    }
                    *have += head.len();
                    bytes = tail;
                    if *have == HEADER_BYTES {
                        let header = Header::decode(*header)?;
                        self.input = Input::START;
                        self.frame(header, events)?;
                    }
                }
                Input::Body { stream, left, then } => {
                    let (stream, then) = (*stream, *then);
                    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let (head, tail) = bytes.split_at_checked(taken).unwrap_or((bytes, &[]));
                    *left = left.saturating_sub(u32::try_from(head.len()).unwrap_or(u32::MAX));
                    let done = *left == 0;
                    bytes = tail;
                    if then != Then::Skip {
                        self.deliver(stream, head, events)?;
                    }
                    if done {
                        self.input = Input::START;
                        if then == Then::DeliverAndFinish {
                            self.peer_finished(stream, events);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn frame(&mut self, header: Header, events: &mut Vec<Event>) -> Result<(), Error> {
        match header.kind {
            Kind::Data | Kind::WindowUpdate => self.stream_frame(header, events),
            Kind::Ping if header.has(flags::SYN) => {
                self.write(Kind::Ping, flags::ACK, 0, header.length);
                Ok(())
            }
            Kind::Ping => {
                events.push(Event::Pong(header.length));
                Ok(())
            }
            Kind::GoAway => {
                self.peer_leaving = true;
                events.push(Event::GoAway(header.length));
                if header.length == NORMAL { Ok(()) } else { Err(Error::GoneAway(header.length)) }
            }
        }
    }

    /// A frame of a stream, in the order of hashicorp/yamux v0.1.2 session.go handleStreamMessage:
    /// SYN, then FIN and RST, then the length.
    fn stream_frame(&mut self, header: Header, events: &mut Vec<Event>) -> Result<(), Error> {
        let id = header.stream;
        let payload = if header.kind == Kind::Data { header.length } else { 0 };
        if header.has(flags::SYN) {
            self.peer_opens(header, events)?;
        }
        // A forgotten stream is no offence: frames cross on the way. Its payload is skipped.
        let Ok(at) = self.find(id) else {
            self.body(id, payload, Then::Skip);
            return Ok(());
        };
        let Some(stream) = self.streams.get_mut(at) else { return Ok(()) };
        let finish = header.has(flags::FIN);
        if finish && stream.peer_finished {
            return Err(Error::SecondFin(id));
        }
        if header.has(flags::RST) {
            self.forget(at);
            events.push(Event::Reset(id));
            self.body(id, payload, Then::Skip);
            return Ok(());
        }
        match header.kind {
            Kind::WindowUpdate => {
                if !stream.credit(header.length, &mut self.output) {
                    return Err(Error::CreditOverflow(id));
                }
                if finish {
                    self.peer_finished(id, events);
                } else {
                    self.forget_if_over(at);
                }
            }
            _ => {
                if !stream.announce(payload) {
                    return Err(Error::WindowExceeded(id));
                }
                // Data behind its own FIN: a Go writer may lose the race with Close (yamux v0.1.2
                // stream.go Write looks at the state before it waits to send). Nobody reads it.
                let skip = stream.peer_finished;
                if finish && payload == 0 {
                    self.peer_finished(id, events);
                } else if skip {
                    self.body(id, payload, Then::Skip);
                } else {
                    self.body(id, payload, if finish { Then::DeliverAndFinish } else { Then::Deliver });
                }
            }
        }
        Ok(())
    }

    fn peer_opens(&mut self, header: Header, events: &mut Vec<Event>) -> Result<(), Error> {
        let id = header.stream;
        if id % 2 != self.peer_parity || id == 0 {
            return Err(Error::WrongSide(id));
        }
        let Err(at) = self.find(id) else { return Err(Error::Duplicate(id)) };
        if header.has(flags::RST) {
            return Ok(()); // opened and abandoned in one: nobody needs to hear of it
        }
        if self.leaving || self.streams.len() >= STREAMS {
            self.write(Kind::WindowUpdate, flags::RST, id, 0);
            return Ok(());
        }
        self.streams.insert(at, Stream::new(id));
        // At once: a Go client whose SYN is not acknowledged within 75 s ends the session (yamux
        // v0.1.2 session.go setOpenTimeout).
        self.write(Kind::WindowUpdate, flags::ACK, id, 0);
        events.push(Event::Opened(id));
        Ok(())
    }

    fn body(&mut self, stream: u32, left: u32, then: Then) {
        if left > 0 {
            self.input = Input::Body { stream, left, then };
        }
    }

    fn deliver(&mut self, id: u32, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Error> {
        let Ok(at) = self.find(id) else { return Ok(()) }; // reset by us while the frame arrived
        let Some(stream) = self.streams.get_mut(at) else { return Ok(()) };
        stream.deliver(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.held += bytes.len();
        if self.held > HELD_BYTES {
            return Err(Error::Overloaded);
        }
        events.push(Event::Data(id, bytes.to_vec()));
        Ok(())
    }

    fn peer_finished(&mut self, id: u32, events: &mut Vec<Event>) {
        let Ok(at) = self.find(id) else { return };
        if let Some(stream) = self.streams.get_mut(at) {
            stream.peer_finished = true;
            events.push(Event::Finished(id));
            self.forget_if_over(at);
        }
    }

    fn forget_if_over(&mut self, at: usize) {
        if self.streams.get(at).is_some_and(Stream::is_over) {
            self.forget(at);
        }
    }

    fn forget(&mut self, at: usize) {
        let stream = self.streams.remove(at);
        self.held = self.held.saturating_sub(usize::try_from(stream.held()).unwrap_or(usize::MAX));
        if self.streams.is_empty() {
            self.streams = Vec::new();
        }
    }

    fn find(&self, id: u32) -> Result<usize, usize> {
        self.streams.binary_search_by_key(&id, |stream| stream.id)
    }

    fn write(&mut self, kind: Kind, flags: u16, stream: u32, length: u32) {
        Header { kind, flags, stream, length }.encode(&mut self.output);
    }
}
