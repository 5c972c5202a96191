//! Every setting in one table: flags, environment, file, help and documentation come from it.

/// What a setting takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// The name of a file.
    Path,
    /// `host:port`.
    Address,
    /// Like `90s`, `5m`, `720h`, `30d`.
    Duration,
    /// A whole number, from and to.
    Number(usize, usize),
    /// True or false.
    Bool,
    /// Several, with commas between them; an array in the file.
    List,
    /// One of a few words.
    Word(&'static [&'static str]),
}

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// In the file.
    pub key: &'static str,
    /// On the command line, with its hyphens.
    pub flag: &'static str,
    /// In the environment.
    pub variable: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// As it would be written; empty: what `meaning` says.
    pub default: &'static str,
    /// One line or two.
    pub meaning: &'static str,
}

const fn setting(
    key: &'static str,
    flag: &'static str,
    variable: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
) -> Setting {
    Setting { key, flag, variable, kind, default, meaning }
}

/// All settings, in the order of help and documentation.
pub const SETTINGS: &[Setting] = &[
    setting(
        "file",
        "--file",
        "MOORLINE_FILE",
        Kind::Path,
        "moorline.db",
        "The SQLite file. Its folder must exist; the first start makes the file.",
    ),
    setting(
        "key_file",
        "--key-file",
        "MOORLINE_KEY_FILE",
        Kind::Path,
        "",
        "The sealing key, kept apart from the file. Default: FILE.key",
    ),
    setting(
        "listen",
        "--listen",
        "MOORLINE_LISTEN",
        Kind::Address,
        "127.0.0.1:7080",
        "Where clients connect; port 0 takes a free one.",
    ),
    setting(
        "access_url",
        "--access-url",
        "MOORLINE_ACCESS_URL",
        Kind::Text,
        "",
        "How clients and agents reach the server, as http(s)://host[:port]. Default: from `listen`",
    ),
    setting(
        "tls_cert",
        "--tls-cert",
        "MOORLINE_TLS_CERT",
        Kind::Path,
        "",
        "TLS certificate chain (PEM), reloaded when it changes; needs `tls_key`. Default: plain HTTP",
    ),
    setting("tls_key", "--tls-key", "MOORLINE_TLS_KEY", Kind::Path, "", "TLS private key (PEM); needs `tls_cert`."),
    setting(
        "trusted_proxies",
        "--trusted-proxies",
        "MOORLINE_TRUSTED_PROXIES",
        Kind::List,
        "",
        "Addresses or CIDR ranges of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.",
    ),
    setting(
        "http_threads",
        "--http-threads",
        "MOORLINE_HTTP_THREADS",
        Kind::Number(1, 256),
        "16",
        "Workers for plain requests.",
    ),
    setting(
        "rpc_threads",
        "--rpc-threads",
        "MOORLINE_RPC_THREADS",
        Kind::Number(1, 256),
        "4",
        "Workers for agent RPCs.",
    ),
    setting("loops", "--loops", "MOORLINE_LOOPS", Kind::Number(0, 64), "0", "Event loops; 0: one per core, at most 4."),
    setting(
        "metrics_listen",
        "--metrics-listen",
        "MOORLINE_METRICS_LISTEN",
        Kind::Address,
        "",
        "OpenMetrics on a port of its own. Default: on the admin socket only",
    ),
    setting(
        "retention_logs",
        "--retention-logs",
        "MOORLINE_RETENTION_LOGS",
        Kind::Duration,
        "7d",
        "Log lines of agents that were removed or are away for this long; 0 keeps for ever.",
    ),
    setting(
        "retention_stats",
        "--retention-stats",
        "MOORLINE_RETENTION_STATS",
        Kind::Duration,
        "180d",
        "Hourly traffic, script timings, past app statuses; 0 keeps for ever.",
    ),
    setting(
        "retention_audit",
        "--retention-audit",
        "MOORLINE_RETENTION_AUDIT",
        Kind::Duration,
        "365d",
        "Audit rows; 0 keeps for ever.",
    ),
    setting(
        "retention_connections",
        "--retention-connections",
        "MOORLINE_RETENTION_CONNECTIONS",
        Kind::Duration,
        "90d",
        "The connection log: sessions inside machines and tunnels to them; 0 keeps for ever.",
    ),
    setting(
        "retention_egress",
        "--retention-egress",
        "MOORLINE_RETENTION_EGRESS",
        Kind::Duration,
        "90d",
        "The record of requests that were made for plugins; 0 keeps for ever.",
    ),
    setting(
        "session_lifetime",
        "--session-lifetime",
        "MOORLINE_SESSION_LIFETIME",
        Kind::Duration,
        "7d",
        "How long a session lasts without use: of `coder login` and of a sign-in with a password.",
    ),
    setting(
        "max_token_lifetime",
        "--max-token-lifetime",
        "MOORLINE_MAX_TOKEN_LIFETIME",
        Kind::Duration,
        "36525d",
        "Longest lifetime, without use, of tokens that people make; `moorline token create` is not bound by it.",
    ),
    setting(
        "stats_interval",
        "--stats-interval",
        "MOORLINE_STATS_INTERVAL",
        Kind::Duration,
        "5m",
        "How often agents report statistics, from 1s to 24h.",
    ),
    setting(
        "troubleshooting_url",
        "--troubleshooting-url",
        "MOORLINE_TROUBLESHOOTING_URL",
        Kind::Text,
        "",
        "Shown by clients when an agent without a URL of its own does not connect.",
    ),
    setting(
        "derp_force_websockets",
        "--derp-force-websockets",
        "MOORLINE_DERP_FORCE_WEBSOCKETS",
        Kind::Bool,
        "false",
        "Agents and clients reach the relay by WebSockets only, for proxies that pass nothing else.",
    ),
    setting(
        "derp_bytes_per_second",
        "--derp-bytes-per-second",
        "MOORLINE_DERP_BYTES_PER_SECOND",
        Kind::Number(0, 1_000_000_000_000),
        "0",
        "Bytes that each relay connection may send in a second, 0: any; what is over it is dropped.",
    ),
    setting(
        "stun_addresses",
        "--stun-addresses",
        "MOORLINE_STUN_ADDRESSES",
        Kind::List,
        "",
        "STUN servers, as host:port, that agents and clients ask for their public address. Default: none",
    ),
    setting(
        "disable_direct_connections",
        "--disable-direct-connections",
        "MOORLINE_DISABLE_DIRECT_CONNECTIONS",
        Kind::Bool,
        "false",
        "Agents and clients use the relay only.",
    ),
    setting(
        "hostname_suffix",
        "--hostname-suffix",
        "MOORLINE_HOSTNAME_SUFFIX",
        Kind::Text,
        "coder",
        "Host name suffix that `coder config-ssh` writes.",
    ),
    setting(
        "bin_dir",
        "--bin-dir",
        "MOORLINE_BIN_DIR",
        Kind::Path,
        "",
        "Folder with the `coder` programs that `/bin`, `install.sh` and `enrol.sh` hand out. Default: none are",
    ),
    setting(
        "enrol_ca",
        "--enrol-ca",
        "MOORLINE_ENROL_CA",
        Kind::Path,
        "",
        "CA certificates (PEM) that enrolled machines must trust to reach the server; the scripts carry them.",
    ),
    setting(
        "requests_per_minute",
        "--requests-per-minute",
        "MOORLINE_REQUESTS_PER_MINUTE",
        Kind::Number(0, 1_000_000),
        "512",
        "Requests per address, path and minute; 0: unlimited. Loopback is exempt.",
    ),
    setting(
        "plugin_dir",
        "--plugin-dir",
        "MOORLINE_PLUGIN_DIR",
        Kind::Path,
        "",
        "Where the shipped plugins lie. Default: beside the program, else ../lib/moorline from there",
    ),
    setting(
        "egress_allow",
        "--egress-allow",
        "MOORLINE_EGRESS_ALLOW",
        Kind::List,
        "",
        "Hosts (`host` or `host:port`) that every plugin may reach, beside those that its own configuration names.",
    ),
    setting(
        "allow_network_file_system",
        "--allow-network-file-system",
        "MOORLINE_ALLOW_NETWORK_FILE_SYSTEM",
        Kind::Bool,
        "false",
        "Open the file even on a network file system, where it can be damaged.",
    ),
    setting(
        "log_level",
        "--log-level",
        "MOORLINE_LOG",
        Kind::Word(&["error", "warn", "info", "debug", "trace"]),
        "info",
        "Least severe messages that are logged.",
    ),
    setting(
        "log_format",
        "--log-format",
        "MOORLINE_LOG_FORMAT",
        Kind::Word(&["plain", "json"]),
        "plain",
        "How messages are written to stderr: text or one JSON object per line.",
    ),
];

