-- Workspaces that a person wants to see first.
CREATE TABLE favorites (
    user_id      BLOB NOT NULL REFERENCES users (id),
    workspace_id BLOB NOT NULL REFERENCES workspaces (id),
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (user_id, workspace_id)
) STRICT;
