//! Where settings come from, and that the documentation says the same.

use std::path::Path;

use moorline::config::table;
use serde_json::json;

use super::rig::Rig;

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let rig = Rig::empty();
    rig.write("moorline.toml", "http_threads = 3\nrpc_threads = 3\nloops = 3\n");
    let run = |flags: &str| {
        let mut command = rig.command(&format!("serve --check-config --json {flags}"));
        command.env("MOORLINE_HTTP_THREADS", "5").env("MOORLINE_RPC_THREADS", "5");
        super::rig::Said::from(command.output().unwrap()).json()
    };
    let found = run("--http-threads 7");
    assert_eq!(found["http_threads"], json!({"value": "7", "origin": "--http-threads"}));
    assert_eq!(found["rpc_threads"], json!({"value": "5", "origin": "MOORLINE_RPC_THREADS"}));
    assert_eq!(found["loops"], json!({"value": "3", "origin": "moorline.toml:3"}));
    assert_eq!(found["stats_interval"], json!({"value": "5m", "origin": "default"}));
    assert_eq!(std::fs::read_dir(rig.folder.path()).unwrap().count(), 1, "a check makes nothing");
}

#[test]
fn the_configuration_file_may_be_named() {
    let rig = Rig::empty();
    rig.write("other.toml", "listen = \"127.0.0.1:9\"\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n");
    let found = rig.run("serve --check-config --json --config other.toml").json();
    assert_eq!(found["listen"]["value"], "127.0.0.1:9");
    assert_eq!(found["trusted_proxies"]["value"], "10.0.0.0/8,::1");
    let output = rig.command("serve --check-config --json").env("MOORLINE_CONFIG", "other.toml").output().unwrap();
    assert_eq!(super::rig::Said::from(output).json()["listen"]["origin"], "other.toml:1");
    assert!(rig.run("serve --check-config --config missing.toml").refused(1).contains("missing.toml"));
    rig.write("moorline.toml", "file = \"elsewhere.db\"\n");
    assert!(rig.run("user list").refused(1).contains("elsewhere.db"), "verbs read the file, too");
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    let rig = Rig::empty();
    rig.write("moorline.toml", "listn = \"127.0.0.1:0\"\n\ncolour = 1\n");
    let said = rig.run("serve --check-config");
    assert!(said.refused(1).contains("moorline.toml:1: `listn` is not a setting. Did you mean `listen`?"));
    assert!(said.err.contains("moorline.toml:3: `colour` is not a setting."), "{}", said.err);
    std::fs::remove_file(rig.path("moorline.toml")).unwrap();
    let output = rig.command("serve --check-config").env("MOORLINE_LISTN", "x").output().unwrap();
    let said = super::rig::Said::from(output);
    assert!(said.refused(1).contains("MOORLINE_LISTN is not a setting. Did you mean MOORLINE_LISTEN?"));
    assert!(rig.run("serve --listn x").refused(2).contains("--listen"));
}

#[test]
fn bad_values_are_refused_all_at_once_with_their_place() {
    let rig = Rig::empty();
    rig.write("moorline.toml", "http_threads = \"8\"\naccess_url = \"moorline\"\nderp_force_websockets = 1\n");
    let said = rig.run("serve --check-config --stats-interval 0");
    for hint in ["moorline.toml:1: http_threads must be a whole number, without quotes", "moorline.toml:3: derp_force"]
    {
        assert!(said.refused(1).contains(hint), "{}", said.err);
    }
    rig.write("moorline.toml", "access_url = \"moorline\"\n");
    let said = rig.run("serve --check-config --stats-interval 0 --tls-cert a.pem");
    for hint in
        ["moorline.toml:1: access_url: `moorline` is not a URL", "--stats-interval: must be", "--tls-cert: needs"]
    {
        assert!(said.refused(1).contains(hint), "{}", said.err);
    }
}

