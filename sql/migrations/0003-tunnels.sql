-- The connection log knows tunnels beside sessions: who came from where.
-- Tunnels: whose client was let through to which agent. One row per client process and agent: a client
-- that comes back with its resume token goes on with its row. A session of `connections` came through
-- the tunnel to its agent whose address is the session's ip.
CREATE TABLE tunnels (
    id        INTEGER PRIMARY KEY,
    -- The client's id in the tailnet; random, and one per process.
    peer_id   BLOB NOT NULL CHECK (length(peer_id) = 16),
    agent_id  BLOB NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    user_id   BLOB NOT NULL REFERENCES users (id),
    -- Where the client's connection to the server came from.
    ip        TEXT NOT NULL DEFAULT '',
    -- What the client says that it is: 'coder ssh', or its User-Agent.
    program   TEXT NOT NULL DEFAULT '',
    -- What it says that it is used for (POST usage): 'vscode', 'jetbrains', 'ssh', 'reconnecting-pty'.
    app       TEXT NOT NULL DEFAULT '',
    -- The client's address inside the tailnet, which the agent sees; '' if it never announced one.
    address   TEXT NOT NULL DEFAULT '',
    opened_at INTEGER NOT NULL,
    closed_at INTEGER,
    -- How it ended. 'closed': by the client; 'lost': its connection broke; 'revoked': its user or agent
    -- lost the right to it; 'restart': it was open when the server died, and has not come back.
    ending    TEXT CHECK (ending IN ('closed', 'lost', 'revoked', 'restart')) CHECK ((closed_at IS NULL) = (ending IS NULL))
) STRICT;
CREATE INDEX tunnels_agent ON tunnels (agent_id, address);
CREATE INDEX tunnels_peer ON tunnels (peer_id);
CREATE INDEX tunnels_time ON tunnels (opened_at);
CREATE INDEX tunnels_open ON tunnels (user_id, agent_id) WHERE closed_at IS NULL;

CREATE INDEX connections_ip ON connections (agent_id, ip);
