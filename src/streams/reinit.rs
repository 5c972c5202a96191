//! Stand-in.
use super::Stream;
use crate::domain::Shared;
use crate::model::AgentId;

/// Stand-in.
pub fn wait(_app: Shared, _agent: AgentId) -> Box<dyn Stream> {
    Box::new(super::trivial::Trivial)
}
