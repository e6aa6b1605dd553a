-- The first schema. Times are microseconds since 1970-01-01 UTC.

CREATE TABLE node (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    identity TEXT NOT NULL,              -- random; makes idempotency keys unique among nodes
    last_message INTEGER NOT NULL        -- highest message id that retention has removed: ids are never used again
);
INSERT INTO node VALUES (1, lower(hex(randomblob(8))), 0);

CREATE TABLE channel (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    received INTEGER NOT NULL DEFAULT 0, -- incremented with every message: the ledger's second book
    purged_delivered INTEGER NOT NULL DEFAULT 0,
    purged_filtered INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE destination (
    id INTEGER PRIMARY KEY,
    channel INTEGER NOT NULL,
    name TEXT NOT NULL,
    hold INTEGER NOT NULL DEFAULT 0,
    last_seq INTEGER NOT NULL DEFAULT 0, -- never used again, also when the queue is empty
    enqueued INTEGER NOT NULL DEFAULT 0, -- the ledger's second book
    resent INTEGER NOT NULL DEFAULT 0,   -- … for what an operator had sent once more
    purged INTEGER NOT NULL DEFAULT 0,
    UNIQUE (channel, name)
);

-- What arrived, without the bytes, so that searches and the ledger read little.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    channel INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    message_type TEXT NOT NULL,
    control_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    peer TEXT NOT NULL,
    remote TEXT NOT NULL,
    patients TEXT,                       -- JSON array, NULL for none
    facts TEXT,                          -- JSON object, NULL for none
    verdict TEXT NOT NULL,
    reason TEXT,
    hl7_code TEXT,
    location TEXT,
    answer BLOB NOT NULL,
    key BLOB,                            -- end and digest of the idempotency key (rows.key_digest), NULL: not checked
    content_digest BLOB,
    digest TEXT,                         -- of a body that is a file
    size INTEGER NOT NULL
);
CREATE INDEX message_control_id ON message (control_id);
CREATE INDEX message_channel ON message (channel);
CREATE INDEX message_received_at ON message (received_at);
CREATE INDEX message_key ON message (key) WHERE key IS NOT NULL;
CREATE INDEX message_digest ON message (digest) WHERE digest IS NOT NULL;

CREATE TABLE body (message INTEGER PRIMARY KEY, body BLOB NOT NULL);

CREATE TABLE message_patient (
    patient TEXT NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (patient, message)
) WITHOUT ROWID;

-- Committed and answered, not planned yet.
CREATE TABLE inbox (
    channel INTEGER NOT NULL,
    message INTEGER NOT NULL,
    only_destinations TEXT,              -- a resend is restricted to these (JSON array); NULL: all
    again INTEGER NOT NULL DEFAULT 0,    -- 1: an operator has put it back
    PRIMARY KEY (channel, message)
) WITHOUT ROWID;
CREATE INDEX inbox_message ON inbox (message);

-- What waits for a destination. id = destination << 40 | seq, so that a queue is one range of one tree.
CREATE TABLE queue (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    order_key TEXT NOT NULL,
    digest TEXT,                         -- of a rendition that is a file
    size INTEGER NOT NULL DEFAULT 0,
    content_type TEXT,                   -- NULL: the message's own
    message_type TEXT,
    key TEXT,                            -- an idempotency key that a resend kept; NULL: made from the id
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    error_code TEXT,
    changed_at INTEGER NOT NULL,
    body BLOB                            -- a rendition; NULL with no digest: the message's own body. Last, so that counts read no body
);
CREATE INDEX queue_message ON queue (message, dead, attempts);  -- and the id: all that a status depends on, of a queue with bodies too
CREATE INDEX queue_troubled ON queue (id, dead) WHERE dead OR attempts > 0;  -- few: what is not in it need only be counted
CREATE INDEX queue_digest ON queue (digest) WHERE digest IS NOT NULL;

-- Taken by its destination.
CREATE TABLE delivery (
    message INTEGER NOT NULL,
    queue INTEGER NOT NULL,              -- the queue row's id
    settled_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    raw INTEGER NOT NULL,                -- 1: the message's own body went out
    order_key TEXT,                      -- kept for a resend, NULL for none
    reference TEXT,
    PRIMARY KEY (message, queue)
) WITHOUT ROWID;

-- What a destination said, where that is worth keeping: results for the sender, reasons of a refusal.
CREATE TABLE answer (
    message INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    answer BLOB NOT NULL,
    PRIMARY KEY (message, destination)
) WITHOUT ROWID;

-- Ended without a destination: FILTERED, or ERROR (the invalid-message queue).
CREATE TABLE outcome (
    message INTEGER PRIMARY KEY,
    status TEXT NOT NULL,
    reason TEXT,
    error_code TEXT,
    at INTEGER NOT NULL
);
CREATE INDEX outcome_status ON outcome (status, message);
