//! Peers whose connection broke. They may come back, so their partners keep them and the relay serves their
//! keys; but when what they were admitted with is withdrawn meanwhile, there is no stream that could hear of
//! it. This is where it is heard: they are dropped, as those are who are there.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rusqlite::Connection;
use uuid::Uuid;

use super::credential::Credential;
use super::{Error, Shared};
use crate::model::{AgentId, Timestamp};
use crate::ops::hub::{Subscription, Topic};
use crate::store::agents;
use crate::tailnet::coordinator::{LOST_KEPT, LOST_PEERS};

/// What a peer was admitted with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pass {
    /// A person's client.
    Person(Credential),
    /// An agent.
    Agent {
        /// Which.
        id: AgentId,
        /// What is stored of its token.
        token_hash: Vec<u8>,
    },
}

impl Pass {
    /// What is told when it may have been withdrawn.
    fn topic(&self) -> Topic {
        match self {
            Pass::Person(credential) => Topic::UserRevoked(credential.user),
            Pass::Agent { id, .. } => Topic::AgentRevoked(*id),
        }
    }

    fn is_good(&self, conn: &Connection) -> Result<bool, Error> {
        Ok(match self {
            Pass::Person(credential) => credential.standing(conn, Timestamp::now())?.is_some(),
            Pass::Agent { id, token_hash } => {
                agents::by_id(conn, *id)?.is_some_and(|agent| agent.token_hash == *token_hash)
            }
        })
    }
}

#[derive(Default)]
struct Table {
    entries: HashMap<Uuid, Entry>,
    /// The same, longest away first.
    order: BTreeSet<(Instant, Uuid)>,
}

struct Entry {
    since: Instant,
    _revoked: Subscription,
}

impl Table {
    /// Adds a peer; gives what had to go for it, and those whose time is over.
    fn insert(&mut self, peer: Uuid, entry: Entry) -> Vec<Entry> {
        let now = entry.since;
        let mut over: Vec<Entry> = self.remove(peer).into_iter().collect();
        self.order.insert((now, peer));
        self.entries.insert(peer, entry);
        while let Some((since, oldest)) = self.order.first().copied()
            && (self.order.len() > LOST_PEERS || now.saturating_duration_since(since) >= LOST_KEPT)
        {
            over.extend(self.remove(oldest));
        }
        over
    }

    fn remove(&mut self, peer: Uuid) -> Option<Entry> {
        let entry = self.entries.remove(&peer)?;
        self.order.remove(&(entry.since, peer));
        Some(entry)
    }
}

/// The table of absent peers. The coordinator forgets them after [`LOST_KEPT`], and holds
/// [`LOST_PEERS`] of them, and so does this: about 300 bytes each, 3 MiB.
#[derive(Clone, Default)]
pub struct Absent {
    table: Arc<Mutex<Table>>,
}

impl Absent {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `peer`, which was admitted with `pass`, is gone without a goodbye.
    pub fn add(app: &Shared, peer: Uuid, pass: Pass) {
        let weak = Arc::downgrade(app);
        let asked = pass.clone();
        let heard = move || {
            if let Some(app) = weak.upgrade() {
                // Without room for a look it counts as withdrawn: a peer that still may comes in again.
                if !look(&app, peer, asked.clone()) {
                    withdraw(&app, peer);
                }
            }
        };
        let entry = Entry { since: Instant::now(), _revoked: app.hub.subscribe_call(pass.topic(), heard) };
        // Subscriptions end outside of the lock: that takes the hub's.
        let over = app.absent.lock().insert(peer, entry);
        drop(over);
        // What was withdrawn just before is noticed, too.
        look(app, peer, pass);
    }

    /// The peer has come back, or is gone for good. Says whether it was absent.
    pub fn remove(&self, peer: Uuid) -> bool {
        let entry = self.lock().remove(peer);
        entry.is_some()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().entries.len()
    }
}

/// Looks in the pool whether the peer may still come back; says whether there was room for that.
fn look(app: &Shared, peer: Uuid, pass: Pass) -> bool {
    let job_app = Arc::clone(app);
    let job = move || match job_app.store.read(|conn| pass.is_good(conn)) {
        Ok(true) => {}
        Ok(false) => withdraw(&job_app, peer),
        Err(error) => {
            log::warn!("the rights of an absent peer could not be looked at, so it is dropped: {error}");
            withdraw(&job_app, peer);
        }
    };
    app.jobs.try_submit(job).is_ok()
}

fn withdraw(app: &Shared, peer: Uuid) {
    if app.absent.remove(peer) {
        app.tailnet.drop_peer(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::hub::Hub;

    #[test]
    fn those_who_came_back_take_no_room() {
        let (hub, mut table) = (Hub::default(), Table::default());
        let entry = || Entry { since: Instant::now(), _revoked: hub.subscribe_call(Topic::DerpMap, || {}) };
        let first = Uuid::from_u128(0);
        assert!(table.insert(first, entry()).is_empty());
        for number in 1..=2 * LOST_PEERS {
            let peer = Uuid::from_u128(u128::try_from(number).unwrap_or(0));
            assert!(table.insert(peer, entry()).is_empty());
            assert!(table.remove(peer).is_some());
        }
        assert!(table.entries.contains_key(&first) && table.order.len() == 1);
        for number in 1..=LOST_PEERS {
            table.insert(Uuid::from_u128(u128::try_from(number).unwrap_or(0)), entry());
        }
        assert!(!table.entries.contains_key(&first), "the longest absent one had to go");
        assert_eq!((table.entries.len(), table.order.len()), (LOST_PEERS, LOST_PEERS));
    }
}
