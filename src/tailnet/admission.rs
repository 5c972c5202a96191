//! What a peer may ask of the coordinator. Pure: what needs the state of others is refused by
//! [`super::Tailnet`] itself.
//!
//! Texts and order are those of the real server (tailnet/tunnel.go, v2.24.0). Beyond it, whatever
//! receivers would choke on is refused here, and a node's size is bounded. A node is passed on as it
//! came, but for fields that `tailnet.proto` does not have: the protobuf library does not keep them. No
//! release so far sends any.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use prost::Message;
use uuid::Uuid;

use crate::model::{AgentId, NodeKey};
use crate::wire::proto::tailnet::{CoordinateRequest, Node, coordinate_request};

/// First six bytes of an address that the command line and servers dial.
const TAILSCALE_PREFIX: [u8; 6] = [0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0];
/// First six bytes of an address that Coder Desktop dials.
const CODER_PREFIX: [u8; 6] = [0xfd, 0x60, 0x62, 0x7a, 0xa4, 0x2b];
/// What agents before 2023 announced.
const LEGACY: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0x49d6, 0xb259, 0xb7ac, 0xb1b2, 0x48f4);

/// Bytes of an encoded node. Usual ones have 300 to 600; a machine with a bridge per container network
/// has an endpoint of about 22 bytes for each. Kept once per peer: 320 MiB if all connections were used
/// to fill it.
pub const NODE_BYTES: usize = 32 * 1024;
/// Addresses of a node; a real one has one or two. Each is looked up among those of other peers.
pub const NODE_ADDRESSES: usize = 16;
/// UDP endpoints of a node, one per network interface of the machine and some beside.
pub const NODE_ENDPOINTS: usize = 1_024;

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

/// Judges a request of `agent`; the refusal is the text that ends its stream. The real server looks at
/// `addresses` only. `allowed_ips` is what peers give to WireGuard, so the same rule holds for it here;
/// agents send the same list twice.
pub fn agent(agent: AgentId, request: &CoordinateRequest) -> Result<(), String> {
    if request.add_tunnel.is_some() {
        return Err("agents cannot open tunnels".into());
    }
    let Some(update) = &request.update_self else { return Ok(()) };
    let own = addresses(agent);
    node(update, |address| own.contains(&address))
}

/// Judges a request of a client, which may reach agent `only`, or, with `None`, any to which the caller
/// finds its user entitled.
///
/// The real server lets clients announce any address. Here it must have one of the two prefixes, which
/// all clients use; that it is not another peer's, [`super::Tailnet::update`] sees to.
pub fn client(request: &CoordinateRequest, only: Option<AgentId>) -> Result<(), String> {
    if let Some(tunnel) = &request.add_tunnel {
        let to = peer_id(&tunnel.id).map_err(|text| format!("parse add tunnel id: {text}"))?;
        if let Some(only) = only
            && only.0 != to
        {
            return Err(format!("invalid agent id, expected {only}, got {to}"));
        }
    }
    if let Some(update) = &request.update_self {
        node(update, |address| {
            let prefix = address.octets();
            (prefix.starts_with(&TAILSCALE_PREFIX) || prefix.starts_with(&CODER_PREFIX)) && address != LEGACY
        })?;
    }
    match request.ready_for_handshake.is_empty() {
        true => Ok(()),
        false => Err("clients may not send ready_for_handshake".into()),
    }
}

/// A peer's id as requests carry it: 16 bytes. The refusal is worded as by the real server
/// (github.com/google/uuid v1.6.0 hash.go).
pub fn peer_id(bytes: &[u8]) -> Result<Uuid, String> {
    Uuid::from_slice(bytes).map_err(|_| format!("invalid UUID (got {} bytes)", bytes.len()))
}

/// The node key: `np` and 32 bytes, not all zero.
pub fn node_key(node: &Node) -> Option<NodeKey> {
    let key: [u8; 32] = node.key.strip_prefix(b"np")?.try_into().ok()?;
    (key != [0; 32]).then_some(NodeKey(key))
}

