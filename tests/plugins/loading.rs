//! Which libraries are loaded, and what is said of the others: exactly what is wrong, and nothing else suffers.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use moorline::plugins::{self, CallError, Condition};
use moorline_plugin::schema::Kind;
use serde_json::json;

use super::cc;
use super::rig::{Rig, identity, is_gone, is_there, prove};
use crate::harness;

/// Why a library is not loaded: the same by the operator's look and by the provider's status, with the others well.
fn refusal(library: &Path) -> String {
    let why = plugins::look_at(Path::new(env!("CARGO_BIN_EXE_moorline")), library, None).unwrap_err();
    let rig = Rig::new([identity("odd", library)]);
    assert_eq!(rig.act("echo"), Err(CallError::Down(why.clone())));
    assert_eq!(rig.why("odd"), why);
    rig.others_are_fine();
    why
}

/// Builds versions.c against a library that is gone when it is loaded.
fn linked(folder: &Path, flavour: &str, soname: &str, script: &str) -> PathBuf {
    let map = folder.join("map");
    std::fs::write(&map, script).unwrap();
    let (soname, script) = (format!("-Wl,-soname,{soname}"), format!("-Wl,--version-script={}", map.display()));
    let needed = folder.join("libneeded.so");
    cc::cc(&["-shared", "-fPIC", &soname, &script], &cc::source("needed.c"), &needed, &[]);
    let library = folder.join("versions.so");
    let define = format!("-D{flavour}");
    let options = [&cc::SHARED[..], &[define.as_str()]].concat();
    cc::cc(&options, &cc::source("versions.c"), &library, &[needed.to_str().unwrap()]);
    std::fs::remove_file(needed).unwrap();
    library
}

#[test]
fn a_later_or_older_minor_version_works() {
    let program = Path::new(env!("CARGO_BIN_EXE_moorline"));
    for (flavour, minor) in [("NEWER_MINOR", 7), ("OLDER_TABLE", 0)] {
        let library = cc::library("versions", flavour);
        let report = plugins::look_at(program, &library, None).unwrap();
        assert_eq!(report.interface, (1, minor), "{flavour}");
        let description = report.description.unwrap();
        assert_eq!((description.kind, description.capabilities), (Kind::Identity, vec!["telepathy".to_owned()]));
        assert_eq!(prove(&Rig::new([identity("odd", &library)]), "odd"), Ok("i-1".into()), "{flavour}");
    }
}

#[test]
fn another_interface_is_refused_with_both_versions() {
    let version = |flavour: &str| refusal(&cc::library("versions", flavour));
    assert_eq!(version("OTHER_MAJOR"), "it is built for version 2.0 of the plugin interface; this host speaks 1.0");
    assert_eq!(
        version("LATER_SYMBOL"),
        "it is built for major version 3 of the plugin interface; this host speaks 1.0"
    );
    assert_eq!(version("NO_SYMBOL"), "it has no symbol moorline_plugin_v1: it is not a plugin of Moorline");
    assert_eq!(
        version("UNWILLING"),
        "it will not work with this host, which speaks version 1.0 of the plugin interface"
    );
    assert_eq!(version("HALF"), "its table of 40 bytes lacks the function call");
}

#[test]
fn a_file_that_is_no_library_of_this_machine_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let spoilt = |name: &str, spoil: &dyn Fn(&mut Vec<u8>)| {
        let path = folder.path().join(name);
        let mut bytes = std::fs::read(cc::library("identity", "")).unwrap();
        spoil(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        refusal(&path)
    };
    assert_eq!(
        spoilt("text.so", &|bytes| *bytes = b"#!/bin/sh\nexit 0\n".to_vec()),
        "it is not a library: it does not begin as an ELF file does"
    );
    assert_eq!(
        spoilt("empty.so", &|bytes| bytes.clear()),
        "it is not a library: it does not begin as an ELF file does"
    );
    for length in [20, 100, 4_000, 10_000] {
        let cut = format!("it is cut short or damaged: its {length} bytes are fewer than its own tables name");
        assert_eq!(spoilt("cut.so", &|bytes| bytes.truncate(length)), cut);
    }
    let foreign = spoilt("foreign.so", &|bytes| bytes[18..20].copy_from_slice(&40_u16.to_le_bytes()));
    assert!(foreign.starts_with("it is built for 32-bit ARM, and this machine is "), "{foreign}");
    assert_eq!(spoilt("program.so", &|bytes| bytes[16] = 2), "it is an ELF file but no dynamic library (type 2)");
    // Damage that no check sees beforehand ends the process at most.
    let why = spoilt("zeros.so", &|bytes| bytes[64..].fill(0));
    assert!(!why.is_empty());
}

