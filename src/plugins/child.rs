//! The plugin process: `moorline plugin-host`, started by the server with a socket as its standard input.
//!
//! It confines itself, loads one library, makes one instance, and runs calls until the socket closes.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use moorline_plugin::abi::{self, Status};
use moorline_plugin::schema::{Description, Kind as PluginKind, Refused, Setup};
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::confine::{self, Confined};
use super::connection::SERVICES_AT_ONCE;
use super::elf;
use super::frame::{Frame, Kind};
use super::library::{Found, Instance, Library, Outcome, Services};
use crate::model::{Timestamp, hex};
use crate::ops::lock::lock;

/// Why a library is not what the configuration asks for.
pub(super) const OTHER_KIND: &str = "it is a plugin of another kind";
/// Time for the destructors of a library when the server has gone.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// What a plugin process is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The library.
    pub(super) library: PathBuf,
    /// SHA-256 that the file must have, in hex.
    pub(super) sha256: String,
    /// What it must be; none: anything.
    pub(super) kind: Option<PluginKind>,
    /// What to make the instance with; none: only look at the library.
    pub(super) setup: Option<Setup>,
    /// The server gives the clock and chance, too: a recording is played.
    #[serde(default)]
    pub(super) rehearsal: bool,
}

/// What a plugin process answers first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Started {
    /// Why it cannot work; empty if it can.
    pub(super) fault: String,
    /// What it refused with, if it was asked for an instance and gave none.
    #[serde(default)]
    pub(super) refused: Option<(Status, Refused)>,
    /// What the library says of itself.
    pub(super) description: Option<Description>,
    /// The version of the contract that it was built for.
    pub(super) interface: (u16, u16),
    /// The functions of its table.
    #[serde(default)]
    pub(super) functions: Vec<String>,
    /// What it was confined by.
    pub(super) confined: Confined,
}

