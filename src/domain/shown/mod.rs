//! The JSON in which clients are shown what there is, in the key order of the real server. Here and
//! not in `rest`, because streams send the same objects.

pub mod agents;
pub mod templates;
pub mod timings;
pub mod workspaces;
