//! The connection log: whose client was let through to which agent, from where, when, for how long.
//!
//! Two sources come together. The coordinator knows tunnels: who asked for one, from which address and
//! with which program. Agents report sessions (ReportConnection): by what, with which exit code, and the
//! address inside the tailnet from which they came. That address is the client's own choice, random and
//! new with each process; a session belongs to the tunnel of its agent that has the same one.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::workspaces::FullName;
use super::{Error, Fault, Shared};
use crate::config::limits::CONNECTIONS_SHOWN_MOST;
use crate::model::{AgentId, Timestamp, UserId};
use crate::store::connection_log::{self, Entry, Filter, Session};
use crate::store::connections::Kind;
use crate::store::tunnels::{self, Ending, Tunnel};
use crate::wire::proto::tailnet::Node;

/// Characters of a program's name that are kept; `coder-cli/v2.30.0 (linux/amd64; coder port-forward)` has 51.
const PROGRAM_CHARS: usize = 128;
/// What clients say that they use an agent for (codersdk/workspaces.go UsageAppName, v2.24.0); whatever
/// else somebody writes there is not kept.
const PURPOSES: [&str; 4] = ["vscode", "jetbrains", "ssh", "reconnecting-pty"];
/// First two groups of the addresses from which command lines reach agents (tailnet/conn.go, v2.24.0).
const TAILSCALE_PREFIX: &str = "fd7a:115c:";

/// The client of one coordination stream.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its id in the tailnet.
    pub peer: Uuid,
    /// Whose it is.
    pub user: UserId,
    /// Where it calls from.
    pub ip: String,
    /// What it says that it is; see [`program`].
    pub program: String,
}

/// What one coordination stream of a client writes into the log: a tunnel costs one write when it is open
/// and the client has announced its address, and one when it ends. Dropping it counts as a broken
/// connection. Its calls never wait.
pub struct Journal {
    app: Shared,
    caller: Caller,
    /// The first one that the client announced.
    address: Option<String>,
    tunnels: BTreeMap<AgentId, Kept>,
    /// Nothing more is to be written.
    ended: bool,
}

struct Kept {
    opened_at: Timestamp,
    written: bool,
}

impl Journal {
    /// For a stream that has just been opened.
    pub fn new(app: Shared, caller: Caller) -> Journal {
        Journal { app, caller, address: None, tunnels: BTreeMap::new(), ended: false }
    }

    /// The client announces itself. Its first address counts: later ones cost nothing.
    pub fn announced(&mut self, node: &Node) {
        if self.address.is_some() {
            return;
        }
        let mut addresses = node.addresses.iter().filter_map(|prefix| {
            let address = prefix.split_once('/').map_or(prefix.as_str(), |(address, _)| address);
            address.parse::<std::net::Ipv6Addr>().ok().map(|address| address.to_string())
        });
        let Some(first) = addresses.next() else { return };
        let usual = if first.starts_with(TAILSCALE_PREFIX) {
            None
        } else {
            addresses.find(|address| address.starts_with(TAILSCALE_PREFIX))
        };
        self.address = Some(usual.unwrap_or(first));
        let waiting: Vec<AgentId> =
            self.tunnels.iter().filter(|(_, kept)| !kept.written).map(|(agent, _)| *agent).collect();
        for agent in waiting {
            self.write_open(agent);
        }
    }

    /// The client was let through to `agent`. A tunnel that is open already stays as it is.
    pub fn tunnel_opened(&mut self, agent: AgentId) {
        if self.ended || self.tunnels.contains_key(&agent) {
            return;
        }
        self.tunnels.insert(agent, Kept { opened_at: Timestamp::now(), written: false });
        // Without an address nothing can come through it, and so it is written with it or at its end.
        if self.address.is_some() {
            self.write_open(agent);
        }
    }

    /// The client or the server took the tunnel away.
    pub fn tunnel_closed(&mut self, agent: AgentId, ending: Ending) {
        if let Some(kept) = self.tunnels.remove(&agent) {
            let tunnel = self.tunnel(agent, kept.opened_at);
            write(&self.app, move |conn| tunnels::close(conn, &tunnel, Timestamp::now(), ending));
        }
    }

