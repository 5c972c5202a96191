//! One provider: its process when it is needed, its back-off when it fails, its calls.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use moorline_plugin::abi;
use moorline_plugin::schema::{Anchor, Description, Refused, Setup};

use super::child::{OTHER_KIND, Order, Started};
use super::connection::{Called, Connection};
use super::file::{self, Checked};
use super::places::Places;
use super::services::ServerDesk;
use super::{CallError, Condition, ProviderStatus, words};
use crate::config::providers::ProviderConfig;
use crate::ops::lock::lock;
use crate::store::Store;

/// First pause after a failure; each further one in a row doubles it.
const PAUSE_LEAST: Duration = Duration::from_secs(1);
/// Longest pause between two tries.
const PAUSE_MOST: Duration = Duration::from_secs(60);

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
    last: Option<(Checked, Started)>,
    last_error: Option<(String, Instant)>,
    passed_over: Option<PassedOver>,
    stopped: bool,
}

/// A changed library that could not take the place of the running one.
struct PassedOver {
    why: String,
    stamp: Option<file::Stamp>,
    next: Instant,
}

/// What a call may use.
enum Usable {
    /// This process.
    Yes(Running),
    /// This process, if the changed library is no good.
    Changed(Running),
    /// Nothing runs.
    No,
}

#[derive(Clone)]
struct Running {
    connection: Arc<Connection>,
    checked: Checked,
}

impl Running {
    fn is(&self, other: &Running) -> bool {
        Arc::ptr_eq(&self.connection, &other.connection)
    }
}

#[derive(Clone)]
struct Down {
    why: String,
    since: Instant,
    in_a_row: u32,
    next: Instant,
    stamp: Option<file::Stamp>,
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
                let mut state = lock(&self.state);
                if state.running.as_ref().is_some_and(|now| now.is(&running)) {
                    state.down = None;
                }
                drop(state);
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

    /// The running process; started if need be. When its library was changed, the new one takes over if it can be loaded;
    /// else the old one goes on, and `status` says why.
    fn running(&self) -> Result<Running, CallError> {
        let _one = match self.usable()? {
            Usable::Yes(running) => return Ok(running),
            Usable::No => lock(&self.starting),
            Usable::Changed(running) => match self.starting.try_lock() {
                Ok(one) => one,
                Err(TryLockError::Poisoned(one)) => one.into_inner(),
                Err(TryLockError::WouldBlock) => return Ok(running),
            },
        };
        // Somebody else may have started it meanwhile.
        let old = match self.usable()? {
            Usable::Yes(running) => return Ok(running),
            Usable::Changed(running) => Some(running),
            Usable::No => None,
        };
        // Before the check, so that a file that changes meanwhile is looked at once more.
        let stamp = file::stamp(&self.config.library);
        let checked = file::check(&self.config.library, self.config.sha256.as_deref());
        if let (Some(old), Ok(checked)) = (&old, &checked)
            && old.checked.sha256 == checked.sha256
        {
            return Ok(self.touched(old, checked));
        }
        match (checked.and_then(|checked| self.start(checked)), old) {
            (Ok(running), _) => Ok(running),
            (Err(why), Some(old)) => {
                self.pass_over(why, stamp);
                Ok(old)
            }
            (Err(why), None) => {
                self.down(why.clone(), stamp);
                Err(CallError::Down(why))
            }
        }
    }

    /// What there is to use; an error while nothing is to be tried.
    fn usable(&self) -> Result<Usable, CallError> {
        let stamp = file::stamp(&self.config.library);
        let mut state = lock(&self.state);
        if state.stopped {
            return Err(CallError::Down("the server stops".to_owned()));
        }
        if let Some(running) = state.running.clone() {
            let known = |passed: &PassedOver| passed.stamp == stamp && Instant::now() < passed.next;
            if running.connection.is_alive() {
                let goes_on = stamp == Some(running.checked.stamp) || state.passed_over.as_ref().is_some_and(known);
                return Ok(if goes_on { Usable::Yes(running) } else { Usable::Changed(running) });
            }
            if running.connection.broke() {
                // One of those whom it broke under is about to say so; until then nobody starts another in its place, which
                // would escape the pause.
                drop(state);
                return Err(CallError::Down(format!("its process {}", running.connection.end())));
            }
            state.running = None;
        }
        match &state.down {
            Some(down) if Instant::now() < down.next && down.stamp == stamp => Err(CallError::Down(down.why.clone())),
            _ => Ok(Usable::No),
        }
    }

