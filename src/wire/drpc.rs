//! DRPC: one RPC over one byte stream, as storj.io/drpc v0.0.33 speaks it.
//!
//! A frame is `control (1) | stream id (varint) | message id (varint) | length (varint) | data`.
//! Control holds, from the lowest bit: done (1), kind (6), ignorable (1). The frames of one packet
//! share their ids and kind, and the last is done. Coder's clients open a fresh yamux stream for each
//! RPC, so the stream id is always 1, and no second RPC is served on the same bytes.

use std::fmt;

/// Data of one packet, bytes: the largest message in either direction (drpcwire/reader.go
/// MaximumBufferSize). Held only as far as it has arrived.
pub const PACKET_BYTES: usize = 4 * 1024 * 1024;
/// Data of one frame that we write, bytes, as the Go side cuts them.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Length of an RPC name, bytes; the longest known has 58. It is repeated in errors and logs.
pub const NAME_BYTES: usize = 1024;

/// The only stream id in use.
const STREAM: u64 = 1;

const DONE: u8 = 0b0000_0001;
const IGNORABLE: u8 = 0b1000_0000;

/// Kinds of packets, as bits 1 to 6 of the control byte carry them.
mod kind {
    /// The RPC's full name, UTF-8.
    pub(super) const INVOKE: u8 = 1;
    /// A protobuf message; may be empty.
    pub(super) const MESSAGE: u8 = 2;
    /// Eight bytes of code, big endian, then text.
    pub(super) const ERROR: u8 = 3;
    /// Empty. A soft cancel, which Coder does not use.
    pub(super) const CANCEL: u8 = 4;
    /// Empty. The RPC is over in both directions.
    pub(super) const CLOSE: u8 = 5;
    /// Empty. No more messages from the sender.
    pub(super) const CLOSE_SEND: u8 = 6;
    /// A protobuf map of strings, before the Invoke.
    pub(super) const INVOKE_METADATA: u8 = 7;
}

/// What the peer sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packet {
    /// Tracing headers for the RPC that follows; may be ignored.
    Metadata(Vec<u8>),
    /// The full name of the RPC that is called.
    Invoke(String),
    /// A protobuf message.
    Message(Vec<u8>),
    /// The RPC failed on the peer's side.
    Error {
        /// 12: unimplemented; 0: anything else.
        code: u64,
        /// What went wrong.
        text: String,
    },
    /// The peer would rather not have an answer.
    Cancel,
    /// The peer is done with the RPC in both directions.
    Close,
    /// The peer will send no more messages.
    CloseSend,
}

/// Why no more can be read from a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// A varint of more than ten bytes.
    LongVarint,
    /// A frame for another stream id than 1.
    Stream(u64),
    /// A message id that was used before.
    Order(u64),
    /// Frames of one packet differ in kind.
    KindChanged,
    /// A kind that is not known and must not be ignored.
    Kind(u8),
    /// A packet of more than [`PACKET_BYTES`].
    TooLarge,
    /// An RPC name that is not UTF-8 or longer than [`NAME_BYTES`].
    Name,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LongVarint => write!(f, "The peer sent a DRPC number of more than ten bytes."),
            Self::Stream(id) => {
                write!(f, "The peer sent a DRPC frame for stream {id}; each stream carries one RPC, 1.")
            }
            Self::Order(id) => write!(f, "The peer used DRPC message id {id} after it was over."),
            Self::KindChanged => write!(f, "The peer changed the kind of a DRPC packet in its middle."),
            Self::Kind(kind) => write!(f, "The peer sent a DRPC packet of the unknown kind {kind}."),
            Self::TooLarge => write!(f, "The peer sent a DRPC packet of more than {PACKET_BYTES} bytes."),
            Self::Name => {
                write!(f, "The peer called an RPC whose name is not UTF-8 or longer than {NAME_BYTES} bytes.")
            }
        }
    }
}

impl std::error::Error for Error {}

