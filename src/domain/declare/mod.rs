//! Declarations: what `moorline apply` makes true.
//!
//! A file is read into a tree that knows its lines (`document`), the tree into the types below
//! (`read`), these are checked (`check`), compared with the store (`plan`) and made true in one
//! transaction (`apply`). A declaration also travels to a running server, which checks it again.

mod apply;
mod check;
mod document;
mod parts;
mod plan;
mod read;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::instance::Instance;
use super::{Error, Fault};
use crate::store::instances::Cloud;

pub use apply::apply;
pub use check::check_agent;
pub(super) use parts::{Parts, fill};
pub use read::{Format, read};

/// Operating systems that agents exist for.
pub const SYSTEMS: &[&str] = &["linux", "darwin", "windows"];
/// Architectures that agents exist for.
pub const ARCHITECTURES: &[&str] = &["amd64", "arm64", "armv7"];
/// What clients may show beside an agent, in the order in which they are kept.
pub const DISPLAY_APPS: &[&str] =
    &["vscode", "vscode_insiders", "web_terminal", "ssh_helper", "port_forwarding_helper"];
/// What is shown unless something else is declared.
pub const DEFAULT_DISPLAY_APPS: &[&str] = &["vscode", "web_terminal", "ssh_helper", "port_forwarding_helper"];
/// Seconds after which an agent that never connected counts as timed out, unless declared otherwise.
pub const DEFAULT_CONNECTION_TIMEOUT: i64 = 120;

/// What shall be.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// Name of the file, for messages.
    pub source: String,
    /// How paths are written in messages.
    pub format: Format,
    /// People.
    pub users: Vec<DeclaredUser>,
    /// Workspaces.
    pub workspaces: Vec<DeclaredWorkspace>,
}

/// A person.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredUser {
    /// Where it begins in the file.
    pub line: u32,
    /// Unique, ignoring case.
    pub name: String,
    /// Unique, ignoring case.
    pub email: String,
    /// Free text.
    pub full_name: String,
    /// May do everything.
    pub admin: bool,
    /// Content of the password file; `None`: the password is left as it is.
    pub password: Option<String>,
}

/// A workspace.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredWorkspace {
    /// Where it begins in the file.
    pub line: u32,
    /// Its owner's name.
    pub owner: String,
    /// Unique for its owner, ignoring case.
    pub name: String,
    /// Its agents.
    pub agents: Vec<DeclaredAgent>,
}

/// An agent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredAgent {
    /// Where it begins in the file.
    pub line: u32,
    /// Unique in its workspace, ignoring case.
    pub name: String,
    /// One of [`SYSTEMS`].
    pub os: String,
    /// One of [`ARCHITECTURES`].
    pub arch: String,
    /// Working directory.
    pub directory: String,
    /// Variables of sessions and scripts.
    pub env: BTreeMap<String, String>,
    /// Message-of-the-day file inside the machine.
    pub motd_file: String,
    /// Shown when it does not connect.
    pub troubleshooting_url: String,
    /// 0: never times out.
    pub connection_timeout_seconds: i64,
    /// Some of [`DISPLAY_APPS`].
    pub display_apps: Vec<String>,
    /// The EC2 instance that it is bound to; at most one of the three is given.
    pub aws_instance_id: String,
    /// The Azure VM that it is bound to.
    pub azure_vm_id: String,
    /// The Compute Engine instance that it is bound to.
    pub google_instance_id: String,
    /// Run by the agent.
    pub scripts: Vec<DeclaredScript>,
    /// Collected by the agent.
    pub metadata: Vec<DeclaredMetadata>,
    /// Served by the machine.
    pub apps: Vec<DeclaredApp>,
}

impl DeclaredAgent {
    /// The cloud instances that it is bound to, as they were written.
    pub(super) fn instances(&self) -> impl Iterator<Item = (Cloud, &String)> {
        let ids = [
            (Cloud::Aws, &self.aws_instance_id),
            (Cloud::Azure, &self.azure_vm_id),
            (Cloud::Google, &self.google_instance_id),
        ];
        ids.into_iter().filter(|(_, id)| !id.is_empty())
    }

