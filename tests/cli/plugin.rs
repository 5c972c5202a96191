//! `moorline plugin`: how the server's plugins are, and the tools of authors.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use moorline::model::Timestamp;
use serde_json::{Value, json};

use super::rig::{Rig, Said, keys, wait_for};
use crate::harness::plugins::library;

/// Runs a program of an author in the folder of a project; gives all it said.
#[track_caller]
fn author(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}:\n{said}");
    said
}

/// The library of a C source that has the header at hand.
fn compiled(rig: &Rig, name: &str, source: &str) -> PathBuf {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/moorline-plugin/include");
    rig.write(&format!("{name}.c"), source);
    let include = format!("-I{}", header.display());
    let (output, input) = (format!("{name}.so"), format!("{name}.c"));
    author(rig.folder.path(), "cc", &["-shared", "-fPIC", &include, "-o", &output, &input]);
    let path = rig.path(&output);
    author(rig.folder.path(), "chmod", &["755", &output]);
    path
}

/// All files below a folder, by their place in it.
fn tree(folder: &Path) -> BTreeSet<String> {
    fn walk(folder: &Path, root: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, into);
            } else {
                into.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(folder, folder, &mut found);
    found
}

/// A run that printed what it had found out and then failed.
#[track_caller]
fn failed<'a>(said: &'a Said, error: &str) -> &'a str {
    assert_eq!(said.code, 1, "stdout: {}\nstderr: {}", said.out, said.err);
    assert!(said.err.starts_with("error: ") && said.err.contains(error), "{}", said.err);
    &said.out
}

#[test]
fn begins_plugins_in_rust_that_build_and_pass_their_tests_offline() {
    let rig = Rig::empty();
    // Both share what they are built of.
    let target = Path::new(env!("CARGO_BIN_EXE_moorline")).parent().unwrap().join("authors");
    let target = target.to_str().unwrap();
    for (kind, name) in [("identity", "own-cloud"), ("external-auth", "own-git")] {
        let said = rig.run(&format!("plugin new moorline-{name} --kind {kind}"));
        assert!(said.text().contains(&format!("cd moorline-{name} && cargo test")), "{}", said.out);
        let folder = rig.path(&format!("moorline-{name}"));
        let said = author(&folder, env!("CARGO"), &["test", "--offline", "--target-dir", target]);
        assert!(said.contains("test tests::behaves_as_recorded ... ok"), "{said}");
        author(&folder, env!("CARGO"), &["build", "--offline", "--target-dir", target]);
        let library = format!("{target}/debug/libmoorline_{}.so", name.replace('-', "_"));
        let said = rig.run(&format!("plugin test {library} --recording moorline-{name}/recordings/cases.json"));
        assert!(said.text().contains("cases passed.") && !said.out.contains("FAIL"), "{}", said.out);
        let found = rig.run(&format!("plugin check {library} --json")).json();
        assert_eq!((&found["description"]["name"], &found["description"]["kind"]), (&json!(name), &json!(kind)));
    }
}

