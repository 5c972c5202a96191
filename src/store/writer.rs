//! The writer thread: the only connection that writes, with group commit.
//!
//! Writes that wait are run one after the other in one transaction, each in its own savepoint, and
//! share one commit (one disk flush). A lone write does not wait for company, unless it says that it may:
//! while the disk is busy with one group, the next one gathers by itself.

use std::cell::RefCell;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::health::Health;
use super::{Error, error, place};
use crate::ops::hub::{Hub, Topic};

/// Writes that may wait before new ones are refused. A slot is 16 bytes; a waiting write is a boxed
/// closure with what it captures, mostly below 1 KiB. Log batches capture up to 2 MiB, but they come
/// out of request bodies, which the edge bounds for all requests together (limits::BODY_MEMORY).
const WRITE_QUEUE: usize = 4_096;

/// Writes that share one commit at most.
const GROUP_LIMIT: usize = 512;

/// A group that has run for this long takes no more: bounds how long its first waits for its last.
const GROUP_TIME: Duration = Duration::from_millis(20);

/// How long a patient write waits for others to share its commit. A commit costs many times what a
/// report of an agent does, and nobody looks at the answer to one.
const COMPANY: Duration = Duration::from_millis(25);

/// How long a write waits for another program (a backup tool, a shell) to release the file.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(5);

/// After this long without a write the log is moved into the file and emptied, once.
pub(super) const QUIET: Duration = Duration::from_secs(30);

/// The log is emptied by force above this size; SQLite keeps it near 4 MiB unless reads overlap
/// without end.
const WAL_LIMIT: u64 = 64 * 1024 * 1024;

/// Growth of the log before the next try, when reads were in the way of the last one.
const WAL_STEP: u64 = 16 * 1024 * 1024;

/// How long emptying the log may wait for reads, with writes waiting behind it.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(100);

/// The same when the store closes.
const LAST_CHECKPOINT_WAIT: Duration = Duration::from_secs(1);

/// The transaction of one write. Derefs to the connection for the table functions.
pub struct Write<'a> {
    conn: &'a Connection,
    topics: &'a RefCell<Vec<Topic>>,
}

impl Write<'_> {
    /// Publishes `topic` once this write is committed.
    pub fn publish(&self, topic: Topic) {
        self.topics.borrow_mut().push(topic);
    }
}

impl Deref for Write<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn
    }
}

/// One queued write: runs in its savepoint, then learns whether the group was committed. One that is
/// dropped unfinished must say [`Error::Closed`] to whoever waits for it.
pub(super) trait Job: Send {
    /// Runs the closure; `false` asks for its savepoint to be rolled back.
    fn run(&mut self, write: &Write<'_>) -> bool;
    /// The group is committed (`None`) or lost.
    fn finish(self: Box<Self>, lost: Option<Error>);
    /// Whether it may wait for company, for [`COMPANY`] at most.
    fn is_patient(&self) -> bool {
        false
    }
}

/// A job, or `None`: stop when all before it are done.
type Message = Option<Box<dyn Job>>;

pub(super) struct Writer {
    sender: SyncSender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
    health: Arc<Health>,
}

impl Writer {
    /// Starts the thread on a connection to `file`; it empties the log after `quiet` without a write.
    pub(super) fn start(
        conn: Connection,
        file: &Path,
        hub: Hub,
        health: Arc<Health>,
        quiet: Duration,
    ) -> std::io::Result<Writer> {
        let (sender, receiver) = sync_channel(WRITE_QUEUE);
        let turn = Turn {
            wal: place::beside(file, "-wal"),
            topics: RefCell::default(),
            may_commit: Arc::default(),
            health: Arc::clone(&health),
            quiet,
            forced_at: WAL_LIMIT,
            stopping: false,
        };
        let thread =
            std::thread::Builder::new().name("writer".into()).spawn(move || run(conn, turn, &receiver, &hub))?;
        Ok(Writer { sender, thread: Mutex::new(Some(thread)), health })
    }

    pub(super) fn submit(&self, job: Box<dyn Job>) {
        let refused = match self.health.damage() {
            Some(what) => Some((job, Error::Corrupt(what.to_owned()))),
            None if self.health.is_closing() => Some((job, Error::Closed)),
            None => match self.sender.try_send(Some(job)) {
                Ok(()) | Err(TrySendError::Full(None) | TrySendError::Disconnected(None)) => None,
                Err(TrySendError::Full(Some(job))) => Some((job, Error::Overloaded)),
                Err(TrySendError::Disconnected(Some(job))) => Some((job, Error::Closed)),
            },
        };
        if let Some((job, error)) = refused {
            job.finish(Some(error));
        }
    }

