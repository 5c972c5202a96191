//! One connection of the relay, as the switch sees it.

use std::collections::HashSet;
use std::time::Instant;

use super::queue::Queue;
use crate::model::NodeKey;
use crate::ops::mail::Address;

/// A connection in the switch. The generation tells a slot's present owner from its former ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PortId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// Times in a second that a peer is told of a destination that is not here.
const NOT_HERE_PER_SECOND: u32 = 1;
/// The same, at once (derp/derp_server.go requestPeerGoneWriteLimited).
const NOT_HERE_BURST: u32 = 3;

/// See above.
pub(super) struct Port {
    pub(super) key: NodeKey,
    pub(super) address: Address,
    /// Frames that are never dropped.
    pub(super) control: Vec<u8>,
    pub(super) disco: Queue,
    pub(super) data: Queue,
    /// Stands among the woken.
    pub(super) woken: bool,
    /// Its socket has not taken what it was given: it asks again when it has.
    pub(super) blocked: bool,
    /// It belongs to the server itself: see [`Turn::host`](super::Turn::host).
    pub(super) hosted: bool,
    /// It holds more control frames than anybody who reads would.
    pub(super) overrun: bool,
    /// Says that this is its home.
    pub(super) home: bool,
    /// Whether its key is known, and as of which revision of the keys.
    pub(super) known: bool,
    pub(super) looked: u64,
    /// The destination of its last packet, as of which epoch of the table.
    pub(super) last: Option<(NodeKey, u32)>,
    pub(super) last_epoch: u64,
    /// Connections that have had packets from it, some of which may be gone.
    pub(super) sent_to: HashSet<PortId>,
    /// Answers "not here" that are left, and since when.
    pub(super) not_here: (u32, Instant),
}

impl Port {
    pub(super) fn new(key: NodeKey, address: Address, now: Instant) -> Port {
        Port {
            key,
            address,
            control: Vec::new(),
            disco: Queue::default(),
            data: Queue::default(),
            woken: false,
            blocked: false,
            hosted: false,
            overrun: false,
            home: false,
            known: false,
            looked: 0,
            last: None,
            last_epoch: 0,
            sent_to: HashSet::new(),
            not_here: (NOT_HERE_BURST, now),
        }
    }

    /// Bytes that wait for its socket.
    pub(super) fn queued(&self) -> usize {
        self.disco.bytes() + self.data.bytes()
    }

    /// Whether there is anything to take.
    pub(super) fn has_mail(&self) -> bool {
        !self.control.is_empty() || self.queued() > 0
    }

    /// Whether it may be told once more that a destination is not here.
    pub(super) fn may_say_not_here(&mut self, now: Instant) -> bool {
        let (left, since) = &mut self.not_here;
        let passed = u32::try_from(now.saturating_duration_since(*since).as_secs()).unwrap_or(u32::MAX);
        if passed > 0 {
            *left = left.saturating_add(passed.saturating_mul(NOT_HERE_PER_SECOND)).min(NOT_HERE_BURST);
            *since = now;
        }
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }
}
