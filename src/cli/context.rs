//! What every verb needs: the settings, and how it prints.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Failure;
use crate::config::{self, Loaded, Raw, Sources};

/// The settings of this run.
pub(super) struct Context {
    pub(super) loaded: Loaded,
    pub(super) values: BTreeMap<&'static str, Raw>,
    pub(super) json: bool,
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
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let variables = names.filter(|name| name.starts_with("MOORLINE_")).collect();
        let values = Sources { flags, config, environment: &|name| std::env::var_os(name), variables }.collect()?;
        let loaded = config::settle(&values)?;
        Ok(Context { loaded, values, json })
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
