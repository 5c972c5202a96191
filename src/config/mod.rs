//! Settings: complete and validated, made once at start.

pub mod duration;
pub mod limits;
pub mod providers;
pub mod regions;
pub mod table;

mod file;
mod settle;
mod source;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use settle::{Loaded, LogFormat, settle};
pub use source::{CONFIG_VARIABLE, ConfigError, DEFAULT_CONFIG, Raw, Sources};

/// Everything an operator may choose. `cli/serve` makes it: flag > environment > file > default.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The SQLite file.
    pub file: PathBuf,
    /// The sealing key; default: the file's name with `.key` appended.
    pub key_file: PathBuf,
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How clients reach the server, without trailing slash; `None`: from the bound address.
    pub access_url: Option<String>,
    /// TLS certificate chain and key, both PEM; `None`: plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpRange>,
    /// Workers for plain requests.
    pub http_threads: usize,
    /// Workers for agent RPCs.
    pub rpc_threads: usize,
    /// Event loops.
    pub loops: usize,
    /// OpenMetrics on a port of its own; it is always on the admin socket.
    pub metrics_listen: Option<SocketAddr>,
    /// How long rows are kept.
    pub retention: crate::store::Retention,
    /// Life of a session without use.
    pub session_lifetime: Duration,
    /// Longest life, without use, of a token that a person makes.
    pub max_token_lifetime: Duration,
    /// How often agents report statistics.
    pub stats_interval: Duration,
    /// Shown by clients when an agent does not connect and has no URL of its own.
    pub troubleshooting_url: String,
    /// Makes agents and clients use WebSockets only to reach the relay.
    pub derp_force_websockets: bool,
    /// Relay regions beside the embedded one.
    pub derp_regions: Vec<regions::Region>,
    /// STUN servers that agents and clients may ask for their own address: host and port.
    pub stun_addresses: Vec<(String, u16)>,
    /// What each relay connection may send in a second; 0: any amount.
    pub derp_bytes_per_second: u64,
    /// Makes agents and clients use the relay only.
    pub disable_direct_connections: bool,
    /// `hostname_suffix` for `coder config-ssh`.
    pub hostname_suffix: String,
    /// Folder with the programs that `/bin` hands out; `None`: none are.
    pub bin_dir: Option<PathBuf>,
    /// CA certificates (PEM) that the scripts for new machines carry.
    pub enrol_ca: Option<PathBuf>,
    /// Requests per address, path and minute; 0: unlimited.
    pub requests_per_minute: u32,
    /// Open the file even on a network file system.
    pub allow_network_file_system: bool,
    /// The program whose verb `plugin-host` is a plugin's process; not for operators to choose.
    pub program: PathBuf,
    /// Providers of machine identity and external sign-in, in the order of the configuration.
    pub providers: Vec<std::sync::Arc<providers::ProviderConfig>>,
}

/// An address or a CIDR range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpRange {
    /// Its first address.
    pub base: IpAddr,
    /// Leading bits that count.
    pub bits: u8,
}

impl IpRange {
    /// Whether `address` lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        fn bits(address: IpAddr) -> (u128, u8) {
            match address {
                IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
                IpAddr::V6(v6) => (u128::from(v6), 128),
            }
        }
        let (base, width) = bits(self.base);
        let (other, other_width) = bits(address);
        let keep = u32::from(self.bits.min(width));
        width == other_width && (keep == 0 || (base ^ other) >> (128 - keep) == 0)
    }
}

/// The word of `known` that `word` most likely meant, for a hint behind a refusal.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let allowed = word.chars().count() / 3 + 1;
    known
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance by characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (to, pair) in b.iter().zip(row.windows(2)) {
            let [diagonal, above] = pair else { continue };
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(from != *to)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn suggests_the_nearest_word_only_when_near() {
        let known = ["listen", "access_url", "file"];
        assert_eq!(nearest("listen2", known), Some("listen"));
        assert_eq!(nearest("access-url", known), Some("access_url"));
        assert_eq!(nearest("colour", known), None);
    }
}
