//! Connections that carry calls: WebSocket, in it yamux, on each of its streams one DRPC call.
//!
//! | file | what it does |
//! | --- | --- |
//! | `connection` | the life of the socket: bytes in and out, pings, silence, the goodbye |
//! | `calls` | the calls of one connection: yamux streams, DRPC packets, who answers what |
//! | `call` | where one call stands |
//! | `pool` | calls that wait for the store, and how they are put back when a queue is full |
//! | `coordinate`, `coordination` | a peer's place in the tailnet: requests in their order, its inbox |
//! | `maps`, `updates` | the endless streams: relay maps, a person's workspaces |
//! | `side`, `agent`, `client` | who is at the other end, and what it may ask |
//! | `monitor` | whether an agent counts as connected |
//!
//! Everything here runs on the loop that owns the socket and never waits. A call that needs the store
//! goes to the `rpc` pool; a write is handed on from there to the writer and answered after its commit,
//! so neither a loop nor a thread of the pool waits for the disk, and many agents share a commit.
//!
//! Overload never fails a call, because an agent answers nearly every error by dropping its connection:
//! a call for which a queue or the disk is full stays here and is tried again.
//!
//! Numbers of yamux streams are chosen by the peer and can come again. Whatever is asked elsewhere on
//! behalf of a call is therefore marked with a number of this side that never comes again.

mod agent;
mod call;
mod calls;
mod client;
mod connection;
mod coordinate;
mod coordination;
mod maps;
mod monitor;
mod pool;
mod side;
mod updates;

pub(super) use self::agent::WITHDRAWN;
pub use self::client::Client;
use self::connection::Connection;
use self::side::Side;
use super::Stream;
use crate::domain::Shared;
use crate::store::agents::Agent;

/// The connection of `agent`, which was admitted with the token of that row and asked for
/// `api_version`. `monitored`: it says that the agent is connected (`role` absent or `agent`).
pub fn agent(app: Shared, agent: Agent, api_version: String, monitored: bool, peer: String) -> Box<dyn Stream> {
    Connection::start(Side::Agent(agent::AgentSide::new(app, agent, api_version, monitored, peer)))
}

/// The connection of a person's client.
pub fn client(app: Shared, client: Client) -> Box<dyn Stream> {
    Connection::start(Side::Client(Box::new(client::ClientSide::new(app, client))))
}
