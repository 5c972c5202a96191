//! Which provider is meant. Nothing here waits for a plugin unless the provider's type is unknown to us.

use std::sync::Arc;

use moorline_plugin::schema::Kind;
use serde_json::Value;

use super::App;
use crate::config::providers::ProviderConfig;

/// What came of choosing.
pub enum Choice {
    /// This one.
    Is(Arc<ProviderConfig>),
    /// These might be meant, and only their plugins know.
    Ask(Vec<Arc<ProviderConfig>>),
    /// None; the answer's detail.
    None(String),
}

/// The provider with this `id`, else the one whose expression or host fits `wanted`. The last one that fits is
/// taken, as in coder v2.24.0 coderd/workspaceagents.go; one whose operator wrote an expression goes before
/// those that fit by host.
pub fn choose(app: &App, id: &str, wanted: &str) -> Choice {
    let providers: Vec<&Arc<ProviderConfig>> = app.plugins.providers(Kind::ExternalAuth).collect();
    if !id.is_empty() {
        if let Some(found) = providers.iter().find(|provider| provider.id == id) {
            return Choice::Is(Arc::clone(found));
        }
        return Choice::None(hint(app, &providers));
    }
    let place = place_of(wanted);
    let (mut by_expression, mut by_host, mut unknown) = (None, None, Vec::new());
    for provider in &providers {
        if has_expression(provider) {
            if app.links.expression(&provider.id).is_some_and(|expression| expression.is_match(wanted)) {
                by_expression = Some(*provider);
            }
            continue;
        }
        match hosts(app, provider) {
            Some(hosts) if place.as_deref().is_some_and(|place| hosts.iter().any(|host| same(host, place))) => {
                by_host = Some(*provider);
            }
            Some(_) => {}
            None => unknown.push(Arc::clone(provider)),
        }
    }
    match by_expression.or(by_host) {
        Some(found) => Choice::Is(Arc::clone(found)),
        None if unknown.is_empty() => Choice::None(hint(app, &providers)),
        None => Choice::Ask(unknown),
    }
}

/// Whether the operator wrote an expression.
fn has_expression(provider: &ProviderConfig) -> bool {
    text(provider, "regex").is_some()
}

fn text<'p>(provider: &'p ProviderConfig, key: &str) -> Option<&'p str> {
    provider.settings.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Whether a type serves git; `None`: it is no type of ours.
pub(super) fn git_by_type(word: &str) -> Option<bool> {
    match word {
        "github" | "gitlab" | "gitea" | "bitbucket" | "bitbucket-cloud" | "bitbucket-server" | "azure-devops"
        | "azure-devops-entra" => Some(true),
        "jfrog" | "slack" | "oidc" => Some(false),
        _ => None,
    }
}

/// Where the git server of a provider is; `None`: only its plugin knows.
fn hosts(app: &App, provider: &ProviderConfig) -> Option<Vec<String>> {
    let own = ["auth_url", "issuer"].iter().find_map(|key| text(provider, key)).and_then(place_of);
    let usual = match provider.kind_word.as_str() {
        "azure-devops" | "azure-devops-entra" => return Some(vec!["dev.azure.com".to_owned()]),
        "github" => Some("github.com"),
        "gitlab" => Some("gitlab.com"),
        "gitea" => Some("gitea.com"),
        "bitbucket" | "bitbucket-cloud" => Some("bitbucket.org"),
        _ => None,
    };
    match git_by_type(&provider.kind_word) {
        Some(true) => Some(own.or_else(|| usual.map(str::to_owned)).into_iter().collect()),
        Some(false) => Some(Vec::new()),
        None => app.links.shown(&provider.id).map(|shown| shown.hosts),
    }
}

/// Host and port of what git or a person calls a repository: a URL, `host/path`, or `host`.
fn place_of(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    let authority = rest.split(['/', '?', '#']).next()?;
    let place = authority.rsplit('@').next()?.to_ascii_lowercase();
    let usual = match scheme.to_ascii_lowercase().as_str() {
        "http" => ":80",
        _ => ":443",
    };
    let place = place.strip_suffix(usual).unwrap_or(&place);
    (!place.is_empty()).then(|| place.to_owned())
}

fn same(host: &str, place: &str) -> bool {
    host.strip_suffix(":443").unwrap_or(host).eq_ignore_ascii_case(place)
}

/// What the providers would fit, for whoever has asked for another.
fn hint(app: &App, providers: &[&Arc<ProviderConfig>]) -> String {
    if providers.is_empty() {
        return "No provider is configured on this server.".to_owned();
    }
    let one = |provider: &&Arc<ProviderConfig>| {
        let fits = match text(provider, "regex") {
            Some(expression) => format!("/{expression}/"),
            None => hosts(app, provider).unwrap_or_default().join(", "),
        };
        if fits.is_empty() { format!("{} (by its id only)", provider.id) } else { format!("{} ({fits})", provider.id) }
    };
    let list: Vec<String> = providers.iter().map(one).collect();
    format!("The configured providers are: {}.", list.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_place_of_what_git_asks_for() {
        for (text, place) in [
            ("https://github.com", Some("github.com")),
            ("https://GitHub.com:443/a/b.git", Some("github.com")),
            ("https://user:pw@git.example.com:8443", Some("git.example.com:8443")),
            ("http://git.example.com:80/x", Some("git.example.com")),
            ("github.com/a/b", Some("github.com")),
            ("ssh://git@[2001:db8::1]:22/x", Some("[2001:db8::1]:22")),
            ("", None),
            ("https:///x", None),
        ] {
            assert_eq!(place_of(text).as_deref(), place, "{text}");
        }
        assert!(same("github.com:443", "github.com") && !same("github.com", "evilgithub.com"));
    }
}
