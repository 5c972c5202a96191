//! Where the value of each setting comes from: flag, environment, file, default; the first that has
//! one wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::table::{SETTINGS, Setting};
use super::{file, providers, regions};

/// The file that is read when it stands in the working folder and no other is named.
pub const DEFAULT_CONFIG: &str = "moorline.toml";
/// Names the configuration file in place of `--config`.
pub const CONFIG_VARIABLE: &str = "MOORLINE_CONFIG";

/// Variables (behind `MOORLINE_`) that steer tests and benchmarks, whose servers inherit them; those that
/// end in `_` are beginnings.
const NOT_SETTINGS: &[&str] = &["bench_", "bin", "crash_", "interop_", "regenerate", "skip_", "test_"];

/// A value as it was written, and where.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Raw {
    /// As text, whatever it was in the file.
    pub value: String,
    /// `flag --listen`, `MOORLINE_LISTEN`, `moorline.toml:3`, `default`.
    pub origin: String,
}

/// What is wrong with the configuration: full sentences, one a line.
#[derive(Clone, PartialEq, Debug)]
pub struct ConfigError(pub Vec<String>);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Where settings come from.
pub struct Sources<'a> {
    /// Key and value of each flag given.
    pub flags: Vec<(&'static str, String)>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Looks up an environment variable.
    pub environment: &'a dyn Fn(&str) -> Option<OsString>,
    /// All variables whose names begin with `MOORLINE_`, to find misspelt ones.
    pub variables: Vec<String>,
}

impl Sources<'_> {
    /// The value of every setting, with all that is wrong at once.
    pub fn collect(&self) -> Result<BTreeMap<&'static str, Raw>, ConfigError> {
        let mut problems = Vec::new();
        let from_file = match self.file() {
            None => BTreeMap::new(),
            Some((path, text)) => match text {
                Ok(text) => file::read(&path.display().to_string(), &text, &mut problems),
                Err(error) => {
                    problems.push(format!("The configuration file {} cannot be read: {error}.", path.display()));
                    BTreeMap::new()
                }
            },
        };
        self.refuse_unknown_variables(&mut problems);
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            if let Some(raw) = self.value(setting, &from_file, &mut problems) {
                values.insert(setting.key, raw);
            }
        }
        // These are tables, which only the file can hold.
        for key in [regions::KEY].into_iter().chain(providers::KEYS) {
            if let Some(raw) = from_file.get(key) {
                values.insert(key, raw.clone());
            }
        }
        if problems.is_empty() { Ok(values) } else { Err(ConfigError(problems)) }
    }

    fn file(&self) -> Option<(PathBuf, std::io::Result<String>)> {
        let named = self.config.clone().or_else(|| (self.environment)(CONFIG_VARIABLE).map(PathBuf::from));
        let path = match named {
            Some(path) => path,
            None if Path::new(DEFAULT_CONFIG).exists() => PathBuf::from(DEFAULT_CONFIG),
            None => return None,
        };
        let text = std::fs::read_to_string(&path);
        Some((path, text))
    }

    fn value(
        &self,
        setting: &'static Setting,
        from_file: &BTreeMap<&'static str, Raw>,
        problems: &mut Vec<String>,
    ) -> Option<Raw> {
        if let Some((_, value)) = self.flags.iter().find(|(key, _)| *key == setting.key) {
            return Some(Raw { value: value.clone(), origin: setting.flag.to_owned() });
        }
        let variable = setting.variable;
        if let Some(value) = (self.environment)(variable) {
            return match value.into_string() {
                Ok(value) => Some(Raw { value, origin: variable.to_owned() }),
                Err(_) => {
                    problems.push(format!("{variable} is not UTF-8 text."));
                    None
                }
            };
        }
        from_file.get(setting.key).cloned().or_else(|| {
            (!setting.default.is_empty())
                .then(|| Raw { value: setting.default.to_owned(), origin: "default".to_owned() })
        })
    }

    fn refuse_unknown_variables(&self, problems: &mut Vec<String>) {
        let mut known: Vec<&str> = SETTINGS.iter().map(|setting| setting.variable).collect();
        known.push(CONFIG_VARIABLE);
        let words: Vec<String> = known.iter().map(|name| word(name)).collect();
        for name in &self.variables {
            let own = word(name);
            if known.contains(&name.as_str())
                || NOT_SETTINGS.iter().any(|other| own == *other || (other.ends_with('_') && own.starts_with(other)))
            {
                continue;
            }
            let hint = super::nearest(&own, words.iter().map(String::as_str))
                .map_or_else(String::new, |near| format!(" Did you mean MOORLINE_{}?", near.to_uppercase()));
            problems.push(format!("The environment variable {name} is not a setting.{hint}"));
        }
    }
}

/// What distinguishes a variable's name.
fn word(name: &str) -> String {
    name.trim_start_matches("MOORLINE_").to_lowercase()
}
