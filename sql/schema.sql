-- The schema of a Moorline file: the truth that every start compares the file with.
--
-- Conventions: every table is STRICT; an id is a 16-byte UUID; an instant is an INTEGER of
-- microseconds since the Unix epoch, UTC; a boolean is 0 or 1; JSON text is kept only for what
-- nobody queries. A secret is never stored readable: tokens as SHA-256, passwords as Argon2id,
-- everything that must be shown again sealed (store/seal.rs) with a key outside this file.
-- To change it: edit this file and add sql/migrations/NNNN-name.sql that leads to it (see store/migrate.rs).

-- Facts about this file: 'deployment_id' (16 bytes) and 'seal_check' (a sealed constant which
-- proves that the key file belongs to this file).
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- People. Removal keeps the row (deleted_at set) so that audit rows keep their meaning; names and
-- e-mail addresses are unique among the living only, ignoring case.
CREATE TABLE users (
    id            BLOB PRIMARY KEY CHECK (length(id) = 16),
    username      TEXT NOT NULL CHECK (length(username) BETWEEN 1 AND 32),
    email         TEXT NOT NULL,
    full_name     TEXT NOT NULL DEFAULT '',
    -- PHC string of Argon2id; NULL: cannot sign in with a password.
    password_hash TEXT,
    is_admin      INTEGER NOT NULL DEFAULT 0 CHECK (is_admin IN (0, 1)),
    status        TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    last_seen_at  INTEGER,
    deleted_at    INTEGER
) STRICT;
CREATE UNIQUE INDEX users_username ON users (lower(username)) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_email ON users (lower(email)) WHERE deleted_at IS NULL;

-- Session tokens of people, `ID-SECRET` on the wire; only the secret's SHA-256 is kept.
CREATE TABLE api_keys (
    id               TEXT PRIMARY KEY CHECK (length(id) = 10),
    user_id          BLOB NOT NULL REFERENCES users (id),
    secret_hash      BLOB NOT NULL CHECK (length(secret_hash) = 32),
    -- 'password': made by signing in; 'token': made on purpose, has a name.
    login_type       TEXT NOT NULL CHECK (login_type IN ('password', 'token')),
    token_name       TEXT NOT NULL DEFAULT '',
    scope            TEXT NOT NULL DEFAULT 'all' CHECK (scope IN ('all', 'application_connect')),
    lifetime_seconds INTEGER NOT NULL CHECK (lifetime_seconds > 0),
    ip               TEXT NOT NULL DEFAULT '',
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    last_used_at     INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL
) STRICT;
CREATE INDEX api_keys_user ON api_keys (user_id);
CREATE INDEX api_keys_expiry ON api_keys (expires_at);
-- A named token is addressed by its name, so a person has each name once.
CREATE UNIQUE INDEX api_keys_name ON api_keys (user_id, token_name) WHERE token_name <> '';

-- The key pair with which a person's workspaces reach git hosts; made with the person.
CREATE TABLE git_ssh_keys (
    user_id            BLOB PRIMARY KEY REFERENCES users (id),
    public_key         TEXT NOT NULL,
    private_key_sealed BLOB NOT NULL,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL
) STRICT;

-- Declared workspaces. Removal keeps the row, as for users.
CREATE TABLE workspaces (
    id           BLOB PRIMARY KEY CHECK (length(id) = 16),
    owner_id     BLOB NOT NULL REFERENCES users (id),
    name         TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 32),
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    deleted_at   INTEGER
) STRICT;
CREATE UNIQUE INDEX workspaces_name ON workspaces (owner_id, lower(name)) WHERE deleted_at IS NULL;

-- Workspaces that a person wants to see first.
CREATE TABLE favorites (
    user_id      BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    workspace_id BLOB NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (user_id, workspace_id)
) STRICT;
CREATE INDEX favorites_workspace ON favorites (workspace_id);

