//! How users reach the peer's thread.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use mio::Waker;

use super::conduit::End;
use crate::model::AgentId;

/// What a user asks of the thread. There are no more than there are connections, or requests for one.
pub(super) enum Order {
    /// A connection to a port of an agent.
    Dial(Dial),
    /// The user of a connection has done something.
    Poke(u64),
    /// The server stops.
    Stop,
}

/// See [`Peer::dial`](super::Peer::dial).
pub(super) struct Dial {
    pub(super) agent: AgentId,
    pub(super) port: u16,
    pub(super) within: Within,
    pub(super) pipe: End,
}

/// Until when a connection must be something.
#[derive(Clone, Copy, Debug)]
pub struct Within {
    /// Open.
    pub open: Instant,
    /// Over, if ever.
    pub over: Option<Instant>,
}

/// Cloning gives another handle to the same thread.
#[derive(Clone)]
pub(super) struct Door {
    orders: Sender<Order>,
    waker: Arc<Waker>,
}

impl Door {
    pub(super) fn new(waker: Arc<Waker>) -> (Door, Receiver<Order>) {
        let (orders, receiver) = channel();
        (Door { orders, waker }, receiver)
    }

    /// An order to a thread that is not there is dropped.
    pub(super) fn order(&self, order: Order) {
        let sent = self.orders.send(order).is_ok();
        if sent && let Err(error) = self.waker.wake() {
            log::error!("the tailnet's own peer cannot be woken: {error}");
        }
    }

    pub(super) fn poke(&self, id: u64) {
        self.order(Order::Poke(id));
    }
}
