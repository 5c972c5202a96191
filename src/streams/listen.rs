//! `GET …/me/external-auth?listen`: a program in a workspace waits until its owner has signed in at a provider.
//! Nothing can be sent to it meanwhile, there is no end to the wait, and it holds no thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::errand::{self, Answer};
use super::{Out, Stream};
use crate::config::providers::ProviderConfig;
use crate::domain::Shared;
use crate::domain::external_auth::{self, Good, Standing};
use crate::model::{AgentId, UserId};
use crate::ops::hub::{Subscription, Topic};
use crate::ops::mail::{Address, Mail, Outcome};
use crate::ops::places::Place;

/// First pause after the provider did not answer, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// Writes the whole HTTP answer with a token.
pub type Answers = Arc<dyn Fn(&Good) -> Vec<u8> + Send + Sync>;

/// Who waits for what, and what is written then.
pub struct Wanted {
    /// The provider.
    pub provider: Arc<ProviderConfig>,
    /// Who has to sign in.
    pub user: UserId,
    /// Whose program waits.
    pub agent: AgentId,
    /// The whole HTTP answer with a token.
    pub answer: Answers,
    /// The whole HTTP answer of a server that stops.
    pub stopping: Box<dyn Fn() -> Vec<u8> + Send>,
    /// Given back at the end.
    pub place: Place<UserId>,
}

/// Waits for a good token.
pub fn wait(app: Shared, wanted: Wanted) -> Box<dyn Stream> {
    Box::new(Listen {
        app,
        wanted,
        address: None,
        subscriptions: Vec::new(),
        looking: false,
        look_again: false,
        next_look: None,
        pause: PAUSES.0,
    })
}

struct Listen {
    app: Shared,
    wanted: Wanted,
    address: Option<Address>,
    subscriptions: Vec<Subscription>,
    /// A look is in the pool or at the provider.
    looking: bool,
    /// Something has changed since it began.
    look_again: bool,
    /// After one that failed.
    next_look: Option<Instant>,
    pause: Duration,
}

impl Listen {
    fn look(&mut self, now: Instant) {
        let Some(address) = self.address.clone() else { return };
        self.next_look = None;
        if std::mem::replace(&mut self.looking, true) {
            self.look_again = true;
            return;
        }
        self.look_again = false;
        let (app, provider, user) = (self.app.clone(), Arc::clone(&self.wanted.provider), self.wanted.user);
        let write = Arc::clone(&self.wanted.answer);
        let job = move || {
            let answer = Answer::new(address, 0);
            external_auth::look(&app, &provider, user, move |standing| {
                answer.give(match standing {
                    Ok(Standing::Good(good)) => Outcome::Bytes(write(&good)),
                    Ok(Standing::NotLinked | Standing::SignIn(_)) => Outcome::Value(Box::new(())),
                    Err(error) => errand::failure(&error),
                });
            });
        };
        if self.app.jobs.try_submit(job).is_err() {
            self.looking = false;
            self.next_look = Some(now + errand::QUEUE_PAUSE);
        }
    }
}

impl Stream for Listen {
    fn open(&mut self, now: Instant, address: Address, _out: &mut Out) {
        let topics = [Topic::ExternalAuth(self.wanted.user), Topic::AgentRevoked(self.wanted.agent)];
        self.subscriptions = topics.map(|topic| self.app.hub.subscribe(topic, address.clone())).into();
        self.address = Some(address);
        self.look(now);
    }

    /// The answer ends the connection, so whatever else the client asks it must ask again.
    fn receive(&mut self, _now: Instant, _bytes: &[u8], _out: &mut Out) {}

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        match mail {
            Mail::Changed(Topic::AgentRevoked(_)) => out.abort = true,
            Mail::Changed(_) => {
                self.subscriptions.iter().for_each(Subscription::acknowledge);
                self.pause = PAUSES.0;
                self.look(now);
            }
            Mail::Done { outcome, .. } => {
                self.looking = false;
                match outcome {
                    Outcome::Bytes(bytes) => {
                        out.bytes.extend_from_slice(&bytes);
                        out.finish = true;
                    }
                    _ if self.look_again => self.look(now),
                    Outcome::Value(_) => {}
                    Outcome::Busy(pause) => self.next_look = Some(now + pause),
                    Outcome::Failed { text, .. } => {
                        log::debug!("a program goes on waiting for a sign-in: {text}");
                        self.next_look = Some(now + self.pause);
                        self.pause = (self.pause * 2).min(PAUSES.1);
                    }
                }
            }
            Mail::Close { .. } => out.abort = true,
            Mail::Superseded { .. } | Mail::Inbox { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.next_look
    }

    fn tick(&mut self, now: Instant, _out: &mut Out) {
        if self.next_look.is_some_and(|at| now >= at) {
            self.look(now);
        }
    }

    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        out.bytes.extend_from_slice(&(self.wanted.stopping)());
        out.finish = true;
    }

    fn closed(&mut self) {
        self.address = None;
        self.subscriptions.clear();
    }
}
