//! Whatever a person opened ends when they may not have it any more: token revoked or expired, person
//! suspended or removed, or no longer allowed to see the agent. Every stream of a person holds one
//! [`SignedIn`] and shows it its mail and its ticks.

use std::time::{Duration, Instant};

use super::errand;
use crate::domain::Shared;
use crate::domain::credential::{Credential, Reach};
use crate::model::{AgentId, Timestamp};
use crate::ops::hub::{Subscription, Topic};
use crate::ops::mail::{Address, Mail, Outcome};

/// The mark of its looks in the pool; a stream marks its own work with anything else.
pub(super) const TAG: u64 = u64::MAX;
/// What the client is told.
pub(super) const ENDED: &str = "the session has ended";
/// A look is taken at least this often, in case the clock was set.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// Watches over the credential of one stream.
pub(super) struct SignedIn {
    app: Shared,
    credential: Credential,
    /// The one agent that the stream is about, if it is about one.
    agent: Option<AgentId>,
    /// The stream ends when that agent is removed, too.
    ends_with_agent: bool,
    address: Option<Address>,
    subscriptions: Vec<Subscription>,
    /// A look is in the pool.
    looking: bool,
    /// When the next one is due; taken at once when something is withdrawn.
    next_look: Instant,
}

/// What came of a letter.
#[derive(Debug)]
pub(super) enum Heard {
    /// It was not for here.
    Other(Mail),
    /// All is well, as far as is known.
    Nothing,
    /// The stream must end.
    Ended,
}

impl SignedIn {
    /// Of a stream that was opened with `credential`, and is about `agent` if that is given.
    pub(super) fn new(app: Shared, credential: Credential, agent: Option<AgentId>) -> SignedIn {
        SignedIn {
            app,
            credential,
            agent,
            ends_with_agent: false,
            address: None,
            subscriptions: Vec::new(),
            looking: false,
            next_look: Instant::now(),
        }
    }

    /// Ends the stream when its agent is removed, too. Without this the stream has to see to that.
    pub(super) fn ends_with_the_agent(mut self) -> SignedIn {
        self.ends_with_agent = true;
        self
    }

    /// The stream opens: a withdrawal since its request was answered is noticed, too.
    pub(super) fn open(&mut self, now: Instant, address: Address) {
        let agent = self.agent.filter(|_| self.ends_with_agent).map(Topic::AgentRevoked);
        let topics = [Some(Topic::UserRevoked(self.credential.user)), agent].into_iter().flatten();
        self.subscriptions = topics.map(|topic| self.app.hub.subscribe(topic, address.clone())).collect();
        self.address = Some(address);
        self.look(now);
    }

    /// To be shown every letter.
    pub(super) fn mail(&mut self, now: Instant, mail: Mail) -> Heard {
        match mail {
            Mail::Changed(topic) if self.subscriptions.iter().any(|one| one.topic() == topic) => {
                self.subscriptions.iter().for_each(Subscription::acknowledge);
                self.next_look = now;
                self.look(now);
                Heard::Nothing
            }
            Mail::Done { tag: TAG, outcome } => {
                self.looking = false;
                match outcome {
                    Outcome::Value(value) => match value.downcast::<Option<Timestamp>>().map(|until| *until) {
                        Ok(Some(until)) => {
                            // A withdrawal meanwhile has set it to a time that is past: look again.
                            if self.next_look > now {
                                let left = until.since(Timestamp::now()).min(LOOK_EVERY);
                                self.next_look = now + left.max(errand::QUEUE_PAUSE);
                            } else {
                                self.look(now);
                            }
                            Heard::Nothing
                        }
                        _ => Heard::Ended,
                    },
                    Outcome::Busy(pause) => {
                        self.next_look = now + pause;
                        Heard::Nothing
                    }
                    Outcome::Bytes(_) | Outcome::Failed { .. } => {
                        log::warn!("a session could not be looked at, so its stream ends: {outcome:?}");
                        Heard::Ended
                    }
                }
            }
            other => Heard::Other(other),
        }
    }

    /// When [`SignedIn::tick`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.address.is_some() && !self.looking).then_some(self.next_look)
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if now >= self.next_look {
            self.look(now);
        }
    }

    /// The stream is gone.
    pub(super) fn close(&mut self) {
        self.address = None;
        self.subscriptions.clear();
    }

    fn look(&mut self, now: Instant) {
        let Some(address) = self.address.as_ref().filter(|_| !self.looking) else { return };
        let (app, credential) = (self.app.clone(), self.credential.clone());
        let (agent, ends_with_agent) = (self.agent, self.ends_with_agent);
        let work = move || {
            app.store.read(|conn| {
                let Some(standing) = credential.standing(conn, Timestamp::now())? else { return Ok(None) };
                let ended = match agent.map(|agent| standing.reach(conn, agent)).transpose()? {
                    Some(Reach::Forbidden) => true,
                    Some(Reach::Gone) => ends_with_agent,
                    Some(Reach::Allowed) | None => false,
                };
                Ok((!ended).then_some(standing.expires_at))
            })
        };
        match errand::submit(&self.app.jobs, address, TAG, work) {
            Ok(()) => {
                self.looking = true;
                self.next_look = now + LOOK_EVERY;
            }
            Err(_) => self.next_look = now + errand::QUEUE_PAUSE,
        }
    }
}
