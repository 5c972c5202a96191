//! The device flow (RFC 8628), with GitHub's habits.

use moorline_plugin::schema::{Device, HttpRequest, Token};
use moorline_plugin::{Answer, Refusal};
use serde::Deserialize;

use crate::grant::{self, Failure, token_of};
use crate::types::Type;
use crate::{OAuth, web};

/// Seconds between polls when the provider names none.
const INTERVAL: i64 = 5;
/// Grant type of the poll.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reply {
    device_code: String,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    expires_in: i64,
    interval: Option<i64>,
    error: String,
    error_description: String,
}

pub(crate) fn start(provider: &OAuth) -> Answer<Device> {
    let settings = &provider.settings;
    if !settings.device_flow {
        return Err(Refusal::unsupported("This provider is not configured for the device flow."));
    }
    let mut form = Vec::new();
    if !settings.scopes.is_empty() {
        form.push(("scope", settings.scopes.join(" ")));
    }
    let response = web::send(&provider.host, &asking(provider, &provider.endpoints.device_code_url()?, form))?;
    if response.status == 429 {
        return Err(web::odd_status(&response, provider.host.now()));
    }
    let reply: Reply = serde_json::from_slice(&response.body).map_err(|_| {
        let message =
            format!("The provider's device reply (status {}) is not the JSON that it should be.", response.status);
        Refusal::unavailable("provider_error", message)
    })?;
    if !reply.error.is_empty() || !reply.error_description.is_empty() {
        let words = if reply.error_description.is_empty() { &reply.error } else { &reply.error_description };
        return Err(Refusal::refused(
            &web::cut(&reply.error),
            format!("The provider begins no device flow: {}", web::cut(words)),
        ));
    }
    if reply.device_code.is_empty() || reply.user_code.is_empty() || reply.verification_uri.is_empty() {
        return Err(Refusal::unavailable("provider_error", "The provider's device reply is not complete."));
    }
    Ok(Device {
        device_code: reply.device_code,
        user_code: reply.user_code,
        verification_uri: reply.verification_uri,
        expires_in: reply.expires_in,
        interval: reply.interval.filter(|seconds| *seconds > 0).unwrap_or(INTERVAL),
    })
}

/// GitHub wants no secret here; others want what they want for every token (RFC 8628 sections 3.1 and 3.4).
fn asking(provider: &OAuth, url: &str, mut form: Vec<(&str, String)>) -> HttpRequest {
    if provider.kind == Type::Github {
        form.push(("client_id", provider.settings.client_id.clone()));
        return web::post(url, &form);
    }
    grant::authenticated(&provider.settings, url, form)
}

/// Asks once. The provider's own word for "not yet" is the refusal's code.
pub(crate) fn poll(provider: &OAuth, device_code: &str) -> Answer<Token> {
    let settings = &provider.settings;
    if !settings.device_flow {
        return Err(Refusal::unsupported("This provider is not configured for the device flow."));
    }
    let form = vec![("device_code", device_code.to_owned()), ("grant_type", GRANT.to_owned())];
    let response = web::send(&provider.host, &asking(provider, &provider.endpoints.token_url()?, form))?;
    token_of(provider, &response).map_err(|failure| match failure {
        Failure::Said { code, description } => {
            let words = if description.is_empty() { code.clone() } else { description };
            Refusal::refused(&code, web::cut(&words))
        }
        Failure::Odd(refusal) => refusal,
    })
}
