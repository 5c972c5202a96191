//! Libraries that the tests build with the system's C compiler.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Where the header lies.
fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/moorline-plugin/include")
}

/// Runs `cc`, with the header at hand; warnings are errors. Libraries are named behind the source.
pub fn cc(options: &[&str], source: &Path, output: &Path, libraries: &[&str]) {
    let made = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-I"])
        .arg(include())
        .args(options)
        .arg("-o")
        .arg(output)
        .arg(source)
        .args(libraries)
        .output()
        .expect("cc runs");
    assert!(made.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&made.stderr));
}

/// Options for a plugin.
pub const SHARED: [&str; 3] = ["-shared", "-fPIC", "-fvisibility=hidden"];

/// A fixture's source.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/fixtures").join(name)
}

/// A fixture as a library, built once; `flavour` is what is defined for it.
pub fn library(name: &str, flavour: &str) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let key = format!("{name}{flavour}");
    let make = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-fixtures");
        std::fs::create_dir_all(&folder).unwrap();
        let fresh = folder.join(format!("{key}.{}", std::process::id()));
        let define = [format!("-D{flavour}")];
        let define = define.iter().map(String::as_str).filter(|_| !flavour.is_empty());
        let options: Vec<&str> = SHARED.into_iter().chain(define).collect();
        cc(&options, &source(&format!("{name}.c")), &fresh, &[]);
        // Another run of the tests may have it loaded.
        let library = folder.join(format!("{key}.so"));
        std::fs::rename(&fresh, &library).unwrap();
        library
    };
    built.get_or_insert_default().entry(key.clone()).or_insert_with(make).clone()
}

/// A fixture's copy in a folder of one's own, to be replaced and spoilt.
pub fn copy(name: &str, flavour: &str, folder: &Path) -> PathBuf {
    let copy = folder.join(format!("{name}.so"));
    std::fs::copy(library(name, flavour), &copy).unwrap();
    copy
}
