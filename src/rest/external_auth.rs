//! Sign-ins at external providers: what programs in workspaces ask on behalf of their owner, and what the
//! owner's own programs ask.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::envelope::Envelope;
use super::later::{self, Promise};
use super::reply::Reply;
use super::request::Call;
use super::{json, websocket};
use crate::config::limits;
use crate::config::providers::ProviderConfig;
use crate::domain::access::{AgentAuth, UserAuth};
use crate::domain::external_auth::{self, Choice, Good, Overview, Standing};
use crate::domain::{Error, Fault, Shared};
use crate::model::{Timestamp, UserId};
use crate::store::agents;
use crate::streams::listen;

/// Longest part of what was asked for that is said back, characters.
const ASKED_CHARS: usize = 256;

/// What programs get: a token, or where its owner has to sign in.
#[derive(Serialize, Default)]
struct Access<'a> {
    access_token: &'a str,
    token_extra: Option<&'a Value>,
    url: &'a str,
    r#type: &'a str,
    username: &'a str,
    password: &'a str,
}

fn token(provider: &ProviderConfig, good: &Good) -> Result<Reply, Error> {
    let access = Access {
        access_token: &good.access_token,
        token_extra: good.extra.as_ref(),
        url: "",
        r#type: external_auth::type_of(provider),
        username: &good.username,
        password: &good.password,
    };
    Reply::json(200, &access)
}

fn access(app: &Shared, provider: &ProviderConfig, standing: &Standing) -> Result<Reply, Error> {
    match standing {
        Standing::Good(good) => token(provider, good),
        // A client takes an answer with an address for "sign in there" (coder v2.24.0 cli/gitaskpass.go).
        Standing::NotLinked | Standing::SignIn(_) => {
            let url = external_auth::page_url(app, provider);
            Reply::json(200, &Access { url: &url, ..Access::default() })
        }
    }
}

/// `GET …/me/external-auth` and, for agents of before 2023, `…/me/gitauth`. With `listen` it waits for a good
/// token: an answer without one would be taken for an empty user name (coder v2.24.0 cli/gitaskpass.go).
pub(super) fn of_agent(call: &Call<'_>, auth: AgentAuth) -> Result<Reply, Error> {
    let wanted = match call.query.text("match") {
        "" => call.query.text("url"),
        wanted => wanted,
    };
    let id = call.query.text("id");
    if wanted.is_empty() && id.is_empty() {
        return Err(Error::new(Fault::Invalid, "One of match and id is needed."));
    }
    if !wanted.is_empty() && !id.is_empty() {
        return Err(Error::new(Fault::Invalid, "Only one of match and id may be given."));
    }
    let app = &call.service.app;
    let listens = call.query.get("listen").is_some();
    let agent = auth.agent().id;
    let owner = || -> Result<UserId, Error> {
        let owner = app.store.read(|conn| agents::owner(conn, agent).map_err(Error::from))?;
        owner.ok_or_else(|| Error::new(Fault::NotFound, "The workspace of the agent was removed."))
    };
    match external_auth::choose(app, id, wanted) {
        Choice::None(hint) => Err(none_fits(if id.is_empty() { wanted } else { id }, hint)),
        Choice::Is(provider) if listens => wait(call, provider, owner()?, &auth),
        Choice::Is(provider) => {
            let owner = owner()?;
            if let Some(standing) = external_auth::known(app, &provider, owner)? {
                return access(app, &provider, &standing);
            }
            let (reply, promise) = later::park(call)?;
            give_access(app, provider, owner, promise);
            Ok(reply)
        }
        // Clients ask again after any error.
        Choice::Ask(providers) if listens => {
            external_auth::describe_all(app, &providers, || {});
            Err(Error::new(Fault::Overloaded, "It is not known yet which provider is meant. Try again."))
        }
        Choice::Ask(providers) => {
            let owner = owner()?;
            let (reply, promise) = later::park(call)?;
            let (shared, wanted) = (app.clone(), wanted.to_owned());
            external_auth::describe_all(app, &providers, move || match external_auth::choose(&shared, "", &wanted) {
                Choice::Is(provider) => give_access(&shared, provider, owner, promise),
                Choice::None(hint) => promise.give(Err(none_fits(&wanted, hint))),
                Choice::Ask(_) => promise.give(Err(none_fits(&wanted, String::new()))),
            });
            Ok(reply)
        }
    }
}

