//! The server as a whole (coder v2.24.0 codersdk/deployment.go).

use serde::Serialize;
use uuid::Uuid;

use crate::domain::App;
use crate::model::Timestamp;
use crate::store::stats::Recent;

#[derive(Serialize)]
pub(in crate::rest) struct Appearance {
    pub application_name: &'static str,
    pub logo_url: &'static str,
    pub docs_url: &'static str,
    pub service_banner: Banner,
    pub announcement_banners: [Banner; 0],
}

#[derive(Serialize)]
pub(in crate::rest) struct Banner {
    pub enabled: bool,
}

#[derive(Serialize)]
pub(in crate::rest) struct Regions<'a> {
    pub regions: [Region<'a>; 1],
}

#[derive(Serialize)]
pub(in crate::rest) struct Region<'a> {
    pub id: Uuid,
    pub name: &'static str,
    pub display_name: &'static str,
    pub icon_url: &'static str,
    pub healthy: bool,
    pub path_app_url: &'a str,
    pub wildcard_hostname: &'static str,
}

#[derive(Serialize)]
pub(in crate::rest) struct Stats {
    aggregated_from: Timestamp,
    collected_at: Timestamp,
    next_update_at: Timestamp,
    workspaces: WorkspaceStats,
    session_count: Sessions,
}

#[derive(Serialize)]
struct WorkspaceStats {
    pending: u32,
    building: u32,
    running: usize,
    failed: u32,
    stopped: u32,
    connection_latency_ms: Latency,
    rx_bytes: i64,
    tx_bytes: i64,
}

#[derive(Serialize)]
struct Latency {
    #[serde(rename = "P50")]
    p50: f64,
    #[serde(rename = "P95")]
    p95: f64,
}

#[derive(Serialize)]
struct Sessions {
    vscode: i64,
    ssh: i64,
    jetbrains: i64,
    reconnecting_pty: i64,
}

impl Stats {
    /// Every declared workspace counts as running, as everywhere.
    pub(in crate::rest) fn of(recent: &Recent, workspaces: usize, now: Timestamp) -> Stats {
        let percentile = |part: usize| {
            let at = recent.latencies_us.len().saturating_sub(1) * part / 100;
            // -1 stands for "nobody measured any" (coder v2.24.0 coderd/database/queries/workspaceagentstats.sql).
            recent.latencies_us.get(at).map_or(-1.0, |micros| f64::from(*micros) / 1_000.0)
        };
        Stats {
            aggregated_from: recent.since,
            collected_at: now,
            // Counted afresh each time.
            next_update_at: now,
            workspaces: WorkspaceStats {
                pending: 0,
                building: 0,
                running: workspaces,
                failed: 0,
                stopped: 0,
                connection_latency_ms: Latency { p50: percentile(50), p95: percentile(95) },
                rx_bytes: recent.rx_bytes,
                tx_bytes: recent.tx_bytes,
            },
            session_count: Sessions {
                vscode: recent.vscode,
                ssh: recent.ssh,
                jetbrains: recent.jetbrains,
                reconnecting_pty: recent.reconnecting_pty,
            },
        }
    }
}

/// Our settings by the names that the real server has for them; what it has no name for is left out. None of
/// them is a secret.
#[derive(Serialize)]
pub(in crate::rest) struct Config<'a> {
    config: Values<'a>,
    /// The real server lists how each of its options is set. Ours are others: see `moorline serve --check-config`.
    options: [(); 0],
}

#[derive(Serialize)]
struct Values<'a> {
    access_url: &'a str,
    http_address: String,
    derp: Derp,
    rate_limit: RateLimit,
    session_lifetime: SessionLifetime,
    telemetry: Enabled,
    agent_stat_refresh_interval: u128,
    agent_fallback_troubleshooting_url: &'a str,
    tls: Enabled,
    workspace_hostname_suffix: &'a str,
}

#[derive(Serialize)]
struct Derp {
    server: Enabled,
    config: DerpConfig,
}

#[derive(Serialize)]
struct DerpConfig {
    block_direct: bool,
    force_websockets: bool,
}

#[derive(Serialize)]
struct Enabled {
    enable: bool,
}

#[derive(Serialize)]
struct RateLimit {
    disable_all: bool,
    api: i64,
}

/// Nanoseconds.
#[derive(Serialize)]
struct SessionLifetime {
    default_duration: u128,
    max_token_lifetime: u128,
}

impl<'a> Config<'a> {
    pub(in crate::rest) fn of(app: &'a App) -> Config<'a> {
        let settings = &app.settings;
        let unlimited = settings.requests_per_minute == 0;
        Config {
            config: Values {
                access_url: &app.access_url,
                http_address: settings.listen.to_string(),
                derp: Derp {
                    server: Enabled { enable: true },
                    config: DerpConfig {
                        block_direct: settings.disable_direct_connections,
                        force_websockets: settings.derp_force_websockets,
                    },
                },
                rate_limit: RateLimit {
                    disable_all: unlimited,
                    // -1 is how the real server writes "no limit".
                    api: if unlimited { -1 } else { i64::from(settings.requests_per_minute) },
                },
                session_lifetime: SessionLifetime {
                    default_duration: settings.session_lifetime.as_nanos(),
                    max_token_lifetime: settings.max_token_lifetime.as_nanos(),
                },
                telemetry: Enabled { enable: false },
                agent_stat_refresh_interval: settings.stats_interval.as_nanos(),
                agent_fallback_troubleshooting_url: &settings.troubleshooting_url,
                tls: Enabled { enable: settings.tls.is_some() },
                workspace_hostname_suffix: &settings.hostname_suffix,
            },
            options: [],
        }
    }
}
