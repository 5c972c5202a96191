//! Passwords: Argon2id, a few at a time.

use std::sync::{Condvar, Mutex, PoisonError};

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};

use super::{Error, Fault};

/// Hashes computed at the same time: each takes 19 MiB for about 26 ms.
const AT_ONCE: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

fn in_turn<T>(work: impl FnOnce() -> T) -> T {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    while *running >= AT_ONCE {
        running = FREED.wait(running).unwrap_or_else(PoisonError::into_inner);
    }
    *running += 1;
    drop(running);
    let result = work();
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    FREED.notify_one();
    result
}

/// The PHC string of a password.
pub fn hash(password: &str) -> Result<String, Error> {
    in_turn(|| Argon2::default().hash_password(password.as_bytes()))
        .map(|hash| hash.to_string())
        .map_err(|error| Error::new(Fault::Internal, "The password could not be hashed.").detail(error.to_string()))
}

/// Whether `password` is the one of `stored`. Without a stored hash the same work is done in vain,
/// so that the time does not tell whether the account exists.
pub fn verify(password: &str, stored: Option<&str>) -> bool {
    const NOBODY: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$bW9vcmxpbmUtbm9ib2R5$WqKQ4vPqyEhUCbYjo0oTz5vhG6RkC0J8MP0x5CqHqGE";
    let text = stored.unwrap_or(NOBODY);
    let Ok(parsed) = PasswordHash::new(text) else { return false };
    in_turn(|| Argon2::default().verify_password(password.as_bytes(), &parsed)).is_ok() && stored.is_some()
}
