//! Stand-in.
use super::Stream;
use crate::domain::Shared;
use crate::model::{AgentId, UserId};

/// Stand-in.
pub fn watch_events(_app: Shared, _agent: AgentId, _user: UserId) -> Box<dyn Stream> {
    Box::new(super::trivial::Trivial)
}

/// Stand-in.
pub fn watch_websocket(_app: Shared, _agent: AgentId, _user: UserId) -> Box<dyn Stream> {
    Box::new(super::trivial::Trivial)
}
