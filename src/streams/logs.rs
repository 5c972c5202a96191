//! Stand-in.
use super::Stream;
use crate::domain::Shared;
use crate::model::{AgentId, UserId};

/// Stand-in.
pub fn follow(_app: Shared, _agent: AgentId, _after: i64, _user: UserId) -> Box<dyn Stream> {
    Box::new(super::trivial::Trivial)
}
