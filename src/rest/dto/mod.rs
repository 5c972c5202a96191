//! The JSON of answers, in the key order of the real server.

pub(super) mod audit;
pub(super) mod deployment;
pub(super) mod organizations;
pub(super) mod users;
