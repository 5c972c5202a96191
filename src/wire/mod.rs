//! wire.

pub mod http;
pub mod chunked;
