//! Bytes that the reference client (v2.24.0, yamux v0.1.2, drpc v0.0.33) and server put on the wire.

use moorline::wire::drpc::{Decoder, Encoder, Packet};
use moorline::wire::proto::{agent, google, methods, tailnet};
use moorline::wire::yamux::{Event, Session};
use prost::Message;

use super::hex;

const DERP_MAP: &str = "0a00
    1253 08e70712 4e 08e707 1001 1a05636f646572
    2214436f64657220456d6265646465642052656c6179
    322a 0a0439393962 10e707 1a11636f6465722e6578616d706c652e636f6d 38ffffffffffffffffff01 48bb03";

/// The agent's end of the story: bytes in, what they mean out.
struct Server {
    session: Session,
    decoder: Decoder,
}

impl Server {
    fn new() -> Self {
        Self { session: Session::server(), decoder: Decoder::new() }
    }

    fn hears(&mut self, text: &str) -> (Vec<Event>, Vec<Packet>) {
        let (mut events, mut packets) = (Vec::new(), Vec::new());
        self.session.receive(&hex(text), &mut events).unwrap();
        for event in &events {
            if let Event::Data(id, bytes) = event {
                self.session.consumed(*id, bytes.len());
                self.decoder.receive(bytes, &mut packets).unwrap();
            }
        }
        events.retain(|event| !matches!(event, Event::Data(..)));
        (events, packets)
    }

    #[track_caller]
    fn says(&mut self, text: &str) {
        let mut out = Vec::new();
        self.session.take_output(&mut out);
        assert_eq!(out, hex(text));
    }

    fn sends(&mut self, id: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.session.send(id, &bytes);
    }
}

#[test]
fn ping_is_asked_and_answered() {
    let mut server = Server::new();
    server.session.ping(0);
    server.says("000200010000000000000000");
    let (events, _) = server.hears("000200020000000000000000");
    assert_eq!(events, [Event::Pong(0)]);
    server.hears("000200010000000000000007");
    server.says("000200020000000000000007");
}

#[test]
fn update_lifecycle_succeeds() {
    let mut server = Server::new();
    let (events, _) = server.hears("000100010000000100000000");
    assert_eq!(events, [Event::Opened(1)]);
    let (_, packets) = server.hears(
        "000000000000000100000042
         030101252f636f6465722e6167656e742e76322e4167656e742f5570646174654c6966656379636c65
         050102110a0f0802120b0880e2cfaa06108094ef3a
         0d010300",
    );
    let [Packet::Invoke(name), Packet::Message(request), Packet::CloseSend] = packets.as_slice() else {
        panic!("{packets:?}")
    };
    assert_eq!(name, methods::UPDATE_LIFECYCLE);
    let lifecycle = agent::UpdateLifecycleRequest::decode(request.as_slice()).unwrap().lifecycle.unwrap();
    assert_eq!(lifecycle.state(), agent::lifecycle::State::Starting);
    let changed_at = google::Timestamp { seconds: 1_700_000_000, nanos: 123_456_000 };
    assert_eq!(lifecycle.changed_at, Some(changed_at));

    server.says("000100020000000100000000");
    let mut encoder = Encoder::new();
    server.sends(1, |out| encoder.message(&lifecycle.encode_to_vec(), out));
    server.says(
        "000000000000000100000013
         0501010f0802120b0880e2cfaa06108094ef3a",
    );
    let (events, packets) = server.hears("000000000000000100000004 0b010400");
    assert_eq!((events, packets), (vec![], vec![Packet::Close]));
    let (events, _) = server.hears("000100040000000100000000");
    assert_eq!(events, [Event::Finished(1)]);
    server.session.finish(1);
    server.says("000100040000000100000000");
    assert_eq!(server.session.streams(), 0);
}

#[test]
fn update_stats_succeeds_with_close_send() {
    let mut server = Server::new();
    server.hears("000100010000000300000000");
    let (_, packets) = server.hears(
        "00000000000000030000002d
         030101212f636f6465722e6167656e742e76322e4167656e742f5570646174655374617473 05010200 0d010300",
    );
    assert_eq!(packets, [Packet::Invoke(methods::UPDATE_STATS.to_owned()), Packet::Message(vec![]), Packet::CloseSend]);
    server.says("000100020000000300000000");
    let mut encoder = Encoder::new();
    let reply = agent::UpdateStatsResponse { report_interval: Some(google::Duration { seconds: 300, nanos: 0 }) };
    server.sends(3, |out| encoder.message(&reply.encode_to_vec(), out));
    server.sends(3, |out| encoder.close_send(out));
    server.says(
        "000000000000000300000009 050101050a0308ac02
         000000000000000300000004 0d010200",
    );
    server.hears("000000000000000300000004 0b010400 000100040000000300000000");
    server.session.finish(3);
    server.says("000100040000000300000000");
    assert_eq!(server.session.streams(), 0);
}

#[test]
fn errors_carry_code_and_text() {
    for (code, text, bytes) in [
        (0, "script timing is required", "0701012100000000000000007363726970742074696d696e67206973207265717569726564"),
        (12, "Unimplemented", "07010115000000000000000c556e696d706c656d656e746564"),
        (
            0,
            "protocol error: unknown rpc: \"/coder.agent.v2.Agent/Nope\"",
            "07010141000000000000000070726f746f636f6c206572726f723a20756e6b6e6f776e207270633a20222f636f6465722e
             6167656e742e76322e4167656e742f4e6f706522",
        ),
    ] {
        let mut out = Vec::new();
        Encoder::new().error(code, text, &mut out);
        assert_eq!(out, hex(bytes));
        let mut packets = Vec::new();
        Decoder::new().receive(&out, &mut packets).unwrap();
        assert_eq!(packets, [Packet::Error { code, text: text.to_owned() }]);
    }
}

