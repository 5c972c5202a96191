//! Codecs: bytes (and nothing else) in, values, events and bytes out. No socket, no clock, no store.

pub mod chunked;
pub mod derp;
pub mod disco;
pub mod drpc;
pub mod exchange;
pub mod http;
pub mod proto;
pub mod websocket;
pub mod yamux;
