//! Benchmarks of the whole program: `cargo bench`. Figures are printed with the baseline they are
//! compared with, measured in the same run, because machines differ and are noisy.
//!
//! `cargo bench -- NAME…` runs only the named parts: start, store, rest, logs, relay, agents, identity, extauth, idle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
#![allow(missing_docs, unreachable_pub, reason = "nothing here is for others to use")]

#[path = "../harness/mod.rs"]
#[allow(dead_code, reason = "shared with the integration tests")]
mod harness;

mod agents;
mod external_auth;
mod identity;
mod counting;
mod load;
mod process;
mod relay;
mod rest;
mod start;
mod store;

fn main() {
    if std::env::args().any(|arg| arg == relay::SERVER) {
        return relay::serve();
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    if wants("start") {
        start::run();
    }
    if wants("store") {
        store::run();
    }
    if wants("rest") {
        rest::reads();
    }
    if wants("logs") {
        rest::logs();
    }
    if wants("relay") {
        relay::run();
    }
    if wants("agents") {
        agents::run();
    }
    if wants("identity") {
        identity::run();
        identity::idle();
    }
    if wants("extauth") {
        external_auth::run();
    }
    if wants("idle") {
        agents::idle();
    }
}
