//! What all threads of a store know about it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Default)]
pub(super) struct Health {
    damage: OnceLock<String>,
    closing: AtomicBool,
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

    /// Makes running reads end.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}
