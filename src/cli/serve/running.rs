//! The parts of a running server, in the order in which they start and stop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use super::super::Failure;
use super::super::metrics::MetricsDoor;
use super::super::place::{ADMIN, REST, Socket};
use super::check_folder;
use crate::config::{ConfigError, Loaded, Settings, limits};
use crate::domain::{App, Shared, tokens};
use crate::edge::{self, Edge};
use crate::model::{Timestamp, version};
use crate::ops::hub::{Hub, Topic};
use crate::ops::jobs::{Jobs, Workers};
use crate::ops::metrics::plugins::PluginCounts;
use crate::plugins::Condition;
use crate::rest::{self, Rest};
use crate::store::{self, Keeper, Options, Store, agents};
use crate::streams::Arrivals;
use crate::tailnet::derp_map::DerpMap;

/// Agent RPCs that wait for a worker; beyond it, an agent is told to wait. About 200 bytes each
/// besides the message, which the streams' own limits bound.
const RPC_QUEUE: usize = 4_096;
/// Readers beside one per worker: for the administrator and the keeper.
const SPARE_READERS: usize = 2;
/// Characters of the secret between edge and workers: 190 bits.
const SECRET_CHARS: usize = 32;
/// A stop that takes longer than this is cut short; the store loses nothing by it.
const STOP_MOST: Duration = Duration::from_secs(8);

/// A running server.
pub(super) struct Running {
    app: Shared,
    edge: Edge,
    rest: Rest,
    keeper: Keeper,
    workers: Workers,
    metrics: Option<MetricsDoor>,
    url: String,
    sockets: [Socket; 2],
}

impl Running {
    /// Starts everything. What can be refused is tried before the file is touched.
    pub(super) fn start(settings: &Settings) -> Result<Running, Failure> {
        check_folder(settings)?;
        let tls = settings.tls.as_ref().map(|(certificate, key)| edge::tls::Tls::load(certificate, key)).transpose()?;
        let readers = settings.http_threads + settings.rpc_threads + SPARE_READERS;
        let hub = Hub::default();
        let store = Store::open(Options {
            file: settings.file.clone(),
            key_file: settings.key_file.clone(),
            create: true,
            readers: u32::try_from(readers).unwrap_or(u32::MAX),
            hub: hub.clone(),
            allow_network_file_system: settings.allow_network_file_system,
        })?;
        settle_tunnels(&store);
        settle_refreshes(&store);
        let listener = listen(settings.listen)?;
        let address = listener.local_addr()?;
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{address}");
        let (jobs, workers) = Jobs::start("rpc", settings.rpc_threads, RPC_QUEUE)?;
        let access_url = settings.access_url.clone().unwrap_or_else(|| reachable(scheme, address));
        let app = Arc::new(App::new(settings.clone(), access_url, store.clone(), hub, jobs)?);
        app.programs.prepare();
        let metrics = match settings.metrics_listen {
            Some(address) => Some(MetricsDoor::start(listen(address)?, Arc::clone(&app))?),
            None => None,
        };

        let sockets = [Socket::beside(&settings.file, ADMIN)?, Socket::beside(&settings.file, REST)?];
        let [admin, private] = &sockets;
        let arrivals = Arrivals::default();
        let secret = tokens::random_text(SECRET_CHARS)?;
        let rest =
            rest::start(Arc::clone(&app), arrivals.clone(), private.listen()?, secret.clone(), settings.http_threads)?;
        let edge = edge::start(edge::Config {
            listeners: vec![listener],
            admin: Some(admin.listen()?),
            tls,
            upstream: private.short_path(),
            secret,
            trusted_proxies: settings.trusted_proxies.clone(),
            loops: settings.loops,
            // Twice as many, so that a worker that is done finds its next request read already.
            upstream_connections: 2 * settings.http_threads,
            arrivals,
            version_header: version::VERSION.into(),
            limits: edge::Limits::default(),
        })?;
        let keeper = Keeper::start(store, settings.retention.clone())?;
        log::info!(
            url = url.as_str(), access_url = app.access_url.as_str(), file:display = settings.file.display();
            "serving"
        );
        Ok(Running { app, edge, rest, keeper, workers, metrics, url, sockets })
    }