impl Setting {
    /// The setting of a key.
    pub fn of(key: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// What stands for the value in help.
    pub fn placeholder(&self) -> &'static str {
        match self.kind {
            Kind::Text => "TEXT",
            Kind::Path => "FILE",
            Kind::Address => "HOST:PORT",
            Kind::Duration => "DURATION",
            Kind::Number(..) => "N",
            Kind::Bool => "BOOL",
            Kind::List => "LIST",
            Kind::Word(_) => "WORD",
        }
    }

    /// What it takes, for documentation.
    pub fn takes(&self) -> String {
        match self.kind {
            Kind::Text => "text".into(),
            Kind::Path => "file name".into(),
            Kind::Address => "address and port".into(),
            Kind::Duration => "duration".into(),
            Kind::Number(low, high) => format!("{low} to {high}"),
            Kind::Bool => "true or false".into(),
            Kind::List => "list".into(),
            Kind::Word(words) => words.join(", "),
        }
    }
}

/// The table of the README, between its `<!-- config -->` marks.
pub fn markdown() -> String {
    let mut text =
        String::from("| file | flag | environment | takes | default | meaning |\n|---|---|---|---|---|---|\n");
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
        text.push_str(&format!(
            "| `{}` | `{}` | `{}` | {} | {default} | {} |\n",
            setting.key,
            setting.flag,
            setting.variable,
            setting.takes(),
            setting.meaning
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_setting_has_one_name_and_a_meaning() {
        let keys: HashSet<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
        assert_eq!(keys.len(), SETTINGS.len());
        for setting in SETTINGS {
            assert_eq!(setting.flag, format!("--{}", setting.key.replace('_', "-")));
            assert!(setting.variable.starts_with("MOORLINE_"), "{}", setting.key);
            assert!(setting.meaning.len() > 10 && !setting.meaning.contains('|'), "{}", setting.key);
        }
    }
}
