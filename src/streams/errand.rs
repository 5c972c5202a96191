//! Work that a stream sends to the `rpc` pool, and how its result comes back: exactly one letter per
//! job that was queued, whatever happens to it.

use std::time::Duration;

use crate::domain::{Error, Fault};
use crate::ops::jobs::{Jobs, QueueFull};
use crate::ops::mail::{Address, Mail, Outcome};

/// When to try again after a queue was full.
pub(super) const QUEUE_PAUSE: Duration = Duration::from_millis(20);
/// When to try again after the store had too much to do.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(100);
/// When to try again after the disk was full.
const DISK_PAUSE: Duration = Duration::from_secs(2);

/// Runs `work` in the pool; its value, or what became of it, arrives as [`Mail::Done`] with `tag`.
pub(super) fn submit<T: Send + 'static>(
    jobs: &Jobs,
    address: &Address,
    tag: u64,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<(), QueueFull> {
    let address = address.clone();
    jobs.try_submit(move || {
        let answer = Answer::new(address, tag);
        answer.give(match work() {
            Ok(value) => Outcome::Value(Box::new(value)),
            Err(error) => failure(&error),
        });
    })
}

/// What a stream is told of a failure.
pub(super) fn failure(error: &Error) -> Outcome {
    match error.fault {
        Fault::Overloaded => Outcome::Busy(OVERLOAD_PAUSE),
        Fault::StorageFull => Outcome::Busy(DISK_PAUSE),
        Fault::Unimplemented => Outcome::Failed { code: 12, text: error.to_string() },
        _ => Outcome::Failed { code: 0, text: error.to_string() },
    }
}

/// The duty to answer; discharged with a failure when it is dropped, as by a panic. Make it on a
/// thread that may wait, never on a loop.
pub(super) struct Answer {
    to: Option<(Address, u64)>,
}

impl Answer {
    pub(super) fn new(address: Address, tag: u64) -> Answer {
        Answer { to: Some((address, tag)) }
    }

    pub(super) fn give(mut self, outcome: Outcome) {
        if let Some((address, tag)) = self.to.take() {
            address.post(Mail::Done { tag, outcome });
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some((address, tag)) = self.to.take() {
            let text = "The server failed at this; its log says how.".to_owned();
            address.post(Mail::Done { tag, outcome: Outcome::Failed { code: 0, text } });
        }
    }
}
