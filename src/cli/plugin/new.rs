//! `moorline plugin new`.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::args::{PluginKind, PluginLanguage};
use super::super::{Failure, Said};

/// Longest name of a plugin, characters; as long as an id of a provider.
const NAME_CHARS: usize = 32;
/// Rights of folders: libraries are loaded only from where nobody else can write.
const FOLDER_MODE: u32 = 0o755;

/// A file of a project: where it goes, and what is in it.
type Template = (&'static str, &'static str);

/// A file of the SDK, at its place in there.
macro_rules! sdk {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plugins/moorline-plugin/", $path))
    };
}

/// The SDK as a Rust project has it beside itself; its manifest is made by [`manifest`].
const SDK: &[Template] = &[
    // `cargo fmt` in the project must leave it alone.
    ("moorline-plugin/.rustfmt.toml", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/.rustfmt.toml"))),
    ("moorline-plugin/README.md", sdk!("README.md")),
    ("moorline-plugin/include/moorline_plugin.h", sdk!("include/moorline_plugin.h")),
    ("moorline-plugin/src/abi.rs", sdk!("src/abi.rs")),
    ("moorline-plugin/src/entry.rs", sdk!("src/entry.rs")),
    ("moorline-plugin/src/host.rs", sdk!("src/host.rs")),
    ("moorline-plugin/src/lib.rs", sdk!("src/lib.rs")),
    ("moorline-plugin/src/plugin.rs", sdk!("src/plugin.rs")),
    ("moorline-plugin/src/schema.rs", sdk!("src/schema.rs")),
    ("moorline-plugin/src/testing.rs", sdk!("src/testing.rs")),
    ("moorline-plugin/src/testing/recording.rs", sdk!("src/testing/recording.rs")),
];

const RUST: &[Template] = &[
    (".gitignore", "/target\n"),
    ("Cargo.toml", sdk!("templates/rust/Cargo.toml")),
    ("README.md", sdk!("templates/rust/README.md")),
];
const RUST_IDENTITY: &[Template] = &[("src/lib.rs", sdk!("templates/rust/identity.rs"))];
const RUST_EXTERNAL_AUTH: &[Template] = &[
    ("src/lib.rs", sdk!("templates/rust/external-auth.rs")),
    ("src/provider.rs", sdk!("templates/rust/provider.rs")),
    ("src/web.rs", sdk!("templates/rust/web.rs")),
];

const C: &[Template] = &[
    (".gitignore", "*.so\n"),
    ("GUIDE.md", sdk!("README.md")),
    ("Makefile", sdk!("templates/c/Makefile")),
    ("README.md", sdk!("templates/c/README.md")),
    ("host.c", sdk!("templates/c/host.c")),
    ("host.h", sdk!("templates/c/host.h")),
    ("json.c", sdk!("templates/c/json.c")),
    ("json.h", sdk!("templates/c/json.h")),
    ("moorline_plugin.h", sdk!("include/moorline_plugin.h")),
];
const C_IDENTITY: &[Template] = &[("plugin.c", sdk!("templates/c/identity.c"))];
const C_EXTERNAL_AUTH: &[Template] = &[("plugin.c", sdk!("templates/c/external-auth.c"))];

/// The same for both languages: what a plugin does can be seen from outside only.
const IDENTITY: Template = ("recordings/cases.json", sdk!("templates/recordings/identity.json"));
const EXTERNAL_AUTH: Template = ("recordings/cases.json", sdk!("templates/recordings/external-auth.json"));

const IDENTITY_CONFIG: &str = "    [[identity]]
    type = \"aws\"                     # machines run the agent with CODER_AGENT_AUTH=aws-instance-identity
    library = \"/usr/local/lib/moorline/libmoorline_@CRATE@.so\"
    sha256 = \"…\"                     # optional: no other library is loaded
    verify_url = \"https://cloud.example.com/verify\"";
const EXTERNAL_AUTH_CONFIG: &str = "    [[external_auth]]
    type = \"@NAME@\"
    library = \"/usr/local/lib/moorline/libmoorline_@CRATE@.so\"
    sha256 = \"…\"                     # optional: no other library is loaded
    client_id = \"…\"
    client_secret_file = \"/etc/moorline/@NAME@-secret\"
    auth_url = \"https://git.example.com/oauth/authorize\"
    token_url = \"https://git.example.com/oauth/token\"
    validate_url = \"https://git.example.com/api/user\"";

pub(super) fn run(dir: &Path, kind: PluginKind, lang: PluginLanguage) -> Result<Said, Failure> {
    let failed = |error: io::Error| Failure::from(format!("{}: {error}", dir.display()));
    let name = name_of(dir)?;
    if is_taken(dir).map_err(failed)? {
        return Err(Failure::from(format!("{} is there and is not an empty folder; name another", dir.display())));
    }
    let files = project(&name, kind, lang);
    for (path, text) in &files {
        write(&dir.join(path), text).map_err(|error| {
            Failure::from(format!("{}: {error}; what was made until then is left", dir.join(path).display()))
        })?;
    }
    let (kind, lang, next) = (
        match kind {
            PluginKind::Identity => "identity",
            PluginKind::ExternalAuth => "external-auth",
        },
        match lang {
            PluginLanguage::Rust => "rust",
            PluginLanguage::C => "c",
        },
        match lang {
            PluginLanguage::Rust => "cargo test",
            PluginLanguage::C => "make test",
        },
    );
    let paths: Vec<&Path> = files.iter().map(|(path, _)| path.as_path()).collect();
    let shown = dir.display();
    Ok(Said {
        text: format!("Made the plugin {name} in {shown}. Next: read {shown}/README.md, and\n  cd {shown} && {next}"),
        value: json!({ "dir": dir, "name": name, "kind": kind, "lang": lang, "files": paths }),
    })
}

/// The plugin's name: what the folder is called.
fn name_of(dir: &Path) -> Result<String, Failure> {
    let whole = std::path::absolute(dir).map_err(|error| Failure::from(format!("{}: {error}", dir.display())))?;
    let last = whole.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    let name = last.strip_prefix("moorline-").unwrap_or(last);
    let good = name.len() <= NAME_CHARS
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name.split('-').all(|part| !part.is_empty());
    if !good {
        return Err(Failure::from(format!(
            "`{name}` is no name for a plugin: 1 to {NAME_CHARS} lower-case letters, digits and single hyphens"
        )));
    }
    if name == "plugin" {
        return Err(Failure::from("a plugin cannot be called `plugin`: its crate would be that of the SDK".to_owned()));
    }
    Ok(name.to_owned())
}

/// Whether there is anything that could be overwritten.
fn is_taken(dir: &Path) -> io::Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(true),
        Err(error) => Err(error),
    }
}

