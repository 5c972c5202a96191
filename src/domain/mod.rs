//! The rules: who may do what, and what follows from it. Knows neither HTTP nor SQL text.

pub mod access;
pub mod admin;
pub mod agent_logs;
pub mod agents;
pub mod app;
pub mod error;
pub mod git_ssh_keys;
pub mod passwords;
pub mod presence;
pub mod tokens;

pub use app::{App, Shared};
pub use error::{Error, Fault, Field};
