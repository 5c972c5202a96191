//! Who is calling: session tokens of people, tokens of agents, sign-in by password.

use std::time::Duration;

use rusqlite::Connection;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::tokens::{self, SessionToken};
use super::{App, Error, Fault, passwords};
use crate::config::limits;
use crate::model::{MICROS_PER_SECOND, Timestamp, UserId};
use crate::ops::hub::Topic;
use crate::store::agents::{self, Agent};
use crate::store::audit::{self, Actor, Entry, Verdict};
use crate::store::keys::{self, ApiKey, LoginType, Scope};
use crate::store::users::{self, Status, User};

/// How often a use is written down at most: a busy token costs one write an hour.
const USE_WRITTEN_EVERY: Duration = Duration::from_secs(3_600);
/// Longest name of a token, characters.
const TOKEN_NAME_CHARS: usize = 128;

/// A person, proved by a session token. Only this module makes one.
#[derive(Debug)]
pub struct UserAuth {
    /// Who; without the password hash.
    pub user: User,
    key: ApiKey,
}

impl UserAuth {
    /// The token that was used.
    pub fn key(&self) -> &ApiKey {
        &self.key
    }

    /// Whether this person may see and use what belongs to `owner`.
    pub fn may_see(&self, owner: UserId) -> bool {
        super::inventory::may_see(&self.user, owner)
    }

    /// This person as the actor of an audit row.
    pub fn actor(&self) -> Actor {
        Actor::User(self.user.id, self.user.username.clone())
    }
}

/// An agent, proved by its token. Only this module makes one.
#[derive(Debug)]
pub struct AgentAuth {
    agent: Agent,
}

impl AgentAuth {
    /// Which.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Which, for keeps.
    pub fn into_agent(self) -> Agent {
        self.agent
    }
}

/// Why a token was not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Denial {
    /// None was sent.
    Missing,
    /// It does not have the shape of one; bytes it had.
    Malformed(usize),
    /// No such token, or not this secret.
    Unknown,
    /// Its life is over.
    Expired,
    /// Its person may not sign in at present.
    Suspended,
    /// It may be used for opening apps only.
    Scope,
}

/// Not accepted, or not looked at because something failed.
#[derive(Debug)]
pub enum Refused {
    /// The caller's fault.
    Denied(Denial),
    /// Ours.
    Failed(Error),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Refused {
        Refused::Failed(error.into())
    }
}

impl From<crate::store::Error> for Refused {
    fn from(error: crate::store::Error) -> Refused {
        Refused::Failed(error.into())
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Failed(error)
    }
}

/// The person to whom `token` belongs, read on `conn`.
pub fn user_in(conn: &Connection, token: &str, now: Timestamp) -> Result<UserAuth, Refused> {
    if token.is_empty() {
        return Err(Refused::Denied(Denial::Missing));
    }
    let Some(parsed) = SessionToken::parse(token) else {
        return Err(Refused::Denied(Denial::Malformed(token.len())));
    };
    let Some(session) = keys::session(conn, &parsed.id)? else {
        return Err(Refused::Denied(Denial::Unknown));
    };
    if !bool::from(session.key.secret_hash.ct_eq(&parsed.secret_hash())) {
        return Err(Refused::Denied(Denial::Unknown));
    }
    if session.key.expires_at <= now {
        return Err(Refused::Denied(Denial::Expired));
    }
    if session.user.status != Status::Active {
        return Err(Refused::Denied(Denial::Suspended));
    }
    if session.key.scope != Scope::All {
        return Err(Refused::Denied(Denial::Scope));
    }
    Ok(UserAuth { user: session.user, key: session.key })
}

/// The living agent to which `token` belongs, read on `conn`.
pub fn agent_in(conn: &Connection, token: &str) -> Result<AgentAuth, Refused> {
    if token.is_empty() {
        return Err(Refused::Denied(Denial::Missing));
    }
    let Ok(parsed) = Uuid::try_parse(token) else {
        return Err(Refused::Denied(Denial::Malformed(token.len())));
    };
    let hash = tokens::agent_token_hash(parsed);
    match agents::by_token_hash(conn, &hash)? {
        Some(agent) if bool::from(agent.token_hash.ct_eq(&hash)) => Ok(AgentAuth { agent }),
        _ => Err(Refused::Denied(Denial::Unknown)),
    }
}

