//! From texts to settings: every value is checked, and all that is wrong is said at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::providers::{self, ProviderConfig};
use super::source::{ConfigError, Raw};
use super::table::{Kind, Setting};
use super::{IpRange, Settings, duration, limits, regions};
use crate::store::Retention;

/// Event loops unless configured otherwise: more would only share the same writer.
const LOOPS_MOST: usize = 4;

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people and journals.
    Plain,
    /// One object per line.
    Json,
}

/// Settings with what only the program's start needs.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// For the server.
    pub settings: Settings,
    /// Least severe messages that are logged.
    pub log_level: log::LevelFilter,
    /// How they are written.
    pub log_format: LogFormat,
}

/// Makes settings of the values of [`super::Sources::collect`].
pub fn settle(values: &BTreeMap<&'static str, Raw>) -> Result<Loaded, ConfigError> {
    let mut reader = Reader { values, problems: Vec::new() };
    let loaded = reader.loaded();
    if reader.problems.is_empty() { Ok(loaded) } else { Err(ConfigError(reader.problems)) }
}

struct Reader<'a> {
    values: &'a BTreeMap<&'static str, Raw>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn loaded(&mut self) -> Loaded {
        let file = PathBuf::from(self.text("file"));
        if file.as_os_str().is_empty() {
            self.refuse("file", "must not be empty");
        }
        let key_file = self.path("key_file").unwrap_or_else(|| crate::store::default_key_file(&file));
        let loops = match self.number("loops") {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(LOOPS_MOST),
            loops => loops,
        };
        let settings = Settings {
            key_file,
            listen: self.address("listen").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7080))),
            access_url: self.take("access_url", access_url),
            tls: self.tls(),
            trusted_proxies: self.take("trusted_proxies", ranges).unwrap_or_default(),
            http_threads: self.number("http_threads"),
            rpc_threads: self.number("rpc_threads"),
            loops,
            metrics_listen: self.address("metrics_listen"),
            retention: Retention {
                logs: self.duration("retention_logs"),
                stats: self.duration("retention_stats"),
                audit: self.duration("retention_audit"),
                connections: self.duration("retention_connections"),
                egress: self.duration("retention_egress"),
            },
            session_lifetime: self.lifetime("session_lifetime"),
            max_token_lifetime: self.lifetime("max_token_lifetime"),
            stats_interval: self.stats_interval(),
            troubleshooting_url: self.take("troubleshooting_url", web_url).unwrap_or_default(),
            derp_force_websockets: self.flag("derp_force_websockets"),
            derp_regions: self.take(regions::KEY, regions::from_value).unwrap_or_default(),
            stun_addresses: self.take("stun_addresses", regions::stun_addresses).unwrap_or_default(),
            derp_bytes_per_second: u64::try_from(self.number("derp_bytes_per_second")).unwrap_or(0),
            disable_direct_connections: self.flag("disable_direct_connections"),
            hostname_suffix: self.take("hostname_suffix", suffix).unwrap_or_default(),
            bin_dir: self.path("bin_dir"),
            enrol_ca: self.path("enrol_ca"),
            requests_per_minute: u32::try_from(self.number("requests_per_minute")).unwrap_or(u32::MAX),
            allow_network_file_system: self.flag("allow_network_file_system"),
            program: PathBuf::from(crate::plugins::THIS_PROGRAM),
            providers: self.providers(),
            file,
        };
        let log_level = self.word("log_level").parse().unwrap_or(log::LevelFilter::Info);
        let log_format = if self.word("log_format") == "json" { LogFormat::Json } else { LogFormat::Plain };
        Loaded { settings, log_level, log_format }
    }

    /// Providers of machine identity and external sign-in.
    fn providers(&mut self) -> Vec<Arc<ProviderConfig>> {
        let plugin_dir = self.path("plugin_dir").unwrap_or_else(providers::default_plugin_dir);
        let egress: Vec<String> = self
            .text("egress_allow")
            .split(',')
            .map(str::trim)
            .filter(|place| !place.is_empty())
            .map(str::to_owned)
            .collect();
        let around = providers::Surroundings {
            plugin_dir: &plugin_dir,
            egress: &egress,
            variable: &|name| std::env::var_os(name),
        };
        let mut all = Vec::new();
        for key in providers::KEYS {
            match providers::settle(key, &self.text(key), &around) {
                Ok(found) => all.extend(found.into_iter().map(Arc::new)),
                Err(problems) => problems.iter().for_each(|problem| self.refuse(key, problem)),
            }
        }
        all
    }

    fn refuse(&mut self, key: &str, why: &str) {
        let place = match self.values.get(key) {
            Some(raw) if raw.origin.starts_with("--") || raw.origin.starts_with("MOORLINE_") => raw.origin.clone(),
            Some(raw) => format!("{}: {key}", raw.origin),
            None => key.to_owned(),
        };
        self.problems.push(format!("{place}: {why}."));
    }

    fn text(&self, key: &str) -> String {
        self.values.get(key).map(|raw| raw.value.clone()).unwrap_or_default()
    }

    /// The value of a key that is set, by `take`; what it says is refused.
    fn take<T>(&mut self, key: &str, take: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(key);
        if text.is_empty() {
            return None;
        }
        take(&text).map_err(|why| self.refuse(key, &why)).ok()
    }

    fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.take(key, |text| Ok(PathBuf::from(text)))
    }

    fn number(&mut self, key: &str) -> usize {
        let Some(Kind::Number(low, high)) = Setting::of(key).map(|setting| setting.kind) else { return 0 };
        let wrong = |text: &str| format!("`{text}` is not a whole number from {low} to {high}");
        let number = self.take(key, |text| match text.parse() {
            Ok(number) if (low..=high).contains(&number) => Ok(number),
            _ => Err(wrong(text)),
        });
        number.unwrap_or(low)
    }

    fn flag(&mut self, key: &str) -> bool {
        self.take(key, |text| match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("`{text}` is neither true nor false")),
        })
        .unwrap_or(false)
    }

    fn duration(&mut self, key: &str) -> Duration {
        self.take(key, duration::parse).unwrap_or_default()
    }

    fn stats_interval(&mut self) -> Duration {
        let interval = self.duration("stats_interval");
        if interval < Duration::from_secs(1) || interval > Duration::from_secs(24 * 3_600) {
            self.refuse("stats_interval", "must be from 1s to 24h");
        }
        interval
    }

    fn lifetime(&mut self, key: &str) -> Duration {
        let lifetime = self.duration(key);
        if lifetime < Duration::from_secs(1) || lifetime > limits::TOKEN_LIFETIME_MAX {
            self.refuse(key, "must be from 1s to 36525d (876600h)");
        }
        lifetime
    }

    fn word(&mut self, key: &str) -> String {
        let Some(Kind::Word(words)) = Setting::of(key).map(|setting| setting.kind) else { return String::new() };
        self.take(key, |text| {
            if words.contains(&text) {
                Ok(text.to_owned())
            } else {
                Err(format!("`{text}` is not one of {}", words.join(", ")))
            }
        })
        .unwrap_or_default()
    }

    fn address(&mut self, key: &str) -> Option<SocketAddr> {
        self.take(key, |text| {
            if let Ok(address) = text.parse() {
                return Ok(address);
            }
            // A name, such as localhost:7080; one that has several addresses gives its first.
            text.to_socket_addrs()
                .ok()
                .and_then(|mut addresses| addresses.next())
                .ok_or_else(|| format!("`{text}` is not an address with a port, like 127.0.0.1:7080 or [::]:443"))
        })
    }

    fn tls(&mut self) -> Option<(PathBuf, PathBuf)> {
        match (self.path("tls_cert"), self.path("tls_key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                self.refuse("tls_cert", "needs tls_key beside it");
                None
            }
            (None, Some(_)) => {
                self.refuse("tls_key", "needs tls_cert beside it");
                None
            }
        }
    }
}

