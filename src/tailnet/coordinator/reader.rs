//! What the model holds of one stream.

use std::collections::{BTreeMap, BTreeSet};

/// What a stream is told of another peer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Told {
    Node(i32),
    Lost,
    Disconnected,
}

/// What the model holds of one stream.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) node: Option<i32>,
    /// The real server's `sent`.
    pub(super) sent: BTreeMap<usize, i32>,
    /// Untaken updates per subject, oldest first.
    pub(super) queue: BTreeMap<usize, Vec<Told>>,
    pub(super) ready: BTreeSet<usize>,
    pub(super) errors: BTreeSet<usize>,
    /// What its reader knows: a node, or a lost one.
    pub(super) known: BTreeMap<usize, Told>,
}

impl Stream {
    /// What must come of the queue of the model, by subject.
    pub(super) fn expected(&mut self) -> BTreeMap<usize, Vec<Told>> {
        let mut expected = BTreeMap::new();
        for (subject, queue) in std::mem::take(&mut self.queue) {
            let known = self.known.get(&subject).copied();
            let told = match queue.last().copied() {
                Some(Told::Lost) if !matches!(known, Some(Told::Node(_))) => continue,
                Some(Told::Disconnected) if known.is_none() => continue,
                Some(told) => told,
                None => continue,
            };
            match told {
                Told::Disconnected => self.known.remove(&subject),
                _ => self.known.insert(subject, told),
            };
            expected.insert(subject, vec![told]);
        }
        expected
    }
}
