//! People: who there is, and what administrators do with them. The same rules as for `moorline user`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::auth::{Target, administrator};
use super::dto::users::{PublicKey, User, role_names};
use super::json;
use super::paging::Page;
use super::reply::Reply;
use super::request::Call;
use crate::domain::access::UserAuth;
use crate::domain::terms::Terms;
use crate::domain::users::{self, NewUser};
use crate::domain::{Error, Fault, git_key};
use crate::model::Timestamp;
use crate::store;
use crate::store::users::Status;

fn show_user(call: &Call<'_>, status: u16, user: &store::users::User) -> Result<Reply, Error> {
    Reply::json(status, &User::of(user, call.service.app.organization_id()))
}

/// `GET …/users/{user}`.
pub(super) fn show(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    show_user(call, 200, &target.user)
}

#[derive(Serialize)]
struct Users<'a> {
    users: Vec<User<'a>>,
    count: usize,
}

/// `GET …/users`: everybody for administrators, oneself for others (golden 227).
pub(super) fn list(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let page = Page::of(call)?;
    let wanted = Wanted::of(call.query.text("q"))?;
    let app = &call.service.app;
    let mut found = match auth.user.is_admin {
        true => app.store.read(|conn| store::users::list(conn).map_err(Error::from))?,
        false => vec![auth.user],
    };
    found.retain(|user| wanted.fits(user));
    let count = found.len();
    let after = page.after_id;
    let known = after.and_then(|id| found.iter().position(|user| user.id.0 == id));
    let organization = app.organization_id();
    let users = page.take(found.iter().skip(known.map_or(0, |at| at + 1))).map(|user| User::of(user, organization));
    Reply::json(200, &Users { users: users.collect(), count })
}

/// What `q=` asks for (coder v2.24.0 coderd/searchquery/search.go Users).
#[derive(Default)]
pub(super) struct Wanted {
    search: Vec<String>,
    status: Vec<String>,
    roles: Vec<String>,
    login_types: Vec<String>,
    seen: (Option<Timestamp>, Option<Timestamp>),
    created: (Option<Timestamp>, Option<Timestamp>),
    /// Nobody here has an account at GitHub.
    nobody: bool,
}

impl Wanted {
    pub(super) fn of(text: &str) -> Result<Wanted, Error> {
        let mut wanted = Wanted::default();
        for (key, value) in Terms::parse(text)?.0 {
            let list = || value.split(',').map(str::to_owned);
            let instant = |key: &str| {
                let wrong = || Error::new(Fault::Invalid, "The search makes no sense.");
                Timestamp::parse(&value.to_uppercase())
                    .map(Some)
                    .map_err(|_| wrong().field(key.to_owned(), "An instant like 2026-01-31T00:00:00Z is expected."))
            };
            match key.as_str() {
                "" | "search" => wanted.search.push(value),
                "status" => wanted.status.extend(list()),
                "role" => wanted.roles.extend(list()),
                "login_type" => wanted.login_types.extend(list()),
                "last_seen_after" => wanted.seen.0 = instant("last_seen_after")?,
                "last_seen_before" => wanted.seen.1 = instant("last_seen_before")?,
                "created_after" => wanted.created.0 = instant("created_after")?,
                "created_before" => wanted.created.1 = instant("created_before")?,
                "github_com_user_id" => wanted.nobody |= value != "0",
                other => return Err(Terms::unknown(other)),
            }
        }
        Ok(wanted)
    }

