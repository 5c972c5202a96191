//! Ids, instants, networks and versions: the words that every other module shares.

mod hex;
mod ids;
mod network;
mod time;
pub mod version;

pub use hex::hex;
pub use ids::{AgentId, AppId, LogSourceId, NodeKey, ScriptId, UserId, WorkspaceId};
pub use network::network;
pub use time::{MICROS_PER_SECOND, Timestamp, TimestampError};
