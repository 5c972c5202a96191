//! What all threads of a store know about it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::model::Timestamp;

#[derive(Default)]
pub(super) struct Health {
    damage: OnceLock<String>,
    closing: AtomicBool,
    /// Micro-seconds as in [`Timestamp`]; 0: not checked yet.
    checked_at: AtomicI64,
}

impl Health {
    /// Stops all further writes; the first finding stays.
    pub(super) fn report_damage(&self, what: &str) {
        if self.damage.set(what.to_owned()).is_ok() {
            log::error!("the file is damaged, writes have stopped: {what}");
        }
    }

    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// The whole file was looked through, whatever was found.
    pub(super) fn checked(&self) {
        self.checked_at.store(Timestamp::now().0, Ordering::Relaxed);
    }

    pub(super) fn checked_at(&self) -> Option<Timestamp> {
        Some(Timestamp(self.checked_at.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }

    /// Makes running reads end.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}
