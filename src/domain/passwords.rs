//! Passwords: Argon2id, a few at a time.

use std::sync::{Condvar, Mutex, PoisonError};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use super::{Error, Fault};

/// Hashes computed at the same time: each takes 19 MiB for about 26 ms.
const AT_ONCE: usize = 2;
const SALT_BYTES: usize = 16;

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

/// Memory for one hash. It is asked for in one piece that is larger than any which the C library keeps when it is
/// given back (32 MiB, mallopt(3) M_MMAP_THRESHOLD); what is beyond the hash's own part is never touched. Without
/// this, each of the worker threads would keep some 20 MiB for good.
fn memory(params: &Params) -> Vec<Block> {
    const KEPT_BY_NOBODY: usize = 33 * 1024;
    let mut blocks = Vec::with_capacity(params.block_count().max(KEPT_BY_NOBODY));
    blocks.resize(params.block_count(), Block::default());
    blocks
}

/// The hash of a password, in `out`.
fn fill(argon: &Argon2<'_>, password: &str, salt: &[u8], out: &mut [u8]) -> argon2::Result<()> {
    in_turn(|| argon.hash_password_into_with_memory(password.as_bytes(), salt, out, memory(argon.params())))
}

/// The PHC string of a password.
pub fn hash(password: &str) -> Result<String, Error> {
    let failed = |detail: String| Error::new(Fault::Internal, "The password could not be hashed.").detail(detail);
    let (mut salt, mut out) = ([0; SALT_BYTES], [0; Params::DEFAULT_OUTPUT_LEN]);
    SystemRandom::new().fill(&mut salt).map_err(|_| failed("The system has no randomness.".into()))?;
    let argon = Argon2::default();
    fill(&argon, password, &salt, &mut out).map_err(|error| failed(error.to_string()))?;
    let phc = || -> argon2::password_hash::Result<PasswordHash> {
        Ok(PasswordHash {
            algorithm: Algorithm::default().ident(),
            version: Some(Version::default().into()),
            params: ParamsString::try_from(argon.params())?,
            salt: Some(Salt::new(&salt)?),
            hash: Some(Output::new(&out)?),
        })
    };
    phc().map(|hash| hash.to_string()).map_err(|error| failed(error.to_string()))
}

/// Whether `password` is the one of `stored`. Without a stored hash the same work is done in vain,
/// so that the time does not tell whether the account exists.
pub fn verify(password: &str, stored: Option<&str>) -> bool {
    const NOBODY: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$bW9vcmxpbmUtbm9ib2R5$WqKQ4vPqyEhUCbYjo0oTz5vhG6RkC0J8MP0x5CqHqGE";
    matches(password, stored.unwrap_or(NOBODY)).unwrap_or(false) && stored.is_some()
}

/// `None`: the text is no hash of a kind that is known here.
fn matches(password: &str, phc: &str) -> Option<bool> {
    let parsed = PasswordHash::new(phc).ok()?;
    let (salt, expected) = (parsed.salt?, parsed.hash?);
    let algorithm = Algorithm::try_from(parsed.algorithm.as_str()).ok()?;
    let version = parsed.version.map(Version::try_from).transpose().ok()?.unwrap_or_default();
    let argon = Argon2::new(algorithm, version, Params::try_from(&parsed).ok()?);
    let mut out = vec![0; expected.as_bytes().len()];
    fill(&argon, password, salt.as_ref(), &mut out).ok()?;
    Some(bool::from(out.as_slice().ct_eq(expected.as_bytes())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use argon2::password_hash::{PasswordHasher, PasswordVerifier};

    use super::*;

    #[test]
    fn hashes_as_the_library_does() {
        let own = hash("a long secret").unwrap();
        assert!(own.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{own}");
        assert!(verify("a long secret", Some(&own)) && !verify("another", Some(&own)));
        assert!(!verify("a long secret", None) && !verify("a long secret", Some("$argon2id$nonsense")));
        let parsed = PasswordHash::new(&own).unwrap();
        Argon2::default().verify_password(b"a long secret", &parsed).unwrap();
        let theirs = Argon2::default().hash_password(b"a long secret").unwrap().to_string();
        assert!(verify("a long secret", Some(&theirs)) && !verify("another", Some(&theirs)));
        assert_ne!(hash("a long secret").unwrap(), own, "a salt of its own");
    }
}