#[test]
fn stream_derp_maps_starts_and_is_closed_by_the_client() {
    let mut server = Server::new();
    server.hears("000100010000000b00000000");
    let (_, packets) = server.hears(
        "000000000000000b00000030
         030101282f636f6465722e7461696c6e65742e76322e5461696c6e65742f53747265616d444552504d617073 05010200",
    );
    assert_eq!(packets, [Packet::Invoke(methods::STREAM_DERP_MAPS.to_owned()), Packet::Message(vec![])]);
    let (_, packets) = server.hears("000000000000000b00000004 0d010300");
    assert_eq!(packets, [Packet::CloseSend]);
    server.says("000100020000000b00000000");
    let mut encoder = Encoder::new();
    server.sends(11, |out| encoder.message(&derp_map().encode_to_vec(), out));
    server.says(&format!("000000000000000b0000005b 05010157 {DERP_MAP}"));
    let (events, packets) = server.hears("000000000000000b00000004 0b010400 000100040000000b00000000");
    assert_eq!((events, packets), (vec![Event::Finished(11)], vec![Packet::Close]));
}

#[test]
fn stream_derp_maps_is_cancelled_by_a_bare_fin() {
    let mut server = Server::new();
    server.hears("000100010000000b00000000");
    let (events, packets) = server.hears("000100040000000b00000000");
    assert_eq!((events, packets), (vec![Event::Finished(11)], vec![]));
}

#[test]
fn coordinate_adds_a_tunnel_and_disconnects() {
    let name: String = "/coder.tailnet.v2.Tailnet/Coordinate".bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut packets = Vec::new();
    let mut decoder = Decoder::new();
    let sent = format!("03010124 {name} 05010214 1a12 0a10 aaaaaaaabbbb4ccc8dddeeeeeeeeeeee 050103021200");
    decoder.receive(&hex(&sent), &mut packets).unwrap();
    let [Packet::Invoke(name), Packet::Message(tunnel), Packet::Message(disconnect)] = packets.as_slice() else {
        panic!("{packets:?}")
    };
    assert_eq!(name, methods::COORDINATE);
    let tunnel = tailnet::CoordinateRequest::decode(tunnel.as_slice()).unwrap();
    assert_eq!(tunnel.add_tunnel.unwrap().id, hex("aaaaaaaabbbb4ccc8dddeeeeeeeeeeee"));
    assert!(tailnet::CoordinateRequest::decode(disconnect.as_slice()).unwrap().disconnect.is_some());

    let update = tailnet::coordinate_response::PeerUpdate {
        id: hex("11111111222243338444555555555555"),
        kind: tailnet::coordinate_response::peer_update::Kind::ReadyForHandshake.into(),
        ..Default::default()
    };
    let response = tailnet::CoordinateResponse { peer_updates: vec![update], ..Default::default() };
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    encoder.message(&response.encode_to_vec(), &mut out);
    encoder.close(&mut out);
    assert_eq!(out, hex("05010116 0a14 0a10 11111111222243338444555555555555 1804 0b010200"));
}

#[test]
fn smallest_manifest_has_the_recorded_bytes() {
    let manifest = agent::Manifest {
        agent_id: hex("aaaaaaaabbbb4ccc8dddeeeeeeeeeeee"),
        agent_name: "main".to_owned(),
        owner_username: "alice".to_owned(),
        workspace_id: hex("11111111222243338444555555555555"),
        workspace_name: "dev".to_owned(),
        disable_direct_connections: true,
        derp_map: Some(derp_map()),
        ..Default::default()
    };
    let bytes = format!(
        "0a10aaaaaaaabbbb4ccc8dddeeeeeeeeeeee 3801 4a57 {DERP_MAP}
         6a05616c696365 721011111111222243338444555555555555 7a046d61696e 820103646576"
    );
    assert_eq!(manifest.encode_to_vec(), hex(&bytes));
    assert_eq!(manifest.encoded_len(), 146);
}

#[test]
fn smallest_monitoring_configuration_has_the_recorded_bytes() {
    let config = agent::get_resources_monitoring_configuration_response::Config {
        num_datapoints: 20,
        collection_interval_seconds: 10,
    };
    let reply = agent::GetResourcesMonitoringConfigurationResponse { config: Some(config), ..Default::default() };
    assert_eq!(reply.encode_to_vec(), hex("0a040814100a"));
}

fn derp_map() -> tailnet::DerpMap {
    let node = tailnet::derp_map::region::Node {
        name: "999b".to_owned(),
        region_id: 999,
        host_name: "coder.example.com".to_owned(),
        stun_port: -1,
        derp_port: 443,
        ..Default::default()
    };
    let region = tailnet::derp_map::Region {
        region_id: 999,
        embedded_relay: true,
        region_code: "coder".to_owned(),
        region_name: "Coder Embedded Relay".to_owned(),
        nodes: vec![node],
        ..Default::default()
    };
    tailnet::DerpMap { home_params: Some(Default::default()), regions: [(999, region)].into() }
}
