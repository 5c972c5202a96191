//! People: sign-in, sign-out, who somebody is, their key for git.

use serde::{Deserialize, Serialize};

use super::auth::{Target, session_cookie};
use super::dto;
use super::json::{self, require};
use super::reply::Reply;
use super::request::Call;
use crate::domain::access::{self, UserAuth};
use crate::domain::{Error, Fault, git_key};
use crate::model::Timestamp;
use crate::store::audit::{self, Entry, Verdict};
use crate::store::users::{self, GitSshKey};

/// Where sign-ins are counted.
pub(super) const LOGIN_PATH: &str = "/api/v2/users/login";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Login {
    email: String,
    password: String,
}

#[derive(Serialize)]
struct LoggedIn<'a> {
    session_token: &'a str,
}

/// `POST …/users/login`.
pub(super) fn login(call: &Call<'_>) -> Result<Reply, Error> {
    let body: Login = json::body(&call.body)?;
    require(&[("email", &body.email), ("password", &body.password)])?;
    let looks_right = body.email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    if !looks_right {
        return Err(Error::new(Fault::Invalid, "The e-mail address is not one.")
            .field("email", "It needs a name, an @ and a host."));
    }
    let token = access::sign_in(&call.service.app, &body.email, &body.password, &call.peer)?;
    let cookie = session_cookie(call, &token);
    Ok(Reply::json(201, &LoggedIn { session_token: &token })?.header("Set-Cookie", cookie))
}

/// `POST …/users/logout`: revokes the token that was used.
pub(super) fn logout(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    access::revoke_token(&call.service.app, auth.actor(), &auth.user, &auth.key().id, "user.logout", &call.peer)?;
    Ok(Reply::message(200, "You are signed out.")?.header("Set-Cookie", session_cookie(call, "")))
}

/// `GET …/users/{user}`.
pub(super) fn show(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    Reply::json(200, &dto::users::User::of(&target.user, call.service.app.organization_id()))
}

/// `GET …/users/{user}/gitsshkey`: the public half.
pub(super) fn git_ssh_key(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let key = call.service.app.store.read(|conn| users::git_ssh_key(conn, target.user.id).map_err(Error::from))?;
    let Some(key) = key else {
        return Err(
            Error::new(Fault::Internal, "The user has no git SSH key.").detail("Make one: coder publickey --reset.")
        );
    };
    Reply::json(200, &dto::users::PublicKey::of(&key))
}

/// `PUT …/users/{user}/gitsshkey`: a new pair.
pub(super) fn new_git_ssh_key(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let app = &call.service.app;
    let now = Timestamp::now();
    let key = git_key::generate(app.store.sealer(), target.user.id, now)?;
    let entry = Entry {
        actor: target.caller.actor(),
        action: "user.gitsshkey",
        target: target.user.username.clone(),
        ip: call.peer.clone(),
        verdict: Verdict::Ok,
        detail: String::new(),
    };
    let stored = app.store.write(move |write| -> Result<GitSshKey, Error> {
        users::put_git_ssh_key(write, &key)?;
        audit::insert(write, now, &entry)?;
        // The instant of the first pair stays.
        Ok(users::git_ssh_key(write, key.user_id)?.unwrap_or(key))
    })?;
    Reply::json(200, &dto::users::PublicKey::of(&stored))
}
