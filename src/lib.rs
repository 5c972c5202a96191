//! Moorline: one process and one SQLite file that let people reach their development machines.
//!
//! # The way of a request
//!
//! The modules stand in the order in which a request meets them. Each may use only those below it,
//! and the leaves; `tests/layers.rs` fails on a wrong import.
//!
//! | module | what it does | waits on |
//! | --- | --- | --- |
//! | `cli` | the verbs; `serve` puts the parts together | anything |
//! | `edge` | owns every public socket: TLS, request heads, limits, time-outs; relays plain requests to tiny_http, drives streams | nothing, ever |
//! | `rest` | one route table; a handler per route, on `http-N` threads | the store |
//! | `streams` | long-lived sockets as state machines: agent and client RPC, watchers of workspaces, logs and metadata, terminals, relay map, relay connections, downloads | nothing, ever |
//! | `agentapi` | what each agent RPC means, on `rpc-N` threads | the store |
//! | `domain` | the rules: who may do what, and what follows from it | the store |
//! | `tailnet` | the coordinator: who is told of whose node; the relay's switch and the keys that it serves; the relay map; the server's own peer, on a thread of its own | nothing |
//! | `plugins` | dynamic libraries in processes of their own: machine identity, external sign-in | them, on threads of their own |
//! | `store` | one SQLite file: one writer with group commit, read-only readers, migrations, sealing, retention | the disk |
//!
//! Leaves, usable from anywhere: `wire` (codecs without I/O: HTTP framing, WebSocket, yamux, DRPC,
//! protobuf, DERP), `config` (settings and limits), `model` (ids, instants, networks), `ops` (queues,
//! mailboxes, topics, places, counters).
//!
//! # How a plain request is answered
//!
//! A loop of the `edge` reads the head and the whole body under limits, writes the request afresh on a
//! private Unix connection on which tiny_http listens, and passes the answer on. tiny_http was not
//! made to face a network; behind the edge it only sees well-formed requests of known size.
//!
//! # How a long-lived socket begins
//!
//! The request goes the same way, so there is one route table and one place for authorisation. The
//! handler leaves a [`streams::Stream`] for the edge; the edge answers `101` (or an endless `200`)
//! and from then on drives that state machine on the loop that owns the socket. Work that may wait
//! is given to the `rpc` threads or the writer and comes back as [`ops::mail::Mail`].
//!
//! # How a terminal in the browser reaches a machine
//!
//! The server is a peer of the tailnet itself ([`tailnet::peer`]): a stream holds a
//! [`tailnet::peer::Conduit`], the peer's thread moves its bytes through TCP and WireGuard, and the packets
//! take the relay's switch inside the process. What an agent says of its ports and containers is asked for
//! in the same way, by [`rest`], and no thread waits for it.
//!
//! # What is never lost
//!
//! A write is a closure that the writer thread runs in a transaction shared with others; it is
//! answered after the commit (`synchronous=FULL`). Subscribers are told after the commit too.

pub mod cli;
pub mod edge;
pub mod rest;
pub mod streams;
pub mod agentapi;
pub mod domain;
pub mod tailnet;
pub mod plugins;
pub mod store;

pub mod wire;
pub mod config;
pub mod model;
pub mod ops;
