//! The server's side of a WebSocket (RFC 6455), without extensions.
//!
//! tungstenite checks and assembles messages. It would keep its read buffer for as long as the
//! socket lives, and reserve what a frame claims before it arrives; so a partial frame is kept here,
//! growing only as bytes come, and tungstenite sees whole frames. Between messages its context is
//! dropped: an idle socket is this struct and nothing on the heap.

mod bytes;

use std::fmt;
use std::io::{self, Cursor, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tungstenite::error::{CapacityError, Error as Fault};
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

pub use self::bytes::ByteStream;

/// tungstenite's read buffer, bytes. It exists while frames are processed, and between the fragments
/// of a message.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Longest payload of a control frame, bytes (RFC 6455 section 5.5).
const CONTROL_BYTES: usize = 125;
/// Longest reason of a close frame, bytes: a control payload less the two of the code.
const REASON_BYTES: usize = 123;

/// What the peer sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A whole binary message.
    Binary(Vec<u8>),
    /// A whole text message.
    Text(String),
    /// The answer to a ping, with the ping's payload.
    Pong(Vec<u8>),
    /// The peer closes, or answers our close. Nothing comes after it.
    Closed {
        /// RFC 6455 close code, unless the peer gave none.
        code: Option<u16>,
        /// What the peer said about it.
        reason: String,
    },
}

/// Why no more can be read. The close frame that tells the peer is in the output already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// A message or frame over the limit, in bytes; close code 1009.
    TooBig(usize),
    /// Text that is not UTF-8; close code 1007.
    NotUtf8,
    /// Text where bytes are expected; close code 1003.
    Text,
    /// Anything else that RFC 6455 forbids, an unmasked frame for one; close code 1002.
    Protocol,
}

impl Error {
    /// The close code that was sent.
    pub fn code(self) -> u16 {
        match self {
            Self::TooBig(_) => 1009,
            Self::NotUtf8 => 1007,
            Self::Text => 1003,
            Self::Protocol => 1002,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooBig(limit) => write!(f, "The WebSocket message is longer than {limit} bytes."),
            Self::NotUtf8 => write!(f, "The WebSocket text message is not UTF-8."),
            Self::Text => write!(f, "The WebSocket message is text, and only binary ones are taken."),
            Self::Protocol => write!(f, "The peer broke the WebSocket protocol."),
        }
    }
}

impl std::error::Error for Error {}

/// One WebSocket, after the handshake.
pub struct WebSocket {
    /// Largest message, bytes.
    max_message: usize,
    /// The beginning of a frame that is not complete.
    partial: Vec<u8>,
    /// Present between the fragments of a message, and while closing.
    context: Option<Box<WebSocketContext>>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// We sent a close frame; the peer's is awaited.
    Closing,
    /// Nothing more is read or written.
    Closed,
}

impl WebSocket {
    /// The server's end, accepting messages of up to `max_message` bytes.
    pub fn server(max_message: usize) -> Self {
        Self { max_message, partial: Vec::new(), context: None, state: State::Open }
    }