#[test]
fn relay_regions_are_checked_and_shown() {
    let rig = Rig::empty();
    rig.write("moorline.toml", "[[derp_region]]\nid = 7\ncode = \"fra\"\n[[derp_region.node]]\nhost = \"a.example\"\n");
    let found = rig.run("serve --check-config --json").json();
    assert_eq!(found["derp_region"]["origin"], "moorline.toml:1");
    assert!(found["derp_region"]["value"].as_str().unwrap().contains("a.example"));
    rig.write("moorline.toml", "[[derp_region]]\nid = 999\ncode = \"fra\"\n[[derp_region.node]]\nhost = \"a b\"\n");
    let said = rig.run("serve --check-config --stun-addresses stun.example.com:x");
    for hint in ["moorline.toml: derp_region 999: the id must not", "node `999a`: `host` is `a b`"] {
        assert!(said.refused(1).contains(hint), "{}", said.err);
    }
    rig.write("moorline.toml", "");
    assert!(
        rig.run("serve --check-config --stun-addresses stun:x").refused(1).contains("`stun:x` is not a STUN server")
    );
}

#[test]
fn a_check_reads_the_certificate_and_looks_for_the_folder() {
    let rig = Rig::empty();
    rig.write("a.pem", "no certificate");
    assert!(rig.run("serve --check-config --tls-cert a.pem --tls-key a.pem").refused(1).contains("a.pem"));
    assert!(rig.run("serve --check-config --file nowhere/m.db").refused(1).contains("there is no folder nowhere"));
    assert!(rig.run("serve --check-config").text().contains("The configuration is good."));
}

#[test]
fn the_readme_shows_every_setting() {
    assert_documented("config", &table::markdown());
}

#[test]
fn the_readme_shows_every_limit() {
    assert_documented("limits", &limits_table());
}

/// README.md must have `text` between `<!-- NAME -->` and `<!-- /NAME -->`. With
/// `MOORLINE_TEST_WRITE_README=1` it is put there.
fn assert_documented(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let Ok(readme) = std::fs::read_to_string(&path) else { return };
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = readme.split_once(&begin).unwrap_or_else(|| panic!("README.md has no {begin}"));
    let (found, after) = rest.split_once(&end).unwrap_or_else(|| panic!("README.md has no {end}"));
    if found == text {
        return;
    }
    if std::env::var_os("MOORLINE_TEST_WRITE_README").is_some() {
        std::fs::write(&path, format!("{before}{begin}{text}{end}{after}")).unwrap();
        return;
    }
    panic!(
        "README.md is out of date between {begin}; run this test with MOORLINE_TEST_WRITE_README=1. Wanted:\n{text}"
    );
}

/// The limits as their own source file has them.
fn limits_table() -> String {
    let source = include_str!("../../src/config/limits.rs");
    let mut text = String::from("| limit | value | why |\n|---|---|---|\n");
    let mut why: Vec<&str> = Vec::new();
    for line in source.lines() {
        if let Some(comment) = line.strip_prefix("///") {
            why.push(comment.trim());
        } else if let Some(constant) = line.strip_prefix("pub const ") {
            let (name, rest) = constant.split_once(": ").unwrap();
            let (_, value) = rest.split_once(" = ").unwrap();
            let value = value_text(name, value.trim_end_matches(';'));
            text.push_str(&format!("| `{name}` | {value} | {} |\n", why.join(" ").replace('|', "\\|")));
            why.clear();
        } else {
            why.clear();
        }
    }
    text
}

fn value_text(name: &str, source: &str) -> String {
    let number = |text: &str| -> u64 {
        let product =
            |text: &str| text.split('*').map(|n| n.trim().replace('_', "").parse::<u64>().unwrap()).product::<u64>();
        text.split('+').map(product).sum()
    };
    for (call, unit) in [("Duration::from_secs(", "s"), ("Duration::from_millis(", "ms")] {
        if let Some(inner) = source.strip_prefix(call) {
            return format!("{} {unit}", number(inner.trim_end_matches(')')));
        }
    }
    match number(source) {
        bytes if name.ends_with("_BYTES") && bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        bytes if name.ends_with("_BYTES") && bytes % (1 << 10) == 0 => format!("{} KiB", bytes >> 10),
        number => {
            let digits = number.to_string();
            let groups: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().map(|c| std::str::from_utf8(c).unwrap()).collect();
            groups.join(",")
        }
    }
}

#[test]
fn every_limit_can_be_shown() {
    let table = limits_table();
    assert!(table.contains("| `HEAD_BYTES` | 32 KiB |") && table.contains("| `IDLE` | 75 s |"), "{table}");
    assert!(table.lines().all(|line| !line.ends_with("|  |")), "a limit without a reason: {table}");
}
