//! Signing in and out, and what may be asked before.

use serde::{Deserialize, Serialize};

use super::auth::{is_foreign_origin, session_cookie};
use super::json::{self, require};
use super::pages::account::password;
use super::pages::login;
use super::reply::Reply;
use super::request::Call;
use crate::domain::access::UserAuth;
use crate::domain::{Error, Fault, sessions, users};

/// Whether a request tries a password, so that it counts as an attempt to sign in.
pub(super) fn tries_a_password(call: &Call<'_>) -> bool {
    match call.method.as_str() {
        "POST" => matches!(
            call.path.as_str(),
            "/api/v2/users/login" | "/api/v2/users/validate-password" | login::PATH | password::PATH
        ),
        "PUT" => call.path.starts_with("/api/v2/users/") && call.path.trim_end_matches('/').ends_with("/password"),
        _ => false,
    }
}

/// `GET …/users/first`: always 200, which clients read as "sign in" (404: "make the first user").
pub(super) fn first_user(_: &Call<'_>) -> Result<Reply, Error> {
    Reply::message(200, "This server has its administrator.")
}

/// `POST …/users/first`: the first start makes the administrator, so nobody on the network can.
pub(super) fn create_first_user(_: &Call<'_>) -> Result<Reply, Error> {
    Err(Error::new(
        Fault::Conflict,
        "The first start of the server has made its administrator; sign in, or ask the operator for an account.",
    ))
}

#[derive(Serialize)]
struct AuthMethods {
    password: Enabled,
    github: GitHub,
    oidc: Oidc,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Serialize)]
struct GitHub {
    enabled: bool,
    default_provider_configured: bool,
}

#[derive(Serialize)]
struct Oidc {
    enabled: bool,
    #[serde(rename = "signInText")]
    sign_in_text: &'static str,
    #[serde(rename = "iconUrl")]
    icon_url: &'static str,
}

/// `GET …/users/authmethods`.
pub(super) fn auth_methods(_: &Call<'_>) -> Result<Reply, Error> {
    Reply::json(
        200,
        &AuthMethods {
            password: Enabled { enabled: true },
            github: GitHub { enabled: false, default_provider_configured: false },
            oidc: Oidc { enabled: false, sign_in_text: "", icon_url: "" },
        },
    )
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Password {
    password: String,
}

#[derive(Serialize)]
struct Valid {
    valid: bool,
    details: String,
}

/// `POST …/users/validate-password`: whether a new password would be taken.
pub(super) fn validate_password(call: &Call<'_>) -> Result<Reply, Error> {
    let body: Password = json::body(&call.body)?;
    let why = users::check_password(&body.password).err();
    Reply::json(200, &Valid { valid: why.is_none(), details: why.unwrap_or_default() })
}

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

/// `POST …/users/login`. A page of another site may not sign its visitor in, as whomever.
pub(super) fn login(call: &Call<'_>) -> Result<Reply, Error> {
    if is_foreign_origin(call) {
        return Err(Error::new(Fault::Forbidden, "Signing in is possible from this server's own pages only."));
    }
    let body: Login = json::body(&call.body)?;
    require(&[("email", &body.email), ("password", &body.password)])?;
    let looks_right = body.email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    if !looks_right {
        return Err(Error::new(Fault::Invalid, "The e-mail address is not one.")
            .field("email", "It needs a name, an @ and a host."));
    }
    let token = sessions::sign_in(&call.service.app, &body.email, &body.password, &call.peer)?;
    Ok(Reply::json(201, &LoggedIn { session_token: &token })?.header("Set-Cookie", session_cookie(call, &token)))
}

/// `POST …/users/logout`: revokes the token that was used.
pub(super) fn logout(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let by = auth.by(&call.peer);
    sessions::revoke(&call.service.app.store, &by, Some(auth.user.id), &auth.key().id, "user.logout")?;
    Ok(Reply::message(200, "You are signed out.")?.header("Set-Cookie", session_cookie(call, "")))
}
