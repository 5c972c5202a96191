//! What server and plugin process say to each other: frames over a Unix socket.
//!
//! A frame is its length (u32, of what follows), a kind (u8), a mark (u64) and a payload. Both ends are the same
//! program, so the format is nobody else's business.

use std::io::{self, Read, Write};

/// Largest payload, bytes: the largest JSON text of the contract and a little for the method's name.
pub(super) const PAYLOAD_BYTES: usize = moorline_plugin::abi::MESSAGE_BYTES + 1024;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// To the child, once: [`super::child::Order`] as JSON.
    Order = 1,
    /// To the child: a method's name, a zero byte, the request.
    Call = 2,
    /// To the child: what the server has done for it; a status (i32) and the result.
    Served = 3,
    /// From the child, once: [`super::child::Started`] as JSON.
    Started = 4,
    /// From the child: what came of a call; a status (i32) and the result.
    Done = 5,
    /// From the child: the name of a service, a zero byte, the request.
    Serve = 6,
    /// From the child: a level (i32) and a line of log.
    Log = 7,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        [Kind::Order, Kind::Call, Kind::Served, Kind::Started, Kind::Done, Kind::Serve, Kind::Log]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// One frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Which call it belongs to.
    pub(super) mark: u64,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn new(kind: Kind, mark: u64, payload: Vec<u8>) -> Frame {
        Frame { kind, mark, payload }
    }

    /// A frame that begins with a name.
    pub(super) fn named(kind: Kind, mark: u64, name: &str, rest: &[u8]) -> Frame {
        let mut payload = Vec::with_capacity(name.len() + 1 + rest.len());
        payload.extend_from_slice(name.as_bytes());
        payload.push(0);
        payload.extend_from_slice(rest);
        Frame { kind, mark, payload }
    }

    /// A frame that begins with a number.
    pub(super) fn numbered(kind: Kind, mark: u64, number: i32, rest: &[u8]) -> Frame {
        let mut payload = number.to_be_bytes().to_vec();
        payload.extend_from_slice(rest);
        Frame { kind, mark, payload }
    }

    /// Undoes [`Frame::named`].
    pub(super) fn name_and_rest(&self) -> Option<(&str, &[u8])> {
        let at = self.payload.iter().position(|byte| *byte == 0)?;
        let (name, rest) = self.payload.split_at_checked(at)?;
        Some((std::str::from_utf8(name).ok()?, rest.get(1..)?))
    }

    /// Undoes [`Frame::numbered`].
    pub(super) fn number_and_rest(&self) -> Option<(i32, &[u8])> {
        let (number, rest) = self.payload.split_first_chunk::<4>()?;
        Some((i32::from_be_bytes(*number), rest))
    }

    /// Writes it in one go.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(self.payload.len() + 9).map_err(|_| too_large())?;
        if self.payload.len() > PAYLOAD_BYTES {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(self.payload.len() + 13);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(&self.mark.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        to.write_all(&bytes)
    }

    /// Reads one; the end of the stream is an error too.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Frame> {
        let mut head = [0; 13];
        from.read_exact(&mut head)?;
        let [a, b, c, d, kind, mark @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let payload = length.checked_sub(9).filter(|length| *length <= PAYLOAD_BYTES).ok_or_else(too_large)?;
        let kind = Kind::of(kind).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an unknown frame"))?;
        let mut bytes = Vec::new();
        // Grows with what comes, not with what is claimed.
        let wanted = u64::try_from(payload).unwrap_or(u64::MAX);
        if from.take(wanted).read_to_end(&mut bytes)? < payload {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Frame { kind, mark: u64::from_be_bytes(mark), payload: bytes })
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame is too large")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let mut bytes = Vec::new();
        Frame::named(Kind::Call, 7, "verify", b"{}").write(&mut bytes).unwrap();
        Frame::numbered(Kind::Done, u64::MAX, -1, b"x").write(&mut bytes).unwrap();
        let mut from = bytes.as_slice();
        let first = Frame::read(&mut from).unwrap();
        assert_eq!((first.kind, first.mark, first.name_and_rest()), (Kind::Call, 7, Some(("verify", &b"{}"[..]))));
        let second = Frame::read(&mut from).unwrap();
        assert_eq!((second.kind, second.mark, second.number_and_rest()), (Kind::Done, u64::MAX, Some((-1, &b"x"[..]))));
        assert!(Frame::read(&mut from).is_err());
    }

    #[test]
    fn refuses_what_is_no_frame() {
        for bytes in
            [&[0, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0, 0, 0, 9, 99, 0, 0, 0, 0, 0, 0, 0, 0], &[255; 13]]
        {
            assert!(Frame::read(&mut &bytes[..]).is_err());
        }
        assert!(Frame::new(Kind::Call, 0, vec![0; PAYLOAD_BYTES + 1]).write(&mut Vec::new()).is_err());
    }
}
