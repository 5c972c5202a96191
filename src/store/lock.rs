//! The lock that keeps a second process away from a file.
//!
//! SQLite would let two processes share the file, but each would keep presence, queues and topics in
//! its own memory: agents would see half of the truth. So the first one holds `FILE.lock`, which
//! tells the second whom to stop.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::place;

/// The lock of a file; dropping it, or the end of the process however it comes, releases it.
#[derive(Debug)]
pub struct Lock {
    // The lock belongs to the open file description. The lock file itself stays: removing it would
    // let two processes lock two different files of one name.
    _file: File,
}

/// Why a lock was not had.
#[derive(Debug)]
pub enum LockError {
    /// A process holds it; which one, unless it has not come to writing that down.
    Held {
        /// Process id of the holder.
        pid: Option<u32>,
    },
    /// The lock file cannot be made or locked.
    Failed(String),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { pid: Some(pid) } => write!(f, "in use by process {pid}"),
            LockError::Held { pid: None } => f.write_str("in use by another process"),
            LockError::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for LockError {}

/// A holder writes its id right after locking; who finds the file locked but empty waits this long.
const PID_WAIT: Duration = Duration::from_millis(100);

impl Lock {
    /// Locks the store file `file` (not the lock file) for this process. [`super::Store::open`] does
    /// it by itself; others need it only to keep the store closed.
    pub fn acquire(file: &Path) -> Result<Lock, LockError> {
        let path = place::beside(&place::resolve(file).map_err(LockError::Failed)?, ".lock");
        let failed = |error: &dyn fmt::Display| {
            LockError::Failed(format!("the lock file {} cannot be used: {error}", path.display()))
        };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed(&error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held { pid: holder(&mut lock) }),
            Err(error) => return Err(failed(&error)),
        }
        // Not needed for the lock to hold: a full disk must not keep the server from starting.
        let written =
            lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
        if let Err(error) = written {
            log::warn!("the process id could not be written to {}: {error}", path.display());
        }
        Ok(Lock { _file: lock })
    }
}

fn holder(lock: &mut File) -> Option<u32> {
    let deadline = Instant::now() + PID_WAIT;
    loop {
        let mut text = String::new();
        lock.rewind().ok()?;
        lock.take(32).read_to_string(&mut text).ok()?;
        if let Some(pid) = text.strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
            return Some(pid);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::yield_now();
    }
}
