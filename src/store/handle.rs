//! The handle to an open store.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rusqlite::Connection;
use uuid::Uuid;

use super::health::Health;
use super::lock::Lock;
use super::readers::Pool;
use super::writer::{Job, Write, Writer};
use super::{Error, Sealer, error, place};
use crate::model::Timestamp;

/// An open store. Cloning gives another handle; the last one closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What [`super::open`] has put together.
pub(super) struct Inner {
    pub(super) file: PathBuf,
    pub(super) readers: RwLock<Option<Pool>>,
    pub(super) writer: Writer,
    pub(super) health: Arc<Health>,
    pub(super) sealer: Sealer,
    pub(super) deployment_id: Uuid,
    pub(super) created: bool,
    /// The file was too large to be checked at start.
    pub(super) unchecked: AtomicBool,
    /// Released last.
    pub(super) lock: Mutex<Option<Lock>>,
}

/// What a store takes up on its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Bytes of the file.
    pub file: u64,
    /// Bytes of its write-ahead log.
    pub log: u64,
}

/// Room on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Bytes that can still be written.
    pub free: u64,
    /// Bytes in all.
    pub all: u64,
}

impl Store {
    pub(super) fn new(inner: Inner) -> Store {
        Store { inner: Arc::new(inner) }
    }

    /// Whether [`Store::open`] made the file.
    pub fn was_created(&self) -> bool {
        self.inner.created
    }

    /// Drawn when the file was made; never changes.
    pub fn deployment_id(&self) -> Uuid {
        self.inner.deployment_id
    }

    /// The true name of the file: absolute, links followed.
    pub fn file(&self) -> &Path {
        &self.inner.file
    }

    /// Opens and seals secrets with the key of this file.
    pub fn sealer(&self) -> &Sealer {
        &self.inner.sealer
    }

    /// What was found broken in the file, if anything was; writes are refused from then on.
    pub fn damage(&self) -> Option<&str> {
        self.inner.health.damage()
    }

    /// What the file takes up at present.
    pub fn size(&self) -> Size {
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        Size { file: bytes(&self.inner.file), log: bytes(&place::beside(&self.inner.file, "-wal")) }
    }

    /// Runs `f` on a read-only connection, in one read transaction. It is stopped after
    /// [`super::READ_DEADLINE`]; it should do nothing but read.
    pub fn read<T, E: From<Error>>(&self, f: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        let pool = self.inner.readers.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::Closed)?;
        let mut reader = pool.get().map_err(|error| {
            log::warn!("no reader became free: {error}");
            Error::NoReader
        })?;
        // What another file was found to be, by other uses of this thread, says nothing about this one.
        error::take_noted_damage();
        let result = reader.run(f);
        if result.is_err()
            && let Some(what) = error::take_noted_damage()
        {
            self.inner.health.report_damage(&what);
        }
        result
    }

    /// Runs `f` on the writer and waits for the commit. `Err` from `f` undoes what it wrote.
    /// Never call it on a loop, nor inside of another write.
    pub fn write<T, E>(&self, f: impl FnOnce(&Write<'_>) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (sender, receiver) = sync_channel(1);
        self.write_then(f, move |result| {
            // The receiver waits below; it is gone only if its thread is.
            let _ = sender.send(result);
        });
        receiver.recv().unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// Runs `f` on the writer; after the commit, `done` is told on the writer thread (or at once, on
    /// this one, when the queue is full). `done` must be quick. It is called exactly once, whatever
    /// happens.
    pub fn write_then<T, E>(
        &self,
        f: impl FnOnce(&Write<'_>) -> Result<T, E> + Send + 'static,
        done: impl FnOnce(Result<T, E>) + Send + 'static,
    ) where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.inner.writer.submit(Box::new(Closure { f: Some(f), result: None, done: Some(done), is_patient: false }));
    }

    /// As [`Store::write_then`], for writes that come in numbers and are in no hurry: the commit may wait
    /// some milliseconds for others to share it.
    pub fn write_with_others<T, E>(
        &self,
        f: impl FnOnce(&Write<'_>) -> Result<T, E> + Send + 'static,
        done: impl FnOnce(Result<T, E>) + Send + 'static,
    ) where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.inner.writer.submit(Box::new(Closure { f: Some(f), result: None, done: Some(done), is_patient: true }));
    }

    /// Closes the store although other handles to it remain: writes that wait are done, running reads
    /// are stopped, the log is moved into the file, the lock is released. What is asked of the store
    /// from then on is answered by [`Error::Closed`]. Not to be called by a callback of a write.
    pub fn close(&self) {
        self.inner.close();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.inner.health.is_closing()
    }

    /// Whether the file still has to be checked; says so once.
    pub(super) fn take_unchecked(&self) -> bool {
        self.inner.unchecked.swap(false, Ordering::Relaxed)
    }

    /// When the whole file was last looked through for damage since it was opened.
    pub fn checked_at(&self) -> Option<Timestamp> {
        self.inner.health.checked_at()
    }

    /// The room on the disk of the file, as this user may use it; `None` where the system does not say.
    pub fn room(&self) -> Option<Room> {
        let stat = rustix::fs::statvfs(&self.inner.file).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some(Room { free: bytes(stat.f_bavail), all: bytes(stat.f_blocks) })
    }

    pub(super) fn note_check(&self) {
        self.inner.health.checked();
    }

    pub(super) fn report_damage(&self, what: &str) {
        self.inner.health.report_damage(what);
    }
}

impl Inner {
    fn close(&self) {
        self.health.close();
        // Idle readers go now, others when their read ends; the writer goes last, so that it is the
        // one that removes the log.
        drop(self.readers.write().unwrap_or_else(PoisonError::into_inner).take());
        self.writer.close();
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

struct Closure<F, T, E, D>
where
    E: From<Error>,
    D: FnOnce(Result<T, E>),
{
    f: Option<F>,
    result: Option<Result<T, E>>,
    done: Option<D>,
    is_patient: bool,
}

impl<F, T, E, D> Job for Closure<F, T, E, D>
where
    F: FnOnce(&Write<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
    D: FnOnce(Result<T, E>) + Send,
{
    fn run(&mut self, write: &Write<'_>) -> bool {
        let Some(f) = self.f.take() else { return false };
        let result = f(write);
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn is_patient(&self) -> bool {
        self.is_patient
    }

    fn finish(mut self: Box<Self>, lost: Option<Error>) {
        let Some(done) = self.done.take() else { return };
        done(match (lost, self.result.take()) {
            (Some(error), Some(Ok(_)) | None) => Err(error.into()),
            (_, Some(result)) => result,
            // The panic hook has logged it.
            (None, None) => Err(Error::Panicked.into()),
        });
    }
}

impl<F, T, E, D> Drop for Closure<F, T, E, D>
where
    E: From<Error>,
    D: FnOnce(Result<T, E>),
{
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(Error::Closed.into()));
        }
    }
}
