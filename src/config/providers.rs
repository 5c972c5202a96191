//! Providers of machine identity and external sign-in, as the configuration file has them.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use moorline_plugin::schema::Kind;
use serde_json::{Map, Value};

/// Keys of the tables in the configuration file.
pub const KEYS: [&str; 2] = ["identity", "external_auth"];
/// Providers of a kind; each is a process when it is used.
const PROVIDERS: usize = 64;
/// Longest id, characters.
const ID_CHARS: usize = 32;
/// Largest file with a secret, bytes.
const SECRET_BYTES: u64 = 64 * 1024;
/// Clouds whose plugins are shipped.
const CLOUDS: [&str; 3] = ["aws", "azure", "google"];
/// What the host itself reads of a table; all else is the plugin's.
const HOST_KEYS: [&str; 10] = [
    "id",
    "type",
    "library",
    "sha256",
    "egress",
    "ca_file",
    "proxy",
    "client_secret_file",
    "client_secret_env",
    "client_secret_credential",
];
/// What the shipped plugin for external sign-in reads.
const OAUTH_KEYS: [&str; 19] = [
    "client_id",
    "client_secret",
    "client_auth",
    "issuer",
    "auth_url",
    "token_url",
    "validate_url",
    "revoke_url",
    "app_install_url",
    "app_installations_url",
    "no_refresh",
    "scopes",
    "extra_token_keys",
    "device_flow",
    "device_code_url",
    "code_challenge_methods_supported",
    "regex",
    "display_name",
    "display_icon",
];

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

/// The tables of one key of a configuration file, as JSON. The file is known to be TOML.
pub(super) fn to_value(key: &str, text: &str) -> String {
    let table: toml::Table = text.parse().unwrap_or_default();
    table.get(key).and_then(|tables| serde_json::to_string(tables).ok()).unwrap_or_default()
}

/// What is needed beside the tables.
pub(super) struct Surroundings<'a> {
    /// Where shipped plugins lie.
    pub(super) plugin_dir: &'a Path,
    /// Places that every provider may reach.
    pub(super) egress: &'a [String],
    /// The environment.
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
}

/// Makes providers of the tables of one key; `text` is what [`to_value`] gave, empty without any. What is wrong, once for each fault.
pub(super) fn settle(key: &str, text: &str, around: &Surroundings<'_>) -> Result<Vec<ProviderConfig>, Vec<String>> {
    let kind = if key == "identity" { Kind::Identity } else { Kind::ExternalAuth };
    if text.is_empty() {
        return Ok(if kind == Kind::Identity { shipped(around) } else { Vec::new() });
    }
    let tables: Vec<Map<String, Value>> =
        serde_json::from_str(text).map_err(|_| vec![format!("it must be tables: [[{key}]]")])?;
    if tables.len() > PROVIDERS {
        return Err(vec![format!("there are {} providers; at most {PROVIDERS} are served", tables.len())]);
    }
    let (mut providers, mut problems): (Vec<ProviderConfig>, Vec<String>) = (Vec::new(), Vec::new());
    for (number, table) in (1..).zip(tables) {
        match provider(kind, table, around) {
            Ok(found) if providers.iter().any(|other| other.id == found.id) => {
                problems.push(format!("the id `{}` is used twice; give one of them another `id`", found.id));
            }
            Ok(found) => providers.push(found),
            Err(why) => problems.push(format!("number {number}: {why}")),
        }
    }
    if problems.is_empty() { Ok(providers) } else { Err(problems) }
}

/// Those of the shipped identity plugins that are there.
fn shipped(around: &Surroundings<'_>) -> Vec<ProviderConfig> {
    let there = |cloud: &&'static str| library_of(Kind::Identity, cloud, around.plugin_dir).is_file();
    CLOUDS
        .into_iter()
        .filter(there)
        .filter_map(|cloud| {
            let table = Map::from_iter([("type".to_owned(), Value::from(cloud))]);
            provider(Kind::Identity, table, around).ok()
        })
        .collect()
}

fn library_of(kind: Kind, word: &str, folder: &Path) -> PathBuf {
    folder.join(match kind {
        Kind::Identity => format!("libmoorline_{}_identity.so", word.replace('-', "_")),
        Kind::ExternalAuth => "libmoorline_oauth.so".to_owned(),
    })
}

