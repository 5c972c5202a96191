//! One stream of a session: credit, what waits for it, and which sides have finished.

use std::collections::VecDeque;

use super::WINDOW;
use super::frame::{Header, Kind, flags};

/// State of one stream, about 80 bytes.
pub(super) struct Stream {
    pub(super) id: u32,
    /// Bytes that we may still send.
    send_credit: u32,
    /// Bytes that the peer may still send.
    receive_credit: u32,
    /// Bytes handed to the caller and consumed by it, not yet announced to the peer.
    returnable: u32,
    /// Bytes handed to the caller and not yet consumed by it.
    held: u32,
    /// Bytes to send when there is credit.
    queue: VecDeque<u8>,
    /// We finish as soon as the queue is empty.
    finishing: bool,
    /// Our FIN is sent; a second one would end the peer's session.
    finished: bool,
    pub(super) peer_finished: bool,
}

impl Stream {
    pub(super) fn new(id: u32) -> Self {
        Self {
            id,
            send_credit: WINDOW,
            receive_credit: WINDOW,
            returnable: 0,
            held: 0,
            queue: VecDeque::new(),
            finishing: false,
            finished: false,
            peer_finished: false,
        }
    }

    /// Whether both sides have finished, so that the stream is forgotten.
    pub(super) fn is_over(&self) -> bool {
        self.finished && self.peer_finished
    }

    pub(super) fn held(&self) -> u32 {
        self.held
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Queues bytes and sends what credit allows.
    pub(super) fn send(&mut self, bytes: &[u8], output: &mut Vec<u8>) {
        if self.finishing {
            return;
        }
        let mut rest = bytes;
        if self.queue.is_empty() {
            // The usual case: there is credit, and nothing is copied twice.
            let now = usize::try_from(self.send_credit).unwrap_or(usize::MAX).min(bytes.len());
            let (head, tail) = bytes.split_at_checked(now).unwrap_or((bytes, &[]));
            self.frame(head, &[], output);
            rest = tail;
        }
        self.queue.extend(rest);
    }

    /// Sends FIN once the queue is empty.
    pub(super) fn finish(&mut self, output: &mut Vec<u8>) {
        self.finishing = true;
        self.finish_if_drained(output);
    }

    /// More credit from the peer; `false` if it exceeds what 32 bits hold.
    pub(super) fn credit(&mut self, delta: u32, output: &mut Vec<u8>) -> bool {
        let Some(credit) = self.send_credit.checked_add(delta) else { return false };
        self.send_credit = credit;
        let now = usize::try_from(credit).unwrap_or(usize::MAX).min(self.queue.len());
        if now > 0 {
            let mut queue = std::mem::take(&mut self.queue);
            let (front, back) = queue.as_slices();
            let (head, _) = front.split_at_checked(now).unwrap_or((front, &[]));
            let (tail, _) = back.split_at_checked(now - head.len()).unwrap_or((back, &[]));
            self.frame(head, tail, output);
            queue.drain(..now);
            if !queue.is_empty() {
                self.queue = queue; // an emptied queue gives its memory back
            }
        }
        self.finish_if_drained(output);
        true
    }

    /// The peer announces `length` bytes; `false` if it may not send that many.
    pub(super) fn announce(&mut self, length: u32) -> bool {
        match self.receive_credit.checked_sub(length) {
            Some(left) => {
                self.receive_credit = left;
                true
            }
            None => false,
        }
    }

    /// `count` announced bytes were handed to the caller.
    pub(super) fn deliver(&mut self, count: u32) {
        self.held += count;
    }

    /// The caller is done with up to `count` bytes; says how many it had.
    pub(super) fn consume(&mut self, count: usize, output: &mut Vec<u8>) -> u32 {
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(self.held);
        self.held -= count;
        self.returnable += count;
        // Half a window at a time, as the Go side does: fewer frames, and the peer never runs dry.
        if self.returnable >= WINDOW / 2 && !self.peer_finished {
            let length = std::mem::take(&mut self.returnable);
            self.receive_credit += length;
            Header { kind: Kind::WindowUpdate, flags: 0, stream: self.id, length }.encode(output);
        }
        count
    }

    /// Writes a frame of `head` followed by `tail`, and pays for it.
    fn frame(&mut self, head: &[u8], tail: &[u8], output: &mut Vec<u8>) {
        let Ok(length) = u32::try_from(head.len() + tail.len()) else { return };
        if length == 0 {
            return;
        }
        self.send_credit -= length;
        output.reserve(super::frame::HEADER_BYTES + head.len() + tail.len());
        Header { kind: Kind::Data, flags: 0, stream: self.id, length }.encode(output);
        output.extend_from_slice(head);
        output.extend_from_slice(tail);
    }

    fn finish_if_drained(&mut self, output: &mut Vec<u8>) {
        if self.finishing && !self.finished && self.queue.is_empty() {
            self.finished = true;
            Header { kind: Kind::WindowUpdate, flags: flags::FIN, stream: self.id, length: 0 }.encode(output);
        }
    }
}
