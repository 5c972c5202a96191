//! A client of the relay over a blocking socket.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use moorline::model::NodeKey;
use moorline::wire::derp::{self, Greeting, SecretKey, kind};
use zeroize::Zeroizing;

const PATIENCE: Duration = Duration::from_secs(20);

/// The key pair with this number. Each is made once, since that takes milliseconds without optimisation.
pub fn key(number: u32) -> &'static SecretKey {
    static KEYS: Mutex<BTreeMap<u32, &SecretKey>> = Mutex::new(BTreeMap::new());
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    keys.entry(number).or_insert_with(|| {
        let mut bytes = [7; 32];
        // Not the first byte: some of its bits do not count.
        bytes[4..8].copy_from_slice(&number.to_le_bytes());
        Box::leak(Box::new(SecretKey::new(&Zeroizing::new(bytes))))
    })
}

/// How a client asks for the relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Upgrade,
    FastStart,
    WebSocket,
}

impl Way {
    /// The request.
    pub fn request(self) -> String {
        let more = match self {
            Way::Upgrade => "Upgrade: DERP\r\n",
            Way::FastStart => "Upgrade: DERP\r\nDerp-Fast-Start: 1\r\n",
            Way::WebSocket => {
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: derp\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            }
        };
        format!("GET /derp HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n{more}\r\n")
    }
}

/// A connection on which the greetings were exchanged.
pub struct Client {
    pub socket: TcpStream,
    pub way: Way,
    /// Bytes of the protocol that were read and not used.
    pub buffer: Vec<u8>,
    /// The same, still in frames of the WebSocket.
    framed: Vec<u8>,
    /// What the relay said of itself.
    pub relay: NodeKey,
}

impl Client {
    /// Connects as the owner of `key`.
    pub fn connect(address: &str, way: Way, key: &SecretKey) -> Client {
        let mut client = Client::greeted(address, way);
        let mut hello = Vec::new();
        Greeting::client_info(key, &client.relay, [9; 24], br#"{"version":2,"CanAckPings":true}"#, &mut hello);
        client.send(&hello);
        let (kind, _) = client.frame();
        assert_eq!(kind, kind::SERVER_INFO);
        client
    }

    /// Connects and reads what the relay says first.
    pub fn greeted(address: &str, way: Way) -> Client {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(way.request().as_bytes()).unwrap();
        if way != Way::FastStart {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                assert_eq!(socket.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
                head.push(byte[0]);
            }
            assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        }
        let mut client = Client { socket, way, buffer: Vec::new(), framed: Vec::new(), relay: NodeKey([0; 32]) };
        let (kind, payload) = client.frame();
        assert_eq!((kind, &payload[..8]), (kind::SERVER_KEY, &derp::MAGIC[..]));
        client.relay = NodeKey(payload[8..].try_into().unwrap());
        client
    }

    /// Sends bytes of the protocol.
    pub fn send(&mut self, bytes: &[u8]) {
        let framed = self.encode(bytes);
        self.socket.write_all(&framed).unwrap();
    }

    /// Bytes of the protocol as they go over the socket.
    pub fn encode(&self, bytes: &[u8]) -> Vec<u8> {
        if self.way == Way::WebSocket { masked(bytes) } else { bytes.to_vec() }
    }

    /// Sends a packet.
    pub fn packet(&mut self, to: &NodeKey, packet: &[u8]) {
        let mut frame = Vec::new();
        derp::send_packet(to, packet, &mut frame);
        self.send(&frame);
    }

    /// Reads more; `false` at the end.
    pub fn more(&mut self) -> bool {
        let mut piece = [0; 64 * 1024];
        match self.socket.read(&mut piece) {
            Ok(0) => false,
            Ok(got) if self.way == Way::WebSocket => {
                self.framed.extend_from_slice(&piece[..got]);
                self.unframe();
                true
            }
            Ok(got) => {
                self.buffer.extend_from_slice(&piece[..got]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("reading failed: {error}"),
        }
    }

    /// Takes whole messages out of what was read.
    fn unframe(&mut self) {
        let mut start = 0;
        loop {
            let rest = &self.framed[start..];
            let (head, length) = match rest {
                [_, 126, a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
                [_, length @ ..126, ..] => (2, usize::from(*length)),
                _ => break,
            };
            let Some(payload) = rest.get(head..head + length) else { break };
            if rest[0] == 0x82 {
                self.buffer.extend_from_slice(payload);
            }
            start += head + length;
        }
        self.framed.drain(..start);
    }

    /// The next frame, if one comes before the connection ends.
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((kind, length)) = derp::peek(&self.buffer)
                && self.buffer.len() >= 5 + length
            {
                let payload = self.buffer[5..5 + length].to_vec();
                self.buffer.drain(..5 + length);
                return Some((kind, payload));
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// The next frame.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        self.next().expect("the connection ended")
    }

    /// The next packet: its source and itself.
    pub fn received(&mut self) -> (NodeKey, Vec<u8>) {
        let (kind, payload) = self.frame();
        assert_eq!(kind, kind::RECV_PACKET, "{payload:02x?}");
        (NodeKey(payload[..32].try_into().unwrap()), payload[32..].to_vec())
    }
}

/// A client's binary message.
pub fn masked(bytes: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut frame = vec![0x82];
    match u16::try_from(bytes.len()) {
        Ok(short @ ..126) => frame.push(0x80 | short as u8),
        Ok(medium) => {
            frame.push(0x80 | 126);
            frame.extend(medium.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((bytes.len() as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
