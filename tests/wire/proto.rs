//! The generated protobuf code: that it is current, and that the method table is complete.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use moorline::wire::proto::methods::{Kind, METHODS};
use prost_build::Module;

const FOLDER: &str = "src/wire/proto";
const SOURCES: [&str; 2] = ["agent.proto", "tailnet.proto"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER)
}

/// Committed file name → generated text.
fn generate() -> BTreeMap<&'static str, String> {
    let out = tempfile::tempdir().expect("a temporary folder");
    prost_build::Config::new()
        .out_dir(out.path())
        .compile_well_known_types()
        .btree_map(["."])
        .compile_fds(protox::compile(SOURCES, [folder()]).expect("the .proto files are valid"))
        .expect("code is generated");
    [("agent.rs", "coder.agent.v2"), ("tailnet.rs", "coder.tailnet.v2"), ("google.rs", "google.protobuf")]
        .into_iter()
        .map(|(file, package)| {
            let path = out.path().join(Module::from_protobuf_package_name(package).to_file_name_or(""));
            (file, std::fs::read_to_string(path).expect("a file for each package"))
        })
        .collect()
}

#[test]
fn proto_is_current() {
    for (file, fresh) in generate() {
        let path = folder().join(file);
        if std::env::var_os("MOORLINE_REGENERATE").is_some_and(|value| value == "1") {
            std::fs::write(&path, &fresh).expect("the generated file can be written");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == fresh,
            "{FOLDER}/{file} is not what the .proto files generate; \
             run `MOORLINE_REGENERATE=1 cargo test proto_is_current`"
        );
    }
}

#[test]
fn method_table_is_what_the_services_declare() {
    let mut declared = Vec::new();
    for file in &protox::compile(SOURCES, [folder()]).expect("the .proto files are valid").file {
        for service in &file.service {
            for method in &service.method {
                let name = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let kind = match (method.client_streaming(), method.server_streaming()) {
                    (false, false) => Kind::Unary,
                    (false, true) => Kind::ServerStream,
                    (true, true) => Kind::Bidirectional,
                    (true, false) => panic!("{name}: no client-streaming RPC is known"),
                };
                declared.push((name, kind));
            }
        }
    }
    let mut table: Vec<_> = METHODS.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
    declared.sort();
    table.sort();
    assert_eq!(table, declared);
}