/// What a refused session token looks like to a person.
pub fn user_error(refused: Refused) -> Error {
    let denial = match refused {
        Refused::Failed(error) => return error,
        Refused::Denied(denial) => denial,
    };
    let signed_out = |detail: &str| {
        Error::new(Fault::Unauthenticated, "You are not signed in, or your session has ended.").detail(detail)
    };
    match denial {
        Denial::Missing => signed_out("No session token was sent."),
        Denial::Malformed(_) => signed_out("The session token is malformed."),
        Denial::Unknown => signed_out("The session token is not valid."),
        Denial::Expired => signed_out("The session token has expired."),
        Denial::Suspended => {
            Error::new(Fault::Unauthenticated, "Your account is suspended; an administrator can activate it.")
        }
        Denial::Scope => Error::new(Fault::Forbidden, "This token may only be used for opening apps."),
    }
}

/// What a refused agent token looks like in the agent's log.
pub fn agent_error(refused: Refused) -> Error {
    let denial = match refused {
        Refused::Failed(error) => return error,
        Refused::Denied(denial) => denial,
    };
    match denial {
        Denial::Missing => Error::new(Fault::Unauthenticated, "An agent token is required, and none was sent."),
        Denial::Malformed(bytes) => Error::new(Fault::Unauthenticated, "The agent token is malformed.")
            .detail(format!("An agent token is a UUID; this one has {bytes} bytes.")),
        _ => Error::new(Fault::Unauthenticated, "No agent has this token.")
            .detail("The token was replaced, or its agent or workspace was removed."),
    }
}

/// The person to whom `token` belongs; the use is noted.
pub fn user(app: &App, token: &str, ip: &str) -> Result<UserAuth, Error> {
    let now = Timestamp::now();
    let auth = app.store.read(|conn| user_in(conn, token, now)).map_err(user_error)?;
    note_use(app, &auth, ip, now);
    Ok(auth)
}

/// The living agent to which `token` belongs.
pub fn agent(app: &App, token: &str) -> Result<AgentAuth, Error> {
    app.store.read(|conn| agent_in(conn, token)).map_err(agent_error)
}

/// Slides a token's expiry and writes its use down, at most once an hour; nobody waits for it.
pub fn note_use(app: &App, auth: &UserAuth, ip: &str, now: Timestamp) {
    let Some(expires_at) = due(&auth.key, now) else { return };
    let (id, user, ip) = (auth.key.id.clone(), auth.user.id, ip.to_owned());
    app.store.write_then(
        move |write| -> Result<(), Error> {
            keys::touch(write, &id, &ip, now, expires_at)?;
            users::seen(write, user, now)?;
            Ok(())
        },
        |result| {
            if let Err(error) = result {
                log::warn!("the use of a session token could not be noted: {error}");
            }
        },
    );
}

/// The expiry to write, if a use at `now` is to be written down at all.
fn due(key: &ApiKey, now: Timestamp) -> Option<Timestamp> {
    let lifetime = Duration::from_secs(u64::try_from(key.lifetime_seconds).unwrap_or(0));
    let slides = key.expires_at.since(now) + USE_WRITTEN_EVERY <= lifetime;
    let stale = now.since(key.last_used_at) > USE_WRITTEN_EVERY;
    (slides || stale).then(|| if slides { now.plus(lifetime) } else { key.expires_at })
}

/// Signs a person in. Unknown people cost the same work as known ones; success and failure are
/// written to the audit log.
pub fn sign_in(app: &App, email: &str, password: &str, ip: &str) -> Result<String, Error> {
    let found = app.store.read(|conn| users::by_email(conn, email).map_err(Error::from))?;
    let good = passwords::verify(password, found.as_ref().and_then(|user| user.password_hash.as_deref()));
    let user = match found {
        Some(user) if good && user.status == Status::Active => user,
        // Only who knows the password learns that the account exists.
        Some(_) if good => {
            refused_sign_in(app, email, ip, "suspended")?;
            return Err(user_error(Refused::Denied(Denial::Suspended)));
        }
        _ => {
            refused_sign_in(app, email, ip, "unknown address or wrong password")?;
            return Err(Error::new(Fault::Unauthenticated, "The e-mail address or the password is wrong."));
        }
    };
    let now = Timestamp::now();
    let token = SessionToken::mint()?;
    let spec = TokenSpec { name: String::new(), lifetime: limits::SESSION_LIFETIME, scope: Scope::All };
    let key = new_key(&token, user.id, LoginType::Password, spec, ip, now);
    let entry = Entry {
        actor: Actor::User(user.id, user.username.clone()),
        action: "user.login",
        target: user.username,
        ip: ip.to_owned(),
        verdict: Verdict::Ok,
        detail: format!("token {}", key.id),
    };
    app.store.write(move |write| -> Result<(), Error> {
        keys::insert(write, &key)?;
        users::seen(write, key.user_id, now)?;
        audit::insert(write, now, &entry)?;
        Ok(())
    })?;
    Ok(token.to_string())
}

