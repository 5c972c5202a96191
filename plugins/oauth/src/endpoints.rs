//! The addresses to use. Where only an issuer is given, OpenID Connect discovery finds them, once a day.

use std::time::Duration;

use moorline_plugin::{Answer, Host, Refusal};
use serde::Deserialize;

use crate::settings::Settings;
use crate::web;

/// Under which the discovery document is kept.
const KEPT: &str = "discovery";
/// How long it is used.
const KEEP: Duration = Duration::from_secs(24 * 3_600);

/// What is read of a discovery document.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: String,
    revocation_endpoint: String,
    device_authorization_endpoint: String,
}

/// See above.
pub(crate) struct Endpoints {
    issuer: String,
    auth_url: String,
    token_url: String,
    validate_url: String,
    revoke_url: String,
    device_code_url: String,
    host: Host,
}

impl Endpoints {
    pub(crate) fn new(settings: &Settings, host: Host) -> Endpoints {
        Endpoints {
            issuer: settings.issuer.trim_end_matches('/').to_owned(),
            auth_url: settings.auth_url.clone(),
            token_url: settings.token_url.clone(),
            validate_url: settings.validate_url.clone(),
            revoke_url: settings.revoke_url.clone(),
            device_code_url: settings.device_code_url.clone(),
            host,
        }
    }

    pub(crate) fn auth_url(&self) -> Answer<String> {
        self.needed("auth_url", &self.auth_url, |found| found.authorization_endpoint)
    }

    pub(crate) fn token_url(&self) -> Answer<String> {
        self.needed("token_url", &self.token_url, |found| found.token_endpoint)
    }

    pub(crate) fn device_code_url(&self) -> Answer<String> {
        self.needed("device_code_url", &self.device_code_url, |found| found.device_authorization_endpoint)
    }

    /// None: tokens are not validated.
    pub(crate) fn validate_url(&self) -> Answer<Option<String>> {
        self.wanted(&self.validate_url, |found| found.userinfo_endpoint)
    }

    /// None: tokens are not revoked.
    pub(crate) fn revoke_url(&self) -> Answer<Option<String>> {
        self.wanted(&self.revoke_url, |found| found.revocation_endpoint)
    }

    fn needed(&self, name: &str, set: &str, found: impl FnOnce(Document) -> String) -> Answer<String> {
        self.wanted(set, found)?
            .ok_or_else(|| Refusal::refused("not_configured", format!("The provider's {name} is not configured.")))
    }

    fn wanted(&self, set: &str, found: impl FnOnce(Document) -> String) -> Answer<Option<String>> {
        if !set.is_empty() {
            return Ok(Some(set.to_owned()));
        }
        if self.issuer.is_empty() {
            return Ok(None);
        }
        let url = found(self.document()?);
        Ok((!url.is_empty()).then_some(url))
    }

    fn document(&self) -> Answer<Document> {
        if let Some(kept) = self.host.cache_get(KEPT).and_then(|json| serde_json::from_slice(&json).ok()) {
            return Ok(kept);
        }
        let url = format!("{}/.well-known/openid-configuration", self.issuer);
        let response = web::send(&self.host, &web::request("GET", &url))?;
        if response.status != 200 {
            return Err(web::odd_status(&response, self.host.now()));
        }
        let broken =
            |why: String| Refusal::unavailable("provider_error", format!("The discovery document is not good: {why}."));
        let document: Document = serde_json::from_slice(&response.body).map_err(|error| broken(error.to_string()))?;
        if document.issuer.trim_end_matches('/') != self.issuer {
            return Err(broken("it is of another issuer".to_owned()));
        }
        self.host.cache_put(KEPT, &response.body, KEEP);
        Ok(document)
    }
}
