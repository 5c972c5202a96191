//! Validation, installations of an app, revocation.

use moorline_plugin::schema::{Account, HttpResponse, Installation, Installations, RevokeRequest, Validity};
use moorline_plugin::{Answer, Refusal};
use serde::Deserialize;
use serde_json::json;

use crate::types::Type;
use crate::{OAuth, grant, web};

/// A person or organisation as GitHub writes it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct GithubAccount {
    id: i64,
    login: String,
    avatar_url: String,
    html_url: String,
    name: Option<String>,
}

impl From<GithubAccount> for Account {
    fn from(account: GithubAccount) -> Account {
        Account {
            id: account.id,
            login: account.login,
            avatar_url: account.avatar_url,
            profile_url: account.html_url,
            name: account.name.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
struct GithubInstallations {
    #[serde(default)]
    installations: Vec<GithubInstallation>,
}

#[derive(Deserialize)]
struct GithubInstallation {
    #[serde(default)]
    id: i64,
    account: Option<GithubAccount>,
    #[serde(default)]
    html_url: String,
}

pub(crate) fn validate(provider: &OAuth, token: &str) -> Answer<Validity> {
    let Some(url) = provider.endpoints.validate_url()? else {
        return Ok(Validity { valid: true, ..Validity::default() });
    };
    let response = web::send(&provider.host, &web::bearer(web::request("GET", &url), token))?;
    // Whoever is asked too often cannot say that a token is bad.
    if web::is_rate_limited(&response) {
        let retry_after = web::retry_after(&response, provider.host.now());
        return Ok(Validity { valid: true, user: None, retry_after });
    }
    match response.status {
        200 if is_page(&response) => Err(Refusal::unavailable(
            "provider_error",
            "The validate_url answers with an HTML page, perhaps of a sign-in wall in front of the provider.",
        )),
        200 => {
            let user = (provider.kind == Type::Github)
                .then(|| serde_json::from_slice::<GithubAccount>(&response.body).ok().map(Account::from))
                .flatten();
            Ok(Validity { valid: true, user, retry_after: None })
        }
        401 | 403 => Ok(Validity::default()),
        _ => Err(web::odd_status(&response, provider.host.now())),
    }
}

fn is_page(response: &HttpResponse) -> bool {
    response.header("content-type").is_some_and(|media| media.trim_start().starts_with("text/html"))
}

pub(crate) fn installations(provider: &OAuth, token: &str) -> Answer<Installations> {
    let url = &provider.settings.app_installations_url;
    if url.is_empty() || provider.kind != Type::Github {
        return Ok(Installations::default());
    }
    let response = web::send(&provider.host, &web::bearer(web::request("GET", url), token))?;
    // What is no app has no installations, which GitHub calls an error.
    if response.status != 200 {
        return Ok(Installations::default());
    }
    let found: GithubInstallations = serde_json::from_slice(&response.body).map_err(|error| {
        Refusal::unavailable("provider_error", format!("The list of installations is not good: {error}."))
    })?;
    let installations = found
        .installations
        .into_iter()
        .filter_map(|one| Some(Installation { id: one.id, account: one.account?.into(), configure_url: one.html_url }))
        .collect();
    Ok(Installations { installations })
}

pub(crate) fn revoke(provider: &OAuth, request: &RevokeRequest) -> Answer<()> {
    let Some(url) = provider.endpoints.revoke_url()? else {
        return Err(Refusal::unsupported("This provider does not revoke tokens."));
    };
    let settings = &provider.settings;
    let (http, good) = match provider.kind {
        Type::Github => {
            let mut http = web::with(web::request("DELETE", &url), "Authorization", settings.basic());
            http = web::with(http, "Content-Type", "application/json");
            http.body = json!({ "access_token": request.access_token }).to_string().into_bytes();
            // Gone already is as good as revoked.
            (http, &[204, 404][..])
        }
        Type::Slack => (web::bearer(web::post(&url, &[]), &request.access_token), &[200][..]),
        _ => {
            // A refresh token takes its access tokens along.
            let (token, hint) = match request.refresh_token.as_str() {
                "" => (request.access_token.clone(), "access_token"),
                refresh => (refresh.to_owned(), "refresh_token"),
            };
            let form = vec![("token", token), ("token_type_hint", hint.to_owned())];
            (grant::authenticated(settings, &url, form), &[200, 204][..])
        }
    };
    let response = web::send(&provider.host, &http)?;
    if good.contains(&response.status) { Ok(()) } else { Err(web::odd_status(&response, provider.host.now())) }
}
