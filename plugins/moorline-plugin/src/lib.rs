//! The plugin interface of Moorline.
//!
//! A plugin is a dynamic library that proves the identity of machines ([`Identity`]) or speaks with a provider
//! of external sign-in ([`ExternalAuth`]). It is loaded in a process of its own; it opens no sockets, reads no
//! files and starts no other program, but asks the [`Host`]: for HTTP, time, randomness, a small cache, the log.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`abi`] | the contract itself, in C terms: types, sizes, versions, statuses, ownership, threads, time limits |
//! | [`schema`] | the JSON that goes in and out, as Rust types |
//! | [`host`] | the host's services as methods |
//! | [`plugin`] | the traits to implement, and what a call may come to |
//! | [`entry`] | [`declare!`](crate::declare), which makes the exported symbol out of an implementation |
//! | [`testing`] | a host that replays recorded conversations, for tests of a plugin |
//!
//! `include/moorline_plugin.h` says the same as [`abi`] to C; a test compares them.

pub mod abi;
pub mod entry;
pub mod host;
pub mod plugin;
pub mod schema;
pub mod testing;

pub use host::Host;
pub use plugin::{Answer, ExternalAuth, Identity, Refusal};
