//! Tests of the command line: the built program, run as scripts run it.

mod apply;
mod config;
#[path = "cli/connections.rs"]
mod connections;
mod plugin;
pub(crate) mod rig;
mod serve;
mod verbs;
