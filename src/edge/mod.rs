//! The edge: everything that faces the network.
//!
//! A few event loops own every public socket from accept to close. They read and check requests
//! completely before a worker sees them, take answers off workers as fast as these write, and drive
//! long-lived streams themselves. Nothing ever waits on a loop.
//!
//! | file | concern |
//! | --- | --- |
//! | `listener` | accepting, limits of connections, the administrator's socket |
//! | `event_loop` | one loop: readiness, mail, time |
//! | `conn` | one connection: head → body → waiting → answer → next, or a stream |
//! | `exchange` | its requests and answers |
//! | `driven` | a stream's turn: bytes, mail and time in, bytes out |
//! | `gather` | streams that exchange packets, on one loop |
//! | `flow` | when to wait a moment for more packets |
//! | `transport`, `tls` | bytes in and out, encrypted or not |
//! | `relay`, `upstream` | the private connections to the workers |
//! | `request`, `answer` | what is written to workers and to clients |
//! | `door`, `forwarded` | body limit of a route; who the client is behind a proxy |
//! | `counters`, `slab`, `timers` | what their names say |

mod answer;
mod conn;
mod counters;
mod door;
mod driven;
mod event_loop;
mod exchange;
mod flow;
mod forwarded;
mod gather;
mod listener;
mod relay;
mod request;
mod slab;
mod timers;
pub mod tls;
mod transport;
mod upstream;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use self::counters::Tally;
pub use self::counters::{Counters, Reason};
use self::event_loop::{Command, Handle, Loop};
use self::listener::{Acceptor, Census};
use crate::config::{IpRange, limits};
use crate::ops::budget::Budget;
use crate::streams::Arrivals;
use crate::wire::http::HeadLimits;

/// What an edge is made of.
pub struct Config {
    /// Where clients connect.
    pub listeners: Vec<std::net::TcpListener>,
    /// The administrator's socket.
    pub admin: Option<std::os::unix::net::UnixListener>,
    /// Certificate and key; `None`: plain HTTP.
    pub tls: Option<tls::Tls>,
    /// The Unix socket on which the workers listen.
    pub upstream: PathBuf,
    /// Proves to the workers that a request came through the edge.
    pub secret: String,
    /// Proxies whose headers about clients are believed.
    pub trusted_proxies: Vec<IpRange>,
    /// Event loops.
    pub loops: usize,
    /// Private connections to the workers, over all loops.
    pub upstream_connections: usize,
    /// Where workers leave streams.
    pub arrivals: Arrivals,
    /// `X-Coder-Build-Version` in answers that the edge makes itself.
    pub version_header: String,
    /// What clients may cost.
    pub limits: Limits,
}

/// What clients may cost; by default what `config::limits` says, where the reasons stand.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest request head, bytes.
    pub head_bytes: usize,
    /// Header lines in a request head.
    pub head_headers: usize,
    /// Time for a whole request head.
    pub head_deadline: Duration,
    /// Largest request body, bytes.
    pub body_bytes: usize,
    /// Largest body of agent logs, bytes.
    pub logs_body_bytes: usize,
    /// Largest body on the administrator's socket, bytes.
    pub admin_body_bytes: usize,
    /// Time for a whole request body.
    pub body_deadline: Duration,
    /// Time for which a connection may do nothing.
    pub idle: Duration,
    /// Time for which a client may take nothing of what is written to it.
    pub write_stall: Duration,
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address.
    pub connections_per_address: usize,
    /// Bytes of bodies, all together.
    pub body_memory: usize,
    /// Requests that wait for a worker, per loop.
    pub waiting_requests: usize,
    /// Unsent bytes of a stream.
    pub stream_backlog: usize,
    /// Time for which a refused client may go on sending into the void, so that it reads the refusal.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes: limits::HEAD_BYTES,
            head_headers: limits::HEAD_HEADERS,
            head_deadline: limits::HEAD_DEADLINE,
            body_bytes: limits::BODY_BYTES,
            logs_body_bytes: limits::LOGS_BODY_BYTES,
            admin_body_bytes: limits::ADMIN_BODY_BYTES,
            body_deadline: limits::BODY_DEADLINE,
            idle: limits::IDLE,
            write_stall: limits::WRITE_STALL,
            connections: limits::CONNECTIONS,
            connections_per_address: limits::CONNECTIONS_PER_ADDRESS,
            body_memory: limits::BODY_MEMORY,
            waiting_requests: limits::WAITING_REQUESTS,
            stream_backlog: limits::STREAM_BACKLOG,
            linger: limits::LINGER,
        }
    }
}

