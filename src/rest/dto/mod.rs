//! The JSON of answers, in the key order of the real server.

pub(super) mod users;
