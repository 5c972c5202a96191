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
