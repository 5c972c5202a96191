//! What one stream has yet to be told.
//!
//! Updates are coalesced per subject, so a peer that does not read costs no more than its tunnels, and
//! when it reads at last it gets the present and not the past.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::message;
use crate::wire::proto::tailnet::coordinate_response::peer_update::Kind;
use crate::wire::proto::tailnet::{CoordinateResponse, Node};

/// Handshake errors that wait for a peer; 16 bytes each. They are only logged by who gets them, and
/// further ones are dropped: an agent that ignores so many learns nothing from one more.
const ERRORS: usize = 64;

/// What the receiver knows of a subject, as of all that it has taken.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Known {
    /// Nothing, or that it is gone.
    #[default]
    Nothing,
    /// A node.
    Node,
    /// A node that is marked lost: receivers keep it for a while.
    Lost,
}

/// News of a subject that the receiver has not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum News {
    /// The node in `told`, with this reason.
    Node(&'static str),
    Lost(&'static str),
    Disconnected(&'static str),
}

/// One subject, as told to the receiver of the inbox.
#[derive(Default)]
struct View {
    /// The node last told (taken or not), unless LOST or DISCONNECTED was told after it.
    told: Option<Arc<Node>>,
    known: Known,
    news: Option<News>,
    /// READY_FOR_HANDSHAKE is to be told, after the news.
    ready: bool,
    /// Its place in the order of those with something to tell.
    place: Option<u64>,
}

/// The inbox of one stream.
#[derive(Default)]
pub(super) struct Inbox {
    views: HashMap<Uuid, View>,
    /// Subjects with something to tell, in the order in which that came up.
    due: BTreeMap<u64, Uuid>,
    next: u64,
    errors: Vec<Uuid>,
}

impl Inbox {
    /// Tells the node of `subject`, unless it equals the one that was told last.
    pub(super) fn node(&mut self, subject: Uuid, node: &Arc<Node>, reason: &'static str) {
        let view = self.views.entry(subject).or_default();
        if view.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, node) || told == node) {
            return;
        }
        view.told = Some(Arc::clone(node));
        view.news = Some(News::Node(reason));
        self.settle(subject);
    }

    /// Tells that `subject` is lost, unless no node was told since it was last lost or gone.
    pub(super) fn lost(&mut self, subject: Uuid, reason: &'static str) {
        let Some(view) = self.views.get_mut(&subject) else { return };
        if view.told.take().is_none() {
            return;
        }
        // What has not been taken is taken back, and then there is nothing to be lost.
        view.news = (view.known == Known::Node).then_some(News::Lost(reason));
        view.ready &= view.known != Known::Nothing;
        self.settle(subject);
    }

    /// Tells that `subject` is gone, unless no node was told since it was last lost or gone.
    pub(super) fn disconnected(&mut self, subject: Uuid, reason: &'static str) {
        let Some(view) = self.views.get_mut(&subject) else { return };
        if view.told.take().is_some() {
            view.news = (view.known != Known::Nothing).then_some(News::Disconnected(reason));
        }
        view.ready = false;
        self.settle(subject);
    }

    /// Tells that `subject` is gone for good, also to who knows it as lost and would keep it.
    pub(super) fn withdrawn(&mut self, subject: Uuid, reason: &'static str) {
        let Some(view) = self.views.get_mut(&subject) else { return };
        view.told = None;
        view.news = (view.known != Known::Nothing).then_some(News::Disconnected(reason));
        view.ready = false;
        self.settle(subject);
    }

    /// There is no tunnel to `subject` any more. The end of it has been told; what is remembered
    /// beyond that can go.
    pub(super) fn untie(&mut self, subject: Uuid) {
        let Some(view) = self.views.get_mut(&subject) else { return };
        match view.news {
            Some(News::Disconnected(_)) => {}
            // It has not been read that it is lost: then it is gone at once.
            Some(News::Lost(reason)) => view.news = Some(News::Disconnected(reason)),
            Some(News::Node(_)) | None => view.known = Known::Nothing,
        }
        self.settle(subject);
    }

    /// Tells that `subject` is ready for the receiver's handshake. Never suppressed.
    pub(super) fn ready(&mut self, subject: Uuid) {
        self.views.entry(subject).or_default().ready = true;
        self.settle(subject);
    }

    /// Tells the receiver that it shares no tunnel with `other`.
    pub(super) fn not_shared(&mut self, other: Uuid) {
        if self.errors.len() < ERRORS && !self.errors.contains(&other) {
            self.errors.push(other);
        }
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty() && self.errors.is_empty()
    }

    /// Subjects that are remembered, for whatever reason; checks that no more is.
    #[cfg(test)]
    pub(super) fn subjects(&self) -> Vec<Uuid> {
        let telling = |view: &View| view.news.is_some() || view.ready;
        assert!(self.views.values().all(|view| !view.is_blank() && view.place.is_some() == telling(view)));
        assert!(
            self.due.iter().all(|(place, subject)| self.views.get(subject).and_then(|view| view.place) == Some(*place))
        );
        assert_eq!(self.due.len(), self.views.values().filter(|view| telling(view)).count());
        self.views.keys().copied().collect()
    }

    /// Takes everything: first the updates, of each subject its node before its readiness; then the
    /// errors.
    pub(super) fn take(&mut self) -> Vec<CoordinateResponse> {
        let mut updates = Vec::with_capacity(self.due.len());
        for subject in std::mem::take(&mut self.due).into_values() {
            let Some(view) = self.views.get_mut(&subject) else { continue };
            view.place = None;
            match view.news.take() {
                Some(News::Node(reason)) => {
                    view.known = Known::Node;
                    updates.push(message::update(subject, Kind::Node, view.told.as_deref(), reason));
                }
                Some(News::Lost(reason)) => {
                    view.known = Known::Lost;
                    updates.push(message::update(subject, Kind::Lost, None, reason));
                }
                Some(News::Disconnected(reason)) => {
                    view.known = Known::Nothing;
                    updates.push(message::update(subject, Kind::Disconnected, None, reason));
                }
                None => {}
            }
            if std::mem::take(&mut view.ready) {
                updates.push(message::update(subject, Kind::ReadyForHandshake, None, ""));
            }
            if view.is_blank() {
                self.views.remove(&subject);
            }
        }
        let mut messages = message::batches(updates);
        messages.extend(std::mem::take(&mut self.errors).into_iter().map(message::not_shared));
        messages
    }

    /// Puts a subject in line when there is something to tell of it, out of it when there is not, and
    /// forgets it when there is nothing to remember either.
    fn settle(&mut self, subject: Uuid) {
        let Some(view) = self.views.get_mut(&subject) else { return };
        match (view.news.is_some() || view.ready, view.place) {
            (true, None) => {
                view.place = Some(self.next);
                self.due.insert(self.next, subject);
                self.next += 1;
            }
            (false, Some(place)) => {
                view.place = None;
                self.due.remove(&place);
            }
            (true, Some(_)) | (false, None) => {}
        }
        if view.is_blank() {
            self.views.remove(&subject);
        }
    }
}

impl View {
    fn is_blank(&self) -> bool {
        self.told.is_none() && self.known == Known::Nothing && self.news.is_none() && !self.ready
    }
}
