//! From a code or a refresh token to a token: requests, and every form of reply.

use moorline_plugin::schema::{
    Account, ExchangeRequest, HttpRequest, HttpResponse, Token, Validity,
};
use moorline_plugin::{Answer, Refusal};
use serde::Deserialize;

use crate::{Site, web};

/// How long the provider may take to answer, milliseconds. A refresh token is spent once it was sent, so this is the most that
/// the server allows: better late than lost.
const PATIENCE_MS: u32 = 10_000;
/// When to try again if the provider does not say, seconds.
const PAUSE: u64 = 30;

/// What the provider answers to a form.
#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    refresh_token: String,
    expires_in: Option<i64>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Whose token it is.
#[derive(Deserialize)]
struct User {
    id: i64,
    login: String,
}

/// Turns the code that the browser brought into a token.
pub(crate) fn exchange(site: &Site, request: &ExchangeRequest) -> Answer<Token> {
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("code", &request.code),
        ("redirect_uri", &request.redirect_uri),
    ];
    if let Some(verifier) = &request.code_verifier {
        form.push(("code_verifier", verifier));
    }
    ask(site, form)?.map_err(|(code, message)| Refusal::refused(&code, message))
}

/// Turns a refresh token into a new token. Only the provider's own word makes it count as dead: on any doubt the server
/// keeps it.
pub(crate) fn refresh(site: &Site, refresh_token: &str) -> Answer<Token> {
    let form = vec![
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
    ];
    ask(site, form)?.map_err(|(code, message)| match code.as_str() {
        "invalid_grant" => Refusal::refused("dead_grant", message),
        _ => Refusal::unavailable(&code, message),
    })
}

/// Asks the provider whether a token is good.
pub(crate) fn validate(site: &Site, access_token: &str) -> Answer<Validity> {
    if site.settings.validate_url.is_empty() {
        return Err(Refusal::unsupported("There is no `validate_url`."));
    }
    let response = site.host.http(&HttpRequest {
        method: "GET".into(),
        url: site.settings.validate_url.clone(),
        headers: vec![("Authorization".into(), format!("Bearer {access_token}"))],
        timeout_ms: Some(PATIENCE_MS),
        ..HttpRequest::default()
    })?;
    match response.status {
        200 => {
            let user: Option<User> = serde_json::from_slice(&response.body).ok();
            let user = user.map(|user| Account {
                id: user.id,
                login: user.login,
                ..Account::default()
            });
            Ok(Validity {
                valid: true,
                user,
                retry_after: None,
            })
        }
        401 | 403 => Ok(Validity::default()),
        // It cannot say, so the token counts as good.
        429 => Ok(Validity {
            valid: true,
            user: None,
            retry_after: Some(pause(&response)),
        }),
        status => Err(Refusal::unavailable(
            "provider",
            format!("The provider answered with status {status}."),
        )),
    }
}

/// Sends a form; gives a token, or the provider's own error and what it says about it.
fn ask<'a>(
    site: &'a Site,
    mut form: Vec<(&str, &'a str)>,
) -> Answer<Result<Token, (String, String)>> {
    form.push(("client_id", &site.settings.client_id));
    if !site.settings.client_secret.is_empty() {
        form.push(("client_secret", &site.settings.client_secret));
    }
    let response = site.host.http(&HttpRequest {
        method: "POST".into(),
        url: site.settings.token_url.clone(),
        headers: vec![
            (
                "Content-Type".into(),
                "application/x-www-form-urlencoded".into(),
            ),
            ("Accept".into(), "application/json".into()),
        ],
        body: web::form(&form).into_bytes(),
        timeout_ms: Some(PATIENCE_MS),
    })?;
    match response.status {
        429 | 503 => {
            return Err(
                Refusal::unavailable("busy", "The provider is busy.").retry_after(pause(&response))
            );
        }
        500.. => {
            let status = response.status;
            return Err(Refusal::unavailable(
                "provider",
                format!("The provider answered with status {status}."),
            ));
        }
        _ => {}
    }
    let bad = || Refusal::unavailable("bad_reply", "The provider's answer cannot be read.");
    let reply: Reply = serde_json::from_slice(&response.body).map_err(|_| bad())?;
    if !reply.error.is_empty() {
        let message = format!(
            "The provider says: {} ({}).",
            reply.error, reply.error_description
        );
        return Ok(Err((reply.error, message)));
    }
    if reply.access_token.is_empty() {
        return Err(bad());
    }
    // By the server's clock: the provider's own may be off.
    let expires_at = reply
        .expires_in
        .map(|seconds| site.host.now().saturating_add(seconds));
    Ok(Ok(Token {
        access_token: reply.access_token,
        refresh_token: reply.refresh_token,
        expires_at,
        extra: None,
    }))
}

/// How long the provider wants to be left alone, seconds.
fn pause(response: &HttpResponse) -> u64 {
    response
        .header("retry-after")
        .and_then(|text| text.parse().ok())
        .unwrap_or(PAUSE)
}
