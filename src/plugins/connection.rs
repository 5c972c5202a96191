//! A running plugin process, as the server sees it.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::Duration;

use moorline_plugin::abi::{self, Status};

use super::child::{Order, Started};
use super::frame::{Frame, Kind};
use super::process::{Process, Writer};
use super::services::{self, Desk};
use super::words;
use crate::ops::lock::lock;

/// Lines of log that a plugin may write before its next call; more are dropped.
const LOG_LINES: u32 = 200;
/// Services that one process waits for at the same time, each a thread of the server with 2 MiB of address space.
pub(super) const SERVICES_AT_ONCE: usize = abi::CALLS_AT_ONCE as usize + 1;
/// Functions of a plugin's table that are shown, and the bytes of one's name.
const FUNCTIONS: usize = 16;
const FUNCTION_BYTES: usize = 64;

/// A running process. Dropping it ends it.
pub(super) struct Connection {
    process: Arc<Process>,
    to: Arc<Writer>,
    pending: Arc<Pending>,
    marks: AtomicU64,
}

/// Who waits for what.
#[derive(Default)]
struct Pending {
    state: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    calls: HashMap<u64, SyncSender<(Status, Vec<u8>)>>,
    started: Option<SyncSender<Started>>,
    /// Since the last call began.
    log_lines: u32,
    /// Since the last call began.
    services: u32,
    over: bool,
    /// It was over while calls were under way; each of their callers says so to the supervisor.
    broke: bool,
}

/// Why there is no process that could be called.
#[derive(Debug)]
pub(super) struct NotStarted {
    /// In words.
    pub(super) why: String,
    /// What it has said, if it got that far.
    pub(super) started: Option<Box<Started>>,
}

impl From<String> for NotStarted {
    fn from(why: String) -> NotStarted {
        NotStarted { why, started: None }
    }
}

/// What became of a call.
pub(super) enum Called {
    /// It was answered.
    Answered(Status, Vec<u8>),
    /// It took too long.
    TimedOut,
    /// The process ended first.
    Ended,
}

impl Connection {
    /// Starts a process, gives it its order, and waits until it is ready or says why it is not.
    pub(super) fn start(
        program: &Path,
        provider: &str,
        order: &Order,
        desk: Option<Box<dyn Desk>>,
    ) -> Result<(Connection, Started), NotStarted> {
        let failed = |error: io::Error| NotStarted::from(format!("its process cannot be started: {error}"));
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let from = ours.try_clone().map_err(failed)?;
        let order = serde_json::to_vec(order).map_err(|error| NotStarted::from(error.to_string()))?;
        let to = Writer::new(ours).map_err(failed)?;
        let process = Process::start(program, theirs).map_err(failed)?;
        let (sender, receiver) = sync_channel(1);
        // Whatever happens from here on, its end is waited for.
        let connection = Connection {
            process: Arc::new(process),
            to: Arc::new(to),
            pending: Arc::default(),
            marks: AtomicU64::new(1),
        };
        lock(&connection.pending.state).started = Some(sender);
        let reader = Reader {
            from,
            to: Arc::clone(&connection.to),
            process: Arc::clone(&connection.process),
            pending: Arc::clone(&connection.pending),
            desk: desk.map(Arc::from),
            provider: provider.into(),
        };
        Builder::new().name("plugin-link".into()).spawn(move || reader.run()).map_err(failed)?;
        let ended = || Err(format!("its process ended while it was loaded: {}", connection.end()).into());
        if connection.to.send(&Frame::new(Kind::Order, 0, order)).is_err() {
            return ended();
        }
        match receiver.recv_timeout(Duration::from_secs(u64::from(abi::CREATE_SECONDS))) {
            Ok(started) if started.fault.is_empty() => Ok((connection, started)),
            Ok(started) => Err(NotStarted { why: started.fault.clone(), started: Some(Box::new(started)) }),
            Err(RecvTimeoutError::Timeout) => Err(format!("it was not ready within {} s", abi::CREATE_SECONDS).into()),
            Err(RecvTimeoutError::Disconnected) => ended(),
        }
    }

    /// Runs a method.
    pub(super) fn call(&self, method: &str, request: &[u8], within: Duration) -> Called {
        let mark = self.marks.fetch_add(1, Ordering::Relaxed);
        let receiver = match self.pending.wait_for(mark) {
            Some(receiver) => receiver,
            None => return Called::Ended,
        };
        if self.to.send(&Frame::named(Kind::Call, mark, method, request)).is_err() {
            self.pending.forget(mark);
            return Called::Ended;
        }
        match receiver.recv_timeout(within) {
            Ok((status, reply)) => Called::Answered(status, reply),
            Err(RecvTimeoutError::Timeout) => {
                self.pending.forget(mark);
                Called::TimedOut
            }
            Err(RecvTimeoutError::Disconnected) => Called::Ended,
        }
    }

    /// Whether its process still listens.
    pub(super) fn is_alive(&self) -> bool {
        !lock(&self.pending.state).over
    }

    /// Whether its process ended under the hands of callers.
    pub(super) fn broke(&self) -> bool {
        lock(&self.pending.state).broke
    }

    /// The process's number.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Ends the process at once.
    pub(super) fn kill(&self) {
        self.process.kill();
        self.to.close();
    }

    /// How the process ended, in words; kills it if it did not.
    pub(super) fn end(&self) -> String {
        self.process.end().to_owned()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.kill();
        self.process.end();
    }
}

