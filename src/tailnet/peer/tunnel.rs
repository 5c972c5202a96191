//! WireGuard with one peer, without I/O.

use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

use crate::model::NodeKey;

/// Largest inner packet, bytes; all peers have the same (tailnet/conn.go, v2.24.0).
pub(super) const MTU: usize = 1_280;
/// Largest message, bytes: a padded inner packet, counter, index and tag, and some room. Longer ones are
/// dropped before the library sees them, which would panic.
const MESSAGE_BYTES: usize = 2_048;

/// Messages that a key is good for; the protocol's own figure (REJECT_AFTER_MESSAGES).
const MESSAGES: u64 = u64::MAX - (1 << 13);

/// Time that a key is good for; the protocol's own figure (REJECT_AFTER_TIME).
const REJECT_AFTER: Duration = Duration::from_secs(180);

/// What is needed of WireGuard, so that the library can be exchanged. Messages are given to `send`.
pub(super) trait Tunnel: Send {
    /// Sends an inner packet. Before the first handshake is done, which this begins, it waits.
    fn seal(&mut self, packet: &[u8], send: &mut dyn FnMut(&[u8]));
    /// Takes a message from the peer, and gives the inner packet in it to `deliver`.
    fn open(&mut self, message: &[u8], send: &mut dyn FnMut(&[u8]), deliver: &mut dyn FnMut(&[u8]));
    /// Begins a handshake anew if one is under way: the message of the last one went nowhere.
    fn retry(&mut self, send: &mut dyn FnMut(&[u8]));
    /// Timers; to be called a few times a second.
    fn tick(&mut self, send: &mut dyn FnMut(&[u8]));
    /// Whether the peer has proven its key.
    fn is_established(&self) -> bool;
}

/// boringtun's.
pub(super) struct Boring {
    tunnel: Tunn,
    scratch: Box<[u8; MESSAGE_BYTES]>,
    established: bool,
}

impl Boring {
    /// `index` tells this tunnel's messages from those of others of the same node.
    pub(super) fn new(own: &StaticSecret, peer: NodeKey, index: u32) -> Boring {
        let tunnel = Tunn::new(own.clone(), PublicKey::from(peer.0), None, None, index, None);
        Boring { tunnel, scratch: Box::new([0; MESSAGE_BYTES]), established: false }
    }
}

impl Tunnel for Boring {
    fn seal(&mut self, packet: &[u8], send: &mut dyn FnMut(&[u8])) {
        if packet.len() > MTU {
            return;
        }
        match self.tunnel.encapsulate(packet, self.scratch.as_mut_slice()) {
            TunnResult::WriteToNetwork(message) => send(message),
            TunnResult::Err(error) => log::debug!("a packet for an agent cannot be sealed: {error:?}"),
            _ => {}
        }
    }

    fn open(&mut self, message: &[u8], send: &mut dyn FnMut(&[u8]), deliver: &mut dyn FnMut(&[u8])) {
        if message.is_empty() || message.len() > MESSAGE_BYTES || is_worn_out(message) {
            return;
        }
        match self.tunnel.decapsulate(None, message, self.scratch.as_mut_slice()) {
            TunnResult::WriteToNetwork(answer) => send(answer),
            TunnResult::WriteToTunnelV6(packet, _) => {
                self.established = true;
                return deliver(packet);
            }
            TunnResult::WriteToTunnelV4(..) | TunnResult::Done => {}
            TunnResult::Err(error) => return log::debug!("a message of an agent cannot be opened: {error:?}"),
        }
        self.established |= self.tunnel.time_since_last_handshake().is_some();
        // What has waited for the handshake.
        while let TunnResult::WriteToNetwork(more) = self.tunnel.decapsulate(None, &[], self.scratch.as_mut_slice()) {
            send(more);
        }
    }

    fn retry(&mut self, send: &mut dyn FnMut(&[u8])) {
        let is_fresh = self.tunnel.time_since_last_handshake().is_some_and(|age| age < REJECT_AFTER);
        if !is_fresh
            && let TunnResult::WriteToNetwork(message) =
                self.tunnel.format_handshake_initiation(self.scratch.as_mut_slice(), true)
        {
            send(message);
        }
    }

    fn tick(&mut self, send: &mut dyn FnMut(&[u8])) {
        if let TunnResult::WriteToNetwork(message) = self.tunnel.update_timers(self.scratch.as_mut_slice()) {
            send(message);
        }
    }

    fn is_established(&self) -> bool {
        self.established
    }
}

/// Whether a message counts beyond what a key is good for, with which the library's own count would overflow.
pub(super) fn is_worn_out(message: &[u8]) -> bool {
    let is_data = message.starts_with(&[4, 0, 0, 0]);
    let counter = message.get(8..16).and_then(|bytes| bytes.first_chunk().copied()).map(u64::from_le_bytes);
    is_data && counter.is_some_and(|counter| counter >= MESSAGES)
}