/// Scheme, host and port only: clients put absolute paths behind it, so a path would be lost.
fn access_url(text: &str) -> Result<String, String> {
    let bad = |why: &str| format!("`{text}` {why}; write it like https://moorline.example.com");
    let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("is not a URL"))?;
    if scheme != "http" && scheme != "https" {
        return Err(bad("is not an http or https URL"));
    }
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.contains(['/', '?', '#', '@']) {
        return Err(bad("must have nothing but scheme, host and port"));
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let good_name = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    if !good_name || port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err(bad("has no good host or port"));
    }
    Ok(format!("{scheme}://{}", host.to_ascii_lowercase()))
}

fn web_url(text: &str) -> Result<String, String> {
    let good = text.starts_with("http://") || text.starts_with("https://");
    if good && !text.contains(char::is_whitespace) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not an http or https URL"))
    }
}

fn suffix(text: &str) -> Result<String, String> {
    let good = text
        .split('.')
        .all(|label| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not the end of a host name, like `coder` (without a leading dot)"))
    }
}

fn ranges(text: &str) -> Result<Vec<IpRange>, String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(range).collect()
}

fn range(text: &str) -> Result<IpRange, String> {
    let bad = || format!("`{text}` is not an address or a range like 10.0.0.0/8");
    let (address, bits) = match text.split_once('/') {
        None => (text, None),
        Some((address, bits)) => (address, Some(bits)),
    };
    let base: IpAddr = address.parse().map_err(|_| bad())?;
    let width = if base.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => width,
        Some(bits) => bits.parse::<u8>().ok().filter(|bits| *bits <= width).ok_or_else(bad)?,
    };
    Ok(IpRange { base, bits })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::table::SETTINGS;

    fn settled(overrides: &[(&'static str, &str)]) -> Result<Loaded, ConfigError> {
        let mut values: BTreeMap<&'static str, Raw> = SETTINGS
            .iter()
            .filter(|setting| !setting.default.is_empty())
            .map(|setting| (setting.key, Raw { value: setting.default.into(), origin: "default".into() }))
            .collect();
        for (key, value) in overrides {
            values.insert(key, Raw { value: (*value).into(), origin: "test".into() });
        }
        settle(&values)
    }

    #[test]
    fn defaults_are_good_and_as_the_table_says() {
        let loaded = settled(&[]).unwrap();
        let retention = Retention::default();
        assert_eq!(loaded.settings.listen.to_string(), "127.0.0.1:7080");
        assert_eq!(loaded.settings.key_file, PathBuf::from("moorline.db.key"));
        assert_eq!(loaded.settings.retention.logs, retention.logs);
        assert_eq!(loaded.settings.retention.stats, retention.stats);
        assert_eq!(loaded.settings.retention.audit, retention.audit);
        assert_eq!(loaded.settings.retention.connections, retention.connections);
        assert_eq!(loaded.settings.retention.egress, retention.egress);
        assert_eq!(loaded.settings.max_token_lifetime, limits::TOKEN_LIFETIME_MAX);
        assert_eq!(loaded.settings.requests_per_minute, limits::REQUESTS_PER_MINUTE);
        assert!((1..=LOOPS_MOST).contains(&loaded.settings.loops));
    }

    #[test]
    fn takes_access_urls_without_their_slash() {
        for (text, url) in [
            ("https://M.example.com/", "https://m.example.com"),
            ("http://[::1]:7080", "http://[::1]:7080"),
            ("http://10.0.0.1:80", "http://10.0.0.1:80"),
        ] {
            assert_eq!(settled(&[("access_url", text)]).unwrap().settings.access_url.as_deref(), Some(url));
        }
    }

    #[test]
    fn refuses_each_bad_value_with_its_place() {
        for (key, value) in [
            ("access_url", "moorline.example.com"),
            ("access_url", "ftp://a"),
            ("access_url", "https://a/prefix"),
            ("access_url", "https://user@a"),
            ("access_url", "https://a:0"),
            ("access_url", "https://:80"),
            ("listen", "7080"),
            ("http_threads", "0"),
            ("http_threads", "many"),
            ("loops", "65"),
            ("retention_logs", "7"),
            ("stats_interval", "0"),
            ("stats_interval", "25h"),
            ("session_lifetime", "0"),
            ("session_lifetime", "36526d"),
            ("max_token_lifetime", "0"),
            ("trusted_proxies", "10.0.0.0/33"),
            ("trusted_proxies", "proxy"),
            ("derp_force_websockets", "yes"),
            ("hostname_suffix", ".coder"),
            ("troubleshooting_url", "see the wiki"),
            ("log_level", "loud"),
            ("log_format", "xml"),
            ("tls_cert", "only.pem"),
            ("tls_key", "only.pem"),
        ] {
            let problems = settled(&[(key, value)]).unwrap_err().0;
            assert_eq!(problems.len(), 1, "{key} = {value}: {problems:?}");
            assert!(problems.iter().all(|problem| problem.starts_with(&format!("test: {key}: "))), "{problems:?}");
        }
    }

    #[test]
    fn says_everything_at_once() {
        assert_eq!(settled(&[("loops", "x"), ("log_level", "x"), ("listen", "x")]).unwrap_err().0.len(), 3);
    }
}