/// All files of a project.
fn project(name: &str, kind: PluginKind, lang: PluginLanguage) -> Vec<(PathBuf, String)> {
    let (what, config, recording) = match kind {
        PluginKind::Identity => ("it proves which machine speaks", IDENTITY_CONFIG, IDENTITY),
        PluginKind::ExternalAuth => ("it signs people in at a provider", EXTERNAL_AUTH_CONFIG, EXTERNAL_AUTH),
    };
    let (common, own): (&[Template], &[Template]) = match (lang, kind) {
        (PluginLanguage::Rust, PluginKind::Identity) => (RUST, RUST_IDENTITY),
        (PluginLanguage::Rust, PluginKind::ExternalAuth) => (RUST, RUST_EXTERNAL_AUTH),
        (PluginLanguage::C, PluginKind::Identity) => (C, C_IDENTITY),
        (PluginLanguage::C, PluginKind::ExternalAuth) => (C, C_EXTERNAL_AUTH),
    };
    let filled = |text: &str| {
        let text = text.replace("@CONFIG@", config).replace("@WHAT@", what);
        text.replace("@CRATE@", &name.replace('-', "_")).replace("@NAME@", name)
    };
    let templates = common.iter().chain(own).chain([&recording]);
    let mut files: Vec<(PathBuf, String)> = templates.map(|(path, text)| (path.into(), filled(text))).collect();
    if lang == PluginLanguage::Rust {
        files.extend(SDK.iter().map(|(path, text)| (path.into(), (*text).to_owned())));
        files.push(("moorline-plugin/Cargo.toml".into(), manifest()));
    }
    files
}

/// The SDK's manifest as it is outside of this workspace.
fn manifest() -> String {
    let dependencies = sdk!("Cargo.toml").split_once("[dependencies]").map_or("", |(_, rest)| rest);
    format!(
        "[package]\nname = \"moorline-plugin\"\ndescription = \"The plugin interface of Moorline: the Rust SDK\"\n\
         version = \"{}\"\nedition = \"2024\"\nrust-version = \"{}\"\nlicense = \"{}\"\npublish = false\n\n[dependencies]{dependencies}",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_RUST_VERSION"),
        env!("CARGO_PKG_LICENSE"),
    )
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    }
    std::fs::write(path, text)
}