fn provider(kind: Kind, mut table: Map<String, Value>, around: &Surroundings<'_>) -> Result<ProviderConfig, String> {
    let mut kind_word = text(&table, "type")?.ok_or("`type` is missing")?.to_ascii_lowercase();
    let id = text(&table, "id")?.unwrap_or_else(|| kind_word.clone());
    if kind == Kind::ExternalAuth && kind_word == "bitbucket" {
        kind_word = "bitbucket-cloud".to_owned();
    }
    check_id(&id)?;
    let own_library = text(&table, "library")?;
    if kind == Kind::ExternalAuth && own_library.is_none() {
        check_oauth(&table, &kind_word)?;
    }
    if let Some(secret) = secret(&table, around.variable)? {
        table.insert("client_secret".to_owned(), Value::String(secret));
    }
    let sha256 = text(&table, "sha256")?;
    if sha256.as_ref().is_some_and(|hash| hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return Err("`sha256` is not 64 hexadecimal digits".to_owned());
    }
    let mut egress = list(&table, "egress")?;
    egress.extend(around.egress.iter().cloned());
    let config = ProviderConfig {
        library: own_library.map_or_else(|| library_of(kind, &kind_word, around.plugin_dir), PathBuf::from),
        id,
        kind,
        kind_word,
        sha256,
        egress,
        ca: text(&table, "ca_file")?.map(PathBuf::from),
        proxy: text(&table, "proxy")?,
        settings: {
            table.retain(|key, _| !HOST_KEYS.contains(&key.as_str()));
            Value::Object(table)
        },
    };
    Ok(config)
}

fn text(table: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match table.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("`{key}` must be text in quotes")),
    }
}

