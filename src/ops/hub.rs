//! Topics: who wants to know when something in the store has changed.
//!
//! The writer publishes after the commit, so a reader that is told finds the change in the file.
//! A subscription has one letter in flight at most; further changes fold into it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::mail::{Address, Mail};
use crate::model::{AgentId, UserId, WorkspaceId};

/// Something that can change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    /// New log lines of an agent.
    AgentLogs(AgentId),
    /// Metadata values of an agent.
    AgentMetadata(AgentId),
    /// Connection, lifecycle, start-up report or app health of an agent.
    Agent(AgentId),
    /// The agent's token or declaration was withdrawn: end its connections.
    AgentRevoked(AgentId),
    /// A workspace or anything in it.
    Workspace(WorkspaceId),
    /// Which workspaces and agents a user has, and their names.
    WorkspacesOf(UserId),
    /// A user was suspended or removed, or one of their tokens was revoked.
    UserRevoked(UserId),
    /// What a person has signed in to at external providers.
    ExternalAuth(UserId),
    /// The relay map.
    DerpMap,
}

struct Entry {
    topic: Topic,
    listener: Listener,
    pending: AtomicBool,
}

enum Listener {
    /// A stream gets mail.
    Stream(Address),
    /// Something that is no stream is called.
    Call(Box<dyn Fn() + Send + Sync>),
}

/// Holds a subscription; dropping it ends it.
pub struct Subscription {
    entry: Arc<Entry>,
    hub: Weak<Mutex<HashMap<Topic, Vec<Arc<Entry>>>>>,
}

impl Subscription {
    /// To be called by the subscriber before it looks at the state: later changes make a new letter.
    pub fn acknowledge(&self) {
        self.entry.pending.store(false, Ordering::Release);
    }

    /// What is subscribed to.
    pub fn topic(&self) -> Topic {
        self.entry.topic
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(hub) = self.hub.upgrade() else { return };
        let mut topics = hub.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entries) = topics.get_mut(&self.entry.topic) {
            entries.retain(|entry| !Arc::ptr_eq(entry, &self.entry));
            if entries.is_empty() {
                topics.remove(&self.entry.topic);
            }
        }
    }
}

/// The table of subscriptions. Cloning gives another handle to the same table.
#[derive(Clone, Default)]
pub struct Hub {
    topics: Arc<Mutex<HashMap<Topic, Vec<Arc<Entry>>>>>,
}

impl Hub {
    /// Subscribes a stream: it gets [`Mail::Changed`] after each publication.
    pub fn subscribe(&self, topic: Topic, address: Address) -> Subscription {
        self.listen(topic, Listener::Stream(address))
    }

    /// Has `call` run after each publication, on the thread that publishes: it must be quick and never
    /// wait. For what has no stream.
    pub fn subscribe_call(&self, topic: Topic, call: impl Fn() + Send + Sync + 'static) -> Subscription {
        self.listen(topic, Listener::Call(Box::new(call)))
    }

    fn listen(&self, topic: Topic, listener: Listener) -> Subscription {
        let entry = Arc::new(Entry { topic, listener, pending: AtomicBool::new(false) });
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.entry(topic).or_default().push(Arc::clone(&entry));
        Subscription { entry, hub: Arc::downgrade(&self.topics) }
    }

    /// Tells every subscriber of `topic` that has no letter in flight yet.
    pub fn publish(&self, topic: Topic) {
        let due: Vec<Arc<Entry>> = {
            let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
            match topics.get(&topic) {
                None => return,
                Some(entries) => {
                    let due = |entry: &&Arc<Entry>| match entry.listener {
                        Listener::Stream(_) => !entry.pending.swap(true, Ordering::AcqRel),
                        Listener::Call(_) => true,
                    };
                    entries.iter().filter(due).map(Arc::clone).collect()
                }
            }
        };
        for entry in due {
            match &entry.listener {
                Listener::Stream(address) => address.post(Mail::Changed(topic)),
                Listener::Call(call) => call(),
            }
        }
    }
}
