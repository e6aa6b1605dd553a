-- How far a source has read what it looks at (a table, a log of changes, a registry), committed with what it has read.
CREATE TABLE checkpoint (
    channel INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (channel, name)
) WITHOUT ROWID;
