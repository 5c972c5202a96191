-- Workspaces that a person wants to see first.
CREATE TABLE favorites (
    user_id      BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    workspace_id BLOB NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (user_id, workspace_id)
) STRICT;
CREATE INDEX favorites_workspace ON favorites (workspace_id);