    pub(super) fn fits(&self, user: &store::users::User) -> bool {
        let text = [&user.username, &user.email, &user.full_name].map(|text| text.to_lowercase());
        let found = |word: &String| text.iter().any(|text| text.contains(word.as_str()));
        let one_of = |list: &[String], word: &str| list.is_empty() || list.iter().any(|one| one == word);
        let seen = user.last_seen_at.unwrap_or(Timestamp::GO_ZERO);
        let within = |range: &(Option<Timestamp>, Option<Timestamp>), at: Timestamp| {
            range.0.is_none_or(|from| at >= from) && range.1.is_none_or(|to| at <= to)
        };
        let has_role = |role: &String| role == "member" || role_names(user).contains(&role.as_str());
        !self.nobody
            && self.search.iter().all(found)
            && one_of(&self.status, user.status.as_str())
            && one_of(&self.login_types, "password")
            && (self.roles.is_empty() || self.roles.iter().any(has_role))
            && within(&self.seen, seen)
            && within(&self.created, user.created_at)
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CreateUser {
    email: String,
    username: String,
    name: String,
    password: String,
    login_type: String,
    user_status: String,
    organization_ids: Vec<String>,
    /// By clients older than v2.18.
    organization_id: String,
}

/// `POST …/users`.
pub(super) fn create(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    administrator(&auth, "Only administrators can add users.")?;
    let body: CreateUser = json::body(&call.body)?;
    let app = &call.service.app;
    let refusal = || Error::new(Fault::Invalid, format!("User `{}` was not added.", body.username));
    let organization = app.organization_id();
    let named = body.organization_ids.iter().chain([&body.organization_id]).filter(|id| !id.is_empty());
    if !named.into_iter().all(|id| Uuid::try_parse(id).is_ok_and(|id| id == organization)) {
        return Err(refusal().field("organization_ids", "This server has one organization, and this is not its id."));
    }
    let password = match (body.login_type.as_str(), body.password.as_str()) {
        ("none", "") => None,
        ("none", _) => return Err(refusal().field("password", "Who has no login has no password.")),
        ("" | "password", password) => Some(password.to_owned()),
        _ => {
            return Err(refusal().field("login_type", "One of password and none: people sign in here with a password."));
        }
    };
    // "Dormant" is how the real server calls people who have not been here yet.
    if !matches!(body.user_status.as_str(), "" | "active" | "dormant") {
        return Err(refusal().field("user_status", "A new user is active."));
    }
    let new = NewUser {
        name: body.username.clone(),
        email: body.email.clone(),
        full_name: body.name.clone(),
        admin: false,
        password,
    };
    let user = users::add(&app.store, &auth.by(&call.peer), new).map_err(in_their_words)?;
    show_user(call, 201, &user)
}

/// Field names as REST clients sent them.
fn in_their_words(mut error: Error) -> Error {
    for field in &mut error.fields {
        field.field = match field.field.as_str() {
            "name" => "username".into(),
            "full_name" => "name".into(),
            _ => continue,
        };
    }
    error
}

/// `DELETE …/users/{user}`.
pub(super) fn delete(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    remove(call, &target.caller, &target.user, false)?;
    Reply::message(200, "The user was removed.")
}

/// Removes somebody else; gives the names of the workspaces that went, too.
pub(super) fn remove(
    call: &Call<'_>,
    caller: &UserAuth,
    user: &store::users::User,
    with_workspaces: bool,
) -> Result<Vec<String>, Error> {
    if caller.user.id == user.id {
        return Err(Error::new(Fault::Forbidden, "You cannot remove yourself; another administrator can."));
    }
    administrator(caller, "Only administrators can remove users.")?;
    let by = caller.by(&call.peer);
    let (_, gone) = users::remove(&call.service.app.store, &by, &user.id.to_string(), with_workspaces)?;
    Ok(gone)
}

/// `PUT …/users/{user}/status/suspend`.
pub(super) fn suspend(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let user = set_status(call, &target.caller, &target.user, Status::Suspended)?;
    show_user(call, 200, &user)
}

/// `PUT …/users/{user}/status/activate`.
pub(super) fn activate(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let user = set_status(call, &target.caller, &target.user, Status::Active)?;
    show_user(call, 200, &user)
}

/// Lets a person sign in, or stops somebody else from doing so.
pub(super) fn set_status(
    call: &Call<'_>,
    caller: &UserAuth,
    user: &store::users::User,
    status: Status,
) -> Result<store::users::User, Error> {
    if status == Status::Suspended && caller.user.id == user.id {
        return Err(Error::new(Fault::Invalid, "You cannot suspend yourself; another administrator can."));
    }
    administrator(caller, "Only administrators can suspend and activate users.")?;
    users::set_status(&call.service.app.store, &caller.by(&call.peer), &user.id.to_string(), status)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Profile {
    username: String,
    name: String,
}

/// `PUT …/users/{user}/profile`: the full name; the user name by administrators only, since host names and
/// declarations are made of it.
pub(super) fn set_profile(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let body: Profile = json::body(&call.body)?;
    json::require(&[("username", &body.username)])?;
    if body.username != target.user.username {
        administrator(&target.caller, "Only administrators can change user names.")?;
    }
    let by = target.by(call);
    let user = users::set_profile(&call.service.app.store, &by, &target.id(), &body.username, &body.name)?;
    show_user(call, 200, &user)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NewPassword {
    old_password: String,
    password: String,
}

/// `PUT …/users/{user}/password`: one's own with the old one, others' by administrators. All tokens of the
/// person are revoked, the one of this request too if it is theirs.
pub(super) fn set_password(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let body: NewPassword = json::body(&call.body)?;
    let (store, by) = (&call.service.app.store, target.by(call));
    if target.caller.user.id == target.user.id {
        json::require(&[("old_password", &body.old_password), ("password", &body.password)])?;
        users::change_own_password(store, &by, &target.id(), &body.old_password, &body.password)?;
    } else {
        users::set_password(store, &by, &target.id(), &body.password)?;
    }
    Ok(Reply::empty(204))
}

#[derive(Serialize)]
struct Roles {
    roles: &'static [&'static str],
    organization_roles: std::collections::BTreeMap<Uuid, [&'static str; 0]>,
}

/// `GET …/users/{user}/roles`.
pub(super) fn roles(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let organization_roles = [(call.service.app.organization_id(), [])].into();
    Reply::json(200, &Roles { roles: role_names(&target.user), organization_roles })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SetRoles {
    roles: Vec<String>,
}

/// `PUT …/users/{user}/roles`: `owner` makes an administrator; there are no other roles.
pub(super) fn set_roles(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    may_change_roles(&target.caller, &target.user)?;
    let body: SetRoles = json::body(&call.body)?;
    if let Some(other) = body.roles.iter().find(|role| !matches!(role.as_str(), "owner" | "member")) {
        let shown: String = other.chars().take(64).collect();
        return Err(Error::new(Fault::Invalid, "The roles were not changed.")
            .field("roles", format!("{shown:?} is no role of this server; owner (administrator) is the only one.")));
    }
    let admin = body.roles.iter().any(|role| role == "owner");
    let user = set_admin(call, &target.caller, &target.user, admin)?;
    show_user(call, 200, &user)
}

fn may_change_roles(caller: &UserAuth, user: &store::users::User) -> Result<(), Error> {
    administrator(caller, "Only administrators can change roles.")?;
    if caller.user.id == user.id {
        return Err(Error::new(Fault::Invalid, "You cannot change your own roles; another administrator can."));
    }
    Ok(())
}

/// Makes somebody else an administrator, or takes that away.
pub(super) fn set_admin(
    call: &Call<'_>,
    caller: &UserAuth,
    user: &store::users::User,
    admin: bool,
) -> Result<store::users::User, Error> {
    may_change_roles(caller, user)?;
    users::set_admin(&call.service.app.store, &caller.by(&call.peer), &user.id.to_string(), admin)
}

/// `GET …/users/{user}/gitsshkey`: the public half.
pub(super) fn git_ssh_key(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let read = |conn: &rusqlite::Connection| store::users::git_ssh_key(conn, target.user.id).map_err(Error::from);
    let Some(key) = call.service.app.store.read(read)? else {
        return Err(
            Error::new(Fault::Internal, "The user has no git SSH key.").detail("Make one: coder publickey --reset.")
        );
    };
    Reply::json(200, &PublicKey::of(&key))
}

/// `PUT …/users/{user}/gitsshkey`: a new pair.
pub(super) fn new_git_ssh_key(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    Reply::json(200, &PublicKey::of(&git_key::renew(&call.service.app.store, &target.by(call), &target.user)?))
}
