//! Counters and gauges, shown as OpenMetrics text.

pub mod plugins;
pub mod relay;

use std::sync::Mutex;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use self::plugins::PluginMetrics;
use self::relay::RelayMetrics;

/// Everything that is counted. A part of the server adds its own fields here and registers them.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Plain requests answered.
    pub requests: Counter,
    /// Agent connections open at present, whether or not they are monitored.
    pub agent_connections: Gauge,
    /// Connections of people's clients open at present.
    pub client_connections: Gauge,
    /// Calls of agents that were answered well.
    pub agent_calls: Counter,
    /// Calls of agents that were answered with an error.
    pub agent_call_errors: Counter,
    /// Times that a call had to be put back because a queue or the disk was full.
    pub agent_calls_delayed: Counter,
    /// Repeating reports of agents that were dropped because the disk is full.
    pub agent_reports_dropped: Counter,
    /// One-way streams (logs, metadata, relay map, reinit) open at present.
    pub watchers: Gauge,
    /// Terminals open.
    pub terminals: Gauge,
    /// Peers that the coordinator knows at present: agents and clients with a stream, and those lost.
    pub tailnet_peers: Family<[(&'static str, &'static str); 1], Gauge>,
    /// Tunnels that the coordinator knows at present.
    pub tailnet_tunnels: Gauge,
    /// The server's own place in the tailnet.
    pub peer: PeerMetrics,
    /// Files being sent.
    pub downloads: Gauge,
    /// Public connections open, as the edge last said.
    pub connections: Gauge,
    /// Public connections accepted since the start, as the edge last said.
    pub connections_accepted: Gauge,
    /// What the edge has refused or ended since the start, by reason.
    pub refused: Family<[(&'static str, &'static str); 1], Gauge>,
    /// Of the relay.
    pub relay: RelayMetrics,
    /// Of plugins.
    pub plugins: PluginMetrics,
}

/// What the server's own peer has at present.
#[derive(Clone, Default)]
pub struct PeerMetrics {
    /// Agents that it keeps in reach.
    pub agents: Gauge,
    /// Connections to them.
    pub connections: Gauge,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("moorline");
        let requests = Counter::default();
        registry.register("http_requests", "Plain HTTP requests answered", requests.clone());
        let agent_connections = Gauge::default();
        registry.register("agent_connections", "Agent connections open", agent_connections.clone());
        let client_connections = Gauge::default();
        registry.register("client_connections", "Coordination connections of clients open", client_connections.clone());
        let agent_calls = Counter::default();
        registry.register("agent_calls", "Agent calls answered well", agent_calls.clone());
        let agent_call_errors = Counter::default();
        registry.register("agent_call_errors", "Agent calls answered with an error", agent_call_errors.clone());
        let agent_calls_delayed = Counter::default();
        registry.register(
            "agent_calls_delayed",
            "Agent calls put back because a queue or the disk was full",
            agent_calls_delayed.clone(),
        );
        let agent_reports_dropped = Counter::default();
        registry.register(
            "agent_reports_dropped",
            "Repeating agent reports dropped because the disk was full",
            agent_reports_dropped.clone(),
        );
        let watchers = Gauge::default();
        registry.register("watchers", "Live streams of people open, terminals among them", watchers.clone());
        let terminals = Gauge::default();
        registry.register("terminals", "Terminals open", terminals.clone());
        let tailnet_peers = Family::default();
        registry.register("tailnet_peers", "Peers that the coordinator knows", tailnet_peers.clone());
        let tailnet_tunnels = Gauge::default();
        registry.register("tailnet_tunnels", "Tunnels that the coordinator knows", tailnet_tunnels.clone());
        let peer = PeerMetrics::default();
        registry.register("peer_agents", "Agents that the server itself keeps in reach", peer.agents.clone());
        registry.register("peer_connections", "The server's own connections to agents", peer.connections.clone());
        let downloads = Gauge::default();
        registry.register("downloads", "Files being sent", downloads.clone());
        let connections = Gauge::default();
        registry.register("connections", "Public connections open", connections.clone());
        let connections_accepted = Gauge::default();
        registry.register(
            "connections_accepted",
            "Public connections accepted since the start",
            connections_accepted.clone(),
        );
        let refused = Family::default();
        registry.register("refused", "Refused or ended by the edge since the start", refused.clone());
        let relay = RelayMetrics::new(&mut registry);
        let plugins = PluginMetrics::new(&mut registry);
        Metrics {
            registry: Mutex::new(registry),
            requests,
            agent_connections,
            client_connections,
            agent_calls,
            agent_call_errors,
            agent_calls_delayed,
            agent_reports_dropped,
            watchers,
            terminals,
            tailnet_peers,
            tailnet_tunnels,
            peer,
            downloads,
            connections,
            connections_accepted,
            refused,
            relay,
            plugins,
        }
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
