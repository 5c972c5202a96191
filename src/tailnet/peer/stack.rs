//! TCP with one agent: packets in, packets out, no I/O.

use std::collections::HashSet;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, Checksum, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer, State};
use smoltcp::time;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use super::tunnel::MTU;

/// What may be under way from the agent, bytes per connection. With 0.3 ms for a round trip inside the
/// process this passes 200 MB/s.
const RECEIVE_BYTES: usize = 64 * 1024;
/// What may be under way to the agent, bytes per connection: keystrokes and pasted text.
const SEND_BYTES: usize = 16 * 1024;
/// Packets that are made before they are sealed and handed on.
const BURST: usize = 64;
/// Time between two signs of life on a quiet connection. They also keep the tunnel's keys fresh, so that the
/// first key after a long pause needs no handshake.
const KEEP_ALIVE: time::Duration = time::Duration::from_secs(10);
/// A connection whose agent has answered nothing for this long has failed.
const SILENT: time::Duration = time::Duration::from_secs(30);
/// First of the ports from which connections go out.
const FIRST_PORT: u16 = 49_152;

/// All connections with one agent.
pub(super) struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    queue: Queue,
    began: Instant,
    peer: Ipv6Addr,
    next_port: u16,
    ports: HashSet<u16>,
}

/// A connection of a stack.
#[derive(Debug)]
pub(super) struct Line {
    handle: SocketHandle,
    port: u16,
}

/// What became of reading from a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// The agent has not answered yet.
    Dialing,
    /// All that came was read.
    Empty,
    /// There is more.
    More,
    /// The agent has closed it and all was read.
    Ended,
    /// It was refused, reset, or given up.
    Broken,
}