/// The addresses that others will route to the node: those of `addresses` and of `allowed_ips`, each
/// once.
pub(super) fn inner_addresses(node: &Node) -> Vec<Ipv6Addr> {
    let mut all = Vec::with_capacity(2);
    for text in node.addresses.iter().chain(&node.allowed_ips) {
        if let Some((IpAddr::V6(address), _)) = parse_prefix(text)
            && !all.contains(&address)
        {
            all.push(address);
        }
    }
    all
}

/// Judges an announced node, whose addresses must be /128 and satisfy `may_have`.
fn node(update: &coordinate_request::UpdateSelf, may_have: impl Fn(Ipv6Addr) -> bool) -> Result<(), String> {
    let Some(node) = &update.node else { return Err("update_self has no node".into()) };
    let bytes = node.encoded_len();
    if bytes > NODE_BYTES {
        return Err(format!("invalid node, expected at most {NODE_BYTES} bytes, got {bytes}"));
    }
    for (what, list) in [("addresses", &node.addresses), ("allowed_ips", &node.allowed_ips)] {
        if list.len() > NODE_ADDRESSES {
            return Err(format!("invalid node {what}, expected at most {NODE_ADDRESSES}, got {}", list.len()));
        }
        for text in list {
            let (address, bits) =
                parse_prefix(text).ok_or_else(|| format!("parse node address: {text:?} is no prefix"))?;
            if bits != 128 {
                return Err(format!("invalid address bits, expected 128, got {bits}"));
            }
            match address {
                IpAddr::V6(address) if may_have(address) => {}
                _ => return Err(format!("invalid node address, got {address}")),
            }
        }
    }
    if node_key(node).is_none() {
        return Err("invalid node key, expected \"np\" and 32 bytes that are not all zero".into());
    }
    if !is_disco_key(&node.disco) {
        return Err("invalid disco key, expected \"discokey:\" and 64 hex digits that are not all zero".into());
    }
    // Zero is no region yet, which receivers pass over (tailnet/configmaps.go updatePeerLocked, v2.24.0).
    if node.preferred_derp < 0 {
        return Err(format!("invalid preferred DERP region, got {}", node.preferred_derp));
    }
    if node.endpoints.len() > NODE_ENDPOINTS {
        return Err(format!("invalid node endpoints, expected at most {NODE_ENDPOINTS}, got {}", node.endpoints.len()));
    }
    match node.endpoints.iter().find(|endpoint| !is_endpoint(endpoint)) {
        Some(text) => Err(format!("invalid node endpoint, got {text:?}")),
        None => Ok(()),
    }
}

fn is_disco_key(text: &str) -> bool {
    text.strip_prefix("discokey:").is_some_and(|hex| {
        hex.len() == 64
            && hex.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            && hex.bytes().any(|digit| digit != b'0')
    })
}

