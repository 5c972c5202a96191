//! Mail to a socket: how other threads reach the event loop that owns it.
//!
//! A socket lives on one loop from accept to close, so its state needs no lock. Whoever has
//! something for it posts mail; the loop hands it to the socket's stream in its next round.

use std::any::Any;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use mio::Waker;

use super::hub::Topic;

/// Letters that one loop keeps for all its sockets before a poster must wait. A loop never blocks,
/// so a full queue drains within a round. About 100 bytes each: 1.6 MiB per loop at most.
pub const MAILBOX_LETTERS: usize = 16_384;

/// One socket of one loop. The generation tells a slot's present owner from its former ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnId {
    /// Index of the slot within its loop.
    pub slot: u32,
    /// Counts the owners of the slot.
    pub generation: u32,
}

/// What can be told to a stream.
#[derive(Debug)]
pub enum Mail {
    /// A topic that the stream subscribed to has changed; coalesced, so look at the present state.
    Changed(Topic),
    /// The result of work that the stream asked for. `tag` is the stream's own mark of that work.
    Done {
        /// The mark that the stream gave with the work.
        tag: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// A newer stream, perhaps of another connection, has taken the place of the one that this stream
    /// marked with `tag`.
    Superseded {
        /// The mark.
        tag: u64,
    },
    /// Something waits for this stream: at the coordinator, for the seat that it marked with `tag`, or at
    /// the relay. One letter is in flight at most.
    Inbox {
        /// The mark.
        tag: u64,
    },
    /// End now, with this WebSocket close code and reason.
    Close {
        /// RFC 6455 close code.
        code: u16,
        /// Shown in the peer's log; cut to 123 bytes.
        reason: &'static str,
    },
}

/// The result of work done for a stream.
#[derive(Debug)]
pub enum Outcome {
    /// Encoded bytes, ready to be framed.
    Bytes(Vec<u8>),
    /// What the stream asked for, of a type that only it and its job know.
    Value(Box<dyn Any + Send>),
    /// Nothing was done, because something that will pass stands in the way: try again after this long.
    Busy(Duration),
    /// The work failed; `code` as DRPC knows it (12: unimplemented, 0: anything else).
    Failed {
        /// DRPC error code.
        code: u64,
        /// Text for the peer.
        text: String,
    },
}

/// Where the mail of one loop is posted.
#[derive(Clone)]
pub struct Mailbox {
    sender: SyncSender<(ConnId, Mail)>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// A mailbox over the loop's queue and its waker.
    pub fn new(sender: SyncSender<(ConnId, Mail)>, waker: Arc<Waker>) -> Self {
        Self { sender, waker }
    }

    /// Posts and waits while the queue is full. Never call it on a loop.
    /// A loop that has ended drops its mail: its sockets are closed.
    pub fn post(&self, to: ConnId, mail: Mail) {
        if self.sender.send((to, mail)).is_ok() {
            self.wake();
        }
    }

    /// Posts unless the queue is full; says whether it was posted. For callers that may not wait.
    pub fn try_post(&self, to: ConnId, mail: Mail) -> bool {
        match self.sender.try_send((to, mail)) {
            Ok(()) => {
                self.wake();
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("a loop cannot be woken: {error}");
        }
    }
}

/// Where one stream is reached.
#[derive(Clone)]
pub struct Address {
    /// Its loop.
    pub mailbox: Mailbox,
    /// Its socket there.
    pub conn: ConnId,
}

impl Address {
    /// See [`Mailbox::post`].
    pub fn post(&self, mail: Mail) {
        self.mailbox.post(self.conn, mail);
    }

    /// See [`Mailbox::try_post`].
    pub fn try_post(&self, mail: Mail) -> bool {
        self.mailbox.try_post(self.conn, mail)
    }

    /// Whether both are sockets of the same loop.
    pub fn is_neighbour(&self, other: &Address) -> bool {
        Arc::ptr_eq(&self.mailbox.waker, &other.mailbox.waker)
    }

    /// Whether both are the same socket of the same loop.
    pub fn is(&self, other: &Address) -> bool {
        self.conn == other.conn && self.is_neighbour(other)
    }
}
