//! Every size, time and count that bounds what a peer can cost, in one place: unit, reason, cost.

use std::time::Duration;

/// Largest request head, bytes. Go clients send about 1 KiB; browsers behind access proxies up to 16.
pub const HEAD_BYTES: usize = 32 * 1024;
/// Header lines in a request head; 64 bytes each while parsing.
pub const HEAD_HEADERS: usize = 100;
/// Time for a whole request head, from its first byte (or from accept).
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Largest request body unless a route says otherwise, bytes.
pub const BODY_BYTES: usize = 1024 * 1024;
/// Largest body of `PATCH …/me/logs`, bytes: a full batch of 1 MiB of text, escaped as JSON.
pub const LOGS_BODY_BYTES: usize = 2 * 1024 * 1024;
/// Time for a whole request body; a slow link gets 1 MiB across at 18 KiB/s.
pub const BODY_DEADLINE: Duration = Duration::from_secs(60);
/// An idle keep-alive connection is closed after this long; longer than proxies' usual 60 s, so that
/// they close first and never write into a closing socket.
pub const IDLE: Duration = Duration::from_secs(75);
/// A client that takes none of its response for this long is dropped.
pub const WRITE_STALL: Duration = Duration::from_secs(60);
/// Connections in all; about 700 bytes each while idle: 7 MiB.
pub const CONNECTIONS: usize = 10_000;
/// Connections of one address; loopback and trusted proxies are exempt.
pub const CONNECTIONS_PER_ADDRESS: usize = 1_024;
/// Bytes of request and response bodies held for all plain requests together; beyond it, 503.
pub const BODY_MEMORY: usize = 64 * 1024 * 1024;
/// Requests that wait for a worker, per loop; beyond it, 503. About 1 KiB each plus the body.
pub const WAITING_REQUESTS: usize = 1_024;
/// Unsent bytes of one stream before it is dropped: a client that does not read may not hold more.
pub const STREAM_BACKLOG: usize = 8 * 1024 * 1024;
/// Sign-in attempts per address and minute.
pub const SIGN_INS_PER_MINUTE: u32 = 60;
/// Requests per address, path and minute, as the real server limits them.
pub const REQUESTS_PER_MINUTE: u32 = 512;
/// A peer that has not answered a ping for this long counts as gone.
pub const AGENT_INACTIVE: Duration = Duration::from_secs(30);
/// Ping period on long-lived sockets; below every proxy's idle time-out (shortest seen: 30 s).
pub const PING_PERIOD: Duration = Duration::from_secs(15);
/// Largest WebSocket message that an agent may send, bytes; DRPC allows 4 MiB of data per packet.
pub const AGENT_MESSAGE_BYTES: usize = 4 * 1024 * 1024 + 64 * 1024;
/// Time in which a stopping server says goodbye and writes what it owes.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(4);
/// Text of log lines kept per agent, bytes; the figure that agents and clients know.
pub const AGENT_LOG_BYTES: i64 = 1_048_576;
/// Characters of one log line; longer ones are cut, as the real server does.
pub const LOG_LINE_CHARS: usize = 1_024;
/// Largest message of a one-way JSON stream, bytes: Go clients close at 32,768 (coder/websocket
/// v1.8.13 read.go defaultReadLimit).
pub const STREAM_MESSAGE_BYTES: usize = 32_768;
/// A refused client may go on sending for this long, unread, before its connection is closed: closing
/// at once would reset it and could take the refusal along before it is read.
pub const LINGER: Duration = Duration::from_secs(2);
/// Largest request body on the administrator's socket, bytes: a declaration of a few thousand
/// workspaces, applied in one piece. Only root and the server's own user get there.
pub const ADMIN_BODY_BYTES: usize = 16 * 1024 * 1024;
