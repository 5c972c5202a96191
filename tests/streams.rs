//! Tests of streams: each in process, with a stand-in for the loop that owns the socket, a file of its
//! own, and time that moves when the test says so.

#[path = "streams/driver.rs"]
mod driver;
#[path = "streams/agent.rs"]
mod agent;

#[path = "streams/calls.rs"]
mod calls;
#[path = "streams/connection.rs"]
mod connection;
#[path = "streams/coordinate.rs"]
mod coordinate;
#[path = "streams/derp.rs"]
mod derp;
#[path = "streams/logs.rs"]
mod logs;
#[path = "streams/subagents.rs"]
mod subagents;
#[path = "streams/vectors.rs"]
mod vectors;
#[path = "streams/watch.rs"]
mod watch;
