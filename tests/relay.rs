//! The relay through the whole server: sockets, upgrades, loops, TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moorline::edge::tls::Tls;
use moorline::ops::metrics::relay::{Drop as Cause, End};
use moorline::wire::derp::kind;
use uuid::Uuid;

use crate::harness::derp::{Client, Way, key};
use crate::harness::front::Front;
use crate::harness::until;

const WAYS: [Way; 3] = [Way::Upgrade, Way::FastStart, Way::WebSocket];

fn know(front: &Front, numbers: std::ops::Range<u32>) {
    for number in numbers {
        front.app.keys.announce(Uuid::from_u128(u128::from(number) + 1), key(number).public());
    }
}

/// The head of the answer to a request, and what follows it at once.
fn ask(address: &str, request: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while !text.windows(4).any(|four| four == b"\r\n\r\n") {
        let got = socket.read(&mut piece).unwrap();
        assert!(got > 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..got]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn the_upgrade_is_answered_as_recorded() {
    let front = Front::start(&[("loops", "3")], None);
    let hex: String = front.app.relay.secret().public().0.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Version: 2\r\n\
         Derp-Public-Key: {hex}\r\n\r\n"
    );
    assert!(ask(&front.address, &Way::Upgrade.request()).starts_with(&expected));
    // A WebSocket without the subprotocol is taken for the plain upgrade; slashes and a query change nothing.
    let plain = Way::WebSocket.request().replace("Sec-WebSocket-Protocol: derp\r\n", "");
    assert!(ask(&front.address, &plain).starts_with(&expected));
    assert!(ask(&front.address, &Way::Upgrade.request().replace("/derp", "//derp/?x")).starts_with(&expected));
    let head = ask(&front.address, &Way::WebSocket.request().replace("Host", "Origin: http://elsewhere\r\nHost"));
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("\r\nSec-WebSocket-Protocol: derp\r\n"), "{head}");
    assert!(!head.contains("Sec-WebSocket-Extensions"), "{head}");
}

