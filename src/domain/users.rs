//! People: who is added, suspended, removed, and with which tokens they come.

use std::time::Duration;

use serde_json::{Value, json};

use super::tokens::{self, SessionToken};
use super::{Error, Fault, git_key, names, passwords, workspaces};
use crate::config::limits;
use crate::model::{Timestamp, UserId};
use crate::ops::hub::Topic;
use crate::store::audit::{Actor, Entry, Verdict};
use crate::store::keys::{ApiKey, LoginType, Scope};
use crate::store::users::{Status, User};
use crate::store::{self, Store, Write};

/// Characters of a generated password: 119 bits.
const PASSWORD_CHARS: usize = 20;
/// The name of the administrator that a new file begins with.
const FIRST_ADMIN: &str = "admin";

/// What is needed for a new person.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Unique, ignoring case.
    pub name: String,
    /// Unique, ignoring case.
    pub email: String,
    /// Free text.
    pub full_name: String,
    /// May do everything.
    pub admin: bool,
    /// As it will be typed; `None`: cannot sign in with a password.
    pub password: Option<String>,
}

/// The administrator of a new file; shown once.
pub struct FirstAdmin {
    /// The person's name.
    pub name: String,
    /// In the clear.
    pub password: String,
    /// `ID-SECRET`.
    pub token: String,
}

/// Adds a person with a git key pair.
pub fn add(store: &Store, actor: &Actor, new: NewUser) -> Result<User, Error> {
    let mut error = Error::new(Fault::Invalid, format!("User `{}` was not added.", new.name));
    if let Err(why) = names::check_user(&new.name) {
        error = error.field("name", why);
    }
    if let Err(why) = names::check_email(&new.email) {
        error = error.field("email", why);
    }
    if !error.fields.is_empty() {
        return Err(error);
    }
    let password_hash = new.password.as_deref().map(check_and_hash).transpose()?;
    let handle = store.clone();
    let actor = actor.clone();
    store.write(move |write| {
        let now = Timestamp::now();
        if store::users::by_username(write, &new.name)?.is_some() {
            return Err(Error::new(Fault::Conflict, format!("There is a user `{}` already.", new.name)));
        }
        if let Some(other) = store::users::by_email(write, &new.email)? {
            return Err(Error::new(
                Fault::Conflict,
                format!("The e-mail address {} belongs to user `{}`.", new.email, other.username),
            ));
        }
        insert(write, &handle, &actor, new, password_hash, now)
    })
}

/// Adds a person who was checked before, inside a write.
pub(super) fn insert(
    write: &Write<'_>,
    store: &Store,
    actor: &Actor,
    new: NewUser,
    password_hash: Option<String>,
    now: Timestamp,
) -> Result<User, Error> {
    let user = User {
        id: UserId::random(),
        username: new.name,
        email: new.email,
        full_name: new.full_name,
        password_hash,
        is_admin: new.admin,
        status: Status::Active,
        created_at: now,
        updated_at: now,
        last_seen_at: None,
    };
    store::users::insert(write, &user)?;
    store::users::put_git_ssh_key(write, &git_key::generate(store.sealer(), user.id, now)?)?;
    let detail = if user.is_admin { "administrator" } else { "" };
    note(write, now, actor, "user.create", &user.username, detail)?;
    Ok(user)
}

/// The administrator `admin` with a password and a session token, if the file has no user at all.
pub fn create_first_admin(store: &Store) -> Result<Option<FirstAdmin>, Error> {
    if !store.read(|conn| store::users::list(conn).map_err(Error::from))?.is_empty() {
        return Ok(None);
    }
    let password = tokens::random_text(PASSWORD_CHARS)?;
    let hash = passwords::hash(&password)?;
    let handle = store.clone();
    let actor = Actor::Operator("first start".into());
    let token = store.write(move |write| {
        let now = Timestamp::now();
        let new = NewUser {
            name: FIRST_ADMIN.into(),
            email: "admin@localhost".into(),
            full_name: String::new(),
            admin: true,
            password: None,
        };
        let user = insert(write, &handle, &actor, new, Some(hash), now)?;
        insert_token(write, &actor, &user, "first-start", limits::TOKEN_LIFETIME, now)
    })?;
    Ok(Some(FirstAdmin { name: FIRST_ADMIN.into(), password, token: token.to_string() }))
}

