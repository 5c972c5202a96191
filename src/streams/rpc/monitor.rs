//! Whether an agent is connected: in memory while it is, in the file when that changes.
//!
//! A connection's begin and end are one write each, with the audit row beside the columns. Nothing is
//! written for a heartbeat, nor when one of several connections of an agent comes or goes, but for the
//! audit row.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::agentapi::Session;
use crate::domain::Error;
use crate::model::Timestamp;
use crate::ops::hub::Topic;
use crate::ops::mail::{Address, Mail};
use crate::store::audit::{self, Actor, Entry, Verdict};
use crate::store::{Write, agents, metadata};

use super::super::socket::POLICY;
use super::agent::WITHDRAWN;

/// The begin of the connection is on its way to the file.
const PENDING: u8 = 0;
/// It is in the file.
const WRITTEN: u8 = 1;
/// It was lost: a full disk, or too much to do.
const LOST: u8 = 2;
/// The token was withdrawn before the connection could hear of it.
const REFUSED: u8 = 3;

/// Watches over one connection.
pub(super) struct Monitor {
    session: Arc<Session>,
    /// What is stored of the token with which the connection was admitted.
    token_hash: Vec<u8>,
    /// Whether this connection says that the agent is connected; log shippers' do not.
    monitored: bool,
    /// The connection was the agent's only one when it began.
    first: bool,
    /// Of `domain::clones`.
    ticket: u64,
    begin: Arc<AtomicU8>,
}

impl Monitor {
    pub(super) fn new(session: Arc<Session>, token_hash: Vec<u8>, monitored: bool) -> Monitor {
        Monitor { session, token_hash, monitored, first: false, ticket: 0, begin: Arc::new(AtomicU8::new(PENDING)) }
    }

    /// What is stored of the token with which the connection was admitted.
    pub(super) fn token_hash(&self) -> &[u8] {
        &self.token_hash
    }

    /// The connection begins. Its stream must have subscribed to the token's withdrawal before: the
    /// token is looked at once more here, so a withdrawal is seen either way.
    pub(super) fn begin(&mut self, address: &Address) {
        if self.monitored {
            self.first = self.session.app.presence.joined(self.session.agent, Timestamp::now());
            self.ticket = self.session.app.clones.connected(self.session.agent, &self.session.peer);
        }
        self.write_begin(address);
    }

    /// A sign of life.
    pub(super) fn seen(&self) {
        if self.monitored {
            self.session.app.presence.seen(self.session.agent, Timestamp::now());
            self.session.app.clones.alive(&self.session.app, self.session.agent, self.ticket);
        }
    }

    /// Writes the begin of the connection again if that was lost.
    pub(super) fn mend(&self, address: &Address) {
        if self.begin.load(Ordering::Acquire) == LOST {
            self.write_begin(address);
        }
    }

    fn write_begin(&self, address: &Address) {
        self.begin.store(PENDING, Ordering::Release);
        let (session, hash, monitored, first) =
            (Arc::clone(&self.session), self.token_hash.clone(), self.monitored, self.first);
        let (begin, address) = (Arc::clone(&self.begin), address.clone());
        self.session.app.store.write_then(
            move |write| {
                let known = agents::by_id(write, session.agent)?.is_some_and(|agent| agent.token_hash == hash);
                if known && monitored {
                    let now = Timestamp::now();
                    if first {
                        agents::connected(write, session.agent, now)?;
                    }
                    note(write, &session, now, "agent.connect", String::new())?;
                }
                Ok::<bool, Error>(known)
            },
            move |result| match result {
                Ok(true) => begin.store(WRITTEN, Ordering::Release),
                Ok(false) => {
                    begin.store(REFUSED, Ordering::Release);
                    // On the writer's thread: a refusal for a full queue, on this one, is an `Err`.
                    address.post(Mail::Close { code: POLICY, reason: WITHDRAWN });
                }
                Err(error) => {
                    log::warn!("the begin of an agent's connection was not written: {error}");
                    begin.store(LOST, Ordering::Release);
                }
            },
        );
    }

    /// The connection is gone, for `reason`.
    pub(super) fn end(&self, reason: &str) {
        if !self.monitored {
            return;
        }
        let session = Arc::clone(&self.session);
        let last_seen = session.app.presence.left(session.agent);
        session.app.clones.gone(session.agent, self.ticket);
        if self.begin.load(Ordering::Acquire) == REFUSED {
            return;
        }
        let detail = reason.to_owned();
        // An agent that a stopping server cuts off is not shown as gone: it comes back to the next one.
        let stopping = session.app.presence.is_stopping();
        self.session.app.store.write_then(
            move |write| {
                let now = Timestamp::now();
                // The agent may have come back meanwhile, on another loop, and have been written first.
                if let Some(last_seen) = last_seen
                    && session.app.presence.of(session.agent).is_none()
                {
                    for (key, at) in session.app.presence.take_collected(session.agent) {
                        metadata::set_collected(write, session.agent, &key, at)?;
                    }
                    match stopping {
                        true => agents::alive_until(write, session.agent, last_seen)?,
                        false => agents::disconnected(write, session.agent, last_seen, now)?,
                    }
                }
                note(write, &session, now, "agent.disconnect", detail)
            },
            |result: Result<(), Error>| {
                if let Err(error) = result {
                    // Readers see a connection that ended when it was last heard of.
                    log::warn!("the end of an agent's connection was not written: {error}");
                }
            },
        );
    }
}

fn note(
    write: &Write<'_>,
    session: &Session,
    at: Timestamp,
    action: &'static str,
    detail: String,
) -> Result<(), Error> {
    let entry = Entry {
        actor: Actor::Agent(session.agent, session.name.clone()),
        action,
        target: session.workspace.to_string(),
        ip: session.peer.clone(),
        verdict: Verdict::Ok,
        detail,
    };
    audit::insert(write, at, &entry)?;
    write.publish(Topic::Agent(session.agent));
    write.publish(Topic::Workspace(session.workspace));
    Ok(())
}
