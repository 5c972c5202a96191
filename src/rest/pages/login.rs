//! Signing in and out with a browser.

use super::html::{Html, fill, text};
use super::{form as sent_form, page, see_other, sign_in_first, signed_in};
use crate::domain::{Error, Fault, sessions};
use crate::rest::auth::{csrf_token, session_cookie};
use crate::rest::reply::Reply;
use crate::rest::request::Call;

/// Where the form is and where it goes.
pub(in crate::rest) const PATH: &str = "/login";

/// Where people go who came for nothing else.
const HOME: &str = "/";

/// `GET /login`.
pub(in crate::rest) fn form(call: &Call<'_>) -> Result<Reply, Error> {
    let redirect = destination(call.query.text("redirect"));
    if signed_in(call)?.is_some() {
        return Ok(see_other(redirect));
    }
    Ok(show(call, 200, redirect, "", None))
}

/// `POST /login`.
pub(in crate::rest) fn sign_in(call: &Call<'_>) -> Result<Reply, Error> {
    let fields = sent_form(call)?;
    let redirect = destination(fields.text("redirect"));
    let name = fields.text("name").trim();
    let password = fields.text("password");
    if name.is_empty() || password.is_empty() {
        return Ok(show(call, 400, redirect, name, Some("Both your name and your password are needed.")));
    }
    match sessions::sign_in(&call.service.app, name, password, &call.peer) {
        Ok(token) => Ok(see_other(redirect).header("Set-Cookie", session_cookie(call, &token))),
        Err(error) if error.fault == Fault::Unauthenticated => {
            Ok(show(call, 401, redirect, name, Some(&error.message)))
        }
        Err(error) => Err(error),
    }
}

/// `POST /logout`: revokes the session of this browser.
pub(in crate::rest) fn sign_out(call: &Call<'_>) -> Result<Reply, Error> {
    sent_form(call)?;
    if let Some(user) = signed_in(call)? {
        let id = user.key().id.as_str();
        sessions::revoke(&call.service.app.store, &user.by(&call.peer), Some(user.user.id), id, "user.logout")?;
    }
    Ok(see_other(PATH).header("Set-Cookie", session_cookie(call, "")))
}

/// `GET /login/device`: the real server's page for signing in elsewhere; here it is done on this one.
pub(in crate::rest) fn elsewhere(_: &Call<'_>) -> Result<Reply, Error> {
    Ok(sign_in_first("/cli-auth"))
}

fn show(call: &Call<'_>, status: u16, redirect: &str, name: &str, problem: Option<&str>) -> Reply {
    let problem = match problem {
        Some(problem) => fill(include_str!("problem.html"), &[("message", text(problem))]),
        None => Html::default(),
    };
    let why = match redirect {
        "/cli-auth" => "Then you get a token for the command line or your editor.",
        _ => "",
    };
    let focus = |here: bool| Html::of(if here { " autofocus" } else { "" });
    let content = fill(
        include_str!("login.html"),
        &[
            ("name_focus", focus(name.is_empty())),
            ("password_focus", focus(!name.is_empty())),
            ("problem", problem),
            ("why", text(why)),
            ("name", text(name)),
            ("redirect", text(redirect)),
            ("csrf", text(csrf_token(call))),
        ],
    );
    page(call, status, "Sign in", None, content)
}

/// Where to go after signing in: a path of this server, else home. `//host` and `/\host` name other
/// servers.
pub(super) fn destination(asked: &str) -> &str {
    let other = asked.starts_with("//") || asked.contains('\\');
    let good = asked.starts_with('/') && !other && asked.bytes().all(|byte| byte.is_ascii_graphic());
    if good && asked.split('?').next() != Some(PATH) { asked } else { HOME }
}

/// A path as the value of a query parameter.
pub(super) fn encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_to_nothing_but_this_server() {
        for good in ["/", "/cli-auth", "/@alice/dev?x=1", "/a//b"] {
            assert_eq!(destination(good), good);
        }
        for bad in [
            "",
            "cli-auth",
            "//else.example",
            "/\\else.example",
            "\\\\else.example",
            "https://else.example",
            "/a\r\nb",
            "/a b",
            "/\t/else.example",
            "javascript:alert(1)",
            "/ü",
            "/login",
            "/login?redirect=%2Flogin",
        ] {
            assert_eq!(destination(bad), HOME, "{bad:?}");
        }
        assert_eq!(encode("/cli-auth"), "%2Fcli-auth");
    }
}