#[test]
fn begins_plugins_in_c_that_build_without_a_warning_and_pass_their_tests() {
    let rig = Rig::empty();
    for (kind, name) in [("identity", "own-cloud"), ("external-auth", "own-git")] {
        let made = rig.run(&format!("plugin new {name} --kind {kind} --lang c --json")).json();
        assert_eq!(keys(&made), ["dir", "name", "kind", "lang", "files"]);
        let folder = rig.path(name);
        let listed: BTreeSet<String> =
            made["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned()).collect();
        assert_eq!(listed, tree(&folder));
        let program = format!("MOORLINE={}", env!("CARGO_BIN_EXE_moorline"));
        let said = author(&folder, "make", &["test", &program, "CFLAGS=-O2 -Werror"]);
        assert!(said.contains("cases passed.") && !said.contains("FAIL"), "{said}");
        let said = author(&folder, "make", &["check", &program]);
        assert!(said.contains(&format!("{name} 0.1.0, {kind}")), "{said}");
        assert!(
            !std::fs::read_to_string(folder.join("README.md")).unwrap().contains('@'),
            "something was not filled in"
        );
    }
}

#[test]
fn a_new_project_has_the_whole_sdk() {
    let rig = Rig::empty();
    rig.run("plugin new own --kind identity").text();
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/moorline-plugin");
    let copy = rig.path("own/moorline-plugin");
    assert_eq!(tree(&copy.join("src")), tree(&sdk.join("src")));
    for file in tree(&copy).iter().filter(|file| !["Cargo.toml", ".rustfmt.toml"].contains(&file.as_str())) {
        assert_eq!(std::fs::read(copy.join(file)).unwrap(), std::fs::read(sdk.join(file)).unwrap(), "{file}");
    }
    let manifest = std::fs::read_to_string(copy.join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("workspace"), "it stands alone: {manifest}");
}

#[test]
fn begins_nothing_where_something_is_or_under_a_bad_name() {
    let rig = Rig::empty();
    std::fs::create_dir(rig.path("empty")).unwrap();
    rig.run("plugin new empty --kind identity").text();
    let said = rig.run("plugin new empty --kind external-auth");
    assert!(said.refused(1).contains("empty is there and is not an empty folder"), "{}", said.err);
    assert!(std::fs::read_to_string(rig.path("empty/src/lib.rs")).unwrap().contains("declare!(identity"));
    rig.write("file", "");
    assert!(rig.run("plugin new file --kind identity").refused(1).contains("is not an empty folder"));
    for name in ["Own", "a--b", "a_b", "-a", "moorline-", &"a".repeat(33)] {
        // What begins with a hyphen would be an option.
        let said = rig.run(&format!("plugin new --kind identity -- {name}"));
        assert!(said.refused(1).contains("is no name for a plugin"), "{name}: {}", said.err);
        assert!(!rig.path(name).exists());
    }
    assert!(rig.run("plugin new moorline-plugin --kind identity").refused(1).contains("that of the SDK"));
    rig.run("plugin new own").refused(2);
    rig.run("plugin new own --kind door").refused(2);
    rig.run("plugin new own --kind identity --lang go").refused(2);
}

#[test]
fn check_says_everything_about_a_good_library() {
    let rig = Rig::empty();
    let good = library("moorline-oauth");
    let said = rig.run(&format!("plugin check {}", good.display()));
    let sha256 = author(rig.folder.path(), "sha256sum", &[good.to_str().unwrap()]);
    for expected in [
        good.to_str().unwrap(),
        sha256.split(' ').next().unwrap(),
        "owner ",
        "mode 755",
        "built for 1.0; this host speaks 1.0",
        "describe, create, call, destroy",
        "oauth 0.1.0, external-auth",
        "github, gitlab",
        "concurrent, defaults",
        "resource limits on, seccomp on, Landlock ",
        "verdict      good",
    ] {
        assert!(said.text().contains(expected), "{expected}: {}", said.out);
    }
    let folder = good.parent().unwrap();
    let mut command = rig.command("plugin check libmoorline_oauth.so --json");
    let found = Said::from(command.current_dir(folder).output().unwrap()).json();
    assert_eq!(
        keys(&found),
        ["library", "file", "host_interface", "interface", "functions", "description", "confined", "problem"]
    );
    assert_eq!((&found["library"], &found["problem"]), (&json!(good), &Value::Null), "the path is made absolute");
}

#[test]
fn check_says_exactly_what_is_wrong() {
    let rig = Rig::empty();
    let header = "#include \"moorline_plugin.h\"\n";
    let entry = "MOORLINE_EXPORT const struct moorline_plugin *moorline_plugin_v1(const struct moorline_host *host)";
    let half = format!(
        "{header}static moorline_status describe(const struct moorline_sink *sink) {{ (void)sink; return 0; }}\n\
         static const struct moorline_plugin table = {{ .size = sizeof table, .major = 1, .minor = 7, .describe = describe }};\n\
         {entry} {{ (void)host; return &table; }}\n"
    );
    let undefined =
        format!("{header}const struct moorline_plugin *nowhere(void);\n{entry} {{ (void)host; return nowhere(); }}\n");
    let null = format!("{header}{entry} {{ (void)host; return NULL; }}\n");
    let crash = format!("{header}{entry} {{ (void)host; __builtin_trap(); }}\n");
    for (name, source, problem) in [
        ("half", half.as_str(), "lacks the function create, call"),
        ("undefined", &undefined, "undefined symbol: nowhere"),
        ("symbol", "int answer = 42;\n", "it has no symbol moorline_plugin_v1"),
        ("null", &null, "it will not work with this host, which speaks version 1.0"),
        ("crash", &crash, "ended by signal"),
    ] {
        let path = compiled(&rig, name, source);
        let said = rig.run(&format!("plugin check {name}.so"));
        let shown = failed(&said, problem);
        assert!(said.err.contains(path.to_str().unwrap()), "{}", said.err);
        assert!(
            shown.contains("SHA-256") && shown.contains(problem) && shown.contains("this host speaks 1.0"),
            "{shown}"
        );
    }
    let said = rig.run("plugin check half.so --json");
    let found: Value = serde_json::from_str(failed(&said, "cannot be used")).unwrap();
    assert_eq!((&found["interface"], &found["functions"]), (&json!([1, 7]), &json!(["describe"])));

    author(rig.folder.path(), "chmod", &["775", "symbol.so"]);
    let said = rig.run("plugin check symbol.so");
    assert!(failed(&said, "others than its owner can write it (mode 775)").contains("mode 775"), "{}", said.out);
    let said = rig.run("plugin check missing.so");
    assert!(failed(&said, "No such file").contains("none that can be read"), "{}", said.out);
    rig.run("plugin check").refused(2);
}

#[test]
fn plays_the_recordings_of_the_shipped_plugin() {
    let rig = Rig::empty();
    let (library, root) = (library("moorline-oauth"), env!("CARGO_MANIFEST_DIR"));
    let said = rig.run(&format!("plugin test {} --recording {root}/plugins/oauth/recordings", library.display()));
    assert!(said.text().contains("pass  github: ") && said.out.contains("pass  faults: "), "{}", said.out);
    let passed = said.out.lines().filter(|line| line.starts_with("pass  ")).count();
    assert!(passed > 80 && said.out.ends_with(&format!("{passed} cases passed.\n")), "{}", said.out);
}

/// A recording of one plugin's `verify`, with what must come of each case.
fn recording(cases: &[(&str, Value, Value)]) -> String {
    let setup =
        json!({"provider": "own", "type": "aws", "settings": {"verify_url": "https://cloud.example.com/verify"}});
    let request = json!({"fields": {"document": "d", "signature": "s"}});
    let cases: Vec<Value> = cases
        .iter()
        .map(|(name, answer, expect)| {
            let mut http = json!({"method": "POST", "url": "https://cloud.example.com/verify"});
            http.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
            let step = json!({"method": "verify", "request": request, "http": [http], "expect": expect});
            json!({"name": name, "setup": setup, "now": 1_700_000_000, "steps": [step]})
        })
        .collect();
    json!({ "cases": cases }).to_string()
}

#[test]
fn test_says_case_by_case_what_was_expected_and_what_came() {
    let rig = Rig::empty();
    rig.run("plugin new own --kind identity --lang c").text();
    let source = std::fs::read_to_string(rig.path("own/plugin.c")).unwrap();
    // Logs each answer, and falls over a teapot.
    let broken = source.replacen(
        "if (answer.fault != MOORLINE_OK) {",
        "struct moorline_bytes line = {(const uint8_t *)\"an\\033answer\", 9};\n\
         host->log(host->context, MOORLINE_LOG_WARN, line);\n\
         if (answer.status == 418) abort();\n    if (answer.fault != MOORLINE_OK) {",
        1,
    );
    assert_ne!(source, broken);
    std::fs::write(rig.path("own/plugin.c"), broken).unwrap();
    author(&rig.path("own"), "make", &[]);
    let good = json!({"status": 200, "body": "{\"instance_id\": \"i-1\", \"issued_at\": 1700000000}"});
    let ok = |id: &str| json!({"status": "ok", "reply": {"instance_id": id}});
    let cases = [
        ("right", good.clone(), ok("i-1")),
        ("another id", good.clone(), ok("i-2")),
        ("another body", json!({"status": 200, "body_has": ["teapot"], "body": good["body"]}), ok("i-1")),
        (
            "another end",
            json!({"status": 429, "headers": [["Retry-After", "9"]]}),
            json!({"status": "unavailable", "code": "busy", "retry_after": 5}),
        ),
        ("another status", json!({"status": 403}), ok("i-1")),
        ("a crash", json!({"status": 418}), ok("i-1")),
        ("right again", good.clone(), ok("i-1")),
    ];
    rig.write("wrong.json", &recording(&cases));
    let said = rig.run("plugin test own/libmoorline_own.so --recording wrong.json");
    let shown = failed(&said, "5 of 7 cases failed");
    for line in [
        "pass  wrong: right\n",
        "FAIL  wrong: another id\n      verify.instance_id is \"i-1\" where \"i-2\" is expected\n      log: warn: an answer\n",
        "POST https://cloud.example.com/verify: the body does not have \"teapot\"",
        "verify: retry_after is 9 s where 5 s is expected",
        "verify: refused (bad_signature: The cloud does not vouch for this document.) where ok is expected",
        "FAIL  wrong: a crash\n      verify: failed (failed: its process ended by signal 6 (abort)) where ok is expected",
        "pass  wrong: right again\n",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    let said = rig.run("plugin test own/libmoorline_own.so --recording wrong.json --json");
    let value: Value = serde_json::from_str(failed(&said, "5 of 7 cases failed")).unwrap();
    assert_eq!(keys(&value), ["library", "cases", "passed", "failed"]);
    assert_eq!(keys(&value["cases"][1]), ["recording", "case", "passed", "wrong", "log"]);
    assert_eq!(
        (&value["passed"], &value["failed"], &value["cases"][1]["passed"]),
        (&json!(2), &json!(5), &json!(false))
    );
}

#[test]
fn test_refuses_recordings_that_cannot_be_meant() {
    let rig = Rig::empty();
    let library = library("moorline-oauth").display().to_string();
    let ok = json!({"status": "ok"});
    for (name, text, problem) in [
        ("json", "{\"cases\": [\n{]}".to_owned(), "line 2"),
        ("none", "{\"cases\": []}".into(), "it has no cases"),
        ("member", "{\"cases\": [], \"speed\": 7}".into(), "unknown field `speed`"),
        (
            "word",
            recording(&[("a", json!({"status": 200}), json!({"status": "fine"}))]),
            "the status \"fine\" is none of",
        ),
        ("fault", recording(&[("a", json!({"fault": "rain"}), ok.clone())]), "case \"a\": verify: the fault \"rain\""),
        ("neither", recording(&[("a", json!({}), ok.clone())]), "needs a status or a fault"),
        ("both", recording(&[("a", json!({"status": 200, "fault": "tls"}), ok)]), "needs a status or a fault"),
    ] {
        rig.write(name, &text);
        let said = rig.run(&format!("plugin test {library} --recording {name}"));
        assert!(said.refused(1).contains(problem), "{name}: {}", said.err);
    }
    std::fs::create_dir(rig.path("folder")).unwrap();
    let said = rig.run(&format!("plugin test {library} --recording folder"));
    assert!(said.refused(1).contains("the folder has no recording"), "{}", said.err);
    let said = rig.run(&format!("plugin test {library} --recording missing.json"));
    assert!(said.refused(1).contains("missing.json: No such file"), "{}", said.err);
    rig.run(&format!("plugin test {library}")).refused(2);
    rig.write("good.json", &recording(&[("a", json!({"status": 200}), json!({"status": "ok"}))]));
    let said = rig.run("plugin test missing.so --recording good.json");
    assert!(said.refused(1).contains("missing.so cannot be used: it cannot be opened"), "{}", said.err);
}

/// A configuration with a good provider and one whose library is not there.
fn configured() -> Rig {
    let rig = Rig::with_people();
    let good = library("moorline-aws-identity");
    rig.write(
        "moorline.toml",
        &format!(
            "[[identity]]\ntype = 'aws'\nlibrary = '{}'\n[[identity]]\ntype = 'google'\nlibrary = '/none.so'\nsha256 = '{}'\n",
            good.display(),
            "0".repeat(64)
        ),
    );
    rig
}

#[test]
fn list_says_without_a_server_what_the_libraries_look_like() {
    let rig = configured();
    let said = rig.run("plugin list");
    assert!(said.text().starts_with("No server runs on moorline.db"), "{}", said.out);
    assert!(said.out.contains("aws (identity, type aws): good\n"), "{}", said.out);
    assert!(said.out.contains(", not pinned\n") && said.out.contains("(aws-identity 0.1.0)"), "{}", said.out);
    assert!(said.out.contains("google (identity, type google): cannot be used\n"), "{}", said.out);
    assert!(said.out.contains("  file        it cannot be opened: No such file"), "{}", said.out);
    let value = rig.run("plugin list --json").json();
    assert_eq!((&value["server"], &value["providers"][0]["state"]), (&json!(false), &json!("no_server")));
    // A pin that does not fit, and a library of the other kind.
    let good = library("moorline-oauth");
    let text = format!(
        "[[identity]]\ntype = 'aws'\nlibrary = '{0}'\n[[external_auth]]\ntype = 'x'\nlibrary = '{0}'\nsha256 = '{1}'\n",
        good.display(),
        "0".repeat(64)
    );
    rig.write("moorline.toml", &text);
    let said = rig.run("plugin list");
    assert!(said.text().contains("it is a plugin of another kind") && said.out.contains("pins 0000"), "{}", said.out);
    let rig = Rig::empty();
    rig.write("moorline.toml", "plugin_dir = '/none'\n");
    assert!(rig.run("plugin list").text().contains("No provider is configured."), "also without a file");
}

#[test]
fn list_follows_the_plugins_of_a_running_server_and_so_do_the_metrics() {
    let rig = configured();
    let server = rig.serve("--metrics-listen 127.0.0.1:0");
    let provider = |id: &str| {
        let value = rig.run("plugin list --json").json();
        assert_eq!(value["server"], true);
        value["providers"].as_array().unwrap().iter().find(|one| one["id"] == id).unwrap().clone()
    };
    let aws = provider("aws");
    assert_eq!((&aws["state"], &aws["calls"], &aws["pinned"]), (&json!("idle"), &json!(0), &json!(false)));
    assert_eq!(aws["sha256"].as_str().unwrap().len(), 64, "of the file, before it is loaded");
    assert_eq!(provider("google")["pinned"], true);
    let said = rig.run("plugin list");
    assert!(said.text().contains("aws (identity, type aws): not started: nobody has needed it\n"), "{}", said.out);

    rig.run("trust list").text();
    let aws = provider("aws");
    let (state, pid) = (&aws["state"], &aws["pid"]);
    assert_eq!(state, "running");
    let said = rig.run("plugin list");
    assert!(said.text().contains(&format!("aws (identity, type aws): running, process {pid}\n")), "{}", said.out);
    assert!(said.out.contains("  so far      1 calls, 0 failures, 0 restarts\n"), "{}", said.out);
    assert!(said.out.contains("google (identity, type google): down for "), "{}", said.out);
    assert!(said.out.contains(": it cannot be opened: No such file"), "{}", said.out);
    assert!(said.out.contains("  last error  "), "{}", said.out);
    let google = provider("google");
    assert_eq!((&google["state"], &google["failures"]), (&json!("down"), &json!(1)));

    author(rig.folder.path(), "kill", &["-9", &pid.to_string()]);
    let restarted = wait_for("the plugin to be started anew", || {
        rig.run("trust list").text();
        Some(provider("aws")).filter(|aws| aws["restarts"] == 1 && aws["state"] == "running")
    });
    assert_ne!(&restarted["pid"], pid);
    let address = wait_for("the address of the metrics", || {
        let log = server.log();
        let (_, rest) = log.split_once("metrics are at http://")?;
        Some(rest.split("/metrics").next()?.to_owned())
    });
    wait_for("the figures", || {
        let url = format!("http://{address}/metrics");
        let text = ureq::get(url).call().unwrap().body_mut().read_to_string().unwrap();
        let restarts = "moorline_plugin_restarts{kind=\"identity\",provider=\"aws\"} 1\n";
        let failures = "moorline_plugin_failures{kind=\"identity\",provider=\"google\"} ";
        let calls = "moorline_plugin_calls{kind=\"identity\",provider=\"aws\"} ";
        [restarts, failures, calls].iter().all(|line| text.contains(line)).then_some(())
    });
}

#[test]
fn egress_shows_what_was_fetched_for_whom() {
    let rig = Rig::with_people();
    assert_eq!(rig.run("plugin egress").text(), "Nothing was fetched for plugins in this time.\n");
    let conn = rusqlite::Connection::open(rig.path("moorline.db")).unwrap();
    let at = |hours: u64| Timestamp::now().minus(std::time::Duration::from_secs(hours * 3_600)).0;
    for (at, provider, host, status, fault) in [
        (at(30), "github", "github.com", Some(200), ""),
        (at(2), "github", "evil.example.com", None, "egress"),
        (at(1), "gitlab", "gitlab.com", None, "timeout"),
        (at(0), "gitlab", "gitlab.com", None, ""),
    ] {
        conn.execute(
            "INSERT INTO egress (at, provider, method, host, port, path, status, fault, sent, received, took_us)
             VALUES (?1, ?2, 'POST', ?3, 443, '/token', ?4, ?5, 12, 345, 67890)",
            (at, provider, host, status, fault),
        )
        .unwrap();
    }
    drop(conn);
    let rows = |arguments: &str| {
        let said = rig.run(&format!("plugin egress {arguments}"));
        let lines: Vec<Vec<String>> = said
            .text()
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(|cell| cell.trim().to_owned()).collect())
            .collect();
        lines
    };
    let all = rows("");
    assert_eq!(all[0], ["AT", "PROVIDER", "METHOD", "HOST", "PATH", "STATUS", "SENT", "RECEIVED", "MS"]);
    assert_eq!(all[1][1..], ["gitlab", "POST", "gitlab.com:443", "/token", "none yet", "12", "345", "67"]);
    assert_eq!((all[2][5].as_str(), all[3][5].as_str(), all[4][5].as_str()), ("timeout", "not allowed", "200"));
    assert_eq!(rows("--provider github").len(), 3);
    assert_eq!(rows("--provider github --since 12h").len(), 2);
    let few = rig.run("plugin egress --limit 1");
    assert!(few.text().contains("These are the newest 1; --limit shows more."), "{}", few.out);
    let value = rig.run("plugin egress --limit 1 --json").json();
    assert_eq!((keys(&value), &value["more"]), (vec!["requests", "more"], &json!(true)));
    assert_eq!(
        keys(&value["requests"][0]),
        ["at", "provider", "method", "host", "port", "path", "status", "fault", "sent", "received", "took_us"]
    );
    rig.run("plugin egress --limit 0").refused(2);
    let server = rig.serve("");
    assert_eq!(rows("").len(), 5, "the same from {}", server.url);
}

/// A provider with a certificate of an authority that nobody knows, which says where its addresses are; gives its port, and the
/// authority's certificate.
fn private_provider() -> (u16, String) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream.unwrap());
            let (mut head, mut byte) = (Vec::new(), [0]);
            // A client that does not know the authority leaves during the handshake.
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                head.push(byte[0]);
            }
            let base = format!("https://localhost:{port}");
            let body = json!({
                "issuer": base, "authorization_endpoint": format!("{base}/auth"), "token_endpoint": format!("{base}/token"),
            });
            let body = body.to_string();
            let length = body.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (port, authority.pem())
}

