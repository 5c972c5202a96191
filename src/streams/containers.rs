//! The containers of a machine, over a WebSocket: all of them at once, and again when something changed.

use std::time::{Duration, Instant};

use ring::digest::{Digest, SHA256, digest};

use super::socket::{FAILURE, NORMAL, OneWay};
use super::watching::{News, Visitor, Watching};
use super::{Out, Stream};
use crate::config::limits::{AGENT_INACTIVE, ANSWERS_OF_ONE, STREAM_HIGH_WATER};
use crate::domain::Shared;
use crate::model::AgentId;
use crate::ops::budget::Held;
use crate::ops::hub::Topic;
use crate::ops::mail::{Address, Mail};
use crate::ops::places::Place;
use crate::tailnet::peer::{Conduit, State, Within};
use crate::wire::exchange::{Coming, request};

/// The agent's port for its HTTP API.
const PORT: u16 = 4;
/// Time between two looks; the agent itself looks at its containers every 10 s (agent/agentcontainers/api.go,
/// v2.24.0).
const EVERY: Duration = Duration::from_secs(5);
/// Time for one look.
const ANSWERED: Duration = Duration::from_secs(30);
/// Largest answer, bytes.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Data from the client ends the socket with this code.
const UNEXPECTED_DATA: u16 = 1008;

/// The containers of `agent`, which it lists at `path`.
pub fn watch(app: Shared, agent: AgentId, visitor: Visitor, path: &'static str) -> Box<dyn Stream> {
    let now = Instant::now();
    Box::new(Watch {
        watching: Watching::of(app.clone(), vec![Topic::AgentRevoked(agent)], visitor, Some(agent)),
        app,
        agent,
        path,
        socket: OneWay::new(now, UNEXPECTED_DATA, Some(AGENT_INACTIVE)),
        address: None,
        look_at: now,
        look: None,
        last: None,
    })
}

struct Watch {
    app: Shared,
    agent: AgentId,
    path: &'static str,
    watching: Watching,
    socket: OneWay,
    address: Option<Address>,
    /// When the next look is due.
    look_at: Instant,
    /// A look that is under way.
    look: Option<Look>,
    /// SHA-256 of what was said last.
    last: Option<Digest>,
}

struct Look {
    conduit: Conduit,
    /// What came of it so far.
    coming: Coming,
    /// Its share of the memory for all answers.
    held: Held,
    _place: Place<AgentId>,
}

impl Watch {
    fn look(&mut self, now: Instant) {
        self.look_at = now + EVERY;
        let Some(address) = self.address.clone() else { return };
        let Some(place) = self.app.answers.take(self.agent, ANSWERS_OF_ONE) else { return };
        let notify = Box::new(move || address.try_post(Mail::Inbox { tag: 0 }));
        let question = request("GET", self.path, "agent", &[]);
        let within = Within { open: now + ANSWERED, over: Some(now + ANSWERED) };
        let conduit = self.app.peer.dial(self.agent, PORT, question, within, notify);
        let held = self.app.answers_memory.hold();
        self.look = Some(Look { conduit, coming: Coming::default(), held, _place: place });
    }

    fn read(&mut self, out: &mut Out) {
        let Some(Look { conduit, coming, held, .. }) = &mut self.look else { return };
        let state = conduit.read(coming.buffer());
        let has_room = coming.length() <= ANSWER_BYTES && held.cover(coming.length());
        let under_way = matches!(state, State::Dialing | State::Open);
        if under_way && has_room && !coming.is_whole() {
            return;
        }
        let Some(Look { coming, held: _memory, .. }) = self.look.take() else { return };
        let told = match (state, coming.answer()) {
            (State::Failed(why), _) => Err(why),
            (_, Some(answer)) if answer.status == 200 => Ok(answer.body),
            (_, Some(answer)) => Err(format!("the agent answers {} to a question for its containers", answer.status)),
            (_, _) if !has_room => Err("the agent's answer is larger than what the server has room for".to_owned()),
            (_, None) => Err("the agent's answer was cut off, or is no HTTP".to_owned()),
        };
        let body = match told.map(String::from_utf8) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => return,
            Err(why) => return self.socket.end(FAILURE, &why, out),
        };
        let digest = digest(&SHA256, body.as_bytes());
        // A client that does not take what it has been given misses this, not the next change.
        if self.last.as_ref().is_none_or(|last| last.as_ref() != digest.as_ref()) && out.backlog < STREAM_HIGH_WATER {
            self.socket.text(body.trim_end(), out);
            self.last = Some(digest);
        }
    }
}

impl Stream for Watch {
    fn open(&mut self, now: Instant, address: Address, _out: &mut Out) {
        self.watching.open(now, address.clone());
        self.address = Some(address);
        self.look(now);
    }

    fn receive(&mut self, _now: Instant, bytes: &[u8], out: &mut Out) {
        self.socket.receive(bytes, out);
    }

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        if self.socket.ended() {
            return;
        }
        if matches!(mail, Mail::Inbox { .. }) {
            return self.read(out);
        }
        match self.watching.mail(now, mail) {
            News::Changed => self.socket.end(NORMAL, "", out),
            News::End(code, reason) => self.socket.end(code, reason, out),
            News::Done(_) | News::Nothing => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let looks = Some(self.look_at).filter(|_| self.look.is_none());
        let all = [self.socket.deadline()?.into(), self.watching.deadline(), looks];
        all.into_iter().flatten().min()
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        self.socket.tick(now, out);
        self.watching.tick(now);
        if self.socket.ended() {
            return;
        }
        self.read(out);
        if self.look.is_none() && now >= self.look_at {
            self.look(now);
        }
    }

    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        self.socket.shutdown(out);
    }

    fn closed(&mut self) {
        self.look = None;
        self.address = None;
        self.watching.close();
    }
}
