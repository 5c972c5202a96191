//! What every verb needs: the settings, and how it prints.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Failure;
use crate::config::{self, ConfigError, Loaded, Raw, Sources};

/// The settings of this run.
pub(super) struct Context {
    pub(super) loaded: Loaded,
    pub(super) values: BTreeMap<&'static str, Raw>,
    pub(super) json: bool,
    flags: Vec<(&'static str, String)>,
    config: Option<PathBuf>,
}

impl Context {
    pub(super) fn new(
        file: Option<PathBuf>,
        config: Option<PathBuf>,
        mut flags: Vec<(&'static str, String)>,
        json: bool,
    ) -> Result<Context, Failure> {
        if let Some(file) = file {
            let file = file.into_os_string().into_string().map_err(|_| Failure::usage("--file is not UTF-8 text"))?;
            flags.push(("file", file));
        }
        let values = values(&flags, &config)?;
        let loaded = config::settle(&values)?;
        Ok(Context { loaded, values, json, flags, config })
    }

    /// The settings as they are now, from the same places as before. What came from a configuration file
    /// does not come from an empty one: whoever writes it has only begun.
    pub(super) fn again(&self) -> Result<Loaded, ConfigError> {
        let values = values(&self.flags, &self.config)?;
        let lines = |values: &BTreeMap<&str, Raw>| values.values().any(|raw| raw.origin.contains(':'));
        if lines(&self.values) && !lines(&values) {
            return Err(ConfigError(vec!["The configuration file is empty or gone.".into()]));
        }
        config::settle(&values)
    }

    /// What has to follow a command printed as a next step: the file, if it was named by flag.
    pub(super) fn same_file(&self) -> String {
        match self.values.get("file") {
            Some(raw) if raw.origin.starts_with("--") => format!(" --file {}", raw.value),
            _ => String::new(),
        }
    }

    pub(super) fn file(&self) -> &std::path::Path {
        &self.loaded.settings.file
    }
}

fn values(
    flags: &[(&'static str, String)],
    config: &Option<PathBuf>,
) -> Result<BTreeMap<&'static str, Raw>, ConfigError> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let variables = names.filter(|name| name.starts_with("MOORLINE_")).collect();
    let environment = |name: &str| std::env::var_os(name);
    Sources { flags: flags.to_vec(), config: config.clone(), environment: &environment, variables }.collect()
}
