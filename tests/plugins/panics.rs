//! A plugin in Rust that panics: the SDK stops it at the edge.

use std::path::{Path, PathBuf};
use std::process::Command;

use moorline::plugins::CallError;
use serde_json::json;

use super::rig::{Rig, identity, is_gone};
use crate::harness;

/// Builds the project as an author would, offline, with the versions that this workspace has.
fn library(folder: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = root.join("tests/plugins/fixtures/panics");
    let manifest = std::fs::read_to_string(source.join("Cargo.toml")).unwrap();
    let sdk = root.join("plugins/moorline-plugin");
    let manifest = manifest.replace("../../../../plugins/moorline-plugin", sdk.to_str().unwrap());
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::create_dir(folder.join("src")).unwrap();
    std::fs::copy(source.join("src/lib.rs"), folder.join("src/lib.rs")).unwrap();
    std::fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-panics");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--target-dir"])
        .arg(&target)
        .current_dir(folder)
        .status()
        .unwrap();
    assert!(status.success());
    target.join("debug/libpanics.so")
}

#[test]
fn a_panic_stops_at_the_edge_of_the_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path());
    let mut at_once = identity("at_once", &library);
    at_once.settings = json!({"at_once": true});
    let rig = Rig::new([identity("odd", &library), at_once]);
    let verify = |document: &str| rig.call("odd", "verify", &json!({"fields": {"document": document}}));
    let id = |called: Result<serde_json::Value, CallError>| called.unwrap()["instance_id"].as_str().unwrap().to_owned();
    assert_eq!(id(verify("")), "i-fine");
    let pid = rig.pid("odd");
    for (document, message) in [
        ("panic", "The plugin panicked: the floor is not there"),
        ("index", "The plugin panicked: index out of bounds: the len is 1 but the index is 1"),
    ] {
        match verify(document) {
            Err(CallError::Failed(refused)) => assert_eq!((&*refused.code, &*refused.message), ("failed", message)),
            other => panic!("{document}: {other:?}"),
        }
    }
    assert_eq!(id(verify("thread")), "i-thread");
    // None of it has cost it its process.
    assert_eq!((rig.pid("odd"), rig.status("odd").failures), (pid, 0));
    assert_eq!(verify("twice"), Err(CallError::Down("ended by signal 6 (abort)".into())));
    is_gone(pid);
    assert_eq!(rig.call("at_once", "verify", &json!({})), Err(CallError::Down("The plugin panicked: at once".into())));
    rig.others_are_fine();
    harness::until("it comes back", || verify("").ok());
}
