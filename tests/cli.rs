//! Tests of the command line: the built program, run as scripts run it.

mod apply;
mod config;
mod rig;
mod serve;
mod verbs;
