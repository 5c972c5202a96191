//! Session tokens: made by signing in or on purpose, and revoked.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::Connection;

use super::access::{Denial, Refused, user_error};
use super::tokens::{self, SessionToken};
use super::users::{self, note};
use super::{App, Error, Fault, names, passwords};
use crate::config::limits;
use crate::model::{MICROS_PER_SECOND, Timestamp, UserId};
use crate::ops::hub::Topic;
use crate::store::audit::{self, Actor, By, Entry, Verdict};
use crate::store::keys::{self, ApiKey, LoginType, Scope};
use crate::store::users::{Status, User};
use crate::store::{self, Store, Write};

/// Longest name of a token, characters.
const TOKEN_NAME_CHARS: usize = 128;

/// Signs a person in, who is named by e-mail address or, without an `@`, by user name. Unknown people cost the
/// same work as known ones; success and failure are written to the audit log.
pub fn sign_in(app: &App, name: &str, password: &str, ip: &str) -> Result<String, Error> {
    let find = if name.contains('@') { store::users::by_email } else { store::users::by_username };
    let found = app.store.read(|conn| find(conn, name).map_err(Error::from))?;
    let good = passwords::verify(password, found.as_ref().and_then(|user| user.password_hash.as_deref()));
    let user = match found {
        Some(user) if good && user.status == Status::Active => user,
        // Only who knows the password learns that the account exists.
        Some(_) if good => {
            refused_sign_in(app, name, ip, "suspended")?;
            return Err(user_error(Refused::Denied(Denial::Suspended)));
        }
        _ => {
            refused_sign_in(app, name, ip, "unknown name or wrong password")?;
            return Err(Error::new(Fault::Unauthenticated, "The name, the e-mail address or the password is wrong."));
        }
    };
    let now = Timestamp::now();
    let token = SessionToken::mint()?;
    let mut key = new_key(&token, user.id, TokenSpec::session(app), ip, now);
    key.last_used_at = now;
    let by = By { actor: Actor::User(user.id, user.username.clone()), ip: ip.to_owned() };
    app.store.write(move |write| -> Result<(), Error> {
        // What was read may be over: the password changed, or the person suspended or removed.
        let unchanged = |now: &User| now.status == Status::Active && now.password_hash == user.password_hash;
        if !store::users::by_id(write, user.id)?.is_some_and(|now| unchanged(&now)) {
            return Err(Error::new(Fault::Unauthenticated, "The account was changed meanwhile; try again."));
        }
        keys::insert(write, &key)?;
        store::users::seen(write, key.user_id, now)?;
        note(write, now, &by, "user.login", &user.username, &format!("token {}", key.id))
    })?;
    Ok(token.to_string())
}

fn refused_sign_in(app: &App, name: &str, ip: &str, why: &str) -> Result<(), Error> {
    let shown: String = name.chars().take(320).collect();
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
    /// How it comes to be.
    pub login_type: LoginType,
    /// Its person's word for it; empty for a session.
    pub name: String,
    /// How long it lives, from each use on.
    pub lifetime: Duration,
    /// What it may be used for.
    pub scope: Scope,
}

impl TokenSpec {
    /// A session, as signing in makes one.
    pub fn session(app: &App) -> TokenSpec {
        let lifetime = app.settings.session_lifetime;
        TokenSpec { login_type: LoginType::Password, name: String::new(), lifetime, scope: Scope::All }
    }

    /// A token as a client asks for one: `nanoseconds` 0 means [`limits::REST_TOKEN_LIFETIME`] or `most`, whichever
    /// is shorter; without a name one is made up.
    pub fn token(name: &str, nanoseconds: i64, scope: &str, most: Duration) -> Result<TokenSpec, Error> {
        let refusal = || Error::new(Fault::Invalid, "The token cannot be made as asked.");
        let refuse = |field: &str, detail: &str| Err(refusal().field(field, detail));
        if name.chars().count() > TOKEN_NAME_CHARS || name.chars().any(char::is_control) {
            return refuse("token_name", "At most 128 characters, none of them a control character.");
        }
        let lifetime = match u64::try_from(nanoseconds) {
            Ok(0) => limits::REST_TOKEN_LIFETIME.min(most),
            Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
            Err(_) => return Err(refusal().detail("A lifetime cannot be negative.")),
        };
        if lifetime > most || lifetime < Duration::from_secs(1) {
            let hours = most.as_secs() / 3_600;
            let most = if hours > 0 { format!("{hours} hours") } else { format!("{} seconds", most.as_secs()) };
            return Err(refusal().detail(format!("A token lives for at least a second and at most {most}.")));
        }
        let scope = if scope.is_empty() { Some(Scope::All) } else { Scope::from_word(scope) };
        let Some(scope) = scope else {
            return refuse("scope", "One of all and application_connect.");
        };
        let name = if name.is_empty() { format!("token-{}", tokens::random_text(8)?) } else { name.to_owned() };
        Ok(TokenSpec { login_type: LoginType::Token, name, lifetime, scope })
    }
}

/// Makes a token for `owner`. Its secret is not kept.
pub fn create(store: &Store, by: &By, owner: &User, spec: TokenSpec) -> Result<SessionToken, Error> {
    let (by, owner_id) = (by.clone(), owner.id);
    store.write(move |write| {
        let owner = store::users::by_id(write, owner_id)?
            .ok_or_else(|| Error::new(Fault::NotFound, "The user does not exist any more."))?;
        insert(write, &by, &owner, spec)
    })
}

