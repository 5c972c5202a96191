//! What the frames of a client do.

use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

use super::{JITTER_MILLIS, KEEP_ALIVE, Peer};
use crate::model::NodeKey;
use crate::ops::metrics::relay::Drop as Cause;
use crate::ops::spare::Spare;
use crate::tailnet::derp::{Sent, Turn};
use crate::wire::derp::{self, Gone, Sink, TooLong, kind};

/// Pings answered of one read; a client has one under way.
const PONGS: u32 = 4;

/// Why a connection is ended in the middle of its bytes: a sentence.
pub(super) struct Fault(pub(super) String);

impl From<TooLong> for Fault {
    fn from(TooLong { kind, length }: TooLong) -> Fault {
        Fault(format!("A frame of kind {kind:#04x} claims {length} bytes."))
    }
}

/// One read's frames on their way to the switch.
pub(super) struct Frames<'a, 't> {
    peer: &'a mut Peer,
    turn: &'a mut Turn<'t>,
    /// What the client is told.
    control: &'a mut Vec<u8>,
    now: Instant,
    pongs: u32,
}

impl<'a, 't> Frames<'a, 't> {
    pub(super) fn new(
        peer: &'a mut Peer,
        turn: &'a mut Turn<'t>,
        control: &'a mut Vec<u8>,
        now: Instant,
    ) -> Frames<'a, 't> {
        Frames { peer, turn, control, now, pongs: 0 }
    }
}

impl Sink for Frames<'_, '_> {
    type Fault = Fault;

    fn spare(&mut self) -> &mut Spare {
        self.turn.spare()
    }

    fn most(&self, kind: u8) -> Option<usize> {
        match kind {
            kind::CLIENT_INFO => Some(derp::CLIENT_INFO_BYTES),
            // Whatever it is, it is no greeting.
            _ if self.peer.port.is_none() => Some(0),
            kind::SEND_PACKET => Some(derp::KEY_BYTES + derp::PACKET_BYTES),
            kind::PING => Some(derp::PING_BYTES),
            kind::NOTE_PREFERRED => Some(1),
            kind::WATCH_CONNS | kind::CLOSE_PEER | kind::FORWARD_PACKET => Some(0),
            _ => None,
        }
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), Fault> {
        let Some(port) = self.peer.port else { return self.greet(kind, payload) };
        match kind {
            kind::SEND_PACKET => {
                let Some((to, packet)) = payload.split_first_chunk::<{ derp::KEY_BYTES }>() else {
                    return Err(Fault("A packet has no destination.".into()));
                };
                let to = NodeKey(*to);
                if !self.peer.rate.allows(packet.len(), self.now) {
                    self.turn.dropped(Cause::Rate);
                } else if self.turn.send(port, &to, packet, self.now) == Sent::NotHere {
                    derp::peer_gone(&to, Gone::NotHere, self.control);
                }
                Ok(())
            }
            kind::PING => {
                let Some(data) = payload.first_chunk::<{ derp::PONG_BYTES }>() else {
                    return Err(Fault("A ping has fewer than eight bytes.".into()));
                };
                if self.pongs < PONGS {
                    self.pongs += 1;
                    derp::frame(kind::PONG, data, self.control);
                }
                Ok(())
            }
            kind::NOTE_PREFERRED => {
                let [home] = payload else {
                    return Err(Fault("A note about the home region is not one byte.".into()));
                };
                self.turn.prefer(port, *home != 0);
                Ok(())
            }
            kind::CLIENT_INFO => Err(Fault("A second greeting came.".into())),
            _ => Err(Fault("Meshes of relays are not served here.".into())),
        }
    }
}

impl Frames<'_, '_> {
    /// The first frame says who the client is, and proves it.
    fn greet(&mut self, kind: u8, payload: &[u8]) -> Result<(), Fault> {
        if kind != kind::CLIENT_INFO {
            return Err(Fault(format!("The first frame is of kind {kind:#04x}, which is no greeting.")));
        }
        let peer = &mut *self.peer;
        let client = peer.relay.secret().open(payload).map_err(|error| Fault(error.to_string()))?;
        let mut nonce = [0; 24];
        let random = SystemRandom::new().fill(&mut nonce);
        let (Ok(()), Some(address)) = (random, peer.address.clone()) else {
            return Err(Fault("The greeting cannot be answered.".into()));
        };
        let rate = &peer.rate;
        client.greeting.server_info(nonce, rate.bytes_per_second, rate.burst(), self.control);
        let spread = nonce.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        peer.keep_alive = self.now + KEEP_ALIVE + Duration::from_millis(spread % JITTER_MILLIS);
        peer.port = Some(self.turn.join(client.key, address, self.now));
        Ok(())
    }
}
