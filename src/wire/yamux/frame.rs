//! The 12 bytes in front of every yamux frame, big endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | version, 0 |
//! | 1 | 1 | [`Kind`] |
//! | 2 | 2 | [`flags`], a bit set |
//! | 4 | 4 | stream id; 0 for [`Kind::Ping`] and [`Kind::GoAway`] |
//! | 8 | 4 | length; what it counts depends on the kind |

use super::Error;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 12;

const VERSION: u8 = 0;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `length` bytes of payload follow.
    Data = 0,
    /// `length` more bytes may be sent on the stream.
    WindowUpdate = 1,
    /// `length` is an opaque number that the answer repeats.
    Ping = 2,
    /// `length` is the reason: 0 normal, 1 protocol error, 2 internal error.
    GoAway = 3,
}

/// Bits of the flags field. Unknown bits are ignored, as hashicorp/yamux v0.1.2 does.
pub mod flags {
    /// Opens the stream, or asks for the answer to a ping.
    pub const SYN: u16 = 0x1;
    /// Accepts the stream, or answers a ping.
    pub const ACK: u16 = 0x2;
    /// The sender will send no more data.
    pub const FIN: u16 = 0x4;
    /// The stream is abandoned in both directions.
    pub const RST: u16 = 0x8;
}

/// A frame without its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// See [`flags`].
    pub flags: u16,
    /// The stream, or 0.
    pub stream: u32,
    /// Bytes, credit, opaque number or reason, by kind.
    pub length: u32,
}

impl Header {
    /// Reads a header.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, Error> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::WindowUpdate,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            unknown => return Err(Error::Kind(unknown)),
        };
        Ok(Self {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    /// Appends the header to `out`.
    pub fn encode(self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.push(self.kind as u8);
        out.extend_from_slice(&self.flags.to_be_bytes());
        out.extend_from_slice(&self.stream.to_be_bytes());
        out.extend_from_slice(&self.length.to_be_bytes());
    }

    /// Whether all of `mask` is set.
    pub fn has(self, mask: u16) -> bool {
        self.flags & mask == mask
    }
}