    /// The stream ends, and with it all tunnels of the client: those, too, that an earlier stream left open
    /// to this one, which did not ask for them again.
    pub fn end(&mut self, ending: Ending) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let kept = std::mem::take(&mut self.tunnels);
        let tunnels: Vec<Tunnel> = kept.into_iter().map(|(agent, kept)| self.tunnel(agent, kept.opened_at)).collect();
        let peer = self.caller.peer;
        write(&self.app, move |conn| {
            let now = Timestamp::now();
            for tunnel in &tunnels {
                tunnels::close(conn, tunnel, now, ending)?;
            }
            tunnels::close_all(conn, peer, now, ending)
        });
    }

    /// A newer stream of the same client goes on with the tunnels: nothing has ended.
    pub fn superseded(&mut self) {
        self.ended = true;
        self.tunnels.clear();
    }

    fn write_open(&mut self, agent: AgentId) {
        let Some(kept) = self.tunnels.get_mut(&agent) else { return };
        kept.written = true;
        let opened_at = kept.opened_at;
        let tunnel = self.tunnel(agent, opened_at);
        write(&self.app, move |conn| tunnels::open(conn, &tunnel));
    }

    fn tunnel(&self, agent: AgentId, opened_at: Timestamp) -> Tunnel {
        let Caller { peer, user, ip, program } = self.caller.clone();
        Tunnel { peer, agent, user, ip, program, address: self.address.clone().unwrap_or_default(), opened_at }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.end(Ending::Lost);
    }
}

fn write(app: &Shared, work: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static) {
    app.store.write_with_others(
        move |write| work(write).map_err(Error::from),
        |result| {
            // The end of a tunnel whose beginning was lost is written with both instants.
            if let Err(error) = result {
                log::warn!("the connection log could not be written: {error}");
            }
        },
    );
}

/// A person's client tells what it uses `agent` for (`POST /workspaces/{id}/usage`): each minute, of
/// which the first one counts for the newest tunnel that it can be. For a thread that may wait.
pub fn used(app: &Shared, user: UserId, agent: AgentId, ip: &str, what: &str) -> Result<(), Error> {
    if !PURPOSES.contains(&what) {
        return Ok(());
    }
    let found = app.store.read(|conn| tunnels::without_app(conn, user, agent, ip).map_err(Error::from))?;
    if let Some(tunnel) = found {
        let what = what.to_owned();
        write(app, move |conn| tunnels::set_app(conn, tunnel, &what));
    }
    Ok(())
}

/// Which part of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Of one workspace or agent only.
    pub workspace: Option<FullName>,
    /// Begun in the last so many seconds, or still open.
    pub since_seconds: Option<u64>,
    /// So many of the newest.
    pub limit: u32,
}

/// A part of the log, newest first, as `moorline connections --json` prints it.
pub fn view(conn: &Connection, part: Part) -> Result<Value, Error> {
    let now = Timestamp::now();
    if let Some(name) = &part.workspace
        && !connection_log::knows_workspace(conn, &name.owner, &name.workspace)?
    {
        let message = format!("There is no workspace {}/{}, and the log knows none.", name.owner, name.workspace);
        return Err(Error::new(Fault::NotFound, message));
    }
    let limit = part.limit.min(CONNECTIONS_SHOWN_MOST);
    let filter = Filter {
        owner: part.workspace.as_ref().map(|name| name.owner.clone()),
        workspace: part.workspace.as_ref().map(|name| name.workspace.clone()),
        agent: part.workspace.and_then(|name| name.agent),
        since: part.since_seconds.map(|seconds| now.minus(Duration::from_secs(seconds))),
        // One more tells whether there are more.
        limit: limit.saturating_add(1),
    };
    let mut entries = connection_log::newest(conn, &filter)?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = entries.len() > shown;
    entries.truncate(shown);
    let entries: Vec<Value> = entries.iter().map(|entry| entry_view(entry, now)).collect();
    Ok(json!({ "connections": entries, "more": more }))
}

