//! A person's session tokens: made for the command line or by name, shown, revoked.

use std::time::Duration;

use super::html::{Html, fill, text};
use super::parts::{self, Desk, Form, Question};
use super::{Frame, form, moment, page, see_other, sign_in_first, signed_in};
use crate::config::limits;
use crate::domain::sessions::{self, TokenSpec};
use crate::domain::{Error, Fault};
use crate::model::Timestamp;
use crate::rest::auth::{csrf_token, session_cookie};
use crate::rest::reply::Reply;
use crate::rest::request::Call;
use crate::store::keys::{self, ApiKey, LoginType};

const PATH: &str = "/sessions";
const CLI_AUTH: &str = "/cli-auth";

/// Fields of the form for a token.
const FIELDS: &[&str] = &["token_name", "lifetime"];
/// Lifetimes to choose from, days; the longest that this server allows is there, too.
const DAYS: [u64; 5] = [1, 7, 30, 90, 365];
const DAY: u64 = 86_400;

/// Sessions that one page shows, newest first; the command line lists the rest.
const SHOWN: usize = 200;

/// `GET /cli-auth`: `coder login`, VS Code and JetBrains open it (coder v2.24.0 cli/login.go). It makes a
/// token when its button is pressed, not when it is looked at: links can be followed by anybody.
pub(in crate::rest) fn cli_auth(call: &Call<'_>) -> Result<Reply, Error> {
    let Some(user) = signed_in(call)? else { return Ok(sign_in_first(CLI_AUTH)) };
    let content = fill(
        include_str!("cli-auth.html"),
        &[
            ("url", text(&call.service.app.access_url)),
            ("csrf", text(csrf_token(call))),
            ("life", life(session_life(call))),
        ],
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
        &[("token", text(&token)), ("url", text(&app.access_url)), ("life", life(session_life(call)))],
    );
    Ok(Frame::of(call, &user).live("Your token", "copy.js", content))
}

fn session_life(call: &Call<'_>) -> Duration {
    call.service.app.settings.session_lifetime
}

/// How long a token lives without use, in words.
fn life(life: Duration) -> Html {
    text(&words(life))
}

