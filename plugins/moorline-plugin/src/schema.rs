//! The JSON that goes in and out of plugins, as Rust types. Binary values are base64 (standard alphabet, padded),
//! instants are integers: seconds since 1970 began, UTC. Members that are not listed are ignored; a member with a
//! default may be left out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes as base64.
pub mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes base64.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

/// What a plugin can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Proves which machine speaks: methods `verify`, `anchors`.
    Identity,
    /// Signs people in at a provider: methods `defaults`, `authorize`, `exchange`, `refresh`, `validate`, `installations`,
    /// `device_start`, `device_poll`, `revoke`, `git_credentials`.
    ExternalAuth,
}

impl Kind {
    /// As it stands in JSON and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Identity => "identity",
            Kind::ExternalAuth => "external-auth",
        }
    }
}

/// Reply of `describe`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Description {
    /// Short name: lower-case letters, digits, hyphens.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// What it is.
    pub kind: Kind,
    /// Words such as [`crate::abi::CONCURRENT`], and of [`Kind::ExternalAuth`] the methods beyond `authorize`, `exchange` and
    /// `git_credentials` that it has.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Provider types ([`Kind::ExternalAuth`], e.g. `github`) or clouds ([`Kind::Identity`], e.g. `aws`) that it serves.
    #[serde(default)]
    pub serves: Vec<String>,
}

/// Request of `create`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Setup {
    /// The provider's id in the configuration.
    pub provider: String,
    /// The cloud or the provider's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The provider's settings as the operator wrote them; secrets included.
    #[serde(default)]
    pub settings: Value,
    /// Trust anchors ([`Kind::Identity`]).
    #[serde(default)]
    pub anchors: Vec<Anchor>,
}

/// Something that is trusted: a certificate or a key set, with the day it ends.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Anchor {
    /// E.g. `aws/other`, `azure/root/digicert-global-root-g2`.
    pub name: String,
    /// `aws` region group, `azure-root`, `azure-intermediate`, `jwks`.
    pub role: String,
    /// DER of a certificate, or JSON of a key set.
    #[serde(with = "base64_bytes")]
    pub data: Vec<u8>,
    /// When it ends, if it does.
    #[serde(default)]
    pub not_after: Option<i64>,
}

/// What comes with any status but OK.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Refused {
    /// One word for programs, e.g. `unknown_key`, `expired`, `clock_skew`, `bad_signature`, `authorization_pending`, `dead_grant`.
    #[serde(default)]
    pub code: String,
    /// One sentence for the operator's log and the person; no secrets.
    #[serde(default)]
    pub message: String,
    /// When it makes sense to try again, seconds from now.
    #[serde(default)]
    pub retry_after: Option<u64>,
}

/// Request of [`crate::abi::Host::http`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct HttpRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// `https://…`; `http://` only where the operator's configuration names it.
    pub url: String,
    /// Names and values in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(default, with = "base64_bytes")]
    pub body: Vec<u8>,
    /// Shorter limit than [`crate::abi::HTTP_MILLISECONDS`].
    #[serde(default)]
    pub timeout_ms: Option<u32>,
}

/// Reply of [`crate::abi::Host::http`]. Redirects are not followed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Names in lower case, and values, in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(default, with = "base64_bytes")]
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Reply of `anchors` (no request members): what the plugin trusts, shipped and handed to it. An anchor of [`Setup`] takes the
/// place of the shipped one of the same name.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Anchors {
    /// By name.
    pub anchors: Vec<Anchor>,
}

/// Request of `verify`: the body that the machine has sent, as text members.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// `signature` and `document` (aws), `signature` and `encoding` (azure), `json_web_token` (google), or what a plugin of one's
    /// own asks for.
    pub fields: BTreeMap<String, String>,
}

/// Reply of `verify`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Verified {
    /// The proven id of the machine, as the operator binds it.
    pub instance_id: String,
    /// What else the document says and the audit log may keep: region, account, project.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
}