-- Agents: what was declared, and what the agent has told about itself. A sub-agent (dev container)
-- has a parent and was declared by it over RPC.
CREATE TABLE agents (
    id                         BLOB PRIMARY KEY CHECK (length(id) = 16),
    workspace_id               BLOB NOT NULL REFERENCES workspaces (id),
    parent_id                  BLOB REFERENCES agents (id),
    name                       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    -- SHA-256 of the 16 token bytes, for sign-in; the token itself sealed, because instance
    -- identity and ListSubAgents must hand it out again.
    token_hash                 BLOB NOT NULL CHECK (length(token_hash) = 32),
    token_sealed               BLOB NOT NULL,
    -- Declared.
    operating_system           TEXT NOT NULL,
    architecture               TEXT NOT NULL,
    directory                  TEXT NOT NULL DEFAULT '',
    environment                TEXT NOT NULL DEFAULT '{}',
    motd_file                  TEXT NOT NULL DEFAULT '',
    troubleshooting_url        TEXT NOT NULL DEFAULT '',
    connection_timeout_seconds INTEGER NOT NULL DEFAULT 120 CHECK (connection_timeout_seconds >= 0),
    display_apps               TEXT NOT NULL DEFAULT '[]',
    -- The cloud instance that it is bound to, as that cloud names it; see also the last columns.
    instance_id                TEXT NOT NULL DEFAULT '',
    -- Reported by the agent.
    version                    TEXT NOT NULL DEFAULT '',
    api_version                TEXT NOT NULL DEFAULT '',
    expanded_directory         TEXT NOT NULL DEFAULT '',
    subsystems                 TEXT NOT NULL DEFAULT '[]',
    lifecycle_state            TEXT NOT NULL DEFAULT 'created' CHECK (lifecycle_state IN (
        'created', 'starting', 'start_timeout', 'start_error', 'ready',
        'shutting_down', 'shutdown_timeout', 'shutdown_error', 'off')),
    started_at                 INTEGER,
    ready_at                   INTEGER,
    -- Kept by the server. Written when a connection begins or ends, never per heartbeat.
    first_connected_at         INTEGER,
    last_connected_at          INTEGER,
    disconnected_at            INTEGER,
    -- Sum of the bytes of all accepted log lines; never lowered, not even by retention.
    logs_length                INTEGER NOT NULL DEFAULT 0,
    logs_overflowed            INTEGER NOT NULL DEFAULT 0 CHECK (logs_overflowed IN (0, 1)),
    -- When retention last removed lines, so that nobody takes an empty log for a quiet agent.
    logs_purged_at             INTEGER,
    created_at                 INTEGER NOT NULL,
    updated_at                 INTEGER NOT NULL,
    deleted_at                 INTEGER,
    -- The same id of two clouds is two machines.
    instance_cloud             TEXT CHECK (instance_cloud IN ('aws', 'azure', 'google')),
    -- Of several agents that are bound to one instance, the newest binding counts.
    instance_bound_at          INTEGER
) STRICT;
CREATE UNIQUE INDEX agents_token ON agents (token_hash);
CREATE UNIQUE INDEX agents_name ON agents (workspace_id, lower(name)) WHERE deleted_at IS NULL;
CREATE INDEX agents_parent ON agents (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX agents_instance ON agents (instance_cloud, instance_id) WHERE instance_cloud IS NOT NULL AND deleted_at IS NULL;

-- Scripts of an agent, in the order of their declaration.
CREATE TABLE agent_scripts (
    id                 BLOB PRIMARY KEY CHECK (length(id) = 16),
    agent_id           BLOB NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    position           INTEGER NOT NULL,
    log_source_id      BLOB NOT NULL CHECK (length(log_source_id) = 16),
    display_name       TEXT NOT NULL,
    icon               TEXT NOT NULL DEFAULT '',
    script             TEXT NOT NULL,
    cron               TEXT NOT NULL DEFAULT '',
    log_path           TEXT NOT NULL DEFAULT '',
    run_on_start       INTEGER NOT NULL DEFAULT 0 CHECK (run_on_start IN (0, 1)),
    run_on_stop        INTEGER NOT NULL DEFAULT 0 CHECK (run_on_stop IN (0, 1)),
    start_blocks_login INTEGER NOT NULL DEFAULT 0 CHECK (start_blocks_login IN (0, 1)),
    timeout_seconds    INTEGER NOT NULL DEFAULT 0 CHECK (timeout_seconds >= 0),
    created_at         INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX agent_scripts_order ON agent_scripts (agent_id, position);

-- One row per finished run of a script. `stage`: start, stop, cron.
CREATE TABLE agent_script_timings (
    id         INTEGER PRIMARY KEY,
    agent_id   BLOB NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    script_id  BLOB NOT NULL CHECK (length(script_id) = 16),
    started_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL,
    exit_code  INTEGER NOT NULL,
    stage      TEXT NOT NULL CHECK (stage IN ('start', 'stop', 'cron')),
    status     TEXT NOT NULL CHECK (status IN ('ok', 'exit_failure', 'timed_out', 'pipes_left_open'))
) STRICT;
CREATE INDEX agent_script_timings_agent ON agent_script_timings (agent_id, id);
CREATE INDEX agent_script_timings_ended ON agent_script_timings (ended_at);

-- Declared metadata and the value last collected. An absent value is '' with collected_at NULL.
CREATE TABLE agent_metadata (
    agent_id         BLOB NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    key              TEXT NOT NULL,
    position         INTEGER NOT NULL,
    display_order    INTEGER NOT NULL DEFAULT 0,
    display_name     TEXT NOT NULL,
    script           TEXT NOT NULL,
    interval_seconds INTEGER NOT NULL CHECK (interval_seconds >= 0),
    timeout_seconds  INTEGER NOT NULL CHECK (timeout_seconds >= 0),
    value            TEXT NOT NULL DEFAULT '',
    error            TEXT NOT NULL DEFAULT '',
    collected_at     INTEGER,
    PRIMARY KEY (agent_id, key)
) STRICT;

-- Apps of an agent. `health` is reported by the agent; without a check URL it stays 'disabled'.
CREATE TABLE agent_apps (
    id                    BLOB PRIMARY KEY CHECK (length(id) = 16),
    agent_id              BLOB NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    slug                  TEXT NOT NULL,
    display_name          TEXT NOT NULL DEFAULT '',
    icon                  TEXT NOT NULL DEFAULT '',
    url                   TEXT NOT NULL DEFAULT '',
    command               TEXT NOT NULL DEFAULT '',
    display_order         INTEGER NOT NULL DEFAULT 0,
    display_group         TEXT NOT NULL DEFAULT '',
    external              INTEGER NOT NULL DEFAULT 0 CHECK (external IN (0, 1)),
    hidden                INTEGER NOT NULL DEFAULT 0 CHECK (hidden IN (0, 1)),
    subdomain             INTEGER NOT NULL DEFAULT 0 CHECK (subdomain IN (0, 1)),
    sharing_level         TEXT NOT NULL DEFAULT 'owner' CHECK (sharing_level IN ('owner', 'authenticated', 'organization', 'public')),
    open_in               TEXT NOT NULL DEFAULT 'slim-window' CHECK (open_in IN ('slim-window', 'tab')),
    healthcheck_url       TEXT NOT NULL DEFAULT '',
    healthcheck_interval  INTEGER NOT NULL DEFAULT 0,
    healthcheck_threshold INTEGER NOT NULL DEFAULT 0,
    health                TEXT NOT NULL CHECK (health IN ('disabled', 'initializing', 'healthy', 'unhealthy')),
    created_at            INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX agent_apps_slug ON agent_apps (agent_id, slug);

-- What an app says it is doing (UpdateAppStatus and PATCH app-status), newest last.
CREATE TABLE agent_app_statuses (
    id           BLOB PRIMARY KEY CHECK (length(id) = 16),
    agent_id     BLOB NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    app_id       BLOB NOT NULL REFERENCES agent_apps (id) ON DELETE CASCADE,
    state        TEXT NOT NULL CHECK (state IN ('working', 'idle', 'complete', 'failure')),
    message      TEXT NOT NULL,
    uri          TEXT NOT NULL DEFAULT '',
    created_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX agent_app_statuses_app ON agent_app_statuses (app_id, created_at);
CREATE INDEX agent_app_statuses_agent ON agent_app_statuses (agent_id, created_at);

-- Where log lines come from; ids are chosen by the agent and unique per agent only.
CREATE TABLE agent_log_sources (
    agent_id     BLOB NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    id           BLOB NOT NULL CHECK (length(id) = 16),
    display_name TEXT NOT NULL,
    icon         TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (agent_id, id)
) STRICT;

-- Log lines. One ascending id for the whole server: AUTOINCREMENT, so that an id is never used
-- again and `after=` of a follower never skips a line, not even after retention.
CREATE TABLE agent_logs (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    agent_id   BLOB NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    source_id  BLOB NOT NULL CHECK (length(source_id) = 16),
    created_at INTEGER NOT NULL,
    level      TEXT NOT NULL CHECK (level IN ('trace', 'debug', 'info', 'warn', 'error')),
    output     TEXT NOT NULL
) STRICT;
CREATE INDEX agent_logs_agent ON agent_logs (agent_id, id);

-- Traffic of an agent, folded into one row per hour (`hour` = start of the hour). A report without
-- any traffic or session is not stored.
CREATE TABLE agent_stats (
    agent_id                       BLOB NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    hour                           INTEGER NOT NULL,
    reports                        INTEGER NOT NULL,
    connection_count               INTEGER NOT NULL,
    rx_packets                     INTEGER NOT NULL,
    rx_bytes                       INTEGER NOT NULL,
    tx_packets                     INTEGER NOT NULL,
    tx_bytes                       INTEGER NOT NULL,
    -- Highest number of sessions seen open in a report of this hour.
    sessions_ssh                   INTEGER NOT NULL,
    sessions_vscode                INTEGER NOT NULL,
    sessions_jetbrains             INTEGER NOT NULL,
    sessions_reconnecting_pty      INTEGER NOT NULL,
    -- Last known median latency in microseconds; NULL: no peer answered.
    latency_us                     INTEGER,
    PRIMARY KEY (agent_id, hour)
) STRICT;

-- Last resource usage pushed by an agent (PushResourcesMonitoringUsage): one row each, replaced.
CREATE TABLE agent_resources (
    agent_id     BLOB PRIMARY KEY REFERENCES agents (id) ON DELETE CASCADE,
    collected_at INTEGER NOT NULL,
    memory_used  INTEGER,
    memory_total INTEGER,
    volumes      TEXT NOT NULL DEFAULT '[]'
) STRICT;

-- Sessions inside a machine, as its agent reports them (ReportConnection): who, by what, how long.
CREATE TABLE connections (
    agent_id        BLOB NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    id              BLOB NOT NULL CHECK (length(id) = 16),
    kind            TEXT NOT NULL CHECK (kind IN ('unknown', 'ssh', 'vscode', 'jetbrains', 'reconnecting_pty')),
    app_name        TEXT NOT NULL DEFAULT '',
    ip              TEXT NOT NULL DEFAULT '',
    connected_at    INTEGER NOT NULL,
    disconnected_at INTEGER,
    status_code     INTEGER,
    reason          TEXT,
    PRIMARY KEY (agent_id, id)
) STRICT;
CREATE INDEX connections_time ON connections (connected_at);
CREATE INDEX connections_ip ON connections (agent_id, ip);

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

-- Who did what to what, from where, with which result. Rows are only added, and removed by retention.
CREATE TABLE audit_log (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    -- 'user' with user_id, 'agent' with agent_id, 'operator' (the admin socket or the file itself),
    -- or 'anonymous' (a sign-in that failed).
    actor_kind TEXT NOT NULL CHECK (actor_kind IN ('user', 'agent', 'operator', 'anonymous')),
    actor_id   BLOB,
    actor_name TEXT NOT NULL DEFAULT '',
    -- Dotted verb: 'user.login', 'token.create', 'workspace.remove', 'agent.connect', …
    action     TEXT NOT NULL,
    target     TEXT NOT NULL DEFAULT '',
    ip         TEXT NOT NULL DEFAULT '',
    result     TEXT NOT NULL CHECK (result IN ('ok', 'refused', 'failed')),
    detail     TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX audit_log_at ON audit_log (at);

-- Every request that leaves the server on a plugin's behalf, written before it is sent.
CREATE TABLE egress (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    -- Id of the provider whose plugin asked for it.
    provider TEXT NOT NULL,
    method   TEXT NOT NULL,
    host     TEXT NOT NULL,
    port     INTEGER NOT NULL,
    -- Without query, which may hold secrets.
    path     TEXT NOT NULL,
    -- Status of the answer; NULL: none (yet), and `fault` says why in a word ('egress': it was not allowed
    -- and did not leave).
    status   INTEGER,
    fault    TEXT NOT NULL DEFAULT '',
    -- Bytes of the bodies.
    sent     INTEGER NOT NULL DEFAULT 0,
    received INTEGER NOT NULL DEFAULT 0,
    took_us  INTEGER
) STRICT;
CREATE INDEX egress_at ON egress (at);

-- What plugins keep for a while; a bounded number of entries for each provider.
CREATE TABLE plugin_cache (
    provider     TEXT NOT NULL,
    key          BLOB NOT NULL,
    value_sealed BLOB NOT NULL,
    until        INTEGER NOT NULL,
    PRIMARY KEY (provider, key)
) STRICT;

-- Where people have signed in at external providers: one row per provider and person. Rows outlive the
-- provider's configuration, so that taking it out and putting it back loses nothing.
CREATE TABLE external_auth_links (
    provider_id    TEXT NOT NULL,
    user_id        BLOB NOT NULL REFERENCES users (id),
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    -- Grows with the tokens of this row: what was found out about one is not said of the next.
    version        INTEGER NOT NULL,
    access_sealed  BLOB NOT NULL,
    -- NULL: there is none.
    refresh_sealed BLOB,
    -- JSON: the extra keys that the operator asked for.
    extra_sealed   BLOB,
    -- End of the access token; NULL: never.
    expires_at     INTEGER,
    -- 'good'; 'doubt': the refresh token was sent and nobody knows what came of it, so it is tried once
    -- more; 'dead': it is not sent any more, and `failure` says why.
    state          TEXT NOT NULL CHECK (state IN ('good', 'doubt', 'dead')),
    failure        TEXT NOT NULL,
    PRIMARY KEY (provider_id, user_id)
) STRICT;
CREATE INDEX external_auth_links_user ON external_auth_links (user_id);

-- The journal of refreshes: a row is written before the refresh token leaves the server, and completed
-- with what came of it. One without result is a refresh that a stop or a crash has cut off.
CREATE TABLE external_auth_refreshes (
    id           INTEGER PRIMARY KEY,
    provider_id  TEXT NOT NULL,
    user_id      BLOB NOT NULL,
    -- Of the link, when the token was sent.
    version      INTEGER NOT NULL,
    began_at     INTEGER NOT NULL,
    ended_at     INTEGER,
    -- 'refreshed', 'dead', 'failed' (not for good), 'unknown'.
    outcome      TEXT CHECK (outcome IN ('refreshed', 'dead', 'failed', 'unknown')) CHECK ((ended_at IS NULL) = (outcome IS NULL)),
    FOREIGN KEY (provider_id, user_id) REFERENCES external_auth_links (provider_id, user_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX external_auth_refreshes_link ON external_auth_refreshes (provider_id, user_id, id);
CREATE INDEX external_auth_refreshes_open ON external_auth_refreshes (id) WHERE ended_at IS NULL;

-- Certificates and key sets that the operator trusts beside those that the identity plugins bring.
CREATE TABLE trust_anchors (
    -- 'aws/…', 'azure/…', 'google/…'; one of the same name as a shipped one stands in its place.
    name        TEXT PRIMARY KEY,
    -- 'aws', 'aws:REGION,…', 'azure-root', 'azure-intermediate', 'jwks'.
    role        TEXT NOT NULL,
    -- DER of a certificate, or a JWK set.
    data        BLOB NOT NULL,
    -- When it ends, if it does.
    not_after   INTEGER,
    imported_at INTEGER NOT NULL
) STRICT;

-- Agents that two machines seem to be at the same time; the newest event of each.
CREATE TABLE clones (
    agent_id  BLOB PRIMARY KEY REFERENCES agents (id) ON DELETE CASCADE,
    first_ip  TEXT NOT NULL,
    second_ip TEXT NOT NULL,
    seen_at   INTEGER NOT NULL
) STRICT;
