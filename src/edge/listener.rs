//! Accepting connections: who may come in, and what to do when there are no file descriptors.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry};

use super::Shared;
use super::counters::Reason;
use super::forwarded::is_trusted;
use super::slab::other_token;
use super::transport::{Socket, retry};
use crate::model::network;

/// Connections accepted from one listener in a round, so that established ones get their turn.
const PER_ROUND: usize = 64;
/// Silence of a client after which the system begins to probe it.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
/// Time between two probes.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Unanswered probes after which the client counts as gone.
const KEEP_ALIVE_PROBES: u32 = 4;
/// Pause after `accept` failed, most likely for lack of file descriptors. Who waits in the listener's
/// queue is served when something was closed.
const PAUSE: Duration = Duration::from_millis(100);
/// Time between two complaints about that in the log.
const COMPLAINT: Duration = Duration::from_secs(10);

/// Who is at the other end.
#[derive(Clone)]
pub(super) enum Peer {
    /// A client on the network.
    Client(IpAddr),
    /// A process of the administrator on this machine.
    Operator(Arc<str>),
}

/// A connection that was let in.
pub(super) struct Arrival {
    pub(super) socket: Socket,
    pub(super) peer: Peer,
    pub(super) admission: Admission,
}

/// How many connections there are, in all and by address.
#[derive(Default)]
pub(super) struct Census {
    open: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among the connections; it is given back when dropped.
pub(super) struct Admission {
    census: Arc<Census>,
    /// What it is counted under; `None` if it is exempt.
    address: Option<IpAddr>,
}

impl Census {
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn admit(census: &Arc<Census>, address: Option<IpAddr>, in_all: usize, each: usize) -> Result<Admission, Reason> {
        if census.open() >= in_all {
            return Err(Reason::Connections);
        }
        if let Some(address) = address {
            let mut by_address = census.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_address.entry(address).or_insert(0);
            if *count >= each {
                return Err(Reason::Address);
            }
            *count += 1;
        }
        census.open.fetch_add(1, Ordering::Relaxed);
        Ok(Admission { census: Arc::clone(census), address })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.census.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            let mut by_address = self.census.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_address.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&address);
                }
            }
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// All listeners; they live on the first loop.
pub(super) struct Acceptor {
    listeners: Vec<(Listener, bool)>,
    paused: Option<Instant>,
    complained: Option<Instant>,
    /// Users who may use the administrator's socket, with the names to write down for them.
    operators: Vec<(u32, Arc<str>)>,
    shared: Arc<Shared>,
}

impl Acceptor {
    /// Registers the listeners under tokens from `first_token` on.
    pub(super) fn new(
        listeners: Vec<std::net::TcpListener>,
        admin: Option<std::os::unix::net::UnixListener>,
        first_token: usize,
        registry: &Registry,
        shared: Arc<Shared>,
    ) -> io::Result<Acceptor> {
        let mut all = Vec::new();
        for listener in listeners {
            listener.set_nonblocking(true)?;
            all.push((Listener::Tcp(TcpListener::from_std(listener)), false));
        }
        if let Some(listener) = admin {
            listener.set_nonblocking(true)?;
            all.push((Listener::Unix(UnixListener::from_std(listener)), false));
        }
        for (index, (listener, _)) in all.iter_mut().enumerate() {
            let token = other_token(first_token + index);
            match listener {
                Listener::Tcp(listener) => registry.register(listener, token, Interest::READABLE)?,
                Listener::Unix(listener) => registry.register(listener, token, Interest::READABLE)?,
            }
        }
        let own = rustix::process::geteuid().as_raw();
        let operators = [0, own].map(|uid| (uid, Arc::from(user_name(uid)))).to_vec();
        Ok(Acceptor { listeners: all, paused: None, complained: None, operators, shared })
    }

    /// Listener `index` has something.
    pub(super) fn on_event(&mut self, index: usize) {
        if let Some((_, ready)) = self.listeners.get_mut(index) {
            *ready = true;
        }
    }

