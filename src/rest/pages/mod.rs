//! Pages for people with a browser: sign-in, a token for the command line, workspaces, terminals, one's account, the
//! administration.
//!
//! The server writes them whole, and they load nothing from elsewhere. Scripts keep some of them up to date;
//! only the terminal needs its script. A form is taken when the browser says that it comes from a page of
//! this server and when it carries the token of the browser's cookie.

pub(super) mod account;
pub(super) mod admin;
mod agents;
pub(super) mod assets;
pub(super) mod home;
pub(super) mod external_auth;
pub(super) mod html;
pub(super) mod login;
mod parts;
pub(super) mod sessions;
pub(super) mod terminal;
pub(super) mod workspace;

use html::{Html, fill, text};
use subtle::ConstantTimeEq;

use super::auth;
use super::envelope::Envelope;
use super::reply::Reply;
use super::request::{Call, Query};
use crate::domain::access::{self, Refused, UserAuth};
use crate::domain::{Error, Fault};
use crate::model::{MICROS_PER_SECOND, Timestamp};

const LAYOUT: &str = include_str!("layout.html");

/// What each page may do: show itself in our style, and send its forms here.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
    frame-ancestors 'none'; base-uri 'none'";
/// What those with a script may do besides: run ours, and ask this server.
const SCRIPT_POLICY: &str = "; script-src 'self'; connect-src 'self'";

/// The menu: path, label, whether only administrators see it.
const MENU: &[(&str, &str, bool)] =
    &[("/", "Workspaces", false), ("/sessions", "Account", false), ("/admin", "Administration", true)];

/// A whole page. `user` is who is signed in.
pub(super) fn page(call: &Call<'_>, status: u16, title: &str, user: Option<&UserAuth>, content: Html) -> Reply {
    match user {
        Some(user) => Frame::of(call, user).page(status, title, content),
        None => show(status, title, Html::default(), None, content),
    }
}

/// What pages of a person have around their content; outlives the request.
#[derive(Clone)]
struct Frame {
    menu: Html,
    /// For the page's own forms.
    csrf: Html,
}

impl Frame {
    fn of(call: &Call<'_>, user: &UserAuth) -> Frame {
        let csrf = text(auth::csrf_token(call));
        let items = MENU.iter().filter(|(_, _, is_admins)| user.user.is_admin || !is_admins).map(|(path, label, _)| {
            let below = |path: &str| call.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
            let current = match (call.path == *path, *path) {
                (true, _) => " aria-current=\"page\"",
                // One is in its part of the pages; workspaces have paths of their own.
                (_, "/") if call.path.starts_with("/@") => " aria-current=\"true\"",
                (_, "/sessions") if below("/settings") => " aria-current=\"true\"",
                (_, path) if path != "/" && below(path) => " aria-current=\"true\"",
                _ => "",
            };
            let values = [("path", text(path)), ("label", text(label)), ("current", Html::of(current))];
            fill(include_str!("menu-item.html"), &values)
        });
        let values = [("items", Html::join(items)), ("name", text(&user.user.username)), ("csrf", csrf.clone())];
        Frame { menu: fill(include_str!("menu.html"), &values), csrf }
    }

    fn page(self, status: u16, title: &str, content: Html) -> Reply {
        show(status, title, self.menu, None, content)
    }

    /// A page that one of our scripts keeps alive: `script` is its name among the assets.
    fn live(self, title: &str, script: &'static str, content: Html) -> Reply {
        show(200, title, self.menu, Some(script), content)
    }
}

fn show(status: u16, title: &str, menu: Html, script: Option<&'static str>, content: Html) -> Reply {
    let folder = text(&assets::folder());
    let tag = script.map(|name| fill(include_str!("script.html"), &[("static", folder.clone()), ("name", text(name))]));
    let page = fill(
        LAYOUT,
        &[
            ("title", text(title)),
            ("static", folder),
            ("script", tag.unwrap_or_default()),
            ("menu", menu),
            ("content", content),
        ],
    );
    let more = if script.is_some() { SCRIPT_POLICY } else { "" };
    guarded(status, page, format!("{POLICY}{more}"))
}