/// Makes a token for the person named `user`, as the operator asks for one. Without a name it gets a
/// random one.
pub fn create_named(
    store: &Store,
    actor: &Actor,
    user: &str,
    name: Option<&str>,
    lifetime: Duration,
) -> Result<SessionToken, Error> {
    let name = match name {
        Some(name) => {
            names::check(name)
                .map_err(|why| Error::new(Fault::Invalid, "The token was not made.").field("name", why))?;
            name.to_owned()
        }
        None => format!("cli-{}", tokens::random_text(8)?),
    };
    if lifetime < Duration::from_secs(1) || lifetime > limits::TOKEN_LIFETIME_MAX {
        return Err(Error::new(Fault::Invalid, "The token was not made.")
            .field("lifetime", "must be between one second and 876600h (100 years)"));
    }
    let (user, by) = (user.to_owned(), By::from(actor));
    let spec = TokenSpec { login_type: LoginType::Token, name, lifetime, scope: Scope::All };
    store.write(move |write| {
        let user = users::find(write, &user)?;
        insert(write, &by, &user, spec)
    })
}

/// Makes a token, inside a write. An expired one makes room for another of its name.
pub(super) fn insert(write: &Write<'_>, by: &By, owner: &User, spec: TokenSpec) -> Result<SessionToken, Error> {
    let now = Timestamp::now();
    let token = SessionToken::mint()?;
    let key = new_key(&token, owner.id, spec, &by.ip, now);
    match keys::by_name(write, owner.id, &key.token_name)? {
        Some(old) if old.expires_at > now => {
            let message = format!("User `{}` has a token named `{}` already.", owner.username, key.token_name);
            return Err(Error::new(Fault::Conflict, message).field("name", "It is in use and must be unique."));
        }
        Some(expired) => {
            keys::delete(write, &expired.id)?;
        }
        None => {}
    }
    keys::insert(write, &key)?;
    note(write, now, by, "token.create", &owner.username, &detail(&key))?;
    Ok(token)
}

/// Revokes a token by its id (what stands before the hyphen): of `owner`, or of anybody. Streams opened
/// with one of the person's tokens look again and end.
pub fn revoke(store: &Store, by: &By, owner: Option<UserId>, id: &str, action: &'static str) -> Result<ApiKey, Error> {
    let (id, by) = (id.to_owned(), by.clone());
    store.write(move |write| {
        let found = keys::by_id(write, &id)?.filter(|key| owner.is_none_or(|owner| key.user_id == owner));
        let key = found.ok_or_else(|| unknown(owner, &id))?;
        keys::delete(write, &key.id)?;
        write.publish(Topic::UserRevoked(key.user_id));
        let owner = store::users::by_id(write, key.user_id)?.map(|user| user.username).unwrap_or_default();
        note(write, Timestamp::now(), &by, action, &owner, &detail(&key))?;
        Ok(key)
    })
}

fn unknown(owner: Option<UserId>, id: &str) -> Error {
    match owner {
        Some(_) => Error::new(Fault::NotFound, "The token does not exist, or it is not yours."),
        None => Error::new(Fault::NotFound, format!("There is no token with the id `{id}`.")),
    }
}

/// Tokens of one person, or of all, with their person's names; newest first. A removed person's are
/// nobody's and are left out.
pub fn list(conn: &Connection, of: Option<&User>) -> Result<Vec<(ApiKey, String)>, Error> {
    let people: HashMap<UserId, String> = match of {
        Some(user) => [(user.id, user.username.clone())].into(),
        None => store::users::list(conn)?.into_iter().map(|user| (user.id, user.username)).collect(),
    };
    let keys = keys::list(conn, of.map(|user| user.id))?;
    Ok(keys.into_iter().filter_map(|key| people.get(&key.user_id).cloned().map(|name| (key, name))).collect())
}

fn detail(key: &ApiKey) -> String {
    format!("token {} {}", key.id, key.token_name).trim_end().to_owned()
}

fn new_key(token: &SessionToken, user_id: UserId, spec: TokenSpec, ip: &str, now: Timestamp) -> ApiKey {
    ApiKey {
        id: token.id.clone(),
        user_id,
        secret_hash: token.secret_hash(),
        login_type: spec.login_type,
        token_name: spec.name,
        scope: spec.scope,
        lifetime_seconds: i64::try_from(spec.lifetime.as_secs()).unwrap_or(i64::MAX / MICROS_PER_SECOND),
        ip: ip.to_owned(),
        created_at: now,
        updated_at: now,
        // Clients show year 1 as "never used".
        last_used_at: Timestamp::GO_ZERO,
        expires_at: now.plus(spec.lifetime),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn refuses_lifetimes_scopes_and_names_that_make_no_sense() {
        let most = limits::TOKEN_LIFETIME_MAX;
        let hour = Duration::from_secs(3_600);
        assert_eq!(TokenSpec::token("", 0, "", most).unwrap().lifetime, limits::REST_TOKEN_LIFETIME);
        assert_eq!(TokenSpec::token("", 0, "", hour).unwrap().lifetime, hour);
        assert_eq!(TokenSpec::token("bad name!", 1_000_000_000, "all", most).unwrap().name, "bad name!");
        let longest = i64::try_from(most.as_nanos()).unwrap();
        assert!(TokenSpec::token("", longest, "", most).is_ok());
        for (nanoseconds, most) in [(longest + 1, most), (-1, most), (1, most), (3_601_000_000_000, hour)] {
            assert!(!TokenSpec::token("", nanoseconds, "", most).unwrap_err().detail.is_empty());
        }
        for (name, scope, field) in [("", "nosuch", "scope"), ("a\nb", "", "token_name")] {
            assert_eq!(TokenSpec::token(name, 0, scope, most).unwrap_err().fields[0].field, field);
        }
    }
}