    /// The file was written anew with the same content: the process stays.
    fn touched(&self, old: &Running, checked: &Checked) -> Running {
        let running = Running { connection: Arc::clone(&old.connection), checked: checked.clone() };
        let mut state = lock(&self.state);
        state.passed_over = None;
        if state.running.as_ref().is_some_and(|now| now.is(old)) {
            state.running = Some(running.clone());
        }
        running
    }

    /// The changed library is no good.
    fn pass_over(&self, why: String, stamp: Option<file::Stamp>) {
        let library = self.config.library.display();
        log::error!("provider {}: {library} was changed, and the one before goes on: {why}", self.config.id);
        lock(&self.state).passed_over = Some(PassedOver { why, stamp, next: Instant::now() + PAUSE_MOST });
    }

    fn start(&self, checked: Checked) -> Result<Running, String> {
        let config = &self.config;
        let anchors = lock(&self.state).anchors.clone();
        let setup = Setup {
            provider: config.id.clone(),
            kind: config.kind_word.clone(),
            settings: config.settings.clone(),
            anchors: anchors.clone(),
        };
        let order = Order {
            library: config.library.clone(),
            sha256: checked.sha256.clone(),
            kind: Some(config.kind),
            setup: Some(setup),
            rehearsal: false,
        };
        let desk = ServerDesk::new(Arc::clone(config), self.store.clone())?;
        let (connection, started) =
            Connection::start(&self.program, &config.id, &order, Some(Box::new(desk))).map_err(|not| not.why)?;
        let description = started.description.as_ref();
        // It has looked itself, but it is not to be trusted.
        if description.is_none_or(|found| found.kind != config.kind) {
            return Err(OTHER_KIND.to_owned());
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
        if state.anchors != anchors {
            // Changed meanwhile: an instance with the old ones must not be used.
            drop(state);
            drop(running);
            return self.start(checked);
        }
        state.restarts += u64::from(state.last.is_some());
        state.last = Some((checked, started));
        state.passed_over = None;
        let old = state.running.replace(running.clone());
        let stopped = state.stopped;
        drop(state);
        // Calls under way keep the old process until they are done; without any, it ends here.
        drop(old);
        if stopped {
            running.connection.kill();
            return Err("the server stops".to_owned());
        }
        Ok(running)
    }

    /// A process failed; it is taken out of use if it is still the one in use.
    fn failed(&self, running: &Running, why: String) {
        {
            let mut state = lock(&self.state);
            if !state.running.as_ref().is_some_and(|now| now.is(running)) {
                return;
            }
            state.running = None;
        }
        self.down(why, Some(running.checked.stamp));
    }

    /// Nothing runs, and nothing is tried for a while unless the file changes from what it was.
    fn down(&self, why: String, stamp: Option<file::Stamp>) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        let now = Instant::now();
        let in_a_row = state.down.as_ref().map_or(0, |down| down.in_a_row) + 1;
        let pause = PAUSE_LEAST.saturating_mul(1 << (in_a_row - 1).min(6)).min(PAUSE_MOST);
        let since = state.down.as_ref().map_or(now, |down| down.since);
        log::error!("provider {} is down: {}: {why}", self.config.id, self.config.library.display());
        state.last_error = Some((why.clone(), now));
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
            state.down = None;
            let old = state.running.take();
            drop(state);
            drop(old);
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
            pinned: self.config.sha256.is_some(),
            sha256: state.last.as_ref().map(|(checked, _)| checked.sha256.clone()),
            file_problem: None,
            confined: state.last.as_ref().map(|(_, started)| started.confined.clone()),
            description,
            not_loaded: state.running.as_ref().and(state.passed_over.as_ref()).map(|passed| passed.why.clone()),
            condition,
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            restarts: state.restarts,
            last_error: state.last_error.as_ref().map(|(why, _)| why.clone()),
            last_error_seconds: state.last_error.as_ref().map(|(_, at)| at.elapsed().as_secs()),
        }
    }
}

fn outcome(status: abi::Status, reply: Vec<u8>) -> Result<Vec<u8>, CallError> {
    if status == abi::OK {
        return Ok(reply);
    }
    let mut refused: Refused = serde_json::from_slice(&reply).unwrap_or_default();
    words::clean_refusal(&mut refused);
    if refused.message.is_empty() {
        refused.message = format!("The plugin gives no reason ({}).", moorline_plugin::testing::word(status));
    }
    Err(match status {
        abi::REFUSED => CallError::Refused(refused),
        abi::UNAVAILABLE => CallError::Unavailable(refused),
        abi::INVALID => CallError::Invalid(refused),
        abi::UNSUPPORTED => CallError::Unsupported(refused.message),
        _ => CallError::Failed(refused),
    })
}