#[test]
fn who_does_not_upgrade_is_told() {
    let front = Front::start(&[], None);
    for upgrade in ["", "Connection: Upgrade\r\nUpgrade: nonsense\r\n", "Upgrade: DERP\r\n"] {
        let answer = ask(&front.address, &format!("GET /derp HTTP/1.1\r\nHost: h\r\n{upgrade}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nDERP requires connection upgrade\n"), "{answer}");
    }
    let probe = ask(&front.address, "GET /derp/probe HTTP/1.1\r\nHost: h\r\nOrigin: http://x\r\n\r\n");
    assert!(probe.starts_with("HTTP/1.1 200 ") && probe.contains("Access-Control-Allow-Origin: *\r\n"), "{probe}");
    assert!(ask(&front.address, "GET //derp/latency-check HTTP/1.1\r\nHost: h\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

#[test]
fn packets_pass_whichever_way_and_loop_peers_come_in_by() {
    let front = Front::start(&[("loops", "3")], None);
    know(&front, 0..9);
    let mut clients: Vec<Client> =
        (0..9).map(|number| Client::connect(&front.address, WAYS[number as usize % 3], key(number))).collect();
    for from in 0..9_u32 {
        for to in 0..9_u32 {
            let packet = vec![from as u8; 1_000 * (to as usize + 1)];
            clients[from as usize].packet(&key(to).public(), &packet);
            assert_eq!(clients[to as usize].received(), (key(from).public(), packet));
        }
    }
    assert_eq!(front.app.metrics.relay.packets.get(), 81);
    drop(clients);
    until("all have left", || (front.app.metrics.relay.connections.get() == 0).then_some(()));
}

#[test]
fn a_greeting_sent_along_with_the_request_is_not_lost() {
    let front = Front::start(&[("loops", "2")], None);
    know(&front, 0..2);
    let mut early = TcpStream::connect(&front.address).unwrap();
    let mut bytes = Way::FastStart.request().into_bytes();
    let relay = front.app.relay.secret().public();
    moorline::wire::derp::Greeting::client_info(key(0), &relay, [1; 24], b"{}", &mut bytes);
    moorline::wire::derp::frame(kind::PING, b"12345678", &mut bytes);
    early.write_all(&bytes).unwrap();
    early.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut got = [0; 45 + 58 + 13];
    early.read_exact(&mut got).unwrap();
    assert_eq!((got[0], got[45], &got[103..]), (1, 3, &b"\x13\0\0\0\x0812345678"[..]));
}

#[test]
fn nothing_is_lost_with_many_packets_under_way() {
    let front = Front::start(&[("loops", "2")], None);
    know(&front, 0..16);
    let pairs: Vec<_> = (0..8_u32)
        .map(|pair| {
            let (from, to, address) = (2 * pair, 2 * pair + 1, front.address.clone());
            let way = WAYS[pair as usize % 3];
            std::thread::spawn(move || {
                let mut receiver = Client::connect(&address, way, key(to));
                let mut sender = Client::connect(&address, way, key(from));
                let (mut sent, mut received) = (0_u32, 0_u32);
                while received < 5_000 {
                    while sent < 5_000 && sent - received < 64 {
                        sender.packet(&key(to).public(), &[&sent.to_be_bytes()[..], &[0; 500]].concat());
                        sent += 1;
                    }
                    let (_, packet) = receiver.received();
                    assert_eq!(packet[..4], received.to_be_bytes(), "in order, and none missing");
                    received += 1;
                }
            })
        })
        .collect();
    pairs.into_iter().for_each(|pair| pair.join().unwrap());
    assert_eq!(front.app.metrics.relay.count_dropped(Cause::Full), 0);
    assert_eq!(front.app.metrics.relay.packets.get(), 40_000);
}

#[test]
fn a_peer_that_does_not_read_holds_nobody_up() {
    let front = Front::start(&[("loops", "1")], None);
    know(&front, 0..3);
    let slow = Client::connect(&front.address, Way::Upgrade, key(1));
    let mut other = Client::connect(&front.address, Way::Upgrade, key(2));
    let mut sender = Client::connect(&front.address, Way::Upgrade, key(0));
    for _ in 0..20_000 {
        sender.packet(&key(1).public(), &[1; 1_200]);
    }
    sender.packet(&key(2).public(), b"through");
    assert_eq!(other.received().1, b"through");
    assert!(front.app.metrics.relay.count_dropped(Cause::Full) > 0);
    drop(slow);
    let (kind, _) = other_frame_after_leave(&mut sender, &front);
    assert_eq!(kind, kind::PONG);
}

/// The relay still answers after a peer with a full queue has left.
fn other_frame_after_leave(sender: &mut Client, front: &Front) -> (u8, Vec<u8>) {
    until("it has left", || (front.app.metrics.relay.connections.get() == 2).then_some(()));
    let mut ping = Vec::new();
    moorline::wire::derp::frame(kind::PING, b"12345678", &mut ping);
    sender.send(&ping);
    sender.frame()
}

#[test]
fn a_leaver_is_told_of_at_once() {
    let front = Front::start(&[("loops", "2")], None);
    know(&front, 0..2);
    let mut one = Client::connect(&front.address, Way::Upgrade, key(0));
    let mut two = Client::connect(&front.address, Way::WebSocket, key(1));
    two.packet(&key(0).public(), b"x");
    one.received();
    drop(two);
    let begun = Instant::now();
    assert_eq!(one.frame(), (kind::PEER_GONE, [&key(1).public().0[..], &[0]].concat()));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn hostile_bytes_end_their_own_connection_only() {
    let front = Front::start(&[("loops", "2")], None);
    know(&front, 0..2);
    let mut good = Client::connect(&front.address, Way::Upgrade, key(0));
    for (number, way) in (0..30_u8).zip(WAYS.into_iter().cycle()) {
        let mut bad = Client::greeted(&front.address, way);
        let noise: Vec<u8> = (0..2_000_u32).map(|at| (at as u8).wrapping_mul(31).wrapping_add(number)).collect();
        // The relay may hang up before all is written.
        let _ = bad.socket.write_all(&noise);
        while bad.more() {}
    }
    assert!(
        front.app.metrics.relay.count_ended(End::Greeting) + front.app.metrics.relay.count_ended(End::Protocol) >= 30
    );
    good.packet(&key(0).public(), b"still here");
    assert_eq!(good.received().1, b"still here");
}

#[test]
fn too_many_strangers_of_an_address_are_sent_away_with_a_503() {
    let front = Front::start(&[("trusted_proxies", "127.0.0.1")], None);
    let crowd: Vec<_> = std::iter::from_fn(|| front.app.relay.admit("203.0.113.9".parse().unwrap())).collect();
    assert_eq!(crowd.len(), moorline::config::limits::RELAY_STRANGERS);
    let request = Way::Upgrade.request().replace("Host", "X-Forwarded-For: 203.0.113.9\r\nHost");
    let refused = ask(&front.address, &request);
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert_eq!(front.app.metrics.relay.refused.get(), 1);
    drop(crowd);
    assert!(ask(&front.address, &request).starts_with("HTTP/1.1 101 "));
}

#[test]
fn a_stopping_server_lets_go_of_the_relay() {
    let mut front = Front::start(&[("loops", "2")], None);
    know(&front, 0..2);
    let mut clients = WAYS.map(|way| Client::connect(&front.address, way, key(0)));
    let edge = front.edge.take().unwrap();
    let stopping = std::thread::spawn(move || edge.shutdown(Duration::from_secs(10)));
    for client in &mut clients {
        assert_eq!(client.next(), None);
    }
    drop(clients);
    stopping.join().unwrap();
    assert_eq!(front.app.metrics.relay.connections.get(), 0);
}

#[test]
fn the_relay_works_inside_tls() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, private) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&private, certified.signing_key.serialize_pem()).unwrap();
    let front = Front::start(&[("loops", "2")], Some(Tls::load(&certificate, &private).unwrap()));
    know(&front, 0..2);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(&front.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut tls = rustls::StreamOwned::new(session, socket);
    let relay = front.app.relay.secret().public();
    let mut bytes = Way::FastStart.request().into_bytes();
    moorline::wire::derp::Greeting::client_info(key(0), &relay, [1; 24], b"{}", &mut bytes);
    let packet = vec![7; 60_000];
    for _ in 0..20 {
        moorline::wire::derp::send_packet(&key(0).public(), &packet, &mut bytes);
    }
    tls.write_all(&bytes).unwrap();
    let mut greetings = [0; 45 + 58];
    tls.read_exact(&mut greetings).unwrap();
    for _ in 0..20 {
        let mut frame = vec![0; 5 + 32 + 60_000];
        tls.read_exact(&mut frame).unwrap();
        assert!(frame[0] == kind::RECV_PACKET && frame[37..] == packet[..]);
    }
}

#[test]
fn the_map_has_every_region_and_no_stun_where_direct_connections_are_off() {
    use moorline::config::regions::{Node, Region};
    use moorline::tailnet::derp_map::DerpMap;

    let folder = tempfile::tempdir().unwrap();
    let mut settings =
        crate::harness::app::settings(folder.path(), &[("stun_addresses", "stun.example.com:19302,10.0.0.1")]);
    let node = |name: &str, stun_only: bool| Node {
        name: name.into(),
        host: "derp.example.com".into(),
        port: 8443,
        cert_name: "cert.example.com".into(),
        ipv4: "192.0.2.1".into(),
        ipv6: "none".into(),
        stun_port: 3478,
        stun_only,
        force_http: false,
    };
    let region = Region {
        id: 7,
        code: "fra".into(),
        name: "Frankfurt".into(),
        avoid: true,
        nodes: vec![node("7a", false), node("7b", true)],
    };
    settings.derp_regions = vec![region];
    let map = DerpMap::of("https://moor.example.com", &settings);
    let json = map.json();
    assert_eq!(json["Regions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["7", "999", "1000", "1001"]);
    let relay = r#"{"Name":"7a","RegionID":7,"HostName":"derp.example.com","CertName":"cert.example.com","IPv4":"192.0.2.1","IPv6":"none","STUNPort":3478,"DERPPort":8443}"#;
    assert_eq!(json["Regions"]["7"]["Nodes"][0].to_string(), relay);
    assert_eq!(json["Regions"]["7"]["Avoid"], true);
    let own = r#"{"EmbeddedRelay":true,"RegionID":999,"RegionCode":"coder","RegionName":"Coder Embedded Relay","Nodes":[{"Name":"999b","RegionID":999,"HostName":"moor.example.com","STUNPort":-1,"DERPPort":443}]}"#;
    assert_eq!(json["Regions"]["999"].to_string(), own);
    let stun = r#"{"EmbeddedRelay":false,"RegionID":1000,"RegionCode":"coder_stun_1000","RegionName":"Coder STUN 1000","Nodes":[{"Name":"1000stun0","RegionID":1000,"HostName":"stun.example.com","STUNPort":19302,"STUNOnly":true}]}"#;
    assert_eq!(json["Regions"]["1000"].to_string(), stun);
    assert_eq!(map.proto().regions.len(), 4);
    assert!(map.proto().home_params.is_some());
    let names = map.region_names();
    assert_eq!((names[&7].as_str(), names[&999].as_str()), ("Frankfurt", "Coder Embedded Relay"));
    settings.disable_direct_connections = true;
    let json = DerpMap::of("https://moor.example.com", &settings).json();
    assert_eq!(json["Regions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["7", "999"]);
    assert_eq!(json["Regions"]["7"]["Nodes"].as_array().unwrap().len(), 1);
    assert_eq!(json["Regions"]["7"]["Nodes"][0]["STUNPort"], -1);
}
