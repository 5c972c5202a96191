//! Links made in the browser or by device, and unmade.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moorline_plugin::schema::{
    Authorize, AuthorizeRequest, Device, DevicePoll, ExchangeRequest, Refused, RevokeRequest, Token,
};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{App, Error, Fault, no_such, shown, store, tokens, trouble};
use crate::config::providers::ProviderConfig;
use crate::domain::tokens::random_text;
use crate::domain::users::note;
use crate::model::{Timestamp, UserId};
use crate::ops::hub::Topic;
use crate::plugins::CallError;
use crate::store::Write;
use crate::store::audit::By;

/// Letters of a state.
const STATE_CHARS: usize = 32;
/// Longest address that browsers are sent to, bytes; browsers and proxies take about as much.
const ADDRESS_BYTES: usize = 8 * 1024;
/// Letters of a PKCE verifier (RFC 7636: 43 to 128).
const VERIFIER_CHARS: usize = 64;

/// Where a provider sends browsers back to; to be registered there.
pub fn callback_path(provider: &ProviderConfig) -> String {
    format!("/external-auth/{}/callback", provider.id)
}

/// A sign-in that has begun.
pub struct Begun {
    /// Comes back with the browser, once.
    pub state: String,
    /// Where the browser goes.
    pub url: String,
}

/// A person goes to the provider with their browser. Waits; for a thread of the provider.
pub fn begin(app: &App, provider: &ProviderConfig, user: UserId) -> Result<Begun, Error> {
    app.links.spend(provider, user)?;
    let state = random_text(STATE_CHARS)?;
    let verifier = if shown(app, provider).pkce { Some(random_text(VERIFIER_CHARS)?) } else { None };
    let request = AuthorizeRequest {
        redirect_uri: redirect_uri(app, provider),
        state: state.clone(),
        code_challenge: verifier.as_deref().map(challenge),
    };
    let authorize: Authorize = app.plugins.call(provider, "authorize", &request).map_err(|e| trouble(provider, &e))?;
    if !is_address(&authorize.url) {
        return Err(trouble(
            provider,
            &CallError::Failed(Refused {
                message: "The plugin sends browsers to what is no web address.".to_owned(),
                ..Refused::default()
            }),
        ));
    }
    app.links.leave(&state, user, &provider.id, verifier);
    Ok(Begun { state, url: authorize.url })
}

/// Whether browsers may be sent there: it goes into a header and a link of a page.
fn is_address(url: &str) -> bool {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    is_web && url.len() <= ADDRESS_BYTES && url.bytes().all(|byte| byte.is_ascii_graphic())
}

fn redirect_uri(app: &App, provider: &ProviderConfig) -> String {
    format!("{}{}", app.access_url, callback_path(provider))
}

/// What is shown of a PKCE verifier at the beginning: S256 of RFC 7636.
pub fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

/// A person who has come back from the provider.
pub struct Back {
    verifier: Option<String>,
}

/// Takes a person back who left with this state; once, and not after ten minutes.
pub fn take(app: &App, provider: &ProviderConfig, user: UserId, state: &str) -> Option<Back> {
    app.links.come_back(state, user, &provider.id).map(|away| Back { verifier: away.verifier })
}

/// Turns the code that the browser brought into a link. Waits; for a thread of the provider.
pub fn exchange(
    app: &App,
    provider: &ProviderConfig,
    user: UserId,
    by: &By,
    back: Back,
    code: &str,
) -> Result<(), Error> {
    let request = ExchangeRequest {
        code: code.to_owned(),
        redirect_uri: redirect_uri(app, provider),
        code_verifier: back.verifier,
    };
    let token: Token = app.plugins.call(provider, "exchange", &request).map_err(|e| trouble(provider, &e))?;
    link(app, provider, user, by, &token)
}

fn link(app: &App, provider: &ProviderConfig, user: UserId, by: &By, token: &Token) -> Result<(), Error> {
    if token.access_token.is_empty() {
        let message = format!("The external auth provider {} gave no token.", provider.id);
        return Err(Error::new(Fault::Unreachable, message));
    }
    let row = tokens::seal(app, &provider.id, user, token, Timestamp::now())?;
    let by = by.clone();
    app.store.write(move |write| -> Result<(), Error> {
        store::put(write, &row)?;
        write.publish(Topic::ExternalAuth(user));
        note(write, row.updated_at, &by, "external_auth.link", &row.provider, "")
    })?;
    app.links.forget(&(provider.id.clone(), user));
    Ok(())
}

fn no_device_flow(provider: &ProviderConfig) -> Error {
    Error::new(
        Fault::Invalid,
        format!("The external auth provider {} is not configured for the device flow.", provider.id),
    )
}

