//! Providers of machine identity and external sign-in, as the configuration file has them.

use std::fmt;
use std::path::PathBuf;

use moorline_plugin::schema::Kind;
use serde_json::Value;

/// A provider.
#[derive(Clone, PartialEq)]
pub struct ProviderConfig {
    /// Unique within its kind; part of URLs.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// Cloud (`aws`, …) or provider type (`github`, …).
    pub kind_word: String,
    /// The plugin's library.
    pub library: PathBuf,
    /// What the library's SHA-256 must be.
    pub sha256: Option<String>,
    /// For the plugin; secrets are in it.
    pub settings: Value,
    /// Further places that the plugin may reach, `host` or `host:port`.
    pub egress: Vec<String>,
    /// A file with further certificate authorities (PEM).
    pub ca: Option<PathBuf>,
    /// A proxy; empty: none; absent: what `HTTPS_PROXY` and `NO_PROXY` say.
    pub proxy: Option<String>,
}

/// Without the settings, which hold secrets.
impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderConfig")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("type", &self.kind_word)
            .field("library", &self.library)
            .finish_non_exhaustive()
    }
}

/// Places that the types reach by default, where the operator gives no address.
fn default_places(kind: Kind, word: &str) -> &'static [&'static str] {
    match (kind, word) {
        (Kind::Identity, "google") => &["www.googleapis.com:443"],
        (Kind::Identity, _) => &[],
        (_, "github") => &["github.com:443", "api.github.com:443"],
        (_, "gitlab") => &["gitlab.com:443"],
        (_, "gitea") => &["gitea.com:443"],
        (_, "bitbucket" | "bitbucket-cloud") => &["bitbucket.org:443", "api.bitbucket.org:443"],
        (_, "azure-devops") => &["app.vssps.visualstudio.com:443"],
        (_, "slack") => &["slack.com:443"],
        _ => &[],
    }
}

impl ProviderConfig {
    /// Every `host:port` that the plugin may reach: those of the addresses that the operator wrote, those of its type, and the
    /// further ones.
    pub fn allowed(&self) -> Vec<String> {
        let mut places: Vec<String> = urls(&self.settings).into_iter().map(|(_, place)| place).collect();
        places.extend(default_places(self.kind, &self.kind_word).iter().map(|place| (*place).to_owned()));
        places.extend(self.egress.iter().map(|place| with_port(&place.to_ascii_lowercase(), 443)));
        places.sort();
        places.dedup();
        places
    }

    /// Those of the operator's addresses that begin with `http://`.
    pub fn plain(&self) -> Vec<String> {
        urls(&self.settings).into_iter().filter(|(plain, _)| *plain).map(|(_, place)| place).collect()
    }
}

/// Whether each address among the settings is plain, and its place.
fn urls(settings: &Value) -> Vec<(bool, String)> {
    let texts = settings.as_object().into_iter().flat_map(|members| members.values()).filter_map(Value::as_str);
    texts
        .filter_map(|text| {
            let (scheme, rest) = text.split_once("://")?;
            let plain = match scheme {
                "http" => true,
                "https" => false,
                _ => return None,
            };
            let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest).to_ascii_lowercase();
            Some((plain, with_port(&authority, if plain { 80 } else { 443 })))
        })
        .collect()
}

fn with_port(authority: &str, port: u16) -> String {
    let behind = authority.rfind(']').unwrap_or(0);
    match authority.get(behind..) {
        Some(rest) if rest.contains(':') => authority.to_owned(),
        _ => format!("{authority}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn allows_what_the_operator_wrote_and_no_more() {
        let provider = ProviderConfig {
            id: "git".into(),
            kind: Kind::ExternalAuth,
            kind_word: "gitea".into(),
            library: "/x.so".into(),
            sha256: None,
            settings: json!({"auth_url": "http://Git.example.com:3000/login", "client_secret": "https", "scopes": ["a"]}),
            egress: vec!["api.example.com".into(), "[::1]:8080".into()],
            ca: None,
            proxy: None,
        };
        assert_eq!(provider.allowed(), ["[::1]:8080", "api.example.com:443", "git.example.com:3000", "gitea.com:443"]);
        assert_eq!(provider.plain(), ["git.example.com:3000"]);
        assert!(!format!("{provider:?}").contains("secret"));
    }
}
