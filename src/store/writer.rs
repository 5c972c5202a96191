//! The writer thread: the only connection that writes, with group commit.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::Error;
use crate::ops::hub::{Hub, Topic};

/// Writes that may wait before new ones are refused. A waiting write is a boxed closure with what
/// it captures, a log batch at most: 4,096 × 2 MiB would be too much, but request bodies are
/// bounded by the edge's memory budget long before.
pub(super) const WRITE_QUEUE: usize = 4_096;

/// Writes that share one commit at most; bounds how long the first of them waits for the last.
const GROUP_LIMIT: usize = 256;

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

/// One queued write: runs in its savepoint, then learns whether the group was committed.
pub(super) trait Job: Send {
    /// Runs the closure; `false` asks for its savepoint to be rolled back.
    fn run(&mut self, write: &Write<'_>) -> bool;
    /// The group is committed (`None`) or lost.
    fn finish(self: Box<Self>, lost: Option<Error>);
}

pub(super) struct Writer {
    sender: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(conn: Connection, hub: Hub) -> std::io::Result<Writer> {
        let (sender, receiver) = sync_channel(WRITE_QUEUE);
        let thread = std::thread::Builder::new().name("writer".into()).spawn(move || run(conn, &receiver, &hub))?;
        Ok(Writer { sender: Some(sender), thread: Some(thread) })
    }

    pub(super) fn submit(&self, job: Box<dyn Job>) {
        let refused = match &self.sender {
            None => Some((job, Error::Closed)),
            Some(sender) => match sender.try_send(job) {
                Ok(()) => None,
                Err(TrySendError::Full(job)) => Some((job, Error::Overloaded)),
                Err(TrySendError::Disconnected(job)) => Some((job, Error::Closed)),
            },
        };
        if let Some((job, error)) = refused {
            job.finish(Some(error));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the writer thread ended by a panic");
        }
    }
}

fn run(conn: Connection, receiver: &Receiver<Box<dyn Job>>, hub: &Hub) {
    let topics = RefCell::new(Vec::new());
    while let Ok(first) = receiver.recv() {
        let mut group = vec![first];
        let lost = commit_group(&conn, receiver, &mut group, &topics);
        let published = topics.take();
        if lost.is_none() {
            for topic in published {
                hub.publish(topic);
            }
        }
        let mut lost = lost;
        for job in group {
            job.finish(lost.as_mut().map(Error::again));
        }
    }
}

/// Runs `group` and whatever joins it meanwhile in one transaction; tells why it was lost, if it was.
fn commit_group(
    conn: &Connection,
    receiver: &Receiver<Box<dyn Job>>,
    group: &mut Vec<Box<dyn Job>>,
    topics: &RefCell<Vec<Topic>>,
) -> Option<Error> {
    if let Err(error) = conn.execute_batch("BEGIN IMMEDIATE") {
        return Some(error.into());
    }
    let write = Write { conn, topics };
    let mut done = 0;
    let result = loop {
        let Some(job) = group.get_mut(done) else { break Ok(()) };
        if let Err(error) = run_in_savepoint(&write, job.as_mut()) {
            break Err(error);
        }
        done += 1;
        if group.len() < GROUP_LIMIT
            && let Ok(next) = receiver.try_recv()
        {
            group.push(next);
        }
    };
    match result.and_then(|()| conn.execute_batch("COMMIT")) {
        Ok(()) => None,
        Err(error) => {
            // A failed COMMIT or a full disk may have ended the transaction already.
            if !conn.is_autocommit()
                && let Err(rollback) = conn.execute_batch("ROLLBACK")
            {
                log::error!("cannot roll back: {rollback}");
            }
            Some(error.into())
        }
    }
}

fn run_in_savepoint(write: &Write<'_>, job: &mut dyn Job) -> rusqlite::Result<()> {
    let topics = write.topics.borrow().len();
    write.execute_batch("SAVEPOINT job")?;
    let keep = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.run(write))).unwrap_or(false);
    if !keep {
        write.execute_batch("ROLLBACK TO job")?;
        write.topics.borrow_mut().truncate(topics);
    }
    write.execute_batch("RELEASE job")
}
