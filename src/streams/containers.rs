//! The containers of a machine, over a WebSocket: all of them at once, and again when something changed.

use std::time::{Duration, Instant};

use ring::digest::{Digest, SHA256, digest};

use super::socket::{FAILURE, NORMAL, OneWay};
use super::watching::{News, Visitor, Watching};
use super::{Out, Stream};
use crate::config::limits::{AGENT_INACTIVE, STREAM_HIGH_WATER};
use crate::domain::Shared;
use crate::domain::inquiry::{self, Inquiry, Unanswered};
use crate::model::AgentId;
use crate::ops::hub::Topic;
use crate::ops::mail::{Address, Mail};

/// Time between two looks; the agent itself looks at its containers every 10 s (agent/agentcontainers/api.go,
/// v2.24.0).
const EVERY: Duration = Duration::from_secs(5);
/// Time for one look.
const ANSWERED: Duration = Duration::from_secs(30);
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
    look: Option<Inquiry>,
    /// SHA-256 of what was said last.
    last: Option<Digest>,
}

impl Watch {
    fn look(&mut self, now: Instant) {
        self.look_at = now + EVERY;
        let Some(address) = self.address.clone() else { return };
        let Some(mut look) = Inquiry::admit(&self.app, self.agent) else { return };
        let notify = Box::new(move || address.try_post(Mail::Inbox { tag: 0 }));
        let due = now + ANSWERED;
        look.begin(inquiry::ask(&self.app, self.agent, ("GET", self.path), (due, due), notify));
        self.look = Some(look);
    }

    fn read(&mut self, out: &mut Out) {
        let Some(told) = self.look.as_mut().and_then(Inquiry::read) else { return };
        // Its share of the memory is held until the answer is passed on.
        let _look = self.look.take();
        let told = match told {
            Ok(answer) if answer.status == 200 => Ok(answer.body),
            Ok(answer) => Err(format!("the agent answers {} to a question for its containers", answer.status)),
            Err(Unanswered::Failed(why)) => Err(why),
            Err(Unanswered::TooLarge) => {
                Err("the agent's answer is larger than what the server has room for".to_owned())
            }
            Err(Unanswered::Unreadable) => Err("the agent's answer was cut off, or is no HTTP".to_owned()),
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
