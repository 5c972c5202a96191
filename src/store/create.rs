//! Making a new file.
//!
//! It is built whole under another name, made durable, and then renamed: whenever the first start is
//! cut short, the next one finds either no file or a complete one. With the key that are three disk flushes in all.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::migrate::{self, APPLICATION_ID, SCHEMA};
use super::{Sealer, meta, place};

/// Makes `file`, which does not exist or is empty, and whose key was made before. The caller holds the
/// lock.
pub(super) fn create(file: &Path, key_file: &Path, sealer: &Sealer) -> Result<(), String> {
    refuse_orphans(file)?;
    let fresh = place::beside(file, ".new");
    for suffix in ["", "-journal", "-wal", "-shm"] {
        match std::fs::remove_file(place::beside(&fresh, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(format!("what an earlier start left in {} cannot be removed: {error}", fresh.display()));
            }
            _ => {}
        }
    }
    let failed = |error: &dyn std::fmt::Display| format!("it cannot be made: {error}");
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(|error| failed(&error))?;
    let mut conn = Connection::open(&fresh).map_err(|error| failed(&error))?;
    fill(&mut conn, sealer).map_err(|error| failed(&error))?;
    conn.close().map_err(|(_, error)| failed(&error))?;
    let key_folder = match place::resolve(key_file)?.parent() {
        Some(folder) if Some(folder) != file.parent() => Some(folder.to_owned()),
        _ => None,
    };
    File::open(&fresh)
        .and_then(|fresh| fresh.sync_all())
        .and_then(|()| key_folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all()))
        .and_then(|()| std::fs::rename(&fresh, file))
        .and_then(|()| place::sync_folder_of(file))
        .map_err(|error| failed(&error))
}

fn fill(conn: &mut Connection, sealer: &Sealer) -> Result<(), String> {
    let text = |error: rusqlite::Error| error.to_string();
    // Nobody knows this file yet: it needs no journal, and `create` makes it durable.
    conn.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;").map_err(text)?;
    let tx = conn.transaction().map_err(text)?;
    tx.execute_batch(SCHEMA).map_err(text)?;
    meta::insert(&tx, sealer)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(text)?;
    tx.pragma_update(None, "user_version", migrate::newest()).map_err(text)?;
    tx.commit().map_err(text)?;
    conn.execute_batch("PRAGMA journal_mode = WAL").map_err(text)
}

/// A log left by a file that is gone may hold acknowledged writes, and SQLite would either apply it
/// to the new file or delete it.
fn refuse_orphans(file: &Path) -> Result<(), String> {
    for suffix in ["-wal", "-journal"] {
        let log = place::beside(file, suffix);
        if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
            return Err(format!(
                "it is missing, but {} holds writes that belong to it; bring the file back, or move that log away",
                log.display()
            ));
        }
    }
    Ok(())
}
