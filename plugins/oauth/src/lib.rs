//! Signs people in at OAuth2 providers: GitHub, GitLab, Gitea and Forgejo, Bitbucket (cloud and server), Azure DevOps (both kinds),
//! JFrog, Slack, and whatever speaks plain OAuth2 or OpenID Connect.
//!
//! | module | what it does |
//! | --- | --- |
//! | `settings` | what the operator wrote, checked |
//! | `types` | what each type of provider fills in |
//! | `endpoints` | the addresses to use; found by discovery where only an issuer is given |
//! | `grant` | from a code or refresh token to a token: requests, and every form of reply |
//! | `device` | the device flow |
//! | `check` | validation, installations of an app, revocation |
//! | `web` | forms, URLs, HTTP through the host |

mod check;
mod device;
mod endpoints;
mod grant;
mod settings;
mod types;
mod web;

use moorline_plugin::schema::{
    Authorize, AuthorizeRequest, Device, DevicePoll, ExchangeRequest, GitCredentials, Installations, Provider,
    RefreshRequest, RevokeRequest, Setup, Token, TokenRequest, Validity,
};
use moorline_plugin::{Answer, ExternalAuth, Host};

use crate::endpoints::Endpoints;
use crate::settings::Settings;
use crate::types::Type;

moorline_plugin::declare!(external_auth OAuth);

/// A provider.
pub struct OAuth {
    settings: Settings,
    kind: Type,
    endpoints: Endpoints,
    host: Host,
}

impl ExternalAuth for OAuth {
    const NAME: &'static str = "oauth";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SERVES: &'static [&'static str] = types::NAMES;
    const CAPABILITIES: &'static [&'static str] =
        &["defaults", "refresh", "validate", "installations", "device_start", "device_poll", "revoke"];

    fn create(setup: Setup, host: Host) -> Answer<OAuth> {
        let kind = Type::of(&setup.kind);
        let mut settings = Settings::of(setup.settings)?;
        kind.fill_in(&mut settings)?;
        settings.check()?;
        let endpoints = Endpoints::new(&settings, host.clone());
        Ok(OAuth { settings, kind, endpoints, host })
    }

    fn defaults(&self) -> Answer<Provider> {
        Ok(self.settings.shown(self.kind))
    }

    fn authorize(&self, request: AuthorizeRequest) -> Answer<Authorize> {
        let auth_url = self.endpoints.auth_url()?;
        let response_type = if self.kind == Type::AzureDevops { "Assertion" } else { "code" };
        let mut query = vec![
            ("response_type", response_type.to_owned()),
            ("client_id", self.settings.client_id.clone()),
            ("redirect_uri", request.redirect_uri),
        ];
        if !self.settings.scopes.is_empty() {
            query.push(("scope", self.settings.scopes.join(" ")));
        }
        query.push(("state", request.state));
        query.push(("access_type", "offline".to_owned()));
        if self.kind == Type::AzureDevopsEntra {
            query.push(("resource", types::AZURE_DEVOPS_RESOURCE.to_owned()));
        }
        if let Some(challenge) = request.code_challenge {
            query.push(("code_challenge", challenge));
            query.push(("code_challenge_method", "S256".to_owned()));
        }
        Ok(Authorize { url: web::with_query(&auth_url, &query) })
    }

    fn exchange(&self, request: ExchangeRequest) -> Answer<Token> {
        grant::exchange(self, request)
    }

    fn refresh(&self, request: RefreshRequest) -> Answer<Token> {
        grant::refresh(self, &request)
    }

    fn validate(&self, request: TokenRequest) -> Answer<Validity> {
        check::validate(self, &request.access_token)
    }

    fn installations(&self, request: TokenRequest) -> Answer<Installations> {
        check::installations(self, &request.access_token)
    }

    fn device_start(&self) -> Answer<Device> {
        device::start(self)
    }

    fn device_poll(&self, request: DevicePoll) -> Answer<Token> {
        device::poll(self, &request.device_code)
    }

    fn revoke(&self, request: RevokeRequest) -> Answer<()> {
        check::revoke(self, &request)
    }

    fn git_credentials(&self, request: TokenRequest) -> Answer<GitCredentials> {
        let token = request.access_token;
        Ok(match self.kind {
            Type::Gitlab => GitCredentials { username: "oauth2".into(), password: token },
            Type::BitbucketCloud | Type::BitbucketServer => {
                GitCredentials { username: "x-token-auth".into(), password: token }
            }
            _ => GitCredentials { username: token, password: String::new() },
        })
    }
}

#[cfg(test)]
mod tests;