fn refused_sign_in(app: &App, email: &str, ip: &str, why: &str) -> Result<(), Error> {
    let shown: String = email.chars().take(320).collect();
    let entry = Entry {
        actor: Actor::Anonymous(shown.clone()),
        action: "user.login",
        target: shown,
        ip: ip.to_owned(),
        verdict: Verdict::Refused,
        detail: why.to_owned(),
    };
    app.store.write(move |write| audit::insert(write, Timestamp::now(), &entry).map_err(Error::from))
}

/// What a token is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenSpec {
    /// Its person's word for it; empty: one is made up.
    pub name: String,
    /// How long it lives, from each use on.
    pub lifetime: Duration,
    /// What it may be used for.
    pub scope: Scope,
}

impl TokenSpec {
    /// Checks what a client asks for; `nanoseconds` 0 means [`limits::REST_TOKEN_LIFETIME`].
    pub fn new(name: &str, nanoseconds: i64, scope: &str) -> Result<TokenSpec, Error> {
        let refusal = || Error::new(Fault::Invalid, "The token cannot be made as asked.");
        let refuse = |field: &str, detail: &str| Err(refusal().field(field, detail));
        if name.chars().count() > TOKEN_NAME_CHARS || name.chars().any(char::is_control) {
            return refuse("token_name", "At most 128 characters, none of them a control character.");
        }
        let lifetime = match u64::try_from(nanoseconds) {
            Ok(0) => limits::REST_TOKEN_LIFETIME,
            Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
            Err(_) => return Err(refusal().detail("A lifetime cannot be negative.")),
        };
        if lifetime > limits::TOKEN_LIFETIME_MAX || lifetime < Duration::from_secs(1) {
            return Err(refusal().detail("A token lives for at least a second and at most 876600 hours."));
        }
        let scope = if scope.is_empty() { Some(Scope::All) } else { Scope::from_word(scope) };
        let Some(scope) = scope else {
            return refuse("scope", "One of all and application_connect.");
        };
        Ok(TokenSpec { name: name.to_owned(), lifetime, scope })
    }
}

/// Makes a token for `owner` and gives its text, which is not kept. Without a name and with
/// [`LoginType::Password`] it is a session as sign-in makes it.
pub fn create_token(
    app: &App,
    actor: Actor,
    owner: &User,
    login_type: LoginType,
    mut spec: TokenSpec,
    ip: &str,
) -> Result<String, Error> {
    if login_type == LoginType::Token && spec.name.is_empty() {
        spec.name = format!("token-{}", tokens::random_text(8)?);
    }
    let now = Timestamp::now();
    let token = SessionToken::mint()?;
    let mut key = new_key(&token, owner.id, login_type, spec, ip, now);
    // Clients show year 1 as "never used".
    key.last_used_at = Timestamp::GO_ZERO;
    let entry = Entry {
        actor,
        action: "token.create",
        target: owner.username.clone(),
        ip: ip.to_owned(),
        verdict: Verdict::Ok,
        detail: format!("token {} {}", key.id, key.token_name).trim_end().to_owned(),
    };
    app.store.write(move |write| -> Result<(), Error> {
        // The writer runs one closure at a time, so the name cannot be taken in between.
        match keys::by_name(write, key.user_id, &key.token_name)? {
            Some(old) if old.expires_at > now => {
                return Err(Error::new(Fault::Conflict, "A token of this name exists already.")
                    .field("name", "It is in use and must be unique."));
            }
            Some(expired) => {
                keys::delete(write, &expired.id)?;
            }
            None => {}
        }
        keys::insert(write, &key)?;
        audit::insert(write, now, &entry)?;
        Ok(())
    })?;
    Ok(token.to_string())
}

