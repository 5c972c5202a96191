//! Looking for damage in a file.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::Error;

/// Files up to this size are checked while the server starts: about 0.1 s at 64 MiB. Larger ones are
/// checked by the keeper right after the start.
pub(super) const CHECK_AT_START_BYTES: u64 = 64 * 1024 * 1024;

/// Virtual machine steps between two looks at `stop`: well below a millisecond.
const STEPS: i32 = 10_000;

/// Findings named in an error.
const FINDINGS: usize = 3;

/// What is wrong with the file of `conn`; `None`: nothing.
pub(super) fn damage(conn: &Connection) -> Result<Option<String>, rusqlite::Error> {
    check(conn, "PRAGMA quick_check(3)", [])
}

/// The same for a file in use, table by table on a connection of its own: no snapshot is held for
/// long, so the write-ahead log can shrink in between. Ends early when `stop` says so.
pub(super) fn damage_in_use(
    file: &Path,
    stop: impl Fn() -> bool + Send + Clone + 'static,
) -> Result<Option<String>, Error> {
    let mut conn =
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.execute_batch("PRAGMA cache_size = -2000; PRAGMA trusted_schema = OFF;")?;
    let asked = stop.clone();
    conn.progress_handler(STEPS, Some(asked))?;
    let tables = match tables(&conn) {
        Ok(tables) => tables,
        Err(error) => return damage_of(error),
    };
    for table in tables {
        if stop() {
            return Ok(None);
        }
        match check(&conn, "SELECT * FROM pragma_quick_check(?)", [table]) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => {
                return Ok(None);
            }
            Err(error) => return damage_of(error),
        }
    }
    Ok(None)
}

fn tables(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?
        .query_map([], |row| row.get(0))?
        .collect()
}

fn damage_of(error: rusqlite::Error) -> Result<Option<String>, Error> {
    match Error::from(error) {
        Error::Corrupt(what) => Ok(Some(what)),
        other => Err(other),
    }
}

fn check(conn: &Connection, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<Option<String>> {
    let lines: Vec<String> = conn.prepare(sql)?.query_map(params, |row| row.get(0))?.collect::<Result<_, _>>()?;
    if lines.iter().all(|line| line == "ok") {
        return Ok(None);
    }
    Ok(Some(lines.iter().take(FINDINGS).map(|line| line.trim()).collect::<Vec<_>>().join("; ")))
}
