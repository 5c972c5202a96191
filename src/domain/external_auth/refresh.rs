//! A new token for an old one. A refresh token is often good for one use only, so: there is one refresh of a link
//! at a time; the journal knows of it before the token leaves; what comes back is stored before anything else
//! is done with it; and nothing but the provider's own word makes a token count as dead.

use std::time::{Duration, Instant};

use moorline_plugin::schema::{RefreshRequest, Refused, Token};

use super::flight::ends_within;
use super::memory::{Key, Need};
use super::{App, CLIENT_REFUSED, Error, Fault, SHOWN_CHARS, flag, store, stored, tokens, trouble};
use crate::config::providers::ProviderConfig;
use crate::model::{Timestamp, UserId};
use crate::ops::hub::Topic;
use crate::plugins::CallError;
use crate::store::audit::{self, Actor, Entry, Verdict};
use crate::store::external_auth::{Link, Outcome, State};
use crate::store::{Write, users};

/// A token that ends within this is renewed before it is given away.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a refresh that fails for the moment is tried.
const PATIENCE: Duration = Duration::from_secs(10);
/// First pause between two tries, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// Signs-in that may come in between before the look is given up.
const CHANGES: usize = 4;

/// What came of it.
pub(super) enum Renewed {
    /// This one may be used; whether it is new.
    Is(Link, bool),
    /// The person must sign in again: version, and why.
    SignIn(i64, String),
    /// The link was removed.
    Gone,
}

/// What came of sending a refresh token once.
enum Try {
    New(Link),
    Dead(String),
    /// Not for good; whether another try may help.
    Failed(Error, bool),
    /// Somebody has signed in or out meanwhile.
    Changed,
}

/// Renews a link if it is due.
pub(super) fn renew(app: &App, provider: &ProviderConfig, mut link: Link) -> Result<Renewed, Error> {
    let began = Instant::now();
    let mut pause = PAUSES.0;
    let mut patience = None;
    for _ in 0..CHANGES {
        if !ends_within(&link, MARGIN) {
            return Ok(Renewed::Is(link, false));
        }
        // A token that cannot be renewed is good until its end.
        let or_sign_in = |link: Link, why: &str| {
            let ended = ends_within(&link, Duration::ZERO);
            if ended { Renewed::SignIn(link.version, why.to_owned()) } else { Renewed::Is(link, false) }
        };
        let Some(refresh_token) = usable(app, provider, &link)? else {
            let why =
                if link.failure.is_empty() { "The token has ended and cannot be refreshed." } else { &link.failure };
            let why = why.to_owned();
            return Ok(or_sign_in(link, &why));
        };
        let outcome = loop {
            match once(app, provider, &link, &refresh_token)? {
                Try::Failed(error, may_help) => {
                    if patience.is_none() {
                        patience = app.links.patience(&provider.id);
                    }
                    let in_time = began.elapsed() + pause < PATIENCE && patience.is_some();
                    if !may_help || !in_time || !app.links.rest(pause) {
                        break Try::Failed(error, false);
                    }
                    pause = (pause * 2).min(PAUSES.1);
                }
                other => break other,
            }
        };
        match outcome {
            Try::New(link) => return Ok(Renewed::Is(link, true)),
            Try::Dead(why) => return Ok(or_sign_in(link, &why)),
            Try::Failed(..) if !ends_within(&link, Duration::ZERO) => return Ok(Renewed::Is(link, false)),
            Try::Failed(error, _) => return Err(error),
            Try::Changed => match stored(app, provider, link.user)? {
                Some(now) => link = now,
                None => return Ok(Renewed::Gone),
            },
        }
    }
    Err(Error::new(Fault::Conflict, "The link to the external auth provider changes all the time. Try again."))
}

/// The refresh token, if it may be sent.
fn usable(app: &App, provider: &ProviderConfig, link: &Link) -> Result<Option<String>, Error> {
    if link.state == State::Dead || flag(provider, "no_refresh") {
        return Ok(None);
    }
    tokens::refresh(app, link)
}

/// Sends the refresh token once.
fn once(app: &App, provider: &ProviderConfig, link: &Link, refresh_token: &str) -> Result<Try, Error> {
    if let Some(left) = app.links.paused(&provider.id, Need::Refresh) {
        let message = format!("The external auth provider {} limits its rate.", provider.id);
        let detail = format!("It may be asked again in {} s.", left.as_secs() + 1);
        return Ok(Try::Failed(Error::new(Fault::Unreachable, message).detail(detail), false));
    }
    let Some(sent) = app.links.send() else {
        return Ok(Try::Failed(Error::new(Fault::Overloaded, "The server is stopping. Try again soon."), false));
    };
    let row = link.clone();
    let journal = app.store.write(move |write| -> Result<_, Error> {
        let now = store::find(write, &row.provider, row.user)?;
        let is_same = now.is_some_and(|now| now.version == row.version && now.state != State::Dead);
        Ok(if is_same { Some(store::begin(write, &row, Timestamp::now())?) } else { None })
    })?;
    let Some(journal) = journal else { return Ok(Try::Changed) };
    let request = RefreshRequest { refresh_token: refresh_token.to_owned() };
    let called = app.plugins.call::<_, Token>(provider, "refresh", &request);
    let tried = match called {
        Ok(token) if !token.access_token.is_empty() => keep(app, link, &token, journal),
        Ok(_) => {
            let error =
                CallError::Failed(Refused { message: "The plugin gave no token.".into(), ..Refused::default() });
            failed(app, provider, link, journal, &error)
        }
        Err(CallError::Refused(refused)) if refused.code == "dead_grant" => {
            let why: String = refused.message.chars().take(SHOWN_CHARS).collect();
            bury(app, link, journal, why)
        }
        Err(error) => failed(app, provider, link, journal, &error),
    };
    drop(sent);
    tried
}

