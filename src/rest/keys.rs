//! Session tokens: made, listed, revoked.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::auth::Target;
use super::dto::users::Key;
use super::json;
use super::reply::Reply;
use super::request::Call;
use crate::domain::sessions::{self, TokenSpec};
use crate::domain::{Error, Fault};
use crate::model::UserId;
use crate::store::keys::{self, ApiKey, LoginType};

#[derive(Serialize)]
struct Created<'a> {
    key: &'a str,
}

/// `POST …/users/{user}/keys`: a session as signing in makes one; `coder login --token` asks for it.
pub(super) fn create_session(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    create_key(call, &target, TokenSpec::session(&call.service.app))
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
    let most = call.service.app.settings.max_token_lifetime;
    create_key(call, &target, TokenSpec::token(&body.token_name, body.lifetime, &body.scope, most)?)
}

fn create_key(call: &Call<'_>, target: &Target, spec: TokenSpec) -> Result<Reply, Error> {
    let key = sessions::create(&call.service.app.store, &target.by(call), &target.user, spec)?;
    Reply::json(201, &Created { key: &key.to_string() })
}

/// `GET …/users/{user}/keys`: sessions and tokens alike, newest first, so that a person can find and revoke what
/// they do not know. The real server has no such list.
pub(super) fn list(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let found = call.service.app.store.read(|conn| sessions::list(conn, Some(&target.user)))?;
    let keys: Vec<Key<'_>> = found.iter().map(|(key, name)| Key::of(key, Some(name))).collect();
    Reply::json(200, &keys)
}

/// `GET …/users/{user}/keys/tokens`: tokens made on purpose, newest first; of everybody when an
/// administrator asks with `include_all`.
pub(super) fn list_tokens(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let all = matches!(call.query.text("include_all"), "true" | "1" | "t" | "T" | "TRUE" | "True");
    let of = if all && target.caller.user.is_admin { None } else { Some(&target.user) };
    let found = call.service.app.store.read(|conn| sessions::list(conn, of))?;
    let made_on_purpose = found.iter().filter(|(key, _)| key.login_type == LoginType::Token);
    let tokens: Vec<Key<'_>> = made_on_purpose.map(|(key, name)| Key::of(key, Some(name))).collect();
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
pub(super) fn config(call: &Call<'_>, _: Target) -> Result<Reply, Error> {
    Reply::json(200, &TokenConfig { max_token_lifetime: call.service.app.settings.max_token_lifetime.as_nanos() })
}

/// `GET …/users/{user}/keys/tokens/{name}`.
pub(super) fn by_name(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let name = call.param(1);
    let found = call.service.app.store.read(|conn| keys::by_name(conn, target.user.id, name).map_err(Error::from))?;
    show(found)
}

/// `GET …/users/{user}/keys/{key}`.
pub(super) fn by_id(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let id = call.param(1);
    let found = call.service.app.store.read(|conn| keys::by_id(conn, id).map_err(Error::from))?;
    show(found.filter(|key| owner(&target).is_none_or(|owner| key.user_id == owner)))
}

/// Whose keys the caller finds by id: the person's in the path, or for an administrator anybody's, since
/// `coder tokens remove ID` names nobody but `me` (coder v2.24.0 cli/tokens.go).
fn owner(target: &Target) -> Option<UserId> {
    (!target.caller.user.is_admin).then_some(target.user.id)
}

fn show(found: Option<ApiKey>) -> Result<Reply, Error> {
    match found {
        Some(key) => Reply::json(200, &Key::of(&key, None)),
        None => Err(Error::new(Fault::NotFound, "The token does not exist, or it is not yours.")),
    }
}

/// `DELETE …/users/{user}/keys/{key}`.
pub(super) fn delete(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    let store = &call.service.app.store;
    sessions::revoke(store, &target.by(call), owner(&target), call.param(1), "token.revoke")?;
    Ok(Reply::empty(204))
}