/// Reads the peer's direction of one RPC.
#[derive(Default)]
pub struct Decoder {
    head: Head,
    /// Bytes of data that the present frame still owes; its head is read while this is positive.
    owed: usize,
    /// The packet being put together, if any of its frames has come.
    partial: Option<Partial>,
    /// Lowest message id that may still come.
    floor: u64,
    failed: Option<Error>,
}

/// The head of a frame, as far as it was read.
#[derive(Default)]
struct Head {
    /// Which of the four fields is next: 0 control, 1 stream, 2 message, 3 length.
    field: u8,
    control: u8,
    stream: u64,
    message: u64,
    /// The varint being read, and its shift.
    value: u64,
    shift: u32,
}

struct Partial {
    message: u64,
    kind: u8,
    /// One ignorable frame makes the packet ignorable (drpcwire/reader.go).
    ignorable: bool,
    /// The present frame is the last.
    done: bool,
    data: Vec<u8>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self { floor: 1, ..Self::default() }
    }

    /// Takes bytes from the peer, in pieces of any size. After an error every further call gives the
    /// same error; packets read before it are in `packets`.
    pub fn receive(&mut self, mut bytes: &[u8], packets: &mut Vec<Packet>) -> Result<(), Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while !bytes.is_empty() {
            match self.step(bytes, packets) {
                Ok(rest) => bytes = rest,
                Err(error) => {
                    self.failed = Some(error);
                    self.partial = None;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Bytes of the incomplete packet that are held.
    pub fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.data.capacity())
    }

    /// Takes one byte of a head, or as much data as there is.
    fn step<'a>(&mut self, bytes: &'a [u8], packets: &mut Vec<Packet>) -> Result<&'a [u8], Error> {
        if self.owed == 0 {
            let Some((byte, rest)) = bytes.split_first() else { return Ok(bytes) };
            if let Some(length) = self.head.push(*byte)? {
                let head = std::mem::take(&mut self.head);
                self.begin(&head, length)?;
                if self.owed == 0 {
                    self.end(packets)?;
                }
            }
            return Ok(rest);
        }
        let taken = self.owed.min(bytes.len());
        let (data, rest) = bytes.split_at_checked(taken).unwrap_or((bytes, &[]));
        self.owed -= data.len();
        if let Some(partial) = &mut self.partial {
            partial.data.extend_from_slice(data);
        }
        if self.owed == 0 {
            self.end(packets)?;
        }
        Ok(rest)
    }

    /// A frame's head is complete.
    fn begin(&mut self, head: &Head, length: u64) -> Result<(), Error> {
        if head.stream != STREAM {
            return Err(Error::Stream(head.stream));
        }
        if head.message < self.floor {
            return Err(Error::Order(head.message));
        }
        self.floor = head.message;
        let kind = (head.control & !(DONE | IGNORABLE)) >> 1;
        // A newer id silently replaces an incomplete packet: that is how a sender gives one up.
        let partial = match &mut self.partial {
            Some(partial) if partial.message == head.message => partial,
            other => {
                other.insert(Partial { message: head.message, kind, ignorable: false, done: false, data: Vec::new() })
            }
        };
        if partial.kind != kind {
            return Err(Error::KindChanged);
        }
        partial.ignorable |= head.control & IGNORABLE != 0;
        partial.done = head.control & DONE != 0;
        let room = PACKET_BYTES - partial.data.len();
        self.owed = usize::try_from(length).ok().filter(|length| *length <= room).ok_or(Error::TooLarge)?;
        if kind == kind::INVOKE && partial.data.len() + self.owed > NAME_BYTES {
            return Err(Error::Name);
        }
        Ok(())
    }

    /// A frame's data is complete.
    fn end(&mut self, packets: &mut Vec<Packet>) -> Result<(), Error> {
        let Some(partial) = self.partial.take_if(|partial| partial.done) else { return Ok(()) };
        self.floor = partial.message.saturating_add(1);
        let packet = match partial.kind {
            kind::INVOKE => Packet::Invoke(String::from_utf8(partial.data).map_err(|_| Error::Name)?),
            kind::MESSAGE => Packet::Message(partial.data),
            kind::ERROR => error(&partial.data),
            kind::CANCEL => Packet::Cancel,
            kind::CLOSE => Packet::Close,
            kind::CLOSE_SEND => Packet::CloseSend,
            kind::INVOKE_METADATA => Packet::Metadata(partial.data),
            _ if partial.ignorable => return Ok(()),
            unknown => return Err(Error::Kind(unknown)),
        };
        packets.push(packet);
        Ok(())
    }
}

