//! Rate limits: a sliding window of one minute, the last minute weighted by how much of it is left.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use crate::model::{self, MICROS_PER_SECOND, Timestamp};

/// Seconds of a window.
const WINDOW: u64 = 60;
/// Keys counted per window. 32 bytes each, two windows: 4 MiB at most.
const KEYS: usize = 65_536;

/// Where a caller stands after a request was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rate {
    /// Requests per minute.
    pub limit: u32,
    /// Requests that would still be let through at once.
    pub remaining: u32,
    /// End of the present window, Unix seconds.
    pub reset: u64,
    /// Whether this one is let through.
    pub allowed: bool,
}

/// What happens to a caller that comes when the table is full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenFull {
    /// Not counted: a flood of paths must not lock everybody else out.
    Pass,
    /// Counted together with all the others: a flood of addresses must not open a way around.
    Share,
}

/// Counts requests per key.
pub(super) struct Limiter {
    limit: u32,
    when_full: WhenFull,
    hasher: RandomState,
    windows: Mutex<Windows>,
}

#[derive(Default)]
struct Windows {
    number: u64,
    present: HashMap<u64, u32>,
    past: HashMap<u64, u32>,
}

impl Limiter {
    pub(super) fn new(limit: u32, when_full: WhenFull) -> Limiter {
        Limiter { limit, when_full, hasher: RandomState::new(), windows: Mutex::default() }
    }

    /// Counts a request of `key` at `now`; one that is refused is not counted.
    pub(super) fn count(&self, key: (&str, &str), now: Timestamp) -> Rate {
        let seconds = u64::try_from(now.0 / MICROS_PER_SECOND).unwrap_or(0);
        let (number, into) = (seconds / WINDOW, seconds % WINDOW);
        let mut key = self.hasher.hash_one(key);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.turn(number);
        let full = windows.present.len() >= KEYS && !windows.present.contains_key(&key);
        if full {
            key = 0;
        }
        let past = u64::from(windows.past.get(&key).copied().unwrap_or(0));
        let present = windows.present.entry(key).or_insert(0);
        // Rounded as the real server does (httprate v0.15.0 limiter.go).
        let used = (past * (WINDOW - into) + WINDOW / 2) / WINDOW + u64::from(*present);
        let used = u32::try_from(used).unwrap_or(u32::MAX);
        let allowed = used < self.limit || (full && self.when_full == WhenFull::Pass);
        if allowed {
            *present = present.saturating_add(1);
        }
        let remaining = self.limit.saturating_sub(used).saturating_sub(1);
        Rate { limit: self.limit, remaining, reset: (number + 1) * WINDOW, allowed }
    }
}

impl Windows {
    fn turn(&mut self, number: u64) {
        if number == self.number {
            return;
        }
        self.past = std::mem::take(&mut self.present);
        if number != self.number + 1 {
            self.past.clear();
        }
        self.number = number;
    }
}

/// What an address counts as.
pub(super) fn network(address: &str) -> String {
    address.parse().map_or_else(|_| address.to_owned(), |address| model::network(address).to_string())
}

/// Whether an address is this machine's own.
pub(super) fn is_loopback(address: &str) -> bool {
    match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(v6)) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
        Ok(std::net::IpAddr::V4(v4)) => v4.is_loopback(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp((6_000_000 + second) * MICROS_PER_SECOND)
    }

    #[test]
    fn refuses_what_is_over_the_limit_and_says_when_it_ends() {
        let limiter = Limiter::new(3, WhenFull::Share);
        for left in [2, 1, 0] {
            let rate = limiter.count(("192.0.2.1", "/a"), at(0));
            assert_eq!((rate.allowed, rate.remaining), (true, left));
        }
        let rate = limiter.count(("192.0.2.1", "/a"), at(10));
        assert_eq!((rate.allowed, rate.remaining, rate.reset), (false, 0, 6_000_060));
        assert!(limiter.count(("192.0.2.1", "/b"), at(10)).allowed);
        assert!(limiter.count(("192.0.2.2", "/a"), at(10)).allowed);
    }

    #[test]
    fn weighs_the_last_minute() {
        let limiter = Limiter::new(4, WhenFull::Share);
        for _ in 0..4 {
            limiter.count(("a", "/"), at(0));
        }
        assert!(!limiter.count(("a", "/"), at(61)).allowed, "4 of the last minute still count almost fully");
        assert!(limiter.count(("a", "/"), at(90)).allowed, "half of them is gone");
        assert!(limiter.count(("a", "/"), at(600)).allowed, "all of them are gone");
    }

    #[test]
    fn stays_bounded_under_a_flood_of_keys() {
        let share = Limiter::new(2, WhenFull::Share);
        let pass = Limiter::new(2, WhenFull::Pass);
        for index in 0..KEYS {
            share.count(("a", &index.to_string()), at(0));
            pass.count(("a", &index.to_string()), at(0));
        }
        for index in 0..10 {
            share.count(("b", &index.to_string()), at(0));
            assert!(pass.count(("b", &index.to_string()), at(0)).allowed);
        }
        assert!(!share.count(("c", "/"), at(0)).allowed);
        assert!(share.windows.lock().is_ok_and(|windows| windows.present.len() <= KEYS + 1));
    }

    #[test]
    fn counts_ipv6_clients_by_their_network() {
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2::9"));
        assert_ne!(network("2001:db8:1:2::9"), network("2001:db8:1:3::9"));
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
        assert!(is_loopback("127.0.0.1") && is_loopback("::1") && !is_loopback("192.0.2.1") && !is_loopback(""));
    }
}