fn words(life: Duration) -> String {
    const HOUR: u64 = 3_600;
    let seconds = life.as_secs();
    let (count, unit) = match seconds {
        0..HOUR => (seconds.div_ceil(60), "minute"),
        HOUR..DAY => (seconds / HOUR, "hour"),
        _ if seconds < 2 * DAY && !seconds.is_multiple_of(DAY) => (seconds / HOUR, "hour"),
        _ => (seconds / DAY, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// `GET /sessions`.
pub(in crate::rest) fn list(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account(call, |desk| {
        let now = Timestamp::now();
        let owner = desk.user.user.id;
        let mut found = call.service.app.store.read(|conn| keys::list(conn, Some(owner)).map_err(Error::from))?;
        found.retain(|key| key.expires_at > now);
        let count = found.len();
        let rows = found.iter().take(SHOWN).map(|key| row(desk, key));
        let left_out =
            if count > SHOWN { text(&format!("These are the newest {SHOWN} of {count}.")) } else { Html::default() };
        let content = fill(include_str!("sessions.html"), &[("rows", Html::join(rows)), ("left_out", left_out)]);
        Ok(desk.page(200, "Sessions and tokens", content))
    })
}

/// What a person calls a token.
fn name(desk: &Desk<'_>, key: &ApiKey) -> String {
    match (key.id == desk.user.key().id, key.login_type) {
        (true, _) => "This browser".into(),
        (false, LoginType::Token) => key.token_name.clone(),
        (false, LoginType::Password) => "Session".into(),
    }
}

fn row(desk: &Desk<'_>, key: &ApiKey) -> Html {
    let name = name(desk, key);
    let action = if key.id == desk.user.key().id {
        fill(include_str!("session-leave.html"), &[("csrf", desk.csrf()), ("id", text(&key.id))])
    } else {
        fill(include_str!("session-revoke.html"), &[("id", text(&key.id)), ("name", text(&name))])
    };
    let address = if key.ip.is_empty() { "unknown" } else { &key.ip };
    fill(
        include_str!("session.html"),
        &[
            ("name", text(&name)),
            ("id", text(&key.id)),
            ("created", moment(key.created_at)),
            ("used", moment(key.last_used_at)),
            ("expires", moment(key.expires_at)),
            ("address", text(address)),
            ("action", action),
        ],
    )
}

/// `GET /sessions/{id}`: asks whether it shall be revoked.
pub(in crate::rest) fn ask(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account(call, |desk| {
        let (id, owner) = (call.param(0), desk.user.user.id);
        let found = call.service.app.store.read(|conn| keys::by_id(conn, id).map_err(Error::from))?;
        let Some(key) = found.filter(|key| key.user_id == owner) else {
            return Ok(desk.done(PATH, "That token is gone already."));
        };
        let what = if key.login_type == LoginType::Token { "The token" } else { "The session" };
        Ok(desk.ask(
            200,
            Question {
                title: &format!("Revoke {}?", name(desk, &key)),
                to: PATH,
                action: "revoke",
                text: &format!(
                    "{what} {} is refused from then on, and what it has open ends at once. A program that uses it \
                     must get another one.",
                    key.id
                ),
                fields: fill("<input type=\"hidden\" name=\"id\" value=\"{{id}}\">", &[("id", text(&key.id))]),
                problem: Html::default(),
                button: "Revoke",
                is_harmless: false,
                back: PATH,
            },
        ))
    })
}

/// `POST /sessions`: revokes one.
pub(in crate::rest) fn revoke(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account_form(call, |desk, fields| {
        let id = fields.text("id");
        let store = &call.service.app.store;
        let said = match sessions::revoke(store, &desk.by(), Some(desk.user.user.id), id, "token.revoke") {
            Ok(key) => format!("{} was revoked.", name(desk, &key)),
            // Pressed twice, or it has expired meanwhile.
            Err(error) if error.fault == Fault::NotFound => "That token is gone already.".into(),
            Err(error) => return Err(error),
        };
        Ok(if id == desk.user.key().id {
            see_other(PATH).header("Set-Cookie", session_cookie(call, ""))
        } else {
            desk.done(PATH, &said)
        })
    })
}

/// `GET /sessions/new`: the form for a token with a name.
pub(in crate::rest) fn new(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account(call, |desk| Ok(show_form(desk, 200, Form::new(FIELDS))))
}

fn show_form(desk: &Desk<'_>, status: u16, form: Form<'_>) -> Reply {
    let most = desk.call.service.app.settings.max_token_lifetime;
    let mut lives: Vec<Duration> = DAYS.map(|days| Duration::from_secs(days * DAY)).to_vec();
    lives.retain(|life| *life < most);
    lives.push(most);
    let options: Vec<(String, String)> =
        lives.iter().map(|life| (life.as_secs().to_string(), format!("{} without use", words(*life)))).collect();
    let first = limits::REST_TOKEN_LIFETIME.min(most).as_secs().to_string();
    let options = options.iter().map(|(value, label)| (value.as_str(), label.as_str()));
    let name = form.line(
        "token_name",
        "Name",
        "",
        "To know it again by, like \u{201c}backup script\u{201d}. Without one it gets a random name.",
        " maxlength=\"128\" autocomplete=\"off\"",
    );
    let life = form.choice("lifetime", "It ends after", &first, "Each use begins the time anew.", options);
    let values = [("csrf", desk.csrf()), ("problem", form.problem()), ("name", name), ("lifetime", life)];
    desk.page(status, "New token", fill(include_str!("session-new.html"), &values))
}

/// `POST /sessions/new`: makes the token and shows it once.
pub(in crate::rest) fn make_named(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account_form(call, |desk, fields| {
        let app = &call.service.app;
        let spec = lifetime(fields.text("lifetime")).and_then(|nanoseconds| {
            TokenSpec::token(fields.text("token_name").trim(), nanoseconds, "", app.settings.max_token_lifetime)
        });
        let made = spec.and_then(|spec| {
            let (name, life) = (spec.name.clone(), spec.lifetime);
            Ok((sessions::create(&app.store, &desk.by(), &desk.user.user, spec)?, name, life))
        });
        let (token, name, lives) = match made {
            Ok(made) => made,
            Err(error) => {
                let (status, mut error) = parts::mendable(error)?;
                // The rule calls it by the name that the command line has for it.
                for field in error.fields.iter_mut().filter(|field| field.field == "name") {
                    field.field = "token_name".into();
                }
                return Ok(show_form(desk, status, Form::again(FIELDS, fields, &error)));
            }
        };
        let values = [("name", text(&name)), ("token", text(&token.to_string())), ("life", life(lives))];
        Ok(desk.copyable("Your token", fill(include_str!("session-made.html"), &values)))
    })
}

/// Nanoseconds of what was chosen.
fn lifetime(seconds: &str) -> Result<i64, Error> {
    let nanoseconds = seconds.parse().ok().and_then(|seconds: i64| seconds.checked_mul(1_000_000_000));
    nanoseconds
        .filter(|nanoseconds| *nanoseconds > 0)
        .ok_or_else(|| Error::new(Fault::Invalid, "The token was not made.").field("lifetime", "Choose one of these."))
}

/// `GET /settings`, `GET /settings/tokens`: where the real server has these.
pub(in crate::rest) fn elsewhere(_: &Call<'_>) -> Result<Reply, Error> {
    Ok(see_other(PATH))
}
