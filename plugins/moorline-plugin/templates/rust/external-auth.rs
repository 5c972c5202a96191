//! Signs people in at a provider by OAuth2's code flow, with PKCE, refresh and validation.
//!
//! | module | what it does |
//! | --- | --- |
//! | `provider` | from a code or a refresh token to a token: requests, and every form of reply |
//! | `web` | forms and URLs |
//!
//! Take it as a start: what differs at your provider is in `provider`.

mod provider;
mod web;

use moorline_plugin::schema::{
    Authorize, AuthorizeRequest, ExchangeRequest, GitCredentials, Provider, RefreshRequest, Setup,
    Token, TokenRequest, Validity,
};
use moorline_plugin::{Answer, ExternalAuth, Host, Refusal};
use serde::Deserialize;

moorline_plugin::declare!(external_auth Site);

/// One provider of the server's configuration.
pub struct Site {
    settings: Settings,
    host: Host,
}

/// What the operator writes into the `[[external_auth]]` table.
#[derive(Deserialize)]
struct Settings {
    client_id: String,
    #[serde(default)]
    client_secret: String,
    auth_url: String,
    token_url: String,
    #[serde(default)]
    validate_url: String,
    #[serde(default)]
    scopes: Vec<String>,
}

impl ExternalAuth for Site {
    const NAME: &'static str = "@NAME@";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SERVES: &'static [&'static str] = &["@NAME@"];
    const CAPABILITIES: &'static [&'static str] = &["defaults", "refresh", "validate"];

    fn create(setup: Setup, host: Host) -> Answer<Site> {
        let settings: Settings = serde_json::from_value(setup.settings)
            .map_err(|error| Refusal::invalid(format!("The settings are not good: {error}.")))?;
        Ok(Site { settings, host })
    }

    fn defaults(&self) -> Answer<Provider> {
        Ok(Provider {
            display_name: "@NAME@".into(),
            hosts: vec![web::authority(&self.settings.auth_url).to_owned()],
            git: true,
            allow_refresh: true,
            allow_validate: !self.settings.validate_url.is_empty(),
            pkce: true,
            ..Provider::default()
        })
    }

    fn authorize(&self, request: AuthorizeRequest) -> Answer<Authorize> {
        let scope = self.settings.scopes.join(" ");
        let mut query = vec![
            ("response_type", "code"),
            ("client_id", &self.settings.client_id),
            ("redirect_uri", &request.redirect_uri),
        ];
        if !scope.is_empty() {
            query.push(("scope", &scope));
        }
        query.push(("state", &request.state));
        if let Some(challenge) = &request.code_challenge {
            query.push(("code_challenge", challenge));
            query.push(("code_challenge_method", "S256"));
        }
        let mark = if self.settings.auth_url.contains('?') {
            '&'
        } else {
            '?'
        };
        Ok(Authorize {
            url: format!("{}{mark}{}", self.settings.auth_url, web::form(&query)),
        })
    }

    fn exchange(&self, request: ExchangeRequest) -> Answer<Token> {
        provider::exchange(self, &request)
    }

    fn refresh(&self, request: RefreshRequest) -> Answer<Token> {
        provider::refresh(self, &request.refresh_token)
    }

    fn validate(&self, request: TokenRequest) -> Answer<Validity> {
        provider::validate(self, &request.access_token)
    }

    fn git_credentials(&self, request: TokenRequest) -> Answer<GitCredentials> {
        Ok(GitCredentials {
            username: "oauth2".into(),
            password: request.access_token,
        })
    }
}

#[cfg(test)]
mod tests {
    use moorline_plugin::plugin::OfExternalAuth;
    use moorline_plugin::testing::{Recording, play};

    /// The same as `moorline plugin test LIBRARY --recording recordings`, without the library.
    #[test]
    fn behaves_as_recorded() {
        let recording =
            Recording::parse(include_str!("../recordings/cases.json")).expect("a recording");
        let wrong = play::<OfExternalAuth<super::Site>>(&recording);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
