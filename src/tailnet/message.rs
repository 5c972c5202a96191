//! The messages that a peer gets from the coordinator.

use prost::Message;
use uuid::Uuid;

use crate::wire::proto::tailnet::CoordinateResponse;
use crate::wire::proto::tailnet::Node;
use crate::wire::proto::tailnet::coordinate_response::PeerUpdate;
use crate::wire::proto::tailnet::coordinate_response::peer_update::Kind;

/// Bytes of updates in one message, give or take one update. Receivers take 4 MiB in one message
/// (storj.io/drpc v0.0.33), and a batch of any size below that.
const BATCH_BYTES: usize = 256 * 1024;

/// What is told about `peer`.
pub(super) fn update(peer: Uuid, kind: Kind, node: Option<&Node>, reason: &str) -> PeerUpdate {
    PeerUpdate { id: peer.as_bytes().to_vec(), node: node.cloned(), kind: kind.into(), reason: reason.into() }
}

/// The answer to an agent that is ready for a peer with which it shares no tunnel. The beginning of the
/// text makes the receiver log it as a warning (tailnet/controllers.go, v2.24.0).
pub(super) fn not_shared(with: Uuid) -> CoordinateResponse {
    let error = format!("ready for handshake error: you do not share a tunnel with \"{with}\"");
    CoordinateResponse { error, ..CoordinateResponse::default() }
}

/// Puts updates into as few messages as their sizes allow, in order.
pub(super) fn batches(updates: Vec<PeerUpdate>) -> Vec<CoordinateResponse> {
    let mut messages = Vec::new();
    let (mut batch, mut bytes) = (CoordinateResponse::default(), 0);
    for update in updates {
        bytes += update.encoded_len();
        batch.peer_updates.push(update);
        if bytes >= BATCH_BYTES {
            messages.push(std::mem::take(&mut batch));
            bytes = 0;
        }
    }
    if !batch.peer_updates.is_empty() {
        messages.push(batch);
    }
    messages
}
