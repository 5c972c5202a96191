//! How much a client may send.

use std::time::Instant;

use crate::wire::derp;

/// What a client may send.
pub(super) struct Rate {
    pub(super) bytes_per_second: u64,
    left: u64,
    at: Instant,
}

impl Rate {
    pub(super) fn new(bytes_per_second: u64, now: Instant) -> Rate {
        Rate { bytes_per_second, left: bytes_per_second, at: now }
    }

    /// Whether so many more bytes are within the rate: a second's worth may come at once, and one packet always.
    pub(super) fn allows(&mut self, bytes: usize, now: Instant) -> bool {
        if self.bytes_per_second == 0 {
            return true;
        }
        let passed = u64::try_from(now.saturating_duration_since(self.at).as_micros()).unwrap_or(u64::MAX);
        let more = u128::from(passed) * u128::from(self.bytes_per_second) / 1_000_000;
        if more > 0 {
            let most = self.burst();
            self.left = u64::try_from(more).unwrap_or(most).saturating_add(self.left).min(most);
            self.at = now;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let allows = self.left >= bytes;
        if allows {
            self.left -= bytes;
        }
        allows
    }

    /// What may come at once.
    pub(super) fn burst(&self) -> u64 {
        if self.bytes_per_second == 0 {
            return 0;
        }
        self.bytes_per_second.max(u64::try_from(derp::PACKET_BYTES).unwrap_or(u64::MAX))
    }
}
