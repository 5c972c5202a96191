//! agentapi.
