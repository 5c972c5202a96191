-- Which cloud an instance id is of, and since when an agent is bound to it: the newest binding counts.
ALTER TABLE agents ADD COLUMN instance_cloud TEXT CHECK (instance_cloud IN ('aws', 'azure', 'google'));
ALTER TABLE agents ADD COLUMN instance_bound_at INTEGER;
UPDATE agents SET instance_bound_at = created_at, instance_cloud = CASE
    WHEN instance_id GLOB 'i-*' THEN 'aws'
    WHEN instance_id GLOB '????????-????-????-????-????????????' THEN 'azure'
    WHEN instance_id NOT GLOB '*[^0-9]*' THEN 'google'
END WHERE instance_id <> '';
-- An id that no cloud can prove.
UPDATE agents SET instance_id = '', instance_bound_at = NULL WHERE instance_cloud IS NULL;
DROP INDEX agents_instance;
CREATE INDEX agents_instance ON agents (instance_cloud, instance_id) WHERE instance_cloud IS NOT NULL AND deleted_at IS NULL;

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
