//! A person's session tokens: made for the command line, shown, revoked.

use super::html::{Html, fill, text};
use super::{Frame, form, moment, page, see_other, sign_in_first, signed_in};
use crate::domain::access::UserAuth;
use crate::domain::sessions::{self, TokenSpec};
use crate::domain::{Error, Fault};
use crate::model::Timestamp;
use crate::rest::auth::{csrf_token, session_cookie};
use crate::rest::reply::Reply;
use crate::rest::request::Call;
use crate::store::keys::{self, ApiKey, LoginType};

const PATH: &str = "/sessions";
const CLI_AUTH: &str = "/cli-auth";

/// Sessions that one page shows, newest first; the command line lists the rest.
const SHOWN: usize = 200;

/// `GET /cli-auth`: `coder login`, VS Code and JetBrains open it (coder v2.24.0 cli/login.go). It makes a
/// token when its button is pressed, not when it is looked at: links can be followed by anybody.
pub(in crate::rest) fn cli_auth(call: &Call<'_>) -> Result<Reply, Error> {
    let Some(user) = signed_in(call)? else { return Ok(sign_in_first(CLI_AUTH)) };
    let content = fill(
        include_str!("cli-auth.html"),
        &[("url", text(&call.service.app.access_url)), ("csrf", text(csrf_token(call))), ("life", life(call))],
    );
    Ok(page(call, 200, "Token for the command line", Some(&user), content))
}

/// `POST /cli-auth`: makes the token and shows it once.
pub(in crate::rest) fn make_token(call: &Call<'_>) -> Result<Reply, Error> {
    form(call)?;
    let Some(user) = signed_in(call)? else { return Ok(sign_in_first(CLI_AUTH)) };
    let app = &call.service.app;
    let token = sessions::create(&app.store, &user.by(&call.peer), &user.user, TokenSpec::session(app))?.to_string();
    let content = fill(
        include_str!("cli-auth-token.html"),
        &[("token", text(&token)), ("url", text(&app.access_url)), ("life", life(call))],
    );
    Ok(Frame::of(call, &user).live("Your token", "copy.js", content))
}

/// How long a token lives without use, in words.
fn life(call: &Call<'_>) -> Html {
    const HOUR: u64 = 3_600;
    let seconds = call.service.app.settings.session_lifetime.as_secs();
    let (count, unit) = match seconds {
        0..HOUR => (seconds.div_ceil(60), "minute"),
        HOUR..172_800 => (seconds / HOUR, "hour"),
        _ => (seconds / (24 * HOUR), "day"),
    };
    text(&format!("{count} {unit}{}", if count == 1 { "" } else { "s" }))
}

/// `GET /sessions`.
pub(in crate::rest) fn list(call: &Call<'_>) -> Result<Reply, Error> {
    let Some(user) = signed_in(call)? else { return Ok(sign_in_first(PATH)) };
    let now = Timestamp::now();
    let mut found = call.service.app.store.read(|conn| keys::list(conn, Some(user.user.id)).map_err(Error::from))?;
    found.retain(|key| key.expires_at > now);
    let count = found.len();
    let rows = found.iter().take(SHOWN).map(|key| row(call, &user, key));
    let left_out =
        if count > SHOWN { text(&format!("These are the newest {SHOWN} of {count}.")) } else { Html::default() };
    let content = fill(include_str!("sessions.html"), &[("rows", Html::join(rows)), ("left_out", left_out)]);
    Ok(page(call, 200, "Sessions and tokens", Some(&user), content))
}

fn row(call: &Call<'_>, user: &UserAuth, key: &ApiKey) -> Html {
    let here = key.id == user.key().id;
    let name = match (here, key.login_type) {
        (true, _) => "This browser",
        (false, LoginType::Token) => key.token_name.as_str(),
        (false, LoginType::Password) => "Session",
    };
    let address = if key.ip.is_empty() { "unknown" } else { &key.ip };
    fill(
        include_str!("session.html"),
        &[
            ("name", text(name)),
            ("id", text(&key.id)),
            ("created", moment(key.created_at)),
            ("used", moment(key.last_used_at)),
            ("expires", moment(key.expires_at)),
            ("address", text(address)),
            ("action", text(if here { "Sign out" } else { "Revoke" })),
            ("csrf", text(csrf_token(call))),
        ],
    )
}

/// `POST /sessions`: revokes one.
pub(in crate::rest) fn revoke(call: &Call<'_>) -> Result<Reply, Error> {
    let fields = form(call)?;
    let Some(user) = signed_in(call)? else { return Ok(sign_in_first(PATH)) };
    let id = fields.text("id");
    let app = &call.service.app;
    match sessions::revoke(&app.store, &user.by(&call.peer), Some(user.user.id), id, "token.revoke") {
        // Pressed twice, or it has expired meanwhile.
        Err(error) if error.fault == Fault::NotFound => {}
        other => drop(other?),
    }
    let reply = see_other(PATH);
    Ok(if id == user.key().id { reply.header("Set-Cookie", session_cookie(call, "")) } else { reply })
}

/// `GET /settings`, `GET /settings/tokens`: where the real server has these.
pub(in crate::rest) fn elsewhere(_: &Call<'_>) -> Result<Reply, Error> {
    Ok(see_other(PATH))
}
