//! What may be typed behind `moorline plugin`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::config::duration;
use crate::config::limits::EGRESS_SHOWN_MOST;

#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Plugin {
    /// List the configured providers and how the plugin of each is
    List,
    /// Show what was fetched for plugins, newest first
    Egress(Egress),
    /// Load a library as the server would and say everything about it
    Check {
        /// The library
        #[arg(value_name = "FILE")]
        library: PathBuf,
    },
    /// Play recorded conversations against a library
    Test {
        /// The library
        #[arg(value_name = "FILE")]
        library: PathBuf,
        /// A recording, or a folder with recordings (*.json); may be given several times
        #[arg(long, value_name = "FILE", required = true)]
        recording: Vec<PathBuf>,
    },
    /// Begin a plugin: a project that builds and passes its own tests
    New {
        /// A folder that does not exist or is empty; its last part is the plugin's name
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// What it shall do
        #[arg(long)]
        kind: PluginKind,
        /// What to write it in
        #[arg(long, default_value = "rust")]
        lang: PluginLanguage,
    },
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cli) enum PluginKind {
    /// Prove which machine speaks
    Identity,
    /// Sign people in at a provider
    ExternalAuth,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cli) enum PluginLanguage {
    /// With the SDK
    Rust,
    /// With the header
    C,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Egress {
    /// For this provider only; it may have been taken out
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) provider: Option<String>,
    /// Begun in this time, like 12h or 7d
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(in crate::cli) since: Option<Duration>,
    /// So many of the newest
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(EGRESS_SHOWN_MOST)))]
    pub(in crate::cli) limit: u32,
}
