//! A long-lived stream and its turn on the loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Shared;
use crate::streams::{Out, Stream};

/// Memory that the loop's output buffer keeps between two turns, bytes.
const KEPT_BYTES: usize = 256 * 1024;

/// A stream that has a connection. Dropping it is what calls [`Stream::closed`], so that happens
/// exactly once, however the connection ends.
pub(super) struct Driven {
    stream: Box<dyn Stream>,
    shared: Arc<Shared>,
    /// It wants to end once everything is written.
    pub(super) finish: bool,
    /// It wrote since it was last told that everything was taken.
    pub(super) wrote: bool,
}

/// What a turn came to.
#[derive(PartialEq, Eq)]
pub(super) enum Turn {
    Goes,
    Aborts,
}

impl Driven {
    pub(super) fn new(stream: Box<dyn Stream>, shared: Arc<Shared>) -> Driven {
        shared.tally.streams.fetch_add(1, Ordering::Relaxed);
        Driven { stream, shared, finish: false, wrote: false }
    }

    /// Gives the stream a turn; `out` holds afterwards what it wrote.
    pub(super) fn turn(&mut self, backlog: usize, out: &mut Out, call: impl FnOnce(&mut dyn Stream, &mut Out)) -> Turn {
        out.bytes.clear();
        out.bytes.shrink_to(KEPT_BYTES);
        out.finish = false;
        out.abort = false;
        out.backlog = backlog;
        out.wake.clear();
        out.packets = 0;
        if self.finish {
            return Turn::Goes;
        }
        // One faulty stream must not take the other sockets of its loop along.
        let calm = catch_unwind(AssertUnwindSafe(|| call(self.stream.as_mut(), out))).is_ok();
        if !calm {
            log::error!("a stream panicked and was dropped");
        }
        self.finish |= out.finish;
        self.wrote |= !out.bytes.is_empty();
        if calm && !out.abort { Turn::Goes } else { Turn::Aborts }
    }

    /// See [`Stream::gathers`].
    pub(super) fn gathers(&self) -> bool {
        self.stream.gathers()
    }

    /// When the stream wants its next tick.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.finish { None } else { self.stream.deadline() }
    }

    /// Whether it wants to hear more from its client.
    pub(super) fn wants_input(&self) -> bool {
        !self.finish && self.stream.wants_input()
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.shared.tally.streams.fetch_sub(1, Ordering::Relaxed);
        if catch_unwind(AssertUnwindSafe(|| self.stream.closed())).is_err() {
            log::error!("a stream panicked when it was closed");
        }
    }
}