    /// The one that it is bound to, of a declaration that was checked.
    pub(super) fn instance(&self) -> Option<Instance> {
        self.instances().next().and_then(|(cloud, id)| Instance::parse(cloud, id).ok())
    }
}

impl Default for DeclaredAgent {
    fn default() -> Self {
        DeclaredAgent {
            line: 0,
            name: "main".into(),
            os: "linux".into(),
            arch: "amd64".into(),
            directory: String::new(),
            env: BTreeMap::new(),
            motd_file: String::new(),
            troubleshooting_url: String::new(),
            connection_timeout_seconds: DEFAULT_CONNECTION_TIMEOUT,
            display_apps: DEFAULT_DISPLAY_APPS.iter().map(|&app| app.into()).collect(),
            aws_instance_id: String::new(),
            azure_vm_id: String::new(),
            google_instance_id: String::new(),
            scripts: Vec::new(),
            metadata: Vec::new(),
            apps: Vec::new(),
        }
    }
}

/// A script.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredScript {
    /// Unique in its agent.
    pub display_name: String,
    /// Path or URL.
    pub icon: String,
    /// Text given to the user's shell.
    pub script: String,
    /// Six fields, seconds first; empty: never by time.
    pub cron: String,
    /// Extra local log file; empty: the agent's default.
    pub log_path: String,
    /// Run when the agent starts.
    pub run_on_start: bool,
    /// Run when the agent stops.
    pub run_on_stop: bool,
    /// Clients wait for it before logging in.
    pub start_blocks_login: bool,
    /// 0: none.
    pub timeout_seconds: i64,
}

/// A piece of metadata.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredMetadata {
    /// Unique in its agent.
    pub key: String,
    /// Shown to people.
    pub display_name: String,
    /// Text given to a shell.
    pub script: String,
    /// Seconds; 0: once per connection.
    pub interval: i64,
    /// Seconds; 0: the interval, or 3.
    pub timeout: i64,
    /// Position in lists.
    pub order: i64,
}

/// An app.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredApp {
    /// Unique in its agent.
    pub slug: String,
    /// Shown to people.
    pub display_name: String,
    /// Path or URL.
    pub icon: String,
    /// Where it listens, or where it lies if external.
    pub url: String,
    /// Run in a terminal instead of opening a URL.
    pub command: String,
    /// Position in lists.
    pub order: i64,
    /// Outside of the machine.
    pub external: bool,
    /// Not listed.
    pub hidden: bool,
    /// Empty: not checked.
    pub healthcheck_url: String,
    /// Seconds.
    pub healthcheck_interval: i64,
    /// Failures in a row.
    pub healthcheck_threshold: i64,
}

/// Something that cannot be taken, and where it stands.
#[derive(Clone, PartialEq, Debug)]
struct Problem {
    /// 0: unknown.
    line: u32,
    /// In the words of JSON: `workspaces[3].agents[0].name`.
    path: String,
    why: String,
}

/// Problems named in one message; more are counted.
const PROBLEMS_SHOWN: usize = 50;

fn refusal(source: &str, format: Format, mut problems: Vec<Problem>) -> Error {
    problems.sort_by_key(|problem| problem.line);
    let mut error = Error::new(Fault::Invalid, format!("{source} was refused; nothing was changed."));
    let more = problems.len().saturating_sub(PROBLEMS_SHOWN);
    for problem in problems.into_iter().take(PROBLEMS_SHOWN) {
        let path = format.path(&problem.path);
        let place = match (problem.line, path.is_empty()) {
            (0, true) => source.to_owned(),
            (0, false) => format!("{source}: {path}"),
            (line, true) => format!("{source}:{line}"),
            (line, false) => format!("{source}:{line}: {path}"),
        };
        error = error.field(place, problem.why);
    }
    if more > 0 {
        error = error.field(source, format!("{more} more problems are not shown"));
    }
    error
}
