//! A socket with optional TLS and the bytes that it has not taken yet.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;

/// Bytes read from a socket at once. One buffer per loop, not per connection.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// The buffers that a loop lends to whichever connection is being read.
#[derive(Default)]
pub(super) struct Scratch {
    /// What the client said.
    pub(super) plain: Box<[u8]>,
    /// The same, still encrypted.
    sealed: Box<[u8]>,
}

impl Scratch {
    pub(super) fn new() -> Scratch {
        // rustls may hand out a record that had begun before, 16 KiB at most, beside all of `sealed`.
        Scratch { plain: vec![0; READ_BYTES].into(), sealed: vec![0; READ_BYTES / 2].into() }
    }
}

pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        retry(|| match self {
            Self::Tcp(socket) => socket.read(buf),
            Self::Unix(socket) => socket.read(buf),
        })
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(socket) => socket,
            Self::Unix(socket) => socket,
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        retry(|| match self {
            Self::Tcp(socket) => socket.write(buf),
            Self::Unix(socket) => socket.write(buf),
        })
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        retry(|| match self {
            Self::Tcp(socket) => socket.write_vectored(bufs),
            Self::Unix(socket) => socket.write_vectored(bufs),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Repeats a call that a signal interrupted.
pub(super) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// One connection's way in and out.
pub(super) struct Transport {
    socket: Socket,
    tls: Option<Box<ServerConnection>>,
    /// Bytes (before encryption) that wait for the socket; empty and without memory most of the time.
    output: Vec<u8>,
    written: usize,
    /// Bytes the socket has taken in all, to see whether the client makes progress.
    pub(super) sent: u64,
    /// Epoll tells only of changes: this is what it told last, minus what was used up.
    pub(super) readable: bool,
    writable: bool,
    /// The client has ended its direction: the next read that finds nothing finds the end.
    pub(super) half_closed: bool,
}

/// What reading brought.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Received {
    /// So many bytes at the front of [`Scratch::plain`].
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The client has ended its direction.
    End,
}

impl Transport {
    pub(super) fn new(socket: Socket, tls: Option<ServerConnection>) -> Transport {
        Transport {
            socket,
            tls: tls.map(Box::new),
            output: Vec::new(),
            written: 0,
            sent: 0,
            readable: false,
            writable: true,
            half_closed: false,
        }
    }

    /// Both directions are registered once and for all: edge-triggered epoll stays silent about a
    /// TCP socket's writability until a write was refused.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(self.socket.source(), token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Ends what [`Transport::register`] began, for another loop to begin it anew, which tells of
    /// everything that there is by then.
    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(self.socket.source())
    }

    pub(super) fn on_event(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        self.half_closed |= event.is_read_closed();
    }

    pub(super) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads once. Clears `readable` when the socket is known to be empty.
    pub(super) fn receive(&mut self, scratch: &mut Scratch) -> io::Result<Received> {
        match self.tls {
            None => {
                let got = self.socket.read(&mut scratch.plain);
                self.note_read(got, READ_BYTES)
            }
            Some(_) => self.receive_sealed(scratch),
        }
    }

    fn receive_sealed(&mut self, scratch: &mut Scratch) -> io::Result<Received> {
        let got = self.socket.read(&mut scratch.sealed);
        let Received::Bytes(got) = self.note_read(got, READ_BYTES / 2)? else {
            let ended = !self.readable && self.half_closed;
            return Ok(if ended { Received::End } else { Received::Nothing });
        };
        let Some(tls) = self.tls.as_mut() else { return Ok(Received::Nothing) };
        let mut sealed = scratch.sealed.get(..got).unwrap_or_default();
        let mut plain = 0;
        let mut ended = false;
        while !sealed.is_empty() && !ended {
            let before = sealed.len();
            tls.read_tls(&mut sealed)?;
            let state = match tls.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    // The alert that tells the client why.
                    let _ = tls.write_tls(&mut self.socket);
                    return Err(io::Error::new(ErrorKind::InvalidData, error));
                }
            };
            if state.plaintext_bytes_to_read() > 0 {
                let room = scratch.plain.get_mut(plain..).unwrap_or_default();
                match tls.reader().read(room) {
                    Ok(read) => plain += read,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            ended = state.peer_has_closed();
            if sealed.len() == before {
                return Err(io::Error::new(ErrorKind::InvalidData, "a TLS record cannot be taken"));
            }
        }
        if tls.wants_write() {
            self.flush()?;
        }
        Ok(match (plain, ended) {
            (0, true) => {
                self.readable = false;
                self.half_closed = true;
                Received::End
            }
            (0, false) => Received::Nothing,
            (bytes, _) => {
                if ended {
                    // The end is seen by the next read: what follows a close_notify is not read.
                    self.readable = true;
                    self.half_closed = true;
                }
                Received::Bytes(bytes)
            }
        })
    }

    fn note_read(&mut self, result: io::Result<usize>, asked: usize) -> io::Result<Received> {
        match result {
            Ok(0) => {
                self.readable = false;
                self.half_closed = true;
                Ok(Received::End)
            }
            Ok(got) => {
                // A short read has emptied the socket, and what comes later makes a new event: this
                // saves the read that would only say so. An end that was announced must still be read.
                self.readable = got == asked || self.half_closed;
                Ok(Received::Bytes(got))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(Received::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps bytes for the next [`Transport::flush`].
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Writes what the socket takes at once and keeps the rest.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.tls.is_none() && self.output.is_empty() && self.writable {
            let mut rest = bytes;
            while !rest.is_empty() {
                match self.socket.write(rest) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(taken) => {
                        self.sent += u64::try_from(taken).unwrap_or_default();
                        rest = rest.get(taken..).unwrap_or_default();
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.writable = false;
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.output.extend_from_slice(rest);
            return Ok(());
        }
        self.output.extend_from_slice(bytes);
        self.flush()
    }

    /// As [`Transport::send`], without copying.
    pub(super) fn send_all(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        if !self.output.is_empty() {
            return self.send(&bytes);
        }
        self.output = bytes;
        self.written = 0;
        self.flush()
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.writable && self.pending() > 0 {
            let rest = self.output.get(self.written..).unwrap_or_default();
            let result = match self.tls.as_mut() {
                None => match self.socket.write(rest) {
                    Ok(taken) => {
                        self.written += taken;
                        Ok(taken)
                    }
                    error => error,
                },
                Some(tls) => {
                    let taken = if rest.is_empty() { 0 } else { tls.writer().write(rest)? };
                    self.written += taken;
                    if tls.wants_write() {
                        tls.write_tls(&mut self.socket)
                    } else {
                        // Before the handshake is over, rustls keeps plaintext up to its limit.
                        break;
                    }
                }
            };
            match result {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => self.sent += u64::try_from(taken).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) => return Err(error),
            }
        }
        if self.written == self.output.len() {
            // Memory is given back: an idle connection holds none.
            self.output = Vec::new();
            self.written = 0;
        } else if self.written > self.output.len() / 2 {
            self.output.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    /// Writes although the socket did not say that it takes more.
    pub(super) fn try_again(&mut self) -> io::Result<()> {
        self.writable = true;
        self.flush()
    }

    /// Whether anything waits for the socket, and how much.
    pub(super) fn pending(&self) -> usize {
        let sealed = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        self.output.len() - self.written + usize::from(sealed)
    }

    /// Says goodbye: no more will be written.
    pub(super) fn end_output(&mut self) {
        if let Some(tls) = self.tls.as_mut() {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.socket);
        }
        let _ = match &self.socket {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
        };
    }
}