fn none_fits(wanted: &str, hint: String) -> Error {
    let shown: String = wanted.chars().take(ASKED_CHARS).collect();
    Error::new(Fault::NotFound, format!("No external auth provider fits {shown:?}.")).detail(hint)
}

fn give_access(app: &Shared, provider: Arc<ProviderConfig>, owner: UserId, mut promise: Promise) {
    promise.begin();
    let (there, shared) = (Arc::clone(&provider), app.clone());
    external_auth::look(app, &provider, owner, move |standing| {
        promise.give(standing.and_then(|standing| access(&shared, &there, &standing)));
    });
}

fn wait(call: &Call<'_>, provider: Arc<ProviderConfig>, user: UserId, auth: &AgentAuth) -> Result<Reply, Error> {
    let app = &call.service.app;
    if let Ok(Some(standing @ Standing::Good(_))) = external_auth::known(app, &provider, user) {
        return access(app, &provider, &standing);
    }
    let Some(place) = app.links.listeners.take(user, limits::SIGN_IN_LISTENERS) else {
        let message = format!("{} of your programs wait for you to sign in already.", limits::SIGN_IN_LISTENERS);
        return Err(Error::new(Fault::TooMany, message));
    };
    let envelope = Envelope::of(call).closing();
    let (answer, there) = (envelope.clone(), Arc::clone(&provider));
    let wanted = listen::Wanted {
        provider,
        user,
        agent: auth.agent().id,
        answer: Arc::new(move |good| answer.reply(token(&there, good)).encode(&answer)),
        stopping: Box::new(move || {
            let stopping = Error::new(Fault::Overloaded, "The server is stopping. Try again soon.");
            envelope.reply(Err(stopping)).encode(&envelope)
        }),
        place,
    };
    Ok(websocket::raw(call, 200, listen::wait(app.clone(), wanted)))
}

#[derive(Serialize)]
struct Listed<'a> {
    providers: Vec<ListedProvider<'a>>,
    links: Vec<ListedLink<'a>>,
}

#[derive(Serialize)]
struct ListedProvider<'a> {
    id: &'a str,
    r#type: &'a str,
    device: bool,
    display_name: &'a str,
    display_icon: &'a str,
    allow_refresh: bool,
    allow_validate: bool,
}

#[derive(Serialize)]
struct ListedLink<'a> {
    provider_id: &'a str,
    created_at: Timestamp,
    updated_at: Timestamp,
    has_refresh_token: bool,
    expires: Timestamp,
    authenticated: bool,
    validate_error: String,
}

/// `GET /external-auth`: the providers, and how the caller stands with each.
pub(super) fn list(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let (reply, mut promise) = later::park(call)?;
    promise.begin();
    external_auth::overview(&call.service.app, auth.user.id, move |found| {
        promise.give(found.and_then(|found| Reply::json(200, &listed(&found))));
    });
    Ok(reply)
}

fn listed(found: &Overview) -> Listed<'_> {
    let providers = found.providers.iter().map(|(provider, shown)| ListedProvider {
        id: &provider.id,
        r#type: external_auth::type_of(provider),
        device: shown.device_flow,
        display_name: &shown.display_name,
        display_icon: &shown.display_icon,
        allow_refresh: shown.allow_refresh,
        allow_validate: shown.allow_validate,
    });
    let links = found.links.iter().map(|(link, standing)| ListedLink {
        provider_id: &link.provider,
        created_at: link.created_at,
        updated_at: link.updated_at,
        has_refresh_token: link.refresh_sealed.is_some(),
        expires: link.expires_at.unwrap_or(Timestamp::GO_ZERO),
        authenticated: matches!(standing, Some(Ok(Standing::Good(_)))),
        validate_error: match standing {
            Some(Ok(Standing::SignIn(why))) => why.clone(),
            Some(Err(error)) => error.to_string(),
            _ => String::new(),
        },
    });
    Listed { providers: providers.collect(), links: links.collect() }
}

#[derive(Serialize)]
struct Shown {
    authenticated: bool,
    device: bool,
    display_name: String,
    user: Option<Account>,
    app_installable: bool,
    installations: Vec<Installation>,
    app_install_url: String,
}