/// `ADDRESS:PORT` or `[ADDRESS]:PORT`. Go writes the zone of a link-local address as a name, which is of
/// no use to others but does no harm.
fn is_endpoint(text: &str) -> bool {
    match text.split_once('%').and_then(|(address, rest)| Some((address, rest.split_once(']')?))) {
        Some((address, (zone, port))) => !zone.is_empty() && format!("{address}]{port}").parse::<SocketAddr>().is_ok(),
        None => text.parse::<SocketAddr>().is_ok(),
    }
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
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn me() -> AgentId {
        AgentId("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee".parse().unwrap())
    }

    /// A node that is in order, without addresses.
    fn plain() -> Node {
        Node {
            key: [b"np".as_slice(), &[7; 32]].concat(),
            disco: format!("discokey:{}", "0a".repeat(32)),
            preferred_derp: 999,
            ..Node::default()
        }
    }

    fn announce(addresses: &[&str], allowed: &[&str]) -> Result<(), String> {
        let list = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        let node = Node { addresses: list(addresses), allowed_ips: list(allowed), ..plain() };
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
        let request = opening(vec![1; 16]);
        assert_eq!(agent(me(), &request), Err("agents cannot open tunnels".to_owned()));
    }

    fn opening(id: Vec<u8>) -> CoordinateRequest {
        let add_tunnel = Some(coordinate_request::Tunnel { id });
        CoordinateRequest { add_tunnel, ..CoordinateRequest::default() }
    }

    fn updating(node: Node) -> CoordinateRequest {
        let update_self = Some(coordinate_request::UpdateSelf { node: Some(node) });
        CoordinateRequest { update_self, ..CoordinateRequest::default() }
    }

    #[test]
    fn clients_reach_the_agent_that_they_dialled() {
        assert_eq!(client(&opening(me().as_bytes().to_vec()), Some(me())), Ok(()));
        let other = "invalid agent id, expected aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee, \
            got 01010101-0101-0101-0101-010101010101";
        assert_eq!(client(&opening(vec![1; 16]), Some(me())), Err(other.to_owned()));
        assert_eq!(client(&opening(vec![1; 16]), None), Ok(()), "the caller sees to that");
        let short = Err("parse add tunnel id: invalid UUID (got 5 bytes)".to_owned());
        assert_eq!(client(&opening(vec![1; 5]), None), short);
        let ready_for_handshake = vec![coordinate_request::ReadyForHandshake { id: vec![1; 16] }];
        let ready = CoordinateRequest { ready_for_handshake, ..CoordinateRequest::default() };
        assert_eq!(client(&ready, None), Err("clients may not send ready_for_handshake".to_owned()));
        assert_eq!(agent(me(), &ready), Ok(()));
        let remove_tunnel = Some(coordinate_request::Tunnel { id: vec![1; 16] });
        let disconnect = Some(coordinate_request::Disconnect {});
        let rest = CoordinateRequest { remove_tunnel, disconnect, ..CoordinateRequest::default() };
        assert_eq!((agent(me(), &rest), client(&rest, Some(me()))), (Ok(()), Ok(())));
    }

    #[test]
    fn clients_have_addresses_behind_the_two_prefixes() {
        let with = |address: &str| {
            let addresses = vec![address.to_owned()];
            client(&updating(Node { allowed_ips: addresses.clone(), addresses, ..plain() }), None)
        };
        assert_eq!(with("fd7a:115c:a1e0:1:2:3:4:5/128"), Ok(()));
        assert_eq!(with("fd60:627a:a42b:1:2:3:4:5/128"), Ok(()));
        assert_eq!(with("fd7a:115c:a1e0::/48"), Err("invalid address bits, expected 128, got 48".to_owned()));
        for foreign in ["fd7a:115c:a1e1::1", "10.0.0.1", "::1", "fd7a:115c:a1e0:49d6:b259:b7ac:b1b2:48f4"] {
            let bits = if foreign.contains(':') { 128 } else { 32 };
            let refused = with(&format!("{foreign}/{bits}")).unwrap_err();
            assert!(refused.starts_with("invalid "), "{refused}");
        }
        let hidden = Node { allowed_ips: vec!["fd7a:115c:a1e1::1/128".into()], ..plain() };
        assert_eq!(client(&updating(hidden), None), Err("invalid node address, got fd7a:115c:a1e1::1".to_owned()));
    }

    #[test]
    fn refuses_nodes_that_receivers_cannot_use() {
        let why = |node: Node| {
            let refusal = agent(me(), &updating(node.clone())).unwrap_err();
            assert_eq!(client(&updating(node), None), Err(refusal.clone()), "the same for both");
            refusal
        };
        let keys: [&[u8]; 5] = [b"", b"np", &[7; 32], &[b"np".as_slice(), &[0; 32]].concat(), &[b'n'; 34]];
        for key in keys {
            assert!(why(Node { key: key.to_vec(), ..plain() }).starts_with("invalid node key"), "{key:?}");
        }
        for hex in ["", "0", &"0".repeat(64), &"A1".repeat(32), &"a1".repeat(33), &"g".repeat(64)] {
            assert!(
                why(Node { disco: format!("discokey:{hex}"), ..plain() }).starts_with("invalid disco key"),
                "{hex}"
            );
        }
        assert!(why(Node { disco: "0a".repeat(32), ..plain() }).starts_with("invalid disco key"));
        assert_eq!(why(Node { preferred_derp: -1, ..plain() }), "invalid preferred DERP region, got -1");
        for endpoint in ["", "192.0.2.1", "192.0.2.1:99999", "host:1", "2001:db8::1:5", "[fe80::1%]:5", "[fe80::1%x:5"]
        {
            let node = Node { endpoints: vec!["192.0.2.1:1".into(), endpoint.into()], ..plain() };
            assert_eq!(why(node), format!("invalid node endpoint, got {endpoint:?}"));
        }
        let many = |what: &str, count: usize| vec![what.to_owned(); count];
        let own = "fd7a:115c:a1e0:4ccc:8ddd:eeee:eeee:eeee/128";
        let node = Node { addresses: many(own, NODE_ADDRESSES + 1), ..plain() };
        assert_eq!(why(node), "invalid node addresses, expected at most 16, got 17");
        let node = Node { endpoints: many("192.0.2.1:1", NODE_ENDPOINTS + 1), ..plain() };
        assert_eq!(why(node), "invalid node endpoints, expected at most 1024, got 1025");
        let node = Node { derp_forced_websocket: [(1, "x".repeat(NODE_BYTES))].into(), ..plain() };
        assert!(why(node).starts_with("invalid node, expected at most 32768 bytes, got "));
        let nothing = Some(coordinate_request::UpdateSelf { node: None });
        let nothing = CoordinateRequest { update_self: nothing, ..CoordinateRequest::default() };
        assert_eq!(agent(me(), &nothing), Err("update_self has no node".to_owned()));
    }

    /// The node of an agent, in hex, by the real agent's own package (coder v2.24.0, tailnet/proto).
    const NODE: &str = concat!(
        "0892a2c48891a284917212060880e2cfaa061a226e70358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd16",
        "62542249646973636f6b65793a363035613732356432613461646665656231613239653137656464363231633162373539336565",
        "3863646263343461633663346162366532663830356432336328e70732110a063939392d7634117b14ae47e17a643f422b666437",
        "613a313135633a613165303a346363633a386464643a656565653a656565653a656565652f313238422b666436303a363237613a",
        "613432623a346363633a386464643a656565653a656565653a656565652f3132384a2b666437613a313135633a613165303a3463",
        "63633a386464643a656565653a656565653a656565652f3132384a2b666436303a363237613a613432623a346363633a38646464",
        "3a656565653a656565653a656565652f313238520f3139322e302e322e313a3431363431",
    );

    #[test]
    fn admits_the_node_of_a_real_agent() {
        let bytes: Vec<u8> =
            (0..NODE.len()).step_by(2).map(|at| u8::from_str_radix(&NODE[at..at + 2], 16).unwrap()).collect();
        let node = Node::decode(bytes.as_slice()).unwrap();
        assert_eq!(agent(me(), &updating(node.clone())), Ok(()));
        assert_eq!(node.encode_to_vec(), bytes, "nothing is lost when it is passed on");
        let endpoints = ["192.0.2.1:41641", "[2001:db8::1]:41641", "[fe80::1%eth0]:41641"].map(str::to_owned).to_vec();
        let own = addresses(me())[..2].iter().map(|address| format!("{address}/128")).collect::<Vec<_>>();
        let node = Node { endpoints, addresses: own.clone(), allowed_ips: own, ..plain() };
        assert_eq!(agent(me(), &updating(node.clone())), Ok(()));
        assert_eq!(inner_addresses(&node), addresses(me())[..2], "each once");
        assert_eq!(node_key(&node), Some(NodeKey([7; 32])));
        assert_eq!(agent(me(), &updating(Node { preferred_derp: 0, ..plain() })), Ok(()), "no region yet");
    }
}