fn list(table: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("`{key}` must be an array of texts in quotes");
    match table.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// As the real server has it (coder v2.24.0 codersdk/name.go), since it stands in URLs.
fn check_id(id: &str) -> Result<(), String> {
    let good = id.len() <= ID_CHARS
        && !matches!(id, "new" | "create")
        && id.split('-').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if good {
        Ok(())
    } else {
        Err(format!(
            "the id `{id}` must be 1 to {ID_CHARS} letters, digits and single hyphens, and neither new nor create"
        ))
    }
}

/// What can be seen without the plugin.
fn check_oauth(table: &Map<String, Value>, kind_word: &str) -> Result<(), String> {
    let known = || OAUTH_KEYS.into_iter().chain(HOST_KEYS);
    if let Some(key) = table.keys().find(|key| !known().any(|known| known == key.as_str())) {
        let hint = super::nearest(key, known()).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
        return Err(format!("`{key}` is not known{hint}"));
    }
    if text(table, "client_id")?.is_none_or(|id| id.is_empty()) {
        return Err("`client_id` is missing".to_owned());
    }
    if let Some(regex) = text(table, "regex")? {
        regex::Regex::new(&regex).map_err(|error| format!("`regex` is not good: {error}"))?;
    }
    let device = table.get("device_flow").and_then(Value::as_bool).unwrap_or(false);
    let address = ["device_code_url", "issuer"].iter().any(|key| table.contains_key(*key));
    if device && !address && kind_word != "github" {
        return Err("`device_flow` needs a `device_code_url`".to_owned());
    }
    Ok(())
}

/// The client's secret from where it is kept; none if it is written in the table, or not at all.
fn secret(table: &Map<String, Value>, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<String>, String> {
    const PLACES: [&str; 4] = ["client_secret", "client_secret_file", "client_secret_env", "client_secret_credential"];
    let mut given = PLACES.into_iter().filter(|key| table.contains_key(*key));
    let (first, second) = (given.next(), given.next());
    if let (Some(first), Some(second)) = (first, second) {
        return Err(format!("`{first}` and `{second}` are both given"));
    }
    let Some(key) = first else { return Ok(None) };
    let value = text(table, key)?.unwrap_or_default();
    match key {
        "client_secret_file" => file(Path::new(&value)).map(Some),
        "client_secret_env" => {
            let found = variable(&value).and_then(|found| found.into_string().ok());
            found.map(Some).ok_or_else(|| format!("the variable {value} of `{key}` is not set"))
        }
        "client_secret_credential" => {
            let folder = variable("CREDENTIALS_DIRECTORY").ok_or("there are no systemd credentials here")?;
            if value.contains('/') || value.starts_with('.') {
                return Err(format!("`{key}` is the name of a credential, not a path"));
            }
            file(&Path::new(&folder).join(value)).map(Some)
        }
        _ => Ok(None),
    }
}

/// A secret from a file, without the line's end.
fn file(path: &Path) -> Result<String, String> {
    let failed = |why: String| format!("the secret in {} cannot be read: {why}", path.display());
    let mut text = String::new();
    let opened = File::open(path).map_err(|error| failed(error.to_string()))?;
    opened.take(SECRET_BYTES).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Where shipped plugins lie unless the operator says otherwise: beside the program, or in the `lib` folder next to its own.
pub(super) fn default_plugin_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.parent().map(Path::to_path_buf).unwrap_or_default();
    if library_of(Kind::ExternalAuth, "", &beside).is_file() {
        return beside;
    }
    beside.parent().map(|above| above.join("lib/moorline")).unwrap_or(beside)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
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

    fn settled(key: &str, file: &str) -> Result<Vec<ProviderConfig>, Vec<String>> {
        let variable = |name: &str| (name == "SECRET").then(|| "s3cret".into());
        let around = Surroundings {
            plugin_dir: Path::new("/plugins"),
            egress: &["proxy.example.com".into()],
            variable: &variable,
        };
        settle(key, &to_value(key, file), &around)
    }

    #[test]
    fn reads_providers_and_their_secrets() {
        let file = r#"
            [[external_auth]]
            type = "GitHub"
            client_id = "c"
            client_secret_env = "SECRET"
            [[external_auth]]
            id = "own"
            type = "gitea"
            client_id = "c"
            auth_url = "https://git.example.com/login/oauth/authorize"
            egress = ["api.example.com"]
        "#;
        let found = settled("external_auth", file).unwrap();
        assert_eq!(
            (found[0].id.as_str(), found[0].library.to_str()),
            ("github", Some("/plugins/libmoorline_oauth.so"))
        );
        assert_eq!(found[0].settings, json!({"client_id": "c", "client_secret": "s3cret"}));
        assert_eq!(found[1].egress, ["api.example.com", "proxy.example.com"]);
        assert!(settled("external_auth", "").unwrap().is_empty());
        assert!(settled("identity", "").unwrap().is_empty(), "no shipped plugin lies there");
    }

    #[test]
    fn refuses_each_bad_table() {
        for (table, expected) in [
            ("client_id = 'c'", "`type` is missing"),
            ("type = 'github'", "`client_id` is missing"),
            ("type = 'github'\nclient_id = 7", "must be text"),
            ("type = 'github'\nclient_id = 'c'\nclient_idd = 'c'", "did you mean `client_id`?"),
            ("type = 'github'\nclient_id = 'c'\nid = 'a--b'", "the id `a--b`"),
            ("type = 'github'\nclient_id = 'c'\nid = 'new'", "the id `new`"),
            ("type = 'github'\nclient_id = 'c'\nregex = '('", "`regex` is not good"),
            ("type = 'gitlab'\nclient_id = 'c'\ndevice_flow = true", "needs a `device_code_url`"),
            ("type = 'github'\nclient_id = 'c'\nsha256 = 'x'", "64 hexadecimal"),
            ("type = 'github'\nclient_id = 'c'\nclient_secret = 'a'\nclient_secret_env = 'SECRET'", "both given"),
            ("type = 'github'\nclient_id = 'c'\nclient_secret_env = 'NONE'", "is not set"),
            ("type = 'github'\nclient_id = 'c'\nclient_secret_file = '/none'", "cannot be read"),
            ("type = 'github'\nclient_id = 'c'\nclient_secret_credential = 'x'", "no systemd credentials"),
        ] {
            let problems = settled("external_auth", &format!("[[external_auth]]\n{table}\n")).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains(expected), "{expected}: {problems:?}");
        }
        let twice = "[[external_auth]]\ntype = 'github'\nclient_id = 'c'\n".repeat(2);
        assert!(settled("external_auth", &twice).unwrap_err()[0].contains("used twice"));
        assert!(settled("external_auth", "external_auth = 7").is_err());
    }
}
