//! Further relay regions, from `[[derp_region]]` tables of the configuration file.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The key of the tables.
pub const KEY: &str = "derp_region";
/// The embedded region's id.
pub const EMBEDDED_ID: u16 = 999;
/// The first id of regions made of `stun_addresses`.
pub const FIRST_STUN_ID: u16 = 1_000;
/// STUN addresses; every client asks each of them when its network changes.
pub const STUN_ADDRESSES: usize = 32;
/// Regions; every client times each of them twice a minute.
const REGIONS: usize = 64;
/// Nodes of a region: a client tries one after the other.
const NODES: usize = 16;
/// Longest code, name or host, bytes.
const TEXT_BYTES: usize = 253;

/// A region.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Peers put it into a port number (tailscale derpmap.go), so it has 16 bits.
    pub id: u16,
    /// Short and unique, such as `fra`.
    pub code: String,
    /// What people see; default: the code.
    #[serde(default)]
    pub name: String,
    /// Never picked as home.
    #[serde(default)]
    pub avoid: bool,
    /// Its relays, in the order of preference.
    #[serde(rename = "node")]
    pub nodes: Vec<Node>,
}

/// One relay, or STUN server, of a region.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Default: the region's id and a letter.
    #[serde(default)]
    pub name: String,
    /// Where it is reached.
    pub host: String,
    /// The relay's port.
    #[serde(default = "https")]
    pub port: u16,
    /// The name in its certificate, if that is not `host`.
    #[serde(default)]
    pub cert_name: String,
    /// Dialled in place of what `host` resolves to; `none`: never by IPv4.
    #[serde(default)]
    pub ipv4: String,
    /// The same for IPv6.
    #[serde(default)]
    pub ipv6: String,
    /// UDP port of its STUN server; 0: it has none.
    #[serde(default)]
    pub stun_port: u16,
    /// It has nothing but a STUN server.
    #[serde(default)]
    pub stun_only: bool,
    /// Plain HTTP, for tests.
    #[serde(default)]
    pub force_http: bool,
}

fn https() -> u16 {
    443
}

/// The tables of a configuration file, and nothing else of it.
#[derive(Deserialize)]
struct Tables {
    #[serde(default)]
    derp_region: Vec<Region>,
}

/// Reads the regions of a file; what is wrong goes to `problems`.
pub(super) fn read(file: &str, text: &str, problems: &mut Vec<String>) -> Vec<Region> {
    let mut regions = match toml::from_str::<Tables>(text) {
        Ok(tables) => tables.derp_region,
        Err(error) => {
            let line = error.span().map_or(String::new(), |span| format!(":{}", super::file::line(text, span.start)));
            problems.push(format!("{file}{line}: {KEY}: {}.", error.message()));
            return Vec::new();
        }
    };
    complete(&mut regions);
    problems.extend(check(&regions).into_iter().map(|problem| format!("{file}: {problem}")));
    regions
}

/// Fills in names that were left out.
fn complete(regions: &mut [Region]) {
    for region in regions {
        if region.name.is_empty() {
            region.name.clone_from(&region.code);
        }
        for (letter, node) in ('a'..='z').zip(&mut region.nodes) {
            if node.name.is_empty() {
                node.name = format!("{}{letter}", region.id);
            }
        }
    }
}

/// Everything that is wrong.
fn check(regions: &[Region]) -> Vec<String> {
    let mut problems = Vec::new();
    if regions.len() > REGIONS {
        problems.push(format!("{KEY}: there are {} regions; at most {REGIONS} are served.", regions.len()));
    }
    let (mut ids, mut codes, mut names) = (HashSet::new(), HashSet::from(["coder"]), HashSet::new());
    for region in regions {
        let mut say = |what: String| problems.push(format!("{KEY} {}: {what}.", region.id));
        let reserved = EMBEDDED_ID..FIRST_STUN_ID.saturating_add(u16::try_from(STUN_ADDRESSES).unwrap_or(u16::MAX));
        if region.id == 0 || reserved.contains(&region.id) {
            say(format!("the id must not be 0 nor from {} to {}", reserved.start, reserved.end - 1));
        }
        if !ids.insert(region.id) {
            say("the id is used twice".into());
        }
        if !codes.insert(&region.code) {
            say(format!("the code `{}` is used twice", region.code));
        }
        for (key, text) in [("code", &region.code), ("name", &region.name)] {
            if text.is_empty() || text.len() > TEXT_BYTES || text.chars().any(char::is_control) {
                say(format!("`{key}` must be 1 to {TEXT_BYTES} bytes of text"));
            }
        }
        if region.nodes.is_empty() || region.nodes.len() > NODES {
            say(format!("there are {} nodes; it needs 1 to {NODES}", region.nodes.len()));
        }
        for node in &region.nodes {
            if !names.insert(&node.name) {
                say(format!("the node name `{}` is used twice", node.name));
            }
            check_node(node).into_iter().for_each(|problem| say(format!("node `{}`: {problem}", node.name)));
        }
    }
    problems
}

