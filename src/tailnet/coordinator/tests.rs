//! Each rule by itself, with the bytes that the real server's own packages make.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use prost::Message;

use super::*;
use crate::model::NodeKey;
use crate::tailnet::tunnels::TUNNELS_PER_PEER;

pub(super) const AGENT: Uuid = Uuid::from_u128(0xaaaa_aaaa_bbbb_4ccc_8ddd_eeee_eeee_eeee);
pub(super) const CLIENT: Uuid = Uuid::from_u128(0xc1);
const OTHER: Uuid = Uuid::from_u128(0xc2);

// Responses about the agent, in hex (coder v2.24.0, tailnet/proto).
const NODE: &str = "0a260a10aaaaaaaabbbb4ccc8dddeeeeeeeeeeee120328e7071801220b6e6f646520757064617465";
const DISCONNECTED: &str = "0a290a10aaaaaaaabbbb4ccc8dddeeeeeeeeeeee18022213677261636566756c20646973636f6e6e656374";
const LOST: &str = "0a1a0a10aaaaaaaabbbb4ccc8dddeeeeeeeeeeee180322046c6f7374";
const READY: &str = "0a140a10aaaaaaaabbbb4ccc8dddeeeeeeeeeeee1804";

pub(super) fn new() -> (Coordinator, Keys) {
    let keys = Keys::default();
    (Coordinator::new(keys.clone()), keys)
}

pub(super) fn agent(coordinator: &mut Coordinator) -> Seat {
    coordinator.join(AGENT, Who::Agent(AgentId(AGENT)), Instant::now())
}

pub(super) fn client(coordinator: &mut Coordinator) -> Seat {
    coordinator.join(CLIENT, Who::Client, Instant::now())
}

/// A client with a tunnel to an agent that has announced `region`; both have read everything.
pub(super) fn pair() -> (Coordinator, Seat, Seat) {
    let (mut coordinator, _) = new();
    let (agent, client) = (agent(&mut coordinator), client(&mut coordinator));
    coordinator.add_tunnel(&client, AGENT).unwrap();
    coordinator.update(&agent, region(999)).unwrap();
    coordinator.update(&client, region(1)).unwrap();
    coordinator.take(&agent);
    coordinator.take(&client);
    coordinator.effects();
    (coordinator, agent, client)
}

pub(super) fn region(preferred_derp: i32) -> Node {
    Node { preferred_derp, ..Node::default() }
}

fn keyed(byte: u8, address: &str) -> Node {
    let addresses = vec![format!("{address}/128")];
    Node { key: [b"np".as_slice(), &[byte; 32]].concat(), allowed_ips: addresses.clone(), addresses, ..region(999) }
}

fn hex(messages: &[CoordinateResponse]) -> Vec<String> {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    messages.iter().map(|message| hex(message.encode_to_vec())).collect()
}

/// Kind, reason and region of each update.
pub(super) fn told(coordinator: &mut Coordinator, seat: &Seat) -> Vec<String> {
    let messages = coordinator.take(seat);
    let updates = messages.iter().flat_map(|message| &message.peer_updates);
    let region = |node: &Option<Node>| node.as_ref().map_or(String::new(), |node| format!(" {}", node.preferred_derp));
    updates
        .map(|update| {
            format!("{} {}{}", update.kind().as_str_name(), update.reason, region(&update.node)).trim().into()
        })
        .collect()
}

#[test]
fn updates_have_the_bytes_of_the_real_server() {
    let (mut coordinator, _) = new();
    let (agent, client) = (agent(&mut coordinator), client(&mut coordinator));
    coordinator.add_tunnel(&client, AGENT).unwrap();
    coordinator.update(&agent, region(999)).unwrap();
    assert_eq!(hex(&coordinator.take(&client)), [NODE]);
    coordinator.ready(&agent, CLIENT);
    assert_eq!(hex(&coordinator.take(&client)), [READY]);
    coordinator.disconnect(&agent);
    assert_eq!(hex(&coordinator.take(&client)), [DISCONNECTED]);
    let (mut coordinator, agent, client) = pair();
    coordinator.lose(&agent, Instant::now());
    assert_eq!(hex(&coordinator.take(&client)), [LOST]);
}

