//! DERP, the protocol of the relay: frames, and the sealed greetings.
//!
//! A frame is `kind (1 byte) | length of the payload (uint32, big endian) | payload`. Frames may be
//! split and joined anywhere on the way.
//!
//! ```text
//! server                                   client
//!   ServerKey: magic, public key       →
//!                                      ←   ClientInfo: public key, nonce, box(JSON)
//!   ServerInfo: nonce, box(JSON)       →
//!   RecvPacket, PeerGone, KeepAlive…   ↔   SendPacket, NotePreferred, Ping…
//! ```

mod greeting;
mod pieces;

pub use greeting::{ClientInfo, Greeting, SecretKey, Unreadable};
pub use pieces::{Pieces, Sink, TooLong};

use crate::model::NodeKey;

/// Version of the protocol; in the answer to the upgrade and in both greetings.
pub const VERSION: u8 = 2;
/// What a server's key follows.
pub const MAGIC: [u8; 8] = *b"DERP\xf0\x9f\x94\x91";
/// What a packet of the peers' own discovery protocol begins with.
pub const DISCO_MAGIC: [u8; 6] = *b"TS\xf0\x9f\x92\xac";
/// Shortest packet of that protocol, bytes: magic, sender's key, nonce.
const DISCO_BYTES: usize = 62;
/// Kind and length.
pub const HEAD_BYTES: usize = 5;
/// A key.
pub const KEY_BYTES: usize = 32;
/// Largest packet, bytes; more than any client has for one (derp/derp.go MaxPacketSize).
pub const PACKET_BYTES: usize = 64 * 1024;
/// Largest greeting of a client, bytes. Real ones are 104; the bound is what a stranger can make us keep.
pub const CLIENT_INFO_BYTES: usize = 8 * 1024;
/// Longest ping, bytes, of which the first eight are answered (derp/derp_server.go).
pub const PING_BYTES: usize = 1_000;
/// What is answered of a ping.
pub const PONG_BYTES: usize = 8;

/// Kinds of frames.
pub mod kind {
    /// Server's magic and public key.
    pub const SERVER_KEY: u8 = 0x01;
    /// Client's public key, nonce and sealed JSON.
    pub const CLIENT_INFO: u8 = 0x02;
    /// Server's nonce and sealed JSON.
    pub const SERVER_INFO: u8 = 0x03;
    /// Destination's key and packet.
    pub const SEND_PACKET: u8 = 0x04;
    /// Source's key and packet.
    pub const RECV_PACKET: u8 = 0x05;
    /// Nothing; the connection lives.
    pub const KEEP_ALIVE: u8 = 0x06;
    /// One byte: whether this is the client's home.
    pub const NOTE_PREFERRED: u8 = 0x07;
    /// A key and why it cannot be reached.
    pub const PEER_GONE: u8 = 0x08;
    /// Of meshes: a key that came.
    pub const PEER_PRESENT: u8 = 0x09;
    /// Of meshes: source, destination, packet.
    pub const FORWARD_PACKET: u8 = 0x0a;
    /// Of meshes: asks for `PEER_PRESENT` and `PEER_GONE`.
    pub const WATCH_CONNS: u8 = 0x10;
    /// Of meshes: a key to be closed.
    pub const CLOSE_PEER: u8 = 0x11;
    /// Eight bytes to be sent back.
    pub const PING: u8 = 0x12;
    /// The eight bytes.
    pub const PONG: u8 = 0x13;
}

/// Why a peer cannot be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// Its last connection ended.
    Disconnected,
    /// It has none here.
    NotHere,
}

/// Whether a packet looks like one of the discovery protocol; its content is sealed.
pub fn is_disco(packet: &[u8]) -> bool {
    packet.len() >= DISCO_BYTES && packet.starts_with(&DISCO_MAGIC)
}

/// Writes a frame.
pub fn frame(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    head(kind, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Writes the head of a frame whose payload follows.
fn head(kind: u8, length: usize, out: &mut Vec<u8>) {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[kind, a, b, c, d]);
}

/// Writes a packet for its destination.
pub fn recv_packet(source: &NodeKey, packet: &[u8], out: &mut Vec<u8>) {
    out.reserve(HEAD_BYTES + KEY_BYTES + packet.len());
    head(kind::RECV_PACKET, KEY_BYTES + packet.len(), out);
    out.extend_from_slice(&source.0);
    out.extend_from_slice(packet);
}

/// Writes a packet for the relay, as clients do.
pub fn send_packet(destination: &NodeKey, packet: &[u8], out: &mut Vec<u8>) {
    head(kind::SEND_PACKET, KEY_BYTES + packet.len(), out);
    out.extend_from_slice(&destination.0);
    out.extend_from_slice(packet);
}

/// Writes that a peer cannot be reached.
pub fn peer_gone(peer: &NodeKey, why: Gone, out: &mut Vec<u8>) {
    head(kind::PEER_GONE, KEY_BYTES + 1, out);
    out.extend_from_slice(&peer.0);
    out.push(match why {
        Gone::Disconnected => 0,
        Gone::NotHere => 1,
    });
}

/// Kind and payload length at the front of some bytes; `None` when there are too few.
pub fn peek(bytes: &[u8]) -> Option<(u8, usize)> {
    let [kind, a, b, c, d] = bytes.first_chunk::<HEAD_BYTES>()?;
    Some((*kind, usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX)))
}
