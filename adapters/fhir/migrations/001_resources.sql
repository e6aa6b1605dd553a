-- The current version of every resource, deleted ones included (body NULL). `key` orders resources by creation and is what
-- the index refers to; times are microseconds since 1970-01-01 UTC; `body` is the resource as JSON with id, meta.versionId and
-- meta.lastUpdated in it, exactly as a read gives it back.
CREATE TABLE resource (
    key INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    method TEXT NOT NULL,
    body BLOB
);
CREATE UNIQUE INDEX resource_by_id ON resource (type, id);
CREATE INDEX resource_by_time ON resource (updated);

-- Earlier versions, moved here when a new one comes.
CREATE TABLE history (
    key INTEGER NOT NULL,
    version INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    method TEXT NOT NULL,
    body BLOB
);
CREATE UNIQUE INDEX history_by_version ON history (key, version);

-- What a search finds: one row for each token (identifier, code) and reference of the current versions.
-- `parameter` is Type.name; a search by value alone and one by value and system both read a range of the primary key.
CREATE TABLE search_index (
    parameter TEXT NOT NULL,
    value TEXT NOT NULL,
    system TEXT NOT NULL,
    key INTEGER NOT NULL,
    PRIMARY KEY (parameter, value, system, key)
) WITHOUT ROWID;

-- The answers already given, by idempotency key: written in the transaction that they answer for, so that a repeat changes nothing.
-- `digest` (BLAKE2b, 16 bytes) is the Bundle's, so that a key that comes with another Bundle is not mistaken for a repeat.
-- `number` rises with time, which lets old ones be removed from the low end.
CREATE TABLE applied (
    number INTEGER PRIMARY KEY,
    idempotency_key TEXT NOT NULL,
    at INTEGER NOT NULL,
    digest BLOB NOT NULL,
    answer BLOB NOT NULL
);
CREATE UNIQUE INDEX applied_by_key ON applied (idempotency_key);