impl Stack {
    /// Between `own` and `peer`.
    pub(super) fn new(own: Ipv6Addr, peer: Ipv6Addr, seed: u64, began: Instant) -> Stack {
        let mut queue = Queue::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut queue, time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // There is room for one at least.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv6(own), 128));
        });
        // With one peer behind it, everything goes there.
        let _ = interface.routes_mut().add_default_ipv6_route(peer);
        // Not the same sequence of ports after each restart of the server.
        let next_port = FIRST_PORT | u16::try_from(seed & 0x3fff).unwrap_or(0);
        let sockets = SocketSet::new(Vec::new());
        Stack { interface, sockets, queue, began, peer, next_port, ports: HashSet::new() }
    }

    fn instant(&self, now: Instant) -> time::Instant {
        let micros = now.saturating_duration_since(self.began).as_micros();
        time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// Begins a connection to `port` of the agent.
    pub(super) fn connect(&mut self, port: u16) -> Option<Line> {
        let own = self.free_port()?;
        let mut socket = Socket::new(SocketBuffer::new(vec![0; RECEIVE_BYTES]), SocketBuffer::new(vec![0; SEND_BYTES]));
        socket.set_congestion_control(CongestionControl::Cubic);
        // Keystrokes do not wait for the answer to the one before.
        socket.set_nagle_enabled(false);
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.set_timeout(Some(SILENT));
        let remote = IpEndpoint::new(IpAddress::Ipv6(self.peer), port);
        if let Err(error) = socket.connect(self.interface.context(), remote, own) {
            log::error!("a connection to an agent cannot begin: {error}");
            return None;
        }
        self.ports.insert(own);
        Some(Line { handle: self.sockets.add(socket), port: own })
    }

    fn free_port(&mut self) -> Option<u16> {
        let all = u16::MAX - FIRST_PORT + 1;
        for _ in 0..all {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.ports.contains(&port) {
                return Some(port);
            }
        }
        None
    }

    /// A packet from the agent.
    pub(super) fn receive(&mut self, now: Instant, packet: &[u8]) {
        self.queue.incoming.clear();
        self.queue.incoming.extend_from_slice(packet);
        let now = self.instant(now);
        self.interface.poll_ingress_single(now, &mut self.queue, &mut self.sockets);
        self.queue.incoming.clear();
    }

    /// Gives the packets that are due to `send`; says whether there are more.
    pub(super) fn transmit(&mut self, now: Instant, mut send: impl FnMut(&[u8])) -> bool {
        let now = self.instant(now);
        self.interface.poll_maintenance(now);
        while self.interface.poll_egress(now, &mut self.queue, &mut self.sockets) == PollResult::SocketStateChanged
            && self.queue.lengths.len() < BURST
        {}
        let full = self.queue.lengths.len() >= BURST;
        let mut rest = self.queue.outgoing.as_slice();
        for length in self.queue.lengths.drain(..) {
            let Some((packet, after)) = rest.split_at_checked(length) else { break };
            send(packet);
            rest = after;
        }
        self.queue.outgoing.clear();
        full
    }

    /// How long until something is due.
    pub(super) fn delay(&mut self, now: Instant) -> Option<Duration> {
        let now = self.instant(now);
        self.interface.poll_delay(now, &self.sockets).map(Duration::from)
    }

    /// Appends at most `room` bytes that came from the agent.
    pub(super) fn read(&mut self, line: &Line, room: usize, out: &mut Vec<u8>) -> Reading {
        let socket = self.sockets.get_mut::<Socket<'_>>(line.handle);
        if matches!(socket.state(), State::SynSent | State::SynReceived) {
            return Reading::Dialing;
        }
        let mut left = room;
        loop {
            if left == 0 && socket.recv_queue() > 0 {
                return Reading::More;
            }
            let got = socket.recv(|bytes| {
                let taken = bytes.get(..left.min(bytes.len())).unwrap_or_default();
                out.extend_from_slice(taken);
                (taken.len(), taken.len())
            });
            match got {
                Ok(0) => return Reading::Empty,
                Ok(count) => left -= count.min(left),
                Err(RecvError::Finished) => return Reading::Ended,
                Err(RecvError::InvalidState) => return Reading::Broken,
            }
        }
    }

    /// Takes bytes for the agent; says how many.
    pub(super) fn write(&mut self, line: &Line, bytes: &[u8]) -> usize {
        let socket = self.sockets.get_mut::<Socket<'_>>(line.handle);
        if socket.may_send() { socket.send_slice(bytes).unwrap_or(0) } else { 0 }
    }

    /// The user wants no more of it.
    pub(super) fn close(&mut self, line: &Line) {
        self.sockets.get_mut::<Socket<'_>>(line.handle).close();
    }

    /// Whether nothing more is to be expected of it, so that it can be removed.
    pub(super) fn is_over(&self, line: &Line) -> bool {
        matches!(self.sockets.get::<Socket<'_>>(line.handle).state(), State::Closed | State::TimeWait)
    }

    /// Ends it at once.
    pub(super) fn abort(&mut self, line: &Line) {
        self.sockets.get_mut::<Socket<'_>>(line.handle).abort();
    }

    /// Forgets it. What [`Stack::abort`] says to the agent is sent by [`Stack::transmit`] before.
    pub(super) fn remove(&mut self, line: Line) {
        self.ports.remove(&line.port);
        self.sockets.remove(line.handle);
    }
}

/// The network as the stack sees it.
#[derive(Default)]
struct Queue {
    /// The packet that is to be taken next; nothing while empty.
    incoming: Vec<u8>,
    /// Packets one behind the other.
    outgoing: Vec<u8>,
    lengths: Vec<usize>,
}

struct Incoming<'a>(&'a [u8]);

struct Outgoing<'a> {
    bytes: &'a mut Vec<u8>,
    lengths: &'a mut Vec<usize>,
}

impl phy::RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let start = self.bytes.len();
        self.bytes.resize(start + length, 0);
        self.lengths.push(length);
        write(self.bytes.get_mut(start..).unwrap_or_default())
    }
}

impl Device for Queue {
    type RxToken<'a> = Incoming<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: time::Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        if self.incoming.is_empty() {
            return None;
        }
        Some((Incoming(&self.incoming), Outgoing { bytes: &mut self.outgoing, lengths: &mut self.lengths }))
    }

    fn transmit(&mut self, _: time::Instant) -> Option<Outgoing<'_>> {
        if self.lengths.len() >= BURST {
            return None;
        }
        Some(Outgoing { bytes: &mut self.outgoing, lengths: &mut self.lengths })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut all = DeviceCapabilities::default();
        all.medium = Medium::Ip;
        all.max_transmission_unit = MTU;
        // What comes was authenticated by WireGuard.
        all.checksum.tcp = Checksum::Tx;
        all
    }
}