/// Lets a person sign in again, or stops them from doing so.
pub fn set_status(store: &Store, actor: &Actor, name: &str, status: Status) -> Result<User, Error> {
    let (name, actor) = (name.to_owned(), actor.clone());
    store.write(move |write| {
        let now = Timestamp::now();
        let mut user = find(write, &name)?;
        if user.status == status {
            return Ok(user);
        }
        if status == Status::Suspended {
            keep_an_admin(write, &user, "suspended")?;
        }
        user.status = status;
        user.updated_at = now;
        store::users::update(write, &user)?;
        let action = match status {
            Status::Active => "user.activate",
            Status::Suspended => {
                write.publish(Topic::UserRevoked(user.id));
                "user.suspend"
            }
        };
        note(write, now, &actor, action, &user.username, "")?;
        Ok(user)
    })
}

/// Removes a person with all tokens. They may own workspaces only if `with_workspaces` says that
/// these shall go, too; gives the names of those that went.
pub fn remove(store: &Store, actor: &Actor, name: &str, with_workspaces: bool) -> Result<(User, Vec<String>), Error> {
    let (name, actor) = (name.to_owned(), actor.clone());
    store.write(move |write| {
        let now = Timestamp::now();
        let user = find(write, &name)?;
        keep_an_admin(write, &user, "removed")?;
        let owned = store::workspaces::list(write, Some(user.id))?;
        let titles: Vec<String> = owned.iter().map(|w| format!("{}/{}", w.owner_name, w.name)).collect();
        if !owned.is_empty() && !with_workspaces {
            return Err(Error::new(
                Fault::Conflict,
                format!("User `{}` owns {} and was not removed.", user.username, titles.join(", ")),
            )
            .detail("Remove the workspaces first, or remove both with --with-workspaces."));
        }
        for workspace in &owned {
            workspaces::remove_in(write, &actor, workspace, now)?;
        }
        remove_in(write, &actor, &user, now)?;
        Ok((user, titles))
    })
}

/// Removes a person who owns nothing and need not stay, inside a write.
pub(super) fn remove_in(write: &Write<'_>, actor: &Actor, user: &User, now: Timestamp) -> Result<(), Error> {
    store::keys::delete_of_user(write, user.id)?;
    store::users::delete_git_ssh_key(write, user.id)?;
    store::users::remove(write, user.id, now)?;
    write.publish(Topic::UserRevoked(user.id));
    note(write, now, actor, "user.remove", &user.username, "")
}

/// Replaces a person's password and revokes all of their tokens; gives how many there were.
pub fn set_password(store: &Store, actor: &Actor, name: &str, password: &str) -> Result<(User, usize), Error> {
    let hash = check_and_hash(password)?;
    let (name, actor) = (name.to_owned(), actor.clone());
    store.write(move |write| {
        let now = Timestamp::now();
        let mut user = find(write, &name)?;
        let revoked = set_hash_in(write, &actor, &mut user, hash, now)?;
        Ok((user, revoked))
    })
}

/// Stores a password hash and revokes all tokens, as the real server does (coderd/users.go
/// putUserPassword, v2.24.0): whoever knew the old password may have made some.
pub(super) fn set_hash_in(
    write: &Write<'_>,
    actor: &Actor,
    user: &mut User,
    hash: String,
    now: Timestamp,
) -> Result<usize, Error> {
    user.password_hash = Some(hash);
    user.updated_at = now;
    store::users::update(write, user)?;
    let revoked = store::keys::delete_of_user(write, user.id)?;
    write.publish(Topic::UserRevoked(user.id));
    note(write, now, actor, "user.password", &user.username, "")?;
    Ok(revoked)
}

/// Makes a session token on purpose. Without a name it gets a random one.
pub fn create_token(
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
    let (user, actor) = (user.to_owned(), actor.clone());
    store.write(move |write| {
        let user = find(write, &user)?;
        if store::keys::by_name(write, user.id, &name)?.is_some() {
            return Err(Error::new(
                Fault::Conflict,
                format!("User `{}` has a token named `{name}` already.", user.username),
            ));
        }
        insert_token(write, &actor, &user, &name, lifetime, Timestamp::now())
    })
}

