//! Whether the provider takes a token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moorline_plugin::schema::{Account, GitCredentials, TokenRequest, Validity};

use super::memory::Need;
use super::{App, Error, Good, Standing, tokens, trouble};
use crate::config::providers::ProviderConfig;
use crate::plugins::CallError;
use crate::store::external_auth::Link;

/// How long a provider may refuse a token that it has just given: GitHub's replicas lag behind (coder v2.24.0
/// coderd/externalauth/externalauth.go).
const LAG: Duration = Duration::from_secs(1);
/// First pause between two tries in that time, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(200));

/// How the holder of a token stands. `is_new`: the provider gave it a moment ago.
pub(super) fn standing(app: &App, provider: &ProviderConfig, link: &Link, is_new: bool) -> Result<Standing, Error> {
    let access_token = tokens::access(app, link)?;
    if access_token.is_empty() {
        return Ok(Standing::SignIn("There is no access token.".to_owned()));
    }
    let request = TokenRequest { access_token };
    match validate(app, provider, &request, is_new)? {
        Some(account) => good(app, provider, link, request, account),
        None => Ok(Standing::SignIn("The provider does not take the token any more.".to_owned())),
    }
}

/// `None`: the provider refuses the token. Otherwise whose it is, if that is said.
fn validate(
    app: &App,
    provider: &ProviderConfig,
    request: &TokenRequest,
    is_new: bool,
) -> Result<Option<Option<Account>>, Error> {
    let began = Instant::now();
    let mut pause = PAUSES.0;
    loop {
        // Who limits its rate cannot say that a token is bad.
        if app.links.paused(&provider.id, Need::Validate).is_some() {
            return Ok(Some(None));
        }
        match app.plugins.call::<_, Validity>(provider, "validate", request) {
            Ok(validity) => {
                if let Some(seconds) = validity.retry_after {
                    app.links.pause(&provider.id, Need::Validate, seconds);
                }
                if validity.valid {
                    return Ok(Some(validity.user));
                }
                if !is_new || began.elapsed() + pause > LAG || !app.links.rest(pause) {
                    return Ok(None);
                }
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(CallError::Unsupported(_)) => return Ok(Some(None)),
            Err(error) => {
                if let CallError::Unavailable(refused) = &error
                    && let Some(seconds) = refused.retry_after
                {
                    app.links.pause(&provider.id, Need::Validate, seconds);
                }
                // It was good a moment ago, and it is stored.
                return if is_new { Ok(Some(None)) } else { Err(trouble(provider, &error)) };
            }
        }
    }
}

fn good(
    app: &App,
    provider: &ProviderConfig,
    link: &Link,
    request: TokenRequest,
    account: Option<Account>,
) -> Result<Standing, Error> {
    let credentials: GitCredentials = match app.plugins.call(provider, "git_credentials", &request) {
        Ok(credentials) => credentials,
        Err(CallError::Unsupported(_)) => {
            GitCredentials { username: request.access_token.clone(), password: String::new() }
        }
        Err(error) => return Err(trouble(provider, &error)),
    };
    Ok(Standing::Good(Arc::new(Good {
        extra: tokens::extra(app, link)?,
        access_token: request.access_token,
        username: credentials.username,
        password: credentials.password,
        account,
    })))
}
