//! Memory that many share: bodies of plain requests, answers of agents.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is left for all. Cloning gives another handle to the same budget.
#[derive(Clone)]
pub struct Budget {
    left: Arc<AtomicUsize>,
}

/// A share of the budget; it goes back when dropped.
pub struct Held {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// So many bytes for all together.
    pub fn new(bytes: usize) -> Budget {
        Budget { left: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// A share of nothing, to grow.
    pub fn hold(&self) -> Held {
        Held { budget: self.clone(), bytes: 0 }
    }
}

impl Held {
    /// Makes the share at least `bytes` large; `false` if the budget does not allow it.
    #[must_use]
    pub fn cover(&mut self, bytes: usize) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else { return true };
        let taken = self.budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more));
        if taken.is_ok() {
            self.bytes = bytes;
        }
        taken.is_ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_no_more_than_there_is_and_takes_it_back() {
        let budget = Budget::new(10);
        let (mut one, mut two) = (budget.hold(), budget.hold());
        assert!(one.cover(6) && one.cover(5) && two.cover(4));
        assert!(!two.cover(5));
        drop(one);
        assert!(two.cover(10) && !two.cover(11));
    }
}