/// Revokes a token of `owner`; streams opened with one of their tokens end.
pub fn revoke_token(
    app: &App,
    actor: Actor,
    owner: &User,
    id: &str,
    action: &'static str,
    ip: &str,
) -> Result<(), Error> {
    let (id, owner_id, owner_name, ip) = (id.to_owned(), owner.id, owner.username.clone(), ip.to_owned());
    app.store.write(move |write| -> Result<(), Error> {
        let found = keys::by_id(write, &id)?.filter(|key| key.user_id == owner_id);
        let Some(key) = found else {
            return Err(Error::new(Fault::NotFound, "The token does not exist, or it is not yours."));
        };
        keys::delete(write, &key.id)?;
        let detail = format!("token {} {}", key.id, key.token_name).trim_end().to_owned();
        let entry = Entry { actor, action, target: owner_name, ip, verdict: Verdict::Ok, detail };
        audit::insert(write, Timestamp::now(), &entry)?;
        write.publish(Topic::UserRevoked(owner_id));
        Ok(())
    })
}

fn new_key(
    token: &SessionToken,
    user_id: UserId,
    login_type: LoginType,
    spec: TokenSpec,
    ip: &str,
    now: Timestamp,
) -> ApiKey {
    ApiKey {
        id: token.id.clone(),
        user_id,
        secret_hash: token.secret_hash(),
        login_type,
        token_name: spec.name,
        scope: spec.scope,
        lifetime_seconds: i64::try_from(spec.lifetime.as_secs()).unwrap_or(i64::MAX / MICROS_PER_SECOND),
        ip: ip.to_owned(),
        created_at: now,
        updated_at: now,
        last_used_at: now,
        expires_at: now.plus(spec.lifetime),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const HOUR: i64 = 3_600 * MICROS_PER_SECOND;

    fn key(expires_in_hours: i64, lifetime_hours: i64, used_minutes_ago: i64) -> (ApiKey, Timestamp) {
        let now = Timestamp(1_000_000 * HOUR);
        let token = SessionToken { id: "0123456789".into(), secret: "s".repeat(22) };
        let spec = TokenSpec { name: String::new(), lifetime: Duration::from_secs(1), scope: Scope::All };
        let mut key = new_key(&token, UserId::random(), LoginType::Password, spec, "", now);
        key.lifetime_seconds = lifetime_hours * 3_600;
        key.expires_at = Timestamp(now.0 + expires_in_hours * HOUR);
        key.last_used_at = Timestamp(now.0 - used_minutes_ago * HOUR / 60);
        (key, now)
    }

    #[test]
    fn writes_a_use_down_once_an_hour_at_most() {
        let (fresh, now) = key(24, 24, 5);
        assert_eq!(due(&fresh, now), None);
        let (stale, now) = key(24, 24, 61);
        assert_eq!(due(&stale, now), Some(stale.expires_at));
    }

    #[test]
    fn slides_the_expiry_when_an_hour_of_life_is_gone() {
        let (aged, now) = key(23, 24, 5);
        assert_eq!(due(&aged, now), Some(Timestamp(now.0 + 24 * HOUR)));
    }

    #[test]
    fn refuses_lifetimes_scopes_and_names_that_make_no_sense() {
        assert_eq!(TokenSpec::new("", 0, "").unwrap().lifetime, limits::REST_TOKEN_LIFETIME);
        assert_eq!(TokenSpec::new("bad name!", 1_000_000_000, "all").unwrap().name, "bad name!");
        let longest = i64::try_from(limits::TOKEN_LIFETIME_MAX.as_nanos()).unwrap();
        assert!(TokenSpec::new("", longest, "").is_ok());
        for nanoseconds in [longest + 1, -1, 1] {
            assert!(!TokenSpec::new("", nanoseconds, "").unwrap_err().detail.is_empty());
        }
        for (name, nanoseconds, scope, field) in [("", 0, "nosuch", "scope"), ("a\nb", 0, "", "token_name")] {
            assert_eq!(TokenSpec::new(name, nanoseconds, scope).unwrap_err().fields[0].field, field);
        }
    }
}
