//! How the server is: what administrators are shown, and what they should do something about.

use std::time::{Duration, Instant};

use super::{App, Error, trust};
use crate::model::Timestamp;
use crate::plugins::Condition;
use crate::store::{self, Room, Size};

/// A read of the file that takes longer than this is a sign of a slow disk, milliseconds.
pub const SLOW_READ_MS: u64 = 15;
/// Less room than this on the disk is said, bytes: the file, its log and a copy before a migration need some.
const ROOM: u64 = 1024 * 1024 * 1024;
/// A log larger than this is not being emptied, bytes: the writer begins to insist at a quarter of it.
const LOG: u64 = 256 * 1024 * 1024;

/// The state of the server at one moment.
pub struct Health {
    /// How long a read of the file took.
    pub read_took: Duration,
    /// What was found broken in the file; writes have stopped then.
    pub damage: Option<String>,
    /// When the whole file was last looked through.
    pub checked_at: Option<Timestamp>,
    /// What the file takes up.
    pub size: Size,
    /// The room on its disk.
    pub room: Option<Room>,
    /// What should be looked at, worst first; full sentences.
    pub warnings: Vec<String>,
}

impl Health {
    /// Whether the disk is slow.
    pub fn read_is_slow(&self) -> bool {
        self.read_took > Duration::from_millis(SLOW_READ_MS)
    }
}

/// Looks at the file and at what is in memory; dials nothing and asks no plugin.
pub fn of(app: &App) -> Result<Health, Error> {
    let begun = Instant::now();
    app.store.read(|conn| store::workspaces::list(conn, None).map_err(Error::from))?;
    let mut health = Health {
        read_took: begun.elapsed(),
        damage: app.store.damage().map(str::to_owned),
        checked_at: app.store.checked_at(),
        size: app.store.size(),
        room: app.store.room(),
        warnings: Vec::new(),
    };
    health.warnings = warnings(app, &health)?;
    Ok(health)
}

fn warnings(app: &App, health: &Health) -> Result<Vec<String>, Error> {
    const MIB: u64 = 1024 * 1024;
    let mut found = Vec::new();
    if let Some(damage) = &health.damage {
        found
            .push(format!("The file is damaged, and nothing is written any more: {damage}. Restore your last backup."));
    }
    if let Some(room) = health.room.filter(|room| room.free < ROOM) {
        found.push(format!("The disk of the file has {} MiB left.", room.free / MIB));
    }
    if health.size.log > LOG {
        let mib = health.size.log / MIB;
        found.push(format!("The write-ahead log has {mib} MiB: another program keeps the file open."));
    }
    if health.read_is_slow() {
        found.push(format!("A read of the file took {} ms: its disk is slow.", health.read_took.as_millis()));
    }
    for provider in app.plugins.status() {
        if let Condition::Down { why, .. } = provider.condition {
            found.push(format!("Plugin {} is down: {why}.", provider.id));
        }
    }
    found.extend(trust::warnings_of_imported(&app.store)?.into_iter().map(|warning| sentence(&warning)));
    Ok(found)
}

/// A line of the log as a sentence.
fn sentence(line: &str) -> String {
    let mut letters = line.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}
