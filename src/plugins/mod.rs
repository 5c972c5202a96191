//! Plugins: dynamic libraries, each in a process of its own, that prove machines and sign people in.
//!
//! | module | what it does |
//! | --- | --- |
//! | `supervisor` | one provider: starts its process when it is needed, ends a stuck one, waits longer after each failure |
//! | `places` | how many calls are under way |
//! | `connection` | a running process: calls out, questions in |
//! | `process` | the process itself, and the way to it |
//! | `services` | what the server does for a plugin: HTTP on record, a sealed cache |
//! | `http` | the one way out of the server, to hosts that the operator has named |
//! | `rehearsal` | a library and a recorded conversation instead of the server |
//! | `file` | which libraries are loaded at all |
//! | `elf` | whether a file can be a library of this machine |
//! | `words` | what plugins say, made fit to be shown |
//! | `frame` | how server and process talk |
//! | `child` | the process's side: `moorline plugin-host` |
//! | `confine` | what the process may not do |
//! | `library` | the loaded library itself; the only unsafe code of the server |

mod child;
mod confine;
mod connection;
mod elf;
mod file;
mod frame;
mod http;
mod library;
mod places;
mod process;
mod rehearsal;
mod services;
mod supervisor;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use moorline_plugin::abi;
use moorline_plugin::schema::{Anchor, Anchors, Description, Kind, Refused};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use child::run as run_child;
pub use confine::Confined;
pub use file::Facts;
pub use rehearsal::{Played, rehearse};

use crate::config::providers::ProviderConfig;
use crate::ops::jobs::{Jobs, QueueFull, Workers};
use crate::store::Store;
use child::Order;
use connection::{Connection, NotStarted};
use supervisor::Supervisor;

/// Threads that wait for one provider's plugin; so many of its calls are under way at most.
const PROVIDER_THREADS: usize = 4;
/// Work that waits for a thread of one provider; about 200 bytes each. Beyond it, callers are refused at once.
const PROVIDER_QUEUE: usize = 1_024;

/// This program, also when its file was replaced meanwhile.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// All configured providers. Cloning gives another handle to the same ones.
#[derive(Clone)]
pub struct Plugins {
    slots: Arc<Vec<Slot>>,
}

struct Slot {
    supervisor: Arc<Supervisor>,
    pool: Mutex<Option<(Jobs, Workers)>>,
}

/// Why a call has no result.
#[derive(Clone, PartialEq, Debug)]
pub enum CallError {
    /// The plugin has looked at it and refuses.
    Refused(Refused),
    /// Nothing can be said now.
    Unavailable(Refused),
    /// The request is not as the contract asks for.
    Invalid(Refused),
    /// There is no such method.
    Unsupported(String),
    /// The plugin has a fault.
    Failed(Refused),
    /// Its process does not run; why.
    Down(String),
    /// The call took too long, and its process was ended.
    TimedOut,
    /// As many calls as may be are under way.
    Busy,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Refused(refused)
            | CallError::Unavailable(refused)
            | CallError::Invalid(refused)
            | CallError::Failed(refused) => f.write_str(&refused.message),
            CallError::Unsupported(message) => f.write_str(message),
            CallError::Down(why) => write!(f, "The plugin is down: {why}"),
            CallError::TimedOut => f.write_str("The plugin did not answer in time."),
            CallError::Busy => f.write_str("The plugin has as much to do as it can take."),
        }
    }
}

/// How a provider is.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Condition {
    /// Not needed yet.
    Idle,
    /// Its process runs.
    Running {
        /// The process.
        pid: u32,
    },
    /// It failed.
    Down {
        /// Why.
        why: String,
        /// Since when.
        for_seconds: u64,
        /// When a call will try again.
        next_try_seconds: u64,
    },
}