/// Runs the process until the server closes the socket.
pub fn run() -> ExitCode {
    let Ok(input) = rustix::io::dup(std::io::stdin()) else { return ExitCode::FAILURE };
    match serve(UnixStream::from(input)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: this verb is for the server's own use: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(socket: UnixStream) -> std::io::Result<()> {
    let mut from = socket.try_clone()?;
    let order: Order = serde_json::from_slice(&Frame::read(&mut from)?.payload)?;
    let link = Arc::new(Link {
        to: Mutex::new(socket),
        waiting: Mutex::default(),
        fewer: Condvar::new(),
        calls: Calls::default(),
    });
    let mut started = Started::default();
    let instance = match start(&order, from, &link, &mut started) {
        Ok(instance) => instance,
        Err(fault) => {
            started.fault = fault;
            None
        }
    };
    let concurrent =
        started.description.as_ref().is_some_and(|found| found.capabilities.iter().any(|one| one == abi::CONCURRENT));
    let answer = Frame::new(Kind::Started, 0, serde_json::to_vec(&started)?);
    let Some(instance) = instance else { return link.send(&answer) };
    let instance = Arc::new(instance);
    for _ in 1..if concurrent { abi::CALLS_AT_ONCE } else { 1 } {
        link.calls.helpers.fetch_add(1, Ordering::Relaxed);
    }
    link.send(&answer)?;
    work(&instance, &link)
}

/// Confines the process, listens to the server, and loads the library.
fn start(order: &Order, from: UnixStream, link: &Arc<Link>, started: &mut Started) -> Result<Option<Instance>, String> {
    let path = &order.library;
    let mut file = File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
    let found = hex(&digest(&mut file).map_err(|error| format!("it cannot be read: {error}"))?);
    if found != order.sha256 {
        return Err(format!("it changed while it was loaded: its SHA-256 is {found}, not {}", order.sha256));
    }
    elf::check(&file)?;
    // Threads inherit what their maker is confined by, so this comes before the first.
    started.confined = confine::confine(path);
    let listening = Arc::clone(link);
    let spawned = Builder::new().name("link".into()).spawn(move || listen(from, &listening));
    spawned.map_err(|error| format!("no thread can be started: {error}"))?;
    let services = Box::new(Remote { link: Arc::clone(link), rehearsal: order.rehearsal });
    let mut found = Found::default();
    let library = Library::load(OwnedFd::from(file), path, services, &mut found);
    started.interface = found.interface;
    started.functions = found.functions.iter().map(|name| (*name).to_owned()).collect();
    let library = library?;
    let (status, text) = library.describe();
    if status != abi::OK {
        return Err(format!("it does not say what it is: {}", said(&(status, text))));
    }
    let description: Description =
        serde_json::from_slice(&text).map_err(|error| format!("its description is not as agreed: {error}"))?;
    // Before it is made to look at settings that are not for it.
    if order.kind.is_some_and(|kind| kind != description.kind) {
        return Err(OTHER_KIND.to_owned());
    }
    started.description = Some(description);
    let Some(setup) = &order.setup else { return Ok(None) };
    let setup = serde_json::to_vec(setup).map_err(|error| error.to_string())?;
    library.create(&setup).map(Some).map_err(|outcome| {
        started.refused = Some((outcome.0, serde_json::from_slice(&outcome.1).unwrap_or_default()));
        said(&outcome)
    })
}

/// Takes what the server says. The end of the socket is the end of the process, whatever its threads are at.
fn listen(mut from: UnixStream, link: &Link) {
    loop {
        let Ok(frame) = Frame::read(&mut from) else { leave() };
        match frame.kind {
            Kind::Call => link.calls.put(frame),
            Kind::Served => {
                if let Some(waiting) = link.forget(frame.mark) {
                    let _ = waiting.send(frame);
                }
            }
            _ => {}
        }
    }
}

/// Ends the process; also when the library's destructors hang.
fn leave() -> ! {
    let late = || {
        std::thread::sleep(LEAVE_WITHIN);
        std::process::abort();
    };
    if Builder::new().name("end".into()).spawn(late).is_err() {
        std::process::abort();
    }
    std::process::exit(0)
}

/// SHA-256 of a whole file.
pub(super) fn digest(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(context.finish().as_ref().to_vec()),
            got => context.update(buffer.get(..got).unwrap_or_default()),
        }
    }
}

/// A refusal in words.
fn said((status, text): &Outcome) -> String {
    match serde_json::from_slice::<Refused>(text) {
        Ok(refused) if !refused.message.is_empty() => refused.message,
        _ => format!("it gives the status {status} without a reason"),
    }
}

/// The way to the server.
struct Link {
    to: Mutex<UnixStream>,
    /// Threads that wait for the server, by mark.
    waiting: Mutex<HashMap<u64, SyncSender<Frame>>>,
    /// Told whenever a thread waits no more.
    fewer: Condvar,
    calls: Calls,
}

impl Link {
    fn send(&self, frame: &Frame) -> std::io::Result<()> {
        frame.write(&mut *lock(&self.to))
    }

    /// Who waits under this mark, no longer.
    fn forget(&self, mark: u64) -> Option<SyncSender<Frame>> {
        let waiting = lock(&self.waiting).remove(&mark);
        self.fewer.notify_one();
        waiting
    }

    /// Asks the server and waits.
    fn ask(&self, service: &str, request: &[u8]) -> Outcome {
        let (sender, receiver) = sync_channel(1);
        let mark = {
            // A plugin's own threads may ask as well; the server takes only so many at once.
            let waiting = lock(&self.waiting);
            let mut waiting = self
                .fewer
                .wait_while(waiting, |waiting| waiting.len() >= SERVICES_AT_ONCE)
                .unwrap_or_else(PoisonError::into_inner);
            // Threads that wait are few, so a free mark is near.
            let mark = (0..).find(|mark| !waiting.contains_key(mark)).unwrap_or(0);
            waiting.insert(mark, sender);
            mark
        };
        if self.send(&Frame::named(Kind::Serve, mark, service, request)).is_err() {
            self.forget(mark);
            return (abi::FAILED, Vec::new());
        }
        match receiver.recv().ok().as_ref().and_then(Frame::number_and_rest) {
            Some((status, rest)) => (status, rest.to_vec()),
            None => (abi::FAILED, Vec::new()),
        }
    }
}

