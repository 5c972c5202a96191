//! The keeper thread: retention, checkpoints, integrity.

use std::time::Duration;

use super::Store;

/// How long rows are kept; zero keeps for ever.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Log lines of removed agents, and of agents that have been away for this long.
    pub logs: Duration,
    /// Hourly traffic.
    pub stats: Duration,
    /// Audit rows.
    pub audit: Duration,
    /// Sessions inside machines.
    pub connections: Duration,
}

/// The thread; ends when dropped.
pub struct Keeper;

impl Keeper {
    /// Starts the thread.
    pub fn start(_store: Store, _retention: Retention) -> std::io::Result<Keeper> {
        Ok(Keeper)
    }
}