#[test]
fn a_tunnel_waits_for_its_agent() {
    let (mut coordinator, _) = new();
    let client = client(&mut coordinator);
    coordinator.update(&client, region(1)).unwrap();
    coordinator.add_tunnel(&client, AGENT).unwrap();
    assert_eq!(coordinator.effects(), []);
    let agent = agent(&mut coordinator);
    assert_eq!(coordinator.effects(), [Effect::Mail(agent.clone())]);
    assert_eq!(told(&mut coordinator, &agent), ["NODE init 1"]);
    coordinator.update(&agent, region(999)).unwrap();
    assert_eq!(coordinator.effects(), [Effect::Mail(client.clone())]);
    assert_eq!(told(&mut coordinator, &client), ["NODE node update 999"]);
}

#[test]
fn a_new_tunnel_shows_both_ends_to_each_other() {
    let (mut coordinator, _) = new();
    let (agent, client) = (agent(&mut coordinator), client(&mut coordinator));
    coordinator.update(&agent, region(999)).unwrap();
    coordinator.update(&client, region(1)).unwrap();
    assert_eq!(coordinator.effects(), [], "nobody sees anybody");
    coordinator.add_tunnel(&client, AGENT).unwrap();
    assert_eq!(told(&mut coordinator, &client), ["NODE add tunnel 999"]);
    assert_eq!(told(&mut coordinator, &agent), ["NODE add tunnel 1"]);
    coordinator.add_tunnel(&client, AGENT).unwrap();
    assert_eq!(told(&mut coordinator, &client), [""; 0], "again is no news");
}

#[test]
fn the_init_batch_is_one_message() {
    let (mut coordinator, _) = new();
    for number in 0..50 {
        let client = coordinator.join(Uuid::from_u128(number), Who::Client, Instant::now());
        coordinator.add_tunnel(&client, AGENT).unwrap();
        if number < 40 {
            coordinator.update(&client, region(1)).unwrap();
        }
    }
    let agent = agent(&mut coordinator);
    let messages = coordinator.take(&agent);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].peer_updates.len(), 40, "those with a node");
}

#[test]
fn equal_nodes_are_told_once() {
    let (mut coordinator, agent, client) = pair();
    coordinator.update(&agent, region(999)).unwrap();
    assert_eq!(coordinator.effects(), []);
    coordinator.update(&agent, region(998)).unwrap();
    coordinator.update(&agent, region(997)).unwrap();
    assert_eq!(coordinator.effects(), [Effect::Mail(client.clone())], "one letter");
    assert_eq!(told(&mut coordinator, &client), ["NODE node update 997"], "the newest");
}

#[test]
fn an_end_is_told_only_after_a_node() {
    let (mut coordinator, _) = new();
    let (agent, client) = (agent(&mut coordinator), client(&mut coordinator));
    coordinator.add_tunnel(&client, AGENT).unwrap();
    coordinator.disconnect(&agent);
    assert_eq!(told(&mut coordinator, &client), [""; 0], "it never had a node");
    let (mut coordinator, agent, client) = pair();
    let now = Instant::now();
    coordinator.lose(&agent, now);
    assert_eq!(told(&mut coordinator, &client), ["LOST lost"]);
    let agent = self::agent(&mut coordinator);
    coordinator.lose(&agent, now);
    assert_eq!(told(&mut coordinator, &client), [""; 0], "it has no node since");
    let agent = self::agent(&mut coordinator);
    coordinator.update(&agent, region(999)).unwrap();
    assert_eq!(told(&mut coordinator, &client), ["NODE node update 999"], "again, since it was lost");
}

#[test]
fn what_was_not_read_is_taken_back() {
    let (mut coordinator, _) = new();
    let (agent, client) = (agent(&mut coordinator), client(&mut coordinator));
    coordinator.add_tunnel(&client, AGENT).unwrap();
    coordinator.update(&agent, region(999)).unwrap();
    coordinator.ready(&agent, CLIENT);
    coordinator.disconnect(&agent);
    assert_eq!(told(&mut coordinator, &client), [""; 0], "it never knew of the agent");
}