    /// Lets what waits be written, empties the log, closes the connection. The health must say that
    /// the store is closing, so that the queue gets no longer meanwhile.
    pub(super) fn close(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        if thread.thread().id() == std::thread::current().id() {
            // The last handle was dropped by a callback. A full queue needs no message: its end will
            // be seen when the sender is dropped, right after this.
            let _ = self.sender.try_send(None);
            return;
        }
        // Fails only if the thread has ended.
        let _ = self.sender.send(None);
        if thread.join().is_err() {
            log::error!("the writer thread ended by a panic");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(mut conn: Connection, mut turn: Turn, receiver: &Receiver<Message>, hub: &Hub) {
    // SQLite ends a transaction by itself when the disk fails. Whatever a closure does after that
    // would be a transaction of its own, committed at once; this hook lets only `Turn` commit.
    let may_commit = Arc::clone(&turn.may_commit);
    if let Err(error) = conn.commit_hook(Some(move || !may_commit.load(Ordering::Relaxed))) {
        log::error!("the commit hook cannot be set: {error}");
    }
    let mut unsaved = turn.wal_bytes() > 0;
    let mut group: Vec<Box<dyn Job>> = Vec::with_capacity(GROUP_LIMIT);
    while !turn.stopping {
        let message = if unsaved {
            receiver.recv_timeout(turn.quiet)
        } else {
            receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match message {
            Ok(Some(first)) => {
                let until = first.is_patient().then(|| Instant::now() + COMPANY);
                group.push(first);
                if let Some(until) = until {
                    turn.gather(receiver, &mut group, until);
                }
                let lost = turn.write(&conn, receiver, &mut group).err();
                unsaved = true;
                tell(&mut group, lost, &turn.topics, hub);
            }
            Err(RecvTimeoutError::Timeout) => unsaved = turn.wal_bytes() > 0 && !turn.empty_wal(&conn, CHECKPOINT_WAIT),
            Ok(None) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    turn.empty_wal(&conn, LAST_CHECKPOINT_WAIT);
    if let Err((_, error)) = conn.close() {
        log::error!("the file cannot be closed: {error}");
    }
}

/// Publishes the topics of a committed group and tells each of its jobs what has become of it.
fn tell(group: &mut Vec<Box<dyn Job>>, lost: Option<Error>, topics: &RefCell<Vec<Topic>>, hub: &Hub) {
    let topics = topics.take();
    if lost.is_none() {
        // A panic in a callback (the hook has logged it) must not end the thread.
        let _ = catch_unwind(AssertUnwindSafe(|| topics.into_iter().for_each(|topic| hub.publish(topic))));
    }
    for job in group.drain(..) {
        let lost = lost.as_ref().map(Error::again);
        let _ = catch_unwind(AssertUnwindSafe(|| job.finish(lost)));
    }
}

/// What the thread knows besides the connection.
struct Turn {
    wal: PathBuf,
    /// Published by the closures of the group.
    topics: RefCell<Vec<Topic>>,
    may_commit: Arc<AtomicBool>,
    health: Arc<Health>,
    quiet: Duration,
    /// Size of the log at which it is emptied by force.
    forced_at: u64,
    /// The message to stop has come.
    stopping: bool,
}

impl Turn {
    /// Waits for company until `until`, until somebody is in a hurry, or until the group is full.
    fn gather(&mut self, receiver: &Receiver<Message>, group: &mut Vec<Box<dyn Job>>, until: Instant) {
        while group.len() < GROUP_LIMIT {
            match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Some(job)) => {
                    let is_patient = job.is_patient();
                    group.push(job);
                    if !is_patient {
                        return;
                    }
                }
                Ok(None) => {
                    self.stopping = true;
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// Runs `group` and whatever joins it meanwhile in one transaction. `Err`: nothing of it was kept.
    fn write(
        &mut self,
        conn: &Connection,
        receiver: &Receiver<Message>,
        group: &mut Vec<Box<dyn Job>>,
    ) -> Result<(), Error> {
        if let Some(what) = self.health.damage() {
            return Err(Error::Corrupt(what.to_owned()));
        }
        // Damage seen by other uses of this thread was told then.
        error::take_noted_damage();
        let result = self.begin(conn, receiver, group).and_then(|()| self.run_all(conn, receiver, group));
        let result = result.and_then(|()| self.commit(conn));
        if result.is_err()
            && !conn.is_autocommit()
            && let Err(error) = execute(conn, "ROLLBACK")
        {
            log::error!("a transaction cannot be rolled back: {error}");
        }
        if let Some(what) = error::take_noted_damage() {
            self.health.report_damage(&what);
        }
        result?;
        let bytes = self.wal_bytes();
        if bytes >= self.forced_at {
            self.forced_at = if self.empty_wal(conn, CHECKPOINT_WAIT) { WAL_LIMIT } else { bytes + WAL_STEP };
        }
        Ok(())
    }

    fn begin(
        &mut self,
        conn: &Connection,
        receiver: &Receiver<Message>,
        group: &mut Vec<Box<dyn Job>>,
    ) -> Result<(), Error> {
        if !conn.is_autocommit() {
            execute(conn, "ROLLBACK")?;
        }
        let Err(error) = execute(conn, "BEGIN IMMEDIATE") else { return Ok(()) };
        // Whoever came while another program held the file has waited too; were each to wait in turn,
        // the last would wait for hours.
        while group.len() < WRITE_QUEUE
            && let Some(next) = self.next(receiver)
        {
            group.push(next);
        }
        Err(error.into())
    }

    fn run_all(
        &mut self,
        conn: &Connection,
        receiver: &Receiver<Message>,
        group: &mut Vec<Box<dyn Job>>,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let mut done = 0;
        while let Some(job) = group.get_mut(done) {
            self.run_one(conn, job.as_mut())?;
            done += 1;
            if done < GROUP_LIMIT
                && began.elapsed() < GROUP_TIME
                && let Some(next) = self.next(receiver)
            {
                group.push(next);
            }
        }
        Ok(())
    }

    fn run_one(&self, conn: &Connection, job: &mut dyn Job) -> Result<(), Error> {
        let topics = self.topics.borrow().len();
        execute(conn, "SAVEPOINT job")?;
        let write = Write { conn, topics: &self.topics };
        let keep = catch_unwind(AssertUnwindSafe(|| job.run(&write))).unwrap_or(false);
        if let Some(what) = error::take_noted_damage() {
            self.health.report_damage(&what);
            return Err(Error::Corrupt(what));
        }
        if conn.is_autocommit() {
            // SQLite ends a transaction by itself when the disk is full or fails, and only then.
            return Err(Error::DiskFull);
        }
        if !keep {
            execute(conn, "ROLLBACK TO job")?;
            self.topics.borrow_mut().truncate(topics);
        }
        Ok(execute(conn, "RELEASE job")?)
    }

    fn commit(&self, conn: &Connection) -> Result<(), Error> {
        self.may_commit.store(true, Ordering::Relaxed);
        let result = execute(conn, "COMMIT");
        self.may_commit.store(false, Ordering::Relaxed);
        Ok(result?)
    }

    fn next(&mut self, receiver: &Receiver<Message>) -> Option<Box<dyn Job>> {
        if self.stopping {
            return None;
        }
        match receiver.try_recv() {
            Ok(Some(job)) => Some(job),
            Ok(None) => {
                self.stopping = true;
                None
            }
            Err(_) => None,
        }
    }

    fn wal_bytes(&self) -> u64 {
        std::fs::metadata(&self.wal).map_or(0, |metadata| metadata.len())
    }

    /// Moves the log into the file and empties it; `false`: reads (or a full disk) were in the way.
    fn empty_wal(&self, conn: &Connection, wait: Duration) -> bool {
        let busy = conn
            .busy_timeout(wait)
            .and_then(|()| conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0)));
        if let Err(error) = conn.busy_timeout(BUSY_WAIT) {
            log::error!("the busy timeout cannot be set: {error}");
        }
        match busy {
            Ok(busy) => !busy,
            Err(error) => {
                log::warn!("the write-ahead log cannot be moved into the file: {error}");
                false
            }
        }
    }
}

fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Insert(std::sync::mpsc::Sender<Option<Error>>);

    impl Job for Insert {
        fn run(&mut self, write: &Write<'_>) -> bool {
            write.execute("INSERT INTO a VALUES (1)", []).is_ok()
        }

        fn finish(self: Box<Self>, lost: Option<Error>) {
            self.0.send(lost).unwrap();
        }
    }

    #[test]
    fn empties_the_log_once_when_it_is_quiet() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.db");
        let conn = Connection::open(&file).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE a (x INTEGER) STRICT;").unwrap();
        let quiet = Duration::from_millis(30);
        let writer = Writer::start(conn, &file, Hub::default(), Arc::default(), quiet).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        writer.submit(Box::new(Insert(sender)));
        assert!(receiver.recv().unwrap().is_none());
        let look = |path: &Path| {
            let metadata = std::fs::metadata(path).unwrap();
            (metadata.len(), metadata.modified().unwrap())
        };
        let wal = place::beside(&file, "-wal");
        let deadline = Instant::now() + Duration::from_secs(10);
        while look(&wal).0 > 0 {
            assert!(Instant::now() < deadline, "the log is not emptied");
            std::thread::yield_now();
        }
        let reader = Connection::open(&file).unwrap();
        let rows: i64 = reader.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
        let before = (look(&file), look(&wal));
        let later = Instant::now() + 5 * quiet;
        while Instant::now() < later {
            std::thread::yield_now();
        }
        assert_eq!((look(&file), look(&wal)), before, "an idle store writes nothing");
    }
}
