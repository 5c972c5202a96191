//! From a code or a refresh token to a token.

use moorline_plugin::schema::{ExchangeRequest, HttpRequest, HttpResponse, RefreshRequest, Token};
use moorline_plugin::{Answer, Refusal};
use serde_json::{Map, Value};

use crate::settings::{ClientAuth, Settings};
use crate::types::{AZURE_DEVOPS_RESOURCE, Type};
use crate::{OAuth, web};

/// How Azure DevOps names its grants.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How Azure DevOps names the client's secret.
const JWT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Longest life of a token that is believed, seconds.
const LIFE_MOST: i64 = (1 << 31) - 1;
/// Error words that say for certain that a refresh token is good no more.
const DEAD: [&str; 3] = ["bad_refresh_token", "invalid_grant", "unsupported_grant_type"];

pub(crate) fn exchange(provider: &OAuth, request: ExchangeRequest) -> Answer<Token> {
    let settings = &provider.settings;
    let mut form: Vec<(&str, String)> = match provider.kind {
        Type::AzureDevops => vec![
            ("grant_type", JWT_BEARER.to_owned()),
            ("assertion", request.code),
            ("client_assertion_type", JWT_ASSERTION.to_owned()),
            ("client_assertion", settings.client_secret.clone()),
            ("redirect_uri", request.redirect_uri),
        ],
        _ => vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", request.code),
            ("redirect_uri", request.redirect_uri),
        ],
    };
    if provider.kind == Type::AzureDevopsEntra {
        form.push(("resource", AZURE_DEVOPS_RESOURCE.to_owned()));
    }
    if let Some(verifier) = request.code_verifier {
        form.push(("code_verifier", verifier));
    }
    let http = match provider.kind {
        Type::AzureDevops => web::post(&provider.endpoints.token_url()?, &form),
        Type::Jfrog => web::bearer(web::post(&provider.endpoints.token_url()?, &form), &settings.client_secret),
        _ => authenticated(settings, &provider.endpoints.token_url()?, form),
    };
    let response = web::send(&provider.host, &http)?;
    token_of(provider, &response).map_err(|failure| match failure {
        Failure::Said { code, description } => {
            // Gitea has one word for a wrong secret and for a code that it does not know (v1.26
            // routers/web/auth/oauth2_provider.go).
            let unknown = provider.kind == Type::Gitea && description == "client is not authorized";
            let code = if unknown { "invalid_grant".to_owned() } else { code };
            let words = if description.is_empty() { code.clone() } else { description };
            Refusal::refused(
                &code,
                format!("The provider refuses the code: {}.", web::cut(&words).trim_end_matches('.')),
            )
        }
        Failure::Odd(refusal) => refusal,
    })
}

pub(crate) fn refresh(provider: &OAuth, request: &RefreshRequest) -> Answer<Token> {
    let settings = &provider.settings;
    let mut form: Vec<(&str, String)> = vec![("grant_type", "refresh_token".to_owned())];
    let http = match provider.kind {
        Type::AzureDevops => {
            form.extend([
                ("assertion", request.refresh_token.clone()),
                ("client_assertion_type", JWT_ASSERTION.to_owned()),
                ("client_assertion", settings.client_secret.clone()),
            ]);
            web::post(&provider.endpoints.token_url()?, &form)
        }
        _ => {
            form.push(("refresh_token", request.refresh_token.clone()));
            if provider.kind == Type::AzureDevopsEntra {
                form.push(("resource", AZURE_DEVOPS_RESOURCE.to_owned()));
            }
            authenticated(settings, &provider.endpoints.token_url()?, form)
        }
    };
    let response = web::send(&provider.host, &http)?;
    token_of(provider, &response).map_err(|failure| match failure {
        Failure::Said { code, description } => {
            let gitea = provider.kind == Type::Gitea && code == "unauthorized_client" && response.status == 400;
            let words = if description.is_empty() { code.clone() } else { description };
            let words = web::cut(&words);
            if DEAD.contains(&code.as_str()) || gitea {
                return Refusal::refused(
                    "dead_grant",
                    format!("The provider takes the refresh token no more: {words}"),
                );
            }
            // A wrong secret of the client, a limit, a fault: nothing says that the refresh token is dead.
            let refusal = Refusal::unavailable(&code, format!("The provider does not refresh the token now: {words}"));
            match web::retry_after(&response, provider.host.now()) {
                Some(seconds) => refusal.retry_after(seconds),
                None => refusal,
            }
        }
        Failure::Odd(refusal) => Refusal { status: moorline_plugin::abi::UNAVAILABLE, ..refusal },
    })
}

