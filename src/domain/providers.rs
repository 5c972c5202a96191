//! The configured providers of machine identity and external sign-in, as administrators see them.

pub use crate::plugins::{Condition, ProviderStatus};

use super::App;

/// A provider and what was configured for it.
pub struct Listed {
    /// How it is.
    pub status: ProviderStatus,
    /// Whether the configuration says what the library's SHA-256 must be.
    pub is_pinned: bool,
}

/// All of them, in the order of the configuration; none is started for it.
pub fn list(app: &App) -> Vec<Listed> {
    let is_pinned = |status: &ProviderStatus| {
        app.plugins.provider(status.kind, &status.id).is_some_and(|config| config.sha256.is_some())
    };
    let status = app.plugins.status().into_iter();
    status.map(|status| Listed { is_pinned: is_pinned(&status), status }).collect()
}
