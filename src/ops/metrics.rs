//! Counters and gauges, shown as OpenMetrics text.

use std::sync::Mutex;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Everything that is counted. A part of the server adds its own fields here and registers them.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Plain requests answered.
    pub requests: Counter,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("moorline");
        let requests = Counter::default();
        registry.register("http_requests", "Plain HTTP requests answered", requests.clone());
        Metrics { registry: Mutex::new(registry), requests }
    }

    /// The text that a scraper reads.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
            log::error!("metrics cannot be encoded: {error}");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