    /// Copies what the edge and the coordinator have counted to where scrapers look.
    pub(super) fn count(&self) {
        let counters = self.edge.counters();
        let metrics = &self.app.metrics;
        metrics.connections.set(i64::try_from(counters.open).unwrap_or(i64::MAX));
        metrics.connections_accepted.set(i64::try_from(counters.accepted).unwrap_or(i64::MAX));
        let tailnet = self.app.tailnet.counts();
        for (kind, count) in [("agent", tailnet.agents), ("client", tailnet.clients), ("lost", tailnet.lost)] {
            let gauge = metrics.tailnet_peers.get_or_create(&[("kind", kind)]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        metrics.tailnet_tunnels.set(i64::try_from(tailnet.tunnels).unwrap_or(i64::MAX));
        for provider in self.app.plugins.status() {
            let counts = PluginCounts {
                calls: provider.calls,
                failures: provider.failures,
                restarts: provider.restarts,
                running: matches!(provider.condition, Condition::Running { .. }),
            };
            metrics.plugins.set(provider.kind.word(), &provider.id, counts);
        }
        for reason in edge::Reason::ALL {
            let count = i64::try_from(counters.refused(reason)).unwrap_or(i64::MAX);
            metrics.refused.get_or_create(&[("reason", reason.name())]).set(count);
        }
    }

    /// Agents that were connected when the server was killed and have not come back are written down as
    /// gone, so that retention finds them.
    pub(super) fn settle_absent(&self) {
        let presence = self.app.presence.clone();
        let settled = self.app.store.write(move |write| {
            let mut count = 0;
            for agent in agents::dangling(write)? {
                if presence.of(agent).is_none() {
                    agents::settle(write, agent)?;
                    count += 1;
                }
            }
            Ok::<_, store::Error>(count)
        });
        match settled {
            Ok(0) => {}
            Ok(count) => log::info!(count = count; "agents have not come back since the last stop"),
            Err(error) => log::warn!("agents that have not come back cannot be written down: {error}"),
        }
    }

    /// Where it listens.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// How clients reach it.
    pub(super) fn access_url(&self) -> &str {
        &self.app.access_url
    }

    pub(super) fn store(&self) -> &Store {
        &self.app.store
    }

    /// The certificate files, if it speaks TLS.
    pub(super) fn certificates(&self) -> Option<&(std::path::PathBuf, std::path::PathBuf)> {
        self.app.settings.tls.as_ref()
    }

    pub(super) fn reload_tls(&self) {
        match self.edge.reload_tls() {
            Ok(true) => log::info!("the new TLS certificate is in use"),
            Ok(false) => {}
            Err(error) => log::error!("the TLS certificate in use is kept: {error}"),
        }
    }

    /// Takes relay regions and STUN servers of settings that were read anew; everything else of them needs
    /// a restart. Settings that cannot be used change nothing.
    pub(super) fn reload_regions(&self, read: Result<Loaded, ConfigError>) {
        let app = &self.app;
        let settings = match read {
            Ok(loaded) => loaded.settings,
            Err(error) => {
                return log::error!("the relay regions in use are kept: {}", error.to_string().replace('\n', " "));
            }
        };
        let settings = Settings {
            derp_regions: settings.derp_regions,
            stun_addresses: settings.stun_addresses,
            ..app.settings.clone()
        };
        if app.derp_map.set(DerpMap::of(&app.access_url, &settings)) {
            log::info!(regions = settings.derp_regions.len() + 1; "the new relay map is in use");
            app.hub.publish(Topic::DerpMap);
        }
    }

    /// Says goodbye to clients, does what was accepted, and closes the file.
    pub(super) fn stop(self) {
        let Running { app, edge, rest, keeper, workers, metrics, sockets, .. } = self;
        std::thread::spawn(|| {
            std::thread::sleep(STOP_MOST);
            log::error!("stopping took too long and was cut short");
            std::process::exit(1);
        });
        drop(metrics);
        app.presence.stop();
        edge.shutdown(limits::SHUTDOWN_GRACE);
        app.peer.stop();
        app.links.stop();
        app.plugins.stop();
        rest.stop();
        drop(keeper);
        let store = app.store.clone();
        // The last handle to the queue ends its workers when they have done what is in it.
        drop(app);
        workers.join();
        for socket in &sockets {
            socket.remove();
        }
        store.close();
        log::info!("stopped");
    }
}

/// Tunnels that were open when the server died are ended in the log; who comes back goes on with theirs.
fn settle_tunnels(store: &Store) {
    match store.write(|write| Ok::<_, store::Error>(store::tunnels::settle(write, Timestamp::now())?)) {
        Ok(0) => {}
        Ok(count) => log::info!(count = count; "tunnels that were open at the last stop are ended in the log"),
        Err(error) => log::warn!("tunnels that were open at the last stop cannot be ended in the log: {error}"),
    }
}

/// Refresh tokens that were with their providers when the server died may have been used up there.
fn settle_refreshes(store: &Store) {
    match store.write(|write| Ok::<_, store::Error>(store::external_auth::settle(write, Timestamp::now())?)) {
        Ok(0) => {}
        Ok(count) => log::warn!(count = count; "refreshes at external providers were cut off by the last stop"),
        Err(error) => log::warn!("refreshes that were cut off by the last stop cannot be settled: {error}"),
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| Failure::from(format!("cannot listen on {address}: {error}")))
}

/// An address that the machine itself can use, for want of a configured one.
fn reachable(scheme: &str, address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return format!("{scheme}://{address}");
    }
    let loopback = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let url = format!("{scheme}://{}", SocketAddr::new(loopback, address.port()));
    log::warn!("access_url is not configured: other machines are told to use {url}, which only works on this one");
    url
}
