//! What each type of provider fills in where the operator left something out.

use moorline_plugin::{Answer, Refusal};

use crate::settings::Settings;
use crate::web::Place;

/// The application id of Azure DevOps, for which Entra makes tokens.
pub(crate) const AZURE_DEVOPS_RESOURCE: &str = "499b84ac-1321-427f-aa17-267ca6975798";

/// Types with rules of their own; any other word is plain OAuth2.
pub(crate) const NAMES: &[&str] = &[
    "github",
    "gitlab",
    "gitea",
    "bitbucket-cloud",
    "bitbucket-server",
    "azure-devops",
    "azure-devops-entra",
    "jfrog",
    "slack",
    "oidc",
    "oauth2",
];

/// The type of a provider.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Type {
    Github,
    Gitlab,
    Gitea,
    BitbucketCloud,
    BitbucketServer,
    AzureDevops,
    AzureDevopsEntra,
    Jfrog,
    Slack,
    Other,
}

fn put(into: &mut String, value: impl Into<String>) {
    if into.is_empty() {
        *into = value.into();
    }
}

fn list(into: &mut Vec<String>, values: &[&str]) {
    if into.is_empty() {
        *into = values.iter().map(|value| (*value).to_owned()).collect();
    }
}

/// Matches a host with or without scheme and with any path.
fn host_regex(authority: &str) -> String {
    format!("^(https?://)?{}(/.*)?$", authority.replace('.', "\\."))
}

impl Type {
    /// The type of this name; the old name of Bitbucket's cloud counts too.
    pub(crate) fn of(name: &str) -> Type {
        match name.to_ascii_lowercase().as_str() {
            "github" => Type::Github,
            "gitlab" => Type::Gitlab,
            "gitea" | "forgejo" => Type::Gitea,
            "bitbucket" | "bitbucket-cloud" => Type::BitbucketCloud,
            "bitbucket-server" => Type::BitbucketServer,
            "azure-devops" => Type::AzureDevops,
            "azure-devops-entra" => Type::AzureDevopsEntra,
            "jfrog" => Type::Jfrog,
            "slack" => Type::Slack,
            _ => Type::Other,
        }
    }

    pub(crate) fn is_git(self) -> bool {
        !matches!(self, Type::Jfrog | Type::Slack | Type::Other)
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Type::Github => ("GitHub", "/icon/github.svg"),
            Type::Gitlab => ("GitLab", "/icon/gitlab.svg"),
            Type::Gitea => ("Gitea", "/icon/gitea.svg"),
            Type::BitbucketCloud => ("BitBucket", "/icon/bitbucket.svg"),
            Type::BitbucketServer => ("Bitbucket Server", "/icon/bitbucket.svg"),
            Type::AzureDevops => ("Azure DevOps", "/icon/azure-devops.svg"),
            Type::AzureDevopsEntra => ("Azure DevOps (Entra)", "/icon/azure-devops.svg"),
            Type::Jfrog => ("JFrog Artifactory", "/icon/jfrog.svg"),
            Type::Slack => ("Slack", "/icon/slack.svg"),
            Type::Other => ("", "/emojis/1f511.png"),
        }
    }

    /// Fills in what is empty.
    pub(crate) fn fill_in(self, settings: &mut Settings) -> Answer<()> {
        let (name, icon) = self.names();
        put(&mut settings.display_name, name);
        put(&mut settings.display_icon, icon);
        match self {
            Type::Github => github(settings),
            Type::Gitlab => gitlab(settings),
            Type::Gitea => gitea(settings),
            Type::BitbucketCloud => {
                put(&mut settings.auth_url, "https://bitbucket.org/site/oauth2/authorize");
                put(&mut settings.token_url, "https://bitbucket.org/site/oauth2/access_token");
                put(&mut settings.validate_url, "https://api.bitbucket.org/2.0/user");
                put(&mut settings.regex, host_regex("bitbucket.org"));
                list(&mut settings.scopes, &["account", "repository:write"]);
            }
            Type::BitbucketServer => bitbucket_server(settings)?,
            Type::AzureDevops => {
                put(&mut settings.auth_url, "https://app.vssps.visualstudio.com/oauth2/authorize");
                put(&mut settings.token_url, "https://app.vssps.visualstudio.com/oauth2/token");
                put(&mut settings.regex, host_regex("dev.azure.com"));
                list(&mut settings.scopes, &["vso.code_write"]);
            }
            Type::AzureDevopsEntra => entra(settings)?,
            Type::Jfrog => jfrog(settings)?,
            Type::Slack => {
                put(&mut settings.auth_url, "https://slack.com/oauth/v2/authorize");
                put(&mut settings.token_url, "https://slack.com/api/oauth.v2.access");
                put(&mut settings.revoke_url, "https://slack.com/api/auth.revoke");
                list(&mut settings.extra_token_keys, &["authed_user"]);
            }
            Type::Other => {}
        }
        Ok(())
    }
}

