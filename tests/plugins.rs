//! Plugins in their processes, as the server uses them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moorline::config::providers::ProviderConfig;
use moorline::domain::App;
use moorline::ops::jobs::Jobs;
use moorline::plugins::{self, CallError, Condition};
use moorline_plugin::schema::{Authorize, AuthorizeRequest, Kind, Verified, VerifyRequest};
use serde_json::{Value, json};

use crate::harness;

mod cc;
mod crowd;
mod egress;
mod faults;
mod header;
mod kinds;
mod loading;
mod panics;
mod rig;
mod server;

/// A server with one provider.
struct Site {
    app: App,
    provider: Arc<ProviderConfig>,
    _dir: tempfile::TempDir,
}

fn provider(kind: Kind, word: &str, library: PathBuf, settings: Value) -> ProviderConfig {
    ProviderConfig {
        id: word.into(),
        kind,
        kind_word: word.into(),
        library,
        sha256: None,
        settings,
        egress: Vec::new(),
        ca: None,
        proxy: Some(String::new()),
    }
}

fn site(config: ProviderConfig) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = harness::app::settings(dir.path(), &[]);
    let provider = Arc::new(config);
    settings.providers = vec![Arc::clone(&provider)];
    let (jobs, _workers) = Jobs::start("rpc", 1, 16).unwrap();
    Site { app: harness::app::app(settings, "http://127.0.0.1:1", jobs), provider, _dir: dir }
}

const DOCUMENT: &str = include_str!("../plugins/aws-identity/src/sample.json");
const SIGNATURE: &str = "M7rX9w1s5zK1V7hK0dsE4hTDXHHaaDuKQ9iIz/W8ZNaA2lJ/usz5YuX+ORt3luJwswl/+B7cYOkJ\n\
                         bXRMx/pEQ6vT+niLGZDC9ZZ1h9Ox4h4e4m4IisQSCUrVIzyLj+MB27/Wyy0NhXcpoZVjNEmioxF2\n\
                         HNpOR4aCwUxxOm81y98=";

fn document() -> VerifyRequest {
    let fields = BTreeMap::from([("document".into(), DOCUMENT.into()), ("signature".into(), SIGNATURE.into())]);
    VerifyRequest { fields }
}

#[test]
fn a_machine_is_proved_in_a_process_that_starts_when_it_is_needed() {
    let site = site(provider(Kind::Identity, "aws", harness::plugins::library("moorline-aws-identity"), Value::Null));
    let plugins = &site.app.plugins;
    assert_eq!(plugins.status()[0].condition, Condition::Idle);
    let verified: Verified = plugins.call(&site.provider, "verify", &document()).unwrap();
    assert_eq!(verified.instance_id, "i-076e9b91f7c420782");
    let status = &plugins.status()[0];
    assert!(matches!(status.condition, Condition::Running { .. }));
    assert!(status.confined.as_ref().unwrap().seccomp && status.confined.as_ref().unwrap().limits);
    let Err(CallError::Refused(refused)) =
        plugins.call::<_, Verified>(&site.provider, "verify", &VerifyRequest::default())
    else {
        panic!("an empty document was taken");
    };
    assert_eq!(refused.code, "malformed");
    plugins.stop();
    assert!(matches!(plugins.call::<_, Verified>(&site.provider, "verify", &document()), Err(CallError::Down(_))));
}

#[test]
fn a_plugin_asks_the_server_for_http_and_gets_no_further_than_allowed() {
    let settings = json!({"client_id": "c", "issuer": "http://127.0.0.1:9"});
    let site = site(provider(Kind::ExternalAuth, "oidc", harness::plugins::library("moorline-oauth"), settings));
    let request = AuthorizeRequest::default();
    let called = site.app.plugins.call::<_, Authorize>(&site.provider, "authorize", &request);
    let Err(CallError::Unavailable(refused)) = called else { panic!("{called:?}") };
    assert_eq!(refused.code, "connect");
    let rows: Vec<(String, i64, String, String)> = site
        .app
        .store
        .read(|conn| {
            conn.prepare("SELECT host, port, path, fault FROM egress")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
                .collect::<Result<_, _>>()
                .map_err(moorline::store::Error::from)
        })
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].0.as_str(), rows[0].1), ("127.0.0.1", 9));
    assert_eq!(rows[0].2, "/.well-known/openid-configuration");
}

#[test]
fn what_is_no_plugin_is_reported_exactly() {
    let program = Path::new(env!("CARGO_BIN_EXE_moorline"));
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    std::fs::write(&text, "not a library ".repeat(100)).unwrap();
    let missing = folder.path().join("missing.so");
    for (path, expected) in [
        (text.as_path(), "not a library"),
        (missing.as_path(), "No such file"),
        (Path::new("relative.so"), "not absolute"),
        (folder.path(), "not a plain file"),
    ] {
        let why = plugins::look_at(program, path, None).unwrap_err();
        assert!(why.contains(expected), "{why}");
        assert!(!why.contains("/proc/self"), "{why}");
    }
    let good = harness::plugins::library("moorline-oauth");
    let report = plugins::look_at(program, &good, None).unwrap();
    assert_eq!(report.description.unwrap().name, "oauth");
    let why = plugins::look_at(program, &good, Some("00")).unwrap_err();
    assert!(why.contains("pins 00"), "{why}");
}