/// What is known of a provider.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ProviderStatus {
    /// As configured.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// Cloud or provider type.
    #[serde(rename = "type")]
    pub kind_word: String,
    /// Its library.
    pub library: PathBuf,
    /// Of the library as it was last loaded.
    pub sha256: Option<String>,
    /// The configuration demands one SHA-256.
    pub pinned: bool,
    /// Why the file as it is now would not be loaded; only [`Plugins::overview`] looks.
    pub file_problem: Option<String>,
    /// What its process was confined by.
    pub confined: Option<Confined>,
    /// What the library says of itself.
    pub description: Option<Description>,
    /// Why its changed library is not in use; the process of the one before goes on.
    pub not_loaded: Option<String>,
    /// How it is.
    #[serde(flatten)]
    pub condition: Condition,
    /// Calls so far.
    pub calls: u64,
    /// Failures of its process so far.
    pub failures: u64,
    /// Times that it was started anew.
    pub restarts: u64,
    /// What its process failed with last, also when it works again.
    pub last_error: Option<String>,
    /// How long ago that was.
    pub last_error_seconds: Option<u64>,
}

impl Plugins {
    /// The configured providers, none of them started. `program` is this very program, whose verb `plugin-host` is their process.
    pub fn new(providers: &[Arc<ProviderConfig>], store: &Store, program: &Path) -> Plugins {
        let slot = |config: &Arc<ProviderConfig>| Slot {
            supervisor: Arc::new(Supervisor::new(Arc::clone(config), store.clone(), program.to_owned())),
            pool: Mutex::new(None),
        };
        Plugins { slots: Arc::new(providers.iter().map(slot).collect()) }
    }

    /// Those of a kind, in the order of the configuration.
    pub fn providers(&self, kind: Kind) -> impl Iterator<Item = &Arc<ProviderConfig>> {
        self.slots.iter().map(|slot| &slot.supervisor.config).filter(move |config| config.kind == kind)
    }

    /// The one with this id.
    pub fn provider(&self, kind: Kind, id: &str) -> Option<&Arc<ProviderConfig>> {
        self.providers(kind).find(|config| config.id == id)
    }

    fn slot(&self, provider: &ProviderConfig) -> Option<&Slot> {
        self.slots
            .iter()
            .find(|slot| slot.supervisor.config.kind == provider.kind && slot.supervisor.config.id == provider.id)
    }

    /// Runs a method and waits for it: seconds, if need be. Call it on a thread of [`Plugins::submit`], never on a loop.
    pub fn call<Q: Serialize, R: DeserializeOwned>(
        &self,
        provider: &ProviderConfig,
        method: &str,
        request: &Q,
    ) -> Result<R, CallError> {
        let slot = self.slot(provider).ok_or_else(|| CallError::Down("it is not configured".to_owned()))?;
        let failed = |message: String| CallError::Failed(Refused { code: "failed".into(), message, retry_after: None });
        let request = serde_json::to_vec(request).map_err(|error| failed(error.to_string()))?;
        let reply = slot.supervisor.call(method, &request)?;
        // The error may quote what the plugin has said.
        let unlike = |error: serde_json::Error| words::clean(&error.to_string(), words::SENTENCE_BYTES);
        serde_json::from_slice(&reply)
            .map_err(|error| failed(format!("The plugin's reply is not as agreed: {}.", unlike(error))))
    }

    /// Runs work that calls a provider on one of its own few threads, so that a stuck provider costs nobody else's.
    pub fn submit(&self, provider: &ProviderConfig, work: impl FnOnce() + Send + 'static) -> Result<(), QueueFull> {
        let slot = self.slot(provider).ok_or(QueueFull)?;
        let mut pool = slot.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.is_none() {
            let name = format!("plugin-{}", provider.id);
            // The kernel shows 15 bytes of it.
            *pool = Jobs::start(name.get(..12).unwrap_or(&name), PROVIDER_THREADS, PROVIDER_QUEUE)
                .inspect_err(|error| log::error!("no threads for provider {}: {error}", provider.id))
                .ok();
        }
        pool.as_ref().ok_or(QueueFull)?.0.try_submit(work)
    }

    /// Hands trust anchors to the identity providers: each gets those whose names begin with its type and a slash.
    pub fn set_anchors(&self, anchors: &[Anchor]) {
        for slot in self.slots.iter().filter(|slot| slot.supervisor.config.kind == Kind::Identity) {
            let prefix = format!("{}/", slot.supervisor.config.kind_word);
            let own = anchors.iter().filter(|anchor| anchor.name.starts_with(&prefix)).cloned().collect();
            slot.supervisor.set_anchors(own);
        }
    }

