//! A terminal: binary messages of a WebSocket on one side, a reconnecting shell of the agent on the other.
//! What passes is not looked at. The shell is the agent's and outlives the connection.

use std::time::{Duration, Instant};

use serde::Serialize;
use uuid::Uuid;

use super::socket::{FAILURE, NORMAL, POLICY, RESTART};
use super::watching::{News, Visitor, Watching};
use super::{Out, Stream};
use crate::config::limits::{PING_PERIOD, STREAM_HIGH_WATER};
use crate::domain::Shared;
use crate::domain::connection_log::{Caller, Journal};
use crate::model::{AgentId, UserId};
use crate::ops::hub::Topic;
use crate::ops::mail::{Address, Mail};
use crate::ops::places::Place;
use crate::store::tunnels::Ending;
use crate::tailnet::peer::{Conduit, State, Within};
use crate::wire::proto::tailnet::Node;
use crate::wire::websocket::ByteStream;

/// The agent's port for shells (agent/agent.go, v2.24.0).
const PORT: u16 = 2;
/// Within this the agent is reached, or the client gets a sentence.
const DIAL: Duration = Duration::from_secs(10);
/// A client of which nothing was heard for this long, pings included, is gone.
const SILENT: Duration = Duration::from_secs(45);
/// Longest beginning, bytes: the agent reads it with one call, so it must fit into one segment of 1,220.
pub const BEGINNING_BYTES: usize = 1_200;

/// What the agent is told first (codersdk/workspacesdk/agentconn.go, v2.24.0).
#[derive(Serialize, Debug)]
#[serde(rename_all = "PascalCase")]
pub struct Shell {
    /// The same id is the same shell.
    #[serde(rename = "ID")]
    pub id: Uuid,
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
    /// Empty for a login shell.
    pub command: String,
    /// Name of a container, or empty.
    pub container: String,
    /// Who to be in it.
    pub container_user: String,
    /// `screen`, `buffered`, or empty for the agent's choice.
    pub backend_type: String,
}

impl Shell {
    /// Its length in two bytes, little-endian, and the JSON; `None` when that is too long.
    pub fn beginning(&self) -> Option<Vec<u8>> {
        let json = serde_json::to_vec(self).ok()?;
        let length = u16::try_from(json.len()).ok()?;
        let bytes = [length.to_le_bytes().as_slice(), &json].concat();
        (bytes.len() <= BEGINNING_BYTES).then_some(bytes)
    }
}

/// Who opens a terminal, and on what.
pub struct Opening {
    /// The agent.
    pub agent: AgentId,
    /// The person, with the places that the terminal takes.
    pub visitor: Visitor,
    /// Its place among the person's terminals.
    pub place: Place<UserId>,
    /// Where they call from.
    pub ip: String,
    /// What they say that they are, for the connection log.
    pub program: String,
    /// See [`Shell::beginning`].
    pub beginning: Vec<u8>,
}

/// A terminal that dials once its socket is there.
pub fn open(app: Shared, opening: Opening) -> Box<dyn Stream> {
    let Opening { agent, visitor, place, ip, program, beginning } = opening;
    let caller = Caller { peer: Uuid::new_v4(), user: visitor.user(), ip, program };
    let topics = vec![Topic::AgentRevoked(agent)];
    Box::new(Terminal {
        journal: Journal::new(app.clone(), caller),
        watching: Watching::of(app.clone(), topics, visitor, Some(agent)),
        app,
        agent,
        socket: ByteStream::default(),
        conduit: None,
        beginning,
        _place: place,
        typed: Vec::new(),
        ended: false,
        heard: Instant::now(),
        next_ping: Instant::now() + PING_PERIOD,
    })
}

struct Terminal {
    app: Shared,
    agent: AgentId,
    watching: Watching,
    journal: Journal,
    socket: ByteStream,
    /// Present from the opening of the socket to the end.
    conduit: Option<Conduit>,
    beginning: Vec<u8>,
    _place: Place<UserId>,
    /// Bytes of the client for which there was no room.
    typed: Vec<u8>,
    ended: bool,
    heard: Instant,
    next_ping: Instant,
}

impl Terminal {
    fn dial(&mut self, now: Instant, address: Address) {
        let notify = Box::new(move || address.try_post(Mail::Inbox { tag: 0 }));
        let first = std::mem::take(&mut self.beginning);
        self.conduit =
            Some(self.app.peer.dial(self.agent, PORT, first, Within { open: now + DIAL, over: None }, notify));
        // The agent reports the session with the address from which it came, which is the server's own.
        let prefix = format!("{}/128", self.app.peer.address());
        self.journal.announced(&Node { addresses: vec![prefix], ..Node::default() });
        self.journal.tunnel_opened(self.agent);
    }

