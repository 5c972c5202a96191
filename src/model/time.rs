//! Instants as the store keeps them and as JSON shows them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Microseconds in a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;

/// An instant: microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub i64);

/// The text is not an RFC 3339 instant, or lies outside of what a file can hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimestampError;

impl fmt::Display for TimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an RFC 3339 time")
    }
}

impl std::error::Error for TimestampError {}

impl Timestamp {
    /// Year 1, which Go clients show and send as "no time" (`time.Time{}`).
    pub const GO_ZERO: Timestamp = Timestamp(-62_135_596_800 * MICROS_PER_SECOND);

    /// The present, by the system clock.
    pub fn now() -> Self {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Self(micros)
    }

    /// From seconds and nanoseconds, as protobuf carries an instant; out of range saturates.
    pub fn from_parts(seconds: i64, nanos: i32) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_SECOND).saturating_add(i64::from(nanos) / 1_000))
    }

    /// Seconds since the epoch, rounded down, and the nanoseconds within that second.
    pub fn to_parts(self) -> (i64, i32) {
        let seconds = self.0.div_euclid(MICROS_PER_SECOND);
        let nanos = self.0.rem_euclid(MICROS_PER_SECOND) * 1_000;
        (seconds, i32::try_from(nanos).unwrap_or(0))
    }

    /// Reads an RFC 3339 instant; digits below a microsecond are dropped.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TimestampError)?;
        i64::try_from(parsed.unix_timestamp_nanos().div_euclid(1_000)).map(Self).map_err(|_| TimestampError)
    }

    /// This instant moved by `by`.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This instant moved back by `by`.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok());
        // Only instants outside of years 0-9999 cannot be written; no clock of ours makes one.
        f.write_str(text.as_deref().unwrap_or("0001-01-01T00:00:00Z"))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_go_reads() {
        assert_eq!(Timestamp::GO_ZERO.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp(1_751_335_384_120_000).to_string(), "2025-07-01T02:03:04.12Z");
    }

    #[test]
    fn parses_offsets_and_nine_digits() {
        let at = Timestamp::parse("2025-07-01T04:03:04.120000999+02:00");
        assert_eq!(at, Ok(Timestamp(1_751_335_384_120_000)));
        assert_eq!(Timestamp::parse("yesterday"), Err(TimestampError));
    }

    #[test]
    fn splits_instants_before_the_epoch() {
        assert_eq!(Timestamp(-1).to_parts(), (-1, 999_999_000));
        assert_eq!(Timestamp::from_parts(-1, 999_999_000), Timestamp(-1));
    }
}
