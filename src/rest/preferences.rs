//! What a person may choose for pages and messages that this server does not have: asked for by
//! dashboards, so it is answered, with nothing chosen.

use serde::Serialize;
use serde_json::Value;

use super::auth::Target;
use super::reply::Reply;
use super::request::Call;
use crate::domain::{Error, Fault};

#[derive(Serialize)]
struct Appearance {
    theme_preference: &'static str,
    terminal_font: &'static str,
}

/// `GET …/users/{user}/appearance`.
pub(super) fn appearance(_: &Call<'_>, _: Target) -> Result<Reply, Error> {
    Reply::json(200, &Appearance { theme_preference: "", terminal_font: "" })
}

/// `PUT …/users/{user}/appearance`.
pub(super) fn set_appearance(_: &Call<'_>, _: Target) -> Result<Reply, Error> {
    Err(Error::new(Fault::Invalid, "The pages of this server have no themes and fonts to choose from."))
}

/// `GET …/users/{user}/autofill-parameters`: workspaces are declared without parameters.
pub(super) fn autofill_parameters(_: &Call<'_>, _: Target) -> Result<Reply, Error> {
    Reply::json(200, &[(); 0])
}

/// `POST …/users/{user}/convert-login`.
pub(super) fn convert_login(_: &Call<'_>, _: Target) -> Result<Reply, Error> {
    Err(Error::new(
        Fault::Invalid,
        "People sign in to this server with a password; there is no other way to change to.",
    ))
}

#[derive(Serialize)]
struct UserLoginType {
    login_type: &'static str,
}

/// `GET …/users/{user}/login-type`: one's own only, as the real server has it.
pub(super) fn login_type(_: &Call<'_>, target: Target) -> Result<Reply, Error> {
    if target.caller.user.id != target.user.id {
        return Err(Error::new(Fault::Forbidden, "You may see your own login type only."));
    }
    Reply::json(200, &UserLoginType { login_type: "password" })
}

/// `GET …/users/{user}/notifications/preferences`: none, which the real server writes as `null` (golden 235).
pub(super) fn notifications(_: &Call<'_>, _: Target) -> Result<Reply, Error> {
    Reply::json(200, &Value::Null)
}

/// `PUT …/users/{user}/notifications/preferences`.
pub(super) fn set_notifications(_: &Call<'_>, _: Target) -> Result<Reply, Error> {
    Err(super::notifications::none_are_sent())
}