#[test]
fn what_a_library_needs_and_does_not_find_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let library = linked(folder.path(), "NEEDS_LIBC", "libc.so.6", "GLIBC_9.99 { global: of_the_future; };");
    let why = refusal(&library);
    assert!(why.contains("version `GLIBC_9.99' not found"), "{why}");
    assert!(why.contains(&format!("required by {}", library.display())), "{why}");
    let have = why.rsplit_once("; this machine has version ").unwrap().1;
    assert!(have.starts_with("2.") && have.ends_with(" of the GNU C library"), "{why}");
    let library = linked(folder.path(), "NEEDS_OTHER", "libanother.so.7", "V { global: *; };");
    let why = refusal(&library);
    assert_eq!(why, "libanother.so.7: cannot open shared object file: No such file or directory");
    let library = cc::library("versions", "NEEDS_OTHER");
    assert_eq!(refusal(&library), format!("{}: undefined symbol: of_another_library", library.display()));
}

#[test]
fn files_that_others_can_change_are_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let library = cc::copy("identity", "", &inner);
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    assert_eq!(prove(&Rig::new([identity("odd", &library)]), "odd"), Ok("i-123".into()));
    mode(&library, 0o666);
    assert_eq!(refusal(&library), "others than its owner can write it (mode 666); take that right away");
    mode(&library, 0o755);
    for exposed in [inner.as_path(), folder.path()] {
        mode(exposed, 0o777);
        let expected = format!("others can put another file in its place: look at the folder {}", exposed.display());
        assert_eq!(refusal(&library), expected);
        mode(exposed, 0o755);
    }
    // A link is as good as each folder that it leads through.
    let exposed = folder.path().join("exposed");
    std::fs::create_dir(&exposed).unwrap();
    let hidden = cc::copy("identity", "", &exposed);
    let link = folder.path().join("link.so");
    std::os::unix::fs::symlink(&hidden, &link).unwrap();
    mode(&exposed, 0o757);
    let expected = format!("others can put another file in its place: look at the folder {}", exposed.display());
    assert_eq!(refusal(&link), expected);
    if rustix::process::geteuid().is_root() {
        chown(&library, Some(12_345), None).unwrap();
        assert_eq!(refusal(&library), "it belongs to the user 12345; root or the server's user must own it");
    } else {
        eprintln!("skipped: the wrong owner, which only root can give a file");
    }
    std::fs::remove_file(&library).unwrap();
    assert_eq!(refusal(&library), "it cannot be opened: No such file or directory (os error 2)");
}

#[test]
fn a_pinned_library_is_that_one_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let library = cc::copy("identity", "", folder.path());
    let sha256 = plugins::look_at(Path::new(env!("CARGO_BIN_EXE_moorline")), &library, None).unwrap().sha256;
    let pinned = |hash: &str| {
        let mut config = identity("odd", &library);
        config.sha256 = Some(hash.to_owned());
        Rig::new([config])
    };
    let rig = pinned(&sha256.to_uppercase());
    assert_eq!(prove(&rig, "odd"), Ok("i-123".into()));
    let other = "0".repeat(64);
    let wrong = pinned(&other);
    let why = format!("its SHA-256 is {sha256}, and the configuration pins {other}");
    assert_eq!(prove(&wrong, "odd"), Err(CallError::Down(why.clone())));
    assert_eq!(wrong.why("odd"), why);
    wrong.others_are_fine();
    // Replaced while it runs: the pinned one goes on.
    replace(&library, &std::fs::read(cc::library("versions", "NEWER_MINOR")).unwrap());
    let changed = plugins::look_at(Path::new(env!("CARGO_BIN_EXE_moorline")), &library, None).unwrap().sha256;
    let pid = rig.pid("odd");
    assert_eq!(prove(&rig, "odd"), Ok("i-123".into()));
    assert_eq!(rig.pid("odd"), pid);
    let why = format!("its SHA-256 is {changed}, and the configuration pins {}", sha256.to_uppercase());
    assert_eq!(rig.status("odd").not_loaded, Some(why));
}

/// Puts a file in another's place, as a package manager does.
fn replace(library: &Path, bytes: &[u8]) {
    let fresh = library.with_extension("fresh");
    std::fs::write(&fresh, bytes).unwrap();
    std::fs::rename(&fresh, library).unwrap();
}

