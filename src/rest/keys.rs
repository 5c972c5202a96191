//! Session tokens: made, listed, revoked.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::auth::Target;
use super::dto::users::Key;
use super::json;
use super::reply::Reply;
use super::request::Call;
use crate::config::limits;
use crate::domain::access::{self, TokenSpec};
use crate::domain::{Error, Fault};
use crate::store::keys::{self, ApiKey, LoginType, Scope};
use crate::store::users;

#[derive(Serialize)]
struct Created<'a> {
    key: &'a str,
}

/// `POST …/users/{user}/keys`: a session as signing in makes one; `coder login --token` asks for it.
pub(super) fn create_session(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let spec = TokenSpec { name: String::new(), lifetime: limits::REST_TOKEN_LIFETIME, scope: Scope::All };
    create_key(call, &target, LoginType::Password, spec)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CreateToken {
    /// Nanoseconds.
    lifetime: i64,
    scope: String,
    token_name: String,
}

/// `POST …/users/{user}/keys/tokens`.
pub(super) fn create(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let body: CreateToken = json::body(&call.body)?;
    let spec = TokenSpec::new(&body.token_name, body.lifetime, &body.scope)?;
    create_key(call, &target, LoginType::Token, spec)
}

fn create_key(call: &Call<'_>, target: &Target, login_type: LoginType, spec: TokenSpec) -> Result<Reply, Error> {
    let app = &call.service.app;
    let key = access::create_token(app, target.caller.actor(), &target.user, login_type, spec, &call.peer)?;
    Reply::json(201, &Created { key: &key })
}

/// `GET …/users/{user}/keys/tokens`: tokens made on purpose, newest first; of everybody when an
/// administrator asks with `include_all`.
pub(super) fn list(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let all = matches!(call.query.text("include_all"), "true" | "1" | "t" | "T" | "TRUE" | "True");
    let all = all && target.caller.user.is_admin;
    let (found, names) = call.service.app.store.read(|conn| -> Result<_, Error> {
        let found = keys::list(conn, (!all).then_some(target.user.id))?;
        let names: HashMap<_, _> = if all {
            users::list(conn)?.into_iter().map(|user| (user.id, user.username)).collect()
        } else {
            HashMap::from([(target.user.id, target.user.username.clone())])
        };
        Ok((found, names))
    })?;
    let tokens: Vec<Key<'_>> = found
        .iter()
        .filter(|key| key.login_type == LoginType::Token)
        // A removed person's tokens are nobody's.
        .filter_map(|key| Some(Key::of(key, Some(names.get(&key.user_id)?))))
        .collect();
    if tokens.is_empty() {
        // What the real server says here; its clients expect no other (golden 236).
        return Reply::json(200, &Value::Null);
    }
    Reply::json(200, &tokens)
}

#[derive(Serialize)]
struct TokenConfig {
    /// Nanoseconds.
    max_token_lifetime: u128,
}

/// `GET …/users/{user}/keys/tokens/tokenconfig`.
pub(super) fn config(_: &Call<'_>, _: Target) -> Result<Reply, Error> {
    Reply::json(200, &TokenConfig { max_token_lifetime: limits::TOKEN_LIFETIME_MAX.as_nanos() })
}

/// `GET …/users/{user}/keys/tokens/{name}`.
pub(super) fn by_name(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let name = call.param(1);
    let found = call.service.app.store.read(|conn| keys::by_name(conn, target.user.id, name).map_err(Error::from))?;
    show(found, &target)
}

/// `GET …/users/{user}/keys/{key}`.
pub(super) fn by_id(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let id = call.param(1);
    let found = call.service.app.store.read(|conn| keys::by_id(conn, id).map_err(Error::from))?;
    show(found, &target)
}

fn show(found: Option<ApiKey>, target: &Target) -> Result<Reply, Error> {
    match found.filter(|key| key.user_id == target.user.id) {
        Some(key) => Reply::json(200, &Key::of(&key, None)),
        None => Err(Error::new(Fault::NotFound, "The token does not exist, or it is not yours.")),
    }
}

/// `DELETE …/users/{user}/keys/{key}`.
pub(super) fn delete(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let app = &call.service.app;
    access::revoke_token(app, target.caller.actor(), &target.user, call.param(1), "token.revoke", &call.peer)?;
    Ok(Reply::empty(204))
}
