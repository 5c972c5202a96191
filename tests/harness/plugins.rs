//! The plugins of this workspace, built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use moorline::config::providers::ProviderConfig;
use moorline_plugin::schema::Kind;
use serde_json::{Value, json};

/// The library of a package, like `moorline-oauth`.
pub fn library(package: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        // A folder of their own: another cargo may hold the lock of the usual one.
        let target = Path::new(env!("CARGO_BIN_EXE_moorline")).parent().unwrap().join("plugins");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--lib", "--offline", "--target-dir"])
            .arg(&target)
            .args(["-p", "moorline-aws-identity", "-p", "moorline-azure-identity", "-p", "moorline-google-identity"])
            .args(["-p", "moorline-oauth"])
            // Benchmarks measure what is shipped.
            .args(if cfg!(debug_assertions) { &[][..] } else { &["--release"] })
            .current_dir(root)
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the plugins do not build");
        target.join(if cfg!(debug_assertions) { "debug" } else { "release" })
    });
    folder.join(format!("lib{}.so", package.replace('-', "_")))
}

/// A provider of machine identity with the plugin of its cloud.
#[allow(dead_code, reason = "shared with the benchmarks")]
pub fn identity(cloud: &str, settings: Value) -> Arc<ProviderConfig> {
    Arc::new(ProviderConfig {
        id: cloud.into(),
        kind: Kind::Identity,
        kind_word: cloud.into(),
        library: library(&format!("moorline-{cloud}-identity")),
        sha256: None,
        settings,
        egress: Vec::new(),
        ca: None,
        proxy: Some(String::new()),
    })
}

/// The three clouds; none of them reaches out.
#[allow(dead_code, reason = "shared with the benchmarks")]
pub fn identities() -> Vec<Arc<ProviderConfig>> {
    vec![identity("aws", Value::Null), identity("azure", Value::Null), identity("google", json!({"offline": true}))]
}