/// A request that says who the client is, in one way only: whoever tries two spoils single-use codes.
pub(crate) fn authenticated(settings: &Settings, url: &str, mut form: Vec<(&str, String)>) -> HttpRequest {
    match settings.client_auth {
        ClientAuth::Form => {
            form.push(("client_id", settings.client_id.clone()));
            if !settings.client_secret.is_empty() {
                form.push(("client_secret", settings.client_secret.clone()));
            }
            web::post(url, &form)
        }
        ClientAuth::Basic => web::with(web::post(url, &form), "Authorization", settings.basic()),
    }
}

/// Why a reply holds no token.
pub(crate) enum Failure {
    /// The provider says so, with a word.
    Said {
        /// `error`.
        code: String,
        /// `error_description`, or empty.
        description: String,
    },
    /// Anything else.
    Odd(Refusal),
}

/// Reads a token reply, in any of the forms that are seen.
pub(crate) fn token_of(provider: &OAuth, response: &HttpResponse) -> Result<Token, Failure> {
    let now = provider.host.now();
    let members = members_of(response);
    let text = |name: &str| {
        let found = members.as_ref().and_then(|members| members.get(name));
        found.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let code = text("error");
    if !code.is_empty() {
        return Err(Failure::Said { code: web::cut(&code), description: text("error_description") });
    }
    if !(200..300).contains(&response.status) {
        return Err(Failure::Odd(web::odd_status(response, now)));
    }
    let Some(members) = &members else {
        let message = "The provider's token reply is neither JSON nor a form.";
        return Err(Failure::Odd(Refusal::unavailable("provider_error", message)));
    };
    let access_token = text("access_token");
    if access_token.is_empty() {
        let message = "The provider's token reply has no access token.";
        return Err(Failure::Odd(Refusal::unavailable("provider_error", message)));
    }
    let expires_at = match life(members.get("expires_in")) {
        Ok(life) => life.map(|life| now.saturating_add(life)),
        Err(()) => {
            let message = "The provider's token reply has an expires_in that is no number.";
            return Err(Failure::Odd(Refusal::unavailable("provider_error", message)));
        }
    };
    let keys = &provider.settings.extra_token_keys;
    let extra = (!keys.is_empty()).then(|| {
        let pick = |key: &String| (key.clone(), members.get(key).cloned().unwrap_or(Value::Null));
        Value::Object(keys.iter().map(pick).collect())
    });
    Ok(Token { access_token, refresh_token: text("refresh_token"), expires_at, extra })
}

/// The members of a reply. The media type is only a hint: proxies and servers write wrong ones.
fn members_of(response: &HttpResponse) -> Option<Map<String, Value>> {
    let body = std::str::from_utf8(&response.body).ok()?;
    let json = || match serde_json::from_str(body).ok()? {
        Value::Object(members) => Some(members),
        _ => None,
    };
    let form = || {
        let pairs = web::parse_form(body);
        let plausible =
            !body.trim_start().starts_with(['{', '<', '[']) && pairs.iter().any(|(_, value)| !value.is_empty());
        plausible.then(|| pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect())
    };
    let media = response.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match media {
        "application/x-www-form-urlencoded" | "text/plain" => form().or_else(json),
        _ => json().or_else(form),
    }
}

/// `expires_in`: seconds, as a number or as digits; none for ever.
fn life(value: Option<&Value>) -> Result<Option<i64>, ()> {
    let seconds = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => match number.as_i64() {
            Some(seconds) => seconds,
            // Fractions are cut off.
            None => number.to_string().split(['.', 'e', 'E']).next().and_then(|whole| whole.parse().ok()).ok_or(())?,
        },
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().map_err(|_| ())?,
        Some(_) => return Err(()),
    };
    Ok((seconds != 0).then_some(seconds.min(LIFE_MOST)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_lifetimes_in_all_forms() {
        for (value, expected) in [
            (json!(3600), Ok(Some(3_600))),
            (json!("3600"), Ok(Some(3_600))),
            (json!(3600.9), Ok(Some(3_600))),
            (json!(-5), Ok(Some(-5))),
            (json!(0), Ok(None)),
            (json!(null), Ok(None)),
            (json!(""), Ok(None)),
            (json!(9_999_999_999_i64), Ok(Some(LIFE_MOST))),
            (json!("soon"), Err(())),
            (json!([]), Err(())),
        ] {
            assert_eq!(life(Some(&value)), expected, "{value}");
        }
        assert_eq!(life(None), Ok(None));
    }
}
