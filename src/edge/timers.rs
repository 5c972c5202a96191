//! Deadlines of one loop's connections.
//!
//! Most deadlines are moved on, not reached: a keep-alive connection moves its idle deadline with
//! every request. So an entry is not removed when its connection changes its mind; when it comes
//! up, the connection is asked again. Each connection remembers the earliest entry it has, and
//! makes another only when its deadline comes to lie before that.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::ops::mail::ConnId;

/// A heap of wake-up times.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u32, u32)>>,
}

impl Timers {
    /// Sees to it that an entry exists at `deadline` or before. `armed` is the connection's memory of
    /// its earliest entry.
    pub(super) fn arm(&mut self, id: ConnId, armed: &mut Option<Instant>, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if armed.is_none_or(|entry| deadline < entry) {
            *armed = Some(deadline);
            self.heap.push(Reverse((deadline, id.slot, id.generation)));
        }
    }

    /// When the next entry comes up.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// An entry that has come up, if there is one.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, ConnId)> {
        if self.next()? > now {
            return None;
        }
        let Reverse((at, slot, generation)) = self.heap.pop()?;
        Some((at, ConnId { slot, generation }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn moving_a_deadline_on_makes_no_entry() {
        let mut timers = Timers::default();
        let (start, id) = (Instant::now(), ConnId { slot: 1, generation: 2 });
        let mut armed = None;
        for seconds in 1..100 {
            timers.arm(id, &mut armed, Some(start + Duration::from_secs(seconds)));
        }
        assert_eq!(timers.heap.len(), 1);
        timers.arm(id, &mut armed, Some(start));
        assert_eq!(timers.heap.len(), 2);
        assert_eq!(timers.pop(start), Some((start, id)));
        assert_eq!(timers.pop(start), None);
    }
}