impl Limits {
    fn head(&self) -> HeadLimits {
        HeadLimits { bytes: self.head_bytes, headers: self.head_headers }
    }
}

/// What all loops share.
struct Shared {
    limits: Limits,
    secret: String,
    trusted_proxies: Vec<IpRange>,
    arrivals: Arrivals,
    version: String,
    tls: Option<tls::Tls>,
    budget: Budget,
    census: Arc<Census>,
    tally: Tally,
}

/// A running edge.
pub struct Edge {
    shared: Arc<Shared>,
    handles: Arc<[Handle]>,
    threads: Vec<JoinHandle<()>>,
}

/// Starts the loops. The workers may start to listen later.
pub fn start(mut config: Config) -> io::Result<Edge> {
    let loops = config.loops.max(1);
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let room = connections_in(files, config.upstream_connections);
    if room < config.limits.connections {
        log::warn!("the limit of open files leaves room for {room} connections only");
        config.limits.connections = room;
    }
    let budget = Budget::new(config.limits.body_memory);
    let shared = Arc::new(Shared {
        limits: config.limits,
        secret: config.secret,
        trusted_proxies: config.trusted_proxies,
        arrivals: config.arrivals,
        version: config.version_header,
        tls: config.tls,
        budget,
        census: Arc::default(),
        tally: Tally::default(),
    });
    let each = config.upstream_connections.div_ceil(loops);
    let mut made = Vec::with_capacity(loops);
    let mut handles = Vec::with_capacity(loops);
    for _ in 0..loops {
        let (made_loop, handle) = Loop::new(&shared, config.upstream.clone(), each)?;
        made.push(made_loop);
        handles.push(handle);
    }
    let handles: Arc<[Handle]> = handles.into();
    for (index, one) in made.iter_mut().enumerate() {
        one.gather_on_last(Arc::clone(&handles), index);
    }
    if let Some(first) = made.first_mut() {
        let acceptor = |registry: &mio::Registry| {
            Acceptor::new(config.listeners, config.admin, event_loop::FIRST_LISTENER, registry, Arc::clone(&shared))
        };
        first.accept_with(acceptor, Arc::clone(&handles))?;
    }
    let mut edge = Edge { shared, handles, threads: Vec::with_capacity(loops) };
    for (index, made_loop) in made.into_iter().enumerate() {
        edge.threads.push(Builder::new().name(format!("loop-{index}")).spawn(move || made_loop.run())?);
    }
    Ok(edge)
}

impl Edge {
    /// Stops accepting, ends idle connections at once, answers what is being answered, says goodbye
    /// to streams, and returns when all is written or `grace` is over.
    pub fn shutdown(mut self, grace: Duration) {
        self.stop(grace);
    }

    /// Reads the certificate files again; says whether they were new. Bad files change nothing.
    pub fn reload_tls(&self) -> Result<bool, tls::Error> {
        match &self.shared.tls {
            Some(tls) => tls.reload(),
            None => Ok(false),
        }
    }

    /// The counters at this moment.
    pub fn counters(&self) -> Counters {
        self.shared.tally.snapshot(self.shared.census.open())
    }

    fn stop(&mut self, grace: Duration) {
        let until = Instant::now() + grace;
        for handle in self.handles.iter() {
            handle.send(Command::Stop(until));
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("an event loop ended by a panic");
            }
        }
    }
}

/// File descriptors kept back from clients: the store, logs, children, and what else opens files.
const OTHER_FILES: usize = 128;
/// File descriptors of a private connection: one here and two at tiny_http.
const UPSTREAM_FILES: usize = 3;

/// How many connections a process with so many file descriptors can take without running out of them
/// elsewhere, where that would hurt more than a refused client.
fn connections_in(files: Option<u64>, upstream_connections: usize) -> usize {
    let Some(files) = files else { return usize::MAX };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let kept = OTHER_FILES + UPSTREAM_FILES * upstream_connections;
    files.saturating_sub(kept).max(files / 4)
}

impl Drop for Edge {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.stop(Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_file_descriptors_to_others() {
        assert_eq!(connections_in(None, 16), usize::MAX);
        assert_eq!(connections_in(Some(1024), 16), 1024 - 128 - 48);
        assert_eq!(connections_in(Some(100), 16), 25);
    }
}
