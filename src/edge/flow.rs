//! When a loop should wait a moment for more packets, so that they share reads and writes.
//!
//! A relayed packet alone costs four system calls and two wake-ups. When many come each millisecond,
//! a pause of a tenth of one lets dozens share these. Peers that wait for each answer never send
//! that many in one direction, so they never meet a pause.

use std::time::{Duration, Instant};

/// How long a rate is measured.
const WINDOW: Duration = Duration::from_millis(1);
/// Packets of one connection in a window from which on a pause pays: more than fit in
/// while each waits for the answer to the one before.
const FROM_ONE: u64 = 32;
/// The same of all connections of the loop.
const FROM_ALL: u64 = 128;
/// The pause; small beside the way through any network.
pub(super) const PAUSE: Duration = Duration::from_micros(100);

/// The packets of one connection, lately.
#[derive(Clone, Copy, Default)]
pub(super) struct Flow {
    since: Option<Instant>,
    packets: u64,
}

impl Flow {
    /// Counts packets; returns those of the window so far.
    fn count(&mut self, packets: u64, now: Instant) -> u64 {
        match self.since {
            Some(since) if now.saturating_duration_since(since) < WINDOW => self.packets += packets,
            _ => {
                self.since = Some(now);
                self.packets = packets;
            }
        }
        self.packets
    }
}

/// The packets of a loop.
#[derive(Default)]
pub(super) struct Flows {
    all: Flow,
    /// Pauses pay until then.
    until: Option<Instant>,
    /// Packets in this round.
    round: u64,
}

impl Flows {
    /// Counts what a connection has sent in its turn.
    pub(super) fn count(&mut self, of_one: &mut Flow, packets: u64, now: Instant) {
        self.round += packets;
        if of_one.count(packets, now) >= FROM_ONE || self.all.count(packets, now) >= FROM_ALL {
            self.until = Some(now + WINDOW);
        }
    }

    /// Whether to pause after this round.
    pub(super) fn is_dense(&mut self, now: Instant) -> bool {
        std::mem::take(&mut self.round) > 0 && self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_packets_of_one_direction_make_a_pause() {
        let (mut flows, mut one, mut other) = (Flows::default(), Flow::default(), Flow::default());
        let mut now = Instant::now();
        // One packet each way, forty times a millisecond.
        for _ in 0..1_000 {
            flows.count(&mut one, 1, now);
            now += Duration::from_micros(25);
            flows.count(&mut other, 1, now);
            now += Duration::from_micros(25);
            assert!(!flows.is_dense(now));
        }
        for _ in 0..40 {
            flows.count(&mut one, 1, now);
            now += Duration::from_micros(10);
        }
        assert!(flows.is_dense(now));
        assert!(!flows.is_dense(now), "a round without packets does not wait");
        flows.count(&mut one, 1, now + Duration::from_secs(1));
        assert!(!flows.is_dense(now + Duration::from_secs(1)));
    }
}
