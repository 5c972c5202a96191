//! The edge against raw sockets, with a small tiny_http application behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod http;
mod limits;
mod rig;
mod smuggling;
mod stopping;
mod streams;
mod tls;
mod workers;