/// Scheme and authority of the address that the operator must give.
fn base(settings: &Settings, kind: &str) -> Answer<(String, String)> {
    if settings.auth_url.is_empty() {
        return Err(Refusal::invalid(format!("A provider of type {kind} needs an auth_url.")));
    }
    match Place::of(&settings.auth_url) {
        Some(place) => Ok((place.base(), place.authority.to_owned())),
        None => Err(Refusal::invalid(format!("The auth_url {:?} is not an http or https URL.", settings.auth_url))),
    }
}

fn github(settings: &mut Settings) {
    let own = Place::of(&settings.auth_url).is_some_and(|place| place.authority != "github.com");
    if own && [&settings.token_url, &settings.validate_url].iter().any(|url| url.is_empty()) {
        settings.warnings.push(
            "The auth_url is not GitHub's own, but token_url or validate_url is left out and thus github.com's: an Enterprise \
             server needs all of them."
                .to_owned(),
        );
    }
    put(&mut settings.auth_url, "https://github.com/login/oauth/authorize");
    put(&mut settings.token_url, "https://github.com/login/oauth/access_token");
    put(&mut settings.validate_url, "https://api.github.com/user");
    put(&mut settings.app_installations_url, "https://api.github.com/user/installations");
    put(&mut settings.device_code_url, "https://github.com/login/device/code");
    if !own {
        let revoke = format!("https://api.github.com/applications/{}/grant", settings.client_id);
        put(&mut settings.revoke_url, revoke);
    }
    let host = Place::of(&settings.auth_url).map_or("github.com", |place| place.authority).to_owned();
    put(&mut settings.regex, host_regex(&host));
    list(&mut settings.scopes, &["repo", "workflow"]);
    list(&mut settings.code_challenge_methods_supported, &["S256"]);
}

fn gitlab(settings: &mut Settings) {
    put(&mut settings.auth_url, "https://gitlab.com/oauth/authorize");
    if let Some(place) = Place::of(&settings.auth_url) {
        let (base, host) = (place.base(), place.authority.to_owned());
        put(&mut settings.token_url, format!("{base}/oauth/token"));
        put(&mut settings.validate_url, format!("{base}/oauth/token/info"));
        put(&mut settings.revoke_url, format!("{base}/oauth/revoke"));
        put(&mut settings.regex, host_regex(&host));
    }
    list(&mut settings.scopes, &["write_repository"]);
    list(&mut settings.code_challenge_methods_supported, &["S256"]);
}

fn gitea(settings: &mut Settings) {
    put(&mut settings.auth_url, "https://gitea.com/login/oauth/authorize");
    if let Some(place) = Place::of(&settings.auth_url) {
        let (base, host) = (place.base(), place.authority.to_owned());
        put(&mut settings.token_url, format!("{base}/login/oauth/access_token"));
        put(&mut settings.validate_url, format!("{base}/login/oauth/userinfo"));
        put(&mut settings.regex, host_regex(&host));
    }
    list(&mut settings.scopes, &["read:repository", "write:repository", "read:user"]);
    list(&mut settings.code_challenge_methods_supported, &["S256"]);
}

fn bitbucket_server(settings: &mut Settings) -> Answer<()> {
    let (base, host) = base(settings, "bitbucket-server")?;
    put(&mut settings.token_url, format!("{base}/rest/oauth2/latest/token"));
    put(&mut settings.validate_url, format!("{base}/rest/api/latest/inbox/pull-requests/count"));
    put(&mut settings.regex, host_regex(&host));
    list(&mut settings.scopes, &["PUBLIC_REPOS", "REPO_READ", "REPO_WRITE"]);
    Ok(())
}

fn entra(settings: &mut Settings) -> Answer<()> {
    let (base, _) = base(settings, "azure-devops-entra")?;
    let path = Place::of(&settings.auth_url).map_or("", |place| place.path);
    let Some(tenant) = path.strip_suffix("/oauth2/authorize").filter(|tenant| tenant.len() > 1) else {
        return Err(Refusal::invalid(
            "The auth_url of type azure-devops-entra is https://login.microsoftonline.com/TENANT/oauth2/authorize.",
        ));
    };
    let token_url = format!("{base}{tenant}/oauth2/token");
    put(&mut settings.token_url, token_url);
    put(&mut settings.regex, host_regex("dev.azure.com"));
    Ok(())
}

fn jfrog(settings: &mut Settings) -> Answer<()> {
    let (base, _) = base(settings, "jfrog")?;
    let token_url = format!("{base}/access/api/v1/integrations/{}/token", settings.client_id);
    put(&mut settings.token_url, token_url);
    put(&mut settings.validate_url, format!("{base}/access/api/v1/system/ping"));
    list(&mut settings.scopes, &["applied-permissions/user"]);
    Ok(())
}
