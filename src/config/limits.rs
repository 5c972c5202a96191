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
/// Attempts of machines per address and minute to sign in by their cloud's word; loopback is exempt. An agent
/// makes one per connection, and one in ten seconds while it is refused.
pub const IDENTITIES_PER_MINUTE: u32 = 300;
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
/// Bytes of one plain answer of log lines; what is beyond is asked for with `after`. An agent's
/// 1 MiB of text comes to this much only in lines of 10 bytes and less.
pub const LOGS_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Log sources of one agent: its scripts, and what it registers; 200 bytes each.
pub const LOG_SOURCES: usize = 1_024;
/// Calls of agents that wait for a thread of the `rpc` pool. Nearly every error answer makes an agent
/// drop its connection and dial again (agent-rpc facts, section 3), so a full queue never fails a call:
/// the connection keeps it and tries again. The depth holds a whole start of 500 agents (8 calls each);
/// about 150 bytes each: 0.6 MiB.
pub const RPC_QUEUE: usize = 4_096;
/// Calls of one agent connection that run at the same time; further ones wait their turn on the
/// connection. The agent has about ten routines with one call each.
pub const AGENT_CALLS: usize = 16;
/// Bytes of requests that one agent connection may have here, unfinished or waiting for their turn;
/// the stream that goes beyond it is reset. Largest honest need: one log batch (1 MiB) and one context
/// snapshot (4 MiB).
pub const AGENT_HELD_BYTES: usize = 8 * 1024 * 1024;
/// The same for a person's client, and its largest WebSocket message, bytes. Largest honest need: a node (32 KiB)
/// with what one window brings (256 KiB). The 1,024 connections of one address can hold 2 GiB so, not 12.
pub const CLIENT_HELD_BYTES: usize = 1024 * 1024;
/// Unsent bytes at which an agent connection is no longer read from, and a follower of logs is given
/// nothing more, until the peer has taken what there is.
pub const STREAM_HIGH_WATER: usize = 256 * 1024;
/// Live streams of one person (workspaces, metadata, logs); VS Code opens two per machine that it shows.
/// About 2 KiB each besides the socket: 2 MiB.
pub const WATCHERS_PER_USER: usize = 1_024;
/// Live streams about one agent or one workspace, of all people together.
pub const WATCHERS_OF_ONE: usize = 256;
/// Entries that one look into the connection log gives at most; some 400 bytes each.
pub const CONNECTIONS_SHOWN_MOST: u32 = 100_000;
/// Entries that one look into the record of plugins' requests gives at most; some 300 bytes each.
pub const EGRESS_SHOWN_MOST: u32 = 100_000;
/// Sub-agents of one agent; each is a row of about 1 KiB with its apps.
pub const SUB_AGENTS: usize = 100;
/// Apps of one sub-agent; further ones are answered with an app error.
pub const SUB_AGENT_APPS: usize = 100;
/// Finished script runs kept per agent: a script that runs each second must not fill the file.
pub const SCRIPT_TIMINGS: u32 = 1_000;
/// Statuses kept per app, newest; 300 bytes each.
pub const APP_STATUSES: u32 = 100;
/// Bytes of a metadata value or error; longer values are cut, as the real server does.
pub const METADATA_VALUE_BYTES: usize = 2_048;
/// Bytes of all keys in one metadata call; what goes beyond is dropped, as the real server does.
pub const METADATA_KEYS_BYTES: usize = 6_144;
/// Bytes of short texts that an agent reports: versions, paths, reasons, addresses. Longer ones are cut.
pub const REPORTED_TEXT_BYTES: usize = 4_096;
/// How long a session token made by the command line lasts without use, unless said otherwise.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(720 * 3600);
/// Longest lifetime of a session token: 876,600 h, the real server's own bound; clients send it back.
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(876_600 * 3600);
/// Fewest characters of a new password.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Most bytes of a password; each sign-in hashes all of them.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Largest body of a verb on the admin socket, bytes: a declaration of about 10,000 workspaces.
/// Only the server's own user and root can send one.
pub const ADMIN_BODY_BYTES: usize = 32 * 1024 * 1024;
/// Largest declaration file, bytes; the command that carries it must fit [`ADMIN_BODY_BYTES`].
pub const DECLARATION_BYTES: usize = 16 * 1024 * 1024;
/// Text declared for one agent, bytes. An agent takes at most 4 MiB in one message and would
/// otherwise reconnect for ever without getting its manifest.
pub const AGENT_DECLARATION_BYTES: usize = 3 * 1024 * 1024;
/// A refused client may go on sending for this long, unread, before its connection is closed: closing
/// at once would reset it and could take the refusal along before it is read.
pub const LINGER: Duration = Duration::from_secs(2);
/// Life of a token made over REST by who names none, without use: the real server's default. The setting
/// `max_token_lifetime` can make it shorter.
pub const REST_TOKEN_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a relay connection may stay whose key the coordinator does not know. Peers announce themselves
/// within seconds; after a restart of the server all of them have to do so again.
pub const RELAY_STRANGER_STAY: Duration = Duration::from_secs(30);
/// Relay connections of one address (IPv6: /64) whose keys are not known, about 4 KiB each; beyond it, 503.
/// Everybody behind one address is unknown for a moment after a restart, so a large fleet must fit.
pub const RELAY_STRANGERS: usize = 768;
/// Packets that wait for one relay connection, of either class (discovery and data); the oldest goes
/// first. 512 are half a second of a 10 Mbit/s link.
pub const RELAY_QUEUE_PACKETS: usize = 512;
/// Bytes of them. A connection that does not read costs this for either class, and as much again in what its
/// loop holds for the socket: 4 MiB at most.
pub const RELAY_QUEUE_BYTES: usize = 1024 * 1024;
/// Bytes that wait for slow relay connections, all together; beyond it, packets for whoever has some waiting
/// are dropped.
pub const RELAY_MEMORY: usize = 256 * 1024 * 1024;
/// Files being sent at the same time; further ones are answered 503. Each holds two pieces of
/// [`DOWNLOAD_PIECE_BYTES`]: 32 MiB in all.
pub const DOWNLOADS: usize = 128;
/// Files being sent to one address at the same time; loopback is exempt.
pub const DOWNLOADS_PER_ADDRESS: usize = 16;
/// Bytes of a file that are read and written at a time.
pub const DOWNLOAD_PIECE_BYTES: usize = 128 * 1024;
/// Slowest download that is kept up, bytes per second, after [`DOWNLOAD_GRACE`]: 55 MB take two hours.
pub const DOWNLOAD_RATE_MIN: u64 = 8 * 1024;
/// Time that a download may take beyond what [`DOWNLOAD_RATE_MIN`] gives it.
pub const DOWNLOAD_GRACE: Duration = Duration::from_secs(60);
/// Programs of one person that wait for somebody to sign in at an external auth provider, with `listen`; about
/// 1 KiB each, and the socket.
pub const SIGN_IN_LISTENERS: usize = 512;
/// Requests whose answer is being found elsewhere, at a provider of plugins; further ones are answered 503.
/// About 2 KiB each, and the socket.
pub const PARKED_ANSWERS: usize = 4_096;
/// Answers of one agent that are under way to the server at the same time: its ports, its containers; further
/// questions are answered 503.
pub const ANSWERS_OF_ONE: usize = 16;
/// Bytes of such answers of all agents together; what comes beyond it is not taken.
pub const ANSWERS_MEMORY: usize = 256 * 1024 * 1024;
/// How long such a request waits at most; longer than any provider's deadline, and than a queue in front of it
/// should be.
pub const PARKED_PATIENCE: Duration = Duration::from_secs(60);
/// Agents that the server itself keeps in reach, for terminals and to ask them: as many as one peer may have
/// tunnels. About 8 KiB each without connections.
pub const REACHED_AGENTS: usize = 1_024;
/// Connections of the server to agents: terminals, and questions under way. Each costs 80 KiB of TCP buffers,
/// touched as they fill, and 96 KiB at most between its user and the peer's thread: 352 MiB if everybody stopped
/// reading at the same time. An idle terminal costs about 20 KiB, its socket included.
pub const INNER_CONNECTIONS: usize = 2_048;
/// Terminals of one person, so that nobody takes all of [`INNER_CONNECTIONS`]; further ones are answered 429.
pub const TERMINALS_PER_USER: usize = 256;
