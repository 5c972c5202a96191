//! The peer's end of a connection that carries calls: an agent, or a person's client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use moorline::streams::rpc;
use moorline::wire::drpc::{Decoder, Encoder, Packet};
use moorline::wire::yamux::{Event, Session};
use prost::Message;

use super::driver::{BINARY, Frame, Line, PONG, SOON, Server, frames, masked};

/// What came of a call.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Reply {
    Message(Vec<u8>),
    Error(u64, String),
}

/// A simulated agent or client on its connection.
pub(crate) struct Agent {
    pub(crate) line: Line,
    pub(crate) mux: Session,
    decoders: BTreeMap<u32, Decoder>,
    encoders: BTreeMap<u32, Encoder>,
    pub(crate) packets: BTreeMap<u32, Vec<Packet>>,
    /// Streams that the server has finished.
    pub(crate) finished: BTreeSet<u32>,
    pub(crate) resets: BTreeSet<u32>,
    pub(crate) closed: Option<(u16, String)>,
    /// Sizes of the messages that came.
    pub(crate) messages: Vec<usize>,
    /// Payloads of the WebSocket pings that came, and how many of them were answered.
    pub(crate) pings: Vec<String>,
    answered: usize,
    /// A stream of which the session here knows nothing.
    reopened: Option<u32>,
    /// Streams get no further window.
    pub(crate) withholds: bool,
    /// Pings are answered.
    pub(crate) alive: bool,
}

impl Server {
    /// The agent connects as release 2.24 does.
    pub(crate) fn connect(&self) -> Agent {
        self.connect_as(true)
    }

    pub(crate) fn connect_as(&self, monitored: bool) -> Agent {
        let stream = rpc::agent(self.app.clone(), self.row(), "2.6".into(), monitored, "192.0.2.7".into());
        Agent::on(Line::open(stream))
    }
}

impl Agent {
    pub(crate) fn on(line: Line) -> Agent {
        let mut agent = Agent {
            line,
            mux: Session::client(),
            decoders: BTreeMap::new(),
            encoders: BTreeMap::new(),
            packets: BTreeMap::new(),
            finished: BTreeSet::new(),
            resets: BTreeSet::new(),
            closed: None,
            messages: Vec::new(),
            pings: Vec::new(),
            answered: 0,
            reopened: None,
            withholds: false,
            alive: true,
        };
        agent.exchange();
        agent
    }

    /// Sends what the agent has to say and takes what the server said, until both are silent.
    pub(crate) fn exchange(&mut self) {
        loop {
            let mut bytes = Vec::new();
            self.mux.take_output(&mut bytes);
            let taken = self.line.take();
            if bytes.is_empty() && taken.is_empty() {
                return;
            }
            for frame in frames(&taken) {
                match frame {
                    Frame::Binary(bytes) => self.multiplexed(&bytes),
                    Frame::Close(code, reason) => self.closed = Some((code, reason)),
                    Frame::Ping(payload) => self.pings.push(payload),
                    other => panic!("a peer got {other:?}"),
                }
            }
            for payload in self.pings.iter().skip(std::mem::replace(&mut self.answered, self.pings.len())) {
                if self.alive {
                    self.line.feed(&masked(PONG, payload.as_bytes()));
                }
            }
            if self.alive && !bytes.is_empty() {
                self.line.feed(&masked(BINARY, &bytes));
            }
        }
    }

    fn multiplexed(&mut self, bytes: &[u8]) {
        self.messages.push(bytes.len());
        let mut events = Vec::new();
        self.mux.receive(bytes, &mut events).unwrap();
        if let Some(id) = self.reopened {
            self.read_by_hand(id, bytes);
        }
        for event in events {
            match event {
                Event::Data(id, bytes) => {
                    let packets = self.packets.entry(id).or_default();
                    self.decoders.get_mut(&id).unwrap().receive(&bytes, packets).unwrap();
                    if !self.withholds {
                        self.mux.consumed(id, bytes.len());
                    }
                }
                Event::Finished(id) => {
                    assert!(self.finished.insert(id), "finished twice");
                }
                Event::Reset(id) => {
                    self.resets.insert(id);
                }
                Event::Pong(_) | Event::GoAway(_) => {}
                Event::Opened(id) => panic!("the server opened stream {id}"),
            }
        }
    }

    /// Reads whole frames of one stream.
    fn read_by_hand(&mut self, id: u32, mut bytes: &[u8]) {
        while let Some((header, rest)) = bytes.split_first_chunk::<12>() {
            let length = if header[1] == 0 { u32::from_be_bytes(header[8..].try_into().unwrap()) } else { 0 };
            let (body, rest) = rest.split_at(usize::try_from(length).unwrap());
            if header[4..8] == id.to_be_bytes() {
                let packets = self.packets.entry(id).or_default();
                self.decoders.get_mut(&id).unwrap().receive(body, packets).unwrap();
            }
            bytes = rest;
        }
    }

