-- Tokens that this node has issued, and assertions that were used. Times are microseconds since 1970-01-01 UTC.

CREATE TABLE assertion (
    client TEXT NOT NULL,                -- id of a party
    jti BLOB NOT NULL,                   -- SHA-256
    until INTEGER NOT NULL,
    PRIMARY KEY (client, jti)
) WITHOUT ROWID;
CREATE INDEX assertion_until ON assertion (until);

CREATE TABLE token (
    digest BLOB PRIMARY KEY,             -- SHA-256: the token itself is nowhere
    channel TEXT NOT NULL,               -- whose listener has issued it, and takes it
    party TEXT NOT NULL,                 -- id
    scopes TEXT NOT NULL,                -- divided by spaces
    certificate TEXT NOT NULL,           -- x5t#S256 of the certificate that it is bound to, or ''
    until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX token_until ON token (until);
CREATE INDEX token_party ON token (party, channel, until);
