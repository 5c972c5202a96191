//! A WebSocket as a stream of bytes: the server's side, for protocols that take the payloads of binary
//! messages one behind the other and do not care where a message ends.
//!
//! Payloads are handed on as they arrive, so nothing is assembled and there is no limit to a message.

use super::{CONTROL_BYTES, Error};

/// Longest head of a frame, bytes: two, eight of length, four of mask.
const HEAD_BYTES: usize = 14;
/// Longest message that is sent, bytes: clients made before 2023 refuse longer ones (nhooyr.io/websocket
/// v1.8.7 read.go).
const MESSAGE_BYTES: usize = 32 * 1024;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FINAL: u8 = 0x80;

/// See above.
#[derive(Default)]
pub struct ByteStream {
    head: [u8; HEAD_BYTES],
    /// Bytes of `head` that are there.
    have: usize,
    frame: Option<Frame>,
    /// A message has begun and not ended.
    in_message: bool,
    /// Payload of a control frame so far.
    control: Vec<u8>,
    closed: bool,
}

/// A frame whose head was read.
#[derive(Clone, Copy)]
struct Frame {
    opcode: u8,
    left: u64,
    mask: [u8; 4],
}

impl Frame {
    fn is_control(self) -> bool {
        self.opcode >= CLOSE
    }

    fn next(&mut self, bytes: &[u8]) -> usize {
        usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()))
    }

    /// So many bytes of the payload were used.
    fn used(&mut self, count: usize) {
        self.left = self.left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        self.mask.rotate_left(count % 4);
    }
}

impl ByteStream {
    /// Takes bytes from the peer: payloads go behind what is in `payload`, answers to pings and to a
    /// close into `out`. After an error, which is told to the peer in `out`, nothing more is read.
    pub fn receive(&mut self, mut bytes: &[u8], payload: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Error> {
        while !bytes.is_empty() && !self.closed {
            let Some(mut frame) = self.frame.take() else {
                let result = self.read_head(&mut bytes);
                if let Err(error) = result {
                    self.close(error.code(), &error.to_string(), out);
                    return result;
                }
                continue;
            };
            let (now, later) = bytes.split_at(frame.next(bytes));
            bytes = later;
            if frame.is_control() {
                unmask(now, frame.mask, &mut self.control);
            } else {
                unmask(now, frame.mask, payload);
            }
            frame.used(now.len());
            if frame.left > 0 {
                self.frame = Some(frame);
            } else if frame.is_control() {
                self.answer(frame.opcode, out);
            }
        }
        Ok(())
    }

    /// Whether the peer has closed, or broken the protocol.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Sends bytes as binary messages. Ignored once closed.
    pub fn write(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if !self.closed {
            bytes.chunks(MESSAGE_BYTES).for_each(|piece| frame(BINARY, piece, out));
        }
    }

    /// Asks the peer for a sign of life.
    pub fn ping(&self, out: &mut Vec<u8>) {
        if !self.closed {
            frame(PING, &[], out);
        }
    }

    /// Ends the stream.
    pub fn close(&mut self, code: u16, reason: &str, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let reason = reason.get(..reason.floor_char_boundary(CONTROL_BYTES - 2)).unwrap_or_default();
        frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat(), out);
    }

    /// Reads what there is of a head; with its last byte, `frame` is known.
    fn read_head(&mut self, bytes: &mut &[u8]) -> Result<(), Error> {
        while let Some((byte, rest)) = bytes.split_first() {
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            *bytes = rest;
            let [first, second, ..] = self.head;
            if self.have < 2 {
                continue;
            }
            let length_bytes = match second & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            if self.have == 2 {
                self.check(first, second)?;
            }
            if self.have < 2 + length_bytes + 4 {
                continue;
            }
            let (before_mask, mask) = self.head.split_at(2 + length_bytes);
            let left = match length_bytes {
                0 => u64::from(second & 0x7f),
                _ => before_mask.iter().skip(2).fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
            };
            if left > u64::MAX >> 1 {
                return Err(Error::Protocol);
            }
            let frame = Frame { opcode: first & 0x0f, left, mask: mask.first_chunk().copied().unwrap_or_default() };
            if !frame.is_control() {
                self.in_message = first & FINAL == 0;
            }
            self.have = 0;
            // A frame without payload is over already, unless it asks for an answer.
            if frame.left > 0 || frame.is_control() {
                self.frame = Some(frame);
            }
            return Ok(());
        }
        Ok(())
    }

    /// What the first two bytes must not say.
    fn check(&self, first: u8, second: u8) -> Result<(), Error> {
        let (reserved, opcode, masked) = (first & 0x70, first & 0x0f, second & 0x80 != 0);
        let good = match opcode {
            CONTINUATION => self.in_message,
            BINARY => !self.in_message,
            CLOSE | PING | PONG => first & FINAL != 0 && usize::from(second & 0x7f) <= CONTROL_BYTES,
            TEXT => return Err(Error::Text),
            // Nothing that RFC 6455 knows.
            _ => false,
        };
        if good && masked && reserved == 0 { Ok(()) } else { Err(Error::Protocol) }
    }

    /// A control frame is complete.
    fn answer(&mut self, opcode: u8, out: &mut Vec<u8>) {
        let payload = std::mem::take(&mut self.control);
        match opcode {
            PING => frame(PONG, &payload, out),
            CLOSE => {
                // The same code goes back; one byte alone is none.
                frame(CLOSE, payload.get(..2).unwrap_or_default(), out);
                self.closed = true;
            }
            _ => {}
        }
    }
}

/// Writes an unfragmented frame of the server's.
fn frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(10 + payload.len());
    out.push(FINAL | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..=125), _) => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&u64::try_from(payload.len()).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Appends masked bytes in clear, sixteen at a time.
fn unmask(bytes: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    const STEP: usize = 16;
    let [a, b, c, d] = mask;
    let wide = u128::from_ne_bytes([a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d]);
    let start = out.len();
    out.extend_from_slice(bytes);
    let copied = out.get_mut(start..).unwrap_or_default();
    let mut words = copied.chunks_exact_mut(STEP);
    for word in &mut words {
        if let Some(word) = word.first_chunk_mut::<STEP>() {
            *word = (u128::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}
