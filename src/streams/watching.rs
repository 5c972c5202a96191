//! What all one-way streams have in common: their place among the counters, whose they are, what they are
//! told of, and when they must end.

use std::time::Instant;

use uuid::Uuid;

use super::errand;
use super::signed_in::{self, Heard, SignedIn};
use super::socket::POLICY;
use crate::config::limits::{WATCHERS_OF_ONE, WATCHERS_PER_USER};
use crate::domain::credential::Credential;
use crate::domain::{Error, Fault, Shared};
use crate::model::{AgentId, UserId};
use crate::ops::hub::{Subscription, Topic};
use crate::ops::jobs::QueueFull;
use crate::ops::mail::{Address, Mail, Outcome};
use crate::ops::places::Place;

/// A person who may watch something, with the places that this takes.
pub struct Visitor {
    credential: Credential,
    _places: [Place<Uuid>; 2],
}

impl Visitor {
    /// Admits one more stream of a person about an agent or a workspace.
    pub fn admit(app: &Shared, credential: Credential, about: Uuid) -> Result<Visitor, Error> {
        let too_many = |what, most| {
            Error::new(Fault::TooMany, format!("{what} has {most} live streams open already; close some of them."))
        };
        let own = app.watchers.take(credential.user.0, WATCHERS_PER_USER);
        let own = own.ok_or_else(|| too_many("Your account", WATCHERS_PER_USER))?;
        let there = app.watchers.take(about, WATCHERS_OF_ONE);
        let there = there.ok_or_else(|| too_many("What you want to watch", WATCHERS_OF_ONE))?;
        Ok(Visitor { credential, _places: [own, there] })
    }

    /// Who.
    pub(super) fn user(&self) -> UserId {
        self.credential.user
    }
}

/// The common part of a one-way stream.
pub(super) struct Watching {
    app: Shared,
    topics: Vec<Topic>,
    signed_in: Option<SignedIn>,
    /// Freed when the stream is dropped, which follows its end at once.
    _visitor: Option<Visitor>,
    address: Option<Address>,
    subscriptions: Vec<Subscription>,
}

/// What a letter means to a one-way stream.
#[derive(Debug)]
pub(super) enum News {
    /// One of the topics has changed; it is acknowledged.
    Changed,
    /// What came of the work that the stream gave to the pool.
    Done(Outcome),
    /// It must end, with this close code and reason.
    End(u16, &'static str),
    /// Nothing to do.
    Nothing,
}

impl Watching {
    /// A stream that hears of `topics`, whoever it belongs to.
    pub(super) fn new(app: Shared, topics: Vec<Topic>) -> Watching {
        Watching { app, topics, signed_in: None, _visitor: None, address: None, subscriptions: Vec::new() }
    }

    /// A stream of a person, which ends with their session, and with their right to see `agent` if that
    /// is what it is about.
    pub(super) fn of(app: Shared, topics: Vec<Topic>, visitor: Visitor, agent: Option<AgentId>) -> Watching {
        let signed_in = SignedIn::new(app.clone(), visitor.credential.clone(), agent);
        Watching { signed_in: Some(signed_in), _visitor: Some(visitor), ..Watching::new(app, topics) }
    }

    /// Begins: call it before looking at any state.
    pub(super) fn open(&mut self, now: Instant, address: Address) {
        self.app.metrics.watchers.inc();
        self.subscriptions = self.topics.iter().map(|topic| self.app.hub.subscribe(*topic, address.clone())).collect();
        if let Some(signed_in) = &mut self.signed_in {
            signed_in.open(now, address.clone());
        }
        self.address = Some(address);
    }

    /// Gives work to the pool; one piece at a time, because answers are not told apart.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<(), QueueFull> {
        let address = self.address.as_ref().ok_or(QueueFull)?;
        errand::submit(&self.app.jobs, address, 0, work)
    }

    /// To be shown every letter.
    pub(super) fn mail(&mut self, now: Instant, mail: Mail) -> News {
        let heard = match &mut self.signed_in {
            None => Heard::Other(mail),
            Some(signed_in) => signed_in.mail(now, mail),
        };
        let mail = match heard {
            Heard::Other(mail) => mail,
            Heard::Nothing => return News::Nothing,
            Heard::Ended => return News::End(POLICY, signed_in::ENDED),
        };
        match mail {
            Mail::Changed(topic) => {
                self.subscriptions.iter().filter(|one| one.topic() == topic).for_each(Subscription::acknowledge);
                News::Changed
            }
            Mail::Done { outcome, .. } => News::Done(outcome),
            Mail::Close { code, reason } => News::End(code, reason),
            _ => News::Nothing,
        }
    }

    /// When [`Watching::tick`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.signed_in.as_ref().and_then(SignedIn::deadline)
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if let Some(signed_in) = &mut self.signed_in {
            signed_in.tick(now);
        }
    }

    /// Ends; may be called more than once.
    pub(super) fn close(&mut self) {
        if self.address.take().is_some() {
            self.app.metrics.watchers.dec();
        }
        self.subscriptions.clear();
        if let Some(signed_in) = &mut self.signed_in {
            signed_in.close();
        }
    }
}
