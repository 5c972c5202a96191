//! The import arrows of `src/lib.rs`: each module may use only those to its right, and the leaves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Left may import right. `main` and `cli` put everything together.
const ARROWS: &[(&str, &[&str])] = &[
    ("cli", &["edge", "rest", "streams", "agentapi", "domain", "tailnet", "plugins", "store"]),
    ("edge", &["rest", "streams"]),
    ("rest", &["streams", "agentapi", "domain", "tailnet", "store"]),
    ("streams", &["agentapi", "domain", "tailnet", "store"]),
    ("agentapi", &["domain", "tailnet", "store"]),
    ("domain", &["tailnet", "plugins", "store"]),
    ("tailnet", &[]),
    ("plugins", &["store"]),
    ("store", &[]),
];

/// May be imported from anywhere; may import only each other.
const LEAVES: &[&str] = &["wire", "config", "model", "ops"];

/// `config` names the retention periods that the store keeps; `ops` carries ids.
const EXCEPTIONS: &[(&str, &str)] = &[("config", "store"), ("config", "plugins")];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable folder") {
        let path = entry.expect("readable entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

/// Top-level modules that a source text names by `crate::NAME`, grouped imports included.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        if text[line_start..at].trim_start().starts_with("//") {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let group = &group[..group.find("};").unwrap_or(group.len())];
            found.extend(group.split(',').map(|item| first_word(item.trim())));
        } else {
            found.insert(first_word(rest));
        }
    }
    found
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn every_import_follows_an_arrow() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("below src");
        let module = relative.iter().next().expect("a first part").to_string_lossy().replace(".rs", "");
        seen.insert(module.clone());
        let allowed: &[&str] = match ARROWS.iter().find(|(name, _)| *name == module) {
            Some((_, right)) => right,
            None => &[],
        };
        for import in imports(&fs::read_to_string(&file).expect("readable source")) {
            let known = LEAVES.contains(&import.as_str()) || ARROWS.iter().any(|(name, _)| *name == import);
            let fine = !known
                || import == module
                || LEAVES.contains(&import.as_str())
                || allowed.contains(&import.as_str())
                || EXCEPTIONS.contains(&(module.as_str(), import.as_str()))
                || module == "main"
                || module == "lib";
            if !fine {
                wrong.push(format!("{}: {module} may not import {import}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "wrong imports:\n{}", wrong.join("\n"));
    for (name, _) in ARROWS {
        assert!(seen.contains(*name), "{name} stands in the arrows but not in src/");
    }
}

#[test]
fn the_map_in_lib_names_every_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(root.join("lib.rs")).expect("lib.rs");
    for entry in fs::read_dir(&root).expect("src") {
        let name = entry.expect("entry").file_name().to_string_lossy().into_owned();
        if name.ends_with(".rs") {
            continue;
        }
        assert!(lib.contains(&format!("`{name}`")), "src/lib.rs does not speak of `{name}`");
        assert!(lib.contains(&format!("pub mod {name};")), "src/lib.rs does not declare {name}");
    }
}

#[test]
fn no_async_runtime_and_no_second_tls_library_is_linked() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).expect("Cargo.lock");
    for banned in ["tokio", "async-std", "smol", "openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"] {
        assert!(!lock.contains(&format!("name = \"{banned}\"")), "{banned} is in Cargo.lock");
    }
}

#[test]
fn finds_grouped_and_single_imports() {
    let text = "use crate::store::Store;\nuse crate::{model::AgentId, ops};\n// crate::cli\nlet x = crate::wire::x();";
    let expected: BTreeSet<String> = ["store", "model", "ops", "wire"].iter().map(|s| (*s).to_owned()).collect();
    assert_eq!(imports(text), expected);
}
