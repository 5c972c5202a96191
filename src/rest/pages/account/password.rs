//! A new password for oneself.

use super::super::html::{fill, text};
use super::super::parts::{self, Desk, Form, Teller};
use crate::config::limits;
use crate::domain::{Error, Fault, sessions, users};
use crate::rest::auth::session_cookie;
use crate::rest::reply::Reply;
use crate::rest::request::Call;

/// Where the form is and where it goes.
pub(in crate::rest) const PATH: &str = "/settings/security";
const FIELDS: &[&str] = &["old_password", "password", "again"];

/// `GET /settings/security`.
pub(in crate::rest) fn show(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account(call, |desk| Ok(page(desk, 200, Form::new(FIELDS))))
}

fn page(desk: &Desk<'_>, status: u16, form: Form<'_>) -> Reply {
    let new = " autocomplete=\"new-password\" required";
    let hint = format!("At least {} characters.", limits::PASSWORD_CHARS_MIN);
    let values = [
        ("csrf", desk.csrf()),
        ("name", text(&desk.user.user.username)),
        ("problem", form.problem()),
        ("old", form.password("old_password", "Present password", "", " autocomplete=\"current-password\" required")),
        ("new", form.password("password", "New password", &hint, new)),
        ("again", form.password("again", "New password once more", "", new)),
    ];
    desk.page(status, "Password", fill(include_str!("password.html"), &values))
}

/// `POST /settings/security`: all tokens of the person are revoked, and this browser is signed in anew.
pub(in crate::rest) fn change(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account_form(call, |desk, fields| {
        let (old, new) = (fields.text("old_password"), fields.text("password"));
        let app = &call.service.app;
        let changed = if new == fields.text("again") {
            users::change_own_password(&app.store, &desk.by(), &desk.user.user.id.to_string(), old, new)
        } else {
            let error = Error::new(Fault::Invalid, "The password was not changed.");
            Err(error.field("again", "It is not what stands above."))
        };
        if let Err(error) = changed {
            let (status, error) = parts::mendable(error)?;
            return Ok(page(desk, status, Form::again(FIELDS, fields, &error)));
        }
        let token = sessions::sign_in(app, &desk.user.user.username, new, &call.peer)?;
        let session = token.split('-').next().unwrap_or_default();
        let said = "Your password was changed. Whatever else was signed in as you is signed out.";
        Ok(Teller::of(call, session).done(PATH, said).header("Set-Cookie", session_cookie(call, &token)))
    })
}
