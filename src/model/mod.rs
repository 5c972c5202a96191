//! Ids, instants and versions: the words that every other module shares.

mod ids;
mod time;
pub mod version;

pub use ids::{AgentId, AppId, LogSourceId, NodeKey, ScriptId, UserId, WorkspaceId};
pub use time::{MICROS_PER_SECOND, Timestamp, TimestampError};
