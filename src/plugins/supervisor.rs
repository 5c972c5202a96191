//! One provider: its process when it is needed, its back-off when it fails, its calls.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moorline_plugin::abi;
use moorline_plugin::schema::{Anchor, Description, Refused, Setup};

use super::child::{Order, Started};
use super::connection::{Called, Connection};
use super::file::{self, Checked};
use super::services::Desk;
use super::{CallError, Condition, ProviderStatus};
use crate::config::providers::ProviderConfig;
use crate::ops::lock::lock;
use crate::store::Store;

/// First pause after a failure; each further one in a row doubles it.
const PAUSE_LEAST: Duration = Duration::from_secs(1);
/// Longest pause between two tries.
const PAUSE_MOST: Duration = Duration::from_secs(60);
/// How long a caller waits for one of the places of [`abi::CALLS_AT_ONCE`].
const PLACE_WAIT: Duration = Duration::from_secs(2);

/// See above.
pub(super) struct Supervisor {
    pub(super) config: Arc<ProviderConfig>,
    store: Store,
    program: PathBuf,
    state: Mutex<State>,
    /// Held while a process is started, so that one caller starts it and the others wait for it.
    starting: Mutex<()>,
    places: Places,
    calls: AtomicU64,
    failures: AtomicU64,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    down: Option<Down>,
    anchors: Vec<Anchor>,
    restarts: u64,
    last_failure: Option<String>,
    last: Option<(Checked, Started)>,
    stopped: bool,
}

#[derive(Clone)]
struct Running {
    connection: Arc<Connection>,
    checked: Checked,
}

#[derive(Clone)]
struct Down {
    why: String,
    since: Instant,
    in_a_row: u32,
    next: Instant,
    stamp: Option<file::Stamp>,
}

/// Places for calls under way.
#[derive(Default)]
struct Places {
    taken: Mutex<u32>,
    free: Condvar,
}

struct Place<'a>(&'a Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *lock(&self.0.taken) -= 1;
        self.0.free.notify_one();
    }
}

impl Places {
    fn take(&self) -> Option<Place<'_>> {
        let taken = lock(&self.taken);
        let (mut taken, _) = self
            .free
            .wait_timeout_while(taken, PLACE_WAIT, |taken| *taken >= abi::CALLS_AT_ONCE)
            .unwrap_or_else(PoisonError::into_inner);
        if *taken >= abi::CALLS_AT_ONCE {
            return None;
        }
        *taken += 1;
        Some(Place(self))
    }
}