#[test]
fn the_node_comes_before_the_readiness() {
    let (mut coordinator, agent, client) = pair();
    coordinator.ready(&agent, CLIENT);
    coordinator.update(&agent, region(998)).unwrap();
    coordinator.ready(&agent, CLIENT);
    assert_eq!(told(&mut coordinator, &client), ["NODE node update 998", "READY_FOR_HANDSHAKE"]);
    coordinator.ready(&agent, CLIENT);
    assert_eq!(told(&mut coordinator, &client), ["READY_FOR_HANDSHAKE"], "never suppressed");
}

#[test]
fn readiness_without_a_tunnel_is_an_error_for_who_said_it() {
    let (mut coordinator, agent, client) = pair();
    coordinator.ready(&agent, OTHER);
    let messages = coordinator.take(&agent);
    let text = "ready for handshake error: you do not share a tunnel with \"00000000-0000-0000-0000-0000000000c2\"";
    assert_eq!(messages, [CoordinateResponse { error: text.into(), ..CoordinateResponse::default() }]);
    assert_eq!(told(&mut coordinator, &client), [""; 0]);
    for number in 0..10_000 {
        coordinator.ready(&agent, Uuid::from_u128(number));
    }
    assert_eq!(coordinator.take(&agent).len(), 64, "bounded");
}

#[test]
fn readiness_for_an_absent_partner_is_no_error() {
    let (mut coordinator, agent, client) = pair();
    coordinator.lose(&client, Instant::now());
    told(&mut coordinator, &agent);
    coordinator.ready(&agent, CLIENT);
    assert_eq!(coordinator.take(&agent), []);
}

#[test]
fn a_removed_tunnel_disconnects_both_ends() {
    let (mut coordinator, agent, client) = pair();
    coordinator.remove_tunnel(&client, AGENT);
    assert_eq!(told(&mut coordinator, &client), ["DISCONNECTED remove tunnel"]);
    assert_eq!(told(&mut coordinator, &agent), ["DISCONNECTED remove tunnel"]);
    coordinator.update(&agent, region(1)).unwrap();
    coordinator.remove_tunnel(&client, AGENT);
    assert_eq!(told(&mut coordinator, &client), [""; 0], "they are strangers");
    assert_eq!(coordinator.counts().tunnels, 0);
}

#[test]
fn a_goodbye_forgets_the_tunnels_from_a_peer_and_keeps_those_to_it() {
    let (mut coordinator, agent, client) = pair();
    coordinator.disconnect(&agent);
    assert_eq!(coordinator.partners(CLIENT), [AGENT]);
    assert!(!coordinator.is_current(&agent));
    coordinator.disconnect(&client);
    assert!(coordinator.partners(CLIENT).is_empty());
    assert_eq!(coordinator.counts(), Counts::default());
}

#[test]
fn a_withdrawn_peer_is_gone_for_all() {
    for lost in [false, true] {
        let (mut coordinator, agent, client) = pair();
        if lost {
            coordinator.lose(&client, Instant::now());
            assert_eq!(told(&mut coordinator, &agent), ["LOST lost"]);
            coordinator.effects();
        }
        coordinator.drop_peer(CLIENT);
        let mut expected = vec![Effect::Mail(agent.clone())];
        if !lost {
            expected.insert(0, Effect::Withdrawn(client.clone()));
        }
        assert_eq!(coordinator.effects(), expected);
        assert_eq!(told(&mut coordinator, &agent), ["DISCONNECTED withdrawn"], "also after LOST");
        assert!(!coordinator.is_current(&client));
        assert!(coordinator.partners(AGENT).is_empty());
    }
}

#[test]
fn keys_are_known_until_a_peer_is_gone() {
    let (mut coordinator, keys) = new();
    let now = Instant::now();
    let mut client = client(&mut coordinator);
    let key = |byte| NodeKey([byte; 32]);
    coordinator.update(&client, keyed(1, "fd7a:115c:a1e0::1")).unwrap();
    assert!(keys.knows(&key(1)));
    coordinator.update(&client, keyed(2, "fd7a:115c:a1e0::1")).unwrap();
    assert!(keys.knows(&key(2)) && !keys.knows(&key(1)));
    for _ in 0..2 {
        coordinator.lose(&client, now);
        assert!(keys.knows(&key(2)), "the relay serves those who are lost");
        client = self::client(&mut coordinator);
        assert!(keys.knows(&key(2)));
    }
    coordinator.lose(&client, now);
    coordinator.expire(now + LOST_KEPT);
    assert!(!keys.knows(&key(2)));
    let client = self::client(&mut coordinator);
    coordinator.update(&client, keyed(2, "fd7a:115c:a1e0::1")).unwrap();
    coordinator.disconnect(&client);
    assert!(!keys.knows(&key(2)));
}