impl Pending {
    fn wait_for(&self, mark: u64) -> Option<Receiver<(Status, Vec<u8>)>> {
        let mut state = lock(&self.state);
        if state.over {
            return None;
        }
        let (sender, receiver) = sync_channel(1);
        state.calls.insert(mark, sender);
        state.log_lines = 0;
        state.services = 0;
        Some(receiver)
    }

    /// Counts a service that the process asks for; why it is not done, if so.
    fn refuse_service(&self) -> Option<(Status, Vec<u8>)> {
        let mut state = lock(&self.state);
        if state.started.is_none() && state.calls.is_empty() {
            return Some(services::refusal(abi::INVALID, "no_call", "no call is under way"));
        }
        state.services = state.services.saturating_add(1);
        let many = state.services > abi::SERVICES_PER_CALL;
        many.then(|| services::refusal(abi::REFUSED, "too_many", "the call has asked for too many services"))
    }

    fn forget(&self, mark: u64) {
        lock(&self.state).calls.remove(&mark);
    }
}

/// The thread that takes what the process says, and sees it off.
struct Reader {
    from: UnixStream,
    to: Arc<Writer>,
    process: Arc<Process>,
    pending: Arc<Pending>,
    desk: Option<Arc<dyn Desk>>,
    provider: String,
}

impl Reader {
    fn run(mut self) {
        let counter = Arc::new(());
        while let Ok(frame) = Frame::read(&mut self.from) {
            match frame.kind {
                Kind::Started => self.started(&frame),
                Kind::Done => self.done(&frame),
                Kind::Log => self.log(&frame),
                Kind::Serve => {
                    // The host's side of the process asks for no more at once, as it sees it; only a forger asks for twice that.
                    if Arc::strong_count(&counter) > 2 * SERVICES_AT_ONCE {
                        log::warn!("the plugin of provider {} asks for too much at once and is ended", self.provider);
                        break;
                    }
                    self.serve(frame, Arc::clone(&counter));
                }
                Kind::Order | Kind::Call | Kind::Served => break,
            }
        }
        self.to.close();
        let idle = {
            let mut state = lock(&self.pending.state);
            state.over = true;
            state.broke = !state.calls.is_empty();
            let idle = state.calls.is_empty() && state.started.is_none();
            state.calls.clear();
            state.started = None;
            idle
        };
        // Here, so that a process that ends while nobody calls it does not stay a zombie.
        let how = self.process.end();
        if idle && !self.process.is_unwanted() {
            log::warn!("the process {} of provider {} {how} while nobody called it", self.process.pid, self.provider);
        }
    }

    fn started(&self, frame: &Frame) {
        let sender = lock(&self.pending.state).started.take();
        if let (Some(sender), Ok(mut started)) = (sender, serde_json::from_slice::<Started>(&frame.payload)) {
            started.fault = words::clean(&started.fault, words::SENTENCE_BYTES);
            if let Some(description) = &mut started.description {
                words::clean_description(description);
            }
            started.functions.truncate(FUNCTIONS);
            for name in &mut started.functions {
                *name = words::clean(name, FUNCTION_BYTES);
            }
            started.confined.landlock = words::clean(&started.confined.landlock, words::SENTENCE_BYTES);
            let _ = sender.send(started);
        }
    }

    fn done(&self, frame: &Frame) {
        let waiting = lock(&self.pending.state).calls.remove(&frame.mark);
        if let (Some(waiting), Some((status, reply))) = (waiting, frame.number_and_rest()) {
            let _ = waiting.send((status, reply.to_vec()));
        }
    }

    fn log(&self, frame: &Frame) {
        {
            let mut state = lock(&self.pending.state);
            state.log_lines = state.log_lines.saturating_add(1);
            if state.log_lines > LOG_LINES {
                return;
            }
        }
        let Some((level, text)) = frame.number_and_rest() else { return };
        let level = match level {
            abi::LOG_ERROR => log::Level::Error,
            abi::LOG_WARN => log::Level::Warn,
            abi::LOG_INFO => log::Level::Info,
            _ => log::Level::Debug,
        };
        let text = String::from_utf8_lossy(text.get(..abi::LOG_BYTES).unwrap_or(text));
        let text = words::clean(&text, abi::LOG_BYTES);
        if !self.desk.as_ref().is_some_and(|desk| desk.note(level, &text)) {
            log::log!(level, "plugin of provider {}: {text}", self.provider);
        }
    }

    fn serve(&self, frame: Frame, counted: Arc<()>) {
        let served = |(status, reply): (Status, Vec<u8>)| Frame::numbered(Kind::Served, frame.mark, status, &reply);
        if let Some(refused) = self.pending.refuse_service() {
            let _ = self.to.send(&served(refused));
            return;
        }
        let (to, desk) = (Arc::clone(&self.to), self.desk.clone());
        let work = move || {
            let (status, reply) = match (&desk, frame.name_and_rest()) {
                (Some(desk), Some((service, request))) => desk.serve(service, request),
                _ => (abi::UNSUPPORTED, Vec::new()),
            };
            let _ = to.send(&Frame::numbered(Kind::Served, frame.mark, status, &reply));
            drop(counted);
        };
        if let Err(error) = Builder::new().name("plugin-desk".into()).spawn(work) {
            log::error!("no thread for provider {}: {error}", self.provider);
        }
    }
}
