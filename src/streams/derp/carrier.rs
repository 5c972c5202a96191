//! What carries the protocol's bytes: the upgraded connection itself, or a WebSocket.

use super::By;
use super::frames::{Fault, Frames};
use crate::model::hex;
use crate::streams::Out;
use crate::tailnet::derp::Turn;
use crate::wire::derp::{self, Pieces, SecretKey, Sink};
use crate::wire::websocket::{self, ByteStream};

pub(super) enum Carrier {
    Plain { fast_start: bool },
    WebSocket(Box<ByteStream>),
}

/// Why no more is to be read.
pub(super) enum Ended {
    /// The client has closed its WebSocket.
    Closed,
    /// The client broke the WebSocket protocol, and was told so.
    WebSocket(websocket::Error),
    /// The client broke the relay's protocol.
    Fault(Fault),
}

impl Carrier {
    pub(super) fn new(by: By) -> Carrier {
        match by {
            By::Upgrade { fast_start } => Carrier::Plain { fast_start },
            By::WebSocket => Carrier::WebSocket(Box::default()),
        }
    }

    /// The answer to the request, unless it was written already or none was asked for: exactly these
    /// four headers (derp/derphttp/derphttp_server.go, as recorded of v2.24.0).
    pub(super) fn open(&self, secret: &SecretKey, out: &mut Out) {
        let mut greeting = Vec::new();
        secret.server_key(&mut greeting);
        if let Carrier::Plain { fast_start: false } = self {
            let key = hex(&secret.public().0);
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\
                 Derp-Version: {}\r\nDerp-Public-Key: {key}\r\n\r\n",
                derp::VERSION
            );
            out.bytes.extend_from_slice(head.as_bytes());
        }
        self.write(&greeting, out);
    }

    /// Takes what the client sent.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        pieces: &mut Pieces,
        frames: &mut Frames<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Ended> {
        let socket = match self {
            Carrier::Plain { .. } => return pieces.receive(bytes, frames).map_err(Ended::Fault),
            Carrier::WebSocket(socket) => socket,
        };
        let mut payload = frames.spare().take();
        let told = socket.receive(bytes, &mut payload, out);
        let result = pieces.receive(&payload, frames);
        frames.spare().give(payload);
        result.map_err(Ended::Fault)?;
        told.map_err(Ended::WebSocket)?;
        if socket.is_closed() { Err(Ended::Closed) } else { Ok(()) }
    }

    /// Writes bytes of the protocol.
    pub(super) fn write(&self, bytes: &[u8], out: &mut Out) {
        match self {
            Carrier::Plain { .. } => out.bytes.extend_from_slice(bytes),
            Carrier::WebSocket(socket) => socket.write(bytes, &mut out.bytes),
        }
    }

    /// Writes what `take` gives; says what that said.
    pub(super) fn write_taken(
        &self,
        turn: &mut Turn<'_>,
        out: &mut Out,
        take: impl FnOnce(&mut Turn<'_>, &mut Vec<u8>) -> bool,
    ) -> bool {
        match self {
            Carrier::Plain { .. } => take(turn, &mut out.bytes),
            Carrier::WebSocket(socket) => {
                let mut bytes = turn.spare().take();
                let goes_on = take(turn, &mut bytes);
                socket.write(&bytes, &mut out.bytes);
                turn.spare().give(bytes);
                goes_on
            }
        }
    }

    /// Says goodbye so that the client comes back.
    pub(super) fn close(&mut self, code: u16, reason: &str, out: &mut Out) {
        if let Carrier::WebSocket(socket) = self {
            socket.close(code, reason, &mut out.bytes);
        }
    }
}
