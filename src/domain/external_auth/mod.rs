//! What people are signed in to at external providers, on whose behalf their machines use git.
//!
//! | module | what it does |
//! | --- | --- |
//! | `choose` | which provider is meant |
//! | `tokens` | sealed rows as tokens, and back |
//! | `gather` | what several providers say, asked at the same time |
//! | `flight` | one look at a link at a time, shared by all who ask meanwhile |
//! | `refresh` | a new token for an old one, on record before anything leaves the server |
//! | `check` | whether the provider takes a token |
//! | `sign_in` | links made in the browser or by device, and unmade |
//! | `memory` | what the server remembers of all this, none of which must outlive it |
//!
//! What is found out about a token holds for some seconds, so that a script that calls git in a loop costs its
//! provider no more than one question in that time, and others nothing.

mod check;
mod choose;
mod flight;
mod gather;
mod memory;
mod refresh;
mod sign_in;
mod tokens;

use std::sync::Arc;

use moorline_plugin::schema::{Account, Installations, Kind, Provider, TokenRequest};
use serde_json::{Value, json};

pub use choose::{Choice, choose};
pub use flight::{known, look};
pub use gather::{Overview, describe_all, overview};
pub use memory::Links;
pub use sign_in::{Begun, begin, callback_path, challenge, device, exchange, poll, removed, take, unlink};

use super::{App, Error, Fault, Shared};
use crate::config::providers::ProviderConfig;
use crate::model::{Timestamp, UserId};
use crate::plugins::CallError;
use crate::store::external_auth::{self as store, Link};

/// Longest part of what a plugin says that is passed on, characters.
const SHOWN_CHARS: usize = 300;

/// Words with which providers say that the client id or its secret is wrong.
pub const CLIENT_REFUSED: [&str; 3] = ["invalid_client", "incorrect_client_credentials", "unauthorized_client"];

/// A token that its provider takes, as far as is known. It is not to be printed.
pub struct Good {
    /// The token.
    pub access_token: String,
    /// The extra keys that the operator asked for.
    pub extra: Option<Value>,
    /// What git is told as user name.
    pub username: String,
    /// What git is told as password; empty: the user name again.
    pub password: String,
    /// Whose it is, if the provider says.
    pub account: Option<Account>,
}

/// How a person stands with a provider.
#[derive(Clone)]
pub enum Standing {
    /// Never signed in, or signed out.
    NotLinked,
    /// Must sign in again; why.
    SignIn(String),
    /// Signed in.
    Good(Arc<Good>),
}

/// The configured providers of external sign-in.
pub fn providers(app: &App) -> Vec<Arc<ProviderConfig>> {
    app.plugins.providers(Kind::ExternalAuth).cloned().collect()
}

/// The configured provider with this id.
pub fn provider(app: &App, id: &str) -> Result<Arc<ProviderConfig>, Error> {
    app.plugins.provider(Kind::ExternalAuth, id).cloned().ok_or_else(|| no_such(id))
}

fn no_such(id: &str) -> Error {
    let shown: String = id.chars().take(64).collect();
    Error::new(Fault::NotFound, format!("There is no external auth provider {shown:?}."))
}

/// The type as clients know it.
pub fn type_of(provider: &ProviderConfig) -> &str {
    match provider.kind_word.as_str() {
        "bitbucket" => "bitbucket-cloud",
        word => word,
    }
}

/// Where a person signs in.
pub fn page_url(app: &App, provider: &ProviderConfig) -> String {
    format!("{}/external-auth/{}", app.access_url, provider.id)
}

/// The providers that serve git: agents turn an editor's own git sign-in off when there are any.
pub fn git_providers(app: &App) -> usize {
    let is_git = |provider: &&Arc<ProviderConfig>| {
        choose::git_by_type(&provider.kind_word)
            .unwrap_or_else(|| app.links.shown(&provider.id).is_some_and(|it| it.git))
    };
    app.plugins.providers(Kind::ExternalAuth).filter(is_git).count()
}