impl Supervisor {
    pub(super) fn new(config: Arc<ProviderConfig>, store: Store, program: PathBuf) -> Supervisor {
        Supervisor {
            config,
            store,
            program,
            state: Mutex::default(),
            starting: Mutex::default(),
            places: Places::default(),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Runs a method; waits, at most as long as a start and a call may take.
    pub(super) fn call(&self, method: &str, request: &[u8]) -> Result<Vec<u8>, CallError> {
        let Some(_place) = self.places.take() else { return Err(CallError::Busy) };
        let running = self.running()?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let within = Duration::from_secs(u64::from(abi::CALL_SECONDS));
        match running.connection.call(method, request, within) {
            Called::Answered(status, reply) => {
                lock(&self.state).down = None;
                outcome(status, reply)
            }
            Called::TimedOut => {
                running.connection.kill();
                self.failed(&running, format!("a call of {method} was not answered within {} s", abi::CALL_SECONDS));
                Err(CallError::TimedOut)
            }
            Called::Ended => {
                let why = running.connection.end();
                self.failed(&running, format!("its process {why} during a call of {method}"));
                Err(CallError::Down(why))
            }
        }
    }

    /// The running process; started if need be.
    fn running(&self) -> Result<Running, CallError> {
        if let Some(running) = self.usable()? {
            return Ok(running);
        }
        let _one = lock(&self.starting);
        // Somebody else may have started it meanwhile.
        if let Some(running) = self.usable()? {
            return Ok(running);
        }
        let checked = file::check(&self.config.library, self.config.sha256.as_deref());
        let started = checked.and_then(|checked| self.start(checked));
        match started {
            Ok(running) => Ok(running),
            Err(why) => {
                self.down(why.clone());
                Err(CallError::Down(why))
            }
        }
    }

    /// The process if it runs and its file is still the same; an error while it is not to be tried.
    fn usable(&self) -> Result<Option<Running>, CallError> {
        let stamp = file::stamp(&self.config.library);
        let mut state = lock(&self.state);
        if state.stopped {
            return Err(CallError::Down("the server stops".to_owned()));
        }
        if let Some(running) = state.running.clone() {
            if !running.connection.is_alive() {
                state.running = None;
            } else if stamp.is_some_and(|stamp| stamp != running.checked.stamp) {
                log::info!("the library of provider {} was changed and is loaded anew", self.config.id);
                // Calls under way keep the old process until they are done.
                state.running = None;
            } else {
                return Ok(Some(running));
            }
        }
        match &state.down {
            Some(down) if Instant::now() < down.next && down.stamp == stamp => Err(CallError::Down(down.why.clone())),
            _ => Ok(None),
        }
    }

    fn start(&self, checked: Checked) -> Result<Running, String> {
        let config = &self.config;
        let setup = Setup {
            provider: config.id.clone(),
            kind: config.kind_word.clone(),
            settings: config.settings.clone(),
            anchors: lock(&self.state).anchors.clone(),
        };
        let order = Order { library: config.library.clone(), sha256: checked.sha256.clone(), setup: Some(setup) };
        let desk = Desk::new(Arc::clone(config), self.store.clone())?;
        let (connection, started) = Connection::start(&self.program, &config.id, &order, Some(desk))?;
        let description = started.description.as_ref();
        if description.is_some_and(|found| found.kind != config.kind) {
            return Err("it is a plugin of another kind".to_owned());
        }
        let (major, minor) = started.interface;
        log::info!(
            "provider {}: loaded {} (SHA-256 {}, {}, plugin interface {major}.{minor}, Landlock {}, seccomp {}), process {}",
            config.id,
            config.library.display(),
            checked.sha256,
            description.map_or_else(String::new, |found| format!("{} {}", found.name, found.version)),
            started.confined.landlock,
            started.confined.seccomp,
            connection.pid(),
        );
        let running = Running { connection: Arc::new(connection), checked: checked.clone() };
        let mut state = lock(&self.state);
        state.restarts += u64::from(state.last.is_some());
        state.last = Some((checked, started));
        state.running = Some(running.clone());
        Ok(running)
    }

    /// A process failed; it is taken out of use if it is still the one in use.
    fn failed(&self, running: &Running, why: String) {
        {
            let mut state = lock(&self.state);
            let current = state.running.as_ref().is_some_and(|now| Arc::ptr_eq(&now.connection, &running.connection));
            if !current {
                return;
            }
            state.running = None;
        }
        self.down(why);
    }

    fn down(&self, why: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        let now = Instant::now();
        let in_a_row = state.down.as_ref().map_or(0, |down| down.in_a_row) + 1;
        let pause = PAUSE_LEAST.saturating_mul(1 << (in_a_row - 1).min(6)).min(PAUSE_MOST);
        let since = state.down.as_ref().map_or(now, |down| down.since);
        log::error!("provider {} is down: {}: {why}", self.config.id, self.config.library.display());
        let stamp = file::stamp(&self.config.library);
        state.last_failure = Some(why.clone());
        state.down = Some(Down { why, since, in_a_row, next: now + pause, stamp });
    }

    /// The same provider with other trust anchors, not started.
    pub(super) fn with_anchors(&self, anchors: Vec<Anchor>) -> Supervisor {
        let other = Supervisor::new(Arc::clone(&self.config), self.store.clone(), self.program.clone());
        lock(&other.state).anchors = anchors;
        other
    }

    /// Other trust anchors: the next call gets an instance that has them.
    pub(super) fn set_anchors(&self, anchors: Vec<Anchor>) {
        let mut state = lock(&self.state);
        if state.anchors != anchors {
            state.anchors = anchors;
            state.running = None;
            state.down = None;
        }
    }

    /// Ends the process; no call is taken any more.
    pub(super) fn stop(&self) {
        let running = {
            let mut state = lock(&self.state);
            state.stopped = true;
            state.running.take()
        };
        if let Some(running) = running {
            running.connection.kill();
        }
    }

    pub(super) fn status(&self) -> ProviderStatus {
        let state = lock(&self.state);
        let condition = match (&state.running, &state.down) {
            (Some(running), _) if running.connection.is_alive() => Condition::Running { pid: running.connection.pid() },
            (_, Some(down)) => {
                let now = Instant::now();
                Condition::Down {
                    why: down.why.clone(),
                    for_seconds: now.duration_since(down.since).as_secs(),
                    next_try_seconds: down.next.saturating_duration_since(now).as_secs(),
                }
            }
            _ => Condition::Idle,
        };
        let description: Option<Description> = state.last.as_ref().and_then(|(_, started)| started.description.clone());
        ProviderStatus {
            id: self.config.id.clone(),
            kind: self.config.kind,
            kind_word: self.config.kind_word.clone(),
            library: self.config.library.clone(),
            sha256: state.last.as_ref().map(|(checked, _)| checked.sha256.clone()),
            confined: state.last.as_ref().map(|(_, started)| started.confined.clone()),
            description,
            condition,
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            restarts: state.restarts,
            last_failure: state.last_failure.clone(),
        }
    }
}

fn outcome(status: abi::Status, reply: Vec<u8>) -> Result<Vec<u8>, CallError> {
    if status == abi::OK {
        return Ok(reply);
    }
    let refused: Refused = serde_json::from_slice(&reply).unwrap_or_default();
    Err(match status {
        abi::REFUSED => CallError::Refused(refused),
        abi::UNAVAILABLE => CallError::Unavailable(refused),
        abi::INVALID => CallError::Invalid(refused),
        abi::UNSUPPORTED => CallError::Unsupported(refused.message),
        _ => CallError::Failed(refused),
    })
}
