//! Integration tests: one binary, so that the program is linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]
#![allow(missing_docs, unreachable_pub, reason = "nothing here is for others to use")]

mod bin;
mod cli;
mod crash;
mod edge;
mod external_auth;
mod golden;
mod harness;
mod interop;
mod layers;
mod machines;
mod relay;
mod pages;
mod plugins;
mod rest;
mod store;
mod streams;
mod wire;