    /// When [`Acceptor::accept`] has work: `None` if not before the next event.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let ready = self.listeners.iter().any(|(_, ready)| *ready);
        ready.then(|| self.paused.unwrap_or(now))
    }

    /// Accepts a bounded number of connections and appends those that may come in.
    pub(super) fn accept(&mut self, now: Instant, arrivals: &mut Vec<Arrival>) {
        if self.paused.is_some_and(|until| until > now) {
            return;
        }
        self.paused = None;
        for index in 0..self.listeners.len() {
            for _ in 0..PER_ROUND {
                let Some((listener, ready)) = self.listeners.get_mut(index).filter(|(_, ready)| *ready) else { break };
                let accepted = match listener {
                    Listener::Tcp(listener) => retry(|| listener.accept())
                        .map(|(socket, address)| (Socket::Tcp(socket), Some(address.ip().to_canonical()))),
                    Listener::Unix(listener) => {
                        retry(|| listener.accept()).map(|(socket, _)| (Socket::Unix(socket), None))
                    }
                };
                match accepted {
                    Ok((socket, address)) => match self.admit(socket, address) {
                        Ok(arrival) => arrivals.push(arrival),
                        Err(reason) => self.shared.tally.refuse(reason),
                    },
                    Err(error) if error.kind() == ErrorKind::WouldBlock => *ready = false,
                    // The client gave up before it was its turn.
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        self.paused = Some(now + PAUSE);
                        self.shared.tally.refuse(Reason::Accept);
                        if self.complained.is_none_or(|last| now.duration_since(last) >= COMPLAINT) {
                            self.complained = Some(now);
                            log::error!("connections cannot be accepted for the moment: {error}");
                        }
                        return;
                    }
                }
            }
        }
    }

    fn admit(&self, socket: Socket, address: Option<IpAddr>) -> Result<Arrival, Reason> {
        let shared = &self.shared;
        let (in_all, each) = (shared.limits.connections, shared.limits.connections_per_address);
        let (peer, counted) = match (&socket, address) {
            (Socket::Unix(unix), _) => {
                let uid = rustix::net::sockopt::socket_peercred(unix).map_err(|_| Reason::Operator)?.uid.as_raw();
                let operator = self.operators.iter().find(|(allowed, _)| *allowed == uid);
                (Peer::Operator(Arc::clone(&operator.ok_or(Reason::Operator)?.1)), None)
            }
            (Socket::Tcp(tcp), address) => {
                // A connection that is broken already says so soon enough.
                let _ = tcp.set_nodelay(true);
                keep_alive(tcp);
                let address = address.ok_or(Reason::Accept)?;
                let exempt = address.is_loopback() || is_trusted(address, &shared.trusted_proxies);
                (Peer::Client(address), (!exempt).then(|| network(address)))
            }
        };
        // The administrator must get in when nobody else does.
        let in_all = if matches!(peer, Peer::Operator(_)) { usize::MAX } else { in_all };
        let admission = Census::admit(&shared.census, counted, in_all, each)?;
        shared.tally.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(Arrival { socket, peer, admission })
    }
}

/// Has the system find out that a client is gone: some wait for long, and nothing may be sent to them meanwhile.
fn keep_alive(socket: &mio::net::TcpStream) {
    use rustix::net::sockopt;
    let set = sockopt::set_socket_keepalive(socket, true)
        .and_then(|()| sockopt::set_tcp_keepidle(socket, KEEP_ALIVE_AFTER))
        .and_then(|()| sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE_EVERY))
        .and_then(|()| sockopt::set_tcp_keepcnt(socket, KEEP_ALIVE_PROBES));
    if let Err(error) = set {
        log::debug!("a connection is not probed: {error}");
    }
}

/// The name of a user of this machine, or the number if it has none.
fn user_name(uid: u32) -> String {
    let number = uid.to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut columns = line.split(':');
        let name = columns.next()?;
        (columns.nth(1)? == number && !name.is_empty()).then(|| name.to_owned())
    });
    // It goes into a header line.
    name.filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic())).unwrap_or(number)
}
