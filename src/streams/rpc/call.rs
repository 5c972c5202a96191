//! One RPC on one yamux stream: where it stands.

use std::sync::Arc;

use super::coordination::Coordination;
use super::updates::Updates;
use crate::tailnet::derp_map::DerpMap;
use crate::wire::drpc::{Decoder, Encoder};

/// One RPC.
pub(super) struct Call {
    /// Never used for another call of this connection.
    pub(super) serial: u64,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) state: State,
}

/// Where an RPC stands.
pub(super) enum State {
    /// Nobody knows yet what is called.
    Start,
    /// Named; its one request is awaited.
    Request(&'static str),
    /// It waits for its turn in the pool, or runs there. The request is kept so that it can be put
    /// back when a queue is full.
    Unary(&'static str, Arc<Vec<u8>>),
    /// An endless stream of relay maps; the last one sent.
    Maps(Arc<DerpMap>),
    /// An endless stream of what becomes of a person's workspaces.
    Updates(Box<Updates>),
    /// The same, for peers that may see none: they were told so, and nothing comes after it.
    NoUpdates,
    /// The peer's place in the tailnet.
    Coordinate(Box<Coordination>),
    /// Answered, failed or given up: what still comes is ignored until the client finishes.
    Over,
}

impl Call {
    pub(super) fn new(serial: u64) -> Call {
        Call { serial, decoder: Decoder::new(), encoder: Encoder::new(), state: State::Start }
    }

    /// Bytes that the client has sent and that are still held.
    pub(super) fn held(&self) -> usize {
        let body = match &self.state {
            State::Unary(_, body) => body.len(),
            State::Coordinate(coordination) => coordination.held_bytes(),
            _ => 0,
        };
        self.decoder.held() + body
    }

    /// Messages go on coming without being asked for.
    pub(super) fn is_endless(&self) -> bool {
        matches!(self.state, State::Maps(_) | State::Updates(_) | State::Coordinate(_))
    }

    /// The one reply of a unary call, and its end.
    pub(super) fn reply(&mut self, message: &[u8]) -> Vec<u8> {
        let mut bytes = self.message(message);
        self.encoder.close_send(&mut bytes);
        self.state = State::Over;
        bytes
    }

    /// One of many messages.
    pub(super) fn message(&mut self, message: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(message.len() + 16);
        self.encoder.message(message, &mut bytes);
        bytes
    }

    /// The end of a call that went wrong.
    pub(super) fn fail(&mut self, code: u64, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encoder.error(code, text, &mut bytes);
        self.state = State::Over;
        bytes
    }

    /// The orderly end of a stream of messages.
    pub(super) fn close(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encoder.close(&mut bytes);
        self.state = State::Over;
        bytes
    }
}
