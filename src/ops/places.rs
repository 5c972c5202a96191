//! Bounded numbers of something per party: streams of a person, strangers of an address.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// How many places each party has taken. Holds only parties that have some. Cloning gives another handle
/// to the same table.
pub struct Places<Party: Eq + Hash> {
    taken: Arc<Mutex<HashMap<Party, usize>>>,
}

impl<Party: Eq + Hash> Clone for Places<Party> {
    fn clone(&self) -> Self {
        Places { taken: Arc::clone(&self.taken) }
    }
}

impl<Party: Eq + Hash> Default for Places<Party> {
    fn default() -> Self {
        Places { taken: Arc::default() }
    }
}

impl<Party: Eq + Hash + Clone> Places<Party> {
    /// Takes a place for `party`, unless it has `most` of them already.
    pub fn take(&self, party: Party, most: usize) -> Option<Place<Party>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.get(&party).copied().unwrap_or(0) >= most {
            return None;
        }
        *taken.entry(party.clone()).or_insert(0) += 1;
        Some(Place { party, places: self.clone() })
    }
}

/// A place; dropping it frees it.
pub struct Place<Party: Eq + Hash> {
    party: Party,
    places: Places<Party>,
}

impl<Party: Eq + Hash> Drop for Place<Party> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.party) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn refuses_beyond_the_most_of_one_party_and_forgets_who_has_none() {
        let places = Places::default();
        let first = places.take("a", 2).unwrap();
        let _second = places.take("a", 2).unwrap();
        assert!(places.take("a", 2).is_none());
        let other = places.take("b", 2).unwrap();
        drop(first);
        drop(other);
        assert!(places.take("a", 2).is_some());
        assert_eq!(places.taken.lock().unwrap().len(), 1);
    }
}
