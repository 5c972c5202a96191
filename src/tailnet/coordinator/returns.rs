//! Peers that come again: newer streams, resumed clients, and those who stay away.

#![allow(clippy::unwrap_used)]

use super::tests::{self, AGENT, CLIENT, new, pair, region, told};
use super::*;

#[test]
fn a_newer_stream_takes_over_without_flapping() {
    let (mut coordinator, agent, client) = pair();
    let newer = tests::agent(&mut coordinator);
    assert_eq!(coordinator.effects(), [Effect::Superseded(agent.clone()), Effect::Mail(newer.clone())]);
    assert_eq!(told(&mut coordinator, &newer), ["NODE init 1"], "told afresh");
    coordinator.lose(&agent, Instant::now());
    coordinator.disconnect(&agent);
    coordinator.update(&agent, region(5)).unwrap();
    assert!(coordinator.is_current(&newer), "the older one counts no longer");
    coordinator.update(&newer, region(999)).unwrap();
    assert_eq!(told(&mut coordinator, &client), [""; 0], "nothing has changed for partners");
    coordinator.update(&newer, region(998)).unwrap();
    assert_eq!(told(&mut coordinator, &client), ["NODE node update 998"]);
}

#[test]
fn a_resumed_client_has_its_tunnels() {
    let (mut coordinator, agent, client) = pair();
    let now = Instant::now();
    coordinator.lose(&client, now);
    assert_eq!(told(&mut coordinator, &agent), ["LOST lost"]);
    coordinator.expire(now + LOST_KEPT - Duration::from_secs(1));
    let client = tests::client(&mut coordinator);
    assert_eq!(told(&mut coordinator, &client), [""; 0], "it has not asked again yet");
    coordinator.add_tunnel(&client, AGENT).unwrap();
    assert_eq!(told(&mut coordinator, &client), ["NODE add tunnel 999"]);
    coordinator.update(&client, region(1)).unwrap();
    assert_eq!(told(&mut coordinator, &agent), ["NODE node update 1"]);
    coordinator.expire(now + LOST_KEPT * 2);
    assert!(coordinator.is_current(&client), "it is lost no more");
    assert_eq!(coordinator.partners(CLIENT), [AGENT]);
}

#[test]
fn partners_of_a_client_that_comes_again_at_once_notice_nothing() {
    let (mut coordinator, agent, client) = pair();
    let newer = tests::client(&mut coordinator);
    coordinator.lose(&client, Instant::now());
    coordinator.add_tunnel(&newer, AGENT).unwrap();
    coordinator.update(&newer, region(1)).unwrap();
    assert_eq!(told(&mut coordinator, &newer), ["NODE add tunnel 999"]);
    assert_eq!(told(&mut coordinator, &agent), [""; 0]);
}

#[test]
fn tunnels_that_are_not_asked_for_again_end() {
    let (mut coordinator, agent, _) = pair();
    let now = Instant::now();
    let client = coordinator.join(CLIENT, Who::Client, now);
    coordinator.update(&client, region(2)).unwrap();
    coordinator.update(&agent, region(998)).unwrap();
    coordinator.ready(&agent, CLIENT);
    assert_eq!(told(&mut coordinator, &client), [""; 0], "perhaps it may not reach the agent any more");
    assert_eq!(coordinator.take(&agent).len(), 1, "which is told that it shares no tunnel");
    coordinator.expire(now + TUNNELS_KEPT - Duration::from_millis(1));
    assert_eq!(told(&mut coordinator, &agent), [""; 0]);
    coordinator.expire(now + TUNNELS_KEPT);
    assert_eq!(told(&mut coordinator, &agent), ["DISCONNECTED remove tunnel"]);
    assert_eq!(coordinator.counts().tunnels, 0);
    coordinator.add_tunnel(&client, AGENT).unwrap();
    coordinator.expire(now + TUNNELS_KEPT * 2);
    assert_eq!(told(&mut coordinator, &agent), ["NODE add tunnel 2"], "a new one stays");
    assert_eq!(coordinator.counts().tunnels, 1);
}

#[test]
fn a_client_back_before_anyone_read_of_its_loss_is_told_anew() {
    let (mut coordinator, agent, client) = pair();
    coordinator.lose(&client, Instant::now());
    let client = tests::client(&mut coordinator);
    coordinator.add_tunnel(&client, AGENT).unwrap();
    coordinator.update(&client, region(1)).unwrap();
    // The agent's answer to a NODE is what lets the client begin its handshake.
    assert_eq!(told(&mut coordinator, &agent), ["NODE node update 1"]);
}

#[test]
fn a_client_that_does_not_come_back_is_withdrawn() {
    let (mut coordinator, agent, client) = pair();
    let now = Instant::now();
    coordinator.lose(&client, now);
    assert_eq!(told(&mut coordinator, &agent), ["LOST lost"]);
    assert_eq!(coordinator.counts(), Counts { agents: 1, clients: 0, lost: 1, tunnels: 1 });
    coordinator.expire(now + LOST_KEPT);
    assert_eq!(told(&mut coordinator, &agent), ["DISCONNECTED lost"]);
    assert_eq!(coordinator.counts(), Counts { agents: 1, clients: 0, lost: 0, tunnels: 0 });
}

#[test]
fn an_agent_that_does_not_come_back_stays_lost() {
    let (mut coordinator, agent, client) = pair();
    let now = Instant::now();
    coordinator.lose(&agent, now);
    coordinator.expire(now + LOST_KEPT);
    assert_eq!(told(&mut coordinator, &client), ["LOST lost"]);
    assert_eq!(coordinator.counts(), Counts { agents: 0, clients: 1, lost: 0, tunnels: 1 });
}

#[test]
fn lost_peers_are_bounded() {
    let (mut coordinator, _) = new();
    let now = Instant::now();
    for number in 0..LOST_PEERS + 10 {
        let seat = coordinator.join(Uuid::from_u128(number as u128), Who::Client, Instant::now());
        coordinator.add_tunnel(&seat, AGENT).unwrap_or_default();
        coordinator.update(&seat, region(1)).unwrap();
        coordinator.lose(&seat, now + Duration::from_millis(number as u64));
        coordinator.expire(now);
    }
    assert_eq!(coordinator.counts().lost, LOST_PEERS);
}

#[test]
fn a_removed_tunnel_to_who_is_lost_leaves_nothing_behind() {
    for read in [false, true] {
        let (mut coordinator, agent, client) = pair();
        coordinator.lose(&agent, Instant::now());
        if read {
            assert_eq!(told(&mut coordinator, &client), ["LOST lost"]);
        }
        coordinator.remove_tunnel(&client, AGENT);
        let expected: &[&str] = if read { &[] } else { &["DISCONNECTED lost"] };
        assert_eq!(told(&mut coordinator, &client), expected);
        let open = coordinator.peers.get(&CLIENT).and_then(|peer| peer.seat.as_ref()).unwrap();
        assert!(open.inbox.subjects().is_empty());
    }
}
