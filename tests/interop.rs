//! The real Coder agent and client packages against the server: the Go module in `tests/interop/`.

use std::path::Path;
use std::process::Command;

#[test]
fn the_real_agent_works_against_this_server() {
    if std::env::var_os("MOORLINE_SKIP_INTEROP").is_some_and(|value| value == "1") {
        eprintln!("MOORLINE_SKIP_INTEROP=1: the real agent was NOT run");
        return;
    }
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    assert!(
        Command::new("go").arg("version").output().is_ok_and(|output| output.status.success()),
        "Go is missing, so the real agent cannot be built. Install Go, or set MOORLINE_SKIP_INTEROP=1 to leave this out."
    );
    let status = Command::new("sh")
        .arg("run.sh")
        .current_dir(&module)
        .env("MOORLINE_BIN", env!("CARGO_BIN_EXE_moorline"))
        .env("MOORLINE_PLUGINS", crate::harness::plugins::library("moorline-oauth").parent().expect("a folder"))
        .status()
        .expect("sh runs");
    assert!(status.success(), "the interop tests failed: {status}; their output is above");
}
