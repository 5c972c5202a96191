//! What the edge counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why the edge refused or ended something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// As many connections as there may be.
    Connections,
    /// As many connections of one address as there may be.
    Address,
    /// A process that may not use the administrator's socket.
    Operator,
    /// `accept` failed: no file descriptors, usually.
    Accept,
    /// A TLS handshake or record that was wrong.
    Tls,
    /// A head that is malformed or too large.
    Head,
    /// A body that is malformed or too large.
    Body,
    /// A head or body that took too long.
    Slow,
    /// A client that did not take its answer.
    Stalled,
    /// No worker, queue place or memory left.
    Overload,
    /// A worker that ended before it had answered.
    Worker,
    /// A stream whose client did not read.
    Backlog,
}

impl Reason {
    /// All reasons, in the order in which they are counted.
    pub const ALL: [Reason; 12] = [
        Self::Connections,
        Self::Address,
        Self::Operator,
        Self::Accept,
        Self::Tls,
        Self::Head,
        Self::Body,
        Self::Slow,
        Self::Stalled,
        Self::Overload,
        Self::Worker,
        Self::Backlog,
    ];

    /// Its name as a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "address",
            Self::Operator => "operator",
            Self::Accept => "accept",
            Self::Tls => "tls",
            Self::Head => "head",
            Self::Body => "body",
            Self::Slow => "slow",
            Self::Stalled => "stalled",
            Self::Overload => "overload",
            Self::Worker => "worker",
            Self::Backlog => "backlog",
        }
    }
}

/// The counters themselves.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) accepted: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) streams: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
}

/// The counters at one moment.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Connections that are open.
    pub open: usize,
    /// Of these, long-lived streams.
    pub streams: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Requests handed to workers since the start.
    pub requests: u64,
    /// Refusals since the start, by reason.
    pub refused: Vec<(Reason, u64)>,
}

impl Counters {
    /// How often something was refused for this reason.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused.iter().find(|(found, _)| *found == reason).map_or(0, |(_, count)| *count)
    }
}

impl Tally {
    pub(super) fn refuse(&self, reason: Reason) {
        let index = Reason::ALL.iter().position(|found| *found == reason);
        if let Some(counter) = index.and_then(|index| self.refused.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn snapshot(&self, open: usize) -> Counters {
        Counters {
            open,
            streams: self.streams.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            refused: Reason::ALL
                .into_iter()
                .zip(self.refused.iter().map(|count| count.load(Ordering::Relaxed)))
                .collect(),
        }
    }
}
