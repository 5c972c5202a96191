//! Tests of streams: each in process, with a stand-in for the loop that owns the socket, a file of its
//! own, and time that moves when the test says so.

#[path = "streams/driver.rs"]
mod driver;
#[path = "streams/agent.rs"]
mod agent;
#[path = "streams/peers.rs"]
mod peers;

#[path = "streams/calls.rs"]
mod calls;
#[path = "streams/clients.rs"]
mod clients;
#[path = "streams/connection.rs"]
mod connection;
#[path = "streams/connection_log.rs"]
mod connection_log;
#[path = "streams/coordinate.rs"]
mod coordinate;
#[path = "streams/derp.rs"]
mod derp;
#[path = "streams/derp_ends.rs"]
mod derp_ends;
#[path = "streams/echo.rs"]
mod echo;
#[path = "streams/logs.rs"]
mod logs;
#[path = "streams/rights.rs"]
mod rights;
#[path = "streams/subagents.rs"]
mod subagents;
#[path = "streams/updates.rs"]
mod updates;
#[path = "streams/vectors.rs"]
mod vectors;
#[path = "streams/watch.rs"]
mod watch;
#[path = "streams/workspace.rs"]
mod workspace;
