//! The rules: who may do what, and what follows from it. Knows neither HTTP nor SQL text.

pub mod absent;
pub mod access;
pub mod admin;
pub mod agent_logs;
pub mod agents;
pub mod app;
pub mod connection_log;
pub mod clones;
pub mod credential;
pub mod cron;
pub mod declare;
pub mod enrolment;
pub mod error;
pub mod external_auth;
pub mod favorites;
pub mod first_user;
pub mod git_key;
pub mod identity;
pub mod instance;
pub mod inventory;
pub mod names;
pub mod passwords;
pub mod presence;
pub mod search;
pub mod shown;
pub mod signed_terminal;
pub mod synthetic;
pub mod terms;
pub mod sessions;
pub mod programs;
pub mod tokens;
pub mod trust;
pub mod users;
pub mod workspaces;

pub use app::{App, Shared};
pub use error::{Error, Fault, Field};