    /// Moves what there is in both directions.
    fn pump(&mut self, out: &mut Out) {
        if self.ended {
            return;
        }
        let Some(conduit) = &mut self.conduit else { return };
        if !self.typed.is_empty() {
            let taken = conduit.write(&self.typed);
            self.typed.drain(..taken);
            if self.typed.is_empty() {
                self.typed = Vec::new();
            }
        }
        // A client that does not read holds the agent's shell back, as a real terminal does.
        if out.backlog + out.bytes.len() >= STREAM_HIGH_WATER {
            return;
        }
        let mut bytes = Vec::new();
        let state = conduit.read(&mut bytes);
        self.socket.write(&bytes, &mut out.bytes);
        match state {
            State::Dialing | State::Open => {}
            State::Closed => self.end(NORMAL, "", Ending::Closed, out),
            State::Failed(why) => self.end(FAILURE, &why, Ending::Lost, out),
        }
    }

    fn end(&mut self, code: u16, reason: &str, ending: Ending, out: &mut Out) {
        if !std::mem::replace(&mut self.ended, true) {
            self.socket.close(code, reason, &mut out.bytes);
            self.journal.end(ending);
            self.conduit = None;
            out.finish = true;
        }
    }
}

impl Stream for Terminal {
    fn open(&mut self, now: Instant, address: Address, out: &mut Out) {
        self.heard = now;
        self.next_ping = now + PING_PERIOD;
        self.app.metrics.terminals.inc();
        self.watching.open(now, address.clone());
        self.dial(now, address);
        self.pump(out);
    }

    fn receive(&mut self, now: Instant, bytes: &[u8], out: &mut Out) {
        if self.ended {
            return;
        }
        self.heard = now;
        let result = self.socket.receive(bytes, &mut self.typed, &mut out.bytes);
        self.pump(out);
        if result.is_err() || self.socket.is_closed() {
            // Who closed has been answered, and who broke the protocol has been told.
            self.end(NORMAL, "", Ending::Closed, out);
        }
    }

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        if matches!(mail, Mail::Inbox { .. }) {
            return self.pump(out);
        }
        match self.watching.mail(now, mail) {
            News::Changed => self.end(POLICY, "access to the agent was withdrawn", Ending::Revoked, out),
            News::End(code, reason) => self.end(code, reason, Ending::Revoked, out),
            News::Done(_) | News::Nothing => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        Some(self.watching.deadline().map_or(self.next_ping, |at| at.min(self.next_ping)))
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        if self.ended {
            return;
        }
        self.watching.tick(now);
        if !self.wants_input() {
            // Nothing is read of a client whose shell takes nothing, so nothing is heard of it either.
            self.heard = now;
        }
        if now.saturating_duration_since(self.next_ping) >= PING_PERIOD {
            // This machine stood still: what its clients said meanwhile has yet to be read.
            self.heard = now;
        }
        if now >= self.next_ping {
            self.next_ping = now + PING_PERIOD;
            if now.saturating_duration_since(self.heard) >= SILENT {
                return self.end(1001, "Ping failed", Ending::Lost, out);
            }
            self.socket.ping(&mut out.bytes);
        }
        // In case a letter found no room.
        self.pump(out);
    }

    fn drained(&mut self, _now: Instant, out: &mut Out) {
        self.pump(out);
    }

    fn wants_input(&self) -> bool {
        self.typed.is_empty()
    }

    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        self.end(RESTART, "the server is restarting", Ending::Lost, out);
    }

    fn closed(&mut self) {
        self.app.metrics.terminals.dec();
        self.journal.end(Ending::Closed);
        self.conduit = None;
        self.watching.close();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell(command: &str) -> Shell {
        Shell {
            id: "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee".parse().unwrap(),
            height: 24,
            width: 80,
            command: command.into(),
            container: String::new(),
            container_user: String::new(),
            backend_type: String::new(),
        }
    }

    #[test]
    fn begins_as_the_real_server_does() {
        let json = r#"{"ID":"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee","Height":24,"Width":80,"Command":"","Container":"","ContainerUser":"","BackendType":""}"#;
        let bytes = shell("").beginning().unwrap();
        assert_eq!(bytes, [&[0x84, 0x00], json.as_bytes()].concat());
    }

    #[test]
    fn a_beginning_fits_into_one_segment() {
        let room = BEGINNING_BYTES - shell("").beginning().unwrap().len();
        assert!(shell(&"x".repeat(room)).beginning().is_some());
        assert!(shell(&"x".repeat(room + 1)).beginning().is_none());
    }
}
