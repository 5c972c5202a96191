//! What an agent may ask of the coordinator.

use std::net::{IpAddr, Ipv6Addr};

use crate::model::AgentId;
use crate::wire::proto::tailnet::CoordinateRequest;

/// First six bytes of an address that the command line and servers dial.
const TAILSCALE_PREFIX: [u8; 6] = [0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0];
/// First six bytes of an address that Coder Desktop dials.
const CODER_PREFIX: [u8; 6] = [0xfd, 0x60, 0x62, 0x7a, 0xa4, 0x2b];
/// What agents before 2023 announced.
const LEGACY: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0x49d6, 0xb259, 0xb7ac, 0xb1b2, 0x48f4);

/// The addresses that `agent` may announce: its id behind either prefix, or the legacy one.
pub fn addresses(agent: AgentId) -> [Ipv6Addr; 3] {
    let behind = |prefix: [u8; 6]| {
        let mut bytes = *agent.as_bytes();
        for (byte, of_prefix) in bytes.iter_mut().zip(prefix) {
            *byte = of_prefix;
        }
        Ipv6Addr::from(bytes)
    };
    [behind(TAILSCALE_PREFIX), behind(CODER_PREFIX), LEGACY]
}

/// Judges a request of `agent`; the refusal is the text that ends its stream (tailnet/tunnel.go,
/// v2.24.0). The real server looks at `addresses` only. `allowed_ips` is what peers give to
/// WireGuard, so the same rule holds for it here; agents send the same list twice.
pub fn agent(agent: AgentId, request: &CoordinateRequest) -> Result<(), String> {
    if request.add_tunnel.is_some() {
        return Err("agents cannot open tunnels".into());
    }
    let Some(node) = request.update_self.as_ref().and_then(|update| update.node.as_ref()) else { return Ok(()) };
    let own = addresses(agent);
    for text in node.addresses.iter().chain(&node.allowed_ips) {
        let (address, bits) = parse_prefix(text).ok_or_else(|| format!("parse node address: {text:?} is no prefix"))?;
        if bits != 128 {
            return Err(format!("invalid address bits, expected 128, got {bits}"));
        }
        if !own.iter().any(|one| IpAddr::V6(*one) == address) {
            return Err(format!("invalid node address, got {address}"));
        }
    }
    Ok(())
}

/// `ADDRESS/BITS`, as strict as Go's netip.ParsePrefix: no zone, no sign, no leading zero.
fn parse_prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let plain = bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = plain.then(|| bits.parse().ok()).flatten()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    (bits <= width).then_some((address, bits))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::proto::tailnet::{Node, coordinate_request};

    fn me() -> AgentId {
        AgentId("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee".parse().unwrap())
    }

    fn announce(addresses: &[&str], allowed: &[&str]) -> Result<(), String> {
        let list = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        let node = Node { addresses: list(addresses), allowed_ips: list(allowed), ..Node::default() };
        let update_self = Some(coordinate_request::UpdateSelf { node: Some(node) });
        agent(me(), &CoordinateRequest { update_self, ..CoordinateRequest::default() })
    }

    #[test]
    fn derives_both_addresses_from_the_id() {
        let own = addresses(me()).map(|address| address.to_string());
        assert_eq!(own[0], "fd7a:115c:a1e0:4ccc:8ddd:eeee:eeee:eeee");
        assert_eq!(own[1], "fd60:627a:a42b:4ccc:8ddd:eeee:eeee:eeee");
    }

    #[test]
    fn admits_own_and_legacy_addresses() {
        let own = ["fd7a:115c:a1e0:4ccc:8ddd:eeee:eeee:eeee/128", "fd60:627a:a42b:4ccc:8ddd:eeee:eeee:eeee/128"];
        assert_eq!(announce(&own, &own), Ok(()));
        assert_eq!(announce(&["fd7a:115c:a1e0:49d6:b259:b7ac:b1b2:48f4/128"], &[]), Ok(()));
        assert_eq!(announce(&[], &[]), Ok(()));
    }

    #[test]
    fn refuses_foreign_wide_and_broken_addresses() {
        let foreign = "fd7a:115c:a1e0:4ccc:8ddd:eeee:eeee:eeef";
        let refused = Err(format!("invalid node address, got {foreign}"));
        assert_eq!(announce(&[&format!("{foreign}/128")], &[]), refused);
        assert_eq!(announce(&[], &[&format!("{foreign}/128")]), refused);
        let wide = Err("invalid address bits, expected 128, got 48".to_owned());
        assert_eq!(announce(&["fd7a:115c:a1e0:4ccc:8ddd:eeee:eeee:eeee/48"], &[]), wide);
        assert_eq!(announce(&["0.0.0.0/0"], &[]), Err("invalid address bits, expected 128, got 0".to_owned()));
        for broken in ["", "::1", "::1/", "::1/129", "::1/+128", "::1/0128", "fe80::1%eth0/128", "1.2.3.4/33"] {
            assert!(announce(&[broken], &[]).unwrap_err().starts_with("parse node address: "), "{broken}");
        }
    }

    #[test]
    fn refuses_tunnels_of_agents() {
        let add_tunnel = Some(coordinate_request::Tunnel { id: vec![1; 16] });
        let request = CoordinateRequest { add_tunnel, ..CoordinateRequest::default() };
        assert_eq!(agent(me(), &request), Err("agents cannot open tunnels".to_owned()));
    }
}