    /// What an identity provider would trust with these imported anchors, asked of a process of its own: the one in use
    /// goes on undisturbed.
    pub fn try_anchors(&self, provider: &ProviderConfig, anchors: &[Anchor]) -> Result<Vec<Anchor>, String> {
        let slot = self.slot(provider).ok_or("it is not configured")?;
        let trial = slot.supervisor.with_anchors(anchors.to_vec());
        let reply = trial.call("anchors", b"{}").map_err(|error| error.to_string());
        trial.stop();
        let reply: Anchors = serde_json::from_slice(&reply?).map_err(|error| error.to_string())?;
        Ok(reply.anchors)
    }

    /// How each provider is.
    pub fn status(&self) -> Vec<ProviderStatus> {
        self.slots.iter().map(|slot| slot.supervisor.status()).collect()
    }

    /// The same with a look at each file. What was not loaded yet has the SHA-256 of its file.
    pub fn overview(&self) -> Vec<ProviderStatus> {
        let looked = self.slots.iter().map(|slot| {
            let mut status = slot.supervisor.status();
            match file::check(&status.library, slot.supervisor.config.sha256.as_deref()) {
                Ok(checked) => status.sha256 = status.sha256.or(Some(checked.sha256)),
                Err(why) => status.file_problem = Some(why),
            }
            status
        });
        looked.collect()
    }

    /// Ends all processes; later calls are refused.
    pub fn stop(&self) {
        for slot in self.slots.iter() {
            slot.supervisor.stop();
            if let Some((jobs, workers)) = slot.pool.lock().unwrap_or_else(PoisonError::into_inner).take() {
                drop(jobs);
                workers.join();
            }
        }
    }
}

/// What loading a library without making an instance showed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its SHA-256.
    pub sha256: String,
    /// What it says of itself.
    pub description: Option<Description>,
    /// The version of the plugin interface that it was built for.
    pub interface: (u16, u16),
    /// What its process was confined by.
    pub confined: Confined,
}

/// All that can be found out about a library.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The file.
    pub library: PathBuf,
    /// What the file system says of it.
    pub file: Option<Facts>,
    /// The version of the plugin interface that this host speaks.
    pub host_interface: (u16, u16),
    /// The version that it was built for, if it said so.
    pub interface: Option<(u16, u16)>,
    /// The functions of its table.
    pub functions: Vec<String>,
    /// What it says of itself.
    pub description: Option<Description>,
    /// What its process was confined by.
    pub confined: Option<Confined>,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

/// Loads a library in a process of its own, as the server would, without making an instance, and says everything about it.
pub fn inspect(program: &Path, library: &Path, pinned: Option<&str>) -> Inspection {
    let mut found = Inspection {
        library: library.to_owned(),
        file: file::facts(library),
        host_interface: (abi::MAJOR, abi::MINOR),
        interface: None,
        functions: Vec::new(),
        description: None,
        confined: None,
        problem: None,
    };
    let started = file::check(library, pinned).map_err(NotStarted::from).and_then(|checked| {
        let order =
            Order { library: library.to_owned(), sha256: checked.sha256, kind: None, setup: None, rehearsal: false };
        Connection::start(program, "check", &order, None).map(|(_, started)| started)
    });
    let started = match started {
        Ok(started) => started,
        Err(NotStarted { why, started }) => {
            found.problem = Some(why);
            let Some(started) = started else { return found };
            *started
        }
    };
    // Zero: it did not get as far as its table.
    found.interface = (started.interface != (0, 0)).then_some(started.interface);
    found.functions = started.functions;
    found.description = started.description;
    found.confined = Some(started.confined);
    found
}

/// The same in short, for a library that ought to be good.
pub fn look_at(program: &Path, library: &Path, pinned: Option<&str>) -> Result<Report, String> {
    let found = inspect(program, library, pinned);
    if let Some(problem) = found.problem {
        return Err(problem);
    }
    Ok(Report {
        sha256: found.file.map(|file| file.sha256).unwrap_or_default(),
        description: found.description,
        interface: found.interface.unwrap_or_default(),
        confined: found.confined.unwrap_or_default(),
    })
}
