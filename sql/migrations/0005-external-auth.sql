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
