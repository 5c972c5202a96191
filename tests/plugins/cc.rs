//! Libraries that the tests build with the system's C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the header lies.
fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/moorline-plugin/include")
}

/// Runs `cc`, with the header at hand; warnings are errors.
pub fn cc(arguments: &[&str], source: &Path, output: &Path) {
    let made = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-I"])
        .arg(include())
        .args(arguments)
        .arg("-o")
        .arg(output)
        .arg(source)
        .output()
        .expect("cc runs");
    assert!(made.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&made.stderr));
}

/// A fixture's source.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/fixtures").join(name)
}

/// Builds a fixture as a shared library into `folder`; `arguments` may hold `-D…`.
pub fn library(folder: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let output = folder.join(format!("{}.so", name.trim_end_matches(".c")));
    let all = [&["-shared", "-fPIC", "-fvisibility=hidden"], arguments].concat();
    cc(&all, &source(name), &output);
    output
}
