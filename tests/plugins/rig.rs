//! A server's plugins, as the server uses them, without its sockets.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moorline::config::providers::ProviderConfig;
use moorline::domain::App;
use moorline::ops::jobs::Jobs;
use moorline::plugins::{CallError, Condition, ProviderStatus};
use moorline_plugin::schema::{Kind, Verified, VerifyRequest};
use serde_json::{Value, json};

use super::cc;
use crate::harness;

/// The providers that a test names, and `good`, which must not care.
pub struct Rig {
    pub app: App,
    _dir: tempfile::TempDir,
}

/// A provider of machine identity.
pub fn identity(id: &str, library: &Path) -> ProviderConfig {
    ProviderConfig {
        id: id.into(),
        kind: Kind::Identity,
        kind_word: "aws".into(),
        library: library.into(),
        sha256: None,
        settings: json!({}),
        egress: Vec::new(),
        ca: None,
        proxy: Some(String::new()),
    }
}

impl Rig {
    pub fn new(providers: impl IntoIterator<Item = ProviderConfig>) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = harness::app::settings(dir.path(), &[]);
        let good = identity("good", &cc::library("identity", ""));
        settings.providers = providers.into_iter().chain([good]).map(Arc::new).collect();
        let (jobs, _workers) = Jobs::start("rpc", 1, 16).unwrap();
        Rig { app: harness::app::app(settings, "http://127.0.0.1:1", jobs), _dir: dir }
    }

    /// With one provider, `odd`.
    pub fn odd() -> Rig {
        Rig::new([identity("odd", &cc::library("odd", ""))])
    }

    pub fn provider(&self, id: &str) -> Arc<ProviderConfig> {
        let mut all =
            [Kind::Identity, Kind::ExternalAuth].into_iter().flat_map(|kind| self.app.plugins.providers(kind));
        Arc::clone(all.find(|provider| provider.id == id).unwrap())
    }

    pub fn call(&self, id: &str, method: &str, request: &Value) -> Result<Value, CallError> {
        self.app.plugins.call(&self.provider(id), method, request)
    }

    /// What `odd` makes of a method without a request.
    pub fn act(&self, method: &str) -> Result<Value, CallError> {
        self.call("odd", method, &json!({}))
    }

    pub fn status(&self, id: &str) -> ProviderStatus {
        self.app.plugins.status().into_iter().find(|status| status.id == id).unwrap()
    }

    /// Why a provider is down.
    pub fn why(&self, id: &str) -> String {
        match self.status(id).condition {
            Condition::Down { why, .. } => why,
            other => panic!("{id} is {other:?}"),
        }
    }

    pub fn pid(&self, id: &str) -> u32 {
        match self.status(id).condition {
            Condition::Running { pid } => pid,
            other => panic!("{id} is {other:?}"),
        }
    }

    /// The good provider does its work, and soon.
    pub fn others_are_fine(&self) {
        let begun = Instant::now();
        assert_eq!(prove(self, "good"), Ok("i-123".into()));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    /// Calls until the provider answers again, which it does after its pause.
    pub fn comes_back(&self, id: &str, method: &str) {
        harness::until("the provider comes back", || self.call(id, method, &json!({})).ok());
    }
}

/// Has a machine proved by the plugin of `identity.c`.
pub fn prove(rig: &Rig, id: &str) -> Result<String, CallError> {
    let fields = [("document".to_owned(), "i-123".to_owned()), ("signature".to_owned(), "321-i".to_owned())];
    let request = VerifyRequest { fields: fields.into() };
    rig.app.plugins.call::<_, Verified>(&rig.provider(id), "verify", &request).map(|found| found.instance_id)
}

/// Whether there is such a process, also as a zombie.
pub fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The process is gone and nobody's zombie.
pub fn is_gone(pid: u32) {
    harness::until("the process is gone", || (!is_there(pid)).then_some(()));
}
