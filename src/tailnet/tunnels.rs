//! Which peers have asked to reach which: the directed tunnels, indexed both ways.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use uuid::Uuid;

/// Tunnels that one peer may have, those from it and those to it taken together. The CLI has one,
/// Coder Desktop one per agent of its user. About 100 bytes each for the tunnel and 150 in the inboxes
/// of its ends; the nodes themselves are shared. Beyond it the tunnel is refused with [`TooMany`].
pub const TUNNELS_PER_PEER: usize = 1_024;
/// Tunnels in all: 65 MiB at most with their inboxes. Beyond it a further one is refused likewise.
pub const TUNNELS: usize = 262_144;

/// Why a tunnel was not made; the text is for the peer that asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooMany {
    /// The asking peer has [`TUNNELS_PER_PEER`].
    OfYours,
    /// The peer at the other end has [`TUNNELS_PER_PEER`].
    OfTheOther,
    /// The server has [`TUNNELS`].
    InAll,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfYours => write!(f, "This connection has {TUNNELS_PER_PEER} tunnels, and no more are allowed."),
            Self::OfTheOther => {
                write!(f, "The agent is reached by {TUNNELS_PER_PEER} clients, and no more are allowed.")
            }
            Self::InAll => write!(f, "The server has {TUNNELS} tunnels, and no more are allowed."),
        }
    }
}

impl std::error::Error for TooMany {}

/// The tunnels. Each belongs to the peer that asked for it and goes with that peer.
#[derive(Default)]
pub(super) struct Tunnels {
    from: HashMap<Uuid, BTreeSet<Uuid>>,
    to: HashMap<Uuid, BTreeSet<Uuid>>,
    /// Those of `from` that an earlier stream asked for and the present one has not.
    aside: HashMap<Uuid, BTreeSet<Uuid>>,
    count: usize,
}

impl Tunnels {
    /// Remembers a tunnel, or takes it back when it was set aside.
    pub(super) fn add(&mut self, src: Uuid, dst: Uuid) -> Result<(), TooMany> {
        take_out(&mut self.aside, src, dst);
        if holds(&self.from, src, dst) {
            return Ok(());
        }
        if self.of(src) >= TUNNELS_PER_PEER {
            return Err(TooMany::OfYours);
        }
        if self.of(dst) >= TUNNELS_PER_PEER {
            return Err(TooMany::OfTheOther);
        }
        if self.count >= TUNNELS {
            return Err(TooMany::InAll);
        }
        self.from.entry(src).or_default().insert(dst);
        self.to.entry(dst).or_default().insert(src);
        self.count += 1;
        Ok(())
    }

    /// Forgets a tunnel; says whether there was one.
    pub(super) fn remove(&mut self, src: Uuid, dst: Uuid) -> bool {
        let existed = take_out(&mut self.from, src, dst);
        if existed {
            take_out(&mut self.aside, src, dst);
            take_out(&mut self.to, dst, src);
            self.count -= 1;
        }
        existed
    }

    /// All tunnels that `src` has asked for count as asked for by an earlier stream; says whether there
    /// are any.
    pub(super) fn set_aside(&mut self, src: Uuid) -> bool {
        match self.from.get(&src) {
            Some(all) => {
                self.aside.insert(src, all.clone());
                true
            }
            None => false,
        }
    }

    /// Forgets those of `src` that are still set aside, and gives their other ends.
    pub(super) fn remove_aside(&mut self, src: Uuid) -> BTreeSet<Uuid> {
        let aside = self.aside.get(&src).cloned().unwrap_or_default();
        for dst in &aside {
            self.remove(src, *dst);
        }
        aside
    }

    /// Forgets all tunnels that `src` has asked for.
    pub(super) fn remove_from(&mut self, src: Uuid) {
        self.aside.remove(&src);
        for dst in self.from.remove(&src).unwrap_or_default() {
            take_out(&mut self.to, dst, src);
            self.count -= 1;
        }
    }

    /// Whether there is a tunnel between the two, in either direction.
    pub(super) fn between(&self, one: Uuid, other: Uuid) -> bool {
        holds(&self.from, one, other) || holds(&self.from, other, one)
    }

    /// Whether there is one that is not set aside.
    pub(super) fn in_sight(&self, one: Uuid, other: Uuid) -> bool {
        let open = |src, dst| holds(&self.from, src, dst) && !holds(&self.aside, src, dst);
        open(one, other) || open(other, one)
    }

    /// Whether `src` has asked for a tunnel.
    pub(super) fn has_from(&self, src: Uuid) -> bool {
        self.from.contains_key(&src)
    }

    /// Those at the other ends of `peer`'s tunnels, each once, in the order of their ids.
    pub(super) fn partners(&self, peer: Uuid) -> Vec<Uuid> {
        match (self.from.get(&peer), self.to.get(&peer)) {
            (Some(from), Some(to)) => from.union(to).copied().collect(),
            (Some(all), None) | (None, Some(all)) => all.iter().copied().collect(),
            (None, None) => Vec::new(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether nothing at all is remembered.
    #[cfg(test)]
    pub(super) fn is_blank(&self) -> bool {
        self.count == 0 && self.from.is_empty() && self.to.is_empty() && self.aside.is_empty()
    }

    fn of(&self, peer: Uuid) -> usize {
        self.from.get(&peer).map_or(0, BTreeSet::len) + self.to.get(&peer).map_or(0, BTreeSet::len)
    }
}

fn holds(index: &HashMap<Uuid, BTreeSet<Uuid>>, key: Uuid, value: Uuid) -> bool {
    index.get(&key).is_some_and(|all| all.contains(&value))
}

fn take_out(index: &mut HashMap<Uuid, BTreeSet<Uuid>>, key: Uuid, value: Uuid) -> bool {
    let Some(all) = index.get_mut(&key) else { return false };
    let existed = all.remove(&value);
    if all.is_empty() {
        index.remove(&key);
    }
    existed
}
