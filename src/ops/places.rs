//! Places that parties share: how many of something one party has at the same time, and all together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what is taken. Cloning gives another handle to the same count.
#[derive(Clone)]
pub struct Places {
    taken: Arc<Mutex<Taken>>,
    all: usize,
}

#[derive(Default)]
struct Taken {
    /// Only parties that have something, so there are never more entries than places.
    parties: HashMap<String, usize>,
    count: usize,
}

impl Places {
    /// `all` places, none of them taken.
    pub fn new(all: usize) -> Places {
        Places { taken: Arc::default(), all }
    }

    /// A place for `party`, which may have `most` at the same time; `None` when it has them, or when all
    /// places are taken.
    pub fn take(&self, party: &str, most: usize) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let has = taken.parties.get(party).copied().unwrap_or(0);
        if taken.count >= self.all || has >= most {
            return None;
        }
        taken.count += 1;
        taken.parties.insert(party.to_owned(), has + 1);
        drop(taken);
        Some(Place { places: self.clone(), party: party.to_owned() })
    }
}

/// A place; it is free again when this is dropped.
pub struct Place {
    places: Places,
    party: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.count = taken.count.saturating_sub(1);
        if let Some(has) = taken.parties.get_mut(&self.party) {
            *has = has.saturating_sub(1);
            if *has == 0 {
                taken.parties.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_no_more_than_a_party_and_all_may_have_and_takes_them_back() {
        let places = Places::new(3);
        let (first, second) = (places.take("a", 2), places.take("a", 2));
        assert!(first.is_some() && second.is_some() && places.take("a", 2).is_none());
        let third = places.take("b", 2);
        assert!(third.is_some() && places.take("c", 2).is_none(), "all are taken");
        drop(first);
        assert!(places.take("c", 2).is_some() && places.take("a", 2).is_some());
        drop((second, third));
        assert!(places.taken.lock().is_ok_and(|taken| taken.count == 0 && taken.parties.is_empty()));
    }
}