fn check_node(node: &Node) -> Vec<String> {
    let mut problems = Vec::new();
    if !is_host(&node.host) {
        problems.push(format!("`host` is `{}`, which is no host name or address", node.host));
    }
    if !node.cert_name.is_empty() && !is_host(&node.cert_name) {
        problems.push(format!("`cert_name` is `{}`, which is no host name", node.cert_name));
    }
    if node.port == 0 {
        problems.push("`port` must be from 1 to 65535".into());
    }
    if node.stun_only && node.stun_port == 0 {
        problems.push("`stun_only` needs a `stun_port`".into());
    }
    if !matches!(node.ipv4.as_str(), "" | "none") && node.ipv4.parse::<Ipv4Addr>().is_err() {
        problems.push(format!("`ipv4` is `{}`, which is neither an IPv4 address nor `none`", node.ipv4));
    }
    if !matches!(node.ipv6.as_str(), "" | "none") && node.ipv6.parse::<Ipv6Addr>().is_err() {
        problems.push(format!("`ipv6` is `{}`, which is neither an IPv6 address nor `none`", node.ipv6));
    }
    problems
}

fn is_host(text: &str) -> bool {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.len() <= TEXT_BYTES
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    is_name(text) || text.parse::<Ipv6Addr>().is_ok()
}

/// Regions as a setting's value has them.
pub(super) fn from_value(text: &str) -> Result<Vec<Region>, String> {
    serde_json::from_str(text).map_err(|error| format!("it cannot be read: {error}"))
}

/// Regions as a setting's value.
pub(super) fn to_value(regions: &[Region]) -> String {
    serde_json::to_string(regions).unwrap_or_default()
}

/// `host:port` of STUN servers, with commas between them; the port may be left out.
pub(super) fn stun_addresses(text: &str) -> Result<Vec<(String, u16)>, String> {
    /// Where STUN servers listen unless they say otherwise (RFC 5389).
    const STUN_PORT: u16 = 3_478;
    let addresses: Vec<_> = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let bare = |host: &str| host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::to_owned);
            let (host, port) = match part.rsplit_once(':') {
                Some((host, port)) if bare(host).is_some() || !host.contains(':') => (host, port.parse().ok()),
                _ => (part, Some(STUN_PORT)),
            };
            let host = bare(host).unwrap_or_else(|| host.to_owned());
            port.filter(|port| *port > 0 && is_host(&host))
                .map(|port| (host, port))
                .ok_or_else(|| format!("`{part}` is not a STUN server, like stun.example.com:3478"))
        })
        .collect::<Result<_, _>>()?;
    if addresses.len() > STUN_ADDRESSES {
        return Err(format!(
            "there are {} STUN servers; at most {STUN_ADDRESSES} are told to clients",
            addresses.len()
        ));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    const GOOD: &str =
        "listen = \"x\"\n[[derp_region]]\nid = 7\ncode = \"fra\"\n[[derp_region.node]]\nhost = \"derp.example.com\"\n";

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        read("f", text, &mut problems);
        problems
    }

    #[test]
    fn reads_a_region_and_fills_in_names() {
        let mut problems = Vec::new();
        let regions = read("f", GOOD, &mut problems);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!((regions[0].id, regions[0].name.as_str()), (7, "fra"));
        let node = &regions[0].nodes[0];
        assert_eq!((node.name.as_str(), node.port, node.stun_port), ("7a", 443, 0));
        assert_eq!(from_value(&to_value(&regions)).unwrap(), regions);
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (from, to, said) in [
            ("id = 7", "id = 999", "f: derp_region 999: the id must not be 0 nor from 999 to 1031."),
            ("id = 7", "id = 0", "the id must not be 0"),
            ("id = 7", "id = 70000", "f:3: derp_region: "),
            ("id = 7", "ids = 7", "f:3: derp_region: unknown field `ids`"),
            ("code = \"fra\"", "code = \"coder\"", "f: derp_region 7: the code `coder` is used twice."),
            ("code = \"fra\"", "", "missing field `code`"),
            ("derp.example.com\"", "derp example\"", "f: derp_region 7: node `7a`: `host` is `derp example`"),
            ("derp.example.com\"", "d\"\nport = 0", "`port` must be from 1 to 65535"),
            (
                "derp.example.com\"",
                "d\"\nipv4 = \"::1\"",
                "`ipv4` is `::1`, which is neither an IPv4 address nor `none`",
            ),
            ("derp.example.com\"", "d\"\nipv6 = \"1.2.3.4\"", "`ipv6` is `1.2.3.4`"),
            ("derp.example.com\"", "d\"\nstun_only = true", "`stun_only` needs a `stun_port`"),
            ("derp.example.com\"", "d\"\ncert_name = \"a b\"", "`cert_name` is `a b`"),
            ("[[derp_region.node]]\nhost = \"derp.example.com\"", "node = []", "there are 0 nodes; it needs 1 to 16"),
        ] {
            let found = problems(&GOOD.replace(from, to));
            assert!(found.iter().any(|problem| problem.contains(said)), "{said}: {found:?}");
        }
        let twice = format!("{GOOD}{}", GOOD.replace("listen = \"x\"\n", ""));
        assert_eq!(problems(&twice).len(), 3, "id, code and node name");
    }

    #[test]
    fn takes_stun_servers_with_and_without_port() {
        assert_eq!(
            stun_addresses("stun.example.com, 10.0.0.1:19302,[2001:db8::1]:1,2001:db8::2").unwrap(),
            [("stun.example.com", 3_478), ("10.0.0.1", 19_302), ("2001:db8::1", 1), ("2001:db8::2", 3_478)]
                .map(|(host, port)| (host.to_owned(), port))
        );
        for bad in ["stun.example.com:0", "stun.example.com:x", "a b", ":1"] {
            assert!(stun_addresses(bad).is_err(), "{bad}");
        }
    }
}