/// The device sign-in of a person that is under way, or else a new one. Waits; for a thread of the provider.
pub fn device(app: &App, provider: &ProviderConfig, user: UserId, anew: bool) -> Result<Device, Error> {
    let key = (provider.id.clone(), user);
    if let Some(device) = app.links.device(&key).filter(|_| !anew) {
        return Ok(device);
    }
    app.links.spend(provider, user)?;
    let device: Device = app.plugins.call(provider, "device_start", &json!({})).map_err(|error| match error {
        CallError::Unsupported(_) => no_device_flow(provider),
        error => trouble(provider, &error),
    })?;
    app.links.keep_device(&key, &device);
    Ok(device)
}

/// Asks whether a person has entered their code; the refusal's detail is the provider's own word for it
/// (`authorization_pending`, `slow_down`, …). Waits; for a thread of the provider.
pub fn poll(app: &App, provider: &ProviderConfig, user: UserId, by: &By, device_code: &str) -> Result<(), Error> {
    app.links.spend(provider, user)?;
    let request = DevicePoll { device_code: device_code.to_owned() };
    let key = (provider.id.clone(), user);
    let token: Token = app.plugins.call(provider, "device_poll", &request).map_err(|error| match error {
        CallError::Unsupported(_) => no_device_flow(provider),
        CallError::Refused(refused) => {
            if !matches!(refused.code.as_str(), "authorization_pending" | "slow_down") {
                app.links.drop_device(&key);
            }
            Error::new(Fault::Invalid, "The device is not signed in at the external auth provider.")
                .detail(refused.code)
        }
        error => trouble(provider, &error),
    })?;
    link(app, provider, user, by, &token)
}

/// Removes a link, and has the provider revoke its tokens if it can. `None`: it cannot; `Some(Err)`: it did not.
/// Waits; for a thread of the provider.
pub fn unlink(
    app: &App,
    provider: &ProviderConfig,
    user: UserId,
    by: &By,
) -> Result<Option<Result<(), String>>, Error> {
    let can_revoke = shown(app, provider).supports_revocation;
    let (id, by) = (provider.id.clone(), by.clone());
    let link = app.store.write(move |write| {
        let link = store::find(write, &id, user)?.ok_or_else(|| not_linked(&id))?;
        forget(write, &id, user, &by)?;
        Ok::<_, Error>(link)
    })?;
    app.links.forget(&(provider.id.clone(), user));
    if !can_revoke {
        return Ok(None);
    }
    let request = RevokeRequest {
        access_token: tokens::access(app, &link)?,
        refresh_token: tokens::refresh(app, &link)?.unwrap_or_default(),
    };
    match app.plugins.call::<_, Value>(provider, "revoke", &request) {
        Ok(_) => Ok(Some(Ok(()))),
        Err(CallError::Unsupported(_)) => Ok(None),
        Err(error) => {
            log::warn!("provider {} did not revoke a token: {error}", provider.id);
            Ok(Some(Err(trouble(provider, &error).detail)))
        }
    }
}

/// Removes the link of a person at a provider that is not configured any more.
pub fn removed(app: &App, id: &str, user: UserId, by: &By) -> Result<(), Error> {
    let (id, by) = (id.to_owned(), by.clone());
    app.store.write(move |write| {
        if store::find(write, &id, user)?.is_none() {
            return Err(no_such(&id));
        }
        forget(write, &id, user, &by)
    })
}

fn forget(write: &Write<'_>, id: &str, user: UserId, by: &By) -> Result<(), Error> {
    store::delete(write, id, user)?;
    write.publish(Topic::ExternalAuth(user));
    note(write, Timestamp::now(), by, "external_auth.unlink", id, "")
}

fn not_linked(id: &str) -> Error {
    Error::new(Fault::NotFound, format!("You are not signed in at the external auth provider {id}."))
}

#[cfg(test)]
mod tests {
    use super::{ADDRESS_BYTES, challenge, is_address};

    #[test]
    fn makes_the_challenge_of_the_standard() {
        // RFC 7636 appendix B.
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn sends_browsers_to_web_addresses_only() {
        assert!(is_address("https://git.example.com/oauth?state=a%20b") && is_address("http://[::1]:3000/"));
        for url in
            ["javascript:alert(1)", "//evil.example", "https://a/\r\nSet-Cookie: x=y", "https://a/ b", "https://ä/", ""]
        {
            assert!(!is_address(url), "{url:?}");
        }
        assert!(!is_address(&format!("https://a/{}", "b".repeat(ADDRESS_BYTES))));
    }
}
