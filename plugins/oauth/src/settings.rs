//! What the operator wrote.

use moorline_plugin::schema::Provider;
use moorline_plugin::{Answer, Refusal};
use serde::Deserialize;
use serde_json::Value;

use crate::types::Type;
use crate::web::{self, Place};

/// How a client says who it is when it asks for tokens.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientAuth {
    /// In the form.
    #[default]
    Form,
    /// In the header `Authorization`.
    Basic,
}

/// The fields of a provider; unknown ones are for others.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) client_auth: ClientAuth,
    /// OpenID Connect issuer; the addresses come from its discovery document.
    pub(crate) issuer: String,
    pub(crate) auth_url: String,
    pub(crate) token_url: String,
    pub(crate) validate_url: String,
    pub(crate) revoke_url: String,
    pub(crate) app_install_url: String,
    pub(crate) app_installations_url: String,
    pub(crate) no_refresh: bool,
    pub(crate) scopes: Vec<String>,
    pub(crate) extra_token_keys: Vec<String>,
    pub(crate) device_flow: bool,
    pub(crate) device_code_url: String,
    pub(crate) code_challenge_methods_supported: Vec<String>,
    pub(crate) regex: String,
    pub(crate) display_name: String,
    pub(crate) display_icon: String,
    /// What the operator should know.
    #[serde(skip)]
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    pub(crate) fn of(value: Value) -> Answer<Settings> {
        if value.is_null() {
            return Ok(Settings::default());
        }
        serde_json::from_value(value).map_err(|error| Refusal::invalid(format!("The settings are not good: {error}.")))
    }

    /// Every address that is set, with its name.
    fn urls(&self) -> [(&'static str, &str); 7] {
        [
            ("issuer", &self.issuer),
            ("auth_url", &self.auth_url),
            ("token_url", &self.token_url),
            ("validate_url", &self.validate_url),
            ("revoke_url", &self.revoke_url),
            ("app_installations_url", &self.app_installations_url),
            ("device_code_url", &self.device_code_url),
        ]
    }

    /// Says what is wrong once everything is filled in.
    pub(crate) fn check(&mut self) -> Answer<()> {
        if self.client_id.is_empty() {
            return Err(Refusal::invalid("The client_id is missing."));
        }
        if let Some((name, url)) = self.urls().iter().find(|(_, url)| !url.is_empty() && Place::of(url).is_none()) {
            return Err(Refusal::invalid(format!("The {name} {url:?} is not an http or https URL.")));
        }
        if self.device_flow && self.device_code_url.is_empty() && self.issuer.is_empty() {
            return Err(Refusal::invalid("The device flow needs a device_code_url, or an issuer that names one."));
        }
        let missing: Vec<&str> = [("auth_url", &self.auth_url), ("token_url", &self.token_url)]
            .iter()
            .filter(|(name, url)| url.is_empty() && !(*name == "auth_url" && self.device_flow))
            .map(|(name, _)| *name)
            .collect();
        if self.issuer.is_empty() && !missing.is_empty() {
            self.warnings.push(format!("Nobody can sign in: {} is missing.", missing.join(" and ")));
        }
        if self.validate_url.is_empty() && self.issuer.is_empty() {
            self.warnings.push("Without a validate_url, tokens count as good until they end.".to_owned());
        }
        Ok(())
    }

    /// As the server shows and uses them.
    pub(crate) fn shown(&self, kind: Type) -> Provider {
        let git = kind.is_git();
        let base = if self.auth_url.is_empty() { &self.issuer } else { &self.auth_url };
        let hosts = match kind {
            Type::AzureDevops | Type::AzureDevopsEntra => vec!["dev.azure.com".to_owned()],
            _ if git => Place::of(base).map(|place| place.authority.to_owned()).into_iter().collect(),
            _ => Vec::new(),
        };
        let mut egress: Vec<String> =
            self.urls().iter().skip(1).filter_map(|(_, url)| Place::of(url)).map(|place| place.with_port()).collect();
        egress.extend(Place::of(&self.issuer).map(|place| place.with_port()));
        if !self.auth_url.is_empty() && self.token_url != self.auth_url {
            // Only browsers go there.
            let only = Place::of(&self.auth_url).map(|place| place.with_port());
            let elsewhere =
                self.urls().iter().skip(2).filter_map(|(_, url)| Place::of(url)).any(|p| Some(p.with_port()) == only);
            if !elsewhere {
                egress.retain(|place| Some(place) != only.as_ref());
            }
        }
        egress.sort();
        egress.dedup();
        Provider {
            display_name: self.display_name.clone(),
            display_icon: self.display_icon.clone(),
            regex: self.regex.clone(),
            hosts,
            git,
            device_flow: self.device_flow,
            allow_refresh: !self.no_refresh,
            // What an issuer offers is only known once it is asked.
            allow_validate: !self.validate_url.is_empty() || !self.issuer.is_empty(),
            supports_revocation: !self.revoke_url.is_empty() || !self.issuer.is_empty(),
            pkce: self.code_challenge_methods_supported.iter().any(|method| method == "S256"),
            app_install_url: self.app_install_url.clone(),
            app_installable: !self.app_installations_url.is_empty(),
            egress,
            warnings: self.warnings.clone(),
        }
    }

    /// `id:secret` for the header `Authorization`, each form-escaped as RFC 6749 section 2.3.1 asks.
    pub(crate) fn basic(&self) -> String {
        web::basic(&self.client_id, &self.client_secret)
    }
}
