//! How many calls of one provider are under way.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use moorline_plugin::abi;

use crate::ops::lock::lock;

/// How long a caller waits for one of the places of [`abi::CALLS_AT_ONCE`].
const PLACE_WAIT: Duration = Duration::from_secs(2);

/// Places for calls under way.
#[derive(Default)]
pub(super) struct Places {
    taken: Mutex<u32>,
    free: Condvar,
}

pub(super) struct Place<'a>(&'a Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *lock(&self.0.taken) -= 1;
        self.0.free.notify_one();
    }
}

impl Places {
    /// A place, given back when it is dropped; none if all stay taken for [`PLACE_WAIT`].
    pub(super) fn take(&self) -> Option<Place<'_>> {
        let taken = lock(&self.taken);
        let (mut taken, _) = self
            .free
            .wait_timeout_while(taken, PLACE_WAIT, |taken| *taken >= abi::CALLS_AT_ONCE)
            .unwrap_or_else(PoisonError::into_inner);
        if *taken >= abi::CALLS_AT_ONCE {
            return None;
        }
        *taken += 1;
        Some(Place(self))
    }
}
