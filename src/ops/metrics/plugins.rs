//! What is counted of plugins, by provider.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Kind and id of a provider.
type ByProvider = Family<Vec<(&'static str, String)>, Gauge>;

/// Of each provider since the start, as its supervisor last said.
pub struct PluginMetrics {
    calls: ByProvider,
    failures: ByProvider,
    restarts: ByProvider,
    running: ByProvider,
}

/// The figures of one provider.
#[derive(Clone, Copy, Debug)]
pub struct PluginCounts {
    /// Calls of its plugin.
    pub calls: u64,
    /// Failures of its process.
    pub failures: u64,
    /// Times that its process was started anew.
    pub restarts: u64,
    /// Whether its process runs.
    pub running: bool,
}

impl PluginMetrics {
    pub(super) fn new(registry: &mut Registry) -> PluginMetrics {
        let mut family = |name: &str, help: &str| {
            let family = ByProvider::default();
            registry.register(name, help, family.clone());
            family
        };
        PluginMetrics {
            calls: family("plugin_calls", "Calls of a provider's plugin since the start"),
            failures: family("plugin_failures", "Failures of a provider's plugin process since the start"),
            restarts: family("plugin_restarts", "Times that a provider's plugin process was started anew"),
            running: family("plugin_running", "Whether a provider's plugin process runs"),
        }
    }

    /// Takes the figures of a provider over.
    pub fn set(&self, kind: &str, provider: &str, counts: PluginCounts) {
        let labels = vec![("kind", kind.to_owned()), ("provider", provider.to_owned())];
        let set = |family: &ByProvider, count: u64| {
            family.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        set(&self.calls, counts.calls);
        set(&self.failures, counts.failures);
        set(&self.restarts, counts.restarts);
        set(&self.running, u64::from(counts.running));
    }
}