    /// Takes bytes from the peer, in pieces of any size. Pings and a close are answered into `out`.
    /// An error closes the socket, with a close frame in `out`; what came before it is in `events`.
    pub fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>, events: &mut Vec<Event>) -> Result<(), Error> {
        if self.state == State::Closed {
            return Ok(());
        }
        let result = self.receive_frames(bytes, out, events);
        if let Err(error) = result {
            // The same text for the peer as for the log.
            self.close(error.code(), &error.to_string(), out);
            self.end();
        }
        result
    }

    /// Sends a binary message. Ignored once closing.
    pub fn binary(&mut self, message: &[u8], out: &mut Vec<u8>) {
        self.frame(OpCode::Data(Data::Binary), message, out);
    }

    /// Sends a text message. Ignored once closing.
    pub fn text(&mut self, message: &str, out: &mut Vec<u8>) {
        self.frame(OpCode::Data(Data::Text), message.as_bytes(), out);
    }

    /// Asks for an [`Event::Pong`] with the same payload, of which at most 125 bytes are sent. Ignored
    /// once closing.
    pub fn ping(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let payload = payload.get(..CONTROL_BYTES).unwrap_or(payload);
        self.frame(OpCode::Control(Control::Ping), payload, out);
    }

    /// Starts the close handshake; the peer's answer comes as [`Event::Closed`]. The reason is cut to
    /// 123 bytes at a character's border. Ignored once closing.
    pub fn close(&mut self, code: u16, reason: &str, out: &mut Vec<u8>) {
        if self.state != State::Open {
            return;
        }
        let reason = reason.get(..reason.floor_char_boundary(REASON_BYTES)).unwrap_or_default();
        let mut context = self.take_context();
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        // Only a full output could fail, and `out` takes all.
        let _ = context.close(&mut Memory { input: &[], output: out }, Some(frame));
        self.context = Some(context);
        self.state = State::Closing;
    }

    /// Whether nothing more is read or written: the handshake to close is done, or the peer broke the
    /// protocol. What is in the output is still to be sent.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    fn receive_frames(&mut self, bytes: &[u8], out: &mut Vec<u8>, events: &mut Vec<Event>) -> Result<(), Error> {
        let buffered = (!self.partial.is_empty()).then(|| {
            let mut all = std::mem::take(&mut self.partial);
            all.extend_from_slice(bytes);
            all
        });
        let input = buffered.as_deref().unwrap_or(bytes);
        let run = self.scan(input);
        let (whole, rest) = input.split_at_checked(run.whole).unwrap_or((input, &[]));
        self.process(whole, run.between_messages, out, events)?;
        match run.fault {
            _ if self.state == State::Closed => Ok(()),
            Some(error) => Err(error),
            None => {
                self.partial =
                    if whole.is_empty() { buffered.unwrap_or_else(|| bytes.to_vec()) } else { rest.to_vec() };
                Ok(())
            }
        }
    }

    /// How much of `input` is whole frames. Looks at heads only, and refuses what must not even be
    /// waited for.
    fn scan(&self, input: &[u8]) -> Run {
        let mut run = Run { whole: 0, between_messages: self.context.is_none(), fault: None };
        while let Some(rest) = input.get(run.whole..).filter(|rest| !rest.is_empty()) {
            let mut cursor = Cursor::new(rest);
            let (header, length) = match FrameHeader::parse(&mut cursor) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(_) => return Run { fault: Some(Error::Protocol), ..run },
            };
            let control = matches!(header.opcode, OpCode::Control(_));
            let (limit, over) = match control {
                true => (CONTROL_BYTES, Error::Protocol),
                false => (self.max_message, Error::TooBig(self.max_message)),
            };
            if header.mask.is_none() {
                return Run { fault: Some(Error::Protocol), ..run };
            }
            let Some(length) = usize::try_from(length).ok().filter(|length| *length <= limit) else {
                return Run { fault: Some(over), ..run };
            };
            let head = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
            if rest.len().saturating_sub(head) < length {
                break;
            }
            run.whole += head + length;
            if !control {
                run.between_messages = header.is_final;
            }
        }
        run
    }

    /// Lets tungstenite work through whole frames.
    fn process(
        &mut self,
        frames: &[u8],
        between_messages: bool,
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        if frames.is_empty() {
            return Ok(());
        }
        let mut context = self.take_context();
        let mut memory = Memory { input: frames, output: out };
        loop {
            match context.read(&mut memory) {
                Ok(Message::Binary(data)) => events.push(Event::Binary(data.into())),
                Ok(Message::Text(text)) => events.push(Event::Text(text.as_str().to_owned())),
                Ok(Message::Pong(data)) => events.push(Event::Pong(data.into())),
                Ok(Message::Close(frame)) => {
                    let (code, reason) = frame.map_or((None, String::new()), |frame| {
                        (Some(frame.code.into()), frame.reason.as_str().to_owned())
                    });
                    events.push(Event::Closed { code, reason });
                }
                // The answer to a ping is written by the next read. Single frames are only ever written.
                Ok(Message::Ping(_) | Message::Frame(_)) => {}
                Err(Fault::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(Fault::ConnectionClosed | Fault::AlreadyClosed) => {
                    self.end();
                    return Ok(());
                }
                Err(Fault::Capacity(CapacityError::MessageTooLong { .. })) => {
                    return Err(Error::TooBig(self.max_message));
                }
                Err(Fault::Utf8(_)) => return Err(Error::NotUtf8),
                Err(_) => return Err(Error::Protocol),
            }
        }
        if !between_messages || self.state == State::Closing {
            self.context = Some(context);
        }
        Ok(())
    }

    fn take_context(&mut self) -> Box<WebSocketContext> {
        self.context.take().unwrap_or_else(|| {
            let config = WebSocketConfig::default()
                .read_buffer_size(READ_BUFFER_BYTES)
                .write_buffer_size(0)
                .max_message_size(Some(self.max_message))
                .max_frame_size(Some(self.max_message.max(CONTROL_BYTES)));
            Box::new(WebSocketContext::new(Role::Server, Some(config)))
        })
    }

    fn end(&mut self) {
        self.state = State::Closed;
        self.context = None;
        self.partial = Vec::new();
    }

    fn frame(&self, opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
        if self.state != State::Open {
            return;
        }
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        // Writing to memory does not fail.
        let _ = FrameHeader { is_final: true, opcode, ..FrameHeader::default() }.format(length, out);
        out.extend_from_slice(payload);
    }
}

/// What a look at the heads of some frames showed.
struct Run {
    /// Bytes of whole frames at the start.
    whole: usize,
    /// After them, no fragmented message is under way.
    between_messages: bool,
    /// What is wrong with the frame behind them.
    fault: Option<Error>,
}

/// The socket that tungstenite sees.
struct Memory<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`; `None` unless the key is 16 bytes in
/// base64, as RFC 6455 section 4.1 demands.
pub fn accept_key(key: &str) -> Option<String> {
    let bytes = STANDARD.decode(key).ok()?;
    (bytes.len() == 16).then(|| tungstenite::handshake::derive_accept_key(key.as_bytes()))
}