fn entry_view(entry: &Entry, now: Timestamp) -> Value {
    let origin = entry.origin.as_ref();
    let (by, known_from) = by_what(entry);
    json!({
        "owner": entry.owner, "workspace": entry.workspace, "agent": entry.agent, "agent_id": entry.agent_id,
        "user": origin.map(|origin| &origin.user), "ip": origin.map(|origin| &origin.ip),
        "program": origin.map(|origin| &origin.program), "by": by, "known_from": known_from,
        "started_at": entry.started_at, "ended_at": entry.ended_at,
        "seconds": entry.ended_at.unwrap_or(now).since(entry.started_at).as_secs(),
        "end": ending(entry), "exit_code": entry.session.as_ref().and_then(|session| session.status_code),
        "tailnet_ip": entry.tailnet_ip,
    })
}

/// By what somebody was there, and how that is known: reported by the agent as a session, stated by the
/// client, or not at all.
fn by_what(entry: &Entry) -> (String, &'static str) {
    let (app, program) =
        entry.origin.as_ref().map_or(("", ""), |origin| (origin.app.as_str(), origin.program.as_str()));
    if let Some(session) = &entry.session {
        return match session.kind {
            // Anything that logs in by SSH without a name of its own counts as that; a client may know better.
            Kind::Ssh | Kind::Unknown if !session.app_name.is_empty() => (session.app_name.clone(), "agent"),
            Kind::Ssh | Kind::Unknown if !app.is_empty() && app != "ssh" => (app.to_owned(), "client"),
            Kind::ReconnectingPty => ("reconnecting-pty".to_owned(), "agent"),
            kind => (kind.as_str().to_owned(), "agent"),
        };
    }
    match program.strip_prefix("coder ") {
        Some(command) => (command.to_owned(), "client"),
        None if !app.is_empty() => (app.to_owned(), "client"),
        None => ("tunnel".to_owned(), "tunnel"),
    }
}

/// How it ended, in a word or in the agent's words.
fn ending(entry: &Entry) -> Option<&str> {
    entry.ended_at?;
    match &entry.session {
        Some(Session { reason: Some(reason), .. }) if !reason.is_empty() => Some(reason),
        Some(Session { status_code: Some(_), .. }) => Some("closed"),
        _ => entry.origin.as_ref()?.ending.map(Ending::as_str),
    }
}

/// The name of a program from what its request says: the command of the `coder` command line, which states
/// it in the header `Coder-CLI-Telemetry` (cli/root.go, v2.24.0) and since about 2.30 in its User-Agent,
/// else the User-Agent.
pub fn program(user_agent: &str, telemetry: &str) -> String {
    #[derive(Deserialize)]
    struct Invocation {
        command: String,
    }
    let invocation = STANDARD.decode(telemetry).ok().and_then(|json| serde_json::from_slice::<Invocation>(&json).ok());
    let stated = || {
        let inside = user_agent.strip_prefix("coder-cli/")?.split_once('(')?.1.split_once(')')?.0;
        let command = inside.rsplit(';').next()?.trim();
        command.starts_with("coder ").then(|| command.to_owned())
    };
    let name = invocation.map(|one| one.command).filter(|command| !command.is_empty()).or_else(stated);
    name.as_deref().unwrap_or(user_agent).chars().filter(|letter| !letter.is_control()).take(PROGRAM_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_programs_by_what_they_state() {
        let telemetry =
            STANDARD.encode(r#"{"command":"coder port-forward","options":[],"invoked_at":"2026-01-01T00:00:00Z"}"#);
        assert_eq!(program("Go-http-client/1.1", &telemetry), "coder port-forward");
        assert_eq!(program("coder-cli/v2.30.1 (linux/amd64; coder ssh)", ""), "coder ssh");
        assert_eq!(program("coder-cli/v2.30.1 (linux/amd64; coder ssh)", "not base64"), "coder ssh");
        assert_eq!(program("coder-cli/v2.30.1 (odd)", "bm90IEpTT04="), "coder-cli/v2.30.1 (odd)");
        assert_eq!(program("Coder\nDesktop\u{1b}[31m", ""), "CoderDesktop[31m");
        assert_eq!(program(&"k".repeat(1_000), "").len(), PROGRAM_CHARS);
    }
}
