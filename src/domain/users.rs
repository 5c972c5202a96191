//! People: who is added, changed, suspended and removed. Whoever is meant is named by name or id: no name
//! has the form of an id.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Error, Fault, git_key, names, passwords, workspaces};
use crate::config::limits;
use crate::model::{Timestamp, UserId};
use crate::ops::hub::Topic;
use crate::store::audit::{By, Entry, Verdict};
use crate::store::users::{Status, User};
use crate::store::{self, Store, Write};

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

/// Adds a person with a git key pair.
pub fn add(store: &Store, by: &By, new: NewUser) -> Result<User, Error> {
    let mut error = Error::new(Fault::Invalid, format!("User `{}` was not added.", new.name));
    if let Err(why) = names::check_user(&new.name) {
        error = error.field("name", why);
    }
    if let Err(why) = names::check_email(&new.email) {
        error = error.field("email", why);
    }
    if let Err(why) = names::check_full_name(&new.full_name) {
        error = error.field("full_name", why);
    }
    if !error.fields.is_empty() {
        return Err(error);
    }
    let password_hash = new.password.as_deref().map(check_and_hash).transpose()?;
    let handle = store.clone();
    let by = by.clone();
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
        insert(write, &handle, &by, new, password_hash, now)
    })
}

/// Adds a person who was checked before, inside a write.
pub(super) fn insert(
    write: &Write<'_>,
    store: &Store,
    by: impl Into<By>,
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
    note(write, now, by, "user.create", &user.username, detail)?;
    Ok(user)
}

/// Lets a person sign in again, or stops them from doing so.
pub fn set_status(store: &Store, by: &By, name: &str, status: Status) -> Result<User, Error> {
    let (name, by) = (name.to_owned(), by.clone());
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
        note(write, now, &by, action, &user.username, "")?;
        Ok(user)
    })
}

/// Removes a person with all tokens. They may own workspaces only if `with_workspaces` says that
/// these shall go, too; gives the names of those that went.
pub fn remove(store: &Store, by: &By, name: &str, with_workspaces: bool) -> Result<(User, Vec<String>), Error> {
    let (name, by) = (name.to_owned(), by.clone());
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
            .detail(format!(
                "Remove the workspaces first, or both with: moorline user remove {} --with-workspaces",
                user.username
            )));
        }
        for workspace in &owned {
            workspaces::remove_in(write, &by.actor, workspace, now)?;
        }
        remove_in(write, &by, &user, now)?;
        Ok((user, titles))
    })
}

/// Removes a person who owns nothing and need not stay, inside a write.
pub(super) fn remove_in(write: &Write<'_>, by: impl Into<By>, user: &User, now: Timestamp) -> Result<(), Error> {
    store::keys::delete_of_user(write, user.id)?;
    store::external_auth::delete_of_user(write, user.id)?;
    store::users::delete_git_ssh_key(write, user.id)?;
    store::users::remove(write, user.id, now)?;
    write.publish(Topic::UserRevoked(user.id));
    note(write, now, by, "user.remove", &user.username, "")
}

/// Replaces a person's password and revokes all of their tokens; gives how many there were.
pub fn set_password(store: &Store, by: &By, name: &str, password: &str) -> Result<(User, usize), Error> {
    let hash = check_and_hash(password)?;
    let (name, by) = (name.to_owned(), by.clone());
    store.write(move |write| {
        let now = Timestamp::now();
        let mut user = find(write, &name)?;
        let revoked = set_hash_in(write, &by, &mut user, hash, now)?;
        Ok((user, revoked))
    })
}

/// Stores a password hash and revokes all tokens, as the real server does (coderd/users.go
/// putUserPassword, v2.24.0): whoever knew the old password may have made some.
pub(super) fn set_hash_in(
    write: &Write<'_>,
    by: impl Into<By>,
    user: &mut User,
    hash: String,
    now: Timestamp,
) -> Result<usize, Error> {
    user.password_hash = Some(hash);
    user.updated_at = now;
    store::users::update(write, user)?;
    let revoked = store::keys::delete_of_user(write, user.id)?;
    write.publish(Topic::UserRevoked(user.id));
    note(write, now, by, "user.password", &user.username, "")?;
    Ok(revoked)
}

