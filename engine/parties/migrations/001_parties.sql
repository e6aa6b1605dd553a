-- The registry of parties. Times are microseconds since 1970-01-01 UTC. Lists keep their order by rowid.

CREATE TABLE party (
    id TEXT PRIMARY KEY,                 -- the name in its party URI
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    belongs_to TEXT NOT NULL,            -- id of another party, or ''
    may_send TEXT NOT NULL,              -- JSON list of message types
    channels TEXT NOT NULL,              -- JSON list of channel names
    disabled_at INTEGER NOT NULL,        -- 0 while it is enabled
    disabled_why TEXT NOT NULL
);

-- What no two parties share: certificate, ae_title, sender and serial, and identifiers by their systems.
CREATE TABLE known_by (
    party TEXT NOT NULL,                 -- its id
    identifier INTEGER NOT NULL,         -- 1 for an identifier, 0 for a mark
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (identifier, kind, value)
);
CREATE INDEX known_by_party ON known_by (party);
