//! A folder with a store in it, rows to put there, and children to run in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use moorline::model::Timestamp;
use moorline::ops::hub::{Hub, Topic};
use moorline::ops::mail::{Address, ConnId, Mail, Mailbox};
use moorline::store::{Error, OpenError, Options, Store, Write, default_key_file};
use rusqlite::Connection;

/// A folder that goes when dropped.
pub(super) struct Place(tempfile::TempDir);

impl Place {
    pub(super) fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub(super) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder().join("m.db")
    }

    pub(super) fn wal(&self) -> PathBuf {
        self.folder().join("m.db-wal")
    }

    pub(super) fn open(&self) -> Store {
        self.try_open().expect("opens")
    }

    pub(super) fn try_open(&self) -> Result<Store, OpenError> {
        Store::open(options(&self.file()))
    }

    /// The text of the refusal.
    pub(super) fn refusal(&self) -> String {
        match self.try_open() {
            Ok(_) => panic!("opened"),
            Err(error) => error.to_string(),
        }
    }

    /// A connection past the store.
    pub(super) fn raw(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }
}

pub(super) fn options(file: &Path) -> Options {
    Options {
        file: file.to_owned(),
        key_file: default_key_file(file),
        create: true,
        readers: 4,
        hub: Hub::default(),
        allow_network_file_system: true,
    }
}

/// The row that most tests write.
pub(super) fn add_note(conn: &Connection, note: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO audit_log (at, actor_kind, action, target, result) VALUES (?, 'operator', 'note', ?, 'ok')",
    )?
    .execute((Timestamp::now(), note))?;
    Ok(())
}

pub(super) fn note(store: &Store, note: impl Into<String>) -> Result<(), Error> {
    let note = note.into();
    store.write(move |write: &Write<'_>| Ok(add_note(write, &note)?))
}

pub(super) fn notes(store: &Store) -> Vec<String> {
    store
        .read(|conn| {
            let mut all = conn.prepare_cached("SELECT target FROM audit_log WHERE action = 'note' ORDER BY id")?;
            let notes = all.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok::<_, Error>(notes)
        })
        .unwrap()
}

pub(super) fn count(store: &Store, sql: &str) -> i64 {
    store.read(|conn| Ok::<_, Error>(conn.query_row(sql, [], |row| row.get(0))?)).unwrap()
}

/// Subscribes to `topics`; the closure gives the letters that have come so far.
pub(super) fn listen(hub: &Hub, topics: &[Topic]) -> impl Fn() -> Vec<Topic> + use<> {
    let poll = mio::Poll::new().unwrap();
    let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
    let (sender, receiver) = std::sync::mpsc::sync_channel(64);
    let address = Address { mailbox: Mailbox::new(sender, waker.into()), conn: ConnId { slot: 0, generation: 0 } };
    let subscriptions: Vec<_> = topics.iter().map(|topic| hub.subscribe(*topic, address.clone())).collect();
    move || {
        let _alive = (&poll, &subscriptions);
        let letters = receiver.try_iter();
        letters.filter_map(|(_, mail)| if let Mail::Changed(topic) = mail { Some(topic) } else { None }).collect()
    }
}

/// What tells a child process which file to use.
const CHILD: &str = "MOORLINE_TEST_STORE_CHILD";

/// The file that this process was started for; `None`: this is not a child.
pub(super) fn child_file() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// A command that runs one test of this binary, alone, as a child for `file`. `before` is shell text
/// that is run first.
pub(super) fn child(test: &str, file: &Path, before: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{before}\nexec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    command
}

pub(super) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}
