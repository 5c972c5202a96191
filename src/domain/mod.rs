//! The rules: who may do what, and what follows from it. Knows neither HTTP nor SQL text.

pub mod access;
pub mod admin;
pub mod agent_logs;
pub mod agents;
pub mod app;
pub mod cron;
pub mod declare;
pub mod enrolment;
pub mod error;
pub mod git_key;
pub mod names;
pub mod passwords;
pub mod presence;
pub mod programs;
pub mod tokens;
pub mod users;
pub mod workspaces;

pub use app::{App, Shared};
pub use error::{Error, Fault, Field};
