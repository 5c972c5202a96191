//! Signing in at an external provider: in the browser, or with a code on any device. Git in workspaces waits
//! for it at `…/me/external-auth?listen`.

use std::sync::Arc;

use super::html::{Html, fill, text};
use super::login::{destination, encode};
use super::{Frame, are_wanted, form, here, see_other, sign_in_first, signed_in};
use crate::config::providers::ProviderConfig;
use crate::domain::external_auth::{self, Standing};
use crate::domain::{Error, Fault, Shared};
use crate::model::UserId;
use crate::rest::later;
use crate::rest::reply::Reply;
use crate::rest::request::{Call, percent_decode};
use crate::store::audit::By;

/// Names of cookies as coder v2.24.0 codersdk/client.go has them.
const STATE: &str = "oauth_state";
const REDIRECT: &str = "oauth_redirect";
/// Seconds that they live; the server forgets a sign-in after as long.
const COOKIE_SECONDS: u32 = 600;

/// A person at one provider's pages.
#[derive(Clone)]
struct Visit {
    app: Shared,
    provider: Arc<ProviderConfig>,
    user: UserId,
    by: By,
    frame: Frame,
    /// They come back from the provider just now: they must not be sent there again.
    is_back: bool,
}

impl Visit {
    /// `Err`: where they must go first.
    fn of(call: &Call<'_>) -> Result<Result<Visit, Reply>, Error> {
        let Some(user) = signed_in(call)? else { return Ok(Err(sign_in_first(&here(call)))) };
        let app = call.service.app.clone();
        Ok(Ok(Visit {
            provider: external_auth::provider(&app, call.param(0))?,
            user: user.user.id,
            by: user.by(&call.peer),
            frame: Frame::of(call, &user),
            is_back: call.query.text("redirected") == "true",
            app,
        }))
    }

    /// Without asking anybody.
    fn name(&self) -> String {
        external_auth::name(&self.app, &self.provider)
    }

    fn page(&self, status: u16, content: Html) -> Reply {
        self.frame.clone().page(status, &self.name(), content)
    }

    /// For the values that every page here has.
    fn fill(&self, template: &'static str, more: &[(&str, Html)]) -> Html {
        let usual = [("name", text(&self.name())), ("id", text(&self.provider.id)), ("csrf", self.frame.csrf.clone())];
        fill(template, &[&usual, more].concat())
    }

    /// The page of somebody who is signed in, or the next step of somebody who is not. May wait.
    fn standing(&self, standing: &Standing) -> Result<Reply, Error> {
        match standing {
            Standing::Good(good) => {
                let account = good.account.as_ref().map_or("", |account| account.login.as_str());
                let account = if account.is_empty() { String::new() } else { format!(" as {account}") };
                let content = self.fill(include_str!("external-auth-linked.html"), &[("account", text(&account))]);
                Ok(self.page(200, content))
            }
            _ if external_auth::is_by_device(&self.provider) => self.device(None),
            Standing::SignIn(why) if self.is_back => Ok(self.failed(200, why)),
            Standing::NotLinked if self.is_back => Ok(self.failed(200, "No token has come back.")),
            _ => Ok(see_other(external_auth::callback_path(&self.provider))),
        }
    }

    /// The page with the code to be entered elsewhere. Waits.
    fn device(&self, problem: Option<&str>) -> Result<Reply, Error> {
        let device = external_auth::device(&self.app, &self.provider, self.user, false)?;
        let uri = &device.verification_uri;
        let link = if uri.starts_with("https://") || uri.starts_with("http://") {
            fill(include_str!("external-auth-link.html"), &[("url", text(uri))])
        } else {
            text(uri)
        };
        let problem = match problem {
            Some(problem) => fill(include_str!("problem.html"), &[("message", text(problem))]),
            None => Html::default(),
        };
        let values = [("problem", problem), ("link", link), ("code", text(&device.user_code))];
        Ok(self.page(200, self.fill(include_str!("external-auth-device.html"), &values)))
    }

    fn failed(&self, status: u16, why: &str) -> Reply {
        self.page(status, self.fill(include_str!("external-auth-failed.html"), &[("why", text(why))]))
    }

