//! Packets that wait for a connection: frames one behind the other in one buffer, the oldest dropped
//! when there are too many.

use crate::config::limits::{RELAY_QUEUE_BYTES, RELAY_QUEUE_PACKETS};
use crate::model::NodeKey;
use crate::ops::spare::Spare;
use crate::wire::derp::{HEAD_BYTES, peek, recv_packet};

/// One class of packets of one connection.
#[derive(Default)]
pub(super) struct Queue {
    /// Whole frames from `start` on; without memory while empty.
    frames: Vec<u8>,
    start: usize,
    packets: usize,
}

impl Queue {
    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.frames.len() - self.start
    }

    /// Adds a packet; says how many older ones had to go for it. There is room for `share` times as much as
    /// a connection usually has.
    pub(super) fn push(&mut self, source: &NodeKey, packet: &[u8], share: usize, spare: &mut Spare) -> u64 {
        let mut dropped = 0;
        let (packets, bytes) = (share * RELAY_QUEUE_PACKETS, share * RELAY_QUEUE_BYTES);
        if self.packets >= packets || self.bytes() + packet.len() > bytes {
            while self.packets > 0 && (self.packets >= packets || self.bytes() + packet.len() > bytes) {
                self.drop_oldest();
                dropped += 1;
            }
            if self.start > self.frames.len() / 2 {
                self.frames.drain(..self.start);
                self.start = 0;
            }
        }
        if self.frames.capacity() == 0 {
            self.frames = spare.take();
        }
        recv_packet(source, packet, &mut self.frames);
        self.packets += 1;
        dropped
    }

    fn drop_oldest(&mut self) {
        let waiting = self.frames.get(self.start..).unwrap_or_default();
        let length = peek(waiting).map_or(waiting.len(), |(_, length)| HEAD_BYTES + length);
        self.start += length.min(waiting.len());
        self.packets -= 1;
    }

    /// Moves everything behind what is in `out`; says how many packets that were. An empty `out` is
    /// exchanged for the buffer itself.
    pub(super) fn take(&mut self, out: &mut Vec<u8>, spare: &mut Spare) -> usize {
        if self.packets == 0 {
            return 0;
        }
        let mut frames = std::mem::take(&mut self.frames);
        if out.is_empty() && self.start == 0 {
            std::mem::swap(out, &mut frames);
        } else {
            out.extend_from_slice(frames.get(self.start..).unwrap_or_default());
        }
        spare.give(frames);
        self.start = 0;
        std::mem::take(&mut self.packets)
    }

    /// Forgets everything.
    pub(super) fn end(&mut self, spare: &mut Spare) {
        spare.give(std::mem::take(&mut self.frames));
        self.start = 0;
        self.packets = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn drops_the_oldest_when_full() {
        let (mut queue, mut spare, mut out) = (Queue::default(), Spare::default(), Vec::new());
        let mut dropped = 0;
        for number in 0..RELAY_QUEUE_PACKETS + 3 {
            dropped += queue.push(&NodeKey([7; 32]), &number.to_be_bytes(), 1, &mut spare);
        }
        assert_eq!(dropped, 3);
        assert_eq!(queue.take(&mut out, &mut spare), RELAY_QUEUE_PACKETS);
        assert_eq!(out.len(), RELAY_QUEUE_PACKETS * (HEAD_BYTES + 32 + 8));
        assert_eq!(out[HEAD_BYTES + 32..][..8], 3_usize.to_be_bytes());
        assert_eq!((queue.take(&mut out, &mut spare), queue.bytes()), (0, 0));
    }

    #[test]
    fn is_bounded_in_bytes() {
        let (mut queue, mut spare) = (Queue::default(), Spare::default());
        for _ in 0..100 {
            queue.push(&NodeKey([7; 32]), &[0; 65_536], 1, &mut spare);
            assert!(queue.bytes() <= RELAY_QUEUE_BYTES + HEAD_BYTES + 32 + 65_536);
        }
        assert!(queue.frames.len() <= 2 * RELAY_QUEUE_BYTES + 200_000);
    }
}
