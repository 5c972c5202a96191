//! Taking a mutex whatever became of who held it before.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The guard of a mutex. A holder that panicked has left whole values behind, so its poison means nothing.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