impl Head {
    /// Takes the next byte; the frame's length once all is read.
    fn push(&mut self, byte: u8) -> Result<Option<u64>, Error> {
        if self.field == 0 {
            self.control = byte;
            self.field = 1;
            return Ok(None);
        }
        // Ten groups of seven bits; what exceeds 64 is dropped, as drpcwire/varint.go does.
        if self.shift >= 64 {
            return Err(Error::LongVarint);
        }
        self.value |= u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        if byte & 0x80 != 0 {
            return if self.shift >= 64 { Err(Error::LongVarint) } else { Ok(None) };
        }
        let value = std::mem::take(&mut self.value);
        self.shift = 0;
        match self.field {
            1 => self.stream = value,
            2 => self.message = value,
            _ => return Ok(Some(value)),
        }
        self.field += 1;
        Ok(None)
    }
}

/// The data of an Error packet. Without room for a code it is all text, and said to be so.
fn error(data: &[u8]) -> Packet {
    match data.split_first_chunk() {
        Some((code, text)) => {
            Packet::Error { code: u64::from_be_bytes(*code), text: String::from_utf8_lossy(text).into_owned() }
        }
        None => Packet::Error { code: 0, text: format!("{} (sent without a code)", String::from_utf8_lossy(data)) },
    }
}

/// Writes our direction of one RPC.
pub struct Encoder {
    /// Id of the next packet.
    message: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder at the start of a stream.
    pub fn new() -> Self {
        Self { message: 1 }
    }

    /// Calls an RPC by its full name: simulated agents in tests and measurements.
    pub fn invoke(&mut self, name: &str, out: &mut Vec<u8>) {
        self.packet(kind::INVOKE, &[name.as_bytes()], out);
    }

    /// A protobuf message of at most [`PACKET_BYTES`]; the peer ends the RPC over a longer one.
    pub fn message(&mut self, message: &[u8], out: &mut Vec<u8>) {
        self.packet(kind::MESSAGE, &[message], out);
    }

    /// No more messages from us.
    pub fn close_send(&mut self, out: &mut Vec<u8>) {
        self.packet(kind::CLOSE_SEND, &[], out);
    }

    /// The RPC is over in both directions.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.packet(kind::CLOSE, &[], out);
    }

    /// The RPC failed. Clients recognise code 12, unimplemented; all else is 0.
    pub fn error(&mut self, code: u64, text: &str, out: &mut Vec<u8>) {
        self.packet(kind::ERROR, &[&code.to_be_bytes(), text.as_bytes()], out);
    }

    /// Writes one packet whose data is the concatenation of `parts`.
    fn packet(&mut self, kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
        let mut left: usize = parts.iter().map(|part| part.len()).sum();
        let mut parts = parts.iter().copied();
        let mut part: &[u8] = &[];
        loop {
            let mut room = left.min(FRAME_BYTES);
            left -= room;
            out.push(kind << 1 | if left == 0 { DONE } else { 0 });
            varint(STREAM, out);
            varint(self.message, out);
            varint(u64::try_from(room).unwrap_or(u64::MAX), out);
            while room > 0 {
                if part.is_empty() {
                    part = parts.next().unwrap_or_default();
                }
                let (head, tail) = part.split_at_checked(room).unwrap_or((part, &[]));
                out.extend_from_slice(head);
                room -= head.len();
                part = tail;
            }
            if left == 0 {
                break;
            }
        }
        self.message += 1;
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}
