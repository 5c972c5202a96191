//! What peers say to the coordinator and hear from it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::VecDeque;
use std::time::Instant;

use moorline::domain::credential::Credential;
use moorline::model::AgentId;
use moorline::streams::rpc::{self, Client};
use moorline::wire::drpc::Packet;
use moorline::wire::proto::methods::COORDINATE;
use moorline::wire::proto::tailnet::coordinate_response::PeerUpdate;
use moorline::wire::proto::tailnet::coordinate_response::peer_update::Kind;
use moorline::wire::proto::tailnet::{CoordinateRequest, CoordinateResponse, Node, coordinate_request};
use prost::Message;
use uuid::Uuid;

use super::agent::Agent;
use super::driver::{Line, SOON, Server};

/// A request that announces a node with a key made from `key`.
pub(crate) fn announce(key: u8, region: i32, addresses: &[String]) -> CoordinateRequest {
    let node = Node {
        id: i64::from(key),
        key: [b"np".as_slice(), &[key; 32]].concat(),
        disco: format!("discokey:{}", format!("{key:02x}").repeat(32)),
        preferred_derp: region,
        derp_latency: [("999-v4".to_owned(), 0.01)].into(),
        addresses: addresses.to_vec(),
        allowed_ips: addresses.to_vec(),
        ..Node::default()
    };
    let update_self = Some(coordinate_request::UpdateSelf { node: Some(node) });
    CoordinateRequest { update_self, ..CoordinateRequest::default() }
}

/// The addresses of the agent of `server`.
pub(crate) fn own(server: &Server) -> Vec<String> {
    addresses(server.agent)
}

pub(crate) fn addresses(agent: AgentId) -> Vec<String> {
    moorline::tailnet::admission::addresses(agent)[..2].iter().map(|address| format!("{address}/128")).collect()
}

/// An address as clients choose them.
pub(crate) fn somewhere(key: u8) -> Vec<String> {
    vec![format!("fd7a:115c:a1e0::{key:x}/128")]
}

pub(crate) fn tunnel(to: [u8; 16]) -> CoordinateRequest {
    let add_tunnel = Some(coordinate_request::Tunnel { id: to.to_vec() });
    CoordinateRequest { add_tunnel, ..CoordinateRequest::default() }
}

pub(crate) fn no_tunnel(to: [u8; 16]) -> CoordinateRequest {
    let remove_tunnel = Some(coordinate_request::Tunnel { id: to.to_vec() });
    CoordinateRequest { remove_tunnel, ..CoordinateRequest::default() }
}

pub(crate) fn ready(of: [u8; 16]) -> CoordinateRequest {
    let ready_for_handshake = vec![coordinate_request::ReadyForHandshake { id: of.to_vec() }];
    CoordinateRequest { ready_for_handshake, ..CoordinateRequest::default() }
}

pub(crate) fn disconnect() -> CoordinateRequest {
    CoordinateRequest { disconnect: Some(coordinate_request::Disconnect {}), ..CoordinateRequest::default() }
}

pub(crate) fn say(peer: &mut Agent, id: u32, request: CoordinateRequest) {
    peer.message(id, &request.encode_to_vec());
    peer.exchange();
}

pub(crate) fn error(packet: Packet) -> String {
    let Packet::Message(message) = packet else { panic!("{packet:?}") };
    CoordinateResponse::decode(message.as_slice()).unwrap().error
}

impl Server {
    /// The region that the agent has last announced.
    pub(crate) fn node(&self) -> Option<i32> {
        self.app.tailnet.node_of(self.agent).map(|node| node.preferred_derp)
    }

    /// A client of the user as admitted for the agent.
    pub(crate) fn admitted(&self) -> Client {
        Client {
            credential: self.credential(),
            peer: Uuid::new_v4(),
            only: Some(self.agent),
            ip: "198.51.100.7".into(),
            program: "coder ssh".into(),
        }
    }

    pub(crate) fn join(&self, client: Client) -> Peer {
        let id = client.peer;
        let mut peer = Peer::on(Agent::on(Line::open(rpc::client(self.app.clone(), client))));
        peer.id = id;
        peer
    }

    /// A client of the user at the endpoint of the agent.
    pub(crate) fn join_one(&self) -> Peer {
        self.join(self.admitted())
    }

    /// A client at the endpoint for all agents.
    pub(crate) fn join_all(&self, credential: Credential) -> Peer {
        self.join(Client { credential, only: None, ..self.admitted() })
    }

    /// The agent, with a coordination stream and its node announced.
    pub(crate) fn join_agent(&self) -> Peer {
        let mut peer = Peer::on(self.connect());
        peer.id = self.agent.0;
        peer.say(announce(200, 999, &own(self)));
        peer
    }
}

/// A peer with a coordination stream.
pub(crate) struct Peer {
    pub(crate) line: Agent,
    pub(crate) stream: u32,
    pub(crate) id: Uuid,
    heard: VecDeque<(Uuid, Kind, PeerUpdate)>,
}

impl Peer {
    fn on(mut line: Agent) -> Peer {
        let stream = line.invoke(COORDINATE);
        line.exchange();
        Peer { line, stream, id: Uuid::nil(), heard: VecDeque::new() }
    }

    pub(crate) fn say(&mut self, request: CoordinateRequest) {
        say(&mut self.line, self.stream, request);
    }

    /// The next update, waiting for it.
    pub(crate) fn hear(&mut self) -> (Uuid, Kind) {
        let (id, kind, _) = self.hear_all();
        (id, kind)
    }

    pub(crate) fn hear_all(&mut self) -> (Uuid, Kind, PeerUpdate) {
        while self.heard.is_empty() {
            let packet = self.line.next(self.stream);
            let Packet::Message(message) = packet else { panic!("{packet:?}") };
            let response = CoordinateResponse::decode(message.as_slice()).unwrap();
            assert_eq!(response.error, "");
            for update in response.peer_updates {
                self.heard.push_back((Uuid::from_slice(&update.id).unwrap(), update.kind(), update));
            }
        }
        self.heard.pop_front().unwrap()
    }

    /// Whether nothing is to be heard, now and after the letters that are there.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.line.line.letters();
        self.line.exchange();
        self.heard.is_empty() && self.line.packets.get(&self.stream).is_none_or(Vec::is_empty)
    }

    /// The error that ends the stream.
    pub(crate) fn refused(&mut self) -> String {
        let text = error(self.line.next(self.stream));
        assert_eq!(self.line.next(self.stream), Packet::Close);
        text
    }

    /// Handles letters until `check` gives something.
    pub(crate) fn until<T>(&mut self, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = check() {
                return found;
            }
            assert!(start.elapsed() < SOON, "waited in vain: {what}");
            self.line.line.letters();
            self.line.exchange();
            std::thread::yield_now();
        }
    }
}