#[test]
fn one_import_of_a_private_authority_suffices_for_plugins() {
    let rig = Rig::empty();
    let (port, authority) = private_provider();
    rig.write("authority.pem", &authority);
    let file = rig.path("authority.pem").display().to_string();
    let ask = |more: &str, system: Option<&str>| {
        let library = library("moorline-oauth");
        let text = format!(
            "[[external_auth]]\nid = 'own'\ntype = 'oidc'\nclient_id = 'c'\nissuer = 'https://localhost:{port}'\n\
             proxy = ''\nlibrary = '{}'\n{more}",
            library.display()
        );
        rig.write("moorline.toml", &text);
        let mut command = rig.command("external-auth test own");
        if let Some(system) = system {
            command.env("SSL_CERT_FILE", system);
        }
        Said::from(command.output().unwrap())
    };
    let unknown = ask("", None);
    assert!(unknown.out.contains("failed authorize address"), "{}\n{}", unknown.out, unknown.err);
    let found = format!("ok     authorize address: https://localhost:{port}/auth?");
    let system = ask("", Some(&file));
    assert!(system.out.contains(&found), "in the system's store: {}\n{}", system.out, system.err);
    let own = ask(&format!("ca_file = '{file}'\n"), None);
    assert!(own.out.contains(&found), "of the provider alone: {}\n{}", own.out, own.err);
}
