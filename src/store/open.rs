//! Opening a file, and the handle to an open one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::writer::{Job, Write, Writer};
use super::{Error, Sealer};
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
}

/// Why a file was not opened.
#[derive(Debug)]
pub struct OpenError(pub String);

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

/// An open store. Cloning gives another handle; the last one closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    readers: r2d2::Pool<Readers>,
    writer: Writer,
    sealer: Sealer,
    created: bool,
}

struct Readers(PathBuf);

impl r2d2::ManageConnection for Readers {
    type Connection = Connection;
    type Error = rusqlite::Error;

    fn connect(&self) -> rusqlite::Result<Connection> {
        let conn =
            Connection::open_with_flags(&self.0, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        conn.execute_batch("PRAGMA cache_size = -2000; PRAGMA temp_store = memory; PRAGMA trusted_schema = OFF;")?;
        conn.set_prepared_statement_cache_capacity(128);
        Ok(conn)
    }

    fn is_valid(&self, _: &mut Connection) -> rusqlite::Result<()> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

impl Store {
    /// Opens a file, making and migrating it as needed.
    pub fn open(options: Options) -> Result<Store, OpenError> {
        let fail = |error: &dyn fmt::Display| OpenError(format!("{}: {error}", options.file.display()));
        let created = !options.file.exists();
        if created && !options.create {
            return Err(fail(&"no such file"));
        }
        let conn = Connection::open(&options.file).map_err(|error| fail(&error))?;
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;
             PRAGMA temp_store = memory; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -8000;",
        )
        .map_err(|error| fail(&error))?;
        conn.set_prepared_statement_cache_capacity(256);
        if created {
            conn.execute_batch(include_str!("../../sql/schema.sql")).map_err(|error| fail(&error))?;
        }
        let sealer = Sealer::open(&options.key_file, created).map_err(|error| fail(&error))?;
        let readers = r2d2::Pool::builder()
            .max_size(options.readers)
            .min_idle(Some(1))
            .connection_timeout(Duration::from_secs(5))
            .build(Readers(options.file.clone()))
            .map_err(|error| fail(&error))?;
        let writer = Writer::start(conn, options.hub.clone()).map_err(|error| fail(&error))?;
        Ok(Store { inner: Arc::new(Inner { readers, writer, sealer, created }) })
    }

    /// Whether [`Store::open`] made the file.
    pub fn was_created(&self) -> bool {
        self.inner.created
    }

    /// Opens and seals secrets with the key of this file.
    pub fn sealer(&self) -> &Sealer {
        &self.inner.sealer
    }

    /// Runs `f` on a read-only connection, in one read transaction.
    pub fn read<T, E: From<Error>>(&self, f: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        let mut conn = self.inner.readers.get().map_err(|_| Error::NoReader)?;
        let tx = conn.transaction().map_err(Error::from)?;
        f(&tx)
    }

    /// Runs `f` on the writer and waits for the commit. `Err` from `f` undoes what it wrote.
    /// Never call it on a loop.
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
    /// this one, when the queue is full). `done` must be quick.
    pub fn write_then<T, E>(
        &self,
        f: impl FnOnce(&Write<'_>) -> Result<T, E> + Send + 'static,
        done: impl FnOnce(Result<T, E>) + Send + 'static,
    ) where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.inner.writer.submit(Box::new(Closure { f: Some(f), result: None, done }));
    }
}

struct Closure<F, T, E, D> {
    f: Option<F>,
    result: Option<Result<T, E>>,
    done: D,
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

    fn finish(self: Box<Self>, lost: Option<Error>) {
        let result = match (lost, self.result) {
            (Some(error), Some(Ok(_)) | None) => Err(error.into()),
            (_, Some(result)) => result,
            // The closure panicked; the panic hook has logged it.
            (None, None) => Err(Error::Closed.into()),
        };
        (self.done)(result);
    }
}

/// The key file that goes with a file unless configured otherwise.
pub fn default_key_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".key");
    PathBuf::from(name)
}
