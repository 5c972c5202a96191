//! Coordinate on an agent's connection: its node is taken and shown to those who ask. Whom it may see
//! is the coordinator's business, which is not there yet, so it is told of nobody.

use prost::Message;

use crate::model::AgentId;
use crate::tailnet::admission;
use crate::tailnet::nodes::{NodeInfo, Nodes, Peer};
use crate::wire::proto::tailnet::{CoordinateRequest, CoordinateResponse};

/// What a stream is told when the same agent opens a newer one (tailnet/coordinator.go, v2.24.0).
pub(super) const OVERWRITTEN: &str = "peer ID overwritten by new connection";

/// What follows from a request.
#[derive(PartialEq, Debug)]
pub(super) enum Verdict {
    /// These messages, and on it goes.
    Answer(Vec<Vec<u8>>),
    /// This error, if there is one, and the end of the stream.
    Close(Option<Vec<u8>>),
    /// The request is not the protobuf message that it should be.
    Broken(String),
}

/// A message with an error text, which its receiver only logs.
pub(super) fn error(text: impl Into<String>) -> Vec<u8> {
    CoordinateResponse { error: text.into(), ..CoordinateResponse::default() }.encode_to_vec()
}

/// Handles a request in the order of the real server: the whole is authorised, then the node, the
/// tunnels, the goodbye, the handshakes (tailnet/coordinator.go handleRequest, v2.24.0).
pub(super) fn request(nodes: &Nodes, agent: AgentId, peer: &Peer, body: &[u8]) -> Verdict {
    let request = match CoordinateRequest::decode(body) {
        Ok(request) => request,
        Err(error) => return Verdict::Broken(format!("The request is no CoordinateRequest: {error}")),
    };
    if let Err(text) = admission::agent(agent, &request) {
        return Verdict::Close(Some(error(format!("authorization: {text}"))));
    }
    if let Some(node) = request.update_self.and_then(|update| update.node) {
        let info = NodeInfo { preferred_derp: node.preferred_derp, derp_latency: node.derp_latency };
        nodes.announce(agent, peer, info);
    }
    // A tunnel that does not exist is easily removed.
    if let Some(tunnel) = request.remove_tunnel
        && let Err(text) = peer_id(&tunnel.id)
    {
        return Verdict::Broken(text);
    }
    if request.disconnect.is_some() {
        return Verdict::Close(None);
    }
    let mut answers = Vec::new();
    for ready in request.ready_for_handshake {
        match peer_id(&ready.id) {
            // Nobody shares a tunnel with the agent. Races make this error an ordinary one.
            Ok(id) => answers
                .push(error(format!("ready for handshake error: you do not share a tunnel with {:?}", id.to_string()))),
            Err(text) => return Verdict::Broken(text),
        }
    }
    Verdict::Answer(answers)
}

fn peer_id(bytes: &[u8]) -> Result<AgentId, String> {
    AgentId::from_slice(bytes).ok_or_else(|| format!("A peer's id has 16 bytes, not {}.", bytes.len()))
}