    /// Opens a stream under a number that was used before, which no honest client does, and says `bytes`.
    pub(crate) fn reopen(&mut self, id: u32, bytes: &[u8]) {
        let header = |flags: u8, length: usize| {
            let mut header = vec![0, 0, 0, flags];
            header.extend(id.to_be_bytes());
            header.extend(u32::try_from(length).unwrap().to_be_bytes());
            header
        };
        self.decoders.insert(id, Decoder::new());
        self.packets.remove(&id);
        self.line.feed(&masked(BINARY, &[header(1, bytes.len()), bytes.to_vec()].concat()));
        // The session here knows nothing of it, so what comes back is read by hand.
        self.reopened = Some(id);
        self.exchange();
    }

    /// Opens a stream and calls, without a request yet.
    pub(crate) fn invoke(&mut self, method: &str) -> u32 {
        let id = self.mux.open().expect("a stream");
        let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
        encoder.invoke(method, &mut bytes);
        self.encoders.insert(id, encoder);
        self.decoders.insert(id, Decoder::new());
        self.mux.send(id, &bytes);
        id
    }

    pub(crate) fn message(&mut self, id: u32, message: &[u8]) {
        let mut bytes = Vec::new();
        self.encoders.get_mut(&id).unwrap().message(message, &mut bytes);
        self.mux.send(id, &bytes);
    }

    /// Sends a message without its last byte.
    pub(crate) fn begin_message(&mut self, id: u32, message: &[u8]) {
        let mut bytes = Vec::new();
        self.encoders.get_mut(&id).unwrap().message(message, &mut bytes);
        bytes.pop();
        for part in bytes.chunks(64 * 1024) {
            self.mux.send(id, part);
            self.exchange();
        }
    }

    /// Begins a unary call.
    pub(crate) fn begin(&mut self, method: &str, request: &[u8]) -> u32 {
        let id = self.invoke(method);
        self.message(id, request);
        let mut bytes = Vec::new();
        self.encoders.get_mut(&id).unwrap().close_send(&mut bytes);
        self.mux.send(id, &bytes);
        self.exchange();
        id
    }

    /// Calls and waits for what comes of it.
    pub(crate) fn call_raw(&mut self, method: &str, request: &[u8]) -> Reply {
        let id = self.begin(method, request);
        self.reply(id)
    }

    /// The reply to a call that was begun; the stream is finished as Go's client does.
    pub(crate) fn reply(&mut self, id: u32) -> Reply {
        let start = Instant::now();
        loop {
            self.exchange();
            let packets = self.packets.get(&id).cloned().unwrap_or_default();
            let reply = packets.iter().find_map(|packet| match packet {
                Packet::Message(message) => Some(Reply::Message(message.clone())),
                Packet::Error { code, text } => Some(Reply::Error(*code, text.clone())),
                _ => None,
            });
            if let Some(reply) = reply {
                if matches!(reply, Reply::Message(_)) {
                    assert_eq!(packets.len(), 2, "{packets:?}");
                    assert_eq!(packets[1], Packet::CloseSend);
                } else {
                    assert_eq!(packets.len(), 1, "{packets:?}");
                }
                self.mux.finish(id);
                self.exchange();
                assert!(self.finished.contains(&id), "the server finishes every stream");
                return reply;
            }
            assert!(start.elapsed() < SOON, "no reply; closed: {:?}", self.closed);
            if self.line.letters() == 0 {
                self.pass(Duration::from_millis(1));
                std::thread::yield_now();
            }
        }
    }

    /// Calls; anything but a good reply fails the test.
    pub(crate) fn call<R: Message + Default>(&mut self, method: &str, request: &impl Message) -> R {
        match self.call_raw(method, &request.encode_to_vec()) {
            Reply::Message(bytes) => R::decode(bytes.as_slice()).unwrap(),
            Reply::Error(code, text) => panic!("{method}: {code} {text}"),
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        // In steps, so that pings are answered on the way.
        let mut left = time;
        while !left.is_zero() && self.closed.is_none() {
            let step = left.min(Duration::from_secs(1));
            self.line.pass(step);
            self.exchange();
            left -= step;
        }
    }

    /// Waits until the server has closed the connection.
    pub(crate) fn until_closed(&mut self) -> (u16, String) {
        let start = Instant::now();
        loop {
            self.line.letters();
            self.exchange();
            if let Some(closed) = &self.closed {
                assert!(self.line.out.finish, "the connection ends after its close frame");
                return closed.clone();
            }
            assert!(start.elapsed() < SOON, "the connection was not closed");
            std::thread::yield_now();
        }
    }

    /// Waits for the next packet on a stream.
    pub(crate) fn next(&mut self, id: u32) -> Packet {
        let start = Instant::now();
        loop {
            self.exchange();
            if let Some(packets) = self.packets.get_mut(&id).filter(|packets| !packets.is_empty()) {
                return packets.remove(0);
            }
            assert!(start.elapsed() < SOON, "no packet; closed: {:?}", self.closed);
            self.line.letters();
            std::thread::yield_now();
        }
    }
}