    /// Asks the provider how the person stands.
    fn look(self, call: &Call<'_>) -> Result<Reply, Error> {
        let (reply, mut promise) = later::park(call)?;
        promise.begin();
        let (app, provider, user) = (self.app.clone(), Arc::clone(&self.provider), self.user);
        external_auth::look(&app, &provider, user, move |standing| {
            promise.give(match standing {
                Ok(standing) => self.standing(&standing),
                Err(error) => Ok(self.failed(502, &error.to_string())),
            });
        });
        Ok(reply)
    }
}

/// What has become of the token at its provider.
pub(super) fn after_unlinking(revoked: Option<&Result<(), String>>) -> &'static str {
    match revoked {
        Some(Ok(())) => "The provider has revoked the token.",
        Some(Err(_)) => "The provider has not revoked the token; you can do that in its settings.",
        None => "The provider revokes no tokens by itself; you can do that in its settings.",
    }
}

/// `GET /external-auth/{id}`: `coder gitaskpass` and editors send people here.
pub(in crate::rest) fn show(call: &Call<'_>) -> Result<Reply, Error> {
    let visit = match Visit::of(call)? {
        Ok(visit) => visit,
        Err(reply) => return Ok(reply),
    };
    match external_auth::known(&visit.app, &visit.provider, visit.user)? {
        Some(standing @ Standing::Good(_)) => visit.standing(&standing),
        Some(standing) if !external_auth::is_by_device(&visit.provider) => visit.standing(&standing),
        Some(standing) => {
            let provider = Arc::clone(&visit.provider);
            later::answer(call, &provider, move || visit.standing(&standing))
        }
        None => visit.look(call),
    }
}

/// `POST /external-auth/{id}`: a button of its page.
pub(in crate::rest) fn act(call: &Call<'_>) -> Result<Reply, Error> {
    let fields = form(call)?;
    let visit = match Visit::of(call)? {
        Ok(visit) => visit,
        Err(reply) => return Ok(reply),
    };
    let provider = Arc::clone(&visit.provider);
    match fields.text("action") {
        "unlink" => later::answer(call, &provider, move || {
            let revoked = match external_auth::unlink(&visit.app, &visit.provider, visit.user, &visit.by) {
                Ok(revoked) => revoked,
                // Pressed twice.
                Err(error) if error.fault == Fault::NotFound => None,
                Err(error) => return Err(error),
            };
            let said = text(after_unlinking(revoked.as_ref()));
            let content = visit.fill(include_str!("external-auth-unlinked.html"), &[("said", said)]);
            Ok(visit.page(200, content))
        }),
        "check" => later::answer(call, &provider, move || {
            let device = external_auth::device(&visit.app, &visit.provider, visit.user, false)?;
            match external_auth::poll(&visit.app, &visit.provider, visit.user, &visit.by, &device.device_code) {
                Ok(()) => Ok(see_other(format!("/external-auth/{}?redirected=true", visit.provider.id))),
                Err(error) => visit.device(Some(&match error.detail.as_str() {
                    "authorization_pending" | "slow_down" => {
                        "The provider has not got the code from you yet. Enter it there, wait a few seconds, and press \
                         the button again."
                            .to_owned()
                    }
                    "expired_token" => "That code has expired. This is a new one.".to_owned(),
                    "access_denied" => "You refused at the provider. To try again, enter this new code.".to_owned(),
                    _ => error.to_string(),
                })),
            }
        }),
        _ => Err(Error::new(Fault::Invalid, "The page has no such button.")),
    }
}