#[test]
fn a_changed_library_takes_over_and_a_broken_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let library = cc::copy("identity", "", folder.path());
    let rig = Rig::new([identity("odd", &library)]);
    assert_eq!(prove(&rig, "odd"), Ok("i-123".into()));
    let first = rig.pid("odd");

    // Broken: the old one goes on, and the status says why the new one does not.
    replace(&library, b"half a download");
    for _ in 0..3 {
        assert_eq!(prove(&rig, "odd"), Ok("i-123".into()));
    }
    let broken = "it is not a library: it does not begin as an ELF file does";
    let status = rig.status("odd");
    assert_eq!(status.not_loaded.as_deref(), Some(broken));
    assert_eq!((rig.pid("odd"), status.failures, status.restarts), (first, 0, 0));

    // Gone: the same.
    std::fs::remove_file(&library).unwrap();
    assert_eq!(prove(&rig, "odd"), Ok("i-123".into()));
    assert_eq!(
        rig.status("odd").not_loaded.as_deref(),
        Some("it cannot be opened: No such file or directory (os error 2)")
    );

    // Back as it was: nothing is to be done.
    std::fs::copy(cc::library("identity", ""), &library).unwrap();
    assert_eq!(prove(&rig, "odd"), Ok("i-123".into()));
    assert_eq!((rig.pid("odd"), rig.status("odd").not_loaded), (first, None));

    // Another good one takes over at the next call.
    replace(&library, &std::fs::read(cc::library("versions", "NEWER_MINOR")).unwrap());
    assert_eq!(prove(&rig, "odd"), Ok("i-1".into()));
    assert_ne!(rig.pid("odd"), first);
    is_gone(first);
    assert_eq!(rig.status("odd").restarts, 1);

    // A broken one, and then the process of the good one ends: now the provider is down for what the file is.
    replace(&library, b"half a download");
    assert_eq!(prove(&rig, "odd"), Ok("i-1".into()));
    let second = rig.pid("odd");
    let pid = rustix::process::Pid::from_raw(second.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    is_gone(second);
    assert_eq!(prove(&rig, "odd"), Err(CallError::Down(broken.into())));
    assert_eq!((rig.why("odd").as_str(), rig.status("odd").not_loaded), (broken, None));

    // Mended, it is tried at once, whatever the pause.
    replace(&library, &std::fs::read(cc::library("identity", "")).unwrap());
    assert_eq!(prove(&rig, "odd"), Ok("i-123".into()));
    rig.app.plugins.stop();
}

#[test]
fn calls_under_way_end_in_the_library_that_they_began_in() {
    let folder = tempfile::tempdir().unwrap();
    let library = cc::copy("odd", "", folder.path());
    let rig = Rig::new([identity("odd", &library)]);
    rig.act("echo").unwrap();
    let first = rig.pid("odd");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| rig.act("doze"));
        harness::until("the call is under way", || (rig.status("odd").calls == 2).then_some(()));
        replace(&library, &std::fs::read(cc::library("versions", "NEWER_MINOR")).unwrap());
        assert_eq!(prove(&rig, "odd"), Ok("i-1".into()));
        assert!(is_there(first), "the old process is still at work");
        assert_eq!(slow.join().unwrap(), Ok(json!("rested")));
    });
    is_gone(first);
}

#[test]
fn a_plugin_of_another_kind_is_refused() {
    let rig = Rig::new([identity("odd", &harness::plugins::library("moorline-oauth"))]);
    assert_eq!(rig.act("echo"), Err(CallError::Down("it is a plugin of another kind".into())));
    assert!(matches!(rig.status("odd").condition, Condition::Down { .. }));
    rig.others_are_fine();
}

/// The library of an earlier version of the interface, as it was built then.
#[test]
fn a_kept_plugin_of_interface_1_0_still_works() {
    if std::env::consts::ARCH != "x86_64" {
        eprintln!("skipped: the kept plugin is for x86-64, and this machine is {}", std::env::consts::ARCH);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("kept.so");
    // A copy, for the folders of a check-out may be anybody's.
    std::fs::write(&library, include_bytes!("kept/abi-1.0-x86_64.so")).unwrap();
    let report = plugins::look_at(Path::new(env!("CARGO_BIN_EXE_moorline")), &library, None).unwrap();
    assert_eq!(report.interface, (1, 0));
    let rig = Rig::new([identity("odd", &library)]);
    assert_eq!(prove(&rig, "odd"), Ok("i-123".into()));
    let refused = rig.call("odd", "verify", &json!({"fields": {"document": "i-1", "signature": "i-1"}}));
    assert!(matches!(refused, Err(CallError::Refused(refused)) if refused.code == "bad_signature"));
    assert_eq!(rig.call("odd", "anchors", &json!({})), Ok(json!({"anchors": []})));
    assert!(include_bytes!("kept/abi-1.0-x86_64.so").len() < 20_000);
    let waited = std::time::Instant::now();
    rig.app.plugins.stop();
    assert!(waited.elapsed() < Duration::from_secs(5));
}
