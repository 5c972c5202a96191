//! How many of something each party has at present, with a limit for each.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts by party. Cloning gives another handle to the same counts.
pub struct Places<K> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// One of a party's places; it is given back when dropped.
pub struct Place<K: Eq + Hash> {
    party: K,
    places: Places<K>,
}

impl<K> Default for Places<K> {
    fn default() -> Places<K> {
        Places { taken: Arc::default() }
    }
}

impl<K> Clone for Places<K> {
    fn clone(&self) -> Places<K> {
        Places { taken: Arc::clone(&self.taken) }
    }
}

impl<K> Places<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// A place for `party`, unless it has `most` already.
    pub fn take(&self, party: K, most: usize) -> Option<Place<K>> {
        let mut taken = self.lock();
        let count = taken.get(&party).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        taken.insert(party.clone(), count + 1);
        Some(Place { party, places: self.clone() })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(count) = taken.get_mut(&self.party) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_when_dropped() {
        let places = Places::default();
        let first = places.take("a", 2);
        let second = places.take("a", 2);
        assert!(first.is_some() && second.is_some() && places.take("a", 2).is_none());
        assert!(places.take("b", 2).is_some());
        drop(first);
        assert!(places.take("a", 2).is_some());
        drop(second);
        assert!(places.lock().is_empty());
    }
}