#[derive(Serialize)]
struct Installation {
    id: i64,
    account: Account,
    configure_url: String,
}

/// As `codersdk.ExternalAuthUser` has it.
#[derive(Serialize)]
struct Account {
    id: i64,
    login: String,
    avatar_url: String,
    profile_url: String,
    name: String,
}

impl From<moorline_plugin::schema::Account> for Account {
    fn from(account: moorline_plugin::schema::Account) -> Account {
        let moorline_plugin::schema::Account { id, login, avatar_url, profile_url, name } = account;
        Account { id, login, avatar_url, profile_url, name }
    }
}

/// `GET /external-auth/{id}`: what the provider says of the caller. Nothing is refreshed for it.
pub(super) fn show(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let app = call.service.app.clone();
    let provider = external_auth::provider(&app, call.param(0))?;
    let (there, user) = (Arc::clone(&provider), auth.user.id);
    later::answer(call, &provider, move || {
        let found = external_auth::detail(&app, &there, user)?;
        let installations = found.installations.installations.into_iter().map(|one| Installation {
            id: one.id,
            account: one.account.into(),
            configure_url: one.configure_url,
        });
        Reply::json(
            200,
            &Shown {
                authenticated: found.authenticated,
                device: found.shown.device_flow,
                display_name: found.shown.display_name,
                user: found.account.map(Account::from),
                app_installable: found.authenticated && found.shown.app_installable,
                installations: installations.collect(),
                app_install_url: found.shown.app_install_url,
            },
        )
    })
}

/// As coder since v2.27 has it; v2.24 says `"OK"`, which nobody reads.
#[derive(Serialize)]
struct Unlinked {
    token_revoked: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    token_revocation_error: String,
}

/// `DELETE /external-auth/{id}`: signs the caller out there. A provider that does not revoke is no failure.
pub(super) fn unlink(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let app = call.service.app.clone();
    let (user, by) = (auth.user.id, auth.by(&call.peer));
    let Ok(provider) = external_auth::provider(&app, call.param(0)) else {
        external_auth::removed(&app, call.param(0), user, &by)?;
        return Reply::json(200, &Unlinked { token_revoked: false, token_revocation_error: String::new() });
    };
    let there = Arc::clone(&provider);
    later::answer(call, &provider, move || {
        let revoked = external_auth::unlink(&app, &there, user, &by)?;
        let token_revoked = matches!(revoked, Some(Ok(())));
        let token_revocation_error = revoked.and_then(Result::err).unwrap_or_default();
        Reply::json(200, &Unlinked { token_revoked, token_revocation_error })
    })
}

fn device_provider(call: &Call<'_>) -> Result<Arc<ProviderConfig>, Error> {
    let provider = external_auth::provider(&call.service.app, call.param(0))?;
    if external_auth::is_by_device(&provider) {
        return Ok(provider);
    }
    let message = format!("The external auth provider {} is not configured for the device flow.", provider.id);
    Err(Error::new(Fault::Invalid, message))
}

#[derive(Serialize)]
struct Device {
    device_code: String,
    user_code: String,
    verification_uri: String,
    expires_in: i64,
    interval: i64,
}

/// `GET /external-auth/{id}/device`: begins a device flow.
pub(super) fn begin_device(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let provider = device_provider(call)?;
    let (app, there, user) = (call.service.app.clone(), Arc::clone(&provider), auth.user.id);
    later::answer(call, &provider, move || {
        let found = external_auth::device(&app, &there, user, true)?;
        let moorline_plugin::schema::Device { device_code, user_code, verification_uri, expires_in, interval } = found;
        Reply::json(200, &Device { device_code, user_code, verification_uri, expires_in, interval })
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DeviceCode {
    device_code: String,
}

/// `POST /external-auth/{id}/device`: asks whether the caller has entered the code. The provider's word stands
/// in `detail`, where clients look for it.
pub(super) fn poll_device(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let body: DeviceCode = json::body(&call.body)?;
    let provider = device_provider(call)?;
    let (app, there) = (call.service.app.clone(), Arc::clone(&provider));
    let (user, by) = (auth.user.id, auth.by(&call.peer));
    later::answer(call, &provider, move || {
        external_auth::poll(&app, &there, user, &by, &body.device_code)?;
        Ok(Reply::empty(204))
    })
}