/// Markup as an answer, with what tells browsers to be careful with it.
fn guarded(status: u16, page: Html, policy: String) -> Reply {
    Reply {
        status,
        content_type: Some("text/html; charset=utf-8"),
        headers: Vec::new(),
        body: page.into_bytes(),
        length: None,
    }
    .header("Content-Security-Policy", policy)
    // Pages show what is one person's own, and once even a token.
    .header("Cache-Control", "no-store")
    .header("Cross-Origin-Opener-Policy", "same-origin")
    .header("Cross-Origin-Resource-Policy", "same-origin")
    // Not `no-referrer`: browsers would then hide from us, too, where a form comes from.
    .header("Referrer-Policy", "same-origin")
    .header("X-Frame-Options", "DENY")
}

/// Sends the browser on to a path of this server.
pub(super) fn see_other(path: impl Into<String>) -> Reply {
    Reply::empty(303).header("Location", path.into()).header("Cache-Control", "no-store")
}

/// Sends the browser to sign in, and then back to `path`.
fn sign_in_first(path: &str) -> Reply {
    see_other(format!("{}?redirect={}", login::PATH, login::encode(path)))
}

/// Path and query of a request.
fn here(call: &Call<'_>) -> String {
    format!("{}{}", call.path, query(call))
}

/// The query of a request with its question mark, if it has one.
fn query(call: &Call<'_>) -> String {
    let pairs: Vec<String> =
        call.query.pairs().map(|(key, value)| format!("{}={}", login::encode(key), login::encode(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// Whether something may be called so: people, workspaces, agents.
fn is_name(name: &str) -> bool {
    crate::domain::names::check(name).is_ok()
}

/// Who is signed in, if anybody is.
fn signed_in(call: &Call<'_>) -> Result<Option<UserAuth>, Error> {
    let app = &call.service.app;
    let now = Timestamp::now();
    match app.store.read(|conn| access::user_in(conn, auth::token(call), now)) {
        Ok(user) => {
            access::note_use(app, &user, &call.peer, now);
            Ok(Some(user))
        }
        Err(Refused::Denied(_)) => Ok(None),
        Err(Refused::Failed(error)) => Err(error),
    }
}

/// The fields of a form that was sent from a page of this server.
fn form(call: &Call<'_>) -> Result<Query, Error> {
    let refuse = |message: &str| Err(Error::new(Fault::Forbidden, message));
    let foreign = "This form was sent by a page of another site, so nothing was done.";
    if call.header("Sec-Fetch-Site").is_some_and(|site| site != "same-origin") {
        return refuse(foreign);
    }
    if auth::is_foreign_origin(call) {
        return refuse(foreign);
    }
    let fields = std::str::from_utf8(&call.body).ok().filter(|_| {
        call.header("Content-Type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
    });
    let Some(fields) = fields.map(Query::parse) else {
        return Err(Error::new(Fault::Invalid, "The request is not a form that was filled in."));
    };
    let known = call.cookie(auth::CSRF_COOKIE).unwrap_or("");
    if known.is_empty() || !bool::from(known.as_bytes().ct_eq(fields.text("csrf").as_bytes())) {
        return refuse(
            "This form is out of date, or your browser keeps no cookies. Go back, reload the page and try again.",
        );
    }
    Ok(fields)
}

/// Whether errors go to somebody who looks at pages.
pub(super) fn are_wanted(call: &Call<'_>) -> bool {
    !call.path.starts_with("/api/") && call.header("Accept").is_some_and(|kinds| kinds.contains("text/html"))
}

/// What an error looks like as a page.
pub(super) fn error(error: &Error, envelope: &Envelope) -> Reply {
    let plain = Reply::error(error, envelope);
    let title = match error.fault {
        Fault::NotFound => "Not found",
        Fault::TooMany => "Too many requests",
        Fault::Forbidden | Fault::Invalid => "Refused",
        _ => "Something went wrong",
    };
    let message = if error.fault == Fault::NotFound { "There is no such page on this server." } else { &error.message };
    let content = fill(include_str!("error.html"), &[("title", text(title)), ("message", text(message))]);
    let mut reply = show(plain.status, title, Html::default(), None, content);
    reply.headers.extend(plain.headers);
    reply
}

/// An instant for people, to the minute.
fn moment(at: Timestamp) -> Html {
    text(&moment_text(at))
}

fn moment_text(at: Timestamp) -> String {
    if at.0 <= 0 {
        return "never".to_owned();
    }
    let at =
        time::OffsetDateTime::from_unix_timestamp(at.0 / MICROS_PER_SECOND).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (date, hour, minute) = (at.date(), at.hour(), at.minute());
    format!("{date} {hour:02}:{minute:02} UTC")
}
