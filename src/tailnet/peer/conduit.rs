//! A connection to a port of an agent, as its user holds it, and the bytes between the user and the peer's
//! thread.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};

use super::door::Door;
use crate::ops::lock::lock;

/// Bytes from the agent that wait for the user, per connection. Beyond it the agent's own writes wait.
const FROM_AGENT_BYTES: usize = 64 * 1024;
/// Bytes that wait for the agent, per connection.
const TO_AGENT_BYTES: usize = 32 * 1024;
/// Memory that an empty buffer keeps.
const KEPT_BYTES: usize = 1024;

/// Tells the user to look; says whether the word arrived. Called on the peer's thread, so it never waits.
pub type Notify = Box<dyn Fn() -> bool + Send + Sync>;

/// How a connection is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// The agent has not answered yet.
    Dialing,
    /// Bytes pass.
    Open,
    /// The agent has closed it, after all of its bytes.
    Closed,
    /// It has failed; the text is for the user.
    Failed(String),
}

/// The user's end. Dropping it closes the connection.
pub struct Conduit {
    pipe: Arc<Pipe>,
    door: Door,
}

impl Conduit {
    pub(super) fn new(pipe: Arc<Pipe>, door: Door) -> Conduit {
        Conduit { pipe, door }
    }

    /// Appends all that has come from the agent; says how the connection is after that. The user is told
    /// when there is more.
    pub fn read(&mut self, out: &mut Vec<u8>) -> State {
        let (state, poke) = {
            let mut inner = self.pipe.lock();
            inner.told = false;
            out.extend_from_slice(&inner.from_agent);
            inner.from_agent.clear();
            inner.from_agent.shrink_to(KEPT_BYTES);
            let starved = std::mem::take(&mut inner.starved);
            (inner.state.clone(), starved && !std::mem::replace(&mut inner.poked, true))
        };
        if poke {
            self.door.poke(self.pipe.id);
        }
        state
    }

    /// Takes bytes for the agent; says how many. The user is told when there is room for the rest.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let (taken, poke) = {
            let mut inner = self.pipe.lock();
            let room = TO_AGENT_BYTES.saturating_sub(inner.to_agent.len());
            let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
            inner.to_agent.extend_from_slice(taken);
            inner.full = taken.len() < bytes.len();
            // Who leaves bytes unread for a while has been told of them, and must be told of room all the same.
            inner.told &= !inner.full;
            (taken.len(), !taken.is_empty() && !std::mem::replace(&mut inner.poked, true))
        };
        if poke {
            self.door.poke(self.pipe.id);
        }
        taken
    }
}

impl Drop for Conduit {
    fn drop(&mut self) {
        let poke = {
            let mut inner = self.pipe.lock();
            inner.left = true;
            !std::mem::replace(&mut inner.poked, true)
        };
        if poke {
            self.door.poke(self.pipe.id);
        }
    }
}

/// The thread's end. Dropping it ends the connection, whatever became of whoever held it: nobody waits for
/// what does not come.
pub(super) struct End(Arc<Pipe>);

impl End {
    pub(super) fn of(pipe: &Arc<Pipe>) -> End {
        End(Arc::clone(pipe))
    }
}

impl Deref for End {
    type Target = Pipe;

    fn deref(&self) -> &Pipe {
        &self.0
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.end(Some("the server's own peer has stopped".into()));
    }
}

/// What both ends share.
pub(super) struct Pipe {
    pub(super) id: u64,
    inner: Mutex<Inner>,
    notify: Notify,
}

struct Inner {
    state: State,
    from_agent: Vec<u8>,
    to_agent: Vec<u8>,
    /// The user was told to look and has not done so.
    told: bool,
    /// The thread was told to look and has not done so.
    poked: bool,
    /// The thread has more than there was room for.
    starved: bool,
    /// The user has more than there was room for.
    full: bool,
    /// The user is gone.
    left: bool,
}

impl Pipe {
    /// `first` goes to the agent before anything else.
    pub(super) fn new(id: u64, first: Vec<u8>, notify: Notify) -> Pipe {
        let inner = Inner {
            state: State::Dialing,
            from_agent: Vec::new(),
            to_agent: first,
            told: false,
            poked: false,
            starved: false,
            full: false,
            left: false,
        };
        Pipe { id, inner: Mutex::new(inner), notify }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Tells the user, unless it was told already. A word that does not arrive is tried again with the next.
    fn tell(&self, mut inner: MutexGuard<'_, Inner>) {
        if inner.told || inner.left {
            return;
        }
        inner.told = true;
        drop(inner);
        if !(self.notify)() {
            self.lock().told = false;
        }
    }

    /// Looks at what the user did; says whether it is still there.
    pub(super) fn look(&self) -> bool {
        let mut inner = self.lock();
        inner.poked = false;
        !inner.left
    }

    /// The agent has answered.
    pub(super) fn opened(&self) {
        let mut inner = self.lock();
        inner.state = State::Open;
        self.tell(inner);
    }

    /// It is over; `failure` says why, unless that was the agent's wish.
    pub(super) fn end(&self, failure: Option<String>) {
        let mut inner = self.lock();
        if matches!(inner.state, State::Dialing | State::Open) {
            inner.state = failure.map_or(State::Closed, State::Failed);
            inner.to_agent = Vec::new();
            self.tell(inner);
        }
    }

    /// Lets `fill` append as many bytes from the agent as there is room for; `more` says afterwards whether
    /// any are left behind.
    pub(super) fn give(&self, fill: impl FnOnce(usize, &mut Vec<u8>) -> bool) {
        let mut inner = self.lock();
        let before = inner.from_agent.len();
        let room = FROM_AGENT_BYTES.saturating_sub(before);
        inner.starved = fill(room, &mut inner.from_agent);
        if inner.from_agent.len() > before {
            self.tell(inner);
        }
    }

    /// Whether nothing waits for the agent.
    pub(super) fn is_drained(&self) -> bool {
        self.lock().to_agent.is_empty()
    }

    /// Lets `drain` look at the bytes for the agent and say how many it took.
    pub(super) fn take(&self, drain: impl FnOnce(&[u8]) -> usize) {
        let mut inner = self.lock();
        if inner.to_agent.is_empty() {
            return;
        }
        let taken = drain(&inner.to_agent).min(inner.to_agent.len());
        inner.to_agent.drain(..taken);
        if inner.to_agent.is_empty() {
            inner.to_agent.shrink_to(KEPT_BYTES);
        }
        if taken > 0 && std::mem::take(&mut inner.full) {
            self.tell(inner);
        }
    }
}