/// `GET /external-auth/{id}/callback`, also `/gitauth/{id}/callback`: off to the provider, and back with a code.
/// What comes back is taken once, from the person who left, and for this provider only.
pub(in crate::rest) fn callback(call: &Call<'_>) -> Result<Reply, Error> {
    let visit = match Visit::of(call)? {
        Ok(visit) => visit,
        Err(reply) => return Ok(reply),
    };
    if external_auth::is_by_device(&visit.provider) {
        return Ok(see_other(format!("/external-auth/{}", visit.provider.id)));
    }
    let wants_page = are_wanted(call);
    let refuse = |visit: &Visit, status: u16, error: Error| {
        if wants_page { Ok(visit.failed(status, &error.to_string())) } else { Err(error) }
    };
    let said = call.query.text("error");
    if !said.is_empty() {
        let cut = |text: &str| text.chars().take(300).collect::<String>();
        let more = [call.query.text("error_description"), call.query.text("error_uri")].map(cut);
        let detail: Vec<String> = more.into_iter().filter(|part| !part.is_empty()).collect();
        let error = Error::new(Fault::Invalid, format!("The provider says: {}.", cut(said))).detail(detail.join(" "));
        return refuse(&visit, 400, error);
    }
    let code = call.query.text("code").to_owned();
    if code.is_empty() {
        return leave(call, visit);
    }
    let state = call.query.text("state");
    if state.is_empty() {
        return refuse(&visit, 400, Error::new(Fault::Invalid, "The provider sent you back without a state."));
    }
    let unproved = |message: &str| Error::new(Fault::Unauthenticated, message);
    if call.cookie(STATE).is_none_or(str::is_empty) {
        let message = "This browser has begun no sign-in: it sent no oauth_state cookie. Begin again.";
        return refuse(&visit, 401, unproved(message));
    }
    // Another tab may have written the cookie since, so what counts is that the server knows the state as this
    // person's own.
    let Some(back) = external_auth::take(&visit.app, &visit.provider, visit.user, state) else {
        let message = "This sign-in was begun by somebody else, too long ago, or is over already. Begin again.";
        return refuse(&visit, 401, unproved(message));
    };
    let redirect = call.cookie(REDIRECT).and_then(percent_decode).unwrap_or_default();
    let onward = match destination(&redirect) {
        "/" => format!("/external-auth/{}?redirected=true", visit.provider.id),
        path => path.to_owned(),
    };
    let clear = cookies(call, "", "");
    let provider = Arc::clone(&visit.provider);
    later::answer(call, &provider, move || {
        match external_auth::exchange(&visit.app, &visit.provider, visit.user, &visit.by, back, &code) {
            Ok(()) => Ok(with_cookies(elsewhere(&onward), clear)),
            Err(error) if wants_page => Ok(visit.failed(502, &error.to_string())),
            Err(error) => Err(error),
        }
    })
}

/// Sends the browser to the provider.
fn leave(call: &Call<'_>, visit: Visit) -> Result<Reply, Error> {
    let redirect = match call.query.text("redirect") {
        "" => String::new(),
        asked => encode(destination(asked)),
    };
    let wants_page = are_wanted(call);
    let provider = Arc::clone(&visit.provider);
    let secure = call.secure;
    later::answer(call, &provider, move || match external_auth::begin(&visit.app, &visit.provider, visit.user) {
        Ok(begun) => Ok(with_cookies(elsewhere(&begun.url), set_cookies(secure, &begun.state, &redirect))),
        Err(error) if wants_page => Ok(visit.failed(502, &error.to_string())),
        Err(error) => Err(error),
    })
}

/// A redirect as the real server makes it.
fn elsewhere(url: &str) -> Reply {
    let body = fill(include_str!("external-auth-redirect.html"), &[("url", text(url))]);
    let mut reply = Reply::empty(307).header("Location", url.to_owned()).header("Cache-Control", "no-store");
    reply.content_type = Some("text/html; charset=utf-8");
    reply.body = body.into_bytes();
    reply
}

fn cookies(call: &Call<'_>, state: &str, redirect: &str) -> [String; 2] {
    set_cookies(call.secure, state, redirect)
}

fn set_cookies(secure: bool, state: &str, redirect: &str) -> [String; 2] {
    let secure = if secure { "; Secure" } else { "" };
    let age = if state.is_empty() { 0 } else { COOKIE_SECONDS };
    // Lax: the provider sends the browser back from another site.
    [(STATE, state), (REDIRECT, redirect)]
        .map(|(name, value)| format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"))
}

fn with_cookies(reply: Reply, cookies: [String; 2]) -> Reply {
    cookies.into_iter().fold(reply, |reply, cookie| reply.header("Set-Cookie", cookie))
}
