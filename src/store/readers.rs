//! The read pool: read-only connections that are opened when first needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use scheduled_thread_pool::{OnPoolDropBehavior, ScheduledThreadPool};

use super::Error;
use super::health::Health;

/// Longest read. A read keeps the write-ahead log from shrinking, so it may not last: at a thousand
/// writes per second the log grows by some 8 MiB meanwhile.
pub const READ_DEADLINE: Duration = Duration::from_secs(10);

/// How long a read waits for a free connection.
const READER_WAIT: Duration = Duration::from_secs(5);

/// Page cache of a connection in KiB; the system's own cache stands behind it. Eight readers that
/// have all seen large results hold 8 MiB.
const CACHE_KIB: i32 = 1024;

/// Statements kept prepared by a connection, about 4 KiB each.
const STATEMENTS: usize = 64;

/// Virtual machine steps between two looks at the clock: well below a millisecond.
const STEPS: i32 = 10_000;

/// An idle connection is closed after this long.
const IDLE: Duration = Duration::from_secs(300);

/// Makes connections; r2d2's side of the pool.
pub(super) struct Readers {
    file: PathBuf,
    began: Instant,
    longest: Duration,
    health: Arc<Health>,
}

/// A read-only connection.
pub(super) struct Reader {
    conn: Connection,
    /// Microseconds after `began` at which statements are stopped; `u64::MAX`: never.
    deadline: Arc<AtomicU64>,
    began: Instant,
    longest: Duration,
}

pub(super) type Pool = r2d2::Pool<Readers>;

/// A pool of at most `size` connections, whose reads take at most `longest`.
pub(super) fn pool(file: &Path, size: u32, longest: Duration, health: Arc<Health>) -> Result<Pool, r2d2::Error> {
    let manager = Readers { file: file.to_owned(), began: Instant::now(), longest, health };
    let helper = ScheduledThreadPool::builder()
        .num_threads(1)
        .thread_name_pattern("readers")
        .on_drop_behavior(OnPoolDropBehavior::DiscardPendingScheduled)
        .build();
    r2d2::Pool::builder()
        .max_size(size.max(1))
        .min_idle(Some(0))
        .idle_timeout(Some(IDLE))
        .max_lifetime(None)
        .test_on_check_out(false)
        .connection_timeout(READER_WAIT)
        .error_handler(Box::new(Complain))
        .thread_pool(Arc::new(helper))
        .build(manager)
}

impl Reader {
    /// Runs `f` in one read transaction.
    pub(super) fn run<T, E: From<Error>>(&mut self, f: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        let began = self.began.elapsed();
        let longest = self.longest;
        self.deadline.store(micros(began + longest), Ordering::Relaxed);
        let transaction = Transaction { reader: self };
        execute(&transaction.reader.conn, "BEGIN").map_err(Error::from)?;
        let result = f(&transaction.reader.conn);
        drop(transaction);
        let took = self.began.elapsed().saturating_sub(began);
        if took > longest {
            log::warn!("a read took {took:?}; the write-ahead log could not shrink meanwhile");
        }
        result
    }
}

/// Ends the transaction, also when the closure panics.
struct Transaction<'a> {
    reader: &'a Reader,
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // A ROLLBACK that was stopped would leave the snapshot open.
        self.reader.deadline.store(u64::MAX, Ordering::Relaxed);
        if !self.reader.conn.is_autocommit()
            && let Err(error) = execute(&self.reader.conn, "ROLLBACK")
        {
            log::error!("a read transaction cannot be ended: {error}");
        }
    }
}

impl r2d2::ManageConnection for Readers {
    type Connection = Reader;
    type Error = rusqlite::Error;

    fn connect(&self) -> rusqlite::Result<Reader> {
        let mut conn = Connection::open_with_flags(
            &self.file,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE,
        )?;
        conn.execute_batch(&format!(
            "PRAGMA cache_size = -{CACHE_KIB}; PRAGMA temp_store = memory; PRAGMA trusted_schema = OFF;
             PRAGMA busy_timeout = 5000; PRAGMA cell_size_check = ON;"
        ))?;
        // Without it, binding a value to a statement that a partial index could serve makes SQLite
        // prepare the statement anew each time, at twenty times the cost of running it.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        let deadline = Arc::new(AtomicU64::new(u64::MAX));
        let (health, began, limit) = (Arc::clone(&self.health), self.began, Arc::clone(&deadline));
        conn.progress_handler(
            STEPS,
            Some(move || {
                let limit = limit.load(Ordering::Relaxed);
                limit != u64::MAX && (health.is_closing() || micros(began.elapsed()) > limit)
            }),
        )?;
        Ok(Reader { conn, deadline, began: self.began, longest: self.longest })
    }

    fn is_valid(&self, _: &mut Reader) -> rusqlite::Result<()> {
        Ok(())
    }

    fn has_broken(&self, reader: &mut Reader) -> bool {
        !reader.conn.is_autocommit()
    }
}

#[derive(Debug)]
struct Complain;

impl<E: std::error::Error> r2d2::HandleError<E> for Complain {
    fn handle_error(&self, error: E) {
        log::error!("a reader cannot be opened: {error}");
    }
}

fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(drop)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const ENDLESS: &str = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

    fn open(folder: &Path, longest: Duration) -> (Pool, Arc<Health>) {
        let file = folder.join("f.db");
        let conn = Connection::open(&file).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE a (id INTEGER PRIMARY KEY) STRICT;").unwrap();
        let health = Arc::new(Health::default());
        (pool(&file, 2, longest, Arc::clone(&health)).unwrap(), health)
    }

    fn count(conn: &Connection, sql: &str) -> Result<i64, Error> {
        Ok(conn.query_row(sql, [], |row| row.get(0))?)
    }

    #[test]
    fn stops_a_read_that_takes_too_long_and_serves_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let (pool, _) = open(folder.path(), Duration::from_millis(50));
        let mut reader = pool.get().unwrap();
        assert!(matches!(reader.run(|conn| count(conn, ENDLESS)), Err(Error::TooSlow)));
        assert!(reader.conn.is_autocommit(), "the snapshot is released");
        assert_eq!(reader.run(|conn| count(conn, "SELECT count(*) FROM a")).unwrap(), 0);
    }

    #[test]
    fn closing_stops_a_running_read() {
        let folder = tempfile::tempdir().unwrap();
        let (pool, health) = open(folder.path(), Duration::from_secs(600));
        let mut reader = pool.get().unwrap();
        let running = std::thread::spawn(move || reader.run(|conn| count(conn, ENDLESS)));
        health.close();
        assert!(matches!(running.join().unwrap(), Err(Error::TooSlow)));
    }

    #[test]
    fn opens_connections_only_when_needed() {
        let folder = tempfile::tempdir().unwrap();
        let (pool, _) = open(folder.path(), READ_DEADLINE);
        assert_eq!(pool.state().connections, 0);
        drop(pool.get().unwrap());
        assert_eq!(pool.state().connections, 1);
    }

    #[test]
    fn a_panic_in_a_read_releases_the_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let (pool, _) = open(folder.path(), READ_DEADLINE);
        let mut reader = pool.get().unwrap();
        let read = std::panic::AssertUnwindSafe(|| reader.run::<(), Error>(|_| panic!("on purpose")));
        assert!(std::panic::catch_unwind(read).is_err());
        assert!(reader.conn.is_autocommit());
    }
}