/// Stores a new token, before anything else. A store that fails is tried again: the old token is worth nothing now.
fn keep(app: &App, link: &Link, token: &Token, journal: i64) -> Result<Try, Error> {
    let now = Timestamp::now();
    let mut new = tokens::seal(app, &link.provider, link.user, token, now)?;
    new.created_at = link.created_at;
    if token.refresh_token.is_empty() {
        new.refresh_sealed.clone_from(&link.refresh_sealed);
    }
    if token.extra.is_none() {
        new.extra_sealed.clone_from(&link.extra_sealed);
    }
    let began = Instant::now();
    let mut pause = PAUSES.0;
    loop {
        let row = Link { version: link.version, ..new.clone() };
        let stored = app.store.write(move |write| -> Result<bool, Error> {
            store::end(write, journal, Outcome::Refreshed, Timestamp::now())?;
            let is_kept = store::replace(write, &row)?;
            if is_kept {
                write.publish(Topic::ExternalAuth(row.user));
            }
            Ok(is_kept)
        });
        match stored {
            Ok(true) => {
                new.version = link.version + 1;
                return Ok(Try::New(new));
            }
            Ok(false) => return Ok(Try::Changed),
            Err(error) if began.elapsed() >= PATIENCE => {
                log::error!("a refreshed token of provider {} cannot be stored and is lost: {error}", link.provider);
                return Err(error);
            }
            Err(error) => {
                log::warn!("a refreshed token of provider {} cannot be stored yet: {error}", link.provider);
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// The provider has said that the refresh token is good no more.
fn bury(app: &App, link: &Link, journal: i64, why: String) -> Result<Try, Error> {
    let (row, failure) = (link.clone(), why.clone());
    let is_buried = app.store.write(move |write| -> Result<bool, Error> {
        let now = Timestamp::now();
        store::end(write, journal, Outcome::Dead, now)?;
        let is_buried = store::bury(write, &row.provider, row.user, row.version, &failure, now)?;
        if is_buried {
            note(write, &row.provider, row.user, failure)?;
        }
        Ok(is_buried)
    })?;
    Ok(if is_buried { Try::Dead(why) } else { Try::Changed })
}

/// Puts a refresh that failed for the moment into the audit log.
pub(super) fn note_failure(app: &App, (provider, user): &Key, why: &str) {
    let (provider, user, why) = (provider.clone(), *user, format!("for the moment: {why}"));
    if let Err(error) = app.store.write(move |write| note(write, &provider, user, why)) {
        log::warn!("a failed refresh cannot be put into the audit log: {error}");
    }
}

/// On behalf of its person.
fn note(write: &Write<'_>, provider: &str, user: UserId, detail: String) -> Result<(), Error> {
    let name = users::by_id(write, user)?.map(|user| user.username).unwrap_or_default();
    let entry = Entry {
        actor: Actor::User(user, name),
        action: "external_auth.refresh",
        target: provider.to_owned(),
        ip: String::new(),
        verdict: Verdict::Failed,
        detail,
    };
    audit::insert(write, Timestamp::now(), &entry)?;
    Ok(())
}

/// Nothing was said about the refresh token; perhaps it was used all the same.
fn failed(app: &App, provider: &ProviderConfig, link: &Link, journal: i64, error: &CallError) -> Result<Try, Error> {
    let (may_help, is_known) = match error {
        CallError::Unavailable(refused) => {
            if let Some(seconds) = refused.retry_after {
                app.links.pause(&provider.id, Need::Refresh, seconds);
            }
            // What the operator has to mend is not mended in a few seconds.
            let may_help = refused.retry_after.is_none() && !CLIENT_REFUSED.contains(&refused.code.as_str());
            (may_help, !matches!(refused.code.as_str(), "timeout" | "connect" | "http" | "too_large"))
        }
        CallError::Busy => (true, true),
        CallError::Down(_) | CallError::TimedOut | CallError::Failed(_) => (true, false),
        CallError::Refused(_) | CallError::Invalid(_) | CallError::Unsupported(_) => (false, true),
    };
    let row = link.clone();
    app.store.write(move |write| -> Result<(), Error> {
        let outcome = if is_known { Outcome::Failed } else { Outcome::Unknown };
        store::end(write, journal, outcome, Timestamp::now())?;
        if !is_known {
            store::doubt(write, &row.provider, row.user, row.version)?;
        }
        Ok(())
    })?;
    let error = trouble(provider, error);
    Ok(Try::Failed(Error { fault: Fault::Unreachable, ..error }, may_help))
}
