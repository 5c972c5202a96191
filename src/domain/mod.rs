//! The rules: who may do what, and what follows from it. Knows neither HTTP nor SQL text.

pub mod agent_logs;
pub mod app;
pub mod error;
pub mod passwords;
pub mod presence;
pub mod tokens;

pub use app::{App, Shared};
pub use error::{Error, Fault, Field};
