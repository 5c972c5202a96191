//! The connections of one loop, by slot and generation.

use mio::Token;

use crate::ops::mail::ConnId;

/// Generations count in 31 bits, so that a token's top bit tells connections from everything else.
const GENERATIONS: u32 = 0x7FFF_FFFF;
const _: () = assert!(usize::BITS == 64, "a token holds a slot and a generation");

struct Entry<T> {
    generation: u32,
    value: Option<Box<T>>,
}

/// Slots that are reused; a [`ConnId`] of a former owner finds nothing.
pub(super) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab { entries: Vec::new(), free: Vec::new() }
    }

    /// How many slots are owned.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Reserves a slot; its owner is put in by [`Slab::put`].
    pub(super) fn reserve(&mut self) -> ConnId {
        if let Some(slot) = self.free.pop() {
            let generation = self.entry(slot).map_or(0, |entry| entry.generation);
            return ConnId { slot, generation };
        }
        // The connection limit is far below 2^32.
        let slot = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push(Entry { generation: 0, value: None });
        ConnId { slot, generation: 0 }
    }

    /// Takes the owner out to work with it; it goes back by [`Slab::put`] or ends by [`Slab::free`].
    pub(super) fn take(&mut self, id: ConnId) -> Option<Box<T>> {
        self.entry(id.slot).filter(|entry| entry.generation == id.generation)?.value.take()
    }

    /// Puts an owner in.
    pub(super) fn put(&mut self, id: ConnId, value: Box<T>) {
        if let Some(entry) = self.entry(id.slot) {
            entry.value = Some(value);
        }
    }

    /// Gives the slot of a taken owner free.
    pub(super) fn free(&mut self, id: ConnId) {
        if let Some(entry) = self.entry(id.slot) {
            entry.generation = (entry.generation + 1) & GENERATIONS;
            entry.value = None;
            self.free.push(id.slot);
        }
    }

    /// All owned slots.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        let owned = (0u32..).zip(&self.entries).filter(|(_, entry)| entry.value.is_some());
        owned.map(|(slot, entry)| ConnId { slot, generation: entry.generation }).collect()
    }

    fn entry(&mut self, slot: u32) -> Option<&mut Entry<T>> {
        self.entries.get_mut(usize::try_from(slot).ok()?)
    }
}

/// The token under which a connection is registered.
pub(super) fn token(id: ConnId) -> Token {
    let bits = (u64::from(id.generation) << 32) | u64::from(id.slot);
    Token(usize::try_from(bits).unwrap_or(usize::MAX))
}

/// The connection of a token; `None` if it is not one's.
pub(super) fn conn_of(token: Token) -> Option<ConnId> {
    let bits = u64::try_from(token.0).ok()?;
    let generation = u32::try_from(bits >> 32).ok().filter(|generation| *generation <= GENERATIONS)?;
    let slot = u32::try_from(bits & 0xFFFF_FFFF).ok()?;
    Some(ConnId { slot, generation })
}

/// The token of something else: waker, listeners, private connections.
pub(super) fn other_token(index: usize) -> Token {
    Token(index | 1 << 63)
}

/// The index given to [`other_token`].
pub(super) fn other_of(token: Token) -> Option<usize> {
    (token.0 >> 63 == 1).then_some(token.0 & !(1 << 63))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    #[test]
    fn a_former_owner_finds_nothing() {
        let mut slab = Slab::new();
        let first = slab.reserve();
        slab.put(first, Box::new(1));
        assert_eq!(slab.take(first), Some(Box::new(1)));
        slab.free(first);
        let second = slab.reserve();
        slab.put(second, Box::new(2));
        assert_eq!((first.slot, slab.len()), (second.slot, 1));
        assert_eq!(slab.take(first), None);
        assert_eq!(slab.take(second), Some(Box::new(2)));
    }

    #[test]
    fn tokens_keep_their_kinds_apart() {
        let id = ConnId { slot: 7, generation: GENERATIONS };
        assert_eq!(conn_of(token(id)), Some(id));
        assert_eq!(other_of(token(id)), None);
        assert_eq!(other_of(other_token(3)), Some(3));
        assert_eq!(conn_of(other_token(3)), None);
    }
}
