//! Clients whose connection broke. They may come back, so agents keep their tunnels; but when what they
//! were admitted with is withdrawn meanwhile, there is no stream that could hear of it. This is where it is
//! heard: the agents are told to drop them, as for those who are there.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use uuid::Uuid;

use super::Shared;
use super::credential::Credential;
use crate::model::Timestamp;
use crate::ops::hub::{Subscription, Topic};
use crate::tailnet::coordinator::{LOST_KEPT, LOST_PEERS};

#[derive(Default)]
struct Table {
    entries: HashMap<Uuid, Entry>,
    /// Those that are or were in `entries`, longest away first.
    order: VecDeque<(Instant, Uuid)>,
}

struct Entry {
    since: Instant,
    _revoked: Subscription,
}

/// The table of absent clients. The coordinator forgets them after [`LOST_KEPT`], and holds
/// [`LOST_PEERS`] of them, and so does this: about 300 bytes each, 3 MiB in all.
#[derive(Clone, Default)]
pub struct Absent {
    table: Arc<Mutex<Table>>,
}

impl Absent {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client `peer` is gone without a goodbye.
    pub fn add(app: &Shared, peer: Uuid, credential: Credential) {
        let weak = Arc::downgrade(app);
        let asked = credential.clone();
        let heard = move || {
            if let Some(app) = weak.upgrade() {
                // Without room for a look it counts as withdrawn: a client that still may comes in again.
                if !look(&app, peer, asked.clone()) {
                    withdraw(&app, peer);
                }
            }
        };
        let since = Instant::now();
        let revoked = app.hub.subscribe_call(Topic::UserRevoked(credential.user), heard);
        // Subscriptions end outside of the lock: that takes the hub's.
        let mut over = Vec::new();
        let mut table = app.absent.lock();
        over.extend(table.entries.insert(peer, Entry { since, _revoked: revoked }));
        table.order.push_back((since, peer));
        while let Some((at, oldest)) = table.order.front().copied()
            && (table.order.len() > LOST_PEERS || since.saturating_duration_since(at) >= LOST_KEPT)
        {
            table.order.pop_front();
            if table.entries.get(&oldest).is_some_and(|entry| entry.since == at) {
                over.extend(table.entries.remove(&oldest));
            }
        }
        drop(table);
        drop(over);
        // What was withdrawn just before is noticed, too.
        look(app, peer, credential);
    }

    /// The client has come back, or is gone for good. Says whether it was absent.
    pub fn remove(&self, peer: Uuid) -> bool {
        let entry = self.lock().entries.remove(&peer);
        entry.is_some()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().entries.len()
    }
}

/// Looks in the pool whether the client may still come back; says whether there was room for that.
fn look(app: &Shared, peer: Uuid, credential: Credential) -> bool {
    let job_app = Arc::clone(app);
    let job = move || match job_app.store.read(|conn| credential.standing(conn, Timestamp::now())) {
        Ok(Some(_)) => {}
        Ok(None) => withdraw(&job_app, peer),
        Err(error) => {
            log::warn!("the session of an absent client could not be looked at, so it is dropped: {error}");
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
