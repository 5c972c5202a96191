//! The keeper thread: retention and integrity. (The writer empties the log by itself.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Error, Retention, Store, check};
use crate::model::Timestamp;

/// The first pass comes this long after the start, when the agents are back.
const FIRST_PASS: Duration = Duration::from_secs(120);

/// Time between two passes of retention.
const PASS: Duration = Duration::from_secs(3_600);

/// Time between two integrity checks. A check reads the whole file and writes nothing.
const CHECK: Duration = Duration::from_secs(24 * 3_600);

/// The thread; ends when dropped.
pub struct Keeper {
    stop: Arc<AtomicBool>,
    /// Dropped to wake the thread.
    alarm: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread. A file that was too large to be checked at start is checked at once.
    pub fn start(store: Store, retention: Retention) -> std::io::Result<Keeper> {
        Keeper::start_after(store, retention, FIRST_PASS)
    }

    fn start_after(store: Store, retention: Retention, first_pass: Duration) -> std::io::Result<Keeper> {
        let stop = Arc::new(AtomicBool::new(false));
        let (alarm, sleep) = channel::<()>();
        let asked = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("keeper".into()).spawn(move || {
            let stop = {
                let store = store.clone();
                move || asked.load(Ordering::Acquire) || store.is_closing()
            };
            if store.take_unchecked() {
                check(&store, &stop);
            }
            let mut next_check = Instant::now() + CHECK;
            let mut wait = first_pass;
            while sleep.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) && !stop() {
                sweep(&store, &retention, &stop);
                if Instant::now() >= next_check {
                    check(&store, &stop);
                    next_check = Instant::now() + CHECK;
                }
                wait = PASS;
            }
        })?;
        Ok(Keeper { stop, alarm: Some(alarm), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.alarm = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the keeper thread ended by a panic");
        }
    }
}

fn sweep(store: &Store, retention: &Retention, stop: &dyn Fn() -> bool) {
    let began = Instant::now();
    match retention.sweep(store, Timestamp::now(), stop) {
        Ok(0) => {}
        Ok(removed) => log::info!("retention removed {removed} rows in {:?}", began.elapsed()),
        Err(Error::Closed) => {}
        // The next pass goes on where this one ended.
        Err(error) => log::warn!("retention was not completed: {error}"),
    }
}

fn check(store: &Store, stop: &(impl Fn() -> bool + Send + Clone + 'static)) {
    let began = Instant::now();
    match check::damage_in_use(store.file(), stop.clone()) {
        // It may have ended early.
        Ok(None) if stop() => {}
        Ok(None) => {
            store.note_check();
            log::debug!("the file was checked in {:?}", began.elapsed());
        }
        Ok(Some(found)) => {
            store.note_check();
            store.report_damage(&found);
        }
        Err(error) => log::error!("the file cannot be checked: {error}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ops::hub::Hub;
    use crate::store::Options;

    #[test]
    fn sweeps_by_itself_and_stops_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.db");
        let store = Store::open(Options {
            key_file: crate::store::default_key_file(&file),
            file,
            create: true,
            readers: 1,
            hub: Hub::default(),
            allow_network_file_system: true,
        })
        .unwrap();
        let add = "INSERT INTO audit_log (at, actor_kind, action, result) VALUES (0, 'operator', 'x', 'ok')";
        store.write(move |write| Ok::<_, Error>(write.execute(add, [])?)).unwrap();
        let keeper = Keeper::start_after(store.clone(), Retention::default(), Duration::ZERO).unwrap();
        let rows = || {
            store.read(|conn| Ok::<i64, Error>(conn.query_row("SELECT count(*) FROM audit_log", [], |row| row.get(0))?))
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while rows().unwrap() > 0 {
            assert!(Instant::now() < deadline, "the keeper does nothing");
            std::thread::yield_now();
        }
        let began = Instant::now();
        drop(keeper);
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
