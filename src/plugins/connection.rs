//! A running plugin process, as the server sees it.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::Duration;

use moorline_plugin::abi::{self, Status};

use super::child::{Order, Started};
use super::frame::{Frame, Kind};
use super::services::Desk;
use crate::ops::lock::lock;

/// Lines of log that a plugin may write before its next call; more are dropped.
const LOG_LINES: u32 = 200;

/// A running process. Dropping it ends it.
pub(super) struct Connection {
    provider: String,
    process: Mutex<Child>,
    to: Mutex<UnixStream>,
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
    log_lines: u32,
    over: bool,
}

/// Why there is no process that could be called.
#[derive(Debug)]
pub(super) struct NotStarted {
    /// In words.
    pub(super) why: String,
    /// What it has said, if it got that far.
    pub(super) started: Option<Started>,
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
        let process = Command::new(program)
            .arg0("moorline")
            .arg("plugin-host")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (sender, receiver) = sync_channel(1);
        let pending = Arc::new(Pending::default());
        lock(&pending.state).started = Some(sender);
        let from = ours.try_clone().map_err(failed)?;
        let answers = ours.try_clone().map_err(failed)?;
        let connection = Connection {
            provider: provider.to_owned(),
            process: Mutex::new(process),
            to: Mutex::new(ours),
            pending: Arc::clone(&pending),
            marks: AtomicU64::new(1),
        };
        let reader = Reader {
            from,
            to: Arc::new(Mutex::new(answers)),
            pending,
            desk: desk.map(Arc::from),
            provider: provider.into(),
        };
        Builder::new().name("plugin-link".into()).spawn(move || reader.run()).map_err(failed)?;
        let order = serde_json::to_vec(order).map_err(|error| NotStarted::from(error.to_string()))?;
        connection.send(&Frame::new(Kind::Order, 0, order)).map_err(failed)?;
        match receiver.recv_timeout(Duration::from_secs(u64::from(abi::CREATE_SECONDS))) {
            Ok(started) if started.fault.is_empty() => Ok((connection, started)),
            Ok(started) => Err(NotStarted { why: started.fault.clone(), started: Some(started) }),
            Err(RecvTimeoutError::Timeout) => {
                connection.kill();
                Err(format!("it was not ready within {} s", abi::CREATE_SECONDS).into())
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(format!("its process ended while it was loaded: {}", connection.end()).into())
            }
        }
    }

    fn send(&self, frame: &Frame) -> io::Result<()> {
        frame.write(&mut *lock(&self.to))
    }

    /// Runs a method.
    pub(super) fn call(&self, method: &str, request: &[u8], within: Duration) -> Called {
        let mark = self.marks.fetch_add(1, Ordering::Relaxed);
        let receiver = match self.pending.wait_for(mark) {
            Some(receiver) => receiver,
            None => return Called::Ended,
        };
        if self.send(&Frame::named(Kind::Call, mark, method, request)).is_err() {
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

    /// The process's number.
    pub(super) fn pid(&self) -> u32 {
        lock(&self.process).id()
    }

    /// Ends the process at once.
    pub(super) fn kill(&self) {
        let _ = lock(&self.process).kill();
        let _ = lock(&self.to).shutdown(Shutdown::Both);
    }

    /// How the process ended, in words; kills it if it did not.
    pub(super) fn end(&self) -> String {
        let mut process = lock(&self.process);
        // It has closed its socket, so the rest is a matter of moments.
        for _ in 0..50 {
            if let Ok(Some(status)) = process.try_wait() {
                return in_words(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = process.kill();
        let _ = process.wait();
        "it stopped listening and was ended".to_owned()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.kill();
        let status = lock(&self.process).wait();
        log::debug!("the process of provider {} ended: {status:?}", self.provider);
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let name = match signal {
                4 => " (illegal instruction)",
                6 => " (abort)",
                7 => " (bus error)",
                8 => " (arithmetic)",
                9 => " (killed)",
                11 => " (segmentation fault)",
                31 => " (forbidden system call)",
                _ => "",
            };
            format!("ended by signal {signal}{name}")
        }
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
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
        Some(receiver)
    }

    fn forget(&self, mark: u64) {
        lock(&self.state).calls.remove(&mark);
    }
}

/// The thread that takes what the process says.
struct Reader {
    from: UnixStream,
    to: Arc<Mutex<UnixStream>>,
    pending: Arc<Pending>,
    desk: Option<Arc<dyn Desk>>,
    provider: String,
}

impl Reader {
    fn run(mut self) {
        let mut serving: u32 = 0;
        let counter = Arc::new(Mutex::new(()));
        while let Ok(frame) = Frame::read(&mut self.from) {
            match frame.kind {
                Kind::Started => self.started(&frame),
                Kind::Done => self.done(&frame),
                Kind::Log => self.log(&frame),
                Kind::Serve => {
                    // Each of its threads asks one thing at a time, so more than that is a fault of the process.
                    serving = u32::try_from(Arc::strong_count(&counter) - 1).unwrap_or(u32::MAX);
                    if serving > abi::CALLS_AT_ONCE + 1 {
                        break;
                    }
                    self.serve(frame, Arc::clone(&counter));
                }
                Kind::Order | Kind::Call | Kind::Served => break,
            }
        }
        if serving > abi::CALLS_AT_ONCE + 1 {
            log::warn!("the plugin of provider {} asks for too much at once and is ended", self.provider);
        }
        let _ = self.from.shutdown(Shutdown::Both);
        let mut state = lock(&self.pending.state);
        state.over = true;
        state.calls.clear();
        state.started = None;
    }

    fn started(&self, frame: &Frame) {
        let sender = lock(&self.pending.state).started.take();
        if let (Some(sender), Ok(started)) = (sender, serde_json::from_slice(&frame.payload)) {
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
            state.log_lines += 1;
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
        let text: String =
            String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if !self.desk.as_ref().is_some_and(|desk| desk.note(level, &text)) {
            log::log!(level, "plugin of provider {}: {text}", self.provider);
        }
    }

    fn serve(&self, frame: Frame, counted: Arc<Mutex<()>>) {
        let (to, desk) = (Arc::clone(&self.to), self.desk.clone());
        let work = move || {
            let (status, reply) = match (&desk, frame.name_and_rest()) {
                (Some(desk), Some((service, request))) => desk.serve(service, request),
                _ => (abi::UNSUPPORTED, Vec::new()),
            };
            let _ = Frame::numbered(Kind::Served, frame.mark, status, &reply).write(&mut *lock(&to));
            drop(counted);
        };
        if let Err(error) = Builder::new().name("plugin-desk".into()).spawn(work) {
            log::error!("no thread for provider {}: {error}", self.provider);
        }
    }
}
