//! Opening a file: everything that is looked at before the first read or write.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::handle::{Inner, Store};
use super::header::Header;
use super::health::Health;
use super::lock::{Lock, LockError};
use super::migrate::{self, APPLICATION_ID, SCHEMA, STEPS};
use super::writer::{BUSY_WAIT, QUIET, Writer};
use super::{READ_DEADLINE, Sealer, check, create, meta, place, readers};
use crate::ops::hub::Hub;

/// How a file is opened.
pub struct Options {
    /// The SQLite file.
    pub file: PathBuf,
    /// The file that holds the sealing key; made when the SQLite file is new.
    pub key_file: PathBuf,
    /// Make the SQLite file when it does not exist; its folder must.
    pub create: bool,
    /// Connections that read at the same time.
    pub readers: u32,
    /// Told about committed changes.
    pub hub: Hub,
    /// Open it even if it lies on a network file system.
    pub allow_network_file_system: bool,
}

/// Why a file was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it open.
    InUse {
        /// The file.
        file: PathBuf,
        /// The process, if it is known.
        pid: Option<u32>,
    },
    /// Anything else, as a text that begins with the name of the file.
    Refused(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::InUse { file, pid } => write!(f, "{}: {}", file.display(), LockError::Held { pid: *pid }),
            OpenError::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for OpenError {}

/// Statements that the writer keeps prepared.
const STATEMENTS: usize = 256;

impl Store {
    /// Opens a file, making and migrating it as needed. It is locked until the store is closed.
    pub fn open(options: Options) -> Result<Store, OpenError> {
        let refused = |why: String| OpenError::Refused(format!("{}: {why}", options.file.display()));
        let file = place::resolve(&options.file).map_err(refused)?;
        let found = place::look(&file).map_err(refused)?;
        if found.is_none() && !options.create {
            return Err(refused("no such file".into()));
        }
        if !options.allow_network_file_system {
            place::refuse_network(file.parent().unwrap_or(Path::new("/"))).map_err(refused)?;
        }
        let lock = Lock::acquire(&file).map_err(|error| match error {
            LockError::Held { pid } => OpenError::InUse { file: options.file.clone(), pid },
            LockError::Failed(why) => refused(why),
        })?;
        open_locked(&options, file, lock).map_err(refused)
    }
}

/// The key file that goes with a file unless configured otherwise.
pub fn default_key_file(file: &Path) -> PathBuf {
    place::beside(file, ".key")
}

fn open_locked(options: &Options, file: PathBuf, lock: Lock) -> Result<Store, String> {
    // What was seen before the lock was had may have changed.
    let bytes = place::look(&file)?.map_or(0, |metadata| metadata.len());
    let created = bytes == 0;
    if created && !options.create {
        return Err("it is empty".into());
    }
    if !created {
        refuse_foreign(&file)?;
    }
    let sealer = Sealer::open(&options.key_file, created).map_err(|error| {
        if created || options.key_file.exists() {
            return error.to_string();
        }
        format!("{error}; without the key with which it was made its secrets cannot be read: restore the key from your backup")
    })?;
    if created {
        create::create(&file, &options.key_file, &sealer)?;
    }
    let checked = bytes < check::CHECK_AT_START_BYTES;
    let mut conn = connect(&file)?;
    if checked && !created {
        refuse_damaged(&conn, &file)?;
    }
    let migrated = migrate::run(&mut conn, &file, STEPS, SCHEMA)?;
    if !meta::is_key_right(&conn, &sealer)? {
        return Err(format!(
            "the key file {} does not belong to it: it was made with another key",
            options.key_file.display()
        ));
    }
    let deployment_id = meta::deployment_id(&conn)?;
    accept(&conn, migrated.is_some()).map_err(|error| error.to_string())?;

    let health = Arc::new(Health::default());
    if checked {
        health.checked();
    }
    let pool =
        readers::pool(&file, options.readers, READ_DEADLINE, Arc::clone(&health)).map_err(|error| error.to_string())?;
    let writer = Writer::start(conn, &file, options.hub.clone(), Arc::clone(&health), QUIET)
        .map_err(|error| error.to_string())?;
    Ok(Store::new(Inner {
        file,
        readers: RwLock::new(Some(pool)),
        writer,
        health,
        sealer,
        deployment_id,
        created,
        unchecked: AtomicBool::new(!checked),
        lock: Mutex::new(Some(lock)),
    }))
}

/// Refuses what is not ours, or newer than us, without touching it.
fn refuse_foreign(file: &Path) -> Result<(), String> {
    match Header::read(file).map_err(|error| format!("it cannot be read: {error}"))? {
        None => Err("it is not a SQLite file".into()),
        Some(header) if header.application_id != APPLICATION_ID => {
            Err("it is a SQLite file, but not one of Moorline".into())
        }
        Some(header) if header.user_version > migrate::newest() => {
            Err(migrate::refusal_of_newer(file, header.user_version, migrate::newest()))
        }
        Some(_) => Ok(()),
    }
}

fn refuse_damaged(conn: &Connection, file: &Path) -> Result<(), String> {
    let found = match check::damage(conn) {
        Ok(None) => return Ok(()),
        Ok(Some(found)) => found,
        Err(error) => error.to_string(),
    };
    Err(format!(
        "it is damaged ({found}). It was left as it is: keep it together with {}, and start on your last backup",
        place::beside(file, "-wal").display()
    ))
}

/// The connection that will write.
fn connect(file: &Path) -> Result<Connection, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let conn = Connection::open_with_flags(file, flags).map_err(|error| format!("it cannot be opened: {error}"))?;
    if conn.is_readonly("main").map_err(|error| error.to_string())? {
        return Err("it is write-protected".into());
    }
    let mode = configure(&conn).map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            "another program keeps it locked".to_owned()
        }
        _ => format!("it cannot be opened: {error}"),
    })?;
    if mode != "wal" {
        return Err(format!("its file system does not allow a write-ahead log (journal mode {mode})"));
    }
    Ok(conn)
}

/// Sets the connection up and says which journal mode it has got.
fn configure(conn: &Connection) -> rusqlite::Result<String> {
    // Closing must not move the log into a file that we come to refuse.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // As for readers: statements are not prepared anew when a value is bound.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.busy_timeout(BUSY_WAIT)?;
    conn.execute_batch(
        // FULL: acknowledged means that it survives a power cut. The log is kept near 4 MiB by SQLite
        // (1,000 pages) and cut back when reads have let it grow. 4 MiB of page cache.
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 8388608; PRAGMA cache_size = -4096;
         PRAGMA temp_store = memory; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
    )?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
}

/// From here on the file is ours.
fn accept(conn: &Connection, migrated: bool) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    if migrated {
        // Puts the new version where an older program looks first.
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(())
}