/// Reply of `defaults` (no request members): the provider's settings with everything filled in that the operator left out.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Provider {
    /// For people.
    pub display_name: String,
    /// Path or URL of an icon.
    #[serde(default)]
    pub display_icon: String,
    /// Regular expression that URLs of this provider match.
    #[serde(default)]
    pub regex: String,
    /// Host (and port, if it is not the usual one) of the git server, for matching by host.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Whether it is a git server.
    #[serde(default)]
    pub git: bool,
    /// Signs in by device flow rather than in the browser.
    #[serde(default)]
    pub device_flow: bool,
    /// Tokens can be refreshed.
    #[serde(default)]
    pub allow_refresh: bool,
    /// Tokens can be validated.
    #[serde(default)]
    pub allow_validate: bool,
    /// Tokens can be revoked.
    #[serde(default)]
    pub supports_revocation: bool,
    /// The authorize URL takes a PKCE challenge (`S256`).
    #[serde(default)]
    pub pkce: bool,
    /// Shown to people who have to install an app at the provider.
    #[serde(default)]
    pub app_install_url: String,
    /// `installations` can be asked.
    #[serde(default)]
    pub app_installable: bool,
    /// Every host that the provider's URLs name, with port: what the egress list must allow.
    #[serde(default)]
    pub egress: Vec<String>,
    /// What an operator should know about this configuration; sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Request of `authorize`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct AuthorizeRequest {
    /// Where the provider sends the browser back to.
    pub redirect_uri: String,
    /// Comes back with it.
    pub state: String,
    /// PKCE challenge by S256, when [`Provider::pkce`].
    #[serde(default)]
    pub code_challenge: Option<String>,
}

/// Reply of `authorize`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Authorize {
    /// Where to send the browser.
    pub url: String,
}

/// Request of `exchange`. A code is sent to the provider once, never again.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ExchangeRequest {
    /// What the browser brought.
    pub code: String,
    /// As in [`AuthorizeRequest`].
    pub redirect_uri: String,
    /// What the challenge was made of.
    #[serde(default)]
    pub code_verifier: Option<String>,
}

/// Request of `refresh`. A refresh token is sent to the provider once, never again.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RefreshRequest {
    /// The token.
    pub refresh_token: String,
}

/// Reply of `exchange`, `refresh` and `device_poll`. `refresh` refuses with the code `dead_grant` when the provider says that the
/// refresh token is good no more, and is unavailable in every other case.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Token {
    /// The access token; never empty.
    pub access_token: String,
    /// Empty: none was given; after `refresh`, the old one stays.
    #[serde(default)]
    pub refresh_token: String,
    /// When the access token ends; absent: never.
    #[serde(default)]
    pub expires_at: Option<i64>,
    /// The extra keys that the operator asked for.
    #[serde(default)]
    pub extra: Option<Value>,
}

/// Request of `validate`, `installations` and `git_credentials`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct TokenRequest {
    /// The access token.
    pub access_token: String,
}

/// Reply of `validate`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Validity {
    /// Whether the provider takes the token (or limits its rate and cannot say).
    pub valid: bool,
    /// Whose it is, if the provider says.
    #[serde(default)]
    pub user: Option<Account>,
    /// Seconds until the provider may be asked again, when it limits the rate.
    #[serde(default)]
    pub retry_after: Option<u64>,
}

/// A person or organisation at the provider.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    /// Its number.
    pub id: i64,
    /// Its name in URLs.
    pub login: String,
    /// A picture.
    #[serde(default)]
    pub avatar_url: String,
    /// Its page.
    #[serde(default)]
    pub profile_url: String,
    /// Its name for people.
    #[serde(default)]
    pub name: String,
}

/// Reply of `installations`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Installations {
    /// Where the provider's app is installed.
    pub installations: Vec<Installation>,
}

/// One installation of the provider's app.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Installation {
    /// Its number.
    pub id: i64,
    /// Whose.
    pub account: Account,
    /// Where it is configured.
    #[serde(default)]
    pub configure_url: String,
}

/// Reply of `device_start` (no request members).
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Device {
    /// For `device_poll`.
    pub device_code: String,
    /// What the person types.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// Seconds.
    pub expires_in: i64,
    /// Seconds between polls.
    pub interval: i64,
}

/// Request of `device_poll`. It refuses with the provider's own code: `authorization_pending`, `slow_down`, `expired_token`,
/// `access_denied`, …
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct DevicePoll {
    /// From [`Device`].
    pub device_code: String,
}

/// Request of `revoke` (empty reply).
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RevokeRequest {
    /// The access token.
    pub access_token: String,
    /// The refresh token, or empty.
    #[serde(default)]
    pub refresh_token: String,
}

/// Reply of `git_credentials`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct GitCredentials {
    /// What git is told as user name.
    pub username: String,
    /// What git is told as password; empty: the user name again.
    #[serde(default)]
    pub password: String,
}
