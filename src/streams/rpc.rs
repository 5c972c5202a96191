//! Stand-in.
use super::Stream;
use crate::domain::Shared;
use crate::store::agents::Agent;

/// Stand-in.
pub fn agent(_app: Shared, _agent: Agent, _api_version: String, _monitored: bool, _peer: String) -> Box<dyn Stream> {
    Box::new(super::trivial::Trivial)
}