#[test]
fn addresses_of_others_are_refused() {
    let (mut coordinator, _) = new();
    let client = client(&mut coordinator);
    let taken = "fd7a:115c:a1e0:4ccc:8ddd:eeee:eeee:eeee";
    let refused = || Err(format!("invalid node address, got {taken}"));
    coordinator.update(&client, keyed(1, taken)).unwrap();
    let agent = agent(&mut coordinator);
    assert_eq!(coordinator.update(&client, keyed(1, taken)), refused(), "an agent has it");
    assert_eq!(coordinator.update(&agent, keyed(3, taken)), Ok(()));
    let only_allowed = Node { addresses: Vec::new(), ..keyed(1, taken) };
    assert_eq!(coordinator.update(&client, only_allowed), refused());
    coordinator.lose(&agent, Instant::now());
    assert_eq!(coordinator.update(&client, keyed(1, taken)), refused(), "it may come back");
    coordinator.update(&client, keyed(1, "fd7a:115c:a1e0::1")).unwrap();
    let other = coordinator.join(OTHER, Who::Client, Instant::now());
    let stolen = Err("invalid node address, got fd7a:115c:a1e0::1".into());
    assert_eq!(coordinator.update(&other, keyed(2, "fd7a:115c:a1e0::1")), stolen, "a client has it");
    assert_eq!(coordinator.update(&other, keyed(1, "fd7a:115c:a1e0::1")), Ok(()), "the same process");
    coordinator.update(&other, keyed(2, "fd7a:115c:a1e0::2")).unwrap();
    coordinator.lose(&client, Instant::now());
    assert_eq!(coordinator.update(&other, keyed(2, "fd7a:115c:a1e0::1")), Ok(()), "who is lost has none");
}

#[test]
fn tunnels_are_bounded_at_both_ends() {
    let (mut coordinator, _) = new();
    let client = client(&mut coordinator);
    for number in 0..TUNNELS_PER_PEER {
        coordinator.add_tunnel(&client, Uuid::from_u128(0x1_0000 + number as u128)).unwrap();
    }
    assert_eq!(coordinator.add_tunnel(&client, AGENT), Err(TooMany::OfYours));
    assert_eq!(coordinator.add_tunnel(&client, Uuid::from_u128(0x1_0000)), Ok(()), "that one exists");
    for number in 0..TUNNELS_PER_PEER {
        let one = coordinator.join(Uuid::from_u128(0x2_0000 + number as u128), Who::Client, Instant::now());
        coordinator.add_tunnel(&one, AGENT).unwrap();
    }
    let other = coordinator.join(OTHER, Who::Client, Instant::now());
    assert_eq!(coordinator.add_tunnel(&other, AGENT), Err(TooMany::OfTheOther));
    coordinator.remove_tunnel(&client, Uuid::from_u128(0x1_0000));
    assert_eq!(coordinator.add_tunnel(&client, OTHER), Ok(()));
    assert_eq!(coordinator.add_tunnel(&other, OTHER), Ok(()), "one to oneself is none");
    assert_eq!(coordinator.counts().tunnels, 2 * TUNNELS_PER_PEER);
}

#[test]
fn the_node_of_an_agent_is_that_of_its_open_stream() {
    let (mut coordinator, _) = new();
    let of = |coordinator: &Coordinator| coordinator.node_of(AgentId(AGENT)).map(|node| node.preferred_derp);
    let first = agent(&mut coordinator);
    assert_eq!(of(&coordinator), None);
    coordinator.update(&first, region(999)).unwrap();
    assert_eq!(of(&coordinator), Some(999));
    let second = agent(&mut coordinator);
    assert_eq!(of(&coordinator), None);
    coordinator.update(&second, region(998)).unwrap();
    coordinator.lose(&second, Instant::now());
    assert_eq!(of(&coordinator), None);
}