/// Calls that wait for a thread.
#[derive(Default)]
struct Calls {
    state: Mutex<Waiting>,
    more: Condvar,
    /// Threads that may be started beside the first one.
    helpers: AtomicU32,
}

#[derive(Default)]
struct Waiting {
    calls: VecDeque<Frame>,
    idle: usize,
}

impl Calls {
    fn put(&self, frame: Frame) {
        lock(&self.state).calls.push_back(frame);
        self.more.notify_one();
    }

    /// The next call, and whether further ones wait with nobody to take them.
    fn take(&self) -> (Frame, bool) {
        let mut state = lock(&self.state);
        loop {
            if let Some(frame) = state.calls.pop_front() {
                return (frame, state.idle < state.calls.len() + 1);
            }
            state.idle += 1;
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Whether one more thread may be started; counts it.
    fn may_help(&self) -> bool {
        self.helpers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Runs calls; brings in a helper when it takes one and nobody is left for the next.
fn work(instance: &Arc<Instance>, link: &Arc<Link>) -> std::io::Result<()> {
    loop {
        let (frame, alone) = link.calls.take();
        if alone && link.calls.may_help() {
            let (instance, link) = (Arc::clone(instance), Arc::clone(link));
            let _ = Builder::new().name("plugin".into()).spawn(move || work(&instance, &link));
        }
        let (status, reply) = match frame.name_and_rest() {
            Some((method, request)) => instance.call(method, request),
            None => (abi::INVALID, Vec::new()),
        };
        link.send(&Frame::numbered(Kind::Done, frame.mark, status, &reply))?;
    }
}

/// The services of the server, over the link.
struct Remote {
    link: Arc<Link>,
    rehearsal: bool,
}

impl Services for Remote {
    fn http(&self, request: &[u8]) -> Outcome {
        if request.len() > abi::MESSAGE_BYTES {
            return (abi::INVALID, Vec::new());
        }
        self.link.ask("http", request)
    }

    fn log(&self, level: i32, text: &[u8]) {
        let _ = self.link.send(&Frame::numbered(Kind::Log, 0, level, text));
    }

    fn now(&self) -> i64 {
        if self.rehearsal {
            let (_, micros) = self.link.ask("now", &[]);
            return micros.try_into().map_or(0, i64::from_be_bytes);
        }
        Timestamp::now().0
    }

    fn random(&self, buffer: &mut [u8]) -> Status {
        if self.rehearsal {
            let length = u32::try_from(buffer.len()).unwrap_or(0);
            let (status, bytes) = self.link.ask("random", &length.to_be_bytes());
            if status != abi::OK || bytes.len() != buffer.len() {
                return abi::FAILED;
            }
            buffer.copy_from_slice(&bytes);
            return abi::OK;
        }
        if SystemRandom::new().fill(buffer).is_ok() { abi::OK } else { abi::FAILED }
    }

    fn cache_get(&self, key: &[u8]) -> Outcome {
        if key.len() > abi::CACHE_KEY_BYTES {
            return (abi::INVALID, Vec::new());
        }
        self.link.ask("cache_get", key)
    }

    fn cache_put(&self, key: &[u8], value: &[u8], seconds: u32) -> Status {
        let (true, Ok(length)) =
            (key.len() <= abi::CACHE_KEY_BYTES && value.len() <= abi::CACHE_VALUE_BYTES, u32::try_from(key.len()))
        else {
            return abi::INVALID;
        };
        let mut request = seconds.to_be_bytes().to_vec();
        request.extend_from_slice(&length.to_be_bytes());
        request.extend_from_slice(key);
        request.extend_from_slice(value);
        self.link.ask("cache_put", &request).0
    }
}