fn insert_token(
    write: &Write<'_>,
    actor: &Actor,
    user: &User,
    name: &str,
    lifetime: Duration,
    now: Timestamp,
) -> Result<SessionToken, Error> {
    let token = SessionToken::mint()?;
    store::keys::insert(
        write,
        &ApiKey {
            id: token.id.clone(),
            user_id: user.id,
            secret_hash: token.secret_hash(),
            login_type: LoginType::Token,
            token_name: name.to_owned(),
            scope: Scope::All,
            lifetime_seconds: i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX),
            ip: String::new(),
            created_at: now,
            updated_at: now,
            last_used_at: now,
            expires_at: now.plus(lifetime),
        },
    )?;
    note(write, now, actor, "token.create", &user.username, &token.id)?;
    Ok(token)
}

/// Revokes a session token by its id (what stands before the hyphen).
pub fn revoke_token(store: &Store, actor: &Actor, id: &str) -> Result<ApiKey, Error> {
    let (id, actor) = (id.to_owned(), actor.clone());
    store.write(move |write| {
        let key = store::keys::by_id(write, &id)?
            .ok_or_else(|| Error::new(Fault::NotFound, format!("There is no token with the id `{id}`.")))?;
        store::keys::delete(write, &key.id)?;
        write.publish(Topic::UserRevoked(key.user_id));
        let owner = store::users::by_id(write, key.user_id)?.map(|user| user.username).unwrap_or_default();
        note(write, Timestamp::now(), &actor, "token.revoke", &owner, &key.id)?;
        Ok(key)
    })
}

/// The living person with this name.
pub(super) fn find(conn: &rusqlite::Connection, name: &str) -> Result<User, Error> {
    store::users::by_username(conn, name)?
        .ok_or_else(|| Error::new(Fault::NotFound, format!("There is no user `{name}`.")))
}

fn keep_an_admin(conn: &rusqlite::Connection, user: &User, what: &str) -> Result<(), Error> {
    let other = |other: &User| other.id != user.id && is_active_admin(other);
    if is_active_admin(user) && !store::users::list(conn)?.iter().any(other) {
        return Err(Error::new(
            Fault::Conflict,
            format!("User `{}` is the last active administrator and was not {what}.", user.username),
        )
        .detail("Add or activate another administrator first."));
    }
    Ok(())
}

pub(super) fn is_active_admin(user: &User) -> bool {
    user.is_admin && user.status == Status::Active
}

pub(super) fn check_and_hash(password: &str) -> Result<String, Error> {
    check_password(password)
        .map_err(|why| Error::new(Fault::Invalid, "The password was not accepted.").field("password", why))?;
    passwords::hash(password)
}

/// Checks the form of a new password; the text says what is wrong.
pub(super) fn check_password(password: &str) -> Result<(), String> {
    let (least, most) = (limits::PASSWORD_CHARS_MIN, limits::PASSWORD_BYTES_MAX);
    if password.chars().count() < least {
        return Err(format!("must have at least {least} characters"));
    }
    if password.len() > most {
        return Err(format!("must have at most {most} bytes"));
    }
    if password.chars().any(char::is_control) {
        return Err("must not contain control characters".into());
    }
    Ok(())
}

/// Adds an audit row for something that was done.
pub(super) fn note(
    write: &Write<'_>,
    now: Timestamp,
    actor: &Actor,
    action: &'static str,
    target: &str,
    detail: &str,
) -> Result<(), Error> {
    let entry = Entry {
        actor: actor.clone(),
        action,
        target: target.to_owned(),
        ip: String::new(),
        verdict: Verdict::Ok,
        detail: detail.to_owned(),
    };
    store::audit::insert(write, now, &entry)?;
    Ok(())
}

/// How verbs show a person.
pub(super) fn view(user: &User) -> Value {
    json!({
        "id": user.id, "name": user.username, "email": user.email, "full_name": user.full_name,
        "admin": user.is_admin, "status": user.status, "has_password": user.password_hash.is_some(),
        "created_at": user.created_at, "last_seen_at": user.last_seen_at,
    })
}
