//! One look at a link at a time. Whoever asks while it lasts waits for the same outcome, and holds no thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memory::{Finding, Key, Then};
use super::refresh::Renewed;
use super::{Error, Fault, Shared, Standing, check, refresh, stored};
use crate::config::providers::ProviderConfig;
use crate::model::{Timestamp, UserId};
use crate::store::external_auth::Link;

/// How long what was found out about a token holds.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// The same for a provider that did not answer.
const TROUBLE_FOR: Duration = Duration::from_secs(2);
/// Who waits for one link at most; about 300 bytes each besides the socket.
const WAITING: usize = 1_024;

/// How a person stands with a provider, if that is known without asking anybody.
pub fn known(app: &Shared, provider: &ProviderConfig, user: UserId) -> Result<Option<Standing>, Error> {
    let Some(link) = stored(app, provider, user)? else { return Ok(Some(Standing::NotLinked)) };
    app.links.finding(&(provider.id.clone(), user), link.version).transpose()
}

/// How a person stands with a provider: refreshed and validated. `then` is told on this thread or on one of the
/// provider's; it may wait, so never call this on a loop.
pub fn look(
    app: &Shared,
    provider: &Arc<ProviderConfig>,
    user: UserId,
    then: impl FnOnce(Result<Standing, Error>) + Send + 'static,
) {
    match known(app, provider, user) {
        Ok(Some(standing)) => return then(Ok(standing)),
        Err(error) => return then(Err(error)),
        Ok(None) => {}
    }
    let key = (provider.id.clone(), user);
    let is_first = match app.links.join(&key, Box::new(then), WAITING) {
        Ok(is_first) => is_first,
        Err(then) => {
            let message = "Too many of your programs wait for this external auth provider. Try again soon.";
            return then(Err(Error::new(Fault::TooMany, message)));
        }
    };
    if !is_first {
        return;
    }
    let flight = Flight { app: app.clone(), provider: Arc::clone(provider), key: key.clone(), begun: false };
    if app.plugins.submit(provider, move || flight.run()).is_err() {
        let message = format!("The external auth provider {} has as much to do as it can take.", provider.id);
        let error = Error::new(Fault::Overloaded, message);
        app.links.land(&key, None).into_iter().for_each(|then| then(Err(error.clone())));
    }
}

struct Flight {
    app: Shared,
    provider: Arc<ProviderConfig>,
    key: Key,
    begun: bool,
}

impl Flight {
    fn run(mut self) {
        self.begun = true;
        let (version, outcome) = self.outcome();
        let holds = match &outcome {
            Ok(Standing::NotLinked) => None,
            Ok(_) => Some(GOOD_FOR),
            Err(_) => Some(TROUBLE_FOR),
        };
        let finding = holds.map(|holds| Finding { version, until: Instant::now() + holds, outcome: outcome.clone() });
        self.begun = false;
        tell(self.app.links.land(&self.key, finding), &outcome);
    }

    /// The version of the tokens, and how they are.
    fn outcome(&self) -> (i64, Result<Standing, Error>) {
        let (app, provider) = (&self.app, &*self.provider);
        let link = match stored(app, provider, self.key.1) {
            Ok(Some(link)) => link,
            Ok(None) => return (0, Ok(Standing::NotLinked)),
            Err(error) => return (0, Err(error)),
        };
        let version = link.version;
        match refresh::renew(app, provider, link) {
            Ok(Renewed::Is(link, is_new)) => {
                if is_new {
                    app.links.is_well(&self.key);
                }
                (link.version, check::standing(app, provider, &link, is_new))
            }
            Ok(Renewed::SignIn(version, why)) => (version, Ok(Standing::SignIn(why))),
            Ok(Renewed::Gone) => (0, Ok(Standing::NotLinked)),
            Err(error) => {
                log::info!("provider {}: a token was not refreshed: {error}", provider.id);
                if app.links.begins_to_fail(&self.key) {
                    refresh::note_failure(app, &self.key, &error.detail);
                }
                (version, Err(error))
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.begun {
            let failed = Err(Error::new(Fault::Internal, "The server failed at this; its log says why."));
            tell(self.app.links.land(&self.key, None), &failed);
        }
    }
}

fn tell(waiting: Vec<Then>, outcome: &Result<Standing, Error>) {
    for then in waiting {
        then(outcome.clone());
    }
}

/// Whether a token ends so soon that it must be renewed before it is given away.
pub(super) fn ends_within(link: &Link, margin: Duration) -> bool {
    link.expires_at.is_some_and(|at| at <= Timestamp::now().plus(margin))
}