/// How a provider shows itself. Waits for its plugin if that was not asked of late; one that does not answer is
/// described by what the operator wrote.
pub fn shown(app: &App, provider: &ProviderConfig) -> Provider {
    if let Some(known) = app.links.shown(&provider.id) {
        return known;
    }
    match app.plugins.call::<_, Provider>(provider, "defaults", &json!({})) {
        Ok(found) => {
            for warning in &found.warnings {
                log::warn!("provider {}: {warning}", provider.id);
            }
            app.links.keep_shown(&provider.id, found.clone(), true);
            found
        }
        Err(error) => {
            log::warn!("provider {} cannot be described: {error}", provider.id);
            let guess = guess(provider);
            app.links.keep_shown(&provider.id, guess.clone(), false);
            guess
        }
    }
}

/// What the operator wrote.
fn guess(provider: &ProviderConfig) -> Provider {
    let text = |key: &str| provider.settings.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = Some(text("display_name")).filter(|name| !name.is_empty());
    Provider {
        display_name: name.unwrap_or_else(|| type_of(provider).to_owned()),
        display_icon: text("display_icon"),
        regex: text("regex"),
        git: choose::git_by_type(&provider.kind_word).unwrap_or(false),
        device_flow: flag(provider, "device_flow"),
        allow_refresh: !flag(provider, "no_refresh"),
        ..Provider::default()
    }
}

/// The name of a provider for people; waits for nobody.
pub fn name(app: &App, provider: &ProviderConfig) -> String {
    app.links.shown(&provider.id).unwrap_or_else(|| guess(provider)).display_name
}

/// Whether a sign-in at this provider goes by device rather than by browser; waits for nobody.
pub fn is_by_device(provider: &ProviderConfig) -> bool {
    flag(provider, "device_flow")
}

fn flag(provider: &ProviderConfig, key: &str) -> bool {
    provider.settings.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// What the page about one provider shows.
pub struct Detail {
    /// The provider.
    pub shown: Provider,
    /// Whether its token is good.
    pub authenticated: bool,
    /// Whose it is.
    pub account: Option<Account>,
    /// Where the provider's app is installed.
    pub installations: Installations,
}

/// Looks at a link without renewing it. Waits; for a thread of the provider.
pub fn detail(app: &Shared, provider: &ProviderConfig, user: UserId) -> Result<Detail, Error> {
    let shown = shown(app, provider);
    let none = Detail { shown, authenticated: false, account: None, installations: Installations::default() };
    let Some(link) = stored(app, provider, user)? else { return Ok(none) };
    let ended = link.expires_at.is_some_and(|at| at <= Timestamp::now());
    let Standing::Good(good) = check::standing(app, provider, &link, false)? else { return Ok(none) };
    if ended {
        return Ok(none);
    }
    app.links.spend(provider, user)?;
    let request = TokenRequest { access_token: good.access_token.clone() };
    let installations = if none.shown.app_installable {
        match app.plugins.call(provider, "installations", &request) {
            Ok(found) => found,
            Err(CallError::Unsupported(_)) => Installations::default(),
            Err(error) => return Err(trouble(provider, &error)),
        }
    } else {
        Installations::default()
    };
    Ok(Detail { authenticated: true, account: good.account.clone(), installations, ..none })
}

fn stored(app: &App, provider: &ProviderConfig, user: UserId) -> Result<Option<Link>, Error> {
    app.store.read(|conn| store::find(conn, &provider.id, user).map_err(Error::from))
}

/// A failed call as an error for people. Nothing secret is in it: plugins' words are the providers' own, cut.
fn trouble(provider: &ProviderConfig, error: &CallError) -> Error {
    let fault = match error {
        CallError::Busy => Fault::Overloaded,
        CallError::Refused(_) | CallError::Invalid(_) => Fault::Invalid,
        CallError::Unsupported(_) => Fault::Invalid,
        _ => Fault::Unreachable,
    };
    let said: String = match error {
        // Why is for the operator; the path of a library is nobody else's business.
        CallError::Down(_) => "Its plugin is down; the server's log says why.".to_owned(),
        error => error.to_string().chars().take(SHOWN_CHARS).collect(),
    };
    Error::new(fault, format!("The external auth provider {} did not do what was asked of it.", provider.id))
        .detail(said)
}
