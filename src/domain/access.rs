//! Who is calling: session tokens of people, tokens of agents.

use std::time::Duration;

use rusqlite::Connection;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::tokens::{self, SessionToken};
use super::{App, Error, Fault};
use crate::model::{Timestamp, UserId};
use crate::store::agents::{self, Agent};
use crate::store::audit::{Actor, By};
use crate::store::keys::{self, ApiKey, Scope};
use crate::store::users::{self, Status, User};

/// How often a use is written down at most: a busy token costs one write an hour.
const USE_WRITTEN_EVERY: Duration = Duration::from_secs(3_600);

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

    /// This person, calling from `ip`.
    pub fn by(&self, ip: &str) -> By {
        By { actor: self.actor(), ip: ip.to_owned() }
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
        // JetBrains Toolbox asks for a new sign-in only if the detail has the words "API key expired"
        // (coder-jetbrains-toolbox 0.9.3 sdk/ex/APIResponseException.kt).
        Denial::Unknown => signed_out("API key expired: the session token was revoked, or it never was one."),
        Denial::Expired => signed_out("API key expired: the session token was not used for too long."),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MICROS_PER_SECOND;

    const HOUR: i64 = 3_600 * MICROS_PER_SECOND;

    fn key(expires_in_hours: i64, lifetime_hours: i64, used_minutes_ago: i64) -> (ApiKey, Timestamp) {
        let now = Timestamp(1_000_000 * HOUR);
        let key = ApiKey {
            id: "0123456789".into(),
            user_id: UserId::random(),
            secret_hash: Vec::new(),
            login_type: keys::LoginType::Password,
            token_name: String::new(),
            scope: Scope::All,
            lifetime_seconds: lifetime_hours * 3_600,
            ip: String::new(),
            created_at: now,
            updated_at: now,
            last_used_at: Timestamp(now.0 - used_minutes_ago * HOUR / 60),
            expires_at: Timestamp(now.0 + expires_in_hours * HOUR),
        };
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
}