/// Replaces one's own password, which needs the old one.
pub fn change_own_password(store: &Store, by: &By, name: &str, old: &str, new: &str) -> Result<(), Error> {
    let refuse = |field: &str, why: &str| {
        Error::new(Fault::Invalid, "The password was not changed.").field(field.to_owned(), why.to_owned())
    };
    check_password(new).map_err(|why| refuse("password", &why))?;
    let known = store.read(|conn| find(conn, name))?.password_hash;
    if !passwords::verify(old, known.as_deref()) {
        let now = Timestamp::now();
        let (name, by) = (name.to_owned(), by.clone());
        store.write(move |write| {
            let target = find(write, &name)?.username;
            let entry = Entry {
                actor: by.actor,
                action: "user.password",
                target,
                ip: by.ip,
                verdict: Verdict::Refused,
                detail: "the old password was wrong".into(),
            };
            store::audit::insert(write, now, &entry).map_err(Error::from)
        })?;
        return Err(refuse("old_password", "It is not the present password."));
    }
    if old == new {
        return Err(refuse("password", "It is the old one."));
    }
    let hash = passwords::hash(new)?;
    let (name, by) = (name.to_owned(), by.clone());
    store.write(move |write| {
        let mut user = find(write, &name)?;
        if user.password_hash != known {
            return Err(Error::new(Fault::Conflict, "The password was changed meanwhile; try again."));
        }
        set_hash_in(write, &by, &mut user, hash, Timestamp::now()).map(drop)
    })
}

/// Changes what a person is called.
pub fn set_profile(store: &Store, by: &By, name: &str, username: &str, full_name: &str) -> Result<User, Error> {
    let mut error = Error::new(Fault::Invalid, "The profile was not changed.");
    if let Err(why) = names::check_full_name(full_name) {
        error = error.field("name", why);
    }
    let (name, by) = (name.to_owned(), by.clone());
    let (username, full_name) = (username.to_owned(), full_name.to_owned());
    store.write(move |write| {
        let now = Timestamp::now();
        let mut user = find(write, &name)?;
        // A name that stays may be older than today's rules.
        if user.username != username
            && let Err(why) = names::check_user(&username)
        {
            error = error.field("username", why);
        }
        if !error.fields.is_empty() {
            return Err(error);
        }
        if let Some(other) = store::users::by_username(write, &username)?
            && other.id != user.id
        {
            let message = format!("There is a user `{}` already.", other.username);
            return Err(Error::new(Fault::Conflict, message).field("username", "It is in use and must be unique."));
        }
        if user.username == username && user.full_name == full_name {
            return Ok(user);
        }
        let old = std::mem::replace(&mut user.username, username);
        user.full_name = full_name;
        user.updated_at = now;
        store::users::update(write, &user)?;
        let detail = if old == user.username { String::new() } else { format!("was {old}") };
        note(write, now, &by, "user.update", &user.username, &detail)?;
        Ok(user)
    })
}

/// Makes a person an administrator, or takes that away. What they have open was opened with other rights, so
/// it ends.
pub fn set_admin(store: &Store, by: &By, name: &str, admin: bool) -> Result<User, Error> {
    let (name, by) = (name.to_owned(), by.clone());
    store.write(move |write| {
        let now = Timestamp::now();
        let mut user = find(write, &name)?;
        if user.is_admin == admin {
            return Ok(user);
        }
        if !admin {
            keep_an_admin(write, &user, "changed")?;
        }
        user.is_admin = admin;
        user.updated_at = now;
        store::users::update(write, &user)?;
        write.publish(Topic::UserRevoked(user.id));
        note(write, now, &by, "user.update", &user.username, if admin { "admin" } else { "no admin" })?;
        Ok(user)
    })
}

/// The living person with this name or id.
pub fn find(conn: &rusqlite::Connection, name: &str) -> Result<User, Error> {
    let found = match Uuid::try_parse(name) {
        Ok(id) => store::users::by_id(conn, UserId(id))?,
        Err(_) => store::users::by_username(conn, name)?,
    };
    found.ok_or_else(|| Error::new(Fault::NotFound, format!("There is no user `{name}`.")))
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
pub fn check_password(password: &str) -> Result<(), String> {
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
pub fn note(
    write: &Write<'_>,
    now: Timestamp,
    by: impl Into<By>,
    action: &'static str,
    target: &str,
    detail: &str,
) -> Result<(), Error> {
    let by = by.into();
    let entry = Entry {
        actor: by.actor,
        action,
        target: target.to_owned(),
        ip: by.ip,
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
